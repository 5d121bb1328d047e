"""Declarations as English: a phrase for a measure, a sentence for a rule."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from predseg.language import conditions as c
from predseg.language.measures import Comparison, Events, Filter, Measure, Step, Test, Window
from predseg.language.time import say_duration, say_instant

_OPS = {"more_than": "more than", "at_least": "at least", "less_than": "less than", "at_most": "at most", "exactly": "exactly"}
_ONCE_OR_NEVER = {Comparison("at_least", Decimal(1)): "did", Comparison("exactly", Decimal(0)): "did not do"}
_AGGREGATES = {"sum": "total", "avg": "average", "min": "smallest", "max": "largest"}


def say_measure(measure: Measure) -> str:
    """Return a noun phrase.

    >>> from predseg.language.time import DAY
    >>> order = Events(("Order Completed",))
    >>> say_measure(Measure(order, Window(90 * DAY)))
    'number of Order Completed in the last 90 days'
    >>> say_measure(Measure(order, Window(), "days_since_last"))
    'days since the last Order Completed'
    """
    events, when = say_events(measure.events) + say_then(measure.then), say_window(measure.window)
    match measure.aggregate:
        case "count":
            phrase = f"number of {events}"
        case "distinct":
            phrase = f"number of different {measure.of} of {events}"
        case "days_since_first" | "days_since_last":
            phrase = f"days since the {measure.aggregate.rsplit('_', 1)[1]} {events}"
        case "gap_mean" | "gap_std" | "gap_last":
            phrase = {"gap_mean": "mean gap between", "gap_std": "spread of the gaps between", "gap_last": "last gap between"}[
                measure.aggregate
            ] + f" {events}, in days"
        case _:
            phrase = f"{_AGGREGATES[measure.aggregate]} {measure.of} of {events}"
    return phrase + when


def say_condition(condition: c.Condition) -> str:
    """Return what is true of a customer, as the rest of a sentence that begins with "customers who".

    >>> from predseg.language.documents import parse_condition
    >>> from predseg.language.yaml import read_documents
    >>> [rule] = read_documents("{did: Order Completed, sum: value, more_than: 5000, within: 6 months}")
    >>> say_condition(parse_condition(rule))
    'have a total value of Order Completed of more than 5,000 in the last 180 days'
    """
    if isinstance(condition, c.LAYERS):
        return _say_layer(condition)
    if isinstance(condition, c.Did):
        return _say_did(condition)
    if isinstance(condition, c.Score):
        return _say_score(condition)
    if isinstance(condition, c.In):
        return f"are {'' if condition.member else 'not '}in segment {condition.segment}"
    if isinstance(condition, c.Trait):
        return "have " + say_filter(condition.filter)
    if isinstance(condition, c.Cluster):
        return f"belong to {say_list(condition.names, 'or')} of {condition.model}"
    scores = say_list([f"a {name} score of {_say_ranks(wanted)}" for name, wanted in condition.scores])
    return f"have {scores} out of 5 for {say_events(condition.of)}{say_window(condition.window)}"


def say_events(events: Events) -> str:
    """Return the events with their filters."""
    names = say_list(events.names, "or") if events.names else "any event"
    return names + (" with " + say_list([say_filter(f) for f in events.where]) if events.where else "")


def say_filter(test: Filter) -> str:
    """Return the tests of one property."""
    return say_list([_say_test(test.property, t) for t in test.tests])


def _say_test(name: str, test: Test) -> str:
    if test.op == "exists":
        return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}" if test.operands[0] else f"no {name}"
    if test.op == "contains":
        return f"{name} containing {test.operands[0]!r}"
    if test.op in ("is", "not"):
        return f"{name} {'not ' if test.op == 'not' else ''}{say_list([say_value(o) for o in test.operands], 'nor' if test.op == 'not' else 'or')}"
    return f"{name} {_say_bounds(test.op, *test.operands)}"


def say_window(window: Window) -> str:
    """Return the time of a window as the end of a phrase; empty when it is all history."""
    if window.since is not None:
        return f" since {say_instant(window.since)}" + (f" and until {say_duration(window.until)} ago" if window.until else "")
    if window.start is None:
        return f" until {say_duration(window.until)} ago" if window.until else ""
    if window.until:
        return f" between {say_duration(window.start)} and {say_duration(window.until)} ago"
    return f" in the last {say_duration(window.start)}"


def say_then(step: Step | None) -> str:
    """Return what follows, or does not follow."""
    if step is None:
        return ""
    within = f" within {say_duration(step.within)}" if step.within else ""
    same = f" with the same {step.same}" if step.same else ""
    if not step.did:
        return f" followed by no {say_events(step.events)}{same}{within}"
    count = f"at least {step.at_least} " if step.at_least > 1 else ""
    return f" followed by {count}{say_events(step.events)}{same}{within}{say_then(step.then)}"


def say_comparison(comparison: Comparison) -> str:
    """Return a threshold in words.

    >>> say_comparison(Comparison("between", Decimal(10), Decimal("20.5")))
    'between 10 and 20.5'
    """
    return _say_bounds(comparison.op, comparison.low, comparison.high)


def _say_bounds(op: str, low: Any, high: Any = None) -> str:
    return f"between {say_value(low)} and {say_value(high)}" if op == "between" else f"{_OPS[op]} {say_value(low)}"


def say_value(value: Any) -> str:
    """Return a value as a reader writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | Decimal):
        return f"{value:,}"
    return str(value)


def say_list(parts: Sequence[str], word: str = "and") -> str:
    """Return the parts joined as in a sentence.

    >>> say_list(["a"]), say_list(["a", "b"]), say_list(["a", "b", "c"], "or")
    ('a', 'a and b', 'a, b or c')
    """
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {word} {parts[-1]}"


def _say_did(condition: c.Did) -> str:
    measure, comparison = condition.measure, condition.comparison
    events, then, when = say_events(measure.events), say_then(measure.then), say_window(measure.window)
    if measure.aggregate == "count":
        if comparison in _ONCE_OR_NEVER:
            return f"{_ONCE_OR_NEVER[comparison]} {events}{when}{',' if when and then else ''}{then}"
        once = comparison.low == 1 and comparison.high is None
        return f"did {events}{then} {say_comparison(comparison)} time{'' if once else 's'}{when}"
    article = "an" if measure.aggregate == "avg" else "a"
    return f"have {article} {say_measure(Measure(measure.events, Window(), measure.aggregate, measure.of, measure.then))} of {say_comparison(comparison)}{when}"


def _say_score(condition: c.Score) -> str:
    if condition.top is not None:
        return f"are in the top {condition.top.normalize():f}% by {condition.model} score"
    if condition.bottom is not None:
        return f"are in the bottom {condition.bottom.normalize():f}% by {condition.model} score"
    if condition.deciles:
        return f"are in decile {say_list([str(d) for d in condition.deciles], 'or')} of the {condition.model} score"
    if condition.change is not None:
        change = condition.change
        moved = "rose" if change.direction == "rises" else "fell"
        return f"have a {condition.model} {score_noun(condition)} that {moved} by at least {change.by} within {say_duration(change.within)}"
    assert condition.comparison is not None
    return f"have a {condition.model} {score_noun(condition)} of {say_comparison(condition.comparison)}"


def say_score(number: float) -> str:
    """Return a published score; no probability is over 1, so a greater one is an expected value.

    >>> say_score(0.25), say_score(1234.5)
    ('probability 0.250', 'expected value 1,234.50')
    """
    return f"expected value {number:,.2f}" if number > 1 else f"probability {number:.3f}"


def score_noun(condition: c.Score) -> str:
    """Return what a comparison is with: no probability is over 1, so a greater threshold is one of an expected value."""
    limits = (condition.comparison.low, condition.comparison.high) if condition.comparison else (condition.change.by if condition.change else 0,)
    return "score" if any(limit is not None and limit > 1 for limit in limits) else "probability"


def _say_ranks(wanted: Comparison | tuple[int, ...]) -> str:
    return say_comparison(wanted) if isinstance(wanted, Comparison) else say_list([str(n) for n in wanted], "or")


def _say_layer(condition: c.Layer) -> str:
    parts = [f"({say_condition(p)})" if isinstance(p, c.LAYERS) and len(p.of) > 1 else say_condition(p) for p in condition.of]
    if isinstance(condition, c.Holds):
        return parts[0] if condition.member else f"do not match this: {parts[0]}"
    if isinstance(condition, c.NoneOf):
        return f"{'match none of these' if len(parts) > 1 else 'do not match this'}: " + "; ".join(parts)
    if isinstance(condition, c.Some):
        return f"match at least {condition.at_least} of these: " + "; ".join(parts)
    return (
        say_list(parts, "and" if isinstance(condition, c.All) else "or")
        if len(parts) < 3
        else f", {'and' if isinstance(condition, c.All) else 'or'} ".join(parts)
    )
