"""What Spark costs on one machine: the same work over the same stored events, on local[2] and embedded.

    python -m benchmarks.spark            # 2,000,000 events of 200,000 customers
    python -m benchmarks.spark --small

Both read the same files and answer with the same function. Spark's session, and its first task, which starts Python on the workers, are
counted by themselves: a process pays for them once.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.features import measures
from benchmarks.histories import end, write_store
from benchmarks.segments import rules
from benchmarks.timing import medians, table
from predseg.evaluate.ahead import Over, here
from predseg.forecast.features import FeatureSet, each_frame
from predseg.language.engines import Spark
from predseg.segments.facts import Facts
from predseg.segments.population import members_at
from predseg.spark import OnSpark, session_of, spread

ENGINE = Spark("local[2]", (("spark.ui.enabled", "false"),))


def digest(frame: pd.DataFrame) -> tuple[int, int]:
    """Rows of a block's features, and the sum of their hashes: what comes of features that stay where they are made."""
    return len(frame), int(pd.util.hash_pandas_object(frame, index=False).to_numpy().sum(dtype=np.uint64))


def features(files: list[Path], declared: FeatureSet, over: Over) -> list[tuple[int, int]]:
    """Features of everyone that stay where they are made."""
    return list(each_frame(digest, files, [end()], declared, over=over))


def brought(files: list[Path], declared: FeatureSet, over: Over) -> int:
    """Features of everyone, brought to the driver."""
    return sum(len(frame) for frame in each_frame(lambda frame: frame, files, [end()], declared, over=over))


def segments(files: list[Path], over: Over) -> list[tuple[str, int]]:
    """Members of 20 segments."""
    return [(name, len(members)) for name, members in members_at(files, rules(20), end(), Facts(), over=over).items()]


def starting() -> tuple[float, float]:
    """Seconds until there is a session, and until its first task has been answered."""
    begin = time.perf_counter()
    session_of(ENGINE)
    ready = time.perf_counter()
    assert list(spread(ENGINE, lambda item: [item], [1, 2])) == [1, 2]
    return ready - begin, time.perf_counter() - ready


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    asked = parser.parse_args()
    events, repeat = (20_000, 1) if asked.small else (asked.events, asked.repeat)
    customers = events // 10
    declared = FeatureSet(tuple((f"m{i}", measure) for i, measure in enumerate(measures())))
    steps: dict[str, Any] = {
        "features, where they are made": partial(features, declared=declared),
        "features, brought to the driver": partial(brought, declared=declared),
    }
    steps["members of 20 segments"] = segments
    with tempfile.TemporaryDirectory() as folder:
        files = write_store(Path(folder) / "events", events, customers)
        session, first = starting()
        rows: list[list[object]] = []
        for name, step in steps.items():
            seconds, found = medians({"here": partial(step, files, over=here), "spark": partial(step, files, over=OnSpark(ENGINE))}, repeat)
            assert found["here"] == found["spark"], name
            rows.append([name, f"**{seconds['spark'] / seconds['here']:.2f}**", f"{seconds['spark']:.2f}", f"{seconds['here']:.2f}"])
    print(f"{events:,} events, {customers:,} customers, {len(files)} files; session {session:.1f} s, first task {first:.1f} s\n")
    print(table(["step", "local[2] / embedded", "local[2], s", "embedded, s"], rows))


if __name__ == "__main__":
    main()
