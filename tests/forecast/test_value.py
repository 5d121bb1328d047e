"""Expected values: the measures against their definitions, learning on a world whose means are known, and rules on the result."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import mean_tweedie_deviance, roc_auc_score

from predseg import Project
from predseg.config import parse
from predseg.errors import LabelError
from predseg.forecast import value
from predseg.forecast.aims import POWER, VALUE, log_shift, tweedie_loss
from predseg.forecast.evaluation import Forecast
from predseg.forecast.gate import gate
from predseg.forecast.sampling import Sample, check_labels
from predseg.forecast.training import Settings, Trained, train
from predseg.language.time import DAY
from predseg.segments.facts import units
from tests import small

H, AS_OF = 30 * DAY, 300 * DAY
CUTOFFS = [AS_OF - k * H for k in range(7, 0, -1)]
SPEND = "  spend: {predict: {did: Order Completed, sum: value, within_next: 20 days}, cutoffs: 4}\n"


def world(customers: int = 400, seed: int = 0) -> tuple[Sample, np.ndarray]:
    """Rows and their true means: many zeros, a heavy tail."""
    rng = np.random.default_rng(seed)
    n = customers * len(CUTOFFS)
    table = pd.DataFrame({"recency": rng.exponential(30, n), "past": rng.gamma(1, 100, n), "noise": rng.normal(size=n)})
    chance, size = np.exp(-table["recency"].to_numpy() / 40) * 0.8, 20 + table["past"].to_numpy()
    y = (rng.random(n) < chance) * rng.lognormal(np.log(size) - 0.32, 0.8)
    ids = np.tile(np.array([f"c{i:04d}" for i in range(customers)], dtype=object), len(CUTOFFS))
    return Sample(table, y, np.repeat(np.array(CUTOFFS, np.int64), customers), ids), chance * size


@pytest.fixture(scope="module")
def trained() -> Trained:
    return train(world()[0], Settings(horizon=H, as_of=AS_OF, rounds=150, value=True))


def test_gini_of_two_answers_is_that_of_the_auc() -> None:
    rng = np.random.default_rng(0)
    y, rank = (rng.random(300) < 0.3).astype(float), np.round(rng.normal(size=300), 1)
    assert value.gini(y, rank) == pytest.approx(2 * roc_auc_score(y, rank) - 1)


def test_gini_weighs_by_money() -> None:
    y = np.array([100.0, 1.0, 0.0, 0.0])
    assert value.gini(y, np.array([4.0, 3.0, 2.0, 1.0])) == 1 and value.gini(y, np.array([1.0, 4.0, 3.0, 2.0])) < -0.9
    assert value.gini(y, np.zeros(4)) == 0


def test_deviance_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    y, said = np.maximum(rng.normal(5, 9, 200), 0), rng.gamma(2, 3, 200) + 0.1
    assert value.deviance(y, said) == pytest.approx(mean_tweedie_deviance(y, said, power=POWER))
    assert tweedie_loss(y, np.log(y + 0.01)) < tweedie_loss(y, np.log(said)), "the truth loses least"


def test_the_shift_makes_the_means_equal() -> None:
    y, raw = np.array([0.0, 10.0, 50.0]), np.array([0.0, 1.0, 2.0])
    assert np.exp(raw + log_shift(y, raw)).mean() == pytest.approx(y.mean())
    assert VALUE.shifted_loss(y, raw) == pytest.approx(VALUE.shifted_loss(y, raw + 3)), "the level is not judged"


def test_the_model_comes_close_to_the_true_means(trained: Trained) -> None:
    fresh, truth = world(2_000, 9)
    said = trained.forecaster.probability(fresh.X)
    assert trained.forecaster.predicts_value and (said == np.round(said, 4)).all() and (said >= 0).all()
    assert value.gini(fresh.y, said) > 0.93 * value.gini(fresh.y, truth)
    found = value.evaluate(fresh.y, Forecast(said, said), {"truth": Forecast(truth, truth), "mean": Forecast(truth * 0, truth * 0 + truth.mean())})
    assert found["model"]["off"] < 0.2 and abs(found["model"]["bias"]) < 0.15
    assert found["better"]["mean"]["gini"][0] > 0.2 and found["better"]["truth"]["gini"][0] < 0


def test_the_same_twice(trained: Trained) -> None:
    again = train(world()[0], Settings(horizon=H, as_of=AS_OF, rounds=150, value=True))
    fresh = world(50, 3)[0].X
    assert again.forecaster.raw(fresh).tobytes() == trained.forecaster.raw(fresh).tobytes()


def test_a_forecast_beaten_by_the_pace_of_the_past_is_poor() -> None:
    fresh, truth = world(1_000, 4)
    blurred = truth * np.exp(np.random.default_rng(0).normal(0, 3, len(truth)))
    found = value.evaluate(fresh.y, Forecast(blurred, blurred), {"historical mean": Forecast(truth, truth)})
    assert found["quality"] == "poor" and value.evaluate(fresh.y, Forecast(truth, truth), {})["quality"] != "poor"


def test_the_pace_of_the_past() -> None:
    test = pd.DataFrame(
        {"sum_value_order": [100.0, 60.0, np.nan], "days_since_first_order": [200.0, 3.0, np.nan], "days_since_order": [1.0, 3.0, np.nan]}
    )
    learned = Sample(test[:2], np.array([0.0, 4.0]), np.zeros(2, np.int64), np.array(["a", "b"]))
    found = value.baselines(learned, test, list(test.columns), 30 * DAY)
    assert found["mean"].probability.tolist() == [2, 2, 2] and found["historical mean"].probability.tolist() == [15, 60, 0]


def test_too_few_buyers_are_refused() -> None:
    with pytest.raises(LabelError, match=r"E502.*49 of 60 are over 0"):
        check_labels(np.array([1.0] * 49 + [0.0] * 11), "labels", value=True)
    with pytest.raises(LabelError, match=r"E501.*all 60 are 0"):
        check_labels(np.zeros(60), "labels", value=True)
    check_labels(np.full(60, 2.5), "labels", value=True)


def test_the_gate_compares_values_with_values() -> None:
    bounds = {"gini": (0.5, 0.6), "deviance": (1.0, 2.0)}
    champion = {"gini": 0.55, "deviance": 1.5, "off": 0.1}
    assert gate({"gini": 0.52, "deviance": 1.9, "off": 0.2}, champion, bounds).promoted
    assert not gate({"gini": 0.49, "deviance": 1.5, "off": 0.2}, champion, bounds).promoted
    assert not gate({"gini": 0.55, "deviance": 1.5, "off": 0.4}, champion, bounds).promoted


def test_money_of_any_size_is_compared_exactly() -> None:
    amounts = ["0.5", "1.0001", "150", "9007.1993", "123456789.1234"]
    for text in amounts:
        assert units(np.array([float(text)]))[0] == float(Decimal(text) * 10**12)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("spend")
    file = small.write(folder, config=small.CONFIG + SPEND + "segments: rules.yaml\n")
    text = "segment: big\nmatch: {score: spend, more_than: 60}\n---\nsegment: best\nmatch: {score: spend, top: 10%}\n"
    (folder / "rules.yaml").write_text(text, "utf-8")
    found = Project.load(file)
    found.train(["spend"])
    return found


def test_a_rule_compares_expected_values_as_plain_numbers(project: Project) -> None:
    scores = project.score(["spend"]).set_index("customer_id")["probability"]
    assert scores.max() > 60, "money, not a share"
    found = project.segments().run(project.moment()).spells
    members = {name: set(spells.customers) for name, spells in found.items()}
    assert members["big"] == set(scores.index[scores > 60]) and len(members["big"]) >= 20
    assert members["best"] == set(scores.nlargest(len(members["best"])).index) and len(members["best"]) == 28
    assert project.drift(["spend"])["spend"].advice.word == "nothing", "nothing drifts at the moment of training"


def test_the_statement_and_the_card_speak_of_a_value(project: Project) -> None:
    bundle = project.registry().load("spend")
    assert bundle.facts["statement"].startswith("the sum of value over Order Completed within the next 20 days")
    assert "The expected value: the sum" in bundle.card and "Gini" in bundle.card and "AUC" not in bundle.card


def test_only_a_sum_is_a_value(tmp_path: Path) -> None:
    config = parse(
        "project: p\nmodels:\n  a: {predict: {did: A, sum: value, within_next: 9 days}}\n  b: {predict: {did: A, within_next: 9 days}}\n",
        tmp_path / "p.yaml",
    )
    assert config.models["a"].value and not config.models["b"].value
