"""The audit log: who did what and when, and nobody can change it unnoticed."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from predseg import Project
from predseg.cli import main
from predseg.history import audit, privacy
from tests import small

KEYS = (b"0123456789abcdef",)
Lines = list[bytes]


def database(folder: Path, keys: tuple[bytes, ...] = KEYS) -> sqlite3.Connection:
    connection = sqlite3.connect(folder / "live.db", timeout=60)
    privacy.prepare(connection, keys)
    return connection


def written(folder: Path, number: int = 5) -> sqlite3.Connection:
    connection = database(folder)
    for i in range(number):
        audit.append(folder, connection, KEYS, {"command": "score", "arguments": {"i": i}})
    return connection


def test_a_log_as_it_was_written_is_whole(tmp_path: Path) -> None:
    connection = database(tmp_path)
    assert audit.check(tmp_path, connection, KEYS) == audit.Checked(0)
    connection.close()
    connection = written(tmp_path)
    assert audit.check(tmp_path, connection, KEYS) == audit.Checked(5)
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [line["n"] for line in lines] == [1, 2, 3, 4, 5] and lines[4]["previous"] == lines[3]["hash"]
    connection.close()


def forge(lines: Lines) -> Lines:
    """Whoever has no key cannot make the hash of a line anew."""
    import hashlib

    said = json.loads(lines[4]) | {"command": "nothing"}
    said["hash"] = hashlib.sha256(json.dumps({k: v for k, v in said.items() if k != "hash"}, sort_keys=True).encode()).hexdigest()
    return [*lines[:4], json.dumps(said).encode()]


TAMPERINGS: dict[str, Callable[[Lines], Lines]] = {
    "a word changed": lambda lines: [*lines[:2], lines[2].replace(b"score", b"train"), *lines[3:]],
    "a byte changed": lambda lines: [*lines[:4], lines[4][:40] + b"7" + lines[4][41:]],
    "a line left out": lambda lines: lines[:2] + lines[3:],
    "the first left out": lambda lines: lines[1:],
    "cut off at the end": lambda lines: lines[:3],
    "two exchanged": lambda lines: [*lines[:3], lines[4], lines[3]],
    "one twice": lambda lines: [*lines, lines[4]],
    "no JSON": lambda lines: [*lines[:2], b"[]", *lines[3:]],
    "emptied": lambda lines: [],
    "forged without the key": forge,
}


@pytest.mark.parametrize("tamper", TAMPERINGS.values(), ids=TAMPERINGS)
def test_a_changed_log_is_found(tmp_path: Path, tamper: Callable[[Lines], Lines]) -> None:
    connection, file = written(tmp_path), tmp_path / "audit.jsonl"
    file.write_bytes(b"".join(line + b"\n" for line in tamper(file.read_bytes().splitlines())))
    assert audit.check(tmp_path, connection, KEYS).wrong
    file.unlink()
    assert "gone" in audit.check(tmp_path, connection, KEYS).wrong
    connection.close()


def test_half_a_line_of_a_process_that_died_is_taken_away(tmp_path: Path) -> None:
    connection, file = written(tmp_path), tmp_path / "audit.jsonl"
    with file.open("ab") as log:
        log.write(b'{"n": 6, "command": "sco')
    assert not audit.check(tmp_path, connection, KEYS).wrong
    audit.append(tmp_path, connection, KEYS, {"command": "train", "arguments": {"models": ["m" * 100_000]}})
    assert audit.check(tmp_path, connection, KEYS) == audit.Checked(6)
    audit.append(tmp_path, connection, KEYS, {"command": "score"})
    assert audit.check(tmp_path, connection, KEYS) == audit.Checked(7)
    connection.close()


def test_a_key_that_was_added_reads_the_older_lines(tmp_path: Path) -> None:
    written(tmp_path).close()
    both = (*KEYS, b"second key 23456")
    connection = database(tmp_path, both)
    audit.append(tmp_path, connection, both, {"command": "score"})
    assert audit.check(tmp_path, connection, both) == audit.Checked(6)
    connection.close()


WRITER = """
import sqlite3, sys
from pathlib import Path
from predseg.history import audit, privacy
folder, keys = Path(sys.argv[1]), (b"0123456789abcdef",)
connection = sqlite3.connect(folder / "live.db", timeout=60)
privacy.prepare(connection, keys)
for i in range(20):
    audit.append(folder, connection, keys, {"command": sys.argv[2]})
"""


def test_two_processes_write_one_chain(tmp_path: Path) -> None:
    database(tmp_path).close()
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name]) for name in ("a", "b")]
    assert [writer.wait() for writer in writers] == [0, 0]
    connection = database(tmp_path)
    assert audit.check(tmp_path, connection, KEYS) == audit.Checked(40)
    connection.close()


def test_commands_are_logged_and_customers_only_as_hashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = small.write(tmp_path, small.rows()[:200])
    monkeypatch.chdir(tmp_path)
    assert main(["check"]) == 0 and main(["optout", "add", "c0001", "--purpose", "training"]) == 0 and main(["score"]) == 7
    assert main(["check", "--dry-run"]) == 0 and main(["models"]) == 0 and main(["schema"]) == 0, "these change nothing"
    lines = [json.loads(line) for line in (tmp_path / "store" / "audit.jsonl").read_text().splitlines()]
    assert [(line["command"], line["status"], line["exit_code"]) for line in lines] == [("check", "ok", 0), ("optout", "ok", 0), ("score", "E720", 7)]
    assert lines[1]["arguments"] == {"action": "add", "customers": lines[1]["arguments"]["customers"], "purpose": ["training"]}
    assert "c0001" not in (tmp_path / "store" / "audit.jsonl").read_text() and all(line["who"] and line["at"].endswith("Z") for line in lines)
    assert Project.load(file).people.audited() == audit.Checked(3)


def test_a_user_without_a_name_is_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in containers that run as a number of their own."""
    small.write(tmp_path, small.rows()[:200])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 9)
    assert main(["check"]) == 0
    assert json.loads((tmp_path / "store" / "audit.jsonl").read_text())["who"] == str(2**31 - 9)
