"""The daily run on a disk that is full after so many bytes, and in a folder that cannot be written: a small file system in memory.

What is looked at is what `killing` looks at: tables that are whole, a next run that completes once there is room, the result of an
undisturbed one.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.trust.figures import Figure, Tally
from benchmarks.trust.killing import SECOND, Runs, State, copied, first_day, looked_at, run_again, runner, second_day, state

TRIED = "`predseg run` on a disk with from nothing to a megabyte left, and in a folder that is read-only; then run again with room"
PROMISED = "refused with a reason, tables whole, the next run completes, the result is that of an undisturbed one"
FULL, SMALL = 40, 3
ROOM = 64 * 1024 * 1024


def measure(cases: int, folder: Path, seed: int) -> Figure:
    tally, r = Tally(), random.Random(seed)
    if not can_mount(folder):
        return Figure(0, "not tried: to mount a small file system needs root")
    with runner("") as runs:
        morning = first_day(runs, folder / "morning")
        before, after = state(morning), second_day(runs, morning, folder / "undisturbed")
        copied(morning, folder / "sized")
        size = used(folder / "sized")
        for number in range(cases):
            left = r.choice([0, r.randrange(40_000), r.randrange(400_000), r.randrange(1_000_000)])
            with mounted(folder / "disk", size + ROOM) as disk:
                one(tally, number, runs, morning, disk, left if number % 5 else None, (before, after))
    counts = tally.counts
    tally.demand(counts["refused"] > cases / 3, f"only {counts['refused']} of {cases} runs had too little room")
    return tally.figure(
        f"{counts['refused']} refused, {counts['room enough']} had room enough; {counts['torn']} torn tables, {counts['crashed']} crashes, "
        f"{counts['stuck']} runs not completed, {counts['other']} other results"
    )


def one(tally: Tally, number: int, runs: Runs, morning: Path, disk: Path, left: int | None, states: tuple[State, State]) -> None:
    """A run with so many bytes left, or in a folder that is read-only; then one with room."""
    tally.cases += 1
    shop, what = disk / "shop", f"{number}, {'read-only' if left is None else f'{left:,} bytes left'}"
    copied(morning, shop)
    again(disk, "ro" if left is None else f"size={used(disk) + left}")
    code, _ = runs.run(shop, "run", "--as-of", SECOND, output=disk.parent)
    again(disk, f"rw,size={used(disk) + ROOM}")
    said = (disk.parent / "said.err").read_text()
    ended(tally, what, code, said)
    looked_at(tally, what, shop, *states, set())
    run_again(tally, what, runs, shop, states[1])


def ended(tally: Tally, what: str, code: int, said: str) -> None:
    """Judge how a run ended that had little room or none."""
    if code in (0, 1):
        tally.counts["room enough"] += 1
        return
    tally.counts["refused"] += 1
    reasoned = code in (4, 8) and ("error[E41" in said or "no space" in said.lower())
    tally.counts["crashed"] += not reasoned
    tally.demand(reasoned, f"{what}: ended with {code}: {said[-300:]}")


def used(folder: Path) -> int:
    """Bytes that the files of a folder take in a file system of pages."""
    return sum(max(4096, -(-file.lstat().st_size // 4096) * 4096) for file in folder.rglob("*")) + 4096


def can_mount(folder: Path) -> bool:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    try:
        with mounted(folder / "try", 65_536):
            return True
    except subprocess.CalledProcessError:
        return False


@contextmanager
def mounted(folder: Path, size: int) -> Iterator[Path]:
    """A file system of so many bytes."""
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True, capture_output=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True, capture_output=True)


def again(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True, capture_output=True)
