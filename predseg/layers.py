"""How the events table lies in its files: a base, and later rows beside it until there are enough of them to be worth a rewriting.

    part-NNNNN.parquet      the base: sorted by (customer_id, event_time, event_id), no customer in two files
    recent-NNNNN.parquet    later rows in the same order; its metadata say which rows of the files before it are gone

A row is gone when a recent file has it anew: an event of a visitor who became a customer meanwhile. Readers who take
each row by itself go file by file, `readers`; those who need whole customers go part by part, `parts` and `by_customer`:
a file of the base together with the recent rows of the same customers. Where there is no recent file both are plain reading.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from predseg.columns import Array, coded, instants, single, starts, stored, valid_in, whole

if TYPE_CHECKING:
    import pyarrow as pa

CORE = ("customer_id", "event", "event_time", "received_at")
IDENTITY = ("anonymous_id", "linked_at")
ORDER = ("customer_id", "event_time", "event_id")
ROWS = 262_144
"""Rows that are read at once: small enough for the processor's caches, large enough to pay for the call."""
_GONE = b"predseg.gone"
_FEW = 64
_NAME = re.compile(r"(part|recent)-\d+\.parquet$")
_NOTHING = np.zeros(0, np.int64)


def name_of(file: Path) -> str:
    """Return the name of a file of the table, also of one that is held under a second name."""
    found = _NAME.search(file.name)
    return found[0] if found else file.name


def is_recent(file: Path) -> bool:
    """Say whether a file lies beside the base."""
    return name_of(file).startswith("recent-")


def gone_in(files: Iterable[Path]) -> dict[str, Array]:
    """Return which rows of the files are gone: name of the file → positions, ascending."""
    import pyarrow.parquet as pq

    found: dict[str, Array] = {}
    for file in files:
        if is_recent(file):
            for name, rows in json.loads((pq.read_schema(file).metadata or {}).get(_GONE, b"{}")).items():
                found[name] = np.union1d(found.get(name, _NOTHING), rows)
    return found


def with_gone(schema: pa.Schema, gone: Mapping[str, Array]) -> pa.Schema:
    """Return the schema of a recent file that says which rows of files before it are gone."""
    return schema.with_metadata({_GONE: json.dumps({name: rows.tolist() for name, rows in sorted(gone.items()) if len(rows)}).encode()})


def rows_in(files: Sequence[Path]) -> int:
    """Return how many rows the table has; only the ends of the files are read."""
    import pyarrow.parquet as pq

    return sum(pq.read_metadata(file).num_rows for file in files) - sum(map(len, gone_in(files).values()))


# row by row


@dataclass(frozen=True)
class Reader:
    """A file of the table, read without the rows that are gone.

    Attributes:
        path: The file.
        gone: The positions of these rows, ascending.
        texts: Whether texts come as dictionaries.
    """

    path: Path
    gone: Array = field(default_factory=lambda: _NOTHING)
    texts: bool = False

    @cached_property
    def file(self) -> Any:
        """The open file, a `pyarrow.parquet.ParquetFile`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        plain = pq.ParquetFile(self.path)
        if not self.texts:
            return plain
        kinds = {f.name: f.type for f in plain.schema_arrow}
        text = [name for name, kind in kinds.items() if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind)]
        with plain:
            return pq.ParquetFile(self.path, metadata=plain.metadata, read_dictionary=text)

    @cached_property
    def names(self) -> list[str]:
        """The columns of the file."""
        return list(self.file.schema_arrow.names)

    @cached_property
    def sizes(self) -> list[int]:
        """How many rows each row group has, with those that are gone."""
        return [self.file.metadata.row_group(i).num_rows for i in range(self.file.num_row_groups)]

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows of the file."""
        return self._left(self.file.read(columns), 0)

    def group(self, number: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows of a row group."""
        return self._left(self.file.read_row_group(number, columns), sum(self.sizes[:number]))

    def groups(self, numbers: Sequence[int], columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows of neighbouring row groups."""
        return self._left(self.file.read_row_groups(numbers, columns), sum(self.sizes[: numbers[0]]))

    def _left(self, table: pa.Table, first: int) -> pa.Table:
        import pyarrow as pa

        low, high = np.searchsorted(self.gone, [first, first + len(table)])
        if low == high:
            return table
        gone = self.gone[low:high] - first
        if len(gone) <= _FEW:  # nothing is copied
            return pa.concat_tables([table.slice(before + 1, here - before - 1) for before, here in pairwise([-1, *gone.tolist(), len(table)])])
        kept = np.ones(len(table), bool)
        kept[gone] = False
        return table.filter(pa.array(kept))

    def bounds(self, group: int, column: str = "customer_id") -> tuple[Any, Any] | None:
        """Return the least and the greatest of a column in a row group; None when that is not known."""
        found = self.file.metadata.row_group(group).column(self._at[column]).statistics
        return (found.min, found.max) if found is not None and found.has_min_max else None

    @cached_property
    def _at(self) -> dict[str, int]:
        schema = self.file.metadata.schema
        return {schema.column(i).path: i for i in range(self.file.metadata.num_columns)}

    def same_bytes(self, groups: Iterable[int], one: str, other: str) -> bool:
        """Whether two columns of row groups are stored as the same bytes, and so hold the same: to look is cheaper than to decode."""
        kinds = self.file.schema_arrow
        with self.path.open("rb") as raw:
            found = (self.file.metadata.row_group(g) for g in groups)
            return kinds.field(one).type == kinds.field(other).type and all(_same_bytes(raw, g, self._at[one], self._at[other]) for g in found)


def readers(files: Iterable[Path], texts: bool = False) -> Iterator[Reader]:
    """Yield the files of the table, each to be read without the rows that are gone."""
    files = list(files)
    gone = gone_in(files)
    for file in files:
        yield Reader(file, gone.get(name_of(file), _NOTHING), texts)


def tables_with(files: Iterable[Path], column: str, wanted: Sequence[str], columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Yield the rows with one of some texts in a column, with all columns or some; row groups whose statistics rule them out are not read."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for reader in readers(files):
        if column not in reader.names:
            continue
        for group in range(len(reader.sizes)):
            bounds = reader.bounds(group, column)
            if bounds is not None and not any(bounds[0] <= one <= bounds[1] for one in wanted):
                continue
            found = pc.is_in(reader.group(group, [column])[column], pa.array(wanted, pa.string()))
            if pc.any(found).as_py():
                yield reader.group(group, columns and [name for name in columns if name in reader.names]).filter(found)


def _same_bytes(raw: BinaryIO, group: Any, one: int, other: int) -> bool:
    columns = [group.column(one), group.column(other)]
    if len({(c.physical_type, c.compression, c.total_compressed_size, c.has_dictionary_page) for c in columns}) > 1:
        return False
    found = []
    for column in columns:
        raw.seek(column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset)
        found.append(raw.read(column.total_compressed_size))
    return found[0] == found[1]


# customer by customer


@dataclass(frozen=True)
class Part:
    """A file of the base and the recent files; of these, the rows of customers from ``first`` on and before ``end`` belong to the part."""

    base: Reader
    recent: tuple[Reader, ...] = ()
    first: str = ""
    end: str | None = None

    def nothing(self, columns: Sequence[str]) -> pa.Table:
        """Return some columns without a row, as `by_customer` gives them."""
        with (base := Reader(self.base.path, texts=True)).file:
            return base.file.schema_arrow.empty_table().select([name for name in columns if name in base.names])


def parts(files: Iterable[Path]) -> list[Part]:
    """Return the parts of the table in the order of their customers; no customer is in two of them."""
    files = list(files)
    recent = [reader for reader in readers(files) if is_recent(reader.path)]
    if not recent:
        return [Part(Reader(file)) for file in files]
    base = [reader for reader in readers(files) if not is_recent(reader.path)]
    firsts = ["", *(_first(reader) for reader in base[1:])]
    return [Part(replace(reader), tuple(recent), first, end) for reader, first, end in zip(base, firsts, [*firsts[1:], None], strict=True)]


def _first(reader: Reader) -> str:
    found = reader.bounds(0)
    return str(reader.file.read_row_group(0, ["customer_id"])["customer_id"][0].as_py() if found is None else found[0])


def by_customer(part: Part, columns: Sequence[str], rows: int = ROWS) -> Iterator[pa.Table]:
    """Yield whole customers of a part in order, from so many row groups at a time that they have ``rows`` rows.

    Of the columns those that the file has; texts are dictionaries.
    """
    for base, later in pieces(part, columns, rows):
        yield merged(base, later)


def pieces(part: Part, columns: Sequence[str], rows: int = ROWS) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Yield what `by_customer` puts together: rows of the base, and those beside it, of the same customers."""
    import pyarrow as pa

    base = Reader(part.base.path, part.base.gone, texts=True)
    waiting: list[pa.Table] = []  # rows of a customer whose end has not been read
    with base.file:
        present = [name for name in columns if name in base.names]
        found = _recent(part, present)
        later = part.nothing(present) if found is None else found
        for read, complete in _portions(base, present, rows):
            table = whole(pa.concat_tables([*waiting, read]))
            end = table.num_rows if complete else int(starts(coded(table["customer_id"])[0]).max(initial=0))
            waiting = [table.slice(end)] if end < table.num_rows else []
            here = _until(later, table["customer_id"][end - 1].as_py()) if end and len(later) else 0
            yield table.slice(0, end), later.slice(0, here)
            later = later.slice(here)
    if len(later):
        yield later, later.slice(0, 0)


def whole_customers(part: Part, group: int, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the customers of one row group of the base, without those at its ends of whom the row groups beside it may have rows."""
    base = Reader(part.base.path, part.base.gone)
    present = [name for name in columns or base.names if name in base.names]
    table = base.group(group, present)
    cuts = np.append(starts(coded(table["customer_id"])[0]), len(table))
    begin, end = int(cuts[min(group, 1, len(cuts) - 1)]), int(cuts[-1 if group + 1 == len(base.sizes) else -2]) if len(cuts) > 1 else 0
    table = table.slice(begin, max(0, end - begin))
    if not part.recent or not len(table):
        return table
    first, last = table["customer_id"][0].as_py(), table["customer_id"][-1].as_py()
    later = _recent(replace(part, first=first), present, texts=False)
    return table if later is None else merged(table, later.slice(0, _until(later, last)))


def _portions(reader: Reader, columns: Sequence[str], rows: int) -> Iterator[tuple[pa.Table, bool]]:
    """Yield row groups with whether their last customer is whole: the file ends there, or the next row group begins with another."""
    portion = (np.cumsum(reader.sizes) - 1) // rows
    for number in np.unique(portion):
        chosen = np.flatnonzero(portion == number).tolist()
        at_once = {"event_time", "received_at"} <= {*columns} and reader.same_bytes(chosen, "event_time", "received_at")
        table = reader.groups(chosen, [c for c in columns if c != "received_at"] if at_once else list(columns))
        table = table.append_column("received_at", table["event_time"]).select(columns) if at_once else table
        last, following = reader.bounds(chosen[-1]), reader.bounds(chosen[-1] + 1) if chosen[-1] + 1 < len(reader.sizes) else None
        cut = last is not None and following is not None and last[1] < following[0]
        yield table, chosen[-1] + 1 == len(reader.sizes) or cut


def _recent(part: Part, columns: Sequence[str], texts: bool = True) -> pa.Table | None:
    """Return the recent rows of a part, at most a share of those of the base; None when there are no recent files."""
    found: pa.Table | None = None
    for recent in part.recent:
        with (reader := Reader(recent.path, recent.gone, texts)).file:
            near = [g for g in range(len(reader.sizes)) if _overlap(reader.bounds(g), part.first, part.end)]
            if near:
                table = whole(reader.groups(list(range(near[0], near[-1] + 1)), list(columns)))
                begin = _before(table, part.first)
                table = table.slice(begin, (_before(table, part.end) if part.end is not None else len(table)) - begin)
                found = table if found is None else merged(found, table)
    return found


def _overlap(bounds: tuple[Any, Any] | None, first: str, end: str | None) -> bool:
    return bounds is None or (bounds[1] >= first and (end is None or bounds[0] < end))


def _before(table: pa.Table, customer: str) -> int:
    """Return how many rows belong to customers before one."""
    return _count(table, customer, "less")


def _until(table: pa.Table, customer: str) -> int:
    """Return how many rows belong to a customer and those before."""
    return _count(table, customer, "less_equal")


def _count(table: pa.Table, customer: str, how: str) -> int:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.sum(pc.call_function(how, [table["customer_id"].cast(pa.string()), customer])).as_py() or 0


def merged(older: pa.Table, newer: pa.Table) -> pa.Table:
    """Return the rows of two tables that are in order by customer and time, in this order; at the same time the older ones come first."""
    import pyarrow as pa

    if not len(newer) or not len(older):
        return older if len(older) else newer
    older, newer = whole(older), whole(newer)
    is_new = np.zeros(len(older) + len(newer), bool)
    is_new[_places(older, newer) + np.arange(len(newer))] = True
    columns = [
        _together(single(one), single(other), is_new) for one, other in zip(older.columns, newer.select(older.column_names).columns, strict=True)
    ]
    return pa.table(columns, schema=older.schema)


def _places(older: pa.Table, newer: pa.Table) -> Array:
    """Return before which of the older rows each newer row comes: bisection of all customers at once."""
    import pyarrow as pa

    codes, ids = coded(older["customer_id"])
    begins = starts(codes)
    known = np.asarray(ids.take(pa.array(codes[begins])).to_pylist(), object)
    own, names = coded(newer["customer_id"])
    wanted = np.asarray(names.to_pylist(), object)
    low, high = (np.append(begins, len(codes))[np.searchsorted(known, wanted, side)][own] for side in ("left", "right"))
    time, new_time = instants(older["event_time"]), instants(newer["event_time"])
    while (open_ := low < high).any():
        middle = (low + high) // 2
        later = open_ & (time[np.minimum(middle, len(time) - 1)] <= new_time)
        low, high = np.where(later, middle + 1, low), np.where(open_ & ~later, middle, high)
    return low


_MOVED = {8: "u1", 16: "u2", 32: "u4", 64: "u8", 128: "c16"}


def _together(older: pa.Array, newer: pa.Array, is_new: Array) -> pa.Array:
    """Return the values of two columns where ``is_new``, bool, says that each goes. They are moved as they lie in memory: several times as fast as `take`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = older.type
    if pa.types.is_dictionary(kind):
        codes = pc.index_in(newer.dictionary, older.dictionary).to_numpy(zero_copy_only=False)
        unseen = np.isnan(codes)
        codes = np.where(unseen, len(older.dictionary) - 1 + np.cumsum(unseen), codes)
        indices = _together(older.indices, pa.array(codes, kind.index_type, from_pandas=False).take(newer.indices), is_new)
        return pa.DictionaryArray.from_arrays(indices, pa.concat_arrays([older.dictionary, newer.dictionary.filter(pa.array(unseen))]))
    if not pa.types.is_primitive(kind) and not pa.types.is_decimal128(kind) or kind.bit_width not in _MOVED:
        place = np.empty(len(is_new), np.int64)
        place[~is_new], place[is_new] = np.arange(len(older)), np.arange(len(older), len(is_new))
        return pa.concat_arrays([older, newer]).take(pa.array(place))
    found, is_old = np.empty(len(is_new), _MOVED[kind.bit_width]), ~is_new
    found[is_old], found[is_new] = stored(older, found.dtype), stored(newer, found.dtype)
    if not older.null_count and not newer.null_count:
        return pa.Array.from_buffers(kind, len(found), [None, pa.py_buffer(found)])
    valid = np.empty(len(is_new), np.uint8)
    valid[is_old], valid[is_new] = valid_in(older), valid_in(newer)
    return pa.Array.from_buffers(kind, len(found), [pa.py_buffer(np.packbits(valid, bitorder="little")), pa.py_buffer(found)])


def in_order(table: pa.Table) -> pa.Table:
    """Return the rows of files that were read one after the other in the order of the table."""
    return table.sort_by([(name, "ascending") for name in ORDER])
