"""The store keeps whole tables, whatever happens in between."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from predseg.errors import DataError, UsageError
from predseg.language.time import parse_instant
from predseg.store import Store, partition_name, write_file

NOON = parse_instant("2011-12-09T13:00")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def numbers(*values: int) -> pa.Table:
    return pa.table({"n": list(values)})


def content(store: Store, name: str = "t") -> list[int]:
    return store.read(name).column("n").to_pylist()


def leftovers(store: Store) -> list[str]:
    work = store.path / ".work"
    return sorted(p.name for p in work.iterdir()) if work.is_dir() else []


# tables and partitions


def test_a_table_is_replaced_whole(store: Store) -> None:
    assert not store.exists("t") and store.files("t") == []
    store.write("t", numbers(1, 2))
    store.write("t", numbers(3))
    assert content(store) == [3] and len(store.files("t")) == 1
    assert leftovers(store) == []


def test_partitions_are_named_read_and_listed_by_instant(store: Store) -> None:
    later = NOON + 1
    store.write("scores", numbers(2), later)
    folder = store.write("scores", numbers(1), NOON)
    assert folder.name == "as_of=2011-12-09T13%3A00%3A00Z"
    assert store.partitions("scores") == [NOON, later]
    assert store.read("scores").column("as_of").cast(pa.int64()).to_pylist() == [NOON, later]
    assert store.read("scores", later).column("n").to_pylist() == [2]
    assert "as_of" not in pq.read_schema(folder / "part-00000.parquet").names


def test_one_partition_is_replaced_and_the_others_stay(store: Store) -> None:
    store.write("scores", numbers(1), NOON)
    store.write("scores", numbers(2), NOON + 1)
    store.write("scores", store.read("scores", NOON).set_column(0, "n", pa.array([9])), NOON)
    assert store.read("scores").column("n").to_pylist() == [9, 2]


def test_partitions_with_other_columns_are_read_together(store: Store) -> None:
    store.write("scores", pa.table({"n": [1]}), NOON)
    store.write("scores", pa.table({"n": [2], "extra": ["x"]}), NOON + 1)
    assert store.read("scores").column("extra").to_pylist() == [None, "x"]


def test_a_missing_table_or_partition_names_what_is_there(store: Store) -> None:
    with pytest.raises(DataError) as missing:
        store.read("scores")
    assert missing.value.code == "E412" and "'scores' has not been written yet" in missing.value.message
    store.write("scores", numbers(1), NOON)
    with pytest.raises(DataError) as other:
        store.read("scores", NOON + 1)
    assert "2011-12-09T13:00:00.000001Z" in other.value.message and "2011-12-09T13:00:00Z" in other.value.help


def test_drop_removes_a_table_or_a_partition(store: Store) -> None:
    store.write("scores", numbers(1), NOON)
    store.write("scores", numbers(2), NOON + 1)
    store.drop("scores", NOON)
    assert store.partitions("scores") == [NOON + 1]
    store.drop("scores")
    store.drop("scores")
    assert not store.exists("scores")


def test_partition_names_keep_microseconds_apart() -> None:
    assert len({partition_name(NOON + i) for i in (0, 1, 1_000_000)}) == 3


# interruptions


def test_an_error_while_writing_changes_nothing(store: Store) -> None:
    store.write("t", numbers(1))
    with pytest.raises(ZeroDivisionError), store.replace("t") as folder:
        pq.write_table(numbers(2), folder / "part-00000.parquet")
        raise ZeroDivisionError
    assert content(store) == [1] and leftovers(store) == []


class Killed(BaseException):
    """Stands for a process that ends at once: nothing after it runs."""


@pytest.mark.parametrize("step", range(6))
def test_killed_between_any_two_steps_the_table_is_whole_and_the_next_write_works(store: Store, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Every change of the file system may be the last one."""
    store.write("t", numbers(1))
    done = 0
    real_rename, real_rmtree = Path.rename, __import__("shutil").rmtree
    dead = False

    def tick() -> None:
        nonlocal done, dead
        if dead or done == step:
            dead = True
            raise Killed
        done += 1

    def rename(self: Path, target: Path) -> Path:
        tick()
        return real_rename(self, target)

    def rmtree(path: Path, **options: Any) -> None:
        tick()
        real_rmtree(path, **options)

    def fsync(handle: int) -> None:
        tick()

    monkeypatch.setattr(Path, "rename", rename)
    monkeypatch.setattr("shutil.rmtree", rmtree)
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(Killed):
        store.write("t", numbers(2, 2))
    monkeypatch.undo()
    again = Store(store.path)
    assert content(again) in ([1], [2, 2])
    assert leftovers(again) == []
    again.write("t", numbers(3))
    assert content(again) == [3]


CHILD = """
import sys
import pyarrow as pa
from predseg.store import Store
store = Store(sys.argv[1])
store.write("warm", pa.table({"n": [1]}))
print("ready", flush=True)
n = 1
while True:
    store.write("t", pa.table({"n": [n] * 20_000}))
    store.write("p", pa.table({"n": [n] * 20_000}), 0)
    n += 1
"""


def test_kill_9_at_any_moment_leaves_whole_tables(tmp_path: Path) -> None:
    seen = set()
    for attempt in range(80):
        if attempt >= 8 and seen:
            break
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        time.sleep(0.02 + 0.013 * attempt)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        store = Store(tmp_path)
        assert leftovers(store) == []
        for name in ("t", "p"):
            if store.exists(name):
                values = content(store, name)
                assert len(values) == 20_000 and len(set(values)) == 1
                seen.add(values[0])
    assert seen, "no attempt lived long enough to write a table"


# the lock


def test_a_second_writer_is_refused_by_name_of_the_first(tmp_path: Path) -> None:
    code = "import sys\nfrom predseg.store import Store\nwith Store(sys.argv[1]).lock():\n    print('held', flush=True)\n    sys.stdin.read()\n"
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None and child.stdout is not None and child.stdout.readline() == "held\n"
    store = Store(tmp_path)
    with pytest.raises(UsageError) as refused:
        store.write("t", numbers(1))
    assert refused.value.code == "E210" and str(child.pid) in refused.value.message
    child.stdin.close()
    child.wait()
    child.stdout.close()
    store.write("t", numbers(1))
    assert content(store) == [1]


def test_opening_beside_a_writer_leaves_its_unfinished_work_alone(tmp_path: Path) -> None:
    writer = Store(tmp_path)
    with writer.replace("t") as folder:
        Store(tmp_path)
        pq.write_table(numbers(1), folder / "part-00000.parquet")
    assert content(writer) == [1]


def test_the_lock_may_be_taken_again_inside(store: Store) -> None:
    with store.lock(), store.lock():
        store.write("t", numbers(1))
    with Store(store.path).lock():
        pass


# disks


def test_an_unwritable_store_names_the_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError) as refused:
        Store(tmp_path / "file" / "store")
    assert refused.value.code == "E410" and str(tmp_path / "file" / "store") in refused.value.place
    assert refused.value.help == "make the folder writable, or name another one with `store:`"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_without_permission_is_refused(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(DataError, match="permission denied"):
        Store(tmp_path / "locked" / "store")


def test_a_full_disk_changes_nothing_and_says_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write("t", numbers(1))

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError) as refused:
        store.write("t", numbers(2))
    monkeypatch.undo()
    assert refused.value.code == "E411" and "no space left" in refused.value.message
    assert content(store) == [1] and leftovers(store) == []


LIMITED = """
import resource, signal, sys
import pyarrow as pa
from predseg.errors import DataError
from predseg.store import Store
store = Store(sys.argv[1])
store.write("t", pa.table({"n": [1]}))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    store.write("t", pa.table({"n": [str(hash((i, "x"))) for i in range(200_000)]}))
except DataError as error:
    print(error.code, store.read("t").to_pydict())
"""


def test_a_file_that_cannot_grow_leaves_the_old_table(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout == "E411 {'n': [1]}\n"


# small files


def test_texts_are_replaced_whole(store: Store) -> None:
    assert store.read_text("note.json") is None
    store.write_text("note.json", "one")
    store.write_text("note.json", "zwei €")
    assert store.read_text("note.json") == "zwei €" and leftovers(store) == []


ROWS = pa.table(
    {
        "customer_id": ["=cmd()", "+1", "-1", "@x", "\tx", "plain, with comma", None],
        "as_of": pa.array([0, 1_500_000, None, 0, 0, 0, 0], pa.timestamp("us", "UTC")),
        "value": pa.array([Decimal("12.5000"), Decimal("-3.0000"), None, None, None, None, None], pa.decimal128(18, 4)),
        "reasons": [["a", 'b"'], [], None, None, None, None, None],
        "p": [-0.25, float("nan"), None, 1.0, 2.0, 3.0, 4.0],
    }
)


def test_csv_makes_formulas_inert_and_leaves_numbers_alone(tmp_path: Path) -> None:
    import csv

    file = write_file(tmp_path / "out.csv", ROWS)
    rows = list(csv.DictReader(file.open(newline="", encoding="utf-8")))
    assert [r["customer_id"] for r in rows] == ["'=cmd()", "'+1", "'-1", "'@x", "'\tx", "plain, with comma", ""]
    assert [r["as_of"] for r in rows[:3]] == ["1970-01-01T00:00:00Z", "1970-01-01T00:00:01.500000Z", ""]
    assert rows[0]["value"] == "12.5000" and rows[1]["value"] == "-3.0000" and rows[0]["p"] == "-0.25"
    assert rows[0]["reasons"] == '["a", "b\\""]'


def test_jsonl_has_one_exact_object_a_line(tmp_path: Path) -> None:
    import json

    file = write_file(tmp_path / "out.jsonl", ROWS)
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert rows[0] == {"customer_id": "=cmd()", "as_of": "1970-01-01T00:00:00Z", "value": 12.5, "reasons": ["a", 'b"'], "p": -0.25}
    assert rows[1]["p"] is None and rows[1]["value"] == -3


def test_parquet_comes_back_equal(tmp_path: Path) -> None:
    rows = ROWS.drop_columns("p")
    assert pq.read_table(write_file(tmp_path / "out.parquet", rows)).to_pylist() == rows.to_pylist()


def test_a_failed_file_leaves_the_old_one_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_file(tmp_path / "out.csv", ROWS)
    before = (tmp_path / "out.csv").read_bytes()
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(DataError, match="E411"):
        write_file(tmp_path / "out.csv", ROWS.slice(0, 1))
    assert (tmp_path / "out.csv").read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["out.csv"]


@pytest.mark.parametrize("name", ["out.xlsx", "out", "nowhere/out.csv"])
def test_a_file_of_unknown_kind_or_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="E211"):
        write_file(tmp_path / name, ROWS)
    assert list(tmp_path.iterdir()) == []
