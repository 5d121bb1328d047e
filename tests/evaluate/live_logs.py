"""Whole logs of the live executor beside those that the reference tells, on small random worlds of every construct."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from predseg.evaluate import live, program
from predseg.evaluate.reference import Event, Truth
from predseg.language import conditions as c
from predseg.segments.customer import Customer
from predseg.segments.publications import LiveFacts, Publications, random_publications
from predseg.segments.worlds import Palette, random_condition, random_histories, small

SECOND = 1_000_000
Line = tuple[str, str, int, str]
"""customer, segment, instant, entered or left."""


@dataclass(frozen=True)
class World:
    """Rules over each other, histories, what is published; ``owners`` are links (anonymous id → instant, customer)."""

    seed: int
    rules: tuple[program.Rule, ...]
    histories: Mapping[str, Sequence[Event]]
    published: Publications
    palette: Palette
    links: Mapping[str, tuple[int, str]] = field(default_factory=dict)

    @property
    def end(self) -> int:
        return self.palette.times[-1] + 3 * self.palette.spans[-1]

    @cached_property
    def expected(self) -> Counter[Line]:
        """The log that the reference tells."""
        return tell(self)


def random_world(seed: int, customers: int = 5, segments: int = 3, linked: bool = False) -> World:
    """Rules that may ask about the rules before them; a fifth of the events is learned of late."""
    r = random.Random(f"live {seed}")
    palette = small(r.choice([1, SECOND]))
    names = tuple(f"s{i}" for i in range(segments))
    rules: list[program.Rule] = []
    for name in names:
        before = tuple(rule.name for rule in rules)
        condition = random_condition(r, replace(palette, segments=("one", *before)))
        rules.append(program.Rule(name, condition, f"d{name}"))
    histories = random_histories(r, palette, customers)
    whole = c.All(tuple(rule.match for rule in rules))
    outer = random_condition(r, palette)
    published = random_publications(r, palette, c.All((whole, outer)), histories)
    links: dict[str, tuple[int, str]] = {}
    if linked:
        ids = list(histories)
        links = {a: (r.choice(palette.times), r.choice(ids[: len(ids) // 2])) for a in ids[len(ids) // 2 :] if r.random() < 0.8}
    return World(seed, tuple(rules), histories, published, palette, links)


def tell(world: World) -> Counter[Line]:
    """The log that the reference tells, customer by customer."""
    found: Counter[Line] = Counter()
    for who in world.histories:
        for rule, changes in reference_log(world, who).items():
            found.update((who, rule, t, "entered" if now else "left") for t, now in changes)
    return found


def reference_log(world: World, who: str) -> dict[str, list[tuple[int, bool]]]:
    events, gone = history(world, who)
    rules = {rule.name: rule.match for rule in world.rules}
    first = min((e.visible for e in events), default=None)
    if first is None:
        return {}
    customer = Customer(events, _One(world.published, who), rules, first)
    instants = sorted({t for rule in rules.values() for t in customer.instants(rule)})
    found: dict[str, list[tuple[int, bool]]] = {}
    for name, rule in rules.items():
        inside = False
        for t in [t for t in instants if t < gone and t <= world.end] + ([gone] if gone <= world.end else []):
            now = t < gone and customer.matches(rule, t)
            if now != inside:
                found.setdefault(name, []).append((t, now))
                inside = now
    return found


def history(world: World, who: str) -> tuple[list[Event], int]:
    """The events of a customer over all time, and when it joined another one (far away when never)."""
    gone = world.links[who][0] if who in world.links else 2**62
    events = list(world.histories[who])
    for anonymous, (at, owner) in world.links.items():
        if owner == who:
            events += [replace(e, received=max(e.visible, at)) for e in world.histories[anonymous]]
            events.append(Event(at, "Link", {}, at))
    if who in world.links:
        events = [e for e in events if e.visible < gone]
    return events, gone


@dataclass(frozen=True)
class _One:
    published: Publications
    who: str

    def truth(self, condition: c.Condition, t: int) -> Truth:
        return self.published.truth(self.who, condition, t)

    def instants(self, condition: c.Condition) -> set[int]:
        return self.published.instants(condition, self.who)


Arrival = tuple[str | None, str | None, int, int, str, Mapping[str, Any]]


def arrivals(world: World) -> list[Arrival]:
    """The events and links as they come in, in order of the instant from which they count."""
    rows: list[Arrival] = []
    for who, events in world.histories.items():
        own, anonymous = (None, who) if who in world.links else (who, None)
        rows += [(own, anonymous, e.time, e.visible, e.name, e.properties) for e in events]
    rows += [(owner, anonymous, at, at, "Link", {}) for anonymous, (at, owner) in world.links.items()]
    return sorted(rows, key=lambda row: row[3])


def told(engine: Any, rows: Iterable[Arrival], end: int, step: Any = None) -> list[Any]:
    """Everything that the engine says of a stream; the clock follows the events, ``step(row)`` is done before each."""
    found: list[Any] = []
    for row in rows:
        if step is not None:
            step(row)
        found += engine.advance(row[3] - 1)
        found += engine.add(*row)
    return [*found, *engine.advance(end)]


def applied(changes: Iterable[Any]) -> Counter[Line]:
    """The log after its corrections: a correction takes the opposite line of the same instant away, or else adds its own."""
    log: Counter[Line] = Counter()
    for change in changes:
        other = "left" if change.change == "entered" else "entered"
        opposite = (change.customer_id, change.segment, change.at, other)
        if change.correction and log[opposite]:
            log[opposite] -= 1
        else:
            log[change.customer_id, change.segment, change.at, change.change] += 1
    return +log


def engine_of(world: World, module: Any = live, compiler: Any = program, **options: Any) -> Any:
    return module.Engine(compiler.Program(world.rules), LiveFacts(world.published), **options)


def differences(world: World, module: Any = live, compiler: Any = program, disorder: random.Random | None = None) -> Counter[Line]:
    """What only one of the executors says; with ``disorder`` some events without a time of receipt come behind the clock."""
    rows = arrivals(world)
    if disorder is not None:
        rows = sorted(rows, key=lambda row: row[3] + (disorder.choice(world.palette.spans) if disorder.random() < 0.2 else 0))
    found, wanted = applied(told(engine_of(world, module, compiler), rows, world.end)), world.expected
    return (found - wanted) + (wanted - found)


def forgetting(world: World, module: Any = live, compiler: Any = program, chance: random.Random | None = None) -> Counter[Line]:
    """What differs when everything that no rule can see is forgotten again and again, and events come up to three spans late."""
    r = chance or random.Random(world.seed)
    tick = world.palette.spans[0]
    engine = engine_of(world, module, compiler, lateness=3 * tick)
    rows = sorted(arrivals(world), key=lambda row: row[3] + (r.randrange(3) * tick if r.random() < 0.3 else 0))

    def step(row: Arrival) -> None:
        if r.random() < 0.4:
            engine.prune()

    found, wanted = applied(told(engine, rows, world.end, step)), world.expected
    return (found - wanted) + (wanted - found)
