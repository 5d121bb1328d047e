"""Uplift, from holdouts: whom does a message move? Not who will buy, but who buys because of it.

An X-learner on LightGBM (Künzel, Sekhon, Bickel, Yu, "Metalearners for estimating heterogeneous treatment effects using
machine learning", PNAS 116, 2019): a model of the outcome in each arm, then models of the effects that each arm imputes for the other,
mixed by the known chance of being treated. All figures are of customers that the models had not learned from
(cross-fitting), on doubly robust scores, which are right on average if either the chances or the outcome models are.
A ranking whose Qini interval includes 0 is not used: then the answer is "not enough evidence yet".
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from predseg.forecast.evaluation import interval
from predseg.forecast.forecaster import Array, encode
from predseg.forecast.sampling import levels

if TYPE_CHECKING:
    import lightgbm as lgb

CUSTOMERS, OUTCOMES = 200, 50
"""Each arm needs so many customers, and so many with the outcome and without."""
FOLDS, FIFTHS, DRAWS = 3, 5, 500
ROUNDS = 60
PARAMS: dict[str, Any] = {
    "num_leaves": 6,
    "min_data_in_leaf": 40,
    "lambda_l2": 20.0,
    "learning_rate": 0.05,
    "feature_fraction_bynode": 0.5,
    "max_bin": 63,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbose": -1,
}
NOT_YET = "not enough evidence yet"


@dataclass(frozen=True, eq=False)
class UpliftModel:
    """The effect of a message on a customer, as plain trees; ``treated`` is the share that was treated."""

    features: tuple[str, ...]
    categories: dict[str, tuple[str, ...]]
    effects: tuple[lgb.Booster, lgb.Booster]
    outcomes: tuple[lgb.Booster, lgb.Booster]
    treated: float

    def effect(self, frame: pd.DataFrame) -> Array:
        """Return how much more likely the outcome becomes (or by how much it grows) by the message, float64 (rows).

        Raises:
            ModelError: E710, E711, see `predseg.forecast.forecaster.encode`.
        """
        return self.effect_matrix(encode(frame, self.features, self.categories))

    def effect_matrix(self, matrix: Array) -> Array:
        """Return the effects of rows already encoded."""
        of_held_out, of_treated = (np.asarray(booster.predict(matrix)) for booster in self.effects)
        return self.treated * of_held_out + (1 - self.treated) * of_treated


@dataclass(frozen=True)
class Fifth:
    """A fifth of the customers, by expected effect, the highest first: what was said, and what was found, with its 95 % interval."""

    customers: int
    said: float
    found: float
    interval: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Uplift:
    """What a campaign with a holdout taught.

    Attributes:
        customers: In both arms.
        treated: Of them in the arm that gets the message.
        average: Effect on the average customer, with its 95 % interval; doubly robust.
        average_interval: Low and high.
        qini: Area between the curve of effect found, best-ranked first, and the line of a random order, per customer.
        qini_interval: Low and high.
        fifths: By expected effect, highest first.
        verdict: In words.
        lacking: What there is too little of, in words; empty where the effects could be looked at.
        needed: So many customers in all would show the ranking, if it is as good as it looks; None where it looks no better than chance, or is shown.
        model: The score, None while there is not enough evidence.
    """

    customers: int
    treated: int
    average: float
    average_interval: tuple[float, float]
    qini: float
    qini_interval: tuple[float, float]
    fifths: tuple[Fifth, ...]
    verdict: str
    lacking: tuple[str, ...] = ()
    needed: int | None = None
    model: UpliftModel | None = field(default=None, repr=False)


def learn_uplift(frame: pd.DataFrame, treated: Array, outcome: Array, customers: Array, share: float | None = None, seed: int = 0) -> Uplift:
    """Return what a randomised holdout says about whom the message moves.

    Args:
        frame: Features of every customer, seen **before** the message.
        treated: Bool, in the arm that gets the message (whether it was delivered or not).
        outcome: What happened since: 0 and 1, or money.
        customers: Ids; they decide the folds, so that the order of the rows does not.
        share: The chance of being treated that the assignment had; by default the share found.
        seed: Of the trees and the bootstrap.

    Returns:
        With ``model`` only when the whole interval of the Qini area lies above 0.
    """
    treated, outcome = np.asarray(treated, bool), np.asarray(outcome, np.float64)
    chance = float(treated.mean()) if share is None else share
    if lacking := _lacking(treated, outcome):
        nothing = (float("nan"), float("nan"))
        verdict = f"{NOT_YET}: {'; '.join(lacking)}"
        return Uplift(len(treated), int(treated.sum()), float("nan"), nothing, float("nan"), nothing, (), verdict, lacking)
    order = np.argsort(np.asarray(customers).astype(str), kind="stable")
    frame, treated, outcome = frame.iloc[order], treated[order], outcome[order]
    fold = pd.util.hash_array(np.asarray(customers)[order].astype(str).astype(object)) % np.uint64(FOLDS)
    features, categories = tuple(map(str, frame.columns)), levels(frame)
    matrix = encode(frame, features, categories)
    said, score = np.zeros(len(treated)), np.zeros(len(treated))
    for part in range(FOLDS):
        here = fold == part
        model = _fit(matrix[~here], treated[~here], outcome[~here], features, categories, chance, seed)
        said[here] = model.effect_matrix(matrix[here])
        held, told = (np.asarray(booster.predict(matrix[here])) for booster in model.outcomes)
        score[here] = doubly_robust(held, told, treated[here], outcome[here], chance)
    found = _evaluate(said, score, treated, seed)
    if not found.qini_interval[0] > 0:
        return found
    return replace(found, model=_fit(matrix, treated, outcome, features, categories, chance, seed))


def _lacking(treated: Array, outcome: Array) -> tuple[str, ...]:
    """What there is too little of, by arm; empty when there is enough."""
    found = []
    for name, arm in (("treated", treated), ("held out", ~treated)):
        n, hits = int(arm.sum()), int((outcome[arm] > 0).sum())
        if n < CUSTOMERS:
            found.append(f"{n:,} customers are {name}, {CUSTOMERS} are needed")
        elif min(hits, n - hits) < OUTCOMES:
            found.append(f"of {n:,} {name}, {hits:,} have the outcome: {OUTCOMES} with it and {OUTCOMES} without are needed")
    return tuple(found)


def _fit(
    matrix: Array, treated: Array, outcome: Array, features: tuple[str, ...], categories: dict[str, tuple[str, ...]], chance: float, seed: int
) -> UpliftModel:
    import lightgbm as lgb

    traits = [i for i, name in enumerate(features) if name in categories]

    def learn(rows: Array, label: Array) -> lgb.Booster:
        data = lgb.Dataset(matrix[rows], label, categorical_feature=traits, params={"max_bin": PARAMS["max_bin"], "verbose": -1})
        return lgb.train({**PARAMS, "objective": "regression", "seed": seed}, data, ROUNDS)

    held, told = learn(~treated, outcome[~treated]), learn(treated, outcome[treated])
    of_treated = learn(treated, outcome[treated] - np.asarray(held.predict(matrix[treated])))
    of_held_out = learn(~treated, np.asarray(told.predict(matrix[~treated])) - outcome[~treated])
    return UpliftModel(features, categories, (of_held_out, of_treated), (held, told), chance)


def doubly_robust(held: Array, told: Array, treated: Array, outcome: Array, chance: float) -> Array:
    """Return one unbiased guess of the effect per customer (Robins, Rotnitzky and Zhao, JASA 89, 1994).

    Args:
        held: Expected outcome without the message.
        told: Expected outcome with it.
        treated: Bool.
        outcome: What happened.
        chance: Of being treated.
    """
    return np.asarray(told - held + np.where(treated, (outcome - told) / chance, -(outcome - held) / (1 - chance)))


def qini(said: Array, score: Array, weights: Array | None = None) -> Array:
    """Return the mean distance of the curve of effect found, highest expected first, from the straight line; (samples).

    Equal expectations are one straight piece. ``weights`` (samples, rows) says how often each row counts.

    >>> qini(np.array([2.0, 1.0]), np.array([1.0, 0.0])).round(3).tolist()
    [0.125]
    """
    weights = np.ones((1, len(said))) if weights is None else weights
    order = np.argsort(-said, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(said[order]) != 0, True))
    weight = weights[:, order]
    rows, gained = (np.cumsum(part, axis=1)[:, ends] for part in (weight, weight * score[order]))
    total = rows[:, -1:]
    middle = (gained - np.diff(gained, axis=1, prepend=0.0) / 2) / total
    return np.asarray((np.diff(rows, axis=1, prepend=0.0) / total * middle).sum(axis=1) - gained[:, -1] / total[:, 0] / 2)


def _evaluate(said: Array, score: Array, treated: Array, seed: int) -> Uplift:
    rng, n = np.random.default_rng(seed), len(said)
    draws = (rng.multinomial(n, np.full(n, 1 / n), size=50).astype(np.float64) for _ in range(DRAWS // 50))
    areas = np.concatenate([qini(said, score, weights) for weights in draws])
    average, error = float(score.mean()), float(score.std()) / np.sqrt(n)
    around = (average - 1.96 * error, average + 1.96 * error)
    area, bounds = float(qini(said, score)[0]), interval(areas)
    needed = int(np.ceil(n * ((area - bounds[0]) / area) ** 2)) if area > 0 >= bounds[0] else None
    parts = np.array_split(np.argsort(-said, kind="stable"), FIFTHS)
    verdict = "the message moves some more than others: write to those with the highest uplift first"
    if not bounds[0] > 0:
        verdict = f"{NOT_YET} that the message moves some more than others; on average it changes the outcome by {average:+.4f}"
        verdict += f" ({around[0]:+.4f} to {around[1]:+.4f})"
    fifths = tuple(_fifth(said[p], score[p]) for p in parts)
    return Uplift(n, int(treated.sum()), average, around, area, bounds, fifths, verdict, needed=needed)


def _fifth(said: Array, score: Array) -> Fifth:
    found, error = float(score.mean()), float(score.std()) / np.sqrt(len(score))
    return Fifth(len(said), float(said.mean()), found, (found - 1.96 * error, found + 1.96 * error))
