"""What the page says of one customer: memberships, scores, and why a segment decides as it does."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from predseg.errors import PredsegError
from predseg.language.english import say_score
from predseg.language.time import say_instant
from predseg.live.desk import Desk
from predseg.live.handover import to_come
from predseg.page.figures import short, to_minute
from predseg.segments.explain import Reason
from predseg.segments.lookup import Explanation, explain_customer
from predseg.segments.telling import MARKS, asked, next_change, refresh_notes, say_event
from predseg.segments.workspace import Workspace

TRUTHS = {True: "holds", False: "does not hold", None: "unknown"}


@dataclass(frozen=True)
class Membership:
    """How it stands with one segment; ``state`` is member, no member or withheld."""

    segment: str
    state: str
    since: str
    until: str
    as_of: str
    stale: bool


@dataclass(frozen=True)
class Score:
    """The latest score of one model, in texts."""

    model: str
    probability: str
    decile: str
    made: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Branch:
    """One condition of an explanation: its mark, what it says, what was found, and what stands under it."""

    mark: str
    truth: str
    number: int
    says: str
    found: str
    notes: tuple[str, ...]
    parts: tuple[Branch, ...]


@dataclass(frozen=True)
class Told:
    """An explanation as the page shows it."""

    segment: str
    member: bool
    verdict: str
    as_of: str
    notes: tuple[str, ...]
    tree: Branch
    change: str


def memberships(desk: Desk, customer: str, ends: Mapping[str, int]) -> list[Membership]:
    """Return how it stands with every segment, those first of which the customer is a member; ``ends`` as `ends` gives it."""
    now = desk.clock()
    found = {one["segment"]: one for one in desk.served.of(customer, now, ends)}
    rows = []
    for name in desk.served.segments:
        one, (as_of, stale) = found.get(name, {"member": False, "since": None, "until": None}), desk.served.age(name, now)
        state = {True: "member", False: "no member", None: "withheld"}[one["member"]]
        since, until = (to_minute(one[key]) if one[key] is not None else "" for key in ("since", "until"))
        rows.append(Membership(name, state, since, until, short(as_of), stale))
    return sorted(rows, key=lambda row: row.state != "member")


def stored(desk: Desk, customer: str) -> tuple[Mapping[str, int], list[Score]]:
    """Return when the clock alone ends memberships, and the latest score of each model; nothing where the store is away."""
    try:
        return desk.ends(customer), [_score(one) for one in desk.person(customer, False).get("scores", ())]
    except (OSError, PredsegError, sqlite3.Error):
        return {}, []


def _score(one: Mapping[str, Any]) -> Score:
    """Return the score that counts: the live one, else that of the run."""
    live = one.get("live") or {}
    probability = live["probability"] if live else one["probability"]
    said = "unknown" if probability is None or probability != probability else say_score(float(probability))
    decile = "" if one["decile"] is None else f"{one['decile']}"
    ran = f"{'decile and reasons ' if live else ''}by the run of {to_minute(one['as_of'])} UTC" if one["as_of"] else ""
    made = f"scored live at {to_minute(live['as_of'])} UTC" if live else ""
    return Score(one["model"], said, decile, "; ".join(filter(None, (made, ran))), tuple(one["reasons"] or ()))


def explained(workspace: Workspace, as_of: int, segment: str, customer: str) -> Told:
    """Return why a customer is, or is not, in a segment: of a live one with all that came live, as of the clock of the live state."""
    try:
        clock, more = to_come(workspace.config.store, customer) if workspace.segment(segment).live else (0, [])
    except sqlite3.Error:  # the live state is away; the tables are explained
        clock, more = 0, []
    return told(explain_customer(workspace, segment, customer, max(as_of, clock), more))


def told(found: Explanation) -> Told:
    """Return an explanation as the page shows it."""
    since = f" since {short(found.entered_at)} UTC" if found.entered_at is not None else ""
    verdict = f"{found.customer_id} is {'' if found.member else 'not '}in {found.segment.name}{since}"
    return Told(found.segment.name, found.member, verdict, short(found.as_of), tuple(refresh_notes(found)), branch(found.reason), next_change(found))


def branch(reason: Reason) -> Branch:
    """Return one condition with those within."""
    parts = tuple(branch(part) for part in reason.parts)
    return Branch(MARKS[reason.truth], TRUTHS[reason.truth], reason.number, reason.says, reason.found, tuple(_notes(reason)), parts)


def _notes(reason: Reason) -> list[str]:
    notes = [say_event(event, asked(reason.condition)) for event in reason.events]
    if reason.more:
        notes.append(f"and {reason.more:,} more event{'' if reason.more == 1 else 's'}")
    notes += reason.details
    if reason.flip:
        notes.append(f"{'would end with' if reason.truth is True else 'would hold with'}: {reason.flip}")
    if reason.ahead.at is not None:
        notes.append(f"by the clock alone it {'holds' if reason.ahead.holds else 'ends'} at {say_instant(reason.ahead.at)}")
    return notes
