"""Which change of a rule would have raised its click or conversion rate: looked for in one part of history, tested on a later one.

Every candidate is measured at the moments of the first part; the few that trade rate against size best are then measured once at
the later moments, which chose nothing. What holds up there is a proposal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from predseg.evaluate.ahead import Over, here
from predseg.evaluate.batch import decide, evaluate, known_customers
from predseg.evaluate.block import Array, Block
from predseg.language import conditions as c
from predseg.language.time import DAY
from predseg.outcomes import rates
from predseg.outcomes.deliveries import Deliveries
from predseg.outcomes.log import Log
from predseg.outcomes.variations import Variation
from predseg.segments.definitions import Segment
from predseg.segments.facts import Facts
from predseg.segments.population import NOBODY, Listed, everyone
from predseg.segments.replay import inline_all

SEARCHED = 2 / 3
"""The share of the moments in which candidates are looked for; the rest tests them."""
MOST_MOMENTS, TESTED, FEWEST = 60, 5, 30

Tries = Callable[[Array], tuple[Array, Array]]
"""Of customer ids (n): how often each was tried and how often it succeeded at each moment, int64 (n, moments)."""


@dataclass(frozen=True)
class Part:
    """A rule in one part of history: tries at its members, how many succeeded, and the rate, None of nobody."""

    tried: int
    succeeded: int
    rate: float | None
    interval: tuple[float, float]


@dataclass(frozen=True)
class Candidate:
    """A changed rule.

    Attributes:
        says: What was changed.
        diff: The change of the rule file.
        searched: Where candidates were looked for.
        size: Its tries over those of the present rule, there.
        tested: Where the best were tested; None of those that were not.
        difference: Its rate minus that of the present rule there, with an interval corrected for the number of tested candidates.
        p: Corrected as well, two-sided.
        holds: Whether it is better there, beyond chance.
    """

    says: str
    diff: str
    searched: Part
    size: float
    tested: Part | None = None
    difference: float | None = None
    interval: tuple[float, float] | None = None
    p: float | None = None
    holds: bool = False


@dataclass(frozen=True)
class Tuning:
    """What changes of a rule would have done: candidates by falling rate, and the one proposed, None when none holds up."""

    segment: str
    split: int
    first: int
    last: int
    searched: Part
    tested: Part
    candidates: tuple[Candidate, ...]
    proposal: Candidate | None


def tune(
    files: Sequence[Path],
    segments: Mapping[str, Segment],
    name: str,
    found: Sequence[Variation],
    moments: Sequence[int],
    tries: Tries,
    facts: Facts,
    diffs: Callable[[Variation], str],
    *,
    listed: Listed = NOBODY,
    keep: float = 0.5,
    over: Over = here,
) -> Tuning:
    """Measure a rule and its variations.

    Args:
        files: The events table.
        segments: All rules.
        name: The rule.
        found: Its variations.
        moments: Ascending, at least 3; who is a member is decided there.
        tries: What happened after each of them.
        facts: What was published.
        diffs: Says a variation as a diff.
        listed: Customers known without an event.
        keep: A candidate must keep this share of the tries.
        over: Where blocks of events are answered.
    """
    split = max(1, min(len(moments) - 1, round(len(moments) * SEARCHED)))
    rules = [segments[name], *(v.rule for v in found)]
    counts = _counts(files, [inline_all(rule.match, {**segments, name: rule}) for rule in rules], moments, tries, facts, listed, split, over)
    now, later = _part(counts[0], 0), _part(counts[0], 1)
    searched = [(_part(count, 0), count, v) for count, v in zip(counts[1:], found, strict=True)]
    shown = [row for row in searched if row[0].tried >= FEWEST and row[0] != now]
    shown.sort(key=lambda row: -(row[0].rate or 0.0))
    chosen = _best([part for part, _, _ in shown], now, keep)
    candidates = [
        _tested(v, diffs(v), part, counts[0], count, now, len(chosen))
        if i in chosen
        else Candidate(v.says, diffs(v), part, part.tried / max(now.tried, 1))
        for i, (part, count, v) in enumerate(shown)
    ]
    held = [candidate for candidate in candidates if candidate.holds]
    proposal = max(held, key=lambda k: k.searched.interval[0], default=None)
    return Tuning(name, moments[split], moments[0], moments[-1], now, later, tuple(candidates), proposal)


def _best(parts: Sequence[Part], now: Part, keep: float) -> set[int]:
    """Choose what to test: of those that keep enough and promise more than the present rule, the best at each size."""
    base, most = now.rate or 0.0, -1
    order = sorted(
        (i for i, part in enumerate(parts) if part.tried >= keep * now.tried and (part.rate or 0.0) > base), key=lambda i: -parts[i].interval[0]
    )
    chosen: list[int] = []
    for i in order:
        if parts[i].tried > most:
            chosen, most = [*chosen, i], parts[i].tried
    return set(chosen[:TESTED])


Counts = tuple[Array, Array]
"""Tries and successes of each customer in each part, int64 (customers, 2)."""


def _counts(
    files: Sequence[Path],
    rules: Sequence[c.Condition],
    moments: Sequence[int],
    tries: Tries,
    facts: Facts,
    listed: Listed,
    split: int,
    over: Over,
) -> list[Counts]:
    needed = list(dict.fromkeys(m for rule in rules for m in c.measures(rule)))
    properties = {name for m in needed for name in m.properties()}

    def work(block: Block, since: Array) -> list[Counts]:
        tried, succeeded = tries(block.customers)
        rows, found = np.flatnonzero(tried.any(axis=1)), []
        answers = dict(zip(needed, evaluate(block, list(moments), needed), strict=True))
        known = known_customers(block, moments) | (since[:, None] <= np.asarray(moments))
        for rule in rules:
            inside = decide(rule, answers, block, moments, facts).true & known
            found.append((_halves(tried * inside, split)[rows], _halves(succeeded * inside, split)[rows]))
        return found

    parts = list(everyone(work, files, properties, moments[-1], listed, moments[0], over))
    return [(np.concatenate([a for a, _ in found]), np.concatenate([b for _, b in found])) for found in zip(*parts, strict=True)]


def _halves(numbers: Array, split: int) -> Array:
    return np.stack([numbers[:, :split].sum(axis=1), numbers[:, split:].sum(axis=1)], axis=1)


def _part(counts: Counts, which: int) -> Part:
    tried, succeeded = (int(column[:, which].sum()) for column in counts)
    low, high = rates.wilson(succeeded, tried)
    return Part(tried, succeeded, succeeded / tried if tried else None, (float(low), float(high)))


def _tested(variation: Variation, diff: str, searched: Part, now: Counts, then: Counts, before: Part, tests: int) -> Candidate:
    from scipy.special import ndtr

    size, tested, base = searched.tried / max(before.tried, 1), _part(then, 1), _part(now, 1)
    if tested.rate is None or base.rate is None:
        return Candidate(variation.says, diff, searched, size, tested)
    away = (then[1][:, 1] - tested.rate * then[0][:, 1]) / tested.tried - (now[1][:, 1] - base.rate * now[0][:, 1]) / base.tried
    spread = float(np.sqrt((away**2).sum()))  # customers are independent of each other; their tries are not
    d, width = tested.rate - base.rate, rates.quantile(1 - 0.05 / tests) * spread
    p = min(1.0, tests * 2 * float(ndtr(-abs(d) / spread))) if spread else 1.0
    return Candidate(variation.says, diff, searched, size, tested, d, (d - width, d + width), p, d > 0 and p < 0.05)


def clicks(sent: Deliveries, moments: Sequence[int]) -> Tries:
    """Return the tries of messages: each delivery of the day that begins at a moment, a success when it was clicked."""
    day = np.searchsorted(np.asarray(moments), sent.time - sent.time % DAY)
    found = np.minimum(day, len(moments) - 1)
    kept = np.flatnonzero(np.asarray(moments)[found] == sent.time - sent.time % DAY)
    return _by_customer(sent.customers, sent.customer[kept], found[kept], sent.clicked[kept], len(moments))


def mail_days(sent: Deliveries) -> list[int]:
    """Return the days on which messages were delivered, at most `MOST_MOMENTS` of them, evenly spread."""
    days = np.unique(sent.time - sent.time % DAY)
    return (
        [int(day) for day in days[np.unique(np.linspace(0, len(days) - 1, MOST_MOMENTS).astype(int))]] if len(days) > MOST_MOMENTS else days.tolist()
    )


def conversions(log: Log, moments: Sequence[int], within: int) -> Tries:
    """Return the tries of moments: everybody at every moment, a success when the goal came within a time after it."""

    def tries(customers: Array) -> tuple[Array, Array]:
        n, m = len(customers), len(moments)
        who, start = np.repeat(log.positions(customers), m), np.tile(np.asarray(moments, np.int64), n)
        number, _ = log.totals(who, start, start + within)
        return np.ones((n, m), np.int64), (number > 0).reshape(n, m).astype(np.int64)

    return tries


def _by_customer(ids: Array, customer: Array, moment: Array, succeeded: Array, moments: int) -> Tries:
    import pandas as pd

    starts = np.searchsorted(customer, np.arange(len(ids) + 1))
    index = pd.Index(ids, dtype=object)

    def tries(customers: Array) -> tuple[Array, Array]:
        place = np.asarray(index.get_indexer(customers))
        found: tuple[Array, Array] = (np.zeros((len(customers), moments), np.int64), np.zeros((len(customers), moments), np.int64))
        number = (
            np.where(place >= 0, starts[np.maximum(place, 0) + 1] - starts[np.maximum(place, 0)], 0)
            if len(ids)
            else np.zeros(len(customers), np.int64)
        )
        row = np.repeat(np.arange(len(customers)), number)
        at = np.repeat(starts[np.maximum(place, 0)], number) + np.arange(len(row)) - np.repeat(np.cumsum(number) - number, number)
        np.add.at(found[0], (row, moment[at]), 1)
        np.add.at(found[1], (row, moment[at]), succeeded[at].astype(np.int64))
        return found

    return tries


def usual_layers(segments: Mapping[str, Segment], name: str) -> list[dict[str, Any]]:
    """Return further conditions that are worth a try: other segments, in or not in, and having opened lately."""
    others = [other for other, s in segments.items() if other != name and name not in _uses(other, segments)]
    found: list[dict[str, Any]] = [{verb: other} for other in others for verb in ("in", "not_in")]
    return [*found, {"did": "Email Opened", "within": "90 days"}, {"did": "Email Link Clicked", "within": "90 days"}]


def _uses(name: str, segments: Mapping[str, Segment]) -> set[str]:
    used = set(segments[name].uses())
    return used.union(*(_uses(other, segments) for other in used))
