"""How good expected values are: do they order customers by what they will spend, and do they add up?

Gini is the share of the greatest possible concentration: 1 when customers are ordered exactly by what they spent, 0 at
random. The words of quality are those of an AUC of (1 + Gini) / 2 (see `evaluation`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from predseg.forecast.aims import POWER
from predseg.forecast.evaluation import BINS, QUALITY, Forecast, interval, lift_by_decile, reliability
from predseg.forecast.forecaster import Array
from predseg.forecast.sampling import Sample
from predseg.forecast.spending import classical
from predseg.language.time import DAY

DRAWS = 300
LEAST = 1e-4
"""A deviance needs an expected value over 0: the smallest amount of money."""


def gini(y: Array, rank: Array) -> float:
    """Return the area between the curve of spend found, best-ranked first, and the diagonal, over that of the perfect order.

    >>> gini(np.array([0.0, 1.0, 5.0]), np.array([1.0, 2.0, 3.0]))
    1.0
    """
    return float(_ginis(y, rank, np.ones((1, len(y))))[0])


def _ginis(y: Array, rank: Array, weights: Array) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        return _concentration(y, rank, weights) / _concentration(y, y, weights)


def _concentration(y: Array, rank: Array, weights: Array) -> Array:
    """Area over the diagonal for (samples, rows) weights; equal ranks are one straight piece."""
    order = np.argsort(-rank, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(rank[order]) != 0, True))
    weight = weights[:, order]
    rows, spent = (np.cumsum(part, axis=1)[:, ends] for part in (weight, weight * y[order]))
    rows, spent = rows / rows[:, -1:], spent / spent[:, -1:]
    width = np.diff(rows, axis=1, prepend=0.0)
    middle = spent - np.diff(spent, axis=1, prepend=0.0) / 2
    return np.asarray((width * middle).sum(axis=1) - 0.5)


def deviance(y: Array, said: Array) -> float:
    """Return the mean Tweedie deviance; 0 is perfect."""
    return float(np.mean(_deviances(y, said)))


def measures(y: Array, forecast: Forecast) -> dict[str, Any]:
    """Return the measures of one forecast: its ``probability`` is the expected value.

    ``off`` is the mean distance of expected and real mean over tenths of the customers, as a share of the overall mean.
    """
    said = np.asarray(forecast.probability)
    base = deviance(y, np.full(len(y), y.mean()))
    error = sum(n * abs(p - f) for n, p, f in reliability(y, said)) / len(y) / max(float(y.mean()), LEAST)
    deciles = lift_by_decile(y, forecast.rank)
    found = {"gini": gini(y, forecast.rank), "deviance": deviance(y, said), "off": float(error), "mae": float(np.mean(np.abs(y - said)))}
    found |= {"mean_value": float(said.mean()), "bias": float(said.mean() / max(float(y.mean()), LEAST) - 1)}
    return found | {"deviance_skill": 1 - found["deviance"] / base, "lift_top_decile": deciles[0], "lift_by_decile": deciles}


def bootstrap(y: Array, forecasts: Mapping[str, Forecast], seed: int = 0) -> dict[str, dict[str, Array]]:
    """Return Gini and deviance of every forecast on the same draws of customers."""
    rng = np.random.default_rng(seed)
    step = max(1, 4_000_000 // max(len(y), 1))
    found: dict[str, dict[str, list[Array]]] = {name: {"gini": [], "deviance": []} for name in forecasts}
    for start in range(0, DRAWS, step):
        size = min(step, DRAWS - start)
        counts = rng.multinomial(len(y), np.full(len(y), 1 / len(y)), size=size).astype(np.float64)
        for name, forecast in forecasts.items():
            each = _deviances(y, np.asarray(forecast.probability))
            found[name]["gini"].append(_ginis(y, forecast.rank, counts))
            found[name]["deviance"].append(counts @ each / len(y))
    return {name: {m: np.concatenate(parts) for m, parts in by.items()} for name, by in found.items()}


def _deviances(y: Array, said: Array) -> Array:
    raw = np.log(np.maximum(said, LEAST))
    best = np.where(y > 0, np.maximum(y, LEAST) ** (2 - POWER) / ((1 - POWER) * (2 - POWER)), 0.0)
    return np.asarray(2 * (best + np.exp((2 - POWER) * raw) / (2 - POWER) - y * np.exp((1 - POWER) * raw) / (1 - POWER)))


def baselines(learned: Sample, test: pd.DataFrame, rfm: Sequence[str], horizon: int, event: str = "") -> dict[str, Forecast]:
    """Return what the model must beat: everyone the mean; what each spent so far, per time known; and the classical law, see `spending`.

    Args:
        learned: The training rows.
        test: Features of the test rows.
        rfm: Recency, frequency, value and age, see `rfm_columns`.
        horizon: Microseconds; nobody is known for less.
        event: Whose value is predicted, as it stands in column names.
    """
    y = learned.y
    found = {"mean": Forecast(np.zeros(len(test)), np.full(len(test), float(np.mean(y))))}
    total, age = (next((n for n in rfm if n.startswith(start)), None) for start in ("sum_", "days_since_first_"))
    if total and age:
        days = horizon / DAY
        pace = test[total].fillna(0).to_numpy() / np.maximum(test[age].fillna(0).to_numpy(), days) * days
        found["historical mean"] = Forecast(pace, np.maximum(pace, 0.0))
        newest = learned.take(learned.cutoff == learned.cutoff.max())
        said = classical(newest.X, newest.y, test, total, event, horizon)
        if said is not None:
            found["BG/NBD with Gamma-Gamma"] = Forecast(said, said)
    return found


def evaluate(y: Array, forecast: Forecast, others: Mapping[str, Forecast], *, seed: int = 0) -> dict[str, Any]:
    """Return everything that is said of a forward test, with the keys of `predseg.forecast.evaluation.evaluate`; ``rate`` is the mean."""
    drawn = bootstrap(y, {"": forecast, **others}, seed)
    model = measures(y, forecast)
    better = {name: {m: interval(sign * (drawn[""][m] - drawn[name][m])) for m, sign in (("gini", 1), ("deviance", -1))} for name in others}
    beaten = any(b["gini"][1] < 0 for b in better.values()) or not model["deviance_skill"] > 0
    return {
        "rows": len(y),
        "positives": int((y > 0).sum()),
        "rate": float(y.mean()),
        "quality": "poor" if beaten else next((word for least, word in QUALITY if (1 + model["gini"]) / 2 >= least), "poor"),
        "model": model,
        "intervals": {name: interval(values) for name, values in drawn[""].items()},
        "baselines": {name: measures(y, other) for name, other in others.items()},
        "better": better,
        "reliability": [list(part) for part in reliability(y, np.asarray(forecast.probability), BINS)],
    }
