"""The benchmarks run: a look at a small size, so that none breaks unseen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest


def run(root: Path, script: str, *options: str) -> str:
    """The table that a script prints."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))}
    command = [sys.executable, "-m", f"benchmarks.{script}", "--small", *options]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def cells(output: str) -> list[list[str]]:
    """The lines of the table below its head."""
    lines = [line.strip("| ").split(" | ") for line in output.splitlines() if line.startswith("|")]
    return lines[2:]


def test_features_agree_with_every_peer(root: Path) -> None:
    """The script itself compares the numbers, of 37 measures."""
    for module in ("duckdb", "polars"):
        pytest.importorskip(module)
    output = run(root, "features", "--cutoffs", "3")
    [[cutoffs, held, dropped, *seconds]] = cells(output)
    assert cutoffs == "3" and min(float(ratio.strip("*")) for ratio in (held, dropped)) > 0
    assert int(seconds.pop().replace(",", "")) >= 37 * 1_000 and len(seconds) == 6


def test_reading_in_is_measured_beside_a_bare_sort(root: Path) -> None:
    """The script itself compares how many rows there are."""
    [[ratio, ours, bare]] = cells(run(root, "ingest"))
    assert float(ratio.strip("*")) > 0 and float(ours) >= 0 and float(bare) >= 0


def test_features_are_measured_beside_feature_stores_where_these_are_installed(root: Path) -> None:
    """The script itself compares the numbers."""
    rows = cells(run(root, "feature_stores", "--cutoffs", "1"))
    assert [row[0] for row in rows] == ["featuretools", "Feast"] and all(float(row[3]) >= 0 for row in rows)


def test_memory_is_measured_for_each_step(root: Path) -> None:
    rows = {step: (float(peak.strip("*")), made) for step, peak, _, made in cells(run(root, "memory"))}
    assert set(rows) == {"ingest", "features", "scores", "segments"} and all(0.05 < peak < 2 for peak, _ in rows.values())
    assert rows["features"][1].startswith("5,000 customers")


@pytest.mark.skipif(not os.environ.get("PREDSEG_LONG"), reason="reads a whole shop five times; PREDSEG_LONG=1 runs it")
def test_a_day_costs_less_than_everything_and_gives_the_same(root: Path) -> None:
    """The script itself compares the events and the counts."""
    assert [row[0].split(" ")[0] for row in cells(run(root, "daily"))] == ["everything", "the", "the", "the", "everything", "features,", "features,"]


@pytest.mark.skipif(not os.environ.get("PREDSEG_LONG"), reason="trains a whole shop; PREDSEG_LONG=1 runs it")
def test_a_days_run_gives_what_doing_everything_again_gives(root: Path) -> None:
    """The script itself compares scores, memberships and the report."""
    first, *days, nothing, again = [row[0] for row in cells(run(root, "daily", "--run"))]
    assert (first, nothing, again) == ("the first", "nothing new", "everything again") and len(days) == 3


def test_what_yesterday_could_save_is_measured(root: Path) -> None:
    found = {name: customers for name, customers, _ in cells(run(root, "reuse"))}
    same, kept = (found[f"with the {what} of yesterday{where}"] for what, where in (("features", ""), ("events", " in every window")))
    counts = [int(number.split()[0].replace(",", "")) for number in (same, kept, found["members"])]
    assert 0 <= counts[0] < counts[1] < counts[2]


def test_costs_are_measured_and_drawn_for_each_step(root: Path, tmp_path: Path) -> None:
    rows = cells(run(root, "costs", "--picture", str(tmp_path / "costs.svg")))
    assert {step for step, *_ in rows} >= {"reading in", "features", "scores", "segments"}
    assert (tmp_path / "costs.svg").read_text("utf-8").count("<svg") == 1


def test_the_law_of_a_step_is_found_again() -> None:
    for module in ("duckdb", "polars"):
        pytest.importorskip(module)
    from benchmarks import costs

    step, true = (
        costs.STEPS["features"],
        {"in any case": 0.5, "a million events": 2.0, "a million customers": 1.0, "a million events × measures": 0.0},
    )
    law = {**true, "a million customers × cutoffs × measures": 0.1}
    found = costs.fitted(step, [costs.Cost(n, costs.expected(step, law, n), 0.0) for n in step.sizes()])
    assert found == pytest.approx(law, abs=1e-9)


def test_scoring_is_compared_with_bare_prediction(root: Path) -> None:
    rows = cells(run(root, "scoring"))
    assert [row[0] for row in rows] == ["Booster.predict", "predseg, with reasons", "predseg, without reasons"] and rows[0][1] == "**1.00**"


def test_trees_are_compared_with_ways_to_ask_lightgbm(root: Path) -> None:
    pytest.importorskip("numba")
    rows = {way: difference for way, _, _, difference, _ in cells(run(root, "trees"))}
    assert rows["predseg"] == "0" and len(rows) == 4


@pytest.mark.skipif(not os.environ.get("PREDSEG_LONG"), reason="starts Spark once more; PREDSEG_LONG=1 runs it")
def test_spark_answers_what_the_embedded_engine_does(root: Path) -> None:
    """The script itself compares the answers."""
    assert len(cells(run(root, "spark"))) == 3


@pytest.mark.skipif(not os.environ.get("PREDSEG_LONG"), reason="trains a whole shop; PREDSEG_LONG=1 runs it")
def test_whole_commands_are_timed(root: Path) -> None:
    assert len(cells(run(root, "commands"))) == 8


def test_whole_commands_of_many_segments_are_timed(root: Path) -> None:
    rows = cells(run(root, "many_segments"))
    assert [row[0] for row in rows] == ["1", "20"] and all(0.1 < float(value) < 60 for row in rows for value in row[1:])


def test_segments_have_the_members_that_peers_find(root: Path) -> None:
    """The script itself compares the members."""
    for module in ("duckdb", "polars"):
        pytest.importorskip(module)
    assert len(cells(run(root, "segments"))) == 3


def test_serving_answers_every_event(root: Path) -> None:
    rows = cells(run(root, "serve"))
    assert [row[0] for row in rows] == ["1", "20"] and all(row[5] == "100.0%" for row in rows)


def test_startup_is_measured(root: Path) -> None:
    assert [row[0] for row in cells(run(root, "startup"))] == ["predseg --help", "python -c pass"]


def test_the_live_engine_is_measured(root: Path) -> None:
    rows = dict(cells(run(root, "live")))
    assert [what.split(",")[0].split(" (")[0] for what in rows] == [
        "in memory",
        "memory a customer",
        "the same after `steady()`",
        "in memory",
        "cost of 20 rules",
        "durable",
        "durable",
        "restart with 1",
    ]


def test_live_transitions_are_those_that_peers_find(root: Path) -> None:
    """The peers that are installed; a stream in order leaves no room for differences."""
    rows = cells(run(root, "live_peers"))
    assert [row[:2] for row in rows] == [[stream, tool] for stream in ("in order", "5 % late") for tool in ("predseg", "bytewax", "pathway")]
    assert rows[0][4:] == ["100.00% of 118", "0", "100.0%"] and rows[3][4] == "100.00% of 118"
    assert all(row[2] == "not installed" or row[4:6] == ["100.00% of 118", "0"] for row in rows[:3])


def test_a_count_by_hand_is_that_of_the_rule() -> None:
    """An abandoned cart: entered a day after the last item, left when the item is three days old."""
    from benchmarks.live_by_hand import DAY, HOUR, whole_log

    events = [(0, "Product Added", 0.0), (HOUR, "Product Added", 0.0), (5 * DAY, "Product Added", 0.0), (6 * DAY, "Order Completed", 9.0)]
    assert list(whole_log("abandoned", events, 30 * DAY)) == [(True, HOUR + DAY), (False, HOUR + 3 * DAY)]


@pytest.mark.real
def test_real_carts_are_replayed(root: Path, real_data: Path) -> None:
    rows = dict(cells(run(root, "live", "--data", str(real_data))))
    [counted] = [figure for what, figure in rows.items() if what.startswith("events replayed")]
    [used] = [figure for what, figure in rows.items() if what.startswith("of one core")]
    assert counted == "1,297, 993" and all(float(share.strip("%")) < 50 for share in used.split(", "))


def test_training_is_compared_with_the_bare_call(root: Path) -> None:
    rows = cells(run(root, "training"))
    assert [row[0] for row in rows] == ["predseg", "lightgbm.train"] and float(rows[0][1].strip("*")) > 1 and "3,900 rows" in rows[0][5]


@pytest.mark.real
@pytest.mark.slow
def test_accuracy_is_compared_on_the_same_customers(root: Path, real_data: Path) -> None:
    [row] = cells(run(root, "accuracy", "--data", str(real_data)))
    auc, brier = map(float, row[5].split(" / "))
    assert row[0].startswith("grocery") and row[1] == "1,525" and auc > 0.9 and brier < 0.1


def test_the_scoreboard_pairs_the_tools_on_the_same_draws(tmp_path: Path) -> None:
    """A forecast that only differs by noise is not told apart; a better one is; identical ones differ by nothing, in every draw."""
    from benchmarks.accuracy_board import Result, board, draw, draws
    from benchmarks.accuracy_data import Task

    rng = np.random.default_rng(0)
    chance = rng.random(2_000)
    y = (rng.random(2_000) < chance).astype(int)
    customers = np.array([f"c{i:04d}" for i in range(2_000)])
    blurred = np.clip(chance + rng.normal(0, 0.5, 2_000), 0, 1)

    def result(ours: np.ndarray, peer: np.ndarray, days: int) -> Result:
        said = {"predseg": ours, "recency": chance * 0, "peer": peer}
        return Result(Task("shop", "2020-01-01", days), customers, y, said, {n: v for n, v in said.items() if n != "recency"})

    results = [result(chance, chance, 30), result(chance, blurred, 60), result(blurred, chance, 90)]
    same, better, worse = draws(results)
    assert not same.any() and better.min() > 0.03 and np.allclose(better, -worse)
    rows = cells(board(results))
    assert [row[2][:2] for row in rows] == ["+0", "+0", "-0"] and [float(row[3]) > 0 for row in rows] == [False, False, True]
    assert all(row[6] == "0.500" for row in rows), "recency gives no probability"
    draw(results, tmp_path / "board.svg")
    assert (tmp_path / "board.svg").read_text().startswith("<?xml")


def test_the_scoreboard_takes_luck_out_of_what_it_can() -> None:
    """Exact probabilities are off by what chance makes them, wrong ones by more; the truth reaches all of itself, whatever came true."""
    from benchmarks.accuracy_board import Result, expected_auc
    from benchmarks.accuracy_data import Task
    from predseg.forecast.evaluation import auc

    rng = np.random.default_rng(1)
    chance = rng.beta(1, 3, 600)
    futures = (rng.random((300, 600)) < chance).astype(int)
    blurred = np.clip(chance + rng.normal(0, 0.2, 600), 0, 1)

    def result(y: np.ndarray, ours: np.ndarray) -> Result:
        said = {"predseg": ours, "truth": chance}
        return Result(Task("shop", "2020-01-01", 30), np.arange(600).astype(str), y, said, said)

    assert expected_auc(chance, blurred) == pytest.approx(np.mean([auc(y, blurred) for y in futures]), abs=0.003)
    assert {result(y, chance).share() for y in futures[:2]} == {1.0}
    assert result(futures[0], blurred).share() == result(futures[1], blurred).share() < 0.95
    off = [result(y, chance).off() for y in futures[:40]]
    assert np.mean([o for o, _ in off]) == pytest.approx(off[0][1], rel=0.1)
    wrong, by_chance = result(futures[0], np.sqrt(chance)).off()
    assert wrong > 3 * by_chance


def test_every_script_is_in_the_readme(root: Path) -> None:
    text = (root / "benchmarks" / "README.md").read_text("utf-8")
    scripts = {p.stem for p in (root / "benchmarks").glob("*.py") if 'if __name__ == "__main__"' in p.read_text("utf-8")}
    assert scripts and all(f"python -m benchmarks.{name}" in text for name in scripts)


def test_the_page_counts_an_edited_condition(root: Path) -> None:
    [(customers, events, middle, longest, members)] = cells(run(root, "page"))
    assert (customers, events, members) == ("2,000", "10,000", "under 10") and 0 < int(middle) <= int(longest)


def test_experiments_are_counted(root: Path) -> None:
    rows = {row[0]: row for row in cells(run(root, "experiments"))}
    assert len(rows) == 9 and all(row[1] == "30" for row in rows.values())
    assert int(rows["peeking: the usual interval, for comparison"][2]) > 5 > int(rows["peeking: interval for any number of looks"][2])


def test_the_report_of_a_large_shop_is_timed(root: Path) -> None:
    [[customers, segments, seconds, size]] = cells(run(root, "report", "--segments", "12"))
    assert (customers, segments) == ("500", "12") and 0 < float(seconds) < 60 and 0.5 < float(size) < 1.5
