"""The tests in rule files: a few events under a fake clock, and when the customer enters and leaves.

Every segment is decided continuously here, daily ones too, and `in:` of another segment by that segment's rule on the same
events (unless `facts` state the membership), so a test needs no data, no store and no model. The customer is known from the
first event on, or from the first `at` of a trait; a test without either is about a customer who is always known.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from predseg.errors import ConfigError
from predseg.evaluate.reference import Event, Truth
from predseg.language import conditions as c
from predseg.language.english import say_condition
from predseg.language.yaml import Node, read_documents
from predseg.segments.customer import Customer
from predseg.segments.definitions import STANDARD_EVENTS, Segment
from predseg.segments.explain import Reason, explain
from predseg.segments.givens import ALWAYS, Givens, parse_givens, read_instant, read_value, say_moment

KEYS = ("it", "events", "facts", "enters", "leaves", "member_at")
EXPECTATIONS = ("enters", "leaves", "member_at")
EVENT_HELP = "write `2026-03-01 12:00  Order Completed  {value: 12.50}`: two spaces after the instant and before the properties"


@dataclass(frozen=True)
class Case:
    """One test of a segment. ``enters`` and ``leaves`` are all the instants at which it does; None is not asked."""

    segment: str
    it: str
    place: str
    events: tuple[Event, ...] = ()
    givens: Givens = Givens()
    enters: tuple[int, ...] | None = None
    leaves: tuple[int, ...] | None = None
    member_at: tuple[tuple[int, bool], ...] = ()


@dataclass(frozen=True)
class Failure:
    """What a test expected and what was found, explained at the first moment where they differ."""

    what: str  # enters | leaves | member_at
    expected: str
    found: str
    at: int
    reason: Reason


@dataclass(frozen=True)
class Result:
    """What a test found. ``seen`` has, per condition of the rule, the truths that it took."""

    case: Case
    entered: tuple[int, ...]
    left: tuple[int, ...]
    failures: tuple[Failure, ...]
    seen: tuple[frozenset[Truth], ...] = ()

    @property
    def passed(self) -> bool:
        """Whether all was as expected."""
        return not self.failures


@dataclass(frozen=True)
class Gap:
    """A condition that no test ever makes true, or false."""

    number: int
    says: str
    place: str
    never: str  # true | false | true or false


@dataclass(frozen=True)
class Suite:
    """All tests of one segment."""

    segment: Segment
    results: tuple[Result, ...]
    gaps: tuple[Gap, ...]
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every test passed."""
        return all(r.passed for r in self.results)


def run_tests(segments: Mapping[str, Segment], models: Iterable[str], chosen: Sequence[str] = ()) -> list[Suite]:
    """Run the tests of segments, all of them when none is chosen.

    Raises:
        ConfigError: E340 to E344 with file:line:column, when a test is not understood. All tests of the project are read.
    """
    cases = {name: parse_cases(s, models, segments) for name, s in segments.items()}
    return [_suite(s, cases[name], segments) for name, s in segments.items() if not chosen or name in chosen]


def _suite(segment: Segment, cases: Sequence[Case], segments: Mapping[str, Segment]) -> Suite:
    results = tuple(run_case(case, segment.match, segments) for case in cases)
    return Suite(segment, results, tuple(_gaps(segment, results)) if results else (), tuple(_notes(segment, cases, segments)))


# reading


def parse_cases(segment: Segment, models: Iterable[str], segments: Iterable[str]) -> tuple[Case, ...]:
    """Return the tests of a segment's document.

    Raises:
        ConfigError: E340 the test, E341 a line of events, E342 an instant, E343 and E344 the facts.
    """
    node = segment.node.value.get("tests") if segment.node is not None else None
    if node is None:
        return ()
    if not node.is_list:
        raise ConfigError("E340", node.place, f"`tests` takes a list of tests, found {node.show()}", "write `- it: does something` below it")
    return tuple(_case(segment.name, n, tuple(models), tuple(segments)) for n in node.value)


def _case(segment: str, node: Node, models: tuple[str, ...], segments: tuple[str, ...]) -> Case:
    keys = node.mapping("a test", KEYS)
    if "it" not in keys:
        raise ConfigError("E340", node.place, "a test has no name", "add `it:` with what the segment does here")
    expected = [key for key in EXPECTATIONS if key in keys]
    if not expected:
        raise ConfigError("E340", node.place, "a test expects nothing", "add `enters`, `leaves` (an instant, a list, or never) or `member_at`")
    return Case(
        segment,
        keys["it"].text("`it`"),
        node.place,
        tuple(parse_events(keys["events"])) if "events" in keys else (),
        parse_givens(keys.get("facts"), models, segments),
        _moments(keys["enters"], "enters") if "enters" in keys else None,
        _moments(keys["leaves"], "leaves") if "leaves" in keys else None,
        _member_at(keys["member_at"]) if "member_at" in keys else (),
    )


def _moments(node: Node, what: str) -> tuple[int, ...]:
    if node.value == "never":
        return ()
    nodes = node.value if node.is_list else [node]
    if not nodes or any(n.is_mapping or n.is_list or n.value is None for n in nodes):
        raise ConfigError(
            "E342", node.place, f"`{what}` is an instant, a list of them, or never, found {node.show()}", f"write `{what}: 2026-03-02 12:00`"
        )
    return tuple(sorted(read_instant(n, what) for n in nodes))


def _member_at(node: Node) -> tuple[tuple[int, bool], ...]:
    found = node.mapping("`member_at`")
    if not found:
        raise ConfigError("E342", node.place, "`member_at` names no instant", "write `member_at: {2026-03-02 12:00: true}`")
    for value in found.values():
        if not isinstance(value.value, bool):
            raise ConfigError("E342", value.place, f"`member_at` says true or false, found {value.show()}", "write `{2026-03-02 12:00: true}`")
    instants = {name: Node(node.file, line, column, name) for name, (line, column) in node.keys.items()}
    return tuple(sorted((read_instant(instants[name], "member_at"), value.value) for name, value in found.items()))


def parse_events(node: Node) -> Iterator[Event]:
    """Yield the events of a block of lines: instant, two spaces, name, optionally two spaces and properties.

    ``received_at`` among the properties is when the event was learned of; empty lines and lines that begin with # are left out.

    >>> [document] = read_documents('events: "2026-03-01 10:00  Order Completed  {value: 12.50}"')
    >>> [event] = parse_events(document.value["events"])
    >>> event.name, event.properties
    ('Order Completed', {'value': Decimal('12.50')})
    """
    line, column = node.first or (node.line, node.column + 1)
    for number, text in enumerate(node.text("`events`").split("\n")):
        if text.strip() and not text.lstrip().startswith("#"):
            yield _event(text.rstrip(), Node(node.file, line + number, column + len(text) - len(text.lstrip()), text.strip()))


def _event(text: str, node: Node) -> Event:
    parts = re.split(r" {2,}|\t+", text.strip(), maxsplit=2)
    properties = parts[2] if len(parts) > 2 else None
    if len(parts) < 2 or "{" in parts[1] or (properties is not None and not properties.startswith("{")):
        raise ConfigError("E341", node.place, f"not a line of events: {text.strip()!r}", EVENT_HELP)
    time = read_instant(Node(node.file, node.line, node.column, parts[0]), "events")
    read = {}
    if properties is not None:
        column = node.column + text.strip().index(properties, len(parts[0]) + len(parts[1]))
        read = _properties(properties, node.file, node.line, column)
    received = read.pop("received_at", None)
    return Event(
        time,
        parts[1],
        {name: read_value(n, f"the property {name!r}") for name, n in read.items()},
        read_instant(received, "received_at") if received else None,
    )


def _properties(text: str, file: str, line: int, column: int) -> dict[str, Node]:
    """Read properties where they stand: the reader is given the lines before them as empty ones."""
    documents = read_documents("\n" * (line - 1) + " " * (column - 1) + text, file)
    if len(documents) != 1:
        raise ConfigError("E341", f"{file}:{line}:{column}", f"not properties: {text!r}", EVENT_HELP)
    return documents[0].mapping("the properties of an event")


# running


def customer_of(case: Case, segments: Mapping[str, Segment]) -> Customer:
    """Return the customer that a test is about."""
    known = [e.visible for e in case.events] + ([case.givens.first_trait] if case.givens.first_trait is not None else [])
    rules = {name: s.match for name, s in segments.items() if name not in case.givens.segments}
    return Customer(case.events, case.givens, rules, min(known, default=ALWAYS))


def passes(case: Case, match: c.Condition, segments: Mapping[str, Segment]) -> bool:
    """Whether a test holds for a rule, which need not be the one of its segment."""
    customer = customer_of(case, segments)
    if any(customer.matches(match, t) != expected for t, expected in case.member_at):
        return False
    changes = customer.transitions(match) if case.enters is not None or case.leaves is not None else []
    found = {way: tuple(t for t, now in changes if now == way) for way in (True, False)}
    return case.enters in (None, found[True]) and case.leaves in (None, found[False])


def run_case(case: Case, match: c.Condition, segments: Mapping[str, Segment]) -> Result:
    """Run one test against the rule of its segment."""
    customer = customer_of(case, segments)
    changes = customer.transitions(match)
    entered, left = (tuple(t for t, now in changes if now == way) for way in (True, False))
    failures = [
        f
        for what, expected, found in (("enters", case.enters, entered), ("leaves", case.leaves, left))
        if (f := _differ(what, expected, found, customer, match))
    ]
    for t, expected in case.member_at:
        if (member := customer.matches(match, t)) != expected:
            failures.append(
                Failure("member_at", f"{str(expected).lower()} at {say_moment(t)}", str(member).lower(), t, explain(match, customer, t, clock=False))
            )
    return Result(case, entered, left, tuple(failures), _seen(case, customer, match))


def _differ(what: str, expected: tuple[int, ...] | None, found: tuple[int, ...], customer: Customer, match: c.Condition) -> Failure | None:
    if expected is None or expected == found:
        return None
    at = min({*expected} ^ {*found} or {*expected})
    return Failure(what, say_moments(expected), say_moments(found), at, explain(match, customer, at, clock=False))


def say_moments(moments: Sequence[int]) -> str:
    """Return instants as a test file writes them."""
    return ", ".join(map(say_moment, moments)) or "never"


# coverage


def conditions_of(match: c.Condition) -> list[c.Condition]:
    """Return the conditions of a rule that are no layers, in order."""
    return [part for part in c.walk(match) if not isinstance(part, c.LAYERS)]


def _seen(case: Case, customer: Customer, match: c.Condition) -> tuple[frozenset[Truth], ...]:
    moments = {*customer.instants(match), *(t for t, _ in case.member_at if customer.known(t))}
    return tuple(frozenset(customer.decide(condition, t) for t in moments) for condition in conditions_of(match))


def _gaps(segment: Segment, results: Sequence[Result]) -> Iterator[Gap]:
    places = list(condition_places(segment.node.value["match"])) if segment.node else []
    for i, condition in enumerate(conditions_of(segment.match)):
        seen = frozenset[Truth]().union(*(r.seen[i] for r in results))
        missing = [word for truth, word in ((True, "true"), (False, "false")) if truth not in seen]
        if missing:
            yield Gap(i + 1, say_condition(condition), places[i] if places else "", " or ".join(missing))


def condition_places(node: Node) -> Iterator[str]:
    """Yield where the conditions of a rule that are no layers stand, in the order of `conditions_of`."""
    for verb in ("all", "any", "none"):
        if verb in node.value:
            for part in node.value[verb].value:
                yield from condition_places(part)
            return
    if "some" in node.value:
        for part in node.value["some"].value["of"].value:
            yield from condition_places(part)
    elif "trait" in node.value:
        yield from (node.value["trait"].key_place(name) for name in sorted(node.value["trait"].value))
    else:
        yield node.place


def _notes(segment: Segment, cases: Sequence[Case], segments: Mapping[str, Segment]) -> Iterator[str]:
    """Yield what looks like a slip of the pen: events and traits close to what the rule asks about."""
    from difflib import get_close_matches

    customer = Customer((), Givens(), {name: s.match for name, s in segments.items()})
    parts = list(c.walk(customer.unfolded(segment.match)))
    names = {name for p in parts if isinstance(p, c.Did) for name in p.measure.names()}
    traits = {p.filter.property for p in parts if isinstance(p, c.Trait)}
    asked: dict[str, Any] = {"event": names, "trait": traits}
    for case in cases:
        stated = {name for g in case.givens.entries for kind, name in g.facts if kind == "trait"}
        written = [("event", name) for name in sorted({e.name for e in case.events} - names - STANDARD_EVENTS)]
        for kind, name in [*written, *(("trait", name) for name in sorted(stated - traits))]:
            if close := get_close_matches(name, sorted(asked[kind]), n=1, cutoff=0.75):
                yield f"{case.place}: no condition asks about the {kind} {name!r}; did you mean {close[0]!r}?"
