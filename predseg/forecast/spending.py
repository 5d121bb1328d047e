"""The classical forecast of spend, a baseline for value models: how often a customer comes again times what an order brings.

How often is the BG/NBD law of `predseg.forecast.rhythm`; what an order brings is the Gamma-Gamma law (Fader, Hardie and Lee,
"RFM and CLV: Using iso-value curves for customer base analysis", Journal of Marketing Research 42, 2005): each customer spends about
its own mean, the means are spread over the population, and few orders say little about a mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from predseg.forecast.forecaster import Array
from predseg.forecast.rhythm import Rhythm, alive, fit_rhythm, statistics

if TYPE_CHECKING:
    import pandas as pd

FEWEST = 100
"""The fewest customers with an order over 0 that it is fitted for."""


def classical(known: pd.DataFrame, y: Array, test: pd.DataFrame, spent: str, event: str, horizon: int) -> Array | None:
    """Return the expected spend of the test's rows; None where columns or customers are missing.

    Args:
        known: Features of training customers, each once.
        y: What they spent in their horizon: its mean is expected of who has not ordered yet.
        test: Features of the rows to foretell.
        spent: The column of what a customer has spent on the event so far.
        event: As it stands in column names.
        horizon: Microseconds.
    """
    law = fit_rhythm(known, event, horizon)
    if law is None or not {spent, *law.sources} <= set(known.columns) & set(test.columns):
        return None
    counts, totals = (known[name].to_numpy(np.float64) for name in (law.sources[2], spent))
    some = (counts > 0) & (totals > 0)
    if some.sum() < FEWEST:
        return None
    order = fit_order(counts[some], totals[some] / counts[some])
    counts, totals = (np.nan_to_num(test[name].to_numpy(np.float64)) for name in (law.sources[2], spent))
    found = expected_orders(law, test) * expected_value(order, counts, np.maximum(totals, 0.0) / np.maximum(counts, 1))
    new = ~(known[law.sources[2]].to_numpy(np.float64) > 0)
    return np.where(counts > 0, found, float(y[new].mean()) if new.any() else float(np.mean(y)))


def expected_orders(law: Rhythm, frame: pd.DataFrame) -> Array:
    """Return how many orders each row's customer makes in the horizon of the law; NaN without an order so far."""
    from scipy.special import hyp2f1

    repeats, last, age = statistics(*(frame[name].to_numpy(np.float64) for name in law.sources))
    r, alpha, a, b, t = law.r, law.alpha, law.a if abs(law.a - 1) > 1e-6 else 1 + 1e-6, law.b, law.days
    shrunk = ((alpha + age) / (alpha + age + t)) ** (r + repeats) * hyp2f1(r + repeats, b + repeats, a + b + repeats - 1, t / (alpha + age + t))
    return np.maximum((a + b + repeats - 1) / (a - 1) * (1 - shrunk), 0.0) * alive(repeats, last, age, r, alpha, a, b)


def expected_value(law: Sequence[float], counts: Array, means: Array) -> Array:
    """Return what one order of a customer brings, from how many there were and their mean: between that mean and the population's.

    >>> expected_value((6.0, 4.0, 15.0), np.array([0, 1, 100]), np.array([0.0, 90.0, 90.0])).round(1).tolist()
    [30.0, 70.0, 89.7]
    """
    p, q, gamma = law
    return np.asarray(p * (gamma + counts * means) / (p * counts + q - 1))


def fit_order(counts: Array, means: Array) -> tuple[float, float, float]:
    """Return p, q and gamma of the Gamma-Gamma law of greatest likelihood; a mean over 1 orders of the population exists (q > 1)."""
    from scipy.optimize import minimize
    from scipy.special import gammaln

    unit = float(np.mean(means))
    z = means / unit

    def loss(logs: Array) -> float:
        p, q, gamma = np.exp(logs[0]), 1 + np.exp(logs[1]), np.exp(logs[2])
        x = p * counts
        said = gammaln(x + q) - gammaln(x) - gammaln(q) + q * np.log(gamma) + (x - 1) * np.log(z) + x * np.log(counts)
        return float(0.001 * np.sum(logs**2) - np.mean(said - (x + q) * np.log(gamma + counts * z)))

    found = np.exp(minimize(loss, np.log([2.0, 2.0, 1.0]), method="L-BFGS-B", bounds=[(-4, 6)] * 3).x)
    return float(found[0]), float(1 + found[1]), float(found[2] * unit)
