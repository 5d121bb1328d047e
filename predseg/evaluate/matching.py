"""Which rows of a block are meant: the name of the event and the filters on its properties."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from typing import Any

import numpy as np

from predseg.evaluate.block import Array, Block, Words
from predseg.language.measures import Events, Filter

FEW = 5_000
"""The blocks of a table share their dictionaries when these are small, so what passes is remembered; large ones are not kept alive."""


def matching(block: Block, events: Events) -> Array:
    """Return the positions of the rows that are such an event and pass its filters."""
    rows = named(block, events.names) if events.names else np.ones(len(block.time), bool)
    for test in events.where:
        rows = rows & passing(block, test)
    return np.flatnonzero(rows)


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
        decide = _remembered if len(column.values) <= FEW else _accepted
        return decide(test, column.values)[column.codes]
    units, inverse = np.unique(column.units, return_inverse=True)
    accepted = np.array([test.accepts(Decimal(int(u)) / column.scale) for u in units], bool)
    return np.where(column.present, accepted[inverse] if len(units) else False, test.accepts(None))


def _accepted(test: Filter, values: tuple[Any, ...]) -> Array:
    """Return bool: which values pass, then whether a missing one does."""
    return np.array([*map(test.accepts, values), test.accepts(None)], bool)


_remembered = lru_cache(maxsize=128)(_accepted)
