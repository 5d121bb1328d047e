"""The stock clients of Segment and RudderStack, as they are installed, over the loopback."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import rudderstack.analytics.client as rudder
import segment.analytics.client as segment

from tests.live.fakes import Store
from tests.live.serving import WRITE, Running, running
from tests.patience import eventually

YESTERDAY = datetime.now(UTC) - timedelta(days=1)
CLIENTS = [
    pytest.param(segment.Client, {"gzip": True}, id="segment, gzip"),
    pytest.param(segment.Client, {}, id="segment"),
    pytest.param(rudder.Client, {}, id="rudderstack"),
]


@pytest.fixture
def up() -> Iterator[Running]:
    with running() as found:
        yield found


def client_of(kind: Any, up: Running, errors: list[Any], **options: Any) -> Any:
    logging.getLogger("rudderstack").setLevel(logging.CRITICAL)
    given = {"host": up.url, "upload_interval": 0.1, "on_error": lambda error, items: errors.append((error, items))} | options
    return kind(options.pop("write_key", WRITE), **given)


@pytest.mark.parametrize(("kind", "options"), CLIENTS)
def test_every_call_of_a_stock_client_arrives(up: Running, kind: Any, options: dict[str, Any]) -> None:
    errors: list[Any] = []
    client = client_of(kind, up, errors, **options)
    client.track("ann", "Enter", {"price": 12.5, "products": [{"product_id": "p1"}]}, timestamp=YESTERDAY, message_id="m1")
    client.track(None, "Look", anonymous_id="v7")
    client.identify("ann", {"country": "GB", "since": YESTERDAY})
    client.page("ann", "Docs", "Python", {"url": "/"})
    client.screen("ann", "Docs", "Python")
    client.group("ann", "g1", {"plan": "gold"})
    client.alias("v7", "ann")
    client.shutdown()
    assert errors == [] and set(up.answers) <= {200} and len(up.store.rows) == 7 and up.store.quarantine == []
    rows = {row["event"]: row for row in up.store.rows}
    assert set(rows) == {"Enter", "Look", "Identify", "Page Viewed", "Screen Viewed", "Group", "Alias"}
    assert abs(rows["Enter"]["event_time"] - YESTERDAY.timestamp() * 1e6) < 1_000 and rows["Enter"]["event_id"] == "m1"
    assert rows["Enter"]["product_id"] == ["p1"] and rows["Enter"]["price"] == 12.5
    assert rows["Look"]["anonymous_id"] == "v7" and "customer_id" not in rows["Look"]
    assert rows["Identify"]["traits"]["country"] == "GB" and rows["Alias"]["anonymous_id"] == "v7" and rows["Alias"]["customer_id"] == "ann"
    [inside] = up.ask("/v1/customers/ann")[1]["segments"]
    assert inside["segment"] == "inside" and inside["since"].startswith(f"{YESTERDAY:%Y-%m-%dT%H:%M}")


@pytest.mark.parametrize(("kind", "options"), CLIENTS)
def test_a_value_that_is_no_number_costs_only_its_message(up: Running, kind: Any, options: dict[str, Any]) -> None:
    """These clients write NaN into their JSON."""
    errors: list[Any] = []
    client = client_of(kind, up, errors, **options)
    for value in (1.0, float("nan"), 3.0, float("inf")):
        client.track("ann", "Look", {"value": value})
    client.track("ann", "Look", {"name": "\ud800"})
    client.shutdown()
    assert errors == [] and len(up.store.rows) == 2 and len(up.store.quarantine) == 3


@pytest.mark.parametrize(("kind", "options"), CLIENTS)
def test_a_wrong_key_is_told_and_not_retried(up: Running, kind: Any, options: dict[str, Any]) -> None:
    errors: list[Any] = []
    client = kind("wrong", host=up.url, upload_interval=0.1, on_error=lambda error, items: errors.append(error), **options)
    client.track("ann", "Enter")
    client.shutdown()
    assert len(errors) == 1 and errors[0].status == 401 and up.store.rows == []


@pytest.mark.parametrize("kind", [segment.Client, rudder.Client])
def test_what_was_sent_while_the_store_was_away_arrives_once(kind: Any) -> None:
    store = Store()
    with running(store) as up:
        errors: list[Any] = []
        store.fails = OSError("gone")
        eventually(lambda: up.desk.writer.state.down)
        client = client_of(kind, up, errors)
        for i in range(20):
            client.track(f"c{i}", "Enter", message_id=f"m{i}")
        eventually(lambda: up.desk.counts.refused[503] >= 1)
        assert store.rows == []
        store.fails = None
        client.shutdown()
        assert errors == [] and sorted(row["event_id"] for row in store.rows) == sorted(f"m{i}" for i in range(20))
