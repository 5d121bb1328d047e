"""The daily run survives kill -9, a full disk and a read-only folder; torn tables, and a run that ends otherwise, are noticed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.trust import disks, killing
from benchmarks.trust.figures import Figure, Tally

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


Days = tuple[killing.Runs, Path, Figure]


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Days]:
    """What more can be run with, the folder of a shop on its first and second day, and what some kills found."""
    folder = tmp_path_factory.mktemp("days")
    with killing.runner("") as runs:
        yield runs, folder, killing.kills(runs, killing.SMALL, folder, 1)


def test_a_run_that_is_killed_leaves_whole_tables_and_the_next_one_completes(days: Days, tmp_path: Path) -> None:
    runs, folder, found = days
    assert found.faults == () and found.cases == killing.SMALL
    shop = folder / "shop"
    with (shop / "exports" / "more.csv").open("w") as file:
        file.write("action_id,segment,customer_id\na,buyers,c1\n")
    after, tally = killing.state(folder / "undisturbed"), Tally()
    [events] = (shop / "store" / "tables" / "scores").glob("*2025-10-28*/*.parquet")
    events.write_bytes(events.read_bytes()[:-100])
    killing.looked_at(tally, "x", shop, after, after, set())
    assert tally.counts["torn"] == 1, "a table that is cut off is noticed"
    events.parent.rename(tmp_path / "gone")
    killing.looked_at(tally, "x", shop, after, after, set())
    assert tally.counts["torn"] == 2 and "scores has" in tally.faults[1], "and one that lacks rows"
    killing.run_again(tally, "x", runs, shop, after)
    assert tally.counts["other"] == 1 and "exported are not what" in tally.faults[-1], "and a message too many"


@pytest.mark.parametrize("left", [20_000, None], ids=["full", "read-only"])
def test_a_run_without_room_is_refused_and_the_next_one_completes(days: Days, tmp_path: Path, left: int | None) -> None:
    if not disks.can_mount(tmp_path):
        pytest.skip("to mount a small file system needs root")
    runs, folder, _ = days
    tally = Tally()
    states = killing.state(folder / "morning"), killing.state(folder / "undisturbed")
    killing.copied(folder / "morning", tmp_path / "sized")
    with disks.mounted(tmp_path / "disk", disks.used(tmp_path / "sized") + disks.ROOM) as disk:
        disks.one(tally, 1, runs, folder / "morning", disk, left, states)
    assert tally.faults == [] and tally.counts["refused"] == 1


def test_a_run_that_ends_without_a_reason_is_noticed() -> None:
    tally = Tally()
    for code, said in ((70, "error[E070] predseg: a bug"), (-11, ""), (4, "error[E410] x: cannot write"), (0, "")):
        disks.ended(tally, "x", code, said)
    assert (tally.counts["crashed"], tally.counts["refused"], len(tally.faults)) == (2, 3, 2)


@pytest.mark.skipif("not __import__('os').environ.get('PREDSEG_LONG')", reason="takes half a minute; PREDSEG_LONG=1 runs it")
def test_tables_that_are_written_in_place_are_noticed(tmp_path: Path) -> None:
    assert any("killed after" in fault for fault in killing.measure(6, tmp_path, 1, IN_PLACE).faults)
