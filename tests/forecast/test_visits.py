"""Visits: counted by their pauses, the laws against customers who live by them, and a model that learns from them when orders are few."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from predseg.config import EventFeatures, Features, Model, VisitFeatures
from predseg.errors import ModelError
from predseg.evaluate.block import Array
from predseg.evaluate.reference import Event
from predseg.forecast import bundle
from predseg.forecast.clock import Clock
from predseg.forecast.features import block_frame, compile_features
from predseg.forecast.reasons import declare, say_feature
from predseg.forecast.rhythm import alive, at_least_one
from predseg.forecast.sampling import Sample
from predseg.forecast.training import Settings, fit, train
from predseg.forecast.visits import Visits, fit_visits
from predseg.language import measures as m
from predseg.language.conditions import Prediction
from predseg.language.time import DAY, MINUTE
from tests.evaluate.worlds import to_block
from tests.forecast.test_training import AS_OF, CUTOFFS, H, world

LAW = Visits("order", (1.5, 15.0), (1.5, 15.0, 0.3, 5.0), (1.0, 20.0), None, signs=False, days=60.0)


def lives(customers: int, law: Visits = LAW, seed: int = 0) -> tuple[pd.DataFrame, Array, Array]:
    """What is known at one moment of customers who live by the laws; what each of them is like; who orders in the horizon."""
    rng = np.random.default_rng(seed)
    rows, shares, orders = [], [], []
    for _ in range(customers):
        age, rate = rng.uniform(100, 700), rng.gamma(law.pace[0], 1 / law.pace[1])
        leaves, share = rng.beta(*law.life[2:]), rng.beta(*law.share)
        days, stays = [0.0], True
        while stays and days[-1] < age + law.days:
            days.append(days[-1] + rng.exponential(1 / rate))
            stays = rng.random() > leaves
        ends = np.append(True, rng.random(len(days) - 1) < share)
        past, ahead = np.array(days) <= age, (np.array(days) > age) & (np.array(days) <= age + law.days)
        rows.append((past.sum(), age, age - np.array(days)[past].max(), ends[past].sum(), age))
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
    assert found is not None and found.pace[0] == pytest.approx(LAW.pace[0], rel=0.2) and found.pace[1] == pytest.approx(LAW.pace[1], rel=0.25)
    assert found.share[0] / sum(found.share) == pytest.approx(shares.mean(), abs=0.005)
    said = found.extend(frame)
    assert np.corrcoef(said["share_of_visits_order"], shares)[0, 1] > 0.6
    chance = 1 / (1 + np.exp(-said["expected_visits_order"].to_numpy()))
    for part in np.array_split(np.argsort(chance), 5):
        assert chance[part].mean() == pytest.approx(orders[part].mean(), abs=0.05)


def test_who_came_once_gets_the_pace_and_the_share_of_the_population() -> None:
    known = [[1.0, 0.0, 0.0, 1.0, 0.0], [0.0, np.nan, 5.0, 1.0, 9.0], [3.0, 90.0, 2.0, 9.0, 90.0]]
    said = LAW.extend(pd.DataFrame(known, columns=list(LAW.sources)))
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


def test_what_something_else_brought_is_counted_apart() -> None:
    """A visit that an e-mail brought says that somebody is there; it is none of those that one makes of one's own accord."""
    visits = VisitFeatures(("view", "buy"), 30 * MINUTE, ("open",), (m.Filter("source", (m.Test("is", ("mail",)),)),))
    predicted = Prediction(m.Measure(m.Events(("buy",))), m.Comparison("at_least", Decimal(1)), DAY)
    wanted = compile_features(Features(events=(("buy", EventFeatures()),), visits=visits), [Model("m", predicted)])
    told = [(0, "view", None), (5, "buy", "direct"), (90, "open", None), (91, "view", "mail"), (95, "buy", "mail"), (200, "view", "direct")]
    block = to_block({"a": [Event(minute * MINUTE, name, {"source": source}) for minute, name, source in told]}, {"source": pa.string()})
    frame = block_frame(block, [300 * MINUTE], wanted)
    assert frame.loc[0, ["count_visits", "count_visits_brought", "count_buy_brought", "count_signs_of_life"]].tolist() == [3, 1, 1, 1]
    law = fit_visits(pd.concat([frame] * 200, ignore_index=True), "buy", DAY)
    assert law is not None and law.brought is not None and law.signs


def test_each_number_is_told_by_what_it_is_about() -> None:
    """Pace by visits of one's own accord, life by all signs of it, and all of them in the shop's time."""
    clock = Clock((0, 100 * DAY, 200 * DAY), (2.0, 0.5))
    law = Visits("order", (1.0, 10.0), (2.0, 10.0, 0.3, 5.0), (1.0, 9.0), (1.0, 99.0), signs=True, days=30.0, clock=clock)
    known = {
        "count_visits": 6.0,
        "count_visits_brought": 2.0,
        "days_since_first_visit": 120.0,
        "count_signs_of_life": 5.0,
        "days_since_sign_of_life": 20.0,
    }
    orders = {"count_order": 4.0, "count_order_brought": 2.0, "days_since_first_order": 115.0, "as_of": 150 * DAY}
    said = law.extend(pd.DataFrame([known | orders])).iloc[0]
    age, last, ahead = 70 * 2.0 + 50 * 0.5, 70 * 2.0 + 30 * 0.5, 30 * 0.5
    here = alive(np.array([8.0]), np.array([last]), np.array([age]), *law.life)
    share = (1 + 4 - 2 - 1) / (10 + 3) + (1 + 2) / (100 + 4)
    assert said["pace_visits"] == pytest.approx((1 + 3) / (10 + age)) and said["alive_visits"] == pytest.approx(here[0])
    assert said["share_of_visits_order"] == pytest.approx(share)
    assert said["expected_visits_order"] == pytest.approx(at_least_one(here, np.array([4.0]), np.array([10 + age]), ahead * share)[0])


def test_who_is_asked_about_because_of_an_event_tells_no_more_than_that() -> None:
    """Of customers chosen for having ordered the law of all is found, not that of the lucky."""
    frame, _, _ = lives(12_000, replace(LAW, share=(1.0, 60.0)), seed=3)
    everyone = fit_visits(frame, "order", 60 * DAY)
    rng = np.random.default_rng(0)
    later = frame["days_since_first_order"] * rng.uniform(0, 0.9, len(frame))
    bought = frame.assign(count_order=frame["count_order"] - 1, days_since_first_order=later)  # nobody ordered at once
    chosen = fit_visits(bought[bought["count_order"] > 0], "order", 60 * DAY)
    assert everyone is not None and chosen is not None
    assert chosen.share[0] / sum(chosen.share) == pytest.approx(1 / 61, rel=0.2) and everyone.share[0] / sum(everyone.share) == pytest.approx(
        1 / 61, rel=0.2
    )


def seasonal(customers: int) -> Sample:
    """Customers of `world` who come twice as often before the middle one of the cutoffs."""
    sample = world(customers)
    frame, _, _ = lives(customers)
    rows = pd.concat([frame] * len(CUTOFFS), ignore_index=True)
    age = (sample.cutoff - CUTOFFS[0]) / DAY
    rows["count_visits"] += np.minimum(age, age.max() / 2) * 0.2 + age * 0.2
    rows[["days_since_first_visit", "days_since_first_order"]] += age[:, None]
    return replace(sample, X=pd.concat([sample.X, rows], axis=1).assign(as_of=sample.cutoff))


def test_the_clock_knows_nothing_that_was_not_known_and_travels_with_the_model(tmp_path: Path) -> None:
    sample = seasonal(300)
    settings = Settings(horizon=H, as_of=AS_OF - H, rounds=20, event="order")
    model, _ = fit(sample, settings)
    assert model.visits is not None and len(model.visits.clock.speeds) > 1 and model.visits.clock.moments[-1] + H <= settings.as_of
    later = sample.cutoff + H > settings.as_of
    assert later.any()
    other = replace(sample, X=sample.X.assign(count_visits=np.where(later, 9_999.0, sample.X["count_visits"])))
    assert fit(other, settings)[0].visits == model.visits
    folder = bundle.save(model, tmp_path, name="m", version=1, facts={}, card="")
    again, fresh = bundle.load(folder).forecaster, sample.X.iloc[::7]
    assert again.visits == model.visits and again.probability(fresh).tobytes() == model.probability(fresh).tobytes()
    assert "as_of" in again.inputs and "as_of" not in again.features
    with pytest.raises(ModelError, match="E710"):
        again.probability(fresh.drop(columns="as_of"))


def test_the_laws_of_an_older_version_are_refused(tmp_path: Path) -> None:
    model, _ = fit(seasonal(300), Settings(horizon=H, as_of=AS_OF, rounds=5, event="order"))
    older = replace(model, visits=replace(LAW, event="order"))
    body = {"event": "order", "r": 1.0, "alpha": 30.0, "a": 0.8, "b": 2.5, "hits": 1.0, "misses": 20.0, "days": 60.0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Visits, "to_dict", lambda _: body)
        folder = bundle.save(older, tmp_path, name="m", version=1, facts={}, card="")
    with pytest.raises(ModelError, match=r"E706[^\0]*train again"):
        bundle.load(folder)


def test_its_reasons_are_words() -> None:
    says = LAW.declare("Order Completed") | declare(compile_features(Features(visits=VisitFeatures(("view",), signs=("open",)))))
    assert say_feature("alive_visits", 0.93, says)[0] == "93% likely still a customer, by the own rhythm of visits,"
    assert say_feature("pace_visits", 0.1, says)[0] == "a usual pace of 3 visits in 30 days"
    assert say_feature("share_of_visits_order", 0.123, says)[0] == "12% of visits likely to end in Order Completed"
    assert say_feature("expected_visits_order", 0.0, says)[0] == "50% likely Order Completed, by the own rhythm alone,"
    assert say_feature("days_since_sign_of_life", 4.0, says)[0] == "last view or open 4 days ago"
