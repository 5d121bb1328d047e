"""How many a rule reaches before anything is recorded: a funnel, who can be contacted, overlaps, what changed.

On a large history it looks at a sample of customers and says how far off the figures may be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from predseg.evaluate import bits
from predseg.evaluate.ahead import Over, ahead, here
from predseg.evaluate.block import CORE, IDENTITY, Array, Block, from_table
from predseg.history.privacy import NOBODY as NOT_ASKED
from predseg.history.privacy import OptedOut
from predseg.language import conditions as c
from predseg.language.assignment import HOLDOUT, Experiment
from predseg.language.english import say_condition
from predseg.layers import parts, whole_customers
from predseg.segments.definitions import Segment
from predseg.segments.facts import Facts
from predseg.segments.population import NOBODY, Decider, Listed, decider_of, everyone, properties_of

if TYPE_CHECKING:
    pass

SAMPLED_ROWS = 3_000_000
"""Histories with more events than this are sampled, unless exact figures are asked for."""
LEAST_OVERLAP = 0.01
"""Overlaps with a smaller share of the previewed segment are not worth a line."""
SMALLEST_TEST = 1_000
"""Two halves of 500 show a rise from 4 % to 8.3 % with 80 % power, and hardly anything smaller."""


@dataclass(frozen=True)
class Step:
    """One condition of the funnel: how many pass it alone, how many of those before it removes, and how many remain."""

    condition: str
    alone: int
    unknown: int
    removes: int
    remains: int


@dataclass(frozen=True)
class Overlap:
    """How much of the previewed segment another one shares."""

    segment: str
    both: int
    share: float  # of the previewed one
    jaccard: float


@dataclass(frozen=True)
class Preview:
    """What a rule reaches at a moment. With a share under 1 all figures are estimates; ``error`` is ± 95 % of members.

    Members without the opted out, and of the others without the held out, are ``contactable``; ``variants`` says what these get.
    """

    segment: str
    sentence: str
    as_of: int
    known: int
    members: int
    steps: tuple[Step, ...]
    opted_out: int
    held_out: int
    contactable: int
    variants: dict[str, int]
    before: int | None
    entered: int | None
    left: int | None
    overlaps: tuple[Overlap, ...]
    sampled: float = 1.0
    error: int = 0
    warnings: tuple[str, ...] = ()


def preview(
    files: Sequence[Path],
    segments: Mapping[str, Segment],
    name: str,
    as_of: int,
    facts: Facts,
    *,
    listed: Listed = NOBODY,
    opted_out: OptedOut = NOT_ASKED,
    before: Array | None = None,
    rows: int = 0,
    sample: int | None = SAMPLED_ROWS,
    over: Over = here,
) -> Preview:
    """Count what each condition of a rule removes and what remains.

    Args:
        files: The events table.
        segments: All rules, in dependency order; the others are looked at for overlaps.
        name: The rule.
        as_of: The moment.
        facts: What is published.
        listed: Customers known without an event.
        opted_out: Who must not be written to.
        before: The members at the last recorded run, None when there was none.
        rows: How many events there are.
        sample: With more of them, customers with about so many are looked at; None looks at all.
        over: Where the blocks of all are answered; a sample is looked at here.
    """
    share = 1.0 if sample is None or rows <= sample else sample / rows
    counts = _Counts(segments, name, opted_out)
    properties, decide, conditions = properties_of(segments.values()), decider_of(segments, as_of, facts), counts.parts

    def work(block: Block, since: Array) -> _Found:
        return _found(name, conditions, decide(block, since))

    sampled = ahead(lambda block: work(block, listed.known_since(block.ids)), sampled_blocks(files, properties, share, as_of))
    for found in sampled if share < 1 else everyone(work, files, properties, as_of, listed, over=over):
        counts.add(found)
    return counts.result(as_of, before, counts.rows / rows if share < 1 and counts.rows else 1.0)


def sampled_blocks(files: Sequence[Path], properties: set[str], share: float, since: int) -> Iterator[Block]:
    """Yield evenly spread row groups of the events table, about ``share`` of them, without the customers cut at their ends."""
    step, at = 1 / share, 0.0
    number = 0
    columns = [*CORE, *sorted(properties - {*CORE, *IDENTITY}), *IDENTITY]
    for part in parts(files):
        for group in range(len(part.base.sizes)):
            if number >= at:
                at += step
                yield from_table(whole_customers(part, group, columns), since=since)
            number += 1


@dataclass(frozen=True)
class _Found:
    """The figures of one block, see `_Counts`."""

    known: int
    rows: int
    members: Array
    others: dict[str, int]
    both: dict[str, int]
    funnel: list[list[int]]


def _found(name: str, conditions: Sequence[c.Condition], decider: Decider) -> _Found:
    mine, block, remaining = decider.members[name], decider.block, decider.present
    others = {other: bits.number(inside) for other, inside in decider.members.items()}
    both = {other: bits.number(inside & mine) for other, inside in decider.members.items()}
    funnel = []
    for condition in conditions:
        truth = decider(condition)
        after = remaining & truth.true
        funnel.append([*map(bits.number, (truth.true & decider.present, truth.unknown & decider.present, remaining & ~after, after))])
        remaining = after
    return _Found(bits.number(decider.present), int(block.offsets[-1]), block.customers[bits.flags(mine, block.size)], others, both, funnel)


@dataclass
class _Counts:
    """Adds up blocks."""

    segments: Mapping[str, Segment]
    name: str
    opted_out: OptedOut
    known: int = 0
    rows: int = 0
    members: list[Array] = field(default_factory=list)
    others: dict[str, int] = field(default_factory=dict)
    both: dict[str, int] = field(default_factory=dict)
    funnel: list[list[int]] = field(default_factory=list)
    per_block: list[tuple[int, int]] = field(default_factory=list)

    @property
    def experiment(self) -> Experiment | None:
        """What the previewed segment tries out."""
        return self.segments[self.name].experiment

    @property
    def parts(self) -> tuple[c.Condition, ...]:
        """The conditions of the funnel: those of the outermost `all`, else the rule itself."""
        match = self.segments[self.name].match
        return match.of if isinstance(match, c.All) else (match,)

    def add(self, found: _Found) -> None:
        self.known += found.known
        self.rows += found.rows
        self.members.append(found.members)
        self.per_block.append((len(found.members), found.known))
        for mine, theirs in ((self.others, found.others), (self.both, found.both)):
            mine.update({name: mine.get(name, 0) + number for name, number in theirs.items()})
        before = self.funnel or [[0, 0, 0, 0] for _ in self.parts]
        self.funnel = [[a + b for a, b in zip(*lines, strict=True)] for lines in zip(before, found.funnel, strict=True)]

    def result(self, as_of: int, before: Array | None, share: float) -> Preview:
        scale = 1.0 if share >= 1 else 1 / share
        members = np.concatenate(self.members) if self.members else np.zeros(0, object)
        willing = [m for m in members if m not in self.opted_out]
        groups = Counter(self.experiment.groups(willing) if self.experiment else ())
        out, held = len(members) - len(willing), groups.pop(HOLDOUT, 0)
        now, then = set(members.tolist()), None if before is None or share < 1 else set(before.tolist())
        size = round(len(members) * scale)
        contactable = size - round(out * scale) - round(held * scale)
        return Preview(
            self.name,
            self.segments[self.name].sentence(),
            as_of,
            round(self.known * scale),
            size,
            tuple(Step(say_condition(p), *(round(n * scale) for n in found)) for p, found in zip(self.parts, self.funnel, strict=bool(self.funnel))),
            round(out * scale),
            round(held * scale),
            contactable,
            {name: round(groups[name] * scale) for name, _ in self.experiment.split} if self.experiment else {},
            None if before is None else len(before),
            None if then is None else len(now - then),
            None if then is None else len(then - now),
            self._overlaps(scale),
            share,
            self._error(scale),
            tuple(self._warnings(contactable)),
        )

    def _overlaps(self, scale: float) -> tuple[Overlap, ...]:
        mine = self.others.get(self.name, 0)
        found = []
        for name, both in self.both.items():
            if name != self.name and both and both >= mine * LEAST_OVERLAP:
                union = mine + self.others[name] - both
                found.append(Overlap(name, round(both * scale), both / mine, both / union))
        return tuple(sorted(found, key=lambda o: (-o.share, -o.jaccard, o.segment))[:5])

    def _error(self, scale: float) -> int:
        """Return ± 95 % of the members, from the spread of the ratio between the sampled blocks."""
        if scale <= 1 or len(self.per_block) < 2:
            return 0
        members, known = np.array(self.per_block, float).T
        ratio = members.sum() / max(known.sum(), 1.0)
        spread = np.sum((members - ratio * known) ** 2) * len(members) / (len(members) - 1)
        return int(np.ceil(1.96 * scale * np.sqrt(spread * (1 - 1 / scale))))

    def _warnings(self, contactable: int) -> Iterator[str]:
        if contactable == 0:
            yield "nobody can be contacted: loosen the condition that removes most"
        elif contactable < SMALLEST_TEST:
            yield f"{contactable:,} contactable are too few for a test of two halves: under {SMALLEST_TEST:,} only large effects can be seen"
