"""When a condition can change: it is constant between a few instants, so those are all that need to be looked at.

A condition about a history changes only when an event becomes visible, when an event's time plus one of the offsets in
use is reached (it enters or leaves a window, or its absence is established), or when a fact changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from predseg.evaluate.reference import Event, Facts, decide
from predseg.language import conditions as c
from predseg.language.measures import Measure


def offsets(condition: c.Condition) -> frozenset[int]:
    """Return every finite offset (microseconds) at which an event can change the condition after its own time."""
    return frozenset(o for p in c.walk(condition) if isinstance(p, c.Did) for o in measure_offsets(p.measure))


def measure_offsets(measure: Measure) -> frozenset[int]:
    """Return the offsets of a measure: the ends of its window and the times within which something follows."""
    return frozenset({*measure.window.offsets(), *(step.within for step in measure.steps() if step.within)})


def instants(condition: c.Condition, events: Iterable[Event], facts: Iterable[int] = ()) -> list[int]:
    """Return, sorted, the only instants at which the condition can change; ``facts`` are those at which facts do."""
    after = {0, *offsets(condition)}
    found = set(facts)
    for event in events:
        found.add(event.visible)
        found.update(event.time + o for o in after)
    return sorted(found)


def transitions(
    condition: c.Condition,
    events: Sequence[Event],
    *,
    after: int | None = None,
    until: int | None = None,
    facts: Facts | None = None,
    changes: Iterable[int] = (),
) -> list[tuple[int, bool]]:
    """Return (instant, member from then on) for each change of membership in (after, until].

    Args:
        condition: The rule. Unknown is not a member.
        events: One customer's events, in any order.
        after: Start; None is before everything, where nobody is a member.
        until: End, included; None is the last possible change.
        facts: Answers what does not follow from events.
        changes: Instants at which facts change.
    """
    known_from = min((e.visible for e in events), default=None)
    if known_from is None:
        return []
    member = after is not None and after >= known_from and decide(condition, events, after, facts=facts) is True
    found = []
    for t in instants(condition, events, changes):
        if (after is not None and t <= after) or (until is not None and t > until) or t < known_from:
            continue
        if (now := decide(condition, events, t, facts=facts) is True) != member:
            found.append((t, now))
            member = now
    return found


def next_instant(condition: c.Condition, events: Iterable[Event], t: int) -> int | None:
    """Return the first instant after t at which the clock alone, or an event known already, can change the condition: a lower bound."""
    return next((i for i in instants(condition, events) if i > t), None)
