"""A holdout and a split: shown before anybody is written to, left away from exports, no part of who belongs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from predseg.cli import main
from predseg.errors import ConfigError
from predseg.language.assignment import Experiment
from tests.segments.stores import rules

PROJECT = """\
project: shop
sources:
  orders: {path: events.csv}
consent: {path: optouts.csv}
segments: segments.yaml
"""
RULE = "segment: buyers\npurpose: email_marketing\nmatch: {did: Order Completed}\n"
TRIES = "holdout: 20%\nsplit: {control: 50%, short: 30%}\n"
CUSTOMERS = [f"c{number:03d}" for number in range(200)]
OUT = CUSTOMERS[:30]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rows = "".join(f"{c},2026-03-01T10:{i % 60:02d}:00Z,Order Completed\n" for i, c in enumerate(CUSTOMERS))
    (tmp_path / "events.csv").write_text("customer_id,event_time,event\n" + rows, "utf-8")
    (tmp_path / "optouts.csv").write_text("customer_id,purpose\n" + "".join(f"{c},email_marketing\n" for c in OUT), "utf-8")
    (tmp_path / "predseg.yaml").write_text(PROJECT, "utf-8")
    (tmp_path / "segments.yaml").write_text(RULE + TRIES, "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def expected() -> dict[str, list[str]]:
    experiment = rules(RULE + TRIES)["buyers"].experiment
    assert experiment is not None
    found: dict[str, list[str]] = {}
    for customer in CUSTOMERS[len(OUT) :]:
        found.setdefault(experiment.group(customer), []).append(customer)
    return found


def test_preview_ends_with_who_can_be_written_to(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = expected()
    held = len(wanted["holdout"])
    assert main(["preview", "buyers"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"opted out -30 170 held out -{held} {170 - held}" in said
    assert (
        f"200 members, {170 - held} of them contactable" in said and f"{len(wanted['control'])} get control; {len(wanted['short'])} get short" in said
    )
    assert "20% are held out; of the others 50% get control and 30% get short." in said
    assert main(["preview", "buyers", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["opted_out"], found["held_out"], found["contactable"]) == (30, held, 170 - held)
    assert found["variants"] == {"control": len(wanted["control"]), "short": len(wanted["short"])}


def test_an_export_leaves_the_holdout_away_and_names_the_variants(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = expected()
    assert main(["segment", "--out", "members.csv"]) == 0
    assert (
        f"{170 - len(wanted['holdout'])} rows written to members.csv, 30 opted-out and {len(wanted['holdout'])} held out left away"
        in capsys.readouterr().out
    )
    with Path("members.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {r["customer_id"]: r["variant"] for r in rows} == {c: g for g, ids in wanted.items() if g != "holdout" for c in ids}
    for names in ([], ["buyers", "buyers"]):
        assert main(["segment", *names, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["segments"][0]["members"], found["opted_out"], found["held_out"]) == (200, 30, len(wanted["holdout"]))


def test_without_a_split_an_export_has_the_usual_columns(project: Path) -> None:
    (project / "segments.yaml").write_text(RULE + "holdout: 20%\n", "utf-8")
    assert main(["segment", "--out", "members.csv"]) == 0
    assert Path("members.csv").read_text().splitlines()[0].replace('"', "") == "segment,customer_id,entered_at,as_of"


def test_an_experiment_is_no_part_of_who_belongs() -> None:
    plain, tried = rules(RULE)["buyers"], rules(RULE + TRIES)["buyers"]
    assert plain.definition == tried.definition
    assert isinstance(tried.experiment, Experiment) and tried.sentence().startswith(plain.sentence())


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("holdout: 10", "did you mean 10%?"),
        ("split: {control: 100%}", "at least two variants"),
        ("split: {control: 60%, short: 50%}", "110%, over 100%"),
        ("split: {holdout: 60%, short: 40%}", "'holdout' cannot be the name of a variant"),
        ("split: {control: 0.5, short: 0.5}", "did you mean 0.5%?"),
        ("split: [control, short]", "must be a mapping"),
    ],
)
def test_what_cannot_be_is_refused(written: str, said: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        rules(RULE + written)
    assert said in str(refusal.value) and refusal.value.place.startswith("rules.yaml:4:")
