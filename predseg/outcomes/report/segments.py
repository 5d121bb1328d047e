"""The section about segments: how large, over time, how much they share, who came and went and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from predseg.evaluate.block import Array
from predseg.language.floor import Floor
from predseg.language.time import say_instant
from predseg.outcomes.causes import Cause, Moved
from predseg.outcomes.report import charts
from predseg.outcomes.report.page import Picture, Section
from predseg.segments.memberships import Ledger
from predseg.segments.workspace import Workspace

SHOWN, COMBINATIONS = 8, 14
"""Segments in the pictures with one line or row each, and combinations of segments in the picture of overlaps."""


@dataclass(frozen=True)
class Belonging:
    """Who belongs where at a moment.

    Attributes:
        members: Ids of each segment.
        names: The segments, those with most members first.
        ids: Whoever is a member of any, those of the first segment first, then the others of the second, and so on.
        inside: bool (ids, names).
    """

    members: Mapping[str, Array]
    names: tuple[str, ...]
    ids: pd.Index
    inside: Array

    @classmethod
    def at(cls, workspace: Workspace, ledger: Ledger, as_of: int) -> Belonging:
        """Return who belongs where as it is recorded."""
        members = {name: ledger.spells(name, s.definition).at(as_of) for name, s in workspace.segments.items()}
        names = tuple(sorted(members, key=lambda name: -len(members[name])))
        ids = pd.Index(pd.unique(np.concatenate([np.zeros(0, object), *(members[name] for name in names)])), dtype=object)
        inside = np.zeros((len(ids), len(names)), bool)
        for column, name in enumerate(names):
            inside[ids.get_indexer(members[name]), column] = True
        return cls(members, names, ids, inside)

    def of(self, ids: Array) -> dict[str, Array]:
        """Return of each segment who of some ids is a member, bool (ids); segments as in ``members``."""
        inside = np.append(self.inside, np.zeros((1, len(self.names)), bool), axis=0)[self.ids.get_indexer(ids)]
        return {name: inside[:, self.names.index(name)] for name in self.members}


def segments_section(
    workspace: Workspace, ledger: Ledger, belonging: Belonging, as_of: int, known: int, moves: Callable[[], Sequence[Moved]]
) -> Section:
    """Return the section; ``known`` is the number of all customers, ``moves`` tells what changed at the last run."""
    floor, members = workspace.config.smallest_group, belonging.members
    if not len(ledger.log):
        return Section("segments", "Segments", "No run is recorded yet: `predseg segment` records who belongs.")
    about = "Who belongs where, at the last run of each segment. A member is counted in every segment that it is in."
    pictures = [_sizes(workspace, members, known, floor), _history(ledger, members, as_of, floor), _overlaps(belonging, floor)]
    pictures += _moves(moves(), floor)
    return Section("segments", "Segments", about, [p for p in pictures if p is not None])


def _sizes(workspace: Workspace, members: Mapping[str, Array], known: int, floor: Floor) -> Picture:
    sizes = {name: len(ids) for name, ids in sorted(members.items(), key=lambda item: -len(item[1]))}
    rows = [{"segment": name, "members": n} for name, n in sizes.items() if floor.shown(n)]
    first = rows[0] if rows else None
    small = [name for name, n in sizes.items() if not floor.shown(n)]
    reads = f"The largest is {first['segment']} with {first['members']:,} of {known:,} customers" if first else f"No segment has {floor.k} members"
    reads += f"; {len(small)} of {len(sizes)} {'has' if len(small) == 1 else 'have'} fewer than {floor.k}." if small else "."
    table = [(name, floor.count(n), workspace.segments[name].about or "-", workspace.segments[name].sentence()) for name, n in sizes.items()]
    chart = charts.bars(rows, "segment", "members", "members") if rows else None
    return Picture("sizes", "Members now", reads, ("segment", "members", "what for", "rule"), table, chart)


def _history(ledger: Ledger, members: Mapping[str, Array], as_of: int, floor: Floor) -> Picture | None:
    runs = ledger.log[(ledger.log["as_of"] <= as_of) & ledger.log["segment"].isin(list(members))].sort_values("as_of")
    runs = runs[runs["members"] >= floor.k]
    largest = [name for name in sorted(members, key=lambda name: -len(members[name])) if name in set(runs["segment"])][:SHOWN]
    rows = [{"segment": r.segment, "at": say_instant(r.as_of), "members": int(r.members)} for r in runs.itertuples() if r.segment in largest]
    rows.sort(key=lambda row: (largest.index(row["segment"]), row["at"]))
    if len({row["at"] for row in rows}) < 2:
        return None
    grown = {name: _growth([row["members"] for row in rows if row["segment"] == name]) for name in largest}
    name, most = max(grown.items(), key=lambda item: abs(item[1]))
    since = min(row["at"] for row in rows)[:10]
    reads = f"Since {since} {name} has changed most: it has {abs(most):.0%} {'more' if most > 0 else 'fewer'} members."
    if abs(most) < 0.05:
        reads = f"Since {since} no segment has changed by more than 5 %."
    days = sorted({row["at"] for row in rows})
    cells = {(row["segment"], row["at"]): row["members"] for row in rows}
    table = [(day[:10], *(f"{cells[n, day]:,}" if (n, day) in cells else "-" for n in largest)) for day in days]
    title = "Members over time" if len(largest) == len(members) else f"Members over time, of the {len(largest)} largest"
    return Picture("history", title, reads, ("run", *largest), table, charts.lines(rows, "at", "members", "segment", "members"))


def _growth(sizes: Sequence[int]) -> float:
    return sizes[-1] / sizes[0] - 1


def _overlaps(belonging: Belonging, floor: Floor) -> Picture | None:
    """How many are in exactly which segments together."""
    largest = [name for name in belonging.names if floor.shown(len(belonging.members[name]))][:SHOWN]
    if len(largest) < 2:
        return None
    inside = belonging.inside[:, : len(largest)]
    inside = inside[inside.any(axis=1)]
    codes = inside @ (1 << np.arange(len(largest)))
    keys, first, counts = np.unique(codes, return_index=True, return_counts=True)
    order = np.lexsort((first, -counts))  # the most frequent first, of equal ones the one that came first
    sets = [
        (tuple(n for bit, n in enumerate(largest) if key >> bit & 1), int(number)) for key, number in zip(keys[order], counts[order], strict=True)
    ]
    kept = [(names, number) for names, number in sets if floor.shown(number)][:COMBINATIONS]
    rows = [{"combination": i, "customers": number, "names": " and ".join(names)} for i, (names, number) in enumerate(kept)]
    cells = [{"combination": i, "segment": name, "inside": name in names} for i, (names, _) in enumerate(kept) for name in largest]
    together = [(names, number) for names, number in kept if len(names) > 1]
    several = int((inside.sum(axis=1) > 1).sum())
    reads = f"{several / len(inside):.0%} of the members of these segments are in more than one"
    reads += f"; most often in {' and '.join(together[0][0])} ({together[0][1]:,})." if together else "."
    table = [(" and ".join(names), floor.count(number)) for names, number in sets[: 3 * COMBINATIONS]]
    title = "In exactly these segments"
    return Picture("overlaps", title, reads, ("segments", "customers"), table, charts.upset(rows, cells), wide=len(kept) > 8)


def _moves(found: Sequence[Moved], floor: Floor) -> list[Picture]:
    rows = []
    for one in found:
        for change, number, sign in (("entered", one.entered, 1), ("left", one.left, -1)):
            if floor.shown(number):
                rows.append({"segment": one.segment, "change": change, "number": sign * number, "customers": number})
    if not found:
        return []
    table = [
        (
            one.segment,
            floor.count(one.entered),
            _because(one.entered_by, "began", floor),
            floor.count(one.left),
            _because(one.left_by, "ceased", floor),
        )
        for one in found
    ]
    columns = ("segment", "entered", "what began to be true for most of them", "left", "what ceased to be true for most of them")
    most = max(found, key=lambda one: one.entered + one.left)
    reads = f"Fewer than {floor.k} entered or left any segment."
    if floor.shown(most.entered + most.left):
        reads = f"{most.segment} moved most since its run before, of {say_instant(most.since)[:10]}: {floor.count(most.entered)} entered and {floor.count(most.left)} left"
        cause = most.entered_by[0].condition if most.entered_by and floor.shown(most.entered_by[0].customers) else ""
        reads += f"; who entered mostly began to be customers who {cause}." if cause else "."
    chart = charts.moves(rows, "segment") if rows else None
    return [Picture("moves", "Entered and left at the last run, and why", reads, columns, table, chart, wide=True)]


def _because(causes: Sequence[Cause], _: str, floor: Floor) -> str:
    first = causes[0] if causes else None
    if first is None:
        return "-"
    return f"{first.condition} ({floor.count(first.customers)})" if floor.shown(first.customers) else floor.few
