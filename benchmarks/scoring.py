"""Scores of a million customers against bare `Booster.predict` on the same matrix.

    python -m benchmarks.scoring            # 1,000,000 customers
    python -m benchmarks.scoring --small

The model is one that predseg trains on much data: 300 trees of 31 leaves, a linear member, a calibration. predseg's time
holds everything from the blocks of features on: alignment by name, trees, linear member, calibration, ranks, reasons.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from benchmarks.timing import medians, table
from predseg.config import EventFeatures, Features
from predseg.forecast import bundle as bundles
from predseg.forecast.features import FeatureSet, compile_features
from predseg.forecast.forecaster import Calibration, Forecaster, Linear
from predseg.forecast.reasons import declare
from predseg.forecast.scoring import score
from predseg.forecast.training import TREES
from predseg.language.time import DAY

if TYPE_CHECKING:
    import lightgbm as lgb

    from predseg.forecast.bundle import Bundle

BLOCK = 6_000


def feature_set() -> FeatureSet:
    """Recency, frequency and value of three events over four windows."""
    events = {"Order Completed": EventFeatures("value"), "Product Viewed": EventFeatures(), "Email Opened": EventFeatures()}
    return compile_features(Features(windows=tuple(days * DAY for days in (7, 30, 90, 365)), events=tuple(events.items())))


def values(rows: int, columns: int, seed: int) -> np.ndarray:
    """Invented features: rounded, skewed, a tenth of them missing."""
    r = np.random.default_rng(seed)
    matrix = np.round(r.exponential(30, (rows, columns)), 2)
    matrix[r.random((rows, columns)) < 0.1] = np.nan
    return matrix


def make_bundle(features: FeatureSet, folder: str, trees: int) -> Bundle:
    """Train, save and load a model as a training would."""
    import lightgbm as lgb

    names = tuple(features.names)
    matrix = values(20_000, len(names), 1)
    logit = np.nan_to_num(matrix[:, :6]) @ [-0.05, 0.03, 0.02, 0.02, -0.01, 0.01]
    label = np.random.default_rng(2).random(len(matrix)) < 1 / (1 + np.exp(1 - logit))
    booster = lgb.train({**TREES, "num_leaves": 31, "num_threads": 1}, lgb.Dataset(matrix, label), trees)
    some = names[:8]
    linear = Linear(some, (3.0,) * 8, (1.0,) * 8, (0.1,) * 8, (0.0,) * 8, -0.5)
    forecaster = Forecaster(
        names, (booster,), linear=linear, blend=0.25, calibration=Calibration("isotonic", x=(-3.0, 0.0, 3.0), y=(0.02, 0.4, 0.97))
    )
    saved = bundles.save(forecaster, folder, name="purchase", version=1, facts={}, card="# purchase\n", declarations=declare(features))
    return bundles.load(saved)


def frames(matrix: np.ndarray, names: list[str], customers: np.ndarray) -> Iterator[pd.DataFrame]:
    """Yield the blocks that feature computation hands over."""
    for begin in range(0, len(matrix), BLOCK):
        part = slice(begin, begin + BLOCK)
        frame = pd.DataFrame(matrix[part], columns=names)
        frame.insert(0, "customer_id", customers[part])
        yield frame.assign(as_of=np.int64(0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="4,000 customers, 30 trees, once")
    parser.add_argument("--customers", type=int, default=1_000_000)
    parser.add_argument("--trees", type=int, default=300)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    n, trees, repeat = (4_000, 30, 1) if options.small else (options.customers, options.trees, options.repeat)
    features = feature_set()
    matrix = values(n, len(features.names), 3)
    customers = np.array([f"c{i:08d}" for i in range(n)], dtype=object)
    blocks = list(frames(matrix, features.names, customers))
    with tempfile.TemporaryDirectory() as folder:
        bundle = make_bundle(features, folder, trees)
    booster: lgb.Booster = bundle.forecaster.boosters[0]
    tools = {
        "Booster.predict": partial(booster.predict, matrix),
        "predseg, with reasons": partial(score, bundle, blocks, as_of=0),
        "predseg, without reasons": partial(score, bundle, blocks, as_of=0, reasons="none"),
    }
    seconds, results = medians(tools, repeat)
    assert results["predseg, with reasons"].num_rows == n
    bare = seconds["Booster.predict"]
    print(f"{n:,} customers, {len(features.names)} features, {trees} trees of 31 leaves, median of {repeat}\n")
    rows = [[name, f"**{bare / found:.2f}**", f"{found:.2f}", f"{n / found:,.0f}"] for name, found in seconds.items()]
    print(table(["tool", "throughput / bare", "seconds", "customers a second"], rows))


if __name__ == "__main__":
    main()
