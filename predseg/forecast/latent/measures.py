"""What customers are compared by when clusters are sought: measures that a rule can ask for, on a robust scale."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from predseg.config import EventFeatures, Features
from predseg.evaluate.block import Array
from predseg.language.english import say_window
from predseg.language.measures import Events, Measure, Window, column_name, slug

Role = Literal["recency", "tenure", "frequency", "value", "other"]
CLIP = 3.0
"""Nobody counts as further than this from the median, in units of the scale."""
ALIKE = 0.9
"""Measures whose ranks go together this closely say the same; the first one is kept."""
SAME = 0.95
"""A measure that is the same for this share of the customers tells nobody apart."""


@dataclass(frozen=True)
class Aspect:
    """One number that customers are compared by."""

    name: str
    measure: Measure
    role: Role = "other"

    @property
    def kind(self) -> str:
        """``days``, ``count`` (whole numbers) or ``amount``."""
        aggregate = self.measure.aggregate
        return "days" if aggregate.startswith("days_since") else "count" if aggregate in ("count", "distinct") else "amount"

    @property
    def short(self) -> str:
        """The name without its window, as part of the name of a cluster."""
        words = self.name.split("_")
        kept = words[:-1] if len(words) > 1 and words[-1][:-1].isdigit() else words
        return "_".join(kept[1:] if kept[0] == "count" and len(kept) > 1 else kept)

    @property
    def fingerprint(self) -> str:
        """The same for the same declaration, from run to run."""
        return f"{self.name} {hashlib.sha256(repr(self.measure).encode()).hexdigest()[:12]}"

    def say(self, value: str) -> str:
        """Return the measure with a value, in words.

        >>> Aspect("days_since_order", Measure(Events(("Order",)), Window(), "days_since_last")).say("12")
        'last Order 12 days ago'
        """
        measure = self.measure
        event, when = " or ".join(measure.events.names) or "any event", say_window(measure.window)
        if measure.events.where or measure.then is not None or self.name != column_name(measure):
            return f"{self.name} = {value}"
        match measure.aggregate:
            case "days_since_last" | "days_since_first":
                return f"{measure.aggregate.rsplit('_', 1)[1]} {event} {value} day{'' if value == '1' else 's'} ago"
            case "count":
                return f"{value} {event}{when}"
            case "distinct":
                return f"{value} different {measure.of} of {event}{when}"
        word = {"sum": "total", "avg": "average", "min": "smallest", "max": "largest"}[measure.aggregate]
        return f"{word} {measure.of} {value}{when}"


def value_event(features: Features) -> str | None:
    """Return the first declared event that has a value, else the first one; None when no event is declared."""
    return next((name for name, e in features.events if e.value), next((name for name, _ in features.events), None))


def candidates(features: Features) -> list[Aspect]:
    """Return the measures of a project that a rule can ask for, the most telling first.

    Of the value event: days since the last and the first, number and total in the longest window, the average, and
    different ones of a property; of other events their number and different ones; and the named measures.
    """
    main = value_event(features)
    span = Window(max(features.windows)) if features.windows else Window()
    found: list[Aspect] = []
    for name, wanted in sorted(features.events, key=lambda e: e[0] != main):
        found += _of_event(Events((name,)), wanted, span, name == main)
    taken = {a.measure for a in found}
    found += [Aspect(name, m) for name, m in features.measures if m not in taken and _sayable(m)]
    return list({a.name: a for a in found}.values())


def _of_event(events: Events, wanted: EventFeatures, span: Window, main: bool) -> list[Aspect]:
    plan: list[tuple[Measure, Role]] = [(Measure(events, span), "frequency")]
    if main:
        plan = [(Measure(events, Window(), "days_since_last"), "recency"), *plan]
        if wanted.value:
            plan.append((Measure(events, Window(), "avg", wanted.value), "value"))
        plan.append((Measure(events, Window(), "days_since_first"), "tenure"))
        if wanted.value:
            plan.append((Measure(events, span, "sum", wanted.value), "value"))
        plan.append((Measure(events), "frequency"))
    plan += [(Measure(events, span, "distinct", of), "other") for of in wanted.distinct]
    return [Aspect(column_name(m), m, role if main else "other") for m, role in plan]


def _sayable(measure: Measure) -> bool:
    """Whether a threshold of the measure is a condition of the language: gaps have no verb, days only count back to one event."""
    if measure.aggregate.startswith("gap") or not measure.events.names:
        return False
    return not measure.aggregate.startswith("days_since") or (measure.window == Window() and measure.then is None)


@dataclass(frozen=True)
class Scaling:
    """From the values of aspects to comparable numbers: the signed logarithm, less its median, in units of its spread."""

    fill: Array  # float64 (d): what stands for a missing value
    center: Array  # float64 (d)
    scale: Array  # float64 (d)

    def take(self, columns: Sequence[int]) -> Scaling:
        """Return the scaling of some columns."""
        return Scaling(self.fill[columns], self.center[columns], self.scale[columns])

    def apply(self, values: Array) -> Array:
        """Return float64 (n, d) within ±3, from values (n, d) with NaN for missing."""
        filled = np.where(np.isnan(values), self.fill, values)
        return np.clip((_signed_log(filled) - self.center) / self.scale, -CLIP, CLIP)


def fit_scaling(values: Array) -> Scaling:
    """Return the scaling of values (n, d): quartiles, or the deviation where half of the customers share one value."""
    fill = medians(values)
    logs = _signed_log(np.where(np.isnan(values), fill, values))
    low, center, high = np.quantile(logs, (0.25, 0.5, 0.75), axis=0)
    spread, deviation = (high - low) / 1.349, logs.std(axis=0)
    crowded = np.array([_commonest(column) >= 0.5 for column in values.T])
    scale = np.where(crowded | (spread <= 0), deviation, spread)
    return Scaling(fill, center, np.where(scale > 0, scale, 1.0))


def spread_ties(values: Array, aspects: Sequence[Aspect], rng: np.random.Generator) -> Array:
    """Return the values with whole numbers spread evenly over ±½, so that the steps between them are not taken for gaps."""
    found = values.copy()
    for column, aspect in enumerate(aspects):
        if aspect.kind == "count":
            found[:, column] += rng.uniform(-0.5, 0.5, len(values))
    return found


def select(values: Array, aspects: Sequence[Aspect]) -> tuple[list[int], dict[str, str]]:
    """Return which columns to compare customers by, and why the others are left out."""
    import pandas as pd

    ranks = pd.DataFrame(values).rank().to_numpy()
    kept: list[int] = []
    left: dict[str, str] = {}
    for column, aspect in enumerate(aspects):
        missing, common = np.isnan(values[:, column]).mean(), _commonest(values[:, column])
        if missing > 0.5:
            left[aspect.name] = f"missing for {missing:.0%} of the customers"
        elif common > SAME:
            left[aspect.name] = f"the same for {common:.0%} of the customers"
        elif (twin := next((k for k in kept if _correlation(ranks[:, k], ranks[:, column]) > ALIKE), None)) is not None:
            left[aspect.name] = f"goes with {aspects[twin].name}"
        else:
            kept.append(column)
    return kept, left


def _correlation(a: Array, b: Array) -> float:
    both = ~(np.isnan(a) | np.isnan(b))
    if both.sum() < 3 or not (a[both].std() and b[both].std()):
        return 0.0
    return abs(float(np.corrcoef(a[both], b[both])[0, 1]))


def _commonest(column: Array) -> float:
    """Return the share of the most frequent value among those that are not missing."""
    known = column[~np.isnan(column)]
    return float(np.unique(known, return_counts=True)[1].max() / len(known)) if len(known) else 1.0


def _signed_log(values: Array) -> Array:
    return np.asarray(np.sign(values) * np.log1p(np.abs(values)))


def medians(values: Array) -> Array:
    """Return the median of each column of (n, d) over what is not missing, NaN where everything is."""
    known = [column[~np.isnan(column)] for column in values.T]
    return np.array([np.median(column) if len(column) else np.nan for column in known], np.float64)


def noun(features: Features) -> str:
    """Return what customers with the value event are called: buyers, or by the event when it has no value."""
    main = value_event(features)
    return "buyers" if any(e.value for _, e in features.events) or main is None else f"{slug(main)}_users"
