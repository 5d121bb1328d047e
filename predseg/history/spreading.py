"""Reading a source of many files, or a table of Spark's catalog, on Spark: each file by the functions that read it here, on whichever machine.

Text is looked at twice, as here: what each file says of the types of its columns is put together before any of it is read.
The good rows of a file and its bad ones are files of their own in the store's folder for unfinished work, which all machines see.
Duplicates, identities and the order are then settled in one place, as always.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from predseg.engine import Engine, engine_errors, first_line
from predseg.errors import DataError, nearest
from predseg.history import files
from predseg.history.contract import Checked
from predseg.history.persons import Persons
from predseg.history.rowwise import is_rowwise
from predseg.history.staging import QUARANTINE, Progress, Stage, Tally
from predseg.language.engines import Spark
from predseg.spark import session_of, spark_errors, spread

if TYPE_CHECKING:
    from predseg.config import Source

Answer = TypeVar("Answer")
MEMORY = "1GB"
"""What the engine of a task may hold."""
_INSTANTS = "spark.sql.parquet.outputTimestampType"


def engine_of(engine: Spark | None, source: Source, found: Sequence[Path], persons: Persons) -> Spark | None:
    """Return where a source is read file by file, None for here: a query may see all rows, and keys of pseudonyms are told to no machine."""
    return engine if not source.url and is_rowwise(source.query) and not persons.keys and len(found) > 1 else None


def laid(engine: Spark | None, source: Source, found: tuple[Path, ...], place: str, folder: Path, rows: int | None = None) -> tuple[Path, ...]:
    """Return the files of a source. A table of Spark's catalog, or its first ``rows``, is written into files of the new ``folder`` by the machines.

    Raises:
        DataError: E401 when there is no such table, E415 when Spark fails.
    """
    if engine is None or source.path or source.url:
        return found
    from pyspark.errors import AnalysisException

    session = session_of(engine)
    before = session.conf.get(_INSTANTS, None)
    with spark_errors():
        try:
            table = session.table(source.table)
            table.columns  # noqa: B018 (with Spark Connect a table is looked for only now)
        except AnalysisException as error:
            raise _no_table(session, source.table or "", place, error) from None
        session.conf.set(_INSTANTS, "TIMESTAMP_MICROS")  # not times without an offset, which are Spark's habit
        try:
            (table if rows is None else table.limit(rows)).write.parquet(str(folder))
        finally:
            session.conf.set(_INSTANTS, before) if before else session.conf.unset(_INSTANTS)
    return tuple(sorted(folder.glob("*.parquet")))


def _no_table(session: Any, table: str, place: str, error: Exception) -> DataError:
    """Say which table is missing, and which are there, where Spark knows."""
    schema, _, name = table.rpartition(".")
    try:
        near = nearest(name, [found.name for found in session.catalog.listTables(*([schema] if schema else []))])
    except Exception:  # no such schema, or a catalog that does not list its tables
        near = "name it as `spark.table` would: catalog.schema.table"
    return DataError("E401", place, f"no table {table!r} in Spark's catalog: {first_line(error)}", near)


def each(engine: Spark, folder: Path, found: Sequence[Path]) -> files.Each:
    """Return what looks at the files of a source on the machines; ``folder``: for what does not fit into their memory, all of them see it."""

    def every(look: Callable[[Engine, list[Path]], Answer]) -> Iterator[Answer]:
        def alone(file: Path) -> Iterator[Answer]:
            with TemporaryDirectory(dir=folder) as aside, Engine(Path(aside), memory=MEMORY, threads=1) as one:
                yield look(one, [file])

        return spread(engine, alone, found)

    return every


def fill(engine: Spark, stage: Stage, found: Sequence[Path], check: Callable[[pa.RecordBatch], Checked], tell: Progress) -> None:
    """Read a source to its end, like `Stage.fill`. The file of the stage is a pattern in a folder of its own.

    Raises:
        DataError: E404, E405 and E408 as there; E415 when Spark fails.
    """
    folder, reading, properties, fields, persons = stage.file.parent, stage.reading, stage.properties, stage.fields, stage.persons
    folder.mkdir()

    def read(numbered: tuple[int, Path]) -> Iterator[Tally]:
        number, file = numbered
        with TemporaryDirectory(dir=folder) as aside, engine_errors(reading.place, reading.code, reading.help()):
            good, bad = Path(aside, "good.parquet"), Path(aside, "bad.parquet")
            with Engine(Path(aside), memory=MEMORY, threads=1) as alone, pq.ParquetWriter(bad, QUARANTINE) as quarantine:
                alone.view("source", files.of_file(alone, file, reading.raw))
                part = Stage(alone, reading, properties, fields, good, quarantine, persons)
                part.read(check, lambda step, done, total: None)
            bad.replace(folder / f"{number:06d}.bad")
            good.replace(folder / f"{number:06d}.parquet")  # a task that is tried again puts the same in the same place
        yield part.tally

    for tally in spread(engine, read, list(enumerate(found))):
        stage.tally.join(tally)
        tell(f"reading {reading.name}", stage.tally.received, reading.rows)
    for bad in sorted(folder.glob("*.bad")):
        for batch in pq.ParquetFile(bad).iter_batches():
            stage.quarantine.write_batch(batch)
    stage.require_rows()
