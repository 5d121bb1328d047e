"""The one pass that gives floating point columns gives the numbers of the exact answers, with loops and without."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import predseg.evaluate
from predseg.evaluate import batch, matrix
from predseg.evaluate.block import Array
from predseg.evaluate.reference import Event
from predseg.language.measures import Events, Measure, Window
from predseg.language.time import DAY
from tests.evaluate.worlds import MOMENTS, random_events_of_customers, random_measure, random_world, seeded, to_block
from tests.planting import Bug, plant

SEEN = Measure(Events())
LOOPS = (
    Bug("an event at an edge is put behind it", "matrix", "buckets(self.grid, rows.time[:-2])", "buckets(self.grid, rows.time[:-2] + 1)"),
    Bug("an event is put before the edge that it follows", "loops", "at[bucket[row] + 1, c] += 1", "at[bucket[row], c] += 1"),
    Bug("a customer's rows begin with the one before", "loops", "at[0, c] = offsets[c]", "at[0, c] = max(offsets[c] - 1, 0)"),
    Bug("what was counted of other customers stays", "loops", "at[:, :customers] = 0", "pass"),
    Bug("missing values are 0", "matrix", "np.where(numbers.present, sign * numbers.units, -LARGEST)", "sign * numbers.units"),
    Bug("the extreme is the first or the last", "loops", "end > first + TWO", "end < first"),
    Bug("the last but one is no extreme", "loops", "range(first + ONE, end - ONE)", "range(first + ONE, end - TWO)"),
    Bug("the least is taken for the greatest", "loops", "1 if kind == MAX else -1", "-1 if kind == MAX else 1"),
    Bug("the extreme of nothing is the next row's", "loops", "best if end > first else NOTHING", "best"),
    Bug("a value that comes again after the window is not counted in it", "loops", "again[one] < end", "again[one] <= end"),
    Bug("values of before the window come again in it", "loops", "range(repeats[first], repeats[end])", "range(repeats[end])"),
    Bug("windows of all moments are those of the first", "loops", "at[edges[e, k]]", "at[edges[e, 0]]"),
    Bug("one gap has a spread", "loops", "if gaps > 1:", "if gaps > 0:"),
    Bug("the gap before the window belongs to it", "loops", "seconds[end] - seconds[first + ONE]", "seconds[end] - seconds[first]"),
    Bug("one event has a gap", "loops", "(0 if kind in (FIRST, LAST) else 1)", "0"),
    Bug("the first event is taken for the last", "loops", "if kind == FIRST:", "if kind == LAST:"),
    Bug("the mean gap is over events, not gaps", "loops", "(max(gaps, 1) if", "(gaps + 1 if"),
    Bug("the last gap is the whole span", "loops", "time[low[c] if kind == GAP_MEAN else end - TWO]", "time[low[c]]"),
    Bug("an average is over all events", "loops", "_change(b, low, high, y)", "y[:] = np.int64(high) - np.int64(low)"),
    Bug("all moments share a place", "loops", "ends[k, some], ends[k, some + 1]", "ends[0, some], ends[0, some + 1]"),
    Bug("the next customers begin anew", "loops", "ends[k, some], ends[k, some + 1]", "ends[k, 0], ends[k, 1]"),
    Bug("who is wanted at a moment is taken for one of the first", "matrix", "self.wanted - np.repeat(first,", "self.wanted - 0 * np.repeat(first,"),
    Bug("some are taken once only", "matrix", "range(0, customers, TOGETHER)", "range(0, customers, 2 * TOGETHER)"),
    Bug("rows of the customer before are a customer's own", "loops", "rows[row] < offsets[begin + c]", "rows[row] < offsets[begin + c] - 1"),
    Bug("the wanted are the first ones", "loops", "line[who[cell + c]]", "line[c]"),
    Bug("nobody is patched", "matrix", '"right") > cells', '"right") < cells'),
    Bug("the patch of a moment goes to the first", "matrix", "wanted = moment * self.shape[1] + customers", "wanted = customers"),
    Bug("values of a list are counted as its rows", "matrix", "np.append(0, np.cumsum(np.bincount(at, minlength=number)))", "np.arange(number + 1)"),
)


def known(exact: dict[Measure, Any]) -> Array:
    """Who has an event by each moment: bool (customers, moments)."""
    return np.asarray(exact[SEEN].number > 0)


def looped(monkeypatch: pytest.MonkeyPatch, module: ModuleType = matrix) -> None:
    """Let the loops answer: they want many numbers, here one is enough."""
    pytest.importorskip("numba")
    monkeypatch.setattr(module, "PAYS", 0)
    monkeypatch.setattr(module, "FEW", 0)


@pytest.fixture(params=["NumPy", "loops"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """By which way numbers are made."""
    if request.param == "loops":
        looped(monkeypatch)
    return str(request.param)


@pytest.mark.parametrize("seed", range(60))
def test_columns_are_the_exact_answers_as_numbers(seed: int, way: str) -> None:
    """Also for a measure that is asked for twice, one that is wanted both ways, and customers with late events."""
    r = seeded(seed)
    block, measures = random_world(r).block, [random_measure(r) for _ in range(8)]
    asked, also = [*measures, measures[0]], [measures[1], SEEN]
    found, exact, at = matrix.columns(block, MOMENTS, asked, also=also)
    expected = batch.evaluate(block, MOMENTS, [*asked, *also])
    assert found.shape == (len(asked), block.size * len(MOMENTS)) and at is None and set(exact) == set(also)
    for i, values in enumerate(expected[: len(asked)]):
        np.testing.assert_array_equal(found[i], values.to_float().T.ravel(), err_msg=f"seed {seed}: {asked[i]}")
    for measure, values in zip(also, expected[len(asked) :], strict=True):
        np.testing.assert_array_equal(exact[measure].number, values.number)


@pytest.mark.parametrize("seed", range(20))
def test_only_the_chosen_are_answered_moment_by_moment(seed: int, way: str) -> None:
    r = seeded(seed)
    block, measures = random_world(r).block, [random_measure(r) for _ in range(4)]
    everyone, exact, _ = matrix.columns(block, MOMENTS, measures, also=[SEEN])
    found, _, at = matrix.columns(block, MOMENTS, measures, also=[SEEN], choose=known)
    wanted = np.flatnonzero(known(exact).T)
    assert at is not None and at.tolist() == wanted.tolist() and 0 < len(at) < everyone.shape[1]
    np.testing.assert_array_equal(found, everyone[:, wanted], err_msg=f"seed {seed}")
    assert matrix.columns(block, MOMENTS, measures, also=[SEEN], choose=lambda exact: known(exact) & False)[0].shape == (4, 0)


@pytest.mark.parametrize("seed", range(5))
def test_values_that_come_again_crosswise(seed: int, way: str) -> None:
    r = seeded(seed)
    block = to_block({name: [Event(MOMENTS[0] - k * DAY, "A", {"word": r.choice("abc")}) for k in range(30)] for name in ("c1", "c2")})
    measures = [Measure(Events(("A",)), Window(days * DAY), "distinct", "word") for days in range(1, 30)]
    found, *_ = matrix.columns(block, MOMENTS[:1], measures)
    for column, values in zip(found, batch.evaluate(block, MOMENTS[:1], measures), strict=True):
        np.testing.assert_array_equal(column, values.to_float()[:, 0])


def test_more_customers_than_the_loops_take_at_a_time(way: str) -> None:
    block, measures = random_world(seeded(0), customers=2_400).block, [Measure(Events(("A",))), Measure(Events(), aggregate="gap_mean")]
    found, _, at = matrix.columns(block, MOMENTS, measures, also=[SEEN], choose=known)
    for column, values in zip(found, batch.evaluate(block, MOMENTS, measures), strict=True):
        np.testing.assert_array_equal(column, values.to_float().T.ravel()[at])


def test_nothing_asked_is_answered(way: str) -> None:
    block = random_world(seeded(0)).block
    found, exact, _ = matrix.columns(block, MOMENTS, [])
    assert found.shape == (0, block.size * len(MOMENTS)) and exact == {}
    assert matrix.columns(block, [], [SEEN])[0].shape == (1, 0)


@pytest.mark.parametrize("bug", LOOPS, ids=lambda bug: bug.name)
def test_a_bug_in_the_loops_is_found(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    assert given_away(bug, monkeypatch, 400) is not None, f"nobody noticed: {bug.name}"


def test_as_they_stand_the_loops_are_not_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is the bugs that are found, and not that the loops run in Python."""
    assert given_away(Bug("none", "loops", "import annotations", "import annotations  # a copy"), monkeypatch, 60) is None


def given_away(bug: Bug, monkeypatch: pytest.MonkeyPatch, most: int) -> str | None:
    """Where loops with a bug, in Python and two customers at a time, answer differently from the original kernel; None when they don't."""
    looped(monkeypatch)
    monkeypatch.setattr("numba.config.DISABLE_JIT", True)
    its_block, its_matrix, loops = plant(predseg.evaluate, bug, ["block", "matrix", "loops"])
    monkeypatch.setattr(its_matrix, "TOGETHER", 2)
    monkeypatch.setattr(its_matrix, "_pays", lambda numbers: loops.fill)
    for seed in range(most):
        r = seeded(seed)
        events, measure = random_events_of_customers(r), random_measure(r)
        right = batch.evaluate(to_block(events), MOMENTS, [measure, SEEN])
        wanted = np.flatnonzero((right[1].number > 0).T)
        try:
            with np.errstate(all="ignore"):
                found, *_ = its_matrix.columns(to_block(events, module=its_block), MOMENTS, [measure], also=[SEEN], choose=known)
        except Exception as error:
            return f"seed {seed}: {error!r}"
        if not np.array_equal(found[0], right[0].to_float().T.ravel()[wanted], equal_nan=True):
            return f"seed {seed}: {measure}"
    return None


def test_the_loops_know_every_aggregate() -> None:
    loops = pytest.importorskip("predseg.evaluate.loops")
    names = ("COUNT", "SUM", "AVG", "MIN", "MAX", "DISTINCT", "FIRST", "LAST", "GAP_MEAN", "GAP_STD", "GAP_LAST")
    assert [getattr(loops, name) for name in names] == [*range(len(matrix.KINDS))]


def test_few_numbers_load_nothing_and_without_numba_numpy_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A live customer never waits for a compiler, and what numba keeps on a disk may be damaged, or the disk full."""

    def broken() -> Any:
        raise AssertionError("loaded")

    monkeypatch.setattr(matrix, "_numbers", [0])
    monkeypatch.setattr(matrix, "_loops", broken)
    assert matrix._pays(matrix.FEW - 1) is None and matrix._numbers == [0]
    assert matrix._pays(matrix.PAYS - 1) is None
    with pytest.raises(AssertionError, match="loaded"):
        matrix._pays(matrix.FEW)
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "predseg.evaluate.loops", None)
    assert matrix._loops.__wrapped__() is None
