"""The events table: sources are read, checked, de-duplicated, joined to what is there, and the whole is replaced at once.

    store/tables/events/part-NNNNN.parquet        sorted by (customer_id, event_time, event_id); no customer in two files
    store/tables/events/recent-NNNNN.parquet      of large tables: what came later, see `predseg.layers`
    store/tables/quarantine/part-00000.parquet    the bad rows of the present sources: source, raw, reason, field, received_at
    store/ingest.json                             the report, and what the sources looked like

For every source received = accepted + duplicates + quarantined + suppressed (rows of forgotten persons, bad rows dropped by hand). A load adds to the table and changes nothing when the
same rows come again. When no file changed nothing is read; when files came, only these; when a declaration changed the table is built anew, not for one more source,
and not when that would lose what no source holds any more (`predseg.history.losses`).
"""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from predseg.engine import Engine, engine_in
from predseg.errors import DataError
from predseg.history import adding, contract, files, identity, losses, merge, retyping, sources, spreading, values
from predseg.history import report as report_
from predseg.history.contract import Property
from predseg.history.customers import ingest_customers
from predseg.history.persons import EVERYBODY, Persons
from predseg.history.repeats import EXISTING, Counts
from predseg.history.report import IngestReport, SourceReport
from predseg.history.rowwise import is_rowwise
from predseg.history.staging import QUARANTINE, Progress, Stage, keep_quarantine, plan
from predseg.layers import rows_in
from predseg.store import Store

if TYPE_CHECKING:
    from predseg.config import Config

IDENTITY = "identity"
"""The source of links that were refused, in the quarantine."""
FORMAT = 1
"""Raised when the same sources would give another table; stored tables are then built anew."""


def ingest(
    config: Config, store: Store, *, now: int, persons: Persons = EVERYBODY, rebuild: bool = False, progress: Progress | None = None
) -> IngestReport:
    """Bring the events table up to date with the sources and return what was done.

    Args:
        config: The project.
        store: Where the tables are.
        now: The clock (µs); events more than five minutes ahead of it wait in quarantine.
        persons: Who does not come in, and under which names the others do.
        rebuild: Forget the present table and build it from the sources as they are, whatever that loses.
        progress: Called while it works.

    Raises:
        DataError: E401 to E408 when a source cannot be read; E409 when more rows than the tolerance break the contract
            (the good rows, the quarantine and the report are written before); E410, E411 when the store cannot be written;
            E419 when a table that has to be built anew would lose events: then nothing is changed.
        UsageError: E210 when another process is writing to the store.
    """
    tell = progress or (lambda step, done, total: None)
    found = {name: sources.locate(source, config.resolve, f"source {name}") for name, source in config.sources.items()}
    state = report_.State(definition_of(config, persons), {name: sources.fingerprint(paths) for name, paths in found.items()})
    memory = None if rebuild else _current(config, store, state, now)
    if memory is None:
        with store.lock():
            before = report_.remembered(store)
            stale = before is None or not (before.state.definition == state.definition or _only_more(config, persons, before.state))
            stale, guarded = stale or not store.exists("events"), stale and not rebuild and store.exists("events")
            if before is not None and guarded:
                losses.refuse_early(before)
            load = _Load(config, store, now, persons, rebuild or stale, guarded, before, tell)
            memory = (load.more(found, state, before) if before is not None and not load.rebuild else None) or load.all(found, state)
            if before is not None and load.rebuild:
                memory = replace(memory, report=replace(memory.report, fewer=max(0, before.report.rows - memory.report.rows)))
            report_.remember(store, memory)
    report = _with_traits(config, store, memory, persons, rebuild, tell).report
    report_.judge(report, config.contract.tolerance)
    return report


def _current(config: Config, store: Store, state: report_.State, now: int) -> report_.Memory | None:
    """Return what is remembered when nothing needs to be read: no lock is taken for that."""
    if not store.exists("events"):
        return None
    memory = report_.remembered(store)
    if not config.sources:
        return memory or report_.Memory(state, IngestReport())
    if memory is None or memory.state.definition != state.definition or not memory.state.same(state, now):
        return None
    return replace(memory, report=replace(memory.report, up_to_date=True, rebuilt=False))


def _with_traits(config: Config, store: Store, memory: report_.Memory, persons: Persons, rebuild: bool, tell: Progress) -> report_.Memory:
    traits = ingest_customers(config, store, persons=persons, rebuild=rebuild, progress=tell)
    if traits == memory.report.traits:
        return memory
    memory = replace(memory, report=replace(memory.report, traits=traits))
    report_.remember(store, memory)
    return memory


def last_report(store: Store) -> IngestReport | None:
    """Return the report of the last ingest, or None when there was none."""
    before = report_.remembered(store)
    return before.report if before else None


def definition_of(config: Config, persons: Persons) -> str:
    """Return a hash of everything that decides what the table looks like, but not of what the files hold."""
    parts = {name: sources.definition(source, config.timezone) for name, source in config.sources.items()}
    whole: dict[str, Any] = {"format": FORMAT, "sources": parts, "counted": sorted(config.numeric_properties()), "events": config.contract.events}
    if persons.keys:
        whole["names"] = persons.mark
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _only_more(config: Config, persons: Persons, before: report_.State) -> bool:
    """Say whether everything is declared as it was, maybe with sources beside: the table then stays, with what is in no file any more."""
    if not before.files.keys() <= config.sources.keys():
        return False
    known = {name: source for name, source in config.sources.items() if name in before.files}
    return definition_of(replace(config, sources=known), persons) == before.definition


# one load


@dataclass(frozen=True)
class _Load:
    """One load of all sources: what it reads from, where it goes, and what is remembered of the last; ``guarded``: a new table may lose nothing."""

    config: Config
    store: Store
    now: int
    persons: Persons
    rebuild: bool
    guarded: bool
    last: report_.Memory | None
    tell: Progress

    @property
    def columns(self) -> dict[str, dict[str, str]]:
        """The columns and types that each source had when it was read last."""
        return self.last.state.columns if self.last else {}

    def all(self, found: dict[str, tuple[Path, ...]], state: report_.State) -> report_.Memory:
        """Read all sources, merge, put the tables in place, and return what is to be remembered."""
        with self.store.scratch("ingest") as folder:
            return self._load(folder, found, state, None)

    def more(self, found: dict[str, tuple[Path, ...]], state: report_.State, before: report_.Memory) -> report_.Memory | None:
        """Read only the files that came to the sources since; None when only a reading of all gives what all would give."""
        added = before.state.added(state, self.now)
        if not added or rows_in(self.store.files("events")) != before.report.rows:  # an ingest was cut short before it was remembered
            return None
        if any(not is_rowwise(self.config.sources[name].query) or name not in before.state.columns for name in added):
            return None
        fresh = {name: tuple(file for file in found[name] if str(file) in added[name]) for name in added}
        try:
            with self.store.scratch("ingest") as folder:
                return self._load(folder, fresh, state, before)
        except (adding.ReadAll, files.Unlike):
            return None
        except DataError as error:
            if error.code == "E404":  # a file without rows is none among others
                return None
            raise

    def _load(self, folder: Path, found: dict[str, tuple[Path, ...]], state: report_.State, before: report_.Memory | None) -> report_.Memory:
        existing = [] if self.rebuild else self.store.files("events")
        aside = folder / "quarantine.parquet"
        with pq.ParquetWriter(aside, QUARANTINE, compression="zstd") as quarantine:
            columns = before.state.columns if before else {}
            stages, was = self._read(folder, found, quarantine, existing[0] if existing else None, columns)
            given = {column for stage in stages for column in stage.reading.given}
            given |= {"anonymous_id"} & set(pq.read_schema(existing[0]).names) if before else set()
            loads = {number: stage.file for number, stage in enumerate(stages)}
            properties = stages[0].properties if stages else plan([was], set())
            retyped = {number: retyping.retyped(stage, self.columns.get(stage.reading.name, {})) for number, stage in enumerate(stages) if existing}
            whole = merge.Merge(existing, was, loads, properties, "anonymous_id" in given, "event_id" in given, retyped)
            with engine_in(folder, "merge", memory=merge.MEMORY) as engine, self.store.replace("events") as target:
                counts, refused, looked_at = self._merge(engine, whole, target, sum(stage.tally.good for stage in stages), before)
                kept = _still_refused(self.store, looked_at) if before else QUARANTINE.empty_table()
                links = len(refused) + sum(name == IDENTITY for name in kept["source"].to_pylist())
                report = _report(stages, counts, links, self.rebuild, before, self.last)
                if self.guarded and self.last:
                    losses.refuse(engine, self.last, state, report, (self.store.files("events"), sorted(target.glob("*.parquet"))), self.store.path)
                quarantine.write_table(pa.concat_tables([kept, _refused_links(refused)]))
                quarantine.close()
                keep_quarantine(self.store, "part-events", aside)
        dues = [stage.tally.due - contract.AHEAD for stage in stages if stage.tally.due is not None]
        dues += [before.state.due] if before and before.state.due is not None else []
        columns = columns | {stage.reading.name: stage.reading.raw.columns for stage in stages}
        return report_.Memory(replace(state, due=min(dues, default=None), columns=columns), report)

    def _merge(
        self, engine: Engine, whole: merge.Merge, target: Path, rows: int, before: report_.Memory | None
    ) -> tuple[Counts, list[identity.Refused], set[str] | None]:
        """Return the counts, the refused links, and of which anonymous ids these were found; None: of all."""
        if before and whole.kinds == {p.name: p.kind for p in whole.properties} and adding.fits(whole.existing, rows, list(whole.kinds)):
            return adding.add_events(engine, whole, target, before.report)
        total = rows + rows_in(whole.existing)
        counts, refused = merge.merge_events(engine, whole, target, lambda done: self.tell("sorting", done, total))
        if before and (counts.repeated or counts.conflicts.get(EXISTING)):
            raise adding.ReadAll
        return counts, refused, None

    def _read(
        self, folder: Path, found: dict[str, tuple[Path, ...]], quarantine: pq.ParquetWriter, present: Path | None, known: dict[str, dict[str, str]]
    ) -> tuple[list[Stage], dict[str, str]]:
        was = merge.existing_kinds(present) if present else {}
        config, chosen = self.config, {name: source for name, source in self.config.sources.items() if name in found}
        found = {
            name: spreading.laid(config.engine, source, found[name], f"source {name}", folder / f"table-{number}")
            for number, (name, source) in enumerate(chosen.items())
        }
        spread = [spreading.engine_of(config.engine, source, found[name], self.persons) for name, source in chosen.items()]
        with ExitStack() as opened:
            readings = []
            for number, ((name, source), there) in enumerate(zip(chosen.items(), spread, strict=True)):
                engine = opened.enter_context(engine_in(folder, f"source-{number}"))
                each = spreading.each(there, folder, found[name]) if there else None
                zone = source.timezone or config.timezone
                columns = self.columns.get(name, {})
                before = files.Before(columns, retyping.kept(found[name], columns, present, was)) if present else files.NEVER
                readings.append((engine, sources.read_events(engine, source, found[name], zone, known.get(name), each, before)))
            if present:
                retyping.check_names((reading for _, reading in readings), present, was)
            texts = retyping.texts([reading for _, reading in readings], self.columns, present, was) if present else set()
            properties = plan([was, *(reading.kinds for _, reading in readings)], config.numeric_properties(), texts)
            places = [folder / (f"load-{n}/*.parquet" if there else f"load-{n}.parquet") for n, there in enumerate(spread)]
            stages = [
                Stage(engine, reading, properties, staged_fields(properties), file, quarantine, self.persons)
                for (engine, reading), file in zip(readings, places, strict=True)
            ]
            for stage, there in zip(stages, spread, strict=True):
                check = partial(contract.check_events, reading=stage.reading, properties=properties, events=config.contract.events, now=self.now)
                if there:
                    spreading.fill(there, stage, found[stage.reading.name], check, self.tell)
                else:
                    stage.fill(check, self.tell)
                stage.engine.close()
        return stages, was


def staged_fields(properties: list[Property]) -> pa.Schema:
    """Return the columns of rows on their way into the table."""
    fields = [(name, pa.string()) for name in ("customer_id", "anonymous_id", "event")]
    fields += [("event_time", values.INSTANT), ("received_at", values.INSTANT), ("value", values.EXACT), ("event_id", pa.string())]
    return pa.schema(fields + [(p.column, p.type) for p in properties])


def _refused_links(refused: list[identity.Refused]) -> pa.Table:
    raw = [json.dumps({"anonymous_id": r.anonymous_id, "customer_id": r.customer_id}, ensure_ascii=False) for r in refused]
    reasons = [f"already belongs to customer {r.owner}; two customers are never merged" for r in refused]
    seen = pa.array([r.visible_at for r in refused], pa.int64()).cast(values.INSTANT)
    n = len(refused)
    return pa.table(
        [
            pa.array([IDENTITY] * n, pa.string()),
            pa.array(raw, pa.string()),
            pa.array(reasons, pa.string()),
            pa.array(["anonymous_id"] * n, pa.string()),
            seen,
        ],
        schema=QUARANTINE,
    )


def _still_refused(store: Store, looked_at: set[str] | None) -> pa.Table:
    """Return the quarantine of what was read before, without the refused links that were looked for again."""
    file = next((file for file in store.files("quarantine") if file.name == "part-events.parquet"), None)
    if file is None:
        return QUARANTINE.empty_table()
    rows = pq.ParquetFile(file).read().select(QUARANTINE.names).cast(QUARANTINE)
    names = [
        json.loads(raw)["anonymous_id"] if source == IDENTITY else None
        for source, raw in zip(*(rows[n].to_pylist() for n in ("source", "raw")), strict=True)
    ]
    return rows.filter(pa.array([name is None or (looked_at is not None and name not in looked_at) for name in names], pa.bool_()))


def _report(
    stages: list[Stage], counts: Counts, refused: int, rebuilt: bool, before: report_.Memory | None, last: report_.Memory | None
) -> IngestReport:
    """``before``: what was read before stays as it is remembered; ``last``: what is remembered of it, also when all was read again."""
    parts = tuple(_source_report(stage, load, counts) for load, stage in enumerate(stages))
    if before:
        if any(part.new < part.accepted for part in parts) and before.report.accepted != before.report.rows:
            raise adding.ReadAll  # what they repeat may be of a file that is gone
        read = {part.name: part for part in parts}
        parts = tuple(report_.joined(p, read[p.name]) if p.name in read else replace(p, new=0) for p in before.report.sources)
    elif last and not rebuilt:
        was = {part.name: part for part in last.report.sources}
        parts = tuple(report_.with_gone(part, was[part.name]) if part.name in was else part for part in parts)
    erased = before.report.erased if before else 0
    events = dict(sorted(counts.events.items(), key=lambda pair: (-pair[1], pair[0])))
    return IngestReport(parts, counts.rows, counts.customers, events, counts.first, counts.last, counts.visible, refused, rebuilt, erased=erased)


def _source_report(stage: Stage, load: int, counts: Counts) -> SourceReport:
    tally, lost = stage.tally, counts.conflicts.get(load, 0)
    if counts.seen.get(load, 0) + lost != tally.good or tally.received != tally.good + tally.bad + tally.suppressed:
        raise RuntimeError(f"{stage.reading.place}: rows were lost: {tally}, seen {counts.seen.get(load)}, conflicts {lost}")
    return tally.report(stage.reading.name, counts.accepted.get(load, 0), counts.new.get(load, 0), lost)
