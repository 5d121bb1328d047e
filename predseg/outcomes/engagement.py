"""How members of a segment engage with what they are sent: by segment, campaign and period, with trends and warnings.

A delivery counts for the segments that its customer was a member of when it arrived: entered_at ≤ t < left_at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from predseg.evaluate.ahead import ahead
from predseg.evaluate.block import Array
from predseg.language.measures import SCALE
from predseg.language.time import DAY, WEEK
from predseg.outcomes import rates
from predseg.outcomes.deliveries import Deliveries
from predseg.outcomes.log import Timetable
from predseg.outcomes.trend import changes
from predseg.segments.memberships import Spells

if TYPE_CHECKING:
    import pandas as pd

EVERYONE = "everyone"
MONDAY = 4 * DAY
"""1970-01-05: weeks begin on Mondays, 00:00 UTC."""
SETTLED = 3 * DAY
"""Younger deliveries may still be clicked: warnings and trends leave them away."""
ENOUGH, FALSE_ALARMS = 100, 0.05
_FIELDS = ("delivered", "opened", "machine", "clicked", "unsubscribed", "complained", "converted", "orders", "revenue")


@dataclass(frozen=True)
class Rate:
    """A share with its 95 % Wilson interval; None of nobody."""

    value: float | None
    low: float
    high: float

    @classmethod
    def of(cls, part: int, whole: int) -> Rate:
        """Return the rate of some of a whole."""
        low, high = rates.wilson(part, whole)
        return cls(part / whole if whole else None, float(low), float(high))


@dataclass(frozen=True)
class Figures:
    """What came of some deliveries. ``machine`` counts those that only machines opened, as far as can be told; revenue is money."""

    delivered: int
    opened: int
    machine: int
    clicked: int
    unsubscribed: int
    complained: int
    converted: int
    orders: int
    revenue: float
    ctr: Rate
    click_to_open: Rate

    @classmethod
    def of(cls, counts: Mapping[str, int]) -> Figures:
        """Return the figures of counts: CTR is clicked of delivered, click-to-open is clicked of those that a person opened."""
        n = {name: int(counts[name]) for name in _FIELDS}
        revenue = n.pop("revenue") / SCALE
        return cls(**n, revenue=revenue, ctr=Rate.of(n["clicked"], n["delivered"]), click_to_open=Rate.of(n["clicked"], n["opened"] - n["machine"]))


@dataclass(frozen=True)
class Campaign:
    """One campaign in one segment, first and last delivered when."""

    campaign: str
    first: int
    last: int
    figures: Figures


@dataclass(frozen=True)
class Period:
    """One period [start, end) of one segment."""

    start: int
    end: int
    figures: Figures


@dataclass(frozen=True)
class Turn:
    """From the week that begins at ``at`` on, the click rate is another."""

    at: int
    before: float
    after: float


@dataclass(frozen=True)
class Warned:
    """A click rate that is lower than another, beyond what chance and the number of comparisons explain.

    ``against`` is its own earlier rate, or that of everyone else at the same time; p is corrected (Benjamini and Hochberg).
    """

    segment: str
    against: str
    ctr: Rate
    other: Rate
    p: float


@dataclass(frozen=True)
class Engaged:
    """The engagement of one segment, or of everyone."""

    segment: str
    figures: Figures
    campaigns: tuple[Campaign, ...]
    periods: tuple[Period, ...]
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class Engagement:
    """Engagement with deliveries of (since, as_of]. ``recorded`` says from when on memberships are recorded, None when they are not."""

    since: int
    as_of: int
    segments: tuple[Engaged, ...]
    warnings: tuple[Warned, ...]
    recorded: int | None


def engagement(
    sent: Deliveries, spells: Mapping[str, Spells], since: int, as_of: int, every: int = 4 * WEEK, alarms: float = FALSE_ALARMS
) -> Engagement:
    """Add up what came of deliveries.

    Args:
        sent: The deliveries known at as_of.
        spells: The memberships of each segment.
        since: Only deliveries after it.
        as_of: The moment of looking.
        every: The length of a period.
        alarms: How many of the warnings may be false, on average.
    """
    sent = sent.take(np.flatnonzero((sent.time > since) & (sent.time <= as_of)))
    ready = looked_up(sent)
    inside = {EVERYONE: np.ones(len(sent.time), bool)} | {name: members_when_sent(sent, s, ready) for name, s in spells.items()}
    found = tuple(ahead(lambda one: _engaged(sent, one[0], one[1], as_of, every), inside.items()))
    first = [int(s.entered.min()) for s in spells.values() if len(s.entered)]
    return Engagement(since, as_of, found, warnings(sent, inside, as_of, every, alarms), min(first) if first else None)


def looked_up(sent: Deliveries) -> tuple[pd.Index, Timetable]:
    """Return the customers of deliveries by their ids, and their deliveries by time: made once for all segments."""
    import pandas as pd

    return pd.Index(sent.customers, dtype=object), Timetable(sent.customer, sent.time)


def members_when_sent(sent: Deliveries, spells: Spells, ready: tuple[pd.Index, Timetable] | None = None) -> Array:
    """Return which deliveries arrived at members, bool (r); ``ready`` is what `looked_up` returns."""
    index, rows = ready or looked_up(sent)
    customer = np.asarray(index.get_indexer(np.asarray(spells.customers, object)))
    known = customer >= 0
    begin = rows.after(customer[known], spells.entered[known] - 1)
    end = rows.after(customer[known], spells.left[known] - 1)
    steps = np.zeros(len(sent.time) + 1, np.int64)
    np.add.at(steps, begin, 1)
    np.add.at(steps, end, -1)
    return np.cumsum(steps)[:-1] > 0


def _columns(sent: Deliveries) -> dict[str, Array]:
    one = np.ones(len(sent.time), np.int64)
    same = {name: getattr(sent, name) for name in ("opened", "machine", "clicked", "unsubscribed", "complained", "orders", "revenue")}
    return {"delivered": one, **same, "converted": sent.orders > 0}


def _engaged(sent: Deliveries, name: str, mask: Array, as_of: int, every: int) -> Engaged:
    rows = np.flatnonzero(mask)
    columns = {field: column[rows].astype(np.int64) for field, column in _columns(sent).items()}
    time, campaign = sent.time[rows], sent.campaign[rows]
    whole = Figures.of({field: int(column.sum()) for field, column in columns.items()})
    campaigns = [
        Campaign(sent.campaigns[int(code)] if code >= 0 else "", int(time[at].min()), int(time[at].max()), figures)
        for code, at, figures in _by(campaign, columns)
    ]
    number = (time - MONDAY) // every
    periods = [Period(int(k) * every + MONDAY, int(k + 1) * every + MONDAY, figures) for k, _, figures in _by(number, columns)]
    turns = _turns(time, columns["clicked"], as_of)
    return Engaged(name, whole, tuple(sorted(campaigns, key=lambda c: (c.first, c.campaign))), tuple(periods), turns)


def _by(key: Array, columns: Mapping[str, Array]) -> list[tuple[int, Array, Figures]]:
    """Return, by ascending key, its rows and their figures."""
    order = np.argsort(_narrow(key), kind="stable")
    first = _firsts(key[order])
    values = key[order][first]
    sums = {field: np.add.reduceat(column[order], first) if len(first) else column[:0] for field, column in columns.items()}
    parts = np.split(order, first[1:]) if len(first) else []
    return [
        (int(v), at, Figures.of({field: column[i] for field, column in sums.items()})) for i, (v, at) in enumerate(zip(values, parts, strict=True))
    ]


def _narrow(key: Array) -> Array:
    """Return numbers in the same order, of 16 bits where they fit: those are sorted in one pass."""
    low = key.min(initial=0)
    return (key - low).astype(np.uint16) if key.max(initial=0) - low < 2**16 else key


def _firsts(key: Array) -> Array:
    """Return where each value of sorted numbers begins."""
    return np.append(0, np.flatnonzero(key[1:] != key[:-1]) + 1)[: len(key)]


def _turns(time: Array, clicked: Array, as_of: int) -> tuple[Turn, ...]:
    """Return where the weekly click rate changed."""
    kept = time <= as_of - SETTLED
    week, code = np.unique((time[kept] - MONDAY) // WEEK, return_inverse=True)
    if not len(week):
        return ()
    found = changes(np.bincount(code, weights=clicked[kept]), np.bincount(code))
    return tuple(Turn(int(week[c.at]) * WEEK + MONDAY, c.before, c.after) for c in found)


def warnings(sent: Deliveries, inside: Mapping[str, Array], as_of: int, every: int = 4 * WEEK, alarms: float = FALSE_ALARMS) -> tuple[Warned, ...]:
    """Say which click rates of the last period are low, against their own before and against everyone else's.

    Deliveries to the same customer are alike, so the test is one of customers: the statistic is divided by what the
    likeness adds to its spread.
    """
    settled = sent.time <= as_of - SETTLED
    late = settled & (sent.time > as_of - SETTLED - every)
    found = []
    for name, mask in inside.items():
        now = mask & late
        others = {"its own before": mask & settled & ~late} | ({"everyone else": inside[EVERYONE] & late & ~mask} if name != EVERYONE else {})
        for against, other in others.items():
            if min(now.sum(), other.sum()) >= ENOUGH:
                found.append((name, against, _rate(sent, now), _rate(sent, other), _lower(sent, now, other)))
    corrected = benjamini_hochberg([p for *_, p in found])
    return tuple(Warned(*row[:4], p=p) for row, p in zip(found, corrected, strict=True) if p < alarms)


def _rate(sent: Deliveries, mask: Array) -> Rate:
    return Rate.of(int(sent.clicked[mask].sum()), int(mask.sum()))


def _lower(sent: Deliveries, now: Array, other: Array) -> float:
    """Return the one-sided p-value that the rate now is not lower than the other."""
    from scipy.special import ndtr, ndtri

    x, n, x0, n0 = int(sent.clicked[now].sum()), int(now.sum()), int(sent.clicked[other].sum()), int(other.sum())
    two_sided = max(float(rates.p_value(x, n, x0, n0)), 1e-300)
    z = ndtri(two_sided / 2) * (1 if x / n < x0 / n0 else -1)
    return float(ndtr(z / np.sqrt(max(_likeness(sent, now), _likeness(sent, other)))))


def _likeness(sent: Deliveries, mask: Array) -> float:
    """Return how many times the variance of a rate is that of independent deliveries: over customers, at least 1."""
    customer, clicked = sent.customer[mask], sent.clicked[mask]
    first = _firsts(customer)  # deliveries are sorted by customer
    p = clicked.mean()
    if not 0 < p < 1 or len(first) < 2:
        return 1.0
    each = np.diff(first, append=len(customer))
    away = np.add.reduceat(clicked.astype(np.int64), first) - p * each
    return max(1.0, float((away**2).sum() / (len(customer) * p * (1 - p))) * len(each) / (len(each) - 1))


def benjamini_hochberg(p: Sequence[float]) -> list[float]:
    """Return p-values corrected so that of those under 5 %, on average at most 5 % are false alarms.

    Benjamini and Hochberg, "Controlling the false discovery rate", Journal of the Royal Statistical Society B 57 (1995).

    >>> benjamini_hochberg([0.01, 0.04, 0.03])
    [0.03, 0.04, 0.04]
    """
    order = np.argsort(p)
    ranked = np.asarray(p, float)[order] * len(p) / np.arange(1, len(p) + 1)
    found = np.empty(len(p))
    found[order] = np.minimum(np.minimum.accumulate(ranked[::-1])[::-1], 1.0)
    return [float(round(value, 15)) for value in found]
