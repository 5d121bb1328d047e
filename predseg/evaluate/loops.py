"""The loops of `predseg.evaluate.matrix`, compiled when they are first called and kept beside this file or in the user's cache. Needs numba.

Some customers at a time: first where their windows begin and end among their rows, then one measure at one moment after
the other from these places, while they are in the processor's caches. All sums are on int64, as in `predseg.evaluate.rows`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from predseg.language.measures import SCALE
from predseg.language.time import DAY, SECOND

COUNT, SUM, AVG, MIN, MAX, DISTINCT, FIRST, LAST, GAP_MEAN, GAP_STD, GAP_LAST = range(11)
"""The aggregates in the order of `predseg.evaluate.matrix.KINDS`."""

NOTHING = -np.iinfo(np.int64).max
"""Less than every value."""
ONE, TWO = np.uint64(1), np.uint64(2)
"""Places are unsigned, so that no look-up has to ask whether they count from the end."""


@njit(cache=True, nogil=True, error_model="numpy")
def _places(bucket: Any, offsets: Any, at: Any) -> None:
    """Fill at, uint32 (2 + instants, customers): each customer's first row, then the first row after each instant, then the first of the next."""
    customers = len(offsets) - 1
    at[:, :customers] = 0
    for c in range(customers):
        at[0, c] = offsets[c]
        for row in range(offsets[c], offsets[c + 1]):
            at[bucket[row] + 1, c] += 1
    for i in range(1, len(at)):
        for c in range(customers):
            at[i, c] += at[i - 1, c]


@njit(cache=True, nogil=True, error_model="numpy")
def _change(column: Any, low: Any, high: Any, x: Any) -> None:
    """What a column holds at high, less what it holds at low."""
    for c in range(len(x)):
        x[c] = column[high[c]] - column[low[c]]


@njit(cache=True, nogil=True, error_model="numpy")
def _extremes(values: Any, low: Any, high: Any, x: Any) -> None:
    """The greatest of the rows' values.

    Most windows hold two rows at most, which are looked at without a branch: a processor cannot guess how many there are.
    """
    for c in range(len(x)):
        first, end = low[c], high[c]
        best = max(values[first], values[max(end, ONE) - ONE])
        if end > first + TWO:
            for row in range(first + ONE, end - ONE):
                best = max(best, values[row])
        x[c] = best if end > first else NOTHING


@njit(cache=True, nogil=True, error_model="numpy")
def _distinct(values: Any, repeats: Any, again: Any, low: Any, high: Any, out: Any) -> None:
    """How many values of the rows do not come again in them: all, less those that do."""
    for c in range(len(out)):
        first, end = low[c], high[c]
        found = values[end] - values[first]
        for one in range(repeats[first], repeats[end]):
            found -= again[one] < end
        out[c] = found


@njit(cache=True, nogil=True, error_model="numpy")
def _deviations(seconds: Any, squares: Any, low: Any, high: Any, out: Any) -> None:
    """The deviation of the gaps between the rows, in days; NaN for one gap."""
    for c in range(len(out)):
        first, end = low[c], high[c]
        gaps = np.int64(end) - np.int64(first) - 1
        if gaps > 1:
            number, count = float(seconds[end] - seconds[first + ONE]), float(gaps)
            variance = (count * float(squares[end] - squares[first + ONE]) - number * number) / (count * count)
            out[c] = np.sqrt(max(variance, 0.0)) * SECOND / DAY
        else:
            out[c] = np.nan


@njit(cache=True, nogil=True, error_model="numpy")
def _times(kind: int, time: Any, moment: int, low: Any, high: Any, x: Any, out: Any) -> None:
    """Days since the first or last of the rows; the mean or the last of the gaps between them.

    What is looked up for nobody is made NaN by adding it: a processor cannot guess who has rows, and would often guess wrong.
    """
    if kind == FIRST:
        for c in range(len(out)):
            x[c] = moment - time[low[c]]
    elif kind == LAST:
        for c in range(len(out)):
            x[c] = moment - time[max(high[c], ONE) - ONE]
    else:
        for c in range(len(out)):
            end = max(high[c], TWO)
            x[c] = time[end - ONE] - time[low[c] if kind == GAP_MEAN else end - TWO]
    for c in range(len(out)):
        gaps = np.int64(high[c]) - np.int64(low[c]) - 1
        out[c] = x[c] / (max(gaps, 1) if kind == GAP_MEAN else 1) / DAY + (0.0 if gaps >= (0 if kind in (FIRST, LAST) else 1) else np.nan)


@njit(cache=True, nogil=True, error_model="numpy")
def _numbers(kind: int, time: Any, moment: int, a: Any, b: Any, c_: Any, low: Any, high: Any, x: Any, y: Any, out: Any) -> None:
    """Fill out, float64 (customers), with one measure of the rows of each from low to before high; NaN where it is missing.

    Most are looked up first, into x and y, and then calculated, which a processor does for several customers at once.
    """
    if kind == COUNT:
        for c in range(len(out)):
            out[c] = np.int64(high[c] - low[c])
    elif kind == SUM:
        _change(a, low, high, x)
        for c in range(len(out)):
            out[c] = x[c] / SCALE
    elif kind == AVG:
        _change(a, low, high, x)
        _change(b, low, high, y)
        for c in range(len(out)):
            out[c] = x[c] / y[c] / SCALE  # nothing by nothing is NaN
    elif kind in (MIN, MAX):
        _extremes(a, low, high, x)
        sign = 1 if kind == MAX else -1
        for c in range(len(out)):
            out[c] = sign * x[c] / SCALE + (0.0 if x[c] != NOTHING else np.nan)
    elif kind == DISTINCT:
        _distinct(a, b, c_, low, high, out)
    elif kind == GAP_STD:
        _deviations(a, b, low, high, out)
    else:
        _times(kind, time, moment, low, high, x, out)


@njit(cache=True, nogil=True, error_model="numpy")
def fill(
    offsets: Any,
    rows: Any,
    every: bool,
    time: Any,
    bucket: Any,
    lines: int,
    moments: Any,
    plan: Any,
    edges: Any,
    data: Any,
    together: int,
    who: Any,
    ends: Any,
    out: Any,
) -> None:
    """Fill out, float64 (columns, k), with the wanted customers of the first moment, of the next ...

    Args:
        offsets: int64 (customers + 1): where each customer's rows begin in the block.
        rows: int64, sorted: which rows of the block are meant.
        every: All of them are, and ``rows`` is not looked at.
        time: int64 (rows that are meant) microseconds.
        bucket: int64 (rows that are meant): how many starts and ends of windows lie before each.
        lines: How many starts and ends there are, and two more.
        moments: int64 (m).
        plan: int64 (measures, 7): kind, lines a, b and c of ``data``, column of ``out``, edges at which the window begins and ends.
        edges: int64 (edges, m): 0 for each customer's first row, i + 1 for the first row after the i-th start or end.
        data: int64 (lines, ...), see `predseg.evaluate.matrix`.
        together: So many customers are taken at a time.
        who: uint16 (k), ascending each time: who of them is wanted at the first moment, at the next ...
        ends: int64 (m, 1 + times): where those of each time begin and end in ``who``.
        out: What is filled.
    """
    customers, row = len(offsets) - 1, 0
    at = np.empty((lines, together + 48), np.uint32)  # lines whose distance is a power of two would push each other out of the cache
    here, own = np.empty((len(edges), together + 48), np.uint32), np.empty(together + 1, np.int64)
    x, y = np.empty(together, np.int64), np.empty(together, np.int64)
    for some, begin in enumerate(range(0, customers, together)):
        size = min(together, customers - begin)
        for c in range(size + 1):
            while not every and row < len(rows) and rows[row] < offsets[begin + c]:
                row += 1
            own[c] = offsets[begin + c] if every else row
        _places(bucket, own[: size + 1], at)
        for k in range(len(moments)):
            cell, end = ends[k, some], ends[k, some + 1]
            for e in range(len(edges)):
                line = at[edges[e, k]]
                for c in range(end - cell):
                    here[e, c] = line[who[cell + c]]
            for m in range(len(plan)):
                kind, a, b, c_, column, low, high = plan[m]
                n, some_rows = end - cell, (here[low, : end - cell], here[high, : end - cell])
                _numbers(kind, time, moments[k], data[a], data[b], data[c_], *some_rows, x[:n], y[:n], out[column, cell:end])
