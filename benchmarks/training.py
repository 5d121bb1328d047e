"""A whole training against the bare `lightgbm.train` call on the same matrix.

    python -m benchmarks.training            # 100,000 customers at 12 cutoffs, and the gap
    python -m benchmarks.training --small

predseg's time holds everything from the customer-moments on: choosing forward in time, the forward test's model, the
champion, the linear members, the calibration. The bare call gets the champion's own rows, parameters and number of trees.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd

from benchmarks.scoring import feature_set, values
from benchmarks.timing import table
from predseg.forecast.sampling import Sample, weights
from predseg.forecast.training import DATASET, Settings, train
from predseg.language.time import DAY

HORIZON = 30 * DAY


def sample(customers: int, cutoffs: int) -> Sample:
    """Invented rows whose labels follow from six of the columns."""
    names = feature_set().names
    moments = np.arange(1, cutoffs + 1, dtype=np.int64) * HORIZON
    matrix = values(customers * cutoffs, len(names), 1)
    logit = np.nan_to_num(matrix[:, :6]) @ [-0.05, 0.03, 0.02, 0.02, -0.01, 0.01]
    label = (np.random.default_rng(2).random(len(matrix)) < 1 / (1 + np.exp(1 - logit))).astype(np.int8)
    ids = np.array([f"c{i:07d}" for i in range(customers)], object)
    return Sample(pd.DataFrame(matrix, columns=names, copy=False), label, np.repeat(moments, customers), np.tile(ids, cutoffs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="300 customers, to see that it works")
    options = parser.parse_args()
    rows = sample(300 if options.small else 100_000, 13)  # 12 to learn from or to test on, and one in the gap
    trained, whole, work = timed(lambda: train(rows, Settings(HORIZON, int(rows.cutoff.max()) + HORIZON)))
    matrix = rows.X.to_numpy()
    data = lgb.Dataset(matrix, rows.y, weight=weights(rows.cutoff), params=dict(DATASET))
    _, bare, its_work = timed(lambda: lgb.train(trained.chosen.params, data, trained.chosen.rounds))
    made = f"{len(rows):,} rows × {matrix.shape[1]} features, {trained.chosen.rounds} trees of {trained.chosen.params['num_leaves']} leaves"
    lines = [
        ["predseg", f"**{whole / bare:.2f}**", f"{work / its_work:.2f}", f"{whole:.1f}", f"{work:.1f}", made],
        ["lightgbm.train", "1.00", "1.00", f"{bare:.1f}", f"{its_work:.1f}", ""],
    ]
    print(table(["", "ratio", "ratio of CPU", "seconds", "CPU seconds", "of"], lines))


def timed(tool: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return the result, the seconds and the seconds of all cores; the latter hardly depend on what else the machine does."""
    begin, work = time.perf_counter(), time.process_time()
    result = tool()
    return result, time.perf_counter() - begin, time.process_time() - work


if __name__ == "__main__":
    main()
