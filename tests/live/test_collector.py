"""Messages of tracking clients become rows: names, ids, times, values, and a reason for everything that does not."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

from predseg.language.time import HOUR, MINUTE, SECOND, parse_instant
from predseg.live import bodies
from predseg.live.collector import COLUMNS, NAME_LENGTH, PROPERTIES, Rejected, collect, flat, to_row

NOW = parse_instant("2026-03-01T12:00Z")
TRACK = {"type": "track", "userId": "ann", "event": "Product Added", "timestamp": "2026-03-01T11:59:00Z", "messageId": "m1"}


def row(message: Any, kind: str | None = None, **more: Any) -> dict[str, Any]:
    found = to_row(message, NOW, kind, **more)
    assert isinstance(found, dict), found
    return found


def reason(message: Any, kind: str | None = None) -> tuple[str, str]:
    found = to_row(message, NOW, kind)
    assert isinstance(found, Rejected), found
    return found.field, found.reason


def test_track() -> None:
    assert row({**TRACK, "anonymousId": "v7", "properties": {"price": 12.5, "category": "Luxury Watches", "none": None}}) == {
        "customer_id": "ann",
        "anonymous_id": "v7",
        "event": "Product Added",
        "event_time": NOW - MINUTE,
        "received_at": NOW,
        "event_id": "m1",
        "price": 12.5,
        "category": "Luxury Watches",
    }


def test_names_of_the_other_calls() -> None:
    ann = {"userId": "ann"}
    assert [row(ann | {"name": "Home"}, kind)["event"] for kind in ("page", "screen")] == ["Page Viewed", "Screen Viewed"]
    assert row(ann | {"name": "Home", "category": "Docs", "properties": {"url": "/"}}, "page")["category"] == "Docs"
    assert row(ann | {"traits": {"country": "GB", "address": {"city": "Bath"}}}, "identify")["traits"] == {"country": "GB", "address_city": "Bath"}
    assert row(ann | {"context": {"traits": {"country": "GB"}}}, "identify")["traits"] == {"country": "GB"}, "as RudderStack sends them"
    group = row(ann | {"groupId": 7, "traits": {"plan": "gold"}}, "group")
    assert (group["event"], group["group_id"], group["group_plan"]) == ("Group", "7", "gold")
    alias = row(ann | {"previousId": "v7"}, "alias")
    assert (alias["event"], alias["customer_id"], alias["anonymous_id"]) == ("Alias", "ann", "v7")


def test_the_address_wins_over_the_type() -> None:
    assert row({**TRACK, "type": "nonsense"}, "track")["event"] == "Product Added"
    assert reason({**TRACK, "type": "nonsense"})[0] == "type" == reason({"userId": "a"})[0]


def test_ids() -> None:
    assert row({**TRACK, "userId": None, "anonymousId": " v7 "})["anonymous_id"] == "v7"
    assert row({**TRACK, "userId": 17850.0})["customer_id"] == "17850" == row({**TRACK, "userId": 17850})["customer_id"]
    assert row({**TRACK, "userId": 12345678901234567890123})["customer_id"] == "12345678901234567890123"
    assert "anonymous_id" not in row({**TRACK, "anonymousId": "ann"}), "one person under one name is no link"
    assert "event_id" not in row({**TRACK, "messageId": None})
    for wrong in (True, 1.5, 1e20, [], {}, "x" * (NAME_LENGTH + 1)):
        assert reason({**TRACK, "userId": wrong})[0] == "userId"
    for nobody in ({}, {"userId": ""}, {"userId": " ", "anonymousId": None}):
        assert reason({"type": "track", "event": "A", **nobody}) == ("userId", "is missing, and so is anonymousId")
    assert reason({"type": "alias", "userId": "ann"}) == ("previousId", "is missing")
    assert reason({"type": "alias", "previousId": "v7"}) == ("userId", "is missing")
    assert reason({"type": "group", "userId": "ann"}) == ("groupId", "is missing")


def test_events() -> None:
    for wrong in (None, "", " ", 7, ["A"], "x" * (NAME_LENGTH + 1)):
        assert reason({**TRACK, "event": wrong})[0] == "event"
    assert row({**TRACK, "event": " A "})["event"] == "A"


def test_a_wrong_clock_of_the_client_is_corrected() -> None:
    """received − (sentAt − timestamp), for a message of its own and for a batch."""
    behind = {**TRACK, "timestamp": "2026-03-01T09:59:00Z", "sentAt": "2026-03-01T10:00:00Z"}
    ahead = {**TRACK, "timestamp": "2026-03-01T14:59:00+01:00", "sentAt": "2026-03-01T14:00:00Z"}
    assert row(behind)["event_time"] == row(ahead)["event_time"] == NOW - MINUTE
    batch = {"batch": [{**behind, "sentAt": None}, {**ahead}], "sentAt": "2026-03-01T10:00:00Z"}
    assert [found["event_time"] for found in collect(batch, NOW) if isinstance(found, dict)] == [NOW - MINUTE] * 2


def test_the_way_through_the_network_is_no_wrong_clock() -> None:
    assert row({**TRACK, "sentAt": "2026-03-01T11:59:56Z"})["event_time"] == NOW - MINUTE
    assert row({**TRACK, "sentAt": "2026-03-01T11:59:54Z"})["event_time"] == NOW - MINUTE + 6 * SECOND


def test_times() -> None:
    assert row({**TRACK, "timestamp": None})["event_time"] == NOW
    assert row({**TRACK, "timestamp": "2026-03-01"})["event_time"] == NOW - 12 * HOUR
    assert row({**TRACK, "timestamp": "2026-03-01T13:00:00.1234567+01:00"})["event_time"] == NOW + 123456
    for wrong in ("soon", 1772366400, "", True, "2026-13-01T00:00Z", "2026-03-01T00:00:00", "9" * 100, [], "0001-01-01T00:00+05:00"):
        assert reason({**TRACK, "timestamp": wrong})[0] == "timestamp", wrong
    assert reason({**TRACK, "sentAt": "soon"})[0] == "sentAt"
    assert "offset" in reason({**TRACK, "timestamp": "2026-03-01T00:00:00"})[1]
    assert reason({**TRACK, "timestamp": "9999-12-31T23:00Z", "sentAt": "2020-01-01T00:00Z"})[1] == "is not in the years 1 to 9999"


def test_the_value_of_an_order() -> None:
    def value(**properties: Any) -> Any:
        return row({**TRACK, "properties": properties}).get("value")

    assert value(value=1, revenue=2, total=3) == 1 and value(revenue=2.5, total=3) == 2.5 and value(total="30.00") == "30.00"
    assert value(value=None, revenue=2) == 2 and value() is None and value(value=0, revenue=2) == 0
    assert row({**TRACK, "properties": {"revenue": 2}})["revenue"] == 2
    for wrong in ("much", True, [], {}, "nan", 10**400):
        assert reason({**TRACK, "properties": {"revenue": wrong}}) == ("revenue", "is not a number")


def test_products_become_lists() -> None:
    products = [{"product_id": 1, "category": "Watches", "price": 9.0}, {"product_id": "p2", "extra": {"a": 1}}, "p3", None, {"category": None}]
    found = row({**TRACK, "event": "Order Completed", "properties": {"category": "whole order", "products": products, "tags": ["a", 1], "empty": []}})
    assert found["product_id"] == ["1", "p2"] and found["price"] == ["9"] and found["products"] == ["p3"] and found["extra"] == ['{"a":1}']
    assert found["category"] == "whole order", "what the event itself says wins"
    assert found["tags"] == ["a", "1"] and "empty" not in found
    found = row({**TRACK, "properties": {"cart": {"id": 5, "items": [{"sku": "s"}]}}})
    assert found["cart_id"] == 5 and found["cart_items_sku"] == ["s"]


def test_a_property_never_takes_the_place_of_a_column() -> None:
    found = row({**TRACK, "properties": {name: "x" for name in COLUMNS if name != "value"}})
    assert {f"property_{name}" for name in COLUMNS if name != "value"} <= set(found)
    assert found["customer_id"] == "ann" and found["received_at"] == NOW and "traits" not in found


def test_properties_are_bounded() -> None:
    assert len(row({**TRACK, "properties": {f"p{i}": i for i in range(PROPERTIES)}})) == PROPERTIES + 5
    assert reason({**TRACK, "properties": {f"p{i}": i for i in range(PROPERTIES + 1)}})[0] == "properties"
    for wrong in ([], "a", {"": 1}, {"x" * 256: 1}):
        assert reason({**TRACK, "properties": wrong})[0] == "properties"
    assert reason({**TRACK, "properties": {"a": "x" * 33_000}})[1] == "is longer than 32,768 bytes"


def test_a_row_of_a_broker_is_taken_as_it_is() -> None:
    assert flat({"customer_id": "ann", "event": "A", "received_at": 0}, NOW) == {"customer_id": "ann", "event": "A", "received_at": NOW}
    assert isinstance(flat({"a": float("inf")}, NOW), Rejected)


# any message whatever


SAMPLES: list[dict[str, Any]] = [
    {
        **TRACK,
        "properties": {"value": 1, "products": [{"product_id": "p"}], "a": {"b": [1, {"c": 2}]}},
        "context": {"ip": "1.2.3.4"},
        "sentAt": "2026-03-01T10:00Z",
    },
    {"type": "identify", "anonymousId": "v7", "userId": 3, "traits": {"country": "GB"}},
    {"type": "alias", "previousId": "v7", "userId": "ann"},
    {"type": "group", "groupId": "g", "anonymousId": "v", "traits": {}},
    {"type": "page", "anonymousId": "v", "name": "Home", "properties": {}},
]
JUNK = [
    "",
    " ",
    "\x00",
    "\ud800",
    "é" * 300,
    None,
    True,
    0,
    -1,
    10**30,
    1.5,
    1e308,
    [],
    {},
    [[]],
    {"": {}},
    ["a", {"b": None}],
    "2026-03-01T00:00Z",
    "NaN",
]


def mutated(r: random.Random) -> Any:
    """A message with some of its parts taken away, doubled, or put in the wrong place."""
    message = copy.deepcopy(r.choice(SAMPLES))
    for _ in range(r.randint(1, 4)):
        holder: Any = message
        while isinstance(holder, dict | list) and holder and r.random() < 0.6:
            key = r.choice(list(holder)) if isinstance(holder, dict) else r.randrange(len(holder))
            if not isinstance(holder[key], dict | list) or r.random() < 0.3:
                holder[key] = copy.deepcopy(r.choice([*JUNK, *SAMPLES]))
                break
            holder = holder[key]
        else:
            if isinstance(holder, dict):
                holder[r.choice(["userId", "event", "timestamp", "properties", "type", "products", "value", "x"])] = copy.deepcopy(r.choice(JUNK))
    return message if r.random() < 0.97 else r.choice(JUNK)


def test_any_message_gives_a_row_or_a_reason() -> None:
    r = random.Random(7)
    rows = rejected = 0
    for _ in range(20_000):
        text = json.dumps({"batch": [mutated(r)]})
        [found] = collect(bodies.read(text.encode()), NOW, length=len(text))
        if isinstance(found, Rejected):
            rejected += 1
            assert found.field and found.reason and found.raw.encode()
            continue
        rows += 1
        assert found["event"].strip() and (found.get("customer_id") or found.get("anonymous_id")) and found["received_at"] == NOW
        assert all(isinstance(found.get(name, ""), str) for name in ("customer_id", "anonymous_id", "event_id")) and isinstance(
            found["event_time"], int
        )
        assert len(found) <= PROPERTIES + 8 and json.dumps(found).encode()
        flattened = {**found, **found.get("traits", {})}
        assert all(isinstance(v, str | int | float | bool | list) for name, v in flattened.items() if name != "traits")
    assert rows > 4_000 and rejected > 4_000
