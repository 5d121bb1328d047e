"""Random rules and random histories, made from a seed: what `predseg verify` compares executors on.

A world is small and full of ties, so that every boundary is hit.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from predseg.columns import field_of
from predseg.evaluate.reference import Event
from predseg.evaluate.timeline import offsets
from predseg.language import conditions as c
from predseg.language.measures import COMPARISONS, SCALE, Comparison, Events, Filter, Measure, Step, Test, Value, Window, kind_of, units_of
from predseg.language.spelling import kinds_of, spelled
from predseg.language.time import SECOND
from predseg.segments.facts import DIMENSIONS

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Palette:
    """What random rules and histories are made of.

    Attributes:
        names: Events.
        properties: Property → the values it takes, None among them where it may be missing; of one kind or of several.
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
        return [name for name, values in self.properties.items() if any(units_of(v) is not None for v in values)]


def _kind(values: Iterable[Value]) -> str:
    kinds = kinds_of(values)
    return kinds.pop() if len(kinds) == 1 else "mixed" if kinds else "text"


def small(unit: int) -> Palette:
    """Return a palette of fourteen ticks of ``unit`` microseconds: few enough that every moment can be looked at."""
    properties: dict[str, tuple[Value, ...]] = {
        "value": (None, Decimal(0), Decimal("0.0001"), Decimal("-1.5"), Decimal(2), Decimal("2.5")),
        "word": ("x", "y", None),
        "tags": (None, (), ("x",), ("x", "y"), ("y", "y")),
        "flag": (None, True, False),
        "any": (None, Decimal(1), Decimal("2.5"), "1", "n/a", "'1", True, "true", ("1", "n/a")),
    }
    return Palette(("A", "B", "C"), properties, tuple(n * unit for n in range(1, 9)), tuple(n * unit for n in range(14)))


SMALL = small(SECOND)
STRAYS: tuple[Value, ...] = ("n/a", Decimal("0.5"))
"""Values of which some are of another kind than the others of a property, whatever that is."""


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
    properties |= {name: (*values, *STRAYS) for name, values in properties.items() if name != "value"}
    traits = {p.filter.property: _values(p.filter.property, [p.filter], {}) for p in parts if isinstance(p, c.Trait)}
    scored = {p.model for p in parts if isinstance(p, c.Score)}
    clusters = {p.model: (*p.names, "another") for p in parts if isinstance(p, c.Cluster)}
    segments = {p.segment for p in parts if isinstance(p, c.In)}
    return Palette(
        (*names, "Another Event"), properties, spans, tuple(sorted(times)), tuple(sorted(scored)), clusters, traits, tuple(sorted(segments))
    )


def _filters(measure: Measure) -> Iterator[Filter]:
    yield from measure.events.where
    for step in measure.steps():
        yield from step.events.where


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
        of = r.choice(list(palette.properties) if aggregate == "distinct" or r.random() < 0.1 else palette.numeric())
    measure = Measure(_events(r, palette), _window(r, palette), aggregate, of, _step(r, palette) if r.random() < 0.35 else None)
    whole = aggregate in ("count", "distinct")
    values = [Decimal(n) for n in (0, 1, 1, 2, 3)] if whole else _numbers(palette.properties[str(of)])
    return c.Did(measure, _comparison(r, [*values, Decimal("0.5"), Decimal("0.00005"), Decimal("1.25"), Decimal("0.3333")]))


def _numbers(values: Iterable[Value]) -> list[Decimal]:
    return [Decimal(units) / SCALE for v in values if (units := units_of(v)) is not None]


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
    fields = [pa.field(name, column.type) for name, column in columns.items()]
    for name, values in palette.properties.items():
        found, kind = [e.properties.get(name) for _, e in rows], _kind(values)
        columns[name] = pa.array([*map(spelled, found)], pa.string()) if kind == "mixed" else pa.array(found, types[kind])
        fields.append(field_of(name, columns[name].type, kind == "mixed"))
    return pa.table(columns, pa.schema(fields))
