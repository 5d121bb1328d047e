"""Exact instants of change: the vectorised way finds what walking through every tick with the reference finds."""

from __future__ import annotations

import random

from predseg.evaluate import moments, reference, timeline
from tests.evaluate.worlds import SECOND, TICKS, random_condition, random_world

END = (TICKS + 30) * SECOND


def walked(condition: reference.c.Condition, events: list[reference.Event], after: int) -> list[tuple[int, bool]]:
    """Every tick looked at, so nothing is missed."""
    first = min(e.visible for e in events)
    member = after >= first and reference.decide(condition, events, after) is True
    found = []
    for t in range(after + SECOND, END + 1, SECOND):
        now = t >= first and reference.decide(condition, events, t) is True
        if now != member:
            found.append((t, now))
        member = now
    return found


def test_transitions_are_those_of_every_tick() -> None:
    compared = 0
    for seed in range(120):
        r = random.Random(seed)
        world, condition = random_world(r), random_condition(r)
        after = r.choice([-5, 3, 8]) * SECOND
        customer, t, member = moments.transitions(world.block, condition, after, END)
        for i, name in enumerate(world.block.customers):
            batch = [(int(x), bool(m)) for k, x, m in zip(customer, t, member, strict=True) if k == i]
            expected = walked(condition, world.events[name], after)
            assert batch == expected, f"seed {seed}, {condition}, {name}: batch {batch}, every tick {expected}"
            assert timeline.transitions(condition, world.events[name], after=after, until=END) == expected, f"seed {seed}: reference"
            compared += 1
    assert compared > 300
