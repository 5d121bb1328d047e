"""Instants in order, and where times lie between them: the one search that all windows of a block share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from predseg.evaluate.block import NEVER, Array, Block
from predseg.language.measures import Window

CELLS = 1 << 16
"""A table of more cells than this would leave the processor's caches: then each time is searched."""


def edges(window: Window, moments: Array) -> tuple[Array | None, Array]:
    """Return the last instants before and in the window, per moment; no first one when it starts at the beginning."""
    end = moments - window.until
    if window.since is not None:
        return np.minimum(np.full_like(moments, window.since - 1), end), end
    return (None if window.start is None else moments - window.start), end


def buckets(instants: Array, times: Array) -> Array:
    """Return how many of the instants (sorted, all different) lie before each time.

    Time is cut into cells no wider than the narrowest distance between instants, so that none holds two of them: a look
    at the cell's table and one comparison replace the search, and the answer is the same.
    """
    if len(instants) < 2:
        return (times > instants[0]).astype(np.int64) if len(instants) else np.zeros(len(times), np.int64)
    first, span = int(instants[0]), int(instants[-1]) - int(instants[0])
    shift = int(np.diff(instants).min()).bit_length() - 1
    cells = (span >> shift) + 1
    if cells > CELLS:
        return np.searchsorted(instants, times)
    inside = np.full(cells + 2, NEVER)  # the instant in a cell; the first cell is before them all, the last one after
    inside[((instants - first) >> shift) + 1] = instants
    before = np.cumsum(inside != NEVER) - (inside != NEVER)
    cell = times - (first - (1 << shift))
    cell >>= shift
    found: Array = before.take(cell, mode="clip")
    found += inside.take(cell, mode="clip") < times
    return found


@dataclass(frozen=True)
class Places:
    """Where the rows of a block lie in a grid of instants."""

    grid: Array  # int64, sorted, all different
    block: Block

    @property
    def customer(self) -> Array:
        """The customer of each row: int64 (rows)."""
        return self.block.customer

    @cached_property
    def bucket(self) -> Array:
        """How many instants of the grid lie before each row: int64 (rows)."""
        return buckets(self.grid, self.block.time)

    @cached_property
    def cell(self) -> Array:
        """Bucket and customer as one number, see `counted`: int64 (rows)."""
        return cell(self.bucket, self.customer, self.block.size)


def cell(bucket: Array, customer: Array, customers: int) -> Array:
    """Return the place in a table with a line of customers per bucket, and one before them."""
    found: Array = bucket * customers
    found += customer + customers
    return found
