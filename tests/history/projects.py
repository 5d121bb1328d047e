"""Small projects for the tests of history, and an oracle that says what their events table must be."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from predseg import config as configs
from predseg.history.events import ingest
from predseg.history.merge import canonical_json, made_id
from predseg.history.report import IngestReport
from predseg.language.time import parse_instant
from predseg.store import Store

LONGER = 20 if os.environ.get("PREDSEG_LONG") else 1
NOW = parse_instant("2026-06-01")


@dataclass(frozen=True)
class Place:
    """A project in a folder: its text may change, its store stays."""

    root: Path

    def config(self, text: str) -> configs.Config:
        return configs.parse("project: test\n" + text, self.root / "predseg.yaml")

    @property
    def store(self) -> Store:
        return Store(self.root / "store")

    def ingest(self, text: str, now: int = NOW, **options: Any) -> IngestReport:
        return ingest(self.config(text), self.store, now=now, **options)

    def events(self) -> list[dict[str, Any]]:
        return self.store.read("events").to_pylist()

    def quarantine(self) -> list[dict[str, Any]]:
        return self.store.read("quarantine").to_pylist()

    def write(self, name: str, text: str | bytes) -> Path:
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        return file

    def parquet(self, name: str, **columns: Any) -> Path:
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), file)
        return file

    def jsonl(self, name: str, rows: Sequence[dict[str, Any]]) -> Path:
        return self.write(name, "".join(json.dumps(row) + "\n" for row in rows))


def stored(table: pa.Table) -> list[dict[str, Any]]:
    """Rows of the events table, instants in microseconds, nulls left out."""
    for i, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            table = table.set_column(i, field.name, table.column(i).cast(pa.int64()))
    return [{name: value for name, value in row.items() if value is not None} for row in table.to_pylist()]


def expected(loads: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """What the events table must be after loads of good, normalised rows (without anonymous ids).

    A row has customer_id, event, event_time, received_at (microseconds), maybe value, event_id and properties.
    """
    named: dict[str, dict[str, Any]] = {}
    unnamed: Counter[str] = Counter()
    contents: dict[str, dict[str, Any]] = {}
    for load in loads:
        own: Counter[str] = Counter()
        for row in load:
            text = canonical_json(row)
            if row.get("event_id") is not None:
                other = named.get(row["event_id"])
                key = (row["received_at"], text)
                if other is None or key < (other["received_at"], canonical_json(other)):
                    named[row["event_id"]] = row
            else:
                own[text] += 1
                contents[text] = row
        for text, number in own.items():
            unnamed[text] = max(unnamed[text], number)
    rows = list(named.values()) + [{**contents[text], "event_id": made_id(contents[text], k)} for text, n in unnamed.items() for k in range(n)]
    rows = [{name: value for name, value in row.items() if value is not None} for row in rows]
    return sorted(rows, key=lambda row: (row["customer_id"], row["event_time"], row["event_id"]))
