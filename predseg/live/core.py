"""The live loop as the server uses it: over one database that must stay where it is, with every person coming in by the door.

Rows are received when they are decided, by a clock that only goes forward, so that a row is never behind what was decided
before it. A person who was forgotten does not come in; after somebody was forgotten by another process nothing of that
person stays in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from predseg.errors import DataError
from predseg.evaluate.program import Change
from predseg.history.persons import Persons
from predseg.language.time import MINUTE, SECOND
from predseg.live.collector import Rejected
from predseg.live.loop import SUPPRESSED, Fed, Loop, Verdict
from predseg.live.state import DATABASE

WAIT = 3_000
"""Milliseconds that a transaction waits for another process."""
ERASING = MINUTE
"""How long another process may still erase after it noted who is forgotten."""
LOOK = 5 * SECOND
"""How long between two looks whether a run published something."""
_COLUMNS = "seq, change, segment, customer_id, at, definition, correction, n"


class Published(Protocol):
    """What runs publish: scores, clusters, daily memberships, traits."""

    def mark(self) -> object:
        """Return something that is another after each publication."""
        ...

    def refresh(self, loop: Loop, now: int) -> None:
        """Let a loop know what is published."""
        ...


class Core:
    """One open live loop.

    Args:
        opened: Opens the loop.
        published: Tells what was published, as something that is different after each publication, and lets a loop know of it.
        persons: Says under which names persons come in, and who was forgotten; asked again when somebody was.
        file: The database.
        dropped: Told who was forgotten, so that nothing of them is served.
    """

    def __init__(
        self,
        opened: Callable[[], Loop],
        persons: Callable[[], Persons],
        file: Path,
        dropped: Callable[[Container[str]], None],
        published: Published | None = None,
    ) -> None:
        self._opened, self._persons_now, self._file, self._dropped, self._published = opened, persons, file, dropped, published
        self._mark = published.mark() if published is not None else None
        self._looked = 0
        self.loop = opened()
        self._persons = persons()
        self._state().execute(f"pragma busy_timeout = {WAIT}")
        self._inode = file.stat().st_ino
        self._marks, self._again = self._tombstones(), 0

    def _state(self) -> Any:
        assert self.loop.state is not None
        return self.loop.state.connection

    @property
    def next_due(self) -> int | None:
        """When the clock alone may change something."""
        return self.loop.next_due

    def feed(self, rows: Sequence[Mapping[str, Any] | Rejected], now: int) -> Fed:
        """Decide and store rows in one transaction."""
        now = self._ready(now)
        coming = [self._in(row, now) for row in rows]
        self.loop.counts[SUPPRESSED] += coming.count(None)
        fed = self.loop.feed([row for row in coming if row is not None], now)
        decided = iter(fed.verdicts)
        return Fed(fed.changes, [Verdict(SUPPRESSED) if row is None else next(decided) for row in coming])

    def tick(self, now: int) -> list[Change]:
        """Let the clock act."""
        return self.loop.tick(self._ready(now))

    def close(self) -> None:
        """Let go of the database."""
        self.loop.close()

    # what is served

    def members(self) -> dict[str, dict[str, int]]:
        """Segment → customer → since when."""
        assert self.loop.state is not None
        return {rule.name: self.loop.state.members(rule.name) for rule in self.loop.engine.program.rules}

    def log(self, after: int, limit: int) -> list[tuple[int, Change]]:
        """Return numbered changes after a number, in order."""
        return changes(self._state(), after, limit)

    @property
    def last(self) -> int:
        """The number of the last change."""
        return int(self._state().execute("select coalesce(max(seq), 0) from changes").fetchone()[0])

    # before every transaction

    def _ready(self, now: int) -> int:
        """Look whether the database is still there and whom it must not hold any more; return a moment after all that was decided."""
        if not self._file.exists() or self._file.stat().st_ino != self._inode:
            raise gone(self._file)
        marks = self._tombstones()
        if marks != self._marks:
            if marks[2] != self._marks[2]:
                raise DataError(
                    "E451", str(self._file), "everybody was given another pseudonym while the server ran", "start it again, with all keys"
                )
            self._marks, self._again = marks, now + ERASING
            self._renew()
        elif self._again and now >= self._again:
            self._again = 0
            self._renew()
        now = max(now, self.loop.engine.clock + 1)
        if self._published is not None and now >= self._looked + LOOK:
            self._looked = now
            self._hear(self._published, now)
        return now

    def _hear(self, published: Published, now: int) -> None:
        """Let the loop know what a run published since the last look."""
        mark = published.mark()
        if mark != self._mark:
            published.refresh(self.loop, now)
            self._mark = mark

    def _tombstones(self) -> tuple[int, int, str | None]:
        """Return how many were forgotten, when the last one was, and what pseudonyms are made with."""
        connection = self._state()
        if not connection.execute("select 1 from sqlite_master where name = 'forgotten'").fetchone():
            return (0, 0, None)
        names = "(select value from privacy where name = 'names')"
        return tuple(connection.execute(f"select count(*), coalesce(max(at), 0), {names} from forgotten").fetchone())

    def _renew(self) -> None:
        self.loop.close()
        self.loop, self._persons = self._opened(), self._persons_now()
        self._state().execute(f"pragma busy_timeout = {WAIT}")
        self._dropped(self._persons.forgotten)

    def _in(self, row: Mapping[str, Any] | Rejected, now: int) -> Mapping[str, Any] | Rejected | None:
        """Return a row as it comes in: received now, see `Persons.event`; None is one of a forgotten person."""
        persons = self._persons
        if isinstance(row, Rejected):
            raw = persons.line(row.raw)
            return None if raw is None else Rejected(raw, row.field, row.reason)
        return persons.event({**row, "received_at": now})


def changes(connection: Any, after: int, limit: int) -> list[tuple[int, Change]]:
    """Return numbered changes of a live database."""
    rows = connection.execute(f"select {_COLUMNS} from changes where seq > ? order by seq limit ?", (after, limit)).fetchall()
    return [
        (seq, Change(change, segment, who, at, definition, bool(correction), n)) for seq, change, segment, who, at, definition, correction, n in rows
    ]


def gone(file: Path) -> DataError:
    """Return the error of a database that was there and is no more."""
    return DataError(
        "E461", str(file), "the live database is gone", "put it back: a server that is started without it begins anew, from the events table"
    )


def database(folder: Path) -> Path:
    """Return the live database of a store."""
    return folder / DATABASE
