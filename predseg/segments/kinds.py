"""What the kinds of values in the data say of rules: filters that nothing can pass, and sums of what is no number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from predseg.history.merge import existing_kinds
from predseg.language import conditions as c
from predseg.language.english import say_filter
from predseg.language.measures import Filter, kind_of
from predseg.segments.definitions import Segment

if TYPE_CHECKING:
    from pyarrow.parquet import ColumnChunkMetaData

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


def numberless(files: Sequence[Path]) -> frozenset[str]:
    """Return the properties in files of the events table that have values, none of which is a number."""
    import pyarrow.parquet as pq

    wanted = {name for name, kind in (existing_kinds(files[0]) if files else {}).items() if kind in ("flag", "text", "list")}
    found: set[str] = set()
    for file in files:
        if found == wanted:
            break
        footer = pq.read_metadata(file)
        for group in map(footer.row_group, range(footer.num_row_groups)):
            columns = map(group.column, range(group.num_columns))
            found |= {name for one in columns if (name := one.path_in_schema.partition(".")[0]) in wanted and _has_values(one)}
    return frozenset(found)


def _has_values(column: ColumnChunkMetaData) -> bool:
    known = column.statistics
    return known is None or not known.has_null_count or column.num_values > known.null_count


def _filters(match: c.Condition, properties: Mapping[str, str], traits: Mapping[str, str]) -> Iterator[tuple[Filter, Mapping[str, str]]]:
    for part in c.walk(match):
        if isinstance(part, c.Trait):
            yield part.filter, traits
        elif isinstance(part, c.Rfv):
            yield from ((one, properties) for one in part.of.where)
        elif isinstance(part, c.Did):
            for events in (part.measure.events, *(step.events for step in part.measure.steps())):
                yield from ((one, properties) for one in events.where)
