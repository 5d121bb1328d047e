"""What rests on what, as a drawing: boxes in columns from the sources to the channels, and the arrows between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from predseg.segments.lineage import Node

BOX, HIGH, APART, ROW, EDGE = 172, 30, 46, 40, 8
LONGEST = 21
"""Letters that fit into a box."""
_COLUMNS = {"source": 0, "table": 1, "feature": 2, "model": 3, "cluster": 3, "segment": 4}


@dataclass(frozen=True)
class Box:
    """One node: its id, kind and whole name, what is written on it, and its upper left corner."""

    id: str
    kind: str
    name: str
    label: str
    x: int
    y: int


@dataclass(frozen=True)
class Arrow:
    """From one box to another, as the path of an SVG."""

    start: str
    end: str
    path: str


@dataclass(frozen=True)
class Drawing:
    """The whole picture and its size."""

    width: int
    height: int
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    box: int = BOX


def draw(nodes: Mapping[str, Node]) -> Drawing:
    """Return the drawing; all features are one box."""
    arrows = sorted({(_group(nodes[other]), _group(node)) for node in nodes.values() for other in node.uses})
    names = dict.fromkeys(_group(node) for node in nodes.values())
    columns = _columns(nodes, names)
    x = {column: i for i, column in enumerate(sorted(set(columns.values())))}
    places: dict[str, tuple[int, int]] = {}
    for column in x:
        ordered = _ordered([name for name in names if columns[name] == column], arrows, places)
        places |= {name: (EDGE + x[column] * (BOX + APART), EDGE + row * ROW) for row, name in enumerate(ordered)}
    boxes = tuple(_box(name, nodes, places[name]) for name in names)
    size = [max((place[i] for place in places.values()), default=0) for i in (0, 1)]
    paths = tuple(Arrow(start, end, _path(places[start], places[end])) for start, end in arrows if start != end)
    return Drawing(size[0] + BOX + EDGE, size[1] + HIGH + EDGE, boxes, paths)


def _group(node: Node) -> str:
    return "feature" if node.kind == "feature" else node.id


def _columns(nodes: Mapping[str, Node], names: Mapping[str, None]) -> dict[str, int]:
    """Return the column of each box: a segment stands behind the segments that it uses, a channel last."""
    found = {name: _COLUMNS.get(name.partition(".")[0], 0) for name in names}
    for node in nodes.values():
        if node.kind == "segment":
            found[node.id] = max([4, *(found[other] + 1 for other in node.uses if nodes[other].kind == "segment")])
    last = max(found.values(), default=0) + 1
    return {name: last if name.startswith("channel.") else column for name, column in found.items()}


def _ordered(names: Sequence[str], arrows: Sequence[tuple[str, str]], places: Mapping[str, tuple[int, int]]) -> list[str]:
    """Put boxes at the height of those that they rest on, so that fewer arrows cross."""

    def height(name: str) -> float:
        used = [places[start][1] for start, end in arrows if end == name and start in places]
        return sum(used) / len(used) if used else 0.0

    return sorted(names, key=height)


def _box(name: str, nodes: Mapping[str, Node], place: tuple[int, int]) -> Box:
    if name == "feature":
        number = sum(node.kind == "feature" for node in nodes.values())
        full = f"{number} feature{'' if number == 1 else 's'}"
        return Box("feature", "feature", full, full, *place)
    node = nodes[name]
    return Box(name, node.kind, node.name, node.name if len(node.name) <= LONGEST else f"{node.name[: LONGEST - 1]}…", *place)


def _path(start: tuple[int, int], end: tuple[int, int]) -> str:
    x1, y1, x2, y2 = start[0] + BOX, start[1] + HIGH // 2, end[0], end[1] + HIGH // 2
    bend = APART // 2
    return f"M{x1} {y1}C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}"
