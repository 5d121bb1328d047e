"""Which events are followed, or not followed, by others: `then`, vectorised.

How many later events lie in (e, e + V] does not depend on the moment, only which of them count does. So the positions of
both ends are found once, and each moment costs one prefix sum per step.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from predseg.evaluate.block import Array, Block, Numbers
from predseg.evaluate.matching import matching
from predseg.language.measures import Step

At = Callable[[int], Array]


def following(block: Block, customer: Array, rows: Array, step: Step) -> At:
    """Return a function that says of each row, at a moment, whether the step holds for it: bool (rows)."""
    later = matching(block, step.events)
    counts = _After(block, customer, rows, later, step)
    if not step.did:
        return _absence(block, rows, later, step, counts)
    deeper = following(block, customer, later, step.then) if step.then is not None else None

    def happened(t: int) -> Array:
        counting = block.time[later] <= t
        if deeper is not None:
            counting &= deeper(t)
        return counts.valid & (counts.within(counting) >= step.at_least)

    return happened


def _absence(block: Block, rows: Array, later: Array, step: Step, counts: _After) -> At:
    if step.within is not None:
        within = step.within
        quiet = counts.valid & (counts.within(np.ones(len(later), bool)) == 0)
        return lambda t: quiet & (block.time[rows] + within <= t)
    return lambda t: counts.valid & (block.time[rows] <= t) & (counts.within(block.time[later] <= t) == 0)


class _After:
    """For each row e, the range of later rows of the same customer (and tie) in (e, e + within]."""

    def __init__(self, block: Block, customer: Array, rows: Array, later: Array, step: Step) -> None:
        groups, self.valid, tied = _ties(block, customer, rows, later, step.same)
        times = block.time[later]
        self.order = np.lexsort((times, tied))  # later rows by group and time; untied ones come first
        begin = block.time[rows]
        end = np.full(len(rows), np.iinfo(np.int64).max) if step.within is None else begin + step.within
        self.lower = positions(tied[self.order], times[self.order], groups, begin)
        self.upper = positions(tied[self.order], times[self.order], groups, end)

    def within(self, counting: Array) -> Array:
        """Return how many of the counting later rows follow each row."""
        sums = np.concatenate([[0], np.cumsum(counting[self.order])])
        return sums[self.upper] - sums[self.lower]


def _ties(block: Block, customer: Array, rows: Array, later: Array, same: str | None) -> tuple[Array, Array, Array]:
    """Return the groups of the rows, which of them can be tied, and the groups of the later rows (-1: tied to nothing)."""
    if same is None:
        return customer[rows], np.ones(len(rows), bool), customer[later]
    column = block.properties.get(same)
    if column is None:
        values, present = np.zeros(len(block.time), np.int64), np.zeros(len(block.time), bool)
    elif isinstance(column, Numbers):
        values, present = np.unique(column.units, return_inverse=True)[1], column.present
    else:
        values, present = column.codes.astype(np.int64), column.codes >= 0
    width = int(values.max(initial=0)) + 1
    group = np.where(present, customer * width + values, -1)
    return group[rows], present[rows], group[later]


def positions(groups: Array, times: Array, wanted_groups: Array, wanted_times: Array) -> Array:
    """Return how many (group, time) pairs, sorted, are at or before each wanted pair. Groups are −1 or more."""
    if not len(groups):
        return np.zeros(len(wanted_groups), np.int64)
    first, last = int(times.min()), int(times.max())
    width = last - first + 2
    if (int(max(groups[-1], wanted_groups.max(initial=-1))) + 2) * width >= 2**63:
        return _positions(groups, times, wanted_groups, wanted_times)
    keys = (groups + 1) * width + (times - first + 1)
    wanted = (wanted_groups + 1) * width + (np.clip(wanted_times, first - 1, last) - first + 1)
    return np.searchsorted(keys, wanted, side="right")


def _positions(groups: Array, times: Array, wanted_groups: Array, wanted_times: Array) -> Array:
    """The same where a group and a time together do not fit into 64 bits."""
    n = len(groups)
    group = np.concatenate([groups, wanted_groups])
    time = np.concatenate([times, wanted_times])
    wanted = np.concatenate([np.zeros(n, np.int8), np.ones(len(wanted_groups), np.int8)])
    order = np.lexsort((wanted, time, group))
    before = np.cumsum(wanted[order] == 0)
    found = np.empty(len(order), np.int64)
    found[order] = before
    return found[n:]
