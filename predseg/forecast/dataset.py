"""Customer-moments out of the stored events: features at many cutoffs, with what came true after each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from predseg.config import Config, Model
from predseg.errors import DataError
from predseg.evaluate.ahead import Answer, Over, here
from predseg.evaluate.block import BEGINNING, Array, Block, blocks
from predseg.forecast.features import FeatureSet, block_frame, block_frames, compile_features, each_block, each_frame
from predseg.forecast.labels import block_labels
from predseg.forecast.training import Sample
from predseg.forecast.traits import trait_frame
from predseg.history.privacy import NOBODY, OptedOut
from predseg.language import conditions as c
from predseg.language.time import say_instant
from predseg.layers import ORDER, by_customer, parts, readers
from predseg.spark import over_of

if TYPE_CHECKING:
    from predseg.store import Store

CELLS = 100_000_000
"""Rows × features that training holds in memory (0.8 GB); beyond, a share of the customers is taken, by a hash of their id."""
ROWS = 131_072
"""Rows of a block of training: it decides the order of the customer-moments, and so the last digits of a model."""
CUSTOMERS = "customers"
LOOKED_AT = _CAME = ""
"""The column of what travels with the features; no feature is called so."""


@dataclass(frozen=True)
class Source:
    """The stored side of a project: the files of the events table, the features and the traits.

    Attributes:
        files: Of the events table, in order.
        features: What is known of a customer at a moment.
        traits: Facts of customers, see `predseg.forecast.traits`; None when there are none.
        without: Who is left out of everything.
        over: Where blocks are answered.
    """

    files: tuple[Path, ...]
    features: FeatureSet
    traits: pd.DataFrame | None = None
    without: OptedOut = NOBODY
    over: Over = here

    def blocks(self, model: Model | None = None, rows: int = ROWS, since: int = BEGINNING) -> Iterator[Block]:
        """Read the events block by block, see `predseg.evaluate.block.blocks`, with every property that features and the model need."""
        yield from blocks(self.files, self.properties(model), rows, since)

    def properties(self, model: Model | None = None) -> set[str]:
        """Return every property that features and the model's statements need."""
        wanted = self.features.properties()
        if model is not None:
            wanted |= model.predict.measure.properties()
            wanted |= {p for m in (c.measures(model.among) if model.among else []) for p in m.properties()}
        return wanted

    def frame(self, block: Block, as_of: Sequence[int], model: Model | None = None) -> pd.DataFrame:
        """Return the features of a block: a row per customer and moment who is known, and eligible when a model is given."""
        return self.kept(block_frame(block, as_of, self.features, among=model.among if model else None, traits=self.traits))

    def frames(self, as_of: Sequence[int], model: Model | None = None) -> Iterator[pd.DataFrame]:
        """Yield the features of everyone, block by block, see `frame`."""
        yield from map(self.kept, self.each(lambda frame: frame, as_of, model))

    def table(self, as_of: int, model: Model | None = None) -> pd.DataFrame:
        """Return the features of everyone at a moment by customer_id, see `frame`; a bag is a plain list, which every library reads."""
        frame = pd.concat(self.frames([as_of], model), ignore_index=True).drop(columns="as_of").set_index("customer_id")
        bag = self.features.bag
        return frame if bag is None else frame.assign(**{bag.name: pd.Series(frame[bag.name].tolist(), frame.index, object)})

    def each(self, then: Callable[[pd.DataFrame], Answer], as_of: Sequence[int], model: Model | None = None) -> Iterator[Answer]:
        """Yield what ``then`` makes of the features of each block where they were computed, of those in ``without`` too."""
        among = model.among if model else None
        return each_frame(then, self.files, as_of, self.features, among=among, traits=self.traits, over=self.over)

    def frames_of(self, as_of: int, models: Sequence[Model], share: float = 0.0) -> Iterator[list[pd.DataFrame]]:
        """Yield the features of each model's eligible at a moment, block by block, see `frame`: they are computed once.

        One more column, `LOOKED_AT`, says who belongs to a share of the customers.
        """
        features, traits, among = self.features, self.traits, [model.among for model in models]  # who is left out stays on this machine

        def of_block(block: Block) -> list[pd.DataFrame]:
            return block_frames(block, [as_of], features, among, traits, {LOOKED_AT: looked_at(block, share)})

        for frames in each_block(of_block, self.files, [as_of], features, among, self.over):
            yield [self.kept(frame) for frame in frames]

    def kept(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of those who are not left out."""
        return frame[[c not in self.without for c in frame["customer_id"]]].reset_index(drop=True) if len(self.without) else frame


def open_source(config: Config, store: Store, without: OptedOut = NOBODY) -> Source:
    """Return the stored side of a project, ``without`` some customers. Traits without a time are constants of today and left out unless ``static: true``."""
    features = compile_features(config.features, config.models.values())
    if config.customers is None or not (config.customers.static or config.customers.event_time):
        features = replace(features, traits=())
    traits = trait_frame(store.read(CUSTOMERS)) if store.exists(CUSTOMERS) else None
    return Source(tuple(store.files("events")), features, traits, without, over_of(config.engine))


def span(files: Sequence[Path], as_of: int) -> tuple[int, int]:
    """Return the first and the last event_time (microseconds) among the events visible by ``as_of``.

    Raises:
        DataError: E422 when none is.
    """
    import pyarrow as pa

    found: list[tuple[int, int]] = []
    for reader in readers(files):
        table = reader.read(["event_time", "received_at"])
        time, received = (table[name].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy() for name in ("event_time", "received_at"))
        seen = time[np.maximum(time, received) <= as_of]
        if len(seen):
            found.append((int(seen.min()), int(seen.max())))
    if not found:
        raise DataError("E422", "--as-of", f"no event is visible by {say_instant(as_of)}", "choose a later moment")
    return min(low for low, _ in found), max(high for _, high in found)


def count_customers(files: Sequence[Path]) -> int:
    """Return how many customers the events table has."""
    return sum(len(table["customer_id"].unique()) for part in parts(files) for table in by_customer(part, ORDER[:2]))


def fingerprint(files: Sequence[Path]) -> str:
    """Return the SHA-256 of the events table as it lies in its files: the same for the same base, and the same rows beside it."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def labelled(source: Source, model: Model, cutoffs: Sequence[int], as_of: int, customers: int) -> Sample:
    """Return the customer-moments of a model: eligible customers at each cutoff, their features (and ``as_of``, the cutoff), and what came true.

    Args:
        source: The events.
        model: What is predicted, of whom.
        cutoffs: Moments, ascending; each horizon must be complete by ``as_of``.
        as_of: The moment of training: labels use the events received by then.
        customers: How many there are, to stay within memory.
    """
    share = min(1.0, CELLS / max(1, customers * len(cutoffs) * len(source.features.names)))

    features, traits = source.features, source.traits  # who is left out, and the keys that tell, stay on this machine

    def of_block(block: Block) -> pd.DataFrame:
        frame = block_frame(block, cutoffs, features, among=model.among, traits=traits)
        if share < 1:
            frame = frame[sampled(frame["customer_id"].to_numpy(), share)]
        return frame.assign(**{_CAME: _labels(block, frame, model, cutoffs, as_of)})

    answers = source.over(of_block, source.files, source.properties(model), ROWS, cutoffs[0])
    whole = pd.concat(map(source.kept, answers), ignore_index=True)
    labels = whole[_CAME].to_numpy()
    return Sample(whole[["as_of", *source.features.names]], labels, whole["as_of"].to_numpy(np.int64), whole["customer_id"].to_numpy())


def sampled(customers: Array, share: float) -> Array:
    """Return who belongs to a share of the customers, bool; decided by the id alone.

    >>> sampled(np.array(["a", "b", "c"], dtype=object), 1.0).tolist()
    [True, True, True]
    """
    hashes = pd.util.hash_array(np.asarray(customers, dtype=object), categorize=True)
    return np.asarray((hashes >> np.uint64(11)).astype(np.float64) / 2.0**53 < share)


def looked_at(block: Block, share: float) -> Array:
    """Return who of a block belongs to a share of the customers, bool (n), see `sampled`; an earlier identity goes with its owner."""
    chosen = sampled(block.customers, share)
    return chosen if block.owner is None else chosen[block.owner]


def _labels(block: Block, frame: pd.DataFrame, model: Model, cutoffs: Sequence[int], as_of: int) -> Array:
    answers = block_labels(block, cutoffs, model.predict, as_of)
    customer = block.places(frame["customer_id"].to_numpy())
    return answers[customer, np.searchsorted(np.asarray(cutoffs), frame["as_of"].to_numpy())]
