"""Tables as files for others to read: Parquet, CSV, JSON lines; whole or not at all."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from predseg.disks import disk_errors, replaced
from predseg.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa


def write_file(path: str | Path, table: pa.Table) -> Path:
    """Write a table as one file, whole or not at all; the suffix says how: ``.parquet``, ``.csv`` or ``.jsonl``.

    In CSV a text that a spreadsheet would take for a formula (it starts with ``= + - @``, also after white space or in full
    width, or with a tab or the end of a line) gets a leading apostrophe; numbers are numbers. Instants are written in UTC, lists as JSON.

    Raises:
        UsageError: E211 when the suffix or the folder is none of these.
        DataError: E410 unwritable, E411 disk full.
    """
    path = Path(path)
    _check_target(path, tuple(_WRITERS), "scores.parquet")
    with disk_errors(path), replaced(path) as temporary:
        _WRITERS[path.suffix](temporary, table)
    return path


def write_page(path: str | Path, html: str) -> Path:
    """Write a page, whole or not at all.

    Raises:
        UsageError: E211 when the file does not end in .html, or its folder is not there.
        DataError: E410 unwritable, E411 disk full.
    """
    path = Path(path)
    _check_target(path, (".html",), "report.html")
    with disk_errors(path), replaced(path) as temporary:
        temporary.write_text(html, "utf-8")
    return path


def _check_target(path: Path, suffixes: tuple[str, ...], example: str) -> None:
    if path.suffix not in suffixes:
        expected = " or ".join(filter(None, (", ".join(suffixes[:-1]), suffixes[-1])))
        ending = repr(path.suffix) if path.suffix else "nothing like it"
        raise UsageError("E211", str(path), f"the file ends in {ending}, expected {expected}", f"name for example {example}")
    if not path.parent.is_dir():
        raise UsageError("E211", str(path), f"there is no folder {path.parent}", f"make it first: mkdir -p {path.parent}")


def _write_parquet(path: Path, table: pa.Table) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, path, compression="zstd", row_group_size=131_072)


def _write_csv(path: Path, table: pa.Table) -> None:
    import pyarrow as pa
    from pyarrow import csv

    names = _inert(pa.chunked_array([table.column_names], pa.string())).to_pylist()
    csv.write_csv(pa.table([_csv_column(table.column(i)) for i in range(table.num_columns)], names), path)


_FORMULA = r"^([\p{Z}\p{Cc}\p{Cf}]*[=+\-@＝＋－＠]|[\t\r\n])"


def _inert(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return texts of which a spreadsheet takes none for a formula."""
    import pyarrow.compute as pc

    return pc.if_else(pc.match_substring_regex(column, _FORMULA), pc.binary_join_element_wise("'", column, ""), column)


def _csv_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_timestamp(column.type):
        return _csv_instants(column)
    if pa.types.is_nested(column.type):
        return pa.chunked_array([[None if v is None else as_json(v) for v in column.to_pylist()]], pa.string())
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return column
    return _inert(column)


def _csv_instants(column: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pc.strftime(column.cast(pa.timestamp("us")), "%Y-%m-%dT%H:%M:%S")
    text = pc.replace_substring_regex(text, r"\.0+$", "")
    return pc.binary_join_element_wise(text, "Z", "") if column.type.tz else text


def _write_jsonl(path: Path, table: pa.Table) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for batch in table.to_batches(max_chunksize=16_384):
            file.writelines(as_json(row) + "\n" for row in batch.to_pylist())


def as_json(value: Any) -> str:
    """Return a value as one line of JSON: instants as ISO text in UTC, exact decimals as numbers, bytes as hex, not finite as null."""
    import json

    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: instants as ISO text in UTC, exact decimals as numbers, NaN as null."""
    from decimal import Decimal

    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z" if value.tzinfo else value.isoformat()
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)


_WRITERS = {".parquet": _write_parquet, ".csv": _write_csv, ".jsonl": _write_jsonl}
