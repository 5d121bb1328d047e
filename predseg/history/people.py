"""The persons of a project and what they may ask: consent, erasure, access; and the log of who did what."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from predseg.config import Config
from predseg.errors import ChannelError, UsageError
from predseg.history import audience, audit, erasure, privacy, renaming
from predseg.history.erasure import Erased
from predseg.history.keys import generations, keys_of, person, pseudonym
from predseg.history.persons import Persons
from predseg.history.privacy import OptedOut
from predseg.history.renaming import Renamed
from predseg.language.time import say_instant
from predseg.store import PATIENCE, Store

AUDIENCE = "audience"


@dataclass(frozen=True)
class People:
    """The persons of a project.

    Attributes:
        config: The project file.
        environment: Where the keys are that it names.
    """

    config: Config
    environment: Mapping[str, str] = field(repr=False)

    def keys(self, *, dry_run: bool = False) -> tuple[bytes, ...]:
        """Return the keys of the store's lists; a dry run makes none."""
        return keys_of(self.config.store, [secret.key(self.environment) for secret in self.config.consent.keys], dry_run=dry_run)

    def names(self) -> tuple[bytes, ...]:
        """Return the keys of pseudonyms; none when ids stay as they are."""
        return tuple(secret.key(self.environment) for secret in self.config.pseudonymize)

    def customer(self, customer_id: str) -> str:
        """Return the id under which a customer stands in the tables."""
        return pseudonym(customer_id.strip(), self.names())

    @contextmanager
    def consent(self, *, events: Store | None = None, dry_run: bool = False) -> Iterator[tuple[sqlite3.Connection, tuple[bytes, ...]]]:
        """Give the list of opt-outs, up to date, and its keys; what to ask and tell it is in `predseg.history.privacy`.

        Args:
            events: The store whose events say no; by default the project's.
            dry_run: Write nothing.
        """
        folder, root = self.config.store, self.config.root
        if events is None and (folder.is_dir() or not dry_run):
            events = Store(folder)
        used = self.keys(dry_run=dry_run)
        with privacy.opened(folder, used, self.config.consent, root=root, names=self.names(), events=events, dry_run=dry_run) as connection:
            yield connection, used

    def opted_out(self, *purposes: str | None, events: Store | None = None, dry_run: bool = False) -> OptedOut:
        """Return everybody who opted out of one of the purposes; None among them stands for any."""
        with self.consent(events=events, dry_run=dry_run) as (connection, used):
            return privacy.all_opted_out(connection, used, *purposes)

    def persons(self, *, dry_run: bool = False) -> Persons:
        """Return under which names persons come into the tables, who was forgotten and does not, and which bad rows were dropped."""
        if not (self.config.store / privacy.DATABASE).is_file():
            return Persons(keys=self.names())
        used = self.keys(dry_run=dry_run)
        names = self.names()
        with privacy.opened(self.config.store, used, None, names=names, dry_run=dry_run) as connection:
            found = Persons(privacy.all_forgotten(connection, used), names, privacy.all_dropped(connection, used))
            if len(names) < 2 or dry_run:
                return found
            return replace(found, listed=privacy.all_listed(connection, used), met=lambda one: self.recognise([one]))

    def recognise(self, customers: Sequence[str]) -> None:
        """Let what was said of customers before a key of pseudonyms was added hold for them; only who is named by an id can be recognised."""
        used, names = self.keys(), self.names()
        with privacy.opened(self.config.store, used, None, names=names) as connection:
            for one in customers:
                privacy.recognise(connection, used, generations(one.strip(), names))

    def names_anew(self, config: Config, told: Callable[[Mapping[str, str]], object], *, dry_run: bool = False) -> Renamed | None:
        """Give everybody in the store the pseudonym that all keys make; None when they have it.

        Args:
            config: The project, with what came live and what was replayed among its sources.
            told: Called before anything is changed with the names: old → new.
            dry_run: Write nothing, and say how many names there are.

        Raises:
            UsageError: E243 when the keys of before are not the first of those named now.
        """
        names, file = self.names(), self.config.store / privacy.DATABASE
        if not file.is_file():
            return None
        store, lists = Store(self.config.store, wait=PATIENCE), self.keys(dry_run=dry_run)
        with store.lock(), closing(sqlite3.connect(file, timeout=60, isolation_level=None)) as connection:
            privacy.prepare(connection, lists, whatever_names=True)
            if (known := renaming.known_keys(connection, names)) is None:
                raise UsageError(
                    "E243",
                    self.config.file.name,
                    "the pseudonyms of the store were not made with the first of the keys under `pseudonymize`",
                    "write the keys of before and then the new one: `pseudonymize: [env:OLD, env:NEW]`",
                )
            if known == len(names):
                return None
            if dry_run:
                return Renamed(len(renaming.names_of(store)))
            return renaming.rename(config, store, connection, lists, names, told)

    def forget(self, customers: Sequence[str], *, now: int, dry_run: bool = False) -> Erased:
        """Take everything about some customers out of the store and of exported files, and keep them from coming in again.

        Raises:
            UsageError: E242 when an id is an anonymous one of a customer.
        """
        store, wanted = Store(self.config.store, wait=PATIENCE), [self.customer(one) for one in customers]
        for one, owner in erasure.owners(store, wanted).items():
            raise UsageError("E242", one, "this is an anonymous id of a customer", f"predseg forget {owner}")
        ids = erasure.ids_of(store, wanted)
        with store.lock(), self.consent(dry_run=dry_run) as (connection, _):
            privacy.forget(connection, ids, now)
            if dry_run:
                return Erased(len(ids), {name: len(rows) for name, rows in erasure.held(store, ids).items()})
            found = erasure.erase(store, ids)
        return self._taken_out(found, ids)

    def _taken_out(self, found: Erased, ids: Sequence[str]) -> Erased:
        """Take persons out of the audience in another database as well."""
        if self.config.audience is None:
            return found
        place = f"{AUDIENCE} {self.config.audience.table}"
        try:
            number = audience.take_out(self.config.audience, ids)
        except ChannelError as error:
            return replace(found, unreachable={**found.unreachable, place: error.message})
        return replace(found, files=found.files | ({place: number} if number else {}))

    def subject(self, customer: str) -> dict[str, Any]:
        """Return everything that is held about a customer: plain values, by table and file, and what they said of consent."""
        store, one = Store(self.config.store), self.customer(customer)
        ids = erasure.ids_of(store, [one])
        held = erasure.held(store, ids)
        if self.config.audience is not None and (rows := audience.rows_about(self.config.audience, ids)):
            held[f"{AUDIENCE} {self.config.audience.table}"] = rows
        with self.consent() as (connection, used):
            said = [statement.plain() for i in ids for statement in privacy.said_of(connection, i)]
            forgotten = privacy.all_forgotten(connection, used)
        gone = any(name in forgotten for name in generations(customer.strip(), self.names()))
        return {"customer_id": one, "ids": ids, "held": held, "consent": said, "forgotten": gone}

    def note(self, entry: Mapping[str, Any], now: int) -> None:
        """Write what was done into the audit log, customers as hashes; a project whose store was never made has no log.

        Args:
            entry: who, command, arguments, status, exit_code.
            now: When.
        """
        if not self.config.store.is_dir():
            return
        used = self.keys()
        said = {name: self._hashed(value, used) if name in ("customer", "customers") else value for name, value in entry["arguments"].items()}
        with privacy.opened(self.config.store, used, None, names=self.names()) as connection:
            audit.append(self.config.store, connection, used, {"at": say_instant(now), **entry, "arguments": said})

    def _hashed(self, value: Any, used: Sequence[bytes]) -> Any:
        if isinstance(value, list):
            return [self._hashed(one, used) for one in value]
        return person(self.customer(value), used).hex()[:16] if isinstance(value, str) else value

    def audited(self) -> audit.Checked:
        """Say whether the audit log is as it was written."""
        used = self.keys(dry_run=True)
        with privacy.opened(self.config.store, used, None, names=self.names(), dry_run=True) as connection:
            return audit.check(self.config.store, connection, used)
