"""What is known beside events, one customer at a time: the published facts of a project as the live executor asks for them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from predseg.evaluate.reference import Truth
from predseg.forecast.traits import ALWAYS, instants_of
from predseg.language import conditions as c
from predseg.language.measures import Comparison, Value
from predseg.segments.customer import trait_truth
from predseg.segments.facts import PROBABILITY, Facts, Run, Tables, units, within
from predseg.segments.live_scores import NEVER, UNKNOWN, LiveScore
from predseg.segments.population import NOBODY, Listed

Timed = tuple[int, str, int, Value]
"""Of a trait: true from, the value as a text (of equal times the greatest counts), visible from, the value."""


class Snapshot:
    """The runs of a store's tables as they are now: what is published later is not seen."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._runs = {name: tables.partitions(name) if tables.exists(name) else [] for name in ("scores", "rfv", "clusters")}

    def partitions(self, name: str) -> list[int]:
        """The as_of of each run, ascending."""
        return self._runs[name]

    def exists(self, name: str) -> bool:
        """Whether there is such a table."""
        return bool(self._runs[name])

    def read(self, name: str, as_of: int | None = None) -> Any:
        """One run."""
        return self._tables.read(name, as_of)


class Published:
    """Scores, rfv scores, clusters, daily memberships and traits as step functions of time.

    Args:
        facts: What the store holds.
        listed: Customers who are known without an event.
    """

    def __init__(self, facts: Facts, listed: Listed = NOBODY) -> None:
        self.facts = facts
        self.since: dict[str, int] = {str(who): int(t) for who, t in zip(listed.customers.texts, listed.since, strict=True)}
        self._rows: dict[int, dict[str, int]] = {}
        self._spells: dict[str, dict[str, list[tuple[int, int]]]] = {}
        self._traits: dict[str, dict[str, list[Timed]]] = {}
        self._instants: dict[c.Condition, list[int]] = {}
        self._know(facts.traits)

    def truth(self, condition: c.Condition, customer_id: str, t: int) -> Truth:
        """Decide a condition at t; None is unknown."""
        match condition:
            case c.In():
                inside = any(entered <= t < left for entered, left in self._spells_of(condition.segment).get(customer_id, ()))
                return inside == condition.member
            case c.Trait():
                return trait_truth(condition.filter, self.trait(condition.filter.property, customer_id, t))
            case c.Score(change=c.Change() as change):
                now, then = self._probability(condition, customer_id, t), self._probability(condition, customer_id, t - change.within)
                if np.isnan(now) or np.isnan(then):
                    return None
                low, _ = Comparison("at_least", change.by).bounds(PROBABILITY)
                return (now - then if change.direction == "rises" else then - now) >= (low or 0)
            case c.Score(comparison=Comparison() as comparison):
                probability = self._probability(condition, customer_id, t)
                return None if np.isnan(probability) else bool(within(np.array([probability]), comparison, PROBABILITY)[0])
        run, row = self._row(condition, customer_id, t)
        if run is None or row is None:
            return None
        return bool(run.accepted(condition)[row])

    def next_change(self, condition: c.Condition, customer_id: str, t: int) -> int | None:
        """Return the first known instant after t at which the condition can change for the customer."""
        if isinstance(condition, c.In):
            ends = (end for spell in self._spells_of(condition.segment).get(customer_id, ()) for end in spell)
            return min((end for end in ends if end > t), default=None)
        if isinstance(condition, c.Trait):
            rows = self._traits.get(condition.filter.property, {}).get(customer_id, ())
            return min((visible for _, _, visible, _ in rows if visible > t), default=None)
        if condition not in self._instants:
            self._instants[condition] = list(self.facts.instants(condition))
        instants = self._instants[condition]
        at = bisect_right(instants, t)
        own = self.facts.live_instants(condition, customer_id) if isinstance(condition, c.Score) else ()
        return min((i for i in (*instants[at : at + 1], *own) if i > t), default=None)

    def known_since(self, customer_id: str) -> int | None:
        """Return from when the customer is known without an event; None is never."""
        return self.since.get(customer_id)

    def trait(self, name: str, customer_id: str, t: int) -> Value:
        """Return the value of a trait at t: of the visible rows the one with the greatest time."""
        seen = [row for row in self._traits.get(name, {}).get(customer_id, ()) if row[2] <= t]
        return max(seen, key=lambda row: row[:2])[3] if seen else None

    def learn(self, customer_id: str, traits: Mapping[str, Value], time: int, visible: int) -> None:
        """Take in facts of a customer that came live."""
        for name, value in traits.items():
            self._traits.setdefault(name, {}).setdefault(customer_id, []).append((time, str(value), visible, value))

    def score(self, rows: Iterable[LiveScore]) -> None:
        """Take in live scores."""
        for row in rows:
            self.facts.rescored.add(row)

    def _know(self, traits: Any) -> None:
        if traits is None or not len(traits):
            return
        true_from, known_from = (instants_of(traits, column) for column in ("event_time", "known_since"))
        visible = np.maximum(true_from, known_from)
        ids = traits["customer_id"].astype(str).tolist()
        for name in [n for n in traits.columns if n not in ("customer_id", "event_time", "known_since")]:
            column = traits[name].astype(object).where(traits[name].notna(), None).tolist()
            rows = self._traits.setdefault(name, {})
            for who, start, seen, value in zip(ids, true_from.tolist(), visible.tolist(), column, strict=True):
                rows.setdefault(who, []).append((start, "" if value is None else str(value), max(seen, ALWAYS), exact(value)))

    def _spells_of(self, segment: str) -> dict[str, list[tuple[int, int]]]:
        if segment not in self._spells:
            found: dict[str, list[tuple[int, int]]] = {}
            for who, entered, left in zip(*self.facts.members.get(segment, ((), (), ())), strict=True):
                found.setdefault(str(who), []).append((int(entered), int(left)))
            self._spells[segment] = found
        return self._spells[segment]

    def _row(self, condition: c.Condition, customer_id: str, t: int) -> tuple[Run | None, int | None]:
        published = self.facts.published(condition)
        run = self.facts.last_run(condition, published[: bisect_right(published, t)])
        if run is None:
            return None, None
        if id(run) not in self._rows:
            self._rows[id(run)] = {str(who): i for i, who in enumerate(run.customers)}
        return run, self._rows[id(run)].get(customer_id)

    def _probability(self, condition: c.Score, customer_id: str, t: int) -> float:
        """Return the score in force in whole 1/10^12, NaN where unknown."""
        run, row = self._row(condition, customer_id, t)
        own = self.facts.rescored.last(condition.model, customer_id, t, NEVER if run is None else run.as_of)
        if own is not None:
            return float(units(np.array(own[1])))
        return float(run.units[row]) if run is not None and row is not None else UNKNOWN


def exact(value: Any) -> Value:
    """Return a value of a table as the language takes it."""
    from decimal import Decimal

    if value is None or isinstance(value, str | bool | np.bool_):
        return bool(value) if isinstance(value, np.bool_) else value
    if isinstance(value, list | tuple | np.ndarray):
        return tuple(exact(v) for v in value if v is not None)
    return Decimal(str(value))
