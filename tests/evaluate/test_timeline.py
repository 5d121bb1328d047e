"""A condition is constant between the few instants that are looked at."""

from __future__ import annotations

import pytest

from predseg.evaluate.reference import decide
from predseg.evaluate.timeline import instants, next_instant, offsets, transitions
from predseg.language.time import DAY, HOUR, parse_instant
from tests.evaluate.stories import parse_events, rule
from tests.evaluate.worlds import SECOND, TICKS, random_condition, random_events_of_customers, seeded

CART = "2026-03-01 10:00  Product Added\n2026-03-01 12:00  Product Added"
ABANDONED = "{did: Product Added, within: 3 days, then: {did_not: [Order Completed, Product Added], within: 24 hours}}"


def test_offsets_are_the_ends_of_windows_and_the_times_of_steps() -> None:
    assert offsets(rule(ABANDONED)) == {3 * DAY, DAY}
    assert offsets(rule("{all: [{did: A, from: 5 days ago, until: 1 day ago}, {none: [{did_not: B, since: 2026-01-01}]}]}")) == {5 * DAY, DAY}
    assert offsets(rule("{did: A, then: {did: B, within: 1 hour, then: {did_not: C, within: 2 hours}}}")) == {HOUR, 2 * HOUR}
    assert offsets(rule("{in: vip}")) == set()


def test_between_two_instants_nothing_changes() -> None:
    """Looked at every half tick: whatever changes, changes at one of them, window ends and refunds leaving included."""
    changed = 0
    for seed in range(60):
        r = seeded(seed)
        condition, histories = random_condition(r), random_events_of_customers(r)
        for history in histories.values():
            expected = set(instants(condition, history))
            before = decide(condition, history, -10 * SECOND)
            for half in range(-19, 2 * (TICKS + 20)):
                now = decide(condition, history, half * SECOND // 2)
                assert now is before or half * SECOND // 2 in expected, f"seed {seed}: {condition} changes at {half / 2}"
                changed += now is not before
                before = now
    assert changed > 100


def test_the_worked_example_is_entered_and_left_at_exact_instants() -> None:
    found = transitions(rule(ABANDONED), parse_events(CART))
    assert found == [(parse_instant("2026-03-02 12:00"), True), (parse_instant("2026-03-04 12:00"), False)]


@pytest.mark.parametrize(
    ("after", "until", "found"),
    [
        ("2026-03-01", "2026-03-02 12:00", [True]),
        ("2026-03-02 12:00", "2026-03-05", [False]),  # a member at the start, so nothing is entered
        ("2026-03-02 11:59", "2026-03-04 11:59", [True]),
        ("2026-03-05", "2026-04-01", []),
    ],
)
def test_a_stretch_of_time_is_half_open(after: str, until: str, found: list[bool]) -> None:
    changes = transitions(rule(ABANDONED), parse_events(CART), after=parse_instant(after), until=parse_instant(until))
    assert [member for _, member in changes] == found


def test_nobody_is_a_member_before_being_known() -> None:
    """`did_not` is true of every empty history, but of nobody before the first event is visible."""
    late = parse_events("2026-03-01  A  received 2026-03-05")
    assert transitions(rule("{did_not: B}"), late) == [(parse_instant("2026-03-05"), True)]
    assert transitions(rule("{did_not: B}"), []) == []


def test_the_next_instant_is_a_lower_bound_of_the_next_change() -> None:
    """A refund leaving its window raises the sum: also that is foreseen."""
    condition = rule("{did: [Order, Refund], sum: value, at_least: 100, within: 5 days}")
    history = parse_events("2026-03-01 10:00  Refund  {value: -50}\n2026-03-02 10:00  Order  {value: 100}")
    leaves = parse_instant("2026-03-06 10:00")
    assert next_instant(condition, history, leaves - 1) == leaves and decide(condition, history, leaves)
    assert next_instant(condition, history, parse_instant("2026-03-07 10:00")) is None
