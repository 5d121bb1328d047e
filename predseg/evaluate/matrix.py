"""Measures of many customers at many moments as columns of floating point numbers, which models are made of.

The numbers are those of the exact answers of `predseg.evaluate.batch`, to the last bit. Where numba is there
(``predseg[fast]``) and a process asks for many, most come from `predseg.evaluate.loops`: without Python's lock, so that all
cores are at work, and without arrays between the rows and the numbers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import get_args

import numpy as np

from predseg.evaluate.batch import Values, answered, late_corrections, rows_of
from predseg.evaluate.block import Array, Block
from predseg.evaluate.grid import Places, buckets
from predseg.evaluate.rows import LARGEST, Rows, gaps, instants, lines, repeated
from predseg.language.measures import Aggregate, Events, Measure

Choice = Callable[[dict[Measure, Values]], Array]
"""Which customers are wanted at which moments, bool (n, m), from the exact answers of some measures."""
KINDS = get_args(Aggregate)
TOGETHER = 1024
"""Customers that the loops take at a time, a power of two: where some hundred windows of theirs begin and end stays in the processor's second cache."""
PAYS = 10_000_000
"""So many numbers NumPy makes, of histories of usual length, in about the time that loading the loops takes."""
FEW = 10_000
"""Fewer numbers at once, as those of a live customer, are always NumPy's, so that nothing is loaded while somebody waits."""


def columns(
    block: Block, as_of: Sequence[int], measures: Sequence[Measure | None], *, also: Sequence[Measure] = (), choose: Choice | None = None
) -> tuple[Array, dict[Measure, Values], Array | None]:
    """Answer measures as floating point numbers, and some exactly.

    Args:
        block: Whole histories.
        as_of: m moments (microseconds).
        measures: What to answer as numbers; None leaves a column for the caller to fill.
        also: What to answer exactly.
        choose: Who is wanted when, decided from the answers of ``also``; everyone at every moment by default.

    Returns:
        float64 (measures, k), NaN where missing, in the order of the measures: the k chosen customers of the first moment, then of the next ...;
        the exact answers of ``also``; and where the chosen lie among all customers of all moments, int64 (k), None for all.
    """
    moments, fill = np.asarray(as_of, np.int64), _pays(len(measures) * block.size * len(as_of))
    asked = _asked(tuple(measures), tuple(moments.tolist()), fill is not None)
    exact: dict[Measure, Values] = {}
    waiting: list[tuple[Measure, Values]] = []  # until it is decided who is wanted
    target = None if also else _Target.of(len(measures), block, moments, choose and choose(exact))
    for measure, values in answered(block, as_of, [*also, *asked.answered]):
        waiting.append((measure, values))
        if measure in also:
            exact[measure] = values
        if target is None and len(exact) == len(set(also)):
            target = _Target.of(len(measures), block, moments, choose and choose(exact))
        while target is not None and waiting:
            one, found = waiting.pop()
            target.write(asked.answered.get(one, ()), found)
    assert target is not None
    if fill is not None and asked.looped:
        for group in asked.groups:
            group.fill(fill, block, moments, target)
        for customers, moment, right in late_corrections(block, moments, list(asked.looped)):
            for one, places in asked.looped.items():
                target.patch(places, customers, moment, right[one])
    return target.matrix, exact, target.at


@dataclass(frozen=True)
class _Target:
    """The columns, of the wanted customers and moments alone: the rest is never written.

    Attributes:
        matrix: float64 (columns, k).
        at: Where the wanted lie among all: int64 (k); None for all.
        shape: Moments and customers.
    """

    matrix: Array
    at: Array | None
    shape: tuple[int, int]

    @classmethod
    def of(cls, columns: int, block: Block, moments: Array, chosen: Array | None) -> _Target:
        """Make room for what is chosen, bool (customers, moments)."""
        at = None if chosen is None or chosen.all() else np.flatnonzero(chosen.T)
        shape = len(moments), block.size
        return cls(np.empty((columns, shape[0] * shape[1] if at is None else len(at))), at, shape)

    def write(self, columns: Sequence[int], values: Values) -> None:
        """Write a measure into its columns."""
        for column in columns:
            if self.at is None:
                values.to_float(self.matrix[column].reshape(self.shape).T)
            else:
                values.to_float(self._whole.T)
                self._whole.ravel().take(self.at, out=self.matrix[column], mode="clip")  # "raise" would make a copy first

    def patch(self, columns: Sequence[int], customers: Array, moment: int, values: Values) -> None:
        """Overwrite a measure of some customers at one moment."""
        wanted = moment * self.shape[1] + customers
        cells = np.searchsorted(self.wanted, wanted)
        here = np.searchsorted(self.wanted, wanted, "right") > cells
        self.matrix[np.ix_(np.array(columns, np.int64), cells[here])] = values.to_float()[here, 0]

    @cached_property
    def _whole(self) -> Array:
        return np.empty(self.shape)

    @cached_property
    def wanted(self) -> Array:
        """Where the wanted lie among all: int64 (k)."""
        return np.arange(self.shape[0] * self.shape[1]) if self.at is None else self.at

    @cached_property
    def who(self) -> tuple[Array, Array]:
        """The wanted of each moment, as positions among the customers that are taken together, and where these begin and end: uint16 (k), int64 (m, 1 + times)."""
        moments, customers = self.shape
        first = customers * np.arange(moments)[:, None]
        ends = np.searchsorted(self.wanted, first + [*range(0, customers, TOGETHER), customers])
        among = self.wanted - np.repeat(first, ends[:, -1] - ends[:, 0])
        return (among & (TOGETHER - 1)).astype(np.uint16), ends


@dataclass(frozen=True)
class _Asked:
    """Measures with the columns that each of them fills: those that are answered exactly first, and those that loops answer, by their rows."""

    answered: dict[Measure, list[int]]
    looped: dict[Measure, list[int]]
    groups: tuple[_Group, ...]


@lru_cache(maxsize=256)
def _asked(measures: tuple[Measure | None, ...], moments: tuple[int, ...], loops: bool) -> _Asked:
    """Sort out what is asked: once, as it is the same for all blocks."""
    found = _Asked({}, {}, ())
    same_rows: dict[Events, dict[Measure, list[int]]] = defaultdict(dict)
    for place, measure in enumerate(measures):
        if measure is not None:
            looped = loops and measure.then is None
            (found.looped if looped else found.answered).setdefault(measure, []).append(place)
            if looped:
                same_rows[measure.events][measure] = found.looped[measure]
    return _Asked(found.answered, found.looped, tuple(_Group.of(events, some, np.array(moments, np.int64)) for events, some in same_rows.items()))


@dataclass(frozen=True)
class _Group:
    """Measures of the same rows, as the loops read them; see `predseg.evaluate.loops.fill`.

    Attributes:
        events: Which rows.
        data: What the loops read beside the times of the rows, in order, and of which property.
    """

    events: Events
    data: tuple[tuple[str, str | None], ...]
    grid: Array
    plan: Array
    edges: Array

    @classmethod
    def of(cls, events: Events, measures: dict[Measure, list[int]], moments: Array) -> _Group:
        """Return measures, with their columns, at some moments."""
        data = [*dict.fromkeys((kind, m.of) for m in measures for kind in DATA.get(m.aggregate, ()))]
        read = {m: [data.index((kind, m.of)) for kind in DATA.get(m.aggregate, ())] for m in measures}
        grid = instants([m.window for m in measures], moments)
        ends = {m: [tuple(np.broadcast_to(line, len(moments)).tolist()) for line in lines(m.window, moments, grid)] for m in measures}
        edges = [*dict.fromkeys(edge for both in ends.values() for edge in both)]
        plan = [
            (KINDS.index(m.aggregate), *[*read[m], 0, 0, 0][:3], place, *map(edges.index, ends[m])) for m, some in measures.items() for place in some
        ]
        return cls(events, tuple(data), grid, np.array(plan), np.array(edges, np.int64))

    def fill(self, fill: Callable[..., None], block: Block, moments: Array, target: _Target) -> None:
        """Let the loops fill in the columns."""
        rows = Rows(block, rows_of(block, self.events), Places(self.grid, block), moments, ())
        every = isinstance(rows.rows, slice)
        data = [COLUMNS[kind](rows, name) for kind, name in self.data]
        table = np.zeros((max(1, len(data)), max(map(len, data), default=0)), np.int64)
        for line, column in zip(table, data, strict=False):
            line[: len(column)] = column
        fill(
            block.offsets,
            block.offsets if every else rows.rows,
            every,
            rows.time,
            buckets(self.grid, rows.time[:-2]),
            len(self.grid) + 2,
            moments,
            self.plan,
            self.edges,
            table,
            TOGETHER,
            *target.who,
            target.matrix,
        )


def _again(rows: Rows, name: str | None) -> Array:
    at, first, second = repeated(rows, name)
    again: Array = (second if isinstance(at, slice) else at[second])[np.argsort(first)]
    return again


def _before(rows: Rows, at: Array | slice) -> Array:
    """Return how many of some places among the rows, each may come several times, lie before each row, and how many there are."""
    number = len(rows.customer)
    return np.arange(number + 1) if isinstance(at, slice) else np.append(0, np.cumsum(np.bincount(at, minlength=number)))


def _repeats(rows: Rows, name: str | None) -> Array:
    at, first, _ = repeated(rows, name)
    return _before(rows, first if isinstance(at, slice) else at[first])


def _or_nothing(rows: Rows, name: str | None, sign: int) -> Array:
    """Return the values times a sign, less than all where there is none, and one more."""
    numbers = rows.numbers(name)
    return np.append(np.where(numbers.present, sign * numbers.units, -LARGEST), -LARGEST)


COLUMNS: dict[str, Callable[[Rows, str | None], Array]] = {
    "sums": lambda rows, name: np.append(0, np.cumsum(rows.numbers(name).units)),  # before each row, and of all
    "counted": lambda rows, name: np.append(0, np.cumsum(rows.numbers(name).present)),
    "greatest": lambda rows, name: _or_nothing(rows, name, 1),
    "least": lambda rows, name: _or_nothing(rows, name, -1),
    "values": lambda rows, name: _before(rows, repeated(rows, name)[0]),  # how many values the rows before each have
    "repeats": _repeats,  # and how many that come again later
    "again": _again,  # of each of these the row in which it does
    "gaps": lambda rows, _: gaps(rows)[0],
    "squares": lambda rows, _: gaps(rows)[1],
}
"""The columns that loops read, int64."""
DATA = {
    "sum": ("sums",),
    "avg": ("sums", "counted"),
    "min": ("least",),
    "max": ("greatest",),
    "distinct": ("values", "repeats", "again"),
    "gap_std": ("gaps", "squares"),
}
"""Which of them an aggregate needs."""

_numbers = [0]


def _pays(numbers: int) -> Callable[..., None] | None:
    """Return the loops when they are worth their loading, for as many numbers more."""
    if numbers < FEW:
        return None
    _numbers[0] += numbers
    return _loops() if _numbers[0] >= PAYS else None


@cache
def _loops() -> Callable[..., None] | None:
    try:
        from predseg.evaluate.loops import fill

        one = np.zeros(1, np.int64)
        plan, edges = np.zeros((0, 7), np.int64), np.zeros((0, 1), np.int64)
        fill(one, one, True, one, one, 2, one, plan, edges, one[None], 1, np.zeros(1, np.uint16), one[None], np.zeros((1, 1)))
    except Exception:  # numba is not there, or cannot write or read what it keeps of the loops: NumPy says the same
        return None
    return fill
