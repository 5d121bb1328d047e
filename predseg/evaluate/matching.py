"""Which rows of a block are meant: the name of the event and the filters on its properties."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from typing import Any

import numpy as np

from predseg.evaluate.block import Array, Block, Words
from predseg.language.measures import Events, Filter

FEW = 5_000
"""What passes is remembered for dictionaries up to this size: the blocks of a table have much the same values. Large ones are not kept alive."""


def matching(block: Block, events: Events) -> Array:
    """Return the positions of the rows that are such an event and pass its filters."""
    if events.names not in block.named:
        block.named[events.names] = np.flatnonzero(named(block, events.names)) if events.names else np.arange(len(block.time))
    rows = block.named[events.names]
    for test in events.where:
        if test not in block.passing:
            block.passing[test] = passing(block, test)
        rows = rows[block.passing[test].take(rows)]
    return rows


def named(block: Block, names: tuple[str, ...]) -> Array:
    """Return bool (rows): which are events of these names."""
    codes = [code for code, name in enumerate(block.names) if name in names]
    if len(codes) == 1:
        return block.event == codes[0]
    return np.isin(block.event, codes)


def passing(block: Block, test: Filter) -> Array:
    """Return bool (rows): whose property passes. The test itself runs once per distinct value."""
    column = block.properties.get(test.property)
    if column is None:
        return np.full(len(block.time), test.accepts(None))
    if isinstance(column, Words):
        return _accepted(test, column)[column.codes]
    units, inverse = np.unique(column.units, return_inverse=True)
    accepted = np.array([test.accepts(Decimal(int(u)) / column.scale) for u in units], bool)
    return np.where(column.present, accepted[inverse] if len(units) else False, test.accepts(None))


def _accepted(test: Filter, column: Words) -> Array:
    """Return bool: which values pass, then whether a missing one does."""
    values = column.values
    few = len(values) <= FEW and bool(values)
    texts = few and not column.mixed and isinstance(values[0], str)  # flags are few, others may hold what is equal and of another kind
    accepts: Callable[[Any], bool] = _remembered(test).__getitem__ if texts else test.accepts
    return np.array([*map(accepts, values), test.accepts(None)], bool)


class _Answers(dict[str, bool]):
    """Which texts pass a filter; asked once per text, and forgotten when there are many."""

    def __init__(self, test: Filter) -> None:
        super().__init__()
        self._test = test

    def __missing__(self, text: str) -> bool:
        if len(self) > 4 * FEW:
            self.clear()
        self[text] = found = self._test.accepts(text)
        return found


_remembered = lru_cache(maxsize=128)(_Answers)
