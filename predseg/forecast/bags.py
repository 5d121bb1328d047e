"""Bags: the different values of a property that a customer's events ever had, such as every product bought so far.

A bag is a set: neither the order of events nor their repetition changes it. What models make of it is `predseg.forecast.taste`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from predseg.evaluate.block import Array, Block, Property, Words
from predseg.evaluate.matching import matching
from predseg.language.measures import Events, slug

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Bag:
    """The different values of a property over all events of these names; of a list every element."""

    events: Events
    of: str

    @property
    def name(self) -> str:
        """Its column."""
        return f"all_{self.of}_{'_or_'.join(slug(name) for name in self.events.names)}"


def answer(block: Block, as_of: Sequence[int], bag: Bag, at: Array | None = None) -> pa.LargeListArray:
    """Return the values of the events visible at each moment, as texts in their order: of all customers at the first moment, then at the next ...

    A text is four bytes and an entry of a dictionary: a training may hold a hundred of them for each of a million customer-moments.

    Args:
        block: Whole histories.
        as_of: Moments (microseconds).
        bag: What is collected.
        at: Where the wanted lie among all, int64 (k), ascending; None for all.
    """
    import pyarrow as pa

    n, rows = block.size, matching(block, bag.events)
    row, code, texts = _elements(block.properties.get(bag.of), rows)
    customer = block.customer[row]
    order = np.lexsort((code, customer))
    row, code, customer = row[order], code[order], customer[order]
    parts, lengths = [], []
    for moment, t in enumerate(as_of):
        seen = (block.time[row] <= t) & block.visible(row, t)
        if at is not None:
            wanted = np.zeros(n, bool)
            wanted[at[np.searchsorted(at, moment * n) : np.searchsorted(at, (moment + 1) * n)] - moment * n] = True
            seen &= wanted[customer]
        who, what = customer[seen], code[seen]
        new = (np.diff(who, prepend=-1) != 0) | (np.diff(what, prepend=-1) != 0)
        parts.append(what[new])
        lengths.append(np.bincount(who[new], minlength=n))
    length = np.concatenate(lengths) if at is None else np.concatenate(lengths)[at]
    values = pa.DictionaryArray.from_arrays(pa.array(np.concatenate(parts).astype(np.int32)), pa.array(texts, pa.large_string()))
    return pa.LargeListArray.from_arrays(pa.array(np.append(0, np.cumsum(length)), pa.int64()), values)


def _elements(column: Property | None, rows: Array) -> tuple[Array, Array, list[str]]:
    """Return of every element of a property in some rows its row and its position in the texts, which are sorted."""
    if column is None:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), []
    taken = _words(column.take(rows))
    lists = [[_text(e) for e in (v if isinstance(v, tuple) else (v,)) if e is not None] for v in taken.values]
    texts = sorted(set().union(*lists))
    place = {text: i for i, text in enumerate(texts)}
    flat = np.array([place[text] for some in lists for text in some], np.int64)
    number = np.array([*map(len, lists), 0], np.int64)
    first, count = np.cumsum(number) - number, number[taken.codes]
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return np.repeat(rows, count), flat[np.repeat(first[taken.codes], count) + within] if len(flat) else flat, texts


def _words(column: Property) -> Words:
    """Numbers as words: a product may be one."""
    if isinstance(column, Words):
        return column
    units, code = np.unique(column.units, return_inverse=True)
    return Words(np.where(column.present, code, -1).astype(np.int32), tuple(Decimal(int(u)) / column.scale for u in units))


def _text(value: Any) -> str:
    """Write a value the same way whatever the column was stored as."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value.normalize():f}" if isinstance(value, Decimal) else str(value)
