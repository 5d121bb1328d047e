"""The store: tables of Parquet files under one folder, each replaced whole or not at all.

    STORE/tables/NAME/part-00000.parquet                                      a whole table
    STORE/tables/NAME/as_of=2011-12-09T13%3A00%3A00Z/part-00000.parquet       one partition of a table
    STORE/tables/NAME/_version                                                of its columns and their meaning, from 1
    STORE/.lock                                                               held by the one writer
    STORE/.swap                                                               held while a table is exchanged
    STORE/.work/                                                              unfinished work, and what readers hold on to

A table is written aside, flushed to disk, and put in place by two renames: old table away, new table in. Killed
between them, the store finds the old table when it is opened next and puts it back. Who reads a table file by file does it
inside `Store.reading`: then no other process takes a file away.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, TypeVar
from urllib.parse import quote, unquote

from predseg.disks import disk_errors as disk_errors
from predseg.disks import flush, replaced
from predseg.errors import DataError, UsageError
from predseg.formats import write_file as write_file
from predseg.language.time import parse_instant, to_datetime
from predseg.locks import exclusive, is_free, is_mine, shared

if TYPE_CHECKING:
    import pyarrow as pa

_AS_OF = "as_of="


class Store:
    """A folder of tables.

    Args:
        path: The folder; it is made when it is not there.
        wait: Seconds to wait for another process that is writing.

    Raises:
        DataError: E410 when the folder cannot be made or written, E411 when the disk is full.
    """

    def __init__(self, path: str | Path, *, wait: float = 0.0) -> None:
        self.path = Path(path).absolute()
        self.tables = self.path / "tables"
        self.wait = wait
        self._work = self.path / ".work"
        self._known: set[str] = set()
        self._held: dict[str, list[Path]] = {}
        with disk_errors(self.path):
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)  # whoever else is to read it is let in by its owner
            self.tables.mkdir(exist_ok=True)
            for file in (self._lock_file, self._swap_file):
                if not file.exists():
                    file.touch()
            left = self._work.is_dir() and any(self._work.iterdir())
        if left and not is_mine(self._lock_file):
            with suppress(UsageError), exclusive(self._lock_file, "store"):  # refused: another process is at work there
                self._recover()

    # reading

    def files(self, name: str) -> list[Path]:
        """Return the Parquet files of a table in order of their partitions and names; empty when there is no such table."""
        return self._held.get(name) or self._present(name)

    @contextmanager
    def reading(self, *names: str) -> Iterator[None]:
        """Hold on to the files of tables inside the block, as they are now: no other process takes them away.

        A second name for each of them is kept in the store while the block lasts; where that is not possible, on a read-only
        disk, nobody exchanges tables either.
        """
        if self._held or is_mine(self._lock_file):
            yield
            return
        folder = self._work / f"read-{os.getpid()}-{os.urandom(4).hex()}"
        with ExitStack() as held:
            held.callback(shutil.rmtree, folder, ignore_errors=True)
            held.callback(self._held.clear)
            with suppress(OSError):
                folder.mkdir(parents=True)
                held.enter_context(shared(folder / _ALIVE))
                with shared(self._swap_file):
                    self._held.update({name: _linked(self._present(name), folder / name) for name in names})
            yield

    def exists(self, name: str) -> bool:
        """Say whether the table has been written."""
        return any(True for _ in self._folder(name).rglob("*.parquet"))

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

        from predseg.layers import in_order, is_recent, readers  # they need NumPy, and most commands that hold a store do not

        self._ready(name)
        folder = self._folder(name) if as_of is None else self._folder(name) / partition_name(as_of)
        parts = []
        with shared(self._swap_file):
            if not folder.is_dir():
                raise self._missing(name, as_of)
            files = sorted(folder.rglob("*.parquet"), key=_order)
            for file, reader in zip(files, readers(files), strict=True):
                part = reader.read()
                if file.parent.name.startswith(_AS_OF):
                    moment = to_datetime(_partition_instant(file.parent.name))
                    part = part.append_column("as_of", pa.repeat(pa.scalar(moment, pa.timestamp("us", "UTC")), len(part)))
                parts.append(part)
        table = pa.concat_tables(parts, promote_options="permissive") if parts else pa.table({})
        return in_order(table) if any(map(is_recent, files)) else table

    # writing

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the one writer of the store inside the block. The same thread may take it again within.

        Raises:
            UsageError: E210 naming the process that holds it, after ``wait`` seconds.
        """
        with ExitStack() as opened:
            with disk_errors(self.path):
                opened.enter_context(exclusive(self._lock_file, "store", wait=self.wait))
            yield

    @contextmanager
    def replace(self, name: str) -> Iterator[Path]:
        """Give an empty folder for the new files of a table, and put it in place of the old table at the end.

        An error inside the block, or a process killed at any moment, leaves the old table whole.

        Raises:
            DataError: E410 unwritable, E411 disk full.
            UsageError: E210 when another process is writing.
        """
        with self.scratch("new") as staging:
            whole, _, partition = name.partition("/")
            self._ready(whole)
            table = staging / "table"
            table.mkdir()
            yield table
            if not partition:
                (table / _VERSION).write_text(f"{version_of(whole)}\n", "ascii")
            self._swap(table, self._folder(name))
            if partition and not (self._folder(whole) / _VERSION).exists():
                self._write_version(whole)

    @contextmanager
    def replace_file(self, name: str, file: str) -> Iterator[Path]:
        """Give the path of a new file of a table, and put it in place of the one of that name at the end; the other files stay. See `replace`."""
        with self.replace(name) as folder:
            for other in self.files(name):
                if other.name != file:
                    shutil.copyfile(other, folder / other.name)
            yield folder / file

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
        with self.scratch("drop") as aside, exclusive(self._swap_file, "store", wait=PATIENCE):
            if folder.is_dir():
                folder.rename(aside / "table")

    def write_text(self, name: str, text: str) -> Path:
        """Write a small file of the store, such as ``ingest.json``, whole or not at all."""
        file = self.path / name
        with self.scratch("text") as folder, disk_errors(file):
            (folder / name).write_text(text, "utf-8")
            _flush_all(folder)
            (folder / name).replace(file)
            flush(self.path)
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

    @staticmethod
    def busy(path: Path) -> bool:
        """Say whether another process, or another thread, is writing to a store."""
        lock = path.absolute() / ".lock"
        return lock.exists() and not is_mine(lock) and not is_free(lock)

    @staticmethod
    def in_use(left: Path) -> bool:
        """Say whether what lies in ``.work`` belongs to a reader who is alive."""
        return (left / _ALIVE).exists() and not is_free(left / _ALIVE)

    # inside

    def _folder(self, name: str) -> Path:
        return self.tables / name

    def _present(self, name: str) -> list[Path]:
        self._ready(name)
        return sorted(self._folder(name).rglob("*.parquet"), key=_order)

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
        _flush_all(staging)
        target.parent.mkdir(parents=True, exist_ok=True)
        old = self._work / ("old-" + quote(str(target.relative_to(self.tables)), safe=""))
        with exclusive(self._swap_file, "store", wait=PATIENCE):
            if target.exists():
                target.rename(old)
            try:
                staging.rename(target)
            except OSError:
                if old.exists():
                    old.rename(target)
                raise
        flush(target.parent)
        shutil.rmtree(old, ignore_errors=True)

    def _recover(self) -> None:
        """Put back the tables of a swap that was cut short, and remove what dead writers left. Only under the lock."""
        with disk_errors(self.path):
            for left in self._work.iterdir() if self._work.is_dir() else ():
                if left.name.startswith("old-") and not (target := self.tables / unquote(left.name.removeprefix("old-"))).exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    left.rename(target)
                elif not self.in_use(left):
                    shutil.rmtree(left, ignore_errors=True)

    @property
    def _lock_file(self) -> Path:
        return self.path / ".lock"

    @property
    def _swap_file(self) -> Path:
        return self.path / ".swap"

    # versions

    def _ready(self, name: str) -> None:
        """Bring a table that an earlier version of predseg wrote up to date.

        Raises:
            DataError: E413 when a later version wrote it.
        """
        if name in self._known or not self.exists(name):
            return
        found, mine = self.version(name), version_of(name)
        if found > mine:
            message = f"the table {name!r} has version {found}, this predseg knows {mine}: a later predseg wrote it"
            raise DataError("E413", str(self._folder(name)), message, "install that predseg, or name another folder with `store:`")
        self._known.add(name)
        if found < mine:
            self._upgrade(name, found)

    def version(self, name: str) -> int:
        """Return the version of a table that is there; those of before there were versions have the first."""
        with suppress(FileNotFoundError):
            text = (self._folder(name) / _VERSION).read_text("ascii").strip()
            return int(text) if text.isdigit() else 1
        return 1

    def _upgrade(self, name: str, found: int) -> None:
        import pyarrow.parquet as pq

        upgrades = [upgrade for upgrade in UPGRADES[name][found - 1 :] if upgrade is not None]
        if not upgrades:
            return
        with self.replace(name) as target:
            for file in self._present(name):
                table = pq.ParquetFile(file).read()
                for upgrade in upgrades:
                    table = upgrade(table)
                new = target / file.relative_to(self._folder(name))
                new.parent.mkdir(exist_ok=True)
                pq.write_table(table, new, compression="zstd", row_group_size=131_072)

    def _write_version(self, name: str) -> None:
        with replaced(self._folder(name) / _VERSION) as aside:
            aside.write_text(f"{version_of(name)}\n", "ascii")


class _HasStore(Protocol):
    @property
    def store(self) -> Store: ...


Of = TypeVar("Of", bound=_HasStore)
Given = ParamSpec("Given")
Found = TypeVar("Found")


def steady(method: Callable[Concatenate[Of, Given], Found]) -> Callable[Concatenate[Of, Given], Found]:
    """Let a function of something with a store hold on to the events as they are, whatever other processes do meanwhile."""

    @wraps(method)
    def held(of: Of, /, *args: Given.args, **kwargs: Given.kwargs) -> Found:
        with of.store.reading("events"):
            return method(of, *args, **kwargs)

    return held


UPGRADES: dict[str, tuple[Callable[[pa.Table], pa.Table] | None, ...]] = {"events": (None,)}
"""Table → what makes its second version of the first, its third of the second, and so on; None: it is read as it is.

The second version of events may have files beside its base, see `predseg.layers`.
"""
_VERSION, _ALIVE = "_version", ".alive"
PATIENCE = 600.0
"""Seconds that a command waits for another one."""


def version_of(name: str) -> int:
    """Return the version that this predseg gives to a table.

    >>> version_of("scores")
    1
    """
    return 1 + len(UPGRADES.get(name, ()))


def _linked(files: Sequence[Path], folder: Path) -> list[Path]:
    """Give files a second name in a folder that is made for it, in the same order."""
    folder.mkdir()
    found = []
    for number, file in enumerate(files):
        os.link(file, folder / f"{number:06d}-{file.name}")
        found.append(folder / f"{number:06d}-{file.name}")
    return found


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


def _flush_all(folder: Path) -> None:
    """Force a folder and everything in it to the disk."""
    for path in (*folder.rglob("*"), folder):
        flush(path)
