"""Consent: who must not be written to, learned from or scored. It is no part of a rule; whoever sends, trains or scores asks here.

    STORE/live.db, table optouts    person, purpose, origin, at, out
    STORE/live.db, table forgotten  person, at: who must never come in again
    STORE/live.db, table dropped    person: here a row of the quarantine that nobody wants to see again
    STORE/live.db, table privacy    which key the persons are made with
    STORE/privacy.key               that key, when the project names none in the environment

The list stands in the database of the live state, so that a message can be claimed and consent be checked in one
transaction. A person is an HMAC-SHA-256 of the customer id: the list alone tells nobody who is on it. With several keys
a person is the HMAC with the second key of the HMAC with the first, and so on; so a key can be added without knowing
the ids, and only who has them all can tell who is on the list.

Of everything that was said of a person and a purpose (or of ``*``, every purpose) the latest counts, at the same
instant the no; a line of the file of opt-outs is a no as long as it stands there.
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from predseg.columns import coded, instants
from predseg.disks import disk_errors
from predseg.errors import DataError
from predseg.history.keys import FLOAT, KEY, person, pseudonym
from predseg.language.consent import EVERY, Consent, purpose_name
from predseg.language.time import say_instant
from predseg.layers import name_of, readers
from predseg.store import Store

DATABASE = "live.db"
FILE, COMMAND, EVENT, LIVE = "file", "command", "event", "live"
"""Where a no (or a yes) comes from: the file of opt-outs, `predseg optout`, the events table, an event that came live."""
NAMES, RENAMING = "names", " > "
"""Under which name the database remembers what the pseudonyms are made with, and what it remembers between the old and the new while they are changed."""
ALWAYS = 2**62 - 1
"""The instant of a line of the file: later than anything that can be said."""
_TABLES = """
create table if not exists optouts (
    person blob not null,      -- HMAC of the customer id
    purpose text not null,     -- or *, every purpose
    origin text not null,
    at integer not null,       -- when it was said (microseconds)
    out integer not null,      -- 1 no, 0 yes
    primary key (person, purpose, origin)
) without rowid;
create table if not exists forgotten (person blob primary key, at integer not null) without rowid;
create table if not exists dropped (person blob primary key) without rowid;
create table if not exists privacy (name text primary key, value text not null) without rowid;
"""
_REFUSED = "max(2 * at + out) & 1"  # of several statements the latest, at the same instant the no
_UNLESS_ALL = "coalesce((select max(2 * at + out) from optouts e where e.person = o.person and e.purpose = '*'), -9e18)"
_ANY = f"group by person, purpose having max(max(2 * at + out), cast({_UNLESS_ALL} as integer)) & 1"


# the database


def prepare(connection: sqlite3.Connection, keys: Sequence[bytes], names: Sequence[bytes] = (), *, whatever_names: bool = False) -> None:
    """Make a connection fit for the functions below: the tables, and the SQL function ``person``.

    Args:
        connection: To the database; it must not be in a transaction.
        keys: See `predseg.history.keys.keys_of`.
        names: What pseudonyms are made with, when the project wants pseudonyms.
        whatever_names: Do not look at what the pseudonyms of the store are made with.

    Raises:
        DataError: E450 when the list was made with other keys, E451 when with other pseudonyms.
    """
    connection.create_function("person", 1, lambda customer_id: person(pseudonym(customer_id, names), keys), deterministic=True)
    connection.executescript(_TABLES)
    _use_keys(connection, keys)
    if not whatever_names:
        _use_names(connection, names)


@contextmanager
def opened(
    folder: Path,
    keys: Sequence[bytes],
    consent: Consent | None,
    *,
    root: Path = Path(),
    names: Sequence[bytes] = (),
    events: Store | None = None,
    dry_run: bool = False,
) -> Iterator[sqlite3.Connection]:
    """Give a connection to the list of opt-outs, up to date with the file and the events table.

    Args:
        folder: The folder of the store.
        keys: See `keys_of`.
        consent: The declaration; None takes the list as it is.
        root: What its path is relative to.
        names: What pseudonyms are made with.
        events: The store of the events table.
        dry_run: Write nothing: the list is brought up to date in memory.

    Raises:
        DataError: E440 when the file of opt-outs is missing, E450, E451 when the list was made with other keys or pseudonyms.
    """
    file = folder / DATABASE
    with disk_errors(file):
        connection = sqlite3.connect(":memory:" if dry_run else file, timeout=30)
        try:
            if not dry_run:
                connection.execute("pragma journal_mode = wal")
                connection.execute("pragma secure_delete = on")
            elif file.is_file():
                with closing(_reading(file)) as kept:
                    kept.backup(connection)
            prepare(connection, keys, names)
            if consent is not None:
                _follow(connection, consent, root, events)
            yield connection
        finally:
            connection.close()


def _reading(file: Path) -> sqlite3.Connection:
    """Open a database without leaving a journal beside it, unless another process has one open."""
    at_work = file.with_name(file.name + "-wal").exists()
    return sqlite3.connect(f"{file.absolute().as_uri()}?{'mode=ro' if at_work else 'immutable=1'}", uri=True)


@contextmanager
def _writing(connection: sqlite3.Connection) -> Iterator[None]:
    """One transaction, or a part of the one that is open already."""
    if connection.in_transaction:
        yield
        return
    connection.execute("begin immediate")
    with connection:
        yield


def _use_keys(connection: sqlite3.Connection, keys: Sequence[bytes]) -> None:
    checks = [person("predseg", keys[:n]).hex() for n in range(1, len(keys) + 1)]
    if noted(connection, "key") == checks[-1]:
        return
    with _writing(connection):
        known = noted(connection, "key")
        if known is not None and known not in checks:
            raise DataError(
                "E450",
                DATABASE,
                "the list of opt-outs was made with another key, so nobody on it would be recognised",
                f"set the key again under `consent: {{key: ...}}`, or put {KEY} back; a new key is added after the old one",
            )
        for key in keys[checks.index(known) + 1 if known else len(keys) :]:
            connection.create_function("again", 1, lambda old, key=key: hmac.digest(key, old, "sha256"))
            for table in ("optouts", "forgotten", "dropped"):
                connection.execute(f"update {table} set person = again(person)")
        note(connection, "key", checks[-1])


def _use_names(connection: sqlite3.Connection, names: Sequence[bytes]) -> None:
    """Refuse other pseudonyms than those of the store: nobody on the list would be recognised, and the tables would hold two names of everybody."""
    mark = pseudonym("predseg", names)
    known = noted(connection, NAMES)
    if known is None:
        note(connection, NAMES, mark)
    elif known != mark:
        found, remedy = "the store was made with another `pseudonymize`, so nobody in its lists would be recognised", "set the old key again"
        if RENAMING in known:
            found, remedy = "giving everybody another pseudonym was cut short", "do it again: predseg pseudonyms rotate"
        elif known in [pseudonym("predseg", names[:n]) for n in range(1, len(names))]:
            found, remedy = "a key was added to `pseudonymize`, and the store has the pseudonyms of before", "predseg pseudonyms rotate"
        raise DataError("E451", DATABASE, found, f"{remedy}; a new key is added after the old one" if remedy == "set the old key again" else remedy)


def noted(connection: sqlite3.Connection, name: str) -> str | None:
    """Return what the database remembers under a name."""
    found = connection.execute("select value from privacy where name = ?", (name,)).fetchone()
    return found[0] if found else None


def note(connection: sqlite3.Connection, name: str, value: str | None) -> None:
    """Let the database remember something under a name; None forgets it."""
    with _writing(connection):
        if value is None:
            connection.execute("delete from privacy where name = ?", (name,))
        else:
            connection.execute("insert into privacy values (?, ?) on conflict do update set value = excluded.value", (name, value))


# asking


def opted_out(connection: sqlite3.Connection, customer_id: str, purpose: str | None) -> bool:
    """Say whether a customer must be left alone for a purpose. Asked inside a transaction, the answer holds until its end.

    Args:
        connection: One that `prepare` has seen.
        customer_id: Who.
        purpose: None asks for any: whoever opted out of anything is left alone.
    """
    if purpose is None:
        return connection.execute(f"select 1 from optouts o where person = person(?) {_ANY}", (customer_id,)).fetchone() is not None
    found = connection.execute(f"select {_REFUSED} from optouts where person = person(?) and purpose in (?, '*')", (customer_id, purpose))
    return bool(found.fetchone()[0])


@dataclass(frozen=True)
class OptedOut:
    """Everybody who opted out of some purposes, as a container of customer ids; ``persons`` says since when."""

    persons: Mapping[bytes, int] = field(default_factory=dict)
    keys: tuple[bytes, ...] = ()

    def __contains__(self, customer_id: object) -> bool:
        return bool(self.persons) and isinstance(customer_id, str) and person(customer_id, self.keys) in self.persons

    def by(self, customer_id: str, t: int) -> bool:
        """Say whether the customer is known to have opted out at or before an instant; a line of the file has no date."""
        return bool(self.persons) and self.persons.get(person(customer_id, self.keys), ALWAYS) <= t

    def __len__(self) -> int:
        return len(self.persons)


NOBODY = OptedOut()


def all_opted_out(connection: sqlite3.Connection, keys: Sequence[bytes], *purposes: str | None) -> OptedOut:
    """Return everybody who opted out of one of the purposes; None among them stands for any."""
    found: dict[bytes, int] = {}
    for purpose in purposes:
        if purpose is None:
            rows = connection.execute(f"select person, max(at) from optouts o {_ANY}")
        else:
            rows = connection.execute(f"select person, max(at) from optouts where purpose in (?, '*') group by person having {_REFUSED}", (purpose,))
        for who, at in rows:
            found[who] = min(at, found.get(who, at))
    return OptedOut(found, tuple(keys))


@dataclass(frozen=True)
class Statement:
    """What was said of a customer: a no (``out``) or a yes to a purpose, where and when; `ALWAYS` for a line of the file."""

    purpose: str
    origin: str
    at: int
    out: bool

    def plain(self) -> dict[str, object]:
        """Return it as JSON has it."""
        return {"purpose": self.purpose, "from": self.origin, "at": None if self.at == ALWAYS else say_instant(self.at), "opted_out": self.out}


def said_of(connection: sqlite3.Connection, customer_id: str) -> list[Statement]:
    """Return all that was said of a customer."""
    rows = connection.execute("select purpose, origin, at, out from optouts where person = person(?) order by purpose, at, out", (customer_id,))
    return [Statement(purpose, origin, at, bool(out)) for purpose, origin, at, out in rows]


def counts(connection: sqlite3.Connection) -> dict[tuple[str, str], int]:
    """Return how many persons said no, by purpose and origin."""
    rows = connection.execute("select purpose, origin, count(*) from optouts where out group by purpose, origin order by purpose, origin")
    return {(purpose, origin): number for purpose, origin, number in rows}


# telling


def say(connection: sqlite3.Connection, customers: Iterable[str], purposes: Iterable[str], at: int, *, out: bool, origin: str) -> int:
    """Note that customers said no (``out``) or yes to purposes at an instant, and return how many statements that changed.

    What is older than what is known already changes nothing, so that any order gives the same list.
    """
    purposes, before = list(purposes), connection.total_changes
    with _writing(connection):
        connection.executemany(
            "insert into optouts values (person(?), ?, ?, ?, ?) on conflict do update set at = excluded.at, out = excluded.out "
            "where 2 * excluded.at + excluded.out > 2 * at + out",
            ((customer.strip(), purpose, origin, at, int(out)) for customer in customers for purpose in purposes),
        )
    return connection.total_changes - before


def hear(connection: sqlite3.Connection, consent: Consent, customer_id: str, event: str, event_time: int) -> None:
    """Note what an event that came live says of consent, in the transaction that stores the event."""
    for said, out in ((consent.opt_out, True), (consent.opt_in, False)):
        for name, purposes in said:
            if name == event:
                say(connection, [customer_id], purposes, event_time, out=out, origin=LIVE)


def joined(connection: sqlite3.Connection, losing: str, winning: str) -> None:
    """Let what a customer said before he was known hold for whom he turned out to be."""
    with _writing(connection):
        for s in said_of(connection, losing):
            if s.at != ALWAYS:
                say(connection, [winning], [s.purpose], s.at, out=s.out, origin=s.origin)


def all_listed(connection: sqlite3.Connection, keys: Sequence[bytes]) -> OptedOut:
    """Return everybody of whom anything was said."""
    return OptedOut({who: ALWAYS for (who,) in connection.execute("select distinct person from optouts")}, tuple(keys))


def recognise(connection: sqlite3.Connection, keys: Sequence[bytes], names: Sequence[str]) -> None:
    """Let what was said of a person under earlier names hold for the last of them."""
    with _writing(connection):
        for was in (person(name, keys) for name in names[:-1]):
            follow_name(connection, was, person(names[-1], keys))


def follow_name(connection: sqlite3.Connection, was: bytes, now: bytes) -> None:
    """Let what was said of somebody hold under another name; within a transaction."""
    connection.execute(
        "insert into optouts select ?, purpose, origin, at, out from optouts where person = ? "
        "on conflict do update set at = excluded.at, out = excluded.out where 2 * excluded.at + excluded.out > 2 * at + out",
        (now, was),
    )
    connection.execute("delete from optouts where person = ?", (was,))


# forgetting


def forget(connection: sqlite3.Connection, ids: Iterable[str], at: int) -> None:
    """Note that persons were forgotten: under these ids nobody comes in again."""
    with _writing(connection):
        connection.executemany("insert or ignore into forgotten values (person(?), ?)", ((one, at) for one in ids))


def remember(connection: sqlite3.Connection, ids: Iterable[str]) -> int:
    """Let forgotten persons come in again, and return how many were forgotten."""
    with _writing(connection):
        return sum(connection.execute("delete from forgotten where person = person(?)", (one,)).rowcount for one in ids)


def all_forgotten(connection: sqlite3.Connection, keys: Sequence[bytes]) -> OptedOut:
    """Return everybody who was forgotten."""
    return OptedOut(dict(connection.execute("select person, at from forgotten").fetchall()), tuple(keys))


# dropping


def drop(connection: sqlite3.Connection, keys: Sequence[bytes], rows: Iterable[str]) -> int:
    """Note rows of the quarantine that are left away from now on, and return how many were not noted before."""
    before = connection.total_changes
    with _writing(connection):
        connection.executemany("insert or ignore into dropped values (?)", ((person(row, keys),) for row in rows))
    return connection.total_changes - before


def all_dropped(connection: sqlite3.Connection, keys: Sequence[bytes]) -> OptedOut:
    """Return all rows that were dropped."""
    return OptedOut({who: ALWAYS for (who,) in connection.execute("select person from dropped")}, tuple(keys))


# following


def _follow(connection: sqlite3.Connection, consent: Consent, root: Path, events: Store | None) -> None:
    if consent.path is not None:
        follow_file(connection, (root / consent.path).absolute(), consent.known)
    else:
        _forget_file(connection)
    if events is not None:
        follow_events(connection, events, consent)


def follow_file(connection: sqlite3.Connection, path: Path, known: tuple[str, ...] = ()) -> None:
    """Bring the list up to date with the file of opt-outs; nothing is read while the file, and the ``known`` purposes, are the same.

    Raises:
        DataError: E440 when the file is missing, cannot be read, has no column customer_id, or a purpose that must be a slip for a
            known one. Nobody is written to without knowing who opted out.
    """
    if not path.is_file():
        raise DataError(
            "E440",
            str(path),
            "the file of opt-outs is missing, and without it nobody may be written to",
            "create it with the header `customer_id,purpose`",
        )
    stat = path.stat()
    mark = json.dumps([str(path), stat.st_size, stat.st_mtime_ns, stat.st_ino, known])
    if noted(connection, FILE) == mark:
        return
    try:
        rows = list(_listed(path, known))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError("E440", str(path), f"the file of opt-outs cannot be read: {error}", "save it as CSV in UTF-8") from None
    with _writing(connection):
        connection.execute("delete from optouts where origin = ?", (FILE,))
        for customer, purpose in rows:
            said = {customer, re.sub(FLOAT, r"\1", customer, flags=re.ASCII), customer.strip().removeprefix("'")}  # exports set ' before a +
            say(connection, said, [purpose], ALWAYS, out=True, origin=FILE)
        note(connection, FILE, mark)


def _listed(path: Path, known: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        if "customer_id" not in (rows.fieldnames or ()):
            found = ", ".join(rows.fieldnames or ()) or "nothing"
            raise DataError(
                "E440", str(path), f"the file of opt-outs has no column customer_id, found {found}", "write the header `customer_id,purpose`"
            )
        for row in rows:
            purpose = (row.get("purpose") or "").strip() or EVERY
            if (row["customer_id"] or "").strip():
                yield row["customer_id"], purpose if purpose == EVERY else purpose_name(purpose, f"{path}:{rows.line_num}", known, DataError, "E440")


def _forget_file(connection: sqlite3.Connection) -> None:
    if noted(connection, FILE) is not None:
        with _writing(connection):
            connection.execute("delete from optouts where origin = ?", (FILE,))
            note(connection, FILE, None)


def follow_events(connection: sqlite3.Connection, store: Store, consent: Consent) -> None:
    """Bring the list up to date with the events table; nothing is read while the table and the declaration are the same."""
    if not store.exists("events"):
        return
    files = [[name_of(file), stat.st_size, stat.st_mtime_ns, stat.st_ino] for file in store.files("events") for stat in [file.stat()]]
    mark = hashlib.sha256(json.dumps([files, consent.opt_out, consent.opt_in]).encode()).hexdigest()
    if noted(connection, EVENT) == mark:
        return
    with _writing(connection):
        connection.execute("delete from optouts where origin = ?", (EVENT,))
        for said, out in ((consent.opt_out, True), (consent.opt_in, False)):
            for name, purposes in said:
                for customer, at in _told(store, name):
                    say(connection, [customer], purposes, at, out=out, origin=EVENT)
        note(connection, EVENT, mark)


def _told(store: Store, event: str) -> Iterator[tuple[str, int]]:
    """Yield who did an event, and when last. Few rows are of it, and codes of texts are looked at sooner than the texts."""
    import pyarrow as pa

    for reader in readers(store.files("events"), texts=True):
        for group in range(len(reader.sizes)):
            rows = reader.group(group, ["customer_id", "event_time", "event"])
            codes, names = coded(rows["event"])
            rows = rows.filter(pa.array((codes >= 0) & (codes == names.index(event).as_py())))
            rows = pa.table({"who": rows["customer_id"].cast(pa.string()), "at": instants(rows["event_time"])})
            last = rows.group_by("who").aggregate([("at", "max")])
            yield from zip(last["who"].to_pylist(), last["at_max"].to_pylist(), strict=True)
