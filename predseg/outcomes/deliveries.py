"""Messages that arrived, and what came of each: opened, by a person or a machine, clicked, complained about, followed by an order.

What came of it belongs to the last delivery before it, to the same customer and of the same campaign where that is said, within 30
days. An order belongs to the last delivery before it, of whatever campaign, within a window; so each order counts once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from predseg.evaluate.block import Array
from predseg.language.time import DAY, SECOND
from predseg.outcomes.log import Log, Timetable, read_log

DELIVERED, OPENED, CLICKED, UNSUBSCRIBED, COMPLAINED = "Email Delivered", "Email Opened", "Email Link Clicked", "Unsubscribed", "Email Marked as Spam"
CAMPAIGN = ("campaign", "campaign_id", "campaign_name", "email_campaign_id", "email_campaign_name", "email_subject", "email_id", "message_id")
"""Properties that may say which message it was; the first that deliveries have is used, unless the project names one."""
FLAGS = ("machine_open", "is_machine_open", "is_bot", "bot", "prefetch")
AGENTS = ("user_agent", "userAgent", "context_userAgent", "context_user_agent")
ANSWER = 30 * DAY
AT_ONCE = 2 * SECOND
"""Nobody opens a message sooner after its delivery than this; mail servers do."""
_MACHINES = re.compile(r"GoogleImageProxy|YahooMailProxy|BingPreview|Barracuda|Proofpoint|Mimecast|\bbot\b|^Mozilla/5\.0$", re.IGNORECASE)
"""Programs that fetch pictures before, or instead of, a person; the bare Mozilla/5.0 is Apple's Mail Privacy Protection."""


@dataclass(frozen=True)
class Deliveries:
    """Deliveries, sorted by customer and time (r).

    Attributes:
        customers: Ids, str (n).
        customer: Position of the customer, int64.
        time: When it was delivered.
        campaign: Position in ``campaigns``, -1 where it is not said.
        opened: By anybody or anything, or clicked.
        machine: Opened, but as far as can be told by machines only.
        orders: How many orders belong to it, int64.
        revenue: Of those, in whole 1/10000, int64.
    """

    customers: Array
    customer: Array
    time: Array
    campaign: Array
    campaigns: list[str]
    opened: Array
    machine: Array
    clicked: Array
    unsubscribed: Array
    complained: Array
    orders: Array
    revenue: Array

    def take(self, rows: Array) -> Deliveries:
        """Return some deliveries, given in ascending order."""
        return replace(self, **{name: getattr(self, name)[rows] for name in _OF_ROWS})


_OF_ROWS = ("customer", "time", "campaign", "opened", "machine", "clicked", "unsubscribed", "complained", "orders", "revenue")


def read_messages(files: Sequence[Path], as_of: int, *, goal: str, campaign: str | None = None, present: Sequence[str] = ()) -> Log:
    """Return what was known at a moment of deliveries, of the answers to them, and of a goal.

    Args:
        files: The events table.
        as_of: The moment.
        goal: The event that counts as an order, or whatever is hoped for.
        campaign: The property that says which message it was; by default the first of `CAMPAIGN` that deliveries have.
        present: The properties that the events table has.
    """
    texts = [name for name in (*([campaign] if campaign else CAMPAIGN), *FLAGS, *AGENTS) if name in present]
    return read_log(files, [DELIVERED, OPENED, CLICKED, UNSUBSCRIBED, COMPLAINED, goal], as_of, texts)


def deliveries_of(log: Log, *, goal: str, within: int, campaign: str | None = None) -> Deliveries:
    """Return all deliveries of a log, with what came of them.

    Args:
        log: See `read_messages`.
        goal: The event that counts as an order.
        within: How long after a delivery an order may come to belong to it.
        campaign: See `read_messages`.
    """
    sent = log.where(DELIVERED)
    named = next((n for n in ([campaign] if campaign else CAMPAIGN) if n in sent.texts and (sent.texts[n][0] >= 0).any()), None)
    codes, campaigns = sent.texts[named] if named else (np.full(len(sent.time), -1), [])
    answers = _Answers(sent, codes, named)
    opens, none = log.where(OPENED), np.zeros(len(sent.time), bool)
    opened, row = none.copy(), answers.to(opens)
    person = none.copy()
    opened[row[row >= 0]] = True
    person[row[(row >= 0) & ~_by_machine(opens, opens.time - np.append(sent.time, 0)[row])]] = True
    hit = {name: answers.mark(log.where(name)) for name in (CLICKED, UNSUBSCRIBED, COMPLAINED)}
    orders, revenue = _orders(answers.by_customer, log.where(goal), within)
    person |= hit[CLICKED]
    opened |= hit[CLICKED]
    return Deliveries(
        log.customers,
        sent.customer,
        sent.time,
        codes,
        campaigns,
        opened,
        opened & ~person,
        hit[CLICKED],
        hit[UNSUBSCRIBED],
        hit[COMPLAINED],
        orders,
        revenue,
    )


class _Answers:
    """Finds the delivery that an answer belongs to."""

    def __init__(self, sent: Log, campaign: Array, named: str | None) -> None:
        self.sent, self.named = sent, named
        self.width = int(campaign.max(initial=-1)) + 2
        line = sent.customer * self.width + campaign + 1
        self.order = np.argsort(line, kind="stable")  # by time within a line, as they come
        self.by_campaign = Timetable(line[self.order], sent.time[self.order])
        self.by_customer = Timetable(sent.customer, sent.time)

    def to(self, answers: Log) -> Array:
        """Return the row of the delivery of each answer, -1 without one."""
        row = self.by_customer.last(answers.customer, answers.time)
        if self.named is not None:
            said = answers.texts[self.named][0]
            known = said < self.width - 1
            found = self.by_campaign.last(answers.customer * self.width + said + 1, answers.time)
            same = np.where(found >= 0, np.append(self.order, -1)[found], -1)
            row = np.where(said >= 0, np.where(known, same, -1), row)
        return np.where((row >= 0) & (answers.time - np.append(self.sent.time, 0)[row] <= ANSWER), row, -1)

    def mark(self, answers: Log) -> Array:
        """Return which deliveries got an answer, bool (r)."""
        found, row = np.zeros(len(self.sent.time), bool), self.to(answers)
        found[row[row >= 0]] = True
        return found


def _by_machine(opens: Log, delay: Array) -> Array:
    """Return which opens are recognised as a machine's: marked so, by a program that is known, or at once."""
    found = delay < AT_ONCE
    for name in FLAGS:
        if name in opens.texts:
            codes, values = opens.texts[name]
            found = found | _chosen(codes, [value.lower() in ("true", "1", "yes") for value in values])
    for name in AGENTS:
        if name in opens.texts:
            codes, values = opens.texts[name]
            found = found | _chosen(codes, [bool(_MACHINES.search(value)) for value in values])
    return found


def _chosen(codes: Array, wanted: Sequence[bool]) -> Array:
    return np.append(np.asarray(wanted, bool), False)[codes]


def _orders(sent: Timetable, orders: Log, within: int) -> tuple[Array, Array]:
    """Return the number and the value of the orders of each delivery; an order at its very instant did not follow it."""
    row = sent.last(orders.customer, orders.time - 1)
    kept = (row >= 0) & (orders.time - np.append(sent.time, 0)[row] <= within)
    number, revenue = np.zeros(len(sent.time), np.int64), np.zeros(len(sent.time), np.int64)
    np.add.at(number, row[kept], 1)
    np.add.at(revenue, row[kept], orders.value[kept])
    return number, revenue
