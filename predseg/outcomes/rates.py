"""Rates with what is known of them: intervals, comparisons of two, how many are needed. Everything takes numbers or arrays.

Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927), for one rate. Miettinen and Nurminen,
"Comparative analysis of two rates", Statistics in Medicine 4 (1985), for the difference and the ratio of two: the test and both
intervals are one statistic, so they never contradict each other, and counts of 0 or of everybody are no special case.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Floats = Any
"""A number, or an array of them."""
_STEPS = 60
_FARTHEST = 1e9


def wilson(successes: Floats, trials: Floats, level: float = 0.95) -> tuple[Floats, Floats]:
    """Return the Wilson interval of a rate; without trials nothing is known: 0 to 1.

    >>> low, high = wilson(4, 100)
    >>> round(float(low), 3), round(float(high), 3)
    (0.016, 0.098)
    >>> [float(end) for end in wilson(0, 0)]
    [0.0, 1.0]
    """
    z, x, n = quantile(level), np.asarray(successes, float), np.asarray(trials, float)
    middle = (x + z * z / 2) / (n + z * z)
    spread = z / (n + z * z) * np.sqrt(np.maximum(x * (n - x), 0) / np.maximum(n, 1) + z * z / 4)
    low, high = np.where(x <= 0, 0.0, middle - spread), np.where(x >= n, 1.0, middle + spread)
    return np.where(n > 0, low, 0.0), np.where(n > 0, high, 1.0)


def quantile(level: float) -> float:
    """Return the z that encloses a level of the normal distribution, two-sided."""
    from scipy.special import ndtri

    return float(ndtri((1 + level) / 2))


def p_value(x: Floats, n: Floats, x0: Floats, n0: Floats) -> Floats:
    """Return the two-sided p-value of equal rates; 1 when both are 0 or 1."""
    from scipy.special import ndtr

    return 2 * ndtr(-np.abs(_difference_z(x, n, x0, n0, 0.0)))


def difference_interval(x: Floats, n: Floats, x0: Floats, n0: Floats, level: float = 0.95) -> tuple[Floats, Floats]:
    """Return the interval of x/n − x0/n0, within −1 and 1."""
    z, d = quantile(level), np.asarray(x / n - x0 / n0, float)
    low = _solve(lambda t: _difference_z(x, n, x0, n0, t) > z, np.full(d.shape, -1.0), d)
    return low, _solve(lambda t: _difference_z(x, n, x0, n0, t) >= -z, d, np.full(d.shape, 1.0))


def ratio_interval(x: Floats, n: Floats, x0: Floats, n0: Floats, level: float = 0.95) -> tuple[Floats, Floats]:
    """Return the interval of (x/n) / (x0/n0); its high end is infinite where x0 is 0."""
    z, x, x0 = quantile(level), np.asarray(x, float), np.asarray(x0, float)
    least, most = np.full(np.broadcast(x, x0).shape, -np.log(_FARTHEST)), np.full(np.broadcast(x, x0).shape, np.log(_FARTHEST))
    middle = np.log(np.maximum(x, 0.5) / n) - np.log(np.maximum(x0, 0.5) / n0)
    low = _solve(lambda t: _ratio_z(x, n, x0, n0, np.exp(t)) > z, least, middle)
    high = _solve(lambda t: _ratio_z(x, n, x0, n0, np.exp(t)) >= -z, middle, most)
    return np.where(x > 0, np.exp(low), 0.0), np.where(x0 > 0, np.exp(high), np.inf)


def _solve(below: Callable[[Floats], Floats], low: Floats, high: Floats) -> Floats:
    """Return where a condition that holds up to a point stops to hold, by halving."""
    for _ in range(_STEPS):
        middle = (low + high) / 2
        inside = below(middle)
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return (low + high) / 2


def _difference_z(x: Floats, n: Floats, x0: Floats, n0: Floats, d: Floats) -> Floats:
    """Return the score statistic of the hypothesis that the rates differ by d: falls as d rises."""
    p, p0, d = np.asarray(x / n, float), np.asarray(x0 / n0, float), np.asarray(d, float)
    theta = n0 / n
    a, b = 1 + theta, -(1 + theta + p + theta * p0 + d * (theta + 2))
    c, e = d * d + d * (2 * p + theta + 1) + p + theta * p0, -p * d * (1 + d)
    v = (b / (3 * a)) ** 3 - b * c / (6 * a * a) + e / (2 * a)
    u = np.where(v < 0, -1.0, 1.0) * np.sqrt(np.maximum((b / (3 * a)) ** 2 - c / (3 * a), 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        turn = np.where(u == 0, 0.0, np.clip(v / u**3, -1, 1))
    most = np.clip(2 * u * np.cos((np.pi + np.arccos(turn)) / 3) - b / (3 * a), np.maximum(d, 0), np.minimum(1 + d, 1))
    return _standardised(p - p0 - d, most * (1 - most) / n + (most - d) * (1 - most + d) / n0, n + n0)


def _ratio_z(x: Floats, n: Floats, x0: Floats, n0: Floats, ratio: Floats) -> Floats:
    """Return the score statistic of the hypothesis that the first rate is so many times the second."""
    a, b, c = (n + n0) * ratio, -(n * ratio + x + n0 + x0 * ratio), x + x0
    base = np.clip((-b - np.sqrt(np.maximum(b * b - 4 * a * c, 0))) / (2 * a), 0, np.minimum(1, 1 / ratio))
    first = np.minimum(base * ratio, 1)
    return _standardised(x / n - ratio * x0 / n0, first * (1 - first) / n + ratio**2 * base * (1 - base) / n0, n + n0)


def _standardised(distance: Floats, variance: Floats, total: Floats) -> Floats:
    spread = np.sqrt(np.maximum(variance, 0) * total / (total - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.abs(distance) < 1e-15, 0.0, distance / spread)


def needed(rate: float, other: float, ratio: float = 1.0, alpha: float = 0.05, power: float = 0.8) -> float:
    """Return how many customers with the first rate are needed, beside ``ratio`` times as many with the other, to see the difference.

    Fleiss, Statistical Methods for Rates and Proportions (1981), two-sided, without a correction for continuity.

    >>> round(needed(0.04, 0.044))
    39475
    """
    from scipy.special import ndtri

    mean = (rate + ratio * other) / (1 + ratio)
    null = np.sqrt(mean * (1 - mean) * (1 + 1 / ratio))
    found = ndtri(1 - alpha / 2) * null + ndtri(power) * np.sqrt(rate * (1 - rate) + other * (1 - other) / ratio)
    return float((found / (rate - other)) ** 2)


def detectable(rate: float, n0: float, n: float, alpha: float = 0.05, power: float = 0.8) -> float | None:
    """Return the smallest higher rate that n customers would show against n0 with this rate; None when no rate would be high enough."""
    high = 1 - 1e-9
    if not 0 < rate < high or min(n0, n) < 2 or needed(rate, high, n / n0, alpha, power) > n0:
        return None
    return float(_solve(lambda other: needed(rate, float(other), n / n0, alpha, power) > n0, np.float64(rate * (1 + 1e-9)), np.float64(high)))
