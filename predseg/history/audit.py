"""Who did what, and when: a log that shows when it was changed.

    STORE/audit.jsonl    one line a command: n, at, who, command, arguments, status, exit_code, previous, hash

A line's hash is the HMAC of the line with the key of the store, and covers the hash of the line before: a line that is
changed, left out or moved breaks the chain. Where the chain ends is kept in the database, so that lines cannot be cut off
unnoticed either. Customers stand in it as hashes.
"""

from __future__ import annotations

import fcntl
import hmac
import json
import os
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from predseg.disks import disk_errors
from predseg.history.keys import person
from predseg.history.privacy import note, noted

FILE = "audit.jsonl"
END = "audit"
"""The name under which the database keeps where the chain ends."""
_TAIL = 1 << 16
LONGEST = 1 << 14
"""Characters of a line; longer arguments are cut."""


def append(folder: Path, connection: sqlite3.Connection, keys: Sequence[bytes], entry: Mapping[str, Any]) -> None:
    """Add a line, flushed to the disk. What a process that died in the middle left of one is taken away first.

    Raises:
        DataError: E410, E411 when it cannot be written.
    """
    with disk_errors(folder / FILE), (folder / FILE).open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL))
        *lines, torn = file.read().split(b"\n")
        if torn:
            file.truncate(size - len(torn))
        last: dict[str, Any] = json.loads(lines[-1]) if lines else {"n": 0, "hash": ""}
        said: dict[str, Any] = {"n": last["n"] + 1, **_short(entry), "key": _mark(keys), "previous": last["hash"]}
        said["hash"] = _hash(said, keys)
        file.write(json.dumps(said, ensure_ascii=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
        note(connection, END, f"{said['n']} {said['hash']}")


def _short(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    text = json.dumps(entry.get("arguments", {}), ensure_ascii=False)
    return entry if len(text) <= LONGEST else {**entry, "arguments": {"cut": text[:LONGEST]}}


def _hash(said: Mapping[str, Any], keys: Sequence[bytes]) -> str:
    text = json.dumps({name: value for name, value in said.items() if name != "hash"}, sort_keys=True, ensure_ascii=False)
    return hmac.digest(keys[-1], text.encode(), "sha256").hex()


def _mark(keys: Sequence[bytes]) -> str:
    return person("predseg", keys).hex()[:8]


@dataclass(frozen=True)
class Checked:
    """What a check of the log found: how many lines, and what is wrong with the first bad one; empty when all is well."""

    lines: int
    wrong: str = ""


def check(folder: Path, connection: sqlite3.Connection, keys: Sequence[bytes]) -> Checked:
    """Look whether the log is as it was written."""
    known = {_mark(keys[:n]): keys[:n] for n in range(1, len(keys) + 1)}
    end = noted(connection, END)
    if not (folder / FILE).is_file():
        return Checked(0, f"the log is gone; it had {end.split()[0]} lines" if end else "")
    lines = (folder / FILE).read_bytes().split(b"\n")[:-1]
    previous, ends = "", [""]
    for number, line in enumerate(lines, 1):
        try:
            said = json.loads(line)
            used = known.get(said["key"])
            right = said["n"] == number and said["previous"] == previous and used is not None and hmac.compare_digest(_hash(said, used), said["hash"])
        except (ValueError, KeyError, TypeError):
            right = False
        if not right:
            return Checked(len(lines), f"line {number} is not as it was written, or one before it is gone")
        previous = said["hash"]
        ends.append(f"{number} {previous}")
    if end is not None and end not in ends[-2:]:
        return Checked(len(lines), f"lines are missing at the end: there were {end.split()[0]}")
    return Checked(len(lines))
