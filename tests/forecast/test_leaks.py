from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from predseg.config import EventFeatures, Features
from predseg.errors import GateError
from predseg.evaluate.block import Block, Numbers
from predseg.forecast import leaks
from predseg.forecast.features import FeatureSet, block_features, compile_features
from predseg.language.time import DAY

FEATURES = compile_features(Features((7 * DAY, 30 * DAY), (("buy", EventFeatures("value")),)))


def block(customers: int = 30, rows: int = 20, seed: int = 1) -> Block:
    r = np.random.default_rng(seed)
    n = customers * rows
    time = np.sort(r.integers(0, 100 * DAY, size=(customers, rows)), axis=1).ravel()
    received = time + np.where(r.random(n) < 0.2, r.integers(0, 9 * DAY, n), 0)
    names = pa.array([f"c{i:03d}" for i in range(customers)])
    value = Numbers(r.integers(1, 10**6, n), np.ones(n, bool))
    return Block(names, np.arange(customers + 1) * rows, time, received, r.integers(0, 2, n).astype(np.int32), ("buy", "look"), {"value": value})


def test_the_features_of_predseg_do_not_see_the_future() -> None:
    assert leaks.future_leaks(block(), [20 * DAY, 50 * DAY, 99 * DAY], FEATURES) == []


@pytest.mark.parametrize("seed", range(5))
def test_appended_events_are_unknown_at_the_moment_and_histories_stay_sorted(seed: int) -> None:
    before = block(seed=seed)
    after = leaks.with_future(before, 50 * DAY, seed)
    added = len(after.time) - len(before.time)
    assert added == 60
    assert (np.maximum(after.time, after.received) > 50 * DAY).sum() == added + (np.maximum(before.time, before.received) > 50 * DAY).sum()
    assert 0 < (after.time <= 50 * DAY).sum() - (before.time <= 50 * DAY).sum() < added
    for i in range(len(after.customers)):
        assert (np.diff(after.time[after.offsets[i] : after.offsets[i + 1]]) >= 0).all()


@pytest.mark.parametrize(("window_end", "reads_received"), [(1, True), (0, False)])
def test_planted_leaks_are_found(monkeypatch: pytest.MonkeyPatch, window_end: int, reads_received: bool) -> None:
    """A window that reaches a day too far, and features that ignore when an event was received."""

    def leaky(found: Block, as_of: list[int], features: FeatureSet) -> tuple[np.ndarray, np.ndarray]:
        found = found if reads_received else replace(found, received=found.time)
        return block_features(found, [t + window_end * DAY for t in as_of], features)

    monkeypatch.setattr(leaks, "block_features", leaky)
    found = {leak.name for leak in leaks.future_leaks(block(), [50 * DAY], FEATURES)}
    assert "count_buy" in found


def test_block_features_is_what_the_detector_calls() -> None:
    assert leaks.block_features is block_features


def test_a_feature_that_is_the_answer_is_flagged_and_a_clue_is_not() -> None:
    r = np.random.default_rng(0)
    label = r.integers(0, 2, 2000)
    frame = pd.DataFrame(
        {"answer": label * 2.0 + r.random(2000), "against": -label * 2.0, "clue": label + r.normal(0, 1, 2000), "gone": np.where(label, np.nan, 1.0)}
    )
    assert [leak.name for leak in leaks.single_feature_leaks(frame, label, list(frame))] == ["answer", "against", "gone"]


def test_separation_is_the_auc() -> None:
    from sklearn.metrics import roc_auc_score

    r = np.random.default_rng(3)
    for _ in range(20):
        label, values = r.integers(0, 2, 50), r.integers(0, 6, 50).astype(float)
        area = roc_auc_score(label, values)
        assert leaks.separation(values, label) == pytest.approx(max(area, 1 - area), abs=1e-12)


def test_the_same_customer_moment_in_training_and_test_is_flagged() -> None:
    train = pd.DataFrame({"customer_id": ["a", "b"], "as_of": [10 * DAY, 20 * DAY]})
    test = pd.DataFrame({"customer_id": ["a", "b"], "as_of": [50 * DAY, 20 * DAY]})
    assert [leak.name for leak in leaks.overlap_leaks(train, test, 5 * DAY)] == [leaks.OVERLAP]
    assert leaks.overlap_leaks(train, test[:1], 5 * DAY) == []


def test_training_labels_that_reach_into_the_test_are_flagged() -> None:
    train = pd.DataFrame({"customer_id": ["a"], "as_of": [10 * DAY]})
    test = pd.DataFrame({"customer_id": ["a"], "as_of": [15 * DAY]})
    assert leaks.overlap_leaks(train, test, 5 * DAY) == []
    assert "reach into" in leaks.overlap_leaks(train, test, 5 * DAY + 1)[0].reason


def test_findings_stop_unless_allowed_by_name() -> None:
    found = [leaks.Leak("answer", "is too good"), leaks.Leak("other", "changes")]
    with pytest.raises(GateError) as refusal:
        leaks.judge("churn", found, ["answer"])
    assert refusal.value.exit_code == 6 and "other changes" in refusal.value.message and "answer" not in refusal.value.message
    assert [leak.allowed for leak in leaks.judge("churn", found, ["answer", "other"])] == [True, True]
