"""Leak detectors: does anything that was learned from know what it could not have known?

They run at every training, on the data at hand. A finding stops the training (exit 6) unless the model's ``allow:``
names it; either way it is recorded with the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from predseg.errors import GateError
from predseg.evaluate.block import Array, Block
from predseg.forecast import bags
from predseg.forecast.features import FeatureSet, block_features
from predseg.language.time import DAY

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

TOO_GOOD = 0.98
"""A single feature that separates the classes better than this, alone, is more likely the answer than a clue."""
OVERLAP = "train_test_overlap"


@dataclass(frozen=True)
class Leak:
    """One finding.

    Attributes:
        name: What ``allow:`` calls it: the feature, or ``train_test_overlap``.
        reason: What was seen, in words.
        allowed: Whether the model's ``allow:`` names it.
    """

    name: str
    reason: str
    allowed: bool = False


def with_future(block: Block, as_of: int, seed: int, per_customer: float = 2.0) -> Block:
    """Return the block with random events that nobody could know at ``as_of``: some happen later, some were only received later.

    They repeat the names and properties of the block's own events, about ``per_customer`` a customer, and come from one
    microsecond to 90 days too late, as many between 1 and 10 seconds as between 1 and 10 days.
    """
    rng = np.random.default_rng(seed)
    rows = len(block.time)
    if not rows:
        return block
    copies = rng.integers(0, rows, size=max(1, round(per_customer * block.size)))
    later = as_of + np.exp(rng.uniform(0, np.log(90 * DAY), size=len(copies))).astype(np.int64)
    late = rng.random(len(copies)) < 0.5
    happened = np.where(late, rng.integers(min(int(block.time.min()), as_of - DAY), as_of + 1, size=len(copies)), later)
    taken = np.concatenate([np.arange(rows), copies])
    time = np.concatenate([block.time, happened])
    customer = block.customer[taken]
    order = np.lexsort((time, customer))
    taken = taken[order]
    return replace(
        block,
        offsets=np.concatenate([[0], np.cumsum(np.bincount(customer, minlength=block.size))]),
        time=time[order],
        received=np.concatenate([block.received, later])[order],
        event=block.event[taken],
        properties={name: p.take(taken) for name, p in block.properties.items()},
        hidden=None if block.hidden is None else block.hidden[taken],
    )


def future_leaks(block: Block, as_of: Sequence[int], features: FeatureSet, seed: int = 0) -> list[Leak]:
    """Return the features that change when events from the future of each moment are appended; compared exactly."""
    changed: dict[str, int] = {}
    names = ("known customers", *(name for name, _ in features.columns), *([features.bag.name] if features.bag else []))
    for moment in as_of:
        before, after = (_answers(b, moment, features) for b in (block, with_future(block, moment, seed)))
        differs = ~((before == after) | (np.isnan(before) & np.isnan(after)))
        for position in np.flatnonzero(differs.any(axis=1)):
            changed[names[position]] = changed.get(names[position], 0) + int(differs[position].sum())
    return [
        Leak(name, f"changes for {n:,} of {block.size * len(as_of):,} customer-moments when later events are appended") for name, n in changed.items()
    ]


def _answers(block: Block, moment: int, features: FeatureSet) -> Array:
    known, matrix = block_features(block, [moment], features)
    collected = [_told_apart(bags.answer(block, [moment], features.bag))[None]] if features.bag else []
    return np.concatenate([known[None, :, 0].astype(np.float64), matrix[:, :, 0], *collected])


def _told_apart(lists: pa.LargeListArray) -> Array:
    """Return a number for each list, the same for the same."""
    import pandas as pd

    texts = np.array(["\0".join(some) for some in lists.to_pylist()], object)
    return np.asarray(pd.util.hash_array(texts) >> np.uint64(11)).astype(np.float64)


def single_feature_leaks(frame: pd.DataFrame, label: Array, names: Sequence[str]) -> list[Leak]:
    """Return the features that alone order the rows almost perfectly, in either direction; missing values come last."""
    found = []
    for name in names:
        strength = separation(_numbers(frame[name]), label)
        if strength > TOO_GOOD:
            found.append(Leak(name, f"separates the classes alone, with an AUC of {strength:.3f} (over {TOO_GOOD})"))
    return found


def _numbers(column: pd.Series) -> Array:
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column.dtype):
        return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))
    return np.asarray(column.astype("category").cat.codes.to_numpy(), dtype=np.float64)


def separation(values: Array, label: Array) -> float:
    """Return the larger of AUC and 1 − AUC of one column, ties counted half, missing values as the lowest.

    >>> separation(np.array([1.0, 2.0, 3.0, np.nan]), np.array([0, 1, 1, 0]))
    1.0
    """
    positives = int(label.sum())
    negatives = len(label) - positives
    if not positives or not negatives:
        return 0.5
    _, inverse, counts = np.unique(np.where(np.isnan(values), -np.inf, values), return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2
    area = float((middle[inverse][label == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))
    return max(area, 1 - area)


def overlap_leaks(train: pd.DataFrame, test: pd.DataFrame, horizon: int) -> list[Leak]:
    """Return what training and test share: the same customer at the same moment, or labels of training inside the test's time.

    Both frames have customer_id and as_of; a label of training at c is known at c + horizon, which must not pass the test's moment.
    """
    if not len(train) or not len(test):
        return []
    keys = ["customer_id", "as_of"]
    shared = len(train[keys].drop_duplicates().merge(test[keys].drop_duplicates(), on=keys))
    found = [Leak(OVERLAP, f"{shared:,} customer-moments are in training and in test")] if shared else []
    late = int((train["as_of"].to_numpy(np.int64) + horizon > int(test["as_of"].min())).sum())
    return found or ([Leak(OVERLAP, f"{late:,} training labels reach into the time of the test")] if late else [])


def judge(model: str, leaks: Sequence[Leak], allow: Sequence[str], force: bool = False) -> list[Leak]:
    """Mark what is allowed by name; ``force`` lets the rest pass, to be recorded by the gate.

    Raises:
        GateError: E601 when a finding is not allowed.
    """
    marked = [replace(leak, allowed=leak.name in allow) for leak in leaks]
    open_ = [leak for leak in marked if not leak.allowed]
    if open_ and not force:
        names = ", ".join(dict.fromkeys(leak.name for leak in open_))
        message = "; ".join(f"{leak.name} {leak.reason}" for leak in open_[:5]) + (f"; and {len(open_) - 5} more" if len(open_) > 5 else "")
        raise GateError(
            "E601", f"models.{model}", f"leakage: {message}", f"mend its source or leave it out; if you know better: `allow: [{names}]` in the model"
        )
    return marked
