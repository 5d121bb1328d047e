"""The quarantine by hand: look at what broke the contract, let it through the contract again, drop what nobody wants.

    STORE/tables/quarantine/part-events.parquet     source, raw, reason, field, received_at: the bad rows of the present sources
    STORE/tables/quarantine/part-customers.parquet  the same of `customers:`
    STORE/tables/replayed/HASH.parquet              of one source, the rows that passed later, and which row of the quarantine each was
    STORE/live.db, table refused                    bad rows that came live
    STORE/live.db, table dropped                    which bad rows are left away, as keyed hashes

Every reading of the sources writes the quarantine anew. So what passes is kept as a source of its own (it outlasts the
file it came from, and is the same event as the row of a source that has it right by now), and what was dropped is
remembered, as long as it would be bad.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from predseg.columns import is_mixed
from predseg.disks import disk_errors
from predseg.engine import Engine, engine_in, literal, quoted
from predseg.history import contract, customers, mixed, privacy, report, sources, spreading, values
from predseg.history.events import staged_fields
from predseg.history.persons import IDS, Persons, bad_row
from predseg.history.sources import Reading
from predseg.history.staging import QUARANTINE, Stage, plan
from predseg.store import Store

if TYPE_CHECKING:
    from predseg.config import Config, Source
    from predseg.history.people import People

TABLE, REPLAYED = "quarantine", "replayed"
LIVE, CUSTOMERS, IDENTITY = "live", "customers", "identity"
"""What the quarantine has besides the rows of sources: what came live, rows of `customers:`, links of identities that were refused."""
ROW = "quarantine_row"
"""The column of replayed rows that says which row of the quarantine each was."""
AGAIN, SAMPLES = ", replayed", 3
"""What the source of replayed rows is called after the one they came from, and how many rows of a group are shown."""


# looking


def rows(store: Store, names: Sequence[str] = (), reason: str | None = None) -> pa.Table:
    """Return the rows of the quarantine as it is, those that came live as source ``live``; nothing is read in for that.

    Args:
        store: The store.
        names: Only of these sources; none means all.
        reason: Only those whose field and reason have this text, in capitals or not.
    """
    stored = store.read(TABLE).select(QUARANTINE.names).cast(QUARANTINE) if store.exists(TABLE) else QUARANTINE.empty_table()
    found = pa.concat_tables([stored, _live(store)])
    if names:
        found = found.filter(pc.is_in(found["source"], pa.array(names, pa.string())))
    if reason:
        said = pc.binary_join_element_wise(found["field"], found["reason"], " ")
        found = found.filter(pc.match_substring(said, reason, ignore_case=True))
    return found


def _live(store: Store) -> pa.Table:
    file = store.path / privacy.DATABASE
    if not file.is_file():
        return QUARANTINE.empty_table()
    with closing(sqlite3.connect(file, timeout=30)) as connection:
        some = connection.execute("select 1 from sqlite_master where name = 'refused'").fetchone()
        read = connection.execute("select raw, reason, field, received_at from refused order by seq").fetchall() if some else []
    raw, reasons, fields, received = zip(*read, strict=True) if read else ((), (), (), ())
    heard = pa.array(received, pa.int64()).cast(values.INSTANT)
    return pa.table([pa.array([LIVE] * len(read), pa.string()), raw, reasons, fields, heard], schema=QUARANTINE)


@dataclass(frozen=True)
class Group:
    """Rows of one source with the same thing wrong: how many, and a few of them as they came."""

    source: str
    field: str
    reason: str
    rows: int
    samples: tuple[str, ...]


def groups(found: pa.Table) -> list[Group]:
    """Return the rows of the quarantine in groups, the largest first; samples are the first ones in order of their text."""
    samples: dict[tuple[str, str, str], list[str]] = {}
    for source, raw, reason, field in zip(*(found[name].to_pylist() for name in QUARANTINE.names[:4]), strict=True):
        samples.setdefault((source, field, reason), []).append(raw)
    made = [Group(*key, len(raws), tuple(sorted(raws)[:SAMPLES])) for key, raws in samples.items()]
    return sorted(made, key=lambda g: (-g.rows, g.source, g.field, g.reason))


# once more


@dataclass(frozen=True)
class Replayed:
    """What became of rows of one source that went through its mapping and the contract again.

    Attributes:
        source: Its name.
        rows: Those that were chosen = passed + bad + suppressed + unlike.
        passed: Those that keep the contract now.
        new: Of these, those that were not replayed before.
        bad: Those that still break it.
        suppressed: Those of forgotten persons.
        unlike: Those that the source would not give any more: lines that are no rows, other columns, values that do not fit its types.
        reasons: ``FIELD REASON`` of the bad ones → rows, most frequent first.
    """

    source: str
    rows: int
    passed: int
    new: int
    bad: int
    suppressed: int
    unlike: int
    reasons: dict[str, int]


def replay(config: Config, store: Store, chosen: pa.Table, *, now: int, persons: Persons, dry_run: bool = False) -> list[Replayed]:
    """Let rows of the quarantine go through the mapping of their source and the contract again, and keep those that pass.

    They are events after the next ingest of `with_replayed`. Done twice, the second time nothing is new.

    Args:
        config: The project as it is now, with all sources but the replayed ones.
        store: Where the tables are.
        chosen: Rows of the quarantine; those of `customers:`, of joined identities and of live are passed over.
        now: The clock (microseconds).
        persons: Who does not come in, and under which names the others do.
        dry_run: Say what would be, keep nothing.

    Raises:
        DataError: E401 to E408 when a source cannot be read, E410, E411 when the store cannot be written.
        UsageError: E210 when another process is writing to the store.
    """
    found = []
    with store.lock(), TemporaryDirectory(prefix="predseg-") as temp:
        for number, (name, source) in enumerate(config.sources.items()):
            mine = chosen.filter(pc.equal(chosen["source"], name))
            if len(mine):
                folder = Path(temp) / str(number)
                folder.mkdir()
                stage = _again(config, source, mine, folder, now, persons)
                passed = _good(stage) if stage is not None else None
                new = 0 if passed is None else _keep(store, name, passed, dry_run)
                found.append(_replayed(name, len(mine), stage, new))
    return found


def _replayed(name: str, number: int, stage: Stage | None, new: int) -> Replayed:
    if stage is None:
        return Replayed(name, number, 0, 0, 0, 0, number, {})
    tally = stage.tally
    said = tally.report(name, tally.good, new)
    return Replayed(name, number, tally.good, new, tally.bad, tally.suppressed, number - tally.received, said.reasons)


def _again(config: Config, source: Source, mine: pa.Table, folder: Path, now: int, persons: Persons) -> Stage | None:
    """Read rows as the source would give them; None when it would give none of them."""
    seen: Counter[str] = Counter()
    marks = []
    for raw in mine["raw"].to_pylist():
        marks.append(f"{hashlib.sha256(bad_row(source.name, raw).encode()).hexdigest()[:24]}-{seen[raw]}")
        seen[raw] += 1
    pq.write_table(pa.table({"raw": mine["raw"], ROW: pa.array(marks, pa.string())}), folder / "rows.parquet")
    place = f"source {source.name}"
    found = spreading.laid(config.engine, source, sources.locate(source, config.resolve, place), place, folder / "table", rows=0)
    with engine_in(folder, "engine") as engine, pq.ParquetWriter(folder / "bad.parquet", QUARANTINE) as bad:
        reading = _reading(engine, sources.read_events(engine, source, found, source.timezone or config.timezone), folder / "rows.parquet", persons)
        if not engine.rows("select count(*) from again")[0][0]:
            return None
        properties = plan([reading.kinds], config.numeric_properties())
        stage = Stage(engine, reading, properties, staged_fields(properties), folder / "good.parquet", bad, replace(persons, dropped=privacy.NOBODY))
        check = partial(contract.check_events, reading=reading, properties=properties, events=config.contract.events, now=now)
        stage.fill(check, lambda step, done, total: None)
    return stage


def _reading(engine: Engine, reading: Reading, file: Path, persons: Persons) -> Reading:
    """Return how the rows of a file of raw rows are read: the view ``again`` has the columns and types that the source has, whatever is lost of no row.

    A row has all columns that are used, and none that the source has not; a value that does not fit the type would become null or another one.
    """
    types, given = engine.columns(reading.inner), dict(reading.given)
    for name in {*IDS} & given.keys() & reading.labels.keys() if persons.keys else ():
        types[reading.labels[name]], given[name] = "VARCHAR", quoted(reading.labels[name])  # a pseudonym stands there, whatever the id was
    used, texts = sorted({*reading.labels.values()}), [literal(name) for name in types]
    whole, plain = (literal(json.dumps(kinds)) for kinds in (types, dict.fromkeys(types, "JSON")))
    kept = " and ".join(_fits(quoted(name), kind) for name, kind in types.items())
    shape = f"list_has_all([{', '.join(texts)}], json_keys(raw)) and list_has_all(json_keys(raw), [{', '.join(literal(name) for name in used)}])"
    objects = f"select raw, {ROW} from read_parquet({literal(file)}) where json_valid(raw) and json_type(raw) = 'OBJECT'"
    engine.view("objects", f"select raw, {ROW} from ({objects}) where {shape}")
    engine.view("typed", f"select json_transform(raw, {whole}) as t, json_transform(raw, {plain}) as j, {ROW} from objects")
    several = {name for name, kind in reading.kinds.items() if kind == "mixed"}
    said = {name: mixed.of_json(f"j.{quoted(name)}") if name in several else f"t.{quoted(name)}" for name in types}
    engine.view("again", f"select {', '.join(f'{value} as {quoted(name)}' for name, value in said.items())}, {ROW} from typed where {kept}")
    return replace(
        reading,
        inner="select * from again",
        given=given,
        properties={**reading.properties, ROW: ROW},
        kinds={**reading.kinds, ROW: "text"},
        labels={**reading.labels, ROW: ROW},
        raw=replace(reading.raw, rejected=None),
    )


_NUMBERS = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
    "UHUGEINT",
    "FLOAT",
    "DOUBLE",
    "DECIMAL",
)


def _fits(column: str, kind: str) -> str:
    """Return the SQL that says whether ``t``, which has the type of the source, says the same as ``j``, which is as it came."""
    same = f"(t.{column} is null) = (j.{column} is null)"
    if kind == "BOOLEAN":
        return f"{same} and coalesce(json_type(j.{column}) <> 'UBIGINT' and json_type(j.{column}) <> 'DOUBLE', true)"
    if kind.startswith(_NUMBERS) and not kind.endswith("]"):
        return f"{same} and coalesce(try_cast(j.{column} ->> '$' as double) = t.{column}::double, true)"
    return same


def _good(stage: Stage) -> pa.Table:
    """Return the rows that passed as a source gives them, columns without any value left away."""
    table = pq.read_table(stage.file)
    named = {p.column: p.field for p in stage.properties}
    table = pa.table(table.columns, schema=pa.schema([named.get(field.name, field) for field in table.schema]))
    return table.select([name for name in table.column_names if table[name].null_count < len(table) or name in ("customer_id", ROW)])


def _file(name: str) -> str:
    return f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.parquet"


def _keep(store: Store, name: str, passed: pa.Table, dry_run: bool) -> int:
    """Add rows to those of a source that were replayed before and return how many are new."""
    before = next((file for file in store.files(REPLAYED) if file.name == _file(name)), None)
    known = pq.ParquetFile(before).read() if before is not None else passed.slice(0, 0)
    new = passed.filter(pc.invert(pc.is_in(passed[ROW], known[ROW].combine_chunks())))
    if len(new) and not dry_run:
        with store.replace_file(REPLAYED, _file(name)) as target:
            pq.write_table(_united(known, new), target, compression="zstd")
    return len(new)


def _united(a: pa.Table, b: pa.Table) -> pa.Table:
    """Return the rows of two tables; in a column of which they say different things each value keeps its kind."""
    for name in {*a.column_names} & {*b.column_names}:
        one, other = a.schema.field(name), b.schema.field(name)
        if one.type != other.type or is_mixed(one) != is_mixed(other):
            a, b = (
                t.set_column(t.column_names.index(name), mixed.field(name), pa.array(mixed.column(t[name], is_mixed(f)), pa.string()))
                for t, f in ((a, one), (b, other))
            )
    return pa.concat_tables([a, b], promote_options="default")


def with_replayed(config: Config) -> Config:
    """Return the project with the rows that were replayed among its sources."""
    from predseg.config import Source

    folder, more = config.store / "tables" / REPLAYED, {}
    for name in config.sources:
        file = folder / _file(name)
        if file.is_file() and pq.read_metadata(file).num_rows:
            called = f"{name}{AGAIN}"
            more[called] = Source(called, (str(file),), query=f"select * exclude ({ROW}) from source", place="replayed rows")
    return replace(config, sources={**config.sources, **more})


# dropping


def drop(people: People, store: Store, chosen: pa.Table) -> dict[str, int]:
    """Leave rows away, from the next ingest on and for as long as they break the contract, and return how many by source.

    Equal rows of a source are dropped together. The sources are read again at the next ingest. What came live is deleted. Refused
    links of identities are found anew from the events, and stay.

    Raises:
        DataError: E410, E411 when something cannot be written.
        UsageError: E210 when another process is writing to the store.
    """
    every = [one for one in zip(chosen["source"].to_pylist(), chosen["raw"].to_pylist(), strict=True) if one[0] != IDENTITY]
    with store.lock():
        with people.consent() as (connection, keys):
            privacy.drop(connection, keys, {bad_row(*one) for one in every})
        if some := [raw for source, raw in every if source == LIVE]:
            with (
                disk_errors(store.path / privacy.DATABASE),
                closing(sqlite3.connect(store.path / privacy.DATABASE, timeout=30)) as connection,
                connection,
            ):
                connection.execute("pragma secure_delete = on")
                connection.executemany("delete from refused where raw = ?", ((raw,) for raw in set(some)))
        _read_again(store)
    return dict(Counter(source for source, _ in every))


def _read_again(store: Store) -> None:
    """Let the next ingest read all sources, and build nothing anew."""
    memory = report.remembered(store)
    if memory is not None:
        report.remember(store, replace(memory, state=replace(memory.state, files={})))
    if store.read_text(customers.FILE) is not None:
        store.write_text(customers.FILE, "{}")


def elsewhere(names: Iterable[str], config: Config) -> dict[str, str]:
    """Return of sources in the quarantine that are not replayed why, and what to do instead."""
    why = {
        LIVE: "what came live is not replayed: let it be sent again",
        CUSTOMERS: "traits mirror their source: correct it there, or its columns, then predseg check",
        IDENTITY: "two customers are never merged: correct the events that join them",
    }
    why |= {f"{name}{AGAIN}": "they passed before and do not any more: correct the project file" for name in config.sources}
    return {name: why.get(name, "the project has no such source") for name in sorted(set(names)) if name not in config.sources}
