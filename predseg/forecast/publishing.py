"""The scores table: the champions' answers at one moment, put in place at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from predseg.config import Config
from predseg.forecast.bundle import Bundle
from predseg.forecast.dataset import Source, open_source
from predseg.forecast.scoring import SCHEMA, Each, score
from predseg.history.privacy import NOBODY, OptedOut
from predseg.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from predseg.config import Model

SCORES = "scores"
Progress = Callable[[str, int, int | None], None]


def score_models(
    config: Config, store: Store, bundles: Mapping[str, Bundle], as_of: int, progress: Progress | None = None, without: OptedOut = NOBODY
) -> pa.Table:
    """Return the scores of every eligible customer at a moment by each bundle, a row per customer and model; ``without`` are not scored.

    Raises:
        ModelError: E710 when the features of the project are no longer those of a model.
    """
    source = open_source(config, store, without)
    parts = []
    for name, bundle in bundles.items():
        model = config.models[name]
        each = _elsewhere(source, model, as_of) if config.engine else None
        parts.append(score(bundle, _frames(source, model, as_of, progress), as_of=as_of, model=name, each=each))
    return pa.concat_tables(parts) if parts else SCHEMA.empty_table()


def _elsewhere(source: Source, model: Model, as_of: int) -> Each:
    """Return what answers the features of a model where they are computed; who is left out is left out here."""
    return lambda answer: ([part.without(source.without) for part in parts] for parts in source.each(answer, [as_of], model))


def _frames(source: Source, model: Model, as_of: int, progress: Progress | None) -> Iterator[pd.DataFrame]:
    for number, frame in enumerate(source.frames([as_of], model), 1):
        yield frame
        if progress is not None:
            progress(f"scoring {model.name}, blocks", number, None)


def publish(store: Store, table: pa.Table, as_of: int) -> None:
    """Write the scores of a moment; those of other models at the same moment stay."""
    if as_of in (store.partitions(SCORES) if store.exists(SCORES) else []):
        before = store.read(SCORES, as_of).select(SCHEMA.names).cast(SCHEMA)
        others = before.filter(pc.invert(pc.is_in(before["model"], pc.unique(table["model"]))))
        table = pa.concat_tables([others, table])
    store.write(SCORES, table.sort_by([("model", "ascending"), ("customer_id", "ascending")]), as_of)
