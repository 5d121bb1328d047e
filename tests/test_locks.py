"""One writer at a time, and no reader who loses a file while another process exchanges a table."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from predseg import locks, store
from predseg.errors import DataError, UsageError
from predseg.store import Store
from tests.patience import PATIENCE, eventually

HOLD = "import sys\nfrom predseg.store import Store\nwith Store(sys.argv[1]).lock():\n    print('held', flush=True)\n    sys.stdin.readline()\n"
READ = """
import sys
import pyarrow.parquet as pq
from predseg.store import Store
store = Store(sys.argv[1])
with store.reading("events"):
    files = store.files("events")
    print("reading", flush=True)
    sys.stdin.readline()
    print([pq.read_table(file)["n"][0].as_py() for file in files], flush=True)
    sys.stdin.readline()
"""


@contextmanager
def process(code: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin and child.stdout and child.stdout.readline()
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def tell(child: subprocess.Popen[str]) -> None:
    assert child.stdin
    child.stdin.write("\n")
    child.stdin.flush()


def write(target: Store, value: int) -> None:
    with target.replace("events") as folder:
        for part in range(3):
            pq.write_table(pa.table({"n": [value]}), folder / f"part-{part:05d}.parquet")


def test_a_writer_waits_for_the_other_and_says_for_whom(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with process(HOLD, tmp_path) as child:
        waiting = f"waiting for process {child.pid}"
        (telling := threading.Thread(target=lambda: (eventually(lambda: waiting in caplog.text), tell(child)))).start()
        Store(tmp_path, wait=PATIENCE).write("t", pa.table({"n": [1]}))
        telling.join()
        assert waiting in caplog.text
    with process(HOLD, tmp_path) as child, pytest.raises(UsageError, match=f"process {child.pid}"):
        Store(tmp_path, wait=0.2).write("t", pa.table({"n": [1]}))


def test_the_command_that_holds_a_lock_is_named(tmp_path: Path) -> None:
    with process(HOLD.replace("import sys\n", "import sys\n", 1), tmp_path) as child:
        handle = (tmp_path / ".lock").open()
        assert locks._holder(handle.fileno()) == f"process {child.pid}"
        handle.close()
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path), "predseg", "optout"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout and other.stdout.readline()
    with pytest.raises(UsageError, match=rf"process {other.pid} \(predseg optout\)"):
        Store(tmp_path).write("t", pa.table({"n": [1]}))
    other.kill()
    other.communicate()


def test_a_thread_may_take_a_lock_again_but_another_thread_may_not(tmp_path: Path) -> None:
    first, found = Store(tmp_path), []

    def other() -> None:
        try:
            first.write("t", pa.table({"n": [1]}))
        except UsageError as error:
            found.append(error.code)

    with first.lock(), Store(tmp_path).lock():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    first.write("t", pa.table({"n": [1]}))
    assert found == ["E210"]


def test_a_reader_keeps_its_files_while_the_table_is_exchanged(tmp_path: Path) -> None:
    writer = Store(tmp_path)
    write(writer, 1)
    with process(READ, tmp_path) as child:
        write(writer, 2)
        Store(tmp_path)
        assert [pq.read_table(file)["n"][0].as_py() for file in writer.files("events")] == [2, 2, 2]
        tell(child)
        assert child.stdout and child.stdout.readline() == "[1, 1, 1]\n"
    Store(tmp_path)
    assert list((tmp_path / ".work").iterdir()) == [], "what a dead reader held is taken away"


def test_without_holding_on_a_reader_would_lose_its_files(tmp_path: Path) -> None:
    """What the test above protects from does happen."""
    write(writer := Store(tmp_path), 1)
    files = writer.files("events")
    write(writer, 2)
    assert [pq.read_table(file)["n"][0].as_py() for file in files] == [2, 2, 2]


def test_a_read_beside_a_busy_writer_is_always_one_version(tmp_path: Path) -> None:
    code = "import sys\nfrom tests.test_locks import write\nfrom predseg.store import Store\nstore, n = Store(sys.argv[1]), 0\nwhile True:\n    n += 1\n    write(store, n)\n    n == 1 and print('ready', flush=True)\n"
    seen = set()
    with process(code, tmp_path):
        until = time.monotonic() + PATIENCE
        while len(seen) < 4 and time.monotonic() < until:
            [value] = set(Store(tmp_path).read("events")["n"].to_pylist())
            seen.add(value)
            time.sleep(0.02)
    assert len(seen) == 4


def test_who_only_looks_at_a_lock_keeps_nobody_from_taking_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "GLANCE", PATIENCE)  # a busy machine lets a moment last
    handle = os.open(tmp_path / ".lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    threading.Timer(0.05, os.close, [handle]).start()
    with locks.exclusive(tmp_path / ".lock", "store"):
        assert locks.is_mine(tmp_path / ".lock")


# versions


@pytest.fixture
def renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A later predseg, which calls a column by another name and adds another."""
    first = lambda table: table.rename_columns(["number" if name == "n" else name for name in table.column_names])  # noqa: E731
    second = lambda table: table.append_column("twice", pa.array([2 * v for v in table["number"].to_pylist()]))  # noqa: E731
    monkeypatch.setitem(store.UPGRADES, "t", (first, second))


def test_a_table_of_an_earlier_version_is_brought_up_to_date(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    old = Store(tmp_path)
    old.write("t", pa.table({"n": [1]}), 0)
    old.write("t", pa.table({"n": [2]}), 1)
    old.write("other", pa.table({"n": [2]}))
    assert (tmp_path / "tables" / "t" / "_version").read_text() == "1\n" and old.version("t") == 1
    request.getfixturevalue("renamed")
    new = Store(tmp_path)
    assert new.read("t", 1).to_pydict() | {"as_of": 0} == {"number": [2], "twice": [4], "as_of": 0}
    assert new.partitions("t") == [0, 1] and new.version("t") == 3
    new.write("t", pa.table({"number": [3], "twice": [6]}), 2)
    assert Store(tmp_path).read("t")["twice"].to_pylist() == [2, 4, 6] and Store(tmp_path).version("other") == 1


def test_a_table_of_before_there_were_versions_is_of_the_first(tmp_path: Path, renamed: None) -> None:
    old = Store(tmp_path)
    with old.replace("t") as folder:
        pq.write_table(pa.table({"n": [1]}), folder / "part-00000.parquet")
    (tmp_path / "tables" / "t" / "_version").unlink()
    assert Store(tmp_path).read("t").to_pydict() == {"number": [1], "twice": [2]}


def test_a_table_of_a_later_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    Store(tmp_path).write("t", pa.table({"n": [1]}))
    (tmp_path / "tables" / "t" / "_version").write_text("7\n")
    for use in (
        lambda s: s.read("t"),
        lambda s: s.files("t"),
        lambda s: s.write("t", pa.table({"n": [2]})),
        lambda s: s.write("t", pa.table({"n": [2]}), 0),
    ):
        with pytest.raises(DataError, match="E413.*version 7, this predseg knows 1"):
            use(Store(tmp_path))
    assert pq.read_table(tmp_path / "tables" / "t" / "part-00000.parquet").to_pydict() == {"n": [1]}
