"""The reference executor: one customer, one moment, plain Python over the list of events, with the events behind every answer.

It is written to be read, not to be fast: the other executors are tested against it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from predseg.language import conditions as c
from predseg.language.measures import SCALE, Aggregate, Comparison, Events, Measure, Step, Value, as_float, kind_of, units_of
from predseg.language.time import SECOND


@dataclass(frozen=True)
class Event:
    """One event of a customer. ``received`` is when we learned of it; numbers in ``properties`` are `decimal.Decimal`."""

    time: int
    name: str
    properties: Mapping[str, Value] = field(default_factory=dict)
    received: int | None = None

    @property
    def visible(self) -> int:
        """The instant from which it counts."""
        return self.time if self.received is None else max(self.time, self.received)


@dataclass(frozen=True)
class Answer:
    """A measure of one customer at one moment, in the units of `predseg.language.measures.as_float`; None is missing."""

    aggregate: Aggregate
    number: int | None
    count: int = 0
    squares: int = 0
    events: tuple[Event, ...] = ()

    def to_float(self) -> float:
        """Return the number as a feature, NaN where missing."""
        if self.number is None:
            return float("nan")
        return float(as_float(self.aggregate, float(self.number), float(self.count), float(self.squares)))


Truth = bool | None
"""True, False, or None for unknown."""

Facts = Callable[[c.Condition, int], Truth]
"""Answers what does not follow from events: traits, scores, memberships."""


def measure(measure: Measure, events: Iterable[Event], t: int, *, known: int | None = None) -> Answer:
    """Answer a measure at t.

    Args:
        measure: What to answer.
        events: The events of one customer, in any order.
        t: The moment (microseconds).
        known: None for what was visible at t; an instant for everything received by then (labels).
    """
    seen = [e for e in events if e.visible <= (t if known is None else known)]
    chosen = [e for e in _matching(seen, measure.events) if measure.window.contains(e.time, t)]
    if measure.then is not None:
        chosen = [e for e in chosen if _followed(e, measure.then, [x for x in seen if x.time <= t], t)]
    chosen.sort(key=lambda e: e.time)
    return _aggregate(measure, chosen, t)


def decide(condition: c.Condition, events: Sequence[Event], t: int, *, known: int | None = None, facts: Facts | None = None) -> Truth:
    """Decide a condition at t in Kleene's logic."""
    if isinstance(condition, c.Did):
        return compare(measure(condition.measure, events, t, known=known), condition.comparison)
    if isinstance(condition, c.LAYERS):
        return layer(condition, [decide(part, events, t, known=known, facts=facts) for part in condition.of])
    if facts is None:
        raise TypeError(f"{type(condition).__name__} needs facts")
    return facts(condition, t)


def layer(condition: c.Layer, parts: Sequence[Truth]) -> Truth:
    """Combine the truths of the parts in Kleene's logic.

    >>> layer(c.All(()), [True, None]), layer(c.Any(()), [True, None]), layer(c.NoneOf(()), [False, None])
    (None, True, None)
    """
    true, unknown = parts.count(True), parts.count(None)
    if isinstance(condition, c.Holds):
        return (parts[0] is True) == condition.member
    if isinstance(condition, c.NoneOf):
        return False if true else None if unknown else True
    needed = len(parts) if isinstance(condition, c.All) else 1 if isinstance(condition, c.Any) else condition.at_least
    return True if true >= needed else None if true + unknown >= needed else False


def compare(answer: Answer, comparison: Comparison) -> Truth:
    """Compare exactly; a missing answer is unknown."""
    if answer.number is None:
        return None
    number = Fraction(answer.number)
    if answer.aggregate == "avg":
        number /= answer.count
    if answer.aggregate in ("sum", "avg", "min", "max"):
        number /= SCALE
    low = Fraction(comparison.low)
    match comparison.op:
        case "more_than":
            return number > low
        case "at_least":
            return number >= low
        case "less_than":
            return number < low
        case "at_most":
            return number <= low
        case "exactly":
            return number == low
    return comparison.high is not None and low <= number <= Fraction(comparison.high)


def _matching(events: Iterable[Event], wanted: Events) -> list[Event]:
    named = (e for e in events if not wanted.names or e.name in wanted.names)
    return [e for e in named if all(f.accepts(e.properties.get(f.property)) for f in wanted.where)]


def _followed(event: Event, step: Step, seen: list[Event], t: int) -> bool:
    """Whether the step holds after the event, seen from t."""
    tie = event.properties.get(step.same) if step.same else None
    if step.same and tie is None:
        return False
    last = t if step.within is None else event.time + step.within
    after = [e for e in _matching(seen, step.events) if event.time < e.time <= last and (not step.same or _tied(e.properties.get(step.same), tie))]
    if not step.did:
        return not after and (step.within is None or event.time + step.within <= t)
    deeper = step.then
    return len(after if deeper is None else [e for e in after if _followed(e, deeper, seen, t)]) >= step.at_least


def _tied(value: Value, tie: Value) -> bool:
    return kind_of(value) == kind_of(tie) and value == tie  # Python holds True == 1


def _aggregate(measure: Measure, chosen: list[Event], t: int) -> Answer:
    """Reduce the chosen events, sorted by time."""
    kind, n = measure.aggregate, len(chosen)
    evidence = tuple(chosen)
    times = [e.time for e in chosen]
    if kind == "count":
        return Answer(kind, n, events=evidence)
    if kind in ("days_since_first", "days_since_last"):
        return Answer(kind, None if not n else t - (times[0] if kind == "days_since_first" else times[-1]), events=evidence)
    if kind.startswith("gap"):
        return _gap(kind, times, evidence)
    values = [e.properties.get(str(measure.of)) for e in chosen]
    if kind == "distinct":
        return Answer(kind, len({(type(x), x) for v in values for x in (v if isinstance(v, tuple) else (v,)) if x is not None}), events=evidence)
    units = [u for v in values if (u := units_of(v)) is not None]
    if kind in ("sum", "avg"):
        return Answer(kind, None if kind == "avg" and not units else sum(units), len(units), events=evidence)
    return Answer(kind, (min(units) if kind == "min" else max(units)) if units else None, events=evidence)


def _gap(kind: Aggregate, times: list[int], evidence: tuple[Event, ...]) -> Answer:
    gaps = [later - earlier for earlier, later in zip(times, times[1:], strict=False)]
    if not gaps or (kind == "gap_std" and len(gaps) < 2):
        return Answer(kind, None, events=evidence)
    if kind == "gap_last":
        return Answer(kind, gaps[-1], events=evidence)
    if kind == "gap_mean":
        return Answer(kind, sum(gaps), len(gaps), events=evidence)
    seconds = [gap // SECOND for gap in gaps]
    return Answer(kind, sum(seconds), len(seconds), sum(s * s for s in seconds), evidence)
