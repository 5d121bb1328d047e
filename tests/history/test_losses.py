"""A table that is built anew loses nothing in silence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from predseg.cli import main
from predseg.errors import DataError
from predseg.history.persons import Persons
from tests.history.projects import Place

GOOD = {"event": "Order Completed", "event_time": "2026-05-01T10:00:00Z"}
TEXT = "sources: {orders: {path: 'orders*.jsonl'}}\n"
OTHER = TEXT + "timezone: Europe/London\n"


def rows(*customers: str, **more: Any) -> list[dict[str, Any]]:
    return [{**GOOD, "customer_id": one, **more} for one in customers]


def refused(place: Place, text: str) -> str:
    before = {path: path.read_bytes() for path in place.store.path.rglob("*") if path.is_file() and path.name != ".lock"}
    for _ in range(2):
        with pytest.raises(DataError, match="E419") as found:
            place.ingest(text)
    assert before == {path: path.read_bytes() for path in place.store.path.rglob("*") if path.is_file() and path.name != ".lock"}
    assert "predseg check --rebuild" in str(found.value)
    return str(found.value)


def test_what_no_file_holds_any_more_is_not_lost_by_a_changed_declaration(place: Place) -> None:
    file = place.jsonl("orders.jsonl", rows("ann", "old"))
    place.ingest(TEXT)
    place.jsonl(file.name, rows("ann", "new"))
    assert place.ingest(TEXT).rows == 3
    assert "would lose 1 of 3 events, which source orders no longer holds" in refused(place, OTHER)
    assert place.ingest(TEXT).rows == 3, "with the declaration of before everything goes on"
    report = place.ingest(OTHER, rebuild=True)
    assert report.rows == 2 and "1 fewer than before" in report.warnings({})[0]
    assert place.ingest(OTHER).up_to_date


@pytest.mark.parametrize("kept", [0, 1])
def test_a_file_that_is_gone_since_the_last_reading_is_missed(place: Place, kept: int) -> None:
    place.jsonl("orders-1.jsonl", rows("ann", "bob", event="A"))
    place.jsonl("orders-2.jsonl", rows("ann", event="B"))
    place.ingest(TEXT)
    (place.root / "orders-1.jsonl").unlink()
    place.jsonl(
        "orders-3.jsonl", rows(*"vwxyz"[: 5 * kept], event="C", event_time="2026-02-02T10:00:00Z") or rows("ann", event="B", event_time="2026-03-02")
    )
    assert "would lose at least 2 of 3 events, which source orders no longer holds" in refused(place, OTHER), "however many others came"


@pytest.mark.parametrize(
    "change",
    [
        lambda place: TEXT.replace("}}", ", query: \"select * from source where customer_id <> 'bob'\"}}"),
        lambda place: TEXT + "contract: {events: [B], tolerance: 100%}\n",
        lambda place: moved(place, "elsewhere"),
        lambda place: TEXT.replace("orders:", "renamed:"),
        lambda place: "sources: {more: {path: more.jsonl}}\n",
    ],
    ids=["a query", "names", "a folder", "another name", "taken out"],
)
def test_what_is_left_out_on_purpose_stands_in_its_files_and_is_not_lost(place: Place, change: Callable[[Place], str]) -> None:
    place.jsonl("orders-1.jsonl", rows("ann", "bob", event="A"))
    place.jsonl("orders-2.jsonl", rows("ann", event="B"))
    place.jsonl("more.jsonl", rows("zoe"))
    place.ingest(TEXT)
    assert place.ingest(change(place)).rebuilt


def moved(place: Place, folder: str) -> str:
    (place.root / folder).mkdir()
    for file in place.root.glob("orders*"):
        file.rename(place.root / folder / file.name)
    return TEXT.replace("'orders", f"'{folder}/orders")


def test_a_source_taken_out_whose_files_are_gone_is_missed(place: Place) -> None:
    file = place.jsonl("orders-1.jsonl", rows("ann", "bob"))
    place.jsonl("more.jsonl", rows("zoe", event="B"))
    place.ingest(TEXT.replace("}}", "}, more: {path: more.jsonl}}", 1))
    file.unlink()
    assert "at least 2 of 3 events, which source orders no longer holds" in refused(place, "sources: {more: {path: more.jsonl}}\n")


@pytest.mark.parametrize("again", [False, True], ids=["at once", "after a reading of all"])
@pytest.mark.parametrize("held", [False, True], ids=["in no file", "in a file"])
def test_the_forgotten_are_not_lost(place: Place, again: bool, held: bool) -> None:
    place.jsonl("orders-1.jsonl", rows("ann", "bob", "bob"))
    place.jsonl("orders-2.jsonl", rows("cat", "bob"))
    (place.root / "predseg.yaml").write_text(f"project: shop\nstore: {place.store.path}\n{TEXT}")
    assert main(["check", "-q", "-c", str(place.root)]) == 0
    if not held:
        place.jsonl("orders-1.jsonl", rows("ann"))
        place.jsonl("orders-2.jsonl", rows("cat"))
        assert main(["check", "-q", "-c", str(place.root)]) == 0
    assert main(["forget", "bob", "-q", "-c", str(place.root)]) == 0
    if again:
        place.jsonl("orders-2.jsonl", [*rows("cat", "dan"), *(rows("bob") if held else [])])
        assert main(["check", "-q", "-c", str(place.root)]) == 0
    (place.root / "predseg.yaml").write_text(f"project: shop\nstore: {place.store.path}\n{OTHER}")
    assert main(["check", "-q", "-c", str(place.root)]) == 0
    assert {row["customer_id"] for row in place.events()} == {"ann", "cat", *(["dan"] if again else [])}


def test_who_is_forgotten_hides_no_loss(place: Place) -> None:
    """The table holds as many events as the files say: bob's place there is taken by one that is in no file."""
    place.jsonl("orders-1.jsonl", rows("ann", "bob", "old"))
    (place.root / "predseg.yaml").write_text(f"project: shop\nstore: {place.store.path}\n{TEXT}")
    assert main(["check", "-q", "-c", str(place.root)]) == 0
    place.jsonl("orders-1.jsonl", rows("ann", "bob"))
    assert main(["check", "-q", "-c", str(place.root)]) == 0
    assert main(["forget", "bob", "-q", "-c", str(place.root)]) == 0
    (place.root / "predseg.yaml").write_text(f"project: shop\nstore: {place.store.path}\n{OTHER}")
    assert main(["check", "-c", str(place.root)]) == 4
    assert {row["customer_id"] for row in place.events()} == {"ann", "old"}


def test_the_forgotten_of_live_events_are_not_lost(place: Place) -> None:
    place.jsonl("orders-1.jsonl", rows("ann"))
    (place.root / "lines.json").write_text("".join(json.dumps(row) + "\n" for row in rows("bob", "cat")))
    for text, forgotten in ((TEXT, "bob"), (OTHER, "nobody")):
        (place.root / "predseg.yaml").write_text(f"project: shop\nstore: {place.store.path}\n{text}")
        assert main(["live", str(place.root / "lines.json"), "--durable", "-q", "-c", str(place.root)]) == 0
        assert main(["check", "-q", "-c", str(place.root)]) == 0
        assert main(["forget", forgotten, "-q", "-c", str(place.root)]) in (0, 2)
    assert {row["customer_id"] for row in place.events()} == {"ann", "cat"}


def test_the_command_goes_on_without_them_when_told(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.jsonl("orders-1.jsonl", rows("ann", "old"))
    place.ingest(TEXT)
    place.jsonl("orders-1.jsonl", rows("ann"))
    place.ingest(TEXT)
    config = Path(place.root / "predseg.yaml")
    config.write_text(f"project: shop\nstore: {place.store.path}\n{OTHER}")
    assert main(["check", "-c", str(config)]) == 4 and "error[E419] events: " in capsys.readouterr().err
    assert main(["check", "--dry-run", "--rebuild", "-c", str(config)]) == 0 and main(["check", "-c", str(config), "-q"]) == 4
    capsys.readouterr()
    assert main(["check", "--rebuild", "-c", str(config), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"] == 1 and "1 fewer than before" in found["warnings"][0]
    assert main(["check", "-c", str(config)]) == 0


def test_a_store_of_before_is_understood(place: Place) -> None:
    place.jsonl("orders-1.jsonl", rows("ann", "old"))
    place.ingest(TEXT)
    place.jsonl("orders-1.jsonl", rows("ann"))
    place.ingest(TEXT, persons=Persons())
    file = place.store.path / "ingest.json"
    saved = json.loads(file.read_text())
    del saved["report"]["erased"], saved["report"]["sources"][0]["gone"]
    file.write_text(json.dumps(saved))
    assert "would lose 1 of 2 events, which no source holds any more" in refused(place, OTHER)
