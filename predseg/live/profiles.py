"""More about one customer than memberships: the latest score of each model, and on request all features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from predseg.config import Config
from predseg.forecast.dataset import open_source
from predseg.forecast.publishing import SCORES
from predseg.language.time import say_instant
from predseg.segments.live_scores import NEVER
from predseg.store import Store, partition_name

SHOWN = ("model", "model_version", "probability", "percentile", "decile", "reasons")


@dataclass
class Profiles:
    """Looks customers up in the tables of a project; nothing of them is kept.

    Attributes:
        config: The project.
        store: Its tables.
        rescored: Says when after a run, and by now, a model scored a customer live, and the probability, NaN for unknown:
            ``(model, customer_id, now, run)``; None when it did not.
    """

    config: Config
    store: Store
    rescored: Callable[[str, str, int, int], tuple[int, float] | None] = lambda model, customer_id, now, run: None

    def of(self, customer_id: str, now: int, features: bool) -> Mapping[str, Any]:
        """Return the scores of a customer, and the features when they are wanted; an empty answer where nothing was made yet."""
        found: dict[str, Any] = {"scores": self._scores(customer_id, now)}
        return found | ({"features": self._features(customer_id, now)} if features else {})

    def _scores(self, customer_id: str, now: int) -> list[dict[str, Any]]:
        found = []
        for model in self.config.models:
            run, rows = self._last_run(model, customer_id)
            live = self.rescored(model, customer_id, now, run)
            for row in rows or ([dict.fromkeys(SHOWN) | {"model": model}] if live else []):
                as_of = say_instant(run) if rows else None
                found.append({**{name: row[name] for name in SHOWN}, "as_of": as_of, "live": _live(live)})
        return found

    def _last_run(self, model: str, customer_id: str) -> tuple[int, list[dict[str, Any]]]:
        """Return the moment of the last run of a model and its rows of the customer: that run answers, also when it has none."""
        import pyarrow.parquet as pq

        for as_of in reversed(self.store.partitions(SCORES)):
            tables = [pq.read_table(file, filters=[("model", "=", model)], columns=["customer_id"]) for file in self._files(as_of)]
            if any(len(table) for table in tables):
                return as_of, self._rows(as_of, model, customer_id)
        return NEVER, []

    def _files(self, as_of: int) -> list[Path]:
        return self.store.files(f"{SCORES}/{partition_name(as_of)}")

    def _rows(self, as_of: int, model: str, customer_id: str) -> list[dict[str, Any]]:
        import pyarrow.parquet as pq

        wanted = [("model", "=", model), ("customer_id", "=", customer_id)]
        return [row for file in self._files(as_of) for row in pq.read_table(file, filters=wanted).to_pylist()]

    def _features(self, customer_id: str, now: int) -> dict[str, Any] | None:
        """Return the features of a customer by the events table; None when it does not know the customer."""
        import pyarrow as pa

        from predseg.evaluate.block import from_table
        from predseg.layers import in_order, tables_with

        source = open_source(self.config, self.store)
        parts = list(tables_with(source.files, "customer_id", [customer_id]))
        if not parts:
            return None
        frame = source.frame(from_table(in_order(pa.concat_tables(parts, promote_options="permissive"))), [now])
        frame = frame[frame["customer_id"] == customer_id]
        names = [name for name in frame.columns if name not in ("customer_id", "as_of")]
        return {name: _plain(frame[name].iloc[0]) for name in names} if len(frame) else None


def _live(score: tuple[int, float] | None) -> dict[str, Any] | None:
    return None if score is None else {"probability": _plain(score[1]), "as_of": say_instant(score[0])}


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if value is None or value != value else value if isinstance(value, bool | int | float | str | list) else str(value)
