"""Documentation that cannot rot: its commands run, its code runs, its lists are complete."""

from __future__ import annotations

import doctest
import importlib
import os
import re
from pathlib import Path

import pytest

from predseg.cli import main
from predseg.cli.frame import app

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", *DOCS]
MODULES = sorted(".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for p in (ROOT / "predseg").rglob("*.py"))
COMMANDS = [str(command.name) for command in app.registered_commands]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", [m for m in MODULES if not m.endswith("__main__")])
def test_docstring_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_python_sessions_of_the_docs(page: Path) -> None:
    sessions = [b for b in blocks(page, "python") if b.startswith(">>>")]
    parser, runner, space = doctest.DocTestParser(), doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS), {}
    for number, text in enumerate(sessions):
        test = parser.get_doctest(text, space, f"{page.name}[{number}]", str(page), 0)
        runner.run(test, clear_globs=False)
        space = test.globs
    assert runner.failures == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_project_file_in_the_docs_is_accepted(page: Path, tmp_path: Path) -> None:
    from predseg.config import parse

    for text in blocks(page, "yaml"):
        whole = text if text.lstrip().startswith("project:") else f"project: doc\n{text}"
        parse(whole, tmp_path / "predseg.yaml")


def test_error_codes_in_the_source_are_the_ones_explained() -> None:
    source = {code for path in (ROOT / "predseg").rglob("*.py") for code in re.findall(r'"(E\d{3})"', path.read_text("utf-8"))}
    page = (ROOT / "docs" / "errors.md").read_text("utf-8")
    explained = re.findall(r"^\| `(E\d{3})` \|", page, re.MULTILINE)
    assert sorted(set(explained)) == explained, "codes are sorted and stand once"
    assert set(explained) == source


def test_error_codes_start_with_their_exit_code() -> None:
    calls = [m for path in (ROOT / "predseg").rglob("*.py") for m in re.findall(r'(\w+Error)\(\s*"E(\d)', path.read_text("utf-8"))]
    digits = {"UsageError": "2", "ConfigError": "3", "DataError": "4", "LabelError": "5", "GateError": "6", "ModelError": "7", "ChannelError": "8"}
    assert calls and not [(name, digit) for name, digit in calls if name in digits and digits[name] != digit]


def command_reference() -> str:
    """The text of docs/commands.md: what every command says of itself."""
    import contextlib
    import io

    parts = ["# Commands\n\nWhat `predseg COMMAND --help` says. Exit codes are explained in [errors](errors.md).\n"]
    for name in COMMANDS:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            assert main([name, "--help"]) == 0
        parts.append(f"## {name}\n\n```text\n{out.getvalue().rstrip()}\n```\n")
    return "\n".join(parts)


def test_the_command_reference_is_what_help_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "110")
    page = ROOT / "docs" / "commands.md"
    if os.environ.get("UPDATE_GOLDEN"):
        page.write_text(command_reference(), "utf-8")
    assert page.read_text("utf-8") == command_reference(), "run UPDATE_GOLDEN=1 pytest tests/test_docs.py"


def test_every_command_is_in_the_readme_or_the_docs_index() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert not [name for name in COMMANDS if f"predseg {name}" not in text]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_point_to_files(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8")) if "://" not in link]
    assert not [link for link in links if not (page.parent / link).exists()]


def test_project_files_of_configs_are_accepted() -> None:
    from predseg.config import load

    found = sorted((ROOT / "configs").rglob("*.yaml"))
    names = [load(path).project for path in found if "segments" not in path.parts]
    assert {"online_retail", "grocery", "completejourney"} <= set(names)
