"""Peak memory of reading in 20 million events, and of everyone's features, scores and 20 segments: all go block by block.

    python -m benchmarks.memory                          # 20 million events, 900,000 customers
    python -m benchmarks.memory --events 100_000_000     # five times as many events of as many customers; needs 25 GB of disk
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

LIMITS = {"ingest": 2.0, "features": 2.0, "scores": 2.0, "segments": 3.0}
"""GB, however many events: only memberships are held all at once."""
TREES, SEGMENTS = 100, 20
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
EVENTS = ("Order Completed", "Product Viewed", "Product Added", "Email Opened")


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


def scores(folder: Path) -> str:
    """Score every known customer at one moment with a hundred trees, with reasons, and write the table."""
    from benchmarks.scoring import make_bundle
    from predseg import Project
    from predseg.forecast.dataset import open_source
    from predseg.forecast.scoring import score
    from predseg.store import Store

    config = Project.load(folder / "predseg.yaml").config
    store = Store(config.store)
    source = open_source(config, store)
    table = score(make_bundle(source.features, str(folder / "model"), TREES), source.frames([end()]), as_of=end(), model="purchase")
    store.write("scores", table, end())
    return f"{table.num_rows:,} scores"


def segments(folder: Path) -> str:
    """Decide who is in the segments at one moment, and record it."""
    from predseg import Project

    run = Project.load(folder / "predseg.yaml").segments().run(end())
    return f"{sum(len(found.customers) for found in run.spells.values()):,} memberships in {SEGMENTS} segments"


def rules() -> str:
    """The segments: three conditions each, of which two count and one is an absence."""
    texts = []
    for i in range(SEGMENTS):
        one, two, three = (EVENTS[(i + k) % 4] for k in range(3))
        match = f"{{all: [{{did: {one}, at_least: {1 + i % 3}, within: {30 + 15 * i} days}}, {{did: {two}, within: {60 + 10 * i} days}}, "
        match += f"{{did_not: {three}, within: {1 + i % 5} days}}]}}"
        texts.append(f"segment: s{i}\nabout: rule {i}\nowner: benchmarks@example.com\npurpose: email_marketing\nmatch: {match}\n")
    return "---\n".join(texts)


STEPS = {"ingest": ingest, "features": features, "scores": scores, "segments": segments}


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
        (folder / "predseg.yaml").write_text(CONFIG + "segments: segments.yaml\n", "utf-8")
        (folder / "segments.yaml").write_text(rules(), "utf-8")
        rows = [_run(step, folder) for step in STEPS]
    print(f"{events:,} events, {customers:,} customers\n")
    print(table(["step", "peak, GB", "seconds", "what was made"], rows))
    if any(float(str(row[1]).strip("*")) > LIMITS[str(row[0])] for row in rows):
        sys.exit("more memory than promised")


def _run(step: str, folder: Path) -> list[object]:
    if sys.stderr.isatty():
        print(f"{step} ...", file=sys.stderr)
    command = [sys.executable, "-m", "benchmarks.memory", "--step", step, "--folder", str(folder)]
    found = subprocess.run(command, check=False, capture_output=True, text=True)
    if found.returncode:
        sys.exit(found.stderr)
    done, seconds, peak = found.stdout.strip().split("|")
    return [step, f"**{peak}**", seconds, done]


def peak() -> float:
    """Return the greatest resident set of this process so far, in GB."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says on Linux begins with the parent's
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) * 1024 / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9


if __name__ == "__main__":
    main()
