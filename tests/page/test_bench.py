"""The process that counts for the page: it gives way, it is begun anew, it does not outlive the server."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from predseg.errors import UsageError
from predseg.live.service import Busy
from predseg.page import bench
from predseg.page.bench import Bench
from tests.patience import PATIENCE, eventually


def nothing() -> Any:
    """Neither segments nor data."""
    return "tables", 7


def where(workspace: Any, as_of: int, more: int = 0) -> tuple[Any, int, int, int, int]:
    return workspace, as_of + more, os.getpid(), os.nice(0), len(os.sched_getaffinity(0))


def refuses(workspace: Any, as_of: int) -> None:
    raise UsageError("E220", "x", "no such segment", "write another")


def breaks(workspace: Any, as_of: int) -> None:
    raise ZeroDivisionError("of zero")


def dies(workspace: Any, as_of: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def counts() -> Iterator[Bench]:
    yield Bench(nothing)


def test_it_works_elsewhere_and_gives_way(counts: Bench) -> None:
    tables, as_of, process, nice, cores = asyncio.run(counts(where, more=1))
    assert (tables, as_of) == ("tables", 8) and process != os.getpid() and nice == min(os.nice(0) + 10, 19)
    assert cores == max(len(os.sched_getaffinity(0)) - 1, 1), "one is left to the events"
    assert asyncio.run(counts(where))[2] == process, "it is begun once"


def test_what_goes_wrong_comes_back(counts: Bench) -> None:
    with pytest.raises(UsageError) as found:
        asyncio.run(counts(refuses))
    assert str(found.value) == "error[E220] x: no such segment\nhelp: write another"
    with pytest.raises(RuntimeError, match="ZeroDivisionError: of zero"):
        asyncio.run(counts(breaks))


def test_a_process_that_was_ended_is_begun_anew(counts: Bench) -> None:
    before = asyncio.run(counts(where))[2]
    with pytest.raises(Busy, match="ended"):
        asyncio.run(counts(dies))
    assert asyncio.run(counts(where))[2] not in (before, os.getpid())


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_it_does_not_outlive_the_server(how: signal.Signals) -> None:
    code = """
import asyncio, time
from tests.page import test_bench as t
from predseg.page.bench import Bench
if __name__ == "__main__":
    counts = Bench(t.nothing)
    print(asyncio.run(counts(t.where))[2], flush=True)
    time.sleep(60)
"""
    server = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout is not None
    process = int(server.stdout.readline())
    server.send_signal(how)
    server.wait(PATIENCE)
    eventually(lambda: not alive(process))


def test_it_ends_when_nothing_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    from multiprocessing import Pipe

    monkeypatch.setattr(bench, "IDLE", 0.05)
    monkeypatch.setattr(bench, "YIELDS", 0)
    held = signal.getsignal(signal.SIGINT)
    began = time.monotonic()
    cores = os.sched_getaffinity(0)
    try:
        bench.serve(Pipe()[1], nothing)
    finally:
        signal.signal(signal.SIGINT, held)
        os.sched_setaffinity(0, cores)
    assert time.monotonic() - began < PATIENCE


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
