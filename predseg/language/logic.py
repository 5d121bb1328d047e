"""What follows from what: whether a rule being true makes another one true, from their text alone.

The answer is sound and not complete: yes is always right, no may only mean that it cannot be seen.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from predseg.language import conditions as c
from predseg.language.measures import Comparison, Filter, Measure, Window


def implies(a: c.Condition, b: c.Condition) -> bool:
    """Whether b is true of everyone, at every moment, of whom a is true.

    >>> from predseg.language.documents import parse_condition
    >>> from predseg.language.yaml import read_documents
    >>> read = lambda text: parse_condition(read_documents(text)[0])
    >>> implies(read("{did: A, at_least: 3, within: 7 days}"), read("{did: A, within: 30 days}"))
    True
    >>> implies(read("{did: A, within: 30 days}"), read("{did: A, within: 7 days}"))
    False
    >>> implies(read("{score: churn, top: 5%}"), read("{any: [{score: churn, top: 10%}, {did: A}]}"))
    True
    """
    if a == b:
        return True
    if isinstance(a, c.Any):
        return all(implies(part, b) for part in a.of)
    if isinstance(b, c.All):
        return all(implies(a, part) for part in b.of)
    if isinstance(b, c.Any) and any(implies(a, part) for part in b.of):
        return True
    if isinstance(a, c.All) and any(implies(part, b) for part in a.of):
        return True
    if isinstance(a, c.Holds) and a.member and implies(a.of[0], b):
        return True
    if isinstance(b, c.Holds) and b.member and implies(a, b.of[0]):
        return True
    return _single(a, b)


def same(a: c.Condition, b: c.Condition) -> bool:
    """Whether two rules are true of the same people, as far as can be seen."""
    return implies(a, b) and implies(b, a)


def _single(a: c.Condition, b: c.Condition) -> bool:
    if isinstance(a, c.NoneOf) and isinstance(b, c.NoneOf):
        return all(any(implies(part, other) for other in a.of) for part in b.of)
    if isinstance(a, c.Did) and isinstance(b, c.Did):
        return _did(a, b)
    if isinstance(a, c.Score) and isinstance(b, c.Score):
        return a.model == b.model and _score(a, b)
    if isinstance(a, c.Rfv) and isinstance(b, c.Rfv) and (a.of, a.window) == (b.of, b.window):
        wanted = dict(a.scores)
        return all(name in wanted and _ranks(wanted[name]) <= _ranks(other) for name, other in b.scores)
    if isinstance(a, c.Cluster) and isinstance(b, c.Cluster):
        return a.model == b.model and set(a.names) <= set(b.names)
    if isinstance(a, c.Trait) and isinstance(b, c.Trait):
        return _filter(a.filter, b.filter)
    return False


def _did(a: c.Did, b: c.Did) -> bool:
    """The same measure with a threshold within the other's; or more in less time, of what can only grow with the window."""
    if a.measure == b.measure:
        return _within(a.comparison, b.comparison)
    growing = a.measure.aggregate == b.measure.aggregate == "count" or (
        a.measure.aggregate == b.measure.aggregate == "distinct" and a.measure.of == b.measure.of
    )
    if not growing or a.measure.then != b.measure.then:
        return False
    (low, high), (other_low, other_high) = a.comparison.bounds(), b.comparison.bounds()
    more = other_high is None and low is not None and (other_low is None or low >= other_low) and _inside(a.measure, b.measure)
    fewer = (
        (other_low is None or other_low <= 0) and high is not None and other_high is not None and high <= other_high and _inside(b.measure, a.measure)
    )
    return more or fewer


def _inside(a: Measure, b: Measure) -> bool:
    """Whether every event that a counts is counted by b."""
    names = not b.events.names or (bool(a.events.names) and set(a.events.names) <= set(b.events.names))
    filters = all(any(_filter(mine, wanted) for mine in a.events.where) for wanted in b.events.where)
    return names and filters and _window_inside(a.window, b.window)


def _window_inside(a: Window, b: Window) -> bool:
    if replace(a, start=None, until=0) != replace(b, start=None, until=0) and b.since is not None:
        return False
    return a.until >= b.until and (b.start is None or (a.start is not None and a.start <= b.start))


def _filter(a: Filter, b: Filter) -> bool:
    """Whether every value that passes a passes b: equal, or one of fewer alternatives."""
    if a == b:
        return True
    if a.property != b.property or len(a.tests) != 1 or len(b.tests) != 1:
        return False
    [x], [y] = a.tests, b.tests
    return x.op == y.op == "is" and set(x.operands) <= set(y.operands)


def _score(a: c.Score, b: c.Score) -> bool:
    if a.comparison and b.comparison:
        return _within(a.comparison, b.comparison)
    if a.top and b.top:
        return a.top <= b.top
    if a.bottom and b.bottom:
        return a.bottom <= b.bottom
    return bool(a.deciles) and bool(b.deciles) and set(a.deciles) <= set(b.deciles)


def _within(a: Comparison, b: Comparison) -> bool:
    """Whether every number that passes a passes b."""
    (low, low_open), (high, high_open) = _ends(a)
    (other_low, other_low_open), (other_high, other_high_open) = _ends(b)
    below = other_low is None or (low is not None and (low > other_low or (low == other_low and (low_open or not other_low_open))))
    above = other_high is None or (high is not None and (high < other_high or (high == other_high and (high_open or not other_high_open))))
    return below and above


def _ends(comparison: Comparison) -> tuple[tuple[Decimal | None, bool], tuple[Decimal | None, bool]]:
    """Return both ends of the numbers that pass, each with whether it is left out; None is unbounded."""
    low, none = comparison.low, (None, False)
    match comparison.op:
        case "more_than":
            return (low, True), none
        case "at_least":
            return (low, False), none
        case "less_than":
            return none, (low, True)
        case "at_most":
            return none, (low, False)
        case "exactly":
            return (low, False), (low, False)
    return (low, False), (comparison.high, False)


def _ranks(wanted: Comparison | tuple[int, ...]) -> set[int]:
    return set(wanted) if isinstance(wanted, tuple) else {n for n in range(1, 6) if wanted.accepts(n)}
