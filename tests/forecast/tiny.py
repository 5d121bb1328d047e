"""Small models, built by hand, for the tests of what is done with a model."""

from __future__ import annotations

from functools import cache
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd

from predseg.forecast.forecaster import Calibration, Forecaster, Linear, encode

FEATURES = (
    "days_since_order_completed",
    "count_order_completed_90d",
    "sum_value_order_completed_365d",
    "recency_over_gap_order_completed",
    "trait_country",
)
COUNTRIES = ("DE", "FR", "GB")
DECLARATIONS: dict[str, dict[str, Any]] = {
    "days_since_order_completed": {"kind": "days_since_last", "events": "Order Completed", "when": "", "of": None},
    "count_order_completed_90d": {"kind": "count", "events": "Order Completed", "when": " in the last 90 days", "of": None},
    "sum_value_order_completed_365d": {"kind": "sum", "events": "Order Completed", "when": " in the last 365 days", "of": "value"},
    "gap_mean_order_completed": {"kind": "gap_mean", "events": "Order Completed", "when": "", "of": None},
    "recency_over_gap_order_completed": {"kind": "ratio", "numerator": "days_since_order_completed", "denominator": "gap_mean_order_completed"},
    "trait_country": {"kind": "trait", "of": "country"},
}


def customers(n: int, seed: int = 0) -> pd.DataFrame:
    """A feature frame of n customers with missing values, ties and a level that training never sees."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "customer_id": [f"c{i:06d}" for i in range(n)],
            "as_of": np.int64(0),
            "days_since_order_completed": rng.exponential(60, n).round(2),
            "count_order_completed_90d": rng.poisson(2, n).astype(float),
            "sum_value_order_completed_365d": rng.gamma(1, 200, n).round(2),
            "recency_over_gap_order_completed": np.where(rng.random(n) < 0.3, np.nan, rng.exponential(1, n)),
            "trait_country": rng.choice(["DE", "FR", "GB", "XX"], n),
        }
    )
    frame.loc[rng.random(n) < 0.1, "trait_country"] = None
    return frame


@cache
def forecaster(seed: int = 0, leaves: int = 6, members: int = 2, linear: bool = True, rounds: int = 12) -> Forecaster:
    """A fitted model of the features above."""
    frame = customers(800, seed)
    categories = {"trait_country": COUNTRIES}
    matrix = encode(frame, FEATURES, categories)
    logit = 1.5 - matrix[:, 0] / 40 + 0.4 * matrix[:, 1] * (matrix[:, 2] > 150) + np.nan_to_num(matrix[:, 4])
    label = np.random.default_rng(seed + 1).random(800) < 1 / (1 + np.exp(-logit))
    boosters = tuple(_booster(matrix, label, seed + member, leaves, rounds) for member in range(members))
    numbers = Linear(FEATURES[:3], (3.0, 1.0, 5.0), (1.0, 0.5, 2.0), (-0.7, 0.3, 0.1), (0.0, 0.0, 0.0), 0.2) if linear else None
    return Forecaster(FEATURES, boosters, categories, numbers, 0.3, Calibration("isotonic", x=(-2.0, 0.0, 2.0), y=(0.05, 0.5, 0.95)))


def _booster(matrix: np.ndarray, label: np.ndarray, seed: int, leaves: int, rounds: int) -> lgb.Booster:
    params = {
        "objective": "binary",
        "num_leaves": leaves,
        "verbosity": -1,
        "seed": seed,
        "num_threads": 1,
        "feature_fraction": 0.8,
        "min_data_per_group": 10,
    }
    return lgb.train(params, lgb.Dataset(matrix, label, categorical_feature=[4]), rounds)
