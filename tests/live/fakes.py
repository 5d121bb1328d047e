"""A live loop without rules: an event named `Enter` or `Leave` changes the segment `inside`. Its store outlives it and can fail."""

from __future__ import annotations

import itertools
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from predseg.evaluate.program import Change
from predseg.language.documents import parse_condition
from predseg.language.yaml import read_documents
from predseg.live.collector import Rejected
from predseg.live.loop import Fed, Verdict
from predseg.segments.definitions import Segment

INSIDE = Segment("inside", parse_condition(read_documents("did: Enter")[0]), "d1", refresh="live")


@dataclass
class Store:
    """What is durable. ``fails`` is raised by every use, ``slow`` is how long a commit takes; it begins when ``free`` is set."""

    ids: set[str] = field(default_factory=set)
    members: dict[str, int] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    quarantine: list[Rejected] = field(default_factory=list)
    rows: list[Mapping[str, Any]] = field(default_factory=list)
    fails: Exception | None = None
    fails_after_commit: bool = False
    slow: float = 0.0
    free: threading.Event = field(default_factory=threading.Event)
    opened: int = 0
    numbers: Iterator[int] = field(default_factory=itertools.count)
    groups: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.free.set()


class Core:
    def __init__(self, store: Store) -> None:
        if store.fails is not None:
            raise store.fails
        self.store = store
        store.opened += 1
        self.next_due: int | None = None

    def feed(self, rows: Sequence[Mapping[str, Any] | Rejected], now: int) -> Fed:
        self._work()
        if any(not isinstance(row, Rejected) and row["event"] == "Poison" for row in rows):
            raise ZeroDivisionError
        self.store.groups.append(len(rows))
        found = Fed([], [self._one(row, now) for row in rows])
        if self.store.fails_after_commit:
            self.store.fails = sqlite3.OperationalError("disk I/O error")
            raise self.store.fails
        return found

    def _one(self, row: Mapping[str, Any] | Rejected, now: int) -> Verdict:
        store = self.store
        if isinstance(row, Rejected):
            store.quarantine.append(row)
            return Verdict("quarantined", row.reason, row.field)
        name = str(row.get("event_id") or f"~{next(store.numbers)}")
        if name in store.ids:
            return Verdict("duplicate")
        store.ids.add(name)
        if row.get("customer_id") == "gone":
            return Verdict("suppressed", "opted out")
        store.rows.append(row)
        customer, at = str(row.get("customer_id") or row.get("anonymous_id")), int(row["event_time"])
        if row["event"] == "Enter" and customer not in store.members:
            store.members[customer] = at
            self._changed("entered", customer, at)
        if row["event"] == "Leave" and store.members.pop(customer, None) is not None:
            self._changed("left", customer, at)
        return Verdict("accepted")

    def _changed(self, change: str, customer: str, at: int) -> None:
        self.store.changes.append(Change(change, "inside", customer, at, "d1", False, len(self.store.changes) + 1))

    def tick(self, now: int) -> list[Change]:
        self._work()
        return []

    def _work(self) -> None:
        self.store.free.wait()
        time.sleep(self.store.slow)
        if self.store.fails is not None:
            raise self.store.fails

    def members(self) -> dict[str, dict[str, int]]:
        return {"inside": dict(self.store.members)}

    def log(self, after: int, limit: int) -> list[tuple[int, Change]]:
        return list(enumerate(self.store.changes, 1))[after : after + limit]

    @property
    def last(self) -> int:
        return len(self.store.changes)

    def close(self) -> None:
        pass
