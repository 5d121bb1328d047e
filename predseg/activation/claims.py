"""Taking messages out of the outbox: decided, in one transaction, by what is true at that moment.

A message is claimed only when its rule is still the same, its change still the customer's latest one and still true, the
customer did not opt out, was not sent the same too recently, and it is not night. Whoever says no inside a transaction of
the same database is, from its end on, claimed no more.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from predseg.activation.outbox import CANCELLED, CHANGED_BACK, CLAIMED, DEAD, FAILED, OPTED_OUT, PENDING, SENT, SUPPRESSED, actions_of
from predseg.language.actions import Action
from predseg.language.time import say_duration, say_instant
from predseg.segments.definitions import Segment

LOOK = 200
"""Rows that one claim looks at, at most: a transaction holds up all others."""
INTERRUPTED = "the sender was interrupted"
_COLUMNS = "action_id, segment, definition, customer_id, n, change, slot, at, channel, variant, attempts, batch"
_WAITING = "status in ('pending', 'failed') and due_at <= ? and segment not in (select value from json_each(?))"


@dataclass(frozen=True)
class Message:
    """One message on its way. ``attempts`` counts this one."""

    action_id: str
    segment: str
    definition: str
    customer_id: str
    n: int
    change: str
    slot: int
    at: int
    channel: str
    variant: str | None
    attempts: int
    batch: str | None


@dataclass(frozen=True)
class Gate:
    """What a message must pass.

    Attributes:
        segments: The rules as they are now.
        still: Says, inside the claiming transaction, whether a customer is a member of a segment under a definition.
        opted_out: Says there whether a customer must be left alone for a purpose.
        others: Segments that somebody else sends for.
    """

    segments: Mapping[str, Segment]
    still: Callable[[sqlite3.Connection, str, str, str], bool]
    opted_out: Callable[[sqlite3.Connection, str, str | None], bool]
    others: Collection[str] = ()


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Hold the database for writing inside the block; an error undoes it all."""
    connection.execute("begin immediate")
    try:
        yield
    except BaseException:
        connection.execute("rollback")
        raise
    connection.execute("commit")


def first_due(connection: sqlite3.Connection, gate: Gate, channel: str) -> int | None:
    """Return when the first message that waits for a channel is due, None when none waits."""
    query = f"select due_at from actions where channel = ? and {_WAITING} order by due_at limit 1"
    found = connection.execute(query, (channel, 2**62, _names(gate))).fetchone()
    return None if found is None else int(found[0])


def claim(connection: sqlite3.Connection, gate: Gate, channel: str, now: int, room: int, batch: Callable[[str], str] | None = None) -> list[Message]:
    """Decide in a transaction of its own what is due for a channel, and return the messages that are claimed.

    Args:
        connection: To the outbox, in no transaction.
        gate: What they must pass.
        channel: Its name.
        now: The moment.
        room: How many at most.
        batch: Names the file in which the messages of this call will be, after the first of them.
    """
    query = f"select {_COLUMNS} from actions where channel = ? and {_WAITING} order by due_at, action_id limit ?"
    with transaction(connection):
        rows = [Message(*row) for row in connection.execute(query, (channel, now, _names(gate), max(LOOK, room)))]
        claimed: list[Message] = []
        for row in rows:
            if len(claimed) == room:
                break
            status, reason, due, to = _decide(connection, gate, row, now)
            if status != CLAIMED:
                connection.execute(
                    "update actions set status = ?, reason = ?, due_at = coalesce(?, due_at), channel = ? where action_id = ?",
                    (status, reason, due, to, row.action_id),
                )
                continue
            file = (claimed[0].batch if claimed else batch(row.action_id)) if batch else None
            taken = (CLAIMED, now, row.attempts + 1, file, row.action_id)
            connection.execute("update actions set status = ?, reason = '', claimed_at = ?, attempts = ?, batch = ? where action_id = ?", taken)
            claimed.append(replace(row, attempts=row.attempts + 1, batch=file))
    return claimed


Decision = tuple[str, str, int | None, str]


def _decide(connection: sqlite3.Connection, gate: Gate, row: Message, now: int) -> Decision:
    """Return status, reason, a new due_at if any, and the channel."""
    segment = gate.segments.get(row.segment)
    actions = actions_of(segment, row.change) if segment else ()
    if segment is None or row.slot >= len(actions):
        return CANCELLED, "no longer declared", None, row.channel
    if segment.definition != row.definition:
        return CANCELLED, "the rule was changed", None, row.channel
    action = actions[row.slot]
    if action.send != row.channel:
        return PENDING, "", None, action.send
    awake = action.awake(now)
    if awake > now:
        return PENDING, "quiet hours", awake, row.channel
    if not _holds(connection, gate, row):
        return CANCELLED, CHANGED_BACK, None, row.channel
    if gate.opted_out(connection, row.customer_id, segment.purpose):
        return SUPPRESSED, OPTED_OUT, None, row.channel
    last = _last_sent(connection, row, action, now)
    if last is not None:
        assert action.limit is not None
        return SUPPRESSED, f"once per {say_duration(action.limit)}, the last at {say_instant(last)}", None, row.channel
    return CLAIMED, "", None, row.channel


def _holds(connection: sqlite3.Connection, gate: Gate, row: Message) -> bool:
    latest = connection.execute(
        "select max(at) from transitions where customer_id = ? and segment = ? and definition = ?", (row.customer_id, row.segment, row.definition)
    ).fetchone()[0]
    return latest == row.at and gate.still(connection, row.segment, row.definition, row.customer_id) == (row.change == "entered")


def _last_sent(connection: sqlite3.Connection, row: Message, action: Action, now: int) -> int | None:
    """Return when the same was last sent to the customer, when that is too recent; one that is on its way counts."""
    if action.limit is None:
        return None
    found = connection.execute(
        "select max(coalesce(sent_at, claimed_at)) from actions where customer_id = ? and segment = ? and change = ? and slot = ? "
        "and status in ('claimed', 'sent', 'failed') and action_id <> ?",
        (row.customer_id, row.segment, row.change, row.slot, row.action_id),
    ).fetchone()[0]
    return int(found) if found is not None and now - found < action.limit else None


# afterwards


def recover(connection: sqlite3.Connection, gate: Gate, discard: Callable[[str, str], None]) -> int:
    """Give back what a sender that is gone had claimed; the caller is the only sender. Return how many.

    ``discard`` is called with channel and file of those that were to be in a file: it may have been written, and they will be in another.
    """
    theirs = "status = 'claimed' and segment not in (select value from json_each(?))"
    with transaction(connection):
        for channel, file in connection.execute(f"select distinct channel, batch from actions where {theirs} and batch is not null", (_names(gate),)):
            discard(channel, file)
        back = f"update actions set status = 'pending', reason = ?, batch = null where {theirs}"
        return connection.execute(back, (INTERRUPTED, _names(gate))).rowcount


@dataclass(frozen=True)
class Result:
    """How an attempt ended: ``status`` is sent, failed or dead; a failed one is due again at ``due_at``."""

    action_id: str
    status: str
    reason: str = ""
    due_at: int | None = None


def finish(connection: sqlite3.Connection, results: Collection[Result], now: int) -> None:
    """Note how some attempts ended, in a transaction of its own."""
    assert all(r.status in (SENT, FAILED, DEAD) for r in results)
    rows = [(r.status, r.reason, r.due_at, now if r.status == SENT else None, r.action_id) for r in results]
    with transaction(connection):
        connection.executemany(
            "update actions set status = ?, reason = ?, due_at = coalesce(?, due_at), sent_at = ? where action_id = ? and status = 'claimed'",
            rows,
        )


def in_flight(connection: sqlite3.Connection, customer_id: str) -> int:
    """Return how many messages to a customer are on their way: whoever acknowledges an opt-out waits until it is 0."""
    return int(connection.execute("select count(*) from actions where customer_id = ? and status = 'claimed'", (customer_id,)).fetchone()[0])


def _names(gate: Gate) -> str:
    return json.dumps(sorted(gate.others))
