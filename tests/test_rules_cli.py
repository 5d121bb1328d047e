"""The commands about rules, as a user meets them: what `test`, `explain`, `verify` and `schema` print, and how they end."""

from __future__ import annotations

import json
import os
from pathlib import Path
from xml.etree import ElementTree

import pytest

from predseg.cli import main
from predseg.language.time import DAY, say_instant
from predseg.moment import clock

GOLDEN = Path(__file__).parent / "golden" / "rules"
PROJECT = """\
project: shop
sources:
  shop:
    path: events.csv
    columns: {customer_id: customer_id, event_time: event_time, event: event, value: value}
models:
  churn: {predict: {did_not: Order Completed, within_next: 90 days}}
segments: segments.yaml
"""
EVENTS = """\
customer_id,event_time,event,value,category
ann,2026-02-01T10:00:00Z,Order Completed,4688,
ann,2026-03-01T08:00:00Z,Product Viewed,,Luxury Watches
ann,2026-03-01T10:00:00Z,Product Added,,
ann,2026-03-01T12:00:00Z,Product Added,,
bob,2026-03-01T12:00:00Z,Product Added,,
bob,2026-03-01T22:00:00Z,Order Completed,12.50,
cleo,2026-03-02T07:00:00Z,Order Completed,5200,
"""
SEGMENTS = """\
segment: abandoned_cart
about: Items in the cart and no checkout for 24 hours
refresh: live
match:
  did: Product Added
  within: 3 days
  then: {did_not: [Order Completed, Product Added], within: 24 hours}
tests:
  - it: fires 24 h after the last add
    events: |
      2026-03-01 10:00  Product Added
      2026-03-01 12:00  Product Added
    enters: 2026-03-02 12:00
  - it: stays quiet when the order comes in time
    events: |
      2026-03-01 10:00  Product Added
      2026-03-01 20:00  Order Completed
    enters: never
---
segment: luxury
match:
  all:
    - {did: Order Completed, sum: value, more_than: 5000, within: 6 months}
    - {did: Product Viewed, where: {category: Luxury Watches}, within: 48 hours}
    - {in: abandoned_cart}
    - {score: churn, top: 10%}
"""
WRONG = SEGMENTS.replace("enters: never", "enters: 2026-03-02 10:00").replace("20:00  Order Completed", "20:00  Order Complete")

COMMANDS = {
    "test": ("test", SEGMENTS, 0),
    "test_mutate": ("test abandoned_cart --mutate", SEGMENTS, 0),
    "test_fails": ("test", WRONG.replace("enters: 2026-03-02 12:00", "enters: 2026-03-02 11:00"), 1),
    "test_slip_of_the_pen": ("test abandoned_cart", WRONG, 0),
    "test_bad_line": ("test", SEGMENTS.replace("20:00  Order", "20:00 Order"), 3),
    "test_unknown_segment": ("test abandond_cart", SEGMENTS, 2),
    "test_without_tests": ("test luxury", SEGMENTS, 0),
    "explain_member": ("explain abandoned_cart ann --as-of 2026-03-02T13:00", SEGMENTS, 0),
    "explain_not_yet": ("explain luxury ann --as-of 2026-03-02T07:00", SEGMENTS, 0),
    "explain_unknown_customer": ("explain abandoned_cart anne", SEGMENTS, 2),
    "explain_too_early": ("explain abandoned_cart cleo --as-of 2026-03-01", SEGMENTS, 2),
    "verify": ("verify --trees 5 --seed 7", SEGMENTS, 0),
    "verify_rules_on_events": ("verify --trees 4 --seed 7 --rules --events", SEGMENTS, 0),
    "segment_without_segments": ("segment", "", 3),
    "replay_backwards": ("replay abandoned_cart --from 2026-03-02 --to 2026-03-01", SEGMENTS, 2),
    "schema_of_what": ("schema segment", SEGMENTS, 2),
}


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREDSEG_CONFIG", raising=False)
    (tmp_path / "predseg.yaml").write_text(PROJECT, "utf-8")
    (tmp_path / "events.csv").write_text(EVENTS, "utf-8")
    (tmp_path / "segments.yaml").write_text(SEGMENTS, "utf-8")
    return tmp_path


def agree(name: str, text: str) -> None:
    """Compare with the golden file; UPDATE_GOLDEN=1 writes it."""
    file = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, "utf-8")
    assert text == file.read_text("utf-8"), f"{file} differs; after a wanted change run UPDATE_GOLDEN=1 pytest {__file__}"


@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_printed(name: str, shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command, segments, expected = COMMANDS[name]
    (shop / "segments.yaml").write_text(segments, "utf-8")
    code = main(command.split())
    out, err = capsys.readouterr()
    agree(name, f"$ predseg {command}\n{out}{err}exit {code}\n")
    assert code == expected and "Traceback" not in err


def test_every_golden_file_belongs_to_a_command() -> None:
    assert {p.stem for p in GOLDEN.glob("*.txt")} == set(COMMANDS)


def test_a_project_without_rules_is_told_where_they_go(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shop / "predseg.yaml").write_text("project: shop\nsources: {orders: {path: events.csv}}\n")
    assert main(["preview", "champions"]) == 3
    assert "E345] predseg.yaml: the project has no segments\nhelp: name their files with `segments: segments/*.yaml`" in capsys.readouterr().err


def test_what_is_wrong_with_a_rule_is_said_once(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And once more as the reason why the artifacts were not written."""
    (shop / "segments.yaml").write_text("segment: big spenders\nmatch: {did: Order Completed}\n")
    assert main(["test"]) == 3
    assert capsys.readouterr().err.count("'big spenders' cannot be the name of a segment") == 1
    assert main(["optout", "ann"]) == 2
    assert "invalid value for 'ACTION': 'ann' is not one of 'add'," in capsys.readouterr().err


def answer(capsys: pytest.CaptureFixture[str], command: str, code: int = 0) -> dict[str, object]:
    assert main([*command.split(), "--json"]) == code
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    assert found["command"] == command.split()[0]
    return found


def test_an_event_shows_what_the_condition_reads_and_long_lists_are_cut() -> None:
    from decimal import Decimal

    from predseg.evaluate.reference import Event
    from predseg.segments.telling import say_event

    many = Event(0, "Order", {"value": Decimal("12.50"), "a": "x", "b": "y", "c": True, "sku": tuple("pqrst"), "d": None})
    assert say_event(many) == "1970-01-01T00:00Z  Order  {value: 12.5}"
    assert say_event(many, {"sku", "c"}) == "1970-01-01T00:00Z  Order  {value: 12.5, c: true, sku: [p, q, r, and 2 more]}"
    assert say_event(Event(0, "Order", {"a": "x"}, 60_000_000)) == "1970-01-01T00:00Z  Order  {a: x}  (known from 1970-01-01T00:01Z)"


def test_json_of_test(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shop / "segments.yaml").write_text(WRONG.replace("12:00\n  - it", "11:00\n  - it"), "utf-8")
    found = answer(capsys, "test --mutate --junit out.xml", 1)
    assert (found["status"], found["passed"], found["failed"]) == ("failed", 1, 1)
    cart, luxury = found["segments"]  # type: ignore[misc]
    [failure] = cart["tests"][0]["failures"]
    assert (failure["what"], failure["found"], failure["reason"]["truth"]) == ("enters", "2026-03-02T12:00Z", False)
    assert cart["notes"] and cart["mutations"] and luxury["tests"] == []
    assert ElementTree.parse(shop / "out.xml").getroot().get("failures") == "1"


def test_test_needs_no_data_and_writes_nothing(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shop / "events.csv").unlink()
    before = sorted(shop.rglob("*"))
    assert main(["test", "--dry-run", "--junit", "out.xml"]) == 0
    assert sorted(shop.rglob("*")) == before


def test_a_run_that_is_not_recorded_says_because_of_which(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segment", "--as-of", "2026-04-01"]) == main(["segment"]) == 0
    assert "a later run is recorded already, at 2026-04-01T00:00Z" in capsys.readouterr().err


def test_a_mistyped_moment_ahead_of_the_clock_is_not_recorded(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("segment", "score", "run", "discover", "monitor"):
        assert main([*command.split(), "--as-of", "2462-04-01"]) == 2
        err = capsys.readouterr().err
        assert "error[E213] --as-of: 2462-04-01T00:00Z lies " in err and "--dry-run" in err
    assert not (shop / "out").exists() and not list(shop.rglob("segment_runs"))
    assert main(["segment", "--as-of", "2462-04-01", "--dry-run", "--json"]) == 0, "it can be looked at"
    assert json.loads(capsys.readouterr().out)["as_of"] == "2462-04-01T00:00Z"


def test_a_run_a_month_ahead_of_the_clock_is_recorded_and_can_be_taken_back(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segment", "--as-of", say_instant(clock() + 30 * DAY)]) == 0
    assert "lies ahead of the clock" in capsys.readouterr().err
    assert main(["doctor"]) == 1 and main(["doctor", "--repair"]) == 0
    capsys.readouterr()
    assert main(["segment"]) == 0
    assert "not recorded" not in capsys.readouterr().err


def test_json_of_explain(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "explain luxury ann --as-of 2026-03-02T13:00")
    assert (found["member"], found["as_of"], found["clock"]) == (False, "2026-03-02T13:00Z", None)
    reason = found["reason"]
    assert isinstance(reason, dict) and reason["truth"] is False
    spent, _, cart, churn = reason["parts"]
    assert spent["flip"] == "one Order Completed of more than 312" and spent["events"][0]["properties"] == {"value": 4688}
    assert cart["truth"] is True and cart["parts"][0]["clock"] == {"at": "2026-03-04T12:00Z", "holds": False}
    assert churn["truth"] == "unknown"


def test_json_of_verify_and_a_planted_error(shop: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = answer(capsys, "verify --trees 3 --seed 7")
    assert (found["seed"], found["trees"], found["difference"]) == (7, 3, None)
    from predseg.evaluate import moments

    monkeypatch.setattr(moments, "offsets", lambda condition: frozenset())
    (shop / "predseg.yaml").write_text(PROJECT, "utf-8")
    broken = answer(capsys, "verify --trees 60 --seed 7 --rules", 1)
    assert broken["status"] == "failed" and isinstance(broken["difference"], dict)
    assert broken["difference"]["what"].startswith("changes in") and len(broken["difference"]["events"]) <= 2
    assert main("verify --trees 60 --seed 7 --rules".split()) == 1
    said = capsys.readouterr().out
    assert "they differ" in said and "again: predseg verify --trees 60 --seed 7 --rules" in said


def test_verify_without_a_project_and_without_a_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["verify", "--trees", "1"]) == 0
    assert "seed " in capsys.readouterr().out
    assert main(["verify", "--rules"]) == 2


@pytest.mark.parametrize("document", ["project", "segments"])
def test_schema_prints_json(document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["schema", document]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["title"].startswith("predseg ") and document in {"project": schema["properties"], "segment": 0, "segments": "segments"}[document]
    assert answer(capsys, f"schema {document}")["schema"] == schema


def test_test_imports_nothing_heavy(shop: Path) -> None:
    import subprocess
    import sys

    code = "import sys; from predseg.cli import main; main(['test']); sys.exit(', '.join({'numpy', 'pandas', 'pyarrow', 'duckdb'} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
