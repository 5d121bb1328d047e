"""Sorted rows → rows without repeats, and what became of the rows of each load."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from predseg.history import values

EXISTING = -1
"""The number of the load that is the events table itself."""


@dataclass
class Counts:
    """What became of the rows of each load (by its number), and what the table holds now.

    Of the table before only ``conflicts`` has a number, under `EXISTING`: its events that gave way to others of the same id.
    ``repeated``: rows without an id of their own that the table had before.
    """

    seen: dict[int, int] = field(default_factory=dict)
    accepted: dict[int, int] = field(default_factory=dict)
    new: dict[int, int] = field(default_factory=dict)
    conflicts: dict[int, int] = field(default_factory=dict)
    repeated: int = 0
    rows: int = 0
    customers: int = 0
    events: dict[str, int] = field(default_factory=dict)
    first: int | None = None
    last: int | None = None
    visible: int | None = None


def without_repeats(batches: Iterator[pa.RecordBatch], counts: Counts) -> Iterator[pa.Table]:
    """Yield the sorted rows without repeats, each with its event_id. A run of equal keys is never split over two steps."""
    carry: pa.Table | None = None
    for batch in batches:
        table = pa.Table.from_batches([batch])
        table = pa.concat_tables([carry, table]) if carry is not None and len(carry) else table
        fresh = _changes(table)
        last = int(np.flatnonzero(fresh)[-1])
        carry = table.slice(last)
        if last:
            yield _distinct(table.slice(0, last).combine_chunks(), fresh[:last], counts)
    if carry is not None and len(carry):
        yield _distinct(carry.combine_chunks(), _changes(carry), counts)


def _changes(table: pa.Table) -> np.ndarray:
    """Return where a new (customer_id, event_time, name) begins; the first row always does."""
    fresh = np.zeros(len(table), dtype=bool)
    fresh[:1] = True
    for name in ("customer_id", "event_time", "name"):
        column = table.column(name).combine_chunks()
        fresh[1:] |= values.flags(pc.not_equal(column.slice(1), column.slice(0, len(column) - 1)))
    return fresh


def _distinct(table: pa.Table, fresh: np.ndarray, counts: Counts) -> pa.Table:
    """Return the rows of whole runs that stay.

    In a run every load has a block of n equal rows (one, when they have an id of their own). The k-th of a block is new
    when no earlier load has k of them; it is accepted when no earlier load of this time has.
    """
    load = table.column("load").to_numpy()
    if fresh.all():
        for into in (counts.seen, counts.accepted, counts.new):
            _count(into, load)
        return table.append_column("event_id", table.column("name"))
    begins = fresh.copy()
    begins[1:] |= load[1:] != load[:-1]
    starts = np.flatnonzero(begins)
    block = np.cumsum(begins) - 1
    ordinal = np.arange(len(table)) - starts[block]
    loads, sizes = load[starts], np.diff(np.append(starts, len(table)))
    made = table.column("made").to_numpy()[starts]
    size = np.where(made, sizes, 1)
    run = (np.cumsum(fresh) - 1)[starts]
    earlier, earlier_loaded = _largest_before(run, size), _largest_before(run, np.where(loads == EXISTING, 0, size))
    _count(counts.seen, loads, sizes)
    _count(counts.accepted, loads, np.maximum(0, size - earlier_loaded))
    _count(counts.new, loads, np.maximum(0, size - earlier))
    counts.repeated += int((made & (loads != EXISTING) & (earlier > earlier_loaded)).sum())
    keep = (ordinal >= earlier[block]) & (ordinal < size[block])
    table = table.append_column("event_id", _event_ids(table.column("name").combine_chunks(), ordinal))
    return table if keep.all() else table.filter(pa.array(keep))


def _largest_before(run: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return for every block the largest size among the earlier blocks of its run, 0 for the first."""
    if len(run) == 0 or run[-1] + 1 == len(run):
        return np.zeros(len(run), dtype=np.int64)
    largest = pd.Series(size).groupby(run).cummax().to_numpy()
    before = np.zeros(len(run), dtype=np.int64)
    before[1:] = np.where(run[1:] == run[:-1], largest[:-1], 0)
    return before


def _count(into: dict[int, int], loads: np.ndarray, numbers: np.ndarray | None = None) -> None:
    for load, number in enumerate(np.bincount(loads - EXISTING, numbers)[1:].astype(np.int64).tolist()):
        into[load] = into.get(load, 0) + number


def _event_ids(names: pa.Array, ordinal: np.ndarray) -> pa.Array:
    again = np.flatnonzero(ordinal)
    if not len(again):
        return names
    suffix = np.full(len(names), "", dtype=object)
    suffix[again] = [f"~{number:06x}" for number in ordinal[again]]
    return pc.binary_join_element_wise(names, pa.array(suffix, pa.string()), "")
