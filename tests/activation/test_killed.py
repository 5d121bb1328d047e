"""kill -9 at every step and at any moment: nothing is lost, and whoever looks at the ids gets nothing twice."""

from __future__ import annotations

import csv
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from tests.activation import mortal
from tests.activation.races import LONG
from tests.activation.receiver import Receiver, receiving
from tests.patience import eventually

ROOT = Path(__file__).parents[2]
KILLED = signal.SIGKILL


class Mortals:
    """Starts processes that may die."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def start(self, file: Path, port: int, kill: int = 0, customers: int = mortal.CUSTOMERS) -> int:
        """Start one and return its id."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{file} {port} {kill} {customers}\n")
        self.process.stdin.flush()
        return self._number()

    def end(self) -> int:
        """Wait for its end and return how it ended: 0, or the signal."""
        return self._number()

    def _number(self) -> int:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the parent of the mortals died"
        return int(line)

    def run(self, file: Path, port: int, kill: int = 0, customers: int = mortal.CUSTOMERS) -> int:
        self.start(file, port, kill, customers)
        return self.end()


@contextmanager
def mortals() -> Iterator[Mortals]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.activation.mortal"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Mortals(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()


def ended_well(file: Path, receiver: Receiver, customers: int = mortal.CUSTOMERS) -> tuple[int, int]:
    """Look at everything afterwards; return how many requests there were and how many messages."""
    with closing(sqlite3.connect(file)) as connection:
        rows = connection.execute("select action_id, channel, customer_id, status from actions").fetchall()
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    assert Counter(row[3] for row in rows) == {"sent": 2 * customers}
    hooks, crm = ({row[0]: row[2] for row in rows if row[1] == channel} for channel in ("hook", "crm"))
    ids = [got.headers["webhook-id"] for got in receiver.got]
    assert set(ids) == set(hooks), "0 lost, and none that was not to be sent"
    bodies = {(got.headers["webhook-id"], got.body) for got in receiver.got}
    assert len(bodies) == len(hooks) == customers, "the same id says the same: 0 twice for whom it is told apart by"
    listed = [
        (r["action_id"], r["customer_id"]) for path in sorted((file.parent / "out").glob("*.csv")) for r in csv.DictReader(path.open(newline=""))
    ]
    assert sorted(listed) == sorted(crm.items()), "each in exactly one file"
    assert not [p for p in (file.parent / "out").iterdir() if p.suffix != ".csv"], "nothing half-written"
    return len(ids), len(hooks)


def steps(folder: Path) -> list[str]:
    """The steps of an undisturbed life."""
    (folder / "whole").mkdir()
    with receiving() as receiver:
        names = mortal.live(folder / "whole" / "live.db", receiver.port, 0)
        assert ended_well(folder / "whole" / "live.db", receiver) == (mortal.CUSTOMERS, mortal.CUSTOMERS), "undisturbed, each is sent once"
    return names


def test_killed_at_every_step(tmp_path: Path) -> None:
    """Every SQL statement, before and after each sending, before and after each file. In the normal run one of each kind."""
    names = steps(tmp_path)
    wanted = (
        "begin immediate",
        "insert or ignore into transitions",
        "insert or ignore into actions",
        "commit",
        "update actions set status",
        "before the file",
    )
    assert all(any(name.lower().startswith(w) for name in names) for w in (*wanted, "before hook", "after hook", "before crm", "after crm")), set(
        names
    )
    r, repeated = random.Random(1), 0
    one_of_each = [r.choice([i for i, n in enumerate(names, 1) if n == name]) for name in dict.fromkeys(names)]
    with mortals() as those:
        for kill in range(1, len(names) + 1) if LONG else one_of_each:
            file = tmp_path / f"{kill}" / "live.db"
            file.parent.mkdir()
            with receiving() as receiver:
                assert those.run(file, receiver.port, kill) == KILLED, f"step {kill}: {names[kill - 1]}"
                assert those.run(file, receiver.port) == 0, f"after step {kill}: {names[kill - 1]}"
                requests, messages = ended_well(file, receiver)
                repeated += requests - messages
    assert repeated > 0, "some were sent and could not be noted, else nothing was tried"


@pytest.mark.parametrize("seed", range(5 if LONG else 1))
def test_killed_at_any_moment(tmp_path: Path, seed: int) -> None:
    kills, r, customers = 200 if LONG else 12, random.Random(seed), 6_000 if LONG else 400
    assert any(_killed(tmp_path / f"{attempt}", seed, kills, r, customers) for attempt in range(5)), "killed while it made progress"


def _killed(folder: Path, seed: int, kills: int, r: random.Random, customers: int) -> bool:
    """Kill so many times, and say whether it was at work every time: where this test waits for its turn it may have come to its end."""
    folder.mkdir()
    file, killed, sizes = folder / "live.db", 0, set()
    with receiving() as receiver, mortals() as those:
        for _ in range(kills):
            child = those.start(file, receiver.port, 0, customers)
            enough = len(receiver.got) + r.choice([0, 1, 3, 10, 25])
            eventually(lambda child=child, enough=enough: len(receiver.got) >= enough or not Path(f"/proc/{child}").exists())
            time.sleep(r.random() * 0.03)
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            killed += those.end() == KILLED
            sizes.add(len(receiver.got))
        assert those.run(file, receiver.port, 0, customers) == 0
        requests, messages = ended_well(file, receiver, customers)
    print(f"seed {seed}: {killed} kills, {messages:,} messages, {requests:,} requests, 0 lost, 0 twice")  # noqa: T201
    return killed == kills and len(sizes) > kills / 2


@pytest.mark.skipif(not LONG, reason="takes ten seconds; PREDSEG_LONG=1 runs it")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            "with transaction(connection):\n                outbox",
            "if True:\n                outbox",
        ),  # progress and outbox no longer in one transaction
        ("Sender(connection, gate,", "Forgetful(connection, gate,"),  # what was claimed is not given back
    ],
    ids=["no transaction", "no recovery"],
)
def test_the_check_finds_what_it_looks_for(tmp_path: Path, old: str, new: str) -> None:
    """With a bug planted into the process, some kill is noticed."""
    source = Path(str(mortal.__file__)).read_text("utf-8")
    assert old in source
    forgetful = "class Forgetful(Sender):\n    def _take_back(self) -> None:\n        pass\n\n\ndef live("
    (tmp_path / "planted.py").write_text(source.replace(old, new).replace("def live(", forgetful, 1), "utf-8")
    noticed = 0
    names = steps(tmp_path)
    for kill in range(2, len(names), 4):
        if noticed:
            break
        file = tmp_path / f"{kill}" / "live.db"
        file.parent.mkdir()
        with receiving() as receiver:
            for at in (kill, 0):
                environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
                line = f"{file} {receiver.port} {at} {mortal.CUSTOMERS}\n"
                subprocess.run([sys.executable, "-m", "planted"], cwd=ROOT, env=environment, input=line, capture_output=True, text=True, check=True)
            try:
                ended_well(file, receiver)
            except AssertionError:
                noticed += 1
    assert noticed
