"""What live rules look at, compiled once: which events each customer keeps, and how each condition is answered from them.

A **stream** is the events that one declaration means, of one customer: their times, sorted, and the columns that somebody
asks for. A **leaf** answers one condition from streams or from facts, and says until when the answer stands if nothing happens.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from predseg.evaluate.reference import Answer, compare
from predseg.evaluate.timeline import measure_offsets
from predseg.language.conditions import Did
from predseg.language.measures import SCALE, Events, Measure, Step, Value, Window, kind_of, units_of

NEVER = 2**63 - 1
FEW = 5_000
"""So many values of a property are remembered as accepted or not."""
FALSE, TRUE, UNKNOWN = 0, 1, 2
Column = tuple[str, str]
"""How a property is kept (``units``: ten-thousandths or None, ``value``, ``tie``: comparable with its kind), and its name."""
Hit = tuple[int, tuple[Any, ...]]
"""An event in a stream: the number of the stream, and the values of its columns."""


class Kept:
    """What is kept of one stream of a customer; ``folded`` sums up the events before those."""

    __slots__ = ("columns", "folded", "times")

    def __init__(self, width: int) -> None:
        self.times: list[int] = []
        self.columns: tuple[list[Any], ...] = tuple([[] for _ in range(width)]) if width else ()
        self.folded: Folded | None = None

    def insert(self, time: int, values: tuple[Any, ...]) -> None:
        """Put an event in its place in time."""
        times = self.times
        if not times or time >= times[-1]:
            times.append(time)
            for i, value in enumerate(values):
                self.columns[i].append(value)
            return
        at = bisect_right(times, time)
        times.insert(at, time)
        for column, value in zip(self.columns, values, strict=True):
            column.insert(at, value)

    def drop(self, until: int) -> None:
        """Forget the events up to an instant."""
        at = bisect_right(self.times, until)
        for column in (self.times, *self.columns):
            del column[:at]


@dataclass
class Folded:
    """The exact summary of events that only windows without a beginning still see: per column a sum, its count, both extremes, the values."""

    count: int = 0
    columns: list[list[Any]] = field(default_factory=list)

    def add(self, how: Sequence[Column], values: tuple[Any, ...]) -> None:
        """Take one event in, whose columns are kept in these ways."""
        self.count += 1
        self.columns = self.columns or [[0, 0, None, None, set()] for _ in values]
        for (kind, _), column, value in zip(how, self.columns, values, strict=True):
            if value is None:
                continue
            if kind == "units":
                column[0] += value
                column[1] += 1
                column[2] = value if column[2] is None else min(column[2], value)
                column[3] = value if column[3] is None else max(column[3], value)
            elif kind == "value":
                column[4] |= _elements(value)

    def join(self, other: Folded) -> None:
        """Take in what another one sums up."""
        self.count += other.count
        self.columns = self.columns or [[0, 0, None, None, set()] for _ in other.columns]
        for mine, theirs in zip(self.columns, other.columns, strict=False):
            mine[0] += theirs[0]
            mine[1] += theirs[1]
            mine[2:4] = [
                choose(known) if (known := [x for x in pair if x is not None]) else None
                for choose, pair in ((min, (mine[2], theirs[2])), (max, (mine[3], theirs[3])))
            ]
            mine[4] |= theirs[4]

    def copy(self) -> Folded:
        """Return one that can be added to without changing this."""
        return Folded(self.count, [[*c[:4], set(c[4])] for c in self.columns])


def _elements(value: Value) -> set[Any]:
    return {(kind_of(x), x) for x in (value if isinstance(value, tuple) else (value,)) if x is not None}


Said = tuple[int, int, bool, int]
"""Instant, number of the rule, member from then on, how many changes of it there were by then."""


class Person:
    """The state of one customer.

    Attributes:
        kept: Its streams, None while empty.
        truth, due: Of each leaf the answer, and until when it stands.
        members: Of each rule since when it is a member, None when it is none.
        counts: Of each rule how often it changed.
        first: The first of what is due.
        scheduled: When its timer stands, not after that.
        log: (instant, rule, member from then on, how many changes of it there were) within the time of corrections.
    """

    __slots__ = ("counts", "due", "first", "id", "kept", "known", "log", "members", "scheduled", "truth")

    def __init__(self, customer_id: str, streams: int, truth: bytes, members: list[int | None], counts: list[int]) -> None:
        self.id = customer_id
        self.kept: list[Kept | None] = [None] * streams
        self.truth = bytearray(truth)
        self.due = [NEVER] * len(truth)
        self.members, self.counts, self.log = members, counts, _NOTHING_SAID  # shared by all until the first change
        self.first = NEVER
        self.scheduled = NEVER
        self.known = False

    def enter(self, rule: int, since: int) -> None:
        """Be a member of a rule's segment from before anything is said."""
        self._part()
        self.members[rule], self.counts[rule] = since, 1

    def change(self, rule: int, t: int, member: bool) -> int:
        """Enter or leave a rule's segment at t, and return how many changes of it there are now."""
        self._part()
        self.members[rule] = t if member else None
        n = self.counts[rule] = self.counts[rule] + 1
        self.log.append((t, rule, member, n))
        return n

    def _part(self) -> None:
        if self.log is _NOTHING_SAID:
            self.members, self.counts, self.log = self.members.copy(), self.counts.copy(), []


_NOTHING_SAID: list[Said] = []
Leaf = Callable[[Person, int], tuple[int, int]]
"""(customer, t) → truth, and the first instant after t at which the clock alone can change it: a lower bound."""


@dataclass
class Stream:
    """One declaration of events, and for how long they are needed (None: for ever; folded: only as a summary beyond)."""

    events: Events
    since: int | None
    columns: list[Column] = field(default_factory=list)
    span: int | None = 0
    folds: bool = False

    def column(self, how: str, name: str) -> int:
        """Return the place of a column, adding it when nobody asked before."""
        if (how, name) not in self.columns:
            self.columns.append((how, name))
        return self.columns.index((how, name))

    def accepts(self, properties: Mapping[str, Value]) -> bool:
        """Whether an event with a name that is meant passes the filters."""
        return all(wanted.accepts(properties.get(wanted.property)) for wanted in self.events.where)

    def values(self, properties: Mapping[str, Value]) -> tuple[Any, ...]:
        """Return what is kept of an event."""
        return tuple([_keep(how, properties.get(name)) for how, name in self.columns]) if self.columns else ()


def _keep(how: str, value: Value) -> Any:
    if value is None or how == "value":
        return value
    return units_of(value) if how == "units" else (kind_of(value), value)


class Streams:
    """All streams that some rules need, each declaration once."""

    def __init__(self) -> None:
        self.all: list[Stream] = []
        self._number: dict[tuple[Events, int | None], int] = {}

    def number(self, events: Events, since: int | None = None) -> int:
        """Return the number of a stream, making it when it is new."""
        if (events, since) not in self._number:
            self._number[events, since] = len(self.all)
            self.all.append(Stream(events, since))
        return self._number[events, since]

    def need(self, number: int, span: int | None, folds: bool) -> None:
        """Say for how long the events of a stream are needed, and whether a summary is needed of the time before that."""
        stream = self.all[number]
        stream.folds |= folds
        stream.span = None if span is None or stream.span is None else max(stream.span, span)


# conditions about events


def compile_did(condition: Did, streams: Streams) -> Leaf:
    """Return the leaf of a condition about events."""
    measure = condition.measure
    window = measure.window
    number = streams.number(measure.events, window.since)
    if measure.then is not None:
        return _sequence(condition, number, streams)
    streams.need(number, window.until if window.start is None else window.start, window.start is None)
    if measure.aggregate == "count":
        return _count(condition, number)
    how = "value" if measure.aggregate == "distinct" else "units"
    answer = _aggregate(measure, streams.all[number].column(how, str(measure.of)))
    return _compared(condition, number, answer)


def _range(times: list[int], window: Window, t: int) -> tuple[int, int]:
    """Return the first event in the window and the first after it; no event lies after t."""
    hi = bisect_right(times, t - window.until) if window.until else len(times)
    return (0 if window.start is None else min(bisect_right(times, t - window.start), hi)), hi


def _edge(times: list[int], window: Window, lo: int, hi: int) -> int:
    """Return when the next event enters or leaves the window."""
    due = NEVER if window.start is None or lo >= len(times) else times[lo] + window.start
    return min(due, times[hi] + window.until) if hi < len(times) else due


def _count(condition: Did, number: int) -> Leaf:
    """A count; by the clock alone it falls one by one, so the instant at which it passes a bound is known."""
    window, (low, high) = condition.measure.window, condition.comparison.bounds()
    least, most, start = (0 if low is None else low), (NEVER if high is None else high), window.start

    def leaf(person: Person, t: int) -> tuple[int, int]:
        kept = person.kept[number]
        if kept is None:
            return int(least <= 0 <= most), NEVER
        times = kept.times
        lo, hi = _range(times, window, t)
        n = hi - lo + (kept.folded.count if start is None and kept.folded is not None else 0)
        if window.until:
            return int(least <= n <= most), _edge(times, window, lo, hi)
        if start is None or most < least or n < least or (n <= most and least <= 0):
            return int(least <= n <= most), NEVER
        leaving = n - most - 1 if n > most else n - least
        return int(n <= most), times[lo + leaving] + start

    return leaf


Aggregated = Callable[[Kept | None, int, int], tuple[int | None, int]]
"""(what is kept, first, end) → the number, None when missing, and over how many values."""


def _aggregate(measure: Measure, column: int) -> Aggregated:
    kind, whole = measure.aggregate, measure.window.start is None and measure.then is None
    nothing: list[Any] = [0, 0, None, None, frozenset()]

    def folded(kept: Kept | None) -> list[Any]:
        summed = kept.folded.columns if whole and kept is not None and kept.folded is not None else []
        return summed[column] if summed else nothing

    def distinct(kept: Kept | None, lo: int, hi: int) -> tuple[int | None, int]:
        found, values = set(folded(kept)[4]), kept.columns[column][lo:hi] if kept is not None else ()
        for _, value in {(v.__class__, v) for v in values}:  # Python holds True == 1
            found |= _elements(value)
        return len(found), 0

    def number(kept: Kept | None, lo: int, hi: int) -> tuple[int | None, int]:
        total, n, least, most, _ = folded(kept)
        units = [u for u in kept.columns[column][lo:hi] if u is not None] if kept is not None else []
        n += len(units)
        if kind in ("sum", "avg"):
            return (total + sum(units) if n or kind == "sum" else None), n
        choose, before = (min, least) if kind == "min" else (max, most)
        known = units if before is None else [*units, before]
        return (choose(known) if known else None), n

    return distinct if kind == "distinct" else number


def _judge(condition: Did) -> Callable[[int | None, int], int]:
    """Return what says whether a number, over so many values, passes; a missing one is unknown."""
    comparison, kind = condition.comparison, condition.measure.aggregate
    low, high = comparison.bounds(1 if kind in ("count", "distinct") else SCALE)

    def judge(found: int | None, n: int) -> int:
        if found is None:
            return UNKNOWN
        if kind == "avg":
            return int(bool(compare(Answer("avg", found, n), comparison)))
        return int((low is None or found >= low) and (high is None or found <= high))

    return judge


def _compared(condition: Did, number: int, answer: Aggregated) -> Leaf:
    window, judge = condition.measure.window, _judge(condition)

    def leaf(person: Person, t: int) -> tuple[int, int]:
        kept = person.kept[number]
        lo, hi = (0, 0) if kept is None else _range(kept.times, window, t)
        found, n = answer(kept, lo, hi)
        due = NEVER if kept is None else _edge(kept.times, window, lo, hi)
        return judge(found, n), due

    return leaf


# what follows what

Holds = Callable[[list[Kept | None], int, tuple[Any, ...], int], bool]
"""(streams of a customer, time of an event, the values of its columns, t) → whether a step holds after it."""


def _sequence(condition: Did, number: int, streams: Streams) -> Leaf:
    """A count or an aggregate over the events after which something holds."""
    measure = condition.measure
    step, window = measure.then, measure.window
    assert step is not None
    parts = [number, *(streams.number(s.events) for s in measure.steps())]
    for part in parts:
        streams.need(part, window.start, False)
    quiet = not step.did and step.within is not None and step.same is None and measure.aggregate == "count" and not window.until
    if quiet and window.since is None:
        return _absences(condition, number, streams.number(step.events))
    holds = _step(step, streams.all[number], streams)
    offsets = sorted(measure_offsets(measure))
    chosen = _chosen_answer(measure, number, streams)
    judge = _judge(condition)

    def leaf(person: Person, t: int) -> tuple[int, int]:
        kept = person.kept[number]
        if kept is None:
            rows: list[tuple[Any, ...]] = []
        else:
            lo, hi = _range(kept.times, window, t)
            rows = [v for i in range(lo, hi) if holds(person.kept, kept.times[i], v := tuple([c[i] for c in kept.columns]), t)]
        found, n = chosen(rows)
        due = min((_next(person.kept[p], offsets, t) for p in parts), default=NEVER)
        return judge(found, n), due

    return leaf


def _absences(condition: Did, number: int, follower: int) -> Leaf:
    """How many events nothing followed in time: each has one instant at which that is established, and one at which it leaves."""
    window, step = condition.measure.window, condition.measure.then
    low, high = condition.comparison.bounds()
    least, most = (0 if low is None else low), (NEVER if high is None else high)
    start, within = window.start, step.within if step is not None and step.within is not None else 0

    def leaf(person: Person, t: int) -> tuple[int, int]:
        kept, after = person.kept[number], person.kept[follower]
        n, due = 0, NEVER
        if kept is not None:
            times, later = kept.times, after.times if after is not None else []
            for e in times if start is None else times[bisect_right(times, t - start) :]:
                at = bisect_right(later, e) if later else 0
                if at < len(later) and later[at] <= e + within:
                    continue
                if e + within > t:
                    due = min(due, e + within)
                else:
                    n += 1
                    due = due if start is None else min(due, e + start)
        return int(least <= n <= most), due

    return leaf


def _next(kept: Kept | None, offsets: list[int], t: int) -> int:
    """Return the first instant after t at which an event's time plus one of the offsets is reached."""
    due = NEVER
    for offset in offsets if kept is not None else ():
        at = bisect_right(kept.times, t - offset)  # type: ignore[union-attr]
        if at < len(kept.times):  # type: ignore[union-attr]
            due = min(due, kept.times[at] + offset)  # type: ignore[union-attr]
    return due


def _chosen_answer(measure: Measure, number: int, streams: Streams) -> Callable[[list[tuple[Any, ...]]], tuple[int | None, int]]:
    if measure.aggregate == "count":
        return lambda rows: (len(rows), 0)
    column = streams.all[number].column("value" if measure.aggregate == "distinct" else "units", str(measure.of))
    answer = _aggregate(measure, 0)

    def chosen(rows: list[tuple[Any, ...]]) -> tuple[int | None, int]:
        kept = Kept(1)
        kept.columns[0].extend(row[column] for row in rows)
        return answer(kept, 0, len(rows))

    return chosen


def _step(step: Step, before: Stream, streams: Streams) -> Holds:
    """Return whether a step holds after an event of the stream before."""
    number = streams.number(step.events)
    stream, within, needed = streams.all[number], step.within, step.at_least
    mine = before.column("tie", step.same) if step.same else None
    theirs = stream.column("tie", step.same) if step.same else None
    deeper = _step(step.then, stream, streams) if step.then is not None else None

    def after(kept: list[Kept | None], time: int, values: tuple[Any, ...]) -> list[int]:
        follower = kept[number]
        if follower is None:
            return []
        times = follower.times
        found = range(bisect_right(times, time), len(times) if within is None else bisect_right(times, time + within))
        if mine is None or theirs is None:
            return list(found)
        ties = follower.columns[theirs]
        return [i for i in found if ties[i] == values[mine]]

    def holds(kept: list[Kept | None], time: int, values: tuple[Any, ...], t: int) -> bool:
        if mine is not None and values[mine] is None:
            return False
        if not step.did and within is not None and time + within > t:
            return False
        found = after(kept, time, values)
        if not step.did:
            return not found
        follower = kept[number]
        if deeper is not None and follower is not None:
            found = [i for i in found if deeper(kept, follower.times[i], tuple([c[i] for c in follower.columns]), t)]
        return len(found) >= needed

    return holds


class Route:
    """The streams that events of one name may belong to. Which do is remembered by the values that the filters look at."""

    def __init__(self, streams: list[Stream], name: str) -> None:
        self.streams = [(i, s) for i, s in enumerate(streams) if not s.events.names or name in s.events.names]
        self.asked = sorted({wanted.property for _, s in self.streams for wanted in s.events.where})
        self.known: dict[Any, tuple[list[tuple[int, Stream]], tuple[Hit, ...] | None]] = {}

    def hits(self, time: int, properties: Mapping[str, Value]) -> tuple[Hit, ...]:
        """Return the streams that such an event belongs to, with the values kept there."""
        key: Any = ()
        for name in self.asked:
            value = properties.get(name)
            key = (value.__class__, value, key)
        found = self.known.get(key)
        if found is None:
            if len(self.known) >= FEW:
                self.known.clear()
            passing = [(i, s) for i, s in self.streams if s.accepts(properties)]
            plain = all(s.since is None and not s.columns for _, s in passing)
            found = self.known[key] = passing, tuple([(i, ()) for i, _ in passing]) if plain else None
        passing, always = found
        if always is not None:
            return always
        return tuple([(i, s.values(properties)) for i, s in passing if s.since is None or time >= s.since])
