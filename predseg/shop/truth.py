"""The exact probability of an order, from the hidden state or from the history alone. The formulas are in `predseg.shop`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from predseg.errors import UsageError
from predseg.language.time import DAY, parse_instant, say_instant
from predseg.shop.clock import Clock, Floats, Ints, make_clock
from predseg.shop.kinds import Kind, from_json
from predseg.shop.lives import RESPONSE_LIMIT, RETURN_DELAY, mailings, per_group, response_share
from predseg.shop.tables import micros, reals

_NODES, _WEIGHTS = ((x + shift) / 2 for x, shift in zip(np.polynomial.legendre.leggauss(4), (1, 0), strict=True))
_FINE, _FINE_WEIGHTS = ((x + shift) / 2 for x, shift in zip(np.polynomial.legendre.leggauss(16), (1, 0), strict=True))
"""Gauss-Legendre nodes on [0, 1]: for integrals over the time of dropout, and over the quantiles of a Beta law."""

Given = Literal["state", "history"]


@dataclass(frozen=True)
class _Belief:
    """What is known of each customer at the moment: laws of the rates, given that the customer is not lost."""

    conversion: Floats  # customers × nodes
    open_rate: Floats  # customers × nodes
    weights: Floats  # nodes
    survival: Callable[[Floats], Floats]  # operational days ahead → probability of not being lost by then
    density: Callable[[Floats], Floats]
    no_visit: Callable[[Floats], Floats]  # expected visits per unit of rate (customers × nodes) → probability of none
    lost_early: Floats  # weight of: lost before the last delivery that may still be answered; alive now has weight 1
    lost_late: Floats  # weight of: lost since


def true_probability(truth: pa.Table, as_of: int, horizon: int, given: Given = "state") -> Floats:
    """Return P(at least one order in (as_of, as_of + horizon]) of every customer of the truth table, in its order.

    Args:
        truth: The truth table of a shop (``Shop.truth``, or ``data/truth.parquet`` read with pyarrow: its metadata is needed).
        as_of: An instant in microseconds, from the opening of the shop to the end of its data.
        horizon: A duration in microseconds, over 0 and at most two years.
        given: ``"state"`` knows the hidden rates of the customer and whether it is lost by ``as_of``, not when it will be;
            ``"history"`` knows the visits, orders, carts and e-mails up to ``as_of``, the group of the customer, and the laws
            from which the rates are drawn: no forecast from the data can be better, on average, in any proper score.

    Returns:
        float64, NaN where the account is not open by ``as_of``.

    Raises:
        UsageError: E206, an argument is outside of what is described above, or the table has no metadata.

    >>> from predseg.shop import simulate
    >>> from predseg.language.time import DAY
    >>> shop = simulate(customers=20, days=90, seed=3)
    >>> p = true_probability(shop.truth, shop.start + 80 * DAY, 30 * DAY)
    >>> p.shape, bool(np.nanmin(p) >= 0), bool(np.nanmax(p) < 1)
    ((20,), True, True)
    """
    kind, clock, start, end = _about(truth)
    if not (start <= as_of <= end and 0 < horizon <= 730 * DAY and given in ("state", "history")):
        found = f"{say_instant(as_of)}, {horizon / DAY:g} days, {given!r}"
        rule = f"an as_of from {say_instant(start)} to {say_instant(end)}, a horizon up to 730 days, and 'state' or 'history'"
        raise UsageError("E206", "true_probability", f"found {found}; expected {rule}")
    case = _Case(truth, kind, clock, start, as_of, horizon)
    none = _no_order(case, _from_state(case) if given == "state" else _from_history(case)) * case.no_return()
    return np.where(case.known, 1 - none, np.nan)


def _about(truth: pa.Table) -> tuple[Kind, Clock, int, int]:
    about = {k.decode(): v.decode() for k, v in (truth.schema.metadata or {}).items()}
    if not {"kind", "start", "days"} <= set(about):
        raise UsageError("E206", "truth", "the table has no metadata of a simulated shop", "read data/truth.parquet with pyarrow.parquet.read_table")
    kind, start, days = from_json(about["kind"]), parse_instant(about["start"]), int(about["days"])
    return kind, make_clock(start, days, kind.season), start, start + days * DAY


class _Case:
    """The truth table seen from one moment, in operational days."""

    def __init__(self, truth: pa.Table, kind: Kind, clock: Clock, start: int, as_of: int, horizon: int) -> None:
        self.kind, self.clock, self.truth, self.as_of = kind, clock, truth, as_of
        self.now = float(clock.busy(as_of))
        self.ahead = float(clock.busy(as_of + horizon)) - self.now
        self.signed = micros(truth["signed"])
        self.known = self.signed <= as_of
        self.born = np.minimum(clock.busy(self.signed), self.now)
        names = {g.name: i for i, g in enumerate(kind.groups)}
        self.group = np.array([names[g] for g in truth["group"].to_pylist()])
        self.jitter = micros(truth["jitter"])
        self.left = micros(truth["unsubscribed_at"])
        self.subscribed = truth["subscribed"].to_numpy()
        self.mailings = mailings(kind, start, as_of + horizon)
        self._read_answers()

    def law(self, name: str) -> Floats:
        """One declared number of the group of each customer."""
        return per_group(self.kind.groups, self.group, name)

    def pair(self, name: str) -> tuple[Floats, Floats]:
        """The two parameters of a Beta law of the group of each customer."""
        both = np.array([getattr(g, name) for g in self.kind.groups])[self.group]
        return both[:, 0], both[:, 1]

    def listed(self, name: str) -> tuple[Ints, np.ndarray]:
        """The customer and the value of every element of a column of lists."""
        column = self.truth[name].combine_chunks()
        sizes = np.diff(column.offsets.to_numpy())
        return np.repeat(np.arange(len(sizes)), sizes), _flat(column.flatten())

    def count(self, owner: Ints, chosen: np.ndarray) -> Floats:
        """How many of the elements are chosen, by customer."""
        return np.bincount(owner[chosen], minlength=len(self.group)).astype(np.float64)

    def latest(self, owner: Ints, day: Floats, chosen: np.ndarray) -> Floats:
        """The last operational day of the chosen elements, by customer; at least that of the first visit."""
        found = self.born.copy()
        np.maximum.at(found, owner[chosen], day[chosen])
        return found

    def _read_answers(self) -> None:
        """Find how many e-mails are answered by now, the last of them, and the delivery that may still be answered."""
        owner, answered = self.listed("answered")
        delivered = self.listed("delivered")[1]
        chosen = answered <= self.as_of
        self.answers = self.count(owner, chosen)
        self.last_answered = self.latest(owner, self.clock.busy(delivered), chosen)
        self.deliveries = [self.delivery(k) for k in range(len(self.mailings)) if self.mailings[k] <= self.as_of]
        self.pending = np.full(len(self.group), np.inf)  # operational day of the delivery that may still be answered
        for day, gets in self.deliveries[-1:]:
            waits = gets & (day <= self.now) & (day > self.now - RESPONSE_LIMIT) & (day > self.last_answered)
            self.pending = np.where(waits, day, self.pending)

    def delivery(self, mailing: int) -> tuple[Floats, np.ndarray]:
        """The operational day of a delivery, and who gets it as far as is known now."""
        instant = self.mailings[mailing] + self.jitter
        gets = self.subscribed & (instant > self.signed) & self.known
        unsubscribed = (self.left <= self.as_of) & (instant >= self.left)
        return self.clock.busy(instant), gets & ~unsubscribed

    def no_return(self) -> Floats:
        """P(no cart that was left by now is recovered within the horizon)."""
        owner, left = self.listed("carts")
        back = self.listed("returns")[1]
        waits = (left <= self.as_of) & (back > self.as_of)
        owner, age = owner[waits], self.now - self.clock.busy(left[waits])
        chance = self.law("returns")[owner]
        past, future = (_returned(d, self.kind) for d in (age, age + self.ahead))
        log_none = np.log1p(-chance * (future - past) / (1 - chance * past))
        return np.exp(np.bincount(owner, weights=log_none, minlength=len(self.group)))


def _flat(values: pa.Array) -> Ints:
    return micros(pa.chunked_array([values]))


def _returned(days: Floats, kind: Kind) -> Floats:
    """The share of the returns that have come so many operational days after the cart was left."""
    return -np.expm1(-np.maximum(days - RETURN_DELAY, 0) / kind.return_days)


def _from_state(case: _Case) -> _Belief:
    """Know the rates, and whether the customer is lost."""
    rate, dropout = (reals(case.truth[c]) / 365 for c in ("visits_per_year", "dropout_per_year"))
    lost = case.clock.busy(micros(case.truth["lost_at"]))
    gone = lost <= case.now
    late = gone & (lost > case.pending)
    return _Belief(
        reals(case.truth["conversion"])[:, None],
        reals(case.truth["open_rate"])[:, None],
        np.ones(1),
        lambda d: np.exp(-dropout * d),
        lambda d: dropout * np.exp(-dropout * d),
        lambda expected: np.exp(-rate[:, None] * expected),
        np.where(gone & ~late, np.inf, 0.0),
        np.where(late, np.inf, 0.0),
    )


def _from_history(case: _Case) -> _Belief:
    """Update the declared laws by the history: all of them are conjugate, given the time of dropout."""
    owner, time = case.listed("visits")
    ordered = case.listed("ordered")[1].astype(bool)
    past = time <= case.as_of
    visits, orders = case.count(owner, past), case.count(owner, past & ordered)
    last = np.maximum(case.latest(owner, case.clock.busy(time), past), case.last_answered)
    age = case.now - case.born
    (a, b), (c, d) = case.pair("conversion_law"), case.pair("opens_law")
    shape, scale = case.law("visit_shape") + visits, case.law("visit_scale") + age
    dropout_shape, dropout_scale = case.law("dropout_shape"), case.law("dropout_scale") + age
    misses = sum((gets & (day <= case.now) for day, gets in case.deliveries), np.zeros(len(age))) - case.answers - np.isfinite(case.pending)
    opens = _quantiles(c + case.answers, d + misses)
    early, late = _lost(case, last, shape, visits, (c, d), misses)
    unanswered = (1 - opens * _answered_by_now(case)[:, None]) @ _FINE_WEIGHTS
    return _Belief(
        _quantiles(a + orders, b + visits - orders),
        opens,
        _FINE_WEIGHTS,
        lambda x: (dropout_scale / (dropout_scale + x)) ** dropout_shape,
        lambda x: dropout_shape / (dropout_scale + x) * (dropout_scale / (dropout_scale + x)) ** dropout_shape,
        lambda expected: (scale[:, None] / (scale[:, None] + expected)) ** shape[:, None],
        early / unanswered,
        late,
    )


def _quantiles(a: Floats, b: Floats) -> Floats:
    """The quantiles of Beta laws at the fine nodes: customers × nodes."""
    from scipy.special import betaincinv

    found: Floats = betaincinv(a[:, None], b[:, None], _FINE[None, :])
    return found


def _lost(case: _Case, last: Floats, shape: Floats, visits: Floats, opens: tuple[Floats, Floats], misses: Floats) -> tuple[Floats, Floats]:
    """Weigh being lost since ``last``, the last sign of life, against being alive now: before and after the open delivery.

    Between two deliveries the likelihood of the time of dropout is smooth, and is integrated by Gauss-Legendre.
    """
    early, late = np.zeros_like(last), np.zeros_like(last)
    s, beta, alpha = case.law("dropout_shape"), case.law("dropout_scale"), case.law("visit_scale")
    age = case.now - case.born
    power = case.law("visit_shape") + visits

    def weight(t: Floats, missed: Floats) -> Floats:
        lived = t - case.born
        rates = s * np.log((beta + age) / (beta + lived)) + power * np.log((alpha + age) / (alpha + lived))
        return s / (beta + lived) * np.exp(rates) * _miss_ratio(opens, case.answers, missed, misses)

    edges = [(np.full_like(last, -np.inf), np.zeros(len(last), bool)), *case.deliveries]
    got = np.zeros_like(last)
    for i, (day, gets) in enumerate(edges):
        got = got + (gets & (day <= case.now))
        upper = edges[i + 1][0] if i + 1 < len(edges) else np.full_like(last, np.inf)
        low, high = np.clip(day, last, case.now), np.clip(upper, last, case.now)
        if not (high > low).any():
            continue
        is_late = low >= case.pending
        missed = got - case.answers - is_late
        part = sum(w * weight(low + (high - low) * x, np.maximum(missed, 0)) for x, w in zip(_NODES, _WEIGHTS, strict=True)) * (high - low)
        early, late = early + np.where(is_late, 0, part), late + np.where(is_late, part, 0)
    return early, late


def _miss_ratio(opens: tuple[Floats, Floats], answers: Floats, missed: Floats, misses: Floats) -> Floats:
    """The likelihood of ``missed`` unanswered e-mails against that of all ``misses``, over the Beta law of answering."""
    from scipy.special import betaln

    found: Floats = np.exp(betaln(opens[0] + answers, opens[1] + missed) - betaln(opens[0] + answers, opens[1] + misses))
    return found


def _answered_by_now(case: _Case) -> Floats:
    """The share of the answers to the open delivery that would have come by now; 0 without one."""
    return np.where(np.isfinite(case.pending), response_share(case.now - np.where(np.isfinite(case.pending), case.pending, case.now), case.kind), 0.0)


def _no_order(case: _Case, belief: _Belief) -> Floats:
    """P(no order from future visits and e-mails): over the ways in which the customer may be or become lost."""
    waits, leaves = np.isfinite(case.pending), case.law("unsubscribes")[:, None]
    buys = (1 - leaves) * (case.law("clicks") * case.law("email_order"))[:, None]
    passed = _answered_by_now(case)[:, None]
    until = np.where(waits, response_share(case.now + case.ahead - np.where(waits, case.pending, case.now), case.kind), 0.0)[:, None]
    o = belief.open_rate
    unanswered = (1 - o * passed) @ belief.weights
    out = o * leaves * np.where(waits[:, None], 1 - passed, 0)  # will unsubscribe by the open delivery
    stays = 1 - o * passed - out - o * buys * (until - passed)
    alive = _alive(case, belief, stays, out, leaves, buys) / unanswered
    lost_late = (1 - o * passed - o * buys * (until - passed)) @ belief.weights / unanswered
    early, late = belief.lost_early, belief.lost_late
    known = np.isinf(early) | np.isinf(late)  # the state says so
    with np.errstate(invalid="ignore"):
        mixed = (alive + early + late * lost_late) / (1 + early + late)
    return np.where(known, np.where(np.isinf(late), lost_late, 1.0), mixed)


def _alive(case: _Case, belief: _Belief, stays: Floats, out: Floats, leaves: Floats, buys: Floats) -> Floats:
    """Integrate over the time of dropout: between two deliveries, and at the end of the horizon the rest."""
    done = np.zeros(len(case.group))
    total = np.zeros(len(case.group))
    for k in np.flatnonzero(case.mailings + int(case.jitter.max(initial=0)) > case.as_of):
        day, gets = case.delivery(int(k))
        gets = gets & (day > case.now)
        at = np.clip(day - case.now, 0, case.ahead)
        total += ((stays + out) @ belief.weights) * _lost_between(case, belief, done, at)
        ordered = belief.open_rate * buys * response_share(case.ahead - at, case.kind)[:, None]
        gone = np.where(gets[:, None], belief.open_rate * leaves, 0)
        out = out + stays * gone
        stays = stays * np.where(gets[:, None], 1 - gone - ordered, 1)
        done = at
    whole = np.full_like(done, case.ahead)
    mail = (stays + out) @ belief.weights
    return total + mail * (_lost_between(case, belief, done, whole) + belief.survival(whole) * _no_visit_order(case, belief, whole))


def _lost_between(case: _Case, belief: _Belief, low: Floats, high: Floats) -> Floats:
    """The integral of the density of dropout times P(no order from visits until then)."""
    found = np.zeros_like(low)
    for x, w in zip(_NODES, _WEIGHTS, strict=True):
        day = low + (high - low) * x
        found += w * belief.density(day) * _no_visit_order(case, belief, day)
    return found * (high - low)


def _no_visit_order(case: _Case, belief: _Belief, until: Floats) -> Floats:
    """P(no order in the horizon from visits of the next ``until`` operational days, nor from the carts that they leave)."""
    reach, scale = np.maximum(case.ahead - RETURN_DELAY, 0), case.kind.return_days
    short = np.minimum(until, reach)
    recovered = short - scale * (np.exp(-(reach - short) / scale) - np.exp(-reach / scale))
    p = belief.conversion
    expected = p * until[:, None] + (1 - p) * (case.law("cart") * case.law("returns") * recovered)[:, None]
    return belief.no_visit(expected) @ belief.weights
