"""Anonymous ids: who a row belongs to now, who it belonged to then, and that two customers never become one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predseg.language.time import say_instant
from tests.history.projects import LONGER, NOW, Place, stored

TICK = 1_000_000
START = NOW - 1000 * TICK
TEXT = "sources: {web: {path: 'web/*.jsonl'}}\n"


def at(tick: int) -> str:
    return say_instant(START + tick * TICK)


def visit(tick: int, user: str | None, anonymous: str | None, received: int | None = None, event: str = "Seen") -> dict[str, Any]:
    row = {"customer_id": user, "anonymous_id": anonymous, "event": event, "event_time": at(tick)}
    return row | {"received_at": at(tick if received is None else received)}


def load(place: Place, *rows: dict[str, Any], name: str = "web/1.jsonl") -> list[tuple[str, str | None, int | None, int]]:
    """Ingest rows; return (customer_id, anonymous_id, tick of linked_at, tick of event_time), sorted as stored."""
    place.jsonl(name, rows)
    place.ingest(TEXT)
    found = stored(place.store.read("events"))
    tick = lambda t: None if t is None else (t - START) // TICK  # noqa: E731
    return [(r["customer_id"], r.get("anonymous_id"), tick(r.get("linked_at")), tick(r["event_time"])) for r in found]


def test_rows_before_and_after_the_link_belong_to_the_customer_from_the_link_on(place: Place) -> None:
    assert load(place, visit(1, None, "x"), visit(5, "ann", "x"), visit(7, None, "x"), visit(3, None, "y")) == [
        ("ann", "x", 5, 1),
        ("ann", "x", None, 5),
        ("ann", "x", 5, 7),
        ("y", "y", None, 3),
    ]


def test_a_link_is_visible_when_it_was_received(place: Place) -> None:
    assert load(place, visit(1, None, "x"), visit(2, "ann", "x", received=9))[0] == ("ann", "x", 9, 1)


def test_one_customer_may_have_many_anonymous_ids(place: Place) -> None:
    rows = load(place, visit(1, None, "x"), visit(2, None, "y"), visit(3, "ann", "x"), visit(4, "ann", "y"))
    assert [(c, a, linked) for c, a, linked, _ in rows] == [("ann", "x", 3), ("ann", "y", 4), ("ann", "x", None), ("ann", "y", None)]


def test_two_customers_are_never_merged_and_the_later_link_is_in_quarantine(place: Place) -> None:
    rows = load(place, visit(1, None, "x"), visit(5, "ann", "x"), visit(6, "bob", "x", event="Order Completed"), visit(8, None, "x"))
    assert rows == [("ann", "x", 5, 1), ("ann", "x", None, 5), ("ann", "x", 5, 8), ("bob", "x", None, 6)]
    (refused,) = place.quarantine()
    assert refused["raw"] == '{"anonymous_id": "x", "customer_id": "bob"}' and refused["field"] == "anonymous_id"
    assert refused["reason"] == "already belongs to customer ann; two customers are never merged"
    report = place.ingest(TEXT)
    assert report.refused_links == 1 and report.accepted == 4 == report.received and report.quarantined == 0


def test_of_links_at_one_instant_the_smallest_customer_holds(place: Place) -> None:
    devices = [f"x{k}" for k in range(40)]
    users = ["zoe", "ann", "kim"]
    rows = [visit(5, users[(k + turn) % 3], x) for k, x in enumerate(devices) for turn in range(3)]
    found = load(place, *[visit(1, None, x) for x in devices], *rows)
    assert {(c, linked) for c, _, linked, t in found if t == 1} == {("ann", 5)}


def test_a_row_whose_two_ids_are_the_same_is_no_link(place: Place) -> None:
    assert load(place, visit(1, "x", "x"), visit(2, None, "x")) == [("x", "x", None, 1), ("x", "x", None, 2)]


def test_a_row_without_any_id_is_quarantined(place: Place) -> None:
    place.jsonl("web/1.jsonl", [visit(1, None, None), visit(1, "ann", None), visit(1, None, "x")])
    report = place.ingest(TEXT + "contract: {tolerance: 50%}\n")
    assert report.sources[0].reasons == {"customer_id is missing": 1}


def test_a_link_that_comes_with_a_later_load_joins_what_was_stored(place: Place) -> None:
    first = load(place, visit(1, None, "x"), visit(2, "bob", None))
    assert first == [("bob", None, None, 2), ("x", "x", None, 1)]
    ids = {r["event_time"]: r["event_id"] for r in place.events()}
    second = load(place, visit(4, "ann", "x"), name="web/2.jsonl")
    assert second == [("ann", "x", 4, 1), ("ann", "x", None, 4), ("bob", None, None, 2)]
    assert all(r["event_id"] == ids[r["event_time"]] for r in place.events() if r["event_time"] in ids), "a merge renames no event"


def test_an_earlier_link_that_comes_late_takes_over(place: Place) -> None:
    load(place, visit(1, None, "x"), visit(6, "bob", "x"))
    rows = load(place, visit(4, "ann", "x"), name="web/2.jsonl")
    assert rows == [("ann", "x", 4, 1), ("ann", "x", None, 4), ("bob", "x", None, 6)]


def seen_by(rows: list[tuple[str, str | None, int | None, int]], t: int) -> set[tuple[str, int]]:
    """Who every row belongs to at t, rebuilt from the table as its docstring says."""
    return {(a if linked is not None and t < linked and a else c, when) for c, a, linked, when in rows if when <= t}


rows_ = st.lists(
    st.builds(visit, st.integers(0, 5), st.sampled_from(["ann", "bob", None]), st.sampled_from(["x", "y", None])).filter(
        lambda r: r["customer_id"] or r["anonymous_id"]
    ),
    min_size=1,
    max_size=7,
)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    root, counter = tmp_path_factory.mktemp("identity"), itertools.count()
    yield lambda: Place(root / str(next(counter)))


@settings(max_examples=12 * LONGER)
@given(rows=rows_, data=st.data())
def test_identity_at_any_moment_depends_only_on_the_links_visible_by_then(places: Any, rows: list[dict[str, Any]], data: st.DataObject) -> None:
    """The table of all rows, read at t, says what the table of only the rows visible by t says."""
    whole = load(places(), *rows)
    moment = data.draw(st.integers(0, 5))
    visible = [r for r in rows if r["event_time"] <= at(moment)]
    part = load(places(), *visible) if visible else []
    assert seen_by(whole, moment) == seen_by(part, moment)


@settings(max_examples=8 * LONGER)
@given(rows=rows_, data=st.data())
def test_order_and_loads_do_not_matter(places: Any, rows: list[dict[str, Any]], data: st.DataObject) -> None:
    whole = load(places(), *rows)
    assert load(places(), *data.draw(st.permutations(rows))) == whole
    cut = data.draw(st.integers(0, len(rows)))
    if 0 < cut < len(rows):
        grown = places()
        load(grown, *rows[:cut])
        assert load(grown, *rows[cut:], name="web/2.jsonl") == whole
