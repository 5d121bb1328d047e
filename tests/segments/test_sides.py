"""Before a promotion: who enters and leaves, exactly those whom the next run would move."""

from __future__ import annotations

import json

import pytest

from predseg import Project
from predseg.cli import main
from tests import small

RULES = """
segment: hot
match: {score: purchase, top: 20%}
---
segment: hot_and_new
match: {all: [{in: hot}, {did: Order Completed, within: 30 days}]}
---
segment: buyers
match: {did: Order Completed}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two versions, the second learned from a third of the history."""
    folder = tmp_path_factory.mktemp("sides")
    file = small.write(folder, config=small.CONFIG + "segments: rules.yaml\n")
    (folder / "rules.yaml").write_text(RULES, "utf-8")
    found = Project.load(file)
    found.train(as_of="2025-10-27T19:00")
    found.train(as_of="2025-06-10", force=True)
    found.registry().promote("purchase", 1, force=True)
    return found


def members(project: Project) -> dict[str, set[str]]:
    run = project.segments().run(project.moment(), write=False)
    return {name: set(spells.customers) for name, spells in run.spells.items()}


def test_those_who_change_sides_are_those_whom_the_next_run_moves(project: Project) -> None:
    project.score()
    before = members(project)
    told = {s.segment: s for s in project.sides("purchase", 2)}
    assert members(project) == before, "nothing is switched by asking"
    project.registry().promote("purchase", 2, force=True)
    project.score()
    after = members(project)
    assert set(told) == {"hot", "hot_and_new"}, "a segment that asks for no score cannot change"
    for name, side in told.items():
        assert set(side.enters) == after[name] - before[name] and set(side.leaves) == before[name] - after[name]
        assert (side.before, side.after) == (len(before[name]), len(after[name]))
    assert told["hot"].enters and told["hot"].leaves
    project.registry().promote("purchase", 1, force=True)


def test_the_command_shows_them_before_it_switches(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(project.config.file)
    assert main(["promote", "purchase", "--version", "2", "-c", file, "--force", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "who changes sides" in said and "hot_and_new" in said and "auc" in said and "dry run: nothing was changed" in said
    assert main(["promote", "purchase", "--version", "2", "-c", file, "--force", "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {s["segment"] for s in found["sides"]} == {"hot", "hot_and_new"} and len(found["gains"]["auc"]) == 2
    assert project.registry().champion("purchase") == 1


def test_the_champion_itself_changes_nobody(project: Project) -> None:
    assert [(s.segment, s.enters, s.leaves) for s in project.sides("purchase", 1)] == [("hot", (), ()), ("hot_and_new", (), ())]


def test_a_training_that_crowns_its_version_shows_them_too(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """Trained at the moment of version 2, by the same data: the same sides, against the champion that there was before."""
    file = str(project.config.file)
    told = project.sides("purchase", 2, "2025-06-10")
    assert main(["train", "--as-of", "2025-06-10", "-c", file, "--force", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sides"] == {}, "there is no version whose scores could be compared"
    assert main(["train", "--as-of", "2025-06-10", "-c", file, "--force", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["models"]["purchase"]["version"] == project.registry().champion("purchase") == 3
    assert [(s["segment"], s["enters"], s["leaves"]) for s in found["sides"]["purchase"]] == [(s.segment, [*s.enters], [*s.leaves]) for s in told]
    assert told[0].enters
    project.registry().promote("purchase", 1, force=True)
    assert main(["train", "--as-of", "2025-06-10", "-c", file, "--force"]) == 0
    said = capsys.readouterr().out
    assert "who changes sides, at the next run" in said and "hot_and_new" in said
    project.registry().promote("purchase", 1, force=True)
