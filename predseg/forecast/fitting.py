"""Small fits beside the trees: the linear member, and calibrations that must prove themselves forward in time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from predseg.forecast.aims import POWER, PROBABILITY, Aim, log_shift, logit_shift
from predseg.forecast.forecaster import Array, Calibration, Linear, sigmoid, signed_log
from predseg.forecast.sampling import Sample, weights

LINEAR_C, LINEAR_ROWS, ISOTONIC_ROWS = 0.01, 60_000, 5_000
"""Inverse strength of L2 and most rows of the linear member; fewest rows that an isotonic calibration is tried on."""

LEVEL = 10.0
"""The unit in which the levels of cutoffs are fitted: so large that L2 leaves them alone."""

CAUTION = 5
"""k cutoffs move a calibration by the share k / (k + 5) of what they say."""


def choose_calibration(parts: Sequence[tuple[Array, Array]]) -> Calibration:
    """Return the calibration that carries forward what older cutoffs taught, with caution.

    What moves most from cutoff to cutoff is the overall rate, and yesterday's error of it is often not tomorrow's: on
    the data sets tried, full corrections made the next cutoff worse, none was good, a share of k / (k + 5) of the mean
    correction of k cutoffs was best. So a slope and an intercept move by that share only. An isotonic curve replaces
    them where there are many rows and it made each newer cutoff better beyond chance.

    Args:
        parts: Logits and labels of foretold cutoffs whose horizons do not overlap, newest first; with fewer than two
            nothing is changed.
    """
    if len(parts) < 2:
        return Calibration()
    cautious = _cautious(parts)
    steps = [(parts[i], parts[i + 1 :]) for i in range(len(parts) - 1)]
    if len(steps) < 2 or len(parts[-1][1]) < ISOTONIC_ROWS:
        return cautious
    gains = [_loss(y, _cautious(older).apply(raw)) - _loss(y, fit_isotonic(*_joined(older)).apply(raw)) for (raw, y), older in steps]
    if all(gain.mean() > 2 * gain.std() / np.sqrt(len(gain)) for gain in gains):
        return fit_isotonic(*_joined(parts))
    return cautious


def value_calibration(parts: Sequence[tuple[Array, Array]]) -> Calibration:
    """Return the calibration of expected values: the level moves by the share k / (k + 5) of what k cutoffs say."""
    share = len(parts) / (len(parts) + CAUTION)
    return Calibration("value", intercept=share * float(np.mean([log_shift(y, raw) for raw, y in parts])) if parts else 0.0)


def _cautious(parts: Sequence[tuple[Array, Array]]) -> Calibration:
    share = len(parts) / (len(parts) + CAUTION)
    slope = 1 + share * float(np.mean([fit_sigmoid(raw, y).slope - 1 for raw, y in parts]))
    return Calibration("sigmoid", slope, share * float(np.mean([logit_shift(y, slope * raw) for raw, y in parts])))


def _joined(parts: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    return np.concatenate([raw for raw, _ in parts]), np.concatenate([y for _, y in parts])


def _loss(y: Array, p: Array) -> Array:
    p = np.clip(p, 1e-9, 1 - 1e-9)
    return np.asarray(-np.where(y == 1, np.log(p), np.log1p(-p)))


def fit_sigmoid(raw: Array, y: Array) -> Calibration:
    """Return sigmoid(slope · raw + intercept) of least log loss, with a slope that is never negative (Newton's method)."""
    slope, intercept = 1.0, 0.0
    for _ in range(50):
        p = sigmoid(slope * raw + intercept)
        w, miss = p * (1 - p), p - y
        gradient = np.array([np.sum(miss * raw), np.sum(miss)]) + 1e-6 * np.array([slope - 1, intercept])
        hessian = np.array([[np.sum(w * raw * raw), np.sum(w * raw)], [np.sum(w * raw), np.sum(w)]]) + 1e-6 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        step *= min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
        slope, intercept = slope - float(step[0]), intercept - float(step[1])
        if np.abs(step).max() < 1e-10:
            break
    return Calibration("sigmoid", max(slope, 1e-3), intercept)


def fit_isotonic(raw: Array, y: Array) -> Calibration:
    """Return the non-decreasing line of least squared error, kept away from 0 and 1 by what the sample can show."""
    from sklearn.isotonic import IsotonicRegression

    least = 1.0 / (len(y) + 2)
    fitted = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip").fit(raw, y)
    return Calibration("isotonic", x=tuple(map(float, fitted.X_thresholds_)), y=tuple(map(float, fitted.y_thresholds_)))


def fit_linear(
    known: Sample,
    matrix: Array,
    features: Sequence[str],
    categories: dict[str, tuple[str, ...]],
    aim: Aim = PROBABILITY,
    only: Sequence[str] | None = None,
) -> tuple[Linear, Array]:
    """Return a regression with L2 (logistic, or Tweedie with a log link) on the logs of all features that vary and are no traits, and the level of each row's cutoff.

    ``only`` names the features that it may use.

    Every cutoff has a level of its own, which L2 leaves alone, so that what customers have in common at a time of the year or of the shop is not
    mistaken for what tells them apart. The intercept is the level of the newest cutoff; the second answer is that of each row (raw, float64).
    """
    rows = pd.util.hash_array(np.asarray(known.customer).astype(object)) < np.uint64(min(1.0, LINEAR_ROWS / len(known)) * (2.0**64 - 2048))
    z = signed_log(matrix[rows])
    absent = np.isnan(z)
    allowed = set(features if only is None else only) - set(categories)
    used = [i for i, name in enumerate(features) if name in allowed and not absent[:, i].all() and np.nanstd(z[:, i]) > 1e-9]
    z, absent = z[:, used], absent[:, used]
    means, scales = np.nanmean(z, axis=0), np.nanstd(z, axis=0)
    told = np.flatnonzero(absent.mean(axis=0) > 0.001)
    cutoffs, cutoff = np.unique(known.cutoff, return_inverse=True)
    older = LEVEL * (cutoff[rows, None] == np.arange(len(cutoffs) - 1))
    design = np.hstack([np.where(absent, 0.0, (z - means) / scales), absent[:, told], older])
    coefs, intercept = _regress(design, known.y[rows], weights(known.cutoff)[rows], aim)
    missing = np.zeros(len(used))
    missing[told] = coefs[len(used) : len(used) + len(told)]
    levels = intercept + LEVEL * np.append(coefs[len(used) + len(told) :], 0.0)
    member = Linear(tuple(features[i] for i in used), _floats(means), _floats(scales), _floats(coefs[: len(used)]), _floats(missing), intercept)
    return member, levels[cutoff]


def _regress(design: Array, y: Array, weight: Array, aim: Aim) -> tuple[Array, float]:
    """Return coefficients and intercept; labels of values are fitted in units of their mean, so that L2 means the same whatever the currency."""
    from sklearn.linear_model import LogisticRegression, TweedieRegressor
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(limits=1):
        if aim is PROBABILITY:
            fitted = LogisticRegression(C=LINEAR_C, solver="newton-cholesky").fit(design, y, sample_weight=weight)
            return fitted.coef_[0], float(fitted.intercept_[0])
        unit = max(float(np.mean(y)), 1e-9)
        strength = 1 / (LINEAR_C * len(y))
        tweedie = TweedieRegressor(power=POWER, alpha=strength, link="log", solver="newton-cholesky", max_iter=200)
        tweedie.fit(design, y / unit, sample_weight=weight)
    return tweedie.coef_, float(tweedie.intercept_) + float(np.log(unit))


def _floats(values: Array) -> tuple[float, ...]:
    return tuple(map(float, values))
