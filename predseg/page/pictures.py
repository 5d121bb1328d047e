"""Small pictures, drawn at the server as SVG: shapes and classes only, colours are of the style sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from predseg.language.floor import Floor

WIDTH, HALF, GAP = 480, 56, 2
FEWEST = 4.0
"""Height of a bar whose figure is hidden."""


@dataclass(frozen=True)
class Bar:
    """One bar: where it begins and how high it is, what it is, and what it says."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    says: str


@dataclass(frozen=True)
class Moved:
    """How many entered and left in a span of time, called by a text."""

    when: str
    entered: int
    left: int


def bars(moved: Sequence[Moved], floor: Floor) -> list[Bar]:
    """Return bars upwards for who entered and downwards for who left; groups that must not be told are all of one height.

    >>> [(bar.kind, bar.height, bar.says) for bar in bars([Moved("12:00", 40, 3), Moved("13:00", 0, 20)], Floor())]
    [('entered', 56.0, '12:00: 40 entered'), ('left few', 4.0, '12:00: under 10 left'), ('left', 28.0, '13:00: 20 left')]
    """
    highest = max((n for m in moved for n in (m.entered, m.left)), default=0)
    step = WIDTH / max(len(moved), 1)
    found = []
    for i, m in enumerate(moved):
        for kind, number in (("entered", m.entered), ("left", m.left)):
            if not number:
                continue
            height = round(max(HALF * number / highest, FEWEST), 1) if floor.shown(number) else FEWEST
            y = HALF - height if kind == "entered" else HALF
            name = kind if floor.shown(number) else f"{kind} few"
            found.append(
                Bar(round(i * step + GAP / 2, 1), round(y, 1), round(step - GAP, 1), height, name, f"{m.when}: {floor.count(number)} {kind}")
            )
    return found
