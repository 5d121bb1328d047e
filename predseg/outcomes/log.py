"""Some events of all customers in columns, and what happened after an instant that each customer has of its own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from predseg.columns import coded
from predseg.evaluate.ahead import ahead
from predseg.evaluate.block import BEGINNING, CORE, IDENTITY, Array, Block, Numbers, Words, from_table
from predseg.language.measures import SCALE
from predseg.layers import Part, merged, parts, pieces

if TYPE_CHECKING:
    import pyarrow as pa


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
        low, high = self._ends(np.asarray(line, np.int64))
        while (searched := np.flatnonzero(low < high)).size:
            middle = (low[searched] + high[searched]) // 2
            later = self.time[middle] > t[searched]
            high[searched[later]] = middle[later]
            low[searched[~later]] = middle[~later] + 1
        return low

    def last(self, line: Array, t: Array) -> Array:
        """Return for each pair the last row at or before t, int64 (k); -1 when there is none on its line."""
        row = self.after(line, t) - 1
        return np.where((row >= 0) & (self.line[np.maximum(row, 0)] == line), row, -1) if len(self.line) else np.full(len(line), -1)

    def _ends(self, line: Array) -> tuple[Array, Array]:
        """Return the first row of each line, and the first after it."""
        if self.line.max(initial=0) > 4 * len(self.line):
            return np.searchsorted(self.line, line, "left"), np.searchsorted(self.line, line, "right")
        line = np.minimum(line, len(self._starts) - 2)
        return self._starts[line], self._starts[line + 1]

    @cached_property
    def _starts(self) -> Array:
        """The first row of each line, of one more that has none, and the end."""
        return np.searchsorted(self.line, np.arange(self.line.max(initial=-1) + 3))


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
    names, properties = tuple(dict.fromkeys(events)), list(texts)

    def of_part(part: Part) -> Log:
        return _log(from_table(_rows_where(part, "event", names, ["value", *properties])), names, known_at, properties)

    return _joined(list(ahead(of_part, parts(files))), names, properties)


def _log(block: Block, names: tuple[str, ...], known_at: int, texts: Sequence[str]) -> Log:
    place = np.array([names.index(name) if name in names else -1 for name in block.names] or [-1], np.int64)
    kept = (block.received <= known_at) & (place[block.event] >= 0)
    if block.owner is not None:
        kept &= block.owner[block.customer] == block.customer
    at = np.flatnonzero(kept)  # in the order of the table: by customer and time, as earlier identities are left away
    used, who = np.unique(block.customer[at], return_inverse=True)
    value = block.properties.get("value")
    units = value.units[at] * (SCALE // value.scale) if isinstance(value, Numbers) else np.zeros(len(at), np.int64)
    return Log(block.customers[used], who, block.time[at], place[block.event[at]], names, units, {name: _text(block, name, at) for name in texts})


def _joined(parts: Sequence[Log], names: tuple[str, ...], texts: Sequence[str]) -> Log:
    """Return the logs of files, which follow each other by customer, as one."""

    def column(name: str, kind: Any = np.int64) -> Array:
        return np.concatenate([np.zeros(0, kind), *(getattr(part, name) for part in parts)])

    before = np.cumsum([0, *(len(part.customers) for part in parts)])
    customer = [part.customer + n for part, n in zip(parts, before[:-1], strict=True)]
    said = {name: _one_text([part.texts[name] for part in parts]) for name in texts}
    return Log(
        column("customers", object), np.concatenate([np.zeros(0, np.int64), *customer]), column("time"), column("event"), names, column("value"), said
    )


def _one_text(parts: Sequence[tuple[Array, list[str]]]) -> tuple[Array, list[str]]:
    places: dict[str, int] = {}
    codes = [np.array([*(places.setdefault(v, len(places)) for v in values), -1], np.int64)[codes] for codes, values in parts]
    return np.concatenate([np.zeros(0, np.int64), *codes]), list(places)


def histories(table: Sequence[Part], ids: Collection[str], properties: Iterable[str], since: int = BEGINNING) -> Block:
    """Return the whole histories that some parts of the table have of some customers, to be asked about moments from ``since`` on."""
    import pyarrow as pa

    wanted, named = set(ids), list(properties)
    found = [_rows_where(part, "customer_id", wanted, named) for part in table]
    return from_table(pa.concat_tables(found, promote_options="permissive"), since=since)


def _rows_where(part: Part, column: str, values: Collection[str], properties: Iterable[str]) -> pa.Table:
    """Return only the rows of a part of the table that have one of some texts in a column."""
    import pyarrow as pa

    columns = [*CORE, *(n for n in dict.fromkeys(properties) if n not in (*CORE, *IDENTITY)), *IDENTITY]

    def chosen(rows: pa.Table) -> pa.Table:
        codes, texts = coded(rows[column])
        wanted = np.array([text in values for text in texts.to_pylist()], bool)
        return rows.filter(pa.array(wanted[codes]))

    found = (merged(chosen(base), chosen(later)) for base, later in pieces(part, columns))
    return pa.concat_tables([part.nothing(columns), *found])


def _text(block: Block, name: str, rows: Array) -> tuple[Array, list[str]]:
    found = block.properties.get(name)
    if isinstance(found, Words):
        words = [str(value) for value in found.values]
        kept = np.array([*(i if word.strip() else -1 for i, word in enumerate(words)), -1], np.int64)
        return kept[found.codes[rows]], words  # what is blank says nothing
    if isinstance(found, Numbers):
        numbers, codes = np.unique(found.units[rows], return_inverse=True)
        return np.where(found.present[rows], codes, -1), [f"{n / found.scale:g}" for n in numbers]
    return np.full(len(rows), -1), []
