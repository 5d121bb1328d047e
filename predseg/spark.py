"""Spark as the engine: the blocks of the events table are answered on the machines of a cluster, by the same kernel.

A task is a part of the events table (`predseg.layers`): it is sorted by customer and no customer is in two, so that nothing is shuffled. The work, a
function of one block, travels to the machines as Spark carries functions; its answers come back as they are made, in order.
Everything that blocks are read from, the store, must be a folder that all machines see under the same path.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from predseg.errors import DataError, PredsegError, UsageError
from predseg.evaluate.ahead import Answer, Over, here
from predseg.evaluate.block import BEGINNING, ROWS, Block, blocks_of
from predseg.language.engines import Spark
from predseg.layers import parts

if TYPE_CHECKING:
    import pyarrow as pa

QUIET = {"spark.ui.showConsoleProgress": "false", "spark.log.level": "ERROR"}
"""What is set unless the project says otherwise."""
LOCAL = {"spark.driver.memory": "2g", "spark.driver.maxResultSize": "0", "spark.network.timeout": "3600s"}
"""And on one machine: all answers pass through its one process, and a computer that slept is no machine that was lost."""


def over_of(engine: Spark | None) -> Over:
    """Return where the blocks of a project are answered: on the threads of this process, or on Spark."""
    return here if engine is None else OnSpark(engine)


@dataclass(frozen=True)
class OnSpark:
    """Answers blocks on the machines of a cluster, see `predseg.evaluate.ahead.Over`."""

    engine: Spark

    def __call__(
        self, work: Callable[[Block], Answer], files: Sequence[Path], properties: Iterable[str], rows: int = ROWS, since: int = BEGINNING
    ) -> Iterator[Answer]:
        """Yield ``work(block)`` in the order of the blocks."""
        wanted = frozenset(properties)
        return spread(self.engine, lambda part: map(work, blocks_of(part, wanted, rows, since)), parts(files))


def spread(engine: Spark, work: Callable[[Any], Iterable[Answer]], items: Sequence[Any]) -> Iterator[Answer]:
    """Yield all that ``work`` yields for each item, in order; each item is a task.

    Raises:
        UsageError: E262 when Spark is not installed or does not start.
        DataError: E415 when a task fails for a reason of Spark's own; what predseg refuses in a task is raised as it is.
    """
    if not items:
        return
    session = session_of(engine)

    def answer(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa
        from pyspark.serializers import CloudPickleSerializer

        carry = CloudPickleSerializer()
        for batch in batches:
            for number in batch.column(0).to_pylist():
                try:
                    for found in work(items[number]):
                        yield pa.record_batch({"refused": [False], "answer": pa.array([carry.dumps(found)], pa.large_binary())})
                except PredsegError as error:
                    yield pa.record_batch({"refused": [True], "answer": pa.array([carry.dumps(error)], pa.large_binary())})

    from pyspark.serializers import CloudPickleSerializer

    with spark_errors(), quiet():
        numbers = session.range(0, len(items), 1, len(items))
        answers = numbers.mapInArrow(answer, "refused boolean, answer binary").toLocalIterator(prefetchPartitions=True)
    while True:
        with spark_errors():
            row = next(answers, None)
        if row is None:
            return
        found = CloudPickleSerializer().loads(bytes(row.answer))
        if row.refused:
            raise found
        yield found


def session_of(engine: Spark) -> Any:
    """Return the session of an engine: the one of this process when there is one, so that a notebook on a cluster is used as it is.

    Raises:
        UsageError: E262 when Spark is not installed or does not start.
    """
    try:
        with quiet():
            from pyspark.sql import SparkSession
    except ImportError:
        raise UsageError("E262", "engine", "Spark is not installed", 'pip install "predseg[spark]", and Java 17 or 21') from None
    if (active := SparkSession.getActiveSession()) is not None:
        return active
    builder = SparkSession.builder.appName("predseg")
    if engine.master is not None:
        builder = builder.remote(engine.master) if engine.master.startswith("sc://") else builder.master(engine.master)
    local = (engine.master or "").startswith("local")
    for name, value in (QUIET | (LOCAL if local else {}) | dict(engine.options)).items():
        builder = builder.config(name, value)
    try:
        with quiet():
            session = builder.getOrCreate()
        if local:
            session.sparkContext.pythonExec = sys.executable  # not the python3 that happens to be found first
    except Exception as error:
        raise UsageError(
            "E262",
            "engine",
            f"Spark does not start: {_told(error)}",
            "its own words stand above; look at `master` and `options`, and for Java 17 or 21",
        ) from error
    return session


@contextmanager
def quiet() -> Iterator[None]:
    """Let Spark not warn of versions of pandas that are newer than it knows."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "PySpark does not yet", FutureWarning)
        yield


@contextmanager
def spark_errors() -> Iterator[None]:
    """Say in one line what Spark refuses inside the block."""
    try:
        yield
    except PredsegError:
        raise
    except Exception as error:
        raise DataError(
            "E415", "engine", f"Spark: {_told(error)}", "look at Spark's log; the store must be a folder that all its machines see"
        ) from error


def _told(error: Exception) -> str:
    """The last line that says something: of an error in Python on another machine the error itself, under its traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith(("\tat ", "JVM stacktrace"))]
    named = [line for line in lines if ("Error" in line or "Exception" in line) and not line.startswith(("Traceback", "File ", "pyspark."))]
    return (named or lines or [type(error).__name__])[-1][:300]
