"""Messages of live segments: noted in the transaction of the loop that decides them, sent by a thread beside it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from predseg.activation import outbox
from predseg.activation.claims import Gate
from predseg.activation.opening import open_channels, traits_at, world_of
from predseg.activation.outbox import acting
from predseg.activation.sender import LIVE, PATIENCE, Sender, sole_sender
from predseg.errors import PredsegError, UsageError
from predseg.evaluate.program import Change
from predseg.history import privacy
from predseg.history.people import People
from predseg.language.time import SECOND
from predseg.segments.workspace import Workspace

Outbox = Callable[[sqlite3.Connection, Sequence[Change], int], object]


@contextmanager
def sending(workspace: Workspace, people: People, clock: Callable[[], int], failed: Callable[[str], None]) -> Iterator[Outbox]:
    """Send for the live segments until the block ends; give what takes changes inside the transaction that stores them.

    Daily segments are left to `predseg run`.

    Args:
        workspace: The segments of a project.
        people: Who said no.
        clock: The moment (microseconds).
        failed: Told why nothing can be sent at the moment; what is due waits.

    Raises:
        ConfigError: E381 when a secret of a channel is not set.
        ChannelError: E801 when it is not one to sign with.
    """
    segments = acting(workspace.segments, live=True)
    stop, wake = threading.Event(), threading.Event()
    seen: list[sqlite3.Connection] = []

    def take(connection: sqlite3.Connection, changes: Sequence[Change], now: int) -> None:
        if seen != [connection]:
            outbox.create(connection)
            seen[:] = [connection]
        if outbox.enqueue(connection, changes, segments, now):
            wake.set()

    if not segments:
        yield lambda connection, changes, now: None
        return
    thread = threading.Thread(target=_Thread(workspace, people, clock, _Told(failed)), args=(stop, wake), name="predseg sender", daemon=True)
    thread.start()
    try:
        yield take
    finally:
        stop.set()
        wake.set()
        thread.join()


class _Told:
    """Tells what is new."""

    def __init__(self, failed: Callable[[str], None]) -> None:
        self.failed, self.last = failed, ""

    def __call__(self, trouble: str) -> None:
        if trouble not in ("", self.last):
            self.failed(trouble)
        self.last = trouble


class _Thread:
    """Sends, as soon as no other process does, until it is stopped."""

    def __init__(self, workspace: Workspace, people: People, clock: Callable[[], int], told: Callable[[str], None]) -> None:
        self.workspace, self.people, self.clock, self.told = workspace, people, clock, told
        config, self.segments = workspace.config, acting(workspace.segments, live=True)
        traits = traits_at(workspace.traits(), config.channels.values(), clock())
        self.channels, self.transports = open_channels(config, self.segments.values(), world_of(config, people.environment, clock, traits))

    def __call__(self, stop: threading.Event, wake: threading.Event) -> None:
        while not stop.is_set():
            try:
                self._send(stop, wake)
            except (sqlite3.Error, OSError, PredsegError) as error:  # another time the store may be there
                self.told(str(error))
            stop.wait(PATIENCE / SECOND)

    def _send(self, stop: threading.Event, wake: threading.Event) -> None:
        folder = self.workspace.config.store
        with sole_sender(folder, LIVE) as mine, self.people.consent(events=self.workspace.store) as (connection, _):
            if not mine:
                raise UsageError("E210", str(folder), "another process sends for the live segments of this store", "end it, or let it send")
            connection.isolation_level = None
            outbox.create(connection)
            Sender(connection, self._gate(), self.channels, self.transports, self.clock).run(stop, wake, self.told)

    def _gate(self) -> Gate:
        daily = tuple(name for name, segment in self.workspace.segments.items() if not segment.live)
        config = self.workspace.config
        path = None if config.consent.path is None else (config.root / config.consent.path).absolute()
        return Gate(self.segments, still, _following(path, config.consent.known), daily)


def still(connection: sqlite3.Connection, segment: str, definition: str, customer_id: str) -> bool:
    """Say whether the live loop has a customer among the members of a segment."""
    query = "select 1 from memberships where segment = ? and customer_id = ? and definition = ?"
    return connection.execute(query, (segment, customer_id, definition)).fetchone() is not None


def _following(path: Path | None, known: tuple[str, ...]) -> Callable[[sqlite3.Connection, str, str | None], bool]:
    """Return who is asked for consent: the list in the database, brought up to date when the file of opt-outs changes."""

    def opted_out(connection: sqlite3.Connection, customer_id: str, purpose: str | None) -> bool:
        if path is not None:
            privacy.follow_file(connection, path, known)
        return privacy.opted_out(connection, customer_id, purpose)

    return opted_out
