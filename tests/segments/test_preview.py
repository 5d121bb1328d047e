"""Previews of a large history, on a part of it."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from predseg.language.time import DAY
from predseg.segments.facts import Facts
from predseg.segments.preview import preview
from tests.segments.stores import rules, write_events


@pytest.mark.parametrize("groups, sample", [(39, 320), (20, 1_300), (7, 1_900)])
def test_an_estimate_is_scaled_by_what_was_looked_at_and_not_by_what_was_meant_to_be(tmp_path: Path, groups: int, sample: int) -> None:
    """Row groups are whole, so what is read is more than the share that was asked for."""
    events = [(f"c{i:04d}", j * DAY, "Look" if i % 2 else "Buy", {}) for i in range(1_000) for j in range(4)]
    file = write_events(tmp_path, events)[0]
    pq.write_table(pq.read_table(file), file, row_group_size=-(-4_000 // groups))
    found = preview([file], rules("segment: buyer\nmatch: {did: Buy}"), "buyer", 9 * DAY, Facts(None), rows=4_000, sample=sample)
    assert found.sampled < 1 and found.known == pytest.approx(1_000, abs=15) and found.members == pytest.approx(500, abs=25)
    assert preview([file], rules("segment: buyer\nmatch: {did: Buy}"), "buyer", 9 * DAY, Facts(None), rows=4_000, sample=None).known == 1_000


def test_only_who_is_known_is_counted(tmp_path: Path) -> None:
    """Nobody who comes later, and nobody at all where a byte has room for more customers than there are."""
    events = [("a", 1 * DAY, "Buy", {}), ("b", 2 * DAY, "Look", {}), ("c", 2 * DAY, "Look", {}), ("later", 5 * DAY, "Look", {})]
    rule = "segment: quiet\nmatch: {all: [{none: [{did: Buy}]}, {none: [{did: Add}]}]}\n---\nsegment: buyer\nmatch: {not_in: quiet}"
    found = preview(write_events(tmp_path, events), rules(rule), "quiet", 3 * DAY, Facts(None), rows=4, sample=None)
    assert (found.known, found.members) == (3, 2)
    assert [(s.alone, s.unknown, s.removes, s.remains) for s in found.steps] == [(2, 0, 1, 2), (3, 0, 0, 2)]
