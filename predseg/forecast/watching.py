"""Watching the champions of a project: present features against training, matured scores against what came true."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from predseg.forecast.drift import Advice, Matured, Move, compare, matured, matured_value, recommend
from predseg.forecast.labels import block_labels
from predseg.forecast.publishing import SCORES

if TYPE_CHECKING:
    import pandas as pd

    from predseg.config import Model
    from predseg.forecast.bundle import Bundle
    from predseg.forecast.dataset import Source
    from predseg.store import Store

RUNS = 12
"""The newest matured runs that are looked at."""


@dataclass(frozen=True)
class Drift:
    """How one champion fares.

    Attributes:
        model: Its name in the project.
        version: The champion.
        as_of: The moment that was asked about (microseconds).
        customers: Eligible at that moment.
        moves: The score, then the features, farthest from training first; empty for a bundle without a reference.
        runs: Matured runs of scores, oldest first.
        advice: What to do, and why.
    """

    model: str
    version: int
    as_of: int
    customers: int
    moves: tuple[Move, ...]
    runs: tuple[Matured, ...]
    advice: Advice


def watch(source: Source, store: Store, model: Model, bundle: Bundle, as_of: int) -> Drift:
    """Compare one champion with the present; nothing later than ``as_of`` is used."""
    remembered = bundle.facts.get("reference")
    runs = tuple(_matured_runs(source, store, model, as_of))
    if remembered is None:
        advice = Advice("retrain", "it was trained by an earlier predseg, which kept no reference to compare with")
        return Drift(model.name, bundle.version, as_of, 0, (), runs, advice)
    rows, moves = compare(bundle.forecaster, remembered, (source.frame(block, [as_of], model) for block in source.blocks(model)))
    return Drift(model.name, bundle.version, as_of, rows, tuple(moves), runs, recommend(moves, runs, bundle.version, remembered["auc"]))


def _matured_runs(source: Source, store: Store, model: Model, as_of: int) -> Iterator[Matured]:
    ends = as_of - model.predict.horizon
    published = [moment for moment in (store.partitions(SCORES) if store.exists(SCORES) else []) if moment <= ends]
    scored: dict[int, pd.DataFrame] = {}
    for moment in reversed(published):
        rows = store.read(SCORES, moment).to_pandas()
        rows = rows[rows["model"] == model.name]
        if len(rows) and len(scored) < RUNS:
            scored[moment] = rows.set_index("customer_id")[["model_version", "probability", "percentile"]]
    moments = sorted(scored)
    if not moments:
        return
    came = _labels(source, model, moments, as_of)
    for moment in moments:
        rows = scored[moment].join(came[moment].rename("y"), how="inner")
        if len(rows):
            y, p, rank = (rows[name].to_numpy() for name in ("y", "probability", "percentile"))
            version = int(rows["model_version"].iloc[0])
            yield matured_value(moment, version, np.maximum(y, 0.0), p, rank) if model.value else matured(moment, version, y, p, rank)


def _labels(source: Source, model: Model, moments: list[int], as_of: int) -> pd.DataFrame:
    """Return what came true of everyone, a column per moment."""
    import pandas as pd

    parts = [pd.DataFrame(block_labels(block, moments, model.predict, as_of), block.customers, moments) for block in source.blocks(model)]
    return pd.concat(parts)
