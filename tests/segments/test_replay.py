"""What a rule would have sent on history: limits, waiting, quiet hours, the held out; against the same counted by hand."""

from __future__ import annotations

from pathlib import Path

from predseg.language.time import DAY, HOUR
from predseg.segments.facts import Facts
from predseg.segments.replay import Replay, replay
from tests.segments.stores import Row, rules, write_events

BASKET = "segment: basket\nrefresh: live\nmatch: {did: Add, within: 3 hours}\n"
MORNINGS: list[Row] = [("a", day * DAY + 9 * HOUR, "Add", {}) for day in range(10)]


def sent(folder: Path, rule: str, rows: list[Row] = MORNINGS, end: int = 10) -> list[int]:
    """Messages by day."""
    return [day.sent for day in replayed(folder, rule, rows, end).days[1:]]


def replayed(folder: Path, rule: str, rows: list[Row], end: int) -> Replay:
    segments = rules(rule)
    return replay(write_events(folder, rows), segments, next(iter(segments)), range(0, end * DAY + 1, DAY), Facts())


def test_without_a_message_nothing_is_sent(tmp_path: Path) -> None:
    assert sent(tmp_path, BASKET) == [0] * 10
    assert sent(tmp_path, BASKET + "on_leave: {send: mail}") == [0] * 10, "leaving is not entering"


def test_customers_of_whom_none_changes_are_sent_nothing(tmp_path: Path) -> None:
    """A block without a change ended the replay."""
    assert sent(tmp_path, BASKET + "on_enter: {send: mail}", [("a", 0, "Look", {})]) == [0] * 10


def test_every_entry_sends_unless_it_is_limited(tmp_path: Path) -> None:
    assert sent(tmp_path, BASKET + "on_enter: {send: mail}") == [1] * 10
    assert sent(tmp_path, BASKET + "on_enter: {send: mail, limit: once per 3 days}") == [1, 0, 0] * 3 + [1]
    assert sent(tmp_path, BASKET + "on_enter: {send: mail, limit: once per 73 hours}") == [1, 0, 0, 0] * 2 + [1, 0]
    assert sent(tmp_path, BASKET + "on_enter: [{send: mail, limit: once per 3 days}, {send: crm}]") == [2, 1, 1] * 3 + [2]


def test_who_left_before_it_was_due_gets_nothing(tmp_path: Path) -> None:
    assert sent(tmp_path, BASKET + "on_enter: {send: mail, after: 2 hours}") == [1] * 10
    assert sent(tmp_path, BASKET + "on_enter: {send: mail, after: 3 hours}") == [0] * 10, "left at that very instant"
    assert sent(tmp_path, BASKET + "on_enter: {send: mail, quiet: 08:00-11:00}") == [1] * 10
    assert sent(tmp_path, BASKET + "on_enter: {send: mail, quiet: 08:00-12:00}") == [0] * 10


def test_a_message_counts_on_the_day_on_which_it_goes_out(tmp_path: Path) -> None:
    slow = "segment: basket\nrefresh: live\nmatch: {did: Add, within: 40 hours}\non_enter: {send: mail, after: 20 hours}\n"
    assert sent(tmp_path, slow, MORNINGS[:1], 3) == [0, 1, 0]
    assert sent(tmp_path, slow, MORNINGS[:1], 1) == [0], "what is due after the end is not sent within it"


def test_daily_segments_send_at_the_runs(tmp_path: Path) -> None:
    daily = "segment: buyers\nmatch: {did: Add, within: 2 days}\non_enter: {send: mail, limit: once per 7 days}\n"
    rows: list[Row] = [("a", HOUR, "Add", {}), ("a", 4 * DAY + HOUR, "Add", {}), ("b", 8 * DAY + HOUR, "Add", {})]
    assert sent(tmp_path, daily, rows) == [1, 0, 0, 0, 0, 0, 0, 0, 1, 0]
    assert sent(tmp_path, daily.replace(", limit: once per 7 days", ""), rows) == [1, 0, 0, 0, 1, 0, 0, 0, 1, 0]


def test_the_held_out_get_nothing(tmp_path: Path) -> None:
    rows: list[Row] = [(f"c{i}", HOUR, "Add", {}) for i in range(200)]
    [day] = replayed(tmp_path, BASKET.replace("3 hours", "30 hours") + "on_enter: {send: mail}\nholdout: 50%\n", rows, 1).days[1:]
    assert day.entered == 200 and 70 < day.sent < 130
