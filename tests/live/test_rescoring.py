"""Live scores: what batch would score at that moment, bit for bit, and one of the publications that rules see."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from predseg.errors import ModelError
from predseg.evaluate.program import Change
from predseg.language import conditions as c
from predseg.language.time import HOUR, SECOND, parse_instant
from predseg.live import rescoring
from predseg.live.checking import compare
from predseg.live.loop import Loop
from predseg.live.opening import open_durable, refresh
from predseg.live.published import Published
from predseg.project import Project
from predseg.segments.live_scores import LiveScores
from predseg.segments.publications import random_publications
from predseg.segments.worlds import SMALL, random_condition, random_histories
from tests.evaluate.worlds import SEED
from tests.small import CONFIG, copied

NOW = parse_instant("2025-11-01T00:00:00Z")
RULES = """
segment: buyers
refresh: live
match: {score: purchase, more_than: 0.3}
---
segment: best
refresh: live
match: {score: purchase, top: 20%}
---
segment: waking
refresh: live
match: {score: purchase, rises: 0.05, within: 7 days}
"""
ON = CONFIG.replace("cutoffs: 4", "cutoffs: 4, refresh: live, among: {did: Order Completed, within: 250 days}")


def project_of(trained: Path, folder: Path, text: str = ON) -> Project:
    file = copied(trained, folder)
    file.write_text(f"{text}segments: rules.yaml\n", "utf-8")
    (folder / "rules.yaml").write_text(RULES, "utf-8")
    return Project.load(file)


@pytest.fixture
def project(trained: Path, tmp_path: Path) -> Project:
    return project_of(trained, tmp_path)


def opened(project: Project, now: int = NOW, **options: Any) -> Loop:
    return open_durable(project.config, project.segments(), now, **options)


def order(who: str, at: int, **more: Any) -> dict[str, Any]:
    return {"customer_id": who, "event": "Order Completed", "event_time": at, "value": 25.5, **more}


def scores(loop: Loop) -> dict[str, float | None]:
    assert loop.state is not None
    return {row.customer_id: row.probability for row in loop.state.scores()}


def batch(project: Project, at: int) -> dict[str, float]:
    project.check()  # what came live is handed over; the run itself publishes nothing
    found = project.score(as_of=at, dry_run=True)
    return dict(zip(found["customer_id"], found["probability"], strict=True))


def stream() -> list[dict[str, Any]]:
    """Orders of old, of new and of unknown customers, late ones, one without an id twice, and a visitor who signs in."""
    rows = [order(f"c{i:04d}", NOW + i * SECOND, event_id=f"e{i}") for i in range(0, 300, 12)]
    rows += [order("new", NOW + HOUR), order("new", NOW + HOUR), order("c0007", NOW - 40 * HOUR, value=900)]
    rows += [{**order("", NOW + HOUR), "customer_id": None, "anonymous_id": "visitor"}]
    return [*rows, {"customer_id": "c0012", "anonymous_id": "visitor", "event": "Signed In", "event_time": NOW + 2 * HOUR}]


def test_a_live_score_is_what_batch_scores_at_that_moment(project: Project) -> None:
    loop = opened(project)
    loop.feed(stream(), NOW + 3 * HOUR)
    assert scores(loop) == {} and loop.next_due == NOW + 3 * HOUR + 1
    loop.tick(NOW + 3 * HOUR + SECOND)
    found, wanted = scores(loop), batch(project, NOW + 3 * HOUR + 1)
    assert set(found) >= {"new", "c0000", "c0007", "c0012"} and "visitor" not in found
    assert found == {who: wanted[who] for who in found}
    assert set(found.values()) != {wanted["new"]}


def test_after_an_ingest_every_event_counts_once(project: Project) -> None:
    """The events table has what came live by then; an order that comes after it is scored on top of that."""
    loop = opened(project)
    loop.feed(stream(), NOW + 3 * HOUR)
    project.check()
    loop.feed([order("new", NOW + 4 * HOUR), order("c0012", NOW + 4 * HOUR)], NOW + 4 * HOUR)
    loop.tick(NOW + 5 * HOUR)
    found, wanted = scores(loop), batch(project, NOW + 4 * HOUR + 1)
    assert {who: found[who] for who in ("new", "c0012")} == {who: wanted[who] for who in ("new", "c0012")}


def test_who_is_not_eligible_is_unknown(project: Project) -> None:
    """A sign-in alone does not make a customer that the model asks about; batch leaves it out."""
    loop = opened(project)
    loop.feed([{"customer_id": "guest", "event": "Signed In", "event_time": NOW}], NOW)
    loop.tick(NOW + SECOND)
    assert scores(loop) == {"guest": None} and "guest" not in batch(project, NOW + 1)


def test_off_by_default(trained: Path, tmp_path: Path) -> None:
    loop = opened(project_of(trained, tmp_path, CONFIG))
    loop.feed(stream(), NOW + 3 * HOUR)
    loop.tick(NOW + 3 * HOUR + SECOND)
    assert loop.rescore is None and scores(loop) == {} and not loop.state.owed()  # type: ignore[union-attr]


def test_without_a_champion_nothing_is_scored(project: Project) -> None:
    assert open_durable(project.config, replace(project.segments(), champion=lambda model: None), NOW).rescore is None


def test_features_that_are_no_longer_those_of_the_model_are_refused_at_the_start(trained: Path, tmp_path: Path) -> None:
    changed = project_of(trained, tmp_path, ON.replace("90 days]", "91 days]"))
    with pytest.raises(ModelError, match="E710"):
        opened(changed)


def test_what_cannot_be_scored_does_not_keep_events_out(project: Project) -> None:
    loop = opened(project)
    loop.rescore = fails
    assert loop.feed([order("new", NOW)], NOW).verdicts[0].kind == "accepted"
    loop.tick(NOW + SECOND)
    assert loop.unscored == {"gone": 1} and loop.next_due != NOW + 1 and not loop.state.owed()  # type: ignore[union-attr]


def fails(customers: Any, at: int) -> Any:
    raise FileNotFoundError("gone")


def test_rules_see_a_live_score_but_ranks_stay(project: Project) -> None:
    """Nobody bought for weeks; who buys every day now enters by the probability, and by its rise, but not by a rank that was not taken anew."""
    loop, changes = opened(project), []
    for day in range(1, 6):
        at = NOW + day * 24 * HOUR
        changes += loop.feed([order("new", at)], at).changes + loop.tick(at + SECOND)
    assert Change("entered", "buyers", "new", changes[0].at, changes[0].definition, False, 1) == changes[0]
    assert "best" not in {change.segment for change in changes} and scores(loop)["new"] > 0.3  # type: ignore[operator]
    loop.close()
    found = compare(project.config, project.segments())
    assert found.equal and {one.segment: one.members for one in found.segments}["buyers"] > 0, found


def test_a_scoring_run_speaks_again_for_all(project: Project) -> None:
    loop = opened(project)
    loop.feed([order("c0000", NOW, event_id="e1")], NOW)
    loop.tick(NOW + SECOND)
    project.score(as_of=NOW + HOUR)
    assert refresh(loop, project.segments(), NOW + 2 * HOUR)
    loop.tick(NOW + 2 * HOUR + SECOND)
    loop.close()
    assert compare(project.config, project.segments()).equal


def test_a_restart_keeps_it_and_owes_what_was_not_done(project: Project) -> None:
    loop = opened(project)
    loop.feed([order("new", NOW)], NOW)
    loop.close()
    loop = opened(project, NOW + HOUR)
    assert scores(loop) == {} and loop.next_due == NOW + 1
    loop.tick(NOW + HOUR)
    before = scores(loop)
    assert before == {"new": batch(project, NOW + 1)["new"]}
    loop.close()
    loop = opened(project, NOW + 2 * HOUR)
    assert scores(loop) == before and loop.next_due != NOW + 1 and not loop.state.owed()  # type: ignore[union-attr]
    own = loop.published.facts.rescored.last("purchase", "new", NOW + 1)
    assert own == (NOW + 1, before["new"])


def test_who_opted_out_of_profiling_is_not_scored(project: Project) -> None:
    workspace = replace(project.segments(), opted_out=lambda purpose: {"c0000"} if purpose == "profiling" else set())
    loop = open_durable(project.config, workspace, NOW)
    loop.feed([order("c0000", NOW), order("c0012", NOW)], NOW)
    loop.tick(NOW + SECOND)
    assert scores(loop)["c0000"] is None and scores(loop)["c0012"] is not None


def twice(rows: Callable[..., Any]) -> Callable[..., Any]:
    return lambda events: list(events)


@pytest.mark.parametrize("change", [("_once", twice), ("_joined", lambda f: lambda table, owner: table.drop_columns("anonymous_id"))])
def test_a_planted_error_is_found(project: Project, change: tuple[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that are counted twice, or the past of a visitor that is lost, give another score than batch."""
    monkeypatch.setattr(rescoring, change[0], change[1](getattr(rescoring, change[0])))
    loop = opened(project)
    loop.feed([row for row in stream() if row["event"] != "Signed In"], NOW + 3 * HOUR)
    project.check()
    loop.feed([order("new", NOW + 4 * HOUR), *stream()[-1:]], NOW + 4 * HOUR)
    loop.tick(NOW + 5 * HOUR)
    found, wanted = scores(loop), batch(project, NOW + 4 * HOUR + 1)
    assert {who: found[who] for who in ("new", "c0012")} != {who: wanted[who] for who in ("new", "c0012")}


# the facts that live asks for, one customer at a time, beside the reference


def disagreements(worlds: int) -> list[str]:
    found = []
    for seed in range(SEED, SEED + worlds):
        r = random.Random(f"published {seed}")
        condition = random_condition(r, SMALL)
        histories = random_histories(r, SMALL, 6)
        wanted = random_publications(r, SMALL, condition, histories)
        published = Published(wanted.facts())
        for part in c.walk(condition):
            for who in histories if isinstance(part, c.Score) else ():
                for t in range(-SECOND, 24 * SECOND, SECOND):
                    truth, due = wanted.truth(who, part, t), published.next_change(part, who, t)
                    changes = [i for i in wanted.instants(part, who) if i > t and wanted.truth(who, part, i) is not truth]
                    if published.truth(part, who, t) is not truth or (changes and (due is None or due > min(changes))):
                        found.append(f"seed {seed}: {part} of {who} at {t}")
    return found


def test_what_is_published_is_that_of_the_reference() -> None:
    assert not disagreements(60)


@pytest.mark.parametrize("change", [("last", lambda f: lambda *a, **k: None), ("instants", lambda f: lambda *a: [])])
def test_a_planted_error_of_the_published_is_found(change: tuple[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LiveScores, change[0], change[1](getattr(LiveScores, change[0])))
    assert disagreements(60)


def test_live_scores_that_no_rule_can_ask_about_are_forgotten(tmp_path: Path) -> None:
    from contextlib import closing

    from predseg.live.loop import SCORES_KEPT
    from predseg.live.state import State, connect
    from predseg.segments.live_scores import LiveScore, LiveScores

    rows = [LiveScore("churn", who, at, 0.5, 1) for at in (10, 20, 30, 40) for who in ("a", "b")] + [LiveScore("churn", "c", 5, 0.1, 1)]
    kept = LiveScores.of(rows)
    with closing(connect(tmp_path / "live.db")) as connection:
        state = State(connection)
        state.score(rows)
        before = state.scored
        assert state.forget_scores(30) == 4 and state.forget_scores(30) == 0
        assert sorted(row[1:3] for row in state.scores()) == [("a", 30), ("a", 40), ("b", 30), ("b", 40), ("c", 5)], "what is in force at 30 stays"
        state.score([LiveScore("churn", "d", 50, 0.2, 1)])
        assert state.scored == before + 1, "a number is never given again"
    kept.forget(30)
    for who, t in ((who, t) for who in ("a", "b", "c") for t in range(30, 60, 5)):
        assert kept.last("churn", who, t) == LiveScores.of(rows).last("churn", who, t)
    assert kept.last("churn", "a", 25) is None and SCORES_KEPT > 10**12
