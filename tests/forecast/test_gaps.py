"""What gaps say, beside a naive answer from the list of instants of one customer."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from predseg.config import parse
from predseg.evaluate.reference import Event
from predseg.forecast.features import block_frame, compile_features
from predseg.forecast.gaps import Gaps, answer, gaps_of
from predseg.forecast.reasons import declare, say_feature
from predseg.language.measures import Events
from predseg.language.time import DAY
from tests.evaluate.worlds import MOMENTS, SECOND, random_events_of_customers, seeded, to_block

ASKED = gaps_of(Events(("A",)), [3 * SECOND, 8 * SECOND])
DECLARED = gaps_of(Events(("A",)), [3 * 60 * SECOND, 8 * 60 * SECOND])


def naive(history: list[Event], t: int, asked: list[Gaps] = ASKED) -> dict[str, float]:
    """The answers for one customer, one gap at a time."""
    times = sorted({e.time for e in history if e.name == "A" and e.visible <= t})
    gaps = [b - a for a, b in zip(times, times[1:], strict=False)]
    found = dict.fromkeys((g.name for g in asked), math.nan)
    if not times:
        return found
    quiet = t - times[-1]
    longer = [g for g in gaps if g > quiet]
    for due in asked:
        if due.kind == "due":
            found[due.name] = (sum(g <= quiet + due.horizon for g in longer) + 0.5) / (len(longer) + 1)
    if gaps:
        logs = np.array([math.log1p(g / DAY) for g in gaps])
        found["longer_gaps_a"] = len(longer) / len(gaps)
        found["gap_typical_a"] = float(logs.mean())
        found["gap_spread_a"] = float(logs.std()) if len(gaps) > 1 else math.nan
        found["lateness_a"] = math.log1p(quiet / DAY) - float(logs.mean())
    return found


def test_they_are_what_the_list_of_instants_says() -> None:
    """With late events, several at one instant, and customers without any."""
    compared = 0
    for seed in range(40):
        histories = random_events_of_customers(seeded(seed), customers=5)
        block = to_block(histories)
        found = answer(block, MOMENTS, ASKED)
        for i, customer in enumerate(block.customers):
            for j, t in enumerate(MOMENTS):
                expected = naive(histories[str(customer)], t)
                for one, value in zip(ASKED, found[:, i, j], strict=True):
                    assert value == pytest.approx(expected[one.name], rel=1e-6, abs=1e-9, nan_ok=True), f"seed {seed}, {customer}, {t}, {one.name}"
                    compared += not math.isnan(value)
    assert compared > 3_000


def test_who_comes_every_week_is_due_on_the_seventh_day() -> None:
    weekly = [Event(i * 7 * DAY, "A", {}) for i in range(10)]
    due, longer = (next(g for g in gaps_of(Events(("A",)), [2 * DAY]) if g.kind == kind) for kind in ("due", "longer"))
    found = answer(to_block({"ann": weekly}), [63 * DAY + d * DAY for d in (1, 4, 6, 8)], [due, longer])[:, 0]
    assert found.round(2).tolist() == [[0.05, 0.05, 0.95, 0.5], [1.0, 1.0, 1.0, 0.0]]


PROJECT = """
project: p
features: {windows: [3 minutes], events: {A: {}, B: {}}}
models:
  soon: {predict: {did: A, within_next: 3 minutes}}
  later: {predict: {did_not: A, within_next: 8 minutes}}
  either: {predict: {did: [A, B], within_next: 8 minutes}}
"""


def test_a_project_gets_them_for_the_events_that_it_predicts() -> None:
    config = parse(PROJECT, Path("p.yaml"))
    features = compile_features(config.features, config.models.values())
    years = [f"count_a_year_before_{h}{wide}" for h in ("3m", "8m") for wide in ("", "_wide")]
    assert [n for n in features.names if n not in compile_features(config.features).names] == [*(g.name for g in DECLARED), *years]
    histories = random_events_of_customers(seeded(3), customers=8)
    frame = block_frame(to_block(histories), [MOMENTS[-1]], features).set_index("customer_id")
    for customer, history in histories.items():
        expected = naive(history, MOMENTS[-1], DECLARED)
        assert frame.loc[customer, list(expected)].to_numpy(float) == pytest.approx(list(expected.values()), rel=1e-6, nan_ok=True)
    assert "lateness_b" not in features.names, "b alone is asked by no model"


@pytest.mark.parametrize(
    ("name", "value", "phrase"),
    [
        ("due_a_3m", 0.75, "75% of the longer gaps between A that had ended 3 minutes later"),
        ("due_a_3m", None, "no A"),
        ("longer_gaps_a", None, "no second A yet"),
        ("gap_typical_a", math.log1p(7), "a typical gap of 7 days between A"),
        ("lateness_a", math.log(3), "last A 3 times the typical gap ago"),
    ],
)
def test_how_they_read(name: str, value: float | None, phrase: str) -> None:
    config = parse(PROJECT, Path("p.yaml"))
    assert say_feature(name, value, declare(compile_features(config.features, config.models.values())))[0] == phrase


def test_the_same_season_a_year_ago_is_seen_from_the_moment() -> None:
    project = "project: p\nfeatures: {windows: [30 days], events: {A: {}}}\nmodels: {m: {predict: {did: A, within_next: 30 days}}}"
    config = parse(project, Path("p.yaml"))
    features = compile_features(config.features, config.models.values())
    block = to_block({"ann": [Event(day * DAY, "A", {}) for day in (20, 36, 40, 65, 70, 85)]})
    row = block_frame(block, [400 * DAY], features).iloc[0]
    assert (row["count_a_year_before_30d"], row["count_a_year_before_30d_wide"]) == (3, 4), "(35, 65], and (20, 80]"
