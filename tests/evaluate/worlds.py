"""Small random worlds: few ticks, many ties, so that every boundary is hit."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any

import pyarrow as pa

from predseg.columns import SEVERAL
from predseg.evaluate import block as original
from predseg.evaluate.block import Block
from predseg.evaluate.reference import Event
from predseg.language import conditions as c
from predseg.language.measures import COMPARISONS, Comparison, Events, Filter, Measure, Step, Test, Window
from predseg.language.spelling import spelled

SEED = int(os.environ.get("PREDSEG_SEED", "0"))
"""Shifts every random world: PREDSEG_SEED=7 pytest tests/evaluate."""
LONG = bool(os.environ.get("PREDSEG_LONG"))
"""Compare a million times and more: PREDSEG_LONG=1 pytest tests/evaluate."""

NAMES = ("A", "B", "C")
WORDS = ("x", "y", None)
TICKS = 14
AGGREGATES = ("count", "sum", "avg", "min", "max", "distinct", "days_since_first", "days_since_last", "gap_mean", "gap_std", "gap_last")
LOWS = {
    "count": ("0", "1", "2", "0.5"),
    "distinct": ("0", "1", "2", "1.5"),
    "sum": ("0", "1", "2", "0.5", "-1.5", "0.00005", "2.0001", "4.5"),
    "avg": ("0", "2", "-1.5", "0.25", "0.666666666666666666", "0.666666666666666667"),
    "min": ("0", "0.0001", "0.00005", "-1.5", "2"),
    "max": ("0", "0.0001", "0.00005", "2.5", "2"),
}
SECOND = 1_000_000
MOMENTS = [t * SECOND for t in range(-1, TICKS + 4)]
PROPERTIES = {
    "value": pa.decimal128(18, 4),
    "n": pa.int64(),
    "word": pa.string(),
    "tags": pa.list_(pa.string()),
    "flag": pa.bool_(),
    "any": pa.string(),
}
SEVERAL_KINDS = ("any",)
"""The properties of which each value has a kind of its own."""
ANY = (None, Decimal(1), Decimal("2.5"), Decimal("-1.5"), "1", "'1", "n/a", "12 EUR", "true", True, ("1", "x"), ("n/a", "n/a"))


@dataclass(frozen=True)
class World:
    """Customers with their events, and the same as a block."""

    events: dict[str, list[Event]]
    block: Block


def seeded(seed: int, shift: int = SEED) -> random.Random:
    """The random numbers of a seed, shifted by PREDSEG_SEED."""
    return random.Random(shift * 1_000_003 + seed)


def random_event(r: random.Random, late: float, jitter: bool = False) -> Event:
    time = r.randrange(TICKS) * SECOND + (r.choice([-1, 0, 1]) if jitter else 0)
    properties = {
        "value": r.choice([None, Decimal(0), Decimal("0.0001"), Decimal("-1.5"), Decimal(2), Decimal("2.5")]),
        "n": r.choice([None, Decimal(0), Decimal(1), Decimal(2), Decimal(-1)]),
        "word": r.choice(WORDS),
        "tags": r.choice([None, (), ("x",), ("x", "y"), ("y", "y")]),
        "flag": r.choice([None, True, False]),
        "any": r.choice(ANY),
    }
    return Event(time, r.choice(NAMES), properties, time + r.randrange(-2, 6) * SECOND if r.random() < late else None)


def random_events_of_customers(r: random.Random, customers: int = 6, late: float = 0.2, jitter: bool = False) -> dict[str, list[Event]]:
    """Histories of up to 8 events; with ``jitter`` some are a microsecond beside their tick."""
    found = {f"c{i}": [random_event(r, late, jitter) for _ in range(r.randrange(9))] for i in range(customers)}
    return {customer: events for customer, events in found.items() if events}


def random_world(r: random.Random, customers: int = 6, late: float = 0.2) -> World:
    events = random_events_of_customers(r, customers, late)
    return World(events, to_block(events))


def to_table(events: Mapping[str, Sequence[Event]], kinds: Mapping[str, pa.DataType] | None = None) -> pa.Table:
    """The events table of some histories; events at the same time keep the order in which they come."""
    kinds = PROPERTIES if kinds is None else kinds
    rows = [(customer, e) for customer in sorted(events) for e in sorted(events[customer], key=lambda e: e.time)]
    instant = pa.timestamp("us", "UTC")
    columns: dict[str, Any] = {
        "customer_id": pa.array([customer for customer, _ in rows], pa.string()),
        "event": pa.array([e.name for _, e in rows], pa.string()),
        "event_time": pa.array([e.time for _, e in rows], pa.int64()).cast(instant),
        "received_at": pa.array([e.time if e.received is None else e.received for _, e in rows], pa.int64()).cast(instant),
    }
    for name, kind in kinds.items():
        spell = spelled if name in SEVERAL_KINDS else partial(_column_value, kind=kind)
        values = [spell(e.properties.get(name)) for _, e in rows]
        columns[name] = pa.array(values, pa.int64()).cast(kind) if pa.types.is_timestamp(kind) else pa.array(values, kind)
    marks = {name: SEVERAL for name in SEVERAL_KINDS}
    return pa.table(columns, schema=pa.schema([pa.field(name, column.type, metadata=marks.get(name)) for name, column in columns.items()]))


def _column_value(value: Any, kind: pa.DataType) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return int(value) if isinstance(value, Decimal) and pa.types.is_integer(kind) else value


def to_block(events: Mapping[str, Sequence[Event]], kinds: Mapping[str, pa.DataType] | None = None, module: Any = original) -> Block:
    """The columns of some histories; ``module`` is `predseg.evaluate.block` or a copy of it with a planted bug."""
    return module.from_table(to_table(events, kinds))


def random_filter(r: random.Random) -> Filter:
    number = Decimal(r.choice(["0", "0.0001", "2"]))
    return r.choice(
        [
            Filter("word", (Test("is", ("x",)),)),
            Filter("word", (Test("not", ("x",)),)),
            Filter("word", (Test("exists", (r.random() < 0.5,)),)),
            Filter("word", (Test("contains", ("y",)),)),
            Filter("word", (Test("at_least", ("y",)),)),
            Filter("tags", (Test("is", ("x",)),)),
            Filter("tags", (Test("not", ("x",)),)),
            Filter("flag", (Test("is", (True,)),)),
            Filter("flag", (Test("is", (Decimal(1),)),)),
            Filter("n", (Test("is", (Decimal(1),)),)),
            Filter("n", (Test("not", (Decimal(1), "x")),)),
            Filter("n", (Test("is", (True,)),)),
            Filter("value", (Test(r.choice(["more_than", "at_least", "less_than", "at_most", "exactly"]), (number,)),)),
            Filter("value", (Test("between", (Decimal(0), Decimal(2))),)),
            Filter("value", (Test("is", (Decimal(2),)),)),
            Filter("value", (Test("at_least", (Decimal("-1.5"),)), Test("less_than", (Decimal("2.5"),)))),
            Filter("nowhere", (Test("exists", (r.random() < 0.5,)),)),
            Filter("any", (Test(r.choice(["more_than", "at_least", "less_than", "at_most", "exactly"]), (r.choice([Decimal(1), Decimal("2.5")]),)),)),
            Filter("any", (Test(r.choice(["is", "not"]), (r.choice([Decimal(1), "1", "'1", "n/a", "true", True]),)),)),
            Filter("any", (Test("is", (Decimal("2.5"), "n/a", True)),)),
            Filter("any", (Test(r.choice(["contains", "at_least"]), ("1",)),)),
            Filter("any", (Test("exists", (r.random() < 0.5,)),)),
        ]
    )


def random_events(r: random.Random) -> Events:
    names = tuple(sorted(r.sample(NAMES, r.choice([0, 1, 1, 1, 2]))))
    return Events(names, tuple(random_filter(r) for _ in range(r.choice([0, 0, 0, 1, 1, 2]))))


def random_window(r: random.Random) -> Window:
    kind = r.randrange(5)
    start, until = r.randrange(1, 9) * SECOND, r.randrange(0, 5) * SECOND
    if kind == 0:
        return Window()
    if kind == 1:
        return Window(since=r.randrange(TICKS) * SECOND, until=r.choice([0, until]))
    if kind == 2:
        return Window(until=until)
    return Window(start) if kind == 3 else Window(start + until, until)


def random_step(r: random.Random, depth: int = 2) -> Step:
    within = r.choice([None, r.randrange(1, 5) * SECOND])
    same = r.choice([None, None, "word", "value", "tags", "n", "any"])
    if r.random() < 0.4:
        return Step(random_events(r), within, False, 1, same)
    then = random_step(r, depth - 1) if depth and r.random() < 0.4 else None
    return Step(random_events(r), within, True, r.choice([1, 1, 2]), same, then)


def random_measure(r: random.Random) -> Measure:
    aggregate = r.choice(AGGREGATES)
    of = None
    if aggregate == "distinct":
        of = r.choice(["word", "tags", "value", "n", "flag", "any", "nowhere"])
    elif aggregate in ("sum", "avg", "min", "max"):
        of = r.choice(["value", "value", "value", "n", "any", "nowhere", r.choice(["word", "tags", "flag"])])
    return Measure(random_events(r), random_window(r), aggregate, of, random_step(r) if r.random() < 0.35 else None)  # type: ignore[arg-type]


def random_comparison(r: random.Random, aggregate: str = "") -> Comparison:
    """A threshold, most often one that numbers of this world meet exactly, or miss by the last digit."""
    lows = sorted(map(Decimal, LOWS.get(aggregate, LOWS["sum"])))
    op, low, high = r.choice(COMPARISONS), r.choice(lows), r.choice(lows)
    return Comparison(op, min(low, high), max(low, high)) if op == "between" else Comparison(op, low)


def random_condition(r: random.Random, depth: int = 2, traits: float = 0.0) -> c.Condition:
    """A random tree; ``traits`` is the share of leaves that ask for a fact instead of a history."""
    if depth == 0 or r.random() < 0.4:
        if r.random() < traits:
            return c.Trait(Filter(r.choice(["tier", "country"]), (Test("is", (r.choice("ab"),)),)))
        measure = random_measure(r)
        while measure.aggregate.startswith(("days", "gap")):
            measure = random_measure(r)
        return c.Did(measure, random_comparison(r, measure.aggregate))
    parts = tuple(random_condition(r, depth - 1, traits) for _ in range(r.randrange(1, 4)))
    return r.choice(
        [c.All(parts), c.Any(parts), c.NoneOf(parts), c.Some(r.randrange(1, len(parts) + 1), parts), c.Holds(parts[:1], r.random() < 0.5)]
    )
