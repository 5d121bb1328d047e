"""Operational time: the clock on which the customers of the simulated shop live.

Every law of the simulation is stated in operational days, which run faster when the shop is busy: in the evening, early
in the week, and around the peak of the year. On average an operational day lasts a calendar day. A rate that follows the
hour, the weekday and the season is then a constant, and every probability stays exact with the rhythm on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from predseg.language.time import DAY, HOUR, YEAR

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_HOURS = np.array([6, 4, 3, 2, 2, 3, 6, 12, 20, 27, 32, 34, 35, 34, 33, 33, 34, 37, 43, 50, 54, 48, 32, 16], dtype=np.float64)
_WEEKDAYS = np.array([1.12, 1.15, 1.12, 1.10, 0.93, 0.74, 0.84])  # Monday first
_PEAK = 335 * DAY  # the first of December
_AHEAD = 3 * YEAR
_FAR = 300 * YEAR


@dataclass(frozen=True)
class Clock:
    """Both directions between instants (int64 microseconds) and operational days since the start (float64)."""

    knots: Ints
    days: Floats

    def busy(self, instant: npt.ArrayLike) -> Floats:
        """Return the operational days between the start and each instant."""
        return np.interp(np.asarray(instant, dtype=np.float64), self.knots.astype(np.float64), self.days)

    def instant(self, days: npt.ArrayLike) -> Ints:
        """Return the instant of each operational day, in whole milliseconds (as microseconds), rounded down."""
        offset = np.interp(np.asarray(days, dtype=np.float64), self.days, (self.knots - self.knots[0]).astype(np.float64))
        return (self.knots[0] // 1000 + np.floor(offset / 1000).astype(np.int64)) * 1000


def make_clock(start: int, days: int, season: float) -> Clock:
    """Return the clock of a shop that opens at ``start`` and is watched for ``days``; exact from ``start`` to three years later.

    ``season`` is the swing of the year around its mean, at least 0 and under 1; its peak is the first of December.
    """
    hours = start + HOUR * np.arange((days * DAY + _AHEAD) // HOUR + 1, dtype=np.int64)
    hour, weekday = hours // HOUR % 24, (hours // DAY + 3) % 7
    year = 1 + season * np.cos(2 * np.pi * ((hours // DAY * DAY - _PEAK) % int(365.25 * DAY)) / (365.25 * DAY))
    busy = _HOURS[hour] / _HOURS.mean() * (_WEEKDAYS[weekday] / _WEEKDAYS.mean()) * year
    done = np.concatenate(([0.0], np.cumsum(busy) / 24))
    knots = np.append(hours, hours[-1] + HOUR)
    return Clock(np.append(knots, knots[-1] + _FAR), np.append(done, done[-1] + _FAR / DAY))
