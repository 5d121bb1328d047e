"""Whole commands, interpreter and imports included, on the simulated shop of the demo: from its files to its report.

python -m benchmarks.commands [--customers 100000] [--keep FOLDER] [--small]

`segment` is timed as the first run after new data (scores are new, nothing is recorded), and again with nothing new. FOLDER keeps the
shop: a second call simulates and trains nothing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.timing import table
from predseg import Project
from predseg.cli.demo import simulate, write_project

LIMIT = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--customers", type=int, default=100_000)
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    parser.add_argument("--small", action="store_true", help="a shop of 1,000")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        shop = kept_shop(options.keep or Path(folder) / "shop", 1_000 if options.small else options.customers)
        rows, first = measured(shop)
        report = Project.load(shop / "predseg.yaml").last_check()
    assert report is not None
    print(f"{report.rows:,} events of {report.customers:,} customers\n")
    print(table(["command", "seconds"], rows))
    if first > LIMIT and not options.small:
        sys.exit(f"predseg segment takes more than {LIMIT:.0f} seconds")


def kept_shop(folder: Path, customers: int) -> Path:
    """Return the folder of the demo's shop, simulated unless it is there."""
    if not folder.exists():
        simulate(folder, customers)
        write_project(folder)
    return folder


def measured(shop: Path) -> tuple[list[list[str]], float]:
    """Lines of the table, and how long the first `predseg segment` took."""
    rows = []
    if not (shop / "models").exists():
        rows = [[f"predseg {command}", f"{timed(shop, command):.1f}"] for command in ("check", "train", "score")]
    for table_ in ("rfv", "memberships", "segment_runs"):
        shutil.rmtree(shop / "store" / "tables" / table_, ignore_errors=True)
    first = timed(shop, "segment")
    rows += [["predseg segment, the first after new data", f"**{first:.1f}**"]]
    rows += [["predseg segment, again", f"{timed(shop, 'segment'):.1f}"], ["predseg report", f"{timed(shop, 'report'):.1f}"]]
    rows += [["predseg run, with new scores and segments", f"{timed(shop, 'run', '--full-refresh'):.1f}"]]
    return [*rows, ["predseg run, with nothing new", f"{timed(shop, 'run'):.1f}"]], first


def timed(shop: Path, *command: str) -> float:
    """Seconds of a whole process."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "predseg", *command], cwd=shop, capture_output=True, text=True, env=environment, check=False)
    if done.returncode not in (0, 1):  # 1: it is done, and a watch is failing
        sys.exit(done.stderr)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
