"""How long the report of a large shop takes, and how large it is.

python -m benchmarks.report [--customers 100000] [--segments 30] [--no-models] [--small]

A simulated shop of two years with scores, and segments that were run every two weeks for half a year; the making of it is not counted.
The time is that of the command `predseg report` from its start to its end, with nothing but the page yet to be made.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.timing import table
from predseg.cli.demo import simulate, write_project

SECONDS, MEGABYTES = 15.0, 1.5
RULES = """\
segment: spenders_{number}
about: Spent more than {spent} in {days} days
match:
  all:
    - {{did: Order Completed, sum: value, more_than: {spent}, within: {days} days}}
    - {{did: Product Viewed, within: {days} days}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--customers", type=int, default=100_000)
    parser.add_argument("--segments", type=int, default=30)
    parser.add_argument("--keep", type=Path, help="a folder for the shop; used again when it is there")
    parser.add_argument("--no-models", action="store_true", help="train none: the report is without their sections")
    parser.add_argument("--small", action="store_true", help="500 customers, without models, two runs")
    options = parser.parse_args()
    customers = 500 if options.small else options.customers
    with tempfile.TemporaryDirectory() as folder:
        shop = options.keep or Path(folder) / "shop"
        if not (shop / "store").exists():
            made(shop, customers, options.segments, not (options.small or options.no_models), "100d" if options.small else "14d")
        begin = time.perf_counter()
        predseg(shop, "report", "--out", str(shop / "report.html"))
        seconds, size = time.perf_counter() - begin, (shop / "report.html").stat().st_size / 1e6
    print(table(["customers", "segments", "seconds", "MB"], [[f"{customers:,}", options.segments, f"{seconds:.1f}", f"{size:.2f}"]]))
    if (seconds > SECONDS or size > MEGABYTES) and not options.small:
        sys.exit(f"more than {SECONDS:.0f} s or {MEGABYTES} MB")


def made(shop: Path, customers: int, segments: int, models: bool, every: str) -> None:
    """Write the demo's project with more segments, and do everything that comes before a report."""
    shop.mkdir(parents=True, exist_ok=True)
    simulate(shop, customers)
    write_project(shop)
    own = sum(file.read_text("utf-8").count("\nsegment: ") for file in (shop / "segments").glob("*.yaml"))
    rules = [RULES.format(number=n, spent=50 * (n + 1), days=30 + 10 * n) for n in range(max(segments - own, 0))]
    (shop / "segments" / "more.yaml").write_text("---\n".join(rules), "utf-8")
    if models:
        predseg(shop, "train")
        predseg(shop, "score")
    predseg(shop, "segment", "--from", "2025-12-01", "--every", every)
    predseg(shop, "monitor", allowed=(0, 1, 7))  # what its watches say is not the question


def predseg(shop: Path, *arguments: str, allowed: tuple[int, ...] = (0,)) -> None:
    """Run a command on the shop."""
    command = [sys.executable, "-m", "predseg", arguments[0], "-q", "-c", str(shop / "predseg.yaml"), *arguments[1:]]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=os.environ)
    if done.returncode not in allowed:
        sys.exit(done.stderr)


if __name__ == "__main__":
    main()
