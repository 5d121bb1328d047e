"""Whatever trees LightGBM can grow, the native loops give the same bits, or say that they cannot."""

from __future__ import annotations

import sys

import lightgbm as lgb
import numpy as np
import pytest

from predseg.forecast import trees
from predseg.forecast.forecaster import Forecaster
from predseg.forecast.trees import Members, Trees

FEATURES = 6


def matrix(seed: int, rows: int = 700) -> np.ndarray:
    """Rounded and skewed numbers, negative ones, zeros, levels of two traits; missing ones in all columns but one."""
    r = np.random.default_rng(seed)
    found = np.round(r.normal(0, 5, (rows, FEATURES)) ** 3, 1) * (r.random((rows, FEATURES)) < 0.8)
    found[:, 4], found[:, 5] = r.integers(0, 5, rows), r.integers(0, 40, rows)
    found[r.random(found.shape) < 0.15] = np.nan
    found[:, 1] = np.nan_to_num(found[:, 1])  # a missing value of this one was never seen in training
    return found


def grown(seed: int, rounds: int = 12, **params: object) -> lgb.Booster:
    """Trees that depend on numbers, on levels and on what is missing."""
    r, x = np.random.default_rng(seed), matrix(seed)
    y = np.nan_to_num(x[:, 0]) / 20 + 3 * np.isnan(x[:, 2]) - 2 * np.isnan(x[:, 0]) + 2 * (x[:, 5] % 3 == 1) + x[:, 1] / 50 + r.normal(size=len(x))
    settings = {"num_leaves": 15, "min_data_in_leaf": 3, "min_data_per_group": 3, "cat_smooth": 0.1, "max_bin": 63, "verbose": -1, "num_threads": 1}
    return lgb.train({**settings, "seed": seed, **params}, lgb.Dataset(x, y, categorical_feature=[4, 5]), rounds)


def asked(booster: lgb.Booster) -> np.ndarray:
    """Rows to ask about: new ones, with missing values everywhere, with levels never seen, and each threshold itself, a bit above and below."""
    rows = np.concatenate([matrix(99, 300), np.full((1, FEATURES), np.nan), np.zeros((1, FEATURES)), -np.zeros((1, FEATURES))])
    rows[:200][np.random.default_rng(3).random((200, FEATURES)) < 0.1] = np.nan
    rows[:5, 4:] = 77
    found = Trees.of([booster])
    assert found is not None
    _, edges, first, _ = found.inputs
    exact = []
    for i, feature in enumerate(found.inputs[0]):
        for edge in edges[first[i] : first[i + 1]]:
            for near in (edge, np.nextafter(edge, np.inf), np.nextafter(edge, -np.inf)) if feature < 4 else (edge,):
                exact.append(rows[len(exact) % 300].copy())
                exact[-1][feature] = near
    return np.concatenate([rows, exact])


@pytest.mark.parametrize("leaves", [2, 8, 31, 64])
def test_the_loops_give_the_bits_of_booster_predict(leaves: int) -> None:
    pytest.importorskip("numba")
    for seed in range(3):
        booster = grown(seed, num_leaves=leaves)
        rows = asked(booster)
        found = Trees.of([booster])
        assert found is not None and len(found.nodes[0]) and len(set(booster.predict(rows))) > 2
        np.testing.assert_array_equal(found.margins(rows)[0], booster.predict(rows, raw_score=True))


def test_models_use_every_way_that_a_split_can_go() -> None:
    ways = {way if isinstance(way, str) else "levels" for seed in range(3) for tree in trees.read_trees(grown(seed)) for _, way, _ in tree.splits()}
    assert ways == {"left", "right", "zero", "levels"}


def test_members_are_answered_apart_whatever_the_rows_are_a_slice_of() -> None:
    pytest.importorskip("numba")
    boosters = [grown(1), grown(2, rounds=5), grown(3, num_leaves=4)]
    rows = asked(boosters[0])
    found = Trees.of(boosters)
    assert found is not None
    for part in (rows, rows[7:8], rows[:0], np.asfortranarray(rows)[::2]):
        np.testing.assert_array_equal(found.margins(part), [b.predict(part, raw_score=True) if len(part) else [] for b in boosters])


def test_a_tree_without_a_split_is_a_constant() -> None:
    pytest.importorskip("numba")
    x = matrix(1)
    booster = lgb.train({"min_data_in_leaf": 10_000, "verbose": -1}, lgb.Dataset(x, np.arange(len(x)) % 7), 2)
    found = Trees.of([booster])
    assert found is not None and not len(found.nodes[0])
    np.testing.assert_array_equal(found.margins(x)[0], booster.predict(x, raw_score=True))


OTHER: list[dict[str, object]] = [
    {"num_leaves": 65},
    {"linear_tree": True},
    {"zero_as_missing": True},
    {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5},
    {"objective": "multiclass", "num_class": 3},
]


@pytest.mark.parametrize("params", OTHER)
def test_other_trees_are_left_to_lightgbm(params: dict[str, object]) -> None:
    x = matrix(0)
    y = np.arange(len(x)) % 3 if "num_class" in params else np.nan_to_num(x[:, 0]) + np.nan_to_num(x[:, 2])
    booster = lgb.train({"min_data_in_leaf": 1, "verbose": -1, "num_threads": 1, **params}, lgb.Dataset(x, y), 5)
    assert Trees.of([booster]) is None


def test_more_thresholds_than_a_code_can_count_are_left_to_lightgbm() -> None:
    x = np.random.default_rng(0).normal(size=(3_000, 1))
    settings = {"min_data_in_leaf": 1, "num_leaves": 64, "max_bin": 1_000, "verbose": -1, "num_threads": 1}
    few, many = (lgb.train(settings, lgb.Dataset(x, np.sin(9 * x[:, 0])), rounds) for rounds in (3, 60))
    assert Trees.of([few]) is not None and Trees.of([many]) is None


def test_a_matrix_of_another_width_is_refused() -> None:
    pytest.importorskip("numba")
    found = Trees.of([grown(0)])
    assert found is not None
    with pytest.raises(ValueError, match="matrix has 5 columns, the trees know 6 features"):
        found.margins(matrix(0)[:, :5])


def test_a_model_gives_the_same_bits_before_and_after_the_loops_take_over(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    boosters = (grown(1), grown(2))
    rows = asked(boosters[0])
    first = Forecaster(tuple("abcdef"), boosters).raw_matrix(rows)
    monkeypatch.setattr(trees, "PAYS", 2 * 24 * len(rows))
    model = Forecaster(tuple("abcdef"), boosters)
    np.testing.assert_array_equal(model.raw_matrix(rows), first)
    monkeypatch.setattr(lgb.Booster, "predict", None)
    np.testing.assert_array_equal(model.raw_matrix(rows), first)


def test_the_loops_take_over_sooner_where_numba_is_loaded_already(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first block of scores comes after features, whose loops have loaded it."""
    pytest.importorskip("numba")
    rows = asked(grown(1))
    monkeypatch.setattr(trees, "LOADED", 12 * len(rows))
    assert Members([grown(1)]).loops(len(rows)) is not None
    assert Members([grown(1)]).loops(len(rows) - 1) is None
    monkeypatch.delitem(sys.modules, "numba")
    assert Members([grown(1)]).loops(len(rows)) is None


def test_a_few_rows_load_nothing_however_often_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "PAYS", 0)
    monkeypatch.setattr(trees.Trees, "of", None)
    members = Members([grown(1)])
    assert all(len(members.margins(matrix(1)[:1])[0]) == 1 for _ in range(50))


def test_loops_that_cannot_be_loaded_are_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """What numba keeps on a disk may be damaged, or the disk full: any error of its first call."""
    loops = pytest.importorskip("predseg.forecast.tree_loops")

    def damaged(*_: object) -> None:
        raise EOFError

    monkeypatch.setattr(trees, "PAYS", 0)
    monkeypatch.setattr(loops, "margins", damaged)
    booster = grown(1)
    np.testing.assert_array_equal(Members([booster]).margins(matrix(5))[0], booster.predict(matrix(5), raw_score=True))


def test_without_numba_lightgbm_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "PAYS", 0)
    monkeypatch.setitem(sys.modules, "predseg.forecast.tree_loops", None)
    booster = grown(1)
    np.testing.assert_array_equal(Members([booster]).margins(matrix(5))[0], booster.predict(matrix(5), raw_score=True))
