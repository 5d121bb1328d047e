"""Nobody who said no is written to or listed, in whatever order things happen; a gap is noticed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks.trust import optout
from benchmarks.trust.figures import Tally
from predseg.activation import claims
from predseg.history import privacy


def test_nobody_who_said_no_is_written_to() -> None:
    tally = Tally()
    for seed in range(10):
        optout.Round(tally, random.Random(seed), 200).run()
    assert tally.cases == 2_000 and tally.faults == [] and min(tally.counts[n] for n in ("sent", "suppressed", "deaths")) > 20


@pytest.mark.skipif(
    "not __import__('os').environ.get('PREDSEG_LONG')", reason="trains a model; PREDSEG_LONG=1 runs it, and tests/test_consent.py asks the same"
)
def test_nobody_who_said_no_is_listed(tmp_path: Path) -> None:
    found = optout.measure(optout.SMALL, tmp_path, 1)
    assert found.faults == () and "; 0 rows in 12 tables" in found.seen
    others, tally = {"all": "p4", optout.PURPOSE: "p5", "profiling": "p4", "training": "p5"}, Tally()
    optout.looked_through(tally, tmp_path / "shop", others)
    assert tally.counts["rows"] > 20 and len(tally.faults) == 12, "of people who said nothing there are rows in every place"


@pytest.mark.parametrize("broken", ["not asked", "not waited"])
def test_a_gap_is_noticed(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    if broken == "not asked":
        monkeypatch.setattr(privacy, "opted_out", lambda connection, customer, purpose: False)
    else:
        monkeypatch.setattr(claims, "in_flight", lambda connection, customer: 0)
    tally = Tally()
    optout.Round(tally, random.Random(1), 200).run()
    assert tally.counts["after"] == len(tally.faults) > 0
