"""Means of money, which few customers spend much of: comparisons of two groups, and what is known before taken out.

Welch, "The generalization of Student's problem when several different population variances are involved", Biometrika 34 (1947). CUPED: Deng,
Xu, Kohavi and Walker, "Improving the sensitivity of online controlled experiments by utilizing pre-experiment data", WSDM 2013.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from predseg.evaluate.block import Array


@dataclass(frozen=True)
class Mean:
    """The mean of n numbers, and their sample variance."""

    n: int
    mean: float
    variance: float

    @classmethod
    def of(cls, numbers: Array) -> Mean:
        """Return the mean of an array; with fewer than two numbers the variance is unknown."""
        n = len(numbers)
        return cls(n, float(np.mean(numbers)) if n else float("nan"), float(np.var(numbers, ddof=1)) if n > 1 else float("nan"))

    @property
    def error(self) -> float:
        """The variance of the mean."""
        return self.variance / self.n


@dataclass(frozen=True)
class Welch:
    """A mean minus another: interval of the difference, of the ratio when both means are positive, p-value."""

    difference: float
    interval: tuple[float, float]
    ratio: float | None
    ratio_interval: tuple[float, float] | None
    p: float


def compare(mean: Mean, base: Mean, level: float = 0.95) -> Welch | None:
    """Compare two means without assuming equal variances; None when one has fewer than two numbers, or none differ.

    The interval of the ratio is that of the difference of the logs (delta method).
    """
    from scipy.special import stdtr, stdtrit

    if min(mean.n, base.n) < 2 or mean.error + base.error <= 0:
        return None
    d, error = mean.mean - base.mean, mean.error + base.error
    freedom = error**2 / (mean.error**2 / (mean.n - 1) + base.error**2 / (base.n - 1))
    width = stdtrit(freedom, (1 + level) / 2) * np.sqrt(error)
    p = 2 * stdtr(freedom, -abs(d) / np.sqrt(error))
    if mean.mean <= 0 or base.mean <= 0:
        return Welch(d, (d - width, d + width), None, None, float(p))
    log = np.log(mean.mean / base.mean)
    away = stdtrit(freedom, (1 + level) / 2) * np.sqrt(mean.error / mean.mean**2 + base.error / base.mean**2)
    return Welch(d, (d - width, d + width), float(np.exp(log)), (float(np.exp(log - away)), float(np.exp(log + away))), float(p))


def without_before(after: Array, before: Array, group: Array) -> Array:
    """Return what came after without what came before it would have told (CUPED); the mean over everybody stays.

    Args:
        after: What is compared, float (k).
        before: The same quantity before the experiment, float (k).
        group: The group of each, int (k): the slope is that within groups, so that an effect is not taken for a slope.
    """
    centred = [np.array(column, float) for column in (after, before)]
    for number in np.unique(group):
        for column in centred:
            column[group == number] -= column[group == number].mean()
    y, x = centred
    spread = float(x @ x)
    return after - (float(x @ y) / spread if spread > 0 else 0.0) * (before - before.mean())
