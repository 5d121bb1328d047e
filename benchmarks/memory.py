"""Peak memory of reading in 20 million events and of computing everyone's features: both go block by block.

    python -m benchmarks.memory            # 20 million events, 900,000 customers
    python -m benchmarks.memory --small

Each step is a process of its own; its peak is what the operating system says (resident set, Linux and macOS).
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.histories import end, write_source
from benchmarks.timing import table

LIMIT = 2.0
CONFIG = """
project: memory
store: store
sources:
  events:
    path: source/*.parquet
    columns: {customer_id: customer_id, event_time: event_time, event: event, value: value, event_id: event_id}
features:
  windows: [7 days, 30 days, 90 days, 365 days]
  events:
    Order Completed: {value: value, distinct: [product_id]}
    Product Viewed: {distinct: [product_id]}
    Email Opened: {}
"""


def ingest(folder: Path) -> str:
    """Read, check, sort and write the events table."""
    from predseg import Project

    report = Project.load(folder / "predseg.yaml").check()
    return f"{report.rows:,} events"


def features(folder: Path) -> str:
    """Compute the features of every known customer at one moment, block by block, as scoring does."""
    from predseg import Project
    from predseg.forecast.dataset import open_source
    from predseg.store import Store

    config = Project.load(folder / "predseg.yaml").config
    source = open_source(config, Store(config.store))
    rows = sum(map(len, source.frames([end()])))
    return f"{rows:,} customers × {len(source.features.names)} features"


STEPS = {"ingest": ingest, "features": features}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="100,000 events")
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--customers", type=int, default=900_000)
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="work here and leave it; a temporary folder by default")
    options = parser.parse_args()
    if options.step:
        begin = time.perf_counter()
        done = STEPS[options.step](options.folder)
        print(f"{done}|{time.perf_counter() - begin:.1f}|{peak():.2f}")
        return
    events, customers = (100_000, 5_000) if options.small else (options.events, options.customers)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        write_source(folder / "source", events, customers)
        (folder / "predseg.yaml").write_text(CONFIG, "utf-8")
        rows = [_run(step, folder) for step in STEPS]
    print(f"{events:,} events, {customers:,} customers; at most {LIMIT:.0f} GB\n")
    print(table(["step", "peak, GB", "seconds", "what was made"], rows))
    if any(float(str(row[1]).strip("*")) > LIMIT for row in rows):
        sys.exit("more memory than promised")


def _run(step: str, folder: Path) -> list[object]:
    command = [sys.executable, "-m", "benchmarks.memory", "--step", step, "--folder", str(folder)]
    done, seconds, peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip().split("|")
    return [step, f"**{peak}**", seconds, done]


def peak() -> float:
    """Return the greatest resident set of this process so far, in GB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


if __name__ == "__main__":
    main()
