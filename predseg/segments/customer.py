"""One customer at a time, for explanations and rule tests: events, what is published, and the rules that `in:` asks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from predseg.evaluate.reference import Event, Truth, decide
from predseg.evaluate.timeline import instants
from predseg.language import conditions as c
from predseg.language.measures import Filter, Value


@dataclass(frozen=True)
class Found:
    """What is known beside the events, in words: the value, more about it, and what would flip the condition."""

    says: str
    details: tuple[str, ...] = ()
    flip: str = ""


def trait_truth(wanted: Filter, value: Value) -> Truth:
    """Decide a trait: a missing one is unknown, unless it is asked whether it exists.

    >>> from predseg.language.measures import Test
    >>> trait_truth(Filter("country", (Test("is", ("GB",)),)), None), trait_truth(Filter("country", (Test("exists", (True,)),)), None)
    (None, False)
    """
    if wanted.accepts(value):
        return True
    asked = any(test.op == "exists" and test.operands[0] for test in wanted.tests)
    return None if value is None and not asked else False


class Published(Protocol):
    """Scores, traits, rfv scores, clusters and memberships of one customer."""

    def truth(self, condition: c.Condition, t: int) -> Truth:
        """Decide a condition at t."""
        ...

    def found(self, condition: c.Condition, t: int) -> Found:
        """Say what was found at t."""
        ...

    def instants(self, condition: c.Condition) -> Iterable[int]:
        """The instants at which what is published can change the condition."""
        ...


@dataclass
class Customer:
    """Decides conditions about one customer with the reference executor.

    Args:
        events: Its events, in any order.
        published: What is known beside them.
        rules: The segments whose rules answer `in:`; all others are asked of ``published``.
        known_from: From when it is known; None is always.
    """

    events: Sequence[Event]
    published: Published
    rules: Mapping[str, c.Condition] = field(default_factory=dict)
    known_from: int | None = None
    _members: dict[tuple[str, int], bool] = field(default_factory=dict, repr=False)

    def decide(self, condition: c.Condition, t: int) -> Truth:
        """Decide a condition at t in Kleene's logic."""
        return decide(condition, self.events, t, facts=self._fact)

    def known(self, t: int) -> bool:
        """Whether the customer is known at t: nobody else is a member of anything."""
        return self.known_from is None or t >= self.known_from

    def matches(self, condition: c.Condition, t: int) -> bool:
        """Whether the condition makes a member of the customer at t."""
        return self.known(t) and self.decide(condition, t) is True

    def belongs(self, segment: str, t: int) -> bool:
        """Whether the customer is at t in a segment that is decided by its rule."""
        if (segment, t) not in self._members:
            self._members[segment, t] = self.matches(self.rules[segment], t)
        return self._members[segment, t]

    def _fact(self, condition: c.Condition, t: int) -> Truth:
        if isinstance(condition, c.In) and condition.segment in self.rules:
            return self.belongs(condition.segment, t) == condition.member
        return self.published.truth(condition, t)

    def unfolded(self, condition: c.Condition) -> c.Condition:
        """Return a condition with the same instants of change: itself and the rules that it asks about, each once."""
        used: dict[str, c.Condition] = {}
        waiting = [condition]
        while waiting:
            for part in c.walk(waiting.pop()):
                if isinstance(part, c.In) and part.segment in self.rules and part.segment not in used:
                    used[part.segment] = self.rules[part.segment]
                    waiting.append(self.rules[part.segment])
        return c.All((condition, *used.values()))

    def instants(self, condition: c.Condition) -> list[int]:
        """Return, sorted, the only instants at which the condition can change, from when the customer is known."""
        whole = self.unfolded(condition)
        beginning = [] if self.known_from is None else [self.known_from]
        return [t for t in instants(whole, self.events, [*self.published.instants(whole), *beginning]) if self.known(t)]

    def transitions(self, condition: c.Condition, start: bool = False) -> list[tuple[int, bool]]:
        """Return (instant, member from then on) for each change of membership; ``start`` says how it was before the first."""
        found, member = [], start
        for t in self.instants(condition):
            if (now := self.matches(condition, t)) != member:
                found.append((t, now))
                member = now
        return found
