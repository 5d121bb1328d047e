"""Bombs are refused before they go off; what is not refused, or costs too much, is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.trust import bombs
from benchmarks.trust.figures import Tally


def test_one_bomb_of_each_kind_is_refused(tmp_path: Path) -> None:
    found = bombs.measure(bombs.SMALL, tmp_path, 1)
    assert found.faults == () and found.cases == 4 and found.seen.startswith("4 refused, ")


def test_what_is_not_refused_or_costs_too_much_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p.yaml").write_text("project: p\n")
    monkeypatch.setattr(bombs, "MEGABYTES", 0)
    monkeypatch.setattr(bombs, "SECONDS", 0)
    tally = Tally()
    bombs.opened(tally, "yaml", "harmless", tmp_path / "p.yaml")
    assert [fault.split(": ")[1].split()[-1] for fault in tally.faults] == ["refused", "MB", "s"] or len(tally.faults) == 3
    bombs.opened(tally, "nothing", "known", tmp_path / "p.yaml")
    assert "the process ended with 1" in tally.faults[-1]
