"""What lives long is out of the collector's sight; dead cycles are found all the same."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from predseg.live.calm import Settling


class Node:
    """Something that points at itself."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """Leave the collector as it was; nothing is looked at but when a test says so."""
    gc.collect()
    gc.disable()
    settling = Settling(looks=4)
    gc.callbacks.append(settling)
    yield
    gc.callbacks.remove(settling)
    gc.unfreeze()
    gc.enable()
    gc.collect()


def test_what_survives_a_look_is_put_away() -> None:
    before = gc.get_freeze_count()
    kept = [[i] for i in range(1_000)]
    gc.collect(0)
    assert gc.get_freeze_count() >= before + len(kept)


def test_a_dead_cycle_is_found_at_the_first_look() -> None:
    dead = weakref.ref(Node())
    gc.collect(0)
    assert dead() is None


def test_a_cycle_that_dies_after_it_was_put_away_is_found_by_the_look_at_everything() -> None:
    node = Node()
    dead = weakref.ref(node)
    gc.collect(0)  # put away alive
    del node
    for _ in range(2):
        gc.collect(0)
    gc.collect(2)
    assert dead() is not None, "it is out of sight"
    for _ in range(4):
        gc.collect(0)
    assert gc.get_freeze_count() == 0, "everything is back in sight"
    gc.collect(2)
    assert dead() is None and gc.get_freeze_count() > 0
