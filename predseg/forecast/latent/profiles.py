"""What is told of clusters: their profiles in words, and why there are so many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from predseg.evaluate.block import Array
from predseg.forecast.latent.choice import FEWEST, STABLE, Trial
from predseg.forecast.latent.measures import Aspect, Scaling, medians
from predseg.forecast.latent.names import Memory

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Trait:
    """One line of a profile: the median of the cluster beside the median of all."""

    measure: str
    median: float
    overall: float
    deviation: float
    says: str


@dataclass(frozen=True)
class Persona:
    """A cluster, described.

    Attributes:
        id: The same from run to run.
        name: What rules call it.
        size: How many customers it has, all of them counted.
        share: Of the customers that were compared.
        found_again: Whether the last run had it.
        profile: Medians of every measure, the most different first.
        rule: YAML of the rule language; None when no short rule tells the cluster from the others.
        sentence: The rule in English.
        precision: Share of those whom the rule finds who are in the cluster; found by evaluating the rule for everybody.
        recall: Share of the cluster whom the rule finds.
    """

    id: int
    name: str
    size: int
    share: float
    found_again: bool
    profile: tuple[Trait, ...]
    rule: str | None
    sentence: str | None
    precision: float | None
    recall: float | None


@dataclass(frozen=True)
class Discovery:
    """What was found at one moment; `members` has a row per customer: customer_id, model, cluster."""

    model: str
    as_of: int
    event: str
    customers: int
    sampled: int
    measures: tuple[str, ...]
    left_out: dict[str, str]
    trials: tuple[Trial, ...]
    chosen: int | None
    forced: bool
    verdict: str
    personas: tuple[Persona, ...] = ()
    lost: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    members: pa.Table | None = field(default=None, repr=False, compare=False)
    memory: Memory | None = field(default=None, repr=False, compare=False)


def profile(aspects: Sequence[Aspect], points: Array, values: Array, inside: Array) -> tuple[Trait, ...]:
    """Return the medians of some customers beside those of all, from scaled points and values (n, d)."""
    deviation = np.median(points[inside], axis=0) - np.median(points, axis=0)
    mine, overall = medians(values[inside]), medians(values)
    traits = [Trait(a.name, float(m), float(o), float(z), a.say(say_number(m))) for a, m, o, z in zip(aspects, mine, overall, deviation, strict=True)]
    return tuple(sorted(traits, key=lambda t: -abs(t.deviation)))


def say_number(value: float) -> str:
    """Return a median as one says it.

    >>> say_number(12.34), say_number(1234.5), say_number(3.0), say_number(0.25)
    ('12', '1,234', '3', '0.25')
    """
    if np.isnan(value):
        return "nothing"
    return f"{value:,.0f}" if abs(value) >= 10 or value == int(value) else f"{value:.2g}"


def verdict(trials: Sequence[Trial], chosen: Trial | None, forced: bool) -> str:
    """Return in a sentence why so many clusters."""
    if forced and chosen is not None:
        why = "stable and tighter than chance" if chosen.good else _why_not(chosen)
        return f"{chosen.clusters} clusters were asked for; they are {why}"
    if chosen is None:
        best = max(trials, key=lambda t: (t.stable, t.better, t.stability))
        return f"no number of clusters from {trials[0].clusters} to {trials[-1].clusters} is both stable and tighter than chance; {best.clusters} come closest: {_why_not(best)}"
    number = f"{chosen.clusters} is the largest number"
    larger = [t for t in trials if t.good and t.clusters > chosen.clusters and t.gaps >= chosen.gaps]
    if larger:
        number = f"{chosen.clusters} as in the last run"
    end = f"; {' and '.join(str(t.clusters) for t in larger)} would do too" if larger else ""
    if chosen.gaps:
        return f"{number} of clusters that are stable, tighter than chance and parted by gaps{end}"
    return f"{number} of clusters that are stable and tighter than chance, with soft borders{end}"


def _why_not(trial: Trial) -> str:
    found = []
    if not trial.stable:
        found.append(f"not stable (two halves of the customers agree to {trial.stability:.2f}, {STABLE} is needed)")
    if not trial.better:
        found.append("no tighter than cutting one cloud without clusters would give")
    if trial.smallest < FEWEST:
        found.append(f"one of them with {trial.smallest:.1%} of the customers only")
    return ", ".join(found)


def filled(values: Array, aspects: Sequence[Aspect], scaling: Scaling) -> tuple[str, ...]:
    """Return what is said of missing values."""
    missing = np.isnan(values).mean(axis=0)
    return tuple(
        f"{a.name} is missing for {m:.1%} of the customers, who count as {say_number(f)} there (the median)"
        for a, m, f in zip(aspects, missing.tolist(), scaling.fill.tolist(), strict=True)
        if m
    )
