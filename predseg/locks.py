"""Locks on files: between processes, and between the threads of one. A lock never outlives its process.

Whoever holds a lock may take it again within the same thread, however the file is reached.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from predseg.errors import UsageError

STEP, LONGEST_STEP, SILENT = 0.002, 0.1, 0.2
"""Seconds: between the first two looks at a lock that is taken, between later ones, and how long nothing is said."""
GLANCE = 0.05
"""Seconds that a lock is waited for in any case: who only looks whether it is free (`is_free`) has it for a moment."""


@dataclass
class _Held:
    """A lock of this thread: its open file, how often it was taken."""

    handle: int
    depth: int = 1


_HELD: dict[tuple[int, int, Path], _Held] = {}


@contextmanager
def exclusive(file: Path, what: str, *, wait: float = 0.0) -> Iterator[None]:
    """Be the only one inside, among all who ask for the same file.

    Args:
        file: The file of the lock; it is made when it is not there, and says who holds it.
        what: What is locked, for messages.
        wait: Seconds to wait for whoever holds it.

    Raises:
        UsageError: E210 naming the process that holds it.
    """
    key = (os.getpid(), threading.get_ident(), file)
    held = _HELD.get(key)
    if held is None:
        held = _HELD[key] = _Held(_take(file, what, wait), 0)
    held.depth += 1
    try:
        yield
    finally:
        held.depth -= 1
        if held.depth == 0:
            del _HELD[key]
            os.close(held.handle)


def is_mine(file: Path) -> bool:
    """Say whether this thread holds the lock of a file."""
    return (os.getpid(), threading.get_ident(), file) in _HELD


def is_free(file: Path) -> bool:
    """Say whether nobody holds the lock of a file that is there."""
    import fcntl

    handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True


@contextmanager
def shared(file: Path) -> Iterator[None]:
    """Be inside together with others, and wait while somebody is there alone; for moments, not for work."""
    import fcntl

    if is_mine(file):
        yield
        return
    handle = os.open(file, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


def _take(file: Path, what: str, wait: float) -> int:
    import fcntl

    handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    begun, step, told = time.monotonic(), STEP, False
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            holder = _holder(handle)
        except BaseException:
            os.close(handle)
            raise
        waited = time.monotonic() - begun
        if waited >= max(wait, GLANCE):
            os.close(handle)
            help_ = "wait until it ends, or end it; a lock never outlives its process"
            raise UsageError("E210", str(file.parent), f"the {what} is being written by {holder}", help_)
        if waited > SILENT and not told:
            told = True
            logging.getLogger("predseg").warning("waiting for %s, which is writing the %s %s", holder, what, file.parent)
        time.sleep(step)
        step = min(1.2 * step, LONGEST_STEP)
    os.ftruncate(handle, 0)
    os.pwrite(handle, str(os.getpid()).encode(), 0)
    return handle


def _holder(handle: int) -> str:
    """Return the process that wrote its number into the file, with its command as far as that can be told."""
    number = os.pread(handle, 32, 0).decode("ascii", "replace").strip()
    if not number.isdigit():
        return "another process"
    try:
        words = Path(f"/proc/{number}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        words = []
    at = next((i for i, word in enumerate(words) if Path(word).name == "predseg"), None)
    command = f" (predseg {words[at + 1]})" if at is not None and len(words) > at + 1 and words[at + 1].isalpha() else ""
    return f"process {number}{command}"
