"""A row's forecast depends on that row, by name, and on nothing else; contributions add up; calibrations survive JSON."""

from __future__ import annotations

import json

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predseg.errors import ModelError
from predseg.forecast.forecaster import Calibration, Forecaster, Linear, encode, sigmoid, signed_log

LEVELS = {"country": ("DE", "FR", "GB")}
FEATURES = ("recency", "count", "value", "country")


def frame(rows: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    country = rng.choice(["DE", "FR", "GB", "XX"], rows)
    value = np.where(rng.random(rows) < 0.3, np.nan, rng.normal(0, 50, rows))
    return pd.DataFrame({"recency": rng.exponential(50, rows), "count": rng.poisson(3, rows), "value": value, "country": country})


@pytest.fixture(scope="module")
def forecaster() -> Forecaster:
    table = frame(600, 0)
    y = (np.random.default_rng(1).random(600) < sigmoid(1 - table["recency"].to_numpy() / 40 + (table["country"] == "GB"))).astype(int)
    data = encode(table, FEATURES, LEVELS)
    params = {
        "objective": "binary",
        "num_leaves": 7,
        "min_data_in_leaf": 20,
        "verbose": -1,
        "deterministic": True,
        "force_row_wise": True,
        "min_data_per_group": 10,
    }
    boosters = tuple(
        lgb.train({**params, "seed": s, "bagging_fraction": 0.7, "bagging_freq": 1}, lgb.Dataset(data, y, categorical_feature=[3]), 30)
        for s in (0, 1)
    )
    linear = Linear(("recency", "value"), (3.0, 0.1), (1.1, 3.0), (-0.8, 0.2), (0.0, 0.35), -0.4)
    return Forecaster(FEATURES, boosters, LEVELS, linear, 0.3, Calibration("sigmoid", 1.1, -0.2))


def test_columns_are_found_by_name_whatever_their_order_and_company(forecaster: Forecaster) -> None:
    table = frame(200, 2)
    turned = table[["country", "value", "recency", "count"]].assign(customer_id="a", as_of=1, more="x")
    assert forecaster.raw(turned).tobytes() == forecaster.raw(table).tobytes()


def test_a_missing_column_is_refused_naming_what_is_missing_and_what_is_extra(forecaster: Forecaster) -> None:
    table = frame(5, 0).rename(columns={"count": "counts"}).assign(customer_id="a")
    with pytest.raises(ModelError) as refused:
        forecaster.probability(table)
    assert refused.value.code == "E710"
    assert "4 features, 1 are missing: count;" in refused.value.message and "that it does not know: counts" in refused.value.message
    assert "customer_id" not in refused.value.message and refused.value.help


def test_a_text_where_a_number_belongs_is_refused(forecaster: Forecaster) -> None:
    with pytest.raises(ModelError, match=r"E711.*features\.count: expected numbers"):
        forecaster.raw(frame(5, 0).assign(count="many"))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.integers(0, 60), st.integers(0, 5))
def test_a_row_scores_the_same_in_any_block(forecaster: Forecaster, size: int, start: int, seed: int) -> None:
    table = frame(100, seed)
    part = table.iloc[start : start + size]
    assert forecaster.raw(part).tobytes() == forecaster.raw(table)[start : start + size].tobytes()
    assert forecaster.probability(part).tobytes() == forecaster.probability(table)[start : start + size].tobytes()


def test_order_of_rows_changes_nothing(forecaster: Forecaster) -> None:
    table = frame(333, 4)
    assert forecaster.raw(table.iloc[::-1])[::-1].tobytes() == forecaster.raw(table).tobytes()


def test_numbers_are_taken_in_float64(forecaster: Forecaster) -> None:
    table = frame(2_000, 5)
    assert (forecaster.raw(table) != forecaster.raw(table.astype({"recency": np.float32}))).any()
    assert (forecaster.raw(table.astype({"count": "Int64"})) == forecaster.raw(table)).all()


def test_contributions_and_base_value_sum_to_the_logit(forecaster: Forecaster) -> None:
    table = frame(300, 6)
    found = forecaster.contributions(table)
    assert found.shape == (300, 4)
    assert found.sum(axis=1) + forecaster.base_value() == pytest.approx(forecaster.raw(table), abs=1e-9)
    assert np.abs(found).min(axis=0).max() > 0 and (np.abs(found) > 1e-6).any(axis=0).all()


def test_members_alone(forecaster: Forecaster) -> None:
    table = frame(50, 7)
    trees = Forecaster(FEATURES, forecaster.boosters, LEVELS)
    linear = Forecaster(FEATURES, (), LEVELS, forecaster.linear)
    assert forecaster.raw(table) == pytest.approx(0.7 * trees.raw(table) + 0.3 * linear.raw(table))
    for one in (trees, linear):
        assert one.contributions(table).sum(axis=1) + one.base_value() == pytest.approx(one.raw(table))


def test_no_rows_no_scores(forecaster: Forecaster) -> None:
    assert forecaster.raw(frame(0, 0)).shape == (0,) and forecaster.contributions(frame(0, 0)).shape == (0, 4)


def test_a_level_never_seen_and_an_infinite_number_are_missing(forecaster: Forecaster) -> None:
    table = frame(50, 8)
    assert (forecaster.raw(table.assign(country="YY")) == forecaster.raw(table.assign(country=None))).all()
    assert (forecaster.raw(table.assign(value=np.inf)) == forecaster.raw(table.assign(value=np.nan))).all()


def test_levels_are_matched_by_name_not_by_the_codes_of_the_frame() -> None:
    first = pd.DataFrame({"country": pd.Categorical(["GB", "DE"], categories=["GB", "DE"])})
    second = pd.DataFrame({"country": pd.Categorical(["GB", "DE"], categories=["DE", "FR", "GB"])})
    plain = pd.DataFrame({"country": ["GB", "DE"]})
    for table in (first, second, plain):
        assert encode(table, ["country"], LEVELS).ravel().tolist() == [2.0, 0.0]


def test_linear_member_says_what_its_formula_says() -> None:
    linear = Linear(("a",), (0.5,), (2.0,), (3.0,), (-1.0,), 0.25)
    table = pd.DataFrame({"a": [0.0, np.e - 1, -(np.e - 1), np.nan]})
    raw = Forecaster(("a",), (), linear=linear).raw(table)
    assert raw == pytest.approx([0.25 + 3 * -0.25, 0.25 + 3 * 0.25, 0.25 + 3 * -0.75, 0.25 - 1])
    assert signed_log(np.array([np.e - 1])) == pytest.approx([1.0])


@pytest.mark.parametrize(
    "calibration", [Calibration(), Calibration("sigmoid", 0.7, -0.1), Calibration("isotonic", x=(-1.0, 0.0, 2.0), y=(0.1, 0.1, 0.9))]
)
def test_calibrations_never_decrease_stay_within_bounds_and_survive_json(calibration: Calibration) -> None:
    raw = np.linspace(-800, 800, 4001)
    p = calibration.apply(raw)
    assert (np.diff(p) >= 0).all() and 0 <= p.min() < p.max() <= 1
    assert Calibration.from_dict(json.loads(json.dumps(calibration.to_dict()))) == calibration


def test_isotonic_is_flat_beyond_its_ends_and_straight_between() -> None:
    calibration = Calibration("isotonic", x=(-1.0, 1.0), y=(0.2, 0.6))
    assert calibration.apply(np.array([-9.0, 0.0, 9.0])).tolist() == [0.2, 0.4, 0.6]


def test_linear_survives_json(forecaster: Forecaster) -> None:
    assert forecaster.linear is not None
    assert Linear.from_dict(json.loads(json.dumps(forecaster.linear.to_dict()))) == forecaster.linear
