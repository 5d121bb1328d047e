"""Moments that are asked about: as text, as microseconds, or the last one of the data; and the clock."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from predseg.errors import DataError, UsageError
from predseg.language.time import DAY, parse_instant, say_duration, say_instant

if TYPE_CHECKING:
    from predseg.history.report import IngestReport

Moment = str | int | None
"""An instant as text or in microseconds; None is the last moment of the data."""

AHEAD, MISTYPED = DAY, 180 * DAY
"""How far ahead of the clock a recorded run may be meant to be, as a day that ends at midnight; and from where on it is taken for mistyped."""


def moment_of(as_of: Moment, report: IngestReport) -> int:
    """Return the moment that is asked about: as given, else when the last event became visible.

    Raises:
        UsageError: E203 when the text is no instant.
        DataError: E420 when there are no events, E421 when the moment lies before all of them.
    """
    if report.visible is None or report.first is None:
        raise DataError("E420", "events", "there are no events", "check `sources:`, then `predseg check`")
    moment = min(report.visible, clock()) if as_of is None else instant(as_of)
    if moment < report.first:
        found = f"{say_instant(moment)} is before the first event, {say_instant(report.first)}"
        raise DataError("E421", "--as-of", found, f"choose a moment up to {say_instant(report.visible)}, the last one of the data")
    return moment


def instant(as_of: str | int, option: str = "--as-of") -> int:
    """Return microseconds of an instant given as text or as microseconds; ``option`` is what a refusal names.

    Raises:
        UsageError: E203 when the text is no instant.

    >>> instant("1970-01-02T00:00:01")
    86401000000
    """
    if isinstance(as_of, int):
        return as_of
    try:
        return parse_instant(as_of)
    except ValueError as error:
        found, _, remedy = str(error).partition(": ")
        raise UsageError("E203", option, found, remedy) from None


def recordable(as_of: Moment, unless: bool = False) -> None:
    """Refuse to record what is more than half a year ahead of the clock: until then no run but that one would count. ``unless`` nothing is recorded.

    Raises:
        UsageError: E203 when the text is no instant, E213 when it lies ahead.
    """
    if as_of is None or unless:
        return
    moment = instant(as_of)
    if (ahead := moment - clock()) > MISTYPED:
        found = (
            f"{say_instant(moment)} lies {say_duration(ahead // DAY * DAY)} ahead of the clock, and nothing before it would be recorded until then"
        )
        raise UsageError("E213", "--as-of", found, "correct the moment; with `--dry-run` it can be looked at, and nothing is recorded")


def clock() -> int:
    """Return this moment: the only place besides the live loop where a clock is read."""
    return time.time_ns() // 1000
