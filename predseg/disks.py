"""What goes wrong with disks and databases on them, said as refusals that can be acted on."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from predseg.errors import DataError, PredsegError, UsageError

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


@contextmanager
def disk_errors(place: str | Path) -> Iterator[None]:
    """Say what a disk, or a database on it, refuses inside the block as an error that names ``place``.

    Raises:
        DataError: E410 unwritable, E411 full, E414 a damaged database.
        UsageError: E210 when another process is writing to the database.
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        if (refusal := _database_error(str(place), error)) is None:
            raise
        raise refusal from error
    except OSError as error:
        if error.errno in _FULL:
            raise DataError(
                "E411", str(place), f"cannot write: {_FULL[error.errno]}", "free space there, or name another folder with `store:`"
            ) from error
        if error.errno in _REFUSED:
            help_ = "make the folder writable, or name another one with `store:`"
            raise DataError("E410", str(place), f"cannot write: {_REFUSED[error.errno]}", help_) from error
        raise


def _database_error(place: str, error: sqlite3.DatabaseError) -> PredsegError | None:
    kind, help_ = getattr(error, "sqlite_errorcode", 0) & 0xFF, "make the folder writable, or name another one with `store:`"
    if kind == sqlite3.SQLITE_FULL:
        return DataError("E411", place, "cannot write: no space left on the device", "free space there, or name another folder with `store:`")
    if kind in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM):
        return DataError("E410", place, f"cannot write: {error}", help_)
    if kind in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return DataError("E414", place, f"the database is damaged: {error}", "put a copy back, or look at `predseg doctor`")
    if kind in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return UsageError("E210", place, "the database is being written by another process", "wait until it ends, or end it")
    return None


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` that is flushed and renamed over it at the end, or removed on an error."""
    temporary = path.parent / f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}.part"
    try:
        yield temporary
        flush(temporary)
        temporary.replace(path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def flush(path: Path) -> None:
    """Force a file or a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def link(file: Path, target: Path) -> None:
    """Give a file a second name, or make a copy where that is not possible."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)
