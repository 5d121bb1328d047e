"""Drift: nothing moves by chance, what moves is seen, and labels decide what to do about it."""

from __future__ import annotations

import numpy as np
import pytest

from predseg.forecast.drift import Advice, Matured, Move, compare, matured, matured_value, psi, recommend, reference
from tests.forecast import tiny

PROMISED = (0.75, 0.80)


def test_without_drift_the_index_keeps_to_its_law() -> None:
    """Five of a hundred draws from one law have a chance below 5 %, whatever the sizes."""
    rng = np.random.default_rng(1)
    law = np.array([0.3, 0.25, 0.2, 0.15, 0.1])
    chances = []
    for _ in range(800):
        shares = rng.multinomial(800, law) / 800
        chances.append(psi(shares, 800, rng.multinomial(3_000, law))[1])
    assert 0.03 < np.mean(np.array(chances) < 0.05) < 0.075


def test_small_samples_do_not_cry_wolf() -> None:
    value, chance = psi(np.full(10, 0.1), 60, np.random.default_rng(0).multinomial(60, np.full(10, 0.1)))
    assert value > 0.1 and chance > 0.001, "a large index of few rows is chance"


def remembered() -> dict:
    frame = tiny.customers(3_000, 1)
    return reference(tiny.forecaster(), frame, {"days_since_order_completed": 3.0, "trait_country": 1.0}, PROMISED)


def test_the_same_law_does_not_move_and_another_does() -> None:
    model = tiny.forecaster()
    rows, moves = compare(model, remembered(), [tiny.customers(1_000, 2), tiny.customers(1_000, 3)])
    assert rows == 2_000 and [m.name for m in moves][0] == "score" and not any(m.moved for m in moves)
    late = tiny.customers(2_000, 4).assign(days_since_order_completed=lambda f: f["days_since_order_completed"] + 60)
    _, moves = compare(model, remembered(), [late])
    assert [m.name for m in moves if m.moved] == ["score", "days_since_order_completed"]
    assert moves[1].weight == 0.75 and recommend(moves, [], 1, PROMISED).word == "retrain"
    gone = tiny.customers(2_000, 4).assign(trait_country=None)
    assert [m.name for m in compare(model, remembered(), [gone])[1] if m.moved] == ["trait_country"], "missing is a value"


def run(auc_bent: float = 0.0, shift: float = 0.0, rows: int = 2_000, version: int = 1) -> Matured:
    rng = np.random.default_rng(3)
    p = rng.beta(1, 2, rows)
    y = (rng.random(rows) < np.clip(p + shift, 0, 1)).astype(int)
    noise = rng.normal(0, auc_bent, rows) if auc_bent else 0.0
    return matured(0, version, y, p, p + noise)


def test_labels_decide() -> None:
    moved = [Move("score", 0.5, 0.0, 1.0), Move("a", 0.9, 0.0, 1.0)]
    assert recommend(moved, [run()], 1, PROMISED).word == "nothing", "forecasts that come true are no reason, whatever moved"
    assert "without harm so far: a" in recommend(moved, [run()], 1, PROMISED).reason
    assert recommend([], [run(auc_bent=1.0)], 1, PROMISED).word == "retrain"
    assert recommend([], [run(shift=0.1)], 1, PROMISED) == Advice("recalibrate", recommend([], [run(shift=0.1)], 1, PROMISED).reason)
    assert recommend([], [run(), run(shift=0.1)], 1, PROMISED).word == "recalibrate", "the newest counts"


def test_labels_of_another_version_or_too_few_decide_nothing() -> None:
    assert "matured yet" in recommend([], [run(auc_bent=1.0, version=2)], 1, PROMISED).reason
    assert "matured yet" in recommend([], [run(auc_bent=1.0, rows=100)], 1, PROMISED).reason


@pytest.mark.parametrize(("shift", "said"), [(-1.0, "nobody"), (1.0, "everybody")])
def test_what_was_expected_and_is_not_there_is_said(shift: float, said: str) -> None:
    """Orders that stopped coming in were too few of a kind to say anything, and an older run that came true spoke for the model."""
    gone = run(shift=shift)
    assert gone.enough and gone.off and np.isnan(gone.auc)
    found = recommend([], [run(), gone], 1, PROMISED)
    assert found.word == "retrain" and f"it came true of {said}" in found.reason
    assert not run(rows=20).enough and not matured(0, 1, np.zeros(2_000), np.full(2_000, 0.01), np.arange(2_000)).enough, "20 were expected"


@pytest.mark.filterwarnings("error")
def test_a_run_of_values_of_which_nothing_came_is_no_warning_of_a_library() -> None:
    found = matured_value(0, 1, np.zeros(100), np.linspace(1, 5, 100), np.arange(100))
    assert (found.came, found.positives, found.enough) == (0.0, 0, False)
    assert found.calibration_error == 1, "all that was said is missing"


def test_value_that_was_expected_and_is_not_there_is_said() -> None:
    """300 were expected in all: of 60 customers with 5 each, or of 3 with 100 each, of whom nobody need have come."""
    quiet = [matured_value(0, 1, np.zeros(100), np.linspace(1, 5, 100), np.arange(100), each=each) for each in (5.0, 100.0)]
    assert [run.enough for run in quiet] == [True, False] and quiet[0].expected == 60 and quiet[0].off
    found = recommend([], [came(), quiet[0]], 1, PROMISED)
    assert found.word == "retrain" and "nothing came, said were 3.00 each" in found.reason
    assert recommend([], [came(), quiet[1]], 1, PROMISED).word == "nothing", "the run before speaks"
    assert recommend([], [came(), came(share=0.1)], 1, PROMISED).word == "recalibrate"


def came(share: float = 1.0) -> Matured:
    """A run of 2,000 expected values; so much of them came, as ranked."""
    rng = np.random.default_rng(1)
    expected = rng.gamma(0.5, 20.0, 2_000)
    y = np.where(rng.random(2_000) < 0.3, expected / 0.3 * share, 0.0)
    return matured_value(0, 1, y, expected, expected, each=30.0)


def test_right_probabilities_are_rarely_called_off() -> None:
    rng = np.random.default_rng(0)
    p = rng.random((200, 500))
    chances = [matured(0, 1, (rng.random(500) < row).astype(int), row, row).chance for row in p]
    assert 0.01 < np.mean(np.array(chances) < 0.05) < 0.1


@pytest.mark.parametrize("counts", [np.zeros(3), np.array([5, 0, 0])])
def test_nothing_to_compare_is_no_move(counts: np.ndarray) -> None:
    assert psi(np.array([1.0, 0, 0]), 100, counts) == (0.0, 1.0)
