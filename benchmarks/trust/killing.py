"""The daily run, killed at any moment: kill -9, nothing after it runs.

A small shop is trained and run on a first day; on the second, with new events, `predseg run` is killed after a random time,
looked at, and run again to its end. What then stands in tables, outbox and exported files must be what an undisturbed second day leaves.
Runs are children of one process that has imported everything, so that the time is the run's own.
"""

from __future__ import annotations

import csv
import importlib
import json
import os
import random
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.trust.figures import Figure, Tally
from predseg.store import Store
from tests import small

TRIED = "`predseg run` killed with -9 at a random moment, then run again"
PROMISED = "tables always whole, the next run completes, the result is that of an undisturbed one"
FULL, SMALL = 300, 4
FIRST, SECOND = "2025-10-19", "2025-10-28"
TABLES = ("actions", "events", "memberships", "quarantine", "scores", "segment_runs")
CLOCK = {"sent_at", "due_at", "received_at"}
"""Columns that say when something was done, not what."""
RULES = """\
segment: buyers
match: {did: Order Completed, within: 5 days}
on_enter: {send: crm}
on_leave: {send: trial}
---
segment: likely
match: {score: purchase, top: 10%}
on_enter: {send: crm}
"""
State = dict[str, list[Any]]


def measure(cases: int, folder: Path, seed: int, plant: str = "") -> Figure:
    """``plant`` is code that the runs begin with."""
    with runner(plant) as runs:
        return kills(runs, cases, folder, seed)


def kills(runs: Runs, cases: int, folder: Path, seed: int) -> Figure:
    """Lay a shop into a folder, and kill its second day so many times."""
    tally, r = Tally(), random.Random(seed)
    morning = first_day(runs, folder / "morning")
    before = state(morning)
    for _ in range(2):
        after = second_day(runs, morning, folder / "undisturbed")
    assert before != after, "the second day changes something"
    stages: set[str] = set()
    for number in range(cases):
        shop = folder / "shop"
        seconds = killed_once(tally, runs, morning, shop, r)
        looked_at(tally, f"{number}, killed after {seconds:.3f} s", shop, before, after, stages)
        run_again(tally, f"{number}, killed after {seconds:.3f} s", runs, shop, after)
    tally.demand(cases < 50 or len(stages) > 3, f"the kills found only {len(stages)} different states: {stages}")
    counts = tally.counts
    return tally.figure(
        f"{counts['killed']} kills found {len(stages)} different states; {counts['torn']} torn tables, {counts['stuck']} runs not completed, "
        f"{counts['other']} other results"
    )


# what is done


@dataclass
class Runs:
    """Starts runs, and kills them."""

    process: subprocess.Popen[str]
    seconds: list[float] = field(default_factory=list)

    def run(self, shop: Path, *command: str, kill: float = 0, output: Path | None = None) -> tuple[int, float]:
        """Run to the end, or until it is killed after so many seconds; return how it ended (0, an exit code or -9) and how long it took.

        What it writes stands in ``said`` and ``said.err`` of the shop, or of another folder.
        """
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps([str(shop), kill, command, str(output or shop)]) + "\n")
        self.process.stdin.flush()
        code, seconds = json.loads(self.process.stdout.readline())
        return code, seconds


@contextmanager
def runner(plant: str) -> Iterator[Runs]:
    command = [sys.executable, "-c", f"{plant}\nfrom benchmarks.trust import killing\nkilling.serve()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            yield Runs(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()


def first_day(runs: Runs, shop: Path) -> Path:
    rows = small.rows(240, 300)
    config = small.CONFIG + "segments: rules.yaml\nchannels: {crm: {file: exports}, trial: {dry: true}}\n"
    small.write(shop, [row for row in rows if row.split(",")[1] < FIRST], config)
    (shop / "rules.yaml").write_text(RULES)
    for command in (["train"], ["run", "--as-of", FIRST]):
        code, _ = runs.run(shop, *command)
        assert code in (0, 1), (shop / "said.err").read_text()
    return shop


def second_day(runs: Runs, morning: Path, shop: Path) -> State:
    copied(morning, shop)
    code, seconds = runs.run(shop, "run", "--as-of", SECOND)
    assert code in (0, 1), (shop / "said.err").read_text()
    runs.seconds.append(seconds)
    return state(shop)


def copied(morning: Path, shop: Path) -> None:
    shutil.rmtree(shop, ignore_errors=True)
    shutil.copytree(morning, shop)
    for name in ("exports.json",):
        file = shop / "store" / name
        file.write_text(file.read_text().replace(str(morning), str(shop))) if file.exists() else None
    small.write(shop, small.rows(240, 300), (shop / "predseg.yaml").read_text())


def killed_once(tally: Tally, runs: Runs, morning: Path, shop: Path, r: random.Random) -> float:
    """Begin the second day again and again until a kill came before its end."""
    while True:
        copied(morning, shop)
        seconds = r.uniform(0.001, statistics.median(runs.seconds[-20:]))
        code, took = runs.run(shop, "run", "--as-of", SECOND, kill=seconds)
        if code == -signal.SIGKILL:
            tally.cases += 1
            tally.counts["killed"] += 1
            return seconds
        runs.seconds.append(took)


def looked_at(tally: Tally, what: str, shop: Path, before: State, after: State, stages: set[str]) -> None:
    """Every table is what it was or what it will be, and the database is sound."""
    try:
        found = state(shop)
    except Exception as error:
        tally.counts["torn"] += 1
        tally.fault(f"{what}: {type(error).__name__}: {error}")
        return
    stage = []
    for name in TABLES:
        whole = found[name] in (before[name], after[name])
        tally.counts["torn"] += not whole
        tally.demand(whole, f"{what}: the table {name} has {len(found[name])} rows, of {len(before[name])} before and {len(after[name])} after")
        stage.append("after" if found[name] == after[name] else "before")
    stages.add(f"{stage} {len(found['outbox'])} {len(found['exported'])}")


def run_again(tally: Tally, what: str, runs: Runs, shop: Path, after: State) -> None:
    code, seconds = runs.run(shop, "run", "--as-of", SECOND)
    runs.seconds.append(seconds)
    tally.counts["stuck"] += code not in (0, 1)
    if code not in (0, 1):
        tally.fault(f"{what}: the next run ended with {code}: {(shop / 'said').read_text()[-300:]}")
        return
    found = state(shop)
    other = [name for name in after if found[name] != after[name]]
    rest = [p.name for p in (shop / "store" / ".work").iterdir()] + [p.name for p in (shop / "exports").iterdir() if p.suffix != ".csv"]
    tally.counts["other"] += bool(other or rest)
    tally.demand(not other, f"{what}: {', '.join(other)} are not what an undisturbed run leaves")
    tally.demand(not rest, f"{what}: {', '.join(rest)} are left over")


# what is looked at


def state(shop: Path) -> State:
    """Tables, outbox and exported messages, without what the clock says."""
    store = Store(shop / "store")
    found: State = {name: contents(store, name) for name in TABLES}
    with closing(sqlite3.connect(shop / "store" / "live.db")) as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
        there = connection.execute("select count(*) from sqlite_master where name = 'actions'").fetchone()[0]
        query = "select action_id, segment, customer_id, change, channel, variant, status from actions order by action_id"
        found["outbox"] = connection.execute(query).fetchall() if there else []
    found["exported"] = sorted(
        (row["action_id"], row["segment"], row["customer_id"])
        for path in (shop / "exports").glob("*.csv")
        for row in csv.DictReader(path.open(newline=""))
    )
    return found


def contents(store: Store, name: str) -> list[Any]:
    if not store.exists(name):
        return []
    table = store.read(name)
    return sorted((tuple(sorted((k, str(v)) for k, v in row.items() if k not in CLOCK)) for row in table.to_pylist()), key=str)


# the process whose children the runs are


def serve() -> None:
    """Answer lines ``[folder, seconds until it is killed or 0, command, folder of what it says]`` with ``[how it ended, seconds]``."""
    import predseg.cli  # noqa: F401

    for line in sys.stdin:
        shop, kill, command, output = json.loads(line)
        begin = time.perf_counter()
        child = os.fork()
        if not child:
            work(Path(shop), command, Path(output))
        if kill:
            time.sleep(kill)
            os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps([code, time.perf_counter() - begin]), flush=True)
        imported(Path(output))


def work(shop: Path, command: list[str], output: Path) -> None:
    """Run a command as `predseg` does, and end."""
    from predseg.cli import main

    code = 70
    try:
        os.chdir(shop)
        for name, where in (("said", 1), ("said.err", 2)):
            os.dup2(os.open(output / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), where)
        code = main(command)
        sys.stdout.flush()
        (output / "modules.json").write_text(json.dumps(sorted(sys.modules)))
    finally:
        os._exit(code)


def imported(output: Path) -> None:
    """Import what a run imported, so that the next one need not."""
    if (output / "modules.json").exists():
        for name in set(json.loads((output / "modules.json").read_text())) - set(sys.modules):
            try:
                importlib.import_module(name)
            except ImportError:
                continue
