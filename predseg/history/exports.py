"""Files that left the store: which there are, so that a person can be found in them and taken out.

STORE/exports.json    the paths of all files that were written with --out or by a channel
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from predseg.disks import disk_errors, replaced
from predseg.formats import write_file
from predseg.history.persons import names
from predseg.locks import exclusive
from predseg.store import PATIENCE, Store

if TYPE_CHECKING:
    import pyarrow as pa

FILE = "exports.json"


def export(store: Store, path: str | Path, table: pa.Table) -> Path:
    """Write a table as one file, as `predseg.store.write_file` does, and remember where it is."""
    note(store, [Path(path)])
    return write_file(path, table)


def note(store: Store, paths: Iterable[Path]) -> None:
    """Remember files that hold customers."""
    known = known_files(store)
    if new := [path for path in dict.fromkeys(Path(p).absolute() for p in paths) if path not in known]:
        file = store.path / FILE
        with disk_errors(file), exclusive(store.path / ".exports", "list of exports", wait=PATIENCE), replaced(file) as aside:
            aside.write_text(json.dumps([str(path) for path in [*known_files(store), *new]], indent=1, ensure_ascii=False), "utf-8")


def known_files(store: Store) -> list[Path]:
    """Return all files that were written, those included that are gone."""
    return known_files_in(store.path)


def known_files_in(folder: Path) -> list[Path]:
    """Return them by the folder of the store."""
    return [Path(path) for path in json.loads((folder / FILE).read_text("utf-8"))] if (folder / FILE).is_file() else []


def rows_about(path: Path, ids: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of an exported file that are about some customers; empty when there is no such file.

    Raises:
        ValueError: when the file is no longer what was written.
    """
    return [row for row in rows_of(path) if _is_about(row, ids)] if path.is_file() else []


def take_out(path: Path, ids: Sequence[str]) -> int:
    """Rewrite an exported file without the rows about some customers, whole or not at all, and return how many there were.

    Raises:
        ValueError: when the file is no longer what was written.
    """
    if not (found := len(rows_about(path, ids))):
        return 0
    with replaced(path) as aside:
        _WITHOUT[path.suffix](path, aside, ids)
    return found


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Return the rows of an exported file.

    Raises:
        ValueError: when the file is no longer what was written.
    """
    try:
        rows = _ROWS[path.suffix](path)
    except (KeyError, OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"cannot be read: {error}") from None
    if rows and not {"customer_id", "raw"} & rows[0].keys():
        raise ValueError("has no column customer_id")
    return rows


def _is_about(row: dict[str, Any], ids: Sequence[str]) -> bool:
    if "customer_id" not in row:
        return names(str(row["raw"]), ids)
    said = str(row.get("customer_id"))
    return said in ids or (said[:1] == "'" and said[1:] in ids)  # made inert for spreadsheets


def _parquet_rows(path: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path).read().to_pylist()
    except pa.ArrowException as error:
        raise ValueError(f"cannot be read: {error}") from None


def _csv_rows(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _jsonl_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in _lines(path) if line.strip()]


def _lines(path: Path) -> list[str]:
    """Return the lines of a text as JSON has them: a text of its own may hold what Python takes for the end of a line."""
    with path.open(encoding="utf-8", newline="\n") as file:
        return list(file)


def _parquet_without(path: Path, aside: Path, ids: Sequence[str]) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.ParquetFile(path).read()
    if "customer_id" in table.column_names:
        gone = pc.is_in(table["customer_id"].cast(pa.string()), pa.array(ids, pa.string()))
    else:
        gone = pa.array([_is_about(row, ids) for row in table.to_pylist()], pa.bool_())
    pq.write_table(table.filter(pc.invert(gone)), aside, compression="zstd", row_group_size=131_072)


def _csv_without(path: Path, aside: Path, ids: Sequence[str]) -> None:
    with path.open(newline="", encoding="utf-8") as file, aside.open("w", newline="", encoding="utf-8") as out:
        rows = csv.DictReader(file)
        writer = csv.DictWriter(out, list(rows.fieldnames or ()), quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writeheader()
        writer.writerows(row for row in rows if not _is_about(row, ids))


def _jsonl_without(path: Path, aside: Path, ids: Sequence[str]) -> None:
    kept = "".join(line for line in _lines(path) if not (line.strip() and _is_about(json.loads(line), ids)))
    aside.write_text(kept, "utf-8", newline="")


_ROWS = {".parquet": _parquet_rows, ".csv": _csv_rows, ".jsonl": _jsonl_rows}
_WITHOUT = {".parquet": _parquet_without, ".csv": _csv_without, ".jsonl": _jsonl_without}
