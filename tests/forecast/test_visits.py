"""Visits: counted by their pauses, the laws against customers who live by them, and a model that learns from them when orders are few."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from predseg.config import Features, VisitFeatures
from predseg.evaluate.block import Array
from predseg.evaluate.reference import Event
from predseg.forecast import bundle
from predseg.forecast.features import block_frame, compile_features
from predseg.forecast.reasons import declare, say_feature
from predseg.forecast.training import Settings, fit, train
from predseg.forecast.visits import Visits, fit_visits
from predseg.language.time import DAY, MINUTE
from tests.evaluate.worlds import to_block
from tests.forecast.test_training import AS_OF, CUTOFFS, H, world

LAW = Visits("order", 1.5, 15.0, 0.3, 5.0, 1.0, 20.0, 60.0)


def lives(customers: int, law: Visits = LAW, seed: int = 0) -> tuple[pd.DataFrame, Array, Array]:
    """What is known at one moment of customers who live by the laws; what each of them is like; who orders in the horizon."""
    rng = np.random.default_rng(seed)
    rows, shares, orders = [], [], []
    for _ in range(customers):
        age, rate, leaves, share = rng.uniform(100, 700), rng.gamma(law.r, 1 / law.alpha), rng.beta(law.a, law.b), rng.beta(law.hits, law.misses)
        days, stays = [0.0], True
        while stays and days[-1] < age + law.days:
            days.append(days[-1] + rng.exponential(1 / rate))
            stays = rng.random() > leaves
        ends = np.append(True, rng.random(len(days) - 1) < share)
        past, ahead = np.array(days) <= age, (np.array(days) > age) & (np.array(days) <= age + law.days)
        rows.append((past.sum(), age, age - np.array(days)[past].max(), ends[past].sum()))
        shares.append(share)
        orders.append((ends & ahead).any())
    return pd.DataFrame(np.array(rows, np.float64), columns=list(law.sources)), np.array(shares), np.array(orders)


def test_a_visit_ends_with_a_pause() -> None:
    """The third is not over; an e-mail is a sign of life, and no visit."""
    wanted = compile_features(Features(visits=VisitFeatures(("view", "buy"), 30 * MINUTE, ("open",))))
    told = {"a": [(0, "view"), (20, "buy"), (50, "view"), (120, "buy"), (290, "view"), (295, "open")], "b": [(0, "open")]}
    events = {who: [Event(minute * MINUTE, name) for minute, name in happened] for who, happened in told.items()}
    frame = block_frame(to_block(events), [300 * MINUTE], wanted).set_index("customer_id")
    assert frame.loc["a", "count_visits"] == 2 and frame.loc["a", "days_since_first_visit"] == 300 * MINUTE / DAY
    assert frame.loc["a", "days_since_sign_of_life"] == 5 * MINUTE / DAY
    assert frame.loc["b", "count_visits"] == 0 and np.isnan(frame.loc["b", "days_since_first_visit"])


def test_the_laws_are_found_again_in_those_who_live_by_them() -> None:
    frame, shares, orders = lives(3_000)
    found = fit_visits(frame, "order", 60 * DAY)
    assert found is not None and found.r == pytest.approx(LAW.r, rel=0.2) and found.alpha == pytest.approx(LAW.alpha, rel=0.25)
    assert found.hits / (found.hits + found.misses) == pytest.approx(shares.mean(), abs=0.005)
    said = found.extend(frame)
    assert np.corrcoef(said["share_of_visits_order"], shares)[0, 1] > 0.6
    chance = 1 / (1 + np.exp(-said["expected_visits_order"].to_numpy()))
    for part in np.array_split(np.argsort(chance), 5):
        assert chance[part].mean() == pytest.approx(orders[part].mean(), abs=0.05)


def test_who_came_once_gets_the_pace_and_the_share_of_the_population() -> None:
    said = LAW.extend(pd.DataFrame([[1.0, 0.0, 0.0, 1.0], [0.0, np.nan, 5.0, 1.0], [3.0, 90.0, 2.0, 9.0]], columns=list(LAW.sources)))
    assert said["pace_visits"][0] == pytest.approx(0.1) and said["share_of_visits_order"][0] == pytest.approx(1 / 21) and said["alive_visits"][0] == 1
    assert said.loc[1, list(LAW.names)].isna().all(), "nothing is known of who never came"
    assert said["share_of_visits_order"][2] == pytest.approx(3 / 23), "more orders than visits are as many as visits"


def test_without_its_columns_or_customers_there_is_none() -> None:
    frame, _, _ = lives(50)
    assert fit_visits(frame, "order", H) is None and fit_visits(lives(300)[0].drop(columns="count_order"), "order", H) is None
    assert fit_visits(lives(300)[0], "", H) is None
    bare = pd.DataFrame({"a": [1.0]})
    assert LAW.extend(bare) is bare


def test_a_model_with_visits_comes_back_from_its_bundle(tmp_path: Path) -> None:
    sample = world(300)
    frame, _, _ = lives(len(sample))
    sample.X[list(frame.columns)] = frame.to_numpy()
    model = train(sample, Settings(horizon=H, as_of=AS_OF, rounds=40, event="order")).forecaster
    assert model.visits is not None and model.features[-4:] == model.visits.names and not set(model.visits.names) & set(model.inputs)
    folder = bundle.save(model, tmp_path, name="m", version=1, facts={}, card="")
    fresh = sample.X.iloc[: 300 * len(CUTOFFS) : 7]
    assert bundle.load(folder).forecaster.probability(fresh).tobytes() == model.probability(fresh).tobytes()
    assert np.allclose(model.contributions(fresh).sum(axis=1) + model.base_value(), model.raw(fresh))


def test_a_linear_member_may_know_the_laws_alone() -> None:
    """It is one of those that are tried, and what was chosen is what is learned."""
    frame, _, orders = lives(400 * len(CUTOFFS))
    sample = world(400)
    sample = replace(sample, X=pd.concat([sample.X, frame], axis=1), y=orders.astype(np.int8))
    settings = Settings(horizon=H, as_of=AS_OF, rounds=20, event="order")
    _, chosen = fit(sample, settings)
    for lawful in (True, False):
        linear = fit(sample, settings, replace(chosen, blend=0.5, lawful=lawful))[0].linear
        assert linear is not None and (set(linear.columns) == {"expected_visits_order"}) is lawful


def test_its_reasons_are_words() -> None:
    says = LAW.declare("Order Completed") | declare(compile_features(Features(visits=VisitFeatures(("view",), signs=("open",)))))
    assert say_feature("alive_visits", 0.93, says)[0] == "93% likely still a customer, by the own rhythm of visits,"
    assert say_feature("pace_visits", 0.1, says)[0] == "a usual pace of 3 visits in 30 days"
    assert say_feature("share_of_visits_order", 0.123, says)[0] == "12% of visits likely to end in Order Completed"
    assert say_feature("expected_visits_order", 0.0, says)[0] == "50% likely Order Completed, by the own rhythm alone,"
    assert say_feature("days_since_sign_of_life", 4.0, says)[0] == "last view or open 4 days ago"
