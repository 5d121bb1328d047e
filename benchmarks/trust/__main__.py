"""The figures of trust, each with its promise: what was tried, what was seen, and whether the promise held.

    python -m benchmarks.trust                      # everything, about twenty minutes
    python -m benchmarks.trust tampering optout     # some of them
    python -m benchmarks.trust --small              # a look at each

Each figure is found out in a process of its own: one that dies has failed. Ends with 1 when a promise did not hold.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.timing import table
from benchmarks.trust.figures import SHOWN, Figure

FIGURES = ("malformed", "definitions", "tampering", "optout", "erasure", "canaries", "requests", "webhooks", "formulas", "bombs", "killing", "disks")
SEED = 7


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trust", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which figures, by default all: {', '.join(FIGURES)}")
    parser.add_argument("--small", action="store_true", help="few cases, a look at each")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.names) - set(FIGURES):
        parser.error(f"no such figure: {', '.join(sorted(unknown))}; known are {', '.join(FIGURES)}")
    if options.alone:
        print(json.dumps(asdict(measured(options.names[0], options.small, options.seed))))
        return
    rows, faults = [], []
    for name in options.names or FIGURES:
        begin = time.perf_counter()
        found = in_its_own_process(name, options.small, options.seed)
        print(f"{name}: {time.perf_counter() - begin:.0f} s", file=sys.stderr, flush=True)
        rows.append(line(name, found))
        faults += [f"{name}: {fault}" for fault in found.faults[:SHOWN]]
    print(f"seed {options.seed}{', small' if options.small else ''}\n")
    print(table(["figure", "what is tried", "cases", "promised", "seen", "held"], rows).replace("---:", "---"))
    if faults:
        sys.exit("\n".join(["", *faults]))


def line(name: str, found: Figure) -> list[str]:
    module = figure(name)
    held = "not tried" if not found.cases and not found.faults else "yes" if not found.faults else f"**no: {len(found.faults):,}**"
    return [f"`{name}`", module.TRIED, f"{found.cases:,}", module.PROMISED, found.seen, held]


def figure(name: str) -> Any:
    """The module of a figure: what is TRIED and PROMISED, how many cases are FULL and SMALL, and how to ``measure``."""
    return importlib.import_module(f"benchmarks.trust.{name}")


def measured(name: str, small: bool, seed: int) -> Figure:
    """Find out a figure here, in a folder that is thrown away."""
    module = figure(name)
    with tempfile.TemporaryDirectory(prefix=f"trust-{name}-") as folder:
        found: Figure = module.measure(module.SMALL if small else module.FULL, Path(folder), seed)
    return found


def in_its_own_process(name: str, small: bool, seed: int) -> Figure:
    command = [sys.executable, "-m", "benchmarks.trust", name, "--alone", "--seed", str(seed), *["--small"] * small]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    try:
        found = json.loads(done.stdout.splitlines()[-1])
        return Figure(found["cases"], found["seen"], tuple(found["faults"]))
    except (IndexError, ValueError):
        return Figure(0, "nothing", (f"the process ended with {done.returncode}: {' '.join(command)}",))


if __name__ == "__main__":
    main()
