"""Why members entered and left between the last two runs: which conditions of the rule began, or ceased, to be true for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from predseg.evaluate.ahead import ahead
from predseg.evaluate.batch import decide, evaluate
from predseg.evaluate.block import Array
from predseg.language import conditions as c
from predseg.language.english import say_condition
from predseg.layers import Part
from predseg.layers import parts as parts_of
from predseg.outcomes.log import histories
from predseg.segments.definitions import Segment
from predseg.segments.facts import Facts
from predseg.segments.memberships import Ledger, among
from predseg.segments.population import inline
from predseg.segments.workspace import Workspace


@dataclass(frozen=True)
class Cause:
    """A condition, and for how many customers it changed. One customer may count for several."""

    condition: str
    customers: int


@dataclass(frozen=True)
class Moved:
    """What changed in a segment between two runs, the causes strongest first."""

    segment: str
    since: int
    entered: int
    left: int
    entered_by: tuple[Cause, ...]
    left_by: tuple[Cause, ...]


@dataclass(frozen=True)
class _Change:
    segment: Segment
    before: int
    after: int
    entered: Array
    left: Array


def moved(workspace: Workspace, ledger: Ledger, as_of: int) -> list[Moved]:
    """Return what changed in every segment at its last run up to as_of, for those that have two runs under their present rule."""
    changes = [change for segment in workspace.segments.values() if (change := _change(segment, ledger, as_of)) is not None]
    facts = workspace.facts(ledger)
    found = []
    for before, after in dict.fromkeys((change.before, change.after) for change in changes):
        mine = [change for change in changes if (change.before, change.after) == (before, after)]
        causes = _causes(workspace, mine, [before, after], facts)
        found += [Moved(x.segment.name, before, len(x.entered), len(x.left), *causes[x.segment.name]) for x in mine]
    return found


def _causes(workspace: Workspace, changes: Sequence[_Change], moments: Sequence[int], facts: Facts) -> dict[str, tuple[tuple[Cause, ...], ...]]:
    """Return for each segment which of its conditions began to be true for who entered, and ceased for who left."""
    parts = {change.segment.name: _parts(change.segment, workspace) for change in changes}
    measures = list(dict.fromkeys(m for conditions in parts.values() for part in conditions for m in c.measures(part)))
    properties = set().union(*(m.properties() for m in measures))
    ids = pd.Index(pd.unique(np.concatenate([some for change in changes for some in (change.entered, change.left)])), dtype=object)
    moved = [np.stack([np.append(ids.isin(some), False) for some in (change.entered, change.left)]) for change in changes]

    def of_part(part: Part) -> list[Array]:
        block = histories([part], ids, properties, since=moments[0])
        answers = dict(zip(measures, evaluate(block, moments, measures), strict=True)) if measures else {}
        where = ids.get_indexer(block.customers)
        truths = ([decide(part, answers, block, moments, facts).true for part in parts[x.segment.name]] for x in changes)
        return [_counted(one[:, where], true) for one, true in zip(moved, truths, strict=True)]

    counts = [sum(numbers) for numbers in zip(*ahead(of_part, parts_of(workspace.files)), strict=True)]
    found = {}
    for change, numbers in zip(changes, counts, strict=True):
        said = [say_condition(part) for part in _said(change.segment)]
        by = [[Cause(text, int(n)) for text, n in zip(said, row, strict=True) if n] for row in numbers]
        found[change.segment.name] = tuple(tuple(sorted(causes, key=lambda x: -x.customers)) for causes in by)
    return found


def _counted(moved: Array, truths: Sequence[Array]) -> Array:
    """Return for how many of who entered each condition began to be true, and of who left ceased to be, int64 (2, conditions).

    Args:
        moved: Who entered, and who left, bool (2, customers).
        truths: Of each condition, bool (customers, 2 moments).
    """
    entered, left = moved
    began = [int((entered & t[:, 1] & ~t[:, 0]).sum()) for t in truths]
    return np.array([began, [int((left & t[:, 0] & ~t[:, 1]).sum()) for t in truths]])


def _change(segment: Segment, ledger: Ledger, as_of: int) -> _Change | None:
    after = ledger.last_run(segment.name, segment.definition, before=as_of + 1)
    before = None if after is None else ledger.last_run(segment.name, segment.definition, before=after)
    if after is None or before is None:
        return None
    spells = ledger.spells(segment.name, segment.definition)
    then, now = spells.at(before), spells.at(after)
    return _Change(segment, before, after, now[~among(now, then)], then[~among(then, now)])


def _said(segment: Segment) -> Sequence[c.Condition]:
    return segment.match.of if isinstance(segment.match, c.All) else (segment.match,)


def _parts(segment: Segment, workspace: Workspace) -> list[c.Condition]:
    return [inline(part, workspace.segments) for part in _said(segment)]
