"""Declarations of what is true of a customer at a moment: one condition, and conditions layered over each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal

from predseg.language.measures import Comparison, Events, Filter, Measure, Window, hashed_once


@hashed_once
@dataclass(frozen=True)
class Did:
    """A measure against a threshold. ``did_not: E`` is the count of E being exactly 0."""

    measure: Measure
    comparison: Comparison


@dataclass(frozen=True)
class Change:
    """The latest probability against the one in force ``within`` earlier."""

    direction: str  # rises | falls
    by: Decimal
    within: int


@hashed_once
@dataclass(frozen=True)
class Score:
    """A score of the last published run: one of a comparison of the probability, a share at the top or bottom, deciles, a change."""

    model: str
    comparison: Comparison | None = None
    top: Decimal | None = None
    bottom: Decimal | None = None
    deciles: tuple[int, ...] = ()
    change: Change | None = None


@hashed_once
@dataclass(frozen=True)
class In:
    """Membership of another segment, or its absence."""

    segment: str
    member: bool = True


@hashed_once
@dataclass(frozen=True)
class Trait:
    """A fact of the customer; unknown when it is missing."""

    filter: Filter


@hashed_once
@dataclass(frozen=True)
class Rfv:
    """Recency, frequency and value scores 1 to 5 (5 is best) over customers with such an event in the window."""

    of: Events
    window: Window
    scores: tuple[tuple[str, Comparison | tuple[int, ...]], ...]  # recency | frequency | value


@hashed_once
@dataclass(frozen=True)
class Cluster:
    """Belonging to one of the named clusters of a latent segmentation."""

    model: str
    names: tuple[str, ...]


@hashed_once
@dataclass(frozen=True)
class All:
    """True when all are true; unknown when none is false and one is unknown."""

    of: tuple[Condition, ...]


@hashed_once
@dataclass(frozen=True)
class Any:
    """True when one is true; unknown when none is true and one is unknown."""

    of: tuple[Condition, ...]


@hashed_once
@dataclass(frozen=True)
class NoneOf:
    """True when all are false; unknown when none is true and one is unknown."""

    of: tuple[Condition, ...]


@hashed_once
@dataclass(frozen=True)
class Some:
    """True when at least n are true; unknown when the unknown ones could still decide it."""

    at_least: int
    of: tuple[Condition, ...]


@hashed_once
@dataclass(frozen=True)
class Holds:
    """Whether one condition is true, with two values: what `In` stands for when the rule of the segment is put in its place."""

    of: tuple[Condition, ...]
    member: bool = True


Layer = All | Any | NoneOf | Some | Holds
Condition = Did | Score | In | Trait | Rfv | Cluster | Layer
LAYERS = (All, Any, NoneOf, Some, Holds)


@dataclass(frozen=True)
class Prediction:
    """A statement about the future, seen from a cutoff c: the measure over (c, c + horizon] passes the comparison.

    Without a comparison the number itself is predicted: the expected sum.
    """

    measure: Measure  # its window is the horizon, evaluated at c + horizon
    comparison: Comparison | None
    horizon: int


def walk(condition: Condition) -> Iterator[Condition]:
    """Yield the condition and all conditions within it, outermost first."""
    yield condition
    if isinstance(condition, LAYERS):
        for part in condition.of:
            yield from walk(part)


def shared(conditions: Iterable[Condition]) -> list[Condition]:
    """Return the conditions with equal parts, and equal measures, made one object each: to look one up then compares no contents."""
    seen: dict[Condition, Condition] = {}
    measured: dict[Measure, Measure] = {}

    def one(condition: Condition) -> Condition:
        if isinstance(condition, LAYERS):
            condition = replace(condition, of=tuple(map(one, condition.of)))
        elif isinstance(condition, Did):
            condition = Did(measured.setdefault(condition.measure, condition.measure), condition.comparison)
        return seen.setdefault(condition, condition)

    return [one(condition) for condition in conditions]


def measures(condition: Condition) -> list[Measure]:
    """Return the measures that the condition reads, each once, in order."""
    return list(dict.fromkeys(c.measure for c in walk(condition) if isinstance(c, Did)))
