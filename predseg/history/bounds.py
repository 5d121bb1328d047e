"""What a file may cost to open: files that unpack to far more than they weigh, or have columns without end, are refused before they are read.

A file costs what its bytes cost, however large it is. A few bytes that unpack to gigabytes are an attack or an accident;
whoever trusts such a file can unpack it and give predseg the result.
"""

from __future__ import annotations

import zlib
from collections.abc import Sized
from pathlib import Path
from typing import TYPE_CHECKING

from predseg.errors import DataError

if TYPE_CHECKING:
    from pyarrow.parquet import FileMetaData

COLUMNS = 1_000
"""Columns that a source may have."""
KEYS = 1_000
"""Keys that a line of JSON may have."""
DEPTH = 16
"""How deeply a line of JSON may be nested, the line itself included; the collector takes as much."""
RATIO = 100
"""How many times its size a file, and each piece of a compressed text, may unpack to."""
FREE = 64 * 1024 * 1024
"""Bytes that any file may unpack to."""
_ROWS_FREE, _ROWS_A_BYTE = 10_000_000, 100
_FOOTER = 16 * 1024 * 1024
_PIECE = 64 * 1024


def check_columns(names: Sized, place: str) -> None:
    """Refuse (E418) a source of too many columns."""
    if len(names) > COLUMNS:
        message = f"it has {len(names):,} columns, at most {COLUMNS:,} are read"
        raise DataError("E418", place, message, "leave out what no rule asks for; put what has many names into one column as text")


def check_parquet(file: Path, place: str) -> FileMetaData | None:
    """Refuse (E418) a Parquet file that says it holds far more than it weighs, by its footer alone, which is returned; what is none is left to its reader."""
    size = file.stat().st_size
    with file.open("rb") as content:
        content.seek(max(size - 8, 0))
        footer = int.from_bytes(content.read(8)[:4], "little")
    if size > footer > _FOOTER:
        raise _bomb(file, place, f"its footer has {footer:,} bytes, at most {_FOOTER:,} are read", "write it with fewer and larger row groups")
    known = footer_of(file)
    if known is None:
        return None
    check_columns(range(known.num_columns), place)
    if known.num_rows > max(_ROWS_FREE, _ROWS_A_BYTE * size):
        raise _bomb(file, place, f"{size:,} bytes hold {known.num_rows:,} rows", "write it again, without the rows that all say the same")
    unpacked = sum(known.row_group(i).total_byte_size for i in range(known.num_row_groups))
    if unpacked > max(FREE, RATIO * size):
        raise _bomb(file, place, f"{size:,} bytes unpack to {unpacked:,}", "when you trust it, write it again without compression")
    return known


def footer_of(file: Path) -> FileMetaData | None:
    """Return what a Parquet file says of itself; None when it is none."""
    import pyarrow.parquet as pq
    from pyarrow import ArrowException

    try:
        return pq.read_metadata(file)
    except (ArrowException, OSError):
        return None


def check_gzip(file: Path, place: str) -> None:
    """Refuse (E418) a gzip file of which a piece unpacks to far more than it weighs; damage is left to the reader of the file."""
    stream, total = zlib.decompressobj(wbits=31), 0
    with file.open("rb") as content:
        while piece := content.read(_PIECE):
            rest, found = piece, 0
            while rest:
                try:
                    found += len(stream.decompress(rest, FREE // 64))
                except zlib.error:
                    return
                if total + found > FREE and found > RATIO * _PIECE:
                    message = f"{_PIECE:,} bytes of it unpack to more than {RATIO * _PIECE:,}"
                    raise _bomb(file, place, message, f"when you trust it, unpack it: gunzip {file.name}")
                rest = stream.unused_data if stream.eof else stream.unconsumed_tail
                if stream.eof:
                    stream = zlib.decompressobj(wbits=31)
            total += found


def _bomb(file: Path, place: str, message: str, help_: str) -> DataError:
    return DataError("E418", place, f"{file} looks like a bomb: {message}", help_)


def verdict(line: str) -> str:
    """Return SQL that says why a line of JSON is no row, null when it is one.

    Args:
        line: The name of a text column.
    """
    bare = f"""regexp_replace({line}, '"(\\\\.|[^"\\\\])*"', '', 'g')"""
    for _ in range(DEPTH):
        bare = f"regexp_replace({bare}, '[\\[{{][^\\[\\]{{}}]*[\\]}}]', '', 'g')"
    opened = f"strlen({line}) - strlen(replace(replace({line}, '[', ''), '{{', ''))"  # cheap, and enough for nearly every line
    return (
        f"case when coalesce(try(json_type({line})), '') <> 'OBJECT' then 'not a JSON object' "
        f"when {opened} > {DEPTH} and regexp_matches({bare}, '[\\[{{]') then 'nested more than {DEPTH} levels deep' "
        f"when strlen({line}) > {4 * KEYS} and len(json_keys({line})) > {KEYS} then 'more than {KEYS:,} keys' end"
    )
