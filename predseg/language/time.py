"""Instants and durations: UTC, microseconds, integers.

An instant is the number of microseconds since 1970-01-01T00:00Z; a duration is a number of microseconds.
A month is 30 days and a year 365 days, always, so that the start of a window never moves backwards.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

MICROSECOND = 1
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
WEEK = 7 * DAY
MONTH = 30 * DAY
YEAR = 365 * DAY

_LETTERS = {"m": MINUTE, "h": HOUR, "d": DAY, "w": WEEK, "y": YEAR}
_WORDS = {"min": MINUTE, "minute": MINUTE, "hour": HOUR, "day": DAY, "week": WEEK, "month": MONTH, "year": YEAR}
_UNITS = _LETTERS | _WORDS | {f"{word}s": unit for word, unit in _WORDS.items()}
_DURATION = re.compile(r"(\d{1,9})\s*([a-z]+)", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAMES = ((DAY, "day", "d"), (HOUR, "hour", "h"), (MINUTE, "minute", "m"))


def parse_duration(text: str) -> int:
    """Return the microseconds of a duration such as ``24 hours``, ``90d`` or ``6 months``.

    Raises ValueError when the text is not a positive whole number and one unit.

    >>> parse_duration("24 hours") == parse_duration("1d") == DAY
    True
    >>> parse_duration("6 months") == 180 * DAY
    True
    >>> parse_duration("24h 5")
    Traceback (most recent call last):
    ValueError: '24h 5' is not a duration: write a whole number and a unit, such as '24 hours', '90 days', '6 months'
    """
    match = _DURATION.fullmatch(str(text).strip().lower())
    unit = _UNITS.get(match[2]) if match else None
    if match is None or unit is None or int(match[1]) == 0 or int(match[1]) * unit > 200 * YEAR:
        raise ValueError(f"{text!r} is not a duration: write a whole number and a unit, such as '24 hours', '90 days', '6 months'")
    return int(match[1]) * unit


def short_duration(micros: int) -> str:
    """Return the shortest exact spelling, used in feature names: ``90d``, ``36h``, ``5m``.

    >>> short_duration(parse_duration("48 hours")), short_duration(parse_duration("36 hours"))
    ('2d', '36h')
    """
    for unit, _, letter in _NAMES:
        if micros % unit == 0:
            return f"{micros // unit}{letter}"
    return f"{micros}us"


def say_duration(micros: int) -> str:
    """Return a duration in words; one that is no whole number of minutes is rounded and called "about".

    >>> say_duration(90 * DAY), say_duration(DAY), say_duration(36 * HOUR)
    ('90 days', '24 hours', '36 hours')
    """
    for unit, word, _ in _NAMES:
        if micros % unit == 0 and not (unit == DAY and micros < 3 * DAY):
            n = micros // unit
            return f"{n:,} {word}{'' if n == 1 else 's'}"
    rough = next(((unit, word) for unit, word, _ in _NAMES if micros >= 3 * unit), None)
    return f"about {micros / rough[0]:,.0f} {rough[1]}s" if rough else f"{micros / SECOND:,.6g} seconds"


def parse_instant(text: str | datetime | date) -> int:
    """Return the microseconds since 1970 of an ISO 8601 instant; without an offset it is UTC.

    Finer digits than a microsecond are floored. A date without a time is 00:00 UTC.

    >>> parse_instant("1970-01-02") == DAY
    True
    >>> parse_instant("2011-12-09T13:00+01:00") == parse_instant("2011-12-09 12:00")
    True
    >>> parse_instant("tomorrow")
    Traceback (most recent call last):
    ValueError: 'tomorrow' is not an instant: write a date or a time such as 2026-03-01 or 2026-03-01T12:00
    """
    if isinstance(text, date) and not isinstance(text, datetime):
        text = datetime(text.year, text.month, text.day)
    if not isinstance(text, datetime):
        try:
            text = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", str(text).strip()))
        except ValueError:
            raise ValueError(f"{text!r} is not an instant: write a date or a time such as 2026-03-01 or 2026-03-01T12:00") from None
    moment = text if text.tzinfo else text.replace(tzinfo=UTC)
    found = (moment - _EPOCH) // timedelta(microseconds=1)
    if not -62_135_596_800_000_000 <= found <= 253_402_300_799_999_999:  # its offset leads out of what can be written
        raise ValueError(f"{text.isoformat()!r} is not an instant: it lies outside the years 1 to 9999")
    return found


def to_datetime(instant: int) -> datetime:
    """Return the aware UTC datetime of an instant.

    >>> to_datetime(0).isoformat()
    '1970-01-01T00:00:00+00:00'
    """
    return _EPOCH + timedelta(microseconds=int(instant))


def say_instant(instant: int) -> str:
    """Return an instant as ISO 8601 in UTC, without needless digits.

    >>> say_instant(0), say_instant(1_500_000)
    ('1970-01-01T00:00Z', '1970-01-01T00:00:01.500000Z')
    """
    moment = to_datetime(instant).replace(tzinfo=None)
    spec = "minutes" if instant % MINUTE == 0 else "seconds" if instant % SECOND == 0 else "microseconds"
    return moment.isoformat(timespec=spec) + "Z"
