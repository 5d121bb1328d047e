"""What the server knows of itself: who is served, what was received, how long it took, which alarms ring."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from predseg.evaluate.program import Change
from predseg.language.serving import Serving
from predseg.language.time import MINUTE, SECOND
from predseg.live.alarms import Alarm, Rhythm, judge, readings, watch
from predseg.live.collector import Rejected, Row
from predseg.live.keys import Keys
from predseg.live.served import Served, Source
from predseg.live.service import Writer

OUTCOMES = {"accepted": "accepted", "duplicate": "duplicates", "quarantined": "quarantined", "suppressed": "suppressed"}
"""What becomes of a row → under which name it is counted."""
BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the histogram of decision times, in seconds."""
STREAMS, STREAM_LENGTH = 100, 1_000
"""Readers of changes at most, and how far one may fall behind."""
WATCHED = 5 * MINUTE
"""The share of rejected messages is that of this long."""


@dataclass
class Counts:
    """What was received and what became of it; received = accepted + duplicates + quarantined + suppressed."""

    outcomes: Counter[str] = field(default_factory=Counter)
    refused: Counter[int] = field(default_factory=Counter)
    took: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    seconds: float = 0.0
    recent: deque[tuple[int, int, int]] = field(default_factory=deque)

    def add(self, verdicts: Sequence[Any], micros: int, now: int) -> dict[str, int]:
        """Count the verdicts of one request that was answered after ``micros``."""
        found = Counter(OUTCOMES[verdict.kind] for verdict in verdicts)
        self.outcomes.update(found)
        self.took[bisect_left(BUCKETS, micros / SECOND)] += 1
        self.seconds += micros / SECOND
        minute = now // MINUTE
        if not self.recent or self.recent[-1][0] != minute:
            self.recent.append((minute, 0, 0))
        _, all_, bad = self.recent[-1]
        self.recent[-1] = (minute, all_ + len(verdicts), bad + found["quarantined"])
        return {name: found[name] for name in OUTCOMES.values()}

    def rejected(self, now: int) -> float:
        """Return which share of the last minutes' messages was put into quarantine."""
        while self.recent and self.recent[0][0] * MINUTE <= now - WATCHED:
            self.recent.popleft()
        received = sum(n for _, n, _ in self.recent)
        return sum(bad for _, _, bad in self.recent) / received if received else 0.0

    @property
    def received(self) -> int:
        """How many messages were decided."""
        return sum(self.outcomes.values())


@dataclass(eq=False)
class Subscriber:
    """Somebody who is told of changes as they happen; ``lost`` when it does not keep up."""

    queue: asyncio.Queue[tuple[int, Change] | None] = field(default_factory=lambda: asyncio.Queue(STREAM_LENGTH))
    lost: bool = False


@dataclass
class Desk:
    """Everything that the addresses of the server need.

    Attributes:
        writer: The thread that decides.
        served: What is answered.
        keys: The two keys.
        serving: The declaration.
        clock: The moment (microseconds).
        name: Under which name a customer stands in the tables.
        person: More about a customer: ``(customer_id, features wanted) → fields``.
        ends: When a customer leaves live segments by the clock alone: segment → instant.
        without: Who is left out of lists of members.
        noes: Events by which somebody says no to messages.
        settled: Says whether no message to some customers is on its way.
        log: Older changes: ``(after, limit) → numbered changes``.
        told: Called when an alarm begins or ends.
        reading: Bytes of bodies that are being received.
        events: The loop in which the subscribers wait.
        stream: How it stands with the broker: ok, or why nothing comes; None when there is none.
    """

    writer: Writer
    served: Served
    keys: Keys
    serving: Serving
    clock: Callable[[], int]
    name: Callable[[str], str] = lambda customer_id: customer_id
    person: Callable[[str, bool], Mapping[str, Any]] = lambda customer_id, features: {}
    ends: Callable[[str], Mapping[str, int]] = lambda customer_id: {}
    without: Callable[[str], Container[str]] = lambda segment: ()
    noes: frozenset[str] = frozenset()
    settled: Callable[[Collection[str]], bool] = lambda customers: True
    log: Callable[[int, int], Sequence[tuple[int, Change]]] | None = None
    told: Callable[[Alarm], None] = lambda alarm: None
    counts: Counts = field(default_factory=Counts)
    rhythms: dict[str, Rhythm] = field(default_factory=dict)
    alarms: dict[str, Alarm] = field(default_factory=dict)
    subscribers: set[Subscriber] = field(default_factory=set)
    started: int = 0
    reading: int = 0
    events: asyncio.AbstractEventLoop | None = None
    stream: str | None = None

    # alarms

    def lag(self, now: int) -> int:
        """Return how long the oldest row waits, or how late the clock of the segments is (microseconds)."""
        oldest, due = self.writer.queue.oldest(), self.writer.state.due
        return max(now - oldest if oldest is not None else 0, now - due if due is not None else 0, 0)

    def fill(self) -> float:
        """Return which share of the queue is full."""
        queue = self.writer.queue
        return max(queue.rows / queue.limits.rows, queue.bytes / queue.limits.bytes)

    def check(self) -> list[Alarm]:
        """Take all readings and return the alarms that begin or end."""
        now = self.clock()
        found = readings(
            self.serving.alerts,
            now,
            lag=self.lag(now),
            rejected=self.counts.rejected(now),
            queue=self.fill(),
            down=self.writer.state.down,
            rhythms=self.rhythms,
            since=self.started,
        )
        self.alarms, rung = judge(self.alarms, found, now)
        for alarm in rung:
            self.told(alarm)
        return rung

    def decided(self, rows: Sequence[Row | Rejected], verdicts: Sequence[Any], received: int) -> dict[str, int]:
        """Count what became of rows that were received at an instant, and note which events came; return the numbers."""
        now = self.clock()
        came = Counter(str(row.get("event")) for row, v in zip(rows, verdicts, strict=True) if v.kind == "accepted" and not isinstance(row, Rejected))
        watch(self.rhythms, came, now)
        return self.counts.add(verdicts, now - received, now)

    # streams

    def committed(self, source: Source) -> None:
        """Follow the log of the live loop; called in the writer's thread after every commit."""
        changes = self.served.follow(source, self.writer.state.as_of)
        if changes and self.events is not None and not self.events.is_closed():
            self.events.call_soon_threadsafe(self.tell, changes)

    def tell(self, changes: Sequence[tuple[int, Change]]) -> None:
        """Tell the subscribers of changes; one that does not keep up is let go, and can come back to where it was."""
        for subscriber in list(self.subscribers):
            try:
                for change in changes:
                    subscriber.queue.put_nowait(change)
            except asyncio.QueueFull:
                self._drop(subscriber)

    def hang_up(self) -> None:
        """Let all subscribers go."""
        for subscriber in list(self.subscribers):
            self._drop(subscriber)

    def _drop(self, subscriber: Subscriber) -> None:
        self.subscribers.discard(subscriber)
        subscriber.lost = True
        if subscriber.queue.full():
            subscriber.queue.get_nowait()
        subscriber.queue.put_nowait(None)
