"""A line means live what it means as a row of a source: odd values, and who is a member of odd rules by the end of them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

from predseg.config import load
from predseg.history.values import NaiveTimes, instants
from predseg.language.time import parse_instant
from predseg.live.lines import Contract, Refused, row_of
from predseg.live.opening import open_in_memory
from predseg.project import Project
from tests.evaluate.live_logs import applied
from tests.evaluate.worlds import LONG, SEED

AS_OF = parse_instant("2024-03-31T02:20Z")
VALUES: dict[str, list[Any]] = {
    "num": [0, 0.1, 0.12345, 0.00005, 0.00015, 1.00005, -1.5, 2, 2.0, 1e3, -0.0, 123456.78901, 1e-7],
    "whole": [1, 2, -3, 0, 10**12],
    "value": [0.5, "0.5", "1e1", None, "", 1.00005, -3],
    "txt": ["x", "", "  ", "é", "e\u0301", "10", "10.0", "true", "null", "2.5", '["x"]', '{"x":1}', "X", " x", "x\ny", "\u2028", "Z" * 300],
    "flag": [True, False],
    "tags": [["x"], ["x", "y"], [], ["é", ""], ["10"], [10, True, None, 2.5], [["x"], {"x": "\u2028\n", "y": [1e-7]}], [2**63, -3, 1e3]],
    "kept": [{"x": 1}, {"x": {"y": ["é", None, 1.5]}}, {}],
}
TIMES = ["2024-03-31T00:30:00Z", "2024-03-31T01:30:00+01:00", "2024-03-31 02:30:00", "2024-03-31", "2024-03-30T23:59:59.9999999Z"]
TIMES += ["2024-03-31 00:40:00 UTC", "2024-03-31T02:00:00.000001+00:00", "2024-03-30T12:00", "2024-03-31T01:00:00-00:00"]
"""In the zone of the project an hour is missing between them."""
NUMBERS = [0, 0.1, 0.1235, 0.12345, 0.0002, 1, 1.00005, 2, 1000, -1.5, 0.5, 10, 10**12]


def row(r: random.Random, who: int) -> dict[str, Any]:
    found = {"customer_id": who if who % 7 == 0 else r.choice([f"c{who}", f" c{who} "]), "event": r.choice(["O", "P", "did", " O "])}
    found |= {"event_time": r.choice(TIMES)} | {name: r.choice(values) for name, values in VALUES.items() if r.random() < 0.7}
    return found | ({"event_id": str(r.randrange(10**9))} if r.random() < 0.3 else {})


def where(r: random.Random) -> str:
    name = r.choice(list(VALUES))
    if name in ("num", "whole", "value"):
        op = r.choice(["is", "not", "more_than", "at_least", "at_most", "less_than"])
        return f"{name}: {r.choice(NUMBERS)}" if op == "is" else f"{name}: {{{op}: {r.choice(NUMBERS)}}}"
    if name == "flag":
        return r.choice(["flag: true", "flag: {not: true}", "flag: false"])
    text = json.dumps(r.choice(VALUES["txt"]))
    return f"{name}: " + r.choice([text, f"{{not: {text}}}", "{exists: true}", "{exists: false}", '{contains: "1"}'])


def rule(r: random.Random) -> str:
    did = r.random() < 0.8
    parts = [f"{'did' if did else 'did_not'}: {r.choice(['O', 'P', 'did', '[O, P]'])}", f"where: {{{where(r)}}}"]
    if did and r.random() < 0.4:
        parts.append(r.choice(["sum: num", "avg: num", "max: value", "min: whole", "distinct: txt", "distinct: tags", "distinct: num", "sum: value"]))
        parts.append(r.choice(["more_than: 0", "at_most: 1", "exactly: 0.1", "at_least: 0.1235", "between: [-3, 0.5]"]))
    if did and r.random() < 0.3:
        parts.append(f"then: {{did: [O, P], within: 10 minutes{r.choice(['', ', same: txt', ', same: num', ', same: tags'])}}}")
    parts.append(r.choice(["within: 1 days", "within: 12 hours", "within: 30 minutes", "since: 2024-03-31"]))
    return f"refresh: live\nmatch: {{{', '.join(parts)}}}\n"


@pytest.mark.parametrize("seed", range(40 if LONG else 2))
def test_lines_mean_live_what_they_mean_in_a_source(tmp_path: Path, seed: int) -> None:
    r = random.Random(f"lines {SEED} {seed}")
    rows = [row(r, who) for who in range(40) for _ in range(4)]
    (tmp_path / "rules.yaml").write_text("---\n".join(f"segment: s{i}\n{rule(r)}" for i in range(40)))
    (tmp_path / "lines.jsonl").write_text("".join(json.dumps(one, ensure_ascii=r.random() < 0.5) + "\n" for one in rows))
    (tmp_path / "predseg.yaml").write_text("project: x\ntimezone: Europe/Paris\nsources: {s: {path: lines.jsonl}}\nsegments: rules.yaml\n")
    project = Project(load(tmp_path))
    workspace = project.segments()
    loop = open_in_memory(project.config, workspace, None, for_ever=True)
    changes = [change for one in rows for change in loop.follow(one, AS_OF)] + loop.tick(AS_OF)
    last = {(who, name): change for who, name, at, change in sorted(applied(changes), key=lambda line: line[2])}
    live = {key for key, change in last.items() if change == "entered"}
    batch = {(who, name) for name, members in workspace.members(AS_OF).items() for who in members}
    assert live ^ batch == set() and len(batch) > 100 and not loop.reasons


DAYS = ["2026-05-01", "20260501", "2026-W18-5", "2026-121", "2026-5-1", "2026-02-30", "0001-01-01", "9999-12-31", "2024-03-31", "1762000000", ""]
CLOCKS = [
    "10",
    "10:00",
    "1000",
    "00:00:00",
    "02:30",
    "23:59:59.1234567",
    "10:00:00,5",
    "10:00:00.",
    "24:00",
    "10:00:60",
    "23:59:59.99999999999999999999",
]
OFFSETS = ["", "", "Z", "z", "UTC", " UTC", "+02", "+0200", "+02:00", "-14:00", "+25:00", "+02:00:30", " +02:00", "  Z", " PM", "utc", " "]


def written(r: random.Random) -> str:
    return r.choice(["", "", " ", "\n"]) + r.choice(DAYS) + (r.choice("T  tx_") + r.choice(CLOCKS) + r.choice(OFFSETS) if r.random() < 0.9 else "")


def as_live(line: bytes, zone: str | None) -> int | str | None:
    row = row_of(line)
    assert row is not None
    try:
        return Contract(ZoneInfo(zone) if zone else None).instant(row, "event_time")
    except Refused as error:
        return error.reason


def as_batch(text: str, zone: str | None) -> int | str | None:
    try:
        found = instants(pa.array([text]), zone)
    except NaiveTimes:
        return "has no offset, and the project no `timezone`"
    return int(found.micros[0]) if found.known[0] else "cannot be read" if found.unreadable[0] else None


@pytest.mark.parametrize("zone", [None, "Europe/Paris", "UTC"])
def test_times_are_read_live_as_in_a_source(zone: str | None) -> None:
    r, read = random.Random(f"times {SEED} {zone}"), 0
    for text in (written(r) for _ in range(20_000 if LONG else 3_000)):
        said = as_live(json.dumps({"event_time": text}).encode(), zone)
        assert said == as_batch(text, zone), text
        read += isinstance(said, int)
    assert read > 150


@pytest.mark.parametrize("number", [1762000000, 1762000000000000, -(2**63), 0, True, 1.5, 2**80])
def test_a_number_is_no_time(number: float) -> None:
    """It was taken for microseconds; a file of a source never was."""
    assert as_live(json.dumps({"event_time": number}).encode(), "UTC") == "cannot be read" == as_batch(str(number), "UTC")
