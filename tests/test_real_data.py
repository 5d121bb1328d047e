"""A short end-to-end on the real files: the configs that ship work on the downloads that they name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from predseg import Project
from predseg.cli import main
from predseg.language.time import DAY, parse_instant

pytestmark = pytest.mark.real
CONFIGS = Path(__file__).parents[1] / "configs"


def laid(name: str, source: Path, folder: Path) -> Path:
    """A copy of a config beside a link to its data."""
    (folder / "configs").mkdir(parents=True)
    (folder / "data").mkdir()
    text = (CONFIGS / f"{name}.yaml").read_text("utf-8")
    [path] = [line.split("path: ")[1].strip() for line in text.splitlines() if "path: ../data" in line]
    (folder / "data" / Path(path).name).symlink_to(source)
    file = folder / "configs" / f"{name}.yaml"
    file.write_text(text, "utf-8")
    if (CONFIGS / "segments").is_dir():
        (folder / "configs" / "segments").symlink_to(CONFIGS / "segments")
    return file


@pytest.fixture(scope="module")
def online_retail(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return laid("online_retail", real_data / "online_retail_raw.csv.gz", tmp_path_factory.mktemp("retail"))


def test_the_download_becomes_orders_and_refunds(online_retail: Path) -> None:
    """Counted independently: invoices with a customer and a price, cancellations start with C."""
    report = Project.load(online_retail).check()
    assert report.received == report.accepted + report.duplicates + report.quarantined == 22_186
    assert report.events == {"Order Completed": 18_532, "Order Refunded": 3_654}
    assert report.customers == 4_371 and report.quarantined == 0
    assert report.last == parse_instant("2011-12-09T12:50")
    again = Project.load(online_retail).check()
    assert again.up_to_date and again.rows == report.rows


def test_times_are_local_to_london(online_retail: Path) -> None:
    """An order of a summer day at 10:00 local time happened at 09:00 UTC."""
    import pandas as pd

    events = Project.load(online_retail).events().to_pandas()
    summer = events[events["event_time"].dt.month == 7]
    local = summer["event_time"].dt.tz_convert("Europe/London").dt.hour
    assert (local - summer["event_time"].dt.hour).unique().tolist() == [1]
    assert pd.Timestamp("2011-07-01T07:00", tz="UTC") < summer["event_time"].min()


def test_train_and_score_back_in_time(online_retail: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "purchase", "--as-of", "2011-09-10", "--json", "-c", str(online_retail)]) == 0
    trained = json.loads(capsys.readouterr().out)["models"]["purchase"]
    assert trained["evaluation"]["quality"] in ("fair", "good", "excellent") and trained["evaluation"]["model"]["auc"] > 0.68
    assert trained["leaks"] == []
    latest = max(parse_instant(c["cutoff"]) for c in trained["facts"]["cutoffs"])
    assert latest + 30 * DAY <= parse_instant("2011-09-10")
    out = tmp_path / "scores.parquet"
    assert main(["score", "purchase", "--as-of", "2011-09-10", "--out", str(out), "--json", "-c", str(online_retail)]) == 0
    scored = json.loads(capsys.readouterr().out)
    assert 3_300 < scored["models"]["purchase"]["customers"] == scored["rows"] < 3_500
    assert _auc_of_what_came_true(online_retail, out) > 0.70


def _auc_of_what_came_true(config: Path, out: Path) -> float:
    import pandas as pd
    from sklearn.metrics import roc_auc_score

    scores, events = pd.read_parquet(out), Project.load(config).events().to_pandas()
    begin = pd.Timestamp("2011-09-10", tz="UTC")
    bought = events[(events["event"] == "Order Completed") & (events["event_time"] > begin) & (events["event_time"] <= begin + pd.Timedelta(days=30))]
    return float(roc_auc_score(scores["customer_id"].isin(bought["customer_id"]), scores["probability"]))


@pytest.mark.parametrize(("name", "customers", "rows"), [("grocery", 1_525, 10_483), ("completejourney", 2_406, 108_691)])
def test_the_other_files_need_a_dozen_lines(name: str, customers: int, rows: int, real_data: Path, tmp_path: Path) -> None:
    project = Project.load(laid(name, real_data / f"{name}.parquet", tmp_path))
    report = project.check()
    assert (report.customers, report.rows, report.quarantined) == (customers, rows, 0)
    frame = project.features(among="purchase")
    assert len(frame) > 0.9 * customers and frame["count_purchase"].min() >= 1


def test_grocery_trains_and_beats_recency(real_data: Path, tmp_path: Path) -> None:
    report = Project.load(laid("grocery", real_data / "grocery.parquet", tmp_path)).train(["purchase"], dry_run=True)["purchase"]
    assert report.evaluation["model"]["auc"] > report.evaluation["baselines"]["recency"]["auc"] > 0.85
