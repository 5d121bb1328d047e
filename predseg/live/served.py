"""What is answered: who belongs where, as of the last commit, and what changed; kept in memory, so that it outlives the store.

The writer follows the log of changes of the live loop after every commit, from where it was before. After the store was
away it does the same, so that the gap is closed with nothing left out and nothing told twice.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from types import MappingProxyType
from typing import Any, Protocol

from predseg.evaluate.program import Change
from predseg.language.floor import Floor
from predseg.language.time import HOUR, say_instant
from predseg.segments.definitions import Segment

HOURS, RECENT, SAMPLE = 24, 10_000, 10
"""Hours that are counted, changes that can be asked for again, members that are shown."""


class Source(Protocol):
    """What the live loop knows of members and changes."""

    def members(self) -> Mapping[str, Mapping[str, int]]:
        """Segment → customer → since when (microseconds)."""
        ...

    def log(self, after: int, limit: int) -> Sequence[tuple[int, Change]]:
        """Return changes with their numbers, those after a number, in order."""
        ...

    @property
    def last(self) -> int:
        """The number of the last change."""
        ...


@dataclass
class Members:
    """One segment: who belongs since when, and how many entered and left in which hour."""

    since: dict[str, int] = field(default_factory=dict)
    entered: Counter[int] = field(default_factory=Counter)
    left: Counter[int] = field(default_factory=Counter)
    as_of: int | None = None

    def apply(self, change: Change) -> None:
        """Take a change; an entry that is withdrawn counts as if it had never been."""
        hour = change.at // HOUR
        if change.change == "entered":
            self.since[change.customer_id] = change.at
            self.entered[hour] += 1
        elif self.since.pop(change.customer_id, None) == change.at and change.correction:
            self.entered[hour] -= 1
        else:
            self.left[hour] += 1
        for counts in (self.entered, self.left):
            if len(counts) > 4 * HOURS:
                for old in sorted(counts)[: -2 * HOURS]:
                    del counts[old]


def wire(number: int, change: Change) -> dict[str, Any]:
    """Return a change as it is sent."""
    return {"id": number, **change.plain()}


class Served:
    """Memberships and changes as they were last committed.

    Args:
        segments: The rules.
        floor: How small a group may be and still be told.

    Attributes:
        as_of: Up to when everything was decided (microseconds); None before the loop was open.
        down: Says why the store cannot be used, None when it can.
        errors: Segment → the last error that concerned it.
    """

    def __init__(self, segments: Mapping[str, Segment], floor: Floor) -> None:
        self.segments, self.floor = segments, floor
        self.as_of: int | None = None
        self.down: Callable[[], str | None] = lambda: None
        self.errors: dict[str, dict[str, str]] = {}
        self.last, self._loaded = 0, False
        self._members = {name: Members() for name in segments}
        self._recent: deque[tuple[int, Change]] = deque(maxlen=RECENT)
        self._lock = threading.Lock()

    # in the writer's thread

    def follow(self, source: Source, as_of: int | None) -> list[tuple[int, Change]]:
        """Bring what is served up to the last commit and return the changes since the time before."""
        changes = self._after(source) if self._loaded else []
        with self._lock:
            if not self._loaded:
                self._load(source)
            for number, change in changes:
                self._members[change.segment].apply(change)
                self._recent.append((number, change))
                self.last = number
            self.as_of = as_of if as_of is not None else self.as_of
        return changes

    def _load(self, source: Source) -> None:
        for name, found in source.members().items():
            if name in self._members:
                self._members[name].since = dict(sorted(found.items(), key=lambda pair: (pair[1], pair[0])))
        self.last, self._loaded = source.last, True

    def _after(self, source: Source) -> list[tuple[int, Change]]:
        changes: list[tuple[int, Change]] = []
        while self.last < source.last and (more := source.log(changes[-1][0] if changes else self.last, RECENT)):
            changes += [(number, change) for number, change in more if change.segment in self._members]
            if len(more) < RECENT:
                break
        return changes

    def replace(self, members: Mapping[str, Mapping[str, int]], as_of: Mapping[str, int]) -> None:
        """Take the members of daily segments, and the moment of the run that found them."""
        with self._lock:
            for name, found in members.items():
                if name in self._members:
                    self._members[name].since = dict(found)
                    self._members[name].as_of = as_of[name]

    def drop(self, gone: Container[str]) -> None:
        """Serve nothing more of some customers."""
        with self._lock:
            for members in self._members.values():
                for customer_id in [one for one in members.since if one in gone]:
                    del members.since[customer_id]
            kept = [pair for pair in self._recent if pair[1].customer_id not in gone]
            self._recent.clear()
            self._recent.extend(kept)

    # from anywhere

    def age(self, name: str, now: int) -> tuple[int | None, bool]:
        """Return as of when a segment is known, and whether that is stale: the store is away, or it is older than `max_stale`."""
        segment = self.segments[name]
        as_of = self.as_of if segment.live else self._members[name].as_of
        most = segment.stale.most(live=segment.live)
        old = as_of is None or (most is not None and now - as_of > most)
        return as_of, old or (segment.live and self.down() is not None)

    def withheld(self, name: str, now: int) -> bool:
        """Whether a segment is so old that it is not answered as it was."""
        as_of, most = self.age(name, now)[0], self.segments[name].stale.max_stale
        return most is not None and (as_of is None or now - as_of > most) and self.segments[name].stale.on_stale != "serve"

    def of(self, customer_id: str, now: int, ends: Mapping[str, int] = MappingProxyType({})) -> list[dict[str, Any]]:
        """Return the memberships of a customer; one that is held back says neither yes nor no. ``ends``: segment → when the clock alone ends it."""
        found = []
        for name, members in self._members.items():
            since = members.since.get(customer_id)
            as_of, stale = self.age(name, now)
            held = self.withheld(name, now)
            if held and self.segments[name].stale.on_stale == "hold":
                found.append({"segment": name, "member": None, "since": None, "until": None, **_aged(as_of, stale)})
            elif since is not None and not held:
                until = say_instant(ends[name]) if name in ends else None
                found.append({"segment": name, "member": True, "since": say_instant(since), "until": until, **_aged(as_of, stale)})
        return found

    def segment(self, name: str, now: int, without: Container[str] = ()) -> dict[str, Any]:
        """Return one segment: size, how many entered and left in each of the last hours, and the members who entered last."""
        members, segment = self._members[name], self.segments[name]
        as_of, stale = self.age(name, now)
        withheld = self.withheld(name, now)
        this_hour = now // HOUR
        with self._lock:
            shown = list(islice((c for c in reversed(members.since) if c not in without), SAMPLE)) if not withheld else []
            hours = [(hour, members.entered[hour], members.left[hour]) for hour in range(this_hour - HOURS + 1, this_hour + 1)]
            size = len(members.since)
        held = withheld and segment.stale.on_stale == "hold"
        return {
            "segment": name,
            "about": segment.about,
            "refresh": segment.refresh,
            "definition": segment.definition,
            "size": None if held else 0 if withheld else size,
            "sample": shown,
            "hours": [{"hour": say_instant(hour * HOUR), "entered": entered, "left": left} for hour, entered, left in hours],
            **_aged(as_of, stale),
        }

    def told(self, name: str, now: int, without: Container[str] = ()) -> dict[str, Any]:
        """Return one segment as others may see it: no number of a small group, and nobody out of one."""
        found, plain = self.segment(name, now, without), self.floor.plain
        size = found["size"]
        return found | {
            "size": None if size is None else plain(size),
            "sample": [] if size is not None and self.floor.hides(size) else found["sample"],
            "hours": [hour | {"entered": plain(hour["entered"]), "left": plain(hour["left"])} for hour in found["hours"]],
        }

    def sizes(self) -> dict[str, int]:
        """Return how many belong to each segment whose number may be told."""
        return {name: len(members.since) for name, members in self._members.items() if not self.floor.hides(len(members.since))}

    def since(self, number: int) -> tuple[list[tuple[int, Change]], bool]:
        """Return the changes after a number that are still in memory, and whether that is all of them."""
        with self._lock:
            found = [(n, change) for n, change in self._recent if n > number]
            return found, number >= self.last or (bool(self._recent) and number >= self._recent[0][0] - 1)


def _aged(as_of: int | None, stale: bool) -> dict[str, Any]:
    return {"as_of": None if as_of is None else say_instant(as_of), "stale": stale}
