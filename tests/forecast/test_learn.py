"""The steps around the learning: who is sampled, what the champion is compared on, what the card says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from predseg import Project
from predseg.forecast import dataset, learn
from predseg.forecast.card import say_level
from predseg.language.time import DAY, parse_instant
from predseg.store import Store
from tests import small


def test_a_share_of_customers_is_decided_by_the_id_alone() -> None:
    ids = np.array([f"c{i}" for i in range(20_000)], dtype=object)
    chosen = dataset.sampled(ids, 0.3)
    assert 0.28 < chosen.mean() < 0.32
    again = np.random.default_rng(0).permutation(len(ids))
    assert (dataset.sampled(ids[again], 0.3) == chosen[again]).all()
    assert not (dataset.sampled(ids, 0.2) & ~chosen).any(), "a smaller share is part of a larger one"


def test_labels_are_what_came_true_after_the_cutoff(trained: Path, tmp_path: Path) -> None:
    project = Project.load(small.copied(trained, tmp_path))
    model, store = project.model("purchase"), Store(project.config.store)
    source = dataset.open_source(project.config, store)
    cutoffs, as_of = [parse_instant("2025-06-01"), parse_instant("2025-07-01")], parse_instant("2025-10-01")
    sample = dataset.labelled(source, model, cutoffs, as_of, 300)
    buys: dict[str, list[int]] = {}
    for line in small.rows():
        buys.setdefault(line.split(",")[0], []).append(parse_instant(line.split(",")[1]))
    for customer, cutoff, y in zip(sample.customer, sample.cutoff, sample.y, strict=True):
        assert y == any(cutoff < t <= cutoff + 20 * DAY for t in buys[customer])
    assert len(sample) == sum(min(times) <= cutoff for times in buys.values() for cutoff in cutoffs)


def test_beyond_memory_a_share_of_the_customers_is_learned_from(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project.load(small.copied(trained, tmp_path))
    source = dataset.open_source(project.config, Store(project.config.store))
    cutoff = [parse_instant("2025-06-01")]
    whole = dataset.labelled(source, project.model("purchase"), cutoff, cutoff[0] + 30 * DAY, 300)
    monkeypatch.setattr(dataset, "CELLS", 150 * len(source.features.names))
    part = dataset.labelled(source, project.model("purchase"), cutoff, cutoff[0] + 30 * DAY, 300)
    assert 0.35 * len(whole) < len(part) < 0.65 * len(whole) and set(part.customer) < set(whole.customer)


def test_the_champion_is_compared_fairly(trained: Path, tmp_path: Path) -> None:
    """On the same test when it had not learned from it; else its own forward test stands; another statement is no rival."""
    project = Project.load(small.copied(trained, tmp_path))
    again = project.train(dry_run=True)["purchase"]
    assert again.rival.how == "version 1 in its own forward test" and again.rival.measures is not None
    assert again.rival.measures["auc"] == pytest.approx(again.evaluation["model"]["auc"]) and again.decision.promoted
    file = small.write(tmp_path / "earlier")
    early = Project.load(file)
    early.train(as_of="2025-09-01")
    later = early.train(dry_run=True)["purchase"]
    assert later.rival.how == "version 1 on the same test" and later.rival.intervals is not None
    file.write_text(small.CONFIG.replace("20 days", "25 days"))
    assert Project.load(file).train(dry_run=True)["purchase"].rival.how == "version 1 predicts something else"


def test_a_champion_that_cannot_answer_keeps_no_version_out(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its own test of another time said: nothing could be scored until somebody forced the new version in."""
    file = small.copied(trained, tmp_path)
    file.write_text(small.CONFIG.replace("[14 days, 30 days, 90 days]", "[30 days]"))
    project = Project.load(file)
    found = project.train(dry_run=True)["purchase"]
    assert found.rival.silent and found.decision.earned, found.decision.reasons
    assert found.decision.reasons[0].startswith("version 1 cannot answer any more: the model needs ") and "90d" in found.decision.reasons[0]
    monkeypatch.setattr(learn, "_better", lambda evaluation: ["recency"])
    refused = project.train()["purchase"].decision
    assert not refused.promoted and "cannot answer any more" in refused.reasons[0] and refused.reasons[1:] == ("the baseline 'recency' does better",)
    assert project.registry().champion("purchase") == 1


@pytest.mark.parametrize(
    ("measures", "by", "better"),
    [
        ({"brier_skill": 0.1}, {"auc": (-0.1, 0.1), "brier": (-0.2, -0.1)}, []),
        ({"brier_skill": 0.1}, {"auc": (-0.2, -0.1)}, ["recency"]),
        ({"brier_skill": 0.0}, {"auc": (0.1, 0.2)}, ["base rate"]),
        ({"deviance_skill": 0.2}, {"gini": (-0.2, -0.01), "deviance": (0.1, 0.2)}, ["recency"]),
        ({"deviance_skill": float("nan")}, {"gini": (0.0, 0.1)}, ["base rate"]),
    ],
)
def test_what_does_better_than_a_model(measures: dict[str, float], by: dict[str, tuple[float, float]], better: list[str]) -> None:
    assert learn._better({"model": measures, "better": {"recency": by}}) == better


def test_what_is_not_known_of_the_level_is_said() -> None:
    facts = {"horizon": "30 days", "cutoffs": [{"rate": 0.9}, {"rate": 0.2}], "chosen": {"season": None, "wander": 0.5}}
    season, level = say_level(facts)
    assert season.startswith("No past moment lies a year before: whether the next 30 days are a season of their own is not known.")
    assert level == "From one horizon to the next the level moved so much that after 20% anything from 9% to 40% has to be expected."
    assert [*say_level(facts | {"chosen": {"season": 0.0, "wander": None}})] == [] == [*say_level(facts | {"chosen": {"season": 0.1}})]
    [level] = say_level(facts | {"cutoffs": [{"rate": 20.0}], "value": True, "chosen": {"season": 0.1, "wander": 0.5}})
    assert "after 20.00 anything from 7.51 to 53.29" in level


def test_a_run_carries_metrics_config_card_and_pictures(trained: Path) -> None:
    [run] = (trained / "store" / "mlruns").glob("*/artifacts")
    names = {p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file()}
    assert {
        "config.yaml",
        "card.md",
        "metrics.json",
        "facts.json",
        "pictures/gain.png",
        "pictures/calibration.png",
        "pictures/importance.png",
    } <= names
    assert all((run / name).read_bytes().startswith(b"\x89PNG") for name in names if name.endswith(".png"))
    card = (run / "card.md").read_text()
    assert card.startswith("# small: purchase") and "logistic RFM" in card and "| test |" in card
    assert "No past moment lies a year before" in card and "From one horizon to the next" in card
    assert Project.load(trained / "predseg.yaml").models()["purchase"][0].metrics["test/auc"] > 0.6
