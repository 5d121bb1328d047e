"""What came of a message: told by campaign, else by time; once each; machines apart from people."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from predseg.language.time import DAY, MINUTE
from predseg.outcomes.deliveries import ANSWER, Deliveries, deliveries_of, read_messages
from tests.segments.stores import Row, write_events

SENT, OPEN, CLICK, OUT, SPAM, ORDER = "Email Delivered", "Email Opened", "Email Link Clicked", "Unsubscribed", "Email Marked as Spam", "Order"
T = 100 * DAY


def read(folder: Path, rows: list[Row], as_of: int = 10**18, **given: Any) -> Deliveries:
    present = sorted({name for row in rows for name in row[3]})
    log = read_messages(write_events(folder, rows), as_of, goal=ORDER, present=present, **given)
    return deliveries_of(log, goal=ORDER, within=7 * DAY, **given)


def marked(found: Deliveries, name: str) -> list[tuple[str, int]]:
    """(customer, minutes after T) of the deliveries that a column marks."""
    rows = np.flatnonzero(getattr(found, name))
    return [(str(found.customers[found.customer[row]]), int(found.time[row] - T) // MINUTE) for row in rows]


def test_an_answer_belongs_to_the_last_delivery_of_its_campaign(tmp_path: Path) -> None:
    a, b = {"campaign": "a"}, {"campaign": "b"}
    rows: list[Row] = [("x", T, SENT, a), ("x", T + MINUTE, SENT, b), ("x", T + 2 * MINUTE, SENT, a), ("y", T, SENT, a)]
    rows += [
        ("x", T + 3 * MINUTE, CLICK, b),
        ("x", T + MINUTE, OPEN, a),
        ("x", T + 9 * MINUTE, OUT, {}),
        ("y", T + 5 * MINUTE, SPAM, {"campaign": "other"}),
    ]
    found = read(tmp_path, rows)
    assert marked(found, "clicked") == [("x", 1)]
    assert marked(found, "opened") == [("x", 0), ("x", 1)]  # a click means that it was opened
    assert marked(found, "unsubscribed") == [("x", 2)] and marked(found, "complained") == []
    assert [found.campaigns[c] for c in found.campaign] == ["a", "b", "a", "a"]


def test_a_blank_campaign_is_none(tmp_path: Path) -> None:
    """An answer that says nothing belongs to the last delivery, and those that are named nothing are one campaign with those not named."""
    rows: list[Row] = [("x", T, SENT, {"campaign": ""}), ("x", T + MINUTE, SENT, {"campaign": "a"}), ("x", T + 2 * MINUTE, CLICK, {"campaign": " "})]
    found = read(tmp_path, [*rows, ("y", T, SENT, {})])
    assert marked(found, "clicked") == [("x", 1)] and (found.campaign[[0, 2]] == -1).all() and found.campaigns[found.campaign[1]] == "a"


def test_without_campaigns_it_belongs_to_the_last_delivery_before_it(tmp_path: Path) -> None:
    rows: list[Row] = [("x", T, SENT, {}), ("x", T + 10 * MINUTE, SENT, {}), ("y", T, SENT, {})]
    rows += [("x", T + 4 * MINUTE, CLICK, {}), ("x", T + 10 * MINUTE, OPEN, {}), ("y", T - MINUTE, CLICK, {}), ("z", T + MINUTE, CLICK, {})]
    found = read(tmp_path, rows)
    assert marked(found, "clicked") == [("x", 0)] and marked(found, "opened") == [("x", 0), ("x", 10)]
    assert list(found.campaign) == [-1, -1, -1]


def test_an_answer_after_thirty_days_belongs_to_nothing(tmp_path: Path) -> None:
    found = read(tmp_path, [("x", T, SENT, {}), ("x", T + ANSWER, CLICK, {}), ("y", T, SENT, {}), ("y", T + ANSWER + 1, CLICK, {})])
    assert marked(found, "clicked") == [("x", 0)]


def test_every_order_counts_once_for_the_last_delivery_strictly_before_it(tmp_path: Path) -> None:
    def order(after: int, value: str) -> Row:
        return "x", T + after, ORDER, {"value": Decimal(value)}

    rows: list[Row] = [("x", T, SENT, {}), ("x", T + DAY, SENT, {}), ("y", T, SENT, {})]
    rows += [order(0, "1"), order(1, "2"), order(DAY, "4"), order(DAY + 1, "8"), order(8 * DAY, "16"), order(8 * DAY + 1, "32")]
    found = read(tmp_path, rows)
    assert list(found.orders) == [2, 2, 0] and list(found.revenue) == [60_000, 240_000, 0]


def test_opens_by_machines_are_told_apart_where_they_can_be(tmp_path: Path) -> None:
    rows: list[Row] = [(customer, T, SENT, {}) for customer in "abcdefg"]
    later = T + 10 * MINUTE
    rows += [
        ("a", T + 1_500_000, OPEN, {}),  # within two seconds
        ("b", later, OPEN, {"user_agent": "Mozilla/5.0 (via ggpht.com GoogleImageProxy)"}),
        ("c", later, OPEN, {"user_agent": "Mozilla/5.0"}),
        ("d", later, OPEN, {"machine_open": "true"}),
        ("e", later, OPEN, {"user_agent": "Mozilla/5.0 (Macintosh) AppleWebKit/605", "machine_open": "false"}),
        ("f", later, OPEN, {"user_agent": "Mozilla/5.0"}),
        ("f", later + MINUTE, OPEN, {"user_agent": "Thunderbird"}),
        ("g", later, OPEN, {"user_agent": "Mozilla/5.0"}),
        ("g", later, CLICK, {}),
    ]
    found = read(tmp_path, rows)
    assert found.opened.all() and [c for c, _ in marked(found, "machine")] == ["a", "b", "c", "d"]


def test_a_named_property_says_the_campaign_and_the_future_is_not_read(tmp_path: Path) -> None:
    rows: list[Row] = [("x", T, SENT, {"utm": "spring", "campaign": "9"}), ("x", T + 1, CLICK, {"utm": "spring", "received_at": T + 50})]
    found = read(tmp_path, rows, as_of=T + 49, campaign="utm")
    assert [found.campaigns[c] for c in found.campaign] == ["spring"] and not found.clicked.any()
    assert read(tmp_path, rows, as_of=T + 50, campaign="utm").clicked.all()


def test_no_deliveries_are_an_empty_answer(tmp_path: Path) -> None:
    found = read(tmp_path, [("x", T, ORDER, {}), ("x", T, CLICK, {}), ("x", T, OPEN, {})])
    assert len(found.time) == 0 == len(found.orders)
