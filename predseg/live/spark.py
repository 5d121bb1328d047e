"""Live segments on Spark Structured Streaming: the live executor, a customer at a time, its state in Spark's, its timers Spark's.

    lines = spark.readStream.format("kafka").option(...).load()              # or any stream with lines of JSON in `value`
    found = changes(project.segments(), project.people.persons(), lines, late="5 minutes")
    found.writeStream.option("checkpointLocation", folder).toTable("changes")

What is decided is the log of the sorted stream, as `predseg live` has it after corrections: an event waits until Spark's watermark
has passed it, so that nothing is ever corrected. What comes later than ``late`` behind the newest event Spark drops, and counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import orjson

from predseg.errors import UsageError
from predseg.evaluate.live import BEGINNING, Engine
from predseg.evaluate.program import Change, Program, Rule
from predseg.history.persons import Persons
from predseg.history.privacy import NOBODY
from predseg.language import conditions as c
from predseg.live.lines import Contract, Refused, row_of
from predseg.live.loop import Loop
from predseg.live.opening import rules_of
from predseg.live.published import Published, Snapshot
from predseg.live.state import dump, load
from predseg.segments.facts import Facts
from predseg.segments.population import Listed

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from predseg.segments.workspace import Workspace

PROVIDER = "spark.sql.streaming.stateStore.providerClass"
ROCKSDB = "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"
LINES = "predseg lines"
"""What a query observes: how many lines came, `rows`, and how many of them broke the contract, `refused`."""
CLOCK = ""
"""The key of lines that only move the clock; no customer is called so."""
MILLISECOND = 1_000
_READ = "key string, visible long, line binary, field string, reason string"
_SAID = "change string, segment string, customer_id string, at long, definition string"


def changes(workspace: Workspace, persons: Persons, lines: Any, *, late: str = "5 minutes", links: Literal["refuse", "ignore"] = "refuse") -> Any:
    """Return the stream of changes of membership: change, segment, customer_id, at, definition.

    Nothing is known at the start, as with `predseg live --new`; scores, traits and daily segments are those published when the query starts.

    Args:
        workspace: The segments of a project.
        persons: Under which names persons come in, and who does not.
        lines: A stream with a column ``value``: lines of JSON as `predseg live` takes them.
        late: How far behind the newest event of the stream one may come; decisions are so much later.
        links: What becomes of a row with a customer_id and another anonymous_id, as joining two customers needs both at
            once: it is refused, or is the customer's alone.

    Raises:
        UsageError: E263 when the session keeps state in another way than in RocksDB, which timers need.
    """
    from pyspark.sql.functions import expr

    session = lines.sparkSession
    if "RocksDB" not in (session.conf.get(PROVIDER, "") or ""):
        remedy = f"set it to {ROCKSDB}, among the options of the engine"
        raise UsageError("E263", PROVIDER, "live segments keep their state in RocksDB", remedy)
    read = _read(workspace, persons, lines, links).observe(
        LINES, expr(f"count_if(coalesce(key, 'x') <> '{CLOCK}') as rows"), expr("count(reason) as refused")
    )
    events = read.where("reason is null").selectExpr("key", "visible", "line", "timestamp_micros(visible) as time")
    said = events.withWatermark("time", late).groupBy("key").transformWithStateInPandas(_processor(_decider(workspace)), _SAID, "append", "eventTime")
    return said.selectExpr("change", "segment", "customer_id", "timestamp_micros(at) as at", "definition")


def refused(workspace: Workspace, persons: Persons, lines: Any, *, links: Literal["refuse", "ignore"] = "refuse") -> Any:
    """Return the stream of lines that break the contract: line, field, reason; arguments as of `changes`."""
    return _read(workspace, persons, lines, links).where("reason is not null").selectExpr("string(line) as line", "field", "reason")


# lines


def _read(workspace: Workspace, persons: Persons, lines: Any, links: str) -> Any:
    persons = _carried(persons)
    contract, traits = (
        Contract.of(workspace.config),
        any(isinstance(p, c.Trait) for rule in rules_of(workspace) for p in c.walk(rule.match)),
    )

    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        schema = pa.schema([("key", pa.string()), ("visible", pa.int64()), ("line", pa.binary()), ("field", pa.string()), ("reason", pa.string())])
        for batch in batches:
            found = (_of_line(line, contract, persons, links, traits) for line in batch.column(0).to_pylist() if line is not None and line.strip())
            kept = [row for row in found if row is not None]
            yield pa.RecordBatch.from_pylist([dict(zip(schema.names, row, strict=True)) for row in kept], schema=schema)

    return lines.select("value").mapInArrow(read, _READ)


def _carried(persons: Persons) -> Persons:
    """Return what the machines must know of persons. The way to tell of somebody on the list holds what this process knows of secrets, and stays: batch tells."""
    return replace(persons, listed=NOBODY, met=Persons().met)


def _of_line(line: str | bytes, contract: Contract, persons: Persons, links: str, traits: bool) -> tuple[Any, ...] | None:
    """Return key, visible, line, field and reason of a line; None when it is of a person who was forgotten."""
    text = line.encode() if isinstance(line, str) else line
    try:
        row = row_of(text)
        if row is None:
            raise Refused("line", "is not a JSON object")
        if "clock" in row and "event" not in row:
            return CLOCK, contract.instant(row, "clock"), b"", None, None
        if (known := persons.event(row)) is None:
            return None
        seen = contract.read(known)
        if seen.customer_id and seen.anonymous_id and seen.customer_id != seen.anonymous_id:
            if links == "refuse":
                raise Refused("anonymous_id", "comes with a customer_id, and nobody is joined here")
            known = {name: value for name, value in known.items() if name != "anonymous_id"}
        if seen.traits and traits:
            raise Refused("traits", "are read from `customers:` alone here")
        return seen.customer_id or seen.anonymous_id, seen.visible, orjson.dumps(known, default=str), None, None
    except Refused as error:
        kept = persons.line(text.decode("utf-8", "replace"))
        return None if kept is None else (None, None, kept.encode(), error.field, error.reason)


# decisions

Decide = Callable[[str, bytes | None, Iterable[tuple[int, bytes]], int], tuple[bytes, list[Change], int | None]]
"""(customer, state, new lines and when they count, clock) → (state, what changed, the next instant at which something may change)."""


@dataclass(frozen=True)
class _Knowledge:
    """What a worker needs to decide."""

    rules: Sequence[Rule]
    facts: Facts
    listed: Listed
    contract: Contract

    def decide(self) -> Decide:
        """Return the function that does."""
        program, published = Program(self.rules), Published(self.facts, self.listed)

        def decide(customer: str, state: bytes | None, lines: Iterable[tuple[int, bytes]], clock: int) -> tuple[bytes, list[Change], int | None]:
            before, person, waiting = orjson.loads(state) if state else (BEGINNING, None, [])
            engine = Engine(program, published, before, lateness=0)
            if person is not None:
                load(engine, customer, person)
            loop = Loop(engine, self.contract, published)
            there = [(visible, line.encode()) for visible, line in waiting] + list(lines)
            for _, line in there:
                loop.take(orjson.loads(line))
            found = engine.advance(clock) if clock > before else []
            engine.prune()
            engine.person(customer)
            left = [(visible, line.decode()) for visible, line in there if visible > engine.clock]
            return orjson.dumps([engine.clock, orjson.loads(dump(engine, customer)), left]), found, engine.next_instant

        return decide


def _decider(workspace: Workspace) -> _Knowledge:
    facts = workspace.facts(workspace.ledger())
    snapshot = Facts(Snapshot(workspace.store), facts.traits, facts.members, facts.rescored)
    return _Knowledge(rules_of(workspace), snapshot, workspace.listed(), Contract.of(workspace.config))


def _processor(knowledge: _Knowledge) -> Any:
    """Return the stateful processor of Spark around `Decide`: it carries the state, and sets one timer a customer."""
    from pyspark.sql.streaming.stateful_processor import StatefulProcessor

    class Live(StatefulProcessor):
        def init(self, handle: Any) -> None:
            self.handle, self.decide = handle, knowledge.decide()
            self.state = handle.getValueState("customer", "state binary, timer long")

        def handleInputRows(self, key: Any, rows: Iterator[pd.DataFrame], timerValues: Any) -> Iterator[pd.DataFrame]:  # noqa: N802, N803
            if key[0] == CLOCK:
                return iter(())
            return self.go_on(key[0], [pair for frame in rows for pair in zip(frame["visible"], map(bytes, frame["line"]), strict=True)], timerValues)

        def handleExpiredTimer(self, key: Any, timerValues: Any, expiredTimerInfo: Any) -> Iterator[pd.DataFrame]:  # noqa: N802, N803
            return self.go_on(key[0], [], timerValues)

        def go_on(self, customer: str, lines: list[tuple[int, bytes]], times: Any) -> Iterator[pd.DataFrame]:
            import pandas as pd

            kept = self.state.get()
            state, timer = (None, None) if kept is None else (bytes(kept[0]), kept[1])
            clock = times.getCurrentWatermarkInMs() * MILLISECOND or BEGINNING
            state, found, due = self.decide(customer, state, lines, clock)
            after = None if due is None else -(-due // MILLISECOND)
            if after != timer and timer is not None:
                self.handle.deleteTimer(timer)
            if after != timer and after is not None:
                self.handle.registerTimer(after)
            self.state.update((state, after))
            if found:
                yield pd.DataFrame([(x.change, x.segment, x.customer_id, x.at, x.definition) for x in found], columns=list(_COLUMNS))

        def close(self) -> None:
            pass

    return Live()


_COLUMNS = ("change", "segment", "customer_id", "at", "definition")
