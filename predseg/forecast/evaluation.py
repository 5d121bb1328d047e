"""How good a forecast is: measures with intervals, beside the baselines that it must beat, in numbers and a word.

The word is about ranking, by the AUC of the forward test:

| quality | AUC | of two customers, one who will and one who will not, it names the right one |
|---|---|---|
| poor | under 0.60 | hardly more often than a coin |
| fair | 0.60 to 0.70 | two times of three |
| good | 0.70 to 0.80 | three times of four |
| excellent | 0.80 and more | four times of five or more |

It is poor whatever its AUC when its Brier skill is not above 0 (the base rate alone would give better probabilities), or
when a baseline ranks better beyond chance (the whole paired interval of the difference in AUC is below 0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from predseg.forecast.forecaster import Array, Forecaster, encode, sigmoid

QUALITY = ((0.80, "excellent"), (0.70, "good"), (0.60, "fair"))
"""The lowest AUC of each word; below all of them it is poor."""
BINS = 10
"""Equal-count bins of the calibration error and of the lift."""


@dataclass(frozen=True, eq=False)
class Forecast:
    """What is evaluated: a rank for every row (higher is more likely, any scale) and a probability, if it gives one."""

    rank: Array
    probability: Array | None = None


# --- measures ------------------------------------------------------------------------------------------------------


def auc(y: Array, rank: Array, weight: Array | None = None) -> float:
    """Return the chance that a row that came true ranks above one that did not; equal ranks count half.

    Args:
        y: 0 or 1.
        rank: Any numbers.
        weight: How often each row counts; once by default.

    NaN when only one answer occurs.

    >>> auc(np.array([0, 1, 1, 0]), np.array([1.0, 2.0, 2.0, 2.0]))
    0.75
    """
    return float(areas(y, rank, np.ones((1, len(y))) if weight is None else weight[None, :])[0][0])


def average_precision(y: Array, rank: Array) -> float:
    """Return the mean over the hits of the precision down to their rank; equal ranks are one step, as in scikit-learn.

    >>> average_precision(np.array([1, 0, 1]), np.array([3.0, 2.0, 1.0])).__round__(4)
    0.8333
    """
    return float(areas(y, rank, np.ones((1, len(y))))[1][0])


def areas(y: Array, rank: Array, weights: Array) -> tuple[Array, Array]:
    """AUC and average precision of (samples, rows) weights at once: hits and misses of each distinct rank, highest first."""
    order = np.argsort(-rank, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(rank[order]) != 0, True))
    ordered = weights[:, order]
    hits = np.cumsum(ordered * (y[order] == 1), axis=1)[:, ends]
    rows = np.cumsum(ordered, axis=1)[:, ends]
    misses = rows - hits
    with np.errstate(invalid="ignore", divide="ignore"):
        more_hits, more_misses = np.diff(hits, axis=1, prepend=0.0), np.diff(misses, axis=1, prepend=0.0)
        above = hits - more_hits / 2
        area = (more_misses * above).sum(axis=1) / (hits[:, -1] * misses[:, -1])
        precision = np.where(rows > 0, hits / np.where(rows > 0, rows, 1.0), 0.0)
        average = (more_hits * precision).sum(axis=1) / hits[:, -1]
    return area, average


def calibration_error(y: Array, probability: Array, bins: int = BINS) -> float:
    """Return the mean distance of probability and frequency over bins of equal count (ECE).

    Bins are cut by position in the order of the probabilities; equal probabilities share their frequency, so that
    the order of the rows never matters.

    >>> round(calibration_error(np.array([0, 1]), np.array([0.5, 0.5])), 6)
    0.0
    """
    return float(sum(n * abs(p - f) for n, p, f in reliability(y, probability, bins)) / len(y))


def reliability(y: Array, probability: Array, bins: int = BINS) -> list[tuple[int, float, float]]:
    """Return count, mean probability and frequency of each bin of equal count, lowest first."""
    order = np.argsort(probability, kind="stable")
    p, truth = probability[order], _shared(probability[order], y[order].astype(np.float64))
    return [(len(rows), float(p[rows].mean()), float(truth[rows].mean())) for rows in np.array_split(np.arange(len(p)), bins) if len(rows)]


def _shared(ordered: Array, values: Array) -> Array:
    """Give equal elements of an ordered array the mean of their values."""
    group = np.cumsum(np.append(False, np.diff(ordered) != 0))
    return np.asarray((np.bincount(group, values) / np.bincount(group))[group])


def lift_by_decile(y: Array, rank: Array, bins: int = BINS) -> list[float]:
    """Return the rate of each tenth over the overall rate, highest tenth first; equal ranks share their hits. NaN of no hits at all.

    >>> lift_by_decile(np.array([1, 0, 0, 0]), np.array([4.0, 3.0, 2.0, 1.0]), bins=2)
    [2.0, 0.0]
    """
    order = np.argsort(-rank, kind="stable")
    truth = _shared(-rank[order], y[order].astype(np.float64))
    rate = float(y.mean())
    return [float(truth[rows].mean()) / rate if len(rows) and rate else float("nan") for rows in np.array_split(np.arange(len(y)), bins)]


def measures(y: Array, forecast: Forecast) -> dict[str, Any]:
    """Return every measure of one forecast; those of probabilities only when it gives some."""
    found: dict[str, Any] = {"auc": auc(y, forecast.rank), "average_precision": average_precision(y, forecast.rank)}
    deciles = lift_by_decile(y, forecast.rank)
    found |= {"lift_top_decile": deciles[0], "lift_by_decile": deciles}
    if forecast.probability is not None:
        p = forecast.probability
        brier, base = float(np.mean((p - y) ** 2)), float(y.mean() * (1 - y.mean()))
        clipped = np.clip(p, 1e-15, 1 - 1e-15)
        loss = float(-np.mean(np.where(y == 1, np.log(clipped), np.log1p(-clipped))))
        found |= {"brier": brier, "brier_skill": 1 - brier / base if base else float("nan"), "log_loss": loss}
        found |= {"calibration_error": calibration_error(y, p), "mean_probability": float(p.mean())}
    return found


def bootstrap(y: Array, forecasts: Mapping[str, Forecast], seed: int = 0, resamples: int | None = None) -> dict[str, dict[str, Array]]:
    """Return the measures of every forecast on the same draws of rows (here customers) with replacement, one number per draw.

    Ranks are ordered once; a draw only changes how often each row counts. By default 500 draws, fewer (at least 200)
    for more than 20,000 rows. A draw in which only one answer occurs gives NaN.
    """
    rng = np.random.default_rng(seed)
    samples = resamples or int(np.clip(10_000_000 // max(len(y), 1), 200, 500))
    step = max(1, 4_000_000 // max(len(y), 1))
    drawn: list[dict[str, dict[str, Array]]] = []
    for start in range(0, samples, step):
        counts = _counts(rng, len(y), min(step, samples - start))
        drawn.append({name: _draws(y, forecast, counts) for name, forecast in forecasts.items()})
    return {name: {m: np.concatenate([d[name][m] for d in drawn]) for m in drawn[0][name]} for name in forecasts}


def interval(values: Array) -> tuple[float, float]:
    """Return the 2.5 % and 97.5 % quantiles of the finite values, NaN twice when there are none."""
    finite = values[np.isfinite(values)]
    return (float(np.quantile(finite, 0.025)), float(np.quantile(finite, 0.975))) if len(finite) else (float("nan"), float("nan"))


def _counts(rng: np.random.Generator, rows: int, samples: int) -> Array:
    picked = rng.integers(0, rows, size=(samples, rows)) + np.arange(samples)[:, None] * rows
    return np.bincount(picked.ravel(), minlength=samples * rows).reshape(samples, rows).astype(np.float64)


def _draws(y: Array, forecast: Forecast, counts: Array) -> dict[str, Array]:
    area, average = areas(y, forecast.rank, counts)
    found = {"auc": area, "average_precision": average}
    if forecast.probability is not None:
        p = forecast.probability
        clipped = np.clip(p, 1e-15, 1 - 1e-15)
        rate = counts @ y / len(y)
        brier = counts @ ((p - y) ** 2) / len(y)
        with np.errstate(invalid="ignore", divide="ignore"):
            found |= {"brier": brier, "brier_skill": 1 - brier / (rate * (1 - rate))}
        found["log_loss"] = counts @ -np.where(y == 1, np.log(clipped), np.log1p(-clipped)) / len(y)
    return found


# --- baselines -----------------------------------------------------------------------------------------------------


def baselines(learned: pd.DataFrame, y: Array, test: pd.DataFrame, rfm: Sequence[str]) -> dict[str, Forecast]:
    """Return what the model must beat, learned from the same rows.

    ``base rate`` gives everyone the share of the training labels; ``recency`` ranks by the first column of ``rfm``
    (fewer days since is more likely, more when the label is an absence), with a logistic curve on it for
    probabilities; ``logistic RFM`` is a logistic regression on the logs of all of them.

    Args:
        learned: Features of the training rows.
        y: Their labels.
        test: Features of the test rows.
        rfm: Recency, then frequency, value and the like, see `rfm_columns`.
    """
    rate = float(np.mean(y))
    found = {"base rate": Forecast(np.zeros(len(test)), np.full(len(test), rate))}
    if rfm:
        found["recency"] = _logistic(learned, y, test, rfm[:1])
    if len(rfm) > 1:
        found["logistic RFM"] = _logistic(learned, y, test, rfm)
    return found


def _logistic(learned: pd.DataFrame, y: Array, test: pd.DataFrame, columns: Sequence[str]) -> Forecast:
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    past, now = (np.log1p(np.maximum(np.nan_to_num(encode(frame, columns, {})), 0.0)) for frame in (learned, test))
    means, scales = past.mean(axis=0), np.maximum(past.std(axis=0), 1e-9)
    with threadpool_limits(limits=1):
        fitted = LogisticRegression(max_iter=1000).fit((past - means) / scales, y)
    raw = (((now - means) / scales) * fitted.coef_[0]).sum(axis=1) + float(fitted.intercept_[0])
    return Forecast(raw, sigmoid(raw))


def rfm_columns(names: Sequence[str], event: str = "") -> list[str]:
    """Return recency, frequency, value and age among the features, by their names; of ``event`` (as in names) when given.

    >>> rfm_columns(["tenure", "days_since_order", "days_since_first_order", "count_order", "count_order_30d", "sum_value_order"])
    ['days_since_order', 'count_order', 'sum_value_order', 'days_since_first_order']
    """
    firsts = [n for n in names if n.startswith("days_since_") and not n.startswith("days_since_first_")]
    recency = f"days_since_{event}" if f"days_since_{event}" in firsts else (firsts[0] if firsts else "")
    if not recency:
        return []
    said = recency.removeprefix("days_since_")
    sums = [n for n in names if n.startswith("sum_") and n.endswith(f"_{said}")]
    wanted = [recency, f"count_{said}", *sums[:1], f"days_since_first_{said}"]
    return [n for n in wanted if n in set(names)]


# --- verdict -------------------------------------------------------------------------------------------------------


def quality(area: float, brier_skill: float, beaten: bool = False) -> str:
    """Return the word of the table above.

    >>> quality(0.73, 0.1), quality(0.73, -0.1), quality(0.55, 0.1), quality(0.82, 0.2, beaten=True)
    ('good', 'poor', 'poor', 'poor')
    """
    if beaten or not brier_skill > 0:
        return "poor"
    return next((word for least, word in QUALITY if area >= least), "poor")


def evaluate(y: Array, forecast: Forecast, others: Mapping[str, Forecast], *, seed: int = 0, resamples: int | None = None) -> dict[str, Any]:
    """Return everything that is said of a forward test, as plain numbers.

    Keys: ``rows``, ``positives``, ``rate``; ``model`` with the measures, and ``intervals`` of them (low, high);
    ``baselines`` by name with the same measures; ``better`` (per baseline, the intervals of how much AUC the model has
    above it and how much Brier score below it, on the same draws); ``quality``; ``reliability`` (count, mean
    probability, frequency per bin).
    """
    draws = bootstrap(y, {"": forecast, **others}, seed, resamples)
    model, better = measures(y, forecast), {name: _better(draws[""], draws[name]) for name in others}
    return {
        "rows": len(y),
        "positives": int(y.sum()),
        "rate": float(y.mean()),
        "quality": quality(model["auc"], model.get("brier_skill", 1.0), any(b["auc"][1] < 0 for b in better.values())),
        "model": model,
        "intervals": {name: interval(values) for name, values in draws[""].items()},
        "baselines": {name: measures(y, other) for name, other in others.items()},
        "better": better,
        "reliability": [list(part) for part in reliability(y, _probability(forecast))],
    }


def _better(mine: Mapping[str, Array], other: Mapping[str, Array]) -> dict[str, tuple[float, float]]:
    found = {"auc": interval(mine["auc"] - other["auc"])}
    return found | ({"brier": interval(other["brier"] - mine["brier"])} if "brier" in mine and "brier" in other else {})


def _probability(forecast: Forecast) -> Array:
    return sigmoid(forecast.rank) if forecast.probability is None else forecast.probability


def importance(forecaster: Forecaster, frame: pd.DataFrame, rows: int = 2_000) -> dict[str, float]:
    """Return how far each feature moves the logit on average (mean absolute contribution over the first rows), largest first."""
    strength = np.abs(forecaster.contributions(frame.iloc[:rows])).mean(axis=0)
    order = np.argsort(-strength, kind="stable")
    return {forecaster.features[i]: float(strength[i]) for i in order}
