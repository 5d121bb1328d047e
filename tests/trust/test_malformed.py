"""Mutated events are all accounted for and harm no other; one that is lost, dropped or breaks the server is noticed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from benchmarks.trust import malformed
from benchmarks.trust.figures import Tally
from predseg import Project
from predseg.live import collector


@pytest.fixture(scope="module")
def real() -> list[dict[str, Any]]:
    return malformed.events(1)


def test_every_mutated_event_is_accounted_for(tmp_path: Path) -> None:
    found = malformed.measure(malformed.SMALL, tmp_path, 1)
    late = [fault for fault in found.faults if fault.startswith("p99")]  # a figure of forty events on a busy machine
    assert set(found.faults) == set(late) and found.cases >= malformed.SMALL
    assert ": 0 unaccounted for; 0 others lost; 0 crashes; " in found.seen


def test_a_row_that_is_lost_or_not_counted_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real: list[dict[str, Any]]) -> None:
    events = Project.events
    monkeypatch.setattr(Project, "events", lambda self: events(self).slice(0, 300))
    tally = Tally()
    malformed.file(tally, tmp_path / "lost", random.Random(1), real, 1_000, 0)
    assert tally.counts["lost"] > 0 == tally.counts["missing"]
    tally = Tally()
    malformed.accounted(tally, "x", 10, 9)
    assert tally.counts["missing"] == 1 and len(tally.faults) == 1


def test_a_message_that_breaks_the_server_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real: list[dict[str, Any]]) -> None:
    sound = collector.to_row

    def breaks(message: Any, *given: Any, **more: Any) -> Any:
        return 1 / 0 if isinstance(message, dict) and message.get("event") == "Twice" else sound(message, *given, **more)

    monkeypatch.setattr(collector, "to_row", breaks)
    tally = Tally()
    malformed.collector(tally, tmp_path / "live", random.Random(1), real, 1_000)
    assert tally.counts["crashed"] > 0 and len(tally.faults) >= tally.counts["crashed"]
