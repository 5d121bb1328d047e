"""Who opted out is in no export, no training set and no scores; the command line says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from predseg import Project
from predseg.cli import main
from predseg.errors import ConfigError
from tests import small

SEGMENTS = """\
segment: buyers
purpose: email_marketing
match: {did: Order Completed}
---
segment: anything
match: {did: Order Completed}
"""


def answer(arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, object]]:
    capsys.readouterr()
    code = main([*arguments.split(), "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.fixture
def shop(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = small.copied(trained, tmp_path)
    file.write_text(file.read_text() + "segments: rules.yaml\n")
    (tmp_path / "rules.yaml").write_text(SEGMENTS)
    monkeypatch.chdir(tmp_path)
    return file


def members(folder: Path) -> dict[str, set[str]]:
    rows = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    return {name: {r["customer_id"] for r in rows if r["segment"] == name} for name in ("buyers", "anything")}


def test_exports_leave_the_opted_out_away_and_report_how_many(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer("segment --out out.jsonl", capsys)
    before = members(shop.parent)
    assert {"c0000", "c0001", "c0002"} <= before["buyers"]
    assert main("optout add c0000 --purpose email_marketing".split()) == 0 and main("optout add c0001 --purpose training".split()) == 0
    assert main(["optout", "add", "c0002"]) == 0
    code, said = answer("segment --out out.jsonl", capsys)
    after = members(shop.parent)
    assert code == 0 and said["opted_out"] == 2 + 3
    assert before["buyers"] - after["buyers"] == {"c0000", "c0002"}
    assert before["anything"] - after["anything"] == {"c0000", "c0001", "c0002"}, "without a purpose, any no counts"
    assert said["segments"][0]["members"] == len(before["buyers"]), "who belongs is another question"  # type: ignore[index]
    assert answer("preview buyers", capsys)[1]["opted_out"] == 2
    main("optout remove c0000 c0002".split())
    answer("segment --out out.jsonl", capsys)
    assert members(shop.parent)["buyers"] == before["buyers"]


def test_unsubscribed_events_are_an_opt_out(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (shop.parent / "events.csv").open("a") as file:
        file.write("c0003,2025-10-20T00:00:00Z,Unsubscribed,\n")
    answer("segment --out out.jsonl", capsys)
    assert "c0003" not in members(shop.parent)["buyers"]
    code, said = answer("optout list c0003", capsys)
    assert code == 0 and said["customers"][0]["opted_out"] == ["email_marketing"]  # type: ignore[index]


def test_scores_leave_out_who_said_no_to_profiling(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = Project.load(shop)
    before = set(project.score()["customer_id"])
    main("optout add c0000 --purpose profiling".split())
    main("optout add c0001 --purpose training".split())
    dry, after = set(project.score(dry_run=True)["customer_id"]), set(project.score()["customer_id"])
    assert before - after == before - dry == {"c0000"}


def test_training_leaves_out_who_said_no_to_it(shop: Path) -> None:
    """Equal to a history that never had them: the same bundle, byte for byte."""
    gone = [f"c{n:04d}" for n in range(0, 60, 2)]
    main(["optout", "add", *gone, "--purpose", "training"])
    project = Project.load(shop)
    report = project.train(dry_run=True)["purchase"]
    lines = [line for line in small.rows() if line.split(",")[0] not in gone]
    alone = Project.load(small.write(shop.parent / "alone", lines)).train(dry_run=True)["purchase"]
    assert report.facts["rows"] == alone.facts["rows"]
    assert report.evaluation["model"] == alone.evaluation["model"]


def test_a_slip_in_a_purpose_is_refused(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("optout add c1 --purpose email_markting".split()) == 2
    assert "did you mean 'email_marketing'?" in capsys.readouterr().err
    (shop.parent / "rules.yaml").write_text(SEGMENTS.replace("email_marketing", "emial_marketing"))
    with pytest.raises(ConfigError, match="E380"):
        Project.load(shop).segments()
    (shop.parent / "rules.yaml").write_text(SEGMENTS.replace("email_marketing", "win back"))
    Project.load(shop).segments()


def test_a_no_in_the_file_cannot_be_taken_back_elsewhere(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shop.write_text(shop.read_text() + "consent: {path: no.csv}\n")
    (shop.parent / "no.csv").write_text("customer_id,purpose\nc0000,email_marketing\n")
    code, said = answer("optout remove c0000", capsys)
    assert code == 1 and said["still_opted_out"] == 1
    assert "take it out there" in _err(shop, "optout remove c0000", capsys)


def _err(shop: Path, arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    main(arguments.split())
    return capsys.readouterr().err


def test_a_key_in_the_environment(shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shop.write_text(shop.read_text() + "consent: {key: env:SHOP_KEY}\n")
    monkeypatch.delenv("SHOP_KEY", raising=False)
    assert main(["optout", "list"]) == 3 and "SHOP_KEY is not set" in capsys.readouterr().err
    monkeypatch.setenv("SHOP_KEY", "hunter2-canary")
    assert main(["optout", "list"]) == 3
    assert "canary" not in capsys.readouterr().err, "the value is never shown"
    monkeypatch.setenv("SHOP_KEY", "a" * 32)
    assert main(["optout", "add", "c0000"]) == 0
    monkeypatch.setenv("SHOP_KEY", "b" * 32)
    assert main(["optout", "list"]) == 4 and "E450" in capsys.readouterr().err


def test_people_from_a_text_file(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shop.parent / "no.txt").write_text("c0001\n\n c0002 \nc0001\n")
    code, said = answer("optout add --from no.txt", capsys)
    assert code == 0 and said["customers"] == 2 and said["changed"] == 2
    assert answer("optout list", capsys)[1]["opted_out"] == [{"purpose": "*", "from": "command", "persons": 2}]
    assert main(["optout", "add"]) == 2 and main(["optout", "add", "--from", "nowhere.txt"]) == 2
    assert answer("optout add c0005 --dry-run", capsys)[1]["changed"] == 1
    assert answer("optout list c0005", capsys)[1]["customers"][0]["opted_out"] == []  # type: ignore[index]


def test_who_said_no_is_known_under_a_pseudonym_and_another_key_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = small.write(tmp_path, small.rows()[:200], small.CONFIG + "pseudonymize: env:NAMES\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAMES", "a first key of the shop")
    assert main(["check"]) == 0 and main(["optout", "add", "c0001"]) == 0
    assert b"c0001" not in (tmp_path / "store" / "live.db").read_bytes()
    for key in ("a second key of the shop", "env"):
        if key == "env":
            file.write_text(small.CONFIG)
        monkeypatch.setenv("NAMES", key)
        capsys.readouterr()
        assert main(["check"]) == 4 and "E451" in capsys.readouterr().err
        assert main(["optout", "list", "c0001"]) == 4 and main(["doctor"]) == 1
    file.write_text(small.CONFIG + "pseudonymize: env:NAMES\n")
    monkeypatch.setenv("NAMES", "a first key of the shop")
    assert Project.load(file).people.customer("c0001") in Project.load(file).opted_out(None)
    assert main(["doctor"]) == 0
