"""How rules are shown: trees of conditions, results of their tests, differences between executors; and the same as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from predseg.language.english import say_list
from predseg.language.measures import Value
from predseg.language.time import say_instant
from predseg.segments.telling import MARKS, asked, next_change, refresh_notes, say_event

if TYPE_CHECKING:
    from rich.console import Console

    from predseg.evaluate.reference import Event, Truth
    from predseg.segments.cases import Failure, Result, Suite
    from predseg.segments.explain import Ahead, Reason
    from predseg.segments.lookup import Explanation
    from predseg.segments.mutations import Outcome
    from predseg.segments.verify import Verification

_COLOURS = {"✔": "green", "✓": "green", "✘": "red", "✗": "red", "?": "yellow"}


def show_lines(console: Console, lines: Iterator[str]) -> None:
    """Print lines with coloured marks; a line is never broken."""
    from rich.text import Text

    from predseg.cli.frame import printable

    for line in lines:
        text = Text(printable(line))
        mark = line.lstrip()[:1]
        if mark in _COLOURS:
            at = line.index(mark)
            text.stylize(_COLOURS[mark], at, at + 1)
        console.print(text, soft_wrap=True)


# trees


def tree(reason: Reason, indent: int = 0) -> Iterator[str]:
    """Yield a line per condition, and under it the events and what would change it."""
    space = "  " * indent
    if not reason.number:
        yield f"{space}{MARKS[reason.truth]} {reason.says}"
        for part in reason.parts:
            yield from tree(part, indent + 1)
        return
    yield f"{space}{MARKS[reason.truth]} {reason.number} {reason.says}{f': {reason.found}' if reason.found else ''}"
    space += "    "
    yield from (f"{space}{say_event(event, asked(reason.condition))}" for event in reason.events)
    if reason.more:
        yield f"{space}and {reason.more:,} more event{'' if reason.more == 1 else 's'}"
    yield from (f"{space}{detail}" for detail in reason.details)
    if reason.flip:
        yield f"{space}{'would end with' if reason.truth is True else 'would hold with'}: {reason.flip}"
    if reason.ahead.at is not None:
        yield f"{space}by the clock alone it {'holds' if reason.ahead.holds else 'ends'} at {say_instant(reason.ahead.at)}"
    for part in reason.parts:
        yield from tree(part, indent + 2)


def plain_reason(reason: Reason) -> dict[str, Any]:
    """Return a tree as JSON has it."""
    found: dict[str, Any] = {"condition": reason.says, "truth": plain_truth(reason.truth)}
    if not reason.number:
        return found | {"parts": [plain_reason(part) for part in reason.parts]}
    found |= {"number": reason.number, "found": reason.found, "events": [plain_event(e) for e in reason.events], "more_events": reason.more}
    found |= {"details": list(reason.details), "flip": reason.flip or None, "clock": plain_ahead(reason.ahead)}
    return found | ({"parts": [plain_reason(part) for part in reason.parts]} if reason.parts else {})


def plain_truth(truth: Truth) -> bool | str:
    """Return true, false or "unknown"."""
    return "unknown" if truth is None else truth


def plain_event(event: Event) -> dict[str, Any]:
    """Return an event as JSON has it; numbers are exact texts where they are no whole numbers."""
    properties = {name: _plain(value) for name, value in event.properties.items() if value is not None}
    return {"event_time": say_instant(event.time), "event": event.name, "properties": properties}


def _plain(value: Value) -> Any:
    from decimal import Decimal

    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return (int(value) if value == value.to_integral_value() else float(value)) if isinstance(value, Decimal) else value


def plain_ahead(ahead: Ahead) -> dict[str, Any] | None:
    """Return what the clock brings as JSON has it."""
    return None if ahead.at is None else {"at": say_instant(ahead.at), "holds": ahead.holds}


# explain


def explanation(found: Explanation) -> Iterator[str]:
    """Yield the lines of `predseg explain`."""
    segment = found.segment
    word = "is" if found.member else "is not"
    since = f" since {say_instant(found.entered_at)}" if found.entered_at is not None else ""
    yield f"{found.customer_id} {word} in {segment.name}{since}, seen at {say_instant(found.as_of)}"
    yield from refresh_notes(found)
    yield ""
    yield from tree(found.reason)
    yield ""
    yield next_change(found)
    if found.before:
        shown = [f"{say_instant(e)} to {say_instant(x)}" for e, x in found.before[-3:]]
        yield f"was in it before: {say_list(shown)}" + (f", and {len(found.before) - 3:,} times more" if len(found.before) > 3 else "")


def plain_explanation(found: Explanation) -> dict[str, Any]:
    """Return an explanation as JSON has it."""
    return {
        "segment": found.segment.name,
        "customer_id": found.customer_id,
        "as_of": say_instant(found.as_of),
        "member": found.member,
        "rule_holds": found.holds,
        "entered_at": None if found.entered_at is None else say_instant(found.entered_at),
        "last_run": None if found.last_run is None else say_instant(found.last_run),
        "before": [{"entered_at": say_instant(e), "left_at": say_instant(x)} for e, x in found.before],
        "sentence": found.segment.sentence(),
        "reason": plain_reason(found.reason),
        "clock": plain_ahead(found.ahead),
    }


# test


def suites(found: Sequence[Suite], mutated: dict[str, list[Outcome]], verbose: bool) -> Iterator[str]:
    """Yield the lines of `predseg test`."""
    for suite in found:
        marks = "".join("✓" if r.passed else "✗" for r in suite.results) or "no tests"
        yield f"{suite.segment.name}  {marks}"
        for result in suite.results:
            if verbose or not result.passed:
                yield from _result(result)
        for gap in suite.gaps:
            yield f"  condition {gap.number} is never {gap.never} in any test: {gap.says}"
        yield from _outcomes(suite, mutated.get(suite.segment.name))
    results = [r for s in found for r in s.results]
    failed = sum(not r.passed for r in results)
    of = sum(bool(s.results) for s in found)
    yield ""
    tested = f"{len(results)} test{'' if len(results) == 1 else 's'} of {of} segment{'' if of == 1 else 's'}"
    yield f"{tested}: {len(results) - failed} passed" + (f", {failed} failed" if failed else "")
    if not results:
        yield "write some under `tests:` of a segment, see docs/rule_tests.md"


def _result(result: Result) -> Iterator[str]:
    yield f"  {'✓' if result.passed else '✗'} {result.case.it}"
    if result.passed:
        return
    yield f"      {result.case.place}"
    for failure in result.failures:
        yield from _failure(failure)


def _failure(failure: Failure) -> Iterator[str]:
    from predseg.segments.givens import say_moment

    yield f"      {failure.what}: expected {failure.expected}, found {failure.found}"
    yield f"      at {say_moment(failure.at)}:"
    yield from (f"        {line}" for line in tree(failure.reason))


def _outcomes(suite: Suite, outcomes: list[Outcome] | None) -> Iterator[str]:
    if outcomes is None or not suite.results:
        return
    survivors = [o for o in outcomes if o.survived]
    yield f"  {len(outcomes) - len(survivors)} of {len(outcomes)} mutations of the rule are noticed by its tests"
    for outcome in survivors:
        yield f"  not noticed: {outcome.mutation.says}"
        yield f"      {outcome.mutation.sentence(suite.segment.name)}"


def plain_suites(found: Sequence[Suite], mutated: dict[str, list[Outcome]]) -> dict[str, Any]:
    """Return results as JSON has them."""
    results = [r for s in found for r in s.results]
    return {
        "passed": sum(r.passed for r in results),
        "failed": sum(not r.passed for r in results),
        "segments": [_plain_suite(s, mutated.get(s.segment.name)) for s in found],
    }


def _plain_suite(suite: Suite, outcomes: list[Outcome] | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "segment": suite.segment.name,
        "tests": [_plain_result(r) for r in suite.results],
        "coverage": [{"condition": g.number, "says": g.says, "place": g.place, "never": g.never} for g in suite.gaps],
        "notes": list(suite.notes),
    }
    if outcomes is not None:
        found["mutations"] = [
            {"condition": o.mutation.number, "says": o.mutation.says, "sentence": o.mutation.sentence(suite.segment.name), "noticed_by": o.noticed_by}
            for o in outcomes
        ]
    return found


def _plain_result(result: Result) -> dict[str, Any]:
    from predseg.segments.givens import say_moment

    return {
        "it": result.case.it,
        "place": result.case.place,
        "passed": result.passed,
        "enters": [say_moment(t) for t in result.entered],
        "leaves": [say_moment(t) for t in result.left],
        "failures": [
            {"what": f.what, "expected": f.expected, "found": f.found, "at": say_moment(f.at), "reason": plain_reason(f.reason)}
            for f in result.failures
        ],
    }


# verify


def verification(found: Verification, command: str) -> Iterator[str]:
    """Yield the lines of `predseg verify`; ``command`` makes the same again."""
    trials = f"{found.trees:,} trial{'' if found.trees == 1 else 's'}, {found.customers:,} histories"
    yield f"reference, batch and live in {trials}: {found.decisions:,} decisions and {found.changes:,} logs of changes compared, seed {found.seed}"
    difference = found.difference
    if difference is None:
        yield "they agree"
        return
    yield f"✗ they differ in trial {difference.tree + 1}; made as small as possible:"
    yield f"    {difference.sentence}"
    yield f"    {difference.customer_id}:"
    yield from (f"      {say_event(event)}" for event in difference.events)
    yield f"    {difference.what}: reference {difference.reference}, {difference.executor} {difference.found}"
    yield f"    {difference.condition}"
    yield f"again: {command}"


def plain_verification(found: Verification) -> dict[str, Any]:
    """Return what was compared as JSON has it."""
    difference = found.difference
    return {
        "seed": found.seed,
        "trees": found.trees,
        "customers": found.customers,
        "decisions": found.decisions,
        "changes": found.changes,
        "difference": difference
        and {
            "tree": difference.tree,
            "sentence": difference.sentence,
            "condition": str(difference.condition),
            "customer_id": difference.customer_id,
            "events": [plain_event(e) | {"visible": say_instant(e.visible)} for e in difference.events],
            "what": difference.what,
            "reference": difference.reference,
            "executor": difference.executor,
            "found": difference.found,
        },
    }
