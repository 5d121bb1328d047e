"""`predseg live` lets persons in by the same door as a file or the server: under their pseudonyms, without those who were forgotten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from predseg import Project
from predseg.cli import main
from predseg.history.keys import pseudonym
from tests.test_rights import naming

KEY = "a key of the shop, long enough"
CONFIG = "project: door\nsources: {}\nsegments: rules.yaml\npseudonymize: env:NAMES\n"
RULES = "segment: looked\nrefresh: live\nmatch: {did: Product Viewed}\n"
NAMED = pseudonym("canary-ann", [KEY.encode()])


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "predseg.yaml").write_text(CONFIG)
    (tmp_path / "rules.yaml").write_text(RULES)
    monkeypatch.setenv("NAMES", KEY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lines(shop: Path, *rows: dict[str, object] | str) -> Path:
    at = {"event": "Product Viewed", "event_time": "2026-03-01T10:00:00Z"}
    file = shop / f"in-{len(list(shop.glob('in-*')))}.jsonl"  # a loop goes on where it stopped in a file it knows
    file.write_text("".join((row if isinstance(row, str) else json.dumps({**at, **row})) + "\n" for row in rows))
    return file


ROWS: list[dict[str, object] | str] = [
    {"customer_id": " canary-ann "},
    {"customer_id": 17, "anonymous_id": "canary-device"},
    {"customer_id": ["canary-list"]},
    {"customer_id": "canary-bob", "event_time": "never"},
    "canary-line, no row",
    {"customer_id": "canary-ann", "event": "Unsubscribed"},
]


def test_lines_of_a_durable_loop_come_in_under_pseudonyms(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["live", str(lines(shop, *ROWS)), "--durable", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [change["customer_id"] for change in found["changes"]] == sorted([NAMED, pseudonym("17", [KEY.encode()])])
    assert found["rows"] == {"accepted": 3, "quarantined": 3}
    assert set(Project.load("predseg.yaml").events()["customer_id"].to_pylist()) == {NAMED, pseudonym("17", [KEY.encode()])}
    assert naming(shop, ["canary"], outside=("in-0.jsonl",)) == [], "no file of the store has an id as it came"
    assert main(["optout", "list", "canary-ann", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["customers"][0]["opted_out"] == ["email_marketing"], "what events say of consent is heard"
    assert main(["live", str(lines(shop, {"customer_id": NAMED}, {"customer_id": "canary-ann"})), "--durable", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["changes"], found["rows"]) == ([], {"accepted": 2}), "a pseudonym stands for itself: she is in already"


def test_in_memory_a_line_meets_the_history_of_its_pseudonym(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["live", str(lines(shop, {"customer_id": "canary-ann"})), "--durable"])
    assert NAMED in Project.load("predseg.yaml").events()["customer_id"].to_pylist()
    capsys.readouterr()
    later: list[dict[str, object] | str] = [{"customer_id": one, "event_time": "2026-03-02T10:00:00Z"} for one in ("canary-ann", "canary-zoe")]
    assert main(["live", str(lines(shop, *later)), "--json"]) == 0
    changes = json.loads(capsys.readouterr().out)["changes"]
    assert [change["customer_id"] for change in changes] == [pseudonym("canary-zoe", [KEY.encode()])]


@pytest.mark.parametrize("options", [["--durable"], []], ids=["durable", "in memory"])
def test_a_forgotten_person_does_not_come_in_by_a_line(shop: Path, capsys: pytest.CaptureFixture[str], options: list[str]) -> None:
    (shop / "predseg.yaml").write_text(CONFIG.replace("pseudonymize: env:NAMES\n", ""))
    main(["live", str(lines(shop, {"customer_id": "canary-ann"})), "--durable"])
    assert main(["forget", "canary-ann"]) == 0
    capsys.readouterr()
    later: list[dict[str, object] | str] = [
        {"customer_id": "canary-ann"},
        {"customer_id": "canary-zoe", "anonymous_id": "canary-ann"},
        "canary-ann, no row",
    ]
    assert main(["live", str(lines(shop, *later)), "--json", *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [change["customer_id"] for change in found["changes"]] == ["canary-zoe"]
    assert found["rows"] == {"suppressed": 2, "accepted": 1}, "of these lines, not of those before"
    assert naming(shop, ["canary-ann"], outside=("in-0.jsonl", "in-1.jsonl")) == []
