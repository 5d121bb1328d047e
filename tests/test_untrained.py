"""A model that has no champion yet: what can be done without it is done, and it is named with what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import pipelines.daily
from predseg import Project
from predseg.cli import main
from tests import small

RULES = """\
segment: leaving
match: {score: churn, at_least: 0.5}
---
segment: buying
match: {score: purchase, at_least: 0.5}
---
segment: both
match: {all: [{in: leaving}, {in: buying}]}
"""
REMEDY = {"churn": "run `predseg train churn`"}


@pytest.fixture
def shop(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The trained shop, with one more model that is only declared, and segments that ask for both."""
    file = small.copied(trained, tmp_path)
    churn = "models:\n  churn: {predict: {did_not: Order Completed, within_next: 60 days}, cutoffs: 4}\n"
    file.write_text(file.read_text().replace("models:\n", churn) + "segments: rules.yaml\n")
    (tmp_path / "rules.yaml").write_text(RULES)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_does_what_it_can(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--json"]) == 7
    out, err = capsys.readouterr()
    found = json.loads(out)
    steps = found["steps"]
    assert {name: step["status"] for name, step in steps.items()} == {
        "check": "ok",
        "score": "failed",
        "segment": "ok",
        "monitor": "failed",
        "report": "ok",
    }
    assert found["status"] == "failed" and found["error"]["code"] == "E720" and found["error"]["help"] == REMEDY["churn"]
    assert steps["score"]["missing"] == steps["monitor"]["missing"] == REMEDY and [*steps["score"]["models"]] == ["purchase"]
    assert [*steps["monitor"]["drift"]["models"]] == ["purchase"]
    members = {one["segment"]: one["members"] for one in steps["segment"]["segments"]}
    assert members["leaving"] == members["both"] == 0 < members["buying"]
    assert "churn has no scores" in steps["segment"]["notes"][0] and "predseg train churn" in steps["segment"]["notes"][0]
    assert "error[E720] models.churn" in err and (shop / "store" / "report.html").is_file()
    assert main(["run", "--json"]) == 7, "until it is trained"
    assert "up_to_date" in json.loads(capsys.readouterr().out)["steps"]["score"], "but what is scored is not scored again"


def test_what_is_named_is_refused_without_it(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "purchase", "churn", "--out", "scores.csv"]) == 7
    assert "predseg train churn" in capsys.readouterr().err and not (shop / "scores.csv").exists()
    assert main(["score", "--out", "scores.csv", "--json"]) == 7
    assert json.loads(capsys.readouterr().out)["missing"] == REMEDY and (shop / "scores.csv").read_text().count("purchase") > 250
    assert main(["monitor", "purchase", "--json"]) == 0
    assert "missing" not in json.loads(capsys.readouterr().out)


def test_watches_judge_the_others(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["monitor", "--json"]) == 7
    found = json.loads(capsys.readouterr().out)
    assert found["missing"] == REMEDY and found["status"] == "failed"
    assert {w["about"] for w in found["watches"] if w["watch"] in ("drift", "calibration")} == {"purchase"}
    assert [*Project.load("predseg.yaml").monitor().missing] == ["churn"]


def test_segments_that_rest_on_it_say_so(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """However far down it is asked for, and no review takes them for empty."""
    for command in (["segment", "both"], ["preview", "both"]):
        assert main(command) == 0
        assert "churn has no scores" in capsys.readouterr().err
    assert main(["review", "--small", "1", "--json"]) == 0
    assert [one["segments"] for one in json.loads(capsys.readouterr().out)["findings"] if one["kind"] == "empty"] == []


def test_where_nothing_is_trained_all_are_named(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (shop / "predseg.yaml").read_text()
    (shop / "predseg.yaml").write_text(text.replace("project: small", "project: other"))
    assert main(["run"]) == 7
    out, err = capsys.readouterr()
    assert "no model is trained" in out and "== report" in out
    assert "error[E720] models.churn, models.purchase:" in err and "`predseg train churn`; run `predseg train purchase`" in err
    assert main(["score"]) == 7


def test_a_model_whose_only_version_was_refused_is_missing_too(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from predseg.forecast.tracking import CHAMPION

    registry = Project.load("predseg.yaml").registry()
    with registry.session() as client:
        client.delete_registered_model_alias(registry.registered("purchase"), CHAMPION)
    assert main(["monitor", "purchase"]) == 7
    assert "E721" in (said := capsys.readouterr().err) and "predseg promote purchase" in said


def test_the_nightly_pipeline_does_what_it_can_too(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pipelines.daily.main(["predseg.yaml"]) == 7
    assert "predseg train churn" in capsys.readouterr().err and (shop / "store" / "report.html").is_file()
