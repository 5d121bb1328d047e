"""Whatever is said to follow, follows: on random worlds the implied rule is true wherever the implying one is."""

from __future__ import annotations

import random
from dataclasses import replace

from predseg.evaluate.reference import decide
from predseg.language import conditions as c
from predseg.language.logic import implies, same
from predseg.language.measures import Window
from tests.evaluate.worlds import SECOND, TICKS, random_comparison, random_condition, random_events, random_window, random_world


def variant(r: random.Random, condition: c.Condition) -> c.Condition:
    """A rule close to another, so that something follows often."""
    if isinstance(condition, c.Did):
        choice = r.randrange(5)
        measure = condition.measure
        if choice == 0:
            return c.Did(replace(measure, window=random_window(r)), condition.comparison)
        if choice == 1:
            return c.Did(replace(measure, events=random_events(r)), condition.comparison)
        if choice == 2:
            return c.Did(measure, random_comparison(r))
        return c.Did(
            replace(measure, window=Window(measure.window.start and measure.window.start + SECOND, measure.window.until)), condition.comparison
        )
    assert isinstance(condition, c.LAYERS)
    parts = [variant(r, p) if r.random() < 0.5 else p for p in condition.of]
    if r.random() < 0.3:
        return r.choice([c.All, c.Any, c.NoneOf])(tuple(parts))
    return replace(condition, of=tuple(parts))


def test_what_is_said_to_follow_follows() -> None:
    followed = compared = 0
    for seed in range(4_000):
        r = random.Random(seed)
        a = random_condition(r, 1)
        b = variant(r, a)
        if not implies(a, b) or a == b:
            continue
        followed += 1
        world = random_world(r, customers=3)
        for events in world.events.values():
            for t in range(-1, TICKS + 8):
                if decide(a, events, t * SECOND) is True:
                    compared += 1
                    assert decide(b, events, t * SECOND) is True, f"seed {seed}: {a} said to imply {b}, not at {t} for {events}"
    assert followed > 150 and compared > 1_000, (followed, compared)


def test_equal_rules_are_the_same() -> None:
    a = random_condition(random.Random(1))
    assert same(c.All((a, a)), a) and same(c.Any((a,)), a)
