"""Old scores against what came true of them, once per run: what is said of a run stays while nothing that it followed from can have changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from predseg import __version__
from predseg.columns import Array, instants
from predseg.config import Config, Model
from predseg.evaluate.block import NEVER, Block
from predseg.forecast.dataset import ROWS, Source
from predseg.forecast.drift import Matured, matured, matured_value
from predseg.forecast.labels import block_labels
from predseg.forecast.publishing import SCORES
from predseg.layers import is_recent, name_of, readers
from predseg.marks import hashed, mark
from predseg.store import Store, partition_name

if TYPE_CHECKING:
    import pandas as pd

RUNS = 12
"""The newest matured runs that are looked at."""
Said = dict[str, dict[str, Any]]
"""Moment → what was said of its run (plain JSON; None when there is nothing to say), what that was made of, and the moment of saying it."""


@dataclass(frozen=True)
class Maturing:
    """The runs of a project whose horizon is over at a moment.

    Attributes:
        config: The project.
        store: Where scores are published.
        source: Its events.
        as_of: The moment: nothing later is used.
    """

    config: Config
    store: Store
    source: Source
    as_of: int

    def runs(self, models: Sequence[Model], before: Mapping[str, Said], each: Mapping[str, float]) -> dict[str, tuple[list[Matured], Said]]:
        """Return of each model its newest matured runs, oldest first, and what to remember of them.

        Args:
            models: Their declarations.
            before: What was remembered, by model.
            each: What one who brings any value usually brings, by model of values.
        """
        said: dict[str, Said] = {model.name: {} for model in models}
        open_: dict[str, dict[int, pd.DataFrame]] = {model.name: {} for model in models}
        for model in models:
            for moment, known in self._newest(model, before.get(model.name, {})):
                if isinstance(known, dict):
                    said[model.name][str(moment)] = known
                else:
                    open_[model.name][moment] = known
        came, unknown = self._labels({model: sorted(open_[model.name]) for model in models if open_[model.name]})
        found = {}
        for model in models:
            mine = {moment: said_["run"] and matured_of(said_["run"]) for moment, said_ in said[model.name].items()}
            for moment, scores in open_[model.name].items():
                mine[str(moment)] = run = _run(model, moment, scores, came[model.name][moment], each.get(model.name, np.inf))
                if moment + model.predict.horizon < unknown:
                    answer = asdict(run) if run is not None else None
                    said[model.name][str(moment)] = {"made_of": self._made_of(model, moment), "at": self.as_of, "run": answer}
            found[model.name] = [run for _, run in sorted(mine.items(), key=lambda item: int(item[0])) if run is not None], said[model.name]
        return found

    def _newest(self, model: Model, before: Said) -> Iterator[tuple[int, dict[str, Any] | pd.DataFrame]]:
        """Yield the newest matured runs: what was said of each before, when it stands, or else its scores."""
        published = self.store.partitions(SCORES) if self.store.exists(SCORES) else []
        number = 0
        for moment in reversed([moment for moment in published if moment <= self.as_of - model.predict.horizon]):
            said, scores = before.get(str(moment)), None
            if said is None or said["at"] > self.as_of or said["made_of"] != self._made_of(model, moment):
                scores = self._scores(model, moment)
                if not len(scores):
                    continue
            yield moment, said if scores is None else scores
            number += 1
            if number == RUNS:
                return

    def _scores(self, model: Model, moment: int) -> pd.DataFrame:
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        columns = ["customer_id", "model_version", "probability", "percentile"]
        table = pa.concat_tables([pq.ParquetFile(file).read([*columns, "model"]) for file in self._files(moment)])
        return table.filter(pc.equal(table["model"], model.name)).select(columns).to_pandas().set_index("customer_id")

    def _files(self, moment: int) -> list[Any]:
        return self.store.files(f"{SCORES}/{partition_name(moment)}")

    def _labels(self, asked: Mapping[Model, list[int]]) -> tuple[dict[str, pd.DataFrame], int]:
        """Return what came true of everyone, a column per moment, by model, in one pass; and the first event that is not known yet."""
        import pandas as pd

        if not asked:
            return {}, NEVER
        as_of = self.as_of

        def of_block(block: Block) -> tuple[list[pd.DataFrame], int]:
            labels = [pd.DataFrame(block_labels(block, moments, m.predict, as_of), block.customers, moments) for m, moments in asked.items()]
            return labels, int(block.time[block.received > as_of].min(initial=NEVER))

        properties = set().union(*(model.predict.measure.properties() for model in asked))
        first = min(moments[0] for moments in asked.values())
        parts, unknown = zip(*self.source.over(of_block, self.source.files, properties, ROWS, first), strict=True)
        return {model.name: pd.concat(column) for model, column in zip(asked, zip(*parts, strict=True), strict=True)}, min(unknown)

    def _made_of(self, model: Model, moment: int) -> str:
        """Return a hash of what is said of a run is made of. Rows that came later count when they are of the event, or may say who somebody was at the moment."""
        names = model.predict.measure.names()
        events = [[name_of(file), mark(file)] for file in self.source.files if not is_recent(file)]
        for (name, marked), (time, event) in self._recent:
            ours = np.isin(event, list(names)) if names else True
            if bool(((time <= moment) | ((time <= moment + model.predict.horizon) & ours)).any()):
                events.append([name, marked])
        return hashed(__version__, self.config.text, events, [mark(file) for file in self._files(moment)])

    @cached_property
    def _recent(self) -> list[tuple[tuple[str, Any], tuple[Array, Array]]]:
        """Name and mark, times and events of the files beside the base."""
        found = []
        for reader in readers([file for file in self.source.files if is_recent(file)]):
            rows = reader.read(["event_time", "event"])
            found.append(((name_of(reader.path), mark(reader.path)), (instants(rows["event_time"]), np.asarray(rows["event"].to_pylist(), object))))
        return found


def _run(model: Model, moment: int, scores: pd.DataFrame, came: pd.Series, each: float) -> Matured | None:
    rows = scores.join(came.rename("y"), how="inner")
    if not len(rows):
        return None
    y, p, rank = (rows[name].to_numpy() for name in ("y", "probability", "percentile"))
    version = int(rows["model_version"].iloc[0])
    return matured_value(moment, version, np.maximum(y, 0.0), p, rank, each=each) if model.value else matured(moment, version, y, p, rank)


def matured_of(kept: Mapping[str, Any]) -> Matured:
    """Return a matured run that was kept as plain JSON."""
    return Matured(**{**kept, "auc_interval": tuple(kept["auc_interval"])})
