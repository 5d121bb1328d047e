"""A small outbox to try things on: rules, changes, a clock that is set by hand, a channel that remembers."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from predseg.activation import outbox
from predseg.activation.claims import Gate, Message, transaction
from predseg.activation.sender import Sender
from predseg.evaluate.program import Change
from predseg.language.channels import Dry
from predseg.language.time import HOUR
from predseg.segments.definitions import Segment
from tests.segments.stores import rules

CART = "segment: cart\nrefresh: live\nmatch: {did: Add, within: 3 days}\n"
MAIL = "on_enter: {send: mail}\n"


@dataclass
class Memory:
    """A channel that remembers what it was given, or fails as it is told."""

    got: list[Message] = field(default_factory=list)
    fail: Callable[[Message], Exception | None] = lambda _: None
    room: int = 8
    files: bool = False
    discarded: list[str] = field(default_factory=list)

    def send(self, messages: Sequence[Message]) -> str:
        for message in messages:
            if (error := self.fail(message)) is not None:
                raise error
        self.got.extend(messages)
        return ""

    def discard(self, batch: str) -> None:
        self.discarded.append(batch)


@dataclass
class Desk:
    """An outbox in memory or in a file, with everything around it."""

    text: str = CART + MAIL
    file: str | Path = ":memory:"
    now: int = 0
    attempts: int = 12
    out: set[tuple[str, str | None]] = field(default_factory=set)
    still: Callable[[sqlite3.Connection, str, str, str], bool] = outbox.still
    others: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.segments: dict[str, Segment] = rules(self.text)
        self.connection = sqlite3.connect(self.file, isolation_level=None, timeout=30)
        outbox.create(self.connection)
        self.mail, self.crm = Memory(), Memory()
        self._sender: Sender | None = None

    @property
    def gate(self) -> Gate:
        return Gate(self.segments, self.still, lambda _, customer, purpose: (customer, purpose) in self.out, self.others)

    @property
    def sender(self) -> Sender:
        if self._sender is None:
            declared = {name: Dry(name, attempts=self.attempts) for name in ("mail", "crm")}
            self._sender = Sender(self.connection, self.gate, declared, {"mail": self.mail, "crm": self.crm}, lambda: self.now)
        return self._sender

    def change(self, change: str, at: float, n: int = 1, *, customer: str = "ann", segment: str = "cart", correction: bool = False) -> Change:
        """A change; ``at`` in hours."""
        return Change(change, segment, customer, int(at * HOUR), self.segments[segment].definition, correction, n)

    def tell(self, *changes: Change) -> int:
        with transaction(self.connection):
            return outbox.enqueue(self.connection, changes, self.segments, self.now)

    def deliver(self, at: float) -> list[Message]:
        """Deliver at an hour; return what arrived."""
        self.now = int(at * HOUR)
        before = len(self.mail.got), len(self.crm.got)
        self.sender.deliver()
        return [*self.mail.got[before[0] :], *self.crm.got[before[1] :]]

    def rows(self, *columns: str) -> list[Any]:
        """Columns of all rows in order of their change; a single column as values."""
        found = self.connection.execute(f"select {', '.join(columns)} from actions order by customer_id, n, change, slot").fetchall()
        return [row[0] for row in found] if len(columns) == 1 else found

    def state(self) -> list[tuple[str, str]]:
        return self.rows("status", "reason")


def entered(desk: Desk, at: float, n: int = 1, **more: Any) -> Change:
    return desk.change("entered", at, n, **more)


def left(desk: Desk, at: float, n: int = 2, **more: Any) -> Change:
    return desk.change("left", at, n, **more)
