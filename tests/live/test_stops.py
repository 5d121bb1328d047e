"""Killed at any moment, a durable run goes on as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from predseg.language.time import say_instant
from tests.evaluate.worlds import LONG, SEED
from tests.live.test_loop import RULES

KILLS = 200 if LONG else 3
ROWS = 300_000 if LONG else 6_000


def test_kill_9_at_random_moments_loses_nothing_and_says_nothing_twice(tmp_path: Path) -> None:
    r, whole = random.Random(SEED), tmp_path / "whole"
    project(whole, random.Random(SEED))
    assert run(whole).wait() == 0
    for attempt in range(20):  # where this test itself has to wait for its turn, a run may come to its end before it is killed
        folder, kills = tmp_path / f"killed {attempt}", 0
        project(folder, random.Random(SEED))
        while kills < KILLS and killed(folder, r):
            kills += 1
        assert run(folder).wait() == 0
        assert told(folder) == told(whole), f"seed {SEED}"
        if kills >= 2:
            return
    raise AssertionError(f"seed {SEED}: {kills} kills")


def killed(folder: Path, r: random.Random) -> bool:
    """Go on until something more is committed, and a moment longer, then kill; False when the work came to its end."""
    before, process = read(folder), run(folder)
    while process.poll() is None and read(folder) == before:
        time.sleep(0.01)
    time.sleep(r.uniform(0, 0.05))
    over = process.poll() is not None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return not over


def project(folder: Path, r: random.Random) -> None:
    folder.mkdir()
    (folder / "rules.yaml").write_text(RULES)
    (folder / "predseg.yaml").write_text("project: shop\nsources: {}\nsegments: rules.yaml\n")
    at, lines = 1_767_225_600, []
    for _ in range(ROWS):
        at += r.randrange(200)
        name = r.choice(["Product Added", "Product Viewed", "Order Completed"])
        when = say_instant(at * 1_000_000 - r.choice([0, 0, 0, 90_000_000]))
        row: dict[str, Any] = {"customer_id": f"c{r.randrange(300)}", "event": name, "event_time": when}
        lines.append(json.dumps(row | ({"value": r.randrange(90)} if name == "Order Completed" else {})))
    (folder / "events.jsonl").write_text("\n".join(lines))


def run(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "predseg", "live", "events.jsonl", "--durable", "-q"]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)})


ROOT = Path(__file__).parents[2]


def read(folder: Path) -> int:
    """How many rows are in the log."""
    path = folder / "store" / "live.db"
    if not path.is_file():
        return 0
    with closing(sqlite3.connect(path)) as connection:
        try:
            return int(connection.execute("select coalesce(max(seq), 0) from log").fetchone()[0])
        except sqlite3.OperationalError:
            return 0


def told(folder: Path) -> list[Any]:
    """Everything that is said and kept, without the clock of the machine."""
    queries = (
        "select change, segment, customer_id, at, definition, correction, n from changes order by seq",
        "select * from memberships order by segment, customer_id",
        "select customer_id, due, state from people order by customer_id",
        "select customer_id, event, event_time from log order by seq",
        "select * from meta order by name",
    )
    with closing(sqlite3.connect(folder / "store" / "live.db")) as connection:
        found = [connection.execute(query).fetchall() for query in queries]
    found[-1] = [(name, value) for name, value in found[-1] if not name.startswith(("read", "program", "handed over"))]
    return found
