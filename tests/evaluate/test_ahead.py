"""Work side by side comes back in order, and is not done further ahead than needed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from predseg.evaluate.ahead import ahead


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_answers_come_in_the_order_of_the_items(threads: int) -> None:
    def slow(n: int) -> int:
        time.sleep(0.002 * (n % 3))
        return n * n

    assert list(ahead(slow, range(20), threads)) == [n * n for n in range(20)]
    assert list(ahead(slow, [], threads)) == []


def test_no_more_items_are_made_than_are_being_worked_on() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for n in range(100):
            made.append(n)
            yield n

    answers = ahead(lambda n: n, items(), 2)
    for seen in range(10):
        next(answers)
        assert len(made) <= seen + 1 + 4


def test_several_items_are_worked_on_at_once() -> None:
    both = threading.Barrier(2, timeout=120)
    assert [isinstance(n, int) for n in ahead(lambda _: both.wait(), [1, 2], 2)] == [True, True]


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_comes_out_where_its_answer_would(threads: int) -> None:
    answers = ahead(lambda n: 6 // n, [2, 1, 0, 3], threads)
    assert [next(answers), next(answers)] == [3, 6]
    with pytest.raises(ZeroDivisionError):
        next(answers)


def test_leaving_early_waits_for_nothing_that_has_not_begun() -> None:
    begun: list[int] = []

    def work(n: int) -> int:
        begun.append(n)
        time.sleep(0.01)
        return n

    for answer in ahead(work, range(1_000), 2):
        if answer == 3:
            break
    before = len(begun)
    time.sleep(0.05)
    assert len(begun) - before <= 2 and before < 20
