"""How long `predseg --help` takes, beside Python that does nothing.

python -m benchmarks.startup
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.timing import medians, table

LIMIT = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="once")
    options = parser.parse_args()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    run = partial(subprocess.run, check=True, capture_output=True, env=environment)
    commands = {"predseg --help": ["-m", "predseg", "--help"], "python -c pass": ["-c", "pass"]}
    tools: dict[str, Callable[[], Any]] = {name: partial(run, [sys.executable, *rest]) for name, rest in commands.items()}
    tools["predseg --help"]()  # compiles once, as installing does
    seconds, _ = medians(tools, 1 if options.small else 5)
    print(table(["command", "seconds, median"], [[name, f"{found:.2f}"] for name, found in seconds.items()]))
    if seconds["predseg --help"] > LIMIT and not options.small:
        sys.exit(f"more than {LIMIT} seconds")


if __name__ == "__main__":
    main()
