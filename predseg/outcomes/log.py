"""Some events of all customers in columns, and what happened after an instant that each customer has of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from predseg.evaluate.block import CORE, IDENTITY, Array, Block, Numbers, Words, from_table
from predseg.language.measures import SCALE


@dataclass(frozen=True)
class Timetable:
    """Rows sorted by the line that they belong to, and by time: finds where an instant stands on a line.

    Attributes:
        line: Numbers of at least 0, int64 (r).
        time: Microseconds, int64 (r).
    """

    line: Array
    time: Array

    def after(self, line: Array, t: Array) -> Array:
        """Return for each pair the first row later than t, int64 (k): those before it, on this line, are at or before t."""
        times, keys = self._keys
        return np.searchsorted(keys, np.asarray(line, np.int64) * (len(times) + 1) + np.searchsorted(times, t, "right"), "right")

    def last(self, line: Array, t: Array) -> Array:
        """Return for each pair the last row at or before t, int64 (k); -1 when there is none on its line."""
        row = self.after(line, t) - 1
        return np.where((row >= 0) & (self.line[np.maximum(row, 0)] == line), row, -1) if len(self.line) else np.full(len(line), -1)

    @cached_property
    def _keys(self) -> tuple[Array, Array]:
        """The different times, and one number per row that sorts by line and time."""
        times = np.sort(self.time)
        times = times[np.append(True, times[1:] != times[:-1])] if len(times) else times
        return times, self.line * (len(times) + 1) + np.searchsorted(times, self.time, "right")


@dataclass(frozen=True)
class Log:
    """Events of n customers in r rows, sorted by customer and time.

    Attributes:
        customers: Ids, sorted, str (n).
        customer: Position of the customer of each row, int64 (r).
        time: Microseconds, int64 (r).
        event: Position of the event in ``names``, int64 (r).
        names: The events that were asked for.
        value: Money in whole 1/10000, 0 where there is none, int64 (r).
        texts: Properties as text: codes, -1 where missing, and what they stand for.
    """

    customers: Array
    customer: Array
    time: Array
    event: Array
    names: tuple[str, ...]
    value: Array
    texts: dict[str, tuple[Array, list[str]]] = field(default_factory=dict)

    def where(self, *names: str) -> Log:
        """Return the rows of some events."""
        return self.take(np.flatnonzero(np.isin(self.event, [i for i, name in enumerate(self.names) if name in names])))

    def take(self, rows: Array) -> Log:
        """Return some rows, given in ascending order."""
        texts = {name: (codes[rows], values) for name, (codes, values) in self.texts.items()}
        return Log(self.customers, self.customer[rows], self.time[rows], self.event[rows], self.names, self.value[rows], texts)

    def positions(self, ids: Array) -> Array:
        """Return the position of each customer id, -1 where it has none of these events."""
        return np.asarray(self._index.get_indexer(np.asarray(ids, object)))

    def totals(self, customer: Array, start: Array, end: Array) -> tuple[Array, Array]:
        """Return how many events each has in (start, end], and their value; a customer of -1 has none.

        Args:
            customer: Positions, int64 (k).
            start: Microseconds, int64 (k).
            end: Microseconds, int64 (k), not before start.
        """
        first, last = self._rows.after(customer, start), self._rows.after(customer, end)
        sums = np.append(0, np.cumsum(self.value))
        return last - first, sums[last] - sums[first]

    @cached_property
    def _rows(self) -> Timetable:
        return Timetable(self.customer, self.time)

    @cached_property
    def _index(self) -> Any:
        import pandas as pd

        return pd.Index(self.customers, dtype=object)


def read_log(files: Sequence[Path], events: Iterable[str], known_at: int, texts: Iterable[str] = ()) -> Log:
    """Return the rows of some events that were visible at an instant, under the customer that they belong to then.

    Args:
        files: The events table.
        events: Names of events.
        known_at: Rows that happened or arrived later are left away (microseconds).
        texts: Properties to read as text.
    """
    names, texts = tuple(dict.fromkeys(events)), list(texts)
    block = _rows_where(files, "event", names, ["value", *texts])
    place = np.array([names.index(name) if name in names else -1 for name in block.names] or [-1], np.int64)
    customer = block.customer
    kept = (block.received <= known_at) & (place[block.event] >= 0)
    if block.owner is not None:
        kept &= block.owner[customer] == customer
    chosen = np.flatnonzero(kept)
    used, who = np.unique(customer[chosen], return_inverse=True)
    order = np.argsort(block.customers[used].astype(str), kind="stable")
    position = np.empty(len(order), np.int64)
    position[order] = np.arange(len(order))
    rows = np.lexsort((block.time[chosen], position[who]))
    at, value = chosen[rows], block.properties.get("value")
    units = value.units[at] * (SCALE // value.scale) if isinstance(value, Numbers) else np.zeros(len(at), np.int64)
    said = {name: _text(block, name, at) for name in texts}
    return Log(block.customers[used][order], position[who][rows], block.time[at], place[block.event[at]], names, units, said)


def histories(files: Sequence[Path], ids: Array, properties: Iterable[str]) -> Block:
    """Return the whole histories of some customers as a block."""
    return _rows_where(files, "customer_id", list(ids), properties)


def _rows_where(files: Sequence[Path], column: str, values: Sequence[str], properties: Iterable[str]) -> Block:
    """Return only the rows that have one of some texts in a column, as a block."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    parts, wanted = [], pa.array(list(values), pa.string())
    for path in files:
        schema = pq.read_schema(path)
        columns = [*CORE, *(n for n in dict.fromkeys(properties) if n in schema.names and n not in (*CORE, *IDENTITY))]
        columns += [n for n in IDENTITY if n in schema.names]
        texts = [name for name in columns if pa.types.is_string(schema.field(name).type) or pa.types.is_dictionary(schema.field(name).type)]
        with pq.ParquetFile(path, read_dictionary=texts) as reader:
            for number in range(reader.metadata.num_row_groups):
                rows = reader.read_row_group(number, columns)
                parts.append(rows.filter(pc.is_in(rows[column].cast(pa.string()), wanted)))
    return from_table(pa.concat_tables(parts, promote_options="permissive")) if parts else _nothing()


def _nothing() -> Block:
    empty = np.zeros(0, np.int64)
    return Block(np.zeros(0, object), np.zeros(1, np.int64), empty, empty, empty.astype(np.int32), ())


def _text(block: Block, name: str, rows: Array) -> tuple[Array, list[str]]:
    found = block.properties.get(name)
    if isinstance(found, Words):
        return found.codes[rows].astype(np.int64), [str(value) for value in found.values]
    if isinstance(found, Numbers):
        numbers, codes = np.unique(found.units[rows], return_inverse=True)
        return np.where(found.present[rows], codes, -1), [f"{n / found.scale:g}" for n in numbers]
    return np.full(len(rows), -1), []
