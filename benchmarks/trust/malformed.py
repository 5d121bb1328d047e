"""Events of a shop, mutated: into files and through the collector, beside events that nobody touched.

Every line and every message is told apart here by hand, and must be accounted for there: accepted, a duplicate, quarantined, or a body
refused as a whole. Events that nobody touched are each in the table, whatever stood around them, and are answered as soon as without it.
"""

from __future__ import annotations

import http.client
import json
import random
import sqlite3
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.trust.figures import Figure, Tally
from predseg import Project
from predseg.shop import simulate

TRIED = "events of a shop, mutated, through files (three of four) and the collector, beside others that nobody touched"
PROMISED = "all accounted for, 0 of the others lost, 0 crashes, p99 of the others as without"
FULL, SMALL = 1_000_000, 4_000
FILE, BATCH = 50_000, 100
PROBES = 5
"""One probe for so many batches."""
UNTOUCHED = 0.1
AUTHORIZED = {"Content-Type": "application/json"}
Row = dict[str, Any]


def measure(cases: int, folder: Path, seed: int) -> Figure:
    tally, r, real = Tally(), random.Random(seed), events(seed)
    through_files = cases * 3 // 4
    for number in range(0, through_files, FILE):
        file(tally, folder / f"file-{number}", r, real, min(FILE, through_files - number), number)
    usual, beside = collector(tally, folder / "live", r, real, cases - through_files)
    counts = tally.counts
    parts = ", ".join(f"{counts[name]:,} {name}" for name in ("accepted", "duplicates", "quarantined", "refused"))
    return tally.figure(f"{parts}: {counts['missing']} unaccounted for; {counts['lost']} others lost; {counts['crashed']} crashes; p99 {beside:.1f} ms, {usual:.1f} without")  # fmt: skip


def events(seed: int) -> list[Row]:
    """Flat rows of the simulated shop, without what says which they are."""
    table = simulate(customers=300, seed=seed).events
    table = table.slice(0, 20_000)
    rows = []
    for row in table.to_pylist():
        known = {name: value for name, value in row.items() if value is not None and name not in ("event_id", "received_at")}
        rows.append(
            {name: value.isoformat() if isinstance(value, datetime) else float(value) if name == "value" else value for name, value in known.items()}
        )
    return [json.loads(json.dumps(row, default=str)) for row in rows]


# mutations: a row becomes a text, JSON or not

STRANGE: tuple[Any, ...] = (
    None,
    "",
    " ",
    0,
    -1,
    1e308,
    10**30,
    True,
    [],
    {},
    [[]],
    {"a": 1},
    "never",
    "\ud800",
    "\x00",
    "x" * 5_000,
    "🛒",
    "'; --",
    "NaN",
    1.5,
)
TIMES = (
    "2026-13-01",
    "1e99",
    "9999-12-31T23:59:59Z",
    "0001-01-01",
    "2026-02-30T00:00:00Z",
    "2026-03-01T10:00",
    0,
    -(2**63),
    2**63,
    "",
    "now",
    "2026-03-01T25:00:00Z",
)


def mutated(r: random.Random, row: Row, others: Sequence[str], message: bool) -> str:
    """One mutated event as text."""
    ids, time_ = ("messageId", "timestamp") if message else ("event_id", "event_time")
    row = json.loads(json.dumps(row))
    way = r.randrange(14)
    if way < 4:
        row[r.choice(list(row))] = r.choice(STRANGE)
    elif way < 6:
        row[time_] = r.choice(TIMES)
    elif way == 6:
        del row[r.choice(list(row))]
    elif way == 7:
        row[ids] = r.choice(others) if others else "twice"
    elif way == 8:
        row[r.choice(["value", "new", "properties", "traits", "customer_id", "userId", "type"])] = r.choice(STRANGE)
    elif way == 9:
        row["deep"] = nested(r.choice([2, 15, 16, 17, 60, 400]))
    text = json.dumps(row)
    at = r.randrange(1, len(text))
    if way == 10:
        return text[:at]
    if way == 11:
        return text[:at] + r.choice(["\\", '"', "{", "}", ",", "\\u", "\x01", "NaN", "]"]) + text[at:]
    if way == 12:
        return text[:-1] + ', "event": "Twice", "event": "Twice"}'
    if way == 13:
        return text[:-1] + r.choice([', "x": NaN}', ', "x": 1e999}', ', "x": -Infinity}', f', "x": {"9" * 400}}}', "}}"])
    return text


def nested(levels: int) -> Any:
    found: Any = 1
    for _ in range(levels):
        found = [found]
    return found


# files


def file(tally: Tally, folder: Path, r: random.Random, real: list[Row], lines: int, first: int) -> None:
    """One file of a source, read by a project of its own."""
    folder.mkdir()
    untouched, known = [], list[str]()
    with (folder / "events.jsonl").open("wb") as out:
        for number in range(lines):
            row = {**r.choice(real), "event_id": f"e{first + number}"}
            if r.random() < UNTOUCHED:
                untouched.append(row["event_id"])
                text = json.dumps(row)
            else:
                text = mutated(r, row, known[-50:], message=False)
                known.append(row["event_id"])
            out.write(text.encode("utf-8", "surrogatepass").replace(b"\n", b" ") + b"\n")
    (folder / "predseg.yaml").write_text("project: p\ntimezone: UTC\ncontract: {tolerance: 100%}\nsources: {e: {path: events.jsonl}}\n")
    tally.cases += lines
    try:
        project = Project.load(folder)
        [report] = project.check().sources
        there = set(project.events()["event_id"].to_pylist())
    except Exception as error:
        tally.counts["crashed"] += 1
        tally.fault(f"lines from {first}: {type(error).__name__}: {error}")
        return
    for name in ("accepted", "duplicates", "quarantined"):
        tally.counts[name] += getattr(report, name)
    accounted(tally, f"lines from {first}", lines, report.accepted + report.duplicates + report.quarantined)
    whole(tally, f"lines from {first}", untouched, there)


def accounted(tally: Tally, what: str, sent: int, told: int) -> None:
    tally.counts["missing"] += abs(sent - told)
    tally.demand(sent == told, f"{what}: {sent:,} sent, {told:,} accounted for")


def whole(tally: Tally, what: str, untouched: Sequence[str], there: set[str]) -> None:
    lost = [one for one in untouched if one not in there]
    tally.counts["lost"] += len(lost)
    tally.demand(not lost, f"{what}: {len(lost)} events that nobody touched are not in the table, such as {lost[:3]}")


# the collector


def collector(tally: Tally, folder: Path, r: random.Random, real: list[Row], messages: int) -> tuple[float, float]:
    """A real server over a real live database; return p99 in milliseconds of single events among untouched and among mutated batches."""
    from tests.live.serving import running
    from tests.live.test_serving import lay, served

    project = lay(folder, "project: p\nsources: {}\nsegments: segments.yaml\n")
    times: dict[bool, list[float]] = {False: [], True: []}
    untouched: list[str] = []
    with served(project) as desk, running(desk=desk) as up:
        client = Client(up.port)
        number = sent = 0
        while sent < messages:
            for among in (False, True):
                bodies, ids = list(packed(r, real, number, among)), list[str]()
                for body, count, whole_ids in bodies:
                    told(tally, client.ask(body), body, count)
                    ids += whole_ids
                    sent += count if among else 0
                    number += count
                untouched += ids
                begin = time.perf_counter()
                probe = f"p{number}{among}"
                answer = client.ask(json.dumps(message(r.choice(real), probe)).encode(), "/v1/track")
                times[among].append(1000 * (time.perf_counter() - begin))
                told(tally, answer, b"a probe", 1)
                untouched.append(probe)
        status, health, _ = up.ask("/health")
        total = health["received"]
        tally.demand(
            total["received"] == sum(total[name] for name in ("accepted", "duplicates", "quarantined", "suppressed")), f"the server counts {total}"
        )
    with closing(sqlite3.connect(folder / "store" / "live.db")) as connection:
        there = {row[0] for row in connection.execute("select event_id from log")}
        refused = connection.execute("select count(*) from refused").fetchone()[0]
    whole(tally, "the collector", untouched, there)
    tally.demand(refused == total["quarantined"], f"{refused:,} in quarantine of {total['quarantined']:,}")
    usual, beside = (statistics.quantiles(times[among], n=100)[98] if len(times[among]) > 1 else 0.0 for among in (False, True))
    tally.demand(beside <= 2 * usual + 10, f"p99 is {beside:.1f} ms among mutated events and {usual:.1f} without")
    return usual, beside


def message(row: Row, name: str) -> Row:
    """A flat row as a tracking client sends it."""
    more = {key: value for key, value in row.items() if key not in ("customer_id", "anonymous_id", "event", "event_time")}
    who = {"userId": row["customer_id"]} if row.get("customer_id") else {"anonymousId": row.get("anonymous_id", "a")}
    return {"type": "track", **who, "event": row["event"], "timestamp": row["event_time"], "messageId": name, "properties": more}


def packed(r: random.Random, real: list[Row], number: int, among: bool) -> Iterator[tuple[bytes, int, list[str]]]:
    """Some batches, and alone whatever would break the batch around it; each with how many messages it has, and which nobody touched."""
    for batch in range(PROBES):
        texts, ids, known = [], [], list[str]()
        for n in range(BATCH):
            name = f"m{number}.{batch}.{n}"
            whole_one = message(r.choice(real), name)
            if not among or r.random() < UNTOUCHED:
                ids.append(name)
                texts.append(json.dumps(whole_one))
                continue
            text = mutated(r, whole_one, known[-50:], message=True)
            known.append(name)
            if is_json(text):
                texts.append(text)
            else:
                yield text.encode("utf-8", "surrogatepass"), 1, []
        yield f'{{"batch": [{",".join(texts)}]}}'.encode("utf-8", "surrogatepass"), len(texts), ids


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def told(tally: Tally, answer: tuple[int, Any], body: bytes, count: int) -> None:
    """Count what the server says of a body; one that is refused as a whole must say why."""
    tally.cases += count
    status, said = answer
    if status == 200:
        for name in ("accepted", "duplicates", "quarantined"):
            tally.counts[name] += said[name]
        accounted(tally, f"{body[:80]!r}", count, said["accepted"] + said["duplicates"] + said["quarantined"])
    elif 400 <= status < 500 and said:
        tally.counts["refused"] += count
        tally.demand(count == 1, f"{status}: {count} messages were refused together: {said}")
    else:
        tally.counts["crashed"] += 1
        tally.fault(f"{status} {said} for {body[:200]!r}")


class Client:
    """One connection that is kept open."""

    def __init__(self, port: int) -> None:
        from base64 import b64encode

        from tests.live.serving import WRITE

        self.port, self.connection = port, http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.headers = {**AUTHORIZED, "Authorization": "Basic " + b64encode(f"{WRITE}:".encode()).decode()}

    def ask(self, body: bytes, path: str = "/v1/batch") -> tuple[int, Any]:
        for _ in range(2):
            try:
                self.connection.request("POST", path, body, self.headers)
                answer = self.connection.getresponse()
                return answer.status, json.loads(answer.read() or b"null")
            except (http.client.HTTPException, ConnectionError):  # closed after a refusal
                self.connection.close()
                self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        return 0, "no answer"
