"""Batch answers what the reference answers: every measure, every condition, at every boundary."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from predseg.evaluate import batch, reference
from tests.evaluate.worlds import SECOND, TICKS, World, random_condition, random_measure, random_world, to_block

MOMENTS = [t * SECOND for t in range(-1, TICKS + 4)]


def differences(world: World, measures: list[reference.Measure], known: int | None = None) -> list[str]:
    """Where batch and reference answer differently, in words."""
    found = []
    answers = batch.evaluate(world.block, MOMENTS, measures, known=known)
    for m, values in zip(measures, answers, strict=True):
        floats = values.to_float()
        for i, customer in enumerate(world.block.customers):
            for k, t in enumerate(MOMENTS):
                expected = reference.measure(m, world.events[customer], t, known=known).to_float()
                if not (expected == floats[i, k] or (np.isnan(expected) and np.isnan(floats[i, k]))):
                    found.append(f"{m} of {customer} at {t // SECOND}: reference {expected}, batch {floats[i, k]}, events {world.events[customer]}")
    return found


def condition_differences(world: World, condition: reference.c.Condition) -> list[str]:
    truth = batch.truth(world.block, MOMENTS, condition)
    assert not (truth.true & truth.unknown).any()
    found = []
    for i, customer in enumerate(world.block.customers):
        for k, t in enumerate(MOMENTS):
            expected = reference.decide(condition, world.events[customer], t)
            got = None if truth.unknown[i, k] else bool(truth.true[i, k])
            if expected is not got:
                found.append(f"{condition} of {customer} at {t // SECOND}: reference {expected}, batch {got}")
    return found


def test_measures_agree_with_the_reference() -> None:
    for seed in range(150):
        r = random.Random(seed)
        found = differences(random_world(r), [random_measure(r) for _ in range(6)])
        assert not found, f"seed {seed}: {found[0]}"


def test_labels_agree_with_the_reference() -> None:
    """Labels use everything received by the training's moment, whatever the cutoff."""
    for seed in range(40):
        r = random.Random(1_000 + seed)
        found = differences(random_world(r), [random_measure(r) for _ in range(4)], known=r.randrange(TICKS) * SECOND)
        assert not found, f"seed {seed}: {found[0]}"


def test_conditions_agree_with_the_reference() -> None:
    for seed in range(120):
        r = random.Random(2_000 + seed)
        found = condition_differences(random_world(r), random_condition(r))
        assert not found, f"seed {seed}: {found[0]}"


@given(st.integers(0, 2**32), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_order_of_events_changes_nothing(seed: int, shuffle: random.Random) -> None:
    r = random.Random(seed)
    world, measures = random_world(r), [random_measure(r) for _ in range(4)]
    shuffled = {k: shuffle.sample(v, len(v)) for k, v in world.events.items() if v}
    before, after = batch.evaluate(world.block, MOMENTS, measures), batch.evaluate(to_block(shuffled), MOMENTS, measures)
    for b, a in zip(before, after, strict=True):
        np.testing.assert_array_equal(b.to_float(), a.to_float())
