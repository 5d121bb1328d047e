"""Looking after the outbox by hand: what is in it, what to try again, what not to send."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from predseg.activation.claims import transaction
from predseg.activation.outbox import BY_HAND, CANCELLED, DEAD, FAILED, PENDING, create
from predseg.errors import UsageError, nearest
from predseg.history.privacy import DATABASE
from predseg.store import disk_errors

RETRIED, CANCELLABLE = (FAILED, DEAD), (PENDING, FAILED, DEAD)


@contextmanager
def opened(folder: Path, *, dry_run: bool = False) -> Iterator[sqlite3.Connection]:
    """Give the outbox of a store; of a dry run a copy in memory, and an empty one where there is none yet."""
    file = folder / DATABASE
    with (
        disk_errors(file),
        closing(sqlite3.connect(":memory:" if dry_run or not file.is_file() else file, isolation_level=None, timeout=30)) as found,
    ):
        if dry_run and file.is_file():
            with closing(sqlite3.connect(file, timeout=30)) as kept:
                kept.backup(found)
        create(found)
        yield found


@dataclass(frozen=True)
class Entry:
    """A message in the outbox; instants are microseconds."""

    action_id: str
    segment: str
    customer_id: str
    change: str
    at: int
    channel: str
    due_at: int
    sent_at: int | None
    status: str
    reason: str
    attempts: int
    variant: str | None


_COLUMNS = ", ".join(Entry.__annotations__)


def entries(
    connection: sqlite3.Connection, *, statuses: Sequence[str] = (), segment: str | None = None, customer: str | None = None, most: int = 50
) -> list[Entry]:
    """Return messages, those that were last made first; ``statuses``, ``segment`` and ``customer`` choose."""
    wanted: list[str] = ["true"]
    values: list[str] = []
    if statuses:
        wanted.append(f"status in ({', '.join('?' * len(statuses))})")
        values += statuses
    for column, value in (("segment", segment), ("customer_id", customer)):
        if value is not None:
            wanted.append(f"{column} = ?")
            values.append(value)
    query = f"select {_COLUMNS} from actions where {' and '.join(wanted)} order by made_at desc, due_at desc, action_id limit ?"
    return [Entry(*row) for row in connection.execute(query, (*values, most))]


def counts(connection: sqlite3.Connection) -> dict[str, int]:
    """Return how many messages there are by status."""
    return dict(connection.execute("select status, count(*) from actions group by status order by status").fetchall())


def retry(connection: sqlite3.Connection, ids: Sequence[str], now: int) -> list[str]:
    """Make failed and dead messages due now, with all their attempts; all of them when none is named. Return their ids.

    Raises:
        UsageError: E280 when there is no such message, E281 when one is neither failed nor dead.
    """
    return _set(connection, ids, RETRIED, PENDING, "tried again by hand", "attempts = 0, due_at = min(due_at, ?)", now)


def cancel(connection: sqlite3.Connection, ids: Sequence[str]) -> list[str]:
    """Let messages that wait, or are dead, never be sent. Return their ids.

    Raises:
        UsageError: E280 when there is no such message, E281 when one was sent, is being sent, or was decided otherwise.
    """
    return _set(connection, ids, CANCELLABLE, CANCELLED, BY_HAND, "attempts = attempts + ?", 0)


def _set(connection: sqlite3.Connection, ids: Sequence[str], may: Sequence[str], status: str, reason: str, more: str, value: int) -> list[str]:
    marks = ", ".join("?" * len(may))
    with transaction(connection):
        chosen = list(ids) or [row[0] for row in connection.execute(f"select action_id from actions where status in ({marks})", may)]
        for action_id in ids:
            found = connection.execute("select status from actions where action_id = ?", (action_id,)).fetchone()
            if found is None:
                known = [row[0] for row in connection.execute("select action_id from actions limit 1000")]
                raise UsageError("E280", action_id, "there is no such message", nearest(action_id, known))
            if found[0] not in may:
                raise UsageError("E281", action_id, f"the message is {found[0]}, expected {' or '.join(may)}", "predseg actions list")
        connection.executemany(
            f"update actions set status = ?, reason = ?, {more} where action_id = ?", [(status, reason, value, action_id) for action_id in chosen]
        )
    return chosen
