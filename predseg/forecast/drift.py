"""Drift: has the world moved away from what a model learned, and do its forecasts still come true?

A training leaves a reference in its bundle: how each feature and the score were spread over the customers of the forward
test. `compare` holds the present against it; `matured` holds old scores against what has come true since; `recommend`
says what to do. Features that move are no harm while forecasts come true, so labels speak first, and spreads only
where no label has matured yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from predseg.forecast import value
from predseg.forecast.evaluation import Forecast, auc, bootstrap, calibration_error, interval, reliability
from predseg.forecast.forecaster import Array, Forecaster
from predseg.forecast.gate import CALIBRATION_LIMIT, VALUE_LIMIT
from predseg.language.time import say_instant

if TYPE_CHECKING:
    import pandas as pd

MOVED = 0.2
"""A PSI from here on is a move, if it is also beyond chance."""
UNLIKELY = 0.001
"""What chance alone does less often than this is beyond chance."""
HEAVY = 0.25
"""When features with this share of the importance have moved, the model knows another world."""
FEWEST = 50
"""Matured labels count when both answers occur, or were expected, this often."""
_TENTHS = np.arange(1, 10) / 10

Word = Literal["retrain", "recalibrate", "nothing"]


def reference(forecaster: Forecaster, frame: pd.DataFrame, importance: Mapping[str, float], promised: Sequence[float]) -> dict[str, Any]:
    """Return what a bundle remembers, plain JSON: the spread of each feature and of the score, and the AUC promised (low, high).

    Args:
        forecaster: The champion-to-be, whose scores will be compared.
        frame: The features of the forward test.
        importance: Of each feature, on any scale.
        promised: The interval of the AUC on the forward test.
    """
    matrix = forecaster.encode(frame)
    total = sum(importance.values()) or 1.0
    features = {}
    for i, name in enumerate(forecaster.features):
        levels = forecaster.categories.get(name)
        edges = np.arange(len(levels) - 1) + 0.5 if levels else _edges(matrix[:, i])
        features[name] = {**_spread(matrix[:, i], edges), "weight": importance.get(name, 0.0) / total}
    score = forecaster.calibrate(forecaster.raw_matrix(matrix))
    return {"rows": len(matrix), "features": features, "score": _spread(score, _edges(score)), "auc": [float(v) for v in promised]}


def _edges(values: Array) -> Array:
    present = values[~np.isnan(values)]
    return np.unique(np.quantile(present, _TENTHS)) if len(present) else np.zeros(0)


def _spread(values: Array, edges: Array) -> dict[str, Any]:
    counts = count(values, edges)
    return {"edges": edges.tolist(), "shares": (counts / max(1, counts.sum())).tolist()}


def count(values: Array, edges: Array) -> Array:
    """Return how many values fall under the first edge, between two (the lower included), over the last, and are missing.

    >>> count(np.array([1.0, 2.0, 5.0, np.nan]), np.array([2.0])).tolist()
    [1, 2, 1]
    """
    missing = np.isnan(values)
    bins = np.searchsorted(edges, values[~missing], side="right")
    return np.append(np.bincount(bins, minlength=len(edges) + 1), missing.sum())


def psi(shares: Array, rows: int, counts: Array) -> tuple[float, float]:
    """Return the population stability index of counts against shares of so many rows, and the chance of as much without any drift.

    Without drift PSI / (1/n + 1/m) follows a chi-squared law with one degree of freedom less than there are bins
    (Yurdakul and Naranjo, "Statistical properties of the population stability index", Journal of Risk Model Validation 14, 2020).

    >>> [round(v, 3) for v in psi(np.array([0.5, 0.5]), 1000, np.array([500, 500]))]
    [0.0, 1.0]
    """
    from scipy.stats import chi2

    now, used = int(counts.sum()), (shares > 0) | (counts > 0)
    if not now or not rows or used.sum() < 2:
        return 0.0, 1.0
    p, q = np.maximum(shares[used], 0.5 / rows), np.maximum(counts[used] / now, 0.5 / now)
    value = float(np.sum((q - p) * np.log(q / p)))
    return value, float(chi2.sf(value / (1 / rows + 1 / now), used.sum() - 1))


@dataclass(frozen=True)
class Move:
    """How far one column is from its reference.

    Attributes:
        name: The feature, or ``score``.
        psi: Population stability index; under 0.1 is the same, from 0.2 on another spread.
        p: The chance of as much without drift.
        weight: The share of the model's importance; 1 for the score.
    """

    name: str
    psi: float
    p: float
    weight: float

    @property
    def moved(self) -> bool:
        """Whether it is both far and beyond chance."""
        return self.psi >= MOVED and self.p < UNLIKELY


Present = tuple[int, list[Move]]
"""How many rows were compared with training, and the moves: the score, then the features, farthest first."""


class Comparison:
    """Counts how the features of a forecaster, and the scores by them, are spread, to hold them against their reference."""

    def __init__(self, forecaster: Forecaster, remembered: Mapping[str, Any]) -> None:
        self._forecaster, self._remembered, self._rows, self._adding = forecaster, remembered, 0, Lock()
        self._parts = {"score": remembered["score"], **remembered["features"]}
        self._edges = {name: np.asarray(part["edges"], np.float64) for name, part in self._parts.items()}
        self._counts = {name: np.zeros(len(part["shares"]), np.int64) for name, part in self._parts.items()}

    def add(self, matrix: Array, raw: Array) -> None:
        """Count rows, as they are given to the trees, with their uncalibrated output. Threads may do so at once."""
        columns = [("score", self._forecaster.calibrate(raw)), *((name, matrix[:, i]) for i, name in enumerate(self._forecaster.features))]
        found = [(name, count(values, self._edges[name])) for name, values in columns]
        with self._adding:
            self._rows += len(matrix)
            for name, counts in found:
                self._counts[name] += counts

    def present(self) -> Present:
        """Return how far the rows are from the reference."""
        rows = int(self._remembered["rows"])
        found = [
            Move(name, *psi(np.asarray(part["shares"]), rows, self._counts[name]), float(part.get("weight", 1.0)))
            for name, part in self._parts.items()
        ]
        return self._rows, [found[0], *sorted(found[1:], key=lambda move: (-move.psi, move.name))]


def compare(forecaster: Forecaster, remembered: Mapping[str, Any], frames: Iterable[pd.DataFrame]) -> Present:
    """Return how far the features in some frames, and the scores by them, are from their reference."""
    comparison = Comparison(forecaster, remembered)
    for frame in frames:
        matrix = forecaster.encode(frame)
        comparison.add(matrix, forecaster.raw_matrix(matrix))
    return comparison.present()


@dataclass(frozen=True)
class Matured:
    """An old run of scores, whose horizon is over, against what came true.

    Attributes:
        as_of: When it was scored (microseconds).
        version: Of the model that scored.
        rows: Customers.
        said: Mean probability.
        came: Share of those for whom it came true.
        auc: With its 95 % interval.
        auc_interval: Low and high.
        calibration_error: Mean distance of probability and frequency.
        chance: Of as much distance, if the probabilities were right (Hosmer and Lemeshow's test).
        value: Whether expected values were scored: then ``auc`` is the Gini coefficient, ``said`` and ``came`` are means, the
            distance is a share of the mean, and its chance that of the mean alone.
        expected: How many were expected to bring any value; 0 where that is not known.
    """

    as_of: int
    version: int
    rows: int
    said: float
    came: float
    auc: float
    auc_interval: tuple[float, float]
    calibration_error: float
    chance: float
    positives: int
    value: bool = False
    expected: float = 0.0

    @property
    def enough(self) -> bool:
        """Whether both answers occur, or were expected, often enough to say anything: that what was expected is not there is said too."""
        if self.value:
            return max(self.positives, self.expected) >= FEWEST
        expected = self.said * self.rows
        return max(self.positives, expected) >= FEWEST and self.rows - min(self.positives, expected) >= FEWEST

    @property
    def measure(self) -> str:
        """What ``auc`` is called."""
        return "Gini" if self.value else "AUC"

    @property
    def off(self) -> bool:
        """Whether the probabilities are off, both visibly and beyond chance."""
        return self.calibration_error > (VALUE_LIMIT if self.value else CALIBRATION_LIMIT) and self.chance < UNLIKELY


def matured(as_of: int, version: int, y: Array, probability: Array, rank: Array, seed: int = 0) -> Matured:
    """Return how the scores of one run came true; ``y`` is 0 or 1."""
    bounds = interval(bootstrap(y, {"": Forecast(rank)}, seed, 200)[""]["auc"]) if len(y) else (float("nan"), float("nan"))
    found = float(np.mean(probability)), float(np.mean(y)), auc(y, rank)
    error, chance = calibration_error(y, probability), _hosmer_lemeshow(y, probability)
    return Matured(as_of, version, len(y), *found, bounds, error, chance, int(y.sum()))


def matured_value(as_of: int, version: int, y: Array, expected: Array, rank: Array, seed: int = 0, each: float = np.inf) -> Matured:
    """Return how the expected values of one run came true; ``y`` is the sum, ``each`` what one who brings any value usually brings."""
    from scipy.stats import norm

    forecast = Forecast(rank, expected)
    found, bounds = value.measures(y, forecast), interval(value.bootstrap(y, {"": forecast}, seed)[""]["gini"])
    miss = y - expected
    chance = 2 * float(norm.sf(abs(miss.mean()) / max(float(miss.std()) / np.sqrt(len(y)), 1e-12)))
    levels = float(expected.mean()), float(y.mean())
    off = found["off"] if y.any() else 1.0  # all of what was said: of the mean that came there is no share
    return Matured(as_of, version, len(y), *levels, found["gini"], bounds, off, chance, int((y > 0).sum()), True, float(expected.sum() / each))


def _hosmer_lemeshow(y: Array, probability: Array) -> float:
    from scipy.stats import chi2

    groups = reliability(y, probability)
    distance = sum(n * (came - said) ** 2 / max(said * (1 - said), 1e-9) for n, said, came in groups)
    return float(chi2.sf(distance, len(groups)))


@dataclass(frozen=True)
class Advice:
    """What to do about a model: ``retrain``, ``recalibrate`` or ``nothing``, and why."""

    word: Word
    reason: str


def recommend(moves: Sequence[Move], runs: Sequence[Matured], version: int, promised: Sequence[float]) -> Advice:
    """Return the advice for a champion.

    Args:
        moves: See `compare`.
        runs: Matured runs, oldest first, of any version.
        version: The champion.
        promised: The interval of the AUC on its forward test.
    """
    moved = [move.name for move in moves[1:] if move.moved]
    weight = sum(move.weight for move in moves[1:] if move.moved)
    its = [run for run in runs if run.version == version and run.enough]
    if its:
        return _by_labels(its[-1], promised, moved)
    waiting = "none of its scores has matured yet"
    if moves and moves[0].moved:
        return Advice("retrain", f"{waiting}, and the scores are spread otherwise than in training (PSI {moves[0].psi:.2f})")
    if weight >= HEAVY:
        return Advice("retrain", f"{waiting}, and features with {weight:.0%} of its importance have moved: {_some(moved)}")
    return Advice("nothing", f"{waiting}; scores and important features are spread as in training{_aside(moved)}")


def _by_labels(run: Matured, promised: Sequence[float], moved: Sequence[str]) -> Advice:
    of = f"of those scored at {say_instant(run.as_of)[:10]}"
    low, high = run.auc_interval
    if np.isnan(run.auc) and run.chance < UNLIKELY and not (run.value and run.positives):
        came = "nothing came" if run.value else f"it came true of {'everybody' if run.positives else 'nobody'}"
        said = f"{run.said:,.2f} each" if run.value else f"{run.said:.1%}"
        return Advice("retrain", f"{of} {came}, said were {said}: look first whether the event comes in as it did")
    if high < promised[0]:
        return Advice(
            "retrain", f"{of} it ranked with {run.measure} {run.auc:.3f} ({low:.3f} to {high:.3f}), promised were {promised[0]:.3f} and more"
        )
    if run.off:
        style = ",.2f" if run.value else ".1%"
        said = f"said {run.said:{style}}, came true {run.came:{style}}, off by {run.calibration_error:.3f} on average"
        return Advice("recalibrate", f"{of} it ranks as promised, but its probabilities are off: {said}; `predseg train --recalibrate`")
    return Advice(
        "nothing", f"{of} it kept what its forward test promised: {run.measure} {run.auc:.3f}, off by {run.calibration_error:.3f}{_aside(moved)}"
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _aside(moved: Sequence[str]) -> str:
    return f" (moved, without harm so far: {_some(moved)})" if moved else ""
