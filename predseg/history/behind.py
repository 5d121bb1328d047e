"""Work on a thread of its own, a little behind: rows are written while the next ones are read."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any


@contextmanager
def behind(most: int = 2) -> Iterator[Callable[..., None]]:
    """Give ``later(work, *args)``: it is done in the order in which it was asked for, before the block ends.

    At most ``most`` works wait, so that memory stays bounded. What a work raises is raised by a later call, or by the end of the block;
    when the block itself fails, what waits is left undone.

    >>> done = []
    >>> with behind() as later:
    ...     for number in range(3):
    ...         later(done.append, number)
    >>> done
    [0, 1, 2]
    """
    waiting: deque[Future[Any]] = deque()

    def later(work: Callable[..., Any], *args: Any) -> None:
        waiting.append(pool.submit(work, *args))
        if len(waiting) > most:
            waiting.popleft().result()

    pool = ThreadPoolExecutor(1)
    try:
        yield later
        while waiting:
            waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
