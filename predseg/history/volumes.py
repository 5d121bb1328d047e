"""How many of each event came a day, and how far that is from what is usual."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from predseg.columns import coded, whole
from predseg.language.time import DAY
from predseg.layers import readers

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

WEEKS, FEWEST_WEEKS, USUAL = 8, 4, 50
"""Weekdays that say what is usual, how many there must be, and what at least one of them must have had."""
LOOKED_AT = WEEKS * 7 + 1
COLUMNS = ("event", "event_time", "received_at")
Counts = Mapping[str, "NDArray[np.int64]"]
"""Of each event, how many came in each 24 hours, newest first."""


@dataclass(frozen=True)
class Volume:
    """How many came in 24 hours, the fewest and the most of the same hours of the weeks before, and how far it is from the nearest of them."""

    today: int
    fewest: int
    most: int
    away: float

    def __str__(self) -> str:
        return f"{self.today:,} in 24 hours, {self.fewest:,} to {self.most:,} in the weeks before"


def judged(counts: Counts) -> dict[str, Volume]:
    """Return of each event with a usual number how many came in the last 24 hours, in order of their names.

    Args:
        counts: Numbers a day, as `Daily` gives them for `LOOKED_AT` days or more.
    """
    found = {}
    for name, days in sorted(counts.items()):
        usual = days[7:LOOKED_AT:7]
        if len(usual) >= FEWEST_WEEKS and usual.max() >= USUAL:
            away = min(apart(int(days[0]), int(n)) for n in usual)
            found[name] = Volume(int(days[0]), int(usual.min()), int(usual.max()), away)
    return found


def apart(a: float, b: float) -> float:
    """Return how far two sizes are apart: 0 is equal, 1/2 is half or double.

    >>> apart(50, 100), apart(100, 50), apart(0, 7)
    (0.5, 0.5, 1.0)
    """
    return 1 - min(a, b) / max(a, b) if max(a, b) > 0 else 0.0


def daily_counts(files: Sequence[Path], as_of: int, days: int) -> Counts:
    """Return of each event, per 24 hours back from as_of, newest first, how many were visible by as_of; as far as the history goes."""
    found = Daily(as_of, days)
    for reader in readers(files, texts=True):
        found.add(reader.read(COLUMNS))
    return found.counts()


class Daily:
    """Numbers of events a day while rows are read; see `daily_counts`."""

    def __init__(self, as_of: int, days: int) -> None:
        self.as_of, self.days, self.first = as_of, days, as_of
        self._numbers: dict[str, NDArray[np.int64]] = {}

    def add(self, rows: pa.Table) -> None:
        """Take rows of the events table with at least `COLUMNS`."""
        rows = whole(rows.select(COLUMNS))
        codes, names = coded(rows["event"])
        time, received = (instants(rows, name) for name in COLUMNS[1:])
        self.first = min(self.first, int(time.min(initial=self.as_of)))
        kept = (np.maximum(time, received) <= self.as_of) & (time > self.as_of - self.days * DAY)
        cell = codes[kept].astype(np.int64) * self.days + (self.as_of - time[kept]) // DAY
        numbers = np.bincount(cell, minlength=len(names) * self.days).reshape(len(names), self.days)
        for code in np.flatnonzero(numbers.any(axis=1)):
            name = names[code].as_py()
            self._numbers[name] = self._numbers.get(name, 0) + numbers[code]

    def counts(self) -> Counts:
        """Return of each event how many came in each 24 hours, newest first, as far as the history goes."""
        days = int(min(self.days, (self.as_of - self.first) // DAY))
        return {name: column[:days] for name, column in self._numbers.items()}


def instants(rows: pa.Table, name: str) -> NDArray[np.int64]:
    """Return a column of instants as microseconds."""
    import pyarrow as pa

    found: NDArray[np.int64] = rows[name].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    return found
