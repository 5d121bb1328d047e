"""The one search that all windows share is an exact search, however it is done."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predseg.evaluate.grid import buckets, edges
from predseg.language.measures import Window

INSTANTS = st.one_of(st.integers(-20, 20), st.integers(-(10**6), 10**6), st.integers(-(10**15), 4 * 10**15))


@given(st.lists(INSTANTS, max_size=12, unique=True), st.lists(INSTANTS, max_size=30), st.integers(0, 2**20))
def test_buckets_count_the_instants_before_each_time(instants: list[int], times: list[int], spread: int) -> None:
    """Also for times equal to an instant, one beside it, and far before and after all of them."""
    grid = np.sort(np.array(instants, np.int64))
    beside = [i + d for i in instants for d in (-1, 0, 1, -spread, spread)]
    asked = np.array([*times, *beside], np.int64)
    np.testing.assert_array_equal(buckets(grid, asked.copy()), np.searchsorted(grid, asked, "left"))


@pytest.mark.parametrize(
    ("window", "starts", "ends"),
    [
        (Window(), None, [10, 20]),
        (Window(3), [7, 17], [10, 20]),
        (Window(5, 2), [5, 15], [8, 18]),
        (Window(until=2), None, [8, 18]),
        (Window(since=15), [10, 14], [10, 20]),  # [15, 10] is empty, not negative
        (Window(None, 2, 15), [8, 14], [8, 18]),
    ],
)
def test_edges_are_the_last_instants_outside_and_inside(window: Window, starts: list[int] | None, ends: list[int]) -> None:
    start, end = edges(window, np.array([10, 20]))
    assert end.tolist() == ends and (start is None if starts is None else start is not None and start.tolist() == starts)
    for t, low, high in zip([10, 20], starts or [-99, -99], ends, strict=True):
        assert [e for e in range(-5, 25) if low < e <= high] == [e for e in range(-5, 25) if window.contains(e, t)]
