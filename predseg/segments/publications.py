"""What is published in a random world, as plain rows: the reference for published facts.

It is decided here from the definitions, in exact arithmetic and without any of the code that decides it for many customers at once.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from predseg.evaluate.reference import Event, Truth, measure
from predseg.language import conditions as c
from predseg.language.measures import Comparison, Measure, Value
from predseg.segments.customer import trait_truth
from predseg.segments.facts import DIMENSIONS, Facts, run_key
from predseg.segments.live_scores import LIVE_SCORES, LiveScore, table_of
from predseg.segments.worlds import Palette

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

FOREVER = 2**63 - 1
PROBABILITIES = (0.0, 0.05, 0.1, 0.25, 0.3, 0.35, 0.5, 0.6, 1.0)


@dataclass(frozen=True)
class Publications:
    """What is published, as plain rows.

    Attributes:
        runs: Per (kind, key) the runs in order: as_of and, per customer, its row. A score is (raw, probability); rfv scores
            are three numbers; a cluster is a name. Keys are the model, or the rfv condition without its scores.
        members: Segment → (customer, entered_at, left_at).
        traits: (customer, event_time, values); event_time None is always.
        live: Probabilities of single customers between the runs.
    """

    runs: Mapping[tuple[str, Any], Sequence[tuple[int, Mapping[str, Any]]]]
    members: Mapping[str, Sequence[tuple[str, int, int]]]
    traits: Sequence[tuple[str, int | None, Mapping[str, Value]]]
    live: Sequence[LiveScore] = ()

    def instants(self, condition: c.Condition, customer: str) -> set[int]:
        """Return when any of it can change the condition for a customer."""
        found = {t for _, t, _ in self.traits if t is not None}
        for part in c.walk(condition):
            if isinstance(part, c.Score | c.Rfv | c.Cluster):
                at = [as_of for as_of, _ in self.runs[_key(part)]]
                at += [s.at for s in self.live if isinstance(part, c.Score) and (s.model, s.customer_id) == (part.model, customer)]
                found |= {*at, *(a + part.change.within for a in at if isinstance(part, c.Score) and part.change)}
            elif isinstance(part, c.In):
                found |= {t for who, entered, left in self.members[part.segment] if who == customer for t in (entered, left) if t < FOREVER}
        return found

    def truth(self, customer: str, condition: c.Condition, t: int) -> Truth:
        """Decide a condition from the definitions."""
        match condition:
            case c.In():
                return any(who == customer and entered <= t < left for who, entered, left in self.members[condition.segment]) == condition.member
            case c.Trait():
                return trait_truth(condition.filter, self._trait(customer, condition.filter.property, t))
            case c.Score(change=c.Change() as change):
                now, then = self._probability(condition, customer, t), self._probability(condition, customer, t - change.within)
                if now is None or then is None:
                    return None
                moved = _exact(now) - _exact(then)
                return (moved if change.direction == "rises" else -moved) >= Fraction(change.by)
            case c.Score(comparison=Comparison() as comparison):
                probability = self._probability(condition, customer, t)
                return None if probability is None else comparison.accepts(Decimal(repr(probability)))
        row = self._row(condition, customer, t)
        if row is None:
            return None
        match condition:
            case c.Cluster():
                return row in condition.names
            case c.Rfv():
                scores = dict(zip(DIMENSIONS, row, strict=True))
                return all(scores[n] in w if isinstance(w, tuple) else w.accepts(scores[n]) for n, w in condition.scores)
            case c.Score():
                return self._rank(condition, row, [x[0] for x in self._run(condition, t).values()])
        raise TypeError(type(condition).__name__)

    def _run(self, condition: c.Condition, t: int) -> Mapping[str, Any]:
        return next((rows for at, rows in reversed(self.runs[_key(condition)]) if at <= t), {})

    def _row(self, condition: c.Condition, customer: str, t: int) -> Any:
        return self._run(condition, t).get(customer)

    def _probability(self, condition: c.Score, customer: str, t: int) -> float | None:
        """The one published last; at one instant a run after all else, and who is absent from it is unknown."""
        runs = [(as_of, 1, rows[customer][1] if customer in rows else None) for as_of, rows in self.runs[_key(condition)]]
        live = [(s.at, 0, s.probability) for s in self.live if (s.model, s.customer_id) == (condition.model, customer)]
        return max((p for p in [*runs, *live] if p[0] <= t), key=lambda p: p[:2], default=(0, 0, None))[2]

    def _rank(self, condition: c.Score, row: tuple[Fraction, float], raws: Sequence[Fraction]) -> bool:
        higher, lower, n = sum(x > row[0] for x in raws), sum(x < row[0] for x in raws), len(raws)
        if condition.top is not None:
            return 100 * higher < Fraction(condition.top) * n
        if condition.bottom is not None:
            return 100 * lower < Fraction(condition.bottom) * n
        return 1 + 10 * higher // n in condition.deciles

    def _trait(self, customer: str, name: str, t: int) -> Value:
        """Of the visible rows the one with the greatest event_time counts, missing values too; of equal times the greatest value as a text."""
        rows = [(-FOREVER if at is None else at, values.get(name)) for who, at, values in self.traits if who == customer]
        seen = [(at, "" if value is None else str(value), value) for at, value in rows if at <= t]
        return max(seen, key=lambda x: x[:2])[2] if seen else None

    def facts(self) -> Facts:
        """Return the same as the batch executor reads it."""
        import numpy as np

        members = {
            name: (
                np.array([who for who, _, _ in rows], object),
                np.array([e for _, e, _ in rows], np.int64),
                np.array([x for _, _, x in rows], np.int64),
            )
            for name, rows in self.members.items()
        }
        return Facts(_Tables(self), self._trait_frame(), members)

    def _trait_frame(self) -> pd.DataFrame:
        import pandas as pd

        names = sorted({name for _, _, values in self.traits for name in values})
        columns: dict[str, Any] = {"customer_id": [who for who, _, _ in self.traits]}
        columns["event_time"] = pd.array([at for _, at, _ in self.traits], dtype="Int64")
        columns |= {name: pd.Series([values.get(name) for _, _, values in self.traits], dtype=object) for name in names}
        return pd.DataFrame(columns)


@dataclass(frozen=True)
class LiveFacts:
    """Publications as the live executor asks for them."""

    published: Publications

    def truth(self, condition: c.Condition, customer_id: str, t: int) -> Truth:
        """Decide a condition at t."""
        return self.published.truth(customer_id, condition, t)

    def next_change(self, condition: c.Condition, customer_id: str, t: int) -> int | None:
        """Return the first instant after t at which it can change for the customer."""
        return min((i for i in self.published.instants(condition, customer_id) if i > t), default=None)

    def known_since(self, customer_id: str) -> int | None:
        """Nobody is known without an event here."""
        return None


def _key(condition: c.Condition) -> tuple[str, Any]:
    if isinstance(condition, c.Rfv):
        return "rfv", replace(condition, scores=())
    assert isinstance(condition, c.Score | c.Cluster)
    return ("scores" if isinstance(condition, c.Score) else "clusters"), condition.model


def _exact(probability: float) -> Fraction:
    """Published probabilities mean what they print."""
    return Fraction(repr(probability))


def random_publications(r: random.Random, palette: Palette, condition: c.Condition, histories: Mapping[str, Sequence[Event]]) -> Publications:
    """Return facts for everything that a rule asks about: rfv scores of the histories, and random ones."""
    customers = list(histories)
    runs: dict[tuple[str, Any], list[tuple[int, dict[str, Any]]]] = {}
    members: dict[str, list[tuple[str, int, int]]] = {}
    for part in c.walk(condition):
        if isinstance(part, c.Score | c.Rfv | c.Cluster) and _key(part) not in runs:
            at = sorted(r.sample(palette.times, min(len(palette.times), r.randrange(4))))
            some = [who for who in customers if r.random() < 0.85]
            runs[_key(part)] = [(t, rfv_rows(part, histories, t) if isinstance(part, c.Rfv) else _rows(r, part, palette, some)) for t in at]
        elif isinstance(part, c.In) and part.segment not in members:
            members[part.segment] = [spell for who in customers for spell in _spells(r, palette, who)]
    timed = r.random() < 0.7
    traits = [
        (who, r.choice(palette.times) if timed and r.random() < 0.8 else None, {name: r.choice(values) for name, values in palette.traits.items()})
        for who in customers
        for _ in range(r.randrange(3))
    ]
    models = [key for kind, key in runs if kind == "scores"]
    live = [_live(r, palette, model, who) for model in models for who in customers for _ in range(r.choice([0, 0, 1, 2]))]
    unlike = {score[:3]: score for score in live}  # one of a customer at an instant
    return Publications({key: [run for run in found if run[1]] for key, found in runs.items()}, members, traits, tuple(unlike.values()))


def _live(r: random.Random, palette: Palette, model: str, who: str) -> LiveScore:
    return LiveScore(model, who, r.choice(palette.times), None if r.random() < 0.1 else r.choice(PROBABILITIES))


def _rows(r: random.Random, part: c.Condition, palette: Palette, customers: Sequence[str]) -> dict[str, Any]:
    if isinstance(part, c.Cluster):
        return {who: r.choice(palette.clusters[part.model]) for who in customers}
    levels = r.choice([6, 60])  # many equal scores, or few
    return {who: (Fraction(r.randrange(levels)), r.choice(PROBABILITIES)) for who in customers}


def rfv_rows(part: c.Rfv, histories: Mapping[str, Sequence[Event]], t: int) -> dict[str, tuple[int, ...]]:
    """Return recency, frequency and value scores of everyone with such an event in the window at t, from the definition."""
    answers: dict[str, list[int]] = {}
    for who, events in histories.items():
        since, count, total = (measure(m, events, t).number for m in rfv_measures(part))
        if count:
            answers[who] = [-(since or 0), count, total or 0]
    columns = list(zip(*answers.values(), strict=True))
    return {who: tuple(5 - 5 * sum(x > v for x in columns[i]) // len(answers) for i, v in enumerate(mine)) for who, mine in answers.items()}


def rfv_measures(part: c.Rfv) -> tuple[Measure, Measure, Measure]:
    """Return what recency, frequency and value are ranked by."""
    return Measure(part.of, part.window, "days_since_last"), Measure(part.of, part.window), Measure(part.of, part.window, "sum", "value")


def _spells(r: random.Random, palette: Palette, who: str) -> Iterator[tuple[str, int, int]]:
    at = sorted(r.sample(palette.times, min(len(palette.times), 2 * r.randrange(3))))
    for entered, left in zip(at[::2], at[1::2], strict=False):
        yield who, entered, FOREVER if left == at[-1] and r.random() < 0.5 else left


@dataclass(frozen=True)
class _Tables:
    """The runs as tables of a store."""

    published: Publications

    def partitions(self, name: str) -> list[int]:
        return sorted({as_of for (kind, _), runs in self.published.runs.items() if kind == name for as_of, _ in runs})

    def exists(self, name: str) -> bool:
        return bool(self.published.live) if name == LIVE_SCORES else bool(self.partitions(name))

    def read(self, name: str, as_of: int | None = None) -> Any:
        import pyarrow as pa

        if name == LIVE_SCORES:
            return table_of(self.published.live)
        runs = [(key, rows) for (kind, key), found in self.published.runs.items() if kind == name for at, rows in found if at == as_of]
        return pa.concat_tables([_run_table(name, key, rows) for key, rows in runs])


def _run_table(name: str, key: Any, rows: Mapping[str, Any]) -> pa.Table:
    import pyarrow as pa

    customers = pa.array(list(rows), pa.string())
    if name == "clusters":
        return pa.table({"customer_id": customers, "model": [key] * len(rows), "cluster": pa.array(list(rows.values()), pa.string())})
    if name == "rfv":
        return pa.table(
            {"customer_id": customers, "rfv": [run_key(key)] * len(rows), **{d: [v[i] for v in rows.values()] for i, d in enumerate(DIMENSIONS)}}
        )
    raws = [raw for raw, _ in rows.values()]
    higher = [sum(other > raw for other in raws) for raw in raws]
    n = len(raws)
    columns: dict[str, Any] = {"customer_id": customers, "model": [key] * n, "probability": [float(p) for _, p in rows.values()]}
    return pa.table(columns | {"percentile": [1 - h / n for h in higher], "decile": [1 + 10 * h // n for h in higher]})
