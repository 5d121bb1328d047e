"""Recalibration: the trees stay, and what they say becomes probabilities by what came true since the training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from predseg import Project
from predseg.cli import main
from predseg.errors import LabelError
from predseg.forecast.forecaster import Calibration, sigmoid
from predseg.forecast.recalibrating import matured, recalibrate
from predseg.forecast.sampling import Sample
from predseg.forecast.training import Settings
from predseg.language.time import DAY
from tests import small
from tests.forecast import tiny

FACTS = {"chosen": {"trees": 12, "linear_share": 0.3, "calibration": "isotonic", "season": 0.0, "num_leaves": 6}}
HORIZON = 30 * DAY


def world(cutoffs: int, slope: float = 0.6, shift: float = -1.0, rows: int = 10_000, seed: int = 3) -> Sample:
    """What came true: the champion's order, with other odds."""
    r = np.random.default_rng(seed)
    frame = tiny.customers(rows * cutoffs, seed)
    y = (r.random(len(frame)) < sigmoid(slope * tiny.forecaster().raw(frame) + shift)).astype(np.int8)
    cutoff = np.repeat(np.arange(cutoffs) * HORIZON, rows)
    return Sample(frame.drop(columns=["customer_id", "as_of"]), y, cutoff, np.tile(frame["customer_id"].to_numpy()[:rows], cutoffs))


@pytest.mark.parametrize("cutoffs", [1, 2, 4])
def test_the_odds_of_today_are_found_and_the_order_is_kept(cutoffs: int) -> None:
    sample, champion = world(cutoffs), tiny.forecaster()
    found = recalibrate(sample, champion, FACTS, Settings(HORIZON, cutoffs * HORIZON))
    assert found.forecaster.boosters is champion.boosters and found.forecaster.linear is champion.linear
    assert (found.forecaster.calibration.slope, found.forecaster.calibration.intercept) == (
        pytest.approx(0.6, abs=0.12),
        pytest.approx(-1.0, abs=0.2),
    )
    raw = found.tested.raw(found.test.X)
    before, after = champion.calibrate(raw), found.tested.calibrate(raw)
    assert np.mean((after - found.test.y) ** 2) < np.mean((before - found.test.y) ** 2)
    assert abs(after.mean() - found.test.y.mean()) < 0.03 < abs(before.mean() - found.test.y.mean())


@pytest.mark.parametrize("cutoffs", [1, 3])
def test_what_judges_was_not_learned_from(cutoffs: int) -> None:
    found = recalibrate(world(cutoffs), tiny.forecaster(), FACTS, Settings(HORIZON, cutoffs * HORIZON))
    assert found.test.cutoff.min() == found.test.cutoff.max() == (cutoffs - 1) * HORIZON
    if cutoffs == 1:
        assert not set(found.test.customer) & set(found.learned.customer)
    else:
        assert found.learned.cutoff.max() + HORIZON <= found.test.cutoff.min()


def test_a_value_moves_as_a_whole() -> None:
    sample = world(2)
    raw = tiny.forecaster().raw(sample.X)
    spent = replace(sample, y=np.exp(raw) * 3.0 * np.random.default_rng(0).exponential(1.0, len(raw)))
    champion = replace(tiny.forecaster(), calibration=Calibration("value"))
    found = recalibrate(spent, champion, FACTS, Settings(HORIZON, 2 * HORIZON, value=True))
    assert found.forecaster.calibration == Calibration("value", intercept=pytest.approx(np.log(3.0), abs=0.1))


def test_only_outcomes_after_the_training_count() -> None:
    assert matured([10, 20, 30], 20, 5, "m") == [20, 30]
    with pytest.raises(LabelError, match="E506"):
        matured([10, 20], 21, 5, "m")


def test_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(small.write(tmp_path).parent)
    assert main(["train", "--as-of", "2025-08-15"]) == 0
    assert main(["train", "purchase", "--recalibrate", "--as-of", "2025-08-20"]) == 5
    assert "2025-09-04" in capsys.readouterr().err, "it says when there is something to recalibrate by"
    assert main(["train", "purchase", "--recalibrate"]) == 0
    registry = Project.load(tmp_path / "predseg.yaml").registry()
    first, second = registry.load("purchase", 1), registry.load("purchase", 2)
    assert second.facts["recalibrated"] == 1 and second.forecaster.calibration != first.forecaster.calibration
    texts = [[booster.model_to_string() for booster in bundle.forecaster.boosters] for bundle in (first, second)]
    assert texts[0] == texts[1] and len(registry.versions("purchase")) == 2
    (tmp_path / "predseg.yaml").write_text(small.CONFIG.replace("20 days", "25 days"))
    assert main(["train", "--recalibrate"]) == 5 and "E507" in capsys.readouterr().err
