"""Taste: what a customer ever bought, summed up by the few numbers that tell most of who buys what beside what.

Customers and products are a matrix, rare products weigh more (1 + log of how few bought them), every customer as much as any other, and its first right
singular vectors give each product a few numbers (after Deerwester et al., "Indexing by latent semantic analysis", Journal of the American Society for Information
Science 41, 1990). A customer has the weighted sum of those of the products in the bag (see `predseg.forecast.bags`). They are learned from the customers of
the newest training cutoff, so from nothing that was bought later, and travel with the model: a product that it does not know counts as nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from predseg.columns import coded, single
from predseg.forecast.bags import Bag
from predseg.forecast.rhythm import FEWEST, Array
from predseg.language.english import say_events

if TYPE_CHECKING:
    import pandas as pd

NUMBERS = 4
OF_CUSTOMERS = 10
"""A product that fewer customers bought is left out: it tells nothing, and might tell who they are."""
MOST, LONGEST = 2_000, 200
"""So many products at most, those of most customers; so many characters of a name at most."""
NAMED = 3


@dataclass(frozen=True)
class Taste:
    """The numbers of every product that is known.

    Attributes:
        bag: The column that it reads.
        events: Of which events, as people say it.
        of: The property.
        products: The values, sorted.
        weights: Of each what it weighs.
        vectors: Of each its numbers.
    """

    bag: str
    events: str
    of: str
    products: tuple[str, ...]
    weights: tuple[float, ...]
    vectors: tuple[tuple[float, ...], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that it adds."""
        return names(len(self.vectors[0]))

    @cached_property
    def _vectors(self) -> Array:
        return np.asarray(self.vectors, np.float64)

    def extend(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the frame with the columns of `names`; missing where nothing of a bag is known. A frame that lacks the bag is returned as it is."""
        if self.bag not in frame.columns:
            return frame
        import pandas as pd

        row, product = _known(*_whole(frame[self.bag]), self.products)
        share, nothing = _shares(row, np.asarray(self.weights)[product]), np.bincount(row, minlength=len(frame)) == 0
        sums = (np.bincount(row, share * vector[product], len(frame)) for vector in self._vectors.T)
        added = {name: np.where(nothing, np.nan, total) for name, total in zip(self.names, sums, strict=True)}
        return pd.concat([frame, pd.DataFrame(added, index=frame.index)], axis=1)

    def declare(self, event: str) -> dict[str, dict[str, Any]]:
        """Return what its columns mean, as `predseg.forecast.reasons.declare` does: by the products that raise and lower a number most."""
        found = {}
        for name, vector in zip(self.names, self._vectors.T, strict=True):
            order = np.argsort(-vector, kind="stable")
            most, least = (", ".join(self.products[i] for i in some) for some in (order[:NAMED], order[::-1][:NAMED]))
            says = f"whether {self.of} of {self.events} is more like {most} or like {least}"
            found[name] = {"kind": "taste", "events": self.events, "when": "", "of": self.of, "says": says, "most": most, "least": least}
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; `from_dict` gives the same back."""
        return {**asdict(self), "products": list(self.products), "weights": list(self.weights), "vectors": [list(vector) for vector in self.vectors]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Taste:
        """Return the taste of `to_dict`."""
        products, weights = tuple(map(str, values["products"])), tuple(map(float, values["weights"]))
        vectors = tuple(tuple(map(float, vector)) for vector in values["vectors"])
        if not len(products) == len(weights) == len(vectors) > 0 or len({len(vector) for vector in vectors}) != 1:
            raise ValueError(f"{len(products)} products have {len(weights)} weights and {len(vectors)} vectors")
        return cls(str(values["bag"]), str(values["events"]), str(values["of"]), products, weights, vectors)


def about(taste: Taste | None, bag: Bag) -> dict[str, Any]:
    """Return what the facts of a model say of the taste that was asked for."""
    return {"of": bag.of, "values": len(taste.products) if taste else 0, "numbers": len(taste.names) if taste else 0}


def say_taste(facts: Mapping[str, Any]) -> str:
    """Say in words what `about` says.

    >>> say_taste({"of": "brand", "values": 120, "numbers": 4})
    'What was bought is summed up by 4 numbers, learned from 120 values of `brand` that 10 customers or more have each.'
    """
    if not facts["values"]:
        return f"No taste was learned from `{facts['of']}`: it needs {FEWEST} customers, and {2 * NUMBERS} values that {OF_CUSTOMERS} customers or more have each."
    learned = f"learned from {facts['values']:,} values of `{facts['of']}` that {OF_CUSTOMERS} customers or more have each"
    return f"What was bought is summed up by {facts['numbers']} numbers, {learned}."


def names(number: int = NUMBERS) -> tuple[str, ...]:
    """Return the columns of a taste of so many numbers."""
    return tuple(f"taste_{i + 1}" for i in range(number))


def fit_taste(frame: pd.DataFrame, bag: Bag) -> Taste | None:
    """Return the taste over the customers of a frame, each once; None where they or what they bought are too few.

    The largest number of each vector in size is positive, so that a sign means the same whenever it is learned.
    """
    row, code, texts = _whole(frame[bag.name])
    customers = np.bincount(code, minlength=len(texts))
    known = sorted((-int(n), text) for n, text in zip(customers, texts, strict=True) if n >= OF_CUSTOMERS and len(text) <= LONGEST)[:MOST]
    products = tuple(sorted(text for _, text in known))
    if len(products) < 2 * NUMBERS:
        return None
    row, product = _known(row, code, texts, products)
    rows, row = np.unique(row, return_inverse=True)
    if len(rows) < FEWEST:
        return None
    weights = np.round(1 + np.log(len(rows) / np.bincount(product)), 6)
    vectors = _singular(row, product, _shares(row, weights[product]))
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(NUMBERS)]
    vectors = np.round(vectors * np.sign(largest), 6) + 0.0
    return Taste(bag.name, say_events(bag.events), bag.of, products, tuple(weights.tolist()), tuple(map(tuple, vectors.tolist())))


def _shares(row: Array, weight: Array) -> Array:
    """Return the weights, those of a row scaled to the length 1."""
    return np.asarray(weight / np.sqrt(np.bincount(row, weight * weight))[row])


def _singular(row: Array, column: Array, value: Array) -> Array:
    """Return the first right singular vectors of a sparse matrix, float64 (columns, `NUMBERS`): exact, so that nothing random is in them."""
    from scipy.linalg import eigh
    from scipy.sparse import csr_matrix

    matrix = csr_matrix((value, (row, column)))
    width = matrix.shape[1]
    squares = (matrix.T @ matrix).toarray()
    return np.asarray(eigh(squares, subset_by_index=[width - NUMBERS, width - 1])[1][:, ::-1])


def _known(row: Array, code: Array, texts: list[str], products: tuple[str, ...]) -> tuple[Array, Array]:
    """Return of each value of `_whole` that is one of the products its row and its position among them."""
    place = {text: i for i, text in enumerate(products)}
    product = np.array([place.get(text, -1) for text in texts], np.int64)[code]
    return row[product >= 0], product[product >= 0]


def _whole(bags: pd.Series) -> tuple[Array, Array, list[str]]:
    """Return of each value in the bags its row and its position in the texts."""
    import pandas as pd
    import pyarrow as pa

    lists = pa.array(bags) if isinstance(bags.dtype, pd.ArrowDtype) else pa.array([*bags], pa.large_list(pa.large_string()), from_pandas=True)
    lists = single(lists) if isinstance(lists, pa.ChunkedArray) else lists
    code, texts = coded(pa.chunked_array([lists.flatten()]))
    return lists.value_parent_indices().to_numpy(), code, texts.to_pylist()
