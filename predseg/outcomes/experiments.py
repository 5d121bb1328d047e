"""What writing to a segment did: its holdout or the variants of its split, compared.

Everybody counts in the group that the hash says, whether or not a message reached them: the groups differ by chance alone until
something is sent. A customer counts once, from the first moment at which it was a member under the present design (for a
segment with `on_enter` from when it entered), for a window of the same length. A window that has not ended yet waits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from predseg.evaluate.block import Array
from predseg.language.assignment import HOLDOUT, Experiment
from predseg.language.measures import SCALE
from predseg.language.time import DAY
from predseg.outcomes import rates
from predseg.outcomes.log import Log
from predseg.outcomes.means import Mean, compare, without_before
from predseg.outcomes.sequential import half_width

BEFORE = 90 * DAY
"""How long before it counts the spending of a customer is looked at, to take out of its value what was known before."""
MISMATCH = 0.001
"""Shares that chance would bring about more seldom than this are a fault of the set-up, and nothing is compared."""
CONTACTED = "contacted"
_ALPHA, _FEW, _FEW_DID = 0.05, 50, 10
_Range = tuple[float, float]


@dataclass(frozen=True)
class Units:
    """Customers in an experiment: ids, and from when each counts, int64 (k) microseconds."""

    customers: Array
    since: Array


@dataclass(frozen=True)
class Group:
    """One group: its declared share of everybody, its customers whose window has ended, how many of them did it, and what they spent.

    ``rate`` is None without customers, its 95 % interval then 0 to 1.
    """

    name: str
    share: float
    assigned: int
    customers: int
    did: int
    rate: float | None
    interval: _Range
    value: float | None


@dataclass(frozen=True)
class Effect:
    """A group minus its base.

    Attributes:
        difference: Of the rates, or of the means per customer.
        interval: For a look that was planned before.
        always: For looking as often as one likes; None while there is too little to say anything.
        ratio: One rate or mean over the other, with its interval; None where the base is 0.
        p: Two-sided, for the planned look, corrected for the number of comparisons, as are all intervals.
    """

    difference: float
    interval: _Range
    always: _Range | None
    ratio: float | None
    ratio_interval: _Range | None
    p: float


@dataclass(frozen=True)
class Comparison:
    """A group against its base: by who did it, by value per customer, and by value without what was known before (CUPED).

    ``spared`` is the share of the variance that CUPED took out; ``sees`` the smallest higher rate that so many customers would show.
    """

    group: str
    base: str
    did: Effect
    value: Effect | None
    adjusted: Effect | None
    spared: float | None
    sees: float | None
    verdict: str


@dataclass(frozen=True)
class Result:
    """An experiment as it stands; ``comparisons`` are empty when the shares are not as declared (``withheld``)."""

    groups: tuple[Group, ...]
    waiting: int
    p_shares: float | None
    withheld: bool
    comparisons: tuple[Comparison, ...]


def analyse(experiment: Experiment, units: Units, log: Log, as_of: int, within: int, *, detect: float = 0.1) -> Result:
    """Compare the groups of an experiment.

    Args:
        experiment: The design that was in force for all of the units.
        units: The customers, each once.
        log: The event that is hoped for, with its value, as known at as_of.
        as_of: The moment of looking.
        within: How long each customer is watched: (since, since + within].
        detect: The relative effect that the interval for repeated looks is tuned to; of no matter for its being right.
    """
    shares, pairs = group_shares(experiment), _pairs(experiment)
    names = np.array([name or (CONTACTED if CONTACTED in shares else "") for name in experiment.groups(units.customers)], object)
    counts = {name: int((names == name).sum()) for name in shares}
    p_shares = share_test(list(counts.values()), list(shares.values()))
    done = (units.since + within <= as_of) & (names != "")
    seen = _Seen(names[done], *_outcomes(log, log.positions(units.customers[done]), units.since[done], within))
    groups = tuple(seen.group(name, shares[name], counts[name]) for name in shares)
    withheld = p_shares is not None and p_shares < MISMATCH
    compared = [] if withheld else [pair for pair in pairs if min(seen.of(name).sum() for name in pair) > 1]
    found = tuple(seen.compare(group, base, _ALPHA / len(pairs), detect) for group, base in compared)
    return Result(groups, sum(counts.values()) - int(done.sum()), p_shares, withheld, found)


def group_shares(experiment: Experiment) -> dict[str, Fraction]:
    """Return the groups with their shares of all members; without a split, who is not held out is ``contacted``."""
    shares = experiment.shares()
    rest = shares.pop("", Fraction(0))
    return shares if experiment.split else {**shares, CONTACTED: rest}


def share_test(counts: Sequence[int], shares: Sequence[Fraction]) -> float | None:
    """Return how often chance alone brings counts so far from their shares (chi-square); None for nobody, or a single group that has a share."""
    from scipy.special import chdtrc

    total, whole = sum(counts), sum(shares)
    meant = [(n, float(total * share / whole)) for n, share in zip(counts, shares, strict=True) if share]
    if not total or len(meant) < 2:
        return None
    return float(chdtrc(len(meant) - 1, sum((n - e) ** 2 / e for n, e in meant)))


def _pairs(experiment: Experiment) -> list[tuple[str, str]]:
    """Which group is compared with which: each variant with the control, and everybody who is written to with the holdout."""
    base = experiment.control()
    found = [(name, base) for name in group_shares(experiment) if name not in (base, HOLDOUT)]
    return [*found, (CONTACTED, HOLDOUT)] if experiment.holdout and base != HOLDOUT else found


def _outcomes(log: Log, who: Array, since: Array, within: int) -> tuple[Array, Array, Array]:
    """Who did it, for how much, and how much they had spent before: bool, float, float (k)."""
    number, value = log.totals(who, since, since + within)
    _, before = log.totals(who, since - BEFORE, since)
    return number > 0, value / SCALE, before / SCALE


@dataclass(frozen=True)
class _Seen:
    """The customers whose window has ended."""

    name: Array
    did: Array
    value: Array
    before: Array

    def of(self, name: str) -> Array:
        return self.name != HOLDOUT if name == CONTACTED else self.name == name

    def group(self, name: str, share: Fraction, assigned: int) -> Group:
        mine = self.of(name)
        n, x = int(mine.sum()), int(self.did[mine].sum())
        low, high = rates.wilson(x, n)
        return Group(
            name, float(share), assigned, n, x, x / n if n else None, (float(low), float(high)), float(self.value[mine].mean()) if n else None
        )

    def compare(self, group: str, base: str, alpha: float, detect: float) -> Comparison:
        mine, other = self.of(group), self.of(base)
        did = _rate_effect(int(self.did[mine].sum()), int(mine.sum()), int(self.did[other].sum()), int(other.sum()), alpha, detect)
        both = mine | other
        plain = self.value[both]
        adjusted = without_before(plain, self.before[both], mine[both])
        value = _mean_effect(plain, mine[both], alpha, detect)
        spared = 1 - float(adjusted.var() / plain.var()) if plain.var() > 0 else None
        sees = rates.detectable(float(self.did[other].mean()), int(other.sum()), int(mine.sum()), alpha)
        verdict = _verdict(group, base, did)
        return Comparison(group, base, did, value, _mean_effect(adjusted, mine[both], alpha, detect), spared, sees, verdict)


def _rate_effect(x: int, n: int, x0: int, n0: int, alpha: float, detect: float) -> Effect:
    low, high = rates.difference_interval(x, n, x0, n0, 1 - alpha)
    least, most = rates.ratio_interval(x, n, x0, n0, 1 - alpha)
    p, p0 = (x + 0.5) / (n + 1), (x0 + 0.5) / (n0 + 1)
    enough = min(n, n0) >= _FEW and x + x0 >= _FEW_DID
    width = half_width(p * (1 - p) / n + p0 * (1 - p0) / n0, detect * p0, alpha) if enough else math.inf
    pval = min(1.0, float(rates.p_value(x, n, x0, n0)) * _ALPHA / alpha)
    d = x / n - x0 / n0
    ratio = (x / n) / (x0 / n0) if x0 else None
    return Effect(d, (float(low), float(high)), _around(d, width), ratio, (float(least), float(most)) if x0 else None, pval)


def _mean_effect(value: Array, mine: Array, alpha: float, detect: float) -> Effect | None:
    mean, base = Mean.of(value[mine]), Mean.of(value[~mine])
    found = compare(mean, base, 1 - alpha)
    if found is None:
        return None
    enough = min(mean.n, base.n) >= _FEW and np.count_nonzero(value) >= _FEW_DID and base.mean > 0
    width = half_width(mean.error + base.error, detect * base.mean, alpha) if enough else math.inf
    p = min(1.0, found.p * _ALPHA / alpha)
    return Effect(found.difference, found.interval, _around(found.difference, width), found.ratio, found.ratio_interval, p)


def _around(middle: float, width: float) -> _Range | None:
    return (middle - width, middle + width) if math.isfinite(width) else None


def _verdict(group: str, base: str, did: Effect) -> str:
    better = f"{group} does {'better' if did.difference > 0 else 'worse'} than {base}"
    if did.always is not None and (did.always[0] > 0 or did.always[1] < 0):
        return f"{better}, and that holds however often one looks"
    if did.interval[0] > 0 or did.interval[1] < 0:
        return f"{better}, if this is the one look that was planned; looking again and again, it is too early to say"
    return f"no difference between {group} and {base} can be seen yet"


@dataclass(frozen=True)
class Plan:
    """How many are needed to see a relative effect in 4 of 5 experiments, and how many days of entries that takes.

    ``customers`` is the number per group; ``days`` is None when nobody enters.
    """

    rate: float
    target: float
    customers: Mapping[str, int]
    per_day: float
    days: float | None


def plan(experiment: Experiment, rate: float, detect: float, per_day: float) -> Plan | None:
    """Say how large and how long an experiment must be; None where no two groups have a share to be compared.

    Args:
        experiment: The design.
        rate: How many of the base do it, 0 < rate < 1.
        detect: The relative effect that is to be seen, as 0.1 for a tenth more.
        per_day: How many customers come into the experiment a day.
    """
    pairs, shares = _pairs(experiment), {name: float(share) for name, share in group_shares(experiment).items()}
    shares.setdefault(CONTACTED, sum(share for name, share in shares.items() if name != HOLDOUT))
    target, total = min(rate * (1 + detect), 1 - 1e-9), 0.0
    for group, base in pairs:
        if min(shares[group], shares[base]) > 0:
            total = max(total, rates.needed(rate, target, shares[group] / shares[base], _ALPHA / len(pairs)) / shares[base])
    if not total:
        return None
    customers = {name: math.ceil(total * shares[name]) for name in group_shares(experiment)}
    return Plan(rate, target, customers, per_day, total / per_day if per_day > 0 else None)
