"""The tables of the simulated shop, as Arrow: events, customers, truth."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from predseg.shop.clock import Clock, Floats, Ints
from predseg.shop.journeys import COMPLETED, COUPONS, DEVICES, EVENTS, SHELF, SIGNED_UP, SOURCES, Rows, prices
from predseg.shop.kinds import Kind, to_json
from predseg.shop.lives import CART, CHECKOUT, NEVER, ORDER, UNSUBSCRIBE, Mail, People, Visits, lost_at

INSTANT = pa.timestamp("us", tz="UTC")
MONEY = pa.decimal128(18, 4)
COUNTRIES, COUNTRY_SHARES = ("GB", "DE", "FR", "NL", "IE", "US"), (0.44, 0.2, 0.15, 0.09, 0.05, 0.07)
TIERS = ("bronze", "silver", "gold")
BIRTHS = ("1940-1959", "1960-1969", "1970-1979", "1980-1989", "1990-1999", "2000-2009")
CHANNELS = ("search", "social", "friend", "newspaper", "partner")


@dataclass(frozen=True)
class Block:
    """One block of customers: their lives and rows."""

    people: People
    visits: Visits
    mail: Mail
    rows: Rows


def events_table(kind: Kind, blocks: list[Block], size: int, strangers: int, seed: int, end: int, mailings: Ints) -> pa.Table:
    """Return all events that have arrived by ``end``, in the order of arrival. ``size`` is the number of customers of a whole block."""
    columns = _whole([b.rows for b in blocks], size, strangers)
    number = np.arange(len(columns["event"]))
    columns["id"] = mixed((np.concatenate([(i << 32) + np.arange(len(b.rows.event)) for i, b in enumerate(blocks)])).astype(np.uint64), seed, 1)
    products = pa.ListArray.from_arrays(
        pa.array(np.concatenate(([0], columns.pop("items"))).astype(np.int32)), _texts(columns.pop("products"), _product_ids(kind))
    )  # fmt: skip
    arrived = np.flatnonzero((columns["received"] <= end) & (columns["time"] <= end))
    order = arrived[np.lexsort((number[arrived], columns["time"][arrived], columns["received"][arrived]))]
    placed = columns["event"] == COMPLETED
    columns["order"] = _order_numbers(columns["order"], columns["time"], placed)
    lines = products.take(pa.array(order))
    at = {name: column[order] for name, column in columns.items()}
    lines = _where(at["event"] == COMPLETED, lines)
    return _arrow(kind, at, lines, mailings, int(sum(len(b.people.group) for b in blocks)), strangers * len(blocks), seed)


def _whole(parts: list[Rows], size: int, strangers: int) -> dict[str, np.ndarray]:
    """Join the rows of the blocks; customers, visitors, orders and items then count through all of them."""
    found: dict[str, list[np.ndarray]] = {f.name: [] for f in fields(Rows)}
    orders = items = 0
    for i, part in enumerate(parts):
        stranger, owned = part.visitor < 0, (part.visitor >= 0) & (part.visitor != NEVER)
        own = {
            "customer": np.where(part.customer >= 0, part.customer + i * size, -1),
            "visitor": np.where(stranger, part.visitor - i * strangers, part.visitor + 2 * i * size * owned),
            "order": np.where(part.order >= 0, part.order + orders, -1),
            "items": part.items + items,
        }
        for name, column in found.items():
            column.append(own.get(name, getattr(part, name)))
        orders += int(part.order.max(initial=0)) + 1
        items += len(part.products)
    return {name: np.concatenate(column) for name, column in found.items()}


def _order_numbers(order: Ints, time: Ints, placed: np.ndarray) -> Ints:
    """Number the orders as a shop does, one after the other in time."""
    rows = np.flatnonzero(placed)
    rows = rows[np.lexsort((order[rows], time[rows]))]
    numbers = np.full(int(order.max(initial=-1)) + 2, -1)
    numbers[order[rows]] = 100_001 + np.arange(len(rows))
    return np.where(order >= 0, numbers[order], -1)


def _arrow(kind: Kind, at: dict[str, np.ndarray], lines: pa.Array, mailings: Ints, customers: int, strangers: int, seed: int) -> pa.Table:
    product, shown = at["product"], at["product"] >= 0
    shelf = np.where(shown, product // SHELF, -1)
    brands = [c.brands[j % len(c.brands)] for c in kind.categories for j in range(SHELF)]
    visitor = np.where(at["visitor"] < 0, 2 * customers - 1 - at["visitor"], np.where(at["visitor"] == NEVER, -1, at["visitor"]))
    anonymous = hexadecimal(mixed(np.arange(2 * customers + strangers, dtype=np.uint64), seed, 2))
    columns = {
        "customer_id": _texts(np.where(at["named"], at["customer"], -1), customer_ids(customers)),
        "anonymous_id": _texts(visitor, anonymous),
        "event": _texts(at["event"], pa.array(EVENTS)),
        "event_time": instants(at["time"]),
        "received_at": instants(at["received"]),
        "value": money(at["cents"], at["cents"] >= 0),
        "event_id": hexadecimal(at["id"]),
        "order_id": pa.array(at["order"], mask=at["order"] < 0).cast(pa.string()),
        "product_id": _texts(product, _product_ids(kind)),
        "category": _texts(shelf, pa.array([c.name for c in kind.categories])),
        "brand": _texts(product, pa.array(brands)),
        "price": money(np.where(shown, prices(kind)[product], 0), shown),
        "quantity": pa.array(at["quantity"], mask=at["quantity"] < 0),
        "products": lines,
        "campaign": _texts(at["mailing"], _campaigns(mailings)),
        "coupon": _texts(at["coupon"], pa.array(COUPONS)),
        "source": _texts(at["source"], pa.array(SOURCES)),
        "device": _texts(at["device"], pa.array(DEVICES)),
    }
    return pa.table(columns)


def customer_ids(count: int) -> pa.Array:
    """Return the ids of all customers: ``c000000``, ``c000001``, ..."""
    return pa.array([f"c{i:06d}" for i in range(count)], pa.string())


def _product_ids(kind: Kind) -> pa.Array:
    return pa.array([f"p{i:04d}" for i in range(len(kind.categories) * SHELF)])


def _campaigns(mailings: Ints) -> pa.Array:
    days = mailings.astype("datetime64[us]").astype("datetime64[D]").astype(str)
    topics = ("new arrivals", "ideas for the week", "last chance", "our favourites")
    return pa.array([f"{day} {topics[i % len(topics)]}" for i, day in enumerate(days)], pa.string())


def customers_table(kind: Kind, blocks: list[Block], rng: np.random.Generator) -> pa.Table:
    """Return one row per customer: id, country, tier, signed_up, birth_years, channel. The traits are those of the day of signing up."""
    people = [b.people for b in blocks]
    wealth = np.concatenate([p.wealth for p in people])
    signed = np.concatenate([_signed_up(b) for b in blocks])
    count = len(signed)
    tier = np.clip(np.floor((wealth + rng.standard_normal(count)) * 0.8 + 0.8), 0, 2).astype(np.int64)
    return pa.table(
        {
            "id": customer_ids(count),
            "country": _texts(rng.choice(len(COUNTRIES), count, p=COUNTRY_SHARES), pa.array(COUNTRIES)),
            "tier": _texts(tier, pa.array(TIERS)),
            "signed_up": instants(signed),
            "birth_years": _texts(rng.choice(len(BIRTHS), count, p=(0.08, 0.15, 0.2, 0.26, 0.23, 0.08)), pa.array(BIRTHS)),
            "channel": _texts(rng.choice(len(CHANNELS), count, p=(0.42, 0.27, 0.16, 0.06, 0.09)), pa.array(CHANNELS)),
        }
    )


def _signed_up(block: Block) -> Ints:
    """Return the instant of the row ``Signed Up`` of each customer of the block."""
    found = np.zeros(len(block.people.group), np.int64)
    opened = block.rows.event == SIGNED_UP
    found[block.rows.customer[opened]] = block.rows.time[opened]
    return found


def truth_table(kind: Kind, blocks: list[Block], size: int, clock: Clock, about: dict[str, str]) -> pa.Table:
    """Return one row per customer: the hidden state and what the exact probabilities need of the history; see `predseg.shop`."""
    people = {f.name: np.concatenate([getattr(b.people, f.name) for b in blocks]) for f in fields(People)}
    count = len(people["group"])
    lost = np.concatenate([lost_at(b.people, clock) for b in blocks])
    visits = [b.visits for b in blocks]
    owner = np.concatenate([v.customer + i * size for i, v in enumerate(visits)])
    time, outcome, back, first = (np.concatenate([getattr(v, f) for v in visits]) for f in ("time", "outcome", "back", "first"))
    later, left = ~first, (outcome == CART) | (outcome == CHECKOUT)
    mails = [b.mail for b in blocks]
    reader = np.concatenate([m.customer + i * size for i, m in enumerate(mails)])
    delivered, answered, answer = (np.concatenate([getattr(m, f) for m in mails]) for f in ("delivered", "answered", "answer"))
    answers = answer >= 0
    unsubscribed = np.full(count, NEVER)
    unsubscribed[reader[answer == UNSUBSCRIBE]] = answered[answer == UNSUBSCRIBE]
    columns = {
        "customer_id": customer_ids(count),
        "group": _texts(people["group"], pa.array([g.name for g in kind.groups])),
        "favourite": _texts(people["favourite"], pa.array([c.name for c in kind.categories])),
        "signed": instants(people["signed"]),
        "visits_per_year": pa.array(people["visit_rate"] * 365),
        "conversion": pa.array(people["conversion"]),
        "dropout_per_year": pa.array(people["dropout"] * 365),
        "lost_at": instants(lost),
        "open_rate": pa.array(people["open_rate"]),
        "wealth": pa.array(people["wealth"]),
        "subscribed": pa.array(people["subscribed"]),
        "unsubscribed_at": instants(unsubscribed),
        "jitter": pa.array(people["jitter"]),
        "visits": _lists(owner[later], instants(time[later]), count),
        "ordered": _lists(owner[later], pa.array(outcome[later] == ORDER), count),
        "carts": _lists(owner[left], instants(time[left]), count),
        "returns": _lists(owner[left], instants(back[left]), count),
        "answered": _lists(reader[answers], instants(answered[answers]), count),
        "delivered": _lists(reader[answers], instants(delivered[answers]), count),
    }
    return pa.table(columns).replace_schema_metadata({**about, "kind": to_json(kind)})


def mixed(counter: np.ndarray, seed: int, stream: int) -> np.ndarray:
    """Return a different 64-bit number for every counter (the finaliser of SplitMix64 is a bijection)."""
    with np.errstate(over="ignore"):
        x = counter + np.uint64((seed * 0x9E3779B97F4A7C15 + stream * 0xD1B54A32D192ED03) % 2**64)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def hexadecimal(numbers: np.ndarray) -> pa.Array:
    """Return 16 hexadecimal digits of each 64-bit number."""
    digits = numbers.astype(">u8").tobytes().hex().encode()
    offsets = np.arange(len(numbers) + 1, dtype=np.int64) * 16
    return pa.LargeStringArray.from_buffers(len(numbers), pa.py_buffer(offsets), pa.py_buffer(digits)).cast(pa.string())


def instants(moments: Ints) -> pa.Array:
    """Return instants in UTC; NEVER becomes null."""
    return pa.array(moments, INSTANT, mask=moments == NEVER)


def money(cents: Ints, known: np.ndarray) -> pa.Array:
    """Return exact amounts of DECIMAL(18,4) from whole cents."""
    halves = np.zeros((len(cents), 2), np.int64)
    halves[:, 0] = cents * 100
    halves[:, 1] = -(halves[:, 0] < 0).astype(np.int64)
    mask = pa.py_buffer(np.packbits(known, bitorder="little"))
    return pa.Array.from_buffers(MONEY, len(cents), [mask, pa.py_buffer(halves)])


def _texts(codes: Ints, values: pa.Array) -> pa.Array:
    return values.take(pa.array(codes, mask=codes < 0))


def _lists(owner: Ints, values: pa.Array, count: int) -> pa.Array:
    order = np.argsort(owner, kind="stable")
    ends = np.cumsum(np.bincount(owner, minlength=count))
    return pa.ListArray.from_arrays(pa.array(np.concatenate(([0], ends)).astype(np.int32)), values.take(pa.array(order)))


def _where(known: np.ndarray, lists: pa.Array) -> pa.Array:
    return pc.if_else(pa.array(known), lists, pa.scalar(None, lists.type))


def micros(column: pa.ChunkedArray) -> Ints:
    """Return a column of instants as microseconds, NEVER where null."""
    found: Ints = column.cast(pa.int64()).fill_null(int(NEVER)).to_numpy()
    return found


def reals(column: pa.ChunkedArray) -> Floats:
    """Return a column of numbers as floats."""
    found: Floats = column.to_numpy()
    return found
