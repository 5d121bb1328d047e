"""The facts that a rule test states: scores, traits, rfv scores, clusters and memberships, always or from an instant on.

    facts: {score: {churn: 0.9}, trait: {country: GB}}          always
    facts:                                                      from an instant on, each replacing what it names
      - {score: {churn: {probability: 0.3, percentile: 0.4}}}
      - {at: 2026-03-15 09:00, score: {churn: {probability: 0.6, percentile: 0.95}}}

A score is ``probability``, ``percentile`` (1 − h/N with h of N customers strictly higher) and ``decile``, each if wanted.
An expected value, of a model that predicts a sum, is ``value`` instead of ``probability``.
A number alone is the probability and, where a rule asks for a rank, the share of customers that score lower, so that 0.9
is in ``top: 10%``. Ranks are those of a large population without ties. What is not stated is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from math import ceil, floor
from typing import Any

from predseg.errors import ConfigError, nearest
from predseg.evaluate.reference import Truth
from predseg.language import conditions as c
from predseg.language.english import say_list, say_value
from predseg.language.measures import Comparison, Value
from predseg.language.spelling import element
from predseg.language.time import parse_instant, say_instant
from predseg.language.yaml import Node
from predseg.segments.customer import Found, trait_truth

ALWAYS = -(2**61)
KEYS = ("at", "score", "trait", "rfv", "cluster", "in", "not_in")
DIMENSIONS = ("recency", "frequency", "value")


@dataclass(frozen=True)
class Stated:
    """A score as a test states it; None is not stated. ``lower`` is the share of customers that score lower."""

    probability: Decimal | None = None
    percentile: Decimal | None = None
    decile: int | None = None
    lower: Decimal | None = None

    def top(self, share: Decimal) -> Truth:
        """Whether it is among the highest ``share`` percent; None when the facts leave it open."""
        if self.percentile is not None:
            return 100 * (1 - self.percentile) < share
        if self.decile is not None:
            return True if 10 * self.decile <= share else False if 10 * (self.decile - 1) >= share else None
        return None if self.lower is None else 100 * (1 - self.lower) <= share

    def bottom(self, share: Decimal) -> Truth:
        """Whether it is among the lowest ``share`` percent; None when the facts leave it open."""
        if self.percentile is not None:
            return 100 * self.percentile <= share
        if self.decile is not None:
            return True if 10 * (11 - self.decile) <= share else False if 10 * (10 - self.decile) >= share else None
        return None if self.lower is None else 100 * self.lower < share

    def tenth(self) -> int | None:
        """The decile, 1 is the highest tenth; None when the facts leave it open."""
        if self.decile is not None:
            return self.decile
        if self.percentile is not None:
            return min(10, 1 + floor(10 * (1 - self.percentile)))
        return None if self.lower is None else max(1, ceil(10 * (1 - self.lower)))


@dataclass(frozen=True)
class Given:
    """Facts from one instant on. Keys are (kind, name), such as ("score", "churn")."""

    at: int
    facts: Mapping[tuple[str, str], Any]


@dataclass(frozen=True)
class Givens:
    """All facts of a test, in order of time."""

    entries: tuple[Given, ...] = ()

    def value(self, kind: str, name: str, t: int) -> Any:
        """Return the fact in force at t, None when there is none."""
        return next((g.facts[kind, name] for g in reversed(self.entries) if g.at <= t and (kind, name) in g.facts), None)

    @property
    def segments(self) -> set[str]:
        """The segments whose membership is stated."""
        return {name for g in self.entries for kind, name in g.facts if kind == "in"}

    @property
    def first_trait(self) -> int | None:
        """From when a trait makes the customer known; None without a trait that has a time."""
        return min((g.at for g in self.entries if g.at != ALWAYS and any(kind == "trait" for kind, _ in g.facts)), default=None)

    def instants(self, condition: c.Condition) -> Iterator[int]:
        """Yield the instants at which facts can change a condition."""
        timed = [g.at for g in self.entries if g.at != ALWAYS]
        yield from timed
        for part in c.walk(condition):
            if isinstance(part, c.Score) and part.change is not None:
                yield from (at + part.change.within for at in timed)

    def truth(self, condition: c.Condition, t: int) -> Truth:
        """Decide a condition at t."""
        match condition:
            case c.Score():
                return self._score(condition, t)
            case c.Trait():
                return trait_truth(condition.filter, self.value("trait", condition.filter.property, t))
            case c.In():
                return bool(self.value("in", condition.segment, t)) == condition.member
            case c.Rfv():
                found = [(wanted, self.value("rfv", name, t)) for name, wanted in condition.scores]
                return None if any(v is None for _, v in found) else all(_passes(v, wanted) for wanted, v in found)
            case c.Cluster():
                name = self.value("cluster", condition.model, t)
                return None if name is None else name in condition.names
        raise TypeError(f"{type(condition).__name__} does not follow from facts")

    def _score(self, condition: c.Score, t: int) -> Truth:
        stated: Stated | None = self.value("score", condition.model, t)
        if stated is None:
            return None
        if condition.top is not None:
            return stated.top(condition.top)
        if condition.bottom is not None:
            return stated.bottom(condition.bottom)
        if condition.deciles:
            tenth = stated.tenth()
            return None if tenth is None else tenth in condition.deciles
        if condition.change is not None:
            before: Stated | None = self.value("score", condition.model, t - condition.change.within)
            if before is None or before.probability is None or stated.probability is None:
                return None
            moved = stated.probability - before.probability
            return (moved if condition.change.direction == "rises" else -moved) >= condition.change.by
        assert condition.comparison is not None
        return None if stated.probability is None else condition.comparison.accepts(stated.probability)

    def found(self, condition: c.Condition, t: int) -> Found:
        """Say what the test states."""
        match condition:
            case c.Score():
                return Found(_say_score(self.value("score", condition.model, t), condition, self.truth(condition, t)))
            case c.Trait():
                value = self.value("trait", condition.filter.property, t)
                return Found(
                    "not stated in `facts`"
                    if value is None
                    else say_list([say_value(v) for v in value])
                    if isinstance(value, tuple)
                    else say_value(value)
                )
            case c.In():
                return Found(f"stated in `facts`: {'a member' if self.value('in', condition.segment, t) else 'not a member'}")
            case c.Rfv():
                values = {name: self.value("rfv", name, t) for name, _ in condition.scores}
                return Found(", ".join(f"{name} {'not stated in `facts`' if v is None else v}" for name, v in values.items()))
            case c.Cluster():
                return Found(self.value("cluster", condition.model, t) or "not stated in `facts`")
        return Found("")


def _passes(score: int, wanted: Comparison | tuple[int, ...]) -> bool:
    return score in wanted if isinstance(wanted, tuple) else wanted.accepts(score)


def _say_score(stated: Stated | None, condition: c.Score, truth: Truth) -> str:
    if stated is None:
        return "not stated in `facts`"
    known = {"probability": stated.probability, "percentile": stated.percentile, "decile": stated.decile, "share that scores lower": stated.lower}
    said = ", ".join(f"{name} {say_value(value)}" for name, value in known.items() if value is not None)
    if truth is not None:
        return said
    missing = "percentile" if condition.top or condition.bottom or condition.deciles else "probability"
    return f"{said}; state its {missing} too" if condition.change is None else f"{said}; nothing is stated for that much earlier"


def parse_givens(node: Node | None, models: Iterable[str], segments: Iterable[str]) -> Givens:
    """Return the facts of a test.

    Raises:
        ConfigError: E343 for a value that is no such fact, E344 for a model or a segment that does not exist, E342 for `at`.
    """
    if node is None:
        return Givens()
    nodes = node.value if node.is_list else [node]
    known = {"score": tuple(models), "in": tuple(segments)}
    return Givens(tuple(sorted((_given(n, known) for n in nodes), key=lambda g: g.at)))


def _given(node: Node, known: Mapping[str, tuple[str, ...]]) -> Given:
    keys = node.mapping("`facts`", KEYS)
    facts: dict[tuple[str, str], Any] = {}
    for kind, read in (("score", _stated), ("trait", _trait), ("cluster", _cluster)):
        for name, value in keys[kind].mapping(f"`{kind}`").items() if kind in keys else ():
            _check(kind, name, keys[kind].key_place(name), known)
            facts[kind, name] = read(value, name)
    for name, value in keys["rfv"].mapping("`rfv`", DIMENSIONS).items() if "rfv" in keys else ():
        facts["rfv", name] = _whole(value, name, 5)
    for key in ("in", "not_in"):
        for item in (keys[key].value if keys[key].is_list else [keys[key]]) if key in keys else ():
            name = item.text(f"`{key}`")
            _check("in", name, item.place, known)
            facts["in", name] = key == "in"
    return Given(read_instant(keys["at"], "at") if "at" in keys else ALWAYS, facts)


def _check(kind: str, name: str, place: str, known: Mapping[str, tuple[str, ...]]) -> None:
    if kind in known and name not in known[kind]:
        what = {"score": "model", "in": "segment"}[kind]
        raise ConfigError("E344", place, f"the facts name an unknown {what} {name!r}", nearest(name, known[kind]))


def _stated(node: Node, name: str) -> Stated:
    if not node.is_mapping:
        share = _share(node, f"the score of {name!r}")
        return Stated(probability=share, lower=share)
    keys = node.mapping(f"the score of {name!r}", ("probability", "value", "percentile", "decile"))
    if "probability" in keys and "value" in keys:
        raise ConfigError("E343", keys["value"].place, f"the score of {name!r} is a probability or an expected value", "state one of the two")
    shares = {key: _share(keys[key], f"`{key}`") for key in ("probability", "percentile") if key in keys}
    if "value" in keys:
        shares["probability"] = keys["value"].number("`value`")
    stated = Stated(**shares, decile=_whole(keys["decile"], "decile", 10) if "decile" in keys else None)
    if stated == Stated():
        raise ConfigError("E343", node.place, f"the score of {name!r} states nothing", "write `{probability: 0.9, percentile: 0.97}` or a number")
    if stated.decile is not None and stated.percentile is not None and Stated(percentile=stated.percentile).tenth() != stated.decile:
        tenth = Stated(percentile=stated.percentile).tenth()
        raise ConfigError("E343", node.place, f"percentile {stated.percentile} lies in decile {tenth}, not {stated.decile}", "state one of the two")
    return stated


def _share(node: Node, what: str) -> Decimal:
    number = node.number(what)
    if not 0 <= number <= 1:
        raise ConfigError(
            "E343", node.place, f"{what} lies between 0 and 1, found {number}", "write for example 0.9; an expected value is `{value: 150}`"
        )
    return number


def _whole(node: Node, what: str, highest: int) -> int:
    if not isinstance(node.value, int) or isinstance(node.value, bool) or not 1 <= node.value <= highest:
        raise ConfigError("E343", node.place, f"`{what}` is a whole number from 1 to {highest}, found {node.show()}", f"write for example {highest}")
    return node.value


def _trait(node: Node, name: str) -> Value:
    return read_value(node, f"the trait {name!r}")


def _cluster(node: Node, name: str) -> str:
    return node.text(f"the cluster of {name!r}")


def read_value(node: Node, what: str) -> Value:
    """Return a property or a trait as the events table has it: text, true or false, an exact number, a list of texts, or nothing."""
    if node.is_list:
        return tuple(element(item.plain()) for item in node.value if read_value(item, what) is not None)
    if node.is_mapping:
        raise ConfigError(
            "E343", node.place, f"{what} is text, a number, true or false, or a list of these, found a mapping", "write for example `country: GB`"
        )
    value = node.value
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return value
    number = Decimal(value)
    return round(number, 4) if number != round(number, 4) else number


def read_instant(node: Node, what: str) -> int:
    """Return an instant, or refuse (E342)."""
    try:
        return parse_instant(str(node.plain()))
    except (ValueError, OverflowError) as error:
        found, _, remedy = str(error).partition(": ")
        raise ConfigError("E342", node.place, f"`{what}`: {found}", remedy or "write a time such as 2026-03-01 12:00") from None


def say_moment(instant: int) -> str:
    """Return an instant in words; the beginning of time has none."""
    return "the beginning" if instant <= ALWAYS else say_instant(instant)
