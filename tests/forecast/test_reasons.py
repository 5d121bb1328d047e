"""Reasons: quick contributions against LightGBM's own, and how they read."""

from __future__ import annotations

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predseg import config as declared
from predseg.forecast.features import compile_features
from predseg.forecast.forecaster import Forecaster, encode
from predseg.forecast.reasons import Effects, Speaker, declare, quick_contributions, say_feature, strongest, tree_effects
from predseg.language.time import DAY
from tests.forecast.tiny import DECLARATIONS, FEATURES, customers, forecaster

ORDER = declared.Features((30 * DAY, 90 * DAY), (("Order Completed", declared.EventFeatures("value", ("product_id",))),), traits=("country",))
SAID = declare(compile_features(ORDER))


def quick(model: Forecaster, matrix: np.ndarray) -> np.ndarray:
    return quick_contributions(model, tree_effects(model), matrix)


def matrix_of(model: Forecaster, n: int = 400) -> np.ndarray:
    return encode(customers(n, 9), model.features, model.categories)


@pytest.mark.parametrize("linear", [True, False])
def test_without_interactions_quick_is_exact(linear: bool) -> None:
    model = forecaster(leaves=2, linear=linear)
    np.testing.assert_allclose(quick(model, matrix_of(model)), model.contributions(customers(400, 9)), atol=1e-12)


def tree(model: Forecaster) -> dict[str, object]:
    return dict(model.boosters[0].dump_model()["tree_info"][0]["tree_structure"])


def expected(node: dict, row: np.ndarray, known: int | None) -> float:  # type: ignore[type-arg]
    """The definition, one row and one node at a time: follow the known feature, else both branches by their training rows."""
    if "split_feature" not in node:
        return float(node["leaf_value"])
    left, right = node["left_child"], node["right_child"]
    if node["split_feature"] == known:
        return expected(left if goes_left(node, row[known]) else right, row, known)
    rows = [child.get("internal_count", child.get("leaf_count")) for child in (left, right)]
    return (expected(left, row, known) * rows[0] + expected(right, row, known) * rows[1]) / sum(rows)


def goes_left(node: dict, value: float) -> bool:  # type: ignore[type-arg]
    if node["decision_type"] == "==":
        return not np.isnan(value) and int(value) in map(int, node["threshold"].split("||"))
    if np.isnan(value):
        return bool(node["default_left"]) if node["missing_type"] == "NaN" else node["threshold"] >= 0
    return bool(value <= node["threshold"])


@pytest.mark.parametrize("leaves", [3, 8, 20])
def test_quick_is_its_definition(leaves: int) -> None:
    model = forecaster(leaves=leaves, members=1, linear=False, rounds=1)
    root = tree(model)
    matrix = matrix_of(model, 150)
    wanted = [[expected(root, row, f) - expected(root, row, None) for f in range(len(FEATURES))] for row in matrix]
    np.testing.assert_allclose(quick(model, matrix), wanted, atol=1e-12)
    assert np.abs(wanted).max() > 0.01


NUMBERS = st.one_of(st.floats(-100, 100), st.floats(allow_nan=False), st.integers(-3, 3).map(float), st.floats(1.0, 1.001))


@given(ends=st.lists(NUMBERS, min_size=1, max_size=40, unique=True), others=st.lists(NUMBERS, max_size=20))
def test_a_value_finds_its_bin_however_close_the_edges_are(ends: list[float], others: list[float]) -> None:
    edges = np.array([*sorted(e for e in ends if np.isfinite(e)), np.inf])
    effects = Effects((edges,), (np.arange(len(edges) + 1.0),))
    with np.errstate(over="ignore"):
        near = [np.nextafter(e, d) for e in ends for d in (np.inf, -np.inf)]
    values = np.array([*ends, *near, *others, np.nan, -np.nan, 0.0, -0.0, np.inf, -np.inf])
    wanted = np.searchsorted(edges, values) if len(edges) > 1 else np.zeros(len(values))
    assert effects.apply(values[:, None])[:, 0].tolist() == wanted.tolist()


def test_values_at_a_threshold_go_where_lightgbm_sends_them() -> None:
    model = forecaster(leaves=2, members=1, linear=False, rounds=8)
    effects = tree_effects(model)
    for position, edges in enumerate(effects.edges[:4]):
        ends = edges[np.isfinite(edges)]
        if not len(ends):
            continue
        row = np.full((3 * len(ends), len(FEATURES)), np.nan)
        row[:, position] = np.concatenate([ends, np.nextafter(ends, np.inf), np.nextafter(ends, -np.inf)])
        booster_says = np.asarray(model.boosters[0].predict(row, pred_contrib=True))[:, :-1]
        np.testing.assert_allclose(effects.apply(row), booster_says, atol=1e-12)
    assert sum(len(e) for e in effects.edges) > 10


def test_quick_and_exact_agree_on_direction_and_mostly_on_the_reasons() -> None:
    model = forecaster(leaves=8, rounds=40)
    exact, fast = model.contributions(customers(400, 9)), quick(model, matrix_of(model))
    top, sizes = strongest(fast, 1)
    clear = np.abs(sizes[:, 0]) > 0.2
    same_sign = np.sign(sizes[:, 0]) == np.sign(exact[np.arange(400), top[:, 0]])
    assert same_sign[clear].mean() > 0.97
    assert np.corrcoef(exact.ravel(), fast.ravel())[0, 1] > 0.9


def test_a_trait_level_never_seen_has_an_effect_like_missing() -> None:
    model = forecaster(leaves=2)
    row = np.full((2, len(FEATURES)), np.nan)
    row[1, 4] = np.nan
    np.testing.assert_array_equal(quick(model, row)[0], quick(model, row)[1])


def test_trees_that_split_on_zero_as_missing() -> None:
    x = np.repeat([[-1.0], [0.0], [1.0], [np.nan]], 50, axis=0)
    y = np.repeat([0, 0, 1, 1], 50)
    for missing in (True, False):
        booster = lgb.train({"objective": "binary", "verbosity": -1, "min_data_in_leaf": 5, "use_missing": missing}, lgb.Dataset(x, y), 3)
        model = Forecaster(("a",), (booster,))
        np.testing.assert_allclose(quick(model, x), np.asarray(booster.predict(x, pred_contrib=True))[:, :1], atol=1e-12)


def test_strongest_keeps_order_sign_and_first_of_equals() -> None:
    features, sizes = strongest(np.array([[0.1, -0.3, 0.3, 0.2], [0.5, 0.0, -1.0, 0.0], [0.0] * 4]))
    assert features.tolist() == [[1, 2, 3], [2, 0, -1], [-1, -1, -1]]
    assert sizes.tolist() == [[-0.3, 0.3, 0.2], [-1.0, 0.5, 0.0], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("name", "value", "phrase", "plural"),
    [
        ("tenure", 120.4, "first any event 120 days ago", False),
        ("days_since_order_completed", 3.2, "last Order Completed 3 days ago", False),
        ("days_since_order_completed", 0.25, "last Order Completed 0.2 days ago", False),
        ("days_since_order_completed", 1.0, "last Order Completed 1 day ago", False),
        ("days_since_order_completed", None, "no Order Completed", False),
        ("count_order_completed_90d", 0.0, "no Order Completed in the last 90 days", False),
        ("count_order_completed_90d", 1.0, "1 Order Completed in the last 90 days", False),
        ("count_order_completed", 1234.0, "1,234 Order Completed", True),
        ("sum_value_order_completed_30d", 1234.5, "total value 1,234 of Order Completed in the last 30 days", False),
        ("sum_value_order_completed_30d", 0.0, "total value 0 of Order Completed in the last 30 days", False),
        ("avg_value_order_completed_30d", float("nan"), "no Order Completed in the last 30 days", False),
        ("max_value_order_completed", 9.96, "largest value 10 of Order Completed", False),
        ("distinct_product_id_order_completed_30d", 4.0, "4 different product_id of Order Completed in the last 30 days", True),
        ("gap_mean_order_completed", 20.0, "usual gap of 20 days between Order Completed", False),
        ("gap_std_order_completed", 2.5, "spread of 2 days of the gaps between Order Completed", False),
        ("gap_last_order_completed", None, "no second Order Completed yet", False),
        ("recency_over_gap_order_completed", 0.5, "last Order Completed 0.5 times the usual gap ago", False),
        ("share_count_order_completed_30d_of_90d", 0.4, "40% of Order Completed in the last 90 days being in the last 30 days", False),
        (
            "share_sum_value_order_completed_30d_of_90d",
            0.123,
            "12% of the value of Order Completed in the last 90 days being in the last 30 days",
            False,
        ),
        ("share_count_order_completed_30d_of_90d", None, "no Order Completed in the last 90 days", False),
        ("trait_country", "FR", "country is FR", False),
        ("trait_country", None, "country not known", False),
        ("never_declared", 3.0, "never_declared 3", False),
        ("never_declared", None, "never_declared missing", False),
    ],
)
def test_how_a_value_reads(name: str, value: float | str | None, phrase: str, plural: bool) -> None:
    assert say_feature(name, value, SAID) == (phrase, plural)


def test_every_feature_of_a_project_has_words() -> None:
    for name in compile_features(ORDER).names:
        for value in (None, 0.0, 0.4, 1.0, 7.0, 12345.6) if not name.startswith("trait") else (None, "FR"):
            phrase, _ = say_feature(name, value, SAID)
            assert name not in phrase
            assert "  " not in phrase


def test_rows_get_their_own_words_in_the_right_order() -> None:
    model = forecaster()
    frame = customers(4)
    frame[list(FEATURES[:4])] = [[3.2, 4, 0, np.nan], [40.0, 1, 1234.0, 2.0], [np.nan, 0, 5.0, 0.5], [1.0, 2, 3.0, 4.0]]
    frame["trait_country"] = ["GB", "XX", None, "FR"]
    matrix = encode(frame, model.features, model.categories)
    features = np.array([[0, 1, 4], [2, 3, 4], [0, 4, -1], [-1, -1, -1]])
    sizes = np.array([[0.5, 0.4, 0.3], [0.5, -0.4, -0.3], [-0.5, 0.1, 0.0], [0.0, 0.0, 0.0]])
    values = np.take_along_axis(matrix, features, axis=1)
    speaker = Speaker(model, DECLARATIONS)
    wanted = [
        ["last Order Completed 3 days ago raises it", "4 Order Completed in the last 90 days raise it", "country is GB raises it"],
        [
            "total value 1,230 of Order Completed in the last 365 days raises it",
            "last Order Completed 2 times the usual gap ago lowers it",
            "country not known lowers it",
        ],
        ["no Order Completed lowers it", "country not known raises it"],
        [],
    ]
    assert speaker.say(values, features, sizes).to_pylist() == wanted
    backwards = speaker.say(values[::-1], features[::-1], sizes[::-1]).to_pylist()
    assert backwards == wanted[::-1], "words remembered from before changed"
