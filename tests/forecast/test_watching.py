"""What was found once of a champion is not looked for again, and is what would be found anew."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from predseg import Project
from predseg.forecast import maturing, watching
from predseg.forecast.watching import Drift
from predseg.history import adding
from predseg.marks import FILE
from tests import small

MOMENTS = ("2025-09-20", "2025-09-25", "2025-10-01", "2025-10-05")
LATE = ("2025-09-10", "2025-09-22", "2025-09-30", "2025-10-24", "2025-10-27")


@pytest.fixture
def file(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project file of a shop that was scored four times; what comes later lies beside its base."""
    for name in ("LEAST", "SHARE"):
        monkeypatch.setattr(adding, name, 0)
    found = small.copied(trained, tmp_path / "shop")
    found.write_text(found.read_text("utf-8").replace("events.csv", '"events*.csv"'), "utf-8")
    for moment in MOMENTS:
        Project.load(found).score(as_of=moment)
    return found


def drift(file: Path) -> Drift:
    return Project.load(file).drift()["purchase"]


def anew(file: Path, folder: Path) -> Drift:
    """The same of a copy that remembers nothing."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(file.parent, folder)
    (folder / "store" / FILE).unlink(missing_ok=True)
    return drift(folder / file.name)


def came(file: Path, number: int, lines: list[str]) -> None:
    small_file = file.parent / f"events-{number}.csv"
    small_file.write_text("\n".join(["customer_id,event_time,event,value", *lines]) + "\n", "utf-8")


def counted(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> list[Any]:
    """The calls of a function, which does what it did."""
    calls, real = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda *given, **more: (calls.append(given), real(*given, **more))[1])
    return calls


def test_scoring_finds_on_its_way_how_far_the_present_is_from_training(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "SAMPLE", 150)
    Project.load(file).score()
    compared = counted(monkeypatch, watching, "compare")
    found = drift(file)
    assert not compared and 0 < found.share < 1 and found.customers
    assert found == anew(file, tmp_path / "copy") and len(compared) == 1


def test_with_nothing_new_no_model_is_loaded_and_no_event_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, calls = drift(file), counted(monkeypatch, watching, "open_source")
    assert drift(file) == found and not calls
    assert len(found.runs) == len(MOMENTS)
    text = next((file.parent / "models").rglob("bundle.json"))
    text.write_text(text.read_text("utf-8") + " ", "utf-8")
    with pytest.raises(Exception, match="E70"):
        drift(file)


def test_a_dry_run_keeps_nothing(file: Path) -> None:
    kept = file.parent / "store" / FILE
    kept.unlink(missing_ok=True)
    Project.load(file).drift(dry_run=True)
    Project.load(file).score(dry_run=True)
    assert not kept.exists()


def test_of_old_runs_only_those_are_looked_at_again_that_new_rows_can_have_changed(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drift(file)
    matured = counted(monkeypatch, maturing, "matured")
    came(file, 1, ["c0001,2025-10-27T01:00:00Z,Order Completed,10.00"])
    found = drift(file)
    assert not matured, "the new order lies after the horizon of all runs"
    assert found == anew(file, tmp_path / "copy") and len(matured) == len(MOMENTS)
    matured.clear()
    came(file, 2, ["c0002,2025-10-22T01:00:00Z,Order Completed,10.00"])
    found = drift(file)
    assert [given[0] for given in matured] == [run.as_of for run in found.runs[-1:]], "of the last run only"
    assert found == anew(file, tmp_path / "copy")


@pytest.mark.parametrize("seed", range(8 if os.environ.get("PREDSEG_LONG") else 1))
def test_whatever_comes_it_is_what_would_be_found_anew(file: Path, tmp_path: Path, seed: int) -> None:
    r = np.random.default_rng(seed)
    for number in range(3):
        lines = [f"c{r.integers(330):04d},{r.choice(LATE)}T{r.integers(24):02d}:00:00Z,Order Completed,{r.integers(1, 90)}.00" for _ in range(25)]
        came(file, number, lines[: r.integers(1, 25)])
        assert drift(file) == anew(file, tmp_path / "copy")
