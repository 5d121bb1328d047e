"""What a model rests on, seen from outside and forward in time: shuffle a feature, or move it, and look what happens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from predseg.forecast.evaluation import auc
from predseg.forecast.forecaster import Array, Forecaster
from predseg.forecast.value import gini

ROWS, FEATURES, REPEATS, POINTS = 2_000, 30, 3, 12


def permutation(forecaster: Forecaster, matrix: Array, y: Array, names: Sequence[str], seed: int = 0) -> dict[str, float]:
    """Return how much AUC (or Gini) is lost when a feature is shuffled among the customers of the forward test, largest first.

    Features that say the same stand in for each other: each loses little then, though together they matter.

    Args:
        forecaster: The model of the forward test.
        matrix: Its rows, encoded.
        y: Their labels.
        names: Features to look at, at most 30 of them.
        seed: Of the shuffling.
    """
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(len(y))[:ROWS])
    matrix, y = matrix[rows], y[rows]
    measure = gini if forecaster.predicts_value else auc
    whole = measure(y, forecaster.raw_matrix(matrix))
    lost = {}
    for name in names[:FEATURES]:
        column = forecaster.features.index(name)
        drops = []
        for _ in range(REPEATS):
            shuffled = matrix.copy()
            shuffled[:, column] = rng.permutation(shuffled[:, column])
            drops.append(whole - measure(y, forecaster.raw_matrix(shuffled)))
        lost[name] = float(np.mean(drops))
    return dict(sorted(lost.items(), key=lambda item: (-item[1], item[0])))


def dependence(forecaster: Forecaster, matrix: Array, name: str, seed: int = 0, rows: int = 300) -> tuple[Array, Array]:
    """Return values of a feature, and the mean score when every customer had it, all else as it is (partial dependence)."""
    rng = np.random.default_rng(seed)
    some = matrix[np.sort(rng.permutation(len(matrix))[:rows])]
    column = forecaster.features.index(name)
    present = matrix[:, column][~np.isnan(matrix[:, column])]
    points = np.unique(np.quantile(present, np.linspace(0.02, 0.98, POINTS))) if len(present) else np.zeros(0)
    if name in forecaster.categories:
        points = np.unique(present)[:POINTS]
    moved = np.repeat(some, len(points), axis=0)
    moved[:, column] = np.tile(points, len(some))
    scores = forecaster.calibrate(forecaster.raw_matrix(moved)).reshape(len(some), len(points))
    return points, scores.mean(axis=0) if len(points) else np.zeros(0)
