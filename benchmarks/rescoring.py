"""Live scores: milliseconds of a processor a customer, from its committed event to its new probability, by how many are scored together.

    python -m benchmarks.rescoring [--events 2000000] [--customers 200000] [--small]

The events table is as the store keeps it, the model one of 300 trees of 31 leaves; each customer also has an event that came live.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.histories import end, write_store
from benchmarks.scoring import feature_set, make_bundle
from benchmarks.timing import table
from predseg.config import load
from predseg.language.time import SECOND
from predseg.live.opening import open_durable
from predseg.project import Project
from predseg.segments.workspace import Workspace
from predseg.store import Store

CONFIG = """
project: bench
sources: {}
features:
  windows: [7 days, 30 days, 90 days, 365 days]
  events: {Order Completed: {value: value}, Product Viewed: {}, Email Opened: {}}
models:
  purchase: {predict: {did: Order Completed, within_next: 30 days}, refresh: live}
segments: rules.yaml
"""
RULES = "segment: likely\nrefresh: live\nmatch: {score: purchase, more_than: 0.5}\n"


def project_in(folder: Path, events: int, customers: int, trees: int) -> tuple[Project, Workspace]:
    """Lay a project with stored events and a model into a folder."""
    (folder / "predseg.yaml").write_text(CONFIG, "utf-8")
    (folder / "rules.yaml").write_text(RULES, "utf-8")
    write_store(folder / "store" / "tables" / "events", events, customers)
    bundle, project = make_bundle(feature_set(), str(folder / "bundle"), trees), Project(load(folder))
    return project, Workspace.open(project.config, Store(project.config.store), project.opted_out, None, lambda model: bundle)


def seconds(folder: Path, events: int, customers: int, trees: int) -> Iterator[tuple[int, float]]:
    """Yield how many customers were scored together, and the seconds a customer."""
    project, workspace = project_in(folder, events, customers, trees)
    loop, r, now = open_durable(project.config, workspace, end()), random.Random(0), end()
    for together in (1, 10, 100, 1_000):
        taken, rounds = 0.0, 5 if together < 1_000 else 2
        for _ in range(rounds):
            now += SECOND
            who = [f"c{number:08d}" for number in r.sample(range(customers), together)]
            loop.feed([{"customer_id": one, "event": "Product Viewed", "event_time": now} for one in who], now)
            began = time.process_time()
            loop.tick(now + 1)
            taken += time.process_time() - began
        yield together, taken / (rounds * together)
    assert not loop.unscored, loop.unscored
    loop.close()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--customers", type=int, default=200_000)
    parser.add_argument("--small", action="store_true", help="a few seconds, to keep the script alive")
    chosen = parser.parse_args()
    events, customers, trees = (20_000, 2_000, 20) if chosen.small else (chosen.events, chosen.customers, 300)
    with tempfile.TemporaryDirectory() as folder:
        rows = [(f"{n:,}", f"{1_000 * one:,.1f}") for n, one in seconds(Path(folder), events, customers, trees)]
    print(table(("scored together", "ms a customer"), rows))


if __name__ == "__main__":
    main()
