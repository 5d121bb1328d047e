"""What commands leave in target/: the project as a graph, and what was done, step by step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from predseg.cli import artifacts, main
from predseg.config import load
from tests import small

RULES = """\
segment: recent
tags: [daily]
match: {did: Order Completed, within: 90 days}
on_enter: {send: crm}
---
segment: keen
match: {all: [{in: recent}, {score: purchase, top: 20%}]}
"""
MORE = "segments: rules.yaml\nchannels: {crm: {dry: true}}\n"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    small.write(tmp_path, config=small.CONFIG + MORE)
    (tmp_path / "rules.yaml").write_text(RULES, "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def left(folder: Path, name: str) -> Any:
    """One of the two files, checked against its schema as `predseg schema` prints it."""
    content = json.loads((folder / "target" / f"{name}.json").read_text("utf-8"))
    schema = artifacts.manifest_schema() if name == "manifest" else artifacts.results_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(content, schema)
    return content


def test_a_check_leaves_the_graph_and_what_it_read(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from predseg.segments.definitions import load_segments

    assert main(["check", "--json"]) == 0
    received = json.loads(capsys.readouterr().out)["received"]
    manifest, results = left(shop, "manifest"), left(shop, "run_results")
    assert manifest["metadata"]["project"] == "small" and manifest["metadata"]["file"] == "predseg.yaml"
    keen = manifest["nodes"]["segment.keen"]
    assert (keen["uses"], keen["used_by"], keen["file"], keen["line"]) == (["segment.recent", "model.purchase"], [], "rules.yaml", 6)
    assert keen["definition"] == load_segments(load(shop))["keen"].definition
    assert manifest["nodes"]["segment.recent"]["used_by"] == ["segment.keen", "channel.crm"]
    assert (results["command"], results["status"], results["exit_code"], results["arguments"]) == ("check", "ok", 0, {})
    [step] = results["results"]
    assert (step["step"], step["status"], step["rows"], step["nodes"]) == ("check", "ok", received, {"source.orders": received})
    assert results["seconds"] >= step["seconds"] > 0


def test_a_refused_run_says_which_step_and_what_was_left(trained: Path, shop: Path) -> None:
    """The champion is not of these features."""
    small.copied(trained, shop).write_text((small.CONFIG + MORE).replace("[14 days, ", "["), "utf-8")
    assert main(["run", "-q"]) == 7
    results = left(shop, "run_results")
    assert (results["status"], results["exit_code"]) == ("error", 7)
    assert [(s["step"], s["status"]) for s in results["results"]] == [
        ("check", "ok"),
        ("score", "error"),
        ("segment", "skipped"),
        ("act", "skipped"),
        ("monitor", "skipped"),
        ("report", "skipped"),
    ]
    assert results["results"][1]["messages"][0].startswith("E7")


def test_a_run_of_a_part(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a selected segment those that it uses are run too, and no model is scored that was not selected."""
    folder = tmp_path / "shop"
    file = small.copied(trained, folder)
    file.write_text(small.CONFIG + MORE, "utf-8")
    (folder / "rules.yaml").write_text(RULES, "utf-8")
    monkeypatch.chdir(folder)
    assert main(["run", "--select", "keen", "--json"]) in (0, 1)  # its watches may call, say of old data
    said, results = json.loads(capsys.readouterr().out), left(folder, "run_results")
    steps = {step["step"]: step for step in results["results"]}
    assert list(steps) == ["check", "segment", "act", "monitor", "report"] == list(said["steps"])
    members = {f"segment.{s['segment']}": s["members"] for s in said["steps"]["segment"]["segments"]}
    assert steps["segment"]["nodes"] == members and set(members) == {"segment.recent", "segment.keen"} and members["segment.keen"] > 0
    assert steps["segment"]["rows"] == sum(members.values()) and results["arguments"] == {"select": ["keen"]}
    assert not [name for name in ("run_results", "manifest") if "c00" in (folder / "target" / f"{name}.json").read_text("utf-8")]
    assert main(["score", "--select", "+keen", "-q"]) == 0
    assert left(folder, "run_results")["results"][0]["nodes"].keys() == {"model.purchase"}
    capsys.readouterr()
    assert main(["segment", "--select", "tag:daily", "--json"]) == 0
    assert [s["segment"] for s in json.loads(capsys.readouterr().out)["segments"]] == ["recent"]
    assert main(["review", "--select", "tag:daily", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sizes"].keys() == {"recent"}
    assert main(["monitor", "--select", "+keen", "--json"]) in (0, 1)
    assert json.loads(capsys.readouterr().out)["drift"]["models"].keys() == {"purchase"}
    assert main(["run", "--select", "orders"]) == 2 and main(["train", "--select", "tag:daily"]) == 2
    assert main(["monitor", "--select", "recent"]) == 2 and main(["review", "--select", "orders"]) == 2
    assert capsys.readouterr().err.count("E232") == 4


def test_tests_of_selected_rules(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "--exclude", "recent+", "-q"]) == 2
    assert main(["test", "--exclude", "recent", "--json"]) == 0
    assert [s["segment"] for s in json.loads(capsys.readouterr().out)["segments"]] == ["keen"]


def test_list_shows_the_selection(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shop / "events.csv").unlink()
    assert main(["list", "--select", "1+keen", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["nodes"]) == ["model.purchase", "segment.recent", "segment.keen"]
    assert main(["list", "--select", "1+keen"]) == 0
    assert "segment.keen" in (said := capsys.readouterr().out) and "3 nodes" in said and not (shop / "target").exists()


def test_what_cannot_be_left_is_no_failure(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "--dry-run"]) == 0 and not (shop / "target").exists(), "a dry run leaves nothing"
    (shop / "target").write_text("in the way", "utf-8")
    assert main(["test"]) == 0
    assert "warning: target/ was not written" in capsys.readouterr().err


def test_files_are_whole_or_not_there(shop: Path) -> None:
    config = load(shop)
    path = artifacts.write(config, "manifest", {"a": 1})
    with pytest.raises(TypeError):
        artifacts.write(config, "manifest", {"a": object()})
    assert json.loads(path.read_text("utf-8")) == {"a": 1} and [p.name for p in path.parent.iterdir()] == ["manifest.json"]


@pytest.mark.parametrize("name", ["manifest", "run_results"])
def test_schemas_refuse_something_else(shop: Path, name: str) -> None:
    assert main(["test", "-q"]) == 0
    content = left(shop, name)
    content["more"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, artifacts.manifest_schema() if name == "manifest" else artifacts.results_schema())
