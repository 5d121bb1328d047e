"""At t a customer is what the links visible by t join: nothing learned later rewrites an earlier moment."""

from __future__ import annotations

import numpy as np
import pytest

from predseg.evaluate import batch, moments
from predseg.evaluate.block import BEGINNING, Block, from_table
from predseg.forecast.features import FeatureSet, features_at
from predseg.language import conditions as c
from predseg.language.measures import Events, Measure
from predseg.language.time import parse_instant, say_instant
from tests.evaluate.differential import IDENTITIES, question, random_identities
from tests.evaluate.stories import parse_events, rule
from tests.evaluate.worlds import MOMENTS, random_condition, seeded, to_block, to_table

VIEWS = """
    2026-03-01 10:00  View  {anonymous_id: phone, linked_at: 2026-03-02}
    2026-03-01 11:00  View  {anonymous_id: laptop, linked_at: 2026-03-03}
    2026-03-02 00:00  Signed In
    2026-03-04 10:00  View  {anonymous_id: phone, linked_at: 2026-03-02}
    2026-03-01 12:00  View  {anonymous_id: phone, linked_at: 2026-03-02}  received 2026-03-02 06:00
"""
"""Ann browsed on her phone and on her laptop; she signed in on the phone on the 2nd and on the laptop on the 3rd."""


VIEWED = FeatureSet((("views", Measure(Events(("View",)))),))


def block() -> Block:
    events = parse_events(VIEWS)
    for event in events:
        if linked := event.properties.get("linked_at"):
            event.properties["linked_at"] = parse_instant(str(linked))  # type: ignore[index]
    return to_block({"ann": events, "zoe": parse_events("2026-03-02 10:00  View")}, {k: IDENTITIES[k] for k in ("anonymous_id", "linked_at")})


def counts(at: str) -> dict[str, int]:
    """The views of everybody known at the moment."""
    histories, t = block(), parse_instant(at.removeprefix("<")) - at.startswith("<")
    views, seen = batch.evaluate(histories, [t], [Measure(Events(("View",))), Measure(Events())])
    return {str(i): int(n) for i, n, s in zip(histories.customers, views.number[:, 0], seen.number[:, 0], strict=True) if s}


@pytest.mark.parametrize(
    ("at", "views"),
    [
        ("<2026-03-01 10:00", {}),
        ("2026-03-01 10:00", {"phone": 1}),
        ("2026-03-01 11:00", {"phone": 1, "laptop": 1}),
        ("<2026-03-02 00:00", {"phone": 1, "laptop": 1}),
        ("2026-03-02 00:00", {"ann": 1, "laptop": 1}),  # the phone leaves everything at the instant of the link
        ("2026-03-02 06:00", {"ann": 2, "laptop": 1}),  # received after the link: never the phone's
        ("<2026-03-03 00:00", {"ann": 2, "laptop": 1, "zoe": 1}),
        ("2026-03-03 00:00", {"ann": 3, "zoe": 1}),
        ("2026-03-04 10:00", {"ann": 4, "zoe": 1}),
    ],
)
def test_a_link_joins_from_its_own_instant_on(at: str, views: dict[str, int]) -> None:
    assert counts(at) == views


def test_an_order_of_steps_over_two_identities_counts_once_they_are_one() -> None:
    """A view on the laptop, then the sign-in on the phone: one customer's sequence from the link of the laptop on."""
    text = rule("{did: View, where: {anonymous_id: laptop}, then: {did: Signed In}}")
    truth = batch.truth(block(), [parse_instant("2026-03-02 23:59"), parse_instant("2026-03-03")], text)
    assert truth.true[0].tolist() == [False, True] and not truth.true[1:].any()


def test_labels_of_an_earlier_identity_are_those_of_its_owner() -> None:
    """`known` after the links: everything belongs to Ann, and the earlier names point at her."""
    histories = block()
    assert histories.owner is not None
    assert {str(i): str(histories.customers[o]) for i, o in zip(histories.customers, histories.owner, strict=True)} == {
        "ann": "ann",
        "zoe": "zoe",
        "phone": "ann",
        "laptop": "ann",
    }
    [views] = batch.evaluate(histories, [parse_instant("2026-03-05")], [Measure(Events(("View",)))], known=parse_instant("2026-04-01"))
    assert dict(zip(histories.customers, views.number[:, 0].tolist(), strict=True))["ann"] == 4


def test_a_link_before_everything_makes_no_second_life() -> None:
    events = parse_events("2026-03-02 10:00  View  {anonymous_id: phone}\n2026-03-02 11:00  View")
    events[0].properties["linked_at"] = events[0].time  # type: ignore[index]
    histories = to_block({"ann": events}, {k: IDENTITIES[k] for k in ("anonymous_id", "linked_at")})
    assert histories.customers.tolist() == ["ann"] and histories.hidden is None


def test_everybody_is_counted_once() -> None:
    """At any moment the events of all known customers together are the visible events, each once."""
    for seed in range(60):
        r = seeded(seed)
        events = random_identities(r)
        block = to_block(events, IDENTITIES)
        [seen] = batch.evaluate(block, MOMENTS, [Measure(Events())])
        np.testing.assert_array_equal(batch.known_customers(block, MOMENTS), seen.number > 0, f"seed {seed}")
        visible = [sum(e.visible <= t for history in events.values() for e in history) for t in MOMENTS]
        np.testing.assert_array_equal(seen.number.sum(axis=0), visible, f"seed {seed}")


def test_who_had_ended_before_the_first_moment_is_left_out_and_nothing_else_changes() -> None:
    """A pass over the events that asks from an instant on need not know the identities that had ended by then."""
    left_out = 0
    for seed in range(60):
        r = seeded(seed)
        table, since = to_table(random_identities(r), IDENTITIES), r.choice(MOMENTS)
        asked = [t for t in MOMENTS if t >= since]
        whole, fewer = (from_table(table, since=start) for start in (BEGINNING, since))
        known = [_known(block, asked) for block in (whole, fewer)]
        assert known[0] == known[1], f"seed {seed}"
        condition, remaining = random_condition(r, 1), set(fewer.customers)
        for start, of in ((since, set(whole.customers)), (BEGINNING, remaining)):
            changes = [_changed(block, condition, start, of) for block in (whole, fewer)]
            assert changes[0] == changes[1], f"seed {seed}"
        left_out += len(whole.customers) - len(fewer.customers)
    assert left_out > 10


def _known(block: Block, asked: list[int]) -> dict[str, list[tuple[int, int]]]:
    [seen] = batch.evaluate(block, asked, [Measure(Events())])
    rows = {str(i): [(t, int(n)) for t, n in zip(asked, row, strict=True) if n] for i, row in zip(block.customers, seen.number, strict=True)}
    return {customer: counts for customer, counts in rows.items() if counts}


def _changed(block: Block, condition: c.Condition, start: int, of: set[str]) -> list[tuple[str, int, bool]]:
    customer, at, member = moments.transitions(block, condition, start, MOMENTS[-1])
    rows = zip(block.customers[customer], at, member, strict=True)
    return sorted((str(i), int(t), bool(m)) for i, t, m in rows if i in of)


def test_identities_are_among_the_questions_put_to_the_kernel() -> None:
    """The differential test rebuilds each identity at each moment by hand."""
    asked = [question(seed) for seed in range(4, 200, 5)]
    assert all(q.identities for q in asked) and sum(set(q.customers) != set(q.events) for q in asked) > 20
    assert any(q.block.hidden is not None and (q.block.received > q.block.time).any() for q in asked)


def test_the_losing_id_leaves_everything() -> None:
    """Also what is true of nothing, such as an absence: from the link on there is no such customer."""
    histories, start, end = block(), parse_instant("2026-01-01"), parse_instant("2026-06-01")
    customer, at, member = moments.transitions(histories, rule("{did_not: Bought}"), start, end)
    found = {(str(histories.customers[i]), say_instant(int(t)), bool(m)) for i, t, m in zip(customer, at, member, strict=True)}
    assert found == {
        ("phone", "2026-03-01T10:00Z", True),
        ("phone", "2026-03-02T00:00Z", False),
        ("laptop", "2026-03-01T11:00Z", True),
        ("laptop", "2026-03-03T00:00Z", False),
        ("ann", "2026-03-02T00:00Z", True),
        ("zoe", "2026-03-02T10:00Z", True),
    }


@pytest.mark.parametrize("seed", range(40))
def test_some_customers_of_a_block_are_the_block_of_their_rows(seed: int) -> None:
    """Earlier identities go with the customer whom they joined, whether or not they are marked themselves."""
    r = seeded(seed)
    events = random_identities(r)
    whole = to_block(events, IDENTITIES)
    kept = {name for name in events if r.random() < 0.5}
    marked = np.array([str(name) in kept or (i >= len(events) and r.random() < 0.5) for i, name in enumerate(whole.customers)], bool)
    found, wanted = whole.only(marked), to_block({name: events[name] for name in events if name in kept}, IDENTITIES)
    assert found.customers.tolist() == wanted.customers.tolist() and found.offsets.tolist() == wanted.offsets.tolist()
    for name in ("time", "received", "hidden", "owner"):
        of, like = getattr(found, name), getattr(wanted, name)
        assert like is None or of.tolist() == like.tolist(), name
    assert [found.names[e] for e in found.event] == [wanted.names[e] for e in wanted.event]


def test_an_id_that_an_earlier_identity_has_as_well_is_that_of_the_customer() -> None:
    events = parse_events("2026-03-01 10:00  View  {anonymous_id: zoe}\n2026-03-02 11:00  View")
    events[0].properties["linked_at"] = parse_instant("2026-03-02")  # type: ignore[index]
    histories = to_block({"ann": events, "zoe": parse_events("2026-03-02 10:00  View")}, {k: IDENTITIES[k] for k in ("anonymous_id", "linked_at")})
    assert histories.customers.tolist() == ["ann", "zoe", "zoe"]
    assert histories.places(np.array(["zoe", "nobody", "ann"], object)).tolist() == [1, -1, 0]
    found = features_at(histories, np.array(["zoe", "ann"], object), np.array([parse_instant("2026-03-03")] * 2), VIEWED)
    assert found["views"].tolist() == [1, 2]
