"""From lives to rows: every visit and every answered e-mail becomes a session, every session its events.

A session is laid out backwards from its end, the instant that the laws of `predseg.shop.lives` speak of: an order is
placed exactly when the law says so, and what led to it came before.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from predseg.language.time import DAY, HOUR, MINUTE
from predseg.shop.clock import Floats, Ints
from predseg.shop.kinds import Kind
from predseg.shop.lives import BROWSE, CART, CHECKOUT, CLICK, CLICK_ORDER, NEVER, OPEN, ORDER, UNSUBSCRIBE, Mail, People, Visits

EVENTS = (
    "Product Viewed", "Product Added", "Signed Up", "Checkout Started", "Order Completed",
    "Email Opened", "Email Link Clicked", "Unsubscribed", "Email Delivered", "Order Refunded",
)  # fmt: skip
"""The names of events; a row holds the position."""
VIEWED, ADDED, SIGNED_UP, STARTED, COMPLETED, OPENED, CLICKED, UNSUBSCRIBED, DELIVERED, REFUNDED = range(10)
SOURCES = ("direct", "email", "saved_cart")
DIRECT, EMAIL, SAVED_CART = range(3)
DEVICES = ("web", "app")
COUPONS = ("WELCOME10", "SPRING10", "THANKYOU10")
SHELF = 60
"""Products of a category, from the cheapest to the dearest."""

_GAPS: dict[int, tuple[float, float]] = {  # minutes before the event: median, standard deviation of the log
    VIEWED: (0.9, 2.1), ADDED: (0.5, 1.4), SIGNED_UP: (0.9, 0.6), STARTED: (0.35, 0.9), COMPLETED: (0.45, 0.7),
    OPENED: (0.1, 0.1), CLICKED: (0.3, 0.8), UNSUBSCRIBED: (0.4, 0.8),
}  # fmt: skip
_MOST_VIEWS = 40
_LONGEST = 6 * HOUR


@dataclass(frozen=True)
class Sessions:
    """Sessions, one element each."""

    customer: Ints  # -1 - s of stranger s
    end: Ints
    room: Ints  # microseconds that the session may last at most
    outcome: Ints
    source: Ints
    first: np.ndarray  # opens the account
    hidden: np.ndarray  # nobody is logged in
    answer: Ints  # to an e-mail, or -1
    mailing: Ints  # or -1
    product: Ints  # the product that matters: viewed, and when something is added, added


@dataclass(frozen=True)
class Rows:
    """Events, one element each; -1 is absent. ``session`` numbers the sessions of this block."""

    customer: Ints
    named: np.ndarray  # the customer is logged in
    visitor: Ints  # anonymous id: 2 × customer + device, or -1 - s of stranger s; NEVER without one
    event: Ints
    time: Ints
    received: Ints
    cents: Ints  # the value
    product: Ints
    quantity: Ints
    order: Ints  # the session that placed it
    source: Ints
    device: Ints
    mailing: Ints
    coupon: Ints
    items: Ints  # where the products of an order end in ``products``
    products: Ints


def make_rows(kind: Kind, people: People, visits: Visits, mail: Mail, start: int, strangers: int, end: int, rng: np.random.Generator) -> Rows:
    """Return all events of a block of customers, session by session, then the deliveries and refunds."""
    sessions = _sessions(kind, people, visits, mail, start, strangers, end, rng)
    rows, session = _events(kind, people, sessions, rng)
    rows = _with_refunds(kind, rows, session, rng)
    return _late(kind, _with_deliveries(rows, mail), rng)


def prices(kind: Kind) -> Ints:
    """Return the price in cents of every product: `SHELF` of each category, from the cheapest to the dearest."""
    step = (np.arange(SHELF) + 0.5) / SHELF
    z = np.log(step / (1 - step)) / 1.702  # close to the normal quantile
    found = [np.round(c.price * np.exp(c.spread * z), 1 if c.price < 20 else 0) for c in kind.categories]
    return np.maximum(np.round(np.concatenate(found) * 100).astype(np.int64) - 10, 50)


def _choose(kind: Kind, people: People, customer: Ints, rng: np.random.Generator) -> Ints:
    """Return a product for each customer: the favourite category or any, and the dearer the wealthier."""
    weights = np.array([c.weight for c in kind.categories])
    known = customer >= 0
    owner = np.where(known, customer, 0)
    loyalty = np.array([g.loyalty for g in kind.groups])[people.group[owner]]
    any_shelf = np.searchsorted(np.cumsum(weights / weights.sum())[:-1], rng.random(len(customer)), side="right")
    shelf = np.where(known & (rng.random(len(customer)) < loyalty), people.favourite[owner], any_shelf)
    taste = np.where(known, people.wealth[owner], 0.0) * 0.9 + rng.logistic(scale=0.8, size=len(customer))
    return shelf * SHELF + np.minimum((SHELF / (1 + np.exp(-taste))).astype(np.int64), SHELF - 1)


def _sessions(kind: Kind, people: People, visits: Visits, mail: Mail, start: int, strangers: int, end: int, rng: np.random.Generator) -> Sessions:
    """Return all sessions of the block up to ``end``, in whatever order."""
    count, back, answered = len(visits.time), visits.back < end, mail.answered < end
    product = _choose(kind, people, visits.customer, rng)
    logged_out = (rng.random(count) < 0.06) & ~visits.first & (visits.outcome <= CART)
    room = np.where(visits.first, _LONGEST, np.minimum(visits.time - people.signed[visits.customer], _LONGEST))
    own = _new(visits.customer, visits.time, product, room=room, outcome=visits.outcome, first=visits.first, hidden=logged_out)
    room = (visits.back[back] - visits.time[back]) * 4 // 5
    again = _new(visits.customer[back], visits.back[back], product[back], room=room, outcome=ORDER, source=SAVED_CART)
    reader, answer = mail.customer[answered], mail.answer[answered]
    mails = _new(
        reader,
        mail.answered[answered],
        _choose(kind, people, reader, rng),
        room=mail.answered[answered] - mail.delivered[answered] - 1000,
        outcome=np.where(answer == CLICK_ORDER, ORDER, BROWSE),
        source=EMAIL,
        answer=answer,
        mailing=mail.mailing[answered],
    )
    parts = [own, again, mails, _anonymous(kind, people, start, strangers, end, rng)]
    return Sessions(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Sessions)))


def _new(customer: Ints, end: Ints, product: Ints, **given: np.ndarray | int | bool) -> Sessions:
    """Return sessions with what is given, and nothing special about the rest."""
    usual: dict[str, np.ndarray | int | bool] = {
        "room": _LONGEST, "outcome": BROWSE, "source": DIRECT, "first": False, "hidden": False, "answer": -1, "mailing": -1,
    }  # fmt: skip
    columns = {name: np.broadcast_to(np.asarray(value), customer.shape) for name, value in {**usual, **given}.items()}
    return Sessions(customer=customer, end=end, product=product, **columns)


def _anonymous(kind: Kind, people: People, start: int, strangers: int, end: int, rng: np.random.Generator) -> Sessions:
    """Return sessions before the account is opened, and those of visitors who never open one."""
    before = np.repeat(np.arange(len(people.group)), rng.choice(3, len(people.group), p=(0.6, 0.25, 0.15)))
    when = people.signed[before] - (rng.exponential(2 * DAY, len(before)) // 1000).astype(np.int64) * 1000 - _LONGEST
    passing = np.repeat(np.arange(strangers), rng.choice((1, 2, 3), strangers, p=(0.7, 0.2, 0.1)))
    arrival = start + (rng.random(strangers) * (end - start) // 1000).astype(np.int64) * 1000
    passed = arrival[passing] + (rng.exponential(DAY, len(passing)) // 1000).astype(np.int64) * 1000
    customer, time = np.concatenate((before, -1 - passing)), np.concatenate((when, passed))
    keep = (time > start + _LONGEST) & (time < end)
    customer, time = customer[keep], time[keep]
    outcome = np.where(rng.random(len(time)) < 0.2, CART, BROWSE)
    return _new(customer, time, _choose(kind, people, customer, rng), outcome=outcome, hidden=True)


def _events(kind: Kind, people: People, s: Sessions, rng: np.random.Generator) -> tuple[Rows, Ints]:
    """Return the rows of all sessions in order, and the session of each row."""
    views = _view_counts(kind, s, rng)
    session = np.repeat(np.arange(len(views)), views)
    place = np.arange(len(session)) - np.repeat(np.cumsum(views) - views, views)
    main = place == (views * rng.random(len(views)) ** 1.2).astype(np.int64)[session]
    product = np.where(main, s.product[session], _choose(kind, people, s.customer[session], rng))
    eager = np.minimum(kind.more_adds * rng.exponential(size=len(views)) ** 2 / 2, 0.9)
    adds = (s.outcome[session] > BROWSE) & (s.source[session] != SAVED_CART) & (main | (rng.random(len(session)) < eager[session]))
    bought = adds | (s.source[session] == SAVED_CART)
    quantity = np.where(bought, rng.geometric(0.8, len(session)), 0)
    cents, discount, coupon = _totals(kind, s, session, product, quantity, rng)
    steps = _steps(s, session, place, product, quantity, adds)
    at = steps[np.argsort(steps[:, 0] * 256 + steps[:, 1], kind="stable")]
    session_of, event, product_of, quantity_of = at[:, 0], at[:, 2], at[:, 3], at[:, 4]
    is_order, has_total = event == COMPLETED, (event == COMPLETED) | (event == STARTED)
    value = np.where(has_total, cents[session_of] - np.where(is_order, discount[session_of], 0), -1)
    number = np.bincount(session, weights=quantity, minlength=len(views)).astype(np.int64)
    products, ends = _order_lines(session, product, bought, session_of, is_order, len(views))
    device = (rng.random(len(views)) < 0.45).astype(np.int64)
    device = np.where(s.hidden | s.first, 0, device)
    on_site = (event != OPENED) & (event != UNSUBSCRIBED)
    rows = Rows(
        customer=s.customer[session_of],
        named=_named(s, session_of, event, rng),
        visitor=_visitor(s, session_of, on_site, device),
        event=event,
        time=_times(s, session_of, event, rng),
        received=np.zeros(len(event), np.int64),
        cents=value,
        product=np.where(has_total, s.product[session_of], product_of),
        quantity=np.where(is_order, number[session_of], quantity_of),
        order=np.where(is_order, session_of, -1),
        source=np.where(on_site, s.source[session_of], -1),
        device=np.where(on_site, device[session_of], -1),
        mailing=s.mailing[session_of],
        coupon=np.where(is_order, coupon[session_of], -1),
        items=ends,
        products=products,
    )
    return rows, session_of


def _view_counts(kind: Kind, s: Sessions, rng: np.random.Generator) -> Ints:
    mean = np.where(s.outcome > BROWSE, kind.cart_views, kind.browse_views)
    views = np.minimum(rng.geometric(1 / mean), _MOST_VIEWS)
    views = np.where(s.source == SAVED_CART, 1, views)
    return np.where((s.answer == OPEN) | (s.answer == UNSUBSCRIBE), 0, views)


def _totals(kind: Kind, s: Sessions, session: Ints, product: Ints, quantity: Ints, rng: np.random.Generator) -> tuple[Ints, Ints, Ints]:
    """Return cents in the cart, cents off, and the coupon (or -1), of each session."""
    count = len(s.end)
    cents = np.zeros(count, np.int64)
    np.add.at(cents, session, prices(kind)[product] * quantity)
    coupon = np.where(rng.random(count) < 0.12, rng.integers(1, len(COUPONS), count), -1)
    coupon = np.where(s.first & (rng.random(count) < 0.4), 0, coupon)
    coupon = np.where(s.outcome == ORDER, coupon, -1)
    return cents, np.where(coupon >= 0, cents // 10, 0), coupon


def _steps(s: Sessions, session: Ints, place: Ints, product: Ints, quantity: Ints, adds: np.ndarray) -> Ints:
    """Return (session, position, event, product, quantity) of every row, not yet in order."""
    every = np.arange(len(s.end))
    last = 2 * _MOST_VIEWS + 10

    def single(mask: np.ndarray, position: int, event: int) -> Ints:
        chosen = every[mask]
        return np.stack([chosen, *(np.full_like(chosen, x) for x in (position, event, -1, -1))], axis=1)

    nothing = np.full_like(session, -1)
    return np.concatenate(
        (
            np.stack((session, 10 + 2 * place, np.full_like(session, VIEWED), product, nothing), axis=1),
            np.stack((session, 11 + 2 * place, np.full_like(session, ADDED), product, quantity), axis=1)[adds],
            single(s.answer >= 0, 0, OPENED),
            single((s.answer == CLICK) | (s.answer == CLICK_ORDER), 1, CLICKED),
            single(s.answer == UNSUBSCRIBE, 2, UNSUBSCRIBED),
            single(s.first, last, SIGNED_UP),
            single(s.outcome >= CHECKOUT, last + 1, STARTED),
            single(s.outcome == ORDER, last + 2, COMPLETED),
        )
    )


def _times(s: Sessions, session: Ints, event: Ints, rng: np.random.Generator) -> Ints:
    """Lay the rows out before the end of their session, in whole milliseconds and within the room there is."""
    medians, spreads = (np.array([_GAPS[e][i] for e in range(len(_GAPS))]) for i in (0, 1))
    gap = medians[event] * np.exp(spreads[event] * rng.standard_normal(len(event))) * (MINUTE / 1000)
    opens = np.ones(len(session), bool)
    opens[1:] = session[1:] != session[:-1]
    gap[opens] = 0
    total = np.bincount(session, weights=gap, minlength=len(s.end))
    gap *= np.minimum(1, 0.95 * s.room / 1000 / np.maximum(total, 1))[session]
    steps = np.where(opens, 0, np.maximum(gap.astype(np.int64), 1))
    after = np.cumsum(steps)
    closes = np.append(np.flatnonzero(opens)[1:] - 1, len(session) - 1) if len(session) else np.zeros(0, np.int64)
    whole = np.repeat(after[closes], np.diff(np.append(np.flatnonzero(opens), len(session))))
    return s.end[session] - (whole - after) * 1000


def _named(s: Sessions, session: Ints, event: Ints, rng: np.random.Generator) -> np.ndarray:
    """Whether the customer is logged in: not in hidden sessions, and in some others only from the cart on."""
    late = rng.random(len(s.end)) < 0.1
    before_login = (s.first | (late & (s.outcome > BROWSE)))[session] & ((event == VIEWED) | (s.first[session] & (event == ADDED)))
    return ~s.hidden[session] & ~before_login


def _visitor(s: Sessions, session: Ints, on_site: np.ndarray, device: Ints) -> Ints:
    """Return who is seen by the site: a device of a customer, or a stranger; nobody where an e-mail is read."""
    visitor = np.where(s.customer < 0, s.customer, 2 * s.customer + device)[session]
    return np.where(on_site, visitor, NEVER)


def _order_lines(session: Ints, product: Ints, bought: np.ndarray, of: Ints, is_order: np.ndarray, count: int) -> tuple[Ints, Ints]:
    """Return the products of all orders in the order of the rows, and where those of each row end."""
    ordered = np.zeros(count, bool)
    ordered[of[is_order]] = True
    lines = product[bought & ordered[session]]
    number = np.bincount(session[bought], minlength=count)
    return lines, np.cumsum(np.where(is_order, number[of], 0))


def _with_refunds(kind: Kind, rows: Rows, session: Ints, rng: np.random.Generator) -> Rows:
    orders = np.flatnonzero((rows.event == COMPLETED) & (rng.random(len(session)) < kind.refunds))
    delay = np.clip(rng.lognormal(np.log(9), 0.6, len(orders)), 1, 60) * DAY
    part = np.minimum(prices(kind)[rows.product[orders]] * 9 // 10, rows.cents[orders])
    cents = np.where(rng.random(len(orders)) < 0.7, rows.cents[orders], part)
    return _appended(
        rows,
        customer=rows.customer[orders],
        event=np.full(len(orders), REFUNDED),
        time=rows.time[orders] + (delay.astype(np.int64) // 1000) * 1000,
        cents=cents,
        product=rows.product[orders],
        order=rows.order[orders],
    )


def _with_deliveries(rows: Rows, mail: Mail) -> Rows:
    delivered = np.full(len(mail.customer), DELIVERED)
    return _appended(rows, customer=mail.customer, event=delivered, time=mail.delivered, mailing=mail.mailing)


def _appended(rows: Rows, **more: np.ndarray) -> Rows:
    """Append rows of customers that come from no visitor; what is not given is absent."""
    count = len(more["customer"])
    usual = {
        "named": np.ones(count, bool),
        "visitor": np.full(count, NEVER),
        "items": np.full(count, rows.items[-1] if len(rows.items) else 0),
    }
    added = {f.name: np.full(count, -1) for f in fields(Rows)} | usual | more | {"products": rows.products[:0]}
    return Rows(**{name: np.concatenate((getattr(rows, name), column)) for name, column in added.items()})


def _late(kind: Kind, rows: Rows, rng: np.random.Generator) -> Rows:
    """Set when each row arrives: in a second or two, but some app sessions and e-mail rows minutes to days later."""
    n = len(rows.event)
    lag = rng.integers(80, 2500, n) * 1000
    mailed = np.isin(rows.event, (OPENED, CLICKED, UNSUBSCRIBED, DELIVERED))
    slow = mailed & (rng.random(n) < kind.late)
    away = np.minimum(rng.lognormal(np.log(2.5), 1.3, n), 96) * HOUR
    lag = lag + np.where(slow, away, _offline(kind, rows, rng)).astype(np.int64) // 1000 * 1000
    return replace(rows, received=rows.time + lag)


def _offline(kind: Kind, rows: Rows, rng: np.random.Generator) -> Floats:
    """Return how long the app of each row was offline, in microseconds: the same for all of a visitor within six hours."""
    app = np.flatnonzero(rows.device == 1)
    keys, which = np.unique(rows.visitor[app] * 1_000_000 + rows.time[app] // (6 * HOUR), return_inverse=True)
    late = np.where(rng.random(len(keys)) < kind.late, np.minimum(rng.lognormal(np.log(0.8), 1.4, len(keys)), 72) * HOUR, 0)
    found = np.zeros(len(rows.event))
    found[app] = late[which]
    return found
