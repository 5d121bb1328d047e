"""One customer of a store: its events, read from the few row groups that can hold them, and what is published about it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from predseg.columns import mixed_in
from predseg.errors import UsageError
from predseg.evaluate.block import CORE, IDENTITY
from predseg.evaluate.reference import Event, Truth
from predseg.forecast.traits import at_moments
from predseg.language import conditions as c
from predseg.language.english import say_comparison, say_filter, say_list, say_score, say_value, score_noun
from predseg.language.measures import Comparison, Value
from predseg.language.spelling import value_of
from predseg.language.time import parse_instant, say_duration, say_instant
from predseg.layers import Reader, readers, tables_with
from predseg.segments.customer import Customer, Found
from predseg.segments.definitions import Segment
from predseg.segments.explain import STEPS, Ahead, Reason, ahead, explain, seen_by
from predseg.segments.facts import Facts, Run, Tables
from predseg.segments.live_scores import NEVER, UNKNOWN
from predseg.segments.memberships import OPEN
from predseg.store import steady

if TYPE_CHECKING:
    import pyarrow as pa

    from predseg.segments.workspace import Workspace

NEAREST = 3
_SEARCHED = 50_000


# events


def read_events(files: Sequence[Path], customer_id: str, as_of: int | None = None) -> list[Event]:
    """Return the events of a customer as the reference takes them.

    Args:
        files: The events table.
        customer_id: Whom to look for. At ``as_of`` this may be an anonymous id that joins another customer later.
        as_of: Which identity counts; None is the last one known.

    Raises:
        OSError: when a file cannot be read.
    """
    found = [event for table in tables_with(files, "customer_id", [customer_id]) for event in to_events(table)]
    for table in tables_with(files, "anonymous_id", [customer_id]) if as_of is not None else ():
        for row, event in zip(table.to_pylist(), to_events(table), strict=True):
            if (_micros(row["linked_at"]) or 0) > as_of and row["customer_id"] != customer_id:  # type: ignore[operator]
                found.append(replace(event, received=_micros(row["received_at"])))
    return found


def to_events(table: pa.Table) -> list[Event]:
    """Return rows of the events table as the reference takes them."""
    several = mixed_in(table.schema)
    return [to_event(row, several) for row in table.to_pylist()]


def to_event(row: dict[str, Any], several: Collection[str] = ()) -> Event:
    """Return a row of the events table as the reference takes it: numbers exact, lists as tuples, what is missing left out.

    ``several``: the columns that hold values of several kinds.
    """
    linked = _micros(row.get("linked_at")) or 0
    received = max(_micros(row["received_at"]) or 0, linked)
    given = {name: v for name, v in row.items() if name not in CORE and name not in IDENTITY and name != "event_id" and v is not None}
    properties = {name: value_of(v) if name in several else _value(v) for name, v in given.items()}
    time = _micros(row["event_time"])
    assert time is not None
    return Event(time, row["event"], properties, received)


def _micros(instant: datetime | None) -> int | None:
    return None if instant is None else parse_instant(instant)


def _value(value: Any) -> Value:
    """A property as the reference takes it: numbers exact, lists as tuples."""
    from decimal import Decimal

    if isinstance(value, list):
        return tuple(_value(v) for v in value if v is not None)
    if isinstance(value, float):
        return round(Decimal(str(value)), 4)
    return Decimal(value) if isinstance(value, int) and not isinstance(value, bool) else value


# who


def nearest_ids(files: Sequence[Path], listed: Iterable[str], customer_id: str) -> list[str]:
    """Return up to three ids close to one that is not there, looking where it would stand in the sorted table."""
    from difflib import get_close_matches

    import pyarrow.compute as pc

    ids = set(list(listed)[:_SEARCHED])
    groups = sorted((_lowest(reader, g), number, g, reader) for number, reader in enumerate(readers(files)) for g in range(len(reader.sizes)))
    at = max(0, sum(low <= customer_id for low, *_ in groups) - 1)
    for *_, group, reader in [*groups[at : at + 2], *groups[max(0, at - 1) : at], *groups]:
        if len(ids) >= _SEARCHED:
            break
        ids.update(pc.unique(reader.group(group, ["customer_id"])["customer_id"]).to_pylist())
    longer = sorted(i for i in ids if customer_id and i.startswith(customer_id))
    close = get_close_matches(customer_id, sorted(ids), n=NEAREST, cutoff=0.5)
    return list(dict.fromkeys([*longer[:NEAREST], *close]))[:NEAREST]


def _lowest(reader: Reader, group: int) -> str:
    bounds = reader.bounds(group)
    return str(bounds[0]) if bounds is not None else ""


def find_customer(workspace: Workspace, customer_id: str, as_of: int, facts: Facts, more: Sequence[Event] = ()) -> Customer:
    """Return a customer as it is known at as_of; ``more`` are events beside those of the events table.

    Raises:
        UsageError: E221 when nobody has this id then, with the nearest ids that somebody has.
    """
    import pyarrow as pa

    events = [*read_events(workspace.files, customer_id, as_of), *more]
    listed = workspace.listed()
    since = int(listed.known_since(pa.array([customer_id], pa.string()))[0])
    seen = [e.visible for e in events]
    known_from = min([*seen, since], default=OPEN)
    if known_from > as_of:
        raise _nobody(workspace, customer_id, as_of, known_from)
    published = StoreFacts(until(facts, as_of), customer_id, as_of)
    rules = {name: s.match for name, s in workspace.segments.items() if s.live}
    return Customer(events, published, rules, known_from)


def _nobody(workspace: Workspace, customer_id: str, as_of: int, known_from: int) -> UsageError:
    if known_from < OPEN:
        return UsageError(
            "E221",
            customer_id,
            f"nothing is known of this customer at {say_instant(as_of)}",
            f"the first that is known is of {say_instant(known_from)}: ask with a later --as-of",
        )
    for table in tables_with(workspace.files, "anonymous_id", [customer_id]):
        owner = table["customer_id"][0].as_py()
        return UsageError(
            "E221", customer_id, f"this anonymous id belongs to customer {owner!r} by {say_instant(as_of)}", f"explain {owner!r} instead"
        )
    close = nearest_ids(workspace.files, workspace.listed().customers.texts, customer_id)
    hint = f"did you mean {', '.join(map(repr, close))}?" if close else "look up an id with `predseg segment NAME --out members.csv`"
    return UsageError("E221", customer_id, "no customer has this id", hint)


# why


@dataclass(frozen=True)
class Explanation:
    """Why a customer is, or is not, in a segment at a moment.

    Attributes:
        segment: The rule.
        customer_id: Whom it is about.
        as_of: The moment.
        member: Whether the customer is a member: by the last recorded run of a daily segment, by the rule otherwise.
        holds: Whether the rule makes a member of the customer at the moment.
        entered_at: Since when; None when not a member, or when nothing tells.
        before: Earlier recorded memberships, [entered_at, left_at).
        last_run: The last recorded run of the segment as it is defined now.
        reason: Each condition, explained.
        ahead: What the clock alone brings.
    """

    segment: Segment
    customer_id: str
    as_of: int
    member: bool
    holds: bool
    entered_at: int | None
    before: tuple[tuple[int, int], ...]
    last_run: int | None
    reason: Reason
    ahead: Ahead


@steady
def explain_customer(workspace: Workspace, name: str, customer_id: str, as_of: int, more: Sequence[Event] = ()) -> Explanation:
    """Explain a segment for a customer with what was known at as_of; ``more`` are events beside those of the events table.

    Raises:
        UsageError: E220 no such segment, E221 no such customer.
    """
    segment, ledger = workspace.segment(name), workspace.ledger()
    customer = find_customer(workspace, customer_id, as_of, workspace.facts(ledger), more)
    spells = ledger.until(as_of).spells(name)
    mine = spells.customers == customer_id
    rows = sorted((int(e), int(x)) for e, x in zip(spells.entered[mine], spells.left[mine], strict=True))
    entered = next((e for e, x in rows if x == OPEN), None)
    last_run = ledger.last_run(name, segment.definition, before=as_of + 1)
    holds = customer.matches(segment.match, as_of)
    member = entered is not None if last_run is not None and not segment.live else holds
    if segment.live and member:
        entered = _entry(customer, segment.match, as_of) or entered
    return Explanation(
        segment,
        customer_id,
        as_of,
        member,
        holds,
        entered if member else None,
        tuple((e, x) for e, x in rows if x != OPEN),
        last_run,
        explain(segment.match, customer, as_of),
        ahead(segment.match, seen_by(customer, as_of), as_of),
    )


def _entry(customer: Customer, match: c.Condition, as_of: int) -> int | None:
    """Return since when the rule holds without a break, None when that is too long ago to look for."""
    entered = None
    for t in [t for t in reversed(customer.instants(match)) if t <= as_of][:STEPS]:
        if not customer.matches(match, t):
            return entered
        entered = t
    return entered if entered is not None and entered == customer.known_from else None


# what is published


@dataclass(frozen=True)
class _Until:
    """The tables of a store as they were at a moment."""

    tables: Tables
    as_of: int

    def partitions(self, name: str) -> list[int]:
        return [p for p in self.tables.partitions(name) if p <= self.as_of]

    def read(self, name: str, as_of: int | None = None) -> Any:
        return self.tables.read(name, as_of)

    def exists(self, name: str) -> bool:
        return self.tables.exists(name)


def until(facts: Facts, as_of: int) -> Facts:
    """Return the facts as they were published at as_of: nothing later is seen, however far ahead is asked."""
    traits = facts.traits
    for column in ("event_time", "known_since"):
        if traits is not None and column in traits:
            traits = traits[~(traits[column] > as_of)]
    members = {
        name: (ids[entered <= as_of], entered[entered <= as_of], np.where(left > as_of, OPEN, left)[entered <= as_of])
        for name, (ids, entered, left) in facts.members.items()
    }
    return Facts(None if facts.tables is None else _Until(facts.tables, as_of), traits, members, facts.rescored.until(as_of))


@dataclass(frozen=True)
class StoreFacts:
    """What is published about one customer at as_of."""

    facts: Facts
    customer_id: str
    as_of: int

    def truth(self, condition: c.Condition, t: int) -> Truth:
        """Decide a condition at t."""
        answer = self.facts(condition, np.array([self.customer_id], object), np.array([t], np.int64))
        return None if answer.unknown[0] else bool(answer.true[0])

    def instants(self, condition: c.Condition) -> list[int]:
        """Return when what is published can change the condition."""
        own = self.facts.own_instants(condition, np.array([self.customer_id], object))
        return [*self.facts.instants(condition), *(int(t) for t in (own[1] if own is not None else ()))]

    def found(self, condition: c.Condition, t: int) -> Found:
        """Say what is published, when it was, and what would flip the condition."""
        if isinstance(condition, c.Trait):
            return self._trait(condition, t)
        if isinstance(condition, c.In):
            inside = self.truth(replace(condition, member=True), t)
            return Found(f"{'a member' if inside else 'not a member'} by its last run")
        what = {c.Score: "score", c.Rfv: "rfv scores", c.Cluster: "clusters"}[type(condition)]
        published = self._last(condition)
        live = self._rescored(condition, t, published[0] if published else NEVER)
        if live is not None:
            return live
        if published is None:
            verb, command = ("is", "score") if what == "score" else ("are", "segment")
            return Found(f"no {what} of it {verb} published yet: run `predseg {command}` first")
        at, run = published
        row = int(run.rows(np.array([self.customer_id], object))[0])
        if row < 0:
            return Found(f"not among the {len(run.customers):,} customers of the run of {say_instant(at)}")
        if isinstance(condition, c.Score):
            return self._score(condition, at, run, row)
        if isinstance(condition, c.Rfv):
            return Found(", ".join(f"{name} {int(run.columns[name][row])}" for name, _ in condition.scores) + f", by the run of {say_instant(at)}")
        return Found(f"{run.columns['cluster'][row]}, by the run of {say_instant(at)}")

    def _rescored(self, condition: c.Condition, t: int, run: int) -> Found | None:
        """Say what a live score says, when one answers: the latest after a run."""
        if not isinstance(condition, c.Score) or (condition.comparison is None and condition.change is None):
            return None
        own = self.facts.rescored.last(condition.model, self.customer_id, t, run)
        if own is None:
            return None
        says = f"{'unknown' if np.isnan(own[1]) else say_score(own[1])}, scored live at {say_instant(own[0])}"
        return Found(says + self._earlier(condition), flip=_score_flip(condition, 0, 0, 0, self.truth(condition, t)))

    def _last(self, condition: c.Condition) -> tuple[int, Run] | None:
        name = "scores" if isinstance(condition, c.Score) else "rfv" if isinstance(condition, c.Rfv) else "clusters"
        tables = self.facts.tables
        for at in reversed(tables.partitions(name) if tables is not None and tables.exists(name) else []):
            if (run := self.facts.last_run(condition, [at])) is not None:
                return at, run
        return None

    def _trait(self, condition: c.Trait, t: int) -> Found:
        name, traits = condition.filter.property, self.facts.traits
        value = None
        if traits is not None and name in traits:
            value = at_moments(traits, name, np.array([self.customer_id], object), np.array([t]))[0]
        wanted = "" if self.truth(condition, t) else f"{say_filter(condition.filter)}"
        return Found("unknown" if value is None else say_value(value), flip=wanted)

    def _score(self, condition: c.Score, at: int, run: Run, row: int) -> Found:
        n, higher, lower = len(run.customers), int(run.ranks[0][row]), int(run.ranks[1][row])
        probability = float(run.columns["probability"][row])
        says = f"{say_score(probability)}, rank {higher + 1:,} of {n:,}, by the run of {say_instant(at)}"
        return Found(
            says + self._earlier(condition),
            self._reasons(condition.model, at),
            _score_flip(condition, n, higher, lower, self.truth(condition, self.as_of)),
        )

    def _earlier(self, condition: c.Score) -> str:
        """Say what was in force where a change is counted from."""
        if condition.change is None:
            return ""
        t = self.as_of - condition.change.within
        run = self.facts.last_run(condition, [p for p in self.facts.published(condition) if p <= t])
        row = -1 if run is None else int(run.rows(np.array([self.customer_id], object))[0])
        probability = float(run.columns["probability"][row]) if run is not None and row >= 0 else UNKNOWN
        own = self.facts.rescored.last(condition.model, self.customer_id, t, run.as_of if run is not None else NEVER)
        probability = probability if own is None else own[1]
        said = "none was in force" if np.isnan(probability) else say_score(probability)
        return f"; {say_duration(condition.change.within)} earlier {said}"

    def _reasons(self, model: str, at: int) -> tuple[str, ...]:
        import pyarrow.compute as pc

        assert self.facts.tables is not None
        table = self.facts.tables.read("scores", at)
        if "reasons" not in table.column_names:
            return ()
        mine = table.filter(pc.and_(pc.equal(table["model"], model), pc.equal(table["customer_id"], self.customer_id)))
        return tuple(f"because {reason}" for reason in mine["reasons"][0].as_py() or ()) if len(mine) else ()


def _score_flip(condition: c.Score, n: int, higher: int, lower: int, truth: Truth) -> str:
    """Say how far the score is from the other side."""
    if condition.top is not None:
        last = ceil(condition.top * n / 100)
        return (
            f"{_ranks(higher + 1 - last)} higher, to {last:,} or better" if truth is not True else f"{_ranks(last - higher)} lower, beyond {last:,}"
        )
    if condition.bottom is not None:
        last = ceil(condition.bottom * n / 100)
        return f"{_ranks(lower + 1 - last)} lower" if truth is not True else f"{_ranks(last - lower)} higher"
    if condition.deciles:
        tenth = 1 + 10 * higher // n
        return (
            f"decile {say_list([str(d) for d in condition.deciles], 'or')} instead of {tenth}"
            if truth is not True
            else f"another decile than {tenth}"
        )
    if condition.change is not None:
        return ""
    assert isinstance(condition.comparison, Comparison)
    noun = score_noun(condition)
    return f"a {noun} {'not ' if truth is True else ''}of {say_comparison(condition.comparison)}"


def _ranks(number: int) -> str:
    return f"{number:,} rank{'' if number == 1 else 's'}"
