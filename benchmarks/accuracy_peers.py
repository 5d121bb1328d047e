"""What a user would build by hand to forecast purchases: six peers, each from a table of orders alone.

Every peer is asked: will this customer, who has ordered up to the cutoff, order in (cutoff, cutoff + horizon]? None sees
anything after the cutoff. Training labels end at the cutoff.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

WINDOWS = (7, 14, 30, 60, 90, 180, 365)
Forecasts = dict[str, np.ndarray]


def load_orders(path: Path) -> pd.DataFrame:
    """Return customer, time and value of each order, sorted; lines of one order are one, days without order ids too."""
    events = pd.read_parquet(path)
    lines = events[events["event_type"] == "purchase"]
    key = ["customer_id", "order_id" if "order_id" in lines else "event_time"]
    lines = lines.assign(value=lines["value"].astype("float64").fillna(0.0), time=lines["event_time"])
    orders = lines.groupby(key, as_index=False).agg(time=("time", "min"), value=("value", "sum"))
    return orders[["customer_id", "time", "value"]].sort_values(["customer_id", "time"], ignore_index=True)


def eligible(orders: pd.DataFrame, at: pd.Timestamp, days: int) -> pd.Series:
    """Return, per customer with an order up to the cutoff, whether another follows within the horizon."""
    known = pd.Index(orders.loc[orders["time"] <= at, "customer_id"].unique())
    ahead = orders[(orders["time"] > at) & (orders["time"] <= at + pd.Timedelta(days=days))]
    return pd.Series(known.isin(ahead["customer_id"]).astype(int), known)


def rfm(orders: pd.DataFrame, at: pd.Timestamp) -> pd.DataFrame:
    """Return recency, age, frequency, monetary value and mean order of each customer."""
    past = orders[orders["time"] <= at].groupby("customer_id")
    first, last = (at - past["time"].min()), (at - past["time"].max())
    found = pd.DataFrame({"recency": last / pd.Timedelta(days=1), "age": first / pd.Timedelta(days=1)})
    return found.assign(frequency=past.size(), monetary=past["value"].sum(), mean=past["value"].mean())


def windowed(orders: pd.DataFrame, at: pd.Timestamp) -> pd.DataFrame:
    """Return `rfm` with counts and sums over windows, and the gaps between orders."""
    found = rfm(orders, at)
    past = orders[orders["time"] <= at]
    for days in WINDOWS:
        inside = past[past["time"] > at - pd.Timedelta(days=days)].groupby("customer_id")["value"]
        found[f"count_{days}"] = inside.size().reindex(found.index).fillna(0)
        found[f"value_{days}"] = inside.sum().reindex(found.index).fillna(0)
    gaps = past.groupby("customer_id")["time"].diff() / pd.Timedelta(days=1)
    by = gaps.groupby(past["customer_id"])
    found = found.assign(gap_mean=by.mean(), gap_std=by.std(), gap_last=by.last())
    return found.assign(recency_over_gap=found["recency"] / found["gap_mean"])


def forecasts(orders: pd.DataFrame, at: pd.Timestamp, days: int) -> tuple[pd.Series, Forecasts]:
    """Return the truth and every peer's forecast, in the order of the truth's customers."""
    truth = eligible(orders, at, days)
    before = at - pd.Timedelta(days=days)
    learned, known = rfm(orders, before), eligible(orders, before, days)
    learned, test = learned.loc[known.index], rfm(orders, at).loc[truth.index]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        many = _cutoffs(orders, at, days)
        now = windowed(orders, at).loc[truth.index]
        found = {
            "recency": -test["recency"].to_numpy(),
            "logistic RFM": _logistic(learned, known, test),
            "BG/NBD": _bg_nbd(test, days),
            "LightGBM, RFM": _default_trees(learned, known, test),
            "LightGBM, windows": _many_cutoffs(*many, now),
            "FLAML, windows": _automl(*many, now),
        }
    return truth, {name: values for name, values in found.items() if values is not None}


def _logistic(learned: pd.DataFrame, y: pd.Series, test: pd.DataFrame) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def logs(frame: pd.DataFrame) -> pd.DataFrame:
        return np.log1p(frame[["recency", "frequency", "monetary", "age"]].clip(lower=0))

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000)).fit(logs(learned), y).predict_proba(logs(test))[:, 1]


def _bg_nbd(test: pd.DataFrame, days: int) -> np.ndarray | None:
    """The buy-till-you-die model, with its expected number of orders read as a Poisson mean; None where it is not installed."""
    try:
        from lifetimes import BetaGeoFitter
        from lifetimes.utils import ConvergenceError
    except ImportError:
        return None
    repeats, last, age = test["frequency"] - 1, test["age"] - test["recency"], test["age"]
    try:
        model = BetaGeoFitter(penalizer_coef=0.001).fit(repeats, last, age)
    except ConvergenceError:  # which says to do so
        model = BetaGeoFitter(penalizer_coef=0.01).fit(repeats, last, age)
    expected: Any = model.conditional_expected_number_of_purchases_up_to_time(days, repeats, last, age)
    return 1 - np.exp(-np.nan_to_num(np.asarray(expected, np.float64)))


def _default_trees(learned: pd.DataFrame, y: pd.Series, test: pd.DataFrame) -> np.ndarray:
    from lightgbm import LGBMClassifier

    return LGBMClassifier(n_jobs=1, verbose=-1).fit(learned, y).predict_proba(test)[:, 1]


def _cutoffs(orders: pd.DataFrame, at: pd.Timestamp, days: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Return features and labels of up to twelve past cutoffs, oldest first."""
    earliest = orders["time"].min() + pd.Timedelta(days=max(days, 30))
    step = pd.Timedelta(days=30 if days > 14 else 7)
    cutoff = at - pd.Timedelta(days=days)
    frames: list[pd.DataFrame] = []
    labels: list[pd.Series] = []
    while cutoff > earliest and len(frames) < 12:
        y = eligible(orders, cutoff, days)
        frames.append(windowed(orders, cutoff).loc[y.index])
        labels.append(y)
        cutoff -= step
    return pd.concat(frames[::-1]), np.concatenate(labels[::-1])


def _many_cutoffs(learned: pd.DataFrame, y: np.ndarray, test: pd.DataFrame) -> np.ndarray:
    from lightgbm import LGBMClassifier

    model = LGBMClassifier(
        n_estimators=300,
        learning_rate=0.03,
        num_leaves=15,
        min_child_samples=100,
        subsample=0.8,
        subsample_freq=1,
        colsample_bytree=0.7,
        reg_lambda=10,
        n_jobs=1,
        verbose=-1,
    )
    return model.fit(learned, y).predict_proba(test)[:, 1]


def _automl(learned: pd.DataFrame, y: np.ndarray, test: pd.DataFrame) -> np.ndarray | None:
    """FLAML chooses among trees and linear models, 40 trials, validated forward in time; None where it is not installed."""
    try:
        from flaml import AutoML
    except ImportError:
        return None
    logging.getLogger("flaml").setLevel(logging.ERROR)
    automl, learners = AutoML(), ["lgbm", "xgboost", "extra_tree", "lrl1"]
    learned, test = (frame.replace(np.inf, np.nan).fillna(-1.0) for frame in (learned, test))
    automl.fit(
        learned.to_numpy(),
        y,
        task="classification",
        metric="log_loss",
        estimator_list=learners,
        max_iter=40,
        time_budget=-1,
        split_type="time",
        eval_method="holdout",
        seed=0,
        n_jobs=1,
        verbose=0,
    )
    return np.asarray(automl.predict_proba(test.to_numpy()))[:, 1]
