"""A shop on which every command was at work, for persons whose ids, addresses and names are canaries, with secrets that are canaries."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.trust.killing import Runs, runner
from tests import small

SECRETS = {
    "HOOK": "whsec_Y2FuYXJ5LWhvb2stTWZLUTlyOEdLWXFyVHdqVVBE",
    "EVENTS": "canary-events-9f8a7b6c5d4e",
    "MAIL": "canary-mail-1a2b3c4d5e6f",
    "CONSENT": "canary-consent-0011223344",
    "WRITE": "canary-write-5566778899aa",
    "READ": "canary-read-bbccddeeff00",
    "PREDSEG_MODEL_KEY": "canary-model-123412341234",
    "DB": "canary-database-4321432143",
}
CONFIG = """\
project: rights
sources:
  orders: {path: orders.jsonl}
customers: {path: customers.csv, customer_id: id}
contract: {tolerance: 100%}
features:
  windows: [14 days, 30 days]
  events: {Order Completed: {value: value}}
  traits: [country]
models:
  purchase: {predict: {did: Order Completed, within_next: 20 days}, cutoffs: 4}
segments: rules.yaml
channels:
  crm: {file: exports}
  hook: {webhook: "https://localhost:1/in", private: true, secret: "env:HOOK", attempts: 1}
  events: {identify: "https://localhost:1/v1/identify", private: true, key: "env:EVENTS", attempts: 1}
  mail:
    smtp: smtp://localhost
    private: true
    from: shop@example.com
    to: {trait: email}
    subject: Hello
    text: Hello {{ customer_id }}
    user: shop
    password: env:MAIL
    attempts: 1
consent: {key: "env:CONSENT"}
serve: {write_key: "env:WRITE", read_key: "env:READ"}
"""
RULES = """\
segment: buyers
purpose: email_marketing
match: {did: Order Completed, within: 5 days}
on_enter: [{send: crm}, {send: hook}, {send: events}, {send: mail}]
---
segment: likely
match: {score: purchase, top: 20%}
on_enter: {send: crm}
---
segment: recent
refresh: live
match: {did: Order Completed, within: 30 days}
"""


@dataclass(frozen=True)
class Person:
    """What can be found of a person."""

    number: int

    @property
    def customer_id(self) -> str:
        return f"canary-{self.number:03d}-Zq7x"

    @property
    def texts(self) -> tuple[str, ...]:
        """Id, anonymous id, address and name."""
        return (self.customer_id, f"anon-{self.number:03d}-Wp3k", f"Ada.{self.number:03d}.Jx5m@example.org", f"Ottoline{self.number:03d}Hv8t")


@dataclass(frozen=True)
class Said:
    """What a command wrote."""

    command: str
    code: int
    out: str
    err: str


def lines(people: Sequence[Person]) -> list[str]:
    """Rows of the small shop, some of them of the persons; they have anonymous ids, links, bad rows and lines that are no rows as well."""
    names = {f"c{person.number:04d}": person for person in people}
    found = []
    for line in small.rows():
        customer, time, event, value = line.split(",")
        person = names.get(customer)
        more = {"note": person.texts[3], "anonymous_id": person.texts[1]} if person else {}
        found.append(
            json.dumps({"customer_id": person.customer_id if person else customer, "event_time": time, "event": event, "value": float(value), **more})
        )
    for person in people:
        id_, anonymous, address, name = person.texts
        bad = {"customer_id": id_, "event_time": "never", "event": "Order Completed", "note": name, "email": address}
        late = {"customer_id": id_, "anonymous_id": anonymous, "event_time": "2025-10-26T00:00:00Z", "event": "Order Completed", "value": 9.5}
        found += [json.dumps(row) for row in (bad, late, {"anonymous_id": anonymous, "event_time": "2025-02-01T00:00:00Z", "event": "Page Viewed"})]
        found.append(f"{id_}, no row")
    return found


@contextmanager
def used(folder: Path, people: Sequence[Person]) -> Iterator[tuple[Path, Runs, list[Said]]]:
    """Give the folder of the shop after all the commands, what more commands can be run with, and what was said so far."""
    shop = folder / "shop"
    shop.mkdir()
    (shop / "orders.jsonl").write_text("\n".join(lines(people)) + "\n")
    traits = [f"{p.customer_id},GB,{p.texts[2]},{p.texts[3]}" for p in people]
    (shop / "customers.csv").write_text(
        "\n".join(["id,country,email,name", *traits, *(f"c{n:04d},FR,c{n}@example.com,x" for n in range(100, 300))]) + "\n"
    )
    (shop / "predseg.yaml").write_text(CONFIG)
    (shop / "rules.yaml").write_text(RULES)
    before = dict(os.environ)
    os.environ |= SECRETS
    try:
        with runner("") as runs:
            yield shop, runs, [run(runs, shop, command) for command in (commands(people) if len(people) > FEW else FEWER)]
    finally:
        os.environ.clear()
        os.environ.update(before)


def commands(people: Sequence[Person]) -> list[str]:
    one = people[0].customer_id
    files = [f"{what} --out {what}.{suffix}" for what in ("segment", "score") for suffix in ("csv", "jsonl", "parquet")]
    return [
        "check",
        f"optout add {people[-1].customer_id}",
        "train",
        "run --as-of 2025-10-20",
        "run --as-of 2025-10-28",
        *files,
        "monitor",
        "report",
        "docs",
        "models",
        "models verify",
        "actions list",
        "quarantine list",
        "preview buyers",
        f"explain buyers {one}",
        f"explain buyers {one}x",
        f"live {LIVE_FILE} --durable",
        "verify",
        "review",
        "doctor",
        "replay buyers --from 2025-10-01 --to 2025-10-20",
    ]


LIVE_FILE = "live.jsonl"
FEW = 5
FEWER = ("check", "segment --out segment.csv", f"live {LIVE_FILE} --durable", "doctor")
"""What is done with few persons: nothing is trained."""


def run(runs: Runs, shop: Path, command: str) -> Said:
    """Run a command to its end."""
    if LIVE_FILE in command:
        (shop / LIVE_FILE).write_text("".join(live(shop)))
    code, _ = runs.run(shop, *command.split())
    return Said(command, code, (shop / "said").read_text("utf-8", "replace"), (shop / "said.err").read_text("utf-8", "replace"))


def live(shop: Path) -> list[str]:
    """Lines that come live: of the persons, some of them bad."""
    found = []
    for line in (shop / "customers.csv").read_text().splitlines()[1:]:
        id_, _, address, name = line.split(",")
        if id_.startswith("canary"):
            row = {"customer_id": id_, "event": "Order Completed", "event_time": "2025-10-28T01:00:00Z", "note": name, "traits": {"email": address}}
            found += [json.dumps(row) + "\n", json.dumps({**row, "event": ""}) + "\n", f"{id_} {address} no row\n"]
    return found
