"""Real visitors replayed a thousand times as fast as they came, through the durable loop: does it keep up?

The clock of the world is simulated: it jumps to the next arrival or timer, and goes on by what the work takes, measured. So
nobody sleeps, and what waits meanwhile is taken together in the next transaction, as `predseg serve` does.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from predseg.evaluate.live import Engine
from predseg.evaluate.program import Program, Rule
from predseg.language.documents import parse_condition
from predseg.language.time import DAY, SECOND
from predseg.language.yaml import read_documents
from predseg.live.lines import Contract
from predseg.live.loop import Loop
from predseg.live.published import Published
from predseg.live.state import DATABASE, State, connect
from predseg.segments.facts import Facts

FILE = "retailrocket_carts_dev.parquet"
SPEED = 1_000
NAMES = {"added_to_cart": "Product Added", "session_started": "Session Started"}
RULES = (
    "{did: Product Added, within: 3 days, then: {did_not: [Order Completed, Product Added], within: 24 hours}}",
    "{did: Product Added, at_least: 3, within: 48 hours}",
    "{did: Session Started, at_least: 3, within: 7 days}",
)


def carts(folder: Path, days: int | None) -> list[dict[str, Any]]:
    """The rows of the file, in order of time; of its first days only when asked."""
    import pyarrow.parquet as pq

    found = pq.read_table(folder / FILE, columns=["customer_id", "event_time", "event_type"])
    times = found["event_time"].to_numpy().astype("datetime64[us]").astype(np.int64)
    columns = zip(times.tolist(), found["customer_id"].to_pylist(), found["event_type"].to_pylist(), strict=True)
    last = times.min() + days * DAY if days else times.max()
    return [{"customer_id": who, "event": NAMES[name], "event_time": at} for at, who, name in sorted(columns) if at <= last]


def replay(rows: Sequence[dict[str, Any]], folder: Path) -> Iterator[tuple[str, str]]:
    """Yield what is measured and the figures; times of the replay, of which a thousand pass in one of the world."""
    program = Program([Rule(f"r{i}", parse_condition(read_documents(text)[0])) for i, text in enumerate(RULES)])
    state, published = State(connect(folder / DATABASE)), Published(Facts())
    loop = Loop(Engine(program, published, recall=state.fetch), Contract(), published, state)
    lags: list[int] = []
    late: list[int] = []
    now, at, busy, used, end = rows[0]["event_time"], 0, 0.0, time.process_time(), rows[-1]["event_time"] + 4 * DAY
    began = now
    while at < len(rows) or (loop.next_due or end) < end:
        arrival = rows[at]["event_time"] if at < len(rows) else end
        now = max(now, min(arrival, loop.next_due or end))
        first = at
        while at < len(rows) and rows[at]["event_time"] <= now:
            at += 1
        start = time.perf_counter()
        changes = loop.feed(rows[first:at], now).changes
        spent = time.perf_counter() - start
        busy, done = busy + spent, now + int(spent * SECOND * SPEED)
        lags += [done - row["event_time"] for row in rows[first:at]]
        moments = {row["event_time"] for row in rows[first:at]}
        late += [done - change.at for change in changes if change.at not in moments]
        now = done
    used = time.process_time() - used
    loop.close()
    world = (now - began) / SECOND / SPEED
    yield f"events replayed at {SPEED:,} times real time, changes by the clock alone", f"{len(rows):,}, {len(late):,}"
    yield "of one core: working, waiting for the disk included", f"{used / world:.1%}, {busy / world:.1%}"
    for what, found in (("arrival to durable decision", lags), ("timer due to durable decision", late)):
        p99 = float(np.percentile(found, 99)) / SECOND if found else 0.0
        yield f"{what}, p99: of the world, of the replay", f"{p99 / SPEED * 1_000:,.0f} ms, {p99:,.0f} s"


def lines(folder: Path, days: int | None) -> Iterator[str]:
    """The table, line by line."""
    with tempfile.TemporaryDirectory() as store:
        for what, figure in replay(carts(folder, days), Path(store)):
            yield f"| {what} | {figure} |"
