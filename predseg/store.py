"""The store: tables of Parquet files under one folder, each replaced whole or not at all.

    STORE/tables/NAME/part-00000.parquet                                      a whole table
    STORE/tables/NAME/as_of=2011-12-09T13%3A00%3A00Z/part-00000.parquet       one partition of a table
    STORE/.lock                                                               held by the one writer
    STORE/.work/                                                              unfinished work of the writer

A table is written aside, flushed to disk, and put in place by two renames: old table away, new table in. Killed
between them, the store finds the old table when it is opened next and puts it back. A reader that works
while another process may write takes the lock too.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from predseg.errors import DataError, UsageError
from predseg.language.time import parse_instant, to_datetime

if TYPE_CHECKING:
    import pyarrow as pa

_FULL = {errno.ENOSPC: "no space left on the device", errno.EDQUOT: "the disk quota is used up", errno.EFBIG: "the file may not grow further"}
_REFUSED = {
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "the file system is read-only",
    errno.ENOTDIR: "a file stands where a folder is needed",
    errno.EEXIST: "a file stands where a folder is needed",
    errno.EISDIR: "a folder stands where a file is needed",
    errno.ENOENT: "there is no such folder",
}
_AS_OF = "as_of="


@contextmanager
def disk_errors(place: str | Path) -> Iterator[None]:
    """Say a full or unwritable disk met inside the block as a DataError (E410 unwritable, E411 full) that names ``place``."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DataError(
                "E411", str(place), f"cannot write: {_FULL[error.errno]}", "free space there, or name another folder with `store:`"
            ) from error
        if error.errno in _REFUSED:
            help_ = "make the folder writable, or name another one with `store:`"
            raise DataError("E410", str(place), f"cannot write: {_REFUSED[error.errno]}", help_) from error
        raise


class Store:
    """A folder of tables.

    Args:
        path: The folder; it is made when it is not there.

    Raises:
        DataError: E410 when the folder cannot be made or written, E411 when the disk is full.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
        self.tables = self.path / "tables"
        self._work = self.path / ".work"
        self._lock: int | None = None
        self._depth = 0
        with disk_errors(self.path):
            self.tables.mkdir(parents=True, exist_ok=True)
            os.close(self._open_lock())
            left = self._work.is_dir() and any(self._work.iterdir())
        if left:
            with suppress(UsageError), self.lock():  # refused: another process is at work there, nothing is left over
                self._recover()

    # reading

    def files(self, name: str) -> list[Path]:
        """Return the Parquet files of a table in order of their partitions and names; empty when there is no such table."""
        return sorted(self._folder(name).rglob("*.parquet"), key=_order)

    def exists(self, name: str) -> bool:
        """Say whether the table has been written."""
        return self._folder(name).is_dir()

    def partitions(self, name: str) -> list[int]:
        """Return the instants (microseconds) for which the table has a partition, ascending."""
        folder = self._folder(name)
        found = folder.iterdir() if folder.is_dir() else ()
        return sorted(_partition_instant(p.name) for p in found if p.name.startswith(_AS_OF))

    def read(self, name: str, as_of: int | None = None) -> pa.Table:
        """Return a table: all of it, or its partition at ``as_of`` (microseconds).

        Rows of a partition get a last column ``as_of`` (timestamp[us, UTC]).

        Raises:
            DataError: E412 when the table or the partition has not been written.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        folder = self._folder(name) if as_of is None else self._folder(name) / partition_name(as_of)
        if not folder.is_dir():
            raise self._missing(name, as_of)
        parts = []
        for file in sorted(folder.rglob("*.parquet"), key=_order):
            part = pq.ParquetFile(file).read()
            if file.parent.name.startswith(_AS_OF):
                moment = to_datetime(_partition_instant(file.parent.name))
                part = part.append_column("as_of", pa.repeat(pa.scalar(moment, pa.timestamp("us", "UTC")), len(part)))
            parts.append(part)
        return pa.concat_tables(parts, promote_options="permissive") if parts else pa.table({})

    # writing

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the one writer of the store inside the block. The same Store may take it again within.

        Raises:
            UsageError: E210 naming the process that holds it.
        """
        if self._lock is None:
            self._take_lock()
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0 and self._lock is not None:
                os.close(self._lock)
                self._lock = None

    @contextmanager
    def replace(self, name: str) -> Iterator[Path]:
        """Give an empty folder for the new files of a table, and put it in place of the old table at the end.

        An error inside the block, or a process killed at any moment, leaves the old table whole.

        Raises:
            DataError: E410 unwritable, E411 disk full.
            UsageError: E210 when another process is writing.
        """
        with self.scratch("new") as staging:
            table = staging / "table"
            table.mkdir()
            yield table
            self._swap(table, self._folder(name))

    def write(self, name: str, table: pa.Table, as_of: int | None = None) -> Path:
        """Write a whole table, or its one partition at ``as_of`` (microseconds), and return its folder.

        The column ``as_of`` is not kept inside a partition: the name of its folder says it.
        """
        import pyarrow.parquet as pq

        if as_of is not None and "as_of" in table.column_names:
            table = table.drop_columns("as_of")
        inside = name if as_of is None else f"{name}/{partition_name(as_of)}"
        with self.replace(inside) as folder:
            pq.write_table(table, folder / "part-00000.parquet", compression="zstd", row_group_size=131_072)
        return self._folder(inside)

    def drop(self, name: str, as_of: int | None = None) -> None:
        """Remove a table, or one partition of it; nothing happens when there is none."""
        folder = self._folder(name) if as_of is None else self._folder(name) / partition_name(as_of)
        with self.scratch("drop") as aside:
            if folder.is_dir():
                folder.rename(aside / "table")

    def write_text(self, name: str, text: str) -> Path:
        """Write a small file of the store, such as ``ingest.json``, whole or not at all."""
        file = self.path / name
        with self.scratch("text") as folder, disk_errors(file):
            (folder / name).write_text(text, "utf-8")
            _flush(folder)
            (folder / name).replace(file)
            _flush_one(self.path)
        return file

    def read_text(self, name: str) -> str | None:
        """Return the text of a small file of the store, or None."""
        with suppress(FileNotFoundError):
            return (self.path / name).read_text("utf-8")
        return None

    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """Give an empty folder inside the store for temporary files; it is removed at the end, or when the store is opened next."""
        folder = self._work / f"{name}-{os.getpid()}-{os.urandom(4).hex()}"
        with self.lock():
            with disk_errors(self.path):
                folder.mkdir(parents=True)
            try:
                with disk_errors(self.path):
                    yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    # inside

    def _folder(self, name: str) -> Path:
        return self.tables / name

    def _missing(self, name: str, as_of: int | None) -> DataError:
        known = [partition_name(i).removeprefix(_AS_OF) for i in self.partitions(name)]
        if as_of is None or not known:
            return DataError(
                "E412",
                str(self._folder(name)),
                f"the table {name!r} has not been written yet",
                "run the command that makes it first: `predseg --help`",
            )
        found = ", ".join(unquote(k) for k in known[-5:])
        return DataError("E412", str(self._folder(name)), f"no partition at {unquote(partition_name(as_of))}", f"the latest are: {found}")

    def _swap(self, staging: Path, target: Path) -> None:
        _flush(staging)
        target.parent.mkdir(parents=True, exist_ok=True)
        old = self._work / ("old-" + quote(str(target.relative_to(self.tables)), safe=""))
        if target.exists():
            target.rename(old)
        try:
            staging.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
        _flush_one(target.parent)
        shutil.rmtree(old, ignore_errors=True)

    def _recover(self) -> None:
        """Put back the tables of a swap that was cut short, and remove what dead writers left. Only under the lock."""
        with disk_errors(self.path):
            for left in self._work.iterdir() if self._work.is_dir() else ():
                if left.name.startswith("old-") and not (target := self.tables / unquote(left.name.removeprefix("old-"))).exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    left.rename(target)
                elif re.search(r"^old-|-\d+-[0-9a-f]{8}$", left.name):
                    shutil.rmtree(left, ignore_errors=True)

    def _open_lock(self) -> int:
        return os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def _take_lock(self) -> None:
        import fcntl

        with disk_errors(self.path):
            file = self._open_lock()
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(file, 32, 0).decode("ascii", "replace").strip() or "another process"
            os.close(file)
            help_ = "wait until it ends, or end it; a lock never outlives its process"
            raise UsageError("E210", str(self.path), f"the store is being written by process {holder}", help_) from None
        with disk_errors(self.path):
            os.ftruncate(file, 0)
            os.pwrite(file, str(os.getpid()).encode(), 0)
        self._lock = file


def partition_name(as_of: int) -> str:
    """Return the folder name of a partition.

    >>> partition_name(1_323_435_600_000_000)
    'as_of=2011-12-09T13%3A00%3A00Z'
    """
    moment = to_datetime(as_of).replace(tzinfo=None)
    return _AS_OF + quote(moment.isoformat(timespec="microseconds" if moment.microsecond else "seconds") + "Z")


def _order(file: Path) -> tuple[int, str]:
    folder = file.parent.name
    return (_partition_instant(folder) if folder.startswith(_AS_OF) else 0, file.name)


def _partition_instant(name: str) -> int:
    return parse_instant(unquote(name.removeprefix(_AS_OF)))


def _flush(folder: Path) -> None:
    """Force a folder and everything in it to the disk."""
    for path in (*folder.rglob("*"), folder):
        _flush_one(path)


def _flush_one(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` that is flushed and renamed over it at the end, or removed on an error."""
    temporary = path.parent / f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.part"
    try:
        yield temporary
        _flush_one(temporary)
        temporary.replace(path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def write_file(path: str | Path, table: pa.Table) -> Path:
    """Write a table as one file, whole or not at all; the suffix says how: ``.parquet``, ``.csv`` or ``.jsonl``.

    In CSV a text that a spreadsheet would take for a formula (it starts with ``= + - @``, also after white space or in full
    width, or with a tab or the end of a line) gets a leading apostrophe; numbers are numbers. Instants are written in UTC, lists as JSON.

    Raises:
        UsageError: E211 when the suffix or the folder is none of these.
        DataError: E410 unwritable, E411 disk full.
    """
    path = Path(path)
    if path.suffix not in _WRITERS:
        raise UsageError(
            "E211", str(path), f"the file ends in {path.suffix or 'nothing'!r}, expected .parquet, .csv or .jsonl", "name for example scores.parquet"
        )
    if not path.parent.is_dir():
        raise UsageError("E211", str(path), f"there is no folder {path.parent}", f"make it first: mkdir -p {path.parent}")
    with disk_errors(path), replaced(path) as temporary:
        _WRITERS[path.suffix](temporary, table)
    return path


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
