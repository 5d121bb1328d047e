"""Ids of customers, each once and in order, so that who is meant is a small number: memberships of millions are compared without a text."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from operator import methodcaller
from typing import TYPE_CHECKING

import numpy as np

from predseg.columns import Array, single

if TYPE_CHECKING:
    import pyarrow as pa

FEW = 50
"""So few texts are found one by one, as those of a customer who is decided live."""
STRETCH = 1 << 16
"""Ids that are made Python's texts of all segments at a time: so many stay in the processor's cache."""


@dataclass(frozen=True)
class Customers:
    """Some customers, n of them.

    Attributes:
        ids: large_string (n), sorted, each once.
    """

    ids: pa.Array

    @classmethod
    def of(cls, ids: pa.ChunkedArray) -> tuple[Customers, Array]:
        """Return those with some ids, which may come in any order and again, and the place of each: int64 (k)."""
        import pyarrow as pa
        import pyarrow.compute as pc

        given = single(ids.cast(pa.large_string()))
        if pc.all(pc.less(given[:-1], given[1:])).as_py():
            return cls(given), np.arange(len(given))
        distinct = given.unique()
        found = cls(distinct.take(pc.sort_indices(distinct)))
        return found, found.places(given)

    @classmethod
    def named(cls, texts: Array) -> tuple[Customers, Array]:
        """Return those with some ids that are Python's texts, see `of`."""
        import pyarrow as pa

        return cls.of(pa.chunked_array([pa.array(texts, pa.large_string())]))

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def texts(self) -> Array:
        """The ids as Python's texts: object (n)."""
        return np.asarray(self.ids.to_numpy(zero_copy_only=False))

    def places(self, ids: pa.Array) -> Array:
        """Return where some ids stand: int64 (k), -1 for those that nobody here has.

        Only the ids from the first to the last of them are looked through, so that those of a block cost no more however many others there are.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        if not len(ids):
            return np.zeros(0, np.int64)
        low, high = (
            cut(self.ids, end.as_py(), key=methodcaller("as_py"))
            for cut, end in zip((bisect_left, bisect_right), pc.min_max(ids).values(), strict=True)
        )
        at = pc.index_in(ids.cast(pa.large_string()), value_set=self.ids[low:high])
        return np.asarray(pc.add(at.cast(pa.int64()), low).fill_null(-1).to_numpy())

    def find(self, texts: Array) -> Array:
        """Return where ids that are Python's texts stand, see `places`."""
        import pyarrow as pa

        if len(texts) > FEW or not len(self):
            return self.places(pa.array(texts, pa.large_string()))
        at = np.searchsorted(self.texts, texts)
        return np.where(self.texts.take(at, mode="clip") == texts, at, -1)

    def join(self, others: Customers) -> tuple[Customers, Array, Array]:
        """Return these and others together, and where these and those stand among them: int64."""
        import pyarrow as pa

        if len(self) < len(others):
            both, theirs, mine = others.join(self)
            return both, mine, theirs
        at = np.arange(len(self)) if self.ids.equals(others.ids) else self.places(others.ids)
        if bool((at >= 0).all()):
            return self, np.arange(len(self)), at
        both, place = Customers.of(pa.chunked_array([self.ids, others.ids]))
        return both, place[: len(self)], place[len(self) :]

    def by_name(self, places: Mapping[str, Array]) -> dict[str, Array]:
        """Return the texts at sorted places: object.

        They are taken a stretch of ids after another, for all that are asked, so that a stretch's texts stay in the processor's cache.
        """
        edges = [*range(0, len(self), STRETCH), len(self)]
        found = {name: np.empty(len(at), object) for name, at in places.items()}
        cuts = {name: np.searchsorted(at, edges).tolist() for name, at in places.items()}
        for i in range(len(edges) - 1):
            for name, at in places.items():
                low, high = cuts[name][i : i + 2]
                self.texts.take(at[low:high], out=found[name][low:high], mode="clip")  # "raise" would make a copy first
        return found
