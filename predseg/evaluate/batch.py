"""The batch executor: every measure of a block of customers at many moments, in a few passes over columns.

For one set of rows (an event and its filters) the kernel finds, for each customer and each boundary of a window, how many
of these rows lie at or before it. Then a count is a difference of two positions, a sum a difference of two prefix sums,
the last event the row before a position. All arithmetic is on int64, so a result never depends on the neighbours in the block.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from predseg.errors import DataError
from predseg.evaluate.block import NEVER, Array, Block, Numbers, Words
from predseg.evaluate.sequences import following
from predseg.language import conditions as c
from predseg.language.measures import SCALE, Aggregate, Comparison, Events, Filter, Measure, Window, as_float
from predseg.language.time import SECOND

LARGEST = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Values:
    """A measure of n customers at m moments, exact: see `predseg.language.measures.as_float` for the units."""

    aggregate: Aggregate
    number: Array  # int64 (n, m)
    present: Array  # bool (n, m); where false it is missing
    count: Array | None = None  # int64 (n, m)
    squares: Array | None = None  # int64 (n, m)

    def to_float(self) -> Array:
        """Return float64 (n, m), NaN where missing."""
        parts = [None if part is None else part.astype(np.float64) for part in (self.number, self.count, self.squares)]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.present, as_float(self.aggregate, *parts), np.nan)

    def replace(self, customers: Array, moment: int, patch: Values) -> None:
        """Overwrite some customers at one moment."""
        for name in ("number", "present", "count", "squares"):
            if (mine := getattr(self, name)) is not None:
                mine[customers, moment] = getattr(patch, name)[:, 0]


@dataclass(frozen=True)
class Truth:
    """A condition of n customers at m moments in three values; ``true`` and ``unknown`` are bool (n, m) and never both."""

    true: Array
    unknown: Array


Facts = Callable[[c.Condition, Array, Array], Truth]
"""Answers what does not follow from events (traits, scores, memberships) for k pairs of customer_id and moment: `Truth` of shape (k)."""


def evaluate(block: Block, as_of: Sequence[int], measures: Sequence[Measure], *, known: int | None = None) -> list[Values]:
    """Answer every measure for every customer of the block at every moment.

    Args:
        block: Whole histories.
        as_of: m moments (microseconds).
        measures: What to answer; equal measures are answered once.
        known: None for what was visible at each moment; an instant for everything received by then (labels).

    Returns:
        One `Values` per measure, each (customers, m).
    """
    if known is not None:
        visible = block.received <= known
        block = block if bool(visible.all()) and block.hidden is None else block.keep(visible & _shown(block, known))
    moments = np.asarray(as_of, np.int64)
    answers = _Pass(block, moments).answers(list(dict.fromkeys(measures)))
    if known is None:
        _correct_for_late_rows(block, moments, answers)
    return [answers[m] for m in measures]


def known_customers(block: Block, as_of: Sequence[int]) -> Array:
    """Return bool (n, m): who has any event visible at each moment."""
    [seen] = evaluate(block, as_of, [Measure(Events())])
    return seen.number > 0


def truth(block: Block, as_of: Sequence[int], condition: c.Condition, *, known: int | None = None, facts: Facts | None = None) -> Truth:
    """Decide a condition for every customer of the block at every moment."""
    needed = c.measures(condition)
    answers = dict(zip(needed, evaluate(block, as_of, needed, known=known), strict=True))
    return decide(condition, answers, block, as_of, facts)


def decide(condition: c.Condition, answers: dict[Measure, Values], block: Block, as_of: Sequence[int], facts: Facts | None) -> Truth:
    """Decide a condition whose measures are answered already."""
    if isinstance(condition, c.Did):
        return compare(answers[condition.measure], condition.comparison)
    if isinstance(condition, c.LAYERS):
        return layer(condition, [decide(part, answers, block, as_of, facts) for part in condition.of])
    if facts is None:
        raise TypeError(f"{type(condition).__name__} needs facts")
    shape = (len(block.customers), len(as_of))
    found = facts(condition, np.repeat(block.customers, shape[1]), np.tile(np.asarray(as_of, np.int64), shape[0]))
    return Truth(found.true.reshape(shape), found.unknown.reshape(shape))


def layer(condition: c.Layer, parts: Sequence[Truth]) -> Truth:
    """Combine the truths of the parts in Kleene's logic."""
    if isinstance(condition, c.Holds):
        return Truth(parts[0].true == condition.member, np.zeros_like(parts[0].unknown))
    true = np.sum([p.true for p in parts], axis=0, dtype=np.int64)
    possible = true + np.sum([p.unknown for p in parts], axis=0, dtype=np.int64)
    if isinstance(condition, c.NoneOf):
        return Truth(possible == 0, (true == 0) & (possible > 0))
    needed = len(parts) if isinstance(condition, c.All) else 1 if isinstance(condition, c.Any) else condition.at_least
    return Truth(true >= needed, (true < needed) & (possible >= needed))


def compare(values: Values, comparison: Comparison) -> Truth:
    """Compare exactly; where the value is missing the truth is unknown."""
    number: Array = values.number
    scale = SCALE if values.aggregate in ("sum", "min", "max", "avg") else 1
    low, high = comparison.bounds(scale)
    if values.aggregate == "avg":
        passed = _compare_average(values, comparison)
    else:
        passed = np.ones(number.shape, bool)
        if low is not None:
            passed &= (number >= low) if low <= LARGEST else False
        if high is not None:
            passed &= (number <= high) if high >= -LARGEST else False
    return Truth(passed & values.present, ~values.present)


def _compare_average(values: Values, comparison: Comparison) -> Array:
    """Compare sum with threshold × n, in whole numbers however many digits the threshold has."""
    passed = np.zeros(values.number.shape, bool)
    assert values.count is not None
    at = np.nonzero(values.present)
    pairs = zip(values.number[at].tolist(), values.count[at].tolist(), strict=True)
    low, low_unit = (comparison.low * SCALE).as_integer_ratio()
    high, high_unit = (comparison.high * SCALE).as_integer_ratio() if comparison.high is not None else (0, 1)
    tests: dict[str, Callable[[int, int], bool]] = {
        "more_than": lambda s, n: s * low_unit > low * n,
        "at_least": lambda s, n: s * low_unit >= low * n,
        "less_than": lambda s, n: s * low_unit < low * n,
        "at_most": lambda s, n: s * low_unit <= low * n,
        "exactly": lambda s, n: s * low_unit == low * n,
        "between": lambda s, n: low * n <= s * low_unit and s * high_unit <= high * n,
    }
    test = tests[comparison.op]
    passed[at] = [test(s, n) for s, n in pairs]
    return passed


def matching(block: Block, events: Events) -> Array:
    """Return the positions of the rows that are such an event and pass its filters."""
    rows = np.ones(len(block.time), bool)
    if events.names:
        named = np.array([name in events.names for name in block.names], bool)
        rows = named[block.event] if len(named) else np.zeros(len(block.time), bool)
    for test in events.where:
        rows = rows & passing(block, test)
    return np.flatnonzero(rows)


def passing(block: Block, test: Filter) -> Array:
    """Return bool (rows): whose property passes. The test itself runs once per distinct value."""
    column = block.properties.get(test.property)
    if column is None:
        return np.full(len(block.time), test.accepts(None))
    if isinstance(column, Words):
        accepted = np.array([*map(test.accepts, column.values), test.accepts(None)], bool)
        return accepted[column.codes]
    from decimal import Decimal

    units, inverse = np.unique(column.units, return_inverse=True)
    accepted = np.array([test.accepts(Decimal(int(u)) / column.scale) for u in units], bool)
    return np.where(column.present, accepted[inverse] if len(units) else False, test.accepts(None))


def _shown(block: Block, known: int) -> Array:
    return np.ones(len(block.time), bool) if block.hidden is None else block.hidden > known


def _correct_for_late_rows(block: Block, moments: Array, answers: dict[Measure, Values]) -> None:
    """Answer again, from their visible rows alone, for customers of whom something was not yet, or no longer, theirs."""
    special = (block.received > block.time) | (False if block.hidden is None else block.hidden < NEVER)
    if not special.any():
        return
    customer = block.customer
    for moment, t in enumerate(moments):
        wrong = special & (block.time <= t) & ((block.received > t) | ~_shown(block, t))
        customers = np.unique(customer[wrong])
        if len(customers):
            visible = (block.time <= t) & (block.received <= t) & _shown(block, t)
            patch = _Pass(block.keep(visible, customers), moments[moment : moment + 1]).answers(list(answers))
            for measure, values in answers.items():
                values.replace(customers, moment, patch[measure])


class _Pass:
    """One walk over a block in which every row is visible from its time on."""

    def __init__(self, block: Block, moments: Array) -> None:
        self.block, self.moments, self.customer = block, moments, block.customer

    def answers(self, measures: list[Measure]) -> dict[Measure, Values]:
        """Answer the measures, those over the same rows together."""
        same_rows: dict[object, list[Measure]] = defaultdict(list)
        for measure in measures:
            same_rows[measure.events if measure.then is None else (measure.events, measure.then)].append(measure)
        found: dict[Measure, Values] = {}
        grid = np.unique(np.concatenate([np.zeros(0, np.int64), *(e for m in measures for e in edges(m.window, self.moments) if e is not None)]))
        bucket = np.searchsorted(grid, self.block.time, "left")
        for group in same_rows.values():
            rows = matching(self.block, group[0].events)
            if group[0].then is None:
                found |= Rows(self.block, self.customer, rows, grid, bucket[rows]).answers(group, self.moments)
            else:
                found |= self._sequences(group, rows, grid, bucket)
        return found

    def _sequences(self, group: list[Measure], rows: Array, grid: Array, bucket: Array) -> dict[Measure, Values]:
        """Which rows are followed changes with the moment: each moment has its own set of rows."""
        step = group[0].then
        assert step is not None
        at = following(self.block, self.customer, rows, step, matching)
        parts = []
        for t in self.moments:
            chosen = rows[at(int(t))]
            parts.append(Rows(self.block, self.customer, chosen, grid, bucket[chosen]).answers(group, np.array([t])))
        return {m: _side_by_side([part[m] for part in parts], len(self.block.customers)) for m in group}


def _side_by_side(parts: list[Values], n: int) -> Values:
    if not parts:
        return Values("count", np.zeros((n, 0), np.int64), np.zeros((n, 0), bool))
    joined = {name: [getattr(p, name) for p in parts] for name in ("number", "present", "count", "squares")}
    arrays = {name: None if found[0] is None else np.concatenate(found, axis=1) for name, found in joined.items()}
    return Values(parts[0].aggregate, **arrays)  # type: ignore[arg-type]


def edges(window: Window, moments: Array) -> tuple[Array | None, Array]:
    """Return the last instants before and in the window, per moment; no first one when it starts at the beginning."""
    end = moments - window.until
    if window.since is not None:
        return np.minimum(np.full_like(moments, window.since - 1), end), end
    return (None if window.start is None else moments - window.start), end


class Rows:
    """The rows of one event and filter, and where each customer's windows begin and end among them."""

    def __init__(self, block: Block, customer: Array, rows: Array, grid: Array, bucket: Array) -> None:
        self.block, self.rows, self.grid = block, rows, grid
        self.customer, self.time, self.bucket = customer[rows], block.time[rows], bucket
        self.positions = self._positions(self.customer, bucket)
        self._cache: dict[object, Array] = {}

    def _positions(self, customer: Array, bucket: Array) -> Array:
        """Return int64 (boundaries + 1, customers): how many rows lie at or before; the last one is the customer's end."""
        n, m = len(self.block.customers), len(self.grid) + 1
        counts = np.bincount(customer * m + bucket, minlength=n * m)
        return np.ascontiguousarray(np.cumsum(counts).reshape(n, m).T)

    def answers(self, measures: Sequence[Measure], moments: Array) -> dict[Measure, Values]:
        """Answer measures over these rows, each (customers, moments)."""
        return {m: self.answer(m, moments) for m in measures}

    def answer(self, measure: Measure, moments: Array) -> Values:
        """Answer one measure: (customers, moments)."""
        shape = (len(moments), len(self.block.customers))
        parts = [np.zeros(shape, np.int64), np.ones(shape, bool), np.zeros(shape, np.int64), np.zeros(shape, np.int64)]
        answer = _ANSWERS[measure.aggregate]
        start, end = edges(measure.window, moments)
        filled = 2
        for k, t in enumerate(moments):
            found = answer(self, measure, None if start is None else int(start[k]), int(end[k]), int(t))
            filled = len(found)
            for part, values in zip(parts, found, strict=False):
                part[k] = values
        number, present, count, squares = (part.T for part in parts)
        return Values(measure.aggregate, number, present, count if filled > 2 else None, squares if filled > 3 else None)

    def between(self, start: int | None, end: int, positions: Array | None = None) -> tuple[Array, Array]:
        """Return the first row in (start, end] and the first row after it, per customer."""
        positions = self.positions if positions is None else positions
        upper = positions[np.searchsorted(self.grid, end)]
        if start is not None:
            return positions[np.searchsorted(self.grid, start)], upper
        return np.concatenate([[0], positions[-1, :-1]]) if len(upper) else upper, upper

    def cached(self, key: object, make: Callable[[], Array]) -> Array:
        """Compute a column of these rows once."""
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    def numbers(self, name: str | None) -> Numbers:
        """Return a property of these rows as ten-thousandths.

        Raises DataError when it is not a number.
        """
        column = self.block.properties.get(str(name))
        if column is None or (isinstance(column, Words) and not column.values):
            return Numbers(np.zeros(len(self.rows), np.int64), np.zeros(len(self.rows), bool))
        if isinstance(column, Words):
            found = next(v for v in column.values if v is not None)
            raise DataError(
                "E430",
                f"property {name!r}",
                f"cannot be summed or compared as a number: found {found!r}",
                "cast it in the source's `query`, or use `distinct`",
            )
        taken = column.take(self.rows)
        return taken if taken.scale == SCALE else Numbers(taken.units * (SCALE // taken.scale), taken.present)


Found = tuple[Array, ...]


def _count(rows: Rows, measure: Measure, start: int | None, end: int, t: int) -> Found:
    lower, upper = rows.between(start, end)
    return upper - lower, np.True_  # type: ignore[return-value]


def _prefix(rows: Rows, key: object, make: Callable[[], Array]) -> Array:
    return rows.cached(key, lambda: np.concatenate([[0], np.cumsum(make())]))


def _sum(rows: Rows, measure: Measure, start: int | None, end: int, t: int) -> Found:
    lower, upper = rows.between(start, end)
    total = _prefix(rows, ("sum", measure.of), lambda: rows.numbers(measure.of).units)
    return total[upper] - total[lower], np.True_  # type: ignore[return-value]


def _avg(rows: Rows, measure: Measure, start: int | None, end: int, t: int) -> Found:
    lower, upper = rows.between(start, end)
    present = _prefix(rows, ("present", measure.of), lambda: rows.numbers(measure.of).present.astype(np.int64))
    count = present[upper] - present[lower]
    return _sum(rows, measure, start, end, t)[0], count > 0, count


def _extreme(rows: Rows, measure: Measure, start: int | None, end: int, t: int) -> Found:
    worst, choose = (-LARGEST, np.maximum) if measure.aggregate == "max" else (LARGEST, np.minimum)

    def column() -> Array:
        numbers = rows.numbers(measure.of)
        return np.append(np.where(numbers.present, numbers.units, worst), worst)

    values = rows.cached((measure.aggregate, measure.of), column)
    lower, upper = rows.between(start, end)
    ends = np.stack([lower, upper], axis=1).ravel()
    found = np.where(upper > lower, choose.reduceat(values, ends)[::2], worst) if len(ends) else lower
    return np.where(found == worst, 0, found), found != worst


def _since(rows: Rows, measure: Measure, start: int | None, end: int, t: int) -> Found:
    lower, upper = rows.between(start, end)
    present = upper > lower
    at = lower if measure.aggregate == "days_since_first" else upper - 1
    time = rows.time[np.where(present, at, 0)] if len(rows.time) else 0
    return np.where(present, t - time, 0), present


def _gaps(rows: Rows) -> Array:
    """Seconds since the row before; meaningless on a customer's first."""
    return np.diff(rows.time, prepend=rows.time[:1]) // SECOND


def _gap(rows: Rows, measure: Measure, start: int | None, end: int, t: int) -> Found:
    lower, upper = rows.between(start, end)
    gaps = np.maximum(upper - lower - 1, 0)
    if measure.aggregate == "gap_std":
        seconds = _prefix(rows, "gaps", lambda: _gaps(rows))
        squares = _prefix(rows, "squares", lambda: _gaps(rows) ** 2)
        first = np.minimum(lower + 1, upper)
        return (
            np.where(gaps > 1, seconds[upper] - seconds[first], 0),
            gaps > 1,
            np.maximum(gaps, 1),
            np.where(gaps > 1, squares[upper] - squares[first], 0),
        )
    present = gaps > 0
    before = lower if measure.aggregate == "gap_mean" else upper - 2
    time = rows.time if len(rows.time) else np.zeros(1, np.int64)
    span = np.where(present, time[np.where(present, upper - 1, 0)] - time[np.where(present, before, 0)], 0)
    return (span, present, np.maximum(gaps, 1)) if measure.aggregate == "gap_mean" else (span, present)


def _distinct(rows: Rows, measure: Measure, start: int | None, end: int, t: int) -> Found:
    """Count, among the rows of the window, those whose value does not come again within it."""
    customer, following_same, positions = rows.cached(("elements", measure.of), lambda: _elements(rows, measure.of))  # type: ignore[misc]
    lower, upper = rows.between(start, end, positions)

    def last_of_its_value() -> Array:
        stop = upper[customer]
        return np.concatenate([[0], np.cumsum((following_same >= stop) & (np.arange(len(customer)) < stop))])

    last = rows.cached(("last", measure.of, end), last_of_its_value)
    return last[upper] - last[lower], np.True_  # type: ignore[return-value]


def _elements(rows: Rows, name: str | None) -> tuple[Array, Array, Array]:
    """Return per element of the property (a list has several): its customer, the next element with the same value, and positions."""
    column = rows.block.properties.get(str(name))
    at = np.arange(len(rows.rows))
    if column is None:
        at, codes = at[:0], at[:0]
    elif isinstance(column, Numbers):
        taken = column.take(rows.rows)
        at = np.flatnonzero(taken.present)
        codes = np.unique(taken.units[at], return_inverse=True)[1]
    else:
        at, codes = _word_elements(column.take(rows.rows))
    customer = rows.customer[at]
    following_same = np.full(len(at), LARGEST)
    order = np.lexsort((np.arange(len(at)), codes, customer))
    again = (customer[order][1:] == customer[order][:-1]) & (codes[order][1:] == codes[order][:-1])
    following_same[order[:-1][again]] = order[1:][again]
    return customer, following_same, rows._positions(customer, rows.bucket[at])


def _word_elements(column: Words) -> tuple[Array, Array]:
    elements: dict[object, int] = {}
    lists = [
        [elements.setdefault((type(e), e), len(elements)) for e in (v if isinstance(v, tuple) else (v,)) if e is not None] for v in column.values
    ]
    lengths = np.array([*map(len, lists), 0], np.int64)
    flat = np.array([e for values in lists for e in values], np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)])[:-1]
    counts = lengths[column.codes]
    at = np.repeat(np.arange(len(column.codes)), counts)
    within = np.arange(len(at)) - np.repeat(np.cumsum(counts) - counts, counts)
    return at, flat[starts[column.codes][at] + within] if len(at) else at


_ANSWERS: dict[str, Callable[[Rows, Measure, int | None, int, int], Found]] = {
    "count": _count,
    "sum": _sum,
    "avg": _avg,
    "min": _extreme,
    "max": _extreme,
    "distinct": _distinct,
    "days_since_first": _since,
    "days_since_last": _since,
    "gap_mean": _gap,
    "gap_std": _gap,
    "gap_last": _gap,
}
