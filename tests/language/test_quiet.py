"""Quiet hours on the wall clock: nights with a change of clocks, leap days, days that a zone skipped; against a scan minute by minute."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from predseg.language.actions import Action, Quiet
from predseg.language.time import DAY, HOUR, MINUTE, SECOND, parse_instant, say_instant

NIGHT = (22 * 60, 8 * 60)
NIGHTS = [
    # zone, hours, asked at, released at; all UTC
    ("UTC", NIGHT, "2026-03-01T21:59:59", "2026-03-01T21:59:59Z"),
    ("UTC", NIGHT, "2026-03-01T22:00", "2026-03-02T08:00Z"),
    ("UTC", NIGHT, "2026-03-02T07:59:59.999999", "2026-03-02T08:00Z"),
    ("UTC", NIGHT, "2026-03-02T08:00", "2026-03-02T08:00Z"),
    ("UTC", NIGHT, "2024-02-28T23:00", "2024-02-29T08:00Z"),
    ("UTC", NIGHT, "2024-02-29T23:00", "2024-03-01T08:00Z"),
    ("UTC", NIGHT, "2023-02-28T23:00", "2023-03-01T08:00Z"),
    ("UTC", (12 * 60, 14 * 60), "2026-03-01T12:30", "2026-03-01T14:00Z"),
    ("UTC", (20 * 60, 0), "2026-12-31T23:30", "2027-01-01T00:00Z"),
    ("Europe/London", NIGHT, "2026-03-28T22:30", "2026-03-29T07:00Z"),  # clocks go forward at 01:00: 08:00 is an hour earlier
    ("Europe/London", NIGHT, "2026-10-24T21:30", "2026-10-25T08:00Z"),  # and back: an hour later
    ("Europe/Berlin", (22 * 60, 2 * 60 + 30), "2026-03-28T23:00", "2026-03-29T01:00Z"),  # 02:30 does not exist: the moment of the change
    ("Europe/Berlin", (22 * 60, 2 * 60 + 30), "2026-10-24T22:00", "2026-10-25T00:30Z"),  # 02:30 comes twice: the first
    ("Europe/Berlin", (22 * 60, 2 * 60 + 30), "2026-10-25T01:10", "2026-10-25T01:30Z"),  # and quiet again before the second
    ("America/Sao_Paulo", (23 * 60, 30), "2018-11-04T02:30", "2018-11-04T03:00Z"),  # midnight does not exist
    ("Pacific/Apia", NIGHT, "2011-12-30T09:00", "2011-12-30T18:00Z"),  # 30 December did not happen
    ("Australia/Lord_Howe", (1 * 60, 2 * 60 + 15), "2026-10-03T14:45", "2026-10-03T15:30Z"),  # half an hour forward
]


@pytest.mark.parametrize(("zone", "hours", "asked", "released"), NIGHTS)
def test_quiet_hours_end_where_the_wall_clock_says(zone: str, hours: tuple[int, int], asked: str, released: str) -> None:
    assert say_instant(Quiet(*hours, zone).release(parse_instant(asked))) == released


def by_hand(quiet: Quiet, t: int) -> int:
    """Look at every minute."""
    zone, at = ZoneInfo(quiet.timezone), t
    while True:
        local = datetime(1970, 1, 1, tzinfo=ZoneInfo("UTC")) + timedelta(microseconds=at)
        minute = (wall := local.astimezone(zone)).hour * 60 + wall.minute
        over_midnight = quiet.end <= quiet.start
        if not ((minute >= quiet.start or minute < quiet.end) if over_midnight else quiet.start <= minute < quiet.end):
            return at
        at = (at // MINUTE + 1) * MINUTE


def test_random_nights_near_changes_of_clocks_equal_a_scan() -> None:
    r = random.Random(4)
    changes = {
        "Europe/Berlin": ["2026-03-29T01:00", "2026-10-25T01:00"],
        "America/New_York": ["2026-03-08T07:00", "2026-11-01T06:00"],
        "America/Sao_Paulo": ["2018-11-04T03:00", "2019-02-17T02:00"],
        "Australia/Lord_Howe": ["2026-10-03T15:30", "2026-04-04T15:00"],
        "Pacific/Apia": ["2011-12-30T10:00"],
        "Africa/Casablanca": ["2026-02-15T02:00", "2026-03-22T02:00"],
        "Asia/Kathmandu": ["2024-02-29T00:00"],
    }
    moved = 0
    for _ in range(600):
        zone = r.choice(list(changes))
        t = parse_instant(r.choice(changes[zone])) + r.randrange(-2 * DAY, DAY)
        start = r.randrange(1440)
        quiet = Quiet(start, (start + r.randrange(1, 1440)) % 1440, zone)
        found = quiet.release(t)
        assert found == by_hand(quiet, t), (quiet, say_instant(t))
        assert not quiet.covers(found)
        moved += found > t
    assert moved > 200


def test_an_action_is_due_after_its_wait_and_never_at_night() -> None:
    at = parse_instant("2026-03-01T21:00")
    assert Action("a").due(at) == at
    assert Action("a", after=2 * HOUR).due(at) == at + 2 * HOUR
    assert Action("a", after=2 * HOUR, quiet=Quiet(*NIGHT, "UTC")).due(at) == parse_instant("2026-03-02T08:00")
    assert Action("a", quiet=Quiet(*NIGHT, "UTC")).due(at + HOUR - SECOND) == at + HOUR - SECOND
