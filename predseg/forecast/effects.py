"""What each feature adds to a score, and which features add most.

What a feature adds to the logit is said in one of two ways:

- **exact**: LightGBM's own contributions (Shapley values over the trees) plus the terms of the linear member. Computing
  them costs 20 to 250 times as much as the score itself.
- **quick**: what the trees are expected to answer when this one value is known and nothing else, less what they are
  expected to answer when nothing is known. It is the first-order part of the exact contribution, equal to it where
  features do not interact, and a table look-up per value. Expectations go by the training rows in each branch.

Either way a row's contributions depend on that row and the model alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from predseg.forecast.forecaster import Array, Forecaster
from predseg.forecast.trees import MISSING, ZERO, Told, Tree, Trees, Way, edges_of, read_trees

TOP = 3


@dataclass(frozen=True, eq=False)
class Effects:
    """The quick contributions of the trees: per feature the ends of its bins, and what a value in each bin adds.

    Bin k holds x with edges[k-1] < x <= edges[k]; the last edge is infinite, and one more value stands for missing.
    """

    edges: tuple[Array, ...] = field(repr=False)
    values: tuple[Array, ...] = field(repr=False)

    def apply(self, matrix: Array) -> Array:
        """Return what each feature adds: rows × features, from rows encoded as the trees are given them."""
        whole = np.where(np.abs(matrix) <= ZERO, 0.0, matrix).astype("<f8")
        tops = whole.view("<u2")[:, 3::4]
        found = np.zeros(matrix.shape)
        for position, (edges, values, first) in enumerate(zip(self.edges, self.values, self._first, strict=True)):
            if len(edges) > 1:
                found[:, position] = values[_bins(edges, whole[:, position], tops[:, position], *first)]
        return found

    @cached_property
    def _first(self) -> tuple[tuple[Array, int], ...]:
        return tuple(map(_first_bins, self.edges))


_FEW = 4
_INFINITE = [0x7FF0, 0xFFF0]


def _first_bins(edges: Array) -> tuple[Array, int]:
    """Return for the 65,536 cells of numbers with the same top 16 bits the first bin in them, and the most steps to the last."""
    tops = np.arange(1 << 16, dtype="<u8") << 48
    ends = [tops.view("<f8"), (tops | (1 << 48) - 1).view("<f8")]
    ends[1][_INFINITE] = ends[0][_INFINITE]  # the rest of these two cells are no numbers that arithmetic makes
    one, other = (np.searchsorted(edges, end) for end in ends)
    return np.minimum(one, other).astype(np.int32), int(np.abs(one - other).max())


def _bins(edges: Array, values: Array, tops: Array, first: Array, steps: int) -> Array:
    """Return what ``np.searchsorted(edges, values)`` does: four times as fast where a few steps lead from the first bin of a cell."""
    if steps > _FEW:
        return np.searchsorted(edges, values)
    bins: Array = first.take(tops)
    ends = np.append(edges, np.nan)
    for _ in range(steps):
        bins += values > ends.take(bins)
    return bins


def exact_work(forecaster: Forecaster) -> float:
    """Return what the exact contributions of one row cost, in units of about 11 nanoseconds of two cores.

    It is the sum over the trees of leaves to the power 1.5, which fits measurements from 8 to 63 leaves.
    """
    leaves = [int(n) for booster in forecaster.boosters for n in re.findall(r"^num_leaves=(\d+)", booster.model_to_string(), re.MULTILINE)]
    return float(sum(n**1.5 for n in leaves))


def tree_effects(forecaster: Forecaster) -> Effects:
    """Return the quick contributions of a model's trees, averaged over its members."""
    trees = [tree for booster in forecaster.boosters for tree in read_trees(booster)]
    ends = edges_of(split for tree in trees for split in tree.splits())
    edges = tuple(np.array(sorted({*ends[feature], np.inf})) for feature in range(len(forecaster.features)))
    values = tuple(np.zeros(len(e) + 1) for e in edges)
    for tree in trees:
        _add_tree(tree, edges, values)
    return Effects(edges, tuple(v / max(1, len(forecaster.boosters)) for v in values))


def _goes_left(way: Way, threshold: float, edges: Array) -> Array:
    """Where each bin of the feature goes, and, last, a missing value."""
    if isinstance(way, str):
        return np.append(edges <= threshold, way == "left" or (way == "zero" and threshold >= 0.0))
    return np.append(np.isin(edges, [*way]), False)


def _expected(tree: Tree, child: int, known: dict[int, tuple[float, int]]) -> tuple[float, int]:
    """The mean answer below a child over its training rows, and how many these are, kept in ``known``."""
    if child not in known:
        if child < 0:
            known[child] = tree.leaves[~child], tree.leaf_rows[~child]
        else:
            (left, rows), (right, others) = (_expected(tree, below, known) for below in (tree.left[child], tree.right[child]))
            known[child] = (left * rows + right * others) / max(1.0, rows + others), tree.rows[child]
    return known[child]


def _add_tree(tree: Tree, edges: Sequence[Array], values: Sequence[Array]) -> None:
    """Add to the feature of each split by how much the branch that a value takes changes the expectation.

    That change counts as often as the split is reached when only this value is known: ``reach`` holds per feature seen above it where its bins go (0 or 1) and the share of rows that went there.
    """
    splits, known = [*tree.splits()], dict[int, tuple[float, int]]()
    todo: list[tuple[int, float, dict[int, tuple[Array, float]]]] = [(0, 1.0, {})]
    while todo:
        node, share, reach = todo.pop()
        if not 0 <= node < len(splits):
            continue
        feature, way, threshold = splits[node]
        left = _goes_left(way, threshold, edges[feature])
        here, its_share = reach.get(feature, (np.ones(len(left)), 1.0))
        (before, _), (lower, rows), (upper, others) = (_expected(tree, child, known) for child in (node, tree.left[node], tree.right[node]))
        values[feature][:] += here * (share / its_share) * (np.where(left, lower, upper) - before)
        for child, goes, its_rows in ((tree.left[node], left, rows), (tree.right[node], ~left, others)):
            part = its_rows / max(1.0, rows + others)
            if part:
                todo.append((child, share * part, {**reach, feature: (here * goes, its_share * part)}))


def quick_contributions(forecaster: Forecaster, effects: Effects, matrix: Array) -> Array:
    """Return the quick contributions to the logit of rows already encoded: rows × features."""
    return forecaster.with_terms(effects.apply(matrix), matrix)


class Quick:
    """Answers rows together with their strongest quick contributions: by the loops of `predseg.forecast.trees` as soon as they pay, the bits are the same."""

    def __init__(self, forecaster: Forecaster) -> None:
        self._forecaster, self._effects = forecaster, tree_effects(forecaster)

    def __call__(self, matrix: Array) -> tuple[Array, Array, Array]:
        """Return the uncalibrated logits of rows already encoded, and what `strongest` says of their contributions."""
        forecaster, members = self._forecaster, self._forecaster.members
        terms, loops = forecaster.terms(matrix), members.loops(len(matrix))
        if not loops:
            raw = forecaster.total(members.plain(matrix), terms, len(matrix))
            return raw, *strongest(quick_contributions(forecaster, self._effects, matrix))
        shares = np.array([forecaster.share * term for term in terms.values()]).reshape(-1, len(matrix))
        margins, features, sizes = loops.strongest(matrix, self._told(loops), shares, TOP)
        return forecaster.total(list(margins), terms, len(matrix)), features, sizes

    def _told(self, loops: Trees) -> Told:
        used, forecaster = loops.inputs[0].tolist(), self._forecaster
        tables = np.zeros((len(used), MISSING + 1))
        for table, feature in zip(tables, used, strict=True):
            values = self._effects.values[feature] * (1.0 - forecaster.share)
            table[: len(values)], table[MISSING] = values, values[-1]
        inputs, terms = np.full(len(forecaster.features), -1), np.full(len(forecaster.features), -1)
        inputs[used] = np.arange(len(used))
        if forecaster.linear:
            terms[[forecaster.features.index(name) for name in forecaster.linear.columns]] = np.arange(len(forecaster.linear.columns))
        return Told(tables, inputs, terms)


def strongest(contributions: Array, top: int = TOP) -> tuple[Array, Array]:
    """Return the features with the greatest contributions of each row, and these contributions, both rows × top.

    The greatest first; of equal ones the first feature. A contribution of 0 is no reason: its feature is −1.

    >>> strongest(np.array([[0.1, -0.5, 0.0]]), 3)[0].tolist()
    [[1, 0, -1]]
    """
    left = np.abs(contributions)
    rows = np.arange(len(left))
    features, sizes = np.full((len(left), top), -1), np.zeros((len(left), top))
    for rank in range(min(top, left.shape[1])):
        best = left.argmax(axis=1)
        any_left = left[rows, best] > 0
        sizes[:, rank] = np.where(any_left, contributions[rows, best], 0.0)
        features[:, rank] = np.where(any_left, best, -1)
        left[rows, best] = 0.0
    return features, sizes
