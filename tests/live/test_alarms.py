"""Alarms: raised at their limit, silent while the reading trembles, ended after a minute of calm; the rhythm of events."""

from __future__ import annotations

from predseg.language.serving import Alerts
from predseg.language.time import DAY, HOUR, MINUTE
from predseg.live.alarms import CALM, Alarm, Reading, Rhythm, judge, readings, watch

ALERTS = Alerts(silence=(("Order Completed", 6 * HOUR),))


def levels(found: list[Reading]) -> dict[str, float]:
    return {reading.name: reading.level for reading in found}


def take(now: int = 0, rhythms: dict[str, Rhythm] | None = None, **more: object) -> dict[str, float]:
    given = {"lag": 0, "rejected": 0.0, "queue": 0.0, "down": None, "since": 0} | more
    return levels(readings(ALERTS, now, rhythms=rhythms or {}, **given))  # type: ignore[arg-type]


def rung(series: list[tuple[int, float]]) -> list[tuple[int, bool]]:
    alarms: dict[str, Alarm] = {}
    found = []
    for now, level in series:
        alarms, changed = judge(alarms, [Reading("lag", level, "late")], now)
        found += [(now, alarm.since is not None) for alarm in changed]
    return found


def test_readings_are_shares_of_their_limits() -> None:
    found = take(now=3 * HOUR, lag=30 * 1_000_000, rejected=0.025, queue=0.4)
    assert found == {"store": 0, "lag": 0.5, "rejected": 0.5, "queue": 0.5, "silence of Order Completed": 0.5}
    assert take(down="gone")["store"] == 1


def test_a_reading_that_trembles_rings_once() -> None:
    trembling = [(i * 1_000_000, level) for i, level in enumerate([0.9, 1.0, 0.9, 1.1, 0.6, 1.0, 0.55] * 20)]
    assert rung(trembling) == [(1_000_000, True)]


def test_an_alarm_ends_after_a_minute_below_half() -> None:
    assert rung([(0, 1.0), (1, 0.4), (CALM, 0.4), (CALM + 1, 0.4), (CALM + 2, 0.4)]) == [(0, True), (CALM + 1, False)]
    assert rung([(0, 1.0), (1, 0.4), (CALM, 0.5), (CALM + 1, 0.4), (2 * CALM, 0.4)]) == [(0, True)], "it was not calm all the time"
    assert rung([(0, 0.99), (1, 0.4)]) == []


def test_an_event_is_missed_by_its_own_rhythm() -> None:
    """Every ten minutes by day, never in the ten hours of the night: silence is three nights long."""
    rhythms: dict[str, Rhythm] = {}
    for day in range(3):
        for minute in range(0, 14 * 60, 10):
            watch(rhythms, {"Product Viewed": 1}, day * DAY + minute * MINUTE)
    night = 10 * HOUR + 10 * MINUTE
    assert rhythms["Product Viewed"].patience == 3 * night
    last = rhythms["Product Viewed"].last
    assert take(last + 2 * night, rhythms)["silence of Product Viewed"] < 1 <= take(last + 3 * night, rhythms)["silence of Product Viewed"]


def test_a_rhythm_is_known_after_a_day_and_a_hundred_events() -> None:
    rhythms: dict[str, Rhythm] = {}
    for i in range(200):
        watch(rhythms, {"A": 1}, i * MINUTE)
    assert rhythms["A"].patience is None
    watch(rhythms, {"A": 1}, DAY)
    assert rhythms["A"].patience is not None
    watch({}, {"B": 1}, DAY)
    for i in range(12):
        watch(rhythms, {"A": 1}, DAY + i * DAY)
    assert len(rhythms["A"].gaps) <= 8, "old days are forgotten"


def test_names_are_bounded() -> None:
    rhythms: dict[str, Rhythm] = {}
    watch(rhythms, {f"e{i}": 1 for i in range(2_000)}, 0)
    assert len(rhythms) == 500


def test_a_declared_silence_counts_from_the_start() -> None:
    assert take(12 * HOUR, since=6 * HOUR)["silence of Order Completed"] == 1
    assert take(12 * HOUR, {"Order Completed": Rhythm(0, 11 * HOUR)}, since=0)["silence of Order Completed"] < 1
