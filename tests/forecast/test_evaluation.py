"""Measures against scikit-learn and against worlds whose answer is known; baselines, words, pictures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from predseg.forecast import evaluation as ev
from predseg.forecast.evaluation import Forecast
from predseg.forecast.forecaster import Array, sigmoid
from predseg.forecast.pictures import draw


@st.composite
def ranked(draw: st.DrawFn) -> tuple[Array, Array]:
    """Labels with both answers, and ranks with many ties."""
    n = draw(st.integers(2, 40))
    y = np.array([0, 1, *draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))])
    rank = draw(st.lists(st.integers(0, 6), min_size=len(y), max_size=len(y)))
    return y, np.array(rank, dtype=np.float64)


@given(ranked())
def test_auc_and_average_precision_are_those_of_scikit_learn_on_ties(world: tuple[Array, Array]) -> None:
    y, rank = world
    assert ev.auc(y, rank) == pytest.approx(metrics.roc_auc_score(y, rank), abs=1e-12)
    assert ev.average_precision(y, rank) == pytest.approx(metrics.average_precision_score(y, rank), abs=1e-12)


@given(ranked(), st.data())
def test_weighted_auc_counts_rows_as_often_as_repeating_them(world: tuple[Array, Array], data: st.DataObject) -> None:
    y, rank = world
    weight = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(y), max_size=len(y))), dtype=np.float64)
    weight[:2] = 1
    again = np.repeat(np.arange(len(y)), weight.astype(int))
    assert ev.auc(y, rank, weight) == pytest.approx(metrics.roc_auc_score(y[again], rank[again]), abs=1e-12)


@given(ranked(), st.randoms(use_true_random=False))
def test_no_measure_depends_on_the_order_of_rows(world: tuple[Array, Array], random: object) -> None:
    y, rank = world
    forecast = Forecast(rank, sigmoid(rank - 3))
    order = np.array(sorted(range(len(y)), key=lambda _: random.random()))  # type: ignore[attr-defined]
    shuffled = ev.measures(y[order], Forecast(rank[order], sigmoid(rank[order] - 3)))
    for name, value in ev.measures(y, forecast).items():
        assert np.asarray(shuffled[name]) == pytest.approx(np.asarray(value), abs=1e-9, nan_ok=True), name


def test_probability_measures_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    p = rng.random(400).round(2)
    y = (rng.random(400) < p).astype(np.int8)
    found = ev.measures(y, Forecast(p, p))
    assert found["brier"] == pytest.approx(metrics.brier_score_loss(y, p))
    assert found["log_loss"] == pytest.approx(metrics.log_loss(y, np.clip(p, 1e-15, 1 - 1e-15)))
    assert found["brier_skill"] == pytest.approx(1 - found["brier"] / (y.mean() * (1 - y.mean())))


def test_calibration_error_is_small_for_the_truth_and_the_shift_for_a_shift() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(0.1, 0.7, 40_000)
    y = (rng.random(40_000) < p).astype(np.int8)
    assert ev.calibration_error(y, p) < 0.01
    assert ev.calibration_error(y, p + 0.2) == pytest.approx(0.2, abs=0.01)


def test_lift_of_a_perfect_ranking_and_of_none() -> None:
    y = np.repeat([1, 0], [10, 90])
    assert ev.lift_by_decile(y, y.astype(float)) == pytest.approx([10.0] + [0.0] * 9)
    assert ev.lift_by_decile(y, np.zeros(100)) == pytest.approx([1.0] * 10)


def test_lift_averages_to_one() -> None:
    rng = np.random.default_rng(3)
    y, rank = rng.integers(0, 2, 1000), rng.integers(0, 30, 1000).astype(float)
    assert np.mean(ev.lift_by_decile(y, rank)) == pytest.approx(1.0)


def test_bootstrap_interval_holds_the_value_and_is_about_as_wide_as_theory_says() -> None:
    rng = np.random.default_rng(5)
    y = (rng.random(2_000) < 0.3).astype(np.int8)
    p = np.full(2_000, 0.3)
    drawn = ev.bootstrap(y, {"m": Forecast(rng.normal(size=2_000) + y, p)}, seed=0)["m"]
    low, high = ev.interval(drawn["auc"])
    assert low < 0.76 < high and 0.02 < high - low < 0.06
    low, high = ev.interval(drawn["brier"])
    spread = np.std((p - y) ** 2) / np.sqrt(2_000)
    assert high - low == pytest.approx(2 * 1.96 * spread, rel=0.15)


def test_bootstrap_is_seeded_and_the_seed_matters() -> None:
    y = np.arange(60) % 3 == 0
    world = {"m": Forecast(np.arange(60.0) % 7)}
    first, again, other = (ev.bootstrap(y.astype(int), world, seed=s)["m"]["auc"] for s in (1, 1, 2))
    assert first.tobytes() == again.tobytes() != other.tobytes()


def test_bootstrap_in_pieces_is_still_one_draw_per_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    y = np.arange(50_000) % 2
    found = ev.bootstrap(y, {"m": Forecast(y.astype(float))}, resamples=201)["m"]["auc"]
    assert found.tolist() == [1.0] * 201


def test_paired_differences_know_the_better_model_where_separate_intervals_overlap() -> None:
    rng = np.random.default_rng(7)
    truth = rng.normal(size=3_000)
    y = (rng.random(3_000) < sigmoid(truth)).astype(np.int8)
    good, less = (Forecast(r, sigmoid(r)) for r in (truth, truth + 0.4 * rng.normal(size=3_000)))
    found = ev.evaluate(y, good, {"less": less})
    assert found["better"]["less"]["auc"][0] > 0 and found["better"]["less"]["brier"][0] > 0
    assert found["quality"] == "good"
    assert ev.evaluate(y, less, {"good": good})["quality"] == "poor"


@pytest.mark.parametrize(
    ("area", "skill", "word"), [(0.59, 0.1, "poor"), (0.6, 0.1, "fair"), (0.7, 0.1, "good"), (0.8, 0.1, "excellent"), (0.9, 0.0, "poor")]
)
def test_quality_words_change_where_the_table_says(area: float, skill: float, word: str) -> None:
    assert ev.quality(area, skill) == word


def test_evaluation_is_plain_numbers() -> None:
    import json

    y = np.array([0, 1] * 40)
    rank = np.linspace(0, 1, 80)
    found = ev.evaluate(y, Forecast(rank, rank), {"none": Forecast(np.zeros(80), np.full(80, 0.5))}, resamples=20)
    assert json.loads(json.dumps(found))["positives"] == 40


# --- baselines


def shop(n: int, seed: int) -> tuple[pd.DataFrame, Array]:
    rng = np.random.default_rng(seed)
    recency, count = rng.exponential(60, n), rng.poisson(4, n) + 1.0
    y = (rng.random(n) < sigmoid(1.0 - 0.03 * recency + 0.2 * count)).astype(np.int8)
    return pd.DataFrame({"days_since_buy": recency, "count_buy": count, "days_since_first_buy": recency + 100}), y


def test_baselines_learn_only_from_the_past_and_find_the_way_recency_points() -> None:
    past, y = shop(4_000, 0)
    now, then = shop(4_000, 1)
    found = ev.baselines(past, y, now, ev.rfm_columns(list(past)))
    assert found["base rate"].probability is not None and set(found["base rate"].probability) == {y.mean()}
    assert ev.auc(then, found["base rate"].rank) == 0.5
    assert ev.auc(then, found["logistic RFM"].rank) > ev.auc(then, found["recency"].rank) > 0.7
    churn = ev.baselines(past, 1 - y, now, ev.rfm_columns(list(past)))
    assert ev.auc(1 - then, churn["recency"].rank) > 0.7


def test_baselines_take_missing_values() -> None:
    past, y = shop(500, 0)
    past.loc[:99, "days_since_first_buy"] = np.nan
    for forecast in ev.baselines(past, y, past, list(past)).values():
        assert np.isfinite(forecast.rank).all()


def test_rfm_columns_belong_to_the_event_that_is_predicted() -> None:
    names = ["days_since_view", "count_view", "days_since_order", "days_since_first_order", "count_order", "sum_value_order", "sum_value_order_30d"]
    assert ev.rfm_columns(names, "order") == ["days_since_order", "count_order", "sum_value_order", "days_since_first_order"]
    assert ev.rfm_columns(names) == ["days_since_view", "count_view"]
    assert ev.rfm_columns(["count_order"]) == []


# --- pictures


@pytest.mark.parametrize("extreme", [False, True])
def test_pictures_are_png_and_the_same_each_time(extreme: bool) -> None:
    rng = np.random.default_rng(0)
    y = (rng.random(300) < 0.4).astype(np.int8)
    rank = np.zeros(300) if extreme else rng.normal(size=300)
    found = ev.evaluate(y, Forecast(rank, sigmoid(rank)), {"recency": Forecast(rng.normal(size=300))}, resamples=20)
    importance = {} if extreme else {f"feature_{i}_of_a_name_that_is_much_longer_than_others_{i}": 1.0 / (i + 1) for i in range(30)}
    first, again = (draw(found, importance, y, rank, "a test") for _ in range(2))
    assert first == again
    assert set(first) == {"gain.png", "calibration.png", "importance.png"}
    for picture in first.values():
        assert picture.startswith(b"\x89PNG") and b"tEXtSoftware" not in picture
