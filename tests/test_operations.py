"""SECURITY.md and the page on operation: what they name is there, and what they tell an operator to do works."""

from __future__ import annotations

import ast
import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from predseg import Project
from predseg.cli import main
from predseg.language.monitoring import LENGTHS, SHARES
from predseg.language.serving import Alerts
from predseg.live.alarms import readings
from predseg.outcomes.monitoring import BY_MODEL
from tests import small
from tests.test_docs import ROOT, blocks

OPERATIONS, SECURITY = ROOT / "docs" / "operations.md", ROOT / "SECURITY.md"


def rows(page: Path, heading: str) -> set[str]:
    """The first cells, in backquotes, of the tables under a heading."""
    part = re.split(r"^## ", page.read_text("utf-8"), flags=re.MULTILINE)
    [text] = [p for p in part if p.startswith(heading)]
    return set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE))


def test_every_promise_names_a_test_that_is_there() -> None:
    promises = [line for line in SECURITY.read_text("utf-8").split("## What is not promised")[0].splitlines() if line.startswith("| ")]
    shown = [re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", line) for line in promises[promises.index("| promise | shown by |") + 1 :]]
    assert len(shown) >= 20 and all(shown)
    for file, name in (one for line in shown for one in line):
        tree = ast.parse((ROOT / file).read_text("utf-8"))
        tests = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}
        assert tests and (not name or name in tests), f"{file}::{name}"


def test_every_watch_and_every_alarm_has_a_row() -> None:
    assert rows(OPERATIONS, "When a watch is failing") == {*LENGTHS, *SHARES, *BY_MODEL}
    alerts = Alerts(silence=(("Order Completed", 1),))
    found = readings(alerts, 2, lag=0, rejected=0.0, queue=0.0, down=None, rhythms={}, since=0)
    assert rows(OPERATIONS, "When an alarm of the server rings") == {r.name.replace("Order Completed", "EVENT") for r in found}


def called(text: str) -> list[str]:
    """The pipelines that a text calls."""
    return re.findall(r"/opt/predseg/(pipelines/\w+\.py) predseg\.yaml", text)


def test_units_and_the_line_for_cron_call_the_nightly_run() -> None:
    units = {}
    for text in blocks(OPERATIONS, "ini"):
        units[text.splitlines()[0]] = unit = configparser.ConfigParser(interpolation=None)
        unit.optionxform = str  # type: ignore[assignment, method-assign]
        unit.read_string(text)
    service, timer = units.values()
    assert called(service["Service"]["ExecStart"]) == ["pipelines/daily.py"] and (ROOT / "pipelines/daily.py").is_file()
    assert service["Service"]["UMask"] == "0077" and timer["Timer"]["OnCalendar"].endswith("UTC")
    [cron] = [b for b in blocks(OPERATIONS, "text") if b.startswith("30 5")]
    assert called(cron) == ["pipelines/daily.py"] and "umask 077" in cron and "%" not in cron, "a % ends a command of cron"


def test_the_dag_has_one_task_that_calls_the_nightly_run(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[dict[str, Any], list[str]]] = []
    tasks: list[str] = []

    def dag(**options: Any) -> Callable[[Callable[[], None]], Callable[[], None]]:
        def decorated(body: Callable[[], None]) -> Callable[[], None]:
            def build() -> None:
                body()
                made.append((options, tasks))

            return build

        return decorated

    class Task:
        @staticmethod
        def bash(body: Callable[[], str]) -> Callable[[], None]:
            return lambda: tasks.append(body())

    for name, content in {"airflow": {}, "airflow.sdk": {"dag": dag, "task": Task}, "pendulum": {"datetime": lambda *a, **k: (a, k)}}.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    [text] = [b for b in blocks(OPERATIONS, "python") if "airflow" in b]
    exec(compile(text, "predseg_shop.py", "exec"), {})
    [(options, [command])] = made
    assert called(command) == ["pipelines/daily.py"] and options["max_active_runs"] == 1 and options["catchup"] is False


@pytest.mark.skipif(not shutil.which("flock"), reason="flock(1) is not installed")
def test_a_backup_is_made_and_restored_as_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shop, aside = tmp_path / "shop", tmp_path / "backup"
    aside.mkdir()
    file = small.write(shop, small.rows()[:300], small.CONFIG.replace("models:", "segments: rules.yaml\nmodels:"))
    (shop / "rules.yaml").write_text("segment: buyers\nmatch: {did: Order Completed}\n")
    backup, restore = (
        text.replace("/srv/shop", shlex.quote(str(shop)))
        .replace("/backup", "../backup")
        .replace("python3", sys.executable)
        .replace("predseg ", f"{sys.executable} -m predseg ")
        for text in blocks(OPERATIONS, "sh")
        if "/backup" in text
    )
    monkeypatch.chdir(tmp_path)
    for command in ("segment", "optout add c0001", "forget c0002"):
        assert main([*command.split(), "-c", str(file)]) == 0
    before = Project.load(file).store.read("memberships")
    subprocess.run(["bash", "-e", "-c", backup], check=True)
    assert main(["optout", "add", "c0003", "-c", str(file)]) == 0
    shutil.rmtree(shop)
    done = subprocess.run(["bash", "-c", restore.rstrip() + " --json"], capture_output=True, text=True)
    broken = [f["what"] for f in json.loads(done.stdout)["findings"] if f["status"] == "broken"]
    assert broken == [] and Project.load(file).store.read("memberships").equals(before)
    left_alone = Project.load(file).opted_out(None)
    assert "c0001" in left_alone and "c0003" not in left_alone, "what came after the copy is not in it"
    assert main(["check", "-c", str(file)]) == 0 and "c0002" not in str(Project.load(file).store.read("events").to_pydict())
    assert all(p.stat().st_mode & 0o077 == 0 for p in (aside / "shop.tar", aside / "live.db"))
