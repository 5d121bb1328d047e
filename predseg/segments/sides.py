"""Who changes sides: the customers that enter or leave each segment when other scores are in force, before anything is published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from predseg.evaluate.block import Array
from predseg.forecast.publishing import SCORES
from predseg.language import conditions as c
from predseg.segments.facts import Tables
from predseg.segments.population import members_at

if TYPE_CHECKING:
    import pyarrow as pa

    from predseg.segments.definitions import Segment
    from predseg.segments.workspace import Workspace


@dataclass(frozen=True)
class Side:
    """One segment under the scores of today's champion and of another version.

    Attributes:
        segment: Its name.
        before: Members now.
        after: Members then.
        enters: Ids, sorted.
        leaves: Ids, sorted.
    """

    segment: str
    before: int
    after: int
    enters: tuple[str, ...]
    leaves: tuple[str, ...]


@dataclass(frozen=True)
class Rescored:
    """A store as if one model's scores of a moment were these."""

    tables: Tables
    scores: pa.Table
    model: str
    as_of: int

    def exists(self, name: str) -> bool:
        """Whether there is such a table."""
        return name == SCORES or self.tables.exists(name)

    def partitions(self, name: str) -> list[int]:
        """The as_of of each partition, ascending."""
        found = self.tables.partitions(name) if self.tables.exists(name) else []
        return sorted({*found, self.as_of}) if name == SCORES else found

    def read(self, name: str, as_of: int | None = None) -> pa.Table:
        """One partition, or the whole table; at the moment, the model's rows are the other ones."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if name != SCORES or as_of != self.as_of:
            return self.tables.read(name, as_of)
        if not self.tables.exists(SCORES) or as_of not in self.tables.partitions(SCORES):
            return self.scores
        before = self.tables.read(SCORES, as_of).select(self.scores.column_names).cast(self.scores.schema)
        return pa.concat_tables([before.filter(pc.not_equal(before["model"], self.model)), self.scores])


def sides(workspace: Workspace, model: str, as_of: int, before: pa.Table, after: pa.Table) -> list[Side]:
    """Return, for each segment that asks for the model, itself or through another, who changes sides at ``as_of``.

    Args:
        workspace: The segments of the project.
        model: Whose scores change.
        as_of: The moment of both scorings (microseconds).
        before: The champion's scores.
        after: The other version's.
    """
    touched = asking(workspace.segments, model)
    if not touched:
        return []
    facts = workspace.facts(workspace.ledger())
    members = []
    for scores in (before, after):
        seen = replace(facts, tables=Rescored(workspace.store, scores, model, as_of), _runs={})
        members.append(members_at(workspace.files, workspace.segments, as_of, seen, workspace.listed(), workspace.over))
    now, then = members
    return [_side(name, now[name], then[name]) for name in workspace.segments if name in touched]


def asking(segments: Mapping[str, Segment], model: str) -> set[str]:
    """Return the segments that ask for a model, themselves or through another."""
    found: set[str] = set()
    for name, segment in segments.items():
        if found & set(segment.uses()) or any(isinstance(part, c.Score) and part.model == model for part in c.walk(segment.match)):
            found.add(name)
    return found


def _side(name: str, now: Array, then: Array) -> Side:
    return Side(name, len(now), len(then), tuple(map(str, np.setdiff1d(then, now))), tuple(map(str, np.setdiff1d(now, then))))
