"""The customers table: facts of customers (traits), with the time from which they are true and known where the source has these.

    store/tables/customers/part-00000.parquet    customer_id, event_time, known_since, one column per trait

Rows are sorted by (customer_id, event_time, known_since), absent times first; rows that are equal in everything are one.
It always mirrors the source: rows that are gone there are gone here.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from predseg.engine import engine_in, literal
from predseg.history import contract, merge, sources, spreading, values
from predseg.history.contract import Property
from predseg.history.persons import EVERYBODY, Persons
from predseg.history.report import SourceReport, source_report
from predseg.history.staging import QUARANTINE, Progress, Stage, keep_quarantine, plan
from predseg.store import Store

if TYPE_CHECKING:
    from predseg.config import Config

TABLE = "customers"
FILE = "customers.json"
FORMAT = 2
_FIELDS = [("customer_id", pa.string()), ("event_time", values.INSTANT), ("known_since", values.INSTANT)]


def ingest_customers(
    config: Config, store: Store, *, persons: Persons = EVERYBODY, rebuild: bool = False, progress: Progress | None = None
) -> SourceReport | None:
    """Bring the customers table up to date with its source; None, and no table, when the project declares none.

    Raises:
        DataError: E401 to E408 when the source cannot be read; E410, E411 when the store cannot be written.
        UsageError: E210 when another process is writing to the store.
    """
    if config.customers is None:
        if store.exists(TABLE):
            store.drop(TABLE)
        return None
    found = sources.locate(config.customers.source, config.resolve, "customers")
    state = _state(config, found, persons)
    text = store.read_text(FILE)
    if text is not None and not rebuild and store.exists(TABLE) and state["files"] and (before := _same(text, state)):
        return before
    with store.scratch("customers") as folder:
        report = _load(config, store, folder, found, persons, progress or (lambda step, done, total: None))
        store.write_text(FILE, json.dumps({"state": state, "report": asdict(report)}, ensure_ascii=False, indent=1))
    return report


def _state(config: Config, found: tuple[Path, ...], persons: Persons) -> dict[str, Any]:
    customers = config.customers
    assert customers is not None
    named = {"customer_id": customers.customer_id, "event_time": customers.event_time, "known_since": customers.known_since}
    whole = json.dumps(
        [FORMAT, named, sources.definition(customers.source, config.timezone), *([persons.mark] if persons.keys else [])], sort_keys=True
    )
    return {"definition": hashlib.sha256(whole.encode()).hexdigest(), "files": sources.fingerprint(found)}


def _same(text: str, state: dict[str, Any]) -> SourceReport | None:
    try:
        saved = json.loads(text)
        return source_report(saved["report"]) if saved["state"] == state else None
    except (ValueError, KeyError, TypeError):
        return None


def _load(config: Config, store: Store, folder: Path, found: tuple[Path, ...], persons: Persons, tell: Progress) -> SourceReport:
    customers = config.customers
    assert customers is not None
    aside = folder / "quarantine.parquet"
    found = spreading.laid(config.engine, customers.source, found, "customers", folder / "table")
    with engine_in(folder, "source") as engine, pq.ParquetWriter(aside, QUARANTINE, compression="zstd") as quarantine:
        reading = sources.read_customers(engine, customers, found, customers.source.timezone or config.timezone)
        traits = plan([reading.kinds], set())
        fields = pa.schema(_FIELDS + [(p.column, p.type) for p in traits])
        stage = Stage(engine, reading, traits, fields, folder / "load.parquet", quarantine, persons)
        stage.fill(partial(contract.check_customers, reading=reading, properties=traits), tell)
        quarantine.close()
        with store.replace(TABLE) as target:
            kept = _write(engine.stream(_sorted(stage.file, traits)), target / "part-00000.parquet", traits)
            keep_quarantine(store, "part-customers", aside)
    return stage.tally.report("customers", kept, kept)


def _sorted(file: Path, traits: list[Property]) -> str:
    columns = [name for name, _ in _FIELDS] + [p.column for p in traits]
    order = ", ".join(f"{column} nulls first" for column in columns)
    return f"select * from (select distinct {', '.join(columns)} from read_parquet({literal(file)})) order by {order}"


def _write(batches: Any, file: Path, traits: list[Property]) -> int:
    schema = pa.schema(_FIELDS + [(p.name, p.type) for p in traits])
    rows = 0
    with pq.ParquetWriter(file, schema, **merge.encoding(schema)) as writer:
        for batch in batches:
            writer.write_table(pa.table([c.cast(f.type) for c, f in zip(batch.columns, schema, strict=True)], schema=schema))
            rows += batch.num_rows
    return rows
