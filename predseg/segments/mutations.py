"""Would the tests of a rule notice a mistake in it? Small changes are made one by one, and the tests run against each.

A change is: a condition dropped, turned into its opposite, or its bound or window moved by the smallest step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from predseg.language import conditions as c
from predseg.language.english import say_comparison, say_condition, say_list, say_value
from predseg.language.measures import Comparison, Filter, Measure, Step, Test, Window
from predseg.language.time import DAY, HOUR, MINUTE, SECOND, say_duration
from predseg.segments.cases import Case, Suite, passes
from predseg.segments.definitions import Segment


@dataclass(frozen=True)
class Mutation:
    """A changed rule: what was done to which condition (0 is a layer), and the rule that results."""

    number: int
    says: str
    match: c.Condition

    def sentence(self, name: str) -> str:
        """The changed rule as one English sentence."""
        return f"{name}: customers who {say_condition(self.match)}."


@dataclass(frozen=True)
class Outcome:
    """Which tests notice a mutation."""

    mutation: Mutation
    noticed_by: tuple[str, ...]

    @property
    def survived(self) -> bool:
        """Whether no test notices it."""
        return not self.noticed_by


def mutate(suite: Suite, segments: Mapping[str, Segment]) -> list[Outcome]:
    """Run the tests of a segment that pass against every mutation of its rule."""
    cases: Sequence[Case] = [r.case for r in suite.results if r.passed]
    return [Outcome(m, tuple(case.it for case in cases if not passes(case, m.match, segments))) for m in mutations(suite.segment.match)]


def mutations(match: c.Condition) -> list[Mutation]:
    """Return all mutations of a rule, each other rule once."""
    found: dict[c.Condition, Mutation] = {}
    numbers = iter(range(1, 10_000))
    for says, number, changed in _changed(match, numbers):
        if changed != match:
            found.setdefault(changed, Mutation(number, says, changed))
    return list(found.values())


Changed = tuple[str, int, c.Condition]


def _changed(condition: c.Condition, numbers: Iterator[int]) -> Iterator[Changed]:
    """Yield every rule with one change in this condition or within it."""
    if not isinstance(condition, c.LAYERS):
        number = next(numbers)
        yield f"turned condition {number} into its opposite", number, c.NoneOf((condition,))
        yield from ((says.format(f"condition {number}"), number, changed) for says, changed in _moved(condition))
        return
    inner: list[list[Changed]] = [list(_changed(part, numbers)) for part in condition.of]
    for i, part in enumerate(condition.of):
        rest = condition.of[:i] + condition.of[i + 1 :]
        if rest and not (isinstance(condition, c.Some) and condition.at_least > len(rest)):
            number = inner[i][0][1] if not isinstance(part, c.LAYERS) else 0
            what = f"condition {number}" if number else f"({say_condition(part)})"
            yield f"dropped {what}", number, replace(condition, of=rest)
        yield from ((says, number, replace(condition, of=(*condition.of[:i], changed, *condition.of[i + 1 :]))) for says, number, changed in inner[i])
    if isinstance(condition, c.All | c.Any) and len(condition.of) > 1:
        other = c.Any if isinstance(condition, c.All) else c.All
        yield f"turned {'all' if other is c.Any else 'any'} into {'any' if other is c.Any else 'all'}", 0, other(condition.of)
    if isinstance(condition, c.Some):
        for n in (condition.at_least - 1, condition.at_least + 1):
            if 1 <= n <= len(condition.of):
                yield f"asked for {n} instead of {condition.at_least}", 0, replace(condition, at_least=n)


def _moved(condition: c.Condition) -> Iterator[tuple[str, c.Condition]]:
    """Yield a condition with one bound or window moved by a step; the text has a place for its name."""
    match condition:
        case c.Did():
            whole = condition.measure.aggregate in ("count", "distinct")
            for comparison in _bounds(condition.comparison, whole):
                yield _says(condition.comparison, comparison), replace(condition, comparison=comparison)
            yield from ((says, replace(condition, measure=measure)) for says, measure in _measures(condition.measure))
        case c.Score():
            yield from _scores(condition)
        case c.Trait():
            yield from ((says, c.Trait(moved)) for says, moved in _filters(condition.filter))
        case c.Rfv():  # its scores are stated in a test, so no test can notice another window
            for i, (name, wanted) in enumerate(condition.scores):
                for moved in _ranks(wanted, 5):
                    yield (
                        f"moved {name} {_say_ranks(wanted)} to {_say_ranks(moved)} in {{}}",
                        replace(condition, scores=(*condition.scores[:i], (name, moved), *condition.scores[i + 1 :])),
                    )


def _says(old: Comparison, new: Comparison) -> str:
    return f"moved {say_comparison(old)} to {say_comparison(new)} in {{}}"


_SMALLEST = {"more_than": "at_least", "at_least": "more_than", "less_than": "at_most", "at_most": "less_than"}


def _bounds(comparison: Comparison, whole: bool = False) -> Iterator[Comparison]:
    """Yield the comparison one step wider and one narrower. The smallest step of an amount is to include its bound, or not."""
    step = Decimal(1) if whole else _last_place(comparison.low)
    if comparison.high is not None:
        for low, high in ((step, 0), (-step, 0), (0, step), (0, -step)):
            if comparison.low + low <= comparison.high + high:
                yield replace(comparison, low=comparison.low + low, high=comparison.high + high)
    elif whole or comparison.op == "exactly":
        yield from (replace(comparison, low=comparison.low + by) for by in (-step, step))
    else:
        yield replace(comparison, op=_SMALLEST[comparison.op])  # type: ignore[arg-type]
        yield replace(comparison, low=comparison.low + (step if comparison.op in ("more_than", "at_most") else -step))


def _last_place(number: Decimal) -> Decimal:
    """Return 1 in the last place that is written, at most 1."""
    return min(Decimal(1), Decimal(1).scaleb(int(number.as_tuple().exponent)))


def _measures(measure: Measure) -> Iterator[tuple[str, Measure]]:
    for says, window in _windows(measure.window):
        yield says, replace(measure, window=window)
    for i, test in enumerate(measure.events.where):
        where = measure.events.where
        yield f"dropped the filter on {test.property} in {{}}", replace(measure, events=replace(measure.events, where=(*where[:i], *where[i + 1 :])))
        for says, moved in _filters(test):
            yield says, replace(measure, events=replace(measure.events, where=(*where[:i], moved, *where[i + 1 :])))
    if len(measure.events.names) > 1:
        for name in measure.events.names:
            rest = tuple(n for n in measure.events.names if n != name)
            yield f"left {name} out of {{}}", replace(measure, events=replace(measure.events, names=rest))
    if measure.then is not None:
        yield "dropped what follows in {}", replace(measure, then=None)
        yield from ((says, replace(measure, then=step)) for says, step in _steps(measure.then))


def _steps(step: Step) -> Iterator[tuple[str, Step]]:
    if step.within is not None:
        for within in _durations(step.within):
            yield f"moved within {say_duration(step.within)} to {say_duration(within)} in {{}}", replace(step, within=within)
    if step.did and step.then is None and step.at_least == 1:
        yield "turned `did` into `did_not` after `then` in {}", replace(step, did=False)
    if not step.did:
        yield "turned `did_not` into `did` after `then` in {}", replace(step, did=True)
    if step.same:
        yield f"untied {step.same} in {{}}", replace(step, same=None)
    for name in step.events.names if len(step.events.names) > 1 else ():
        rest = tuple(n for n in step.events.names if n != name)
        yield f"left {name} out of what follows in {{}}", replace(step, events=replace(step.events, names=rest))
    if step.at_least > 1:
        yield f"asked for {step.at_least - 1} instead of {step.at_least} after `then` in {{}}", replace(step, at_least=step.at_least - 1)
    if step.then is not None:
        yield from ((says, replace(step, then=inner)) for says, inner in _steps(step.then))


def _windows(window: Window) -> Iterator[tuple[str, Window]]:
    if window.start is not None:
        for start in _durations(window.start):
            if start > window.until:
                yield f"moved {say_duration(window.start)} to {say_duration(start)} in {{}}", replace(window, start=start)
    if window.until:
        for until in _durations(window.until):
            if window.start is None or until < window.start:
                yield f"moved until {say_duration(window.until)} ago to {say_duration(until)} ago in {{}}", replace(window, until=until)
    if window.since is not None:
        for by in (-DAY, DAY):
            yield f"moved since by a day {'back' if by < 0 else 'on'} in {{}}", replace(window, since=window.since + by)


def _durations(duration: int) -> Iterator[int]:
    """Yield one unit less and one more, in the unit in which it is said."""
    unit = DAY if duration % DAY == 0 and duration >= 3 * DAY else next(u for u in (HOUR, MINUTE, SECOND, 1) if duration % u == 0)
    if duration == unit:
        unit = {DAY: HOUR, HOUR: MINUTE, MINUTE: SECOND}.get(unit, 1)
    yield from (moved for moved in (duration - unit, duration + unit) if moved > 0)


def _filters(test: Filter) -> Iterator[tuple[str, Filter]]:
    for i, one in enumerate(test.tests):
        for says, moved in _tests(one, test.property):
            yield says, replace(test, tests=(*test.tests[:i], moved, *test.tests[i + 1 :]))


def _tests(test: Test, name: str) -> Iterator[tuple[str, Test]]:
    opposite = {"is": "not", "not": "is"}
    if test.op in opposite:
        yield f"turned the test of {name} into its opposite in {{}}", Test(opposite[test.op], test.operands)
        for operand in test.operands if len(test.operands) > 1 else ():
            rest = tuple(o for o in test.operands if o is not operand)
            yield f"left {say_value(operand)} out of {name} in {{}}", Test(test.op, rest)
    elif test.op == "exists":
        yield f"turned the test of {name} into its opposite in {{}}", Test("exists", (not test.operands[0],))
    elif test.op != "contains" and all(isinstance(o, Decimal | int) and not isinstance(o, bool) for o in test.operands):
        old = Comparison(test.op, *map(Decimal, test.operands))  # type: ignore[arg-type]
        for new in _bounds(old):
            operands: tuple[Any, ...] = (new.low,) if new.high is None else (new.low, new.high)
            yield f"moved {name} {say_comparison(old)} to {say_comparison(new)} in {{}}", Test(new.op, operands)


def _scores(condition: c.Score) -> Iterator[tuple[str, c.Condition]]:
    for key in ("top", "bottom"):
        share: Decimal | None = getattr(condition, key)
        for moved in (share - 1, share + 1) if share is not None else ():
            if 0 < moved <= 100:
                yield f"moved {key} {share}% to {moved}% in {{}}", replace(condition, **{key: moved})  # type: ignore[arg-type]
    for deciles in _ranks(condition.deciles, 10) if condition.deciles else ():
        yield f"moved decile {_say_ranks(condition.deciles)} to {_say_ranks(deciles)} in {{}}", replace(condition, deciles=deciles)  # type: ignore[arg-type]
    if condition.comparison is not None:
        for comparison in _bounds(condition.comparison):
            yield _says(condition.comparison, comparison), replace(condition, comparison=comparison)
    if (change := condition.change) is not None:
        step = _last_place(change.by)
        for by in (change.by - step, change.by + step):
            yield f"moved {change.by} to {by} in {{}}", replace(condition, change=replace(change, by=by))
        for within in _durations(change.within):
            yield f"moved {say_duration(change.within)} to {say_duration(within)} in {{}}", replace(condition, change=replace(change, within=within))


def _say_ranks(wanted: Comparison | tuple[int, ...]) -> str:
    return say_comparison(wanted) if isinstance(wanted, Comparison) else say_list([str(n) for n in wanted], "or")


def _ranks(wanted: Comparison | tuple[int, ...], highest: int) -> Iterator[Comparison | tuple[int, ...]]:
    """Yield ranks with one end wider or narrower."""
    if isinstance(wanted, Comparison):
        yield from _bounds(wanted, whole=True)
        return
    if wanted[0] > 1:
        yield (wanted[0] - 1, *wanted)
    if wanted[-1] < highest:
        yield (*wanted, wanted[-1] + 1)
    if len(wanted) > 1:
        yield from (wanted[1:], wanted[:-1])
