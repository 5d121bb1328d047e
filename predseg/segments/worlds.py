"""Random rules, random histories and random published facts, made from a seed: what `predseg verify` compares executors on.

A world is small and full of ties, so that every boundary is hit. What is published is kept as plain rows and decided here
from the definitions, in exact arithmetic and without any of the code that decides it for many customers at once.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from predseg.evaluate.reference import Event, Truth, measure
from predseg.evaluate.timeline import offsets
from predseg.language import conditions as c
from predseg.language.measures import COMPARISONS, Comparison, Events, Filter, Measure, Step, Test, Value, Window, kind_of
from predseg.language.time import SECOND
from predseg.segments.customer import trait_truth

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from predseg.segments.facts import Facts

FOREVER = 2**63 - 1
DIMENSIONS = ("recency", "frequency", "value")


@dataclass(frozen=True)
class Palette:
    """What random rules and histories are made of.

    Attributes:
        names: Events.
        properties: Property → the values it takes, None among them where it may be missing; of one kind each.
        spans: Durations (microseconds) for windows and what follows.
        times: Instants at which events happen.
        models, clusters, traits, segments: What is published.
    """

    names: tuple[str, ...]
    properties: Mapping[str, tuple[Value, ...]]
    spans: tuple[int, ...]
    times: tuple[int, ...]
    models: tuple[str, ...] = ("churn", "purchase")
    clusters: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {"personas": ("hunter", "loyal", "new")})
    traits: Mapping[str, tuple[Value, ...]] = field(
        default_factory=lambda: {"country": ("GB", "FR", None), "age": (Decimal(30), Decimal("30.5"), None)}
    )
    segments: tuple[str, ...] = ("one", "two")

    def numeric(self) -> list[str]:
        """The properties that can be summed."""
        return [name for name, values in self.properties.items() if _kind(values) == "number"]


def _kind(values: Iterable[Value]) -> str:
    some = next((v for v in values if v is not None), "")
    return "list" if isinstance(some, tuple) else kind_of(some)


def small(unit: int) -> Palette:
    """Return a palette of fourteen ticks of ``unit`` microseconds: few enough that every moment can be looked at."""
    properties: dict[str, tuple[Value, ...]] = {
        "value": (None, Decimal(0), Decimal("0.0001"), Decimal("-1.5"), Decimal(2), Decimal("2.5")),
        "word": ("x", "y", None),
        "tags": (None, (), ("x",), ("x", "y"), ("y", "y")),
        "flag": (None, True, False),
    }
    return Palette(("A", "B", "C"), properties, tuple(n * unit for n in range(1, 9)), tuple(n * unit for n in range(14)))


SMALL = small(SECOND)


def palette_of(conditions: Sequence[c.Condition], start: int) -> Palette:
    """Return what brings the given rules close to their boundaries.

    Args:
        conditions: The rules.
        start: When histories begin (microseconds).
    """
    parts = [p for condition in conditions for p in c.walk(condition)]
    measures = [m for condition in conditions for m in c.measures(condition)]
    spans = tuple(sorted({o for condition in conditions for o in offsets(condition)})) or (SECOND,)
    times = {start + a + b + late for a in (0, *spans) for b in (0, *spans) for late in (-1, 0, 1)}
    names = tuple(sorted({name for m in measures for name in m.names()})) or ("Order Completed",)
    filters = [f for m in measures for f in _filters(m)]
    summed = {m.of: p.comparison for p in parts if isinstance(p, c.Did) and (m := p.measure).of is not None}
    properties = {name: _values(name, filters, summed) for name in sorted({f.property for f in filters} | {str(n) for n in summed} | {"value"})}
    traits = {p.filter.property: _values(p.filter.property, [p.filter], {}) for p in parts if isinstance(p, c.Trait)}
    scored = {p.model for p in parts if isinstance(p, c.Score)}
    clusters = {p.model: (*p.names, "another") for p in parts if isinstance(p, c.Cluster)}
    segments = {p.segment for p in parts if isinstance(p, c.In)}
    return Palette(
        (*names, "Another Event"), properties, spans, tuple(sorted(times)), tuple(sorted(scored)), clusters, traits, tuple(sorted(segments))
    )


def _filters(measure: Measure) -> Iterator[Filter]:
    yield from measure.events.where
    step = measure.then
    while step is not None:
        yield from step.events.where
        step = step.then


def _values(name: str, filters: Iterable[Filter], summed: Mapping[Any, Comparison]) -> tuple[Value, ...]:
    """Values on, just below and just above what is compared with."""
    tests = [t for f in filters if f.property == name for t in f.tests]
    found: list[Any] = [o for t in tests if t.op != "exists" for o in t.operands]
    if name in summed:
        low = summed[name].low
        found += [low, low / 2, low / 3] if low else [Decimal(1), Decimal(-1)]
    if name == "value" and not found:
        found = [Decimal(10), Decimal("12.5")]
    kind = "number" if name in summed else kind_of(found[0]) if found else "text"
    found = [v for v in found if kind_of(v) == kind]
    if kind == "number":
        small = Decimal("0.0001")
        found = [round(Decimal(v) + by, 4) for v in found for by in (0, -small, small)]
    elif kind == "text":
        found += ["something else", *(f"{v} and more" for v in found)]
    else:
        found = [True, False]
    return (None, *dict.fromkeys(found))


# random rules


def random_condition(r: random.Random, palette: Palette, depth: int = 2) -> c.Condition:
    """Return a random rule of any construct."""
    if depth == 0 or r.random() < 0.35:
        return _random_leaf(r, palette)
    parts = tuple(random_condition(r, palette, depth - 1) for _ in range(r.randrange(1, 4)))
    layers: tuple[c.Layer, ...] = (c.All(parts), c.Any(parts), c.NoneOf(parts), c.Some(r.randrange(1, len(parts) + 1), parts))
    return r.choice((*layers, c.Holds(parts[:1], r.random() < 0.5)))


def _random_leaf(r: random.Random, palette: Palette) -> c.Condition:
    kinds: list[Any] = [_did] * 6
    kinds += [_score] * 2 if palette.models else []
    kinds += [lambda r, p: c.In(r.choice(p.segments), r.random() < 0.6)] if palette.segments else []
    kinds += [_trait] if palette.traits else []
    kinds += [_rfv, _cluster] if palette.clusters else [_rfv]
    make: Callable[[random.Random, Palette], c.Condition] = r.choice(kinds)
    return make(r, palette)


def _did(r: random.Random, palette: Palette) -> c.Did:
    aggregates: list[Any] = ["count", "count", "distinct", *(["sum", "avg", "min", "max"] if palette.numeric() else [])]
    aggregate = r.choice(aggregates)
    of = None
    if aggregate != "count":
        of = r.choice(list(palette.properties) if aggregate == "distinct" else palette.numeric())
    measure = Measure(_events(r, palette), _window(r, palette), aggregate, of, _step(r, palette) if r.random() < 0.35 else None)
    whole = aggregate in ("count", "distinct")
    values = [Decimal(n) for n in (0, 1, 1, 2, 3)] if whole else _numbers(palette.properties[str(of)])
    return c.Did(measure, _comparison(r, [*values, Decimal("0.5"), Decimal("0.00005"), Decimal("1.25"), Decimal("0.3333")]))


def _numbers(values: Iterable[Value]) -> list[Decimal]:
    return [Decimal(v) for v in values if isinstance(v, int | Decimal)]


def _comparison(r: random.Random, values: Sequence[Decimal]) -> Comparison:
    op, low = r.choice(COMPARISONS), r.choice(values)
    return Comparison(op, low, low + r.randrange(3) if op == "between" else None)


def _events(r: random.Random, palette: Palette) -> Events:
    names = tuple(sorted(r.sample(palette.names, min(len(palette.names), r.choice([0, 1, 1, 1, 2])))))
    return Events(names, tuple(_filter(r, palette.properties) for _ in range(r.choice([0, 0, 0, 1, 1, 2]))))


def _filter(r: random.Random, properties: Mapping[str, tuple[Value, ...]]) -> Filter:
    name = r.choice([*properties, "nowhere"])
    if name == "nowhere" or r.random() < 0.15:
        return Filter(name, (Test("exists", (r.random() < 0.5,)),))
    operands = [x for v in properties[name] for x in (v if isinstance(v, tuple) else (v,)) if x is not None]
    one = r.choice(operands or ["x"])
    kind = kind_of(one)
    if kind == "flag":
        return Filter(name, (Test(r.choice(["is", "not"]), (one,)),))
    if kind == "text":
        test = r.choice(
            [Test("is", (one,)), Test("not", (one,)), Test("contains", (str(one)[:1],)), Test("at_least", (one,)), Test("is", (Decimal(1), one))]
        )
        return Filter(name, (test,))
    low = Decimal(one)
    compared = _comparison(r, [low])
    test = Test(compared.op, (compared.low,) if compared.high is None else (compared.low, compared.high))
    return Filter(name, (r.choice([test, test, Test("is", (low,)), Test("not", (low,))]),))


def _window(r: random.Random, palette: Palette) -> Window:
    start, until = r.choice(palette.spans), r.choice([0, *palette.spans])
    return r.choice(
        [
            Window(),
            Window(start),
            Window(start),
            Window(start + until, until),
            Window(until=until),
            Window(since=r.choice(palette.times), until=r.choice([0, until])),
        ]
    )


def _step(r: random.Random, palette: Palette, depth: int = 2) -> Step:
    within = r.choice([None, r.choice(palette.spans)])
    same = r.choice([None, None, *palette.properties])
    if r.random() < 0.4:
        return Step(_events(r, palette), within, False, 1, same)
    then = _step(r, palette, depth - 1) if depth and r.random() < 0.4 else None
    return Step(_events(r, palette), within, True, r.choice([1, 1, 2]), same, then)


def _score(r: random.Random, palette: Palette) -> c.Score:
    model, share = r.choice(palette.models), Decimal(r.choice(["10", "20", "25", "33.3", "50", "100"]))
    change = c.Change(r.choice(["rises", "falls"]), Decimal(r.choice(["0", "0.1", "0.2", "0.25"])), r.choice(palette.spans))
    return r.choice(
        [
            c.Score(model, comparison=_comparison(r, [Decimal(v) for v in ("0", "0.1", "0.25", "0.3", "0.5")])),
            c.Score(model, top=share),
            c.Score(model, bottom=share),
            c.Score(model, deciles=tuple(sorted(r.sample(range(1, 11), r.randrange(1, 5))))),
            c.Score(model, change=change),
        ]
    )


def _trait(r: random.Random, palette: Palette) -> c.Trait:
    return c.Trait(_filter(r, palette.traits))


def _rfv(r: random.Random, palette: Palette) -> c.Rfv:
    chosen = r.sample(DIMENSIONS, r.randrange(1, 4))
    wanted: list[Comparison | tuple[int, ...]] = [
        _comparison(r, [Decimal(3), Decimal(4)]) if r.random() < 0.5 else tuple(sorted(r.sample(range(1, 6), 2))) for _ in chosen
    ]
    return c.Rfv(Events((r.choice(palette.names),)), Window(r.choice(palette.spans)), tuple(sorted(zip(chosen, wanted, strict=True))))


def _cluster(r: random.Random, palette: Palette) -> c.Cluster:
    model = r.choice(sorted(palette.clusters))
    names = palette.clusters[model]
    return c.Cluster(model, tuple(sorted(r.sample(names, r.randrange(1, len(names) + 1)))))


# random histories


def random_histories(r: random.Random, palette: Palette, customers: int, longest: int = 8) -> dict[str, list[Event]]:
    """Return the events of some customers; some are learned of late, some are the same."""
    return {f"c{i}": [_event(r, palette) for _ in range(r.randrange(1, longest + 1))] for i in range(customers)}


def _event(r: random.Random, palette: Palette) -> Event:
    time = r.choice(palette.times)
    late = time + r.choice([0, *palette.spans]) if r.random() < 0.2 else None
    properties = {name: r.choice(values) for name, values in palette.properties.items()}
    return Event(time, r.choice(palette.names), {name: v for name, v in properties.items() if v is not None}, late)


def to_table(histories: Mapping[str, Sequence[Event]], palette: Palette) -> pa.Table:
    """Return histories as rows of the events table."""
    import pyarrow as pa

    rows = [(customer, e) for customer in sorted(histories) for e in sorted(histories[customer], key=lambda e: e.time)]
    stamp = pa.timestamp("us", "UTC")
    columns = {
        "customer_id": pa.array([customer for customer, _ in rows], pa.string()),
        "event": pa.array([e.name for _, e in rows], pa.string()),
        "event_time": pa.array([e.time for _, e in rows], pa.int64()).cast(stamp),
        "received_at": pa.array([e.visible for _, e in rows], pa.int64()).cast(stamp),
    }
    types = {"number": pa.decimal128(18, 4), "text": pa.string(), "flag": pa.bool_(), "list": pa.list_(pa.string())}
    for name, values in palette.properties.items():
        columns[name] = pa.array([e.properties.get(name) for _, e in rows], types[_kind(values)])
    return pa.table(columns)


# published facts


@dataclass(frozen=True)
class Publications:
    """What is published, as plain rows.

    Attributes:
        runs: Per (kind, key) the runs in order: as_of and, per customer, its row. A score is (raw, probability); rfv scores
            are three numbers; a cluster is a name. Keys are the model, or the rfv condition without its scores.
        members: Segment → (customer, entered_at, left_at).
        traits: (customer, event_time, values); event_time None is always.
    """

    runs: Mapping[tuple[str, Any], Sequence[tuple[int, Mapping[str, Any]]]]
    members: Mapping[str, Sequence[tuple[str, int, int]]]
    traits: Sequence[tuple[str, int | None, Mapping[str, Value]]]

    def instants(self, condition: c.Condition, customer: str) -> set[int]:
        """Return when any of it can change the condition for a customer."""
        found = {t for _, t, _ in self.traits if t is not None}
        for part in c.walk(condition):
            if isinstance(part, c.Score | c.Rfv | c.Cluster):
                at = [as_of for as_of, _ in self.runs[_key(part)]]
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
                now, then = self._row(condition, customer, t), self._row(condition, customer, t - change.within)
                if now is None or then is None:
                    return None
                moved = _exact(now[1]) - _exact(then[1])
                return (moved if change.direction == "rises" else -moved) >= Fraction(change.by)
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
                return self._score(condition, row, [x[0] for x in self._run(condition, t).values()])
        raise TypeError(type(condition).__name__)

    def _run(self, condition: c.Condition, t: int) -> Mapping[str, Any]:
        return next((rows for at, rows in reversed(self.runs[_key(condition)]) if at <= t), {})

    def _row(self, condition: c.Condition, customer: str, t: int) -> Any:
        return self._run(condition, t).get(customer)

    def _score(self, condition: c.Score, row: tuple[Fraction, float], raws: Sequence[Fraction]) -> bool:
        higher, lower, n = sum(x > row[0] for x in raws), sum(x < row[0] for x in raws), len(raws)
        if condition.top is not None:
            return 100 * higher < Fraction(condition.top) * n
        if condition.bottom is not None:
            return 100 * lower < Fraction(condition.bottom) * n
        if condition.deciles:
            return 1 + 10 * higher // n in condition.deciles
        assert condition.comparison is not None
        return condition.comparison.accepts(Decimal(repr(row[1])))

    def _trait(self, customer: str, name: str, t: int) -> Value:
        """Of the visible rows the one with the greatest event_time counts, missing values too; of equal times the greatest value as a text."""
        rows = [(-FOREVER if at is None else at, values.get(name)) for who, at, values in self.traits if who == customer]
        seen = [(at, "" if value is None else str(value), value) for at, value in rows if at <= t]
        return max(seen, key=lambda x: x[:2])[2] if seen else None

    def facts(self) -> Facts:
        """Return the same as the batch executor reads it."""
        import numpy as np

        from predseg.segments.facts import Facts

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
    return Publications({key: [run for run in found if run[1]] for key, found in runs.items()}, members, traits)


def _rows(r: random.Random, part: c.Condition, palette: Palette, customers: Sequence[str]) -> dict[str, Any]:
    if isinstance(part, c.Cluster):
        return {who: r.choice(palette.clusters[part.model]) for who in customers}
    levels = r.choice([6, 60])  # many equal scores, or few
    return {who: (Fraction(r.randrange(levels)), r.choice([0.0, 0.05, 0.1, 0.25, 0.3, 0.35, 0.5, 0.6, 1.0])) for who in customers}


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
        return bool(self.partitions(name))

    def read(self, name: str, as_of: int | None = None) -> Any:
        import pyarrow as pa

        runs = [(key, rows) for (kind, key), found in self.published.runs.items() if kind == name for at, rows in found if at == as_of]
        return pa.concat_tables([_run_table(name, key, rows) for key, rows in runs])


def _run_table(name: str, key: Any, rows: Mapping[str, Any]) -> pa.Table:
    import pyarrow as pa

    from predseg.segments.facts import run_key

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
