"""What the gaps between a customer's own events say of the present one: how often it was quiet for longer, and how often it came back by now.

Means and deviations of gaps, and the law of `predseg.forecast.rhythm`, know customers who come at random at a pace of their own. These know a habit: who
comes every Friday, or every other month, is late on another day than who comes whenever. Answered from the events themselves, exactly as
far as they are counts, and of a customer's own events alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from predseg.evaluate.block import Array, Block
from predseg.evaluate.matching import matching
from predseg.language.measures import Events, slug
from predseg.language.time import DAY, say_duration, short_duration

Kind = Literal["longer", "due", "typical", "spread", "lateness"]
KINDS: tuple[Kind, ...] = ("longer", "due", "typical", "spread", "lateness")


@dataclass(frozen=True)
class Gaps:
    """One number about the gaps between events that follow each other, those at one instant being one.

    Attributes:
        events: Whose gaps.
        kind: ``longer``: the share of gaps that were longer than the present quiet. ``due``: of those, the share that had ended ``horizon``
            later, with half a gap more that had and half a gap more that had not. ``typical`` and ``spread``: mean and deviation of the logarithms
            log(1 + days). ``lateness``: that logarithm of the present quiet, less the typical one.
        horizon: Of ``due``, microseconds.
    """

    events: Events
    kind: Kind
    horizon: int = 0

    @property
    def name(self) -> str:
        """Its column."""
        stem = {"longer": "longer_gaps", "typical": "gap_typical", "spread": "gap_spread"}.get(self.kind, self.kind)
        event = "_or_".join(slug(name) for name in self.events.names)
        return f"{stem}_{event}_{short_duration(self.horizon)}" if self.kind == "due" else f"{stem}_{event}"

    @property
    def says(self) -> str:
        """What it is, in words."""
        events = ", ".join(self.events.names)
        return {
            "longer": f"share of the gaps between {events} that were longer than the present one",
            "due": f"share of the longer gaps between {events} that had ended {say_duration(self.horizon)} later",
            "typical": f"typical gap between {events}, as a logarithm",
            "spread": f"spread of the gaps between {events}, as a logarithm",
            "lateness": f"the present gap between {events} against the typical one, as a logarithm",
        }[self.kind]


def gaps_of(events: Events, horizons: Sequence[int]) -> list[Gaps]:
    """Return everything that is asked of the gaps of an event, for models with these horizons."""
    due = [Gaps(events, "due", horizon) for horizon in sorted(set(horizons))]
    return [Gaps(events, "longer"), *due, *(Gaps(events, kind) for kind in KINDS[2:])]


def answer(block: Block, as_of: Sequence[int], asked: Sequence[Gaps]) -> Array:
    """Return float64 (asked, customers, moments): of the events visible at each moment; NaN without a gap, of ``due`` without an event."""
    found = np.full((len(asked), block.size, len(as_of)), np.nan)
    for events in dict.fromkeys(one.events for one in asked):
        rows = matching(block, events)
        mine = [i for i, one in enumerate(asked) if one.events == events]
        for moment, t in enumerate(as_of):
            at_once = _at(block, rows, t, [asked[i] for i in mine])
            for i, values in zip(mine, at_once, strict=True):
                found[i, :, moment] = values
    return found


def _at(block: Block, rows: Array, t: int, asked: Sequence[Gaps]) -> list[Array]:
    visible = (block.time[rows] <= t) & block.visible(rows, t)
    customer, time = block.customer[rows[visible]], block.time[rows[visible]]
    n = block.size
    quiet = np.full(n, -1, np.int64)
    quiet[customer] = t - time  # the last one stays: rows are sorted by time
    gap, owner = np.diff(time), customer[1:]
    between = (customer[1:] == customer[:-1]) & (gap > 0)
    gap, owner = gap[between], owner[between]

    def total(weight: Array | None = None) -> Array:
        return np.bincount(owner, weight, n)

    number, over = total(), gap > quiet[owner]
    longer, logs = total(over), np.log1p(gap / DAY)
    with np.errstate(invalid="ignore", divide="ignore"):
        typical = total(logs) / number
        spread = np.sqrt(np.maximum(total(logs * logs) / number - typical**2, 0.0))
        late = np.log1p(np.maximum(quiet, 0) / DAY) - typical
        found: dict[str, Array] = {"longer": longer / number, "typical": typical, "spread": np.where(number > 1, spread, np.nan), "lateness": late}

    def one(wanted: Gaps) -> Array:
        if wanted.kind != "due":
            return found[wanted.kind]
        ended = total(over & (gap <= quiet[owner] + wanted.horizon))
        return np.where(quiet >= 0, (ended + 0.5) / (longer + 1.0), np.nan)

    return [one(wanted) for wanted in asked]
