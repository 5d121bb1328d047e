"""How long the editor of the page takes for an edited condition: read, checked, counted on a part of the customers, and told.

python -m benchmarks.page [--customers 1000000] [--small]

Five events a customer in a year. Every question is another threshold, and opens the tables anew as the page does.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.timing import table
from predseg import Project
from predseg.page import rules

GOAL = 0.300
EVENTS_EACH, YEAR = 5, 365 * 86_400
KINDS = ("Product Viewed", "Product Viewed", "Product Added", "Order Completed", "Email Delivered")
CATEGORIES = ("Luxury Watches", "Shoes", "Books", "Toys")
CONFIG = "project: large\nsources: {events: {path: events.parquet}}\nsegments: rules.yaml\n"
RULE = """\
segment: spenders
match:
  all:
    - {did: Order Completed, sum: value, more_than: 200, within: 6 months}
    - {did: Product Viewed, where: {category: Luxury Watches}, within: 90 days}
    - {did_not: Order Completed, within: 30 days}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--customers", type=int, default=1_000_000)
    parser.add_argument("--questions", type=int, default=11)
    parser.add_argument("--small", action="store_true", help="2,000 customers")
    options = parser.parse_args()
    customers = 2_000 if options.small else options.customers
    with tempfile.TemporaryDirectory() as folder:
        project = laid(Path(folder), customers)
        took, last = asked(project, options.questions)
    row = [
        f"{customers:,}",
        f"{EVENTS_EACH * customers:,}",
        f"{1000 * median(took):.0f}",
        f"{1000 * max(took):.0f}",
        f"{last.members} {last.about}".strip(),
    ]
    print(table(["customers", "events", "ms, median", "ms, longest", "members"], [row]))
    if median(took) > GOAL and not options.small:
        sys.exit(f"more than {1000 * GOAL:.0f} ms")


def laid(folder: Path, customers: int) -> Project:
    """A project with its events table."""
    r, n = np.random.default_rng(7), EVENTS_EACH * customers
    columns = {
        "customer_id": pa.array(np.char.add("c", np.char.zfill(r.integers(0, customers, n).astype(str), 7))),
        "event_time": pa.array(r.integers(0, YEAR, n) * 1_000_000, pa.timestamp("us", "UTC")),
        "event": pa.array(np.array(KINDS)[r.integers(0, len(KINDS), n)]),
        "value": pa.array(r.integers(0, 20_000, n) / 100),
        "category": pa.array(np.array(CATEGORIES)[r.integers(0, len(CATEGORIES), n)]),
    }
    pq.write_table(pa.table(columns), folder / "events.parquet")
    (folder / "predseg.yaml").write_text(CONFIG)
    (folder / "rules.yaml").write_text(RULE)
    project = Project.load(folder)
    project.check()
    return project


def asked(project: Project, questions: int) -> tuple[list[float], rules.Funnel]:
    """Seconds of each question but the first, and the last answer."""
    took = []
    for number in range(questions + 1):
        begin = time.perf_counter()
        found = rules.tried(*project._now(), "spenders", RULE.replace("200", str(200 + number)))
        took.append(time.perf_counter() - begin)
        assert found.funnel is not None and not found.refused, found.refused
    return took[1:], found.funnel


if __name__ == "__main__":
    main()
