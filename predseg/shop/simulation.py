"""Run the shop: blocks of customers, each from its own random stream."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from predseg.errors import UsageError
from predseg.language.time import DAY, HOUR, parse_instant, say_instant
from predseg.shop.clock import make_clock
from predseg.shop.journeys import make_rows
from predseg.shop.kinds import Kind, find_kind
from predseg.shop.lives import draw_mail, draw_people, draw_visits, mailings
from predseg.shop.tables import Block, customers_table, events_table, truth_table

DEFAULT_START = parse_instant("2024-06-01")
DEFAULT_DAYS = 730
DEFAULT_CUSTOMERS = 5_000
_SIZE = 4096
_LONGEST = 20 * 365


@dataclass(frozen=True)
class Shop:
    """A simulated shop: its tables and the parameters that made them. ``start`` and ``end`` are instants in microseconds.

    ``events`` is clean; `predseg.shop.write` adds what real deliveries add (repetitions and broken rows).
    """

    events: pa.Table
    customers: pa.Table
    truth: pa.Table
    kind: Kind
    seed: int
    start: int
    end: int


def simulate(
    customers: int = DEFAULT_CUSTOMERS,
    days: int = DEFAULT_DAYS,
    seed: int = 0,
    start: int = DEFAULT_START,
    kind: str | Kind = "default",
) -> Shop:
    """Simulate a shop from ``start`` (instant in microseconds) until ``days`` later; the same arguments give the same bytes.

    Customers are drawn in blocks of 4,096 with a random stream each: the lives of the customers in a full block do not
    depend on how many more there are.

    Args:
        customers: Accounts that are opened, 1 to 999,999.
        days: Days from the opening to the export; at least 60, at most 7,300.
        seed: Whole number of at least 0.
        start: The opening, a whole hour.
        kind: Name of a preset of `predseg.shop.KINDS`, or an own `Kind`.

    Raises:
        UsageError: E206, a value is outside of what is described above, or a mailing would go out before the last can be answered.

    >>> shop = simulate(customers=50, days=90, seed=1)
    >>> shop.customers.num_rows, shop.events.num_rows > 500
    (50, True)
    """
    declared = find_kind(kind)
    _check("customers", customers, 1, 999_999)
    _check("days", days, 60, _LONGEST)
    _check("seed", seed, 0, 2**63 - 1)
    if start % HOUR or not 0 <= declared.season < 1 or declared.email_days * (1 - declared.season) < 3:
        found = f"start {say_instant(start)}, season {declared.season:g}, email_days {declared.email_days}"
        rule = "a whole hour, a season from 0 to under 1, and time to answer an e-mail: email_days × (1 − season) of at least 3"
        raise UsageError("E206", "simulate", f"found {found}; expected {rule}")
    end = start + days * DAY
    clock = make_clock(start, days, declared.season)
    strangers = int(_SIZE * declared.strangers)
    blocks = []
    for number, first in enumerate(range(0, customers, _SIZE)):
        count = min(_SIZE, customers - first)
        streams = [np.random.Generator(np.random.PCG64(s)) for s in np.random.SeedSequence((seed, number)).spawn(4)]
        people = draw_people(declared, clock, end, count, streams[0])
        visits = draw_visits(declared, people, clock, end, streams[1])
        mail = draw_mail(declared, people, clock, start, end, streams[2])
        rows = make_rows(declared, people, visits, mail, start, int(count * declared.strangers), end, streams[3])
        blocks.append(Block(people, visits, mail, rows))
    about = {"start": say_instant(start), "days": str(days)}
    traits = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, 2**32))))
    return Shop(
        events_table(declared, blocks, _SIZE, strangers, seed, end, mailings(declared, start, end)),
        customers_table(declared, blocks, traits),
        truth_table(declared, blocks, _SIZE, clock, about),
        declared,
        seed,
        start,
        end,
    )


def _check(name: str, value: int, lowest: int, highest: int) -> None:
    if not lowest <= value <= highest:
        raise UsageError(
            "E206",
            name,
            f"found {value:,}, expected a whole number from {lowest:,} to {highest:,}",
            f"try for example `{name}={max(lowest, min(value, highest))}`",
        )
