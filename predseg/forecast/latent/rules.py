"""A cluster as a short rule: the best path of a shallow tree, said in the rule language."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from math import ceil, floor, inf, isfinite, log10
from typing import Any

import numpy as np

from predseg.evaluate.block import Array
from predseg.forecast.latent.measures import Aspect, medians
from predseg.language import conditions as c
from predseg.language.documents import parse_condition
from predseg.language.measures import Comparison, Events, Filter, Measure, Step, Test, Window
from predseg.language.time import DAY, MICROSECOND, say_instant, short_duration
from predseg.language.yaml import Node, read_documents

DEPTH = 3
COST = 0.01
"""What another condition must add to the F1 of a rule."""
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_ ]*[A-Za-z0-9_]|[A-Za-z]")


@dataclass(frozen=True)
class Bound:
    """A range of one aspect: days low ≤ x < high, counts low ≤ x ≤ high, amounts low < x ≤ high; infinite is open."""

    aspect: int
    low: float
    high: float

    def holds(self, values: Array, aspects: Sequence[Aspect]) -> Array:
        """Return bool (n) from the values (n, d); a missing value is in no range."""
        x, kind = values[:, self.aspect], aspects[self.aspect].kind
        above = x > self.low if kind == "amount" else x >= self.low
        return above & (x < self.high if kind == "days" else x <= self.high)


def find_rule(values: Array, inside: Array, aspects: Sequence[Aspect], only: Events | None) -> str | None:
    """Return the rule, as YAML, that tells some customers best from the others.

    Args:
        values: float64 (n, d), NaN for missing.
        inside: bool (n), who is to be found.
        aspects: What the columns are.
        only: The event that all n have and some other customers have not, when there are such: the rule then asks for it.

    Returns:
        None when no range of any aspect tells them apart.
    """
    best: tuple[float, list[Bound]] = (0.0, [])
    whole = [bool(np.all(column[~np.isnan(column)] % 1 == 0)) for column in values.T]
    for path in _paths(values, inside):
        bounds = _shorten([_rounded(b, aspects[b.aspect].kind, whole[b.aspect]) for b in path], values, inside, aspects)
        score = _f1(bounds, values, inside, aspects) - COST * len(bounds)
        if bounds and score > best[0] + 1e-12:
            best = score, bounds
    conditions = [part for bound in best[1] for part in _conditions(bound, aspects[bound.aspect])]
    if not conditions:
        return None
    if only is not None and not any(_implies(part, only) for part in conditions):
        conditions.insert(0, _did(Measure(only)))
    return write_rule(conditions)


def read_rule(text: str) -> c.Condition:
    """Return the condition of a rule as YAML."""
    [node] = read_documents(text, "<rule>")
    return parse_condition(node)


def write_rule(conditions: Sequence[c.Did]) -> str:
    """Return conditions that must all hold as YAML of the rule language, without its last line end.

    >>> write_rule([read_rule("{did: Order Completed, at_least: 2, within: 90 days}")])
    '{did: Order Completed, at_least: 2, within: 90 days}'
    """
    lines = [_flow(_mapping(part)) for part in conditions]
    return lines[0] if len(lines) == 1 else "\n".join(["all:", *(f"  - {line}" for line in lines)])


def sayable(aspect: Aspect) -> bool:
    """Whether thresholds of the aspect survive being written and read again."""
    tries = [Bound(0, 2.0, inf), Bound(0, -inf, 3.0), Bound(0, 2.0, 3.0)]
    conditions = [part for bound in tries for part in _conditions(bound, aspect)]
    try:
        return all(read_rule(write_rule([part])) == part for part in conditions)
    except ValueError:
        return False
    except Exception as error:
        from predseg.errors import ConfigError

        if isinstance(error, ConfigError):
            return False
        raise


# from a tree to ranges


def _paths(values: Array, inside: Array) -> Iterator[list[Bound]]:
    """Yield the ranges of every node of two shallow trees, one of which takes both sides as equally many."""
    from sklearn.tree import DecisionTreeClassifier

    fill = np.nan_to_num(medians(values))
    known = np.where(np.isnan(values), fill, values)
    for weight in (None, "balanced"):
        tree = DecisionTreeClassifier(max_depth=DEPTH, min_samples_leaf=5, class_weight=weight, random_state=0).fit(known, inside).tree_
        yield from _nodes(tree, 0, {})


def _nodes(tree: Any, node: int, ranges: dict[int, tuple[float, float]]) -> Iterator[list[Bound]]:
    yield [Bound(aspect, low, high) for aspect, (low, high) in ranges.items()]
    if tree.children_left[node] < 0:
        return
    aspect, threshold = int(tree.feature[node]), float(tree.threshold[node])
    low, high = ranges.get(aspect, (-inf, inf))
    yield from _nodes(tree, int(tree.children_left[node]), ranges | {aspect: (low, min(high, threshold))})
    yield from _nodes(tree, int(tree.children_right[node]), ranges | {aspect: (max(low, threshold), high)})


def _rounded(bound: Bound, kind: str, whole: bool) -> Bound:
    """Return a range (low, high] with ends as one would write them: whole numbers and days, two digits that count."""
    low, high = bound.low, bound.high
    if kind == "count":
        low, high = (floor(low) + 1 if isfinite(low) else low), (floor(high) if isfinite(high) else high)
        return replace(bound, low=_two_digits(low) if low >= 100 else low, high=_two_digits(high) if high >= 100 else high)
    if kind == "days":
        return replace(
            bound, low=_two_digits(max(ceil(low), 1)) if isfinite(low) else low, high=_two_digits(max(ceil(high), 1)) if isfinite(high) else high
        )
    if whole:
        low, high = (floor(low) if isfinite(low) else low), (floor(high) if isfinite(high) else high)
    return replace(bound, low=_two_digits(low), high=_two_digits(high))


def _two_digits(number: float) -> float:
    if not isfinite(number) or number == 0:
        return number
    return round(number, 1 - floor(log10(abs(number))))


def _shorten(bounds: list[Bound], values: Array, inside: Array, aspects: Sequence[Aspect]) -> list[Bound]:
    """Return the ranges without ends that add nothing, the least useful taken away first."""
    current = [b for b in bounds if b.low < b.high or (b.low == b.high and aspects[b.aspect].kind == "count")]
    score = _f1(current, values, inside, aspects)
    while current:
        shorter = [[*current[:i], *part, *current[i + 1 :]] for i, b in enumerate(current) for part in _without_an_end(b)]
        scores = [_f1(s, values, inside, aspects) for s in shorter]
        best = int(np.argmax(scores))
        if not shorter[best] or scores[best] < score - COST:
            break
        current, score = shorter[best], max(score, scores[best])
    return current


def _without_an_end(bound: Bound) -> list[list[Bound]]:
    if isfinite(bound.low) and isfinite(bound.high):
        return [[replace(bound, low=-inf)], [replace(bound, high=inf)]]
    return [[]]


def _f1(bounds: Sequence[Bound], values: Array, inside: Array, aspects: Sequence[Aspect]) -> float:
    if not bounds:
        return 0.0
    found = np.all([b.holds(values, aspects) for b in bounds], axis=0)
    return 2 * float((found & inside).sum()) / max(float(found.sum() + inside.sum()), 1.0)


# from ranges to conditions


def _conditions(bound: Bound, aspect: Aspect) -> list[c.Did]:
    low, high, measure = bound.low, bound.high, aspect.measure
    if aspect.kind == "days":
        return _of_days(bound, measure)
    if aspect.kind == "count":
        if low <= 0:
            low = -inf
        if isfinite(low) and isfinite(high):
            return [c.Did(measure, Comparison("exactly", _decimal(low)) if low == high else Comparison("between", _decimal(low), _decimal(high)))]
        return [c.Did(measure, Comparison("at_least", _decimal(low)))] if isfinite(low) else _at_most(measure, high)
    above = [c.Did(measure, Comparison("more_than", _decimal(low)))] if isfinite(low) else []  # `between` would take in the lower end
    return above + ([c.Did(measure, Comparison("at_most", _decimal(high)))] if isfinite(high) else [])


def _at_most(measure: Measure, high: float) -> list[c.Did]:
    if not isfinite(high):
        return []
    return [c.Did(measure, Comparison("at_most", _decimal(high)) if high > 0 else Comparison("exactly", Decimal(0)))]


def _of_days(bound: Bound, measure: Measure) -> list[c.Did]:
    """Days since the last: at least a is none within a days, under b is one within b days. Since the first: until so many days ago."""
    last = measure.aggregate == "days_since_last"

    def ask(days: float, some: bool) -> c.Did:
        span = round(days) * DAY
        counted = Measure(measure.events, Window(span) if last else Window(None, span))
        return _did(counted) if some else c.Did(counted, Comparison("exactly", Decimal(0)))

    parts = [ask(bound.high, last)] if isfinite(bound.high) else []
    return parts + ([ask(bound.low, not last)] if isfinite(bound.low) else [])


def _did(measure: Measure) -> c.Did:
    return c.Did(measure, Comparison("at_least", Decimal(1)))


def _decimal(number: float) -> Decimal:
    return Decimal(int(number)) if number == int(number) else Decimal(repr(number))


def _implies(condition: c.Did, event: Events) -> bool:
    """Whether nobody without the event can pass: something is asked that only an event gives."""
    measure, comparison = condition.measure, condition.comparison
    if not set(measure.events.names) <= set(event.names) or event.where:
        return False
    if measure.aggregate in ("avg", "min", "max"):
        return True
    low, high = comparison.bounds(10_000 if measure.aggregate == "sum" else 1)
    return (low is not None and low > 0) or (high is not None and high < 0)


# from conditions to YAML


def _mapping(condition: c.Did) -> dict[str, Any]:
    measure, comparison = condition.measure, condition.comparison
    never = comparison == Comparison("exactly", Decimal(0)) and measure.aggregate == "count" and measure.then is None
    found: dict[str, Any] = {"did_not" if never else "did": _names(measure.events)}
    if measure.events.where:
        found["where"] = {f.property: _filter(f) for f in measure.events.where}
    if measure.aggregate != "count":
        found[measure.aggregate] = measure.of
    if not never and not (measure.aggregate == "count" and comparison == Comparison("at_least", Decimal(1))):
        found[comparison.op] = comparison.low if comparison.high is None else [comparison.low, comparison.high]
    found |= _times(measure.window)
    if measure.then is not None:
        found["then"] = _step(measure.then)
    return found


def _names(events: Events) -> Any:
    return events.names[0] if len(events.names) == 1 else list(events.names)


def _filter(found: Filter) -> Any:
    if len(found.tests) == 1 and found.tests[0].op == "is":
        return _operands(found.tests[0])
    return {t.op: list(t.operands) if t.op == "between" else _operands(t) for t in found.tests}


def _operands(test: Test) -> Any:
    return test.operands[0] if len(test.operands) == 1 else list(test.operands)


def _times(window: Window) -> dict[str, Any]:
    if window.since is None and window.start is not None and not window.until:
        return {"within": _duration(window.start)}
    found = {"from": f"{_duration(window.start)} ago"} if window.start is not None else {}
    found |= {"until": f"{_duration(window.until)} ago"} if window.until else {}
    return found | ({"since": say_instant(window.since)} if window.since is not None else {})


def _duration(micros: int) -> str:
    text = short_duration(micros)
    if text.endswith("us"):
        raise ValueError(f"{micros // MICROSECOND} microseconds cannot be written")
    return f"{text[:-1]} {({'d': 'day', 'h': 'hour', 'm': 'minute'})[text[-1]]}{'' if text[:-1] == '1' else 's'}"


def _step(step: Step) -> dict[str, Any]:
    found: dict[str, Any] = {"did" if step.did else "did_not": _names(step.events)}
    if step.events.where:
        found["where"] = {f.property: _filter(f) for f in step.events.where}
    if step.at_least > 1:
        found["at_least"] = step.at_least
    if step.same:
        found["same"] = step.same
    if step.within:
        found["within"] = _duration(step.within)
    return found | ({"then": _step(step.then)} if step.then is not None else {})


def _flow(value: Any) -> str:
    """Return a value in YAML's flow style; text is quoted where it could be taken for something else."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_flow(key)}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | Decimal):
        return f"{value:f}" if isinstance(value, Decimal) else str(value)
    text = str(value)
    return text if _reads_back(text) else json.dumps(text, ensure_ascii=False)


def _reads_back(text: str) -> bool:
    if re.fullmatch(r"\d+ (day|hour|minute)s?( ago)?|[a-z_]+", text) and text not in ("true", "false", "null"):
        return True
    if not _PLAIN.fullmatch(text):
        return False
    found: Node = read_documents(f"[{text}]")[0]
    return bool(found.value[0].value == text)
