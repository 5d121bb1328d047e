"""A run: all segments brought up to one moment, and their memberships recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from predseg.evaluate.ahead import Over, here
from predseg.evaluate.block import Array
from predseg.language import conditions as c
from predseg.segments.customers import Customers
from predseg.segments.definitions import Segment, with_used
from predseg.segments.facts import Facts
from predseg.segments.memberships import OPEN, Change, Ledger, Rows, Spells, record, retire, standing
from predseg.segments.population import NOBODY, Asked, Changed, Listed, inline, live_changes, members_and_changes


@dataclass(frozen=True)
class Run:
    """What a run found.

    Attributes:
        as_of: Its moment.
        ledger: What is recorded now.
        changes: What it did to each segment.
        spells: The memberships of each segment that are open at as_of.
        recorded: False when a later run was recorded already: then the ledger is left as it was.
    """

    as_of: int
    ledger: Ledger
    changes: tuple[Change, ...]
    spells: Mapping[str, Spells]
    recorded: bool


def run_segments(
    files: Sequence[Path],
    segments: dict[str, Segment],
    as_of: int,
    facts: Facts,
    ledger: Ledger,
    *,
    listed: Listed = NOBODY,
    chosen: Sequence[str] = (),
    over: Over = here,
) -> Run:
    """Bring segments up to as_of.

    Args:
        files: The events table.
        segments: All rules of the project, in dependency order.
        as_of: The moment.
        facts: What is published by then; its daily memberships are brought up to date on the way.
        ledger: What is recorded.
        listed: Customers known without an event.
        chosen: Names to run, with those that they use; all when empty.
        over: Where blocks are answered.
    """
    running = with_used(segments, chosen or segments)
    now = ledger.until(as_of)
    asked = {n: Asked(inline(s.match, segments), now.last_run(n, s.definition, before=as_of)) for n, s in running.items() if s.live}
    later = {n: rule for n, rule in asked.items() if any(isinstance(part, c.In) for part in c.walk(rule.match))}
    at_once = {n: rule for n, rule in asked.items() if n not in later}
    members, changed = members_and_changes(files, running, at_once, as_of, facts, listed, over)
    now, place = now.knowing(members.customers)
    daily = {name: standing(place[members.places[name]], as_of) for name, segment in running.items() if not segment.live}
    done = {name: record(now, running[name], rows, as_of) for name, rows in daily.items()}
    now = now.with_(done, as_of)
    for name in {part.segment for rule in later.values() for part in c.walk(rule.match) if isinstance(part, c.In)} & daily.keys():
        spells = now.spells(name, running[name].definition)
        facts.members[name] = (spells.customers, spells.entered, spells.left)
    inside = members.of(asked)
    changed |= live_changes(files, later, inside, as_of, facts, listed, over)
    now, live = _as_rows(now, {n: _spells(running[n], rule, changed[n], inside[n], now, as_of) for n, rule in asked.items()}, as_of)
    done |= {name: record(now, running[name], rows, as_of) for name, rows in live.items()}
    now = now.with_({name: done[name] for name in live}, as_of)
    recorded = not any((ledger.last_run(name) or as_of) > as_of for name in running)
    if not chosen:
        now = retire(now, segments, as_of)
    return Run(as_of, now if recorded else ledger, tuple(done[name][1] for name in running), _open(now, running), recorded)


def _as_rows(ledger: Ledger, spells: Mapping[str, Spells], as_of: int) -> tuple[Ledger, dict[str, Rows]]:
    """Return the spells of live segments as the ledger records them, and the ledger that knows all whom they name."""
    some, place = Customers.named(np.concatenate([np.zeros(0, object), *(s.customers for s in spells.values())]))
    ledger, known = ledger.knowing(some)
    parts = np.split(known[place], np.cumsum([len(s.customers) for s in spells.values()])) if spells else []
    return ledger, {
        name: Rows.sorted(who, s.entered, s.left, np.full(len(who), as_of)) for (name, s), who in zip(spells.items(), parts[:-1], strict=True)
    }


def _open(ledger: Ledger, segments: Mapping[str, Segment]) -> dict[str, Spells]:
    rows = {name: ledger.rows[name][segment.definition] for name, segment in segments.items()}
    rows = {name: some.take(some.left == OPEN) for name, some in rows.items()}
    ids = ledger.customers.by_name({name: some.who for name, some in rows.items()})
    return {name: Spells(ids[name], some.entered, some.left) for name, some in rows.items()}


def _spells(segment: Segment, asked: Asked, changed: Changed, members: Array, ledger: Ledger, as_of: int) -> Spells:
    """Return the spells of a live segment since its last run, with their exact ends."""
    who, when, inside = changed
    if asked.after is None:
        entry = {w: int(t) for w, t, now in zip(who, when, inside, strict=True) if now}
        return Spells(members, np.array([entry.get(m, as_of) for m in members], np.int64), np.full(len(members), OPEN))
    recorded = ledger.spells(segment.name, segment.definition)
    open_then = (recorded.entered <= asked.after) & (asked.after < recorded.left)
    return _joined(recorded.customers[open_then], recorded.entered[open_then], who, when, inside)


def _joined(customers: Array, entered: Array, who: Array, when: Array, inside: Array) -> Spells:
    """Continue the spells that were open at the last run by what changed since."""
    current: dict[Any, int] = dict(zip(customers, (int(t) for t in entered), strict=True))
    ended: list[tuple[Any, int, int]] = []
    for customer, t, now in zip(who, when, inside, strict=True):
        if now:
            current.setdefault(customer, int(t))
        elif customer in current:
            ended.append((customer, current.pop(customer), int(t)))
    rows = ended + [(customer, entered, OPEN) for customer, entered in current.items()]
    return Spells(np.array([r[0] for r in rows], object), np.array([r[1] for r in rows], np.int64), np.array([r[2] for r in rows], np.int64))
