"""A run records who belongs: entered, left, changed rules, exact instants of live segments, nothing twice."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd

from predseg.language.time import DAY, HOUR
from predseg.segments import memberships
from predseg.segments.customers import Customers
from predseg.segments.facts import Facts
from predseg.segments.memberships import OPEN, Ledger
from predseg.segments.population import Listed
from predseg.segments.runs import run_segments
from tests.segments.stores import Tables, rules, write_events

BUYERS = "segment: buyers\nmatch: {did: Order, within: 10 days}\n"
CART = """
segment: cart
refresh: live
match: {did: Add, within: 3 days, then: {did_not: [Order, Add], within: 24 hours}}
"""


def rows(ledger: Ledger, segment: str) -> list[tuple[str, float, float | None]]:
    """(customer, entered, left) in days."""
    found = ledger.spells(segment)
    return [(c, e / DAY, None if left == OPEN else left / DAY) for c, e, left in zip(found.customers, found.entered, found.left, strict=True)]


def test_daily_members_enter_and_leave_at_runs(tmp_path: Path) -> None:
    files = write_events(tmp_path, [("a", 1 * DAY, "Order", {}), ("b", 5 * DAY, "Order", {})])
    ledger, segments = Ledger.empty(), rules(BUYERS)
    for day in (3, 7, 12, 16):
        ledger = run_segments(files, segments, day * DAY, Facts(), ledger).ledger
    assert rows(ledger, "buyers") == [("a", 3, 12), ("b", 7, 16)]


def test_the_same_run_again_changes_nothing(tmp_path: Path) -> None:
    files = write_events(tmp_path, [("a", 1 * DAY, "Order", {}), ("a", 2 * DAY, "Add", {})])
    segments = rules(BUYERS + "---" + CART)
    first = run_segments(files, segments, 4 * DAY, Facts(), Ledger.empty())
    again = run_segments(files, segments, 4 * DAY, Facts(), first.ledger)
    assert memberships.to_table(first.ledger).equals(memberships.to_table(again.ledger))
    assert [c.entered for c in again.changes] == [c.entered for c in first.changes] == [1, 1]


def test_a_changed_rule_starts_a_new_history(tmp_path: Path) -> None:
    files = write_events(tmp_path, [("a", 1 * DAY, "Order", {})])
    first = run_segments(files, rules(BUYERS), 2 * DAY, Facts(), Ledger.empty())
    second = run_segments(files, rules(BUYERS.replace("10", "20")), 3 * DAY, Facts(), first.ledger)
    assert rows(second.ledger, "buyers") == [("a", 2, 3), ("a", 3, None)]
    assert len(second.ledger.rows["buyers"]) == 2


def test_a_live_segment_is_entered_at_the_exact_instant(tmp_path: Path) -> None:
    files = write_events(
        tmp_path, [("a", 1 * DAY, "Add", {}), ("a", 1 * DAY + HOUR, "Add", {}), ("b", 1 * DAY, "Add", {}), ("b", 1 * DAY + HOUR, "Order", {})]
    )
    ledger = Ledger.empty()
    entered, leaves = 2 + 1 / 24, 4 + 1 / 24
    for as_of in (1.5, 3, 5):
        ledger = run_segments(files, rules(CART), int(as_of * DAY), Facts(), ledger).ledger
    assert rows(ledger, "cart") == [("a", entered, leaves)]
    alone = run_segments(files, rules(CART), 3 * DAY, Facts(), Ledger.empty())
    assert rows(alone.ledger, "cart") == [("a", entered, None)]


def test_entering_and_leaving_between_two_runs_is_recorded(tmp_path: Path) -> None:
    files = write_events(tmp_path, [("x", 0, "Other", {}), ("a", 1 * DAY, "Add", {}), ("a", 2 * DAY + HOUR, "Order", {})])
    first = run_segments(files, rules(CART), 1 * DAY - 1, Facts(), Ledger.empty())
    second = run_segments(files, rules(CART), 9 * DAY, Facts(), first.ledger)
    assert rows(second.ledger, "cart") == [("a", 2, 4)]
    assert [(c.members, c.entered, c.left) for c in second.changes] == [(0, 0, 0)]


def test_live_history_run_by_run_is_that_of_one_long_run(tmp_path: Path) -> None:
    adds = [(c, int(d * DAY), "Add", {}) for c, days in (("a", (1, 9, 20)), ("b", (2, 2.5)), ("c", (8,))) for d in days]
    files = write_events(tmp_path, [("x", 0, "Other", {}), *adds, ("b", 3 * DAY, "Order", {}), ("c", int(8.5 * DAY), "Order", {})])
    by_day, at_once = (
        run_segments(files, rules(CART), 0, Facts(), Ledger.empty()).ledger,
        run_segments(files, rules(CART), 0, Facts(), Ledger.empty()).ledger,
    )
    for day in range(1, 26):
        by_day = run_segments(files, rules(CART), day * DAY, Facts(), by_day).ledger
    at_once = run_segments(files, rules(CART), 25 * DAY, Facts(), at_once).ledger
    assert rows(by_day, "cart") == rows(at_once, "cart") == [("a", 2, 4), ("a", 10, 12), ("a", 21, 23)]


def test_segments_use_segments_and_scores(tmp_path: Path) -> None:
    files = write_events(tmp_path, [(c, 1 * DAY, "Order", {"value": Decimal(v)}) for c, v in (("a", 5000), ("b", "5000.01"), ("c", 9000))])
    tables = Tables()
    tables.score("churn", 2 * DAY, {"a": 0.9, "b": 0.8, "c": 0.1})
    segments = rules(
        """
segment: rich
match: {did: Order, sum: value, more_than: 5000, within: 6 months}
---
segment: rich_and_leaving
match: {all: [{in: rich}, {score: churn, top: 50%}]}
---
segment: others
match: {none: [{in: rich}]}
""",
        "churn",
    )
    run = run_segments(files, segments, 3 * DAY, Facts(tables), Ledger.empty())
    assert {name: list(s.customers) for name, s in run.spells.items()} == {"rich": ["b", "c"], "rich_and_leaving": ["b"], "others": ["a"]}


def test_only_who_is_known_belongs(tmp_path: Path) -> None:
    """Whoever comes later did not buy either, and is in no segment; `not_in` is of the same run, also for a part of a byte of customers."""
    files = write_events(tmp_path, [("a", 1 * DAY, "Order", {}), ("b", 2 * DAY, "Look", {}), ("later", 5 * DAY, "Order", {})])
    segments = rules(BUYERS + "---\nsegment: others\nmatch: {not_in: buyers}\n---\nsegment: quiet\nmatch: {none: [{did: Order}, {did: Add}]}")
    run = run_segments(files, segments, 3 * DAY, Facts(), Ledger.empty())
    assert {name: list(s.customers) for name, s in run.spells.items()} == {"buyers": ["a"], "others": ["b"], "quiet": ["b"]}


def test_customers_without_events_are_known_from_the_customers_file(tmp_path: Path) -> None:
    files = write_events(tmp_path, [("a", 1 * DAY, "Order", {})])
    segments = rules("segment: quiet\nmatch: {did_not: Order}")
    listed = Listed(Customers.named(np.array(["a", "b", "z"], object))[0], np.array([0, 2 * DAY, 9 * DAY]))
    run = run_segments(files, segments, 3 * DAY, Facts(), Ledger.empty(), listed=listed)
    assert list(run.spells["quiet"].customers) == ["b"]


def test_an_earlier_run_never_rewrites_history(tmp_path: Path) -> None:
    files = write_events(tmp_path, [("a", 1 * DAY, "Order", {})])
    late = run_segments(files, rules(BUYERS), 20 * DAY, Facts(), run_segments(files, rules(BUYERS), 5 * DAY, Facts(), Ledger.empty()).ledger)
    early = run_segments(files, rules(BUYERS), 7 * DAY, Facts(), late.ledger)
    assert not early.recorded
    assert rows(early.ledger, "buyers") == rows(late.ledger, "buyers") == [("a", 5, 20)]
    assert (list(early.spells["buyers"].customers), list(early.spells["buyers"].entered)) == (["a"], [5 * DAY])


def test_who_was_in_on_a_day_answers_from_the_history(tmp_path: Path) -> None:
    files = write_events(tmp_path, [("a", 1 * DAY, "Order", {}), ("b", 5 * DAY, "Order", {})])
    ledger = Ledger.empty()
    for day in (3, 7, 12):
        ledger = run_segments(files, rules(BUYERS), day * DAY, Facts(), ledger).ledger
    spells = memberships.from_table(memberships.to_table(ledger), ledger.log).spells("buyers")
    assert [list(spells.at(int(day * DAY))) for day in (2, 3, 7, 11.9, 12)] == [[], ["a"], ["a", "b"], ["a", "b"], ["b"]]


def test_a_retired_segment_is_left_by_all(tmp_path: Path) -> None:
    files = write_events(tmp_path, [("a", 1 * DAY, "Order", {})])
    first = run_segments(files, rules(BUYERS), 2 * DAY, Facts(), Ledger.empty())
    second = run_segments(files, rules("segment: other\nmatch: {did: Order}"), 3 * DAY, Facts(), first.ledger)
    assert rows(second.ledger, "buyers") == [("a", 2, 3)]


def test_an_earlier_identity_may_have_the_id_of_a_customer(tmp_path: Path) -> None:
    """Somebody browsed as `zoe` before being known as Ann, and there is a Zoe; her trait is known from day 3 on."""
    files = write_events(tmp_path, [("ann", 1 * DAY, "View", {"anonymous_id": "zoe", "linked_at": 9 * DAY}), ("zoe", 1 * DAY, "View", {})])
    facts = Facts(traits=pd.DataFrame({"customer_id": ["zoe"], "country": ["GB"], "event_time": [3 * DAY]}))
    segments, ledger = rules("segment: british\nrefresh: live\nmatch: {all: [{did: View}, {trait: {country: GB}}]}\n"), Ledger.empty()
    for day in (2, 4):
        ledger = run_segments(files, segments, day * DAY, facts, ledger).ledger
    assert rows(ledger, "british") == [("zoe", 3, None)]
