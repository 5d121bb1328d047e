"""A project, served: the loop over its live database, what is served of it, and what goes on beside."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Container, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from predseg.config import Config
from predseg.errors import PredsegError
from predseg.evaluate.program import Change
from predseg.history import privacy
from predseg.history.people import People
from predseg.language.consent import Consent
from predseg.language.serving import Serving
from predseg.live import core
from predseg.live.alarms import Alarm
from predseg.live.calm import steady
from predseg.live.desk import Desk
from predseg.live.handover import EVENTS
from predseg.live.keys import Keys
from predseg.live.lines import Seen
from predseg.live.loop import Loop
from predseg.live.opening import open_durable, refresh
from predseg.live.outlook import ends
from predseg.live.profiles import Profiles
from predseg.live.served import Served
from predseg.live.service import Writer
from predseg.live.state import State
from predseg.segments.memberships import OPEN
from predseg.segments.workspace import MEMBERSHIPS, RUNS, Workspace

CONSENT = "consent"
REFRESH = 5.0
"""Seconds between two looks whether a run published something."""


Outbox = Callable[[sqlite3.Connection, Sequence[Change], int], object]
"""Takes changes, inside the transaction that stores them."""


@dataclass(frozen=True)
class Deployment:
    """What a server needs of a project.

    Attributes:
        config: The project file.
        workspace: Its segments over the events as they were at the start.
        people: Consent, and who was forgotten.
        clock: The moment (microseconds).
        outbox: Told of changes.
        in_flight: Says how many messages to a customer are on their way.
    """

    config: Config
    workspace: Workspace
    people: People
    clock: Callable[[], int]
    outbox: Outbox | None = None
    in_flight: Callable[[sqlite3.Connection, str], int] | None = None

    def desk(self, serving: Serving, keys: Keys, *, told: Callable[[Alarm], None] = lambda alarm: None) -> Desk:
        """Return the desk, with its writer at work.

        Raises:
            PredsegError: when the live state cannot be opened.
        """
        served = Served(self.workspace.segments, self.config.smallest_group)
        file = core.database(self.config.store)
        opened: list[Loop] = []
        desks: list[Desk] = []

        def open_core() -> core.Core:
            if opened and not file.exists():
                raise core.gone(file)
            return core.Core(open_loop, self.people.persons, file, served.drop, self)

        def open_loop() -> Loop:
            opened[:] = [self._loop()]
            return opened[0]

        writer = Writer(open_core, self.clock, lambda source: desks[0].committed(source))
        served.down = lambda: writer.state.down
        profiles = Profiles(self.config, self.workspace.store, lambda *asked: opened[0].published.facts.rescored.last(*asked) if opened else None)
        desks.append(
            Desk(
                writer,
                served,
                keys,
                serving,
                self.clock,
                name=self.people.customer,
                person=lambda customer, features: profiles.of(customer, self.clock(), features),
                ends=lambda customer: _ends(opened, file, customer),
                without=lambda name: self._without(self.workspace.segments[name].purpose),
                noes=frozenset(name for name, _ in self.config.consent.opt_out),
                settled=self._settled,
                log=lambda after, limit: older(file, after, limit),
                told=told,
            )
        )
        writer.start()
        self.daily(served)
        return desks[0]

    def _loop(self) -> Loop:
        loop = listening(open_durable(self.config, self.workspace, self.clock()), self.people)
        if self.outbox is not None and loop.state is not None:
            loop.said = partial(self.outbox, loop.state.connection)
        steady()
        return loop

    def mark(self) -> object:
        """Return something that is another after each publication: which folders of tables there are."""
        found: list[tuple[str, int]] = []
        for table in self.workspace.store.tables.iterdir():
            if table.name != EVENTS:
                with suppress(FileNotFoundError):  # another process is exchanging it: the next look finds the new one
                    found += [(str(path), path.stat().st_ino) for path in (table, *table.iterdir())]
        return sorted(found)

    def refresh(self, loop: Loop, now: int) -> None:
        """Let a loop know what is published."""
        refresh(loop, self.workspace, now)

    def _settled(self, customers: Collection[str]) -> bool:
        """Say whether no message to some customers is on its way."""
        if self.in_flight is None:
            return True
        with closing(reading(core.database(self.config.store))) as connection:
            return not any(self.in_flight(connection, one) for one in customers)

    def _without(self, purpose: str | None) -> Container[str]:
        try:
            return self.people.opted_out(purpose)
        except Exception:  # nobody is shown without knowing who opted out
            return Everybody()

    def daily(self, served: Served) -> None:
        """Serve the members of daily segments as the last run found them."""
        ledger = self.workspace.ledger()
        members, as_of = {}, {}
        for name, segment in self.workspace.segments.items():
            last = ledger.last_run(name, segment.definition)
            if not segment.live and last is not None:
                spells = ledger.spells(name, segment.definition)
                now = (spells.entered <= last) & (spells.left == OPEN)
                order = np.argsort(spells.entered[now], kind="stable")
                members[name] = dict(zip(spells.customers[now][order].tolist(), spells.entered[now][order].tolist(), strict=True))
                as_of[name] = last
        served.replace(members, as_of)

    async def follow_runs(self, served: Served) -> None:
        """Look again and again whether a run published something; what cannot be read leaves the answers as they are."""
        seen = self._published()
        while True:
            await asyncio.sleep(REFRESH)
            await asyncio.to_thread(self._follow_noes, served)
            now = self._published()
            if now == seen:
                continue
            try:
                await asyncio.to_thread(self.daily, served)
                seen = now
                served.errors.clear()
            except Exception as error:
                said = {"error": f"{type(error).__name__}: {error}"[:200]}
                served.errors.update({name: said for name, segment in self.workspace.segments.items() if not segment.live})

    def _follow_noes(self, served: Served) -> None:
        """Take in what the file of opt-outs says, so that whoever sends knows it."""
        try:
            with self.people.consent(events=self.workspace.store):
                served.errors.pop(CONSENT, None)
        except (PredsegError, sqlite3.Error, OSError) as error:
            served.errors[CONSENT] = {"error": f"{type(error).__name__}: {error}"[:200]}

    def _published(self) -> list[tuple[str, int, int]]:
        found = []
        for file in (*self.workspace.store.files(RUNS), *self.workspace.store.files(MEMBERSHIPS)):
            try:
                stat = file.stat()
            except FileNotFoundError:  # it is being replaced
                continue
            found.append((str(file), stat.st_mtime_ns, stat.st_ino))
        return found


def listening(loop: Loop, people: People) -> Loop:
    """Return a durable loop that notes what its events say of consent.

    Raises:
        DataError: E450, E451 when the database was made with other keys or pseudonyms.
    """
    assert loop.state is not None
    privacy.prepare(loop.state.connection, people.keys(), people.names())
    loop.heard = partial(hear, loop.state.connection, people.config.consent)
    return loop


def hear(connection: sqlite3.Connection, consent: Consent, accepted: Sequence[Seen]) -> None:
    """Note what events say of consent, in the transaction that stores them; what a visitor said holds for whom he turned out to be."""
    telling = {name for name, _ in (*consent.opt_out, *consent.opt_in)}
    for seen in accepted:
        if seen.customer_id is not None and seen.anonymous_id is not None:
            privacy.joined(connection, seen.anonymous_id, seen.customer_id)
        if seen.event in telling:
            privacy.hear(connection, consent, str(seen.customer_id or seen.anonymous_id), seen.event, seen.time)


class Everybody(Container[str]):
    """Contains every customer."""

    def __contains__(self, customer_id: object) -> bool:
        return True


def older(file: Path, after: int, limit: int) -> list[tuple[int, Change]]:
    """Return numbered changes by a connection of their own."""
    with closing(reading(file)) as connection:
        return list(core.changes(connection, after, limit))


def _ends(opened: Sequence[Loop], file: Path, customer_id: str) -> dict[str, int]:
    if not opened:
        return {}
    with closing(reading(file)) as connection:
        return ends(State(connection), opened[0].engine.program, opened[0].published, customer_id)


def reading(file: Path) -> sqlite3.Connection:
    """Return a connection that only reads."""
    return sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=1)
