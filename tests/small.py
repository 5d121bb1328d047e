"""A small shop for the tests of whole commands: 300 customers, 300 days, three kinds of them, trained in a few seconds."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

START = datetime(2025, 1, 1, tzinfo=UTC)
CONFIG = """\
project: small
sources:
  orders: {path: events.csv}
features:
  windows: [14 days, 30 days, 90 days]
  events:
    Order Completed: {value: value}
models:
  purchase: {predict: {did: Order Completed, within_next: 20 days}, cutoffs: 4}
"""


def rows(customers: int = 300, days: int = 300, seed: int = 5) -> list[str]:
    """Lines of a csv: each customer buys at its own rate until it is lost."""
    r = np.random.default_rng(seed)
    found = []
    for number in range(customers):
        gap, lost = r.choice([8.0, 25.0, 60.0]), r.exponential(400.0)
        day = r.uniform(0, 60)
        while day < min(days, lost):
            moment = START + timedelta(seconds=int(day * 86400))
            found.append(f"c{number:04d},{moment:%Y-%m-%dT%H:%M:%SZ},Order Completed,{r.integers(100, 9000) / 100:.2f}")
            day += r.exponential(gap)
    return sorted(found, key=lambda line: line.split(",")[1])


def write(folder: Path, lines: list[str] | None = None, config: str = CONFIG) -> Path:
    """Lay the project into a folder and return its file."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n".join(["customer_id,event_time,event,value", *(rows() if lines is None else lines)]) + "\n"
    (folder / "events.csv").write_text(text, "utf-8")
    file = folder / "predseg.yaml"
    file.write_text(config, "utf-8")
    return file


def copied(trained: Path, folder: Path) -> Path:
    """Return the project file of a copy of a trained project."""
    shutil.copytree(trained, folder, dirs_exist_ok=True)
    return folder / "predseg.yaml"
