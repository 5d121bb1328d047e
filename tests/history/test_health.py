"""What `predseg doctor` sees of a store, each damage planted, and what it repairs."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from predseg import Project
from predseg.cli import main
from predseg.history import erasure, privacy
from tests import small

ROWS = small.rows()[:300]
GONE = ROWS[0].split(",")[0]
Damage = Callable[[Project], object]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    project = Project.load(small.write(tmp_path, ROWS))
    assert main(["optout", "add", "c0007"]) == 0 and main(["check"]) == 0
    return project


def findings(arguments: str, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    capsys.readouterr()
    main([*arguments.split(), "--json"])
    return {f["what"]: f["found"] for f in json.loads(capsys.readouterr().out)["findings"] if f["status"] == "broken"}


def half_forget(project: Project) -> None:
    """A forget that was killed after the tombstone."""
    with project.people.consent() as (connection, _):
        privacy.forget(connection, [GONE], 1)


def leave(project: Project) -> None:
    for name in ("new-1-0123abcd", "read-1-0123abcd"):
        (project.config.store / ".work" / name).mkdir(parents=True)
    (project.config.store / ".privacy.key.1-0123abcd").touch()


def damage(name: str) -> Damage:
    def write(project: Project) -> None:
        file = project.config.store / name
        content = bytearray(file.read_bytes())
        content[-400:] = bytes(400)
        file.write_bytes(content)

    return write


def cut_log(project: Project) -> None:
    file = project.config.store / "audit.jsonl"
    file.write_text(file.read_text().splitlines()[0] + "\n")


def newer(project: Project) -> None:
    (project.config.store / "tables" / "events" / "_version").write_text("9\n")


BROKEN: dict[str, tuple[Damage, str, bool]] = {
    "nothing": (lambda project: None, "", True),
    "leftovers": (leave, "leftovers", True),
    "a person half forgotten": (half_forget, "forgotten persons", True),
    "a damaged table": (damage("tables/events/part-00000.parquet"), "table events", False),
    "a later version": (newer, "table events", False),
    "a damaged database": (lambda project: (project.config.store / "live.db").write_bytes(b"x" * 9000), "live.db", False),
    "a changed log": (cut_log, "audit log", False),
    "a key for everybody": (lambda project: (project.config.store / "privacy.key").chmod(0o644), "key", False),
    "another key": (lambda project: (project.config.store / "privacy.key").write_text("k" * 64), "lists", False),
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_damage_is_seen_and_what_can_be_repaired_is(shop: Project, capsys: pytest.CaptureFixture[str], name: str) -> None:
    plant, what, repaired = BROKEN[name]
    plant(shop)
    found = findings("doctor", capsys)
    assert what in found if what else found == {}
    if repaired:
        assert findings("doctor --repair", capsys) == {} and findings("doctor", capsys) == {}


def test_a_half_forgotten_person_is_gone_after_the_repair(shop: Project, capsys: pytest.CaptureFixture[str]) -> None:
    half_forget(shop)
    findings("doctor --repair", capsys)
    left = erasure.everybody(shop.store)
    assert GONE not in left and len(left) == len({line.split(",")[0] for line in ROWS}) - 1


def test_what_a_writer_and_a_reader_are_at_is_not_taken_for_leftovers(shop: Project, capsys: pytest.CaptureFixture[str]) -> None:
    import subprocess
    import sys

    hold = "import sys\nfrom predseg.store import Store\nstore = Store(sys.argv[1])\nwith store.{}:\n    print('held', flush=True)\n    sys.stdin.readline()\n"
    for how in ("scratch('new')", "reading('events')"):
        child = subprocess.Popen(
            [sys.executable, "-c", hold.format(how), str(shop.config.store)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert child.stdout and child.stdout.readline()
        assert findings("doctor", capsys) == {}
        child.communicate("\n")
    assert findings("doctor", capsys) == {}


def test_looking_changes_nothing_and_a_folder_without_project_is_looked_at_as_before(
    shop: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    leave(shop)
    shop.store.write("t", pa.table({"n": [1]}))
    before = sorted(p for p in shop.config.store.rglob("*"))
    connection = sqlite3.connect(shop.config.store / "live.db")
    connection.close()
    leave(shop)
    assert main(["doctor", "--repair", "--dry-run"]) in (0, 1) and sorted(p for p in shop.config.store.rglob("*"))[:3] == before[:3]
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert main(["doctor"]) == 0 and list((tmp_path / "empty").iterdir()) == []
