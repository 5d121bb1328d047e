"""The hidden lives of customers and what comes of them: visits, carts left and recovered, e-mails answered.

Everything is drawn in operational days (`predseg.shop.clock`) and kept in instants.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from predseg.language.time import DAY, HOUR, MINUTE, YEAR
from predseg.shop.clock import Clock, Floats, Ints
from predseg.shop.kinds import Group, Kind

NEVER = np.iinfo(np.int64).max
BROWSE, CART, CHECKOUT, ORDER = range(4)
"""How far a visit goes."""
OPEN, CLICK, CLICK_ORDER, UNSUBSCRIBE = range(4)
"""How an e-mail is answered."""
RESPONSE_LIMIT = 1.5
"""Every answer comes within so many operational days of the delivery, which is always before the next mailing."""
RETURN_DELAY = 0.02
"""No customer returns to a cart within so many operational days."""
_OPENING = 45.0
_LONGEST = 100 * 365.0
_SEND_AT = 9 * HOUR


@dataclass(frozen=True)
class People:
    """The hidden state of customers, one element each; rates are per operational day."""

    group: Ints
    signed: Ints  # the instant at which the visit that opens the account ends
    visit_rate: Floats
    conversion: Floats
    open_rate: Floats
    dropout: Floats
    lost: Floats  # operational day of the dropout
    wealth: Floats
    favourite: Ints
    subscribed: np.ndarray
    jitter: Ints  # microseconds after the mailing at which the e-mail of the customer is delivered


@dataclass(frozen=True)
class Visits:
    """What customers do of their own accord, sorted by customer and time; the first visit of each opens the account."""

    customer: Ints
    time: Ints  # the end of the visit
    outcome: Ints
    first: np.ndarray
    back: Ints  # the end of the visit that orders what was left in the cart, or NEVER


@dataclass(frozen=True)
class Mail:
    """Deliveries, sorted by customer and time, each with its answer."""

    customer: Ints
    mailing: Ints
    delivered: Ints
    answered: Ints  # the instant, or NEVER
    answer: Ints  # OPEN, CLICK, CLICK_ORDER or UNSUBSCRIBE; -1 without


def mailings(kind: Kind, start: int, until: int) -> Ints:
    """Return the instants of all mailings from the opening to ``until``, at nine in the morning."""
    first = start // DAY * DAY + _SEND_AT + DAY
    return np.arange(first, until, kind.email_days * DAY, dtype=np.int64)


def per_group(groups: tuple[Group, ...], members: Ints, value: str) -> Floats:
    """Return one declared number of the group of each customer."""
    return np.array([getattr(g, value) for g in groups], dtype=np.float64)[members]


def draw_people(kind: Kind, clock: Clock, end: int, count: int, rng: np.random.Generator) -> People:
    """Draw the hidden state of ``count`` customers who sign up before ``end``."""
    groups = kind.groups
    group = np.searchsorted(np.cumsum([g.share for g in groups])[:-1], rng.random(count), side="right").astype(np.int64)
    signed = clock.instant(_sign_ups(kind, float(clock.busy(end)), count, rng))
    rates = rng.gamma(per_group(groups, group, "visit_shape")) / per_group(groups, group, "visit_scale")
    conversion, opens = (
        rng.beta(*np.array([getattr(g, law) for g in groups])[group].T) for law in ("conversion_law", "opens_law")
    )  # fmt: skip
    dropout = rng.gamma(per_group(groups, group, "dropout_shape")) / per_group(groups, group, "dropout_scale")
    life = np.minimum(rng.exponential(size=count) / np.maximum(dropout, 1e-12), _LONGEST)
    return People(
        group,
        signed,
        rates,
        conversion,
        opens,
        dropout,
        clock.busy(signed) + life,
        per_group(groups, group, "wealth") + rng.standard_normal(count),
        _favourites(kind, group, rng),
        rng.random(count) < kind.subscribed,
        rng.integers(0, 30 * MINUTE // 1000, count) * 1000,
    )


def _sign_ups(kind: Kind, until: float, count: int, rng: np.random.Generator) -> Floats:
    """Return operational days: a share right after the opening, the others at a rate that grows exponentially."""
    growth = max(float(np.log1p(kind.growth)) / 365, 1e-9)
    grown = np.log1p(rng.random(count) * np.expm1(growth * until)) / growth
    opening = rng.random(count) * min(_OPENING, until)
    return np.where(rng.random(count) < kind.at_opening, opening, grown)


def _favourites(kind: Kind, group: Ints, rng: np.random.Generator) -> Ints:
    names = [c.name for c in kind.categories]
    weights = np.array([c.weight for c in kind.categories])
    found = np.zeros(len(group), dtype=np.int64)
    for i, declared in enumerate(kind.groups):
        mine = group == i
        allowed = np.array([not declared.favourites or name in declared.favourites for name in names]) * weights
        found[mine] = rng.choice(len(names), mine.sum(), p=allowed / allowed.sum())
    return found


def draw_visits(kind: Kind, people: People, clock: Clock, end: int, rng: np.random.Generator) -> Visits:
    """Draw the visits up to ``end``: a Poisson law while the customer is not lost, each with its outcome and its return."""
    born, until = clock.busy(people.signed), np.minimum(people.lost, clock.busy(end))
    span = np.maximum(until - born, 0)
    number = rng.poisson(people.visit_rate * span)
    owner = np.repeat(np.arange(len(born)), number)
    day = born[owner] + span[owner] * rng.random(len(owner))
    customer = np.concatenate((np.arange(len(born)), owner))
    first = np.arange(len(customer)) < len(born)
    time = np.concatenate((people.signed, clock.instant(day)))
    order = np.lexsort((time, ~first, customer))
    customer, first, time = customer[order], first[order], time[order]
    outcome = _outcomes(kind, people, customer, first, rng)
    return Visits(customer, time, outcome, first, _returns(kind, people, clock, customer, time, outcome, rng))


def _outcomes(kind: Kind, people: People, customer: Ints, first: np.ndarray, rng: np.random.Generator) -> Ints:
    group = people.group[customer]
    bought = rng.random(len(customer)) < np.where(first, per_group(kind.groups, group, "first_order"), people.conversion[customer])
    left = rng.random(len(customer)) < per_group(kind.groups, group, "cart")
    checked = rng.random(len(customer)) < 0.35
    return np.where(bought, ORDER, np.where(left, np.where(checked, CHECKOUT, CART), BROWSE)).astype(np.int64)


def _returns(
    kind: Kind, people: People, clock: Clock, customer: Ints, time: Ints, outcome: Ints, rng: np.random.Generator
) -> Ints:  # fmt: skip
    chance = per_group(kind.groups, people.group[customer], "returns")
    returns = (rng.random(len(customer)) < chance) & ((outcome == CART) | (outcome == CHECKOUT))
    delay = RETURN_DELAY + rng.exponential(kind.return_days, len(customer))
    return np.where(returns, clock.instant(clock.busy(time) + delay), NEVER)


def response_share(days: Floats, kind: Kind) -> Floats:
    """Return the share of the answers that have come so many operational days after the delivery."""
    scale = kind.response_days
    return np.clip(-np.expm1(-np.clip(days, 0, RESPONSE_LIMIT) / scale) / -np.expm1(-RESPONSE_LIMIT / scale), 0, 1)


def draw_mail(kind: Kind, people: People, clock: Clock, start: int, end: int, rng: np.random.Generator) -> Mail:
    """Draw all deliveries up to ``end`` and their answers; an unsubscription ends the deliveries."""
    customers = np.arange(len(people.group))
    open_until = np.where(people.subscribed, NEVER, np.int64(0))
    parts = []
    for mailing, sent in enumerate(mailings(kind, start, end)):
        delivered = sent + people.jitter
        gets = (delivered > people.signed) & (delivered < open_until) & (delivered < end)
        day = clock.busy(delivered)
        answers = gets & (day < people.lost) & (rng.random(len(customers)) < people.open_rate)
        answer = _answers(kind, people.group, rng)
        share = rng.random(len(customers)) * -np.expm1(-RESPONSE_LIMIT / kind.response_days)
        delay = -np.log1p(-share) * kind.response_days
        answered = np.where(answers, np.maximum(clock.instant(day + delay), delivered + 2000), NEVER)
        open_until = np.where(answers & (answer == UNSUBSCRIBE), answered, open_until)
        parts.append(np.stack((customers, np.full_like(customers, mailing), delivered, answered, np.where(answers, answer, -1)))[:, gets])
    rows = np.concatenate(parts, axis=1) if parts else np.zeros((5, 0), dtype=np.int64)
    rows = rows[:, np.lexsort((rows[2], rows[0]))]
    return Mail(*rows)


def _answers(kind: Kind, group: Ints, rng: np.random.Generator) -> Ints:
    leaves, clicks, buys = (rng.random(len(group)) < per_group(kind.groups, group, what) for what in ("unsubscribes", "clicks", "email_order"))
    return np.where(leaves, UNSUBSCRIBE, np.where(clicks, np.where(buys, CLICK_ORDER, CLICK), OPEN)).astype(np.int64)


def lost_at(people: People, clock: Clock) -> Ints:
    """Return the instant of each dropout; at most about a century ahead."""
    return np.minimum(clock.instant(people.lost), clock.knots[0] + 110 * YEAR)
