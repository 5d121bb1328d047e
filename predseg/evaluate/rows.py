"""The rows of one event and filter, and every aggregate over them, for all customers and moments at once.

For each customer and each boundary of a window it is found once how many rows lie at or before it. Then a count is a
difference of two positions, a sum a difference of two prefix sums, the last event the row before a position. All arrays
are (moments, customers) and all arithmetic is on int64: prefix sums may wrap around, their differences do not, so a
result never depends on the neighbours in the block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from predseg.errors import DataError
from predseg.evaluate.block import Array, Block, Numbers, Words
from predseg.evaluate.grid import Places, cell, edges
from predseg.language.measures import SCALE, Measure, Window, units_of
from predseg.language.time import SECOND

LARGEST = np.iinfo(np.int64).max

Found = tuple[Array, ...]
"""The number and, where it can be missing, whether it is present; then the count, then the sum of squares."""


def instants(windows: Iterable[Window], moments: Array) -> Array:
    """Return every instant at which one of the windows begins or ends: int64, sorted, all different."""
    ends = [e for w in windows for e in edges(w, moments) if e is not None]
    return np.unique(np.concatenate(ends)) if ends else np.zeros(0, np.int64)


def lines(window: Window, moments: Array, grid: Array) -> tuple[Array, Array]:
    """Return, per moment, which line of a table with a line before the instants of a grid is the window's begin and end; only 0 when it has no start."""
    start, end = edges(window, moments)
    return np.zeros(1, np.int64) if start is None else np.searchsorted(grid, start) + 1, np.searchsorted(grid, end) + 1


class Edge:
    """Where the windows of one kind begin or end: per moment and customer the first row that comes after it."""

    def __init__(self, positions: Array) -> None:
        self.positions = positions  # int64 (moments or 1, customers)
        self._found: dict[object, Array] = {}

    def look(self, key: object, column: Array, ahead: int = 0) -> Array:
        """Return what a column holds at, or some places after, the positions; looked up once per key."""
        if (key, ahead) not in self._found:
            self._found[key, ahead] = column.take(self.positions + ahead if ahead else self.positions)
        return self._found[key, ahead]


class Rows:
    """Some rows of a block, and where each customer's windows begin and end among them.

    Args:
        block: Whole histories.
        rows: Which rows; a slice or positions in order.
        places: Where all rows of the block lie in a grid that has every edge of the windows.
        moments: The moments to answer at.
        windows: The windows that will be asked for.
    """

    def __init__(self, block: Block, rows: Array | slice, places: Places, moments: Array, windows: Sequence[Window]) -> None:
        self.block, self.rows, self.moments, self._places = block, rows, moments, places
        own = instants(windows, moments)
        self._shared = len(places.grid) <= 2 * len(own)  # a few lines too many cost less than other places for these rows
        self.grid = places.grid if self._shared else own
        self._cache: dict[object, Any] = {}
        self._edges: dict[bytes, Edge] = {}

    @cached_property
    def positions(self) -> Array:
        """Where each customer's rows begin, and how many rows lie at or before each instant, see `count`."""
        return self.count(self._of(self._places.cell) if self._shared else cell(self.bucket, self.customer, self.block.size))

    def _of(self, column: Array) -> Array:
        return column[self.rows] if isinstance(self.rows, slice) else column.take(self.rows)

    @cached_property
    def customer(self) -> Array:
        """The customer of each row."""
        return self._of(self._places.customer)

    @cached_property
    def bucket(self) -> Array:
        """How many instants of the grid lie before each row."""
        bucket = self._of(self._places.bucket)
        if self._shared:
            return bucket
        return np.append(np.searchsorted(self.grid, self._places.grid), len(self.grid)).take(bucket)

    @cached_property
    def time(self) -> Array:
        """When each row happened; with a row after the last one, and two before the first."""
        return np.append(self.block.time[self.rows], (0, 0))

    def count(self, cells: Array) -> Array:
        """Return int64 (1 + instants, customers): how many rows lie before the customer, then how many at or before each instant."""
        n = self.block.size
        counts = np.bincount(cells, minlength=(len(self.grid) + 2) * n).reshape(len(self.grid) + 2, n)
        totals = counts.sum(axis=0)
        counts[0] = np.cumsum(totals) - totals
        for before, here in pairwise(counts):
            here += before
        return counts

    def answer(self, measure: Measure) -> Found:
        """Answer one measure: arrays (moments, customers)."""
        return _ANSWERS[measure.aggregate](self, measure)

    def cached(self, key: object, make: Callable[[], Any]) -> Any:
        """Make something of these rows once."""
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    def lines(self, window: Window) -> tuple[Array, Array]:
        """Return, per moment, the lines of the positions at which the window begins and ends; only line 0 when it has no start."""
        return lines(window, self.moments, self.grid)

    def edges(self, window: Window) -> tuple[Edge, Edge]:
        """Return where a window begins and ends. Windows that end alike share the end, and what is looked up there."""
        start, end = self.lines(window)
        return self._edge(start), self._edge(end)

    def _edge(self, lines: Array) -> Edge:
        key = lines.tobytes()
        if key not in self._edges:
            self._edges[key] = Edge(self.positions[lines] if len(lines) != 1 else self.positions[lines[0] : lines[0] + 1])
        return self._edges[key]

    def between(self, window: Window) -> tuple[Array, Array]:
        """Return the first row in the window and the first row after it."""
        start, end = self.edges(window)
        return start.positions, end.positions

    def change(self, key: object, column: Callable[[], Array], window: Window) -> Array:
        """Return the sum of a column of these rows over the window."""
        sums = self.cached(("sums", key), lambda: np.append(0, np.cumsum(column())))
        start, end = self.edges(window)
        return end.look(key, sums) - start.look(key, sums)

    def numbers(self, name: str | None) -> Numbers:
        """Return a property of these rows as ten-thousandths; what is no number is as good as missing."""
        return self.cached(("numbers", name), lambda: self._numbers(name))

    def _numbers(self, name: str | None) -> Numbers:
        column = self.block.properties.get(str(name))
        if column is None or (isinstance(column, Words) and not column.mixed):
            return Numbers(np.zeros(len(self.customer), np.int64), np.zeros(len(self.customer), bool))
        if isinstance(column, Words):
            return _among(column.take(self.rows), name)
        taken = column.take(self.rows)
        if taken.scale == SCALE:
            return taken
        _require_room((int(taken.units.max(initial=0)), int(taken.units.min(initial=0))), name)
        return Numbers(taken.units * (SCALE // taken.scale), taken.present)


def _among(column: Words, name: str | None) -> Numbers:
    """Return the numbers among values of several kinds; the others are as good as missing."""
    units = [*map(units_of, column.values), None]
    _require_room((u // SCALE for u in units if u is not None), name)
    return Numbers(np.array([u or 0 for u in units], np.int64)[column.codes], np.array([u is not None for u in units])[column.codes])


def _require_room(numbers: Iterable[int], name: str | None) -> None:
    """Refuse whole numbers whose ten-thousandths no int64 holds: their sums would be of other numbers."""
    if (largest := max(map(abs, numbers), default=0)) > LARGEST // SCALE:
        message = f"cannot be summed or compared as a number: found {largest:,} or its negative, expected at most {LARGEST // SCALE:,}"
        raise DataError("E432", f"property {name!r}", message, "make it smaller or leave it away in the source's `query`, or use `distinct`")


def _counted(rows: Rows, measure: Measure) -> Found:
    lower, upper = rows.between(measure.window)
    return (upper - lower,)


def _sum(rows: Rows, measure: Measure) -> Found:
    return (rows.change(measure.of, lambda: rows.numbers(measure.of).units, measure.window),)


def _avg(rows: Rows, measure: Measure) -> Found:
    present = rows.numbers(measure.of).present
    [count] = _counted(rows, measure) if present.all() else (rows.change(("counted", measure.of), lambda: present, measure.window),)
    return *_sum(rows, measure), count > 0, count


def _extreme(rows: Rows, measure: Measure) -> Found:
    """A range of rows is covered by two ranges, of a power of two of rows each, whose extremes are known."""
    worst, choose = (-LARGEST, np.maximum) if measure.aggregate == "max" else (LARGEST, np.minimum)
    line, last = rows.cached("powers", lambda: _powers(rows))
    known = rows.cached((measure.aggregate, measure.of), lambda: _extremes(rows.numbers(measure.of), len(line), worst, choose))
    lower, upper = rows.between(measure.window)
    length = upper - lower
    from_start, to_end = line.take(length), last.take(length)
    from_start += lower
    to_end += upper
    found = choose(known.take(from_start), known.take(to_end))
    present = found != worst
    return found * present, present


def _powers(rows: Rows) -> tuple[Array, Array]:
    """Return, for each number of rows, where the line of `_extremes` with the largest power of two in it starts; and that less the power."""
    longest = int((rows.positions[-1] - rows.positions[0]).max(initial=0))
    exponent = np.frexp(np.arange(longest + 1))[1].astype(np.int64)
    line = exponent * (len(rows.customer) + 1)
    return line, line - ((1 << exponent) >> 1)


def _extremes(numbers: Numbers, lengths: int, worst: int, choose: np.ufunc) -> Array:
    """Return, line after line, the extreme of the 0, 1, 2, 4, 8 ... rows from each row on."""
    lines = [np.full(len(numbers.units) + 1, worst), np.append(np.where(numbers.present, numbers.units, worst), worst)]
    for exponent in range((lengths - 1).bit_length() - 1):
        line, step = lines[-1].copy(), 1 << exponent
        choose(line[:-step], lines[-1][step:], out=line[:-step])
        lines.append(line)
    return np.concatenate(lines)


def _since(rows: Rows, measure: Measure) -> Found:
    start, end = rows.edges(measure.window)
    present = end.positions > start.positions
    time = start.look("time", rows.time) if measure.aggregate == "days_since_first" else end.look("time", rows.time, -1)
    return (rows.moments[:, None] - time) * present, present


def _gap(rows: Rows, measure: Measure) -> Found:
    start, end = rows.edges(measure.window)
    gaps = end.positions - start.positions - 1
    present = gaps > 0
    before = start.look("time", rows.time) if measure.aggregate == "gap_mean" else end.look("time", rows.time, -2)
    span = (end.look("time", rows.time, -1) - before) * present
    return (span, present, gaps * present) if measure.aggregate == "gap_mean" else (span, present)


def _gap_deviation(rows: Rows, measure: Measure) -> Found:
    start, end = rows.edges(measure.window)
    count = end.positions - start.positions - 1
    present = count > 1
    seconds, squares = ((end.look(key, sums) - start.look(key, sums, 1)) * present for key, sums in zip(("gaps", "squares"), gaps(rows), strict=True))
    return seconds, present, count * present, squares


def gaps(rows: Rows) -> tuple[Array, Array]:
    """Return prefix sums of the seconds since the row before, and of their squares; meaningless on a customer's first row."""

    def sums() -> tuple[Array, Array]:
        seconds = np.diff(rows.time, prepend=rows.time[:1]) // SECOND
        return np.append(0, np.cumsum(seconds)), np.append(0, np.cumsum(seconds**2))

    return rows.cached("gaps", sums)


def _distinct(rows: Rows, measure: Measure) -> Found:
    """Count the values of the window, less those that come again within it."""
    n = rows.block.size
    positions, customer, here, again = rows.cached(("again", measure.of), lambda: _again(rows, measure.of))
    start, end = rows.lines(measure.window)
    found = positions[end] - positions[start]
    for k, (low, high) in enumerate(np.broadcast(start, end)):
        found[k] -= np.bincount(customer[np.flatnonzero((here >= low) & (again < high))], minlength=n)
    return (found,)


def _again(rows: Rows, name: str | None) -> tuple[Array, Array, Array, Array]:
    """Return the positions of the values of a property (a list has several); of each that comes again: customer, bucket and next bucket."""
    at, first, second = repeated(rows, name)
    customer, bucket = rows.customer[at], rows.bucket[at]
    positions = rows.positions if isinstance(at, slice) else rows.count(cell(bucket, customer, rows.block.size))
    return positions, customer[first], bucket[first].astype(np.int32), bucket[second].astype(np.int32)


def repeated(rows: Rows, name: str | None) -> tuple[Array | slice, Array, Array]:
    """Return where the values of a property are among the rows, and which of them come again, and as which ones."""

    def found() -> tuple[Array | slice, Array, Array]:
        at, codes = _elements(rows, name)
        return at, *_equal_neighbours(rows.customer[at], codes)

    return rows.cached(("repeated", name), found)


def _elements(rows: Rows, name: str | None) -> tuple[Array | slice, Array]:
    """Return where the values of a property are among the rows, and a code for each value."""
    column = rows.block.properties.get(str(name))
    nothing = np.zeros(0, np.int64)
    if column is None:
        return nothing, nothing
    taken = column.take(rows.rows)
    if isinstance(taken, Numbers):
        at = np.flatnonzero(taken.present)
        return at, np.unique(taken.units[at], return_inverse=True)[1]
    if any(isinstance(v, tuple) for v in (taken.values if taken.mixed else taken.values[:1])):
        return _list_elements(taken)
    if taken.codes.min(initial=0) == 0:
        return slice(None), taken.codes
    at = np.flatnonzero(taken.codes >= 0)
    return at, taken.codes[at]


def _list_elements(column: Words) -> tuple[Array, Array]:
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


def _equal_neighbours(customer: Array, codes: Array) -> tuple[Array, Array]:
    """Return the positions of each pair of equal values of one customer with none of them between.

    Customer, value and position are sorted as one integer where they fit, which is several times faster than sorting positions.
    """
    bits, width = len(codes).bit_length(), int(codes.max(initial=0)) + 1
    if (int(customer.max(initial=0)) + 1) * width >> (63 - bits):
        codes = np.unique(codes, return_inverse=True)[1]
        width = len(codes)
    packed = customer * (width << bits)
    packed += codes.astype(np.int64) << bits
    packed += np.arange(len(packed))
    packed.sort()
    keys = packed >> bits
    same = np.flatnonzero(keys[1:] == keys[:-1])
    position = (1 << bits) - 1
    return packed[same] & position, packed[same + 1] & position


_ANSWERS: dict[str, Callable[[Rows, Measure], Found]] = {
    "count": _counted,
    "sum": _sum,
    "avg": _avg,
    "min": _extreme,
    "max": _extreme,
    "distinct": _distinct,
    "days_since_first": _since,
    "days_since_last": _since,
    "gap_mean": _gap,
    "gap_std": _gap_deviation,
    "gap_last": _gap,
}
