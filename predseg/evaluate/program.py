"""What goes into the live executor and what comes out; and its rules, compiled: equal conditions become one leaf, equal declarations of events one stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from predseg.evaluate.leaves import FALSE, NEVER, TRUE, UNKNOWN, Folded, Hit, Person, Route, Stream, Streams, compile_did
from predseg.evaluate.reference import Truth
from predseg.language import conditions as c
from predseg.language.time import say_instant


@dataclass(frozen=True)
class Rule:
    """A live segment: its condition asks with `In` about the rules before it and, as facts, about daily segments."""

    name: str
    match: c.Condition
    definition: str = ""


class Change(NamedTuple):
    """A customer entered or left a segment at an instant; ``n`` counts its changes there, under this definition."""

    change: str  # entered | left
    segment: str
    customer_id: str
    at: int
    definition: str
    correction: bool = False
    n: int = 0

    def plain(self) -> dict[str, Any]:
        """Return the change as it is printed and served."""
        return {name: getattr(self, name) for name in self._fields if name != "n"} | {"at": say_instant(self.at)}


class Facts(Protocol):
    """Answers what does not follow from events: step functions of time, for one customer."""

    def truth(self, condition: c.Condition, customer_id: str, t: int) -> Truth:
        """Decide a condition at t."""
        ...

    def next_change(self, condition: c.Condition, customer_id: str, t: int) -> int | None:
        """Return the first known instant after t at which it can change for the customer."""
        ...

    def known_since(self, customer_id: str) -> int | None:
        """Return from when the customer is known without an event; None is never."""
        ...


class Row(NamedTuple):
    """An event as it is kept: visible from, its own time, where it belongs, and under whom it came."""

    visible: int
    time: int
    hits: tuple[Hit, ...]
    customer_id: str | None
    anonymous_id: str | None

    @property
    def link(self) -> bool:
        """Whether it joins an anonymous visitor to a customer."""
        return self.customer_id is not None and self.anonymous_id is not None


@dataclass(slots=True)
class Origin:
    """What came under one id: its rows within the time of corrections, and a summary of the rows before.

    Attributes:
        rows: Rows, in the order in which they became visible.
        folded: Stream → summary of the rows that were dropped.
        since: When the first row became visible.
        links: Ids that came together with this one.
    """

    rows: list[Row] = field(default_factory=list)
    folded: dict[int, Folded] | None = None
    since: int = NEVER
    links: frozenset[str] = frozenset()


Decide = Callable[[bytearray, list[int | None]], int]
"""(truth of the leaves, since when a member of each rule) → truth."""


class Program:
    """Rules, compiled: equal conditions are one leaf, equal declarations of events one stream."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self._at = {rule.name: i for i, rule in enumerate(rules)}
        self._leaves: dict[c.Condition, int] = {}
        streams = Streams()
        self.decide = [self._compile(rule.match) for rule in rules]
        self.conditions = tuple(self._leaves)
        self.answers = [compile_did(leaf, streams) if isinstance(leaf, c.Did) else None for leaf in self.conditions]
        self.facts = tuple((i, leaf) for leaf, i in self._leaves.items() if not isinstance(leaf, c.Did))
        self.fact_leaves = tuple(i for i, _ in self.facts)
        self.streams: list[Stream] = streams.all
        self.rules_of = self._rules_of()
        self._routes: dict[str, Route] = {}
        self.leaves_of = [
            tuple(i for leaf, i in self._leaves.items() if isinstance(leaf, c.Did) and n in self._reads(leaf, streams))
            for n in range(len(self.streams))
        ]
        self._nowhere: list[int | None] = [None] * len(rules)
        self._zeros = [0] * len(rules)
        empty = Person("", len(self.streams), bytes(len(self.conditions)), self._nowhere, self._zeros)
        self.blank = bytes(answer(empty, 0)[0] if answer is not None else UNKNOWN for answer in self.answers)

    def person(self, customer_id: str) -> Person:
        """Return a customer of whom nothing is known."""
        return Person(customer_id, len(self.streams), self.blank, self._nowhere, self._zeros)

    def route(self, name: str) -> Route:
        """Return what says to which streams events of a name belong."""
        return self._routes.get(name) or self._routes.setdefault(name, Route(self.streams, name))

    @staticmethod
    def _reads(leaf: c.Did, streams: Streams) -> set[int]:
        return {streams.number(leaf.measure.events, leaf.measure.window.since), *(streams.number(s.events) for s in leaf.measure.steps())}

    def _compile(self, condition: c.Condition) -> Decide:
        if isinstance(condition, c.LAYERS):
            parts = [self._compile(part) for part in condition.of]
            return _holds(parts[0], condition.member) if isinstance(condition, c.Holds) else _layer(condition, parts)
        if isinstance(condition, c.In) and condition.segment in self._at:
            segment, member = self._at[condition.segment], condition.member
            return lambda truth, members: int((members[segment] is not None) == member)
        leaf = self._leaves.setdefault(condition, len(self._leaves))
        return lambda truth, members: truth[leaf]

    def _rules_of(self) -> list[tuple[int, ...]]:
        """Return, per leaf, the rules that it can change, also through other rules."""
        depends: list[set[int]] = []
        for rule in self.rules:
            parts = list(c.walk(rule.match))
            mine = {self._leaves[p] for p in parts if p in self._leaves}
            used = (self._at[p.segment] for p in parts if isinstance(p, c.In) and p.segment in self._at)
            depends.append(mine.union(*(depends[i] for i in used)))
        return [tuple(r for r, leaves in enumerate(depends) if i in leaves) for i in range(len(self._leaves))]


def _holds(part: Decide, member: bool) -> Decide:
    return lambda truth, members: int((part(truth, members) == TRUE) == member)


def _layer(condition: c.All | c.Any | c.NoneOf | c.Some, parts: list[Decide]) -> Decide:
    """Combine in Kleene's logic."""
    needed = len(parts) if isinstance(condition, c.All) else condition.at_least if isinstance(condition, c.Some) else 1
    negated = isinstance(condition, c.NoneOf)

    def decide(truth: bytearray, members: list[int | None]) -> int:
        found = [part(truth, members) for part in parts]
        true = found.count(TRUE)
        if true >= needed:
            return FALSE if negated else TRUE
        return UNKNOWN if true + found.count(UNKNOWN) >= needed else TRUE if negated else FALSE

    return decide
