"""Filters that nothing can pass, because the property holds values of another kind: a number never equals a text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from predseg.language import conditions as c
from predseg.language.english import say_filter
from predseg.language.measures import Filter, kind_of
from predseg.segments.definitions import Segment

_HOLDS = {"flag": "true and false", "number": "numbers", "whole": "numbers", "text": "texts", "list": "texts"}
_HELP = {
    "texts": "a code such as 00123, or any text among traits, makes all of them texts, as any text did in a table of an earlier version, which "
    "`predseg check --rebuild` builds anew: write yours in quotes, or cast the column in a `query:`",
    "numbers": "write it without quotes",
}


def never_passed(segments: Iterable[Segment], properties: Mapping[str, str], traits: Mapping[str, str]) -> list[str]:
    """Return a warning for every filter of the rules that no value passes; what the data have not is passed over.

    Args:
        segments: The rules.
        properties: Property of events → flag, whole, number, text or list.
        traits: The same of traits.
    """
    found = []
    for segment in segments:
        for filter_, kinds in _filters(segment.match, properties, traits):
            holds = _HOLDS.get(kinds.get(filter_.property, ""))
            asked = [{_HOLDS[kind_of(o)] for o in test.operands} for test in filter_.tests if test.op != "exists"]
            if holds and any(holds not in kinds_ for kinds_ in asked):
                help_ = f"; {_HELP[holds]}" if holds in _HELP else ""
                found.append(f"{segment.name}: nothing passes `{say_filter(filter_)}`, because {filter_.property} holds {holds} in the data{help_}")
    return list(dict.fromkeys(found))


def _filters(match: c.Condition, properties: Mapping[str, str], traits: Mapping[str, str]) -> Iterator[tuple[Filter, Mapping[str, str]]]:
    for part in c.walk(match):
        if isinstance(part, c.Trait):
            yield part.filter, traits
        elif isinstance(part, c.Rfv):
            yield from ((one, properties) for one in part.of.where)
        elif isinstance(part, c.Did):
            for events in (part.measure.events, *(step.events for step in part.measure.steps())):
                yield from ((one, properties) for one in events.where)
