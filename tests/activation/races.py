"""Opting out while a message is on its way: many short schedules of a sender and of somebody who says no."""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from predseg.activation import outbox
from predseg.activation.claims import Gate, Message, in_flight, transaction
from predseg.activation.sender import Sender
from predseg.history import privacy
from predseg.language.channels import Dry
from predseg.language.time import HOUR
from tests.activation.desk import CART, MAIL, Desk, entered

LONG = bool(os.environ.get("PREDSEG_LONG"))
KEYS = [b"a key that is long enough"]


@dataclass
class Found:
    """What a race ended with: messages that arrived, customers left alone, messages that arrived after the no was acknowledged."""

    seed: int
    sent: int = 0
    refused: int = 0
    after: int = 0


@dataclass
class Slow:
    """A channel that takes its time, and notes when a message arrives."""

    r: random.Random
    arrived: dict[str, float] = field(default_factory=dict)
    room: int = 3
    files: bool = False

    def send(self, messages: Sequence[Message]) -> str:
        time.sleep(self.r.random() * 0.002)
        for message in messages:
            self.arrived[message.customer_id] = time.monotonic()
        return ""

    def discard(self, batch: str) -> None:
        """There are no files."""


def race(folder: Path, schedules: int, seed: int = 0, broken: str = "") -> Found:
    """One schedule is one customer to whom a message is due while he says no; a hundred of them share a database."""
    found = Found(seed)
    for number in range(0, schedules, 100):
        _round(folder / f"{seed}-{number}{broken}.db", random.Random(seed + number), min(100, schedules - number), found, broken)
    return found


def _round(file: Path, r: random.Random, customers: int, found: Found, broken: str) -> None:
    desk = Desk(CART + MAIL + "purpose: email_marketing\n", file)
    desk.connection.executescript("pragma journal_mode = wal; pragma synchronous = off")
    privacy.prepare(desk.connection, KEYS)
    ids = [f"c{i}" for i in range(customers)]
    desk.tell(*(entered(desk, 1, customer=c) for c in ids))
    slow, acknowledged, known = Slow(r), {}, {c: False for c in ids}

    def asked_before(_: sqlite3.Connection, customer_id: str, __: str | None) -> bool:
        return known[customer_id]

    gate = Gate(desk.segments, outbox.still, asked_before if broken == "asked before" else privacy.opted_out)
    stop = threading.Event()

    def send() -> None:
        connection = _open(file)
        sender = Sender(connection, gate, {"mail": Dry("mail")}, {"mail": slow}, lambda: HOUR)
        while not stop.is_set():
            sender.deliver()
        connection.close()

    def say_no() -> None:
        connection = _open(file)
        for customer in r.sample(ids, len(ids)):
            time.sleep(r.random() * 0.001)
            with transaction(connection):
                privacy.say(connection, [customer], ["email_marketing"], 1, out=True, origin="command")
            while broken != "not waited" and in_flight(connection, customer):
                time.sleep(0.0002)
            acknowledged[customer] = time.monotonic()
        connection.close()

    threads = [threading.Thread(target=send), threading.Thread(target=say_no)]
    for thread in threads:
        thread.start()
    threads[1].join()
    stop.set()
    threads[0].join()
    found.sent += len(slow.arrived)
    found.refused += desk.rows("status").count("suppressed")
    found.after += sum(slow.arrived[c] > acknowledged[c] for c in slow.arrived)
    desk.connection.close()


def _open(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, isolation_level=None, timeout=30)
    connection.execute("pragma synchronous = off")
    privacy.prepare(connection, KEYS)
    return connection
