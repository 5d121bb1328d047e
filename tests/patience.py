"""Waiting for what happens beside a test: as long as the busiest machine may need, and no longer than it does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE = 120.0
"""Seconds after which a test is held to have failed. Nothing that is asserted may be decided by how fast the machine is."""
T = TypeVar("T")


def eventually(check: Callable[[], T], seconds: float = PATIENCE) -> T:
    """Wait until something holds and return it; fail when it does not hold in time."""
    end = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < end, f"not within {seconds:.0f} seconds"
        time.sleep(0.005)
    return found
