"""Medians of tools that take turns, so that whatever else the machine does hits all of them alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def medians(tools: Mapping[str, Callable[[], Any]], repeat: int, pause: float = 0.0) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the median seconds of each tool over ``repeat`` rounds, and its result. A round before them, not counted, warms everything up.

    Every turn begins after ``pause`` seconds of rest: gigabytes that a tool gives back are cleared away in the background, at the cost of the next one.
    """
    seconds: dict[str, list[float]] = {name: [] for name in tools}
    results = {name: tool() for name, tool in tools.items()}
    for _ in range(repeat):
        for name, tool in tools.items():
            gc.collect()
            time.sleep(pause)
            begin = time.perf_counter()
            result = tool()
            seconds[name].append(time.perf_counter() - begin)
            del result
    return {name: statistics.median(found) for name, found in seconds.items()}, results


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table, the first column to the left and the others to the right."""
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
