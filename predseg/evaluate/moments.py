"""The batch executor at each customer's own moments: exact instants of change for many customers at once.

Every pair of a customer and a moment becomes a virtual customer with the rows visible then, its clock set to 0, and the
kernel answers all of them in one call. Pairs are taken in portions, so that memory stays bounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from predseg.evaluate.batch import Facts, Truth, Values, compare, evaluate, layer
from predseg.evaluate.block import NEVER, Array, Block, Words
from predseg.evaluate.sequences import positions
from predseg.evaluate.timeline import offsets
from predseg.language import conditions as c
from predseg.language.measures import Filter, Measure, Test, Window

PORTION = 2_000_000
"""Rows of virtual customers that are held at once."""


def truth_at(block: Block, customers: Array, moments: Array, condition: c.Condition, facts: Facts | None = None) -> Truth:
    """Decide a condition for k pairs of customer (position in the block) and moment: `Truth` of shape (k)."""
    true, unknown = np.zeros(len(customers), bool), np.zeros(len(customers), bool)
    measures = c.measures(condition)
    asked = [as_seen(m) for m in measures]
    for at, virtual in virtual_blocks(block, customers, moments, measures):
        answers = dict(zip(measures, evaluate(virtual, [0], asked), strict=True))
        found = _decide(condition, answers, block.customers[customers[at]], moments[at], facts)
        true[at], unknown[at] = found.true, found.unknown
    return Truth(true, unknown)


def virtual_blocks(block: Block, customers: Array, moments: Array, measures: Sequence[Measure]) -> Iterator[tuple[Array, Block]]:
    """Yield k pairs of customer (position in the block) and moment in portions: which of them, and a block of them at the moment 0, for measures `as_seen`."""
    first, end = _seen(block, customers, moments, list(measures))
    for at in _portions(end - first):
        yield at, _virtual(block, customers[at], moments[at], first[at], end[at], list(measures))


def _seen(block: Block, customers: Array, moments: Array, measures: list[Measure]) -> tuple[Array, Array]:
    """Return the rows, first and end, that the measures can look at from each moment: none older than the longest window."""
    end = positions(block.customer, block.time, customers, moments)
    starts = [m.window.start for m in measures]
    if not starts or any(start is None for start in starts):
        return block.offsets[:-1][customers], end
    return positions(block.customer, block.time, customers, moments - max(s for s in starts if s is not None)), end


def _slim(block: Block, condition: c.Condition, only: Array | None) -> Block:
    """Return the block with only the events that the condition reads, and only the rows of some customers."""
    measures = c.measures(condition)
    names = set().union(*(m.names() for m in measures))
    every = any(not m.names() for m in measures)
    read = np.array([every or name in names for name in block.names], bool)
    wanted = read[block.event] if len(read) else np.zeros(0, bool)
    wanted &= True if only is None else only[block.customer]
    rows = np.flatnonzero(wanted)
    counts = np.bincount(block.customer[rows], minlength=block.size)
    return replace(
        block,
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        time=block.time[rows],
        received=block.received[rows],
        event=block.event[rows],
        properties={name: p.take(rows) for name, p in block.properties.items()},
        hidden=None if block.hidden is None else block.hidden[rows],
    )


def _merged(block: Block) -> Array:
    """When each earlier identity joined another customer, and so is gone; the largest integer for the others."""
    gone = np.full(block.size, NEVER)
    if block.hidden is not None:
        last = np.full(block.size, -NEVER)
        np.maximum.at(last, block.customer, block.hidden)
        gone = np.where(last > -NEVER, last, NEVER)
    return gone


@dataclass(frozen=True)
class Known:
    """What changes a condition beside events, for the customers of one block.

    Attributes:
        facts: Instants at which facts of anybody may change.
        own: Pairs (customer position, instant) at which a customer's own facts change.
        since: int64 (n): from when each is known without an event; the largest integer is never.
    """

    facts: tuple[int, ...] = ()
    own: tuple[Array, Array] | None = None
    since: Array | None = None


def changes(block: Block, condition: c.Condition, after: int, until: int, known: Known, also: tuple[Array, ...]) -> tuple[Array, Array]:
    """Return pairs (customer, instant), sorted: the only instants in (after, until] at which a condition can change.

    ``also`` are further instants, one per customer.
    """
    customer, everyone = block.customer, np.arange(block.size)
    found = [(customer, block.received), *((customer, block.time + o) for o in (0, *offsets(condition)))]
    found += [(everyone, np.full(len(everyone), f)) for f in known.facts]
    found += [known.own] if known.own is not None else []
    found += [(everyone, instants) for instants in also]
    who, when = np.concatenate([x for x, _ in found]), np.concatenate([x for _, x in found])
    inside = (when > after) & (when <= until)
    who, when = who[inside], when[inside]
    order = np.lexsort((when, who))
    who, when = who[order], when[order]
    new = (np.diff(who, prepend=-1) != 0) | (np.diff(when, prepend=after) != 0)
    return who[new], when[new]


def _first_known(block: Block, known: Known) -> Array:
    """When each customer was first known: by an event or otherwise."""
    return block.first if known.since is None else np.minimum(block.first, known.since)


def _portions(rows: Array) -> Iterator[Array]:
    """Yield the positions of pairs whose rows together fit a portion."""
    portion = np.cumsum(rows + 1) // PORTION
    for number in np.unique(portion):
        yield np.flatnonzero(portion == number)


def _virtual(block: Block, customers: Array, moments: Array, first: Array, end: Array, measures: list[Measure]) -> Block:
    import pyarrow as pa

    counts = end - first
    owner = np.repeat(np.arange(len(customers)), counts)
    rows = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
    t = moments[owner]
    visible = block.visible(rows, t)
    rows, owner, t = rows[visible], owner[visible], t[visible]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(customers)))]).astype(np.int64)
    since = {m.window.since for m in measures if m.window.since is not None}
    flags = {_since(d): Words((block.time[rows] >= d).astype(np.int32), (False, True)) for d in since}
    properties = {name: p.take(rows) for name, p in block.properties.items()} | flags
    time = block.time[rows] - t
    return Block(block.ids.take(pa.array(customers)), offsets, time, time, block.event[rows], block.names, properties)


def _since(instant: int) -> str:
    return f"since {instant}"


def as_seen(measure: Measure) -> Measure:
    """Return what virtual customers are asked: a fixed start of a window differs between them and becomes a filter."""
    since = measure.window.since
    if since is None:
        return measure
    events = replace(measure.events, where=(*measure.events.where, Filter(_since(since), (Test("is", (True,)),))))
    return replace(measure, events=events, window=Window(None, measure.window.until))


def _decide(condition: c.Condition, answers: dict[Measure, Values], customers: Array, moments: Array, facts: Facts | None) -> Truth:
    if isinstance(condition, c.Did):
        truth = compare(answers[condition.measure], condition.comparison)
        return Truth(truth.true[:, 0], truth.unknown[:, 0])
    if isinstance(condition, c.LAYERS):
        return layer(condition, [_decide(part, answers, customers, moments, facts) for part in condition.of])
    if facts is None:
        raise TypeError(f"{type(condition).__name__} needs facts")
    return facts(condition, customers, moments)


def transitions(
    block: Block, condition: c.Condition, after: int, until: int, *, facts: Facts | None = None, known: Known = Known(), only: Array | None = None
) -> tuple[Array, Array, Array]:
    """Return (customer, instant, member from then on) for each change of membership in (after, until], sorted.

    Nobody is a member before being known; ``after`` may lie before all of history. ``only`` restricts it to some customers.
    """
    first, gone = _first_known(block, known), _merged(block)
    block = _slim(block, condition, only)
    customer, t = changes(block, condition, after, until, known, (first, gone))
    if only is not None:
        customer, t = customer[only[customer]], t[only[customer]]
    if not len(customer):
        return customer, t, np.zeros(0, bool)
    now = truth_at(block, customer, t, condition, facts).true & (t >= first[customer]) & (t < gone[customer])
    heads = np.flatnonzero(np.diff(customer, prepend=-1))
    before = np.roll(now, 1)
    started = (first[customer[heads]] <= after) & (after < gone[customer[heads]])
    before[heads] = truth_at(block, customer[heads], np.full(len(heads), after), condition, facts).true & started
    changed = now != before
    return customer[changed], t[changed], now[changed]
