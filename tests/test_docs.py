"""Documentation that cannot rot: its commands run, its code runs, its lists are complete."""

from __future__ import annotations

import doctest
import importlib
import os
import re
import shutil
from pathlib import Path

import pytest

from predseg.cli import main
from predseg.cli.frame import app

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *DOCS]
MODULES = sorted(".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for p in (ROOT / "predseg").rglob("*.py"))
COMMANDS = [str(command.name) for command in app.registered_commands]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", [m for m in MODULES if not m.endswith("__main__")])
def test_docstring_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0


def run_sessions(page: Path) -> None:
    parser, runner, space = doctest.DocTestParser(), doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS), {}
    for number, text in enumerate(b for b in blocks(page, "python") if b.startswith(">>>")):
        test = parser.get_doctest(text, space, f"{page.name}[{number}]", str(page), 0)
        runner.run(test, clear_globs=False)
        space = test.globs
    assert runner.failures == 0


@pytest.mark.parametrize("page", DOCS, ids=lambda p: p.name)
def test_python_sessions_of_the_docs(page: Path) -> None:
    run_sessions(page)


def test_python_sessions_of_the_readme(demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(demo / "shop", tmp_path / "shop")
    monkeypatch.chdir(tmp_path)
    run_sessions(ROOT / "README.md")


def masked(line: str) -> str:
    """A line without its figures and the width of its columns: those depend on the size of the shop."""
    return " ".join(re.sub(r"-?[\d.,]+", "#", line).split())


def quoted(page: Path) -> list[tuple[str, list[str]]]:
    """Every command of the console blocks of a page, with the lines quoted under it."""
    found: list[tuple[str, list[str]]] = []
    for block in blocks(page, "console"):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line, []))
            elif line.strip():
                found[-1][1].append(line)
    return found


def test_the_readme_quotes_what_the_demo_prints(demo: Path) -> None:
    """Quoted lines stand in the output of their command in this order; a line of dots leaves some away. Figures are not compared."""
    said = (demo / "demo.txt").read_text("utf-8")
    compared = 0
    for command, lines in quoted(ROOT / "README.md"):
        if command not in said:
            continue
        compared += compare(command, lines, said.split(command + "\n")[1].split("\n$ ")[0])
    assert compared >= 15


def compare(command: str, lines: list[str], said: str) -> int:
    """Look for the quoted lines in what was said, in order, and return how many there are."""
    found = [masked(line) for line in said.splitlines()]
    wanted = [line for line in lines if line != "..."]
    for line in wanted:
        assert masked(line) in found, f"{command} does not print: {line}"
        found = found[found.index(masked(line)) + 1 :]
    return len(wanted)


def test_other_commands_that_the_readme_quotes_print_it(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(demo / "shop", tmp_path / "shop")
    monkeypatch.chdir(tmp_path)
    others = [(command, lines) for command, lines in quoted(ROOT / "README.md") if command not in (demo / "demo.txt").read_text("utf-8")]
    assert len(others) >= 3
    for command, lines in others:
        assert main(command.removeprefix("$ predseg ").split()) == 0
        compare(command, lines, capsys.readouterr().out)


def test_the_demo_reads_well(demo: Path) -> None:
    """Offline, without noise; it says what the numbers mean and what to do next; the model comes close to the truth."""
    said, noise = (demo / "demo.txt").read_text("utf-8"), (demo / "demo.err").read_text("utf-8")
    assert "Warning" not in noise and "Traceback" not in noise and len(noise.splitlines()) <= 4
    for wanted in ("of two customers, one who will and one who will not", "best possible forecast", "next", "predseg init my_shop"):
        assert wanted in said
    explained = [int(share) for share in re.findall(r"(\d+)%\s*$", said.split("how close to the truth")[1], re.MULTILINE)]
    assert len(explained) == 2 and min(explained) > 60


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_project_file_and_rule_in_the_docs_is_accepted(page: Path, tmp_path: Path) -> None:
    from predseg.config import parse
    from predseg.language.yaml import read_documents
    from predseg.segments.definitions import Vocabulary, arrange

    for text in blocks(page, "yaml"):
        if text.startswith("segment:"):
            arrange(read_documents(text, page.name), Vocabulary(frozenset({"churn", "purchase"})))
            continue
        whole = text if text.lstrip().startswith("project:") else f"project: doc\n{text}"
        parse(whole, tmp_path / "predseg.yaml")


def test_every_verb_of_the_rules_is_explained() -> None:
    from predseg.language.documents import ADVERBS

    page = (ROOT / "docs/rules.md").read_text("utf-8")
    assert not [verb for verb in ADVERBS if f"`{verb}" not in page and f" {verb}" not in page]


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


def test_the_reference_of_keys_is_what_the_schema_says() -> None:
    from tests.test_docs_reference import reference

    page = ROOT / "docs" / "reference.md"
    if os.environ.get("UPDATE_GOLDEN"):
        page.write_text(reference(), "utf-8")
    assert page.read_text("utf-8") == reference(), "run UPDATE_GOLDEN=1 pytest tests/test_docs.py"


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


def test_the_tutorial_is_what_happens(demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Its files are laid as it says, its commands run in their order, and print what is quoted; figures are not compared."""
    page = ROOT / "docs" / "tutorial.md"
    shutil.copytree(demo / "shop" / "data", tmp_path / "shop" / "data")
    (tmp_path / "mine" / "segments").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    project, rule = blocks(page, "yaml")
    (tmp_path / "mine" / "predseg.yaml").write_text(project, "utf-8")
    (tmp_path / "mine" / "segments" / "mine.yaml").write_text(rule, "utf-8")
    commands = quoted(page)
    assert len(commands) == 8
    for command, lines in commands:
        assert main(command.removeprefix("$ predseg ").split()) == 0, command
        assert compare(command, lines, capsys.readouterr().out) > 0
