"""A stream on Spark from its start to its stop: lines of JSON in, changes of membership out, from a checkpoint on.

What is decided is said in `predseg.live.spark`; here is where lines come from, where changes go, and what becomes of a signal.
"""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import orjson

from predseg.errors import DataError, UsageError
from predseg.evaluate.program import Change, Program
from predseg.history.persons import Persons
from predseg.live.opening import fingerprint_of, rules_of
from predseg.live.spark import LINES, PROVIDER, ROCKSDB, changes, refused
from predseg.spark import session_of, spark_errors

if TYPE_CHECKING:
    import pyarrow as pa

    from predseg.segments.workspace import Workspace

FOLDER, TABLE, STDOUT = "text", "table:", "-"
_PARTITIONS, _SPARKS_OWN = "spark.sql.shuffle.partitions", "200"
_PATIENCE = 0.5
"""Seconds between looks at how a query fares."""


@dataclass(frozen=True)
class Job:
    """What to stream.

    Attributes:
        source: A folder with files of lines, or what else the format loads; None when its options say all.
        out: A folder, ``table:NAME``, or ``-`` for this process.
        checkpoint: The folder that a stream goes on from.
        format: A source of Spark with a column ``value``: ``text``, ``kafka``, ``socket``, ...
        options: Those of the format.
        late: How far behind the newest event one may come (µs).
        links: What becomes of a row that joins a visitor to a customer, see `predseg.live.spark.changes`.
        refused: A folder for lines that break the contract; None counts them only.
        caught_up: Stop when all that is there has been read, instead of waiting for more.
    """

    source: str | None
    out: str
    checkpoint: str
    format: str = FOLDER
    options: Mapping[str, str] = field(default_factory=dict)
    late: int = 300_000_000
    links: Literal["refuse", "ignore"] = "refuse"
    refused: str | None = None
    caught_up: bool = False


def stream(workspace: Workspace, persons: Persons, job: Job, say: Callable[[Sequence[str]], object], ready: Callable[[], object]) -> dict[str, int]:
    """Run a stream until a signal ends it, or all has been read.

    Args:
        workspace: The segments of a project whose engine is Spark.
        persons: Under which names persons come in, and who does not.
        job: What to stream.
        say: Is given the changes of a batch, as `predseg live` prints them, when they go to this process: those of a batch that was stopped come again.
        ready: Called when it runs.

    Returns:
        How many lines were read, ``rows``, how many of these broke the contract, ``refused``, and how many came too ``late``.

    Raises:
        UsageError: E262 to E266.
        DataError: E401 when there is no such folder, E415 when Spark fails.
    """
    if workspace.config.engine is None:
        raise UsageError("E264", "engine", "the engine of the project is not Spark", "write `engine: {spark: {master: ...}}`, or take `predseg live`")
    _check_source(job)
    session = session_of(workspace.config.engine)
    _prepare(session)
    lines = _lines(session, job)
    with spark_errors():
        _check_checkpoint(session, workspace, job)
        found = changes(workspace, persons, lines, late=f"{job.late // 1_000} milliseconds", links=job.links)
        queries = [_started(found, job, "changes", job.out, say)]
        if job.refused is not None:
            queries.append(_started(_bad(refused(workspace, persons, lines, links=job.links)), job, "refused", job.refused, say))
        with _signals() as stopped:
            ready()
            return _watched(session, queries, stopped)


def _prepare(session: Any) -> None:
    """Keep state as timers need it, and not in two hundred pieces, unless the project says otherwise."""
    if "RocksDB" not in (session.conf.get(PROVIDER, "") or ""):
        session.conf.set(PROVIDER, ROCKSDB)
    if session.conf.get(_PARTITIONS) == _SPARKS_OWN and hasattr(session, "sparkContext"):
        session.conf.set(_PARTITIONS, str(3 * session.sparkContext.defaultParallelism))


def _check_source(job: Job) -> None:
    if job.format == FOLDER and job.source is None:
        raise UsageError(
            "E266", "SOURCE", "nothing says where lines come from", "name a folder with files of JSON lines, or `--from kafka --option ...`"
        )
    if job.format == FOLDER and job.source and "://" not in job.source and not (has_magic(job.source) or Path(job.source).is_dir()):
        raise DataError("E401", job.source, "is no folder", "name a folder into which files of JSON lines are put; `predseg live` reads one file")


def _lines(session: Any, job: Job) -> Any:
    with spark_errors():
        lines = session.readStream.format(job.format).options(**job.options).load(*([_path(job.source)] if job.source else []))
        kinds = dict(lines.dtypes)
    if kinds.get("value") not in ("string", "binary"):
        has = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
        raise UsageError(
            "E266", f"--from {job.format}", f"lines are a column `value` of text, this source has {has}", "take a source of lines of JSON"
        )
    return lines


def _path(text: str) -> str:
    return text if "://" in text else str(Path(text).absolute())


def _check_checkpoint(session: Any, workspace: Workspace, job: Job) -> None:
    """Remember beside a new checkpoint for which rules it is; refuse one of other rules, whose state says nothing about these."""
    rules, folder = fingerprint_of(Program(rules_of(workspace))), f"{_path(job.checkpoint)}/rules"
    before = _text(session, folder)
    if before is None:
        for out in (job.out, job.refused):
            if out is not None and _text(session, f"{_path(out)}/_spark_metadata") is not None:
                message = "the folder belongs to another checkpoint: Spark would leave out what it takes for repeated"
                raise UsageError("E265", out, message, "name a new folder, or the checkpoint that wrote it")
        session.range(0, 1, 1, 1).selectExpr(f"'{rules}' as value").write.text(folder)
    elif before != [rules]:
        message, remedy = "the checkpoint was begun with other live segments", "name a new one: the source is then read from its beginning"
        raise UsageError("E265", job.checkpoint, message, remedy)


def _text(session: Any, folder: str) -> list[str] | None:
    """Return the lines in a folder of any file system that Spark knows, None when there is none."""
    from pyspark.errors import AnalysisException

    try:
        return [row.value for row in session.read.text(folder).collect()]
    except AnalysisException:
        return None


def _started(rows: Any, job: Job, name: str, out: str, say: Callable[[Sequence[str]], object]) -> Any:
    writer = (rows if out.startswith(TABLE) else _said(rows) if name == "changes" else rows).writeStream.queryName(f"predseg {name}")
    writer = writer.option("checkpointLocation", f"{_path(job.checkpoint)}/{name}").trigger(**_trigger(job))
    if out.startswith(TABLE):
        return writer.toTable(out.removeprefix(TABLE))
    if out != STDOUT:
        return writer.format("text").start(_path(out))
    return writer.foreachBatch(lambda batch, number: say(sorted((row.value for row in batch.collect()), key=_order))).start()


def _trigger(job: Job) -> dict[str, Any]:
    return {"availableNow": True} if job.caught_up else {"processingTime": "0 seconds"}


def _said(found: Any) -> Any:
    """Return changes as the lines that `predseg live` prints."""

    def say(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        for batch in batches:
            lines = [orjson.dumps(Change(*row).plain()).decode() for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)]
            yield pa.record_batch({"value": pa.array(lines, pa.string())})

    return found.selectExpr("change", "segment", "customer_id", "unix_micros(at) as at", "definition").mapInArrow(say, "value string")


def _order(line: str) -> tuple[Any, ...]:
    row = orjson.loads(line)
    return row["at"], row["segment"], row["customer_id"], row["change"]


def _bad(lines: Any) -> Any:
    return lines.selectExpr("to_json(named_struct('line', line, 'field', field, 'reason', reason)) as value")


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """Turn Ctrl-C and SIGTERM into an event while the block runs; Spark's own handler would leave the queries as they are."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = {number: signal.signal(number, lambda *_: stopped.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _watched(session: Any, queries: Sequence[Any], stopped: threading.Event) -> dict[str, int]:
    """Wait until the queries end or are to be stopped, and count what went through the first of them."""
    seen: dict[int, Counter[str]] = {}
    try:
        while [query for query in queries if not query.awaitTermination(_PATIENCE)] and not stopped.is_set():
            seen |= _counted(queries[0])
        with _in_silence(session):
            for query in queries:
                query.stop()
        seen |= _counted(queries[0])
    except Exception:
        for query in queries:
            with suppress(Exception):
                query.stop()
        if not stopped.is_set():  # else who ended this process has ended Spark's own beside it
            raise
    return {name: sum(counts[name] for counts in seen.values()) for name in ("rows", "refused", "late")}


@contextmanager
def _in_silence(session: Any) -> Iterator[None]:
    """Let Spark not log pages about a batch that is cut short because somebody wants it so."""
    context = getattr(session, "sparkContext", None)  # there is none on the other side of Spark Connect
    if context is not None:
        context.setLogLevel("OFF")
    yield
    if context is not None:
        context.setLogLevel(session.conf.get("spark.log.level", "ERROR"))


def _counted(query: Any) -> dict[int, Counter[str]]:
    """Return what became of the lines of the latest batches."""
    found = {}
    for progress in query.recentProgress:
        if LINES in (observed := progress.observedMetrics):
            dropped = sum(operator.numRowsDroppedByWatermark for operator in progress.stateOperators)
            found[progress.batchId] = Counter(rows=observed[LINES].rows, refused=observed[LINES].refused, late=dropped)
    return found
