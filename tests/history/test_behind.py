"""Work on a thread of its own: in order, bounded, and no failure is lost."""

from __future__ import annotations

import threading

import pytest

from predseg.history.behind import behind


def test_work_is_done_in_order_on_another_thread_before_the_block_ends() -> None:
    done: list[tuple[int, int]] = []
    with behind() as later:
        for number in range(50):
            later(lambda n: done.append((n, threading.get_ident())), number)
    assert [number for number, _ in done] == [*range(50)]
    assert len({thread for _, thread in done}) == 1 and done[0][1] != threading.get_ident()


def test_no_more_waits_than_may() -> None:
    """Rows that wait to be written are rows in memory."""
    go, asked = threading.Event(), 0
    with behind(most=2) as later:
        later(go.wait)
        later(int)
        threading.Timer(0.05, go.set).start()
        for _ in range(3):
            later(int)  # waits for the first one
            asked += 1
            assert go.is_set()
    assert asked == 3


def test_a_failure_is_raised_and_what_waits_is_left_undone() -> None:
    done: list[int] = []

    def full(number: int) -> None:
        if number == 1:
            raise OSError("the disk is full")
        done.append(number)

    with pytest.raises(OSError, match="the disk is full"), behind(most=1) as later:
        for number in range(100):
            later(full, number)
    assert done[:1] == [0] and 99 not in done


def test_a_failure_of_the_last_work_is_raised_at_the_end() -> None:
    with pytest.raises(ZeroDivisionError), behind() as later:
        later(lambda: 1 / 0)


def test_when_the_block_fails_its_error_is_the_one_that_is_told() -> None:
    with pytest.raises(KeyError), behind() as later:
        later(lambda: 1 / 0)
        raise KeyError("first")
