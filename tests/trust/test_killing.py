"""The daily run survives kill -9 at any moment; tables that are not exchanged at once, and a run that gives up, are noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.trust import killing
from benchmarks.trust.figures import Tally

IN_PLACE = """
import time
from predseg.store import Store
def in_place(self, staging, target):
    target.mkdir(parents=True, exist_ok=True)
    for file in sorted(staging.iterdir()):
        content = file.read_bytes()
        with (target / file.name).open("wb") as out:
            out.write(content[: len(content) // 2])
            out.flush()
            time.sleep(0.3)
            out.write(content[len(content) // 2 :])
Store._swap = in_place
"""


def test_a_run_that_is_killed_leaves_whole_tables_and_the_next_one_completes(tmp_path: Path) -> None:
    found = killing.measure(killing.SMALL, tmp_path, 1)
    assert found.faults == () and found.cases == killing.SMALL
    shop = tmp_path / "shop"
    with (shop / "exports" / "more.csv").open("w") as file:
        file.write("action_id,segment,customer_id\na,buyers,c1\n")
    after, tally = killing.state(tmp_path / "undisturbed"), Tally()
    [events] = (shop / "store" / "tables" / "scores").glob("*2025-10-28*/*.parquet")
    events.write_bytes(events.read_bytes()[:-100])
    killing.looked_at(tally, "x", shop, after, after, set())
    assert tally.counts["torn"] == 1, "a table that is cut off is noticed"
    events.parent.rename(tmp_path / "gone")
    killing.looked_at(tally, "x", shop, after, after, set())
    assert tally.counts["torn"] == 2 and "scores has" in tally.faults[1], "and one that lacks rows"
    with killing.runner("") as runs:
        killing.run_again(tally, "x", runs, shop, after)
    assert tally.counts["other"] == 1 and "exported are not what" in tally.faults[-1], "and a message too many"


@pytest.mark.skipif("not __import__('os').environ.get('PREDSEG_LONG')", reason="takes half a minute; PREDSEG_LONG=1 runs it")
def test_tables_that_are_written_in_place_are_noticed(tmp_path: Path) -> None:
    assert any("killed after" in fault for fault in killing.measure(6, tmp_path, 1, IN_PLACE).faults)
