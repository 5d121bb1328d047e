"""The engine that moves data: DuckDB, embedded, bounded in memory, offline.

A query comes back as Arrow batches, however long it is:

    with Engine(temp) as engine:
        engine.view("source", "select * from read_parquet('events.parquet')")
        for batch in engine.stream("select * from source"):
            ...

No extension is ever downloaded, and a query never sees the variables of Python.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from predseg.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

ROWS = 131_072
"""Rows of a batch."""


def quoted(name: str) -> str:
    """Return a name as an SQL identifier.

    >>> quoted('a"b')
    '"a""b"'
    """
    return '"' + name.replace('"', '""') + '"'


def literal(text: str | Path) -> str:
    """Return a text as an SQL literal.

    >>> literal("it's")
    "'it''s'"
    """
    return "'" + str(text).replace("'", "''") + "'"


class Engine:
    """One in-memory DuckDB connection with UTC as its time zone.

    Args:
        temp: An empty folder for what does not fit into memory.
        memory: How much DuckDB may hold; None is a quarter of this machine's memory, at least 1 GB and at most 4.
        threads: Number of threads; None takes all cores.
    """

    def __init__(self, temp: Path, *, memory: str | None = None, threads: int | None = None) -> None:
        self.temp = temp
        settings: dict[str, Any] = {
            "memory_limit": memory or f"{allowance()}MB",
            "temp_directory": str(temp / "duckdb"),
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "python_enable_replacements": "false",
            "preserve_insertion_order": "false",
            "enable_external_file_cache": "false",
        }
        if threads:
            settings["threads"] = threads
        self._connection = duckdb.connect(config=settings)
        self._connection.execute("set TimeZone = 'UTC'")

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def execute(self, sql: str) -> None:
        """Run a statement for its effect."""
        with engine_errors():
            self._connection.execute(sql)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a small result."""
        with engine_errors():
            return self._connection.execute(sql).fetchall()

    def numbers(self, sql: str) -> np.ndarray[Any, Any]:
        """Return the one column of a query, numbers without a missing one."""
        with engine_errors():
            [found] = self._connection.execute(sql).fetchnumpy().values()
        return found

    def columns(self, sql: str) -> dict[str, str]:
        """Return the columns of a query and their DuckDB types without running it."""
        with engine_errors():
            return {row[0]: row[1] for row in self._connection.execute(f"describe {sql}").fetchall()}

    def view(self, name: str, sql: str) -> None:
        """Define or redefine a view."""
        self.execute(f"create or replace view {quoted(name)} as {sql}")

    def show(self, name: str, rows: pa.RecordBatchReader) -> None:
        """Show Arrow batches under a name, to be read once."""
        self._connection.register(name, rows)

    def over(self, name: str, table: pa.Table, sql: str) -> pa.Table:
        """Return the result of a query over Arrow data shown under a name, also while a stream is being read."""
        beside = self._connection.cursor()
        try:
            with engine_errors():
                beside.execute("set TimeZone = 'UTC'")
                beside.register(name, table)
                return beside.sql(sql).to_arrow_table()
        finally:
            beside.close()

    def stream(self, sql: str, rows: int = ROWS) -> Iterator[pa.RecordBatch]:
        """Yield the result of a query as record batches of about ``rows`` rows, never all of it at once."""
        with engine_errors():
            reader = self._connection.sql(sql).to_arrow_reader(rows)
        while True:
            with engine_errors():
                batch = next(reader, None)
            if batch is None:
                return
            if batch.num_rows:
                yield batch


@contextmanager
def engine_errors(place: str = "", code: str = "E405", help_: str = "") -> Iterator[None]:
    """Say what DuckDB refuses inside the block as a DataError; a full disk is E411 whatever the block does.

    Without a place, what is refused is said by the block around: the outermost knows best what was being done.
    """
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise _Refused(
            "E411",
            place or "engine",
            f"not enough memory or disk: {first_line(error)}",
            "close other programs, or free space in the folder of `store:`",
        ) from error
    except duckdb.Error as error:
        if "No space left" in str(error) or "Disk quota" in str(error):
            raise _Refused("E411", place, "cannot write: no space left on the device", "free space in the folder of `store:`") from error
        raise _Refused(code, place, first_line(error), help_) from error
    except _Refused as error:
        if error.place or not place:
            raise
        raise _Refused(code if error.code == "E405" else error.code, place, error.message, error.help or help_) from error


class _Refused(DataError):
    """What DuckDB refused; without a place until a block around names it."""


def first_line(error: BaseException) -> str:
    """Return what an error of a library says, in one short line.

    >>> first_line(ValueError("Binder Error: no x", ))
    'no x'
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    head, _, rest = lines[0].partition(" Error: ")
    return (rest or head)[:300]


def allowance() -> int:
    """Return a quarter of this machine's memory in megabytes, at least 1,000 and at most 4,000."""
    known = {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(getattr(os, "sysconf_names", ()))
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1_000_000 if known else 0
    return min(max(total // 4, 1_000), 4_000)


def engine_in(folder: Path, name: str, *, memory: str | None = None) -> Engine:
    """Return an engine with a folder of its own inside ``folder`` for what does not fit into memory."""
    temp = folder / name
    temp.mkdir()
    return Engine(temp, memory=memory)
