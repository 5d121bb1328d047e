"""Declarations of what is measured about a history: events, filters, windows, sequences, aggregates.

Everything here is a frozen value: it says what to measure and never measures. Equal declarations are equal objects,
so whoever evaluates them does it once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from math import ceil, floor
from typing import Any, Literal, TypeVar

from predseg.language.time import DAY, SECOND, short_duration

SCALE = 10_000
"""Money and other aggregated numbers are whole ten-thousandths."""

Declared = TypeVar("Declared")


def hashed_once(declared: type[Declared]) -> type[Declared]:
    """Let the values of a frozen dataclass remember their hash: rules are looked up once per block, and nest deeply."""
    count = declared.__hash__

    def remembered(self: Declared) -> int:
        found = self.__dict__.get("_hash")
        if found is None:
            found = self.__dict__["_hash"] = count(self)
        return found

    def state(self: Declared) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_hash"}  # another process counts differently

    declared.__hash__, declared.__getstate__ = remembered, state  # type: ignore[method-assign, assignment]
    return declared


Value = str | bool | int | Decimal | None | tuple[Any, ...]
Op = Literal["more_than", "at_least", "less_than", "at_most", "exactly", "between"]
COMPARISONS: tuple[Op, ...] = ("more_than", "at_least", "less_than", "at_most", "exactly", "between")
Aggregate = Literal["count", "sum", "avg", "min", "max", "distinct", "days_since_first", "days_since_last", "gap_mean", "gap_std", "gap_last"]
PROPERTY_AGGREGATES: tuple[Aggregate, ...] = ("sum", "avg", "min", "max", "distinct")


@hashed_once
@dataclass(frozen=True)
class Comparison:
    """A threshold in exact decimals; ``between`` includes both ends."""

    op: Op
    low: Decimal
    high: Decimal | None = None

    def accepts(self, value: Decimal | int) -> bool:
        """Whether an exact number passes."""
        low = self.low
        match self.op:
            case "more_than":
                return value > low
            case "at_least":
                return value >= low
            case "less_than":
                return value < low
            case "at_most":
                return value <= low
            case "exactly":
                return value == low
        return self.high is not None and low <= value <= self.high

    def bounds(self, scale: int = 1) -> tuple[int | None, int | None]:
        """Return the closed interval of whole multiples of 1/scale that pass; None is unbounded, low > high is empty.

        >>> Comparison("more_than", Decimal("5000")).bounds(SCALE)
        (50000001, None)
        >>> Comparison("exactly", Decimal("0.5")).bounds()
        (1, 0)
        """
        low = Fraction(self.low) * scale  # decimals would round a threshold of many digits
        match self.op:
            case "more_than":
                return floor(low) + 1, None
            case "at_least":
                return ceil(low), None
            case "less_than":
                return None, ceil(low) - 1
            case "at_most":
                return None, floor(low)
            case "exactly":
                return ceil(low), floor(low)
        return ceil(low), floor(Fraction(self.high or 0) * scale)


@hashed_once
@dataclass(frozen=True, eq=False)
class Test:
    """One test of a property: ``is`` (any of the operands), ``not`` (none of them), ``contains``, ``exists``, or a comparison.

    Python holds ``True == 1``; the language does not, so equality looks at the kinds of the operands too.
    """

    op: str
    operands: tuple[Any, ...]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Test) and self._meaning == other._meaning

    def __hash__(self) -> int:
        return hash(self._meaning)

    @cached_property
    def _meaning(self) -> tuple[Any, ...]:
        return self.op, self.operands, tuple(map(kind_of, self.operands))

    def accepts(self, value: Value) -> bool:
        """Whether the value passes. A missing or wrong-typed value fails every test but ``exists: false``.

        >>> Test("not", ("bronze",)).accepts("gold"), Test("not", ("bronze",)).accepts(None), Test("not", ("bronze",)).accepts(Decimal(1))
        (True, False, False)
        """
        if self.op == "exists":
            return (value is not None) == self.operands[0]
        if isinstance(value, tuple):
            return any(self.accepts(element) for element in value)
        if value is None:
            return False
        return self._single(value)

    @cached_property
    def _operands(self) -> dict[str, frozenset[Any]]:
        """The operands of each kind."""
        return {kind: frozenset(o for o in self.operands if kind_of(o) == kind) for kind in set(map(kind_of, self.operands))}

    def _single(self, value: Any) -> bool:
        operands = self._operands.get(kind_of(value))
        if operands is None:
            return False
        match self.op:
            case "is":
                return value in operands
            case "not":
                return value not in operands
            case "contains":
                return self.operands[0] in value
        return Comparison(self.op, *self.operands).accepts(value)  # type: ignore[arg-type]


def kind_of(value: object) -> str:
    """Return flag, number or text: values of different kinds are never equal.

    >>> kind_of(True), kind_of(1), kind_of("1")
    ('flag', 'number', 'text')
    """
    return "flag" if isinstance(value, bool) else "number" if isinstance(value, int | Decimal) else "text"


@hashed_once
@dataclass(frozen=True)
class Filter:
    """All tests that one property must pass."""

    property: str
    tests: tuple[Test, ...]

    def accepts(self, value: Value) -> bool:
        """Whether the value of the property passes all tests."""
        return all(test.accepts(value) for test in self.tests)


@hashed_once
@dataclass(frozen=True)
class Events:
    """Which events are meant: names (none means any event) whose properties pass the filters."""

    names: tuple[str, ...] = ()
    where: tuple[Filter, ...] = ()


@dataclass(frozen=True)
class Window:
    """Seen from t: (t - start, t - until], or [since, ...]. No start and no since means from the beginning."""

    start: int | None = None
    until: int = 0
    since: int | None = None

    def offsets(self) -> tuple[int, ...]:
        """The finite offsets at which an event enters or leaves the window."""
        return tuple(o for o in (self.start, self.until) if o)

    def contains(self, time: int, t: int) -> bool:
        """Whether an event at ``time`` is in the window seen from ``t``."""
        return time <= t - self.until and (self.start is None or time > t - self.start) and (self.since is None or time >= self.since)


@hashed_once
@dataclass(frozen=True)
class Step:
    """What must follow, or must not: strictly later than the step before, and within so many microseconds of it."""

    events: Events
    within: int | None = None
    did: bool = True
    at_least: int = 1
    same: str | None = None
    then: Step | None = None


@hashed_once
@dataclass(frozen=True)
class Measure:
    """One number about a history at a moment: an aggregate over the events in a window."""

    events: Events
    window: Window = field(default_factory=Window)
    aggregate: Aggregate = "count"
    of: str | None = None  # the property that is aggregated
    then: Step | None = None

    def steps(self) -> Iterator[Step]:
        """Yield what must follow, or must not, one step after the other."""
        step = self.then
        while step is not None:
            yield step
            step = step.then

    def properties(self) -> set[str]:
        """The names of all properties that it reads."""
        found = {f.property for f in self.events.where} | ({self.of} if self.of else set())
        for step in self.steps():
            found |= {f.property for f in step.events.where} | ({step.same} if step.same else set())
        return found

    def names(self) -> set[str]:
        """The names of all events that it reads; empty when it, or a step, reads any event."""
        parts = [self.events, *(step.events for step in self.steps())]
        return {name for part in parts for name in part.names} if all(part.names for part in parts) else set()

    @property
    def numeric(self) -> bool:
        """Whether its property must be an exact number."""
        return self.aggregate in ("sum", "avg", "min", "max")

    @property
    def empty_is_zero(self) -> bool:
        """Whether it is 0 over no event (otherwise it is missing)."""
        return self.aggregate in ("count", "sum", "distinct")


def units_of(value: Value) -> int | None:
    """Return a number in ten-thousandths; None of what is no number, which is as good as missing where numbers are summed.

    >>> units_of(Decimal("12.5")), units_of("12.5"), units_of(True)
    (125000, None, None)
    """
    if value.__class__ is Decimal or (isinstance(value, int | Decimal) and not isinstance(value, bool)):
        return int(value * SCALE)
    return None


def as_float(aggregate: Aggregate, number: Any, count: Any, squares: Any) -> Any:
    """Return exact parts as the floating point number of a feature; for float64 scalars and arrays alike, with the same bits.

    Args:
        aggregate: What was measured.
        number: A count; ten-thousandths (sum, avg, min, max); microseconds (days since, mean and last gap); seconds (gap_std).
        count: How many values an average or how many gaps a mean or deviation is over.
        squares: The sum of squared gaps in seconds (gap_std).

    Returns:
        Counts, money as declared, or days. The deviation is that of the population of gaps.
    """
    numerator, unit = in_units(aggregate, number, count, squares)
    return numerator / unit


def in_units(aggregate: Aggregate, number: Any, count: Any, squares: Any) -> tuple[Any, int]:
    """Return what `as_float` divides by what."""
    match aggregate:
        case "count" | "distinct":
            return number, 1
        case "sum" | "min" | "max":
            return number, SCALE
        case "avg":
            return number / count, SCALE
        case "gap_mean":
            return number / count, DAY
        case "gap_std":
            variance = (count * squares - number * number) / (count * count)
            return _root(abs(variance * (variance > 0))) * SECOND, DAY
    return number, DAY


def _root(number: Any) -> Any:
    """The correctly rounded root: ``** 0.5`` of a float and of an array may differ in the last bit."""
    import numpy as np

    return np.sqrt(number)


def slug(text: str) -> str:
    """Return the name of an event as part of a column name.

    >>> slug("Order Completed"), slug("E-Mail  opened!")
    ('order_completed', 'e_mail_opened')
    """
    return "_".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


def column_name(measure: Measure) -> str:
    """Return the column of a measure over one event, by rule.

    >>> order = Events(("Order Completed",))
    >>> column_name(Measure(order, Window(90 * DAY))), column_name(Measure(order, Window(365 * DAY), "sum", "value"))
    ('count_order_completed_90d', 'sum_value_order_completed_365d')
    >>> column_name(Measure(order, Window(), "days_since_last")), column_name(Measure(order, Window(), "days_since_first"))
    ('days_since_order_completed', 'days_since_first_order_completed')
    """
    aggregate = "days_since" if measure.aggregate == "days_since_last" else measure.aggregate
    event = "_or_".join(slug(name) for name in measure.events.names) or "any_event"
    window = short_duration(measure.window.start) if measure.window.start else ""
    return "_".join(part for part in (aggregate, measure.of or "", event, window) if part)
