"""The shop's own time: it runs fast when everybody comes, and slowly when nobody does, so that a season is not taken for customers who come more, or leave.

Learned from how many visits the same customers made from one training cutoff to the next, so from nothing that was not known at the newest of them. What lies
outside of the cutoffs passes as the same time of the nearest year within them did, and as a plain day does where there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from predseg.evaluate.block import Array
from predseg.language.time import DAY

YEAR = 365 * DAY
YEARS = 20
"""So many years before and after the cutoffs have seasons."""
FEW = 50.0
"""As many visits, at the usual pace, are added to those between two cutoffs: where few came, a day is a plain day."""


@dataclass(frozen=True)
class Clock:
    """How fast time passes between moments; a plain day is 1, which is the mean over all of them.

    Attributes:
        moments: Microseconds, ascending.
        speeds: One less than there are moments: of [moment, next moment).
    """

    moments: tuple[int, ...] = ()
    speeds: tuple[float, ...] = ()

    def passed(self, now: Array, days: Array) -> Array:
        """Return the days of the shop's time that passed in so many plain days before each moment (after it, where negative: as a negative number).

        >>> clock = Clock((0, 100 * DAY, 300 * DAY), (2.0, 0.5))
        >>> now = np.array([300, 200, 150, 465]) * DAY
        >>> clock.passed(now, np.array([300.0, 100.0, -50.0, 100.0])).tolist()
        [300.0, 50.0, -25.0, 200.0]
        """
        if not self.speeds:
            return np.asarray(days, np.float64)
        at, sum_ = self._extended
        since = (now - self.moments[0]) / DAY
        return np.asarray(np.interp(since, at, sum_) - np.interp(since - days, at, sum_))

    @cached_property
    def _extended(self) -> tuple[Array, Array]:
        """Days since the first moment, and how many of the shop's days they are: linear in between."""
        year, end = YEAR / DAY, (self.moments[-1] - self.moments[0]) / DAY
        at = (np.array(self.moments) - self.moments[0]) / DAY
        around = [at, end + year * np.arange(YEARS + 1), -year * np.arange(YEARS + 1)]
        around += [at + year * k for k in range(1, YEARS + 1)] + [at - year * k for k in range(1, YEARS + 1)]
        knots = np.unique(np.concatenate(around))
        knots = np.concatenate([[knots[0] - 1e6], knots, [knots[-1] + 1e6]])
        middle = (knots[1:] + knots[:-1]) / 2
        same = middle - year * np.ceil(np.maximum(middle - end, 0) / year)
        same = same + year * np.ceil(np.maximum(-middle, 0) / year)
        part = np.searchsorted(at, same, side="right") - 1
        speed = np.where((part >= 0) & (part < len(self.speeds)), np.array(self.speeds)[np.clip(part, 0, len(self.speeds) - 1)], 1.0)
        speed[[0, -1]] = 1.0
        return knots, np.concatenate([[0.0], np.cumsum(speed * np.diff(knots))])

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; `from_dict` gives the same back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Clock:
        """Return the clock of `to_dict`."""
        return cls(tuple(map(int, values["moments"])), tuple(map(float, values["speeds"])))


PLAIN = Clock()
"""A plain day is a day."""


def fit_clock(customer: Array, cutoff: Array, visits: Array) -> Clock:
    """Return the clock that tells what customers did between two cutoffs at which they are known; plain days where no two follow each other.

    Args:
        customer: Ids, one per row, each once at a cutoff.
        cutoff: int64 microseconds.
        visits: How many had been made by then; NaN counts as none.
    """
    import pandas as pd

    moments, of = np.unique(cutoff, return_inverse=True)
    who, names = pd.factorize(customer)
    made = np.full((len(moments), len(names)), np.nan)
    made[of, who] = np.nan_to_num(visits)
    more = np.diff(made, axis=0)
    known, days = (~np.isnan(more)).sum(axis=1), np.diff(moments) / DAY
    came = np.nansum(np.maximum(more, 0.0), axis=1)
    if not known.any() or not came.any():
        return PLAIN
    usual = came.sum() / (known * days).sum()
    pace = (came + FEW) / (usual * known * days + FEW)
    speeds = pace / np.average(pace, weights=days)
    return Clock(tuple(map(int, moments)), tuple(map(float, speeds)))
