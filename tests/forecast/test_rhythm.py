"""The customer's own rhythm: the law against its definition, fitted on customers who live by it, and carried through a bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from predseg.forecast import bundle
from predseg.forecast.reasons import say_feature
from predseg.forecast.rhythm import Rhythm, alive, fit_rhythm
from predseg.forecast.training import Settings, train
from predseg.language.time import DAY
from tests.forecast.test_training import AS_OF, CUTOFFS, H, world

LAW = Rhythm("order", 1.5, 40.0, 0.8, 3.0, 30.0)


def lives(customers: int, law: Rhythm, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Features at one moment of customers who live by the law; who is still one; who orders in the horizon."""
    rng = np.random.default_rng(seed)
    rows, here, orders = [], [], []
    for _ in range(customers):
        age, rate, leaves = rng.uniform(30, 700), rng.gamma(law.r, 1 / law.alpha), rng.beta(law.a, law.b)
        last, count, stays = 0.0, 1, True
        while stays:
            gap = rng.exponential(1 / rate)
            if last + gap > age:
                break
            last, count = last + gap, count + 1
            stays = rng.random() > leaves
        rows.append((age - last, age, float(count)))
        here.append(stays)
        orders.append(stays and rng.exponential(1 / rate) < law.days)
    return pd.DataFrame(rows, columns=list(law.sources)), np.array(here), np.array(orders)


def test_a_law_is_found_again_in_those_who_live_by_it() -> None:
    frame, here, orders = lives(4_000, LAW)
    found = fit_rhythm(frame, "order", 30 * DAY)
    assert found is not None and found.r == pytest.approx(1.5, rel=0.15) and found.alpha == pytest.approx(40, rel=0.2)
    said = found.extend(frame)
    assert said["alive_order"].mean() == pytest.approx(here.mean(), abs=0.02)
    chance = 1 / (1 + np.exp(-said["expected_order"]))
    assert chance.mean() == pytest.approx(orders.mean(), abs=0.02)
    for part in np.array_split(np.argsort(chance.to_numpy()), 5):
        assert chance.to_numpy()[part].mean() == pytest.approx(orders[part].mean(), abs=0.05)


def test_a_first_order_gets_the_pace_of_the_population() -> None:
    said = LAW.extend(pd.DataFrame({"days_since_order": [0.0, np.nan], "days_since_first_order": [0.0, np.nan], "count_order": [1.0, 0.0]}))
    assert said["pace_order"][0] == pytest.approx(1.5 / 40) and said["alive_order"][0] == 1 and said.iloc[1, 3:].isna().all()
    late = alive(np.array([5.0]), np.array([50.0]), np.array([50.0 + 400]), LAW.r, LAW.alpha, LAW.a, LAW.b)
    assert late[0] < 0.01, "who came every ten days and is silent for a year has left"


def test_without_its_columns_or_customers_there_is_none() -> None:
    frame, _, _ = lives(50, LAW)
    assert fit_rhythm(frame, "order", H) is None and fit_rhythm(frame.drop(columns="count_order"), "order", H) is None
    assert fit_rhythm(lives(300, LAW)[0], "", H) is None
    bare = pd.DataFrame({"a": [1.0]})
    assert LAW.extend(bare) is bare


def test_a_model_with_a_rhythm_comes_back_from_its_bundle(tmp_path: Path) -> None:
    sample = world(300)
    frame, _, _ = lives(len(sample), LAW)
    sample.X[list(frame.columns)] = frame.to_numpy()
    trained = train(sample, Settings(horizon=H, as_of=AS_OF, rounds=40, event="order"))
    model = trained.forecaster
    assert model.rhythm is not None and model.features[-3:] == model.rhythm.names and not set(model.rhythm.names) & set(model.inputs)
    folder = bundle.save(model, tmp_path, name="m", version=1, facts={}, card="")
    fresh = sample.X.iloc[: 300 * len(CUTOFFS) : 7]
    assert bundle.load(folder).forecaster.probability(fresh).tobytes() == model.probability(fresh).tobytes()
    assert np.allclose(model.contributions(fresh).sum(axis=1) + model.base_value(), model.raw(fresh))


def test_its_reasons_are_words() -> None:
    says = LAW.declare("Order Completed")
    assert say_feature("alive_order", 0.93, says)[0] == "93% likely still a customer, by the own rhythm of Order Completed,"
    assert say_feature("pace_order", 0.04, says)[0] == "a usual pace of 1.2 Order Completed in 30 days"
    assert say_feature("expected_order", 0.0, says)[0] == "50% likely Order Completed, by the own rhythm alone,"
