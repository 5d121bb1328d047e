"""The live executor says, event by event and by the clock alone, what the reference says of the whole history."""

from __future__ import annotations

import random
from decimal import Decimal
from functools import cache
from typing import Any

import pytest

from predseg.evaluate import live, program
from predseg.language.time import DAY, HOUR
from tests.evaluate.live_logs import World, applied, arrivals, differences, engine_of, forgetting, random_world, told
from tests.evaluate.planted_live import BUGS, EQUIVALENT, Executor, planted
from tests.evaluate.stories import rule
from tests.evaluate.worlds import LONG, SEED
from tests.planting import Bug

WORLDS = 4_000 if LONG else 120


@pytest.mark.parametrize("part", range(4))
def test_the_log_is_that_of_the_reference(part: int) -> None:
    for seed in range(SEED + part, SEED + WORLDS, 4):
        assert not differences(random_world(seed)), f"seed {seed}"


@pytest.mark.parametrize("part", range(4))
def test_after_corrections_the_log_is_that_of_the_sorted_stream(part: int) -> None:
    corrected = 0
    for seed in range(SEED + part, SEED + WORLDS, 4):
        world = random_world(seed)
        assert not differences(world, disorder=random.Random(seed)), f"seed {seed}"
        corrected += len(world.expected)
    assert corrected


@pytest.mark.parametrize("part", range(4))
def test_joined_identities(part: int) -> None:
    for seed in range(SEED + part, SEED + WORLDS, 4):
        assert not differences(random_world(seed, linked=True)), f"seed {seed}"


def test_joined_identities_that_become_known_late() -> None:
    for seed in range(SEED, SEED + WORLDS):
        assert not differences(random_world(seed, linked=True), disorder=random.Random(seed)), f"seed {seed}"


@pytest.mark.parametrize("part", range(4))
def test_what_no_rule_can_see_is_forgotten(part: int) -> None:
    for seed in range(SEED + part, SEED + 2 * WORLDS, 4):
        assert not forgetting(random_world(seed, customers=3)), f"seed {seed}"


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_found(bug: Bug) -> None:
    assert found_by(planted(bug)), f"nobody noticed: {bug.name}"


@pytest.mark.parametrize("bug", EQUIVALENT, ids=lambda bug: bug.name)
def test_an_equivalent_change_is_no_bug(bug: Bug) -> None:
    assert bug.equivalent and not found_by(planted(bug), 40)


@cache
def worlds() -> tuple[World, ...]:
    return tuple(random_world(seed, linked=seed % 2 == 1) for seed in range(200))


def found_by(executor: Executor, most: int = 200) -> str | None:
    """How an executor gives itself away; None when it does not."""
    for world in worlds()[:most]:
        for what, differ in (("log", differences), ("corrections", disordered), ("forgetting", forgetting)):
            try:
                if differ(world, executor.live, executor.program):
                    return f"seed {world.seed}: {what}"
            except Exception as error:
                return f"seed {world.seed}: {type(error).__name__}: {error}"
    return next((name for name, story, told_ in STORIES if story(executor) != told_), None)


def disordered(world: World, module: Any, compiler: Any) -> Any:
    return differences(world, module, compiler, random.Random(world.seed))


def test_any_order_and_repetition_ends_in_the_same_log() -> None:
    for seed in range(SEED, SEED + WORLDS // 2):
        world, r = random_world(seed, linked=True), random.Random(seed)
        rows = arrivals(world)
        r.shuffle(rows)
        assert applied(told(engine_of(world), rows, world.end)) == world.expected, f"seed {seed}"


def test_an_absence_after_a_step_comes_true_by_the_clock_alone() -> None:
    """A at 0 h, B at 1 h, then no C within 5 hours of B: true from 6 h on, until A leaves the window at 24 h."""
    match = rule("{did: A, within: 24 hours, then: {did: B, within: 2 hours, then: {did_not: C, within: 5 hours}}}")
    engine = live.Engine(program.Program([program.Rule("waits", match)]), NoFacts())
    engine.add("ann", None, 0, 0, "A", {})
    engine.add("ann", None, HOUR, HOUR, "B", {})
    assert [(c.change, c.at) for c in engine.advance(30 * HOUR)] == [("entered", 6 * HOUR), ("left", 24 * HOUR)]


def test_nobody_wakes_for_what_cannot_change() -> None:
    """Of many views only the last decides when `did` ends, so only it has a timer."""
    engine = live.Engine(program.Program([program.Rule("looked", rule("{did: A, within: 24 hours}"))]), NoFacts())
    for hour in range(10):
        engine.advance(hour * HOUR - 1)
        engine.add("ann", None, hour * HOUR, hour * HOUR, "A", {})
    engine.advance(9 * HOUR)
    assert engine.next_instant == 24 * HOUR and engine.advance(32 * HOUR) == [] and engine.next_instant == 33 * HOUR
    assert [(c.change, c.at) for c in engine.advance(33 * HOUR)] == [("left", 33 * HOUR)]


def test_what_comes_too_late_to_be_corrected_is_known() -> None:
    engine = live.Engine(program.Program([program.Rule("looked", rule("{did: A}"))]), NoFacts(), clock=100 * DAY)
    assert engine.too_late(69 * DAY) and not engine.too_late(70 * DAY)


SUMMED_UP = [("bought", "entered", 0), ("looked", "entered", 100 * DAY - 1), ("bought", "members", 1), ("looked", "members", 1)]


def summed_up(executor: Executor) -> list[tuple[str, str, int]]:
    """A at 0, long ago and summed up; a B that comes late has the customer evaluated anew."""
    rules = [executor.program.Rule("bought", rule("{did: A}")), executor.program.Rule("looked", rule("{did: B}"))]
    engine = executor.live.Engine(executor.program.Program(rules), NoFacts())
    engine.add("ann", None, 0, 0, "A", {})
    said = engine.advance(100 * DAY)
    engine.prune()
    said += engine.add("ann", None, 100 * DAY - 1, 100 * DAY - 1, "B", {})
    found = [(change.segment, change.change, change.at) for change in (*said, *engine.advance(200 * DAY))]
    return found + [(segment, "members", len(engine.members(segment))) for segment in ("bought", "looked")]


def test_what_is_summed_up_still_counts_after_a_correction() -> None:
    assert summed_up(Executor(live, program)) == SUMMED_UP


def kinds(executor: Executor) -> list[str]:
    """A text, a number and a flag that look alike are three values, and none is tied to another."""
    rules = [
        executor.program.Rule("three", rule("{did: A, distinct: code, exactly: 3}")),
        executor.program.Rule("tied", rule("{did: A, then: {did: B, same: code}}")),
        executor.program.Rule("nothing", rule("{did: A, where: {code: [true, '1']}, sum: code, exactly: 0}")),
    ]
    engine = executor.live.Engine(executor.program.Program(rules), NoFacts())
    for t, (name, code) in enumerate([("A", "1"), ("A", Decimal(1)), ("A", True), ("B", "True"), ("B", Decimal(2))]):
        engine.add("ann", None, t, t, name, {"code": code})
    return [change.segment for change in engine.advance(10)]


def test_a_text_a_number_and_a_flag_are_three_values() -> None:
    assert kinds(Executor(live, program)) == ["nothing", "three"]


STORIES: tuple[tuple[str, Any, list[Any]], ...] = (("summed up", summed_up, SUMMED_UP), ("kinds", kinds, ["nothing", "three"]))


class NoFacts:
    """Nothing is known beside events."""

    def truth(self, condition: Any, customer_id: str, t: int) -> bool | None:
        return None

    def next_change(self, condition: Any, customer_id: str, t: int) -> int | None:
        return None

    def known_since(self, customer_id: str) -> int | None:
        return None
