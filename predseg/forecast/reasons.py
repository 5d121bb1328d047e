"""Why a score is what it is: the features that moved it most, in words.

What a feature adds to the logit is said in one of two ways:

- **exact**: LightGBM's own contributions (Shapley values over the trees) plus the terms of the linear member. Computing
  them costs 20 to 250 times as much as the score itself.
- **quick**: what the trees are expected to answer when this one value is known and nothing else, less what they are
  expected to answer when nothing is known. It is the first-order part of the exact contribution, equal to it where
  features do not interact, and a table look-up per value. Expectations go by the training rows in each branch.

Either way a row's reasons depend on that row and the model alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from predseg.forecast.forecaster import Array, Forecaster
from predseg.forecast.gaps import Gaps
from predseg.language.english import say_events, say_measure, say_then, say_window
from predseg.language.measures import Measure

if TYPE_CHECKING:
    import pyarrow as pa

    from predseg.forecast.features import FeatureSet

Declaration = Mapping[str, Any]
TOP = 3


def declare(features: FeatureSet) -> dict[str, dict[str, Any]]:
    """Return what each feature means as plain JSON values: what a saved model needs to speak of its features.

    Each has ``kind`` (an aggregate, ``ratio`` or ``trait``) and ``says`` (a phrase); a measure has ``events``, ``when``
    and ``of``, a ratio ``numerator`` and ``denominator``, a trait its ``of``.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, feature in features.columns:
        if isinstance(feature, Measure):
            events = say_events(feature.events) + say_then(feature.then)
            found[name] = {
                "kind": feature.aggregate,
                "events": events,
                "when": say_window(feature.window),
                "of": feature.of,
                "says": say_measure(feature),
            }
        elif isinstance(feature, Gaps):
            found[name] = {"kind": f"gaps_{feature.kind}", "events": say_events(feature.events), "when": "", "of": None, "says": feature.says}
        else:
            says = f"{feature.numerator} over {feature.denominator}"
            found[name] = {"kind": "ratio", "numerator": feature.numerator, "denominator": feature.denominator, "says": says}
    return found | {f"trait_{name}": {"kind": "trait", "of": name, "says": name} for name in features.traits}


def say_feature(name: str, value: float | str | None, declarations: Mapping[str, Declaration]) -> tuple[str, bool]:
    """Return the value of a feature as a phrase, and whether the phrase is a plural.

    Args:
        name: The feature.
        value: A number, a level of a trait, or None (or NaN) for missing.
        declarations: What the features mean, see `declare`; without one the phrase is ``name: value``.

    >>> orders = {"kind": "count", "events": "Order Completed", "when": " in the last 90 days"}
    >>> say_feature("count_order_completed_90d", 4.0, {"count_order_completed_90d": orders})
    ('4 Order Completed in the last 90 days', True)
    >>> say_feature("days_since_x", 3.2, {"days_since_x": {"kind": "days_since_last", "events": "X", "when": ""}})
    ('last X 3 days ago', False)
    """
    declaration = declarations.get(name, {})
    kind = declaration.get("kind")
    missing = value is None or value != value
    if kind == "trait":
        return f"{declaration['of']} {'not known' if missing else f'is {value}'}", False
    if kind is None or isinstance(value, str):
        return f"{name} {'missing' if missing else value if isinstance(value, str) else _number(float(value or 0))}", False
    number = None if missing else float(value)  # type: ignore[arg-type]
    if kind == "ratio":
        return _say_ratio(number, declaration, declarations)
    return _say_measured(str(kind), number, declaration)


def _say_measured(kind: str, value: float | None, declaration: Declaration) -> tuple[str, bool]:
    events, when, of = str(declaration["events"]), str(declaration["when"]), str(declaration.get("of") or "")
    if kind.startswith("gap_"):
        what = {"gap_mean": "usual gap", "gap_std": "spread", "gap_last": "last gap"}[kind]
        of_gaps = f" of the gaps between {events}" if kind == "gap_std" else f" between {events}"
        return (f"no second {events} yet" if value is None else f"{what} of {_days(value)}{of_gaps}") + when, False
    if kind.startswith("days_since_"):
        return f"no {events}{when}" if value is None else f"{kind.removeprefix('days_since_')} {events} {_days(value)} ago{when}", False
    if kind.startswith("rhythm_"):
        return _say_rhythm(kind, value, events), False
    if kind.startswith("gaps_"):
        return _say_gaps(kind.removeprefix("gaps_"), value, events, str(declaration["says"])), False
    if value is None or (value == 0 and kind in ("count", "distinct")):
        return f"no {events}{when}", False
    if kind == "count":
        return f"{_number(value)} {events}{when}", value != 1
    if kind == "distinct":
        return f"{_number(value)} different {of} of {events}{when}", value != 1
    word = {"sum": "total", "avg": "average", "min": "smallest", "max": "largest"}[kind]
    return f"{word} {of} {_number(value)} of {events}{when}", False


def _say_rhythm(kind: str, value: float | None, events: str) -> str:
    if value is None:
        return f"no {events}"
    if kind == "rhythm_0":
        return f"{value:.0%} likely still a customer, by the own rhythm of {events},"
    if kind == "rhythm_1":
        return f"a usual pace of {_number(round(30 * value, 1))} {events} in 30 days"
    if kind == "rhythm_share":
        return f"{_number(round(100 * value, 1))}% of visits likely to end in {events}"
    return f"{1 / (1 + np.exp(-value)):.0%} likely {events}, by the own rhythm alone,"


def _say_gaps(kind: str, value: float | None, events: str, says: str) -> str:
    if value is None:
        return f"no second {events} yet" if kind != "due" else f"no {events}"
    if kind in ("longer", "due"):
        return f"{value:.0%} of {says.removeprefix('share of ')}"
    if kind == "typical":
        return f"a typical gap of {_days(float(np.expm1(value)))} between {events}"
    if kind == "spread":
        return f"gaps between {events} that differ {_number(float(np.exp(value)))} times"
    return f"last {events} {_number(float(np.exp(value)))} times the typical gap ago"


def _say_ratio(value: float | None, declaration: Declaration, declarations: Mapping[str, Declaration]) -> tuple[str, bool]:
    over, under = (declarations.get(str(declaration[part]), {}) for part in ("numerator", "denominator"))
    events = str(under.get("events", declaration["denominator"]))
    if under.get("kind") == "gap_mean":
        return (f"no second {events} yet" if value is None else f"last {events} {_number(value)} times the usual gap ago"), False
    what = f"the {under['of']} of {events}" if under.get("of") else events
    if value is None:
        return f"no {what}{under.get('when', '')}", False
    return f"{_number(100 * value)}% of {what}{under.get('when', '')} being{over.get('when', '')}", False


def _number(value: float) -> str:
    """Whole from 10 on, one digit after the point below."""
    rounded = round(value) if abs(value) >= 10 else round(value, 1)
    return f"{rounded:,.0f}" if rounded == int(rounded) else f"{rounded:,.1f}"


def _days(value: float) -> str:
    number = _number(float(round(value)) if value >= 2 else value)
    return f"{number} day{'' if number == '1' else 's'}"


@dataclass(frozen=True, eq=False)
class Effects:
    """The quick contributions of the trees: per feature the ends of its bins, and what a value in each bin adds.

    Bin k holds x with edges[k-1] < x <= edges[k]; the last edge is infinite, and one more value stands for missing.
    """

    edges: tuple[Array, ...] = field(repr=False)
    values: tuple[Array, ...] = field(repr=False)

    def apply(self, matrix: Array) -> Array:
        """Return what each feature adds: rows × features, from rows encoded as the trees are given them."""
        whole = np.ascontiguousarray(matrix, "<f8")
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
    trees = [tree["tree_structure"] for booster in forecaster.boosters for tree in booster.dump_model()["tree_info"]]
    ends: list[set[float]] = [set() for _ in forecaster.features]
    for tree in trees:
        _collect(tree, ends)
    edges = tuple(np.array([*sorted(e), np.inf]) for e in ends)
    values = tuple(np.zeros(len(e) + 1) for e in edges)
    for tree in trees:
        _add_tree(tree, edges, values)
    return Effects(edges, tuple(v / max(1, len(forecaster.boosters)) for v in values))


def _collect(node: Mapping[str, Any], ends: list[set[float]]) -> None:
    if "split_feature" not in node:
        return
    if node["decision_type"] == "==":
        ends[node["split_feature"]].update(edge for level in _levels(node) for edge in (level - 1.0, float(level)))
    else:
        ends[node["split_feature"]].add(float(node["threshold"]))
    _collect(node["left_child"], ends)
    _collect(node["right_child"], ends)


def _levels(node: Mapping[str, Any]) -> list[int]:
    return [int(level) for level in str(node["threshold"]).split("||")]


def _goes_left(node: Mapping[str, Any], edges: Array) -> Array:
    """Where each bin of the feature goes, and, last, a missing value."""
    if node["decision_type"] == "==":
        return np.append(np.isin(edges, _levels(node)), False)
    missing = node["default_left"] if node["missing_type"] != "None" else node["threshold"] >= 0.0
    return np.append(edges <= node["threshold"], missing)


def _rows(node: Mapping[str, Any]) -> float:
    return float(node["internal_count"] if "split_feature" in node else node.get("leaf_count", 1))


def _expected(node: dict[str, Any]) -> float:
    """The mean answer below a node over its training rows, kept in the node."""
    if "split_feature" not in node:
        return float(node["leaf_value"])
    if "expected" not in node:
        left, right = node["left_child"], node["right_child"]
        node["expected"] = (_expected(left) * _rows(left) + _expected(right) * _rows(right)) / max(1.0, _rows(left) + _rows(right))
    return float(node["expected"])


def _add_tree(root: dict[str, Any], edges: Sequence[Array], values: Sequence[Array]) -> None:
    """Add to the feature of each node by how much the branch that a value takes changes the expectation.

    That change counts as often as the node is reached when only this value is known: ``reach`` holds per feature seen above the node where its bins go (0 or 1) and the share of rows that went there.
    """
    todo: list[tuple[dict[str, Any], float, dict[int, tuple[Array, float]]]] = [(root, 1.0, {})]
    while todo:
        node, share, reach = todo.pop()
        if "split_feature" not in node:
            continue
        feature = node["split_feature"]
        left = _goes_left(node, edges[feature])
        here, its_share = reach.get(feature, (np.ones(len(left)), 1.0))
        change = np.where(left, _expected(node["left_child"]), _expected(node["right_child"])) - _expected(node)
        values[feature][:] += here * (share / its_share) * change
        for child, goes in ((node["left_child"], left), (node["right_child"], ~left)):
            part = _rows(child) / max(1.0, _rows(node["left_child"]) + _rows(node["right_child"]))
            if part:
                todo.append((child, share * part, {**reach, feature: (here * goes, its_share * part)}))


def quick_contributions(forecaster: Forecaster, effects: Effects, matrix: Array) -> Array:
    """Return the quick contributions to the logit of rows already encoded: rows × features."""
    share = forecaster.blend if forecaster.linear and forecaster.boosters else float(forecaster.linear is not None)
    found = effects.apply(matrix)
    if forecaster.linear:
        found *= 1.0 - share
        at = {name: i for i, name in enumerate(forecaster.features)}
        columns = {name: np.ascontiguousarray(matrix[:, at[name]]) for name in forecaster.linear.columns}
        for name, term in forecaster.linear.terms(columns).items():
            found[:, at[name]] += share * term
    return found


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


class Speaker:
    """Says the reasons of rows; a phrase is made once, however many rows need it.

    Args:
        forecaster: The model.
        declarations: What its features mean, see `declare`.
    """

    def __init__(self, forecaster: Forecaster, declarations: Mapping[str, Declaration]) -> None:
        self._forecaster, self._declarations = forecaster, declarations
        self._texts: list[str] = []
        self._places: list[dict[float | None, int]] = [{} for _ in forecaster.features]

    def say(self, values: Array, features: Array, sizes: Array) -> pa.Array:
        """Return list<string>, a few reasons a row, such as ``last Order Completed 3 days ago raises it``.

        Args:
            values: Rows × reasons, as the trees are given them.
            features: The features that have these values, see `strongest`.
            sizes: What each of these features adds.
        """
        import pyarrow as pa

        place = np.full(features.shape, -1)
        for feature in np.unique(features[features >= 0]).tolist():
            at = features == feature
            found, which = np.unique(self._coarse(values[at], feature), return_inverse=True)
            places = np.array([self._place(feature, None if v != v else v) for v in found.tolist()])
            place[at] = places[which] + (sizes[at] > 0)
        chosen = place >= 0
        ends = np.append(0, np.cumsum(chosen.sum(axis=1)))
        words = pa.array(self._texts, pa.string()).take(pa.array(place[chosen]))
        return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), words)

    def _coarse(self, values: Array, feature: int) -> Array:
        """Values that read the same as the same number: three digits, days whole from two on."""
        name = self._forecaster.features[feature]
        if name in self._forecaster.categories:
            return values
        kind = str(self._declarations.get(name, {}).get("kind"))
        size = np.abs(values)
        step = np.where(size >= 1000, 10.0 ** np.floor(np.log10(np.maximum(size, 1.0)) - 2), 1.0)
        digits, whole = (3, 10) if kind == "ratio" or kind.startswith("rhythm_") else (1, 2 if kind.startswith(("days_since", "gap_")) else 10)
        return np.asarray(np.where(size >= whole, np.round(values / step) * step, np.round(values, digits)) + 0.0)

    def _place(self, feature: int, value: float | None) -> int:
        """Where the two phrases of a value are: lowers, raises."""
        known = self._places[feature]
        if value not in known:
            name = self._forecaster.features[feature]
            levels = self._forecaster.categories.get(name)
            phrase, plural = say_feature(name, value if levels is None or value is None else levels[int(value)], self._declarations)
            known[value] = len(self._texts)
            self._texts += [f"{phrase} {verb}{'' if plural else 's'} it" for verb in ("lower", "raise")]
        return known[value]
