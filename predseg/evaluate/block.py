"""A block: some customers' whole histories as columns, sorted by customer and time.

Customers are never split over two blocks, so blocks are evaluated one by one, on as many cores or machines as there are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from predseg.columns import Array as Array
from predseg.columns import coded, instants, is_mixed, single, starts, valid_in, whole
from predseg.evaluate.memory import reuse
from predseg.language.measures import SCALE, Filter
from predseg.language.spelling import value_of
from predseg.layers import CORE as CORE
from predseg.layers import IDENTITY as IDENTITY
from predseg.layers import ROWS as ROWS
from predseg.layers import Part, merged, parts, pieces

if TYPE_CHECKING:
    import pyarrow as pa

Piece = tuple["pa.Table", "pa.Table"]
NEVER = np.iinfo(np.int64).max
BEGINNING = -(2**61)
"""Before all of history, with room to add and subtract."""


def always(flag: bool, shape: tuple[int, ...]) -> Array:
    """Return bool of a shape, all the same: a view of one flag that cannot be written to."""
    return np.ndarray(shape, bool, b"\1" if flag else b"\0", strides=(0,) * len(shape))


@dataclass(frozen=True)
class Words:
    """A property of text, flags, lists (all its values are tuples then) or several kinds: per row the position in ``values``, -1 where it is missing."""

    codes: Array  # int32 (rows)
    values: tuple[Any, ...]
    mixed: bool = False

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

    ids: pa.Array  # string (n)
    offsets: Array  # int64 (n + 1): rows of customer i are offsets[i]:offsets[i + 1]
    time: Array  # int64 (r) microseconds
    received: Array  # int64 (r)
    event: Array  # int32 (r): position in names
    names: tuple[str, ...]
    properties: dict[str, Property] = field(default_factory=dict)
    hidden: Array | None = None  # int64 (r)
    owner: Array | None = None  # int64 (n)
    named: dict[tuple[str, ...], Array] = field(default_factory=dict, init=False, repr=False)  # int64: the rows of the events asked for so far
    passing: dict[Filter, Array] = field(default_factory=dict, init=False, repr=False)  # bool (r): which rows pass, of the filters asked so far

    @property
    def size(self) -> int:
        """How many customers there are."""
        return len(self.ids)

    @cached_property
    def customers(self) -> Array:
        """The ids as Python's texts: object (n)."""
        return np.asarray(self.ids.to_numpy(zero_copy_only=False))

    @cached_property
    def customer(self) -> Array:
        """The customer of each row, as a position."""
        return np.repeat(np.arange(self.size), np.diff(self.offsets))

    @cached_property
    def first(self) -> Array:
        """When the first event of each customer was received: int64 (n), `NEVER` without an event."""
        some = np.flatnonzero(np.diff(self.offsets))
        begins, found = self.offsets[some], np.full(self.size, NEVER)
        found[some] = self.time[begins] if self.received is self.time else np.minimum.reduceat(self.received, begins)
        return found

    def places(self, customers: Array) -> Array:
        """Return where customers stand, int64, -1 for nobody; who has the id of an earlier identity stands before it."""
        import pyarrow as pa
        import pyarrow.compute as pc

        at = pc.index_in(pa.array(customers, self.ids.type), value_set=self.ids)
        return np.asarray(at.fill_null(-1).cast(pa.int64()).to_numpy())

    def visible(self, rows: Array | slice, t: int | Array) -> Array:
        """Say which of some rows count at a moment, or each at one of its own."""
        found: Array = self.received[rows] <= t
        return found if self.hidden is None else found & (self.hidden[rows] > t)

    def only(self, chosen: Array) -> Block:
        """Return the whole histories of some customers, bool (n); an earlier identity goes with its owner."""
        import pyarrow as pa

        chosen = chosen if self.owner is None else chosen[self.owner]
        rows = np.flatnonzero(chosen[self.customer])
        offsets = np.append(0, np.cumsum(np.diff(self.offsets)[chosen]))
        hidden = None if self.hidden is None else self.hidden[rows]
        owner = None if self.owner is None else (np.cumsum(chosen) - 1)[self.owner[chosen]]
        columns = (self.time[rows], self.received[rows], self.event[rows], self.names, {name: p.take(rows) for name, p in self.properties.items()})
        return Block(self.ids.filter(pa.array(chosen)), offsets, *columns, hidden, owner)

    def keep(self, rows: Array, customers: Array | None = None) -> Block:
        """Return the block with only the marked rows, and only the given customers (positions), as if all were visible at once."""
        import pyarrow as pa

        chosen = np.arange(self.size) if customers is None else customers
        counts = np.bincount(self.customer[rows], minlength=self.size)[chosen]
        wanted = np.flatnonzero(rows)
        if customers is not None:
            member = np.zeros(self.size, bool)
            member[chosen] = True
            wanted = wanted[member[self.customer[wanted]]]
        properties = {name: p.take(wanted) for name, p in self.properties.items()}
        offsets = np.concatenate([[0], np.cumsum(counts)])
        return Block(self.ids.take(pa.array(chosen)), offsets, self.time[wanted], self.time[wanted], self.event[wanted], self.names, properties)


def from_table(table: pa.Table, wanted: Collection[str] | None = None, since: int = BEGINNING) -> Block:
    """Return the block of rows of the events table: whole customers, sorted by customer_id and event_time.

    Args:
        table: The rows.
        wanted: The properties to take along; all of them by default.
        since: The first moment at which earlier identities are asked about; those that had ended by then are left out.
    """
    import pyarrow as pa

    table = whole(table)
    codes, ids = coded(table["customer_id"])
    begins = starts(codes)
    event, names = coded(table["event"])
    time, received = instants(table["event_time"]), instants(table["received_at"])
    received = time if received.ctypes.data == time.ctypes.data else np.maximum(time, received)  # one array where all was known at once
    given = [n for n in table.column_names if n not in CORE and n != "linked_at" and (wanted is None or n in wanted)]
    properties = {n: _property(table[n], is_mixed(table.schema.field(n))) for n in given if not pa.types.is_null(table[n].type)}
    block = Block(ids.take(pa.array(codes[begins])), np.append(begins, len(codes)), time, received, event, tuple(names.to_pylist()), properties)
    return _earlier_identities(block, table, since) if "linked_at" in table.column_names else block


def blocks(files: Iterable[Path], properties: Iterable[str], rows: int = ROWS, since: int = BEGINNING) -> Iterator[Block]:
    """Read the events table, in order, as blocks of about ``rows`` rows, with only the named properties.

    No more than one block's row groups are read at a time, so memory does not grow with the files. Earlier identities that had
    ended by ``since`` are left out, see `from_table`.

    Raises:
        OSError: when a file cannot be read.
    """
    wanted = set(properties)
    for part in parts(files):
        yield from blocks_of(part, wanted, rows, since)


def blocks_of(part: Part, wanted: Collection[str], rows: int = ROWS, since: int = BEGINNING) -> Iterator[Block]:
    """Read one part of the events table as `blocks` does."""
    for piece in pieces_of(part, wanted, rows):
        yield from blocks_in(piece, wanted, rows, since)


def pieces_of(part: Part, wanted: Collection[str], rows: int = ROWS) -> Iterator[Piece]:
    """Read what the blocks of one part are made of, see `blocks_in`."""
    reuse()
    yield from pieces(part, [*CORE, *sorted(set(wanted) - {*CORE, *IDENTITY}), *IDENTITY], rows)


def blocks_in(piece: Piece, wanted: Collection[str], rows: int = ROWS, since: int = BEGINNING) -> Iterator[Block]:
    """Make blocks of whole customers that were read, see `predseg.layers.pieces`."""
    yield from (from_table(table, wanted, since) for table in _cut(merged(*piece), rows))


def _cut(table: pa.Table, rows: int) -> Iterator[pa.Table]:
    """Yield the rows in parts of much the same size, cut between customers."""
    begins = np.append(starts(coded(table["customer_id"])[0]), table.num_rows)
    wanted = np.linspace(0, table.num_rows, max(1, round(table.num_rows / rows)) + 1)
    cuts = np.unique(begins[np.searchsorted(begins, wanted)]).tolist()
    for begin, end in pairwise(cuts):
        yield table.slice(begin, end - begin)


def _property(column: pa.ChunkedArray, mixed: bool) -> Property:
    import pyarrow as pa

    kind = column.type
    if pa.types.is_decimal(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _numbers(column)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _lists(column)
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind) or pa.types.is_boolean(kind)):
        column = column.cast(pa.string())
    codes, values = coded(column)
    return _several(codes, values.to_pylist()) if mixed else Words(codes, tuple(values.to_pylist()))


def _several(codes: Array, texts: Iterable[str]) -> Words:
    """Values of several kinds, each once: of lists the nulls are left out."""
    seen: dict[tuple[type, Any], int] = {}
    place = [seen.setdefault((type(value), value), len(seen)) for value in map(value_of, texts)]
    return Words(np.array([*place, -1], np.int32)[codes], tuple(value for _, value in seen), True)


def _numbers(column: pa.ChunkedArray) -> Numbers:
    """Whole numbers stay whole; others become ten-thousandths, which is what the lower half of a decimal of four digits holds."""
    import pyarrow as pa

    array = single(column)
    present = valid_in(array).view(bool)
    if pa.types.is_integer(array.type):
        return Numbers(array.fill_null(0).cast(pa.int64()).to_numpy(), present, 1)
    array = array.cast(pa.decimal128(18, 4))
    halves = np.frombuffer(array.buffers()[1], np.int64)[2 * array.offset : 2 * (array.offset + len(array))]
    return Numbers(halves[::2] * present, present)


def _lists(column: pa.ChunkedArray) -> Words:
    seen: dict[tuple[Any, ...], int] = {}
    codes = np.fromiter(
        (-1 if v is None else seen.setdefault(tuple(e for e in v if e is not None), len(seen)) for v in column.to_pylist()), np.int32, len(column)
    )
    return Words(codes, tuple(seen))


def _earlier_identities(block: Block, table: pa.Table, since: int) -> Block:
    """Let rows count from when they joined their customer, and give those that did after ``since`` a second life under their anonymous id."""
    import pyarrow as pa

    joined = single(table["linked_at"])
    if joined.null_count == len(joined):
        return block
    linked = np.where(joined.is_valid().to_numpy(zero_copy_only=False), instants(table["linked_at"]), BEGINNING)
    received = np.maximum(block.received, linked)
    later = np.flatnonzero((linked > since) & (linked > block.received))
    if not len(later):
        return replace(block, received=received)
    anonymous, values = coded(table["anonymous_id"])
    earlier = later[anonymous[later] >= 0]
    order = earlier[np.lexsort((np.arange(len(earlier)), block.time[earlier], anonymous[earlier]))]
    found, first, counts = np.unique(anonymous[order], return_index=True, return_counts=True)
    rows = np.concatenate([np.arange(len(block.time)), order])
    offsets = np.concatenate([block.offsets, block.offsets[-1] + np.cumsum(counts)])
    hidden = np.concatenate([np.full(len(block.time), NEVER), linked[order]])
    received = np.concatenate([received, block.received[order]])
    owner = np.concatenate([np.arange(block.size), block.customer[order[first]]])
    ids = pa.concat_arrays([block.ids, values.take(pa.array(found)).cast(block.ids.type)])
    properties = {name: p.take(rows) for name, p in block.properties.items()}
    return Block(ids, offsets, block.time[rows], received, block.event[rows], block.names, properties, hidden, owner)
