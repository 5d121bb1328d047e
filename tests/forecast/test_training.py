"""Training on worlds whose truth is known: what it refuses, what it may look at, and that it is the same twice."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predseg.errors import LabelError, UsageError
from predseg.forecast import evaluation as ev
from predseg.forecast import training
from predseg.forecast.aims import PROBABILITY
from predseg.forecast.fitting import choose_calibration, fit_isotonic, fit_linear, fit_sigmoid
from predseg.forecast.forecaster import Array, Forecaster, encode, sigmoid
from predseg.forecast.sampling import Sample, check_labels, choose_cutoffs, levels, sample_customers, weights
from predseg.forecast.training import Settings, Trained, train
from predseg.language.time import DAY

H = 30 * DAY
AS_OF = 300 * DAY
CUTOFFS = [AS_OF - k * H for k in range(6, 0, -1)]
SETTINGS = Settings(horizon=H, as_of=AS_OF, rounds=150)


def truth(table: pd.DataFrame) -> Array:
    return np.asarray(0.5 - 0.03 * table["recency"] + 0.8 * (table["count"] > 3) - 1.0 * (table["country"] == "FR"))


def world(customers: int = 300, seed: int = 0, cutoffs: list[int] = CUTOFFS) -> Sample:
    """Rows whose probability is `truth`."""
    rng = np.random.default_rng(seed)
    n = customers * len(cutoffs)
    table = pd.DataFrame({"recency": rng.exponential(30, n), "count": rng.poisson(3, n).astype(float), "noise": rng.normal(size=n)})
    table["country"] = pd.Categorical(rng.choice(["DE", "FR", "GB"], n))
    table.loc[rng.random(n) < 0.1, "noise"] = np.nan
    y = (rng.random(n) < sigmoid(truth(table))).astype(np.int8)
    ids = np.array([f"c{i:05d}" for i in range(customers)], dtype=object)
    return Sample(table, y, np.repeat(np.array(cutoffs, dtype=np.int64), customers), np.tile(ids, len(cutoffs)))


@pytest.fixture(scope="module")
def trained() -> Trained:
    return train(world(), SETTINGS)


# --- cutoffs


@given(st.integers(1, 900), st.integers(1, 200), st.integers(1, 15) | st.none(), st.integers(1, 60) | st.none())
def test_cutoffs_leave_room_before_and_after_the_gap(span: int, horizon: int, wanted: int | None, every: int | None) -> None:
    as_of, h = span * DAY, horizon * DAY
    try:
        found = choose_cutoffs(0, as_of, as_of, h, wanted, every * DAY if every else None)
    except LabelError as refused:
        assert refused.code == "E504" and (span < 3.5 * horizon + 14 or every is not None)
        return
    assert found == sorted(set(found)) and found[-1] == as_of - h, "the last complete horizon is the test"
    learned = [c for c in found if c + h <= found[-1]]
    assert 1 <= len(learned) <= (wanted or 12), "a cutoff a horizon before the test"
    assert found[0] >= min(h, 7 * DAY), "some history before the first"
    if every:
        assert set(np.diff(found)) <= {every * DAY}


def test_a_long_history_gives_twelve_cutoffs_before_the_gap() -> None:
    found = choose_cutoffs(0, 3_000 * DAY, 3_000 * DAY, 90 * DAY)
    assert len(found) == 12 + 3 and set(np.diff(found)) == {30 * DAY}


def test_a_horizon_past_the_end_of_the_data_is_refused() -> None:
    assert choose_cutoffs(0, 300 * DAY, 303 * DAY, H)[-1] == 273 * DAY
    with pytest.raises(LabelError, match=r"E503.*last event is of 1970-10-28T00:00Z, 4 days before as_of") as refused:
        choose_cutoffs(0, 300 * DAY, 304 * DAY, H)
    assert "--as-of 1970-10-28T00:00Z" in refused.value.help
    assert choose_cutoffs(0, 300 * DAY, 301 * DAY, 5 * DAY)
    with pytest.raises(LabelError, match="E503"):
        choose_cutoffs(0, 300 * DAY, 301 * DAY + 1, 5 * DAY)


def test_too_short_a_history_is_refused_with_the_longest_horizon_that_works() -> None:
    with pytest.raises(LabelError, match=r"E504.*found 100\.0 days") as refused:
        choose_cutoffs(0, 100 * DAY, 100 * DAY, 60 * DAY)
    assert "within_next: 40 days" in refused.value.help
    assert choose_cutoffs(0, 100 * DAY, 100 * DAY, 40 * DAY)


# --- labels


@pytest.mark.parametrize(("positives", "rows", "code"), [(0, 900, "E501"), (900, 900, "E501"), (49, 900, "E502"), (851, 900, "E502"), (0, 0, "E505")])
def test_labels_that_teach_nothing_are_refused_with_numbers_and_remedy(positives: int, rows: int, code: str) -> None:
    with pytest.raises(LabelError) as refused:
        check_labels(np.repeat([1, 0], [positives, rows - positives]), "labels")
    assert refused.value.code == code and refused.value.help
    assert rows == 0 or str(rows) in refused.value.message


@pytest.mark.parametrize(("positives", "rows"), [(50, 100), (50, 900), (850, 900)])
def test_fifty_of_either_are_enough(positives: int, rows: int) -> None:
    check_labels(np.repeat([1, 0], [positives, rows - positives]), "labels")


def test_training_refuses_one_answer_in_the_past_although_the_test_has_both() -> None:
    sample = world()
    sample.y[sample.cutoff < CUTOFFS[-1]] = 0
    with pytest.raises(LabelError, match=r"E501.*training labels: all 1,500 are 0"):
        train(sample, SETTINGS)


def test_training_refuses_a_label_that_ends_after_as_of() -> None:
    with pytest.raises(LabelError, match="E503"):
        train(world(), replace(SETTINGS, as_of=AS_OF - 1))


def test_training_refuses_cutoffs_without_a_gap_and_nobody() -> None:
    with pytest.raises(LabelError, match="E504"):
        train(world(cutoffs=[AS_OF - H - DAY, AS_OF - H]), SETTINGS)
    with pytest.raises(LabelError, match="E505"):
        train(world().take(np.zeros(1800, dtype=bool)), SETTINGS)


# --- what is learned from what


def test_roles_of_cutoffs_and_no_label_passes_the_test() -> None:
    sample = world(cutoffs=[AS_OF - H - k * 10 * DAY for k in range(8, -1, -1)])
    found = train(sample, SETTINGS)
    assert [c["role"] for c in found.cutoffs] == ["train"] * 6 + ["gap"] * 2 + ["test"]
    assert found.learned.cutoff.max() + H <= found.test.cutoff.min()
    assert found.chosen.folds[0] == found.test.cutoff[0], "the champion may choose on the last cutoff, the tested model may not"
    assert sum(c["rows"] for c in found.cutoffs) == len(sample)


def test_the_tested_model_knows_nothing_of_the_test_or_the_gap(trained: Trained) -> None:
    sample = world()
    other = sample.y.copy()
    other[sample.cutoff + H > CUTOFFS[-1]] ^= 1
    changed = train(replace(sample, y=other), SETTINGS)
    held = sample.take(sample.cutoff == CUTOFFS[-1]).X
    assert changed.tested.probability(held).tobytes() == trained.tested.probability(held).tobytes()
    assert (changed.forecaster.probability(held) != trained.forecaster.probability(held)).any(), "the champion does know"


def test_folds_never_learn_from_labels_of_their_future() -> None:
    found = training.folds(world(cutoffs=[AS_OF - H - k * 10 * DAY for k in range(12, -1, -1)]), SETTINGS)
    assert len(found) == 3
    for pair in found:
        assert len(set(pair.future.cutoff)) == 1 and pair.past.cutoff.max() + H <= pair.future.cutoff[0]


def test_same_sample_and_seed_same_bytes_whatever_the_threads_and_the_order_of_rows(trained: Trained) -> None:
    sample = world()
    order = np.random.default_rng(9).permutation(len(sample))
    held = trained.test.X
    again = train(sample.take(order), replace(SETTINGS, params={"num_threads": 2}))
    other = train(sample, replace(SETTINGS, seed=1))
    assert again.forecaster.probability(held).tobytes() == trained.forecaster.probability(held).tobytes()
    assert again.forecaster.boosters[0].dump_model()["tree_info"] == trained.forecaster.boosters[0].dump_model()["tree_info"]
    assert other.forecaster.probability(held).tobytes() != trained.forecaster.probability(held).tobytes()


def test_it_ranks_nearly_as_well_as_the_truth_and_is_calibrated(trained: Trained) -> None:
    fresh = world(2_000, seed=5, cutoffs=[AS_OF])
    best = ev.auc(fresh.y, truth(fresh.X))
    for forecaster in (trained.tested, trained.forecaster):
        p = forecaster.probability(fresh.X)
        assert ev.auc(fresh.y, forecaster.raw(fresh.X)) > best - 0.02
        assert ev.calibration_error(fresh.y, p) < 0.06
        assert np.mean(np.abs(p - sigmoid(truth(fresh.X)))) < 0.08


def test_with_many_rows_the_champion_takes_what_the_tested_model_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "FEW_ROWS", 1_000)
    found = train(world(), replace(SETTINGS, rows=700, params={"num_threads": 1}))
    assert found.chosen.folds and max(found.chosen.folds) < found.test.cutoff[0]
    assert found.forecaster.calibration == found.tested.calibration
    assert ev.auc(found.test.y, found.tested.raw(found.test.X)) > 0.65


def test_the_linear_member_may_not_cost_ranks() -> None:
    """Trees that order well and say too much: whatever tames them has less loss, but only what keeps their order gets a share."""
    rng = np.random.default_rng(0)
    logit = rng.normal(0, 1, 4_000)
    y, noise = (rng.random(4_000) < sigmoid(logit)).astype(np.int8), rng.normal(0, 1, 4_000)
    tame, blurred = [(3 * logit, (0 * logit,), y)], [(3 * logit, (0.7 * noise,), y)]
    assert [training._share(tame, PROBABILITY, (share, 0.0)) for share in (0.25, 0.5)] == [(0.25, 0), (0.5, 0)]
    losses = [PROBABILITY.shifted_loss(y, (1 - s) * 3 * logit + s * 0.7 * noise) for s in (0.0, 0.5)]
    assert losses[1] < losses[0] and training._share(blurred, PROBABILITY, (0.0, 0.25, 0.5)) == (0.0, 0)
    both = [(0.2 * logit + noise, (noise, 2 * logit), y)]
    assert training._share(both, PROBABILITY, (0.0, 0.25, 0.5)) == (0.5, 1), "the member that knows more"


def test_only_the_named_features_are_learned_from(trained: Trained) -> None:
    found = train(world(), replace(SETTINGS, features=("count", "recency"))).forecaster
    assert found.features == ("count", "recency") and found.categories == {}
    assert trained.forecaster.features == ("recency", "count", "noise", "country")
    assert trained.forecaster.categories == {"country": ("DE", "FR", "GB")}


def test_names_that_trees_refuse_are_no_obstacle() -> None:
    sample = world()
    table = sample.X.rename(columns={"recency": 'days {since} "order", [x]: é'})
    found = train(replace(sample, X=table), SETTINGS)
    assert ev.auc(found.test.y, found.tested.raw(found.test.X)) > 0.6


def test_without_an_older_cutoff_the_defaults_are_used() -> None:
    found = train(world(cutoffs=[AS_OF - 2 * H, AS_OF - H]), replace(SETTINGS, rounds=500))
    assert found.chosen.folds == (CUTOFFS[-1],)
    _, chosen = training.fit(world(cutoffs=[AS_OF - H]), SETTINGS)
    assert chosen.folds == () and chosen.calibration.kind == "identity" and chosen.rounds == 150


# --- tuning


def test_tuning_is_seeded_and_starts_from_the_defaults() -> None:
    pytest.importorskip("optuna")
    first, again = (train(world(150), replace(SETTINGS, tune=2, rounds=20)) for _ in range(2))
    assert first.chosen.params == again.chosen.params
    held = first.test.X
    assert first.forecaster.raw(held).tobytes() == again.forecaster.raw(held).tobytes()
    one = train(world(150), replace(SETTINGS, tune=1, rounds=20))
    plain = train(world(150), replace(SETTINGS, rounds=20))
    assert one.forecaster.raw(held).tobytes() == plain.forecaster.raw(held).tobytes()


def test_tuning_without_optuna_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UsageError, match=r"E224.*Optuna.*\n.*predseg\[tune\]"):
        train(world(150), replace(SETTINGS, tune=1))


# --- parts


def test_weights_halve_in_about_two_years() -> None:
    assert weights(np.array([0, 690 * DAY])) == pytest.approx([0.5, 1.0], abs=0.01)


def test_a_sample_of_customers_holds_all_their_moments_and_about_the_rows_asked_for() -> None:
    sample = world(2_000)
    part = sample_customers(sample, 3_000)
    assert abs(len(part) - 3_000) < 400
    assert set(np.unique(part.customer, return_counts=True)[1]) == {6}
    assert sample_customers(sample, len(sample)) is sample


def test_levels_are_the_most_frequent_ties_by_name() -> None:
    table = pd.DataFrame({"t": [f"l{i:02d}" for i in range(60)] + ["zz", "zz", None], "n": 1.0})
    assert levels(table) == {"t": tuple([f"l{i:02d}" for i in range(49)] + ["zz"])}


def drawn(n: int, slope: float, intercept: float, seed: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    raw = rng.normal(-1, 1.5, n)
    return raw, (rng.random(n) < sigmoid(slope * raw + intercept)).astype(np.int8)


def test_sigmoid_calibration_finds_slope_and_intercept() -> None:
    found = fit_sigmoid(*drawn(100_000, 0.6, 0.4, 0))
    assert (found.slope, found.intercept) == pytest.approx((0.6, 0.4), abs=0.03)
    assert fit_sigmoid(np.linspace(-1, 1, 10), np.repeat([1, 0], 5)).slope > 0, "a calibration never turns the ranking round"


def test_isotonic_calibration_follows_a_curve_and_stays_off_zero_and_one() -> None:
    raw = np.linspace(-3, 3, 20_000)
    y = (np.random.default_rng(0).random(20_000) < np.where(raw > 0, 0.9, 0.1)).astype(np.int8)
    found = fit_isotonic(raw, y)
    assert found.apply(np.array([-2.0, 2.0])) == pytest.approx([0.1, 0.9], abs=0.03)
    assert min(found.y) > 0 and max(found.y) < 1


def test_calibration_moves_by_a_share_of_what_older_cutoffs_say() -> None:
    off = [drawn(20_000, 1.4, 0.8, seed) for seed in range(3)]
    found = choose_calibration([(raw[:4_000], y[:4_000]) for raw, y in off])
    assert found.kind == "sigmoid" and found.slope == pytest.approx(1 + 0.4 * 3 / 8, abs=0.03)
    assert 0.1 < found.intercept < 0.5
    turning = choose_calibration([drawn(4_000, 1.0, shift, seed) for seed, shift in enumerate((-0.5, 0.5))])
    assert (turning.slope, turning.intercept) == pytest.approx((1.0, 0.0), abs=0.05), "errors that turn are not carried forward"
    assert choose_calibration(off[:1]).kind == choose_calibration([]).kind == "identity", "one cutoff shows no habit"


def test_a_curve_needs_many_rows_and_to_have_helped_each_time() -> None:
    def bent(seed: int, rows: int) -> tuple[Array, Array]:
        rng = np.random.default_rng(seed)
        raw = rng.uniform(-3, 3, rows)
        return raw, (rng.random(rows) < np.where(raw > 0, 0.8, 0.3)).astype(np.int8)

    assert choose_calibration([bent(seed, 8_000) for seed in range(3)]).kind == "isotonic"
    assert choose_calibration([bent(seed, 2_000) for seed in range(3)]).kind == "sigmoid"
    assert choose_calibration([drawn(8_000, 1.0, 0.0, seed) for seed in range(3)]).kind == "sigmoid"


def test_linear_member_is_the_logistic_regression_that_scikit_learn_fitted() -> None:
    sample = world(500, cutoffs=CUTOFFS[:2])
    names = ["recency", "count", "noise", "country"]
    kinds: dict[str, Any] = levels(sample.X)
    member, _ = fit_linear(sample, encode(sample.X, names, kinds), names, kinds)
    assert member.columns == ("recency", "count", "noise")
    raw = Forecaster(tuple(names), (), kinds, member).raw(sample.X)
    assert sigmoid(raw).mean() == pytest.approx(np.average(sample.y, weights=weights(sample.cutoff)), abs=0.02)
    assert ev.auc(sample.y, raw) > 0.65 and dict(zip(member.columns, member.coefs, strict=True))["recency"] < 0


def test_what_all_customers_of_a_cutoff_share_is_not_taken_for_a_difference_between_them() -> None:
    """Every other cutoff is a busy one, and a column that tells nothing within a cutoff tells which: neither member heeds it, both speak of the newest level."""
    cutoffs = [k * H for k in range(1, 9)]
    sample = world(1_000, 5, cutoffs)
    rng = np.random.default_rng(0)
    busy = sample.cutoff / H % 2 == 0
    raw = truth(sample.X) + np.where(busy, 1.5, -1.5)
    sample = replace(sample, X=sample.X.assign(tells=busy + rng.normal(size=len(sample))), y=(rng.random(len(sample)) < sigmoid(raw)).astype(np.int8))
    names, kinds = [*map(str, sample.X.columns)], levels(sample.X)
    linear, level = fit_linear(sample, encode(sample.X, names, kinds), names, kinds)
    assert level[busy].mean() - level[~busy].mean() == pytest.approx(3, abs=0.4) and linear.intercept == level[-1]
    forecaster, _ = training.fit(sample, Settings(horizon=H, as_of=9 * H, rounds=80))
    trees = replace(forecaster, blend=0.0, linear=None)
    newest = sample.take(sample.cutoff == cutoffs[-1])
    for member in (trees, Forecaster(tuple(names), (), kinds, linear)):
        said = member.raw(newest.X)
        assert abs(np.polyfit(newest.X["tells"], said - truth(newest.X), 1)[0]) < 0.06
        assert sigmoid(said).mean() == pytest.approx(newest.y.mean(), abs=0.03)


def test_the_season_of_the_last_year_is_expected_again() -> None:
    """A world whose level fell by one in the logit at one time of the year: the forecast of that time expects it again, of others not."""
    cutoffs = [k * H for k in range(1, 15)]
    low = 3 * H
    sample = world(400, 3, cutoffs)
    rng = np.random.default_rng(0)
    y = (rng.random(len(sample)) < sigmoid(truth(sample.X) - 1.5 * (sample.cutoff == low))).astype(np.int8)
    sample = replace(sample, y=y)
    level = {}
    for as_of in (low + 365 * DAY, low + 365 * DAY + 2 * H):
        forecaster, chosen = training.fit(sample, Settings(horizon=H, as_of=as_of, rounds=60))
        level[as_of] = chosen.season
        plain = chosen.calibration.apply(forecaster.raw(sample.X[:400]))
        assert np.sign((forecaster.probability(sample.X[:400]) - plain).mean()) == np.sign(chosen.season)
    assert level[low + 365 * DAY] < -0.6 and abs(level[low + 365 * DAY + 2 * H]) < 0.25


def test_without_a_year_no_season_is_guessed(trained: Trained) -> None:
    assert trained.chosen.season is None


def test_the_level_of_a_fold_does_not_choose_the_trees() -> None:
    """All labels of the newest cutoffs are rarer: the number of trees stays, where the plain loss would stop at once."""
    sample = world(400, 5)
    rare = replace(
        sample, y=np.where((sample.cutoff > CUTOFFS[2]) & (np.random.default_rng(1).random(len(sample)) < 0.6), 0, sample.y).astype(np.int8)
    )
    kept = training.choose(rare, SETTINGS, levels(rare.X))
    assert kept.rounds > 100, "by the plain loss it would be 70"


def test_few_customers_may_leave_the_forecast_to_the_linear_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The truth of `few` is linear in the logs and there are 60 customers: the trees have nothing to add."""
    rng = np.random.default_rng(0)
    few = world(60, 2)
    raw = 2.0 - 1.2 * np.log1p(few.X["recency"].to_numpy())
    few = replace(few, y=(rng.random(len(few)) < sigmoid(raw + 1)).astype(np.int8))
    assert training.choose(few, SETTINGS, levels(few.X)).blend == 1.0
    monkeypatch.setattr(training, "folds", lambda *_: [])
    assert training.choose(few, SETTINGS, levels(few.X)).blend == 1.0 and training.choose(world(1_100), SETTINGS, {}).blend < 1.0
