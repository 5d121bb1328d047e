"""How an explanation is told, in a terminal and on a page alike."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING

from predseg.language.conditions import Condition, Did
from predseg.language.english import say_value
from predseg.language.measures import Value
from predseg.language.time import say_instant

if TYPE_CHECKING:
    from predseg.evaluate.reference import Event
    from predseg.segments.lookup import Explanation

MARKS = {True: "✔", False: "✘", None: "?"}
_PROPERTIES, _ELEMENTS = 4, 3


def say_event(event: Event, asked: Collection[str] = ()) -> str:
    """Return an event as a test file writes it; with ``asked`` only these properties, and the value."""
    named = {name: value for name, value in event.properties.items() if value is not None}
    shown = {name: value for name, value in named.items() if name in asked or name == "value"} if asked or len(named) > _PROPERTIES else named
    properties = ", ".join(f"{name}: {_say(value)}" for name, value in shown.items())
    late = f"  (known from {say_instant(event.visible)})" if event.visible > event.time else ""
    return f"{say_instant(event.time)}  {event.name}{f'  {{{properties}}}' if properties else ''}{late}"


def _say(value: Value) -> str:
    if isinstance(value, tuple):
        more = len(value) - _ELEMENTS
        return f"[{', '.join(map(_say, value[:_ELEMENTS]))}{f', and {more:,} more' if more > 0 else ''}]"
    return format(value.normalize(), "f") if isinstance(value, Decimal) else say_value(value)


def asked(condition: Condition) -> Collection[str]:
    """Return the properties that a condition asks for."""
    return condition.measure.properties() if isinstance(condition, Did) else ()


def refresh_notes(found: Explanation) -> Iterator[str]:
    """Say where a daily segment and its rule differ, or that it never ran."""
    if found.segment.live:
        return
    if found.last_run is None:
        yield "no run of this rule is recorded yet, so this is what a run at this moment would decide"
    elif found.member != found.holds:
        now = "holds" if found.holds else "no longer holds"
        yield f"that is by its run of {say_instant(found.last_run)}; by now its rule {now}, so the next run changes it"


def next_change(found: Explanation) -> str:
    """Say when the clock alone brings the next change."""
    ahead, daily, who = found.ahead, not found.segment.live, found.customer_id
    if ahead.at is not None:
        verb = "enters" if ahead.holds else "leaves"
        return f"by the clock alone {who} {verb} {'with the first run from' if daily else 'at'} {say_instant(ahead.at)}{' on' if daily else ''}"
    if ahead.looked_until is not None:
        return f"by the clock alone nothing changes until {say_instant(ahead.looked_until)}; later was not looked at"
    return f"by the clock alone {who} never {'leaves' if found.holds else 'enters'}"
