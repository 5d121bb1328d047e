"""What is known beside events: scores, rfv scores, clusters, daily memberships and traits, each as published.

Published results are step functions: at t the last run with ``as_of`` at or before t answers, and who is absent from it
is unknown (for segments: not a member). Of a probability a customer's own live score answers when it is later than that run;
ranks are frozen at runs. Probabilities are compared in whole millionths of a millionth, ranks in integers.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import Any, Protocol

import numpy as np

from predseg.evaluate.batch import Truth
from predseg.evaluate.block import Array
from predseg.forecast.traits import ALWAYS, instants_of, trait_facts
from predseg.language import conditions as c
from predseg.language.measures import SCALE, Comparison
from predseg.segments.customers import Customers
from predseg.segments.definitions import canonical
from predseg.segments.live_scores import LIVE_SCORES, NEVER, LiveScores, from_table

PROBABILITY = 10**12
DIMENSIONS = ("recency", "frequency", "value")


class Tables(Protocol):
    """The part of a store that facts are read from."""

    def partitions(self, name: str) -> list[int]:
        """The as_of of each partition, ascending."""
        ...

    def read(self, name: str, as_of: int | None = None) -> Any:
        """One partition, or the whole table."""
        ...

    def exists(self, name: str) -> bool:
        """Whether there is such a table."""
        ...


_REMEMBERED = 4


@dataclass(frozen=True)
class Run:
    """One published run: columns of N customers, found by id."""

    customers: Array  # str (N)
    columns: dict[str, Array]
    as_of: int = NEVER
    found: dict[int, tuple[Array, Array]] = field(default_factory=dict, repr=False)
    answers: dict[c.Condition, Array] = field(default_factory=dict, repr=False)

    @cached_property
    def known(self) -> tuple[Customers, Array]:
        """The customers in order, and the row of each; one more is the row of nobody."""
        known, place = Customers.named(self.customers)
        row = np.full(len(known) + 1, -1)
        row[place] = np.arange(len(place))
        return known, row

    def rows(self, customers: Array) -> Array:
        """Return the position of each customer in the run, -1 where absent. The last few arrays that were asked for are remembered."""
        before = self.found.get(id(customers))
        if before is not None:
            return before[1]
        if len(self.found) >= _REMEMBERED:
            self.found.clear()
        known, row = self.known
        rows = row[known.find(np.asarray(customers, dtype=object))]
        self.found[id(customers)] = customers, rows  # the array is held, so that its id stays its own
        return rows

    def accepted(self, condition: c.Condition) -> Array:
        """Return bool (N): who passes; counted once."""
        if condition not in self.answers:
            self.answers[condition] = accepted(condition, self)
        return self.answers[condition]

    @cached_property
    def units(self) -> Array:
        """The scores in whole 1/10^12, see `units`."""
        return units(self.columns["probability"])

    @cached_property
    def ranks(self) -> tuple[Array, Array]:
        """How many are strictly higher, and strictly lower, of the N scored."""
        percentile, n = self.columns["percentile"], len(self.customers)
        return np.rint((1 - percentile) * n).astype(np.int64), np.searchsorted(np.sort(percentile), percentile, "left")


@dataclass
class Facts:
    """Published facts of a project, read when first asked for.

    Args:
        tables: The store; None when nothing was published.
        traits: A frame with customer_id, optionally event_time, and a column per trait.
        members: Memberships: segment → (customer ids, entered_at, left_at with the largest integer while open).
        live: Live scores; None takes those of the store.
    """

    tables: Tables | None = None
    traits: Any = None
    members: dict[str, tuple[Array, Array, Array]] = field(default_factory=dict)
    live: LiveScores | None = None
    _runs: dict[object, Run | None] = field(default_factory=dict, repr=False)
    _loading: Lock = field(default_factory=Lock, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """On another machine what is published is read again."""
        return {**vars(self), "_runs": {}, "_loading": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _loading=Lock())

    def __call__(self, condition: c.Condition, customers: Array, moments: Array) -> Truth:
        """Decide a condition for k pairs of customer and moment."""
        if isinstance(condition, c.Trait):
            return trait_facts(self.traits)(condition, customers, moments)
        if isinstance(condition, c.In):
            inside = self.belongs(condition.segment, customers, moments)
            return Truth(inside == condition.member, np.zeros(len(customers), bool))
        if isinstance(condition, c.Score) and condition.change is not None:
            return self._change(condition, condition.change, customers, moments)
        if isinstance(condition, c.Score) and condition.comparison is not None:
            found = self._probability(condition, customers, moments)
            return Truth(within(found, condition.comparison, PROBABILITY), np.isnan(found))
        return self._by_run(condition, customers, moments)

    def belongs(self, segment: str, customers: Array, moments: Array) -> Array:
        """Return bool (k): whether each is a member of a daily segment at its moment, entered_at ≤ t < left_at."""
        import pandas as pd

        found = np.zeros(len(customers), bool)
        ids, entered, left = self.members.get(segment, (np.zeros(0, object), np.zeros(0, np.int64), np.zeros(0, np.int64)))
        rows = pd.DataFrame({"id": ids, "entered": entered, "left": left}).astype({"id": object})
        asked = pd.DataFrame({"id": np.asarray(customers, object), "t": np.asarray(moments, np.int64), "row": np.arange(len(customers))})
        joined = asked.merge(rows, on="id")
        found[joined["row"][(joined["entered"] <= joined["t"]) & (joined["t"] < joined["left"])]] = True
        return found

    def instants(self, condition: c.Condition) -> tuple[int, ...]:
        """Return, sorted, the instants of publication at which the condition can change for anybody."""
        found: set[int] = set()
        for part in c.walk(condition):
            if isinstance(part, c.Score | c.Rfv | c.Cluster):
                runs = self.published(part)
                found |= {*runs, *(r + part.change.within for r in runs if isinstance(part, c.Score) and part.change)}
            elif isinstance(part, c.In):
                _, entered, left = self.members.get(part.segment, (None, (), ()))
                found |= {*map(int, entered), *(int(i) for i in left if i < np.iinfo(np.int64).max)}
        return tuple(sorted(found))

    def own_instants(self, condition: c.Condition, customers: Array) -> tuple[Array, Array] | None:
        """Return (position in customers, instant) at which a trait or a live score that the condition reads may change; None when none does."""
        scored = [
            (i, at)
            for part in c.walk(condition)
            if isinstance(part, c.Score)
            for i in self.rescored.among(part.model, customers)
            for at in self.live_instants(part, customers[i])
        ]
        traits = self._trait_instants(condition, customers)
        if not scored:
            return traits
        at, instants = np.array(scored, np.int64).T
        return (at, instants) if traits is None else (np.append(at, traits[0]), np.append(instants, traits[1]))

    def live_instants(self, condition: c.Score, customer_id: str) -> list[int]:
        """Return when live scores of a customer can change a condition: only comparisons and changes see them."""
        if condition.comparison is None and condition.change is None:
            return []
        own, spans = self.rescored.instants(condition.model, customer_id), [0, condition.change.within] if condition.change else [0]
        return [at + span for at in own for span in spans]

    @property
    def rescored(self) -> LiveScores:
        """The live scores."""
        if self.live is None:
            there = self.tables is not None and self.tables.exists(LIVE_SCORES)
            self.live = from_table(self.tables.read(LIVE_SCORES)) if self.tables is not None and there else LiveScores()
        return self.live

    def _trait_instants(self, condition: c.Condition, customers: Array) -> tuple[Array, Array] | None:
        import pandas as pd

        if self.traits is None or not any(isinstance(part, c.Trait) for part in c.walk(condition)):
            return None
        visible = np.maximum(*(instants_of(self.traits, name) for name in ("event_time", "known_since")))
        ids, again = self.traits["customer_id"].astype(object), pd.Index(customers, dtype=object).duplicated()
        found = []
        for some in map(np.flatnonzero, (~again, again) if again.any() else (~again,)):  # an earlier identity may have the id of a customer
            at = np.asarray(pd.Index(customers[some], dtype=object).get_indexer(ids))
            timed = (at >= 0) & (visible > ALWAYS)
            found.append((some[at[timed]], visible[timed]))
        position, instant = map(np.concatenate, zip(*found, strict=True))
        return position, instant

    def published(self, condition: c.Condition) -> list[int]:
        """Return, ascending, the runs that may hold what a condition asks for."""
        name = "scores" if isinstance(condition, c.Score) else "rfv" if isinstance(condition, c.Rfv) else "clusters"
        return self.tables.partitions(name) if self.tables is not None and self.tables.exists(name) else []

    def _by_run(self, condition: c.Condition, customers: Array, moments: Array) -> Truth:
        true, unknown = np.zeros(len(customers), bool), np.ones(len(customers), bool)
        for run, at in self._groups(condition, moments):
            rows = run.rows(customers if len(at) == len(customers) else customers[at])
            chosen = at[rows >= 0]
            true[chosen], unknown[chosen] = run.accepted(condition)[rows[rows >= 0]], False
        return Truth(true, unknown)

    def _change(self, condition: c.Score, change: c.Change, customers: Array, moments: Array) -> Truth:
        now, then = self._probability(condition, customers, moments), self._probability(condition, customers, np.asarray(moments) - change.within)
        known = ~(np.isnan(now) | np.isnan(then))
        by = now - then if change.direction == "rises" else then - now
        low, _ = Comparison("at_least", change.by).bounds(PROBABILITY)
        return Truth(known & (by >= (low or 0)), ~known)

    def _probability(self, condition: c.Score, customers: Array, moments: Array) -> Array:
        """Return the score in force in whole 1/10^12 (see `units`), NaN where unknown."""
        found, since = np.full(len(customers), np.nan), np.full(len(customers), NEVER)
        for run, at in self._groups(condition, moments):
            rows = run.rows(customers if len(at) == len(customers) else customers[at])
            found[at[rows >= 0]] = run.units[rows[rows >= 0]]
            since[at] = run.as_of
        for i in self.rescored.among(condition.model, customers):
            own = self.rescored.last(condition.model, customers[i], int(moments[i]), int(since[i]))
            if own is not None:
                found[i] = units(np.array(own[1]))
        return found

    def _groups(self, condition: c.Condition, moments: Array) -> Iterable[tuple[Run, Array]]:
        """Yield each run that is in force at some of the moments, with the positions of those."""
        moments = np.asarray(moments, np.int64)
        published = self.published(condition)
        for moment in np.unique(moments):
            run = self.last_run(condition, published[: bisect_right(published, int(moment))])
            if run is not None:
                yield run, np.flatnonzero(moments == moment)

    def last_run(self, condition: c.Condition, published: Sequence[int]) -> Run | None:
        """Return the last of some runs in which the condition's model (or rfv, or clustering) was published."""
        key = run_key(condition)
        for as_of in reversed(published):
            with self._loading:  # blocks are decided side by side
                if (as_of, key) not in self._runs:
                    self._runs[as_of, key] = self._load(condition, as_of, key)
            if (run := self._runs[as_of, key]) is not None:
                return run
        return None

    def _load(self, condition: c.Condition, as_of: int, key: str) -> Run | None:
        import pyarrow.compute as pc

        assert self.tables is not None
        if isinstance(condition, c.Score):
            name, by = "scores", "model"
            columns: tuple[str, ...] = ("probability", "percentile", "decile")
        elif isinstance(condition, c.Rfv):
            name, by, columns = "rfv", "rfv", DIMENSIONS
        else:
            name, by, columns = "clusters", "model", ("cluster",)
        table = self.tables.read(name, as_of)
        table = table.filter(pc.equal(table[by], key))
        if not table.num_rows:
            return None
        return Run(np.asarray(table["customer_id"].to_pylist(), object), {name: np.asarray(table[name].to_numpy()) for name in columns}, as_of)


def units(probability: Array) -> Array:
    """Return published scores in 1/10^12, whole, as float64: probabilities rounded half to even, greater numbers (expected values) as the money they are.

    >>> units(np.array([0.25, 123456.7890])).tolist()
    [250000000000.0, 1.23456789e+17]
    """
    number = np.asarray(probability, np.float64)
    return np.where(np.abs(number) > 1, np.rint(number * SCALE) * (PROBABILITY // SCALE), np.rint(number * PROBABILITY))


def run_key(condition: c.Condition) -> str:
    """Return what a run is filed under: the model, or the hash of what rfv scores are about."""
    if isinstance(condition, c.Rfv):
        text = json.dumps(canonical((condition.of, condition.window)))
        return hashlib.sha256(text.encode()).hexdigest()[:12]
    assert isinstance(condition, c.Score | c.Cluster)
    return condition.model


def accepted(condition: c.Condition, run: Run) -> Array:
    """Return bool (N): who of a run passes."""
    n = len(run.customers)
    if isinstance(condition, c.Cluster):
        return np.isin(run.columns["cluster"].astype(str), condition.names)
    if isinstance(condition, c.Rfv):
        return np.all([_passes(run.columns[name].astype(np.int64), wanted) for name, wanted in condition.scores], axis=0)
    assert isinstance(condition, c.Score)
    higher, lower = run.ranks
    if condition.top is not None:
        return _share(higher, condition.top, n)
    if condition.bottom is not None:
        return _share(lower, condition.bottom, n)
    if condition.deciles:
        return np.isin(1 + 10 * higher // n, condition.deciles)
    raise TypeError("a probability is not of a run alone")


def _share(beyond: Array, share: Any, n: int) -> Array:
    """100 h < p N in integers, however many digits p has."""
    numerator, unit = share.as_integer_ratio()
    return beyond * (100 * unit) < numerator * n


def _passes(scores: Array, wanted: Comparison | tuple[int, ...]) -> Array:
    return np.isin(scores, wanted) if isinstance(wanted, tuple) else within(scores, wanted, 1)


def within(values: Array, comparison: Comparison, scale: int) -> Array:
    """Return which values, in 1/scale, pass a comparison; NaN never does."""
    low, high = comparison.bounds(scale)
    passed = ~np.isnan(values)
    if low is not None:
        passed &= values >= low
    return passed & (values <= high) if high is not None else passed


def rfv_scores(values: Array) -> Array:
    """Return 1 to 5 (5 is best): 5 - floor(5 h / N) with h strictly higher, so equal values get equal scores.

    >>> rfv_scores(np.array([10, 20, 30, 40, 50, 50])).tolist()
    [1, 2, 3, 4, 5, 5]
    """
    ordered = np.sort(values)
    higher = len(values) - np.searchsorted(ordered, values, "right")
    return 5 - 5 * higher // max(len(values), 1)


Answer = Callable[[c.Condition, Array, Array], Truth]
