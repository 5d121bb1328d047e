"""The live executor: event by event and by the clock alone, (state, event or instant) → (state, changes, next instant).

Decided is per instant, not per event: all events that become visible at t, all timers due at t, one evaluation. A customer
has one timer, at the first instant at which the clock alone can change one of its conditions. An event that belongs before
what was decided has its customer evaluated anew from what is kept; the difference to what was said before is a correction.

    engine = Engine(Program(rules), facts)
    engine.add("ann", None, time, visible, "Product Added", {"price": Decimal(12)})
    engine.advance(t)                                         # → the changes of membership in (the last t, t]
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from heapq import heappop, heappush

from predseg.evaluate.forgetting import prune
from predseg.evaluate.leaves import NEVER, TRUE, UNKNOWN, Folded, Kept, Person, Said
from predseg.evaluate.program import Change, Facts, Origin, Program, Row
from predseg.language.measures import Value
from predseg.language.time import DAY

BEGINNING = -(2**61)
_made = tuple.__new__
"""Makes a named tuple of all its fields in half the time that its own constructor takes."""
LATENESS = 30 * DAY
"""Corrections are possible for events that come up to this long behind the clock."""


class Engine:
    """Rules over a stream of events.

    Args:
        program: The rules.
        facts: What is known beside events.
        clock: What was decided before: events visible up to then are history.
        lateness: How far behind the clock an event may come and still correct what was said (microseconds).
        recall: Fetches what is kept elsewhere of an id that is not in memory, and says whether there was any.
    """

    def __init__(
        self, program: Program, facts: Facts, clock: int = BEGINNING, lateness: int = LATENESS, recall: Callable[[Engine, str], bool] | None = None
    ) -> None:
        self.program, self.facts, self.clock, self.lateness, self.recall = program, facts, clock, lateness, recall
        self.people: dict[str, Person] = {}
        self.own: dict[str, Origin] = {}
        self.anonymous: dict[str, Origin] = {}
        self.owners: dict[str, tuple[int, str]] = {}
        self.refused: list[Row] = []
        self._waiting: list[Row] = []
        self._timers: list[tuple[int, str]] = []
        self._changes: list[Change] = []
        self.touched: set[str] = set()
        self.relinked: set[str] = set()
        self._everything = tuple(range(len(program.rules)))

    # in

    def add(
        self, customer_id: str | None, anonymous_id: str | None, time: int, visible: int, name: str, properties: Mapping[str, Value]
    ) -> list[Change]:
        """Take an event; it counts when the clock reaches ``visible``. Return corrections when the clock is past it.

        Args:
            customer_id: Whose it is; None when only the anonymous visitor is known.
            anonymous_id: The visitor; together with a customer_id a link that joins the two.
            time: When it happened (microseconds).
            visible: From when it counts, not before ``time``.
            name: What happened.
            properties: More about it; numbers are `decimal.Decimal`.
        """
        return self.put(self.row(customer_id, anonymous_id, time, visible, name, properties))

    def too_late(self, visible: int) -> bool:
        """Whether an event that counts from then comes too long behind the clock: what it would correct is no longer kept."""
        return visible < self.clock - self.lateness

    def put(self, row: Row) -> list[Change]:
        """Take an event that is already sorted into streams, like `add`; nothing that is `too_late`."""
        if row.visible <= self.clock:
            return self._correct(row)
        waiting = self._waiting
        if not waiting or row.visible >= waiting[-1].visible:
            waiting.append(row)
        else:
            insort(waiting, row, key=lambda r: r.visible)
        return []

    def row(self, customer_id: str | None, anonymous_id: str | None, time: int, visible: int, name: str, properties: Mapping[str, Value]) -> Row:
        """Return an event as it is kept; arguments as of `add`."""
        own = None if customer_id == anonymous_id else customer_id
        return _made(Row, (visible, time, self.program.route(name).hits(time, properties), own, anonymous_id))

    def take_back(self, row: Row) -> list[Change]:
        """Forget an event as if it had never come; return corrections when it counted already."""
        if row in self._waiting:
            self._waiting.remove(row)
            return []
        origin = self._origin(row)
        if row in origin.rows:
            origin.rows.remove(row)
        if origin.since == row.visible:
            origin.since = min((r.visible for r in origin.rows), default=NEVER)
        return self._corrected(row)

    def know(self, customer_id: str, since: int) -> None:
        """Say that a customer is known from an instant on without an event."""
        person = self.person(customer_id)
        if not person.known:
            self._wake(person, max(since, BEGINNING + 1))

    def schedule(self, timers: Iterable[tuple[int, str]]) -> None:
        """Set the timers of customers, known or kept elsewhere: (instant, customer_id)."""
        for at, customer_id in timers:
            if customer_id in self.people:
                self._wake(self.people[customer_id], at)
            else:
                heappush(self._timers, (at, customer_id))

    def touch(self, customers: Iterable[str], at: int, leaves: Sequence[int]) -> None:
        """Say that facts of these customers may change at an instant after the clock."""
        for customer_id in customers:
            person = self.person(customer_id)
            for leaf in leaves:
                person.due[leaf] = min(person.due[leaf], at)
                person.first = min(person.first, at)
            self._wake(person, at)

    # out

    @property
    def next_instant(self) -> int | None:
        """The first instant after the clock at which something may change: a lower bound."""
        row = self._waiting[0].visible if self._waiting else NEVER
        timer = self._timers[0][0] if self._timers else NEVER
        return None if min(row, timer) == NEVER else min(row, timer)

    def advance(self, t: int) -> list[Change]:
        """Let the clock go to t and return what changed, in order of time."""
        waiting, timers, at, n = self._waiting, self._timers, 0, len(self._waiting)
        while True:
            instant = waiting[at][0] if at < n else NEVER
            if timers and timers[0][0] < instant:  # by the clock alone
                if timers[0][0] > t:
                    break
                instant = timers[0][0]
                if (woken := self._woken(instant)) is not None:
                    self._evaluate(woken, instant, ())
                continue
            if instant > t or instant == NEVER:
                break
            first = at
            while at < n and waiting[at][0] == instant:
                at += 1
            if at > first + 1 or (timers and timers[0][0] == instant) or waiting[first].link:
                self._decide(instant, waiting[first:at])
                continue
            person, leaves = self._arrive(waiting[first])
            if leaves is not None:
                self._evaluate(person, instant, leaves)
        if at:
            del waiting[:at]
        self.clock = max(self.clock, t)
        found, self._changes = self._changes, []
        return found

    def members(self, segment: str) -> dict[str, int]:
        """Return who is a member now, and since when."""
        rule = next(i for i, r in enumerate(self.program.rules) if r.name == segment)
        return {p.id: since for p in self.people.values() if (since := p.members[rule]) is not None}

    # one instant

    def _decide(self, t: int, rows: list[Row]) -> None:
        """All that happens at one instant, whoever it is about."""
        dirty: dict[str, Collection[int] | None] = {}
        links = [row for row in rows if row.link]
        for row in sorted(links, key=lambda row: str(row.customer_id)):
            self._link(row, t, dirty)
        for row in rows:
            person, leaves = self._arrive(row)
            before = dirty.get(person.id, ())
            if leaves is not None:
                dirty[person.id] = None if before is None else {*before, *leaves}
        for person in self._due(t):
            dirty.setdefault(person.id, ())
        for customer_id in sorted(dirty):
            self._evaluate(self.people[customer_id], t, dirty[customer_id])

    def _due(self, t: int) -> list[Person]:
        """Return whose timers stand at t, in order of their ids; their timers are gone then."""
        timers, found = self._timers, []
        while timers and timers[0][0] <= t:
            if (person := self._woken(timers[0][0])) is not None:
                found.append(person)
        return found

    def _woken(self, at: int) -> Person | None:
        """Return whose timer is the first, gone then; None when it stands no more."""
        customer_id = heappop(self._timers)[1]
        person = self.people.get(customer_id) or self.person(customer_id)
        if person.scheduled != at:
            return None
        person.scheduled = NEVER
        return person

    def _arrive(self, row: Row) -> tuple[Person, Collection[int] | None]:
        """Put an event where it belongs; return whose it is, and which leaves it concerns: None when it is none of the rules' business."""
        visible, time, hits, mine, anonymous = row
        own = mine
        if own is None:
            own = self.owners[str(anonymous)][1] if anonymous in self.owners else str(anonymous)
        person = self.people.get(own) or self.person(own)  # before the event is remembered: what is fetched is not to hold it yet
        if self.recall is not None:
            for one in (mine, anonymous):
                if one is not None:
                    self.touched.add(one)
                    if one not in self.people:
                        self.person(one)
        origin = (self.own.get(mine) if mine is not None else None) or self._origin(row)
        if hits or visible < origin.since or row.link:
            origin.rows.append(row)
            if visible < origin.since:
                origin.since = visible
        if not hits:
            return person, None if person.known else ()
        for stream, values in hits:
            kept = person.kept[stream]
            if kept is None:
                kept = person.kept[stream] = Kept(len(values))
            if values or kept.times and time < kept.times[-1]:
                kept.insert(time, values)
            else:
                kept.times.append(time)
        leaves_of = self.program.leaves_of
        return person, leaves_of[hits[0][0]] if len(hits) == 1 else {leaf for stream, _ in hits for leaf in leaves_of[stream]}

    def _evaluate(self, person: Person, t: int, dirty: Collection[int] | None) -> None:
        """Answer again what may have changed, and say what did; None is everything."""
        if self.recall is not None:
            self.touched.add(person.id)
        program, truth, due = self.program, person.truth, person.due
        rules: Collection[int] = ()
        if dirty is None or not person.known:
            rules, dirty = self._everything, self._anew(person, t, dirty)
        elif person.first <= t:
            reached = [i for i, d in enumerate(due) if d <= t]
            dirty = {*dirty, *reached} if dirty else reached
        answers = program.answers
        for leaf in dirty:
            answer = answers[leaf]
            if answer is not None:
                now, due[leaf] = answer(person, t)
            else:
                now = self._fact(person, leaf, t)
            if now != truth[leaf]:
                truth[leaf] = now
                rules = program.rules_of[leaf] if not rules else sorted({*rules, *program.rules_of[leaf]})
        if rules:
            self._compare(person, t, rules)
        person.first = first = min(due) if due else NEVER
        if first < person.scheduled:
            if first <= t:
                raise RuntimeError(f"the clock stands still at {t}: a condition of {self.program.conditions} is due again")
            person.scheduled = first
            heappush(self._timers, (first, person.id))

    def _anew(self, person: Person, t: int, dirty: Collection[int] | None) -> Collection[int]:
        """Forget what was answered, and return what to ask: of who was not known, only what is kept is about, as all else stands at the start."""
        program = self.program
        person.known = self._known(person, t)
        person.truth[:] = program.blank
        if dirty is None or person.first != NEVER:
            return range(len(person.truth))
        asked = {*dirty, *program.fact_leaves}
        for stream, kept in enumerate(person.kept):
            if kept is not None:
                asked.update(program.leaves_of[stream])
        return asked

    def _fact(self, person: Person, leaf: int, t: int) -> int:
        condition = self.program.conditions[leaf]
        person.due[leaf] = self.facts.next_change(condition, person.id, t) or NEVER
        found = self.facts.truth(condition, person.id, t)
        return UNKNOWN if found is None else int(found)

    def _compare(self, person: Person, t: int, rules: Iterable[int]) -> None:
        decide, known = self.program.decide, person.known
        for i in rules:
            member = known and decide[i](person.truth, person.members) == TRUE
            if member != (person.members[i] is not None):
                rule = self.program.rules[i]
                n = person.change(i, t, member)
                self._changes.append(_made(Change, ("entered" if member else "left", rule.name, person.id, t, rule.definition, False, n)))

    # who

    def person(self, customer_id: str) -> Person:
        """Return a customer, a new one when nothing is known of it."""
        person = self.people.get(customer_id)
        if person is None and self.recall is not None and self.recall(self, customer_id):
            person = self.people[customer_id]
        if person is None:
            person = self.people[customer_id] = self.program.person(customer_id)
        return person

    def _fetch(self, *ids: str | None) -> None:
        """Bring ids into memory that are kept elsewhere."""
        for one in ids if self.recall is not None else ():
            if one is not None and one not in self.people:
                self.person(one)

    def settle(self, person: Person) -> None:
        """Answer every condition of a customer as things stand at the clock, after its streams were filled."""
        self._rebuild(person)
        person.known = self._known(person, self.clock)
        for leaf in range(len(person.truth)):
            answer = self.program.answers[leaf]
            if answer is not None:
                person.truth[leaf], person.due[leaf] = answer(person, self.clock)
            else:
                person.truth[leaf] = self._fact(person, leaf, self.clock)
        person.first = min(person.due, default=NEVER)

    def _known(self, person: Person, t: int) -> bool:
        """Whether anything is known of the customer that did not join another one."""
        own = self.own.get(person.id)
        if own is not None and own.since <= t:
            return True
        before, joined, listed = self.anonymous.get(person.id), self.owners.get(person.id), self.facts.known_since(person.id)
        return (listed is not None and listed <= t) or (before is not None and before.since <= t and (joined is None or joined[0] > t))

    def _wake(self, person: Person, at: int) -> None:
        if at < person.scheduled:
            person.scheduled = at
            heappush(self._timers, (at, person.id))

    def _origin(self, row: Row) -> Origin:
        own = row.customer_id
        origins, one = (self.anonymous, str(row.anonymous_id)) if own is None else (self.own, own)
        return origins.get(one) or origins.setdefault(one, Origin())

    def tie(self, row: Row) -> None:
        """Remember that two ids came together."""
        own, anonymous = str(row.customer_id), str(row.anonymous_id)
        for origins, one, other in ((self.own, own, anonymous), (self.anonymous, anonymous, own)):
            origin = origins.setdefault(one, Origin())
            origin.links |= {other}

    def _link(self, row: Row, t: int, dirty: dict[str, Collection[int] | None]) -> None:
        """Join an anonymous visitor to a customer: it leaves everything, the customer is evaluated on the united history."""
        owner, anonymous = str(row.customer_id), str(row.anonymous_id)
        self._fetch(owner, anonymous)
        self.tie(row)
        if anonymous in self.owners:
            if self.owners[anonymous][1] != owner:
                self.refused.append(row)
            return
        self.owners[anonymous] = (t, owner)
        self.relinked.add(anonymous)
        if anonymous in self.anonymous and self.anonymous[anonymous].since <= t:
            for customer_id in (owner, anonymous):
                self._rebuild(self.person(customer_id))
                dirty[customer_id] = None

    def _rebuild(self, person: Person) -> None:
        """Fill the streams of a customer from what came under its ids."""
        kept: list[Kept | None] = [None] * len(person.kept)
        self._fetch(*(joined := self.anonymous_of(person.id)))
        mine = [self.own.get(person.id), *(self.anonymous.get(a) for a in joined)]
        for origin in mine:
            for stream, folded in (origin.folded or {}).items() if origin is not None else ():
                at = kept[stream] or Kept(len(self.program.streams[stream].columns))
                at.folded = at.folded or Folded()
                at.folded.join(folded)
                kept[stream] = at
            for row in origin.rows if origin is not None else ():
                for stream, values in row.hits:
                    at = kept[stream] or Kept(len(values))
                    at.insert(row.time, values)
                    kept[stream] = at
        person.kept = kept

    def anonymous_of(self, customer_id: str) -> list[str]:
        """Return the anonymous ids that are a customer's, its own id among them while it joined nobody."""
        linked = self.own[customer_id].links if customer_id in self.own else ()
        found = [a for a in linked if a in self.owners and self.owners[a][1] == customer_id]
        return found if customer_id in self.owners else [*found, customer_id]

    # corrections

    def _correct(self, row: Row) -> list[Change]:
        """Evaluate anew whom an event concerns that belongs before what was decided; return the difference to what was said."""
        self._fetch(row.customer_id, row.anonymous_id)
        if row.link:
            self.tie(row)
        origin = self._origin(row)
        insort(origin.rows, row, key=lambda r: r.visible)
        origin.since = min(origin.since, row.visible)
        return self._corrected(row)

    def _corrected(self, row: Row) -> list[Change]:
        """Return what has to be said after the rows of whom a row concerns have changed."""
        ids = self._component(str(row.customer_id or row.anonymous_id))
        fresh = self._again(ids)
        self.relinked |= {anonymous for anonymous in ids if self.owners.pop(anonymous, None) is not None} | set(fresh.owners)
        self.owners |= fresh.owners
        self.refused += [r for r in fresh.refused if r is row]
        found: list[Change] = []
        self.touched |= ids
        for customer_id in sorted(ids):
            if customer_id in self.people or customer_id in fresh.people:
                person = fresh.person(customer_id)
                found += self._differences(self.person(customer_id), person, row.visible)
                person.scheduled = NEVER
                self.people[customer_id] = person
                self._wake(person, min(person.due, default=NEVER))
        return sorted(found, key=lambda change: change.at)

    def _component(self, customer_id: str) -> set[str]:
        """Return all ids that ever came together with this one, directly or through others."""
        found, waiting = {customer_id}, [customer_id]
        while waiting:
            one = waiting.pop()
            self._fetch(one)
            for origins in (self.own, self.anonymous):
                more = (origins[one].links if one in origins else frozenset[str]()) - found
                found |= more
                waiting += more
        return found

    def _again(self, ids: set[str]) -> Engine:
        """Return an engine in which these ids alone lived up to the clock."""
        fresh = Engine(self.program, self.facts, BEGINNING, self.lateness)
        rows: list[Row] = []
        for customer_id in ids:
            for mine, theirs in ((self.own, fresh.own), (self.anonymous, fresh.anonymous)):
                if (origin := mine.get(customer_id)) is not None:
                    dropped = not origin.rows or origin.since < origin.rows[0].visible
                    theirs[customer_id] = Origin([], origin.folded, origin.since if dropped else NEVER)
                    rows += origin.rows
                    if dropped:
                        fresh._wake(fresh.person(customer_id), origin.since)
            if (since := self.facts.known_since(customer_id)) is not None:
                fresh.know(customer_id, since)
            fresh._rebuild(fresh.person(customer_id))
        for row in sorted(rows, key=lambda r: r.visible):
            fresh.put(row)
        fresh.advance(self.clock)
        return fresh

    def _differences(self, old: Person, new: Person, since: int) -> list[Change]:
        """Return what has to be said to turn the log of one into that of the other, and continue the old counts in the new one."""
        said = [x for x in old.log if x[0] >= since]
        told = [x for x in new.log if x[0] >= since]
        before = [x for x in old.log if x[0] < since]
        counts = [n - sum(x[1] == i for x in said) for i, n in enumerate(old.counts)]
        after: list[Said] = []
        for at, rule, member, _ in told:
            counts[rule] += 1
            after.append((at, rule, member, counts[rule]))
        new.log, new.counts, new.members = [*before, *after], counts, list(new.members)
        for i, now in enumerate(new.members):
            if now is not None and now < since:
                entered = [x[0] for x in before if x[1] == i and x[2]]
                new.members[i] = entered[-1] if entered else old.members[i] if old.members[i] is not None else now
        withdrawn = Counter(x[:3] for x in said) - Counter(x[:3] for x in after)
        added = Counter(x[:3] for x in after) - Counter(x[:3] for x in said)
        numbers = {x[:3]: x[3] for x in (*said, *after)}
        found = [self._say(old.id, (at, rule, not member, numbers[at, rule, member])) for at, rule, member in withdrawn]
        return found + [self._say(old.id, (*key, numbers[key])) for key in added]

    def _say(self, customer_id: str, said: Said) -> Change:
        at, i, member, n = said
        rule = self.program.rules[i]
        return Change("entered" if member else "left", rule.name, customer_id, at, rule.definition, True, n)

    def prune(self) -> None:
        """Forget what no rule can see any more and no correction can need; what windows without a beginning see is summed up."""
        prune(self)

    def evict(self) -> None:
        """Let go of all customers: they are kept elsewhere and fetched again when they are needed."""
        self.people, self.own, self.anonymous = {}, {}, {}
