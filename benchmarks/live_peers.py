"""The three live rules beside Bytewax and Pathway: events a second, and the share of the transitions that each finds.

    python -m benchmarks.live_peers [--events 100000] [--customers 5000] [--python PATH] [--small]

All read the same stream in the same run, one process each, once in order and once with a twentieth of the events up to six
hours late. A transition is a customer, a rule, entered or left, and the exact instant; what should be found is the log of the
sorted stream; it is said when due if the clock of the events was less than an hour further then. Pathway says it ahead, when the
event comes that will bring it about, and takes it back when another comes. Seconds are of the processors, of all threads. PATH is an interpreter that has the peers (``pip install bytewax pathway``).
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.live_by_hand import HOUR, Event, Transition, bytewax, pathway
from benchmarks.timing import table

ROOT = Path(__file__).resolve().parent.parent
RULES = ("abandoned", "spender", "looker")
NEEDS = {"predseg": ("benchmarks.live", "predseg.live.loop"), "bytewax": ("bytewax.operators", "bytewax.testing"), "pathway": ("pathway",)}


def streams(number: int, customers: int) -> dict[str, list[Event]]:
    """The events in order, and as they come when some are late."""
    from benchmarks.live import stream

    events = [(e["customer_id"], e["event"], e["event_time"], e["category"], float(e.get("value", 0))) for e in stream(number, customers)]
    r = random.Random(1)
    delayed = [(e[2] + (r.randrange(6 * HOUR) if r.random() < 0.05 else 0), i) for i, e in enumerate(events)]
    return {"in order": events, "5 % late": [events[i] for _, i in sorted(delayed)]}


def predseg(events: Iterable[Event], end: int) -> Iterator[tuple[Transition, bool]]:
    """Yield what the live loop says, and whether that is said or taken back."""
    from benchmarks.live import THREE
    from predseg.evaluate.live import Engine
    from predseg.evaluate.program import Program, Rule
    from predseg.language.documents import parse_condition
    from predseg.language.yaml import read_documents
    from predseg.live.lines import Contract
    from predseg.live.loop import Loop
    from predseg.live.published import Published
    from predseg.segments.facts import Facts

    rules = [Rule(name, parse_condition(read_documents(text)[0])) for name, text in zip(RULES, THREE, strict=True)]
    published = Published(Facts())
    loop, said = Loop(Engine(Program(rules), published), Contract(), published), set[Transition]()
    for customer, name, at, category, value in events:
        row = {"customer_id": customer, "event": name, "event_time": at, "category": category, "value": value}
        for change in loop.follow(row):
            yield from _netted(change, said)
    for change in loop.tick(end):
        yield from _netted(change, said)


def _netted(change: Any, said: set[Transition]) -> Iterator[tuple[Transition, bool]]:
    """A correction that takes back what was said at that instant, or says what should have been."""
    entered = change.change == "entered"
    opposite = (change.customer_id, change.segment, not entered, change.at)
    if change.correction and opposite in said:
        said.remove(opposite)
        yield opposite, False
        return
    transition = (change.customer_id, change.segment, entered, change.at)
    said.add(transition)
    yield transition, True


class Replay:
    """Events as they are read, and the transitions that stand, with the clock of the events when each was said."""

    def __init__(self, events: Sequence[Event]) -> None:
        self.events, self.clock, self.end = events, 0, max(e[2] for e in events)
        self.standing: dict[Transition, int] = {}

    def __iter__(self) -> Iterator[Event]:
        for event in self.events:
            self.clock = max(self.clock, event[2])
            yield event

    def say(self, transition: Transition, add: bool = True) -> None:
        """Note what a tool says, or takes back."""
        if add:
            self.standing.setdefault(transition, self.clock)
        else:
            self.standing.pop(transition, None)


def work(tool: str, events: list[Event]) -> dict[str, Any]:
    """Run a tool over a stream: its seconds, the transitions that stand in the end, and which of them were said when due."""
    for module in NEEDS[tool]:
        importlib.import_module(module)
    replay = Replay(events)
    began = time.process_time()
    if tool == "predseg":
        for transition, add in predseg(replay, replay.end):
            replay.say(transition, add)
    else:
        {"bytewax": bytewax, "pathway": pathway}[tool](replay, replay.end, replay.say)
    seconds = time.process_time() - began
    due = [t for t, clock in replay.standing.items() if clock < t[3] + HOUR]
    return {"seconds": seconds, "found": list(replay.standing), "due": due if tool != "pathway" else None}


def apart(tool: str, python: str, file: Path) -> dict[str, Any] | str:
    """Run a tool in a process of its own; the reason when it cannot."""
    done = subprocess.run([python, "-m", "benchmarks.live_peers", "--tool", tool, str(file)], cwd=ROOT, capture_output=True, text=True)
    last = done.stdout.strip().rpartition("\n")[2]
    if done.returncode == 0 and last.startswith("{"):
        return dict(json.loads(last))
    if done.returncode == 3:
        return "not installed"
    raise RuntimeError(f"{tool}: {done.stderr[-2_000:]}")


def lines(number: int, customers: int, python: str) -> Iterator[Sequence[object]]:
    """One row for each stream and tool."""
    with tempfile.TemporaryDirectory() as folder:
        expected: set[Transition] = set()
        for name, events in streams(number, customers).items():
            file = Path(folder) / "events.json"
            file.write_text(json.dumps(events))
            ours = 0.0
            for tool in NEEDS:
                done = apart(tool, sys.executable if tool == "predseg" else python, file)
                if isinstance(done, str):
                    yield name, tool, done, "", "", "", ""
                    continue
                found = {tuple(t) for t in done["found"]}
                expected, ours = expected or found, ours or done["seconds"]
                right, n = found & expected, max(len(expected), 1)
                due = "ahead" if done["due"] is None else f"{len(right & {tuple(t) for t in done['due']}) / n:.1%}"
                speed, rate = f"{ours / done['seconds']:.2f}", f"{number / done['seconds']:,.0f}"
                yield name, tool, speed, rate, f"{len(right) / n:.2%} of {len(expected):,}", f"{len(found - expected):,}", due


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--customers", type=int, default=5_000)
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has the peers")
    parser.add_argument("--small", action="store_true", help="a few seconds, to keep the script alive")
    parser.add_argument("--tool", nargs=2, metavar=("TOOL", "FILE"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.tool:
        tool, file = chosen.tool
        if importlib.util.find_spec(tool) is None:
            sys.exit(3)
        print(json.dumps(work(tool, [tuple(e) for e in json.loads(Path(file).read_text())])))
        return
    events, customers = (3_000, 150) if chosen.small else (chosen.events, chosen.customers)
    print(table(["stream", "tool", "speed", "events/s", "found", "wrong", "when due"], list(lines(events, customers, chosen.python))))


if __name__ == "__main__":
    main()
