"""Explanations: what was found, what would flip it, what the clock brings, and who is not there at all."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from predseg.config import parse
from predseg.errors import UsageError
from predseg.evaluate.reference import Event, decide
from predseg.history.privacy import NOBODY
from predseg.language import conditions as c
from predseg.language.documents import parse_condition
from predseg.language.time import DAY, HOUR, parse_instant, say_instant
from predseg.language.yaml import read_documents
from predseg.segments.customer import Customer
from predseg.segments.explain import Reason, ahead, explain
from predseg.segments.flips import nearest_flip
from predseg.segments.givens import Givens
from predseg.segments.lookup import Explanation, explain_customer, read_events
from predseg.segments.workspace import Workspace
from predseg.segments.worlds import SMALL, random_condition, random_histories
from predseg.store import Store
from tests.segments.stores import STAMP, write_events

NOW = parse_instant("2026-03-10 12:00")


def rule(text: str) -> c.Condition:
    [node] = read_documents(text)
    return parse_condition(node)


def did(text: str) -> c.Did:
    found = rule(text)
    assert isinstance(found, c.Did)
    return found


def event(ago: int, name: str = "Order", **properties: Any) -> Event:
    return Event(NOW - ago, name, {k: Decimal(str(v)) if isinstance(v, int | float) else v for k, v in properties.items()})


def flip_of(text: str, events: Sequence[Event] = ()) -> str | None:
    found = nearest_flip(did(text), events, NOW)
    return None if found is None else found.says


# what would flip it


@pytest.mark.parametrize(
    ("text", "events", "says"),
    [
        ("{did: Order, sum: value, more_than: 5000, within: 6 months}", [event(DAY, value=4688)], "one Order of more than 312"),
        ("{did: Order, sum: value, at_least: 5000}", [event(DAY, value=4688)], "one Order of at least 312"),
        ("{did: Order, sum: value, at_least: 5000}", [], "one Order of at least 5,000"),
        ("{did: Order, sum: value, at_most: 100}", [event(DAY, value=40)], "one Order of more than 60"),
        ("{did: Order, sum: value, less_than: 100}", [event(DAY, value=40)], "one Order of at least 60"),
        ("{did: Order, sum: value, at_least: 10}", [event(DAY, value=40)], None),
        ("{did: Order, sum: value, less_than: 10}", [event(DAY, value=40)], None),
        ("{did: Order, sum: value, less_than: 10}", [event(DAY, value=40), event(DAY, value=-1)], "one Order of less than -29"),
        ("{did: Order, sum: items, at_least: 5, where: {value: {more_than: 10}}}", [], "one Order with value more than 10 with items of at least 5"),
        ("{did: Order, avg: value, at_least: 20}", [event(DAY, value=10)], "one Order of at least 30"),
        ("{did: Order, avg: value, at_least: 20}", [event(DAY, value=25)], "one Order of less than 15"),
        ("{did: Order, min: value, at_least: 20}", [], "one Order of at least 20"),
        ("{did: Order, min: value, at_least: 20}", [event(DAY, value=10)], None),
        ("{did: Order, min: value, at_least: 20}", [event(DAY, value=30)], "one Order of less than 20"),
        ("{did: Order, max: value, more_than: 20}", [event(DAY, value=10)], "one Order of more than 20"),
        ("{did: Order, at_least: 3}", [event(DAY)], "2 more Order"),
        ("{did: Order}", [], "one Order"),
        ("{did_not: Order, within: 3 days}", [], "one Order"),
        ("{did: Order, exactly: 2}", [event(DAY), event(HOUR)], "one more Order"),
        ("{did: Order, at_most: 1}", [event(DAY), event(HOUR)], None),
        ("{did: Order, where: {category: [A, B], price: {more_than: 5}}}", [], "one Order with category A or B and price more than 5"),
        ("{did: Order, distinct: sku, at_least: 3}", [event(DAY, sku="a")], "2 more different sku of Order"),
        ("{did: Order, until: 3 days ago}", [], f"one Order, counted from {say_instant(NOW + 3 * DAY)} on"),
        (
            "{did: View, then: {did: Order, within: 2 days}}",
            [event(DAY, "View")],
            f"one Order within 48 hours after the View of {say_instant(NOW - DAY)} by {say_instant(NOW + DAY)}",
        ),
        ("{did: View, then: {did: Order, within: 2 days}}", [event(3 * DAY, "View")], "one View, then one Order within 48 hours"),
        (
            "{did: View, then: {did: Order, same: sku}}",
            [event(DAY, "View", sku="a")],
            f"one Order with the same sku after the View of {say_instant(NOW - DAY)}",
        ),
        ("{did: View, then: {did_not: Order}}", [event(DAY, "View")], f"one Order after the View of {say_instant(NOW - DAY)}"),
        ("{did: View, then: {did_not: Order, within: 1 day}}", [event(2 * DAY, "View")], None),
        ("{did: View, then: {did_not: Order, within: 1 day}}", [], "one View, then no Order within 24 hours"),
        (
            "{did: A, then: {did: B, then: {did: C, within: 1 day}}}",
            [event(DAY, "A")],
            f"one B, then one C within 24 hours after the A of {say_instant(NOW - DAY)}",
        ),
    ],
)
def test_the_nearest_change_in_words(text: str, events: list[Event], says: str | None) -> None:
    assert flip_of(text, events) == says


def test_a_proposed_change_flips_the_condition_and_nothing_less_does() -> None:
    proposed = smaller = 0
    for seed in range(4_000):
        r = random.Random(seed)
        condition = random_condition(r, SMALL, 0)
        if not isinstance(condition, c.Did):
            continue
        [events] = random_histories(r, SMALL, 1).values()
        t = r.choice(SMALL.times)
        known = [e for e in events if e.visible <= t]
        if (flip := nearest_flip(condition, events, t)) is None:
            continue
        proposed += 1
        before = decide(condition, known, t) is True
        assert (decide(condition, [*known, *flip.events], flip.at) is True) != before, f"seed {seed}: {flip.says}"
        assert (decide(condition, known, flip.at) is True) == before, f"seed {seed}: the clock brings it anyway"
        assert all(e.time >= t for e in flip.events) and flip.says
        if condition.measure.then is None and condition.measure.aggregate in ("count", "distinct"):
            smaller += 1
            assert (decide(condition, [*known, *flip.events[:-1]], flip.at) is True) == before, f"seed {seed}: fewer would do"
    assert proposed > 500 and smaller > 100, (proposed, smaller)


def test_where_a_count_is_lacking_there_is_a_proposal() -> None:
    for seed in range(300):
        r = random.Random(seed)
        condition = random_condition(r, SMALL, 0)
        if (
            isinstance(condition, c.Did)
            and condition.measure.then is None
            and condition.measure.aggregate == "count"
            and not condition.measure.events.where
        ):
            [events] = random_histories(r, SMALL, 1).values()
            t = SMALL.times[-1]
            low, high = condition.comparison.bounds()
            count = sum(1 for e in events if e.visible <= t)
            if low is not None and low > count and (high is None or high >= low) and condition.measure.window.until == 0:
                assert nearest_flip(condition, events, t) is not None, f"seed {seed}"


# the tree


def person(events: Sequence[Event], **segments: str) -> Customer:
    return Customer(events, Givens(), {name: rule(text) for name, text in segments.items()}, min(e.visible for e in events))


def leaves(reason: Reason) -> dict[int, Reason]:
    return {r.number: r for r in reason.leaves()}


def test_each_condition_has_its_number_its_value_and_at_most_three_events() -> None:
    events = [event(n * DAY, value=n) for n in range(1, 6)]
    found = explain(
        rule("{all: [{did: Order, sum: value, at_least: 10}, {any: [{did: View}, {did: Order, max: value, at_least: 2}]}, {trait: {country: GB}}]}"),
        person(events),
        NOW,
    )
    one = leaves(found)
    assert [r.truth for r in one.values()] == [True, False, True, None] and list(one) == [1, 2, 3, 4]
    assert found.truth is None and one[1].found == "15" and one[2].found == "never" and one[3].found == "5"
    assert [e.properties["value"] for e in one[1].events] == [1, 2, 3] and one[1].more == 2, "the latest three"
    assert [e.properties["value"] for e in one[3].events] == [5, 4, 3], "for a maximum the largest"
    assert one[4].found == "not stated in `facts`"


def test_an_absence_shows_what_was_looked_at() -> None:
    found = explain(rule("{did: View, then: {did_not: Order, within: 1 day}}"), person([event(3 * HOUR, "View"), event(2 * HOUR)]), NOW)
    assert found.found == "never; 1 View looked at" and [e.name for e in found.events] == ["View"]
    assert found.details == (f"the View of {say_instant(NOW - 3 * HOUR)} was followed by the Order of {say_instant(NOW - 2 * HOUR)}",)
    waiting = explain(rule("{did: View, then: {did_not: Order, within: 1 day}}"), person([event(3 * HOUR, "View")]), NOW)
    assert waiting.details == (f"after the View of {say_instant(NOW - 3 * HOUR)} it is open until {say_instant(NOW + 21 * HOUR)}",)


def test_events_beyond_the_moment_are_not_seen() -> None:
    events = [event(DAY), event(-HOUR), Event(NOW - HOUR, "Order", {}, NOW + HOUR)]
    found = explain(rule("{did: Order, at_least: 2}"), person(events), NOW)
    assert found.truth is False and found.found == "once" and found.more == 0 and found.ahead.at is None


def test_a_used_segment_is_explained_inside() -> None:
    found = explain(rule("{all: [{in: buyers}, {not_in: viewers}]}"), person([event(DAY)], buyers="{did: Order}", viewers="{did: View}"), NOW)
    inside, outside = found.leaves()
    assert (inside.truth, inside.found, inside.parts[0].truth) == (True, "a member", True)
    assert (outside.truth, outside.found, outside.parts[0].truth) == (True, "not a member", False)
    assert [r.number for r in found.leaves()] == [1, 2] and inside.parts[0].number == 1


def test_what_the_clock_brings_is_what_every_later_tick_says() -> None:
    changed = 0
    for seed in range(1_500):
        r = random.Random(seed)
        condition = random_condition(r, replace(SMALL, models=(), clusters={}, traits={}, segments=()), 1)
        if not all(isinstance(p, c.Did | c.All | c.Any | c.NoneOf | c.Some | c.Holds) for p in c.walk(condition)):
            continue
        [events] = random_histories(r, SMALL, 1).values()
        t = r.choice(SMALL.times)
        known = [e for e in events if e.visible <= t]
        if not known:
            continue
        second = SMALL.times[1]
        now = decide(condition, known, t) is True
        first = next((x for x in range(t + second, t + 40 * second, second) if (decide(condition, known, x) is True) != now), None)
        found = ahead(condition, person(known), t)
        assert found.at == first and (first is None or found.holds != now), f"seed {seed}"
        changed += first is not None
    assert changed > 40


# in a store


RULES = """
segment: cart
refresh: live
match: {did: Add, within: 3 days, then: {did_not: [Order, Add], within: 24 hours}}
---
segment: buyers
match: {did: Order, within: 10 days}
---
segment: both
match: {all: [{in: cart}, {in: buyers}, {score: churn, top: 25%}]}
"""
PROJECT = "project: shop\nsegments: rules.yaml\nmodels: {churn: {predict: {did_not: Order, within_next: 90 days}}}\n"


def opened(folder: Path, text: str = RULES) -> Workspace:
    (folder / "rules.yaml").write_text(text, "utf-8")
    return Workspace.open(parse(PROJECT, folder / "predseg.yaml"), Store(folder / "store"), lambda purpose: NOBODY)


def open_store(folder: Path, rows: Sequence[tuple[str, int, str, Mapping[str, Any]]], text: str = RULES) -> Workspace:
    write_events(Store(folder / "store").tables / "events", rows)
    return opened(folder, text)


def publish(store: Store, as_of: int, scores: Mapping[str, float]) -> None:
    higher = [sum(o > p for o in scores.values()) for p in scores.values()]
    n = len(scores)
    columns: dict[str, Any] = {"customer_id": list(scores), "model": ["churn"] * n, "probability": list(scores.values())}
    columns |= {"percentile": [1 - h / n for h in higher], "decile": [1 + 10 * h // n for h in higher], "reasons": [[f"why {who}"] for who in scores]}
    store.write("scores", pa.table(columns), as_of)


ROWS = [
    ("ann", NOW - 30 * HOUR, "Add", {}),
    ("ann", NOW - 5 * DAY, "Order", {"value": Decimal(10)}),
    ("bob", NOW - 2 * HOUR, "Add", {}),
    ("cleo", NOW + DAY, "Order", {"value": Decimal(10)}),
]


def test_a_live_segment_has_the_exact_instants(tmp_path: Path) -> None:
    workspace = open_store(tmp_path, ROWS)
    ann, bob = (explain_customer(workspace, "cart", who, NOW) for who in ("ann", "bob"))
    assert (ann.member, ann.entered_at, ann.ahead.at, ann.ahead.holds) == (True, NOW - 6 * HOUR, NOW + 42 * HOUR, False)
    assert (bob.member, bob.entered_at, bob.ahead.at, bob.ahead.holds) == (False, None, NOW + 22 * HOUR, True)


def test_a_daily_segment_is_what_its_last_run_said(tmp_path: Path) -> None:
    workspace = open_store(tmp_path, ROWS)
    before = explain_customer(workspace, "buyers", "ann", NOW)
    assert (before.member, before.entered_at, before.last_run, before.ahead.at) == (True, None, None, NOW + 5 * DAY)
    workspace.run(NOW)
    later = explain_customer(workspace, "buyers", "ann", NOW + 6 * DAY)
    assert (later.member, later.holds, later.entered_at, later.last_run) == (True, False, NOW, NOW)
    workspace.run(NOW + 6 * DAY)
    after = explain_customer(workspace, "buyers", "ann", NOW + 6 * DAY)
    assert (after.member, after.entered_at, after.before) == (False, None, ((NOW, NOW + 6 * DAY),))
    past = explain_customer(workspace, "buyers", "ann", NOW + DAY)
    assert (past.member, past.entered_at, past.before, past.ahead.at) == (True, NOW, (), NOW + 5 * DAY), "nothing of the later run is seen"


def reasons_of(found: Explanation) -> list[Reason]:
    return list(found.reason.leaves())


def test_scores_come_with_rank_and_reasons_and_nothing_later_is_seen(tmp_path: Path) -> None:
    workspace = open_store(tmp_path, ROWS)
    workspace.run(NOW)
    unknown = reasons_of(explain_customer(workspace, "both", "ann", NOW))[2]
    assert unknown.truth is None and "no score of it is published yet" in unknown.found
    publish(workspace.store, NOW, {"ann": 0.5, "bob": 0.9, "dan": 0.1, "eve": 0.05, "fay": 0.01})
    publish(workspace.store, NOW + HOUR, {"ann": 0.99, "bob": 0.9})
    cart, buyers, score = reasons_of(explain_customer(workspace, "both", "ann", NOW))
    assert (cart.truth, buyers.truth, score.truth) == (True, True, True)
    assert score.found == f"probability 0.500, rank 2 of 5, by the run of {say_instant(NOW)}" and score.details == ("because why ann",)
    assert score.flip == "1 rank lower, beyond 2" and score.ahead.at is None, "a later run is no work of the clock"
    assert cart.parts and not buyers.parts and buyers.found == "a member by its last run"
    late = explain_customer(workspace, "both", "ann", NOW + HOUR)
    assert "rank 1 of 2" in reasons_of(late)[2].found
    absent = reasons_of(explain_customer(open_store(tmp_path, [*ROWS, ("gus", NOW - DAY, "Add", {})]), "both", "gus", NOW))[2]
    assert absent.truth is None and absent.found.startswith("not among the 5 customers")


@pytest.mark.parametrize(
    ("customer", "as_of", "message", "help_"),
    [
        ("an", NOW, "no customer has this id", "did you mean 'ann'"),
        ("blob", NOW, "no customer has this id", "did you mean 'bob'"),
        ("zzzzzzzz", NOW, "no customer has this id", "segment"),
        ("cleo", NOW, "nothing is known of this customer at 2026-03-10T12:00Z", "2026-03-11T12:00Z"),
    ],
)
def test_unknown_customers(tmp_path: Path, customer: str, as_of: int, message: str, help_: str) -> None:
    with pytest.raises(UsageError) as refused:
        explain_customer(open_store(tmp_path, ROWS), "cart", customer, as_of)
    assert refused.value.code == "E221" and refused.value.message == message and help_ in refused.value.help


def test_an_unknown_segment_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="buyers"):
        explain_customer(open_store(tmp_path, ROWS), "buyer", "ann", NOW)


def with_identities(folder: Path) -> Workspace:
    """``anon`` did things before it became ``ann`` an hour ago."""
    table = pa.table(
        {
            "customer_id": ["ann", "ann", "bob"],
            "event": ["Add", "Order", "Order"],
            "event_time": pa.array([NOW - 30 * HOUR, NOW - DAY, NOW], pa.int64()).cast(STAMP),
            "received_at": pa.array([NOW - 30 * HOUR, NOW - DAY, NOW], pa.int64()).cast(STAMP),
            "anonymous_id": ["anon", None, None],
            "linked_at": pa.array([NOW - HOUR, None, None], pa.int64()).cast(STAMP),
        }
    )
    Store(folder / "store").write("events", table)
    return opened(folder)


def test_an_earlier_identity_is_explained_as_it_was_known_then(tmp_path: Path) -> None:
    workspace = with_identities(tmp_path)
    assert explain_customer(workspace, "cart", "anon", NOW - 2 * HOUR).member
    assert not explain_customer(workspace, "cart", "ann", NOW - 2 * HOUR).member
    assert not explain_customer(workspace, "cart", "ann", NOW).member, "the order came within 24 hours"
    with pytest.raises(UsageError) as refused:
        explain_customer(workspace, "cart", "anon", NOW)
    assert "belongs to customer 'ann'" in refused.value.message


def test_only_row_groups_that_can_hold_the_customer_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write_events(tmp_path, [(f"c{i:04}", NOW + i, "Order", {"value": Decimal(i)}) for i in range(2_000)])
    pq.write_table(pq.read_table(files[0]), files[0], row_group_size=100)
    read = []
    original = pq.ParquetFile.read_row_group
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", lambda self, group, *a, **k: (read.append(group), original(self, group, *a, **k))[1])
    [found] = read_events(files, "c0777")
    assert found == Event(NOW + 777, "Order", {"value": Decimal(777)}, NOW + 777) and set(read) == {7}


def test_properties_have_the_kinds_of_the_language(tmp_path: Path) -> None:
    table = pa.table(
        {
            "customer_id": ["a"],
            "event": pa.array(["Order"]).dictionary_encode(),
            "event_time": pa.array([NOW], pa.int64()).cast(STAMP),
            "received_at": pa.array([NOW + 1], pa.int64()).cast(STAMP),
            "event_id": ["x"],
            "value": pa.array([Decimal("1.5")], pa.decimal128(18, 4)),
            "number": pa.array([3], pa.int64()),
            "flag": [True],
            "tags": [["a", None, "b"]],
            "none": pa.array([None], pa.string()),
        }
    )
    pq.write_table(table, tmp_path / "part.parquet")
    [found] = read_events([tmp_path / "part.parquet"], "a")
    assert found.received == NOW + 1
    assert found.properties == {"value": Decimal("1.5"), "number": Decimal(3), "flag": True, "tags": ("a", "b")}
    assert found.properties["flag"] is True and isinstance(found.properties["number"], Decimal)
