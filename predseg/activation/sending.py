"""What sending is: a channel at work, what it needs of its surroundings, what a message says, and the two ways to fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from predseg.activation.claims import Message
from predseg.activation.posting import SECONDS, Resolve, resolve
from predseg.language.time import to_datetime


class Later(Exception):
    """It did not arrive; it may another time.

    Args:
        reason: Why.
        wait: How long the receiver wants to be left alone (microseconds), None when it does not say.
        busy: Whether it would be the same for every other message.
    """

    def __init__(self, reason: str, wait: int | None = None, *, busy: bool = False) -> None:
        super().__init__(reason)
        self.wait, self.busy = wait, busy


class Never(Exception):
    """It did not arrive and never will."""


class Transport(Protocol):
    """A channel at work. Messages are given up to ``room`` at a time; when ``files``, all of them at once, for one file."""

    room: int
    files: bool

    def send(self, messages: Sequence[Message]) -> str:
        """Send messages, several only to files, and return a remark.

        Raises:
            Later: it may arrive another time.
            Never: it will not.
        """
        ...

    def discard(self, batch: str) -> None:
        """Remove a file that may have been written; its messages will be in another."""
        ...

    def alert(self, alert: Alert) -> str:
        """Tell the owner something, and return a remark; raises as `send` does."""
        ...


@dataclass(frozen=True)
class Alert:
    """What an owner is told.

    Attributes:
        alert_id: Always the same for the same alert.
        at: Since when (microseconds).
        kind: What happened: failing, or ok.
        subject: A line.
        data: The facts, plain JSON.
    """

    alert_id: str
    at: int
    kind: str
    subject: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class World:
    """What channels need of their surroundings.

    Attributes:
        environment: Where secrets are.
        root: What relative paths start at.
        wall: The clock on the wall (microseconds); signatures are dated by it.
        traits: Says what is known of a customer, for mails.
        writing: Told of every file before it is written.
        resolver: Finds the addresses of a host.
        seconds: How long an exchange may take.
    """

    environment: Mapping[str, str]
    root: Path
    wall: Callable[[], int]
    traits: Callable[[str], Mapping[str, Any]] = lambda _: {}
    writing: Callable[[Path], None] = lambda _: None
    resolver: Resolve = resolve
    seconds: float = SECONDS


class OneByOne:
    """Part of every channel that sends message by message."""

    room, files = 8, False

    def discard(self, batch: str) -> None:
        """There are no files."""

    def alert(self, alert: Alert) -> str:
        """Tell nobody: this channel is for customers."""
        raise Never("this channel is for customers: it cannot tell an alert")


def content(message: Message) -> dict[str, Any]:
    """Return what a message says."""
    said = {"segment": message.segment, "customer_id": message.customer_id, "change": message.change, "at": say(message.at)}
    return {**said, "definition": message.definition, "n": message.n, "variant": message.variant}


def say(instant: int) -> str:
    """Return an instant as other programs read it: ISO 8601 with seconds, in UTC."""
    return to_datetime(instant).isoformat().replace("+00:00", "Z")
