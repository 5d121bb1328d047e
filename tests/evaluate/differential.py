"""Questions with the reference's answers, to be put to a batch kernel: the original one, or a copy with a planted bug."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from predseg.evaluate import batch, block, reference
from predseg.evaluate.reference import Event
from predseg.language import conditions as c
from predseg.language.measures import Events, Measure
from tests.evaluate.worlds import (
    MOMENTS,
    PROPERTIES,
    SECOND,
    SEED,
    TICKS,
    random_comparison,
    random_condition,
    random_event,
    random_events_of_customers,
    random_measure,
    random_window,
    seeded,
    to_block,
)

IDENTITIES = {**PROPERTIES, "anonymous_id": pa.string(), "linked_at": pa.timestamp("us", "UTC")}
UNKNOWN = -1


@dataclass(frozen=True)
class Kernel:
    """The modules of a batch executor."""

    block: Any = block
    batch: Any = batch


ORIGINAL = Kernel()


@dataclass(frozen=True)
class Question:
    """Histories, and measures and conditions to be answered at every moment; ``seed`` makes it again.

    Properties ``anonymous_id`` and ``linked_at`` of an event say under which name it was known before.
    """

    seed: int
    events: dict[str, list[Event]]
    asked: tuple[Measure | c.Condition, ...]
    known: int | None = None
    identities: bool = False
    moments: tuple[int, ...] = tuple(MOMENTS)

    @cached_property
    def expected(self) -> dict[str, np.ndarray[Any, Any]]:
        """The reference's answers: per customer float64 (asked, moments); of a condition 1, 0 or -1 for unknown."""
        return {customer: np.array(self._reference(customer)) for customer in self.customers}

    @property
    def customers(self) -> list[str]:
        """Everybody with a history, and whoever an anonymous visitor was before."""
        before = {str(e.properties["anonymous_id"]) for events in self.events.values() for e in events if _changed(e)} if self.identities else set()
        return sorted({*self.events, *before})

    def history(self, customer: str, t: int) -> list[Event]:
        """The events that belong to the customer at t, rebuilt by hand from the links visible at t."""
        if not self.identities:
            return self.events[customer]
        mine = [e for e in self.events.get(customer, []) if _linked(e) <= t]
        return mine + [e for events in self.events.values() for e in events if _linked(e) > t and e.properties["anonymous_id"] == customer]

    def _reference(self, customer: str) -> list[list[float]]:
        histories = [(t, self.history(customer, t if self.known is None else self.known)) for t in self.moments]
        return [[self._answer(asked, customer, events, t) for t, events in histories] for asked in self.asked]

    def _answer(self, asked: Measure | c.Condition, customer: str, events: list[Event], t: int) -> float:
        if isinstance(asked, Measure):
            return reference.measure(asked, events, t, known=self.known).to_float()
        found = reference.decide(asked, events, t, known=self.known, facts=facts_of(customer))
        return UNKNOWN if found is None else float(found)

    @property
    def block(self) -> block.Block:
        """The histories as the original block."""
        return self.block_of(ORIGINAL)

    def block_of(self, kernel: Kernel, events: dict[str, list[Event]] | None = None) -> Any:
        """The histories, or others, as a block of the kernel's."""
        return to_block(self.events if events is None else events, IDENTITIES if self.identities else PROPERTIES, kernel.block)

    def answers(self, kernel: Kernel = ORIGINAL, events: dict[str, list[Event]] | None = None) -> dict[str, np.ndarray[Any, Any]]:
        """The kernel's answers, in the form of `expected`; ``events`` replaces the histories."""
        histories = self.block_of(kernel, events)
        measures = [m for m in self.asked if isinstance(m, Measure)]
        numbers = iter(kernel.batch.evaluate(histories, self.moments, measures, known=self.known))
        parts = [next(numbers).to_float() if isinstance(asked, Measure) else self._truth(kernel, histories, asked) for asked in self.asked]
        return {str(customer): np.array([part[i] for part in parts]) for i, customer in enumerate(histories.customers)}

    def _truth(self, kernel: Kernel, histories: Any, condition: c.Condition) -> np.ndarray[Any, Any]:
        truth = kernel.batch.truth(histories, self.moments, condition, known=self.known, facts=batch_facts(kernel))
        assert not (truth.true & truth.unknown).any(), "both true and unknown"
        return np.where(truth.unknown, UNKNOWN, truth.true.astype(float))

    def differences(self, kernel: Kernel = ORIGINAL) -> Iterator[str]:
        """Where the kernel answers differently, in words, the seed first."""
        found = self.answers(kernel)
        if missing := set(self.customers) ^ found.keys():
            yield f"seed {self.seed}: {sorted(missing)} stand on one side only"
            return
        for customer, expected in self.expected.items():
            for i, k in np.argwhere(~((expected == found[customer]) | (np.isnan(expected) & np.isnan(found[customer])))):
                asked = self.asked[i]
                says = f"reference {expected[i, k]}, batch {found[customer][i, k]}"
                t = self.moments[k]
                yield f"seed {self.seed}: {asked} of {customer} at {t / SECOND} known {self.known}: {says}, events {self.history(customer, t)}"

    @property
    def size(self) -> int:
        """How many answers are compared."""
        return sum(expected.size for expected in self.expected.values())


def _changed(event: Event) -> bool:
    return _linked(event) > event.visible


def _linked(event: Event) -> int:
    linked = event.properties.get("linked_at")
    return int(linked) if linked is not None else -(2**62)  # type: ignore[arg-type]


def _fact(condition: c.Condition, customer: str, t: int) -> bool | None:
    return (True, False, None)[zlib.crc32(f"{condition} {customer} {t}".encode()) % 3]


def facts_of(customer: str) -> Callable[[c.Condition, int], bool | None]:
    """Made-up facts of one customer, for the reference."""
    return lambda condition, t: _fact(condition, customer, t)


def batch_facts(kernel: Kernel) -> Callable[..., Any]:
    """The same facts, for the kernel."""

    def facts(condition: c.Condition, customers: Sequence[str], moments: Sequence[int]) -> Any:
        found = [_fact(condition, str(i), int(t)) for i, t in zip(customers, moments, strict=True)]
        return kernel.batch.Truth(np.array([f is True for f in found], bool), np.array([f is None for f in found], bool))

    return facts


def question(seed: int, shift: int = SEED) -> Question:
    """A random question: in turn about measures, layers of conditions, labels, thresholds, identities; some beside the ticks."""
    r = seeded(seed, shift)
    kind, jitter = seed % 5, seed % 3 == 0
    if kind == 4:
        return Question(seed, random_identities(r), tuple(random_measure(r) for _ in range(4)), identities=True)
    events = random_events_of_customers(r, jitter=jitter)
    moments = tuple(t + r.choice([-1, 0, 1]) for t in r.choices(MOMENTS, k=12)) if jitter else tuple(MOMENTS)
    if kind == 3:
        return Question(seed, _with_few_values(r, events), tuple(_threshold(r) for _ in range(8)), moments=moments)
    if kind == 1:
        return Question(seed, events, tuple(random_condition(r, depth, traits=0.3) for depth in (0, 1, 2)), moments=moments)
    known = r.randrange(TICKS) * SECOND if kind == 2 else None
    return Question(seed, events, tuple(random_measure(r) for _ in range(6)), known, moments=moments)


def _with_few_values(r: random.Random, events: dict[str, list[Event]]) -> dict[str, list[Event]]:
    """The same histories with values of which many sums and averages meet the same numbers, thirds among them."""
    few = (None, Decimal(0), Decimal(0), Decimal(2))
    return {customer: [replace(e, properties={**e.properties, "value": r.choice(few)}) for e in history] for customer, history in events.items()}


def _threshold(r: random.Random) -> c.Did:
    aggregate = r.choice(["sum", "avg", "avg", "min", "max"])
    return c.Did(Measure(Events(), random_window(r), aggregate, "value"), random_comparison(r, aggregate))  # type: ignore[arg-type]


def random_identities(r: random.Random) -> dict[str, list[Event]]:
    """Customers of whom some were anonymous before: each anonymous id joins one of them, or nobody, at one instant."""
    found: dict[str, list[Event]] = {}
    for i in range(r.randrange(1, 4)):
        found[f"u{i}"] = [random_event(r, 0.2) for _ in range(r.randrange(5))]
        for k in range(r.randrange(3)):
            link, name = r.randrange(-1, TICKS + 3) * SECOND, f"a{i}{k}"
            events = [random_event(r, 0.2) for _ in range(r.randrange(5))]
            found[f"u{i}"] += [_named(e, name, link) for e in events]
    stranger = [_named(random_event(r, 0.2), "stranger", None) for _ in range(r.randrange(3))]
    return {customer: events for customer, events in [*found.items(), ("stranger", stranger)] if events}


def _named(event: Event, name: str, link: int | None) -> Event:
    return replace(event, properties={**event.properties, "anonymous_id": name, "linked_at": link})
