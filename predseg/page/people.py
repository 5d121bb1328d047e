"""What the page says of one customer: memberships, scores, and why a segment decides as it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from predseg.errors import PredsegError
from predseg.language.english import say_score
from predseg.language.time import say_instant
from predseg.live.desk import Desk
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
    as_of: str
    stale: bool


@dataclass(frozen=True)
class Score:
    """The latest score of one model, in texts."""

    model: str
    probability: str
    decile: str
    as_of: str
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
    verdict: str
    sentence: str
    as_of: str
    notes: tuple[str, ...]
    tree: Branch
    change: str


def memberships(desk: Desk, customer: str) -> list[Membership]:
    """Return how it stands with every segment, those first of which the customer is a member."""
    now = desk.clock()
    found = {one["segment"]: one for one in desk.served.of(customer, now)}
    rows = []
    for name in desk.served.segments:
        one, (as_of, stale) = found.get(name), desk.served.age(name, now)
        state = "no member" if one is None else "member" if one["member"] else "withheld"
        since = "" if one is None or one["since"] is None else to_minute(one["since"])
        rows.append(Membership(name, state, since, short(as_of), stale))
    return sorted(rows, key=lambda row: row.state != "member")


def scores(desk: Desk, customer: str) -> list[Score]:
    """Return the latest score of each model; none where the tables are away."""
    try:
        found = desk.person(customer, False).get("scores", ())
    except (OSError, PredsegError):
        return []
    return [_score(one) for one in found]


def _score(one: Mapping[str, Any]) -> Score:
    probability = one["probability"]
    said = "unknown" if probability is None or probability != probability else say_score(float(probability))
    decile = "" if one["decile"] is None else f"{one['decile']}"
    return Score(one["model"], said, decile, to_minute(one["as_of"]), tuple(one.get("reasons") or ()))


def explained(workspace: Workspace, as_of: int, segment: str, customer: str) -> Told:
    """Return why a customer is, or is not, in a segment."""
    return told(explain_customer(workspace, segment, customer, as_of))


def told(found: Explanation) -> Told:
    """Return an explanation as the page shows it."""
    since = f" since {short(found.entered_at)} UTC" if found.entered_at is not None else ""
    verdict = f"{found.customer_id} is {'' if found.member else 'not '}in {found.segment.name}{since}"
    sentence = found.segment.sentence()
    return Told(found.segment.name, verdict, sentence, short(found.as_of), tuple(refresh_notes(found)), branch(found.reason), next_change(found))


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
