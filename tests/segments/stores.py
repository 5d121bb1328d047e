"""Small stores for tests of segments: events, scores, traits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from predseg.language.yaml import read_documents
from predseg.segments.definitions import Segment, Vocabulary, arrange

STAMP = pa.timestamp("us", "UTC")
Row = tuple[str, int, str, Mapping[str, Any]]


def write_events(folder: Path, rows: Sequence[Row]) -> list[Path]:
    """Write an events table: (customer, time in µs, event, properties); `received_at` may be among the properties."""
    ordered = sorted(rows, key=lambda r: (r[0], r[1]))
    names = sorted({name for r in ordered for name in r[3]} - {"received_at"})
    columns: dict[str, Any] = {
        "customer_id": pa.array([r[0] for r in ordered], pa.string()),
        "event": pa.array([r[2] for r in ordered], pa.string()),
        "event_time": pa.array([r[1] for r in ordered], pa.int64()).cast(STAMP),
        "received_at": pa.array([max(r[1], r[3].get("received_at", r[1])) for r in ordered], pa.int64()).cast(STAMP),
    }
    for name in names:
        values = [r[3].get(name) for r in ordered]
        exact = any(isinstance(v, Decimal) for v in values)
        columns[name] = pa.array(values, pa.decimal128(18, 4) if exact else None)
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / "part-00000.parquet")
    return [folder / "part-00000.parquet"]


class Tables:
    """Published runs in memory: what `predseg.segments.facts.Facts` reads."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[int, pa.Table]] = {}

    def publish(self, name: str, as_of: int, **columns: Any) -> None:
        self.runs.setdefault(name, {})[as_of] = pa.table(columns)

    def score(self, model: str, as_of: int, probabilities: Mapping[str, float]) -> None:
        """Publish scores; the rank follows the probability."""
        ids, p = list(probabilities), np.array(list(probabilities.values()))
        higher = np.array([(p > x).sum() for x in p])
        self.publish(
            "scores",
            as_of,
            customer_id=ids,
            model=[model] * len(ids),
            probability=p,
            percentile=1 - higher / len(p),
            decile=1 + 10 * higher // len(p),
        )

    def partitions(self, name: str) -> list[int]:
        return sorted(self.runs.get(name, {}))

    def exists(self, name: str) -> bool:
        return name in self.runs

    def read(self, name: str, as_of: int | None = None) -> pa.Table:
        assert as_of is not None
        return self.runs[name][as_of]


def rules(text: str, *models: str) -> dict[str, Segment]:
    """Return the segments of some YAML."""
    return arrange(read_documents(text, "rules.yaml"), Vocabulary(frozenset(models)))
