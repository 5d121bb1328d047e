"""The outbox: one row for each message that is due to somebody, written in the transaction that decides the membership.

    STORE/live.db, table actions        a row per message, from the change that caused it to its end
    STORE/live.db, table transitions    the changes of membership, as they stand after corrections, of segments with actions

A message belongs to one change: ``segment@definition|customer|n`` with its direction and its place among the segment's
actions, the hash of which is its id; the receiver gets it as ``webhook-id``. It is sent only while its change is still the
customer's latest one there, so whoever changed back, or never was a member after all, gets nothing. A correction that
moves a change takes the message along: one that was sent counts for the new instant too.

    pending ─► claimed ─► sent
       ▲          └─► failed ─► claimed ...     tried again later
       │                └─► dead                tried too often, or refused for good
       └─► cancelled    changed back, the rule changed, or by hand
       └─► suppressed   opted out, held out, or too soon after the last one
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from predseg.evaluate.program import Change
from predseg.language.actions import Action
from predseg.language.assignment import HOLDOUT
from predseg.segments.definitions import Segment

PENDING, CLAIMED, SENT, FAILED, DEAD, CANCELLED, SUPPRESSED = STATES = ("pending", "claimed", "sent", "failed", "dead", "cancelled", "suppressed")
CHANGED_BACK, HELD_OUT, BEFORE, OPTED_OUT, BY_HAND = "changed back", "held out", "sent before a correction", "opted out", "by hand"
_TABLES = (
    """create table if not exists actions (
    action_id text primary key,
    segment text not null,
    definition text not null,
    customer_id text not null,
    n integer not null,                  -- which change of this customer there
    change text not null,                -- entered | left
    slot integer not null,               -- which of the segment's actions
    at integer not null,                 -- when the change was (microseconds)
    channel text not null,
    variant text,
    due_at integer not null,             -- not before; of a failed one when it is tried again
    status text not null,
    reason text not null default '',
    attempts integer not null default 0,
    batch text,                          -- the file in which it is
    made_at integer not null,
    claimed_at integer,
    sent_at integer
) without rowid""",
    "create index if not exists actions_waiting on actions (channel, due_at) where status in ('pending', 'failed')",
    "create index if not exists actions_of on actions (customer_id, segment)",
    """create table if not exists transitions (
    segment text not null,
    definition text not null,
    customer_id text not null,
    at integer not null,
    change text not null,
    primary key (customer_id, segment, definition, at)
) without rowid""",
)
_INSERT = """insert or ignore into actions (action_id, segment, definition, customer_id, n, change, slot, at, channel, variant, due_at, status, reason, made_at)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_LATEST = "select at, change from transitions where customer_id = ? and segment = ? and definition = ? order by at desc limit 2"


def create(connection: sqlite3.Connection) -> None:
    """Make the tables, where they are not there."""
    for statement in _TABLES:
        connection.execute(statement)


def key(segment: str, definition: str, customer_id: str, n: int, change: str, slot: int) -> str:
    """Return the id of a message: a hash, so that it fits into a header and tells nobody the customer.

    >>> key("abandoned_cart", "4f2a", "c17", 1, "entered", 0)
    'act_535e978e1fdd9aef'
    """
    text = f"{segment}@{definition}|{customer_id}|{n}|{change}|{slot}"
    return "act_" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def actions_of(segment: Segment, change: str) -> tuple[Action, ...]:
    """Return what a segment sends at a change."""
    return segment.on_enter if change == "entered" else segment.on_leave


def acting(segments: Mapping[str, Segment], *, live: bool) -> dict[str, Segment]:
    """Return the segments with actions that are, or are not, live."""
    return {name: s for name, s in segments.items() if s.live == live and (s.on_enter or s.on_leave)}


def still(connection: sqlite3.Connection, segment: str, definition: str, customer_id: str) -> bool:
    """Say whether the latest change of a customer in a segment with actions, as recorded here, was to enter it."""
    found = connection.execute(_LATEST, (customer_id, segment, definition)).fetchone()
    return found is not None and found[1] == "entered"


def enqueue(connection: sqlite3.Connection, changes: Iterable[Change], segments: Mapping[str, Segment], now: int) -> int:
    """Note the messages that some changes cause, inside the caller's open transaction, and return how many are new.

    Changes come in the order in which they are printed. Those already known change nothing; those of other definitions than the
    present one, and of segments without actions, are left alone.
    """
    mine: dict[tuple[str, str], list[Change]] = defaultdict(list)
    for change in changes:
        segment = segments.get(change.segment)
        if segment is not None and (segment.on_enter or segment.on_leave) and segment.definition == change.definition:
            mine[change.segment, change.customer_id].append(change)
    made = 0
    for (name, _), some in mine.items():
        for correction, part in groupby(some, lambda change: change.correction):
            made += (_correct if correction else _follow)(connection, segments[name], list(part), now)
    return made


def _follow(connection: sqlite3.Connection, segment: Segment, changes: Sequence[Change], now: int) -> int:
    return sum(_insert(connection, segment, change, now, _slots(segment, change)) for change in changes if _note(connection, change))


def _slots(segment: Segment, change: Change) -> range:
    return range(len(actions_of(segment, change.change)))


def _note(connection: sqlite3.Connection, change: Change) -> bool:
    """Note a change; False when it is known."""
    row = (change.segment, change.definition, change.customer_id, change.at, change.change)
    return connection.execute("insert or ignore into transitions values (?, ?, ?, ?, ?)", row).rowcount == 1


def _insert(connection: sqlite3.Connection, segment: Segment, change: Change, now: int, slots: Sequence[int]) -> int:
    actions = actions_of(segment, change.change)
    variant = segment.experiment.group(change.customer_id) if segment.experiment else ""
    state = (SUPPRESSED, HELD_OUT) if variant == HOLDOUT else (PENDING, "")
    for slot in slots:
        n, made = change.n, 0
        while not made:  # after a withdrawn change the counter may give its number again, to another occasion
            id_ = key(segment.name, segment.definition, change.customer_id, n, change.change, slot)
            whose = (segment.name, segment.definition, change.customer_id, n, change.change, slot, change.at)
            made = connection.execute(_INSERT, (id_, *whose, actions[slot].send, variant or None, actions[slot].due(change.at), *state, now)).rowcount
            n += 1
    return len(slots)


# corrections


def _correct(connection: sqlite3.Connection, segment: Segment, changes: Sequence[Change], now: int) -> int:
    """Correct the changes of one customer, and let the message about the latest one be the one that is right."""
    who = (changes[0].customer_id, segment.name, segment.definition)
    opposite = "delete from transitions where customer_id = ? and segment = ? and definition = ? and at = ? and change <> ?"
    new = [c for c in changes if not connection.execute(opposite, (*who, c.at, c.change)).rowcount]  # the others withdraw what was at that instant
    added = [change for change in new if _note(connection, change)]
    latest = connection.execute(_LATEST, who).fetchall()
    if not latest or not (added or len(new) < len(changes)):
        return 0
    (at, direction), before = latest[0], latest[1][0] if len(latest) > 1 else -(2**62)
    rewritten = max(before + 1, min(change.at for change in changes))
    for slot, action in enumerate(actions_of(segment, direction)):
        _settle(connection, (*who, direction, slot), at, rewritten, action)
    made = 0
    for change in added:  # what was over again waits in vain, unless a further correction makes it the latest
        has = "select slot from actions where customer_id = ? and segment = ? and definition = ? and change = ? and at = ?"
        known = {row[0] for row in connection.execute(has, (*who, change.change, change.at))}
        made += _insert(connection, segment, change, now, [slot for slot in _slots(segment, change) if slot not in known])
    return made


def _settle(connection: sqlite3.Connection, which: tuple[str, str, str, str, int], at: int, since: int, action: Action) -> None:
    """Give the latest change, at ``at``, the message that it has, or that a withdrawn one left, if there is one.

    Of withdrawn changes those from ``since`` on count: after the change before, in the stretch that the correction tells anew.
    """
    rows = connection.execute(
        "select action_id, at, status, reason from actions a where customer_id = ? and segment = ? and definition = ? and change = ? and slot = ? "
        "and (at = ? or (at >= ? and not exists (select 1 from transitions t where t.customer_id = a.customer_id and t.segment = a.segment "
        "and t.definition = a.definition and t.at = a.at))) order by at",
        (*which, at, since),
    ).fetchall()
    present = [row for row in rows if row[1] == at]
    if spent := [row for row in rows if not _waits(row)]:  # nothing is sent twice
        connection.executemany(
            "update actions set status = ?, reason = ? where action_id = ?", [(CANCELLED, BEFORE, row[0]) for row in rows if _waits(row)]
        )
        kept = next((row for row in spent if row in present), spent[-1])
        connection.execute("update actions set at = ? where action_id = ?", (at, kept[0]))
    elif rows:
        kept = (present or rows)[-1]
        due = (at, PENDING, action.due(at), kept[0])
        connection.execute("update actions set at = ?, status = ?, reason = '', due_at = ? where action_id = ?", due)


def _waits(row: tuple[str, int, str, str]) -> bool:
    """Whether a message may still be sent, if its change turns out to be the latest one."""
    return row[2] in (PENDING, FAILED) or (row[2] == CANCELLED and row[3] in (CHANGED_BACK, BEFORE))


def prune(connection: sqlite3.Connection, before: int) -> int:
    """Forget changes before an instant that are not the customer's latest in their segment; return how many."""
    later = "exists (select 1 from transitions l where l.customer_id = t.customer_id and l.segment = t.segment and l.definition = t.definition and l.at > t.at)"
    return connection.execute(f"delete from transitions as t where at < ? and {later}", (before,)).rowcount
