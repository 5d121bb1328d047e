"""The batch executor: every measure of a block of customers at many moments, in a few passes over columns.

Measures over the same rows (an event and its filters) are answered together, see `predseg.evaluate.rows`. Rows that were
not visible from their time on are the exception: only the customers who have some are answered again, moment by moment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import pairwise

import numpy as np

from predseg.evaluate.block import NEVER, Array, Block, always
from predseg.evaluate.grid import Places
from predseg.evaluate.matching import matching
from predseg.evaluate.rows import LARGEST, Found, Rows, instants
from predseg.evaluate.sequences import following
from predseg.language import conditions as c
from predseg.language.measures import SCALE, Aggregate, Comparison, Events, Measure, in_units


@dataclass(frozen=True)
class Values:
    """A measure of n customers at m moments, exact: see `predseg.language.measures.as_float` for the units."""

    aggregate: Aggregate
    number: Array  # int64 (n, m), 0 where missing
    present: Array  # bool (n, m); where false it is missing
    count: Array | None = None  # int64 (n, m), 0 where missing
    squares: Array | None = None  # int64 (n, m)

    def to_float(self, out: Array | None = None) -> Array:
        """Return float64 (n, m), in ``out`` when given. NaN where missing: number and count are 0 there, and 0 / 0 is NaN."""
        if self.aggregate in ("count", "distinct"):  # whole, and never missing: nothing is divided
            whole = np.empty(self.number.shape) if out is None else out
            whole[...] = self.number
            return whole
        parts: list[Array | None] = [self.number, self.count, self.squares]
        if self.squares is not None:  # products of whole numbers would not fit
            parts = [None if part is None else part.astype(np.float64) for part in parts]
        with np.errstate(divide="ignore", invalid="ignore"):
            numerator, unit = in_units(self.aggregate, *parts)
            return np.divide(numerator, unit if self.never_missing or self.count is not None else self.present * unit, out=out)

    @property
    def never_missing(self) -> bool:
        """Whether it always has a value: what says so is a view of one flag."""
        return not self.present.flags.writeable

    def replace(self, customers: Array, moment: int, patch: Values) -> None:
        """Overwrite some customers at one moment."""
        for name in ("number", "present", "count", "squares"):
            if (mine := getattr(self, name)) is not None and mine.flags.writeable:
                mine[customers, moment] = getattr(patch, name)[:, 0]


@dataclass(frozen=True)
class Truth:
    """A condition of n customers at m moments in three values; ``true`` and ``unknown`` are bool (n, m) and never both.

    Where each is asked at one moment they may be bits instead, see `predseg.evaluate.bits`.
    """

    true: Array
    unknown: Array

    @classmethod
    def of(cls, true: Array) -> Truth:
        """Return the truth of what is always known."""
        return cls(true, always(False, true.shape))

    @property
    def possible(self) -> Array:
        """Where it is true or may be; the same array as ``true`` when it is always known."""
        return self.true | self.unknown if self.unknown.flags.writeable else self.true


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
    answers = dict(answered(block, as_of, measures, known=known))
    return [answers[m] for m in measures]


def answered(block: Block, as_of: Sequence[int], measures: Iterable[Measure], *, known: int | None = None) -> Iterator[tuple[Measure, Values]]:
    """Yield every measure, once, with its answers; see `evaluate`. Measures over the same rows come together."""
    if known is not None:
        visible = block.received <= known
        block = block if bool(visible.all()) and block.hidden is None else block.keep(visible & _shown(block, known))
    moments, asked = np.asarray(as_of, np.int64), list(dict.fromkeys(measures))
    corrections = late_corrections(block, moments, asked) if known is None else []
    for measure, values in _Pass(block, moments).answers(asked):
        for customers, moment, right in corrections:
            values.replace(customers, moment, right[measure])
        yield measure, values


def known_customers(block: Block, as_of: Sequence[int]) -> Array:
    """Return bool (n, m): who has any event visible at each moment."""
    if block.hidden is None:
        return np.asarray(block.first[:, None] <= np.asarray(as_of, np.int64))
    seen = [np.bincount(block.customer[block.visible(slice(None), t)], minlength=block.size) > 0 for t in as_of]
    return np.array(seen, bool).reshape(len(seen), block.size).T


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
    shape = (block.size, len(as_of))
    found = facts(condition, np.repeat(block.customers, shape[1]), np.tile(np.asarray(as_of, np.int64), shape[0]))
    return Truth(found.true.reshape(shape), found.unknown.reshape(shape))


def layer(condition: c.Layer, parts: Sequence[Truth]) -> Truth:
    """Combine the truths of the parts in Kleene's logic."""
    if isinstance(condition, c.Holds):
        return Truth.of(parts[0].true if condition.member else ~parts[0].true)
    certain, maybe = [part.true for part in parts], [part.possible for part in parts]
    decided = all(t is p for t, p in zip(certain, maybe, strict=True))
    true = _enough(condition, certain)
    possible = true if decided else _enough(condition, maybe)
    if isinstance(condition, c.NoneOf):
        true, possible = ~possible, ~true
    return Truth.of(true) if decided else Truth(true, possible & ~true)


def _enough(condition: c.Layer, parts: Sequence[Array]) -> Array:
    """Return where enough of the parts are true; for `none`, where one is."""
    if isinstance(condition, c.Some):
        return _at_least(condition.at_least, parts)
    return reduce(np.bitwise_and if isinstance(condition, c.All) else np.bitwise_or, parts)


def _at_least(wanted: int, parts: Sequence[Array]) -> Array:
    """Return where so many of the parts are true: with each part it is known better where one, two, three ... are."""
    found = [np.zeros_like(parts[0])] * wanted
    for part in parts:
        found = [found[0] | part, *(more | (before & part) for before, more in pairwise(found))]
    return found[-1]


def compare(values: Values, comparison: Comparison) -> Truth:
    """Compare exactly; where the value is missing the truth is unknown."""
    number: Array = values.number
    scale = SCALE if values.aggregate in ("sum", "min", "max", "avg") else 1
    low, high = _bounds(comparison, scale)
    if values.aggregate == "avg":
        passed = _compare_average(values, comparison)
    else:
        passed = np.full(number.shape, True) if low is None else (number >= low) if low <= LARGEST else np.full(number.shape, False)
        if high is not None:
            passed &= (number <= high) if high >= -LARGEST else False
    return Truth.of(passed) if values.never_missing else Truth(passed & values.present, ~values.present)


_bounds = lru_cache(maxsize=1024)(Comparison.bounds)


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


def rows_of(block: Block, events: Events) -> Array | slice:
    """Return the rows of some events: their positions, or a slice when it is all of them."""
    return matching(block, events) if events.names or events.where else slice(None)


def _shown(block: Block, known: int) -> Array:
    return np.ones(len(block.time), bool) if block.hidden is None else block.hidden > known


def late_corrections(block: Block, moments: Array, measures: list[Measure]) -> list[tuple[Array, int, dict[Measure, Values]]]:
    """Answer, from their visible rows alone, for customers of whom something was not yet, or no longer, theirs at a moment."""
    if block.received is block.time and block.hidden is None:
        return []
    special = (block.received > block.time) | (False if block.hidden is None else block.hidden < NEVER)
    if not special.any():
        return []
    customer, found = block.customer, []
    for moment, t in enumerate(moments):
        wrong = special & (block.time <= t) & ((block.received > t) | ~_shown(block, t))
        customers = np.unique(customer[wrong])
        if len(customers):
            visible = (block.time <= t) & (block.received <= t) & _shown(block, t)
            right = _Pass(block.keep(visible, customers), moments[moment : moment + 1]).answers(measures)
            found.append((customers, moment, dict(right)))
    return found


class _Pass:
    """One walk over a block in which every row is visible from its time on."""

    def __init__(self, block: Block, moments: Array) -> None:
        self.block, self.moments, self.customer = block, moments, block.customer

    def answers(self, measures: list[Measure]) -> Iterator[tuple[Measure, Values]]:
        """Answer the measures, those over the same rows together."""
        same_rows: dict[object, list[Measure]] = defaultdict(list)
        for measure in measures:
            same_rows[measure.events, measure.then].append(measure)
        self.places = Places(instants([m.window for m in measures], self.moments), self.block)
        for group in same_rows.values():
            yield from self._plain(group) if group[0].then is None else self._sequences(group)

    def _plain(self, group: list[Measure]) -> Iterator[tuple[Measure, Values]]:
        rows = self._rows(group, rows_of(self.block, group[0].events), self.moments)
        yield from ((m, _values(m, rows.answer(m))) for m in group)

    def _sequences(self, group: list[Measure]) -> Iterator[tuple[Measure, Values]]:
        """Which rows are followed changes with the moment: each moment has its own set of rows."""
        step = group[0].then
        assert step is not None
        candidates = matching(self.block, group[0].events)
        at = following(self.block, self.customer, candidates, step)
        parts: dict[Measure, list[Found]] = {m: [] for m in group}
        for moment in np.split(self.moments, range(1, len(self.moments))):
            rows = self._rows(group, candidates[at(int(moment[0]))] if len(moment) else candidates, moment)
            for measure in group:
                parts[measure].append(rows.answer(measure))
        yield from ((m, _values(m, tuple(map(np.concatenate, zip(*found, strict=True))))) for m, found in parts.items())

    def _rows(self, group: list[Measure], rows: Array | slice, moments: Array) -> Rows:
        return Rows(self.block, rows, self.places, moments, [m.window for m in group])


def _values(measure: Measure, found: Found) -> Values:
    """Turn arrays (moments, customers) round; what is never missing needs no memory to say so."""
    number, *others = (part.T for part in found)
    present, *sums = others or [always(True, number.shape)]
    return Values(measure.aggregate, number, present, *sums)
