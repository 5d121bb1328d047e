"""How many of each event came a day, and how far that is from what is usual."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from predseg.language.time import DAY

if TYPE_CHECKING:
    from numpy.typing import NDArray

WEEKS, FEWEST_WEEKS, USUAL = 8, 4, 50
"""Weekdays that say what is usual, how many there must be, and what at least one of them must have had."""


@dataclass(frozen=True)
class Volume:
    """How many came in 24 hours, the fewest and the most of the same hours of the weeks before, and how far it is from the nearest of them."""

    today: int
    fewest: int
    most: int
    away: float

    def __str__(self) -> str:
        return f"{self.today:,} in 24 hours, {self.fewest:,} to {self.most:,} in the weeks before"


def volumes(files: Sequence[Path], as_of: int) -> dict[str, Volume]:
    """Return of each event with a usual number how many came in the last 24 hours, in order of their names."""
    found = {}
    for name, days in sorted(daily_counts(files, as_of, WEEKS * 7 + 1).items()):
        usual = days[7::7]
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


def daily_counts(files: Sequence[Path], as_of: int, days: int) -> dict[str, NDArray[np.int64]]:
    """Return of each event, per 24 hours back from as_of, newest first, how many were visible by as_of; as far as the history goes."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    numbers: dict[str, NDArray[np.int64]] = {}
    first = as_of
    for path in files:
        table = pq.read_table(path, columns=["event", "event_time", "received_at"])
        time, received = (table[name].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy() for name in ("event_time", "received_at"))
        first = min(first, int(time.min(initial=as_of)))
        kept = (np.maximum(time, received) <= as_of) & (time > as_of - days * DAY)
        codes = pc.dictionary_encode(table["event"].cast(pa.string()).combine_chunks().filter(pa.array(kept)))
        back = (as_of - time[kept]) // DAY
        for code, name in enumerate(codes.dictionary.to_pylist()):
            mine = np.bincount(back[codes.indices.to_numpy() == code], minlength=days)
            numbers[name] = numbers.get(name, np.zeros(days, np.int64)) + mine
    whole = int(min(days, (as_of - first) // DAY))
    return {name: column[:whole] for name, column in numbers.items()}
