"""Where the page's long work is done: one piece at a time in a thread beside the server, over the tables as they were a short while ago."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from predseg.language.time import SECOND
from predseg.live.service import Busy
from predseg.segments.workspace import Workspace

AGE = 30 * SECOND
"""How old the tables may be before they are brought up to date."""
WAITING = 4
"""Pieces of work that may wait or go on; more are refused."""
Found = TypeVar("Found")


class Bench:
    """One worker.

    Args:
        reopen: Brings the tables up to date; returns the segments as their files say now, and the last moment of the data.
        clock: The moment (microseconds).
    """

    def __init__(self, reopen: Callable[[], tuple[Workspace, int]], clock: Callable[[], int]) -> None:
        self._reopen, self._clock = reopen, clock
        self._threads = ThreadPoolExecutor(1, "predseg page")
        self._open: tuple[int, Workspace, int] | None = None
        self._room = threading.BoundedSemaphore(WAITING)

    async def __call__(self, work: Callable[[Workspace, int], Found]) -> Found:
        """Do some work and return what it returns.

        Raises:
            Busy: 503 when too much waits.
        """
        if not self._room.acquire(blocking=False):
            raise Busy(503, "the page counts for others at the moment", 5)
        doing = self._threads.submit(lambda: work(*self._tables()))
        doing.add_done_callback(lambda _: self._room.release())
        return await asyncio.wrap_future(doing)

    def forget(self) -> None:
        """Open the tables and the rule files anew for the next piece of work."""
        self._open = None

    def _tables(self) -> tuple[Workspace, int]:
        now, found = self._clock(), self._open
        if found is None or now - found[0] > AGE:
            self._open = found = (now, *self._reopen())
        return found[1], found[2]
