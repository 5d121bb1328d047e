"""Small random worlds: few ticks, many ties, so that every boundary is hit."""

from __future__ import annotations

import random
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from predseg.evaluate.block import Block, Numbers, Words
from predseg.evaluate.reference import Event
from predseg.language import conditions as c
from predseg.language.measures import SCALE, Comparison, Events, Filter, Measure, Step, Test, Window

NAMES = ("A", "B", "C")
WORDS = ("x", "y", None)
TICKS = 14
AGGREGATES = ("count", "sum", "avg", "min", "max", "distinct", "days_since_first", "days_since_last", "gap_mean", "gap_std", "gap_last")
SECOND = 1_000_000


@dataclass(frozen=True)
class World:
    """Customers with their events, and the same as a block."""

    events: dict[str, list[Event]]
    block: Block


def random_event(r: random.Random, late: float) -> Event:
    time = r.randrange(TICKS) * SECOND
    properties = {
        "value": r.choice([None, Decimal(0), Decimal("0.0001"), Decimal("-1.5"), Decimal(2), Decimal("2.5")]),
        "word": r.choice(WORDS),
        "tags": r.choice([None, (), ("x",), ("x", "y"), ("y", "y")]),
        "flag": r.choice([None, True, False]),
    }
    return Event(time, r.choice(NAMES), properties, time + r.randrange(6) * SECOND if r.random() < late else None)


def random_world(r: random.Random, customers: int = 6, late: float = 0.2) -> World:
    events = {f"c{i}": [random_event(r, late) for _ in range(r.randrange(9))] for i in range(customers)}
    return World(events, to_block({k: v for k, v in events.items() if v}))


def to_block(events: dict[str, list[Event]]) -> Block:
    """The columns of some histories; events at the same time keep the order in which they come."""
    ids = sorted(events)
    rows = [e for i in ids for e in sorted(events[i], key=lambda e: e.time)]
    offsets = np.concatenate([[0], np.cumsum([len(events[i]) for i in ids])]).astype(np.int64)
    values = [e.properties.get("value") for e in rows]
    numbers = Numbers(np.array([int((v or 0) * SCALE) for v in values], np.int64), np.array([v is not None for v in values], bool))
    words = {name: to_words([e.properties.get(name) for e in rows]) for name in ("word", "tags", "flag")}
    time = np.array([e.time for e in rows], np.int64)
    received = np.array([e.visible for e in rows], np.int64)
    event = np.array([NAMES.index(e.name) for e in rows], np.int32)
    return Block(np.array(ids, object), offsets, time, received, event, NAMES, {"value": numbers, **words})


def to_words(values: list[object]) -> Words:
    found = sorted({v for v in values if v is not None}, key=str)
    return Words(np.array([-1 if v is None else found.index(v) for v in values], np.int32), tuple(found))


def random_filter(r: random.Random) -> Filter:
    return r.choice(
        [
            Filter("word", (Test("is", ("x",)),)),
            Filter("word", (Test("not", ("x",)),)),
            Filter("word", (Test("exists", (r.random() < 0.5,)),)),
            Filter("word", (Test("contains", ("y",)),)),
            Filter("tags", (Test("is", ("x",)),)),
            Filter("tags", (Test("not", ("x",)),)),
            Filter("flag", (Test("is", (True,)),)),
            Filter(
                "value", (Test(r.choice(["more_than", "at_least", "less_than", "at_most", "exactly"]), (Decimal(r.choice(["0", "0.0001", "2"])),)),)
            ),
            Filter("value", (Test("between", (Decimal(0), Decimal(2))),)),
            Filter("value", (Test("is", (Decimal(2),)),)),
            Filter("nowhere", (Test("exists", (r.random() < 0.5,)),)),
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
    same = r.choice([None, None, "word", "value"])
    if r.random() < 0.4:
        return Step(random_events(r), within, False, 1, same)
    then = random_step(r, depth - 1) if depth and r.random() < 0.4 else None
    return Step(random_events(r), within, True, r.choice([1, 1, 2]), same, then)


def random_measure(r: random.Random) -> Measure:
    aggregate = r.choice(AGGREGATES)
    of = (
        r.choice(["word", "tags", "value", "flag", "nowhere"])
        if aggregate == "distinct"
        else "value"
        if aggregate in ("sum", "avg", "min", "max")
        else None
    )
    return Measure(random_events(r), random_window(r), aggregate, of, random_step(r) if r.random() < 0.35 else None)  # type: ignore[arg-type]


def random_comparison(r: random.Random) -> Comparison:
    low = Decimal(r.choice(["0", "1", "2", "0.5", "-1.5", "0.00005", "2.0001", "1.25", "0.3333"]))
    op = r.choice(["more_than", "at_least", "less_than", "at_most", "exactly", "between"])
    return Comparison(op, low, low + r.randrange(3) if op == "between" else None)  # type: ignore[arg-type]


def random_condition(r: random.Random, depth: int = 2) -> c.Condition:
    if depth == 0 or r.random() < 0.4:
        measure = random_measure(r)
        while measure.aggregate.startswith(("days", "gap")):
            measure = random_measure(r)
        return c.Did(measure, random_comparison(r))
    parts = tuple(random_condition(r, depth - 1) for _ in range(r.randrange(1, 4)))
    return r.choice([c.All(parts), c.Any(parts), c.NoneOf(parts), c.Some(r.randrange(1, len(parts) + 1), parts)])
