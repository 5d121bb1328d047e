"""Daily segments: what runs recorded becomes messages, what is due is sent, and the table of actions says how it went.

    STORE/live.db, table acted    up to which run each segment's changes have become messages

The first run after a rule, or its actions, came into being only notes where it stands: nothing is sent for the past. A run
that is repeated at its moment corrects what it said before.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from predseg.activation import outbox
from predseg.activation.channels import Nowhere
from predseg.activation.claims import Gate, transaction
from predseg.activation.opening import open_channels, traits_at, used_channels, world_of
from predseg.activation.outbox import acting
from predseg.activation.sender import DAILY, Sender, sole_sender
from predseg.evaluate.program import Change
from predseg.history import privacy
from predseg.history.people import People
from predseg.language.time import SECOND
from predseg.segments.definitions import Segment
from predseg.segments.memberships import NOTHING, Ledger
from predseg.segments.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

TABLE = "actions"
PATIENCE = 30 * SECOND
"""How long one run waits to try again what did not arrive."""
MEMORY = 400 * 24 * 3600 * SECOND
"""Changes are forgotten after this, but for the latest ones."""
_ACTED = """create table if not exists acted (
    segment text not null,
    definition text not null,
    as_of integer not null,        -- the run up to which changes have become messages
    since integer not null,        -- the run before
    primary key (segment, definition)
) without rowid"""


@dataclass(frozen=True)
class Acted:
    """What one run did about its changes.

    Attributes:
        as_of: Its moment.
        rows: (segment, channel) → status → how many messages came to it in this run; pending and failed are those that wait.
        started: Segments whose changes are acted upon from now on.
        live: Live segments with actions: those are sent by who decides them.
        elsewhere: Another run sends at the moment; what is due was left to it.
    """

    as_of: int
    rows: dict[tuple[str, str], dict[str, int]] = field(default_factory=dict)
    started: tuple[str, ...] = ()
    live: tuple[str, ...] = ()
    elsewhere: bool = False

    def count(self, *statuses: str) -> int:
        """Return how many messages came to one of some statuses."""
        return sum(n for found in self.rows.values() for status, n in found.items() if status in statuses)


def act(
    workspace: Workspace,
    people: People,
    as_of: int,
    *,
    wall: Callable[[], int],
    clock: Callable[[], int],
    sleep: Callable[[float], None],
    dry_run: bool = False,
) -> Acted:
    """Turn the changes that runs recorded up to as_of into messages, send what is due, and write the table of actions.

    Args:
        workspace: The segments of a project.
        people: Who said no.
        as_of: The moment of the run.
        wall: The clock on the wall (microseconds), by which signatures are dated.
        clock: The moment by which messages are due; the same, unless the run is about another time.
        sleep: Waits for seconds.
        dry_run: Count what would be sent; send and write nothing.
    """
    with people.consent(events=workspace.store, dry_run=dry_run) as (connection, _):
        connection.isolation_level = None
        create(connection)
        before = states(connection)
        ledger = workspace.run(as_of, write=False).ledger if dry_run else workspace.ledger()
        started = catch_up(connection, workspace.segments, ledger, as_of, clock())
        live = acting(workspace.segments, live=True)
        gate = Gate(workspace.segments, outbox.still, privacy.opted_out, tuple(live))
        with sole_sender(workspace.config.store, DAILY) if not dry_run else nullcontext(True) as mine:
            if mine:
                deliver(_sender(connection, workspace, people, gate, wall, clock, dry_run), sleep, PATIENCE)
        if not dry_run:
            workspace.store.write(TABLE, table(connection))
        return Acted(as_of, difference(before, states(connection)), tuple(started), tuple(live), not mine)


def _sender(
    connection: sqlite3.Connection, workspace: Workspace, people: People, gate: Gate, wall: Callable[[], int], clock: Callable[[], int], dry_run: bool
) -> Sender:
    daily = acting(workspace.segments, live=False).values()
    used = used_channels(workspace.config, daily)
    if dry_run:
        return Sender(connection, gate, used, {name: Nowhere() for name in used}, clock)
    traits = traits_at(workspace.traits(), used.values(), clock())
    return Sender(connection, gate, *open_channels(workspace.config, daily, world_of(workspace.config, people.environment, wall, traits)), clock)


def create(connection: sqlite3.Connection) -> None:
    """Make the tables, where they are not there."""
    outbox.create(connection)
    connection.execute(_ACTED)


def catch_up(connection: sqlite3.Connection, segments: Mapping[str, Segment], ledger: Ledger, as_of: int, now: int) -> list[str]:
    """Note the messages that the recorded changes of daily segments cause, up to as_of, in one transaction.

    Returns:
        The segments whose first run this was: they send nothing for the past.
    """
    daily = acting(segments, live=False)
    started = []
    with transaction(connection):
        for name, segment in daily.items():
            row = connection.execute("select as_of, since from acted where segment = ? and definition = ?", (name, segment.definition)).fetchone()
            last, before = row or (as_of, as_of)
            again = last == as_of
            since = before if again else last
            if row is None:
                started.append(name)
            if as_of < last:
                continue
            outbox.enqueue(connection, list(_changes(connection, segment, ledger, since, as_of, again)), segments, now)
            connection.execute("insert or replace into acted values (?, ?, ?, ?)", (name, segment.definition, as_of, since))
        kept = {(s.name, s.definition) for s in daily.values()}
        for gone in set(connection.execute("select segment, definition from acted").fetchall()) - kept:
            connection.execute("delete from acted where segment = ? and definition = ?", gone)
        outbox.prune(connection, now - MEMORY)
    return started


def _changes(connection: sqlite3.Connection, segment: Segment, ledger: Ledger, since: int, as_of: int, again: bool) -> Iterator[Change]:
    """Yield what runs in (since, as_of] changed; of a run that is repeated as corrections, with what was said before and is not so."""
    import numpy as np

    rows = ledger.rows.get(segment.name, {}).get(segment.definition, NOTHING)
    n = np.arange(1, len(rows.who) + 1) - np.searchsorted(rows.who, rows.who)
    recorded = {
        (c, at, change): k
        for column, change in ((rows.entered, "entered"), (rows.left, "left"))
        if (some := (column > since) & (column <= as_of)).any()
        for c, at, k in zip(ledger.customers.texts[rows.who[some]].tolist(), column[some].tolist(), n[some].tolist(), strict=True)
    }
    said = connection.execute(
        "select customer_id, at, change from transitions where segment = ? and definition = ? and at > ? and at <= ?",
        (segment.name, segment.definition, since, as_of),
    )
    for customer, at, change in set(said.fetchall()) - set(recorded):
        yield Change("left" if change == "entered" else "entered", segment.name, customer, at, segment.definition, correction=True)
    for (customer, at, change), n in sorted(recorded.items(), key=lambda item: item[0][1]):
        yield Change(change, segment.name, customer, at, segment.definition, again, n)


def deliver(sender: Sender, sleep: Callable[[float], None], patience: int) -> None:
    """Send what is due, and try again what did not arrive as long as that is due within the patience."""
    end = sender.clock() + patience
    sender.deliver()
    while (due := sender.next_moment()) is not None and due <= end:
        sleep(max(due - sender.clock(), 0) / SECOND)
        sender.deliver()


def states(connection: sqlite3.Connection) -> Counter[tuple[str, str, str]]:
    """Return how many messages there are by segment, channel and status."""
    rows = connection.execute("select segment, channel, status, count(*) from actions group by segment, channel, status")
    return Counter({(segment, channel, status): n for segment, channel, status, n in rows})


def difference(before: Counter[tuple[str, str, str]], after: Counter[tuple[str, str, str]]) -> dict[tuple[str, str], dict[str, int]]:
    """Return what changed between two states; of those that wait, how many do now."""
    found: dict[tuple[str, str], dict[str, int]] = {}
    for (segment, channel, status), n in sorted(after.items()):
        waits = status in (outbox.PENDING, outbox.FAILED)
        if new := n if waits else n - before[segment, channel, status]:
            found.setdefault((segment, channel), {})[status] = new
    return found


def table(connection: sqlite3.Connection) -> pa.Table:
    """Return the table ``actions``: a row per message, key action_id; who opted out is not in it unless a message was sent before."""
    import pyarrow as pa

    columns: dict[str, Any] = {name: pa.string() for name in ("action_id", "segment", "customer_id", "channel")}
    columns |= {"due_at": pa.timestamp("us", "UTC"), "sent_at": pa.timestamp("us", "UTC"), "status": pa.string(), "variant": pa.string()}
    query = f"select {', '.join(columns)} from actions where reason <> ? order by segment, due_at, action_id"
    rows = connection.execute(query, (outbox.OPTED_OUT,)).fetchall()
    arrays = zip(*rows, strict=True) if rows else [()] * len(columns)
    stamps = ("due_at", "sent_at")
    return pa.table(
        {
            name: pa.array(values, pa.int64()).cast(type_) if name in stamps else pa.array(values, type_)
            for (name, type_), values in zip(columns.items(), arrays, strict=True)
        }
    )
