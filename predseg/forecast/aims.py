"""What the trees and the linear member are fitted to: the logit of a probability, or the logarithm of an expected value.

An expected value is learned as one Tweedie law (a mass at zero and a heavy tail in one likelihood, so that who buys and for
how much are one question). Losses are taken after the common shift that makes the means equal: the level of the next months is
not what an older cutoff can teach, and a number of trees chosen by it is a bet on the season.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from predseg.forecast.forecaster import Array, sigmoid

POWER = 1.5
"""Of the Tweedie law: the variance of a customer's spend grows with this power of its mean."""


@dataclass(frozen=True)
class Aim:
    """A likelihood and its link.

    Attributes:
        name: ``probability`` or ``value``.
        objective: For LightGBM.
        link: From LightGBM's own prediction to the raw output.
        loss: Mean loss of raw outputs.
        shift: What must be added to raw outputs so that their mean is that of the labels.
    """

    name: str
    objective: dict[str, Any]
    link: Callable[[Array], Array]
    loss: Callable[[Array, Array], float]
    shift: Callable[[Array, Array], float]

    def shifted_loss(self, y: Array, raw: Array) -> float:
        """Return the mean loss after the common shift that makes the means equal."""
        return self.loss(y, raw + self.shift(y, raw))


def log_loss(y: Array, raw: Array) -> float:
    """Return the mean log loss of logits, exact where a probability would round to 0 or 1.

    >>> round(log_loss(np.array([1, 0]), np.array([0.0, -1000.0])), 6)
    0.346574
    """
    return float(np.mean(np.logaddexp(0.0, np.where(y == 1, -raw, raw))))


def tweedie_loss(y: Array, raw: Array) -> float:
    """Return the mean Tweedie loss of logarithms of expected values (half the deviance, up to what does not depend on them).

    >>> float(np.argmin([tweedie_loss(np.array([0.0, 8.0]), np.full(2, np.log(m))) for m in (2.0, 4.0, 6.0)]))
    1.0
    """
    return float(np.mean(np.exp((2 - POWER) * raw) / (2 - POWER) - y * np.exp((1 - POWER) * raw) / (1 - POWER)))


def logit_shift(y: Array, raw: Array) -> float:
    """Return what must be added to the logits so that the mean probability is the rate (Newton's method)."""
    shift = 0.0
    for _ in range(50):
        p = sigmoid(raw + shift)
        step = float(np.mean(p - y) / max(float(np.mean(p * (1 - p))), 1e-12))
        shift -= max(-2.0, min(2.0, step))
        if abs(step) < 1e-9:
            break
    return shift


def log_shift(y: Array, raw: Array) -> float:
    """Return what must be added to the logarithms so that the mean expected value is the mean."""
    return float(np.log(max(float(np.mean(y)), 1e-9)) - np.log(max(float(np.mean(np.exp(raw))), 1e-9)))


def _logit(p: Array) -> Array:
    p = np.clip(p, 1e-12, 1 - 1e-12)
    return np.asarray(np.log(p) - np.log1p(-p))


PROBABILITY = Aim("probability", {"objective": "binary"}, _logit, log_loss, logit_shift)
VALUE = Aim("value", {"objective": "tweedie", "tweedie_variance_power": POWER}, lambda v: np.log(np.maximum(v, 1e-12)), tweedie_loss, log_shift)
