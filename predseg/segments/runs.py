"""A run: all segments brought up to one moment, and their memberships recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from predseg.evaluate.block import Array
from predseg.segments.definitions import Segment
from predseg.segments.facts import Facts
from predseg.segments.memberships import OPEN, Change, Spells, last_run, record
from predseg.segments.population import NOBODY, Listed, inline, live_spells, members_at

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Run:
    """What a run found.

    Attributes:
        as_of: Its moment.
        history: All membership rows, this run's included.
        changes: What it did to each segment.
        spells: The open memberships of each segment at as_of.
        recorded: False when a later run was recorded already: then history is left as it was.
    """

    as_of: int
    history: pd.DataFrame
    changes: tuple[Change, ...]
    spells: Mapping[str, Spells]
    recorded: bool


def run_segments(
    files: Sequence[Path],
    segments: dict[str, Segment],
    as_of: int,
    facts: Facts,
    history: pd.DataFrame,
    *,
    listed: Listed = NOBODY,
    chosen: Sequence[str] = (),
) -> Run:
    """Bring segments up to as_of.

    Args:
        files: The events table.
        segments: All rules of the project, in dependency order.
        as_of: The moment.
        facts: What is published by then; its daily memberships are brought up to date on the way.
        history: All recorded membership rows.
        listed: Customers known without an event.
        chosen: Names to record; all when empty. What they use is decided, but not recorded.
    """
    wanted = list(chosen) or list(segments)
    members = members_at(files, _with_used(segments, wanted), as_of, facts, listed)
    done: list[Change] = []
    spells: dict[str, Spells] = {}
    rows: dict[Any, pd.DataFrame] = dict(iter(history.groupby("segment")))
    recorded = not any((last_run(rows[name]) or 0) > as_of for name in wanted if name in rows)
    for name, segment in _with_used(segments, wanted).items():
        before = rows.get(name, history.iloc[:0])
        found = _spells(files, segments, segment, members[name], before, as_of, facts, listed)
        after, change = record(before, segment, found, as_of) if recorded else (before, Change(name, segment.definition, len(members[name]), 0, 0))
        spells[name] = _open(after, members[name], as_of, found if segment.live else None, recorded)
        if name in wanted:
            rows[name] = after
            done.append(change)
        if not segment.live:
            facts.members[name] = (*facts_rows(after, segment, members[name], as_of, recorded),)
    return Run(as_of, _close_retired(rows, segments, history, as_of, recorded and not chosen), tuple(done), {n: spells[n] for n in wanted}, recorded)


def _with_used(segments: dict[str, Segment], wanted: Sequence[str]) -> dict[str, Segment]:
    """The wanted segments and all that they use, in dependency order."""
    needed: set[str] = set()
    for name in reversed(segments):
        if name in wanted or name in needed:
            needed |= {name, *segments[name].uses()}
    return {name: s for name, s in segments.items() if name in needed}


def _spells(
    files: Sequence[Path],
    segments: dict[str, Segment],
    segment: Segment,
    members: Array,
    before: pd.DataFrame,
    as_of: int,
    facts: Facts,
    listed: Listed,
) -> Spells:
    if not segment.live:
        return Spells(members, np.full(len(members), as_of), np.full(len(members), OPEN))
    rule = replace(segment, match=inline(segment.match, segments))
    current = before[before["definition"] == segment.definition]
    start = last_run(current)
    if start is None or start > as_of:
        who, when, inside = live_spells(files, rule, None, as_of, facts, listed, members)
        entry = {w: int(t) for w, t, now in zip(who, when, inside, strict=True) if now}
        return Spells(members, np.array([entry.get(m, as_of) for m in members], np.int64), np.full(len(members), OPEN))
    who, when, inside = live_spells(files, rule, start, as_of, facts, listed)
    return _joined(current[current["left_at"] == OPEN], who, when, inside)


def _joined(opened: pd.DataFrame, who: Array, when: Array, inside: Array) -> Spells:
    """Continue the spells that were open at the last run by what changed since."""
    current: dict[Any, int] = dict(zip(opened["customer_id"], (int(t) for t in opened["entered_at"]), strict=True))
    ended: list[tuple[Any, int, int]] = []
    for customer, t, now in zip(who, when, inside, strict=True):
        if now:
            current.setdefault(customer, int(t))
        elif customer in current:
            ended.append((customer, current.pop(customer), int(t)))
    rows = ended + [(customer, entered, OPEN) for customer, entered in current.items()]
    return Spells(np.array([r[0] for r in rows], object), np.array([r[1] for r in rows], np.int64), np.array([r[2] for r in rows], np.int64))


def _open(rows: pd.DataFrame, members: Array, as_of: int, found: Spells | None, recorded: bool) -> Spells:
    """The memberships in force at as_of, with the entered_at that is recorded, else the moment of this run."""
    if found is not None and not recorded:
        return found
    inside = rows[(rows["entered_at"] <= as_of) & (rows["left_at"] > as_of)]
    entered = dict(zip(inside["customer_id"], inside["entered_at"], strict=True))
    return Spells(members, np.array([entered.get(m, as_of) for m in members], np.int64), np.full(len(members), OPEN))


def facts_rows(rows: pd.DataFrame, segment: Segment, members: Array, as_of: int, recorded: bool) -> tuple[Array, Array, Array]:
    """Return the memberships of a daily segment as facts: what is recorded, and this run's members at as_of."""
    current = rows[rows["definition"] == segment.definition]
    if not recorded:
        current = current[current["entered_at"] < as_of].assign(left_at=lambda r: r["left_at"].clip(upper=as_of))
    ids, entered, left = current["customer_id"].to_numpy(object), current["entered_at"].to_numpy(np.int64), current["left_at"].to_numpy(np.int64)
    if recorded:
        return ids, entered, left
    return (
        np.concatenate([ids, members]),
        np.concatenate([entered, np.full(len(members), as_of)]),
        np.concatenate([left, np.full(len(members), OPEN)]),
    )


def _close_retired(rows: dict[Any, pd.DataFrame], segments: dict[str, Segment], history: pd.DataFrame, as_of: int, close: bool) -> pd.DataFrame:
    """Join the rows of all segments; the members of a segment that no longer exists leave with a full run."""
    import pandas as pd

    parts = []
    for name, part in rows.items():
        if close and name not in segments:
            part = part.copy()
            part.loc[part["left_at"] == OPEN, ["left_at", "as_of"]] = as_of
        parts.append(part)
    return pd.concat(parts, ignore_index=True) if parts else history
