"""Why members entered and left between the last two runs: which conditions of the rule began, or ceased, to be true for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from predseg.evaluate.batch import decide, evaluate
from predseg.evaluate.block import Array
from predseg.language import conditions as c
from predseg.language.english import say_condition
from predseg.outcomes.log import histories
from predseg.segments.definitions import Segment
from predseg.segments.memberships import Ledger
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
        parts = {change.segment.name: _parts(change.segment, workspace) for change in mine}
        measures = list(dict.fromkeys(m for conditions in parts.values() for part in conditions for m in c.measures(part)))
        ids = np.unique(np.concatenate([np.zeros(0, object), *(a for change in mine for a in (change.entered, change.left))]).astype(str)).astype(
            object
        )
        block = histories(workspace.files, ids, set().union(*(m.properties() for m in measures)) if measures else set())
        answers = dict(zip(measures, evaluate(block, [before, after], measures), strict=True)) if measures else {}
        for change in mine:
            truths = [decide(part, answers, block, [before, after], facts).true for part in parts[change.segment.name]]
            said = [say_condition(part) for part in _said(change.segment)]
            entered, left = _among(block.customers, change.entered), _among(block.customers, change.left)
            by = [
                [Cause(text, int((t[:, on] & ~t[:, 1 - on] & who).sum())) for text, t in zip(said, truths, strict=True)]
                for who, on in ((entered, 1), (left, 0))
            ]
            causes = [tuple(sorted((x for x in part if x.customers), key=lambda x: -x.customers)) for part in by]
            found.append(Moved(change.segment.name, before, len(change.entered), len(change.left), causes[0], causes[1]))
    return found


def _among(customers: Array, some: Array) -> Array:
    """Say of each customer whether it is among some; by hash, because sorting texts that are objects takes seconds for every segment."""
    import pandas as pd

    return np.asarray(pd.Index(customers).isin(some))


def _change(segment: Segment, ledger: Ledger, as_of: int) -> _Change | None:
    after = ledger.last_run(segment.name, segment.definition, before=as_of + 1)
    before = None if after is None else ledger.last_run(segment.name, segment.definition, before=after)
    if after is None or before is None:
        return None
    spells = ledger.spells(segment.name, segment.definition)
    then, now = spells.at(before), spells.at(after)
    return _Change(segment, before, after, now[~_among(now, then)], then[~_among(then, now)])


def _said(segment: Segment) -> Sequence[c.Condition]:
    return segment.match.of if isinstance(segment.match, c.All) else (segment.match,)


def _parts(segment: Segment, workspace: Workspace) -> list[c.Condition]:
    return [inline(part, workspace.segments) for part in _said(segment)]
