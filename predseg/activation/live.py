"""Messages of a running server: changes go into the outbox in the transaction that decides them, a thread sends what is due."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from predseg.activation import outbox
from predseg.activation.claims import Gate
from predseg.activation.daily import create
from predseg.activation.opening import open_sender, traits_at, used_channels, world_of
from predseg.activation.sender import sole_sender
from predseg.evaluate.program import Change
from predseg.history import privacy
from predseg.history.people import People
from predseg.segments.workspace import Workspace

Outbox = Callable[[sqlite3.Connection, Sequence[Change], int], object]


@contextmanager
def sending(workspace: Workspace, people: People, clock: Callable[[], int], failed: Callable[[str], None]) -> Iterator[Outbox]:
    """Send what is due until the block ends; give what takes changes inside the transaction that stores them.

    Args:
        workspace: The segments of a project.
        people: Who said no.
        clock: The moment (microseconds).
        failed: Told why nothing is sent: another process sends for this store, or a channel cannot be opened.
    """
    stop, wake = threading.Event(), threading.Event()

    def take(connection: sqlite3.Connection, changes: Sequence[Change], now: int) -> None:
        if outbox.enqueue(connection, changes, workspace.segments, now):
            wake.set()

    with people.consent(events=workspace.store) as (connection, _):
        connection.isolation_level = None
        create(connection)
    thread = threading.Thread(target=_send, args=(workspace, people, clock, stop, wake, failed), name="predseg-outbox", daemon=True)
    thread.start()
    try:
        yield take
    finally:
        stop.set()
        wake.set()
        thread.join()


def _send(
    workspace: Workspace, people: People, clock: Callable[[], int], stop: threading.Event, wake: threading.Event, failed: Callable[[str], None]
) -> None:
    try:
        with people.consent(events=workspace.store) as (connection, _), sole_sender(workspace.config.store) as mine:
            if not mine:
                failed("another process sends for this store")
                return
            connection.isolation_level = None
            gate = Gate(workspace.segments, outbox.still, privacy.opted_out, ())
            used = used_channels(workspace.config, workspace.segments.values())
            world = world_of(workspace.config, people.environment, clock, traits_at(workspace.traits(), used.values(), clock()))
            open_sender(connection, workspace.config, gate, world, clock).run(stop, wake)
    except Exception as error:  # a server that cannot send still collects and decides; what is due waits
        failed(f"{type(error).__name__}: {error}")
