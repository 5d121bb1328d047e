"""The scores table: the champions' answers at one moment, put in place at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from predseg.config import Config
from predseg.evaluate.ahead import side_by_side
from predseg.forecast.bundle import Bundle
from predseg.forecast.dataset import LOOKED_AT, Source, open_source
from predseg.forecast.drift import Comparison, Present
from predseg.forecast.forecaster import Array
from predseg.forecast.scoring import SCHEMA, Seen, score
from predseg.history.privacy import NOBODY, OptedOut
from predseg.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from predseg.config import Model

SCORES = "scores"
Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class Scored:
    """The scores of every eligible customer at a moment, a row per customer and model; and, by model, the features that they follow from against training."""

    table: pa.Table
    present: dict[str, Present] = field(default_factory=dict)


def score_models(
    config: Config,
    store: Store,
    bundles: Mapping[str, Bundle],
    as_of: int,
    progress: Progress | None = None,
    without: OptedOut = NOBODY,
    share: float = 0.0,
) -> Scored:
    """Score every eligible customer at a moment by each bundle; ``without`` are not scored.

    Args:
        config: The project.
        store: Its store.
        bundles: By the names of the models.
        as_of: The moment.
        progress: Called while it works.
        without: Who is left out.
        share: Of the customers: their features are compared with training on the way.

    Raises:
        ModelError: E710 when the features of the project are no longer those of a model.
    """
    source = open_source(config, store, without)
    if config.engine:  # each model has its own pass there
        parts = [_on_engine(source, config.models[name], bundle, as_of, progress) for name, bundle in bundles.items()]
        return Scored(pa.concat_tables(parts) if parts else SCHEMA.empty_table())
    watched = {name: bundle for name, bundle in bundles.items() if share and "reference" in bundle.facts}
    comparisons = {name: Comparison(bundle.forecaster, bundle.facts["reference"]) for name, bundle in watched.items()}
    works = [
        partial(score, bundle, as_of=as_of, model=name, seen=_added_to(comparisons[name]) if name in watched else None)
        for name, bundle in bundles.items()
    ]
    blocks = source.frames_of(as_of, [config.models[name] for name in bundles], share)
    parts = side_by_side(works, _told(blocks, "scoring, blocks", progress)) if works else []
    table = pa.concat_tables(parts) if parts else SCHEMA.empty_table()
    return Scored(table, {name: one.present() for name, one in comparisons.items()})


def _added_to(comparison: Comparison) -> Seen:
    """Return what counts the rows of those who are looked at."""

    def seen(frame: pd.DataFrame, matrix: Array, raw: Array) -> None:
        some = frame[LOOKED_AT].to_numpy(bool)
        if some.any():
            comparison.add(matrix[some], raw[some])

    return seen


def _on_engine(source: Source, model: Model, bundle: Bundle, as_of: int, progress: Progress | None) -> pa.Table:
    """Return the scores by one bundle, answered where the features are computed; who is left out is left out here."""

    def each(answer: Callable[[pd.DataFrame], Any]) -> Iterator[Any]:
        return ([part.without(source.without) for part in parts] for parts in source.each(answer, [as_of], model))

    frames = _told(source.frames([as_of], model), f"scoring {model.name}, blocks", progress)
    return score(bundle, frames, as_of=as_of, model=model.name, each=each)


def _told(blocks: Iterator[Any], step: str, progress: Progress | None) -> Iterator[Any]:
    for number, block in enumerate(blocks, 1):
        yield block
        if progress is not None:
            progress(step, number, None)


def publish(store: Store, table: pa.Table, as_of: int) -> None:
    """Write the scores of a moment; those of other models at the same moment stay."""
    if as_of in (store.partitions(SCORES) if store.exists(SCORES) else []):
        before = store.read(SCORES, as_of).select(SCHEMA.names).cast(SCHEMA)
        others = before.filter(pc.invert(pc.is_in(before["model"], pc.unique(table["model"]))))
        table = pa.concat_tables([others, table])
    store.write(SCORES, table.sort_by([("model", "ascending"), ("customer_id", "ascending")]), as_of)
