"""Watches: told of once when they begin to fail and once when they are in order again, and judged by what is usual."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from predseg.cli import main
from predseg.history.volumes import daily_counts
from predseg.language.time import DAY, HOUR, MINUTE, parse_instant, say_instant
from predseg.outcomes.monitoring import (
    FAILING,
    OK,
    UNKNOWN,
    Reading,
    behind,
    freshness,
    judge,
    keep_watches,
    overdue,
    read_watches,
    rejected,
    segment_churn,
    segment_sizes,
    staleness,
    states_of,
    volumes,
)
from predseg.outcomes.watching import live_state
from predseg.segments.memberships import LOG, Ledger
from predseg.store import Store
from tests.segments.stores import Row, write_events

NOON = 1_000 * DAY


def test_a_reading_that_trembles_around_its_limit_is_told_of_once() -> None:
    states: dict[str, tuple[str, int]] = {}
    said = []
    for at, level in enumerate([0.5, 1.0, 0.95, 1.2, 0.8, 0.79, 0.99, None, 1.0, None, 0.1]):
        [watch], turns = judge(states, [Reading("size", "vips", "v", "l", level)], at)
        states = {watch.key: (FAILING if watch.status == FAILING else OK, watch.since)}
        said += [(at, turn.status) for turn in turns]
    assert said == [(1, FAILING), (5, OK), (8, FAILING), (10, OK)]


def test_what_cannot_be_judged_keeps_what_was_said_of_it() -> None:
    reading = Reading("calibration", "churn", "v", "l", None)
    [fresh], _ = judge({}, [reading], 7)
    [old], turns = judge({"calibration/churn": (FAILING, 3)}, [reading], 7)
    assert (fresh.status, old.status, old.since, turns) == (UNKNOWN, FAILING, 3, [])


def test_what_is_gone_is_no_longer_failing() -> None:
    watches, turns = judge({"size/vips": (FAILING, 3), "size/others": (OK, 3), "drift/churn": (FAILING, 2)}, [], 7)
    assert not watches and [(t.about, t.status, t.says) for t in turns] == [("vips", OK, "size of vips is no longer watched")]


def test_what_was_said_is_kept_also_of_models_that_are_not_looked_at(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert read_watches(store) == ([], None)
    before, _ = judge({}, [Reading(name, "churn", "v", "l", 2.0) for name in ("drift", "size")], 1)
    now, turns = judge({}, [Reading("size", "vips", "v", "l", 2.0), Reading("size", "others", "v", "l", 3.0)], 5)
    keep_watches(store, now, before, 5, again=["size/others"])
    kept, at = read_watches(store)
    assert at == 5 and states_of(kept) == {"drift/churn": (FAILING, 1), "size/vips": (FAILING, 5), "size/others": (OK, 5)}
    assert len(turns) == 2


def test_volumes_are_those_of_counting(tmp_path: Path) -> None:
    r = np.random.default_rng(1)
    rows: list[Row] = [(f"c{r.integers(9)}", int(NOON - r.integers(0, 20 * DAY)), str(r.choice(["A", "B"])), {}) for _ in range(500)]
    rows += [("c1", NOON - HOUR, "A", {"received_at": NOON + 1})] * 7
    found = daily_counts(write_events(tmp_path, rows), NOON, 10)
    for name, days in found.items():
        wanted = [
            sum(e == name and p.get("received_at", t) <= NOON and NOON - (d + 1) * DAY < t <= NOON - d * DAY for _, t, e, p in rows)
            for d in range(10)
        ]
        assert days.tolist() == wanted, name


@pytest.mark.parametrize(("today", "status"), [(100, 0.0), (60, 0.8), (45, 1.1), (0, 2.0), (230, 1.13)])
def test_a_volume_is_unusual_when_it_is_unlike_all_the_weekdays_before(tmp_path: Path, today: int, status: float) -> None:
    per_day = {7 * week: 100 for week in range(1, 9)} | {7 * week + 1: 900 for week in range(1, 9)} | {0: today, 63: 1}
    rows: list[Row] = [("c", NOON - day * DAY - HOUR - n, "Order", {}) for day, number in per_day.items() for n in range(number)]
    [found] = volumes(daily_counts(write_events(tmp_path, rows), NOON, 90), 0.5)
    assert found.level == pytest.approx(status, abs=0.01) and found.about == "Order"


def test_a_mailing_every_second_week_is_no_alarm(tmp_path: Path) -> None:
    def level(every: int) -> float | None:
        rows: list[Row] = [("c", NOON - day * DAY - 1 - n, "Email Delivered", {}) for day in range(0, 64, every) for n in range(80)]
        files = write_events(tmp_path, [*rows, ("c", NOON - 70 * DAY, "Email Delivered", {})])
        return volumes(daily_counts(files, NOON, 90), 0.5)[0].level

    assert level(14) == 0.0 and level(7) == 0.0


def ledger(*runs: tuple[int, int, int], definition: str = "d") -> Ledger:
    """Runs a day apart: members, entered, left."""
    rows = [dict(zip(LOG, ("vips", definition, NOON + i * DAY, *run), strict=True)) for i, run in enumerate(runs)]
    return replace(Ledger.empty(), log=pd.DataFrame(rows, columns=list(LOG)))


def test_a_segment_is_judged_by_its_size_at_the_run_before_and_by_what_is_usual() -> None:
    def level(*runs: tuple[int, int, int]) -> list[float | None]:
        return [reading.level for reading in segment_sizes(ledger(*runs), ["vips"], NOON + 99 * DAY, 0.5)]

    assert level((100, 100, 0)) == [] and level((10, 10, 0), (0, 0, 10)) == [0.0], "one run says nothing, and few members little"
    assert level((100, 100, 0), (50, 0, 50)) == [1.0] and level((100, 100, 0), (0, 0, 100)) == [2.0] and level((100, 0, 0), (400, 300, 0)) == [1.5]
    swings = [(100, 0, 0), (60, 0, 40), (100, 40, 0), (60, 0, 40), (100, 40, 0), (45, 0, 55)]
    assert level(*swings) == [0.0], "three times what is usual is more than everything"
    assert segment_sizes(ledger((100, 0, 0), (0, 0, 100)), ["vips"], NOON, 0.5) == [], "the second run is later"
    assert segment_sizes(ledger((100, 0, 0), (0, 0, 100)), ["vips"], NOON + DAY, None) == []


def test_churn_is_the_share_of_members_exchanged() -> None:
    [quiet] = segment_churn(ledger((100, 100, 0), (100, 10, 10)), ["vips"], NOON + 9 * DAY, 0.5)
    [loud] = segment_churn(ledger((100, 100, 0), (100, 90, 90)), ["vips"], NOON + 9 * DAY, 0.5)
    assert quiet.level == pytest.approx(2 * 20 / 110) and loud.level == pytest.approx(2 * 180 / 190)
    trigger = [(100, 100, 0)] + [(100, 95, 95)] * 5
    assert [r.level for r in segment_churn(ledger(*trigger), ["vips"], NOON + 9 * DAY, 0.5)] == [0.0], "it always exchanges everybody"


def test_ages_shares_and_queues() -> None:
    assert freshness(NOON - 3 * DAY, NOON, 2 * DAY)[0].level == 1.5 and freshness(NOON, NOON, None)[0].level is None
    assert staleness("scores", NOON - DAY, NOON, 2 * DAY)[0].level == 0.5 and staleness("scores", None, NOON, DAY)[0].level is None
    assert rejected(1_000, 20, 0.01)[0].level == 2.0 and rejected(0, 0, 0.01)[0].level == 0.0 and rejected(1, 1, None) == []
    assert overdue([NOON - 30 * MINUTE, NOON + DAY], NOON, HOUR)[0].level == 0.5 and overdue([], NOON, HOUR)[0].level == 0
    assert behind(NOON - 10 * MINUTE, NOON, 5 * MINUTE)[0].level == 2.0 and behind(None, NOON, 5 * MINUTE)[0].level is None


def test_the_live_database_says_its_clock_and_what_waits(tmp_path: Path) -> None:
    file = tmp_path / "live.db"
    assert live_state(file) == (None, None)
    with sqlite3.connect(file) as connection:
        connection.execute("create table other (x)")
    assert live_state(file) == (None, None)
    with sqlite3.connect(file) as connection:
        connection.execute("create table meta (name text, value text)")
        connection.execute("insert into meta values ('clock', '123')")
        connection.execute("create table actions (action_id text, due_at integer, status text)")
        connection.executemany("insert into actions values ('a', ?, ?)", [(1, "pending"), (2, "failed"), (3, "sent"), (4, "dead")])
    assert live_state(file) == (123, [1, 2])


PROJECT = """\
project: shop
sources:
  shop: {path: events.csv}
segments: segments.yaml
monitor: {freshness: 2 days, churn: off}
"""
T0 = parse_instant("2026-03-01")


def write(folder: Path, sizes: list[int]) -> None:
    """Day by day so many customers view something."""
    rows = [f"c{n:04d},{say_instant(T0 + day * DAY + HOUR)},Product Viewed" for day, size in enumerate(sizes) for n in range(size)]
    (folder / "events.csv").write_text("customer_id,event_time,event\n" + "\n".join(rows) + "\n", "utf-8")
    (folder / "segments.yaml").write_text("segment: viewers\nmatch: {did: Product Viewed, within: 1 day}\n", "utf-8")
    (folder / "predseg.yaml").write_text(PROJECT, "utf-8")


def test_breach_and_recovery_are_told_once_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, [200, 60, 64, 200, 200])
    told = []
    for day in range(1, 6):
        at = say_instant(T0 + day * DAY)
        assert main(["segment", "--as-of", at]) == 0
        capsys.readouterr()
        code = main(["monitor", "--as-of", at, "--json"])
        found = json.loads(capsys.readouterr().out)
        sizes = [w["status"] for w in found["watches"] if w["watch"] == "size"]
        assert (code == 1) == (FAILING in sizes) == (found["status"] == "failed")
        told += [(day, turn["status"]) for turn in found["turns"]]
    assert told == [(2, FAILING), (3, OK), (4, FAILING), (5, OK)]


def test_the_table_and_the_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, [80, 80])
    assert main(["segment", "--as-of", "2026-03-02"]) == 0 and main(["monitor", "--as-of", "2026-03-02"]) == 0
    assert "0 watches failing" in capsys.readouterr().out
    assert main(["monitor", "--as-of", "2026-03-10", "--dry-run"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "freshness failing newest event is 7 days old 48 hours" in said and "freshness is past its limit" in said
    assert main(["monitor", "--as-of", "2026-03-10"]) == 1 and "freshness is past its limit" in capsys.readouterr().out
    assert main(["monitor", "--as-of", "2026-03-11"]) == 1
    assert "freshness is past its limit" not in capsys.readouterr().out, "it was said already"
    assert main(["monitor", "--as-of", "2026-03-02"]) == 0, "an earlier moment changes nothing"
    assert main(["monitor", "--as-of", "2026-03-12"]) == 1 and "is past its limit" not in capsys.readouterr().out
