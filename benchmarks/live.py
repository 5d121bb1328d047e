"""The live engine: events a second in memory and durable, with 3 and with 20 rules, memory a customer, and a restart.

    python -m benchmarks.live [--events 300000] [--customers 100000] [--data FOLDER] [--small]

Every figure is of one core. Rates are of the work from a parsed row to its decision, a thousand rows at a time; the durable one commits
each thousand (to the disk, ``synchronous=FULL``). Rates are by the time of the processor; of the durable one the time that passed is
also given, waiting for the disk included. FOLDER holds `retailrocket_carts_dev.parquet`, which is replayed (`live_replay.py`).
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import live_replay
from predseg.evaluate.live import Engine
from predseg.evaluate.program import Program, Rule
from predseg.language.documents import parse_condition
from predseg.language.time import DAY, SECOND
from predseg.language.yaml import read_documents
from predseg.live.calm import steady
from predseg.live.lines import Contract
from predseg.live.loop import Loop
from predseg.live.opening import resumed
from predseg.live.published import Published
from predseg.live.state import DATABASE, State, connect
from predseg.segments.facts import Facts

BATCH = 1_000
START = 1_767_225_600 * SECOND
NAMES = ("Product Viewed", "Product Viewed", "Product Viewed", "Product Added", "Product Added", "Order Completed")
THREE = (
    "{did: Product Added, within: 3 days, then: {did_not: [Order Completed, Product Added], within: 24 hours}}",
    "{did: Order Completed, sum: value, more_than: 500, within: 180 days}",
    "{did: Product Viewed, where: {category: Luxury Watches}, at_least: 3, within: 48 hours}",
)
CATEGORIES = ("Luxury Watches", "Shoes", "Toys", "Books", "Garden")


def rules(number: int) -> list[Rule]:
    """The three rules, then variations of them with other windows and bounds."""
    texts = list(THREE)
    for i in range(number - 3):
        hours, n, category = 24 + 12 * i, 1 + i % 4, CATEGORIES[i % 5]
        texts.append(f"{{did: Product Viewed, where: {{category: {category}}}, at_least: {n}, within: {hours} hours}}")
    return [Rule(f"r{i}", parse_condition(read_documents(text)[0]), str(i)) for i, text in enumerate(texts)]


def stream(events: int, customers: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of a shop: one about every 26 seconds, of anybody."""
    r = random.Random(seed)
    return [
        {
            "customer_id": f"c{r.randrange(customers)}",
            "event": (name := r.choice(NAMES)),
            "event_time": START + 26 * SECOND * i,
            "event_id": f"e{i}",
            "category": r.choice(CATEGORIES),
            **({"value": r.randrange(5, 300)} if name == "Order Completed" else {}),
        }
        for i in range(events)
    ]


def in_memory(rows: list[dict[str, Any]], number: int) -> tuple[float, int, float]:
    """Events a second of the engine alone, how many changes there were, and the bytes that a customer takes."""
    engine, contract = Engine(Program(rules(number)), Published(Facts())), Contract()
    seen = [contract.read(row) for row in rows]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    changes, began = 0, time.process_time()
    for i in range(0, len(seen), BATCH):
        for one in seen[i : i + BATCH]:
            engine.add(one.customer_id, one.anonymous_id, one.time, one.visible, one.event, one.properties)
        changes += len(engine.advance(one.visible))
    changes += len(engine.advance(seen[-1].time + DAY))
    rate = len(rows) / (time.process_time() - began)
    return rate, changes, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / len(engine.people)


def durable(rows: list[dict[str, Any]], number: int, folder: Path, *, at_once: bool = True) -> tuple[float, float, float]:
    """Events a second through the loop and onto the disk, by the processor and by the clock on the wall, and the seconds of a restart.

    ``at_once``: a batch is received at one instant, as by `predseg serve`; otherwise each row moves the clock, as in `predseg live`.
    """
    state = State(connect(folder / DATABASE))
    program = Program(rules(number))
    loop = Loop(Engine(program, Published(Facts()), recall=state.fetch), Contract(), Published(Facts()), state)
    began, used = time.perf_counter(), time.process_time()
    for i in range(0, len(rows), BATCH):
        batch = rows[i : i + BATCH]
        if at_once:
            loop.feed(batch, batch[-1]["event_time"])
            continue
        loop.expect(batch)
        for row in batch:
            loop.follow(row)
        loop.commit((), 0)
    rate, passed = len(rows) / (time.process_time() - used), len(rows) / (time.perf_counter() - began)
    loop.close()
    began = time.perf_counter()
    loop = resumed(program, Contract(), Published(Facts()), State(connect(folder / DATABASE)))
    loop.engine.advance(loop.engine.clock + 1)
    loop.close()
    return rate, passed, time.perf_counter() - began


def lines(rows: list[dict[str, Any]], customers: int) -> Iterator[str]:
    """The table, line by line."""
    yield "| what | figure |"
    yield "|---|---:|"
    rate, changes, grown = in_memory(rows, 3)
    yield f"| in memory, 3 rules ({changes:,} changes) | {rate:,.0f} events/s |"
    yield f"| memory a customer ({len(rows) / customers:.1f} events each) | {grown:,.0f} bytes |"
    steady()
    rates = {3: in_memory(rows, 3)[0]}
    yield f"| the same after `steady()`, as production does it | {rates[3]:,.0f} events/s |"
    rates[20], changes, _ = in_memory(rows, 20)
    yield f"| in memory, 20 rules ({changes:,} changes) | {rates[20]:,.0f} events/s |"
    yield f"| cost of 20 rules | {rates[3] / rates[20]:.1f} times that of 3 |"
    for how, at_once in (("received together, as by `serve`", True), ("each moving the clock, as in `live --durable`", False)):
        with tempfile.TemporaryDirectory() as folder:
            rate, passed, restart = durable(rows, 3, Path(folder), at_once=at_once)
        yield f"| durable, 3 rules, {BATCH:,} rows a transaction, {how} | {rate:,.0f} events/s ({passed:,.0f} with waiting) |"
    yield f"| restart with {min(customers, len(rows)):,} customers | {restart:.1f} s |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--customers", type=int, default=100_000)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="replay real carts too")
    parser.add_argument("--small", action="store_true", help="a few seconds, to keep the script alive")
    chosen = parser.parse_args()
    events, customers = (5_000, 1_000) if chosen.small else (chosen.events, chosen.customers)
    for line in lines(stream(events, customers), customers):
        print(line, flush=True)
    if chosen.data is not None:
        for line in live_replay.lines(chosen.data, 3 if chosen.small else None):
            print(line, flush=True)


if __name__ == "__main__":
    main()
