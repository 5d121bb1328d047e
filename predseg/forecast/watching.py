"""Watching the champions of a project: present features against training, matured scores against what came true."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from predseg.evaluate.block import Block
from predseg.forecast.dataset import ROWS, sampled
from predseg.forecast.drift import Advice, Matured, Move, compare, matured, matured_value, recommend
from predseg.forecast.features import block_frame
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
SAMPLE = 20_000
"""Customers whose features are compared with training: a PSI of 0.2 over ten groups is far beyond what chance does to fewer than these."""


@dataclass(frozen=True)
class Drift:
    """How one champion fares.

    Attributes:
        model: Its name in the project.
        version: The champion.
        as_of: The moment that was asked about (microseconds).
        customers: Eligible at that moment, of those who were looked at.
        share: Of all customers, who were looked at: a sample by a hash of the id where there are more than `SAMPLE`.
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
    share: float = 1.0


def watch(source: Source, store: Store, model: Model, bundle: Bundle, as_of: int, customers: int) -> Drift:
    """Compare one champion with the present; nothing later than ``as_of`` is used.

    Args:
        source: The events, features and traits.
        store: Where scores are published.
        model: Its declaration.
        bundle: The champion.
        as_of: The moment.
        customers: How many there are.
    """
    remembered = bundle.facts.get("reference")
    runs = tuple(_matured_runs(source, store, model, as_of))
    if remembered is None:
        advice = Advice("retrain", "it was trained by an earlier predseg, which kept no reference to compare with")
        return Drift(model.name, bundle.version, as_of, 0, (), runs, advice)
    share = min(1.0, SAMPLE / max(customers, 1))
    rows, moves = compare(bundle.forecaster, remembered, _present(source, model, as_of, share))
    return Drift(model.name, bundle.version, as_of, rows, tuple(moves), runs, recommend(moves, runs, bundle.version, remembered["auc"]), share)


def _present(source: Source, model: Model, as_of: int, share: float) -> Iterator[pd.DataFrame]:
    """Yield the features of who is eligible now, of a share of the customers."""
    features, traits, among = source.features, source.traits, model.among  # who is left out, and the keys that tell, stay on this machine

    def of_block(block: Block) -> pd.DataFrame:
        looked_at = block.only(sampled(block.customers, share)) if share < 1 else block
        return block_frame(looked_at, [as_of], features, among=among, traits=traits)

    yield from map(source.kept, source.over(of_block, source.files, source.properties(model), ROWS, as_of))


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

    predicted = model.predict

    def of_block(block: Block) -> pd.DataFrame:
        return pd.DataFrame(block_labels(block, moments, predicted, as_of), block.customers, moments)

    return pd.concat(source.over(of_block, source.files, predicted.measure.properties(), ROWS, moments[0]))
