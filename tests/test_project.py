"""The Python API: a project from its file to its scores, and the laws that hold for the whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from predseg import DataError, GateError, LabelError, ModelError, Project, UsageError
from predseg.language.time import DAY, parse_instant
from tests import small
from tests.patience import eventually

COLUMNS = ["customer_id", "as_of", "model", "model_version", "probability", "percentile", "decile", "reasons"]


def test_check_counts_every_row(trained: Path, tmp_path: Path) -> None:
    report = Project.load(small.copied(trained, tmp_path)).check()
    assert report.received == report.accepted + report.duplicates + report.quarantined == len(small.rows())


def test_features_are_a_frame_by_customer(trained: Path, tmp_path: Path) -> None:
    project = Project.load(small.copied(trained, tmp_path))
    frame = project.features("2025-06-01")
    raw = pd.read_csv(tmp_path / "events.csv", parse_dates=["event_time"])
    seen = raw[raw["event_time"] <= pd.Timestamp("2025-06-01", tz="UTC")]
    assert frame.index.name == "customer_id" and set(frame.index) == set(seen["customer_id"])
    counts = seen.groupby("customer_id").size()
    sums = seen.groupby("customer_id")["value"].sum()
    assert (frame["count_order_completed"] == counts.reindex(frame.index)).all()
    assert np.allclose(frame["sum_value_order_completed"], sums.reindex(frame.index), atol=1e-9)


def test_scores_have_the_columns_and_ranks_of_the_contract(trained: Path, tmp_path: Path) -> None:
    project = Project.load(small.copied(trained, tmp_path))
    scores = project.score(out=tmp_path / "scores.parquet")
    assert list(scores.columns) == COLUMNS
    assert scores["customer_id"].is_unique and scores["probability"].between(0, 1).all()
    assert scores["percentile"].max() == 1.0 and set(scores["decile"]) <= set(range(1, 11))
    assert scores["reasons"].map(len).max() <= 3
    written = pq.read_table(tmp_path / "scores.parquet")
    assert written.column_names == COLUMNS and len(written) == len(scores)
    [partition] = list((project.config.store / "tables" / "scores").glob("as_of=*"))
    assert len(pq.ParquetFile(partition / "part-00000.parquet").read()) == len(scores)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_out_writes_what_its_suffix_says(suffix: str, trained: Path, tmp_path: Path) -> None:
    file = tmp_path / f"scores{suffix}"
    scores = Project.load(small.copied(trained, tmp_path / "p")).score(out=file)
    if suffix == ".jsonl":
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        assert len(lines) == len(scores) and list(lines[0]) == COLUMNS
    elif suffix == ".csv":
        assert list(pd.read_csv(file).columns) == COLUMNS
    else:
        assert pq.read_table(file).column_names == COLUMNS


def test_training_again_gives_the_same_scores_byte_for_byte(trained: Path, tmp_path: Path) -> None:
    first = Project.load(small.copied(trained, tmp_path / "a")).score()
    project = Project.load(small.write(tmp_path / "b"))
    project.train()
    again = project.score()
    assert first["probability"].to_numpy().tobytes() == again["probability"].to_numpy().tobytes()
    assert first["reasons"].map(list).tolist() == again["reasons"].map(list).tolist()


def test_the_order_and_repetition_of_rows_change_nothing(trained: Path, tmp_path: Path) -> None:
    first = Project.load(small.copied(trained, tmp_path / "a"))
    shuffled = small.rows()
    np.random.default_rng(0).shuffle(shuffled)
    second = Project.load(small.write(tmp_path / "b", shuffled))
    pd.testing.assert_frame_equal(first.features("2025-08-01"), second.features("2025-08-01"))


def test_going_back_in_time_uses_nothing_later(tmp_path: Path) -> None:
    """Train and score at a past moment, with and without the events that came later: the same bytes."""
    moment, lines = "2025-09-01", small.rows()
    cut = [line for line in lines if line.split(",")[1] <= "2025-09-01T00:00:00Z"]
    assert len(cut) < len(lines)
    whole, past = (Project.load(small.write(tmp_path / name, part)) for name, part in (("whole", lines), ("past", cut)))
    found = []
    for project in (whole, past):
        report = project.train(as_of=moment)["purchase"]
        assert max(parse_instant(c["cutoff"]) for c in report.facts["cutoffs"]) + 20 * DAY <= parse_instant(moment)
        found.append((report.evaluation["model"], project.score(as_of=moment)["probability"].to_numpy().tobytes()))
    assert found[0] == found[1]


def test_a_customer_never_seen_in_training_is_scored(trained: Path, tmp_path: Path) -> None:
    file = small.copied(trained, tmp_path)
    with (tmp_path / "events.csv").open("a") as events:
        events.write("new,2025-10-27T00:00:00Z,Order Completed,5.00\n")
    scores = Project.load(file).score()
    assert "new" in set(scores["customer_id"])


def test_a_bundle_carries_the_data_fingerprint_the_config_and_the_cutoffs(trained: Path) -> None:
    [bundle] = (trained / "models").glob("*/1/bundle.json")
    facts = json.loads(bundle.read_text())["facts"]
    assert len(facts["fingerprint"]) == 64 and facts["cutoffs"][-1]["role"] == "test"
    assert facts["statement"].startswith("who did Order Completed, within the next 20 days")
    assert {"predseg", "lightgbm"} <= set(facts["versions"])


def test_promote_and_rollback(trained: Path, tmp_path: Path) -> None:
    project = Project.load(small.copied(trained, tmp_path))
    project.train()
    project.promote("purchase", 2, force=True)
    assert [v.alias for v in project.models()["purchase"]] == ["", "champion"]
    assert project.rollback("purchase").version == 1
    assert [v.alias for v in project.models()["purchase"]] == ["champion", "challenger"]


def test_dry_runs_write_nothing(trained: Path, tmp_path: Path) -> None:
    project = Project.load(small.copied(trained, tmp_path))
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.parquet")}
    project.check(dry_run=True)
    project.score(out=tmp_path / "scores.csv", dry_run=True)
    project.train(dry_run=True)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.parquet")} == before
    assert not (tmp_path / "scores.csv").exists() and len(project.models()["purchase"]) == 1


def test_scoring_one_model_keeps_the_scores_of_the_others(trained: Path, tmp_path: Path) -> None:
    import pyarrow as pa

    from predseg.forecast.publishing import publish
    from predseg.store import Store

    project = Project.load(small.copied(trained, tmp_path))
    store, moment = Store(project.config.store), 20 * DAY
    project.score()
    table = store.read("scores").select(COLUMNS).slice(0, 3)
    for name in ("purchase", "churn", "purchase"):
        publish(store, table.set_column(2, "model", pa.array([name] * 3)), moment)
    found = store.read("scores", moment).to_pandas()
    assert found["model"].tolist() == ["churn"] * 3 + ["purchase"] * 3


def test_leaks_stop_the_training_unless_allowed(tmp_path: Path) -> None:
    """A property of the order that tells whether another one will follow: the query of the source looked ahead."""
    lines = [line.split(",") for line in small.rows()]
    following: dict[str, list[str]] = {}
    for customer, when, *_ in lines:
        following.setdefault(customer, []).append(when)
    leaky = []
    for customer, when, event, value in lines:
        later = [w for w in following[customer] if w > when]
        soon = sum((parse_instant(w) - parse_instant(when)) for w in later[:1]) / DAY if later else 999
        leaky.append(f"{customer},{when},{event},{value},{parse_instant(when) / DAY + soon:.3f}")
    config = small.CONFIG.replace("models:", "  measures:\n    due: {did: Order Completed, max: next}\nmodels:")
    file = small.write(tmp_path, leaky, config)
    text = (tmp_path / "events.csv").read_text()
    (tmp_path / "events.csv").write_text(text.replace("event,value\n", "event,value,next\n", 1))
    with pytest.raises(GateError) as refusal:
        Project.load(file).train()
    assert refusal.value.code == "E601" and "due" in refusal.value.message and "allow: [due]" in refusal.value.help
    forced = Project.load(file).train(force=True)["purchase"]
    assert forced.decision.forced and "leak 'due' is not allowed" in forced.decision.reasons
    assert Project.load(file).models()["purchase"][0].forced
    file.write_text(config.replace("cutoffs: 4", "cutoffs: 4, allow: [due]"))
    report = Project.load(file).train()["purchase"]
    assert [(leak.name, leak.allowed) for leak in report.leaks] == [("due", True)]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"as_of": "1999-01-01"}, "E421"),
        ({"as_of": "soon"}, "E203"),
        ({"models": ["purchse"]}, "E207"),
    ],
)
def test_refusals_of_moments_and_names(change: dict[str, object], code: str, trained: Path, tmp_path: Path) -> None:
    project = Project.load(small.copied(trained, tmp_path))
    with pytest.raises((DataError, UsageError)) as refusal:
        project.score(**change)  # type: ignore[arg-type]
    assert refusal.value.code == code


def test_an_untrained_model_and_an_untrainable_label_are_refused(tmp_path: Path) -> None:
    project = Project.load(small.write(tmp_path / "a"))
    with pytest.raises(ModelError, match="not trained yet"):
        project.score()
    never = small.CONFIG.replace("{did: Order Completed,", "{did: Order Complete,")
    with pytest.raises(LabelError):
        Project.load(small.write(tmp_path / "b", config=never)).train()


def test_a_killed_run_leaves_nothing_half_written_and_the_next_one_works(trained: Path, tmp_path: Path) -> None:
    file = small.copied(trained, tmp_path)
    with (tmp_path / "events.csv").open("a") as events:
        events.write("late,2025-10-27T00:00:00Z,Order Completed,5.00\n")
    work = tmp_path / "store" / ".work"
    for delay in (0, 0.1, 0.3, 0.8):
        process = subprocess.Popen([sys.executable, "-m", "predseg", "score", "-c", str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before = set(work.iterdir())
        eventually(lambda process=process, before=before: set(work.iterdir()) - before or process.poll() is not None)  # it writes
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for part in (tmp_path / "store" / "tables").rglob("*.parquet"):
            pq.read_metadata(part)
    scores = Project.load(file).score()
    assert "late" in set(scores["customer_id"])
    assert os.listdir(tmp_path / "store" / ".work") == []  # noqa: PTH208


def test_pipelines_run_and_return_exit_codes(trained: Path, tmp_path: Path) -> None:
    root = Path(__file__).parents[1]
    file = small.copied(trained, tmp_path)
    done = subprocess.run([sys.executable, str(root / "pipelines" / "daily.py"), str(file)], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr
    missing = subprocess.run([sys.executable, str(root / "pipelines" / "train.py"), "nowhere.yaml"], capture_output=True, text=True, cwd=root)
    assert missing.returncode == 3 and missing.stderr.startswith("error[E300]")
