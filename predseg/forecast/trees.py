"""What the trees of a model answer, for many rows at once, with the same bits as `Booster.predict`.

No tree is walked. Every value becomes the number of thresholds of its feature that lie below it; a split that sends a row
to the right rules out the leaves on its left, which is one `and` of a mask per split and row, without a jump; the first leaf
that is left is the answer (QuickScorer: Lucchese et al., SIGIR 2015). The loops are the same for every model, so nothing
is compiled per model and no code is stored with one.

They need numba (``predseg[fast]``). Without it, and for a few rows, LightGBM answers: the bits are the same.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import lightgbm as lgb

Array = np.ndarray[Any, np.dtype[Any]]
MOST_LEAVES, MOST_EDGES = 64, 254
"""A mask has one bit a leaf; a code is one byte, and its last value stands for a missing one that goes right."""
MISSING = 255
"""The bin of a missing value; the others are as many as there are edges below a value."""
ZERO = float(np.float32(1e-35))
"""What LightGBM takes for zero, on both sides of it."""
PAYS = 10_000_000
"""Rows × trees that LightGBM answers in about as long as it takes to load the loops and numba."""
LOADED = 1_000_000
"""The same where numba is there already: features come before scores."""
FEW = 256
"""Fewer rows at once, as a live customer's one, are always answered by LightGBM, so that nothing is loaded while somebody waits."""
_CATEGORY, _LEFT, _ZERO_IS_MISSING, _NAN_IS_MISSING = 1, 2, 4, 8
Way = str | frozenset[int]
"""Where a missing value goes (``left``, ``right``, or where ``zero`` does), or the levels that go left."""
Split = tuple[int, Way, float]
"""Feature, way and threshold."""


class Told(NamedTuple):
    """What the values of features are told to add: see `predseg.forecast.effects`.

    Attributes:
        tables: Of each feature that the trees use, what a value in each bin adds: float64 (inputs, 256), the last for missing ones.
        inputs: Of each feature its line of the tables; −1 for none.
        terms: Of each feature its line among the terms that come with the rows, which are added; −1 for none.
    """

    tables: Array
    inputs: Array
    terms: Array


_NOTHING = Told(np.zeros((0, MISSING + 1)), np.zeros(0, np.int64), np.zeros(0, np.int64))


@dataclass(frozen=True, eq=False)
class Trees:
    """The trees of some members, as arrays.

    Attributes:
        features: How many columns a matrix has.
        inputs: Of each feature used: its column; all edges, sorted within a feature; where those of each begin; where its columns of codes begin.
        columns: Of each column of codes: the code of a missing value, the line of the table that a code is looked up in (−1: none); that table.
        nodes: Of each split: its column of codes, the last code that goes left, the leaves, as bits, that are ruled out when a row goes right (uint32 where 32 are enough, or uint64).
        trees: Where the nodes of each begin; its member; the values of its leaves from left to right, float64 (trees, 64).
    """

    features: int
    inputs: tuple[Array, ...]
    columns: tuple[Array, ...]
    nodes: tuple[Array, ...]
    trees: tuple[Array, ...]

    @classmethod
    def of(cls, boosters: Sequence[lgb.Booster]) -> Trees | None:
        """Return the trees of boosters that know the same features; None when some cannot be said in this way.

        That is: more than 64 leaves, more than 254 thresholds of a feature, linear leaves, several classes, zero as missing.
        """
        read = [list(read_trees(booster)) for booster in boosters]
        splits = [split for trees in read for tree in trees for split in tree.splits()]
        edges = edges_of(splits)
        if not all(tree.plain for trees in read for tree in trees) or max(map(len, edges.values()), default=0) > MOST_EDGES:
            return None
        features = boosters[0].num_feature()
        if any(b.num_feature() != features for b in boosters) or max(edges, default=0) >= features:
            return None
        return cls(features, *_arrays({f: np.array(sorted(e)) for f, e in sorted(edges.items())}, splits, read))

    def margins(self, matrix: Array) -> Array:
        """Return float64 (members, rows) of float64 (rows, features). Needs numba."""
        return self.strongest(matrix, _NOTHING, np.zeros((0, len(matrix))), 0)[0]

    def strongest(self, matrix: Array, told: Told, terms: Array, top: int) -> tuple[Array, Array, Array]:
        """Return the margins, and of each row what adds most: features and sizes, rows × top, see `predseg.forecast.effects.strongest`.

        Args:
            matrix: Float64 (rows, features).
            told: What values add.
            terms: What else is added, float64 (terms, rows).
            top: How many features of a row are looked for.
        """
        from predseg.forecast.tree_loops import margins

        if matrix.shape[1] != self.features:
            raise ValueError(f"matrix has {matrix.shape[1]} columns, the trees know {self.features} features")
        out = np.zeros((int(self.trees[1].max(initial=0)) + 1, len(matrix)))
        features, sizes = np.empty((top, len(matrix)), np.int64), np.empty((top, len(matrix)))
        whole = np.ascontiguousarray(matrix, np.float64)
        margins(whole, self.inputs, self.columns, self.nodes, self.trees, out, tuple(told), terms, features, sizes)
        return out, np.ascontiguousarray(features.T), np.ascontiguousarray(sizes.T)


class Members:
    """Answers for the members of a model: LightGBM for the first rows, the loops as soon as they pay."""

    def __init__(self, boosters: Sequence[lgb.Booster]) -> None:
        self._boosters, self._asked = boosters, 0

    def margins(self, matrix: Array) -> list[Array]:
        """Return the margin of each row (float64) by each member."""
        loops = self.loops(len(matrix))
        return list(loops.margins(matrix)) if loops else self.plain(matrix)

    def plain(self, matrix: Array) -> list[Array]:
        """Return the margins as LightGBM gives them."""
        return [np.asarray(booster.predict(matrix, raw_score=True)) if len(matrix) else np.zeros(0) for booster in self._boosters]

    def loops(self, rows: int) -> Trees | None:
        """Return what answers so many rows more; None where that is LightGBM: for few rows, until it pays, and where the trees cannot be said."""
        if rows < FEW:
            return None
        self._asked += rows
        pays = min(PAYS, LOADED) if "numba" in sys.modules else PAYS
        return self._trees if self._asked * self._number >= pays else None

    @cached_property
    def _number(self) -> int:
        return sum(booster.num_trees() for booster in self._boosters)

    @cached_property
    def _trees(self) -> Trees | None:
        trees = Trees.of(self._boosters)
        if trees is not None:
            try:
                trees.margins(np.zeros((1, trees.features)))
            except Exception:  # numba is not there, or cannot write or read what it keeps of the loops: LightGBM says the same
                return None
        return trees


class Tree:
    """A tree as LightGBM's text describes it: a child ``c`` is a split, or where it is negative the leaf ``~c``."""

    def __init__(self, fields: Mapping[str, str], plain: bool) -> None:
        self.leaves = _numbers(fields["leaf_value"], float)
        names = ("split_feature", "left_child", "right_child", "decision_type", "cat_boundaries", "cat_threshold", "internal_count", "leaf_count")
        numbers = (_numbers(fields.get(name, ""), int) for name in names)
        self.feature, self.left, self.right, self.kind, self.bounds, self.bits, self.rows, self.leaf_rows = numbers
        self.threshold = _numbers(fields.get("threshold", ""), float)
        self.plain = plain and fields.get("is_linear", "0") == "0" and len(self.leaves) <= MOST_LEAVES and not any(map(_zero_is_missing, self.kind))

    def splits(self) -> Iterator[Split]:
        """Yield feature, way and threshold of each split."""
        for feature, kind, threshold in zip(self.feature, self.kind, self.threshold, strict=True):
            yield feature, self._levels(int(threshold)) if kind & _CATEGORY else _way(kind), threshold

    def _levels(self, number: int) -> frozenset[int]:
        words = self.bits[self.bounds[number] : self.bounds[number + 1]]
        return frozenset(32 * i + bit for i, word in enumerate(words) for bit in range(32) if word >> bit & 1)

    def layout(self) -> tuple[list[int], list[float]]:
        """Return the leaves on the left of each split, as bits, and the values of the leaves from left to right."""
        below, values = [0] * len(self.feature), list[float]()

        def visit(child: int) -> None:
            if child < 0:
                values.append(self.leaves[~child])
                return
            first = len(values)
            visit(self.left[child])
            below[child] = (1 << len(values)) - (1 << first)
            visit(self.right[child])

        visit(0 if self.feature else -1)
        return below, values


def _zero_is_missing(kind: int) -> bool:
    return bool(kind & _ZERO_IS_MISSING)


def _way(kind: int) -> str:
    return ("left" if kind & _LEFT else "right") if kind & (_NAN_IS_MISSING | _ZERO_IS_MISSING) else "zero"


def _numbers(text: str, kind: type[Any]) -> list[Any]:
    return [*map(kind, text.split())]


def edges_of(splits: Iterable[Split]) -> dict[int, set[float]]:
    """Return the thresholds of each feature; a level lies between two of its own."""
    edges: dict[int, set[float]] = defaultdict(set)
    for feature, way, threshold in splits:
        edges[feature].update((threshold,) if isinstance(way, str) else (e for level in way for e in (level - 1.0, float(level))))
    return edges


def read_trees(booster: lgb.Booster) -> Iterator[Tree]:
    """Yield the trees of a booster."""
    header, *parts = booster.model_to_string().split("\nend of trees")[0].split("\nTree=")
    plain = "\nnum_tree_per_iteration=1\n" in header and "\naverage_output\n" not in header
    for part in parts:
        yield Tree(dict(line.split("=", 1) for line in part.splitlines() if "=" in line), plain)


def _arrays(edges: Mapping[int, Array], splits: Sequence[Split], read: list[list[Tree]]) -> Iterator[tuple[Array, ...]]:
    """Yield the arrays of `Trees`."""
    ways: dict[int, dict[Way, None]] = {feature: {} for feature in edges}
    for feature, way, _ in splits:
        ways[feature][way] = None
    counts = [np.array([0, *accumulate(map(len, some.values()))], np.int64) for some in (edges, ways)]
    yield np.array([*edges], np.int64), np.concatenate([np.zeros(0), *edges.values()]), *counts
    columns = [(feature, way) for feature, some in ways.items() for way in some]
    yield _columns([(edges[feature], way) for feature, way in columns])
    at = {column: i for i, column in enumerate(columns)}
    last = [int(np.searchsorted(edges[feature], t)) if isinstance(way, str) else 0 for feature, way, t in splits]
    trees = [tree for some in read for tree in some]
    leaving, leaves = np.zeros(len(splits), np.uint64), np.zeros((len(trees), MOST_LEAVES))
    begin = np.array([0, *accumulate(len(tree.feature) for tree in trees)], np.int64)
    for i, tree in enumerate(trees):
        leaving[begin[i] : begin[i + 1]], leaves[i, : len(tree.leaves)] = tree.layout()
    narrow = int(leaving.max(initial=0)) < 2**31  # the last leaf is on no split's left
    yield np.array([at[f, w] for f, w, _ in splits], np.int64), np.array(last, np.uint8), leaving.astype(np.uint32 if narrow else np.uint64)
    yield begin, np.array([i for i, some in enumerate(read) for _ in some], np.int64), leaves


def _columns(columns: Sequence[tuple[Array, Way]]) -> tuple[Array, Array, Array]:
    """Return the code of a missing value in each column, its line of the table, and the table: 0 for the levels that go left."""
    missing, line, table = [], [], [np.zeros((0, MOST_EDGES + 2), np.uint8)]
    for edges, way in columns:
        if isinstance(way, str):
            missing.append({"left": 0, "right": MOST_EDGES + 1}.get(way, int(np.searchsorted(edges, 0.0))))
            line.append(-1)
        else:
            missing.append(1)
            line.append(len(table) - 1)
            table.append(np.ones((1, MOST_EDGES + 2), np.uint8))
            table[-1][0, : len(edges)] = ~np.isin(edges, [*way])
    return np.array(missing, np.uint8), np.array(line, np.int64), np.concatenate(table)
