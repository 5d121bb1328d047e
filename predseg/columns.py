"""Columns of Arrow tables as NumPy sees them: codes of texts, instants as microseconds, without a copy where that can be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

Array = np.ndarray[Any, Any]
SEVERAL = {b"predseg.kinds": b"mixed"}
"""What a column of texts says of itself when its values are of several kinds, see `predseg.language.spelling`."""


def field_of(name: str, kind: pa.DataType, mixed: bool) -> pa.Field:
    """Return a column of a table; of texts it says whether they stand for values of several kinds."""
    import pyarrow as pa

    return pa.field(name, kind, metadata=SEVERAL if mixed else None)


def is_mixed(field: pa.Field) -> bool:
    """Say whether the texts of a column stand for values of several kinds."""
    return bool(SEVERAL.items() <= (field.metadata or {}).items())


def mixed_in(schema: pa.Schema) -> frozenset[str]:
    """Return the columns whose texts stand for values of several kinds."""
    return frozenset(field.name for field in schema if is_mixed(field))


def whole(table: pa.Table) -> pa.Table:
    """Return the table with one chunk, and one dictionary, a column."""
    return table.unify_dictionaries().combine_chunks() if max((column.num_chunks for column in table.columns), default=0) > 1 else table


def starts(codes: Array) -> Array:
    """Return int64: the rows at which a customer starts."""
    return np.append(0, np.flatnonzero(codes[1:] != codes[:-1]) + 1) if len(codes) else np.zeros(0, np.int64)


def coded(column: pa.ChunkedArray) -> tuple[Array, pa.Array]:
    """Return int32 (rows), -1 where missing, and the values that they stand for."""
    import pyarrow as pa

    array = single(column)
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    indices = array.indices
    codes = stored(indices, indices.type.to_pandas_dtype())
    if indices.null_count:
        codes = np.where(indices.is_valid().to_numpy(zero_copy_only=False), codes, -1)
    return codes.astype(np.int32, copy=False), array.dictionary


def single(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array."""
    import pyarrow as pa

    return column.chunk(0) if column.num_chunks == 1 else pa.array([], column.type) if not column.num_chunks else pa.concat_arrays(column.chunks)


def instants(column: pa.ChunkedArray) -> Array:
    """Return int64, microseconds; anything where missing."""
    import pyarrow as pa

    return stored(single(column).cast(pa.timestamp("us", "UTC")), np.int64)


def valid_in(array: pa.Array) -> Array:
    """Return uint8 (rows): 1 where there is a value, 0 where it is missing."""
    bits = array.buffers()[0]
    if bits is None:
        return np.ones(len(array), np.uint8)
    first = array.offset // 8
    found = np.unpackbits(np.frombuffer(bits, np.uint8)[first:], count=array.offset % 8 + len(array), bitorder="little")
    return found[array.offset % 8 :]


def stored(array: pa.Array, kind: Any) -> Array:
    """Return the numbers of an array as they lie in memory; anything where missing."""
    return np.frombuffer(array.buffers()[1] or b"", kind)[array.offset : array.offset + len(array)]
