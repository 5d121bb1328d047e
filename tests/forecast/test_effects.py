"""What features add: quick contributions against their definition and LightGBM's own, and the loops against both."""

from __future__ import annotations

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predseg.forecast import trees
from predseg.forecast.effects import Effects, Quick, quick_contributions, strongest, tree_effects
from predseg.forecast.forecaster import Forecaster, Linear, encode
from predseg.forecast.trees import ZERO
from tests.forecast.test_trees import asked, grown, matrix
from tests.forecast.tiny import FEATURES, customers, forecaster


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
    wanted = np.searchsorted(edges, np.where(np.abs(values) <= ZERO, 0.0, values)) if len(edges) > 1 else np.zeros(len(values))
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


def test_what_lightgbm_takes_for_zero_is_in_the_bin_of_zero() -> None:
    x = np.repeat([[-1.0], [0.0], [1.0], [np.nan]], 50, axis=0)
    booster = lgb.train({"objective": "binary", "verbosity": -1, "num_leaves": 2}, lgb.Dataset(x, np.repeat([0, 1, 0, 1], 50)), 6)
    rows = np.array([[-ZERO], [ZERO], [np.nextafter(-ZERO, -1)], [np.nextafter(ZERO, 1)], [0.0], [-0.0]])
    found = quick(Forecaster(("a",), (booster,)), rows)
    assert len(np.unique(found)) > 1
    np.testing.assert_allclose(found, np.asarray(booster.predict(rows, pred_contrib=True))[:, :1], atol=1e-12)


LINEAR = Linear(("f", "c", "a"), (1.0, 0.5, 2.0), (1.0, 2.0, 3.0), (0.4, -0.3, 0.2), (0.1, 0.0, -0.2), -0.5)


@pytest.mark.parametrize("linear", [LINEAR, None])
@pytest.mark.parametrize("members", [(1, 2, 3), (1,), (3,)])
def test_the_loops_find_the_strongest_of_the_quick_contributions_bit_by_bit(
    monkeypatch: pytest.MonkeyPatch, linear: Linear | None, members: tuple[int, ...]
) -> None:
    """Every way that a split can go, levels, missing values and values at thresholds; members of several depths."""
    pytest.importorskip("numba")
    monkeypatch.setattr(trees, "PAYS", 0)
    boosters = {1: grown(1), 2: grown(5, num_leaves=40), 3: grown(3, num_leaves=4)}
    model = Forecaster(tuple("abcdef"), tuple(boosters[member] for member in members), linear=linear, blend=0.3)
    rows = asked(boosters[1])
    wanted = (model.raw_matrix(rows), *strongest(quick(model, rows)))
    assert {*np.unique(wanted[1]).tolist()} >= ({0, 1, 5} if linear or 2 in members else {0, 1})
    monkeypatch.setattr(trees.Members, "plain", None)  # from here on the loops answer
    for found, right in zip(Quick(model)(rows), wanted, strict=True):
        assert found.dtype == right.dtype
        np.testing.assert_array_equal(found, right)


def test_features_that_add_the_same_keep_their_order_in_the_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six features, one model: what they add is equal for some rows and 0 for others."""
    pytest.importorskip("numba")
    monkeypatch.setattr(trees, "PAYS", 0)
    x = np.round(np.random.default_rng(4).normal(size=(900, 6)))
    names = tuple("abcdef")
    booster = lgb.train({"verbosity": -1, "num_leaves": 2, "seed": 1}, lgb.Dataset(x, x[:, 3]), 3)
    same = Linear(names, (0.0,) * 6, (1.0,) * 6, (0.5, 0.5, 0.5, 0.0, 0.5, -0.5), (0.0,) * 6, 0.0)
    model = Forecaster(names, (booster,), linear=same, blend=0.5)
    wanted = strongest(quick(model, x))
    model.raw_matrix(x)
    for found, right in zip(Quick(model)(x)[1:], wanted, strict=True):
        np.testing.assert_array_equal(found, right)
    sizes = np.abs(wanted[1])
    assert (sizes[:, 0] == sizes[:, 1]).any() and (sizes[:, 1] == sizes[:, 2]).any() and (wanted[0] < 0).any()


def test_a_model_without_trees_has_the_reasons_of_its_linear_member() -> None:
    model = Forecaster(tuple("abcdef"), (), linear=LINEAR)
    rows = matrix(3)
    raw, features, _ = Quick(model)(rows)
    np.testing.assert_array_equal(raw, model.raw_matrix(rows))
    assert {*np.unique(features).tolist()} <= {-1, 0, 2, 5}
