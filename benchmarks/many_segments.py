"""Whole commands about many segments, interpreter and imports included: `predseg segment`, the first time and again, and `predseg review`.

    python -m benchmarks.many_segments                 # 1 million customers, 10 million events; 1, 100 and 1,000 segments
    python -m benchmarks.many_segments --segments 100
    python -m benchmarks.many_segments --small

The rules are those of `benchmarks.segments`, as YAML. The peak is that of the second `predseg segment`, which holds what the first one recorded.
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

from benchmarks.histories import write_source
from benchmarks.memory import CONFIG
from benchmarks.segments import FULL, SMALL, rules
from benchmarks.timing import table
from predseg.language import conditions as c
from predseg.language.time import DAY

FILE = 100
"""So many segments stand in a file."""


def as_yaml(condition: c.Condition) -> str:
    """Return a condition of the random rules as it stands in a rule file."""
    if isinstance(condition, c.All):
        return "{all: [" + ", ".join(map(as_yaml, condition.of)) + "]}"
    assert isinstance(condition, c.Did)
    measure, comparison = condition.measure, condition.comparison
    parts = [f"did: {measure.events.names[0]}", f"within: {(measure.window.start or 0) // DAY} days"]
    parts += [f"where: {{product_id: [{', '.join(map(str, wanted.tests[0].operands))}]}}" for wanted in measure.events.where]
    parts += ["sum: value"] if measure.aggregate == "sum" else []
    return "{" + ", ".join([*parts, f"{comparison.op}: {comparison.low}"]) + "}"


def write_rules(folder: Path, number: int) -> None:
    """Write the rule files."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    about = "about: one of many\nowner: benchmarks@example.com\npurpose: email_marketing"
    texts = [f"segment: {name}\n{about}\nmatch: {as_yaml(rule.match)}\n" for name, rule in rules(number).items()]
    for first in range(0, number, FILE):
        (folder / f"rules{first:04d}.yaml").write_text("---\n".join(texts[first : first + FILE]), "utf-8")


def timed(folder: Path, *command: str) -> tuple[float, float]:
    """Seconds and peak memory, in GB, of a whole process."""
    began = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", "predseg", *command, "-q"], cwd=folder, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"predseg {' '.join(command)} exited with {child.returncode}")
    return time.perf_counter() - began, used.ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="20,000 events")
    parser.add_argument("--segments", type=lambda text: tuple(int(n) for n in text.split(",")), help="how many, with commas between")
    options = parser.parse_args()
    sizes = SMALL if options.small else FULL
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_source(folder / "source", sizes.events, sizes.customers)
        (folder / "predseg.yaml").write_text(CONFIG + "segments: rules/*.yaml\n", "utf-8")
        timed(folder, "check")
        for number in options.segments or ((1, 20) if options.small else (1, 100, 1_000)):
            write_rules(folder / "rules", number)
            for recorded in ("memberships", "segment_runs"):
                shutil.rmtree(folder / "store" / "tables" / recorded, ignore_errors=True)
            (first, _), (again, peak), (review, _) = (timed(folder, command) for command in ("segment", "segment", "review"))
            rows.append([number, f"{first:.1f}", f"{again:.1f}", f"{peak:.1f}", f"{review:.1f}"])
    print(f"{sizes.events:,} events, {sizes.customers:,} customers\n")
    print(table(["segments", "predseg segment, s", "again, s", "peak GB", "predseg review, s"], rows))


if __name__ == "__main__":
    main()
