"""Groups and influence: what is planted is found, what is not there is not."""

from __future__ import annotations

import numpy as np
import pandas as pd

from predseg.forecast.evaluation import Forecast
from predseg.forecast.forecaster import encode
from predseg.forecast.groups import by_group, divisions, wilson
from predseg.forecast.influence import dependence, permutation
from tests.forecast import tiny


def world(bias: float, rows: int = 4_000) -> tuple[np.ndarray, Forecast, dict[str, np.ndarray]]:
    """Right probabilities for all but the French, who do it more often by ``bias``."""
    rng = np.random.default_rng(2)
    country = rng.choice(np.array(["DE", "FR", "GB", None], object), rows, p=[0.4, 0.3, 0.29, 0.01])
    p = rng.uniform(0.1, 0.7, rows)
    y = (rng.random(rows) < p + bias * (country == "FR")).astype(int)
    return y, Forecast(p, p), {"country": country}


def test_a_group_that_is_off_is_called_off_and_no_other() -> None:
    found = by_group(*world(0.15))
    assert [g.name for g in found] == ["DE", "FR", "GB"] and [g.off for g in found] == [False, True, False]
    assert all(g.rows >= 100 and 0.6 < g.ranking < 0.9 and 0.05 < g.top < 0.15 for g in found)
    low, high = found[1].interval
    assert low < found[1].came < high and found[1].said < low


def test_right_probabilities_are_off_nowhere_in_hundred_worlds() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(0, 0.5, 1_000)
    names = {"g": rng.choice(np.array(list("abcdefg"), object), 1_000)}
    alarms = sum(any(g.off for g in by_group((rng.random(1_000) < p).astype(int), Forecast(p, p), names)) for _ in range(100))
    assert alarms <= 3


def test_values_have_groups_too() -> None:
    rng = np.random.default_rng(1)
    mean = rng.gamma(2, 20, 3_000)
    y = rng.gamma(1, mean) * (1 + 0.8 * (np.arange(3_000) % 2))
    found = by_group(y, Forecast(mean, mean), {"half": np.array(["even", "odd"], object)[np.arange(3_000) % 2]}, value=True)
    assert [g.off for g in found] == [False, True] and found[1].came > 60


def test_customers_fall_into_words() -> None:
    frame = pd.DataFrame({"tenure": [3.0, 30.0, 400.0], "count_order": [0.0, 3.0, np.nan]})
    found = divisions(frame, ["days_since_order", "count_order"], {"country": np.array(["GB", None, "GB"], object)})
    assert found["tenure"].tolist() == ["under 30 days", "30 to under 90 days", "365 days and more"]
    assert found["activity"].tolist() == ["under 1 order", "2 to under 4 order", None] and found["country"][1] is None


def test_intervals_hold_their_rate() -> None:
    rng = np.random.default_rng(0)
    draws = rng.binomial(150, 0.1, 500) / 150
    inside = np.mean([low <= 0.1 <= high for low, high in (wilson(rate, 150) for rate in draws)])
    assert inside > 0.92


def test_shuffling_costs_where_the_model_looks_and_nothing_elsewhere() -> None:
    model, frame = tiny.forecaster(), tiny.customers(1_500, 5)
    matrix = encode(frame, model.features, model.categories)
    y = (model.raw_matrix(matrix) + np.random.default_rng(0).logistic(size=1_500) > 0).astype(int)
    lost = permutation(model, matrix, y, model.features)
    assert next(iter(lost)) == "days_since_order_completed" and lost["days_since_order_completed"] > 0.05
    assert list(lost.values()) == sorted(lost.values(), reverse=True) and abs(lost["recency_over_gap_order_completed"]) < 0.01
    assert lost == permutation(model, matrix, y, model.features), "the same twice"


def test_dependence_goes_down_with_recency_and_by_level() -> None:
    model = tiny.forecaster()
    matrix = encode(tiny.customers(500, 5), model.features, model.categories)
    points, scores = dependence(model, matrix, "days_since_order_completed")
    assert len(points) == 12 and scores[0] > scores[-1] + 0.1 and (scores > 0).all() and (scores < 1).all()
    levels, by_level = dependence(model, matrix, "trait_country")
    assert levels.tolist() == [0, 1, 2] and by_level[2] > by_level[0]
