"""All segments of all customers at one moment: one pass over the events, equal measures and conditions answered once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from predseg.evaluate import bits
from predseg.evaluate.ahead import Answer, Over, here
from predseg.evaluate.batch import Truth, Values, answered, compare, known_customers, layer
from predseg.evaluate.block import BEGINNING, NEVER, Array, Block
from predseg.evaluate.block import ROWS as BLOCK
from predseg.evaluate.moments import Known, transitions
from predseg.language import conditions as c
from predseg.language.measures import Measure
from predseg.segments.customers import Customers
from predseg.segments.definitions import Segment
from predseg.segments.facts import DIMENSIONS, Facts, Run, rfv_scores, run_key

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 2 * BLOCK
"""Rows of a block at one moment, where each customer needs little memory: fewer blocks, fewer calls of small functions."""

Changed = tuple[Array, Array, Array]
"""Customer id, instant, member from then on: one row per change, in order."""


@dataclass(frozen=True)
class Asked:
    """A live rule whose changes are asked for.

    Attributes:
        match: The rule, with those of live segments in the place of `in:` (see `inline`).
        after: The last run; None asks, over all of history, about those who are members now.
    """

    match: c.Condition
    after: int | None = None


@dataclass
class Decider:
    """Decides conditions about one block at one moment, each only once. All that it says is bits, see `predseg.evaluate.bits`.

    Attributes:
        present: Who is known.
        members: The segments decided so far in this block, of who is known.
        changes: What changed in it, of the live rules that were asked.
    """

    block: Block
    as_of: int
    answers: dict[Measure, Values]
    facts: Facts
    present: Array
    members: dict[str, Array] = field(default_factory=dict)
    changes: dict[str, Changed] = field(default_factory=dict)
    decided: dict[c.Condition, Truth] = field(default_factory=dict)

    def __call__(self, condition: c.Condition) -> Truth:
        """Return the truth of each customer, whether known or not."""
        found = self.decided.get(condition)
        if found is None:
            found = self.decided[condition] = self._decide(condition)
        return found

    def _decide(self, condition: c.Condition) -> Truth:
        if isinstance(condition, c.LAYERS):
            return layer(condition, [self(part) for part in condition.of])
        if isinstance(condition, c.In) and condition.segment in self.members:
            inside = self.members[condition.segment]
            return Truth.of(inside if condition.member else ~inside)
        if isinstance(condition, c.Did):
            return bits.of(compare(self.answers[condition.measure], condition.comparison))
        return bits.of(self.facts(condition, self.block.customers, np.full(self.block.size, self.as_of)))


@dataclass(frozen=True)
class Listed:
    """Customers who are known without an event: ids of the customers file, each from an instant on."""

    customers: Customers
    since: Array  # int64 (k); the smallest integer is always

    def known_since(self, ids: pa.Array) -> Array:
        """Return int64 (n): from when each is known, the largest integer for who is not listed."""
        return np.append(self.since, NEVER)[self.customers.places(ids)] if len(self.since) else np.full(len(ids), NEVER)


NOBODY = Listed(Customers.named(np.zeros(0, object))[0], np.zeros(0, np.int64))


def properties_of(rules: Iterable[Segment | Asked]) -> set[str]:
    """Return the properties of events that rules read."""
    return {name for rule in rules for measure in c.measures(rule.match) for name in measure.properties()}


def decider_of(
    segments: Mapping[str, Segment], as_of: int, facts: Facts, asked: Mapping[str, Asked] | None = None
) -> Callable[[Block, Array], Decider]:
    """Return a function of a block, and since when its customers are known without an event: it gives a decider that has decided the segments.

    Args:
        segments: The rules, in dependency order.
        as_of: The moment.
        facts: What is published.
        asked: Live ones among the segments whose changes are wanted as well.
    """
    rules = dict(zip(segments, c.shared(segment.match for segment in segments.values()), strict=True))
    measures = list(dict.fromkeys(m for rule in rules.values() for m in c.measures(rule)))
    changes = _changes(asked or {}, as_of, facts)

    def decide(block: Block, since: Array) -> Decider:
        present = known_customers(block, [as_of])[:, 0] | (since <= as_of)
        decider = Decider(block, as_of, dict(answered(block, [as_of], measures)), facts, np.packbits(present))
        for name, rule in rules.items():
            decider.members[name] = decider(rule).true & decider.present
        decider.changes.update(changes(block, since, {name: bits.flags(decider.members[name], block.size) for name in asked or ()}))
        return decider

    return decide


def everyone(
    work: Callable[[Block, Array], Answer],
    files: Sequence[Path],
    properties: Iterable[str],
    as_of: int,
    listed: Listed,
    since: int | None = None,
    over: Over = here,
) -> Iterator[Answer]:
    """Yield what ``work`` makes of the blocks of events, then of the listed customers without any.

    It is given a block, and int64 (customers): since when each is known without an event. ``since`` is the first moment that is
    asked about, by default as_of, the last one: who was an earlier identity until then is left out.
    """
    import pyarrow as pa

    rest = np.append(listed.since <= as_of, False)  # and whoever is not listed

    def with_ids(block: Block) -> tuple[pa.Array, Answer]:
        return block.ids, work(block, listed.known_since(block.ids))

    for ids, answer in over(with_ids, files, properties, ROWS, as_of if since is None else since):
        rest[listed.customers.places(ids)] = False
        yield answer
    rest = rest[:-1]
    if rest.any():
        empty = np.zeros(0, np.int64)
        block = Block(
            listed.customers.ids.filter(pa.array(rest)).cast(pa.string()),
            np.zeros(int(rest.sum()) + 1, np.int64),
            empty,
            empty,
            empty.astype(np.int32),
            (),
        )
        yield work(block, listed.since[rest])


@dataclass(frozen=True)
class Members:
    """Who belongs to some segments at one moment.

    Attributes:
        customers: Everybody who was looked at.
        places: Of each segment the members' places among them, int64, sorted.
    """

    customers: Customers
    places: dict[str, Array]

    def of(self, names: Iterable[str]) -> dict[str, Array]:
        """Return the ids, sorted, of the members of some segments."""
        return self.customers.by_name({name: self.places[name] for name in names})


def members_at(
    files: Sequence[Path], segments: dict[str, Segment], as_of: int, facts: Facts, listed: Listed = NOBODY, over: Over = here
) -> dict[str, Array]:
    """Return the customer ids, sorted, of each segment at one moment. ``segments`` stand in dependency order."""
    return members_and_changes(files, segments, {}, as_of, facts, listed, over)[0].of(segments)


def members_and_changes(
    files: Sequence[Path], segments: dict[str, Segment], asked: Mapping[str, Asked], as_of: int, facts: Facts, listed: Listed, over: Over = here
) -> tuple[Members, dict[str, Changed]]:
    """Return the members of each segment, see `members_at`, and what changed in live ones, see `live_changes`, in one pass over the events."""
    import pyarrow as pa

    decide = decider_of(segments, as_of, facts, asked)

    def work(block: Block, since: Array) -> tuple[pa.Array, dict[str, Array], dict[str, Changed]]:
        decider = decide(block, since)
        return block.ids, {name: np.flatnonzero(bits.flags(inside, block.size)) for name, inside in decider.members.items()}, decider.changes

    ids: list[pa.Array] = []
    found: dict[str, list[Array]] = {name: [NOBODY.since] for name in segments}
    changed: dict[str, list[Changed]] = {name: [] for name in asked}
    properties, before = properties_of([*segments.values(), *asked.values()]), 0
    for some, inside, changes in everyone(work, files, properties, as_of, listed, _since(asked, as_of), over):
        for name, positions in inside.items():
            positions += before
            found[name].append(positions)
        for name, rows in changes.items():
            changed[name].append(rows)
        ids.append(some)
        before += len(some)
    customers, place = Customers.of(pa.chunked_array(ids, pa.string()))
    in_order = bool((place[1:] > place[:-1]).all())  # earlier identities, and who is listed, come after the others
    places = {name: np.concatenate(parts) for name, parts in found.items()}
    if not in_order:
        places = {name: np.unique(place[at]) for name, at in places.items()}
    return Members(customers, places), {name: _joined(changes) for name, changes in changed.items()}


def rfv_wanted(segments: Iterable[Segment]) -> dict[str, c.Rfv]:
    """Return each `rfv` that the rules use by what its run is filed under."""
    return {run_key(p): p for s in segments for p in c.walk(s.match) if isinstance(p, c.Rfv)}


def publish_rfv(files: Sequence[Path], wanted: Mapping[str, c.Rfv], as_of: int, over: Over = here) -> dict[str, Run]:
    """Score recency, frequency and value, 1 to 5, of everyone with such an event, see `rfv_wanted`."""
    measures = {key: _rfv_measures(rfv) for key, rfv in wanted.items()}
    ids: dict[str, list[Array]] = {key: [] for key in wanted}
    columns: dict[str, list[Array]] = {key: [] for key in wanted}
    flat = [m for three in measures.values() for m in three]

    def answer(block: Block) -> dict[str, tuple[Array, Array]]:
        answers, found = dict(answered(block, [as_of], flat)), {}
        for key, (recency, frequency, value) in measures.items():
            some = answers[frequency].number[:, 0] > 0
            three = [-answers[recency].number[some, 0], answers[frequency].number[some, 0], answers[value].number[some, 0]]
            found[key] = block.customers[some], np.stack(three)
        return found

    for found in over(answer, files, set().union(*(m.properties() for m in flat)), since=as_of):
        for key, (customers, numbers) in found.items():
            ids[key].append(customers)
            columns[key].append(numbers)
    return {key: _score_rfv(np.concatenate(ids[key]), np.concatenate(columns[key], axis=1)) for key in wanted if ids[key]}


def _rfv_measures(rfv: c.Rfv) -> tuple[Measure, Measure, Measure]:
    return Measure(rfv.of, rfv.window, "days_since_last"), Measure(rfv.of, rfv.window), Measure(rfv.of, rfv.window, "sum", "value")


def _score_rfv(customers: Array, values: Array) -> Run:
    return Run(customers, {name: rfv_scores(column) for name, column in zip(DIMENSIONS, values, strict=True)})


def live_changes(
    files: Sequence[Path],
    asked: Mapping[str, Asked],
    members: Mapping[str, Array],
    as_of: int,
    facts: Facts,
    listed: Listed = NOBODY,
    over: Over = here,
) -> dict[str, Changed]:
    """Return for each live rule what changed after its last run and by as_of, in one pass over the events. ``members``: ids at as_of."""
    import pandas as pd

    index = {name: pd.Index(members[name], dtype=object) for name, rule in asked.items() if rule.after is None}
    changes = _changes(asked, as_of, facts)

    def decide(block: Block, since: Array) -> dict[str, Changed]:
        inside = {name: np.asarray(ids.get_indexer(block.customers)) >= 0 for name, ids in index.items()}
        return changes(block, since, inside)

    found = list(everyone(decide, files, properties_of(asked.values()), as_of, listed, _since(asked, as_of), over)) if asked else []
    return {name: _joined([block[name] for block in found]) for name in asked}


def _changes(asked: Mapping[str, Asked], as_of: int, facts: Facts) -> Callable[[Block, Array, Mapping[str, Array]], dict[str, Changed]]:
    """Return a function of a block, since when its customers are known, and who is a member at as_of, that says what changed in it.

    Members are looked at of rules without a last run alone.
    """
    instants = {name: facts.instants(rule.match) for name, rule in asked.items()}

    def one(block: Block, since: Array, name: str, members: Mapping[str, Array]) -> Changed:
        rule = asked[name]
        only = members[name] if rule.after is None else None
        if only is not None and not only.any():
            return _joined([])
        known = Known(instants[name], facts.own_instants(rule.match, block.customers), since)
        start = BEGINNING if rule.after is None else rule.after
        customer, t, member = transitions(block, rule.match, start, as_of, facts=facts, known=known, only=only)
        return block.customers[customer], t, member

    return lambda block, since, members: {name: one(block, since, name, members) for name in asked}


def _since(asked: Mapping[str, Asked], as_of: int) -> int:
    """The first moment that is asked about: who is no member at as_of need not be known before it where there was no last run."""
    return min((rule.after for rule in asked.values() if rule.after is not None), default=as_of)


def _joined(parts: list[Changed]) -> Changed:
    if not parts:
        return np.zeros(0, object), np.zeros(0, np.int64), np.zeros(0, bool)
    who, when, inside = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return who, when, inside


def inline(condition: c.Condition, segments: dict[str, Segment]) -> c.Condition:
    """Return the condition with the rules of live segments in the place of `in:`; daily ones stay published facts."""
    if isinstance(condition, c.In):
        used = segments.get(condition.segment)
        return c.Holds((inline(used.match, segments),), condition.member) if used is not None and used.live else condition
    return replace(condition, of=tuple(inline(p, segments) for p in condition.of)) if isinstance(condition, c.LAYERS) else condition
