"""Bugs to plant in the live executor, and changes that are none."""

from __future__ import annotations

from typing import Any, NamedTuple

import predseg.evaluate
from tests.planting import Bug, plant


class Executor(NamedTuple):
    """The modules of a live executor."""

    live: Any
    program: Any


def planted(bug: Bug) -> Executor:
    """A copy of the executor with the bug. The reference stays the original."""
    return Executor(*plant(predseg.evaluate, bug, ["live", "program"], keep=["reference", "timeline", "block", "batch"]))


BUGS = (
    # windows and the clock
    Bug("a window is closed at its start", "leaves", "bisect_right(times, t - window.start)", "bisect_right(times, t - window.start - 1)"),
    Bug("until is not looked at", "leaves", "hi = bisect_right(times, t - window.until) if window.until else len(times)", "hi = len(times)"),
    Bug("since is open at its start", "leaves", "time >= s.since", "time > s.since"),
    Bug(
        "nobody wakes when an event enters a window", "leaves", "return min(due, times[hi] + window.until) if hi < len(times) else due", "return due"
    ),
    Bug("a count that is too high never falls", "leaves", "leaving = n - most - 1 if n > most else n - least", "leaving = n - 1"),
    Bug("a count stands for ever", "leaves", "times[lo + leaving] + start", "NEVER"),
    Bug("an instant is a microsecond late", "leaves", "times[lo + leaving] + start", "times[lo + leaving] + start + 1"),
    # streams
    Bug("late events go to the end", "leaves", "at = bisect_right(times, time)\n", "at = len(times)\n"),
    Bug("filters are not looked at", "leaves", "if s.accepts(properties)]", "]"),
    Bug("a list is one value", "leaves", "(value if isinstance(value, tuple) else (value,)) if x is not None", "(value,) if x is not None"),
    # aggregates
    Bug("a sum over nothing is unknown", "leaves", 'if n or kind == "sum" else None', "if n else None"),
    Bug("an average over nothing is zero", "leaves", 'if n or kind == "sum" else None', ""),
    Bug("the least is the most", "leaves", 'if kind == "min" else (max, most)', 'if kind == "max" else (max, most)'),
    Bug("nothing is false", "leaves", "return UNKNOWN\n        if kind", "return FALSE\n        if kind"),
    # what follows
    Bug("the same instant follows", "leaves", "range(bisect_right(times, time), ", "range(bisect_right(times, time - 1), "),
    Bug("an absence is established at once", "leaves", "if not step.did and within is not None and time + within > t:", "if False:"),
    Bug("an absence is established a tick too late", "leaves", "time + within > t", "time + within >= t"),
    Bug("an event without the property is tied to what has none", "leaves", "if mine is not None and values[mine] is None:", "if False:"),
    Bug("one follower is enough", "leaves", "len(found) >= needed", "len(found) >= 1"),
    Bug("deeper steps are not looked at", "leaves", "if deeper is not None and follower is not None:", "if False:"),
    # layers
    Bug("all is any", "program", "len(parts) if isinstance(condition, c.All)", "1 if isinstance(condition, c.All)"),
    Bug("unknown is false", "program", "true + found.count(UNKNOWN) >= needed", "true >= needed"),
    Bug("none is any", "program", "negated = isinstance(condition, c.NoneOf)", "negated = False"),
    Bug("not in a segment is in it", "program", "int((members[segment] is not None) == member)", "int(members[segment] is not None)"),
    Bug("a rule does not hear of the rules it asks about", "program", "mine.union(*(depends[i] for i in used))", "mine"),
    Bug("what follows changes nothing", "program", "*(streams.number(s.events) for s in leaf.measure.steps())", ""),
    # instants
    Bug("decided is per event", "live", "while at < n and waiting[at][0] == instant:\n                at += 1", "at += 1"),
    Bug("timers are not looked at", "live", "if timers and timers[0][0] < instant:", "if False:"),
    Bug(
        "only what an event touches is answered again",
        "live",
        "reached = [i for i, d in enumerate(due) if d <= t]",
        "reached = []",
    ),
    Bug(
        "a timer that stands is forgotten",
        "live",
        "first = min(due) if due else NEVER",
        "first = max(due) if due else NEVER",
    ),
    Bug("facts never change", "live", "self.facts.next_change(condition, person.id, t) or NEVER", "NEVER"),
    # identities
    Bug("an anonymous visitor stays one", "live", "self.owners[anonymous] = (t, owner)\n", "pass\n"),
    Bug("the visitor stays a member", "live", "for customer_id in (owner, anonymous):", "for customer_id in (owner,):"),
    Bug("the customer does not get the history", "live", ", *(self.anonymous.get(a) for a in joined)]\n", "]\n"),
    Bug(
        "links come after what else happens",
        "live",
        "for row in sorted(links, key=lambda row: str(row.customer_id)):",
        "for row in ():",
    ),
    # corrections
    Bug(
        "what comes late counts from now on only",
        "live",
        "if row.visible <= self.clock:\n            return self._correct(row)",
        "if row.visible <= self.clock:\n            row = row._replace(visible=self.clock + 1)",
    ),
    Bug("an entry is never withdrawn", "live", "for at, rule, member in withdrawn]", "for at, rule, member in withdrawn if not member]"),
    Bug("an exit is never withdrawn", "live", "for at, rule, member in withdrawn]", "for at, rule, member in withdrawn if member]"),
    Bug("after a correction the clock is forgotten", "live", "self._wake(person, min(person.due, default=NEVER))", "pass"),
    Bug(
        "only the customer itself is corrected",
        "live",
        "ids = self._component(str(row.customer_id or row.anonymous_id))",
        "ids = {str(row.customer_id or row.anonymous_id)}",
    ),
    Bug(
        "corrections at the very instant are not said",
        "live",
        "said = [x for x in old.log if x[0] >= since]",
        "said = [x for x in old.log if x[0] > since]",
    ),
    Bug("who is new is not asked about facts", "live", "asked = {*dirty, *program.fact_leaves}", "asked = {*dirty}"),
    Bug("who is new has no history", "live", "asked.update(program.leaves_of[stream])", "pass"),
    Bug(
        "all who change share what they are",
        "leaves",
        "self.members, self.counts, self.log = self.members.copy(), self.counts.copy(), []",
        "self.log = []",
    ),
    # forgetting
    Bug(
        "what windows without a beginning see is not summed up",
        "forgetting",
        "origin.folded.setdefault(s, Folded()).add(streams[s].columns, values)",
        "pass",
    ),
    Bug("streams forget too early", "forgetting", "else engine.clock - stream.span)", "else engine.clock - stream.span // 2)"),
    Bug("streams sum nothing up", "forgetting", "kept.folded.add(stream.columns, tuple([column[i] for column in kept.columns]))", "pass"),
    Bug(
        "a text is summed when it looks like a number",
        "leaves",
        "return units_of(value) if",
        "return int(value) * SCALE if value == '1' else units_of(value) if",
    ),
    Bug("what is tied is tied to what looks the same", "leaves", "(kind_of(value), value)", "str(value)"),
    Bug("what Python holds equal is one value", "leaves", "{(v.__class__, v) for v in values}", "{v: v for v in values}.items()"),
    Bug("a summary counts twice", "leaves", "        self.count += 1\n", "        self.count += 2\n"),
)
EQUIVALENT = (
    Bug(
        "a stale timer is no reason to sleep",
        "live",
        "if person.scheduled != at:",
        "if False:",
        "waking without a change says nothing",
    ),
    Bug(
        "rules are answered more often",
        "program",
        "return [tuple(r for r, leaves in enumerate(depends) if i in leaves)",
        "return [tuple(range(len(depends)))",
        "an answer that stands is the same answer",
    ),
)
