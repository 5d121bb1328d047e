"""A shell that was taught completes commands, options and the names of the project at hand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from predseg.cli import main
from predseg.cli.frame import COMPLETING

RULES = "segment: big_buyers\nabout: Buy much\nmatch: {did: Order Completed, at_least: 9}\n---\nsegment: browsers\nmatch: {did: Product Viewed}\n"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A project, and a `predseg` that a shell finds."""
    models = "models: {purchase: {predict: {did: Order Completed, within_next: 7 days}}}\n"
    (tmp_path / "predseg.yaml").write_text(f"project: shop\nsources: {{}}\nsegments: rules.yaml\n{models}", "utf-8")
    (tmp_path / "rules.yaml").write_text(RULES, "utf-8")
    program = tmp_path / "bin" / "predseg"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m predseg "$@"\n', "utf-8")
    program.chmod(0o755)
    return tmp_path


def shell(folder: Path, command: list[str], **variables: str) -> str:
    root = str(Path(__file__).parents[1])
    place = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": root, "HOME": str(folder), **variables}
    done = subprocess.run(command, cwd=folder, env={**os.environ, **place}, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def in_bash(folder: Path, lines: list[str]) -> list[list[str]]:
    """What bash offers after each line; a word is begun by its last one."""
    asked = []
    for line in lines:
        words = line.split(" ")
        given = " ".join(words) if words[-1] else f'{" ".join(words)}""'
        asked.append(f'COMP_WORDS=({given}); COMP_CWORD={len(words) - 1}; _predseg_completion predseg; echo "> ${{COMPREPLY[@]}}"')
    said = shell(folder, ["bash", "-c", "\n".join(['eval "$(predseg completion bash)"', *asked])])
    return [line[1:].split() for line in said.splitlines()]


def test_bash_completes(shop: Path) -> None:
    wanted = {
        "predseg prev": ["preview"],
        "predseg preview b": ["big_buyers", "browsers"],
        "predseg segment browsers big": ["big_buyers"],
        "predseg train ": ["purchase"],
        "predseg run --select 2+pur": ["2+purchase"],
        "predseg preview -c elsewhere.yaml b": [],
    }
    assert dict(zip(wanted, in_bash(shop, list(wanted)), strict=True)) == wanted


def test_fish_and_zsh_ask_in_their_own_way(shop: Path) -> None:
    asked = {COMPLETING: "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": "get-args", "_TYPER_COMPLETE_ARGS": "predseg preview big"}
    assert shell(shop, ["predseg"], **asked).split("\t") == ["big_buyers", "Buy much\n"]
    said = shell(shop, ["predseg"], **{COMPLETING: "complete_zsh", "_TYPER_COMPLETE_ARGS": "predseg preview big"})
    assert said.startswith("_arguments") and '"big_buyers":"Buy much"' in said


@pytest.mark.parametrize(("name", "check"), [("bash", ["-n"]), ("zsh", ["-n"]), ("fish", ["--no-execute"])])
def test_scripts_are_understood_by_their_shells(shop: Path, name: str, check: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", name]) == 0
    script = capsys.readouterr().out
    assert COMPLETING in script and "predseg" in script
    if shutil.which(name) is None:
        pytest.skip(f"no {name} here: only its questions were tried")
    (shop / "script").write_text(script, "utf-8")
    shell(shop, [name, *check, str(shop / "script")])


def test_other_shells_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "cmd"]) == 2
    assert "bash" in capsys.readouterr().err
