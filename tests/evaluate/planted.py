"""Bugs to plant in the batch executor, and changes that are none."""

from __future__ import annotations

import predseg.evaluate
from tests.evaluate.differential import Kernel
from tests.planting import Bug, plant


def planted(bug: Bug) -> Kernel:
    """A copy of the kernel with the bug. The reference stays the original."""
    return Kernel(*plant(predseg.evaluate, bug, ["block", "batch"], keep=["reference"]))


BUGS = (
    # windows
    Bug("a window is closed at its start", "grid", "moments - window.start)", "moments - window.start - 1)"),
    Bug("a window is open at its end", "grid", "end = moments - window.until", "end = moments - window.until - 1"),
    Bug("until is not looked at", "grid", "end = moments - window.until", "end = moments"),
    Bug("since is open at its start", "grid", "window.since - 1", "window.since"),
    Bug(
        "since in the future makes a negative window",
        "grid",
        "np.minimum(np.full_like(moments, window.since - 1), end)",
        "np.full_like(moments, window.since - 1)",
    ),
    Bug("an event at an edge is put behind it", "grid", 'inside.take(cell, mode="clip") < times', 'inside.take(cell, mode="clip") <= times'),
    Bug("positions are off by one line", "rows", "np.searchsorted(grid, end) + 1", "np.searchsorted(grid, end)"),
    Bug("positions count one customer too many", "rows", "np.cumsum(totals) - totals", "np.cumsum(totals)"),
    # aggregates
    Bug("an average counts the events without a value", "rows", "if present.all() else", "if True else"),
    Bug("an average over events without a value is known", "rows", "measure), count > 0, count", "measure), count >= 0, count"),
    Bug("a minimum sees missing values as 0", "rows", "np.where(numbers.present, numbers.units, worst)", "numbers.units"),
    Bug("an extreme overlooks the last row of the window", "rows", "to_end += upper", "to_end += upper - 1"),
    Bug("an extreme overlooks the first rows of the window", "rows", "choose(known.take(from_start), known.take(to_end))", "known.take(to_end)"),
    Bug("whole numbers are summed without their scale", "rows", "taken.units * (SCALE // taken.scale)", "taken.units"),
    Bug("a text among numbers is a number of 0", "rows", "u is not None for u in units", "True for u in units"),
    Bug("lists among other values are one value each", "rows", "taken.values if taken.mixed else taken.values[:1]", "taken.values[:1]"),
    Bug("values of several kinds are all texts", "block", "for value in map(value_of, texts)]", "for value in texts]"),
    Bug("the first event is taken for the last", "rows", 'measure.aggregate == "days_since_first"', 'measure.aggregate == "days_since_last"'),
    Bug("one event has a gap", "rows", "present = gaps > 0", "present = gaps >= 0"),
    Bug("the mean gap is over events, not gaps", "rows", "gaps * present) if measure", "(gaps + 1) * present) if measure"),
    Bug("the gap before the window belongs to it", "rows", "start.look(key, sums, 1)", "start.look(key, sums)"),
    Bug("one gap has a spread", "rows", "present = count > 1", "present = count > 0"),
    Bug("a value that comes again after the window is not counted in it", "rows", "(again < high)", "(again <= high)"),
    Bug("a value that comes again within the window is counted twice", "rows", "(here >= low)", "(here > low)"),
    Bug("missing values are one more distinct value", "rows", "taken.codes.min(initial=0) == 0", "True"),
    Bug("missing numbers are one more distinct number", "rows", "np.flatnonzero(taken.present)", "np.arange(len(taken.present))"),
    Bug("values of neighbours count as the same", "rows", "packed = customer * (width << bits)", "packed = customer * 0"),
    Bug(
        "missing text passes no test, not even its absence",
        "matching",
        "[*map(accepts, values), test.accepts(None)]",
        "[*map(accepts, values), False]",
    ),
    Bug(
        "missing numbers are tested as 0",
        "matching",
        "np.where(column.present, accepted[inverse] if len(units) else False, test.accepts(None))",
        "accepted[inverse]",
    ),
    Bug("numbers are tested in ten-thousandths", "matching", "Decimal(int(u)) / column.scale", "Decimal(int(u))"),
    Bug("one filter is enough", "matching", "block.passing[test].take(rows)", "block.passing[events.where[0]].take(rows)"),
    Bug(
        "a property that nothing has fails its absence", "matching", "np.full(len(block.time), test.accepts(None))", "np.zeros(len(block.time), bool)"
    ),
    Bug(
        "of several names only one counts",
        "matching",
        "np.isin(block.event, codes)",
        "block.event == codes[0] if codes else np.zeros(len(block.time), bool)",
    ),
    # sequences
    Bug("the same instant follows", "sequences", "groups, begin)", "groups, begin - 1)"),
    Bug("exactly within is too late", "sequences", "begin + step.within", "begin + step.within - 1"),
    Bug("what follows at this very moment is not seen", "sequences", "counting = block.time[later] <= t", "counting = block.time[later] < t"),
    Bug("what follows later is seen already", "sequences", "counting = block.time[later] <= t", "counting = block.time[later] <= t + 2_000_000"),
    Bug("one that follows is enough", "sequences", ">= step.at_least", ">= 1"),
    Bug("the next step is not looked at", "sequences", "counting &= deeper(t)", "counting &= True"),
    Bug("an absence is known before its time has passed", "sequences", "quiet & (block.time[rows] + within <= t)", "quiet & (block.time[rows] <= t)"),
    Bug("an absence is known a microsecond late", "sequences", "quiet & (block.time[rows] + within <= t)", "quiet & (block.time[rows] + within < t)"),
    Bug(
        "an absence without a time sees the future",
        "sequences",
        "counts.within(block.time[later] <= t) == 0",
        "counts.within(np.ones(len(later), bool)) == 0",
    ),
    Bug("an event without the tie is considered", "sequences", "return group[rows], present[rows]", "return group[rows], np.ones(len(rows), bool)"),
    Bug("ties reach over to neighbours", "sequences", "np.where(present, customer * width + values, -1)", "np.where(present, values, -1)"),
    # comparisons and logic
    Bug("at least is more than", "batch", "(number >= low)", "(number > low)"),
    Bug("at most is less than", "batch", "(number <= high)", "(number < high)"),
    Bug(
        "an average is compared as a float",
        "batch",
        '"more_than": lambda s, n: s * low_unit > low * n',
        '"more_than": lambda s, n: s / n > low / low_unit',
    ),
    Bug(
        "an average at its threshold is above it",
        "batch",
        '"more_than": lambda s, n: s * low_unit > low * n',
        '"more_than": lambda s, n: s * low_unit >= low * n',
    ),
    Bug("an average at the upper end is not between", "batch", "s * high_unit <= high * n", "s * high_unit < high * n"),
    Bug(
        "unknown is false",
        "batch",
        "Truth(passed & values.present, ~values.present)",
        "Truth(passed & values.present, np.zeros_like(values.present))",
    ),
    Bug("none of them holds when one is unknown", "batch", "true, possible = ~possible, ~true", "true, possible = ~true, ~true"),
    Bug("some need one more than they ask for", "batch", "_at_least(condition.at_least, parts)", "_at_least(condition.at_least + 1, parts)"),
    Bug("a part that is true counts twice", "batch", "more | (before & part)", "more | before | part"),
    Bug("any is all", "batch", "np.bitwise_and if isinstance(condition, c.All)", "np.bitwise_and if isinstance(condition, c.All | c.Any)"),
    Bug("a part that may be true is taken for one that is", "batch", "[part.true for part in parts]", "[part.possible for part in parts]"),
    Bug("what may still be true is not looked at", "batch", "true if decided else _enough(condition, maybe)", "true"),
    Bug("not in a segment is in it", "batch", "parts[0].true if condition.member else ~parts[0].true", "parts[0].true"),
    # what is visible, and whose
    Bug("late events count from their own time", "batch", "late_corrections(block, moments, asked) if known is None else []", "[]"),
    Bug(
        "a late event is not seen at the moment it is received",
        "batch",
        "(block.received <= t) & _shown(block, t)",
        "(block.received < t) & _shown(block, t)",
    ),
    Bug("labels use what training does not know yet", "batch", "visible = block.received <= known", "visible = block.time <= known"),
    Bug("an earlier identity lives on at its link", "batch", "block.hidden > known", "block.hidden >= known"),
    Bug("an earlier identity lives on for ever", "batch", "((block.received > t) | ~_shown(block, t))", "(block.received > t)"),
    Bug(
        "a customer has its anonymous past before the link",
        "block",
        "np.concatenate([received, block.received[order]])",
        "np.concatenate([block.received, block.received[order]])",
    ),
    Bug("what was looked up for one window is used for another", "rows", "key = lines.tobytes()", 'key = b""'),
    Bug("an event is visible before it happens", "block", "np.maximum(time, received)", "received"),
)

EQUIVALENT = (
    Bug("every time is searched", "grid", "if cells > CELLS:", "if True:", "the table of cells is a faster search with the same answers"),
    Bug("rows are never skipped as visible to all", "batch", "if not special.any():", "if False:", "without late rows nobody is answered again"),
    Bug(
        "the wish for everything is a filter",
        "batch",
        "matching(block, events) if events.names or events.where else slice(None)",
        "matching(block, events)",
        "all rows either way",
    ),
)
