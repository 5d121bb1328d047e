"""The nearest thing a customer could do that flips a condition, checked with the reference before it is said.

A proposal is one or more events at the moment that is asked about (or just after, where one must follow another). Only
what the reference confirms is returned, and nothing that the clock would bring about anyway.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from predseg.evaluate.reference import Answer, Event, decide, measure
from predseg.language import conditions as c
from predseg.language.english import say_events, say_value
from predseg.language.measures import SCALE, Comparison, Events, Filter, Measure, Step, Value, kind_of
from predseg.language.time import say_duration, say_instant

MOST = 1_000
"""More events than this are no proposal."""


@dataclass(frozen=True)
class Flip:
    """What would flip a condition: in words, as events, and the moment from which it is flipped then."""

    says: str
    events: tuple[Event, ...]
    at: int


def nearest_flip(condition: c.Did, events: Sequence[Event], t: int) -> Flip | None:
    """Return the smallest change from t on that makes a condition true, or not true when it is; None when no event can.

    >>> order = Measure(Events(("Order Completed",)), aggregate="sum", of="value")
    >>> rule = c.Did(order, Comparison("more_than", Decimal(5000)))
    >>> nearest_flip(rule, [Event(0, "Order Completed", {"value": Decimal(4688)})], 10).says
    'one Order Completed of more than 312'
    """
    known = [e for e in events if e.visible <= t]
    wanted = decide(condition, known, t) is not True
    for flip in _proposals(condition, known, t, wanted):
        if (decide(condition, [*known, *flip.events], flip.at) is True) == wanted != (decide(condition, known, flip.at) is True):
            return flip
    return None


def _proposals(condition: c.Did, known: list[Event], t: int, wanted: bool) -> Iterator[Flip]:
    declared = condition.measure
    at = t + declared.window.until
    later = f", counted from {say_instant(at)} on" if declared.window.until else ""
    answer = measure(declared, known, at)
    if declared.then is not None:
        yield from _of_sequence(condition, declared.then, known, t, wanted)
    elif declared.aggregate in ("count", "distinct"):
        yield from _of_number(condition, answer, t, at, wanted, later)
    else:
        yield from _of_amount(condition, answer, known, t, at, wanted, later)


def _of_number(condition: c.Did, answer: Answer, t: int, at: int, wanted: bool, later: str) -> Iterator[Flip]:
    """So many more events: counts and numbers of different values."""
    declared, number = condition.measure, answer.number or 0
    if (needed := _missing(condition.comparison, number, wanted)) is None:
        return
    one = example(declared.events)
    if one is None or (declared.aggregate == "distinct" and declared.of in one):
        return
    added = [
        Event(t, _name(declared.events), one | ({str(declared.of): f"new value {i}"} if declared.aggregate == "distinct" else {}))
        for i in range(needed)
    ]
    said = say_events(declared.events)
    if declared.aggregate == "distinct":
        yield Flip(f"{needed:,} {'more ' if number else ''}different {declared.of} of {said}{later}", tuple(added), at)
    else:
        yield Flip(f"{'one' if needed == 1 else f'{needed:,}'} {'more ' if number else ''}{said}{later}", tuple(added), at)


def _missing(comparison: Comparison, number: int, wanted: bool) -> int | None:
    """How many more are needed to pass, or to pass no longer; None when more do not help or are too many."""
    low, high = comparison.bounds()
    bound = low if wanted else None if high is None else high + 1
    return bound - number if bound is not None and 1 <= bound - number <= MOST else None


def _of_amount(condition: c.Did, answer: Answer, known: list[Event], t: int, at: int, wanted: bool, later: str) -> Iterator[Flip]:
    """One more event with enough, or little enough, of the property."""
    declared = condition.measure
    one = example(declared.events)
    if one is None:
        return
    lowest = min(
        (int(v * SCALE) for e in known if isinstance(v := e.properties.get(str(declared.of)), int | Decimal) and not isinstance(v, bool)), default=0
    )
    for low, high in _amounts(declared, condition.comparison, answer, wanted):
        amount = _inside(low, high)
        if amount is None or (amount < 0 and lowest >= 0):
            continue
        added = Event(t, _name(declared.events), one | {str(declared.of): Decimal(amount) / SCALE})
        if all(f.accepts(added.properties.get(f.property)) for f in declared.events.where):
            of = f" of {_say_range(low, high)}" if declared.of == "value" else f" with {declared.of} of {_say_range(low, high)}"
            yield Flip(f"one {say_events(declared.events)}{of}{later}", (added,), at)


def _amounts(declared: Measure, comparison: Comparison, answer: Answer, wanted: bool) -> list[tuple[int | None, int | None]]:
    """Return closed intervals of ten-thousandths; an event with such an amount flips the comparison."""
    number = answer.number
    low, high = _shifted(declared, comparison, answer).bounds(SCALE) if declared.aggregate in ("sum", "avg") else comparison.bounds(SCALE)
    if declared.aggregate == "min" and number is not None:
        low, high = (1, 0) if low is not None and number < low else (low, None if high is None or number <= high else high)
    if declared.aggregate == "max" and number is not None:
        low, high = (1, 0) if high is not None and number > high else (None if low is None or number >= low else low, high)
    if wanted:
        return [(low, high)]
    above: list[tuple[int | None, int | None]] = [] if high is None else [(high + 1, None)]
    return above if low is None else [*above, (None, low - 1)]


def _shifted(declared: Measure, comparison: Comparison, answer: Answer) -> Comparison:
    """What the one more event must pass: for a sum the rest, for an average what lifts n + 1 values."""
    n = answer.count + 1 if declared.aggregate == "avg" else 1
    had = Decimal(answer.number or 0) / SCALE
    return Comparison(comparison.op, comparison.low * n - had, None if comparison.high is None else comparison.high * n - had)


def _inside(low: int | None, high: int | None) -> int | None:
    if low is not None and high is not None and low > high:
        return None
    return low if low is not None else high if high is not None else 0


def _say_range(low: int | None, high: int | None) -> str:
    """Say an interval of ten-thousandths with the shorter of "at least" and "more than"."""
    if low is not None and high is not None:
        return f"exactly {_money(low)}" if low == high else f"between {_money(low)} and {_money(high)}"
    if low is not None:
        return f"more than {_money(low - 1)}" if len(_money(low - 1)) < len(_money(low)) else f"at least {_money(low)}"
    if high is not None:
        return f"less than {_money(high + 1)}" if len(_money(high + 1)) < len(_money(high)) else f"at most {_money(high)}"
    return "any amount"


def _money(amount: int) -> str:
    return say_value(Decimal(amount) / SCALE).removesuffix(".0")


def _of_sequence(condition: c.Did, step: Step, known: list[Event], t: int, wanted: bool) -> Iterator[Flip]:
    """Complete what has begun, begin it anew, or break a silence."""
    declared = condition.measure
    number = measure(declared, known, t).number or 0
    steps = [step]
    while steps[-1].then is not None:
        steps.append(steps[-1].then)
    begun = [e for e in measure(Measure(declared.events, declared.window), known, t).events if e.time + (step.within or t) >= t]
    if step.did or not wanted:
        for start in reversed(begun):
            until = f" by {say_instant(start.time + step.within)}" if step.within else ""
            yield from _continued(steps, start, t, until)
    if wanted and declared.window.until == 0 and (one := example(declared.events)) is not None:
        needed = (_missing(condition.comparison, number, True) or 1) if declared.aggregate == "count" else 1
        starts = [Event(t, _name(declared.events), one | _tie(steps, one, declared)) for _ in range(needed)]
        following = _following(steps, starts[0], t)
        if following is None:
            return
        silence = steps[-1].within or 0 if not steps[-1].did else 0
        at = (following[-1].time if following else t) + silence
        said = f"{'one' if needed == 1 else f'{needed:,}'} {'more ' if number else ''}{say_events(declared.events)}, then {_say_steps(steps)}"
        yield Flip(said, (*starts, *following), at)


def _continued(steps: list[Step], start: Event, t: int, until: str) -> Iterator[Flip]:
    """Propose what may still follow an event; for a silence, what would break it."""
    following = _following(steps if steps[-1].did else [*steps[:-1], _broken(steps[-1])], start, t)
    if following:
        said = _say_steps([_broken(s) if not s.did else s for s in steps])
        yield Flip(f"{said} after the {start.name} of {say_instant(start.time)}{until}", tuple(following), following[-1].time)


def _broken(step: Step) -> Step:
    return Step(step.events, step.within, True, 1, step.same)


def _following(steps: list[Step], start: Event, t: int) -> list[Event] | None:
    """Return events just after t that take the steps, None when that cannot be told."""
    at, found = t, []
    tie = next((start.properties.get(s.same) for s in steps if s.same), None)
    for step in steps:
        if not step.did:
            break
        one = example(step.events)
        if one is None or (step.same and tie is None):
            return None
        for _ in range(step.at_least):
            at += 1
            found.append(Event(at, _name(step.events), one | ({step.same: tie} if step.same else {})))
    return found


def _tie(steps: list[Step], having: dict[str, Value], declared: Measure) -> dict[str, Value]:
    """Give the first event the property that ties what follows to it."""
    value: Value = Decimal(1) if declared.numeric else "the same"
    return {s.same: value for s in steps if s.same and s.same not in having}


def _say_steps(steps: list[Step]) -> str:
    said = []
    for step in steps:
        within = f" within {say_duration(step.within)}" if step.within else ""
        same = f" with the same {step.same}" if step.same else ""
        number = "no" if not step.did else "one" if step.at_least == 1 else f"{step.at_least:,}"
        said.append(f"{number} {say_events(step.events)}{same}{within}")
    return ", then ".join(said)


def _name(events: Events) -> str:
    return events.names[0] if events.names else "any event"


def example(events: Events) -> dict[str, Value] | None:
    """Return properties that pass all filters of some events, None when none are found.

    >>> from predseg.language.measures import Test
    >>> example(Events(("A",), (Filter("price", (Test("more_than", (Decimal(100),)),)),)))
    {'price': Decimal('101')}
    """
    found: dict[str, Value] = {}
    for wanted in events.where:
        value = next((v for v in _candidates(wanted) if wanted.accepts(v)), wanted)
        if value is wanted:
            return None
        if value is not None:
            found[wanted.property] = value  # type: ignore[assignment]
    return found


def _candidates(wanted: Filter) -> Iterator[Any]:
    yield None
    for test in wanted.tests:
        for operand in test.operands:
            yield operand
            if kind_of(operand) == "number":
                yield from (operand + 1, operand - 1, operand + Decimal("0.0001"), operand - Decimal("0.0001"))
            elif kind_of(operand) == "flag":
                yield not operand if test.op != "exists" else "something"
            else:
                yield from (f"{operand} and more", f"other than {operand}", "")
    yield "something"
