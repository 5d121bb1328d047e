"""Why a customer is, or is not, in a segment: each condition, what was found, and what would change it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from predseg.evaluate.reference import Answer, Event, Truth, measure
from predseg.language import conditions as c
from predseg.language.english import say_condition, say_events, say_value
from predseg.language.measures import SCALE, Measure, Step
from predseg.language.time import say_instant
from predseg.segments.customer import Customer
from predseg.segments.flips import Flip, nearest_flip

SHOWN = 3
STEPS = 400
"""How many instants ahead are looked at for what the clock alone will change."""


@dataclass(frozen=True)
class Ahead:
    """What the clock alone brings: the instant of the change and what holds from then on; or how far was looked in vain."""

    at: int | None = None
    holds: bool = False
    looked_until: int | None = None


@dataclass(frozen=True)
class Reason:
    """One condition of a rule, explained.

    Attributes:
        says: The condition in English; of a layer only how it joins its parts.
        truth: True, False, or None for unknown.
        number: Its position among the conditions of its rule, from 1; 0 for a layer.
        found: The value found, in words.
        events: At most three events behind it, the latest first.
        more: How many more events are behind it.
        details: What else is known, such as the reasons of a score.
        flip: What would flip it, in words; empty when nothing the customer does can.
        change: The events of that change.
        ahead: What the clock alone brings.
        parts: The conditions within.
        condition: What is explained.
    """

    says: str
    truth: Truth
    condition: c.Condition
    number: int = 0
    found: str = ""
    events: tuple[Event, ...] = ()
    more: int = 0
    details: tuple[str, ...] = ()
    flip: str = ""
    change: Flip | None = None
    ahead: Ahead = Ahead()
    parts: tuple[Reason, ...] = ()

    def leaves(self) -> Iterator[Reason]:
        """Yield the conditions that are no layers, in order."""
        if self.number:
            yield self
        else:
            for part in self.parts:
                yield from part.leaves()


def explain(condition: c.Condition, customer: Customer, t: int, *, clock: bool = True) -> Reason:
    """Explain a rule at t with what was visible then.

    Args:
        condition: The rule.
        customer: Whom it is about; its events may lie beyond t.
        t: The moment.
        clock: Whether to look ahead for what the clock alone brings.
    """
    return _Explainer(seen_by(customer, t), t, clock).reason(condition, ())


def seen_by(customer: Customer, t: int) -> Customer:
    """Return the customer with only the events that are visible at t."""
    return replace(customer, events=[e for e in customer.events if e.visible <= t], _members={})


def ahead(condition: c.Condition, customer: Customer, t: int) -> Ahead:
    """Return the first change after t that needs no event, with the events given."""
    asked = c.measures(customer.unfolded(condition))
    names = set().union(*(m.names() for m in asked))
    if all(m.names() for m in asked):
        customer = replace(customer, events=[e for e in customer.events if e.name in names], _members={})
    now = customer.decide(condition, t) is True
    coming = [i for i in customer.instants(condition) if i > t]
    for instant in coming[:STEPS]:
        if (then := customer.decide(condition, instant) is True) != now:
            return Ahead(instant, then)
    return Ahead(looked_until=coming[STEPS - 1] if len(coming) > STEPS else None)


class _Explainer:
    """Walks a rule and numbers its conditions."""

    def __init__(self, customer: Customer, t: int, clock: bool) -> None:
        self.customer, self.t, self.clock, self.number = customer, t, clock, 0

    def reason(self, condition: c.Condition, path: tuple[str, ...]) -> Reason:
        if isinstance(condition, c.LAYERS):
            parts = tuple(self.reason(part, path) for part in condition.of)
            return Reason(_say_layer(condition), self.customer.decide(condition, self.t), condition, parts=parts)
        self.number += 1
        made = Reason(say_condition(condition), self.customer.decide(condition, self.t), condition, self.number)
        if self.clock:
            made = replace(made, ahead=ahead(condition, self.customer, self.t))
        if isinstance(condition, c.Did):
            return self._did(made, condition)
        if isinstance(condition, c.In) and condition.segment in self.customer.rules:
            return self._in(made, condition, path)
        found = self.customer.published.found(condition, self.t)
        return replace(made, found=found.says, details=found.details, flip=found.flip)

    def _did(self, made: Reason, condition: c.Did) -> Reason:
        declared, events = condition.measure, self.customer.events
        answer = measure(declared, events, self.t)
        behind, found = answer.events, say_answer(declared, answer)
        details: tuple[str, ...] = ()
        if not behind and declared.then is not None:
            behind = measure(replace(declared, then=None, aggregate="count"), events, self.t).events
            found += f"; {len(behind):,} {say_events(declared.events)} looked at" if behind else ""
            details = tuple(_interrupted(declared.then, _strongest(declared, behind), events, self.t))
        chosen = _strongest(declared, behind)
        flip = nearest_flip(condition, events, self.t)
        made = replace(made, found=found, events=chosen, more=len(behind) - len(chosen), details=details)
        return replace(made, flip=flip.says if flip else "", change=flip)

    def _in(self, made: Reason, condition: c.In, path: tuple[str, ...]) -> Reason:
        inside = self.customer.belongs(condition.segment, self.t)
        inner = _Explainer(self.customer, self.t, self.clock)
        rule = inner.reason(self.customer.rules[condition.segment], (*path, condition.segment))
        return replace(made, found="a member" if inside else "not a member", parts=(rule,))


def _say_layer(condition: c.Layer) -> str:
    match condition:
        case c.All():
            return "all of these"
        case c.Any():
            return "at least one of these"
        case c.NoneOf():
            return "none of these" if len(condition.of) > 1 else "not this"
        case c.Some():
            return f"at least {condition.at_least} of these {len(condition.of)}"
    return "this" if condition.member else "not this"


def _interrupted(step: Step, begun: Sequence[Event], events: Sequence[Event], t: int) -> Iterator[str]:
    """Yield what became of each event that nothing was to follow: what followed it, or until when that is open."""
    after = measure(Measure(step.events), events, t).events if not step.did else ()
    for start in begun if not step.did else ():
        tie = start.properties.get(step.same) if step.same else None
        last = t if step.within is None else start.time + step.within
        tied = [e for e in after if start.time < e.time <= last and (not step.same or e.properties.get(step.same) == tie)]
        if tied:
            first = min(tied, key=lambda e: e.time)
            yield f"the {start.name} of {say_instant(start.time)} was followed by the {first.name} of {say_instant(first.time)}"
        elif last > t and (not step.same or tie is not None):
            yield f"after the {start.name} of {say_instant(start.time)} it is open until {say_instant(last)}"


def _strongest(declared: Measure, events: Sequence[Event]) -> tuple[Event, ...]:
    """The latest events; for the smallest and largest value the ones that decide."""
    latest = sorted(events, key=lambda e: e.time, reverse=True)
    if declared.aggregate in ("min", "max"):
        sign = 1 if declared.aggregate == "min" else -1
        valued = [e for e in latest if e.properties.get(str(declared.of)) is not None]
        latest = sorted(valued, key=lambda e: sign * Decimal(e.properties[str(declared.of)]))  # type: ignore[arg-type]
    return tuple(latest[:SHOWN])


def say_answer(declared: Measure, answer: Answer) -> str:
    """Return a measured value in words.

    >>> say_answer(Measure(None), Answer("count", 1)), say_answer(Measure(None, aggregate="sum"), Answer("sum", 46_880_000))
    ('once', '4,688')
    >>> say_answer(Measure(None, aggregate="avg"), Answer("avg", None))
    'unknown, there is no such value'
    """
    if answer.number is None:
        return "unknown, there is no such value"
    if answer.aggregate == "count":
        return {0: "never", 1: "once", 2: "twice"}.get(answer.number, f"{answer.number:,} times")
    if answer.aggregate == "distinct":
        return f"{answer.number:,} different"
    number = Decimal(answer.number) / SCALE
    if answer.aggregate == "avg":
        number = round(number / answer.count, 4)
    return say_value(_trimmed(number))


def _trimmed(number: Decimal) -> Decimal:
    """Leave needless zeros away without falling into exponents."""
    whole = number.to_integral_value()
    return whole if number == whole else number.normalize()
