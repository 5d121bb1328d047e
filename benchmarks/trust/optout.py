"""People who say no while a message is on its way to them, in every order that the steps of both sides can take.

The steps are those of `predseg.activation`: claim, deliver, note, give back after a death; and of whoever says no: write it, wait
until nothing is in flight, acknowledge. One process takes them in a random order that the seed repeats. A customer is a schedule;
some hundred share a database. Then whole projects: everything that is written or answered about people who said no.
"""

from __future__ import annotations

import csv
import json
import random
import sqlite3
from collections import deque
from contextlib import chdir, closing, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from benchmarks.trust.figures import Figure, Tally
from predseg import Project
from predseg.activation import claims, outbox
from predseg.activation.claims import Gate, Message, Result, transaction
from predseg.cli import main
from predseg.history import privacy
from predseg.language.consent import Consent
from predseg.language.time import HOUR
from tests import small
from tests.activation.desk import CART, MAIL, Desk, entered

TRIED = "messages that race with a no, a yes and dying senders, in random orders of their steps; everything written or answered about who said no"
PROMISED = "0 messages after a no was acknowledged, 0 rows"
FULL, SMALL = 100_000, 2_000
TOGETHER = 200
KEYS = [b"a key that is long enough"]
PURPOSE = "email_marketing"


def measure(cases: int, folder: Path, seed: int) -> Figure:
    tally = Tally()
    for number in range(0, cases, TOGETHER):
        Round(tally, random.Random(seed * 1_000_003 + number), min(TOGETHER, cases - number)).run()
    counts = tally.counts
    tally.demand(min(counts["sent"], counts["suppressed"], counts["deaths"]) > cases / 100, f"too little happened: {dict(counts)}")
    looked = whole_projects(tally, folder)
    return tally.figure(
        f"{counts['sent']:,} sent, {counts['after']} of them after a no; {counts['suppressed']:,} suppressed, {counts['deaths']:,} deaths; "
        f"{counts['rows']} rows in {looked} tables, files and answers"
    )


@dataclass
class Round:
    """Some schedules over one database."""

    tally: Tally
    r: random.Random
    customers: int
    left_alone: set[str] = field(default_factory=set)  # their no was acknowledged, and no yes came since
    waiting: dict[str, int] = field(default_factory=dict)  # said no, acknowledgement still to come
    taken: deque[Message] = field(default_factory=deque)
    done: list[Result] = field(default_factory=list)
    clock: int = 2 * HOUR

    def run(self) -> None:
        self.desk = Desk(CART + MAIL + f"purpose: {PURPOSE}\n")
        self.connection = self.desk.connection
        self.connection.execute("pragma synchronous = off")
        privacy.prepare(self.connection, KEYS)
        self.gate = Gate(self.desk.segments, outbox.still, privacy.opted_out)
        self.ids = [f"c{n}" for n in range(self.customers)]
        self.tally.cases += self.customers
        steps = [self.due] * self.customers + [self.says_no] * int(self.customers * 0.8) + [self.says_yes] * (self.customers // 20)
        self.r.shuffle(steps)
        self.waiting_ids, self.saying = list(self.ids), self.r.sample(self.ids, len(self.ids))
        for step in steps:
            step()
            for _ in range(self.r.randrange(4)):
                self.r.choices([self.claims, self.delivers, self.notes, self.acknowledges, self.dies], [3, 6, 3, 4, 0.15])[0]()
        while self.waiting or self.taken or claims.first_due(self.connection, self.gate, "mail") is not None:
            self.r.choice([self.claims, self.delivers, self.notes, self.acknowledges])()
        self.notes()
        self.tally.counts["suppressed"] += self.desk.rows("status").count("suppressed")
        self.connection.close()

    # who decides

    def due(self) -> None:
        self.desk.tell(entered(self.desk, 1, customer=self.waiting_ids.pop()))

    # the sender

    def claims(self) -> None:
        if not self.taken:
            self.taken.extend(claims.claim(self.connection, self.gate, "mail", self.clock, self.r.randrange(1, 9)))

    def delivers(self) -> None:
        if self.taken:
            message = self.taken.popleft()
            self.tally.counts["sent"] += 1
            if message.customer_id in self.left_alone:
                self.tally.counts["after"] += 1
                self.tally.fault(f"{message.customer_id} was written to after a no that was acknowledged")
            self.done.append(Result(message.action_id, "sent"))

    def notes(self) -> None:
        if not self.taken and self.done:
            claims.finish(self.connection, self.done, self.clock)
            self.done = []

    def dies(self) -> None:
        """What was claimed and not noted is lost to this sender; the next one begins by giving it back."""
        self.taken.clear()
        self.done = []
        self.tally.counts["deaths"] += 1
        claims.recover(self.connection, self.gate, lambda channel, file: None)

    # who says no

    def says_no(self) -> None:
        customer = self.saying.pop()
        self.clock += 1
        way = self.r.random()
        with transaction(self.connection):
            if way < 0.5:
                purposes = self.r.choice([[PURPOSE], [PURPOSE, "training"], ["*"]])
                privacy.say(self.connection, [customer], purposes, self.clock, out=True, origin="command")
            else:
                privacy.hear(self.connection, Consent(), customer, "Unsubscribed", self.clock)
        self.waiting[customer] = 1

    def says_yes(self) -> None:
        """And is written to again."""
        if self.left_alone:
            customer = self.r.choice(sorted(self.left_alone))
            self.clock += 1
            with transaction(self.connection):
                privacy.say(self.connection, [customer], [PURPOSE, "*"], self.clock, out=False, origin="command")
            self.left_alone.discard(customer)

    def acknowledges(self) -> None:
        for customer in self.r.sample(sorted(self.waiting), min(3, len(self.waiting))):
            if not claims.in_flight(self.connection, customer):
                del self.waiting[customer]
                self.left_alone.add(customer)


# whole projects


RULES = f"""\
segment: buyers
purpose: {PURPOSE}
match: {{did: Order Completed, within: 5 days}}
on_enter: {{send: crm}}
---
segment: anything
match: {{did: Order Completed, within: 5 days}}
on_enter: [{{send: crm}}, {{send: trial}}]
---
segment: recent
refresh: live
purpose: {PURPOSE}
match: {{did: Order Completed}}
"""


def whole_projects(tally: Tally, folder: Path) -> int:
    """A project is trained, scored, segmented, exported and acted on after some said no; return how many places were looked at."""
    rows = small.rows(240, 300) + [f"p{n},2025-10-27T00:00:00Z,Order Completed,9.00" for n in range(6)]
    file = small.write(folder / "shop", rows, small.CONFIG + "segments: rules.yaml\nchannels: {crm: {file: exports}, trial: {dry: true}}\n")
    (folder / "shop" / "rules.yaml").write_text(RULES)
    nobody = {"all": "p0", PURPOSE: "p1", "profiling": "p2", "training": "p3"}
    with chdir(file.parent), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        said = [["optout", "add", nobody["all"]], *(["optout", "add", who, "--purpose", what] for what, who in nobody.items() if what != "all")]
        outs = [f"{what} --out {what}.{suffix}" for what in ("segment", "score") for suffix in ("csv", "jsonl", "parquet")]
        runs = [["train"], ["run", "--as-of", "2025-10-20"], ["run", "--as-of", "2025-10-28"]]
        for command in [*said, *runs, *(out.split() for out in outs)]:
            assert main([*command, "-q"]) in (0, 1), command
        return looked_through(tally, file.parent, nobody)


def looked_through(tally: Tally, shop: Path, nobody: dict[str, str]) -> int:
    import pyarrow.parquet as pq

    project, places = Project.load(shop), 0
    everybody = {nobody["all"]}
    shown = {
        "score": everybody | {nobody["profiling"]},
        "buyers": everybody | {nobody[PURPOSE]},
        "anything": set(nobody.values()),
        "recent": everybody | {nobody[PURPOSE]},
    }

    def look(what: str, rows: list[dict[str, Any]], kind: str) -> None:
        nonlocal places
        places += 1
        found = [row for row in rows if row["customer_id"] in shown[kind if kind == "score" else str(row["segment"])]]
        tally.counts["rows"] += len(found)
        tally.demand(bool(rows) and not found, f"{what}: {len(found)} of {len(rows)} rows are about who said no")

    for what in ("segment", "score"):
        look(f"{what}.csv", list(csv.DictReader((shop / f"{what}.csv").open(newline=""))), what)
        look(f"{what}.jsonl", [json.loads(line) for line in (shop / f"{what}.jsonl").read_text().splitlines()], what)
        look(f"{what}.parquet", pq.ParquetFile(shop / f"{what}.parquet").read().to_pylist(), what)
    look("the table of scores", project.store.read("scores").to_pylist(), "score")
    for path in (shop / "exports").glob("*.csv"):
        look(f"channel {path.name}", list(csv.DictReader(path.open(newline=""))), "segment")
    with closing(sqlite3.connect(shop / "store" / "live.db")) as connection:
        sent = connection.execute("select customer_id, segment from actions where status in ('sent', 'claimed')").fetchall()
    look("the outbox", [{"customer_id": c, "segment": s} for c, s in sent], "segment")
    for name in shown.keys() - {"score"}:
        look(f"the server on {name}", [{"customer_id": c, "segment": name} for c in served(project, name)], "segment")
    return places


def served(project: Project, name: str) -> list[str]:
    """The customers whom the interface shows of a segment."""
    from tests.live.test_serving import served as at_work

    with at_work(project) as desk:
        found: list[str] = desk.served.segment(name, desk.clock(), desk.without(name))["sample"]
        return found
