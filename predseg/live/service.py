"""The one writer: whatever has arrived is decided and stored in one transaction, and only then is anybody answered.

Rows wait in a queue of bounded length. One thread takes all that wait, gives them to the live loop as one transaction, and
answers; when nothing waits it lets the clock act, at the moment the loop asks for and at every heartbeat. When the store
cannot be used everybody is told to come again, nothing is kept in memory, and the loop is opened anew from its last commit.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from predseg.errors import DataError
from predseg.language.time import SECOND
from predseg.live.bodies import as_text
from predseg.live.collector import Rejected
from predseg.live.loop import Fed, Verdict
from predseg.live.served import Source

HEARTBEAT = SECOND
"""How long the clock stands still at most."""
QUEUE_ROWS, QUEUE_BYTES = 20_000, 32 * 1024 * 1024
GROUP = 2_000
"""Rows of one transaction at most."""
RETRY = (0.2, 5.0)
"""Seconds before a lost store is tried again: at first, at most."""
STORE_ERRORS = (sqlite3.OperationalError, sqlite3.DatabaseError, OSError, DataError)
Row = Mapping[str, Any] | Rejected


class Core(Source, Protocol):
    """The live loop as the writer uses it."""

    @property
    def next_due(self) -> int | None:
        """When the clock alone may change something."""
        ...

    def feed(self, rows: Sequence[Row], now: int) -> Fed:
        """Decide and store rows in one transaction."""
        ...

    def tick(self, now: int) -> object:
        """Let the clock act."""
        ...

    def close(self) -> None:
        """Let go of the store."""
        ...


class Busy(Exception):
    """The rows cannot be taken now; ``status`` is 429 (too many wait) or 503 (no store), ``retry`` the seconds to wait."""

    def __init__(self, status: int, reason: str, retry: int) -> None:
        self.status, self.reason, self.retry = status, reason, retry
        super().__init__(reason)


@dataclass(frozen=True)
class Limits:
    """How much may wait, and how large a transaction may be."""

    rows: int = QUEUE_ROWS
    bytes: int = QUEUE_BYTES
    group: int = GROUP


@dataclass
class Waiting:
    """Rows of one request, and who waits for the answer."""

    rows: Sequence[Row]
    size: int
    since: int
    answer: asyncio.Future[Sequence[Verdict]]


@dataclass
class State:
    """How the writer is doing; written by its thread, read by anybody.

    Attributes:
        as_of: Up to when everything is decided (microseconds).
        down: Why the store cannot be used, None when it can.
        error: The last error, with its instant.
        commits: Transactions so far.
        due: When the clock alone may change something.
    """

    as_of: int | None = None
    down: str | None = None
    error: tuple[int, str] | None = None
    commits: int = 0
    due: int | None = None


@dataclass
class Queue:
    """What waits, and how much of it there is."""

    limits: Limits = Limits()
    waiting: deque[Waiting] = field(default_factory=deque)
    rows: int = 0
    bytes: int = 0
    closed: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)

    def put(self, item: Waiting) -> None:
        """Let rows wait.

        Raises:
            Busy: 429 when too many wait, 503 when nobody takes them any more.
        """
        with self.changed:
            if self.closed:
                raise Busy(503, "the server is stopping", 1)
            if self.rows and (self.rows + len(item.rows) > self.limits.rows or self.bytes + item.size > self.limits.bytes):
                raise Busy(429, f"{self.rows:,} events wait already", 1)
            self.waiting.append(item)
            self.rows, self.bytes = self.rows + len(item.rows), self.bytes + item.size
            self.changed.notify()

    def take(self, timeout: float) -> list[Waiting]:
        """Return what waits, at most a transaction of it; nothing when nothing came for ``timeout`` seconds."""
        found: list[Waiting] = []
        with self.changed:
            if not self.waiting and not self.closed:
                self.changed.wait(timeout)
            rows = 0
            while self.waiting and (not found or rows + len(self.waiting[0].rows) <= self.limits.group):
                found.append(self.waiting.popleft())
                rows += len(found[-1].rows)
            self.rows, self.bytes = self.rows - rows, self.bytes - sum(item.size for item in found)
        return found

    def drain(self) -> list[Waiting]:
        """Return all that waits."""
        with self.changed:
            found = list(self.waiting)
            self.waiting.clear()
            self.rows = self.bytes = 0
        return found

    def close(self) -> None:
        """Let nothing more in."""
        with self.changed:
            self.closed = True
            self.changed.notify()

    def oldest(self) -> int | None:
        """Return since when the first row waits."""
        with suppress(IndexError):
            return self.waiting[0].since
        return None


class Writer:
    """The thread that owns the live loop.

    Args:
        opened: Opens the loop from its last commit; called in the thread.
        clock: The moment (microseconds).
        told: Called in the thread with the loop when it was opened and after every commit.
        limits: Of the queue and of a transaction.
    """

    def __init__(
        self,
        opened: Callable[[], Core],
        clock: Callable[[], int],
        told: Callable[[Core], None],
        limits: Limits = Limits(),
    ) -> None:
        self._opened, self._clock, self._told = opened, clock, told
        self.state, self.queue = State(), Queue(limits)
        self._core: Core | None = None
        self._events: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._work, name="predseg writer", daemon=True)

    def start(self) -> None:
        """Open the loop, here, and begin to work.

        Raises:
            PredsegError: when the loop cannot be opened.
        """
        self._open()
        self._thread.start()

    def stop(self, timeout: float = 30) -> None:
        """Decide what waits, then end; what comes later is refused."""
        self.queue.close()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    async def submit(self, rows: Sequence[Row], size: int = 0) -> Sequence[Verdict]:
        """Have rows decided and stored, and return what became of each once that is durable.

        Raises:
            Busy: when too many wait, or the store cannot be used.
        """
        if self.state.down is not None:
            raise Busy(503, "the store cannot be used at the moment", 2)
        self._events = asyncio.get_running_loop()
        item = Waiting(rows, size, self._clock(), self._events.create_future())
        self.queue.put(item)
        return await item.answer

    # in the thread

    def _work(self) -> None:
        pause = RETRY[0]
        while True:
            if self._core is None:
                pause = self._reopen(pause)
                if self._core is None and self.queue.closed:
                    break
                continue
            items = self.queue.take(self._patience())
            if not items and self.queue.closed:
                break
            self._decide(items)
        if self._core is not None:
            self._core.close()

    def _patience(self) -> float:
        if self.state.as_of is None:
            return 0.0
        until = HEARTBEAT if self.state.due is None else min(HEARTBEAT, self.state.due - self._clock())
        return max(until, 0) / SECOND

    def _decide(self, items: list[Waiting]) -> None:
        rows = [row for item in items for row in item.rows]
        now = self._clock()
        try:
            verdicts = self._feed(rows, now) if rows else []
            if not rows:
                self._core_now().tick(now)
            self._committed(now)
        except Exception as error:  # whatever it is, the thread goes on, from the last commit
            self._lost(error, items)
        else:
            self._answer(items, verdicts)

    def _core_now(self) -> Core:
        if self._core is None:
            self._open()
        assert self._core is not None
        return self._core

    def _feed(self, rows: Sequence[Row], now: int) -> list[Verdict]:
        """Feed rows; one that nobody foresaw is found and set aside, and the others go on."""
        try:
            return list(self._core_now().feed(rows, now).verdicts)
        except STORE_ERRORS:
            raise
        except Exception as error:
            if len(rows) == 1 and isinstance(rows[0], Rejected):
                raise
            self._note(error)
            self._let_go()
            if len(rows) == 1:
                return self._feed([Rejected(as_text(rows[0]), "message", f"could not be decided: {type(error).__name__}")], now)
            half = len(rows) // 2
            return self._feed(rows[:half], now) + self._feed(rows[half:], now)

    def _committed(self, now: int) -> None:
        core = self._core_now()
        self.state.commits += 1
        self.state.as_of, self.state.due = now, core.next_due
        self._told(core)

    def _open(self) -> None:
        self._core = self._opened()
        self.state.due = self._core.next_due
        self._told(self._core)
        self.state.down = None

    def _reopen(self, pause: float) -> float:
        """Try to use the store again; return how long to wait before the next time."""
        with self.queue.changed:
            if not self.queue.closed:
                self.queue.changed.wait(pause)
        self._refuse(self.queue.drain())
        try:
            self._open()
        except Exception as error:
            self._note(error)
            self._let_go()
            return min(pause * 2, RETRY[1])
        return RETRY[0]

    def _lost(self, error: Exception, items: list[Waiting]) -> None:
        self._note(error)
        self.state.down = self.state.error[1] if self.state.error else "?"
        self._let_go()
        self._refuse([*items, *self.queue.drain()])

    def _let_go(self) -> None:
        if self._core is not None:
            with suppress(Exception):
                self._core.close()
            self._core = None

    def _note(self, error: Exception) -> None:
        said = error.message if isinstance(error, DataError) else str(error)
        self.state.error = (self._clock(), f"{type(error).__name__}: {said}"[:300])

    def _refuse(self, items: Sequence[Waiting]) -> None:
        self._later([(item, Busy(503, "the store cannot be used at the moment", 2)) for item in items])

    def _answer(self, items: Sequence[Waiting], verdicts: Sequence[Verdict]) -> None:
        done: list[tuple[Waiting, Any]] = []
        at = 0
        for item in items:
            done.append((item, verdicts[at : at + len(item.rows)]))
            at += len(item.rows)
        self._later(done)

    def _later(self, done: Sequence[tuple[Waiting, Any]]) -> None:
        if done and self._events is not None:
            with suppress(RuntimeError):  # the loop of events has ended: nobody waits any more
                self._events.call_soon_threadsafe(_settle, done)


def _settle(done: Sequence[tuple[Waiting, Any]]) -> None:
    for item, result in done:
        if item.answer.done():
            continue
        if isinstance(result, Exception):
            item.answer.set_exception(result)
        else:
            item.answer.set_result(result)
