"""What a rule, new or changed, would have done on history: who would have entered, left, been written to, and what they did next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from predseg.evaluate.ahead import Over, here
from predseg.evaluate.batch import decide, evaluate, known_customers
from predseg.evaluate.block import Array, Block
from predseg.evaluate.moments import Known, transitions
from predseg.forecast.labels import block_labels
from predseg.language import conditions as c
from predseg.language.actions import Action
from predseg.language.assignment import HOLDOUT
from predseg.segments.definitions import Segment
from predseg.segments.facts import Facts
from predseg.segments.population import NOBODY, Listed, everyone
from predseg.segments.preview import Overlap


@dataclass(frozen=True)
class Day:
    """One moment of a replay: members then, and how many entered, left and would have been written to since the moment before."""

    at: int
    members: int
    entered: int
    left: int
    sent: int


@dataclass(frozen=True)
class Outcome:
    """Of members and of all other known customers, how many did it within the horizon; moments whose horizon is complete."""

    model: str
    moments: int
    members: int
    members_did: int
    others: int
    others_did: int

    @property
    def ratio(self) -> float | None:
        """The rate of members over the rate of the others; None when either is unknown."""
        if not self.members or not self.others or not self.others_did:
            return None
        return (self.members_did / self.members) / (self.others_did / self.others)


@dataclass(frozen=True)
class Replay:
    """A rule over history."""

    segment: str
    sentence: str
    days: tuple[Day, ...]
    unique: int
    outcome: Outcome | None
    overlaps: tuple[Overlap, ...] = ()


def replay(
    files: Sequence[Path],
    segments: Mapping[str, Segment],
    name: str,
    moments: Sequence[int],
    facts: Facts,
    *,
    listed: Listed = NOBODY,
    model: tuple[str, c.Prediction] | None = None,
    last_event: int = 0,
    over: Over = here,
) -> Replay:
    """Run a rule at every moment of history, the segments it uses with their present rules.

    Args:
        files: The events table.
        segments: All rules.
        name: The rule.
        moments: Ascending; who is a member at the first one has not entered.
        facts: What was published: scores and ranks answer as they stood at each moment.
        listed: Customers known without an event.
        model: What to look for after each moment: a name and a prediction.
        last_event: The end of the data; a horizon beyond it is not complete.
        over: Where blocks of events are answered.
    """
    segment = segments[name]
    rule = replace(segment, match=inline_all(segment.match, segments))
    complete = [t for t in moments if model is not None and t + model[1].horizon <= last_event]
    tally = _Tally(rule, tuple(moments), tuple(complete), model, facts)
    properties = set().union(*(m.properties() for m in c.measures(rule.match)))
    properties |= model[1].measure.properties() if model else set()
    return tally.result(list(everyone(tally, files, properties, moments[-1], listed, moments[0], over)))


def inline_all(condition: c.Condition, segments: Mapping[str, Segment]) -> c.Condition:
    """Return the condition with the rules of all segments it uses in their place."""
    if isinstance(condition, c.In) and condition.segment in segments:
        return c.Holds((inline_all(segments[condition.segment].match, segments),), condition.member)
    return replace(condition, of=tuple(inline_all(p, segments) for p in condition.of)) if isinstance(condition, c.LAYERS) else condition


Counted = tuple[Array, Array, int]
"""Of a block: members, entered, left, sent, int64 (4, moments); others, members × all, who did it, int64 (2, 2); who was a member at all."""


@dataclass(frozen=True)
class _Tally:
    """Counts blocks, and adds up."""

    rule: Segment
    moments: tuple[int, ...]
    complete: tuple[int, ...]
    model: tuple[str, c.Prediction] | None
    facts: Facts

    def __call__(self, block: Block, since: Array) -> Counted:
        counts, did = np.zeros((4, len(self.moments)), np.int64), np.zeros((2, 2), np.int64)
        inside, known = self._members(block, since)
        counts[0] = inside.sum(axis=0)
        customer, at, now = self._changes(block, since, inside)
        step = np.searchsorted(self.moments, at)
        np.add.at(counts[1], step[now], 1)
        np.add.at(counts[2], step[~now], 1)
        for action in self.rule.on_enter:
            due = np.array(list(self._messages(action, block.customers, customer, at, now)), np.int64)
            np.add.at(counts[3], np.searchsorted(self.moments, due[due <= self.moments[-1]]), 1)
        if self.complete and self.model is not None:
            done = block_labels(block, self.complete, self.model[1], known=2**61) > 0
            for member in (0, 1):
                asked = known[:, : len(self.complete)] & (inside[:, : len(self.complete)] == bool(member))
                did[member] = int(asked.sum()), int((asked & done).sum())
        return counts, did, int(inside.any(axis=1).sum())

    def _members(self, block: Block, since: Array) -> tuple[Array, Array]:
        needed = c.measures(self.rule.match)
        answers = dict(zip(needed, evaluate(block, self.moments, needed), strict=True))
        known = known_customers(block, self.moments) | (since[:, None] <= np.asarray(self.moments))
        return decide(self.rule.match, answers, block, self.moments, self.facts).true & known, known

    def _changes(self, block: Block, since: Array, inside: Array) -> tuple[Array, Array, Array]:
        if not self.rule.live:
            customer, step = np.nonzero(inside[:, 1:] != inside[:, :-1])
            return customer, np.asarray(self.moments)[step + 1], inside[customer, step + 1]
        known = Known(self.facts.instants(self.rule.match), self.facts.own_instants(self.rule.match, block.customers), since)
        return transitions(block, self.rule.match, self.moments[0], self.moments[-1], facts=self.facts, known=known)

    def _messages(self, action: Action, ids: Array, customer: Array, at: Array, entered: Array) -> Iterator[int]:
        """Yield when each message of an action would have gone out: to who was still a member then, not held out, and not too often."""
        order, tries = np.lexsort((at, customer)), self.rule.experiment
        last: tuple[int, int] | None = None
        for i, after in zip(order, [*order[1:], None][: len(order)], strict=True):
            who, due = int(customer[i]), action.due(int(at[i])) if entered[i] else 0
            gone = after is not None and customer[after] == who and at[after] <= due
            if not entered[i] or gone or (tries is not None and tries.group(ids[who]) == HOLDOUT):
                continue
            if action.limit is None or last is None or last[0] != who or due - last[1] >= action.limit:
                last = (who, due)
                yield due

    def result(self, found: Sequence[Counted]) -> Replay:
        counts = sum((one for one, _, _ in found), np.zeros((4, len(self.moments)), np.int64))
        did = sum((one for _, one, _ in found), np.zeros((2, 2), np.int64))
        days = tuple(Day(t, *(int(n) for n in column)) for t, column in zip(self.moments, counts.T, strict=True))
        outcome = None
        if self.model is not None and self.complete:
            (others, others_did), (members, members_did) = did.tolist()
            outcome = Outcome(self.model[0], len(self.complete), members, members_did, others, others_did)
        return Replay(self.rule.name, self.rule.sentence(), days, sum(one for _, _, one in found), outcome)
