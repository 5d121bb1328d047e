"""The benchmarks run: a look at a small size, so that none breaks unseen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def run(root: Path, script: str, *options: str) -> str:
    """The table that a script prints."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))}
    command = [sys.executable, "-m", f"benchmarks.{script}", "--small", *options]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def cells(output: str) -> list[list[str]]:
    """The lines of the table below its head."""
    lines = [line.strip("| ").split(" | ") for line in output.splitlines() if line.startswith("|")]
    return lines[2:]


def test_features_agree_with_every_peer(root: Path) -> None:
    """The script itself compares the numbers, of 37 measures."""
    for module in ("duckdb", "polars"):
        pytest.importorskip(module)
    output = run(root, "features", "--cutoffs", "3")
    [[cutoffs, ratio, *seconds]] = cells(output)
    assert cutoffs == "3" and float(ratio.strip("*")) > 0 and int(seconds.pop().replace(",", "")) >= 37 * 1_000 and len(seconds) == 4


def test_memory_is_measured_for_each_step(root: Path) -> None:
    rows = {step: (float(peak.strip("*")), made) for step, peak, _, made in cells(run(root, "memory"))}
    assert set(rows) == {"ingest", "features"} and all(0.05 < peak < 2 for peak, _ in rows.values())
    assert rows["features"][1].startswith("5,000 customers")


def test_scoring_is_compared_with_bare_prediction(root: Path) -> None:
    rows = cells(run(root, "scoring"))
    assert [row[0] for row in rows] == ["Booster.predict", "predseg, with reasons", "predseg, without reasons"] and rows[0][1] == "**1.00**"


def test_segments_have_the_members_that_peers_find(root: Path) -> None:
    """The script itself compares the members."""
    for module in ("duckdb", "polars"):
        pytest.importorskip(module)
    assert len(cells(run(root, "segments"))) == 3


def test_startup_is_measured(root: Path) -> None:
    assert [row[0] for row in cells(run(root, "startup"))] == ["predseg --help", "python -c pass"]


@pytest.mark.real
@pytest.mark.slow
def test_accuracy_is_compared_on_the_same_customers(root: Path, real_data: Path) -> None:
    [row] = cells(run(root, "accuracy", "--data", str(real_data)))
    auc, brier = map(float, row[2].split(" / "))
    assert row[0].startswith("grocery") and auc > 0.9 and brier < 0.1


def test_every_script_is_in_the_readme(root: Path) -> None:
    text = (root / "benchmarks" / "README.md").read_text("utf-8")
    scripts = {p.stem for p in (root / "benchmarks").glob("*.py") if 'if __name__ == "__main__"' in p.read_text("utf-8")}
    assert scripts and all(f"python -m benchmarks.{name}" in text for name in scripts)
