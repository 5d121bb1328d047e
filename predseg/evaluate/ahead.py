"""Blocks answered side by side: NumPy works outside Python's lock, so threads share a block's worth of memory and nothing is copied.

Where blocks are answered is an argument, `Over`: `here`, on the threads of this process, or on the machines of a cluster
(`predseg.spark`). The work is the same function of one block, so that it makes no difference to an answer.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar

from predseg.evaluate.block import BEGINNING, ROWS, Block, blocks

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def ahead(work: Callable[[Item], Answer], items: Iterable[Item], threads: int | None = None) -> Iterator[Answer]:
    """Yield ``work(item)`` in the order of the items, on several threads.

    The items themselves are made on the caller's thread, no more than twice as many at a time as there are threads.

    Args:
        work: A function of one item alone, so that neither order nor number of threads changes an answer.
        items: For example blocks, as they are read.
        threads: All cores by default.

    >>> list(ahead(str.upper, ["a", "b", "c"]))
    ['A', 'B', 'C']
    """
    threads = threads or os.cpu_count() or 1
    if threads == 1:
        yield from map(work, items)
        return
    waiting: deque[Future[Answer]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) == 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


class Over(Protocol):
    """Somewhere to answer the blocks of an events table."""

    def __call__(
        self, work: Callable[[Block], Answer], files: Sequence[Path], properties: Iterable[str], rows: int = ROWS, since: int = BEGINNING
    ) -> Iterator[Answer]:
        """Yield ``work(block)`` in the order of the blocks, see `predseg.evaluate.block.blocks`.

        Work and answers may travel to another process and back: a work holds no open file, an answer nothing of a block that is not wanted.
        """
        ...


def here(
    work: Callable[[Block], Answer], files: Sequence[Path], properties: Iterable[str], rows: int = ROWS, since: int = BEGINNING
) -> Iterator[Answer]:
    """Answer the blocks on the threads of this process, see `Over`."""
    return ahead(work, blocks(files, properties, rows, since))
