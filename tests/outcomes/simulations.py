"""Simulated experiments with known effects: customers who come one after the other, do it or not, and spend."""

from __future__ import annotations

import os
from decimal import Decimal

import numpy as np

from predseg.language.assignment import Experiment
from predseg.language.measures import SCALE
from predseg.language.time import DAY
from predseg.outcomes.experiments import Units
from predseg.outcomes.log import Log
from predseg.outcomes.sequential import half_width

LONG = bool(os.environ.get("PREDSEG_LONG"))
"""Simulate 2,000 times and more: PREDSEG_LONG=1 pytest tests/outcomes."""
WITHIN, START = 30 * DAY, 1_000 * DAY


def design(number: int, holdout: str = "0", **split: str) -> Experiment:
    return Experiment(f"trial{number}", Decimal(holdout), tuple((name, Decimal(share)) for name, share in split.items()))


def simulate(experiment: Experiment, customers: int, rate: float, effects: dict[str, float], seed: int) -> tuple[Units, Log]:
    """A hundred customers come a day; who is in a group with an effect does it so many times more often.

    Half of what a customer spends is its own, and was seen before.
    """
    r = np.random.default_rng(seed)
    ids = np.array([f"s{seed}c{number}" for number in range(customers)], object)
    groups = experiment.groups(ids)
    since = START + (np.arange(customers) * DAY // 100)
    chance = rate * np.array([1 + effects.get(group, 0.0) for group in groups])
    did, own = r.random(customers) < chance, r.gamma(2, 20, customers)
    after = np.flatnonzero(did)
    who = np.concatenate([np.arange(customers), after])
    time = np.concatenate([since - 10 * DAY, since[after] + 1 + (r.random(len(after)) * (WITHIN - 1)).astype(np.int64)])
    value = np.concatenate([own, 0.5 * own[after] + r.gamma(2, 10, len(after))])
    order = np.lexsort((time, who))
    log = Log(ids, who[order], time[order], np.zeros(len(order), np.int64), ("Order",), np.rint(value[order] * SCALE).astype(np.int64))
    return Units(ids, since), log


def peeking(times: int) -> tuple[int, int]:
    """How often, of experiments without an effect, the interval for repeated looks and the usual one left 0 out at one of 195 looks."""
    wrong, usual = 0, 0
    for number in range(times):
        r = np.random.default_rng(number)
        did, new = r.random(4_000) < 0.1, r.random(4_000) < 0.5
        looks = np.arange(100, 4_000, 20)
        n, n0, x, x0 = (np.cumsum(column)[looks - 1] for column in (new, ~new, did & new, did & ~new))
        p, p0 = (x + 0.5) / (n + 1), (x0 + 0.5) / (n0 + 1)
        distance, variance = np.abs(x / n - x0 / n0), p * (1 - p) / n + p0 * (1 - p0) / n0
        wrong += any(d > half_width(float(v), 0.1 * float(base)) for d, v, base in zip(distance, variance, p0, strict=True))
        usual += bool(np.any(distance > 1.96 * np.sqrt(variance)))
    return wrong, usual
