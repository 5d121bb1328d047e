"""The live loop: rows in, changes of membership out, one durable transaction per batch.

loop = open_durable(config, workspace, now=clock())
fed = loop.feed(rows, now=clock())        # accepted, duplicate, quarantined or suppressed: one verdict a row
changes = loop.tick(now=clock())          # the clock alone; due again at loop.next_due
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from predseg.errors import PredsegError
from predseg.evaluate.live import Engine
from predseg.evaluate.program import Change, Row
from predseg.history.contract import AHEAD
from predseg.history.merge import canonical_json
from predseg.history.persons import EVERYBODY, Persons
from predseg.language.conditions import Score
from predseg.language.time import DAY
from predseg.live.collector import Rejected
from predseg.live.lines import Contract, Refused, Seen
from predseg.live.published import Published
from predseg.live.state import State
from predseg.segments.live_scores import LiveScore

PRUNE, IN_MEMORY = 100_000, 300_000
"""After how many rows the engine forgets what it can, and how many customers stay in memory then."""
SCORES_KEPT = 400 * DAY
"""How long live scores are kept that are in force no more; longer where a rule looks back further."""
EVENTS_CLOCK = "clock.events"
"""Up to where events were followed, which is ahead of the clock between two of them."""
ACCEPTED, DUPLICATE, QUARANTINED, SUPPRESSED = "accepted", "duplicate", "quarantined", "suppressed"


class Verdict(NamedTuple):
    """What became of a row, and why when it was not accepted."""

    kind: str
    reason: str = ""
    field: str = ""


_PLAIN = {kind: Verdict(kind) for kind in (ACCEPTED, DUPLICATE, SUPPRESSED)}


@dataclass
class Fed:
    """What a batch brought: the changes, and a verdict for each of its rows."""

    changes: list[Change] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)


class Loop:
    """Live segments over rows as they come.

    Args:
        engine: The rules and what is known.
        contract: What rows must keep.
        published: The facts that the engine asks.
        state: Where everything is kept; None keeps it in memory only.
        persons: Says under which names persons come in, and who was forgotten and does not.
        said: Called with the changes of a batch inside its transaction (the outbox).
        heard: Called there with the events that were accepted (consent).
        rescore: Scores customers, each with the anonymous ids that joined it, with what is visible at an instant; None does not.
    """

    def __init__(
        self,
        engine: Engine,
        contract: Contract,
        published: Published,
        state: State | None = None,
        persons: Persons = EVERYBODY,
        said: Callable[[Sequence[Change], int], object] | None = None,
        heard: Callable[[Sequence[Seen]], object] | None = None,
        rescore: Callable[[Mapping[str, Sequence[str]], int], Sequence[LiveScore]] | None = None,
    ) -> None:
        self.engine, self.contract, self.published, self.state = engine, contract, published, state
        self.persons, self.said, self.heard, self.rescore = persons, said, heard, rescore
        self._owed: set[tuple[str, int]] = set() if state is None else state.owed()
        self.counts: Counter[str] = Counter({} if state is None else state.counts())
        self.reasons: Counter[str] = Counter()
        self.unscored: Counter[str] = Counter()
        self.clock_of_events = max(engine.clock, int(state.get(EVENTS_CLOCK) or engine.clock)) if state else engine.clock
        self._last = Verdict(ACCEPTED)
        self._since_pruning, self._forgotten = 0, -(2**62)
        self._ids: dict[str, Seen] = {}
        self._expected: dict[str, Seen | None] = {}
        self._batch = _Batch()

    @property
    def next_due(self) -> int | None:
        """When the clock alone may change something: a lower bound (microseconds)."""
        return self.engine.clock + 1 if self._ready() else self.engine.next_instant

    def feed(self, rows: Sequence[Mapping[str, Any] | Rejected | bytes], now: int) -> Fed:
        """Take a batch, let the clock go to ``now`` and commit; only then is anything acknowledged."""
        fed = Fed()
        self.expect(rows)
        self._rescore()
        for row in rows:
            verdict, changes = self.take(row, now)
            fed.verdicts.append(verdict)
            fed.changes += changes
        fed.changes += self.engine.advance(now)
        self.commit(fed.changes, now)
        return fed

    def expect(self, rows: Sequence[Mapping[str, Any] | Rejected | bytes]) -> None:
        """Look at once which of the rows that come next were accepted before; to look for each by itself takes three times as long."""
        if self.state is not None:
            ids = [row["event_id"] for row in rows if isinstance(row, dict) and isinstance(row.get("event_id"), str)]
            self._expected = {**dict.fromkeys(ids), **self.state.among(ids)}

    def tick(self, now: int) -> list[Change]:
        """Let the clock go to ``now`` with no event, and commit."""
        self._rescore()
        changes = self.engine.advance(now)
        self.commit(changes, now)
        return changes

    def follow(self, row: Mapping[str, Any] | bytes, latest: int | None = None) -> list[Change]:
        """Take one row whose own time is the clock, or a line that only moves the clock; what came before its instant is decided first.

        Nothing is committed; `commit` does that.
        """
        changes: list[Change] = []
        self._rescore()
        if isinstance(row, bytes):
            self._refuse_line(row, "line", "is not a JSON object")
        elif "clock" in row and "event" not in row:
            changes = self._move(row, latest)
        elif (seen := self._read(row, latest)) is not None:
            if seen.visible > self.engine.clock:
                changes = self.engine.advance(seen.visible - 1)
            self.clock_of_events = max(self.clock_of_events, seen.visible)
            changes += self._take(seen)[1]
        self._batch.changes += changes
        return changes

    def _move(self, row: Mapping[str, Any], latest: int | None) -> list[Change]:
        try:
            at = self.contract.instant(row, "clock")
            if self.state is not None and latest is not None and at is not None and at > latest + AHEAD:
                raise Refused("clock", "is more than 5 minutes ahead of the clock of the world")  # all that comes until then would be late
        except Refused as refused:
            self._refuse(row, refused.field, refused.reason)
            return []
        self.clock_of_events = max(self.clock_of_events, at or self.clock_of_events)
        return self.engine.advance(self.clock_of_events)

    def take(self, row: Mapping[str, Any] | Rejected | bytes, latest: int | None = None) -> tuple[Verdict, list[Change]]:
        """Take one row without moving the clock; return its verdict, and corrections when it came behind the clock."""
        if isinstance(row, bytes):
            return self._refuse_line(row, "line", "is not a JSON object"), []
        if isinstance(row, Rejected):
            return self._refuse_line(row.raw.encode(), row.field, row.reason), []
        seen = self._read(row, latest)
        return (self._last, []) if seen is None else self._take(seen)

    def _read(self, row: Mapping[str, Any], latest: int | None) -> Seen | None:
        known = self.persons.event(row)
        if known is None:
            self._verdict(SUPPRESSED)
            return None
        row = known
        try:
            seen = self.contract.read(row, latest)
        except Refused as refused:
            self._refuse(row, refused.field, refused.reason)
            return None
        if self.engine.too_late(seen.visible):
            self._refuse(row, "event_time", "is further behind the clock than corrections reach")
            return None
        return seen

    def _take(self, seen: Seen) -> tuple[Verdict, list[Change]]:
        changes: list[Change] = []
        if seen.event_id is not None and (before := self._known(seen.event_id)) is not None:
            if _rank(seen) >= _rank(before):
                return self._verdict(DUPLICATE), []
            changes += self.engine.take_back(self.row_of(before))
            self.counts[ACCEPTED] -= 1
            self.counts[DUPLICATE] += 1
        return self._verdict(ACCEPTED), changes + self._accept(seen)

    def commit(self, changes: Sequence[Change], now: int) -> None:
        """Write everything since the last commit in one transaction, the changes of `follow` before those given here."""
        batch, self._batch = self._batch, _Batch()
        self._since_pruning += len(batch.accepted)
        if self.state is not None:
            self._write(self.state, batch, [*batch.changes, *changes], now)
        if self._since_pruning >= PRUNE:
            self._since_pruning = 0
            self.engine.prune()
            self.forget_scores(now)
            if self.state is not None and len(self.engine.people) > IN_MEMORY:
                self.engine.evict()

    def forget_scores(self, now: int) -> None:
        """Forget live scores that no rule can ask about any more."""
        asked = [c.change.within for _, c in self.engine.program.facts if isinstance(c, Score) and c.change is not None]
        before = min(now, self.engine.clock) - max([SCORES_KEPT, *asked])
        if before < self._forgotten + DAY:
            return  # all of them are looked through for it
        self._forgotten = before
        self.published.facts.rescored.forget(before)
        if self.state is not None:
            with self.state.transaction():
                self.state.forget_scores(before)

    def _write(self, state: State, batch: _Batch, changes: Sequence[Change], now: int) -> None:
        engine = self.engine
        with state.transaction():
            state.append(batch.accepted)
            state.refuse(batch.refused)
            state.learn(batch.traits)
            state.score(batch.scores)
            if self.rescore is not None:
                self._owed |= {(str(e.customer_id or e.anonymous_id), e.visible) for e in batch.accepted}
                state.owe(self._owed)
            state.link(engine.owners, engine.relinked)
            state.save(engine, engine.touched)
            state.say(changes, engine)
            counts = {f"count.{kind}": n for kind, n in self.counts.items()}
            state.put(clock=engine.clock, **{EVENTS_CLOCK: self.clock_of_events}, **counts, **batch.meta)
            if self.heard is not None and batch.accepted:
                self.heard(batch.accepted)
            if self.said is not None and changes:
                self.said(changes, now)
        engine.touched, engine.relinked = set(), set()

    # live scores

    def _ready(self) -> set[tuple[str, int]]:
        """Return whose committed events count by now and who was not scored since."""
        return {owed for owed in self._owed if owed[1] <= self.engine.clock} if self.rescore is not None else set()

    def _rescore(self) -> None:
        """Publish, at the instant after the clock, new scores of customers whose events were committed."""
        if self.rescore is None or not (ready := self._ready()):
            return
        engine = self.engine
        customers = {engine.person(engine.owners.get(one, (0, one))[1]).id for one, _ in ready}
        self._owed -= ready
        try:
            scores = self.rescore({who: engine.anonymous_of(who) for who in sorted(customers)}, engine.clock + 1)
        except (PredsegError, OSError) as error:  # events go on coming in; the customers keep the scores they have
            self.unscored[str(error)] += len(customers)
            return
        self.published.score(scores)
        self._batch.scores += scores
        engine.touch(customers, engine.clock + 1, [i for i, condition in engine.program.facts if isinstance(condition, Score)])
        engine.touched.update(customers)

    def remember(self, source: str, rows: int) -> None:
        """Note, with the next commit, how many rows of a file are done; a pipe has no name and is not noted."""
        if source:
            self._batch.meta[f"read {source}"] = rows

    def done(self, source: str) -> int:
        """Return how many rows of a file were done before."""
        return int(self.state.get(f"read {source}") or 0) if self.state is not None and source else 0

    def close(self) -> None:
        """Close the database."""
        if self.state is not None:
            self.state.connection.close()

    # one row

    def _accept(self, seen: Seen) -> list[Change]:
        if seen.event_id is not None:
            (self._ids if self.state is None else self._batch.ids)[seen.event_id] = seen
            self._expected.pop(seen.event_id, None)
        self._batch.accepted.append(seen)
        if seen.traits:
            self._learn(str(seen.customer_id or seen.anonymous_id), seen)
        return self.engine.put(self.row_of(seen))

    def _learn(self, customer_id: str, seen: Seen) -> None:
        """Take in traits; they count from the instant of their row, also when that lies behind the clock."""
        self.published.learn(customer_id, seen.traits, seen.time, seen.visible)
        self._batch.traits.append((customer_id, seen.time, seen.visible, seen.traits))
        if seen.visible > self.engine.clock:
            self.engine.touch([customer_id], seen.visible, self.engine.program.fact_leaves)

    def row_of(self, seen: Seen) -> Row:
        """Return an event as the engine keeps it."""
        return self.engine.row(seen.customer_id, seen.anonymous_id, seen.time, seen.visible, seen.event, seen.properties)

    def _known(self, event_id: str) -> Seen | None:
        if self.state is None:
            return self._ids.get(event_id)
        if (found := self._batch.ids.get(event_id)) is not None:
            return found
        return self._expected[event_id] if event_id in self._expected else self.state.seen(event_id)

    def _refuse_line(self, line: bytes, name: str, reason: str) -> Verdict:
        kept = self.persons.line(line.decode("utf-8", "replace"))
        return self._verdict(SUPPRESSED) if kept is None else self._refuse(kept.encode(), name, reason)

    def _refuse(self, row: Mapping[str, Any] | bytes, name: str, reason: str) -> Verdict:
        raw = row.decode("utf-8", "replace") if isinstance(row, bytes) else orjson.dumps(row, default=str).decode()
        who = None if isinstance(row, bytes) else row.get("customer_id") or row.get("anonymous_id")
        self._batch.refused.append((None if who is None else str(who), raw, name, reason, None))
        self.reasons[f"{name} {reason}"] += 1
        return self._verdict(QUARANTINED, reason, name)

    def _verdict(self, kind: str, reason: str = "", name: str = "") -> Verdict:
        self.counts[kind] += 1
        self._last = Verdict(kind, reason, name) if reason else _PLAIN[kind]
        return self._last


@dataclass
class _Batch:
    """What the next transaction writes."""

    accepted: list[Seen] = field(default_factory=list)
    refused: list[tuple[str | None, str, str, str, int | None]] = field(default_factory=list)
    traits: list[tuple[str, int, int, Mapping[str, Any]]] = field(default_factory=list)
    scores: list[LiveScore] = field(default_factory=list)
    ids: dict[str, Seen] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    meta: dict[str, object] = field(default_factory=dict)


def _rank(seen: Seen) -> tuple[int, str]:
    """Of rows with one id and different contents the smallest stays, whatever the order in which they come."""
    content = {"customer_id": seen.customer_id, "anonymous_id": seen.anonymous_id, "event": seen.event, "event_time": seen.time}
    received = seen.time if seen.received is None else seen.received
    return received, canonical_json({**seen.properties, **content, "received_at": received})
