"""Why a score is what it is: the features that moved it most (see `predseg.forecast.effects`), in words."""

from __future__ import annotations

from collections.abc import Mapping
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
    if kind == "taste":
        return _say_taste(value, declaration), False
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


def _say_taste(value: float | None, declaration: Declaration) -> str:
    if value is None:
        return f"no {declaration['of']} of {declaration['events']} that is known"
    more, less = (declaration[way] for way in (("most", "least") if value >= 0 else ("least", "most")))
    return f"{declaration['of']} of {declaration['events']} more like {more} than like {less} ({abs(value):.2f})"


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
            features: The features that have these values, see `predseg.forecast.effects.strongest`.
            sizes: What each of these features adds.
        """
        import pandas as pd
        import pyarrow as pa

        order = np.argsort(features.ravel().astype(np.int16), kind="stable")  # one feature after the other
        ends = np.searchsorted(features.ravel()[order], np.arange(len(self._places) + 1))
        sorted_values, found = values.ravel()[order], np.empty(features.size, np.int32)
        for feature in np.flatnonzero(np.diff(ends)).tolist():
            its = slice(ends[feature], ends[feature + 1])
            which, different = pd.factorize(self._coarse(sorted_values[its], feature), use_na_sentinel=False)
            found[order[its]] = np.array([self._place(feature, None if v != v else v) for v in different.tolist()], np.int32)[which]
        chosen = features >= 0
        starts = np.append(0, np.cumsum(chosen.sum(axis=1)))
        words = pa.array(self._texts, pa.string()).take(pa.array((found.reshape(features.shape) + (sizes > 0))[chosen]))
        return pa.ListArray.from_arrays(pa.array(starts, pa.int32()), words)

    def _coarse(self, values: Array, feature: int) -> Array:
        """Values that read the same as the same number: three digits, days whole from two on."""
        name = self._forecaster.features[feature]
        if name in self._forecaster.categories:
            return values
        kind = str(self._declarations.get(name, {}).get("kind"))
        size = np.abs(values)
        step = np.where(size >= 1000, 10.0 ** np.floor(np.log10(np.maximum(size, 1.0)) - 2), 1.0)
        digits, whole = (
            (3, 10) if kind == "ratio" or kind.startswith(("rhythm_", "taste")) else (1, 2 if kind.startswith(("days_since", "gap_")) else 10)
        )
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
