"""`predseg monitor` on a small shop that goes on, and on one whose customers change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from predseg import Project
from predseg.cli import main
from predseg.forecast import watching
from predseg.forecast.watching import Drift
from tests import small

SCORED, LATER = "2025-10-28", "2025-11-20"


def append(folder: Path, lines: list[str]) -> None:
    with (folder / "events.csv").open("a") as events:
        events.write("\n".join(lines) + "\n")


def test_a_shop_that_goes_on_as_it_was_needs_nothing(tmp_path: Path) -> None:
    history = small.rows(days=330)
    project = Project.load(small.write(tmp_path, [line for line in history if line.split(",")[1] <= SCORED]))
    project.train()
    project.score()
    append(tmp_path, [line for line in history if line.split(",")[1] > SCORED])
    found = project.drift(as_of=LATER)["purchase"]
    assert isinstance(found, Drift) and found.advice.word == "nothing" and found.customers > 250
    [run] = found.runs
    assert run.enough and abs(run.said - run.came) < 0.1 and run.auc > 0.75
    assert "it kept what its forward test promised" in found.advice.reason


def test_of_many_customers_a_sample_is_compared(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same customers at every look, by their ids; labels are still those of everybody."""
    file = small.copied(trained, tmp_path)
    everybody = Project.load(file).drift()["purchase"]
    monkeypatch.setattr(watching, "SAMPLE", 100)
    found = Project.load(file).drift()["purchase"]
    assert everybody.share == 1 and found.share == 100 / everybody.customers and 70 < found.customers < 130
    assert [m.psi for m in found.moves] != [m.psi for m in everybody.moves] and found == Project.load(file).drift()["purchase"]
    assert main(["monitor", "-c", str(file)]) in (0, 1)
    assert f"{found.customers} customers (of a sample of 36%)" in capsys.readouterr().out


def going_on(trained: Path, folder: Path) -> Path:
    """The trained shop, 50 days later: everyone has ordered daily for 20 of them."""
    file = small.copied(trained, folder)
    file.write_text(file.read_text() + "monitor: {scores: off}\n")
    append(folder, [f"c{n:04d},2025-11-{d:02d}T12:00:00Z,Order Completed,20.00" for n in range(300) for d in range(1, 20)])
    return file


def test_a_shop_that_changes_is_noticed(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = going_on(trained, tmp_path)
    assert main(["monitor", "-c", str(file), "--as-of", LATER, "--json", "--fail-on", "any"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["status"] == "failed" and {"drift", "recalibrate"} & set(found["failed_on"])
    assert found["drift"]["models"]["purchase"]["moves"][0]["name"] == "score"
    assert main(["monitor", "-c", str(file), "--as-of", LATER]) == 0, "without --fail-on it only says so"
    said = capsys.readouterr().out
    assert "next: predseg train purchase" in said and "moved" in said


def test_value_that_was_expected_and_never_came_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Orders no longer come in, visits do: it counted as too few to tell."""
    config = small.CONFIG.replace("within_next: 20 days", "sum: value, within_next: 20 days") + "monitor: {scores: off, volume: off}\n"
    file = small.write(tmp_path, config=config)
    project = Project.load(file)
    project.train()
    project.score()
    append(tmp_path, [f"c{n:04d},2025-11-{d:02d}T12:00:00Z,Page Viewed," for n in range(300) for d in range(1, 20)])
    assert main(["monitor", "-c", str(file), "--as-of", LATER, "--json", "--fail-on", "retrain"]) == 1
    found = json.loads(capsys.readouterr().out)
    [run] = found["drift"]["models"]["purchase"]["runs"]
    assert run["came"] == run["positives"] == 0 and 50 < run["expected"] < 200
    assert "nothing came" in found["drift"]["models"]["purchase"]["advice"]["reason"]
    [watch] = [w for w in found["watches"] if w["watch"] == "calibration"]
    assert watch["status"] == "failing" and "off by 1.000" in watch["value"]


def test_before_anything_matured_it_says_so(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = small.copied(trained, tmp_path)
    assert main(["monitor", "purchase", "-c", str(file), "--fail-on", "retrain"]) == 0
    assert "no published scores have matured yet" in capsys.readouterr().out


def test_a_look_at_the_end_of_time(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """pandas counts no nanoseconds there."""
    assert main(["score", "-c", str(small.copied(trained, tmp_path)), "--as-of", "9999-12-31", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["as_of"] == "9999-12-31T00:00Z"


def test_an_unknown_alarm_is_refused(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["monitor", "-c", str(small.copied(trained, tmp_path)), "--fail-on", "retrian"]) == 2
    assert "E250" in (said := capsys.readouterr().err) and "'retrain'" in said
