"""Blocks answered side by side: NumPy works outside Python's lock, so threads share a block's worth of memory and nothing is copied.

Where blocks are answered is an argument, `Over`: `here`, on the threads of this process, or on the machines of a cluster
(`predseg.spark`). The work is the same function of one block, so that it makes no difference to an answer.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from pathlib import Path
from queue import Full, Queue
from typing import Any, Protocol, TypeVar

from predseg.evaluate.block import BEGINNING, ROWS, Block, Piece, blocks_in, pieces_of
from predseg.layers import parts

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


_END = object()
_BEHIND = 2


def side_by_side(works: Sequence[Callable[[Iterator[Item]], Answer]], rows: Iterable[Sequence[Item]]) -> list[Answer]:
    """Return what works make of their columns of some rows, all in one pass over the rows.

    The rows are made on the caller's thread. Each work takes from its column on a thread of its own, at most `_BEHIND` items behind.

    >>> side_by_side([list, sum], [("a", 1), ("b", 2)])
    [['a', 'b'], 3]
    """
    lines: list[Queue[Any]] = [Queue(_BEHIND) for _ in works]
    with ThreadPoolExecutor(max(len(works), 1)) as threads:
        running = [threads.submit(work, _taken(line)) for work, line in zip(works, lines, strict=True)]
        try:
            for row in rows:
                for line, work, item in zip(lines, running, row, strict=True):
                    _put(line, work, item)
                    if work.done():  # an error ends the pass
                        work.result()
        finally:
            for line, work in zip(lines, running, strict=True):
                _put(line, work, _END)
        return [work.result() for work in running]


def _taken(line: Queue[Any]) -> Iterator[Any]:
    while (item := line.get()) is not _END:
        yield item


def _put(line: Queue[Any], work: Future[Any], item: object) -> None:
    """Wait for room in a line, unless nobody takes from it any more."""
    while not work.done():
        with suppress(Full):
            line.put(item, timeout=0.1)
            return


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
    """Answer the blocks on the threads of this process, see `Over`; the caller's thread reads, and theirs make the blocks."""
    wanted = set(properties)

    def answers(piece: Piece) -> list[Answer]:
        return [work(block) for block in blocks_in(piece, wanted, rows, since)]

    return chain.from_iterable(ahead(answers, (piece for part in parts(files) for piece in pieces_of(part, wanted, rows))))
