"""The durable state of the live engine: one SQLite file, one transaction per batch.

    STORE/live.db   meta          clock, program, counts of rows, offsets of files
                    log           every accepted event, as it came: what the batch side ingests
                    people        the state of each customer, and when its timer stands
                    links         which anonymous visitor is which customer, since when
                    memberships   who is a member now, and since when
                    changes       what was said, in order
                    refused       rows that broke the contract
                    traits        facts of customers that came live
                    live_scores   probabilities of single customers, between the runs of a model
                    rescoring     who is still to be scored anew

A batch is committed whole or not at all, to the disk (``synchronous=FULL``): a process killed at any moment goes on from
the last batch. Customers are fetched when they are needed, so a start reads their timers only.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson

from predseg.disks import disk_errors
from predseg.evaluate.leaves import NEVER, Folded
from predseg.evaluate.live import Engine
from predseg.evaluate.program import Change, Origin, Row
from predseg.language.measures import Value
from predseg.live.lines import Seen
from predseg.segments.live_scores import LiveScore

DATABASE = "live.db"
CACHE, CHECKPOINT = 65_536, 32_768
"""Kibibytes of pages kept in memory; pages in the log of writes before they are put in their places. Customers lie scattered, so few is slow."""
_WHO = "coalesce(customer_id, anonymous_id)"
_TABLES = (
    "create table if not exists meta (name text primary key, value text not null) without rowid",
    """create table if not exists log (seq integer primary key, event_id text, customer_id text, anonymous_id text, event text not null,
       event_time integer not null, received_at integer, visible integer not null, body text not null)""",
    "create unique index if not exists log_ids on log (event_id) where event_id is not null",
    "create table if not exists people (customer_id text primary key, due integer not null, state blob not null) without rowid",
    "create table if not exists links (anonymous_id text primary key, at integer not null, customer_id text not null) without rowid",
    "create index if not exists links_people on links (customer_id)",
    """create table if not exists memberships (segment text, definition text not null, customer_id text, entered_at integer not null,
       primary key (segment, customer_id)) without rowid""",
    """create table if not exists changes (seq integer primary key autoincrement, change text not null, segment text not null, customer_id text not null,
       at integer not null, definition text not null, correction integer not null, n integer not null)""",
    """create table if not exists refused (seq integer primary key, customer_id text, raw text not null, field text not null, reason text not null,
       received_at integer)""",
    "create table if not exists traits (customer_id text not null, time integer not null, visible integer not null, body text not null)",
    """create table if not exists live_scores (seq integer primary key, model text not null, customer_id text not null, at integer not null,
       probability real, model_version integer not null)""",
    "create table if not exists rescoring (customer_id text, at integer, primary key (customer_id, at)) without rowid",
)
_EVENT = "customer_id, anonymous_id, event, event_time, received_at, event_id, body"


def connect(path: Path) -> sqlite3.Connection:
    """Open the database, made when it is not there; transactions are begun and ended by hand.

    Raises:
        DataError: E410 unwritable, E411 disk full, E414 damaged.
    """
    with disk_errors(path):
        connection = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")
        connection.execute(f"pragma cache_size = -{CACHE}")
        connection.execute(f"pragma wal_autocheckpoint = {CHECKPOINT}")
        for table in _TABLES:
            connection.execute(table)
        return connection


class State:
    """What the live engine remembers over restarts."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._read = connection.cursor()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit everything that is written inside, or nothing of it."""
        self.connection.execute("begin immediate")
        try:
            yield self.connection
        except BaseException:
            self.connection.execute("rollback")
            raise
        self.connection.execute("commit")

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return a remembered text."""
        row = self._read.execute("select value from meta where name = ?", (name,)).fetchone()
        return default if row is None else row[0]

    def counts(self) -> dict[str, int]:
        """Return how many rows were accepted, duplicates, quarantined and suppressed so far."""
        return {name.removeprefix("count."): int(value) for name, value in self._read.execute("select * from meta where name like 'count.%'")}

    def put(self, **values: object) -> None:
        """Remember texts; within a transaction."""
        self.connection.executemany("insert or replace into meta values (?, ?)", [(name, str(value)) for name, value in values.items()])

    # events

    def seen(self, event_id: str) -> Seen | None:
        """Return the event that was accepted under an id."""
        row = self._read.execute(f"select {_EVENT} from log where event_id = ?", (event_id,)).fetchone()
        return None if row is None else _seen(row)

    def among(self, event_ids: Sequence[str]) -> dict[str, Seen]:
        """Return, by their ids, the events among these that were accepted."""
        return {str(e.event_id): e for e in self._events("event_id in (select value from json_each(?))", orjson.dumps(event_ids).decode())}

    def ahead(self, clock: int) -> Iterator[Seen]:
        """Yield the accepted events that count only after the clock."""
        yield from self._events("visible > ? order by seq", clock)

    def since(self, seq: int) -> Iterator[Seen]:
        """Yield the accepted events after a position of the log, oldest first."""
        yield from self._events("seq > ? order by seq", seq)

    def since_of(self, customer_id: str, seq: int) -> Iterator[Seen]:
        """Yield the accepted events of one customer after a position of the log, those of joined visitors among them."""
        own = "customer_id = ? or customer_id is null and anonymous_id in (select anonymous_id from links where customer_id = ?)"
        yield from self._events(f"seq > ? and ({own}) order by seq", seq, customer_id, customer_id)

    @property
    def last(self) -> int:
        """The position of the last accepted event."""
        return self._read.execute("select coalesce(max(seq), 0) from log").fetchone()[0]

    def append(self, events: Iterable[Seen]) -> None:
        """Keep accepted events; one with a known id takes the place of the one before."""
        self.connection.executemany(
            "insert or replace into log (event_id, customer_id, anonymous_id, event, event_time, received_at, visible, body) values (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    e.event_id,
                    e.customer_id,
                    e.anonymous_id,
                    e.event,
                    e.time,
                    e.received,
                    e.visible,
                    orjson.dumps(e.properties, default=_plain).decode(),
                )
                for e in events
            ],
        )

    def _events(self, where: str, *values: object) -> Iterator[Seen]:
        for row in self.connection.execute(f"select {_EVENT} from log where {where}", values):
            yield _seen(row)

    def refuse(self, rows: Iterable[tuple[str | None, str, str, str, int | None]]) -> None:
        """Keep rows that broke the contract: customer_id, raw, field, reason, when they were received."""
        self.connection.executemany("insert into refused (customer_id, raw, field, reason, received_at) values (?, ?, ?, ?, ?)", rows)

    def learn(self, rows: Iterable[tuple[str, int, int, Mapping[str, Any]]]) -> None:
        """Keep facts of customers: customer_id, time, visible, traits."""
        self.connection.executemany("insert into traits values (?, ?, ?, ?)", [(*r[:3], orjson.dumps(r[3], default=_plain).decode()) for r in rows])

    def traits(self) -> list[tuple[str, int, int, dict[str, Any]]]:
        """Return the facts of customers that came live."""
        return [(*row[:3], _values(row[3])) for row in self._read.execute("select * from traits")]

    # live scores

    def index_people(self) -> None:
        """Make the events of a customer quick to find."""
        self.connection.execute(f"create index if not exists log_people on log ({_WHO})")

    def of(self, ids: Sequence[str]) -> Iterator[Seen]:
        """Yield the accepted events of some customers, oldest first; those of a visitor who is nobody yet by the anonymous id."""
        yield from self._events(f"{_WHO} in (select value from json_each(?)) order by seq", orjson.dumps(ids).decode())

    def score(self, rows: Iterable[LiveScore]) -> None:
        """Keep live scores."""
        self.connection.executemany("insert into live_scores (model, customer_id, at, probability, model_version) values (?, ?, ?, ?, ?)", rows)

    def scores(self) -> list[LiveScore]:
        """Return the live scores, oldest first."""
        rows = self._read.execute("select model, customer_id, at, probability, model_version from live_scores order by seq")
        return [LiveScore(*row) for row in rows]

    def forget_scores(self, before: int) -> int:
        """Forget live scores that were no longer in force at an instant, and return how many; the last one of all stays, its number counts on."""
        later = "lead(at) over (partition by model, customer_id order by at, seq)"
        gone = f"select seq from (select seq, {later} as next from live_scores where at <= ?) where next is not null"
        return self.connection.execute(
            f"delete from live_scores where seq in ({gone}) and seq < (select max(seq) from live_scores)", (before,)
        ).rowcount

    @property
    def scored(self) -> int:
        """The number of the last live score."""
        return int(self._read.execute("select coalesce(max(seq), 0) from live_scores").fetchone()[0])

    def owe(self, due: Iterable[tuple[str, int]]) -> None:
        """Keep who is to be scored anew: customer_id, and the instant from which on that can be."""
        self.connection.execute("delete from rescoring")
        self.connection.executemany("insert into rescoring values (?, ?)", due)

    def owed(self) -> set[tuple[str, int]]:
        """Return who is to be scored anew."""
        return set(self._read.execute("select customer_id, at from rescoring").fetchall())

    # customers

    def save(self, engine: Engine, customers: Iterable[str]) -> None:
        """Write the state of customers."""
        rows = [(one, min(engine.people[one].due, default=NEVER), dump(engine, one)) for one in sorted(customers)]
        self.connection.executemany("insert or replace into people values (?, ?, ?)", rows)

    def fetch(self, engine: Engine, customer_id: str) -> bool:
        """Bring a customer into the engine; False when nothing is kept of it."""
        row = self._read.execute("select state from people where customer_id = ?", (customer_id,)).fetchone()
        if row is None:
            return False
        load(engine, customer_id, orjson.loads(row[0]))
        return True

    def timers(self) -> list[tuple[int, str]]:
        """Return when each customer's timer stands."""
        return self._read.execute("select due, customer_id from people where due < ? order by due", (NEVER,)).fetchall()

    def customers(self) -> list[str]:
        """Return everybody of whom something is kept."""
        return [row[0] for row in self._read.execute("select customer_id from people")]

    def links(self) -> dict[str, tuple[int, str]]:
        """Return which anonymous visitor is which customer."""
        return {a: (at, owner) for a, at, owner in self._read.execute("select * from links")}

    def links_of(self, customer_id: str) -> dict[str, tuple[int, str]]:
        """Return the anonymous visitors who are this customer."""
        found = self._read.execute("select anonymous_id, at, customer_id from links where customer_id = ?", (customer_id,))
        return {anonymous: (at, owner) for anonymous, at, owner in found}

    def link(self, owners: Mapping[str, tuple[int, str]], changed: Iterable[str]) -> None:
        """Write which of some anonymous visitors joined whom, or that they did not."""
        for anonymous in changed:
            if anonymous in owners:
                self.connection.execute("insert or replace into links values (?, ?, ?)", (anonymous, *owners[anonymous]))
            else:
                self.connection.execute("delete from links where anonymous_id = ?", (anonymous,))

    # memberships

    def say(self, changes: Sequence[Change], engine: Engine) -> None:
        """Write what changed: to the log of changes, and to the memberships as they are now."""
        self.connection.executemany(
            "insert into changes (change, segment, customer_id, at, definition, correction, n) values (?, ?, ?, ?, ?, ?, ?)",
            [(c.change, c.segment, c.customer_id, c.at, c.definition, int(c.correction), c.n) for c in changes],
        )
        at = {rule.name: (i, rule.definition) for i, rule in enumerate(engine.program.rules)}
        now: list[tuple[str, str, str, int]] = []
        gone: list[tuple[str, str]] = []
        for segment, customer_id in {(c.segment, c.customer_id) for c in changes}:
            number, definition = at[segment]
            since = engine.people[customer_id].members[number]
            if since is None:
                gone.append((segment, customer_id))
            else:
                now.append((segment, definition, customer_id, since))
        self.connection.executemany("delete from memberships where segment = ? and customer_id = ?", gone)
        self.connection.executemany("insert or replace into memberships values (?, ?, ?, ?)", now)

    def enter(self, engine: Engine) -> None:
        """Write the memberships as they are, without saying anything."""
        rows = [
            (rule.name, rule.definition, person.id, since)
            for person in engine.people.values()
            for rule, since in zip(engine.program.rules, person.members, strict=True)
            if since is not None
        ]
        self.connection.executemany("insert or replace into memberships values (?, ?, ?, ?)", rows)

    def members(self, segment: str) -> dict[str, int]:
        """Return who is a member, and since when."""
        return dict(self._read.execute("select customer_id, entered_at from memberships where segment = ?", (segment,)).fetchall())


# customers as bytes


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return {"d": str(value)}
    if isinstance(value, tuple):
        return list(value)
    raise TypeError(type(value).__name__)


def _back(value: Any) -> Any:
    if isinstance(value, list):
        return tuple([_back(v) for v in value])
    return Decimal(value["d"]) if isinstance(value, dict) else value


def _values(body: str) -> dict[str, Value]:
    return {name: _back(value) for name, value in orjson.loads(body).items()}


def _seen(row: Sequence[Any]) -> Seen:
    return Seen(row[0], row[1], row[2], row[3], row[4], row[5], _values(row[6]), {})


def dump(engine: Engine, customer_id: str) -> bytes:
    """Return what is kept of a customer as JSON."""
    person = engine.people[customer_id]
    own, anonymous = engine.own.get(customer_id), engine.anonymous.get(customer_id)
    return orjson.dumps([person.members, person.counts, person.log, _origin(own), _origin(anonymous)], default=_plain)


def _origin(origin: Origin | None) -> Any:
    if origin is None:
        return None
    folded = [[s, f.count, [[*column[:4], list(column[4])] for column in f.columns]] for s, f in (origin.folded or {}).items()]
    return [list(map(list, origin.rows)), folded, origin.since, list(origin.links)]


def load(engine: Engine, customer_id: str, state: Any) -> None:
    """Bring a customer into an engine whose clock stands where it stood when `dump` was called; ``state`` is the JSON, read."""
    members, counts, log, own, anonymous = state
    for origins, kept in ((engine.own, own), (engine.anonymous, anonymous)):
        if kept is not None:
            origins[customer_id] = _to_origin(kept)
    person = engine.program.person(customer_id)
    person.members, person.counts, person.log = members, counts, [(at, i, member, n) for at, i, member, n in log]
    engine.people[customer_id] = person
    engine.settle(person)
    engine.schedule([(min(person.due, default=NEVER), customer_id)])


def _to_origin(kept: Any) -> Origin:
    rows, folded, since, links = kept
    found = [Row(v, t, tuple([(s, _back(values)) for s, values in hits]), own, anonymous) for v, t, hits, own, anonymous in rows]
    sums = {s: Folded(n, [[*column[:4], set(map(_back, column[4]))] for column in columns]) for s, n, columns in folded}
    return Origin(found, sums, since, frozenset(links))
