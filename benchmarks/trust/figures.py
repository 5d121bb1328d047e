"""What a figure is, and how it is found out: cases are tried one by one, and what broke the promise is written down."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

SHOWN = 5
"""So many faults are shown in words; all of them are counted."""


@dataclass(frozen=True)
class Figure:
    """How many cases were tried, what was seen, and what broke the promise; no fault means that it held."""

    cases: int
    seen: str
    faults: tuple[str, ...] = ()


@dataclass
class Tally:
    """Counts while cases are tried."""

    cases: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def fault(self, what: str) -> None:
        """Write down what broke the promise."""
        self.faults.append(what)

    def demand(self, holds: bool, what: str) -> None:
        """Write down what should hold when it does not."""
        if not holds:
            self.fault(what)

    def figure(self, seen: str) -> Figure:
        """Return what was found."""
        return Figure(self.cases, seen, tuple(self.faults))
