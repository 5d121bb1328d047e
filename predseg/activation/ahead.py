"""Runs that were recorded ahead of the clock, by a mistyped moment or a wrong clock: nothing else is recorded until then. They can be taken back.

Commands refuse to record what is more than half a year ahead (`predseg.moment.recordable`); this is for what was recorded all the same.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing

from predseg.activation.claims import transaction
from predseg.activation.outbox import CANCELLED, CHANGED_BACK, FAILED, PENDING
from predseg.forecast.latent.discovery import CLUSTERS
from predseg.forecast.publishing import SCORES
from predseg.history.privacy import DATABASE
from predseg.segments import designs
from predseg.segments.memberships import to_table
from predseg.segments.workspace import MEMBERSHIPS, RFV, RUNS, ledger_of, log_table
from predseg.store import Store

PUBLISHED = (SCORES, CLUSTERS)
"""What commands publish for a moment; rfv scores of one are published by whoever looks at it, too."""


def last_after(store: Store, limit: int) -> int | None:
    """Return the moment of the last run of segments or scores that lies after an instant, None when there is none."""
    log = ledger_of(store).log["as_of"]
    return max((int(t) for t in (*log, *(t for name in PUBLISHED for t in store.partitions(name))) if t > limit), default=None)


def take_back(store: Store, limit: int) -> None:
    """Take back everything that runs after an instant recorded: memberships, scores, designs, and messages that wait; what was sent was sent.

    Raises:
        UsageError: E210 when another process is writing.
    """
    with store.lock():
        if store.exists(RUNS):
            before = ledger_of(store).until(limit)
            for name, table in ((MEMBERSHIPS, to_table(before)), (RUNS, log_table(before.log))):
                store.write(name, table) if len(before.log) else store.drop(name)
        designs.take_back(store, limit)
        for name in (*PUBLISHED, RFV):
            for moment in store.partitions(name):
                if moment > limit:
                    store.drop(name, moment)
        if (store.path / DATABASE).is_file():
            with closing(sqlite3.connect(store.path / DATABASE, timeout=60, isolation_level=None)) as connection, transaction(connection):
                _messages(connection, limit)


def _messages(connection: sqlite3.Connection, limit: int) -> None:
    """Of daily segments alone: only these are recorded by runs."""
    if connection.execute("select 1 from sqlite_master where name = 'acted'").fetchone() is None:
        return
    daily = "(segment, definition) in (select segment, definition from acted where as_of > ?)"
    connection.execute(f"delete from transitions where at > ? and {daily}", (limit, limit))
    waiting = f"update actions set status = ?, reason = ? where at > ? and status in (?, ?) and {daily}"
    connection.execute(waiting, (CANCELLED, CHANGED_BACK, limit, PENDING, FAILED, limit))
    connection.execute("delete from acted where since > ?", (limit,))
    connection.execute("update acted set as_of = since where as_of > ?", (limit,))
