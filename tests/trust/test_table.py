"""The table of the figures: printed by its command, quoted in the docs, failing when a figure fails."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from benchmarks.trust import __main__ as trust
from benchmarks.trust.figures import Figure


def run(root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.run([sys.executable, "-m", "benchmarks.trust", *options], cwd=root, env=environment, capture_output=True, text=True)


def test_the_command_prints_a_row_for_each_figure(root: Path) -> None:
    done = run(root, "formulas", "--small", "--seed", "3")
    assert done.returncode == 0 and done.stdout.startswith("seed 3, small\n"), done.stderr
    [row] = [line for line in done.stdout.splitlines() if line.startswith("| `")]
    assert row.startswith("| `formulas` | ") and row.endswith(" | yes |")
    assert run(root, "nothing").returncode == 2


def test_a_figure_that_does_not_hold_says_so() -> None:
    cells = trust.line("formulas", Figure(10, "1 run", ("x", "y")))
    assert cells[2:] == ["10", "0 run, numbers unchanged", "1 run", "**no: 2**"]


def test_the_docs_quote_every_figure(root: Path) -> None:
    page = (root / "docs" / "trust.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", page, re.MULTILINE))
    assert tuple(rows) == tuple(name for name in trust.FIGURES if name in rows)
    for name, row in rows.items():
        module = trust.figure(name)
        tried, cases, promised, _, held = row.split(" | ")
        assert (tried, promised, held) == (module.TRIED, module.PROMISED, "yes") and int(cases.replace(",", "")) >= module.FULL > 0
