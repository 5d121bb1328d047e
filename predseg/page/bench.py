"""Where the page's long work is done: one piece at a time, in a process of its own that gives way to everything else.

A thread would share Python's lock with what decides events. The process begins with the first piece of work, and ends when nothing
came for a while, or with the server.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Concatenate, ParamSpec, TypeVar

from predseg.errors import PredsegError
from predseg.live.service import Busy
from predseg.segments.workspace import Workspace

WAITING = 4
"""Pieces of work that may wait or go on; more are refused."""
IDLE, YIELDS = 600, 10
"""Seconds without work after which the process ends, and how much it lets others go first (the nice value of Unix)."""
Given = ParamSpec("Given")
Found = TypeVar("Found")
Reopen = Callable[[], tuple[Workspace, int]]


class Bench:
    """One worker.

    Args:
        reopen: Returns the segments as their files say now, and the last moment of the data; a function that another process can be given.
    """

    def __init__(self, reopen: Reopen) -> None:
        self._reopen = reopen
        self._thread = ThreadPoolExecutor(1, "predseg page")
        self._room = threading.BoundedSemaphore(WAITING)
        self._worker: tuple[BaseProcess, Connection] | None = None

    async def __call__(self, work: Callable[Concatenate[Workspace, int, Given], Found], *args: Given.args, **kwargs: Given.kwargs) -> Found:
        """Return what some work returns: a function of a module, given segments, moment and arguments.

        Raises:
            Busy: 503 when too much waits, or when the process was ended by somebody.
            PredsegError: as the work raises it.
            RuntimeError: when it raises anything else.
        """
        if not self._room.acquire(blocking=False):
            raise Busy(503, "the page counts for others at the moment", 5)
        doing = self._thread.submit(self._ask, (work, args, kwargs))
        doing.add_done_callback(lambda _: self._room.release())
        found = await asyncio.wrap_future(doing)
        if isinstance(found, Exception):
            raise found
        return found  # type: ignore[return-value]

    def _ask(self, asked: object) -> object:
        connection = self._connected()
        try:
            connection.send(asked)
            return connection.recv()
        except (EOFError, OSError):
            self._worker = None
            return Busy(503, "what counted was ended", 1)

    def _connected(self) -> Connection:
        if self._worker is None or not self._worker[0].is_alive():
            context = get_context("spawn")
            mine, its = context.Pipe()
            process = context.Process(target=serve, args=(its, self._reopen), name="predseg page", daemon=True)
            process.start()
            its.close()  # so that each side hears of the end of the other
            self._worker = process, mine
        return self._worker[1]


def serve(connection: Connection, reopen: Reopen) -> None:
    """Do what comes, until nothing comes any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which says when to end
    if hasattr(os, "nice"):
        os.nice(YIELDS)
    if hasattr(os, "sched_setaffinity") and len(cores := sorted(os.sched_getaffinity(0))) > 1:
        os.sched_setaffinity(0, cores[1:])  # one core is left to the events
    try:
        while connection.poll(IDLE):
            work, args, kwargs = connection.recv()
            connection.send(_done(reopen, work, args, kwargs))
    except (EOFError, OSError):
        return


def _done(reopen: Reopen, work: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]) -> object:
    try:
        return work(*reopen(), *args, **kwargs)
    except PredsegError as refused:
        return refused
    except Exception as error:
        return RuntimeError(f"{type(error).__name__}: {error}")
