"""A run far ahead of the clock, by a mistyped moment, is found and taken back: what comes after is as if it had never been."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pandas as pd
import pytest

from predseg import Project
from predseg.activation import ahead
from predseg.cli import main
from predseg.language.time import parse_instant
from predseg.moment import AHEAD, clock

CONFIG = """\
project: shop
timezone: UTC
sources: {orders: {path: events.csv}}
segments: rules.yaml
channels: {crm: {file: exports}, trial: {dry: true}}
"""
RULES = """\
segment: buyers
match: {did: Order Completed, within: 2 days}
on_enter: {send: crm}
on_leave: {send: trial}
---
segment: fresh
refresh: live
match: {did: Order Completed, within: 12 hours}
---
segment: twice
match: {rfv: {of: Order Completed, within: 9 days, frequency: {at_least: 1}}}
"""
NEW = "---\nsegment: tried\nholdout: 50%\nmatch: {did: Order Completed}\n"
FUTURE = parse_instant("2462-01-01")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "predseg.yaml").write_text(CONFIG)
    (tmp_path / "rules.yaml").write_text(RULES)
    return tmp_path


def run(moment: int | str) -> None:
    """A daily run, which commands would refuse far ahead of the clock."""
    project = Project.load("predseg.yaml")
    project.segments().run(project.moment(moment))
    project.act(moment)


def history(shop: Path, mistake: bool) -> tuple[pd.DataFrame, pd.DataFrame, list[tuple[str, ...]]]:
    """Return memberships, runs and changes with messages of a store that may have had a run of 2462 between two days."""
    orders = ["ann,2026-03-01T10:00:00Z", "bob,2026-03-02T20:00:00Z", "bob,2026-03-03T22:00:00Z"]
    lines = ["customer_id,event_time,event,value", *(f"{o},Order Completed,5" for o in orders)]
    for day in ("01T12:00", "02", "03", "04"):
        (shop / "events.csv").write_text("\n".join([lines[0], *(line for line in lines[1:] if line.split(",")[1] < f"2026-03-{day}")]) + "\n")
        if day == "03" and mistake:
            (shop / "rules.yaml").write_text(RULES + NEW)
            run(FUTURE)
            found = clock() + AHEAD
            assert ahead.last_after(Project.load().store, found) == FUTURE
            ahead.take_back(Project.load().store, found)
            assert ahead.last_after(Project.load().store, found) is None
            (shop / "rules.yaml").write_text(RULES)
        run(f"2026-03-{day}")
    store = Project.load().store
    with sqlite3.connect(store.path / "live.db") as connection:
        changes = connection.execute("select customer_id, at, change from transitions order by 1, 2").fetchall()
        sent = connection.execute("select customer_id, at, change from actions where status = 'sent' order by 1, 2").fetchall()
    assert store.partitions("rfv")[-1] < clock() and not store.exists("experiments")
    return store.read("memberships").to_pandas(), store.read("segment_runs").to_pandas(), [*changes, *(one for one in sent if one[1] < FUTURE)]


def test_after_it_is_taken_back_everything_is_as_if_it_had_not_been(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("predseg.project.recordable", lambda as_of, unless: None)
    plain = history(shop, mistake=False)
    for path in sorted((shop / "store").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    mistaken = history(shop, mistake=True)
    assert len(plain[0]) > 3 and len(plain[2]) > 3
    pd.testing.assert_frame_equal(mistaken[0], plain[0])
    pd.testing.assert_frame_equal(mistaken[1], plain[1])
    assert mistaken[2] == plain[2]


def test_doctor_finds_it_and_takes_it_back(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shop / "events.csv").write_text("customer_id,event_time,event,value\nann,2026-03-01T10:00:00Z,Order Completed,5\n")
    project = Project.load()
    assert main(["preview", "twice", "--as-of", "2462-01-01"]) == 0 and ahead.last_after(project.store, clock()) is None, "it may be looked at"
    project.segments().run(FUTURE)
    assert main(["segment"]) == 0
    assert "at 2462-01-01T00:00Z" in (said := capsys.readouterr().err) and "`predseg doctor --repair` takes it back" in said
    assert main(["doctor", "--json"]) == 1
    [found] = [f for f in json.loads(capsys.readouterr().out)["findings"] if f["what"] == "runs"]
    assert found["status"] == "broken" and "2462-01-01T00:00Z" in found["found"]
    main(["doctor", "--repair", "--json"])
    out = json.loads(capsys.readouterr().out)
    assert any("2462-01-01T00:00Z" in done for done in out["repaired"])
    assert [f["status"] for f in out["findings"] if f["what"] == "runs"] == ["ok"]
    assert main(["segment", "--json"]) == 0 and json.loads(capsys.readouterr().out)["recorded"]


def test_a_store_without_runs_is_left_alone(shop: Path) -> None:
    store = Project.load().store
    ahead.take_back(store, 0)
    assert ahead.last_after(store, 0) is None
