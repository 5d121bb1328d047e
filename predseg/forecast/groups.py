"""Does the forecast hold for every group of customers? By tenure, by activity, and by trait, whether the model knows the trait or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

from predseg.forecast.evaluation import Forecast, auc
from predseg.forecast.forecaster import Array
from predseg.forecast.gate import CALIBRATION_LIMIT, VALUE_LIMIT
from predseg.forecast.value import gini

if TYPE_CHECKING:
    import pandas as pd

FEWEST = 100
"""A group is spoken of from so many customers on."""
LEVELS = 12
"""The largest groups of one trait that are looked at."""
UNLIKELY = 0.01
"""All groups together are called off by chance less often than this."""


@dataclass(frozen=True)
class Group:
    """One group in the forward test.

    Attributes:
        by: ``tenure``, ``activity`` or the name of a trait.
        name: Of the group, in words.
        rows: Customers.
        said: Mean probability, or expected value.
        came: Share of those for whom it came true, or mean value.
        interval: 95 % interval of ``came``.
        ranking: AUC within the group, or Gini; NaN when only one answer occurs.
        top: Share of the group that is in the best-ranked tenth of everyone.
        off: Whether ``said`` is off, both visibly and beyond chance.
    """

    by: str
    name: str
    rows: int
    said: float
    came: float
    interval: tuple[float, float]
    ranking: float
    top: float
    off: bool


def by_group(y: Array, forecast: Forecast, parts: Mapping[str, Array], value: bool = False) -> list[Group]:
    """Return every group of at least 100 customers.

    Args:
        y: Labels of the forward test.
        forecast: Of the same rows.
        parts: Per division the name of each row's group (None: in none).
        value: Whether sums are predicted.
    """
    best = np.argsort(np.argsort(-forecast.rank, kind="stable"), kind="stable") * 10 < len(y)
    chosen = [(by, name, rows) for by, names in parts.items() for name, rows in _divide(names)]
    return [_group(by, name, rows, y, forecast, best, value, len(chosen)) for by, name, rows in chosen]


def _divide(names: Array) -> Iterator[tuple[str, Array]]:
    found = [(name, np.flatnonzero(names == name)) for name in dict.fromkeys(n for n in names if n is not None)]
    large = sorted((part for part in found if len(part[1]) >= FEWEST), key=lambda part: -len(part[1]))[:LEVELS]
    yield from sorted(large, key=lambda part: str(part[0]))


def _group(by: str, name: str, rows: Array, y: Array, forecast: Forecast, best: Array, value: bool, groups: int) -> Group:
    from scipy.stats import norm

    truth, said = y[rows].astype(np.float64), np.asarray(forecast.probability)[rows]
    came, mean, n = float(truth.mean()), float(said.mean()), len(rows)
    error = float(np.std(truth - said)) / sqrt(n) if value else sqrt(max(mean * (1 - mean), 1e-9) / n)
    spread = float(truth.std()) / sqrt(n)
    visible = abs(mean - came) > (VALUE_LIMIT * came if value else CALIBRATION_LIMIT)
    chance = 2 * float(norm.sf(abs(mean - came) / max(error, 1e-12))) * groups
    interval = (came - 1.96 * spread, came + 1.96 * spread) if value else wilson(came, n)
    ranking = (gini if value else auc)(truth, forecast.rank[rows]) if 0 < (truth > 0).sum() < n else float("nan")
    return Group(by, str(name), n, mean, came, interval, ranking, float(best[rows].mean()), visible and chance < UNLIKELY)


def wilson(rate: float, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a rate among n (Wilson, JASA 22, 1927).

    >>> [round(v, 3) for v in wilson(0.0, 100)]
    [0.0, 0.037]
    """
    z = 1.96
    middle = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z * sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, min(middle - half, rate)), min(1.0, max(middle + half, rate))


def divisions(features: pd.DataFrame, rfm: Sequence[str], traits: Mapping[str, Array]) -> dict[str, Array]:
    """Return tenure, activity and traits of the rows of a feature frame, as words.

    Args:
        features: With ``tenure`` and, where it has one, the count of ``rfm``.
        rfm: Recency, frequency and the like, see `rfm_columns`.
        traits: Text or None by name.
    """
    found = {}
    if "tenure" in features:
        found["tenure"] = _cut(features["tenure"].to_numpy(), (30, 90, 180, 365), "days")
    counted = next((name for name in rfm if name.startswith("count_")), None)
    if counted:
        found["activity"] = _cut(features[counted].to_numpy(), (1, 2, 4, 8), counted.removeprefix("count_"))
    return found | {name: np.asarray(values, object) for name, values in traits.items()}


def _cut(values: Array, edges: Sequence[int], unit: str) -> Array:
    words = [
        f"under {edges[0]} {unit}",
        *(f"{a} to under {b} {unit}" for a, b in zip(edges, edges[1:], strict=False)),
        f"{edges[-1]} {unit} and more",
    ]
    found = np.array(words, object)[np.searchsorted(edges, np.nan_to_num(values), side="right")]
    found[np.isnan(values)] = None
    return found
