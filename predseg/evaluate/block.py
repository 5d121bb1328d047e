"""A block: some customers' whole histories as columns, sorted by customer and time.

Customers are never split over two blocks, so blocks are evaluated one by one, on as many cores or machines as there are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from predseg.evaluate.memory import reuse
from predseg.language.measures import SCALE, Filter

if TYPE_CHECKING:
    import pyarrow as pa

Array = np.ndarray[Any, Any]
NEVER = np.iinfo(np.int64).max
BEGINNING = -(2**61)
"""Before all of history, with room to add and subtract."""
ROWS = 262_144
"""Rows of a block: small enough for the processor's caches, large enough to pay for the call."""

CORE = ("customer_id", "event", "event_time", "received_at")
IDENTITY = ("anonymous_id", "linked_at")


def always(flag: bool, shape: tuple[int, ...]) -> Array:
    """Return bool of a shape, all the same: a view of one flag that cannot be written to."""
    return np.ndarray(shape, bool, b"\1" if flag else b"\0", strides=(0,) * len(shape))


@dataclass(frozen=True)
class Words:
    """A property of text, flags or lists (all its values are tuples then): per row the position in ``values``, -1 where it is missing."""

    codes: Array  # int32 (rows)
    values: tuple[Any, ...]

    def take(self, rows: Array | slice) -> Words:
        """The same property of some rows."""
        return replace(self, codes=self.codes[rows])


@dataclass(frozen=True)
class Numbers:
    """An exact numeric property: whole multiples of 1/scale."""

    units: Array  # int64 (rows), 0 where missing
    present: Array  # bool (rows)
    scale: int = SCALE

    def take(self, rows: Array | slice) -> Numbers:
        """The same property of some rows."""
        return replace(self, units=self.units[rows], present=self.present[rows])


Property = Words | Numbers


@dataclass(frozen=True)
class Block:
    """Histories of n customers in r rows.

    A row counts at t from ``received`` (never before ``time``) and until before ``hidden``. A customer past ``merged_from``
    is an earlier identity of ``owner``: an anonymous id whose events later joined another customer's history.
    """

    customers: Array  # str (n)
    offsets: Array  # int64 (n + 1): rows of customer i are offsets[i]:offsets[i + 1]
    time: Array  # int64 (r) microseconds
    received: Array  # int64 (r)
    event: Array  # int32 (r): position in names
    names: tuple[str, ...]
    properties: dict[str, Property] = field(default_factory=dict)
    hidden: Array | None = None  # int64 (r)
    owner: Array | None = None  # int64 (n)
    passing: dict[Filter, Array] = field(default_factory=dict, init=False, repr=False)  # bool (r): which rows pass, of the filters asked so far

    @cached_property
    def customer(self) -> Array:
        """The customer of each row, as a position."""
        return np.repeat(np.arange(len(self.customers)), np.diff(self.offsets))

    def only(self, chosen: Array) -> Block:
        """Return the whole histories of some customers, bool (n); an earlier identity goes with its owner."""
        chosen = chosen if self.owner is None else chosen[self.owner]
        rows = np.flatnonzero(chosen[self.customer])
        offsets = np.append(0, np.cumsum(np.diff(self.offsets)[chosen]))
        hidden = None if self.hidden is None else self.hidden[rows]
        owner = None if self.owner is None else (np.cumsum(chosen) - 1)[self.owner[chosen]]
        columns = (self.time[rows], self.received[rows], self.event[rows], self.names, {name: p.take(rows) for name, p in self.properties.items()})
        return Block(self.customers[chosen], offsets, *columns, hidden, owner)

    def keep(self, rows: Array, customers: Array | None = None) -> Block:
        """Return the block with only the marked rows, and only the given customers (positions), as if all were visible at once."""
        chosen = np.arange(len(self.customers)) if customers is None else customers
        counts = np.bincount(self.customer[rows], minlength=len(self.customers))[chosen]
        wanted = np.flatnonzero(rows)
        if customers is not None:
            member = np.zeros(len(self.customers), bool)
            member[chosen] = True
            wanted = wanted[member[self.customer[wanted]]]
        properties = {name: p.take(wanted) for name, p in self.properties.items()}
        offsets = np.concatenate([[0], np.cumsum(counts)])
        return Block(self.customers[chosen], offsets, self.time[wanted], self.time[wanted], self.event[wanted], self.names, properties)


def from_table(table: pa.Table, wanted: Collection[str] | None = None, since: int = BEGINNING) -> Block:
    """Return the block of rows of the events table: whole customers, sorted by customer_id and event_time.

    Args:
        table: The rows.
        wanted: The properties to take along; all of them by default.
        since: The first moment at which earlier identities are asked about; those that had ended by then are left out.
    """
    import pyarrow as pa

    table = _whole(table)
    codes, ids = _codes(table["customer_id"])
    starts = _starts(codes)
    event, names = _codes(table["event"])
    time, received = _instants(table["event_time"]), _instants(table["received_at"])
    given = [n for n in table.column_names if n not in CORE and n != "linked_at" and (wanted is None or n in wanted)]
    properties = {n: _property(table[n]) for n in given if not pa.types.is_null(table[n].type)}
    customers = np.asarray(ids.take(pa.array(codes[starts])).to_pylist(), dtype=object)
    block = Block(customers, np.append(starts, len(codes)), time, np.maximum(time, received), event, tuple(names.to_pylist()), properties)
    return _earlier_identities(block, table, since) if "linked_at" in table.column_names else block


def blocks(files: Iterable[Path], properties: Iterable[str], rows: int = ROWS, since: int = BEGINNING) -> Iterator[Block]:
    """Read the events table, in order, as blocks of about ``rows`` rows, with only the named properties.

    No more than one block's row groups are read at a time, so memory does not grow with the files. Earlier identities that had
    ended by ``since`` are left out, see `from_table`.

    Raises:
        OSError: when a file cannot be read.
    """
    import pyarrow as pa

    reuse()
    wanted = set(properties)
    for path in files:
        waiting: list[pa.Table] = []  # rows of a customer whose end has not been read
        for read, complete in _row_groups(path, wanted, rows):
            table = _whole(pa.concat_tables([*waiting, read]))
            end = table.num_rows if complete else _starts(_codes(table["customer_id"])[0]).max(initial=0)
            yield from (from_table(part, wanted, since) for part in _cut(table.slice(0, end), rows))
            waiting = [table.slice(end)] if end < table.num_rows else []


def _row_groups(path: Path, wanted: set[str], rows: int) -> Iterator[tuple[pa.Table, bool]]:
    """Yield the wanted columns of so many row groups at a time that they have ``rows`` rows, text as dictionaries.

    Each comes with whether its last customer is whole: the file ends there, or the next row group begins with another.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as reader:
        present, metadata = {f.name: f.type for f in reader.schema_arrow}, reader.metadata
    groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    columns = [*CORE, *sorted(wanted & present.keys() - set(CORE) - set(IDENTITY)), *(c for c in IDENTITY if c in present)]
    text = [c for c in columns if pa.types.is_string(present[c]) or pa.types.is_large_string(present[c]) or pa.types.is_dictionary(present[c])]
    at = {metadata.schema.column(i).path: i for i in range(metadata.num_columns)}
    with pq.ParquetFile(path, metadata=metadata, read_dictionary=text) as reader, path.open("rb") as raw:
        portion = (np.cumsum(groups) - 1) // rows
        for number in np.unique(portion):
            chosen = np.flatnonzero(portion == number).tolist()
            at_once = present["event_time"] == present["received_at"] and all(
                _same_bytes(raw, metadata.row_group(g), at["event_time"], at["received_at"]) for g in chosen
            )
            table = reader.read_row_groups(chosen, [c for c in columns if c != "received_at"] if at_once else columns)
            table = table.append_column("received_at", table["event_time"]).select(columns) if at_once else table
            yield table, chosen[-1] + 1 == len(groups) or _cut_after(metadata, chosen[-1], at["customer_id"])


def _same_bytes(raw: BinaryIO, group: Any, one: int, other: int) -> bool:
    """Whether two columns of a row group are stored as the same bytes, and so hold the same: to look is cheaper than to decode."""
    columns = [group.column(one), group.column(other)]
    if len({(c.physical_type, c.compression, c.total_compressed_size, c.has_dictionary_page) for c in columns}) > 1:
        return False
    found = []
    for column in columns:
        raw.seek(column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset)
        found.append(raw.read(column.total_compressed_size))
    return found[0] == found[1]


def _cut_after(metadata: Any, group: int, column: int) -> bool:
    """Whether no customer is in both a row group and the next one, by their statistics."""
    here, there = (metadata.row_group(g).column(column).statistics for g in (group, group + 1))
    return bool(here is not None and there is not None and here.has_min_max and there.has_min_max and here.max < there.min)


def _cut(table: pa.Table, rows: int) -> Iterator[pa.Table]:
    """Yield the rows in parts of much the same size, cut between customers."""
    starts = np.append(_starts(_codes(table["customer_id"])[0]), table.num_rows)
    wanted = np.linspace(0, table.num_rows, max(1, round(table.num_rows / rows)) + 1)
    cuts = np.unique(starts[np.searchsorted(starts, wanted)]).tolist()
    for begin, end in pairwise(cuts):
        yield table.slice(begin, end - begin)


def _whole(table: pa.Table) -> pa.Table:
    """Return the table with one chunk, and one dictionary, a column."""
    return table.unify_dictionaries().combine_chunks() if max((column.num_chunks for column in table.columns), default=0) > 1 else table


def _starts(codes: Array) -> Array:
    """Return int64: the rows at which a customer starts."""
    return np.append(0, np.flatnonzero(codes[1:] != codes[:-1]) + 1) if len(codes) else np.zeros(0, np.int64)


def _codes(column: pa.ChunkedArray) -> tuple[Array, pa.Array]:
    """Return int32 (rows), -1 where missing, and the values that they stand for."""
    import pyarrow as pa

    array = _single(column)
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    indices = array.indices
    codes = _stored(indices, indices.type.to_pandas_dtype())
    if indices.null_count:
        codes = np.where(indices.is_valid().to_numpy(zero_copy_only=False), codes, -1)
    return codes.astype(np.int32, copy=False), array.dictionary


def _single(column: pa.ChunkedArray) -> pa.Array:
    import pyarrow as pa

    return column.chunk(0) if column.num_chunks == 1 else pa.array([], column.type) if not column.num_chunks else pa.concat_arrays(column.chunks)


def _instants(column: pa.ChunkedArray) -> Array:
    """Return int64, microseconds; anything where missing."""
    import pyarrow as pa

    return _stored(_single(column).cast(pa.timestamp("us", "UTC")), np.int64)


def _stored(array: pa.Array, kind: Any) -> Array:
    """Return the numbers of an array as they lie in memory; anything where missing."""
    return np.frombuffer(array.buffers()[1] or b"", kind)[array.offset : array.offset + len(array)]


def _property(column: pa.ChunkedArray) -> Property:
    import pyarrow as pa

    kind = column.type
    if pa.types.is_decimal(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _numbers(column)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _lists(column)
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind) or pa.types.is_boolean(kind)):
        column = column.cast(pa.string())
    codes, values = _codes(column)
    return Words(codes, tuple(values.to_pylist()))


def _numbers(column: pa.ChunkedArray) -> Numbers:
    """Whole numbers stay whole; others become ten-thousandths, which is what the lower half of a decimal of four digits holds."""
    import pyarrow as pa

    array = _single(column)
    present = array.is_valid().to_numpy(zero_copy_only=False)
    if pa.types.is_integer(array.type):
        return Numbers(array.fill_null(0).cast(pa.int64()).to_numpy(), present, 1)
    array = array.cast(pa.decimal128(18, 4))
    halves = np.frombuffer(array.buffers()[1], np.int64)[2 * array.offset : 2 * (array.offset + len(array))]
    return Numbers(np.where(present, halves[::2], 0), present)


def _lists(column: pa.ChunkedArray) -> Words:
    seen: dict[tuple[Any, ...], int] = {}
    codes = np.fromiter(
        (-1 if v is None else seen.setdefault(tuple(e for e in v if e is not None), len(seen)) for v in column.to_pylist()), np.int32, len(column)
    )
    return Words(codes, tuple(seen))


def _earlier_identities(block: Block, table: pa.Table, since: int) -> Block:
    """Let rows count from when they joined their customer, and give those that did after ``since`` a second life under their anonymous id."""
    joined = _single(table["linked_at"])
    if joined.null_count == len(joined):
        return block
    linked = np.where(joined.is_valid().to_numpy(zero_copy_only=False), _instants(table["linked_at"]), BEGINNING)
    received = np.maximum(block.received, linked)
    later = np.flatnonzero((linked > since) & (linked > block.received))
    if not len(later):
        return replace(block, received=received)
    anonymous, values = _codes(table["anonymous_id"])
    earlier = later[anonymous[later] >= 0]
    order = earlier[np.lexsort((np.arange(len(earlier)), block.time[earlier], anonymous[earlier]))]
    found, first, counts = np.unique(anonymous[order], return_index=True, return_counts=True)
    rows = np.concatenate([np.arange(len(block.time)), order])
    offsets = np.concatenate([block.offsets, block.offsets[-1] + np.cumsum(counts)])
    hidden = np.concatenate([np.full(len(block.time), NEVER), linked[order]])
    received = np.concatenate([received, block.received[order]])
    owner = np.concatenate([np.arange(len(block.customers)), block.customer[order[first]]])
    customers = np.concatenate([block.customers, np.asarray(values.to_pylist(), dtype=object)[found]])
    properties = {name: p.take(rows) for name, p in block.properties.items()}
    return Block(customers, offsets, block.time[rows], received, block.event[rows], block.names, properties, hidden, owner)
