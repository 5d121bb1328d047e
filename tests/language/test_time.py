"""Durations are exact, instants are UTC microseconds, and what is doubtful is refused."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predseg.language.time import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    WEEK,
    YEAR,
    parse_duration,
    parse_instant,
    say_duration,
    say_instant,
    short_duration,
    to_datetime,
)


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("1 minute", MINUTE),
        ("30 minutes", 30 * MINUTE),
        ("5 min", 5 * MINUTE),
        ("24 hours", DAY),
        ("48h", 2 * DAY),
        ("1 day", DAY),
        ("90d", 90 * DAY),
        ("90 days", 90 * DAY),
        ("2 weeks", 2 * WEEK),
        ("2w", 14 * DAY),
        ("1 month", 30 * DAY),
        ("6 months", 180 * DAY),
        ("1 year", 365 * DAY),
        ("200 years", 200 * YEAR),
        ("  24  Hours ", DAY),
        ("007 days", 7 * DAY),
    ],
)
def test_durations_are_exact(text: str, micros: int) -> None:
    """A month is 30 days and a year 365 days, whatever the calendar says."""
    assert parse_duration(text) == micros


@pytest.mark.parametrize(
    "text",
    [
        *("", "days", "90", "0 days", "-1 day", "1.5 hours", "24h 5", "1 day 2 hours", "90 dayz", "1,000 days", "1_000 days", "0x10 days"),
        *("201 years", "9999999999 minutes", "1 day ago", "٣ days", "one day", "5 seconds", "1 quarter"),
        *("5 ms", "5 hs", "90ds"),  # a single letter has no plural: 5 ms are not five minutes
    ],
)
def test_what_is_not_a_whole_number_and_one_unit_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration: write a whole number and a unit"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("1970-01-01", 0),
        ("1970-01-01T00:00:00.000001Z", 1),
        ("1970-01-01 00:00:00.0000019", 1),  # finer than a microsecond is floored
        ("1970-01-01T00:00:00.123456789+00:00", 123_456),
        ("1969-12-31T23:59:59.9999999", -1),
        ("1970-01-01T01:00+01:00", 0),
        ("1970-01-01T00:00-05:30", 5 * HOUR + 30 * MINUTE),
        ("  2011-12-09T13:00 ", 1_323_435_600 * SECOND),
        (date(1970, 1, 2), DAY),
        (datetime(1970, 1, 2), DAY),
        (datetime(1970, 1, 2, 2, tzinfo=timezone(timedelta(hours=2))), DAY),
        ("9999-12-31T23:59:59.999999", 253_402_300_800 * SECOND - 1),
    ],
)
def test_instants_are_utc_microseconds(text: str | date | datetime, instant: int) -> None:
    assert parse_instant(text) == instant


@pytest.mark.parametrize(
    "text", ["", "tomorrow", "2026-13-01", "2026-02-30", "12:00", "2026-03-01T25:00", "01/02/2026", "2026-03-01 10:00 Europe/London", "1e9"]
)
def test_what_is_not_iso_8601_is_no_instant(text: str) -> None:
    with pytest.raises(ValueError, match="is not an instant: write a date or a time"):
        parse_instant(text)


@pytest.mark.parametrize("text", ["0001-01-01T00:00+14:00", "9999-12-31T23:59-14:00"])
def test_what_no_clock_in_utc_shows_is_no_instant(text: str) -> None:
    """It was one that could not be said: a bug as soon as somebody did."""
    with pytest.raises(ValueError, match="is not an instant: it lies outside the years 1 to 9999"):
        parse_instant(text)


def test_durations_in_words_and_in_column_names() -> None:
    assert [say_duration(d) for d in (DAY, 2 * DAY, 3 * DAY, 365 * DAY, MINUTE, 90 * MINUTE, 1_500 * DAY)] == [
        *("24 hours", "48 hours", "3 days", "365 days", "1 minute", "90 minutes", "1,500 days"),
    ]
    assert [say_duration(d) for d in (216 * DAY + 7, 5 * HOUR + SECOND, 90 * SECOND + 500_000, SECOND // 2)] == [
        *("about 216 days", "about 5 hours", "90.5 seconds", "0.5 seconds"),
    ]
    assert [short_duration(d) for d in (90 * DAY, 36 * HOUR, 5 * MINUTE, 48 * HOUR, 7)] == ["90d", "36h", "5m", "2d", "7us"]


@given(st.integers(1, 73_000), st.sampled_from([MINUTE, HOUR, DAY]))
def test_a_written_duration_reads_back(n: int, unit: int) -> None:
    assert parse_duration(short_duration(n * unit)) == n * unit
    assert parse_duration(say_duration(n * unit).replace(",", "")) == n * unit


@given(st.datetimes(min_value=datetime(1, 1, 2), timezones=st.just(UTC)))
def test_a_written_instant_reads_back(moment: datetime) -> None:
    instant = parse_instant(moment)
    assert parse_instant(say_instant(instant)) == instant
    assert to_datetime(instant) == moment
    assert parse_instant(moment.isoformat()) == instant
