"""A daily run does what is new: a step that would give the same is left as it is, and a run that was stopped goes on where it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from predseg.cli import daily, main
from predseg.outcomes import watching
from predseg.project import Project
from tests import small

RULES = "segment: recent\nmatch: {did: Order Completed, within: 90 days}\n---\nsegment: keen\npurpose: email_marketing\nmatch: {score: purchase, top: 20%}\n"


@pytest.fixture
def shop(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = small.copied(trained, tmp_path / "shop")
    file.write_text(small.CONFIG + "segments: rules.yaml\n", "utf-8")
    (file.parent / "rules.yaml").write_text(RULES, "utf-8")
    monkeypatch.chdir(file.parent)
    return file.parent


def ran(capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, bool]:
    """Run, and say of the steps that are not always taken whether they were."""
    capsys.readouterr()
    assert main(["run", "--json", *options]) == 0
    steps: dict[str, Any] = json.loads(capsys.readouterr().out)["steps"]
    return {name: "up_to_date" not in steps[name] for name in ("score", "segment", "report")}


ALL, NONE = dict.fromkeys(("score", "segment", "report"), True), dict.fromkeys(("score", "segment", "report"), False)


def contents(shop: Path) -> dict[str, Any]:
    """The tables that the two steps give."""
    store = Project.load(shop / "predseg.yaml").store
    return {name: [pq.read_table(file).to_pylist() for file in store.files(name)] for name in ("scores", "memberships", "segment_runs")}


def test_only_what_would_come_out_otherwise_is_done_again(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ran(capsys) == ALL
    before = contents(shop)
    assert ran(capsys) == NONE
    results = json.loads((shop / "target" / "run_results.json").read_text("utf-8"))["results"]
    assert [step["messages"][0].split(" since ")[0] for step in results if step["step"] in NONE] == ["up to date"] * 3
    assert ran(capsys, "--full-refresh") == ALL and contents(shop) == before
    (shop / "rules.yaml").write_text(RULES.replace("20%", "10%"), "utf-8")
    assert ran(capsys) == {"score": False, "segment": True, "report": True}, "a rule changed"
    with (shop / "events.csv").open("a", encoding="utf-8") as file:
        file.write("c0001,2025-10-27T01:00:00Z,Order Completed,10.00\n")
    assert ran(capsys) == ALL, "an event came"
    assert ran(capsys) == NONE
    assert ran(capsys, "--as-of", "2025-10-01") == ALL, "another moment"
    assert main(["optout", "add", "c0001", "--purpose", "profiling"]) == 0
    assert ran(capsys, "--as-of", "2025-10-01") == ALL, "somebody must not be scored any more"


def test_what_was_taken_away_is_made_again(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ran(capsys) == ALL
    before, store = contents(shop), Project.load(shop / "predseg.yaml").store
    store.drop("memberships")
    assert ran(capsys) == {"score": False, "segment": True, "report": True}
    store.drop("scores", store.partitions("scores")[-1])
    assert ran(capsys) == ALL and contents(shop)["scores"] == before["scores"]
    (store.path / "report.html").write_text("cut o", "utf-8")
    assert ran(capsys) == {"score": False, "segment": False, "report": True} and ran(capsys) == NONE
    (store.path / "steps.json").write_text("{", "utf-8")
    assert ran(capsys) == ALL, "nothing is believed of a file that was damaged"


def test_a_run_that_was_stopped_goes_on_where_it_was(
    shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = small.copied(shop, tmp_path / "undisturbed").parent
    with monkeypatch.context() as patched:
        patched.setattr(daily, "_segment", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        assert main(["run", "--json"]) == 130
    assert ran(capsys) == {"score": False, "segment": True, "report": True}
    stopped = contents(shop)
    monkeypatch.chdir(undisturbed)
    assert ran(capsys) == ALL and contents(undisturbed) == stopped


def test_a_dry_run_looks_at_everything_and_notes_nothing(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ran(capsys, "--dry-run") == ALL
    assert not (shop / "store" / "steps.json").exists() and ran(capsys) == ALL


def test_timings_are_shown(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--timings"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.split("share\n")[-1].splitlines()]
    assert [row[0] for row in rows] == ["check", "score", "segment", "monitor", "report"] and sum(float(row[1]) for row in rows) > 0


def test_watches_read_tables_again_when_these_changed(shop: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    read, calls = watching._read, []
    monkeypatch.setattr(watching, "_read", lambda seen: (calls.append(seen), read(seen))[1])

    def watches(*options: str) -> Any:
        ran(capsys, *options)
        assert main(["monitor", "--json"]) == 0
        return [{**w, "value": ""} if w["watch"] == "freshness" else w for w in json.loads(capsys.readouterr().out)["watches"]]

    before = watches()
    assert watches() == before and len(calls) == 1
    assert watches("--full-refresh") == before and len(calls) == 2
    with (shop / "events.csv").open("a", encoding="utf-8") as file:
        file.write("c0001,2025-10-27T01:00:00Z,Order Completed,10.00\n")
    assert watches() and len(calls) == 3
