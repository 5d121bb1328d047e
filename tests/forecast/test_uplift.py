"""Uplift on simulated campaigns whose effects are known, one customer at a time."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from predseg.forecast.uplift import NOT_YET, Uplift, doubly_robust, learn_uplift, qini

ROWS = 6_000


def campaign(kind: str, rows: int = ROWS, seed: int = 0, share: float = 0.8) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Features, who got the message, the outcome, ids, and the true effect on each.

    Those with carts are moved by 20 points, those who buy anyway by nothing; ``same``: everyone by 5 points; ``none``: nobody.
    """
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"carts": rng.poisson(0.7, rows).astype(float), "recency": rng.exponential(40, rows)})
    frame["country"] = pd.Categorical(rng.choice(["DE", "FR"], rows))
    frame.loc[rng.random(rows) < 0.1, "recency"] = np.nan
    base = 0.1 + 0.4 * np.exp(-frame["recency"].fillna(40).to_numpy() / 20)
    effect = {"some": 0.2 * (frame["carts"].to_numpy() > 0), "same": np.full(rows, 0.05), "none": np.zeros(rows)}[kind]
    treated = rng.random(rows) < share
    outcome = (rng.random(rows) < base + effect * treated).astype(int)
    return frame, treated, outcome, np.array([f"c{i:05d}" for i in range(rows)]), effect


@pytest.fixture(scope="module")
def some() -> Uplift:
    return learn_uplift(*campaign("some")[:4], share=0.8)


def test_those_who_are_moved_are_found(some: Uplift) -> None:
    frame, _, _, _, effect = campaign("some", seed=7)
    assert some.model is not None and some.qini_interval[0] > 0 and "moves some more than others" in some.verdict
    said = some.model.effect(frame)
    assert np.corrcoef(said, effect)[0, 1] > 0.7
    assert said[effect > 0].mean() == pytest.approx(0.2, abs=0.06) and abs(said[effect == 0].mean()) < 0.05


def test_the_average_and_the_fifths_hold_the_truth(some: Uplift) -> None:
    effect = campaign("some")[4]
    low, high = some.average_interval
    assert low < effect.mean() < high and low > 0
    assert [f.customers for f in some.fifths] == [1200] * 5 and some.fifths[0].found > some.fifths[-1].interval[1]
    assert some.fifths[0].interval[0] < 0.2 < some.fifths[0].interval[1] + 0.05


@pytest.mark.parametrize("kind", ["same", "none"])
def test_where_all_are_moved_alike_no_ranking_is_claimed(kind: str) -> None:
    found = [learn_uplift(*campaign(kind, 3_000, seed)[:4]) for seed in range(100, 108)]
    assert sum(f.model is not None for f in found) <= 1, "2.5 % by chance; 1 of 60 when measured"
    inside = [f.average_interval[0] < (0.05 if kind == "same" else 0) < f.average_interval[1] for f in found]
    assert sum(inside) >= 6 and found[0].verdict.startswith(NOT_YET)


def test_too_few_outcomes_are_not_enough() -> None:
    frame, treated, outcome, ids, _ = campaign("some", 700, share=0.9)
    assert learn_uplift(frame, treated, outcome, ids).verdict == f"{NOT_YET}: {(~treated).sum()} customers are held out, 200 are needed"
    frame, treated, outcome, ids, _ = campaign("some", 2_000)
    rare = outcome * (np.arange(2_000) % 20 == 0)
    found = learn_uplift(frame, treated, rare, ids)
    assert found.model is None and "50 with it and 50 without" in found.verdict and np.isnan(found.qini)


def test_neither_the_order_of_the_rows_nor_a_second_run_changes_a_bit(some: Uplift) -> None:
    frame, treated, outcome, ids, _ = campaign("some")
    order = np.random.default_rng(1).permutation(ROWS)
    again = learn_uplift(frame.iloc[order], treated[order], outcome[order], ids[order], share=0.8)
    assert again.model is not None and some.model is not None
    assert again.qini == some.qini and again.model.effect(frame).tobytes() == some.model.effect(frame).tobytes()


def test_doubly_robust_scores_are_right_with_wrong_outcome_models() -> None:
    _, treated, outcome, _, effect = campaign("some", 60_000)
    wrong = np.full(60_000, 0.9)
    assert doubly_robust(wrong, wrong * 0, treated, outcome, 0.8).mean() == pytest.approx(effect.mean(), abs=0.02)


def test_qini_is_the_area_over_the_straight_line() -> None:
    score = np.array([1.0, 1.0, 0.0, 0.0])
    assert qini(np.array([4.0, 3.0, 2.0, 1.0]), score)[0] == pytest.approx(0.125)
    assert qini(np.array([1.0, 2.0, 3.0, 4.0]), score)[0] == pytest.approx(-0.125)
    assert qini(np.zeros(4), score)[0] == pytest.approx(0)
    assert qini(np.array([4.0, 3.0, 2.0, 1.0]), score, np.array([[0.0, 2, 0, 2]]))[0] == pytest.approx(0.125), "a draw counts rows"
