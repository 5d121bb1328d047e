"""Labels: the same language about the future, (cutoff, cutoff + horizon], asked of those who were eligible at the cutoff."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from predseg.evaluate.batch import compare, evaluate
from predseg.evaluate.block import Array, Block
from predseg.language.conditions import Prediction


def block_labels(block: Block, cutoffs: Sequence[int], prediction: Prediction, known: int) -> Array:
    """Return int8 (customers, cutoffs): 1 where the predicted statement came true; float64, the number, when a sum is predicted.

    Args:
        block: Whole histories.
        cutoffs: Moments c; the label looks at (c, c + horizon].
        prediction: What is predicted.
        known: The moment of training: events received by then count, later ones do not exist yet.

    An earlier, anonymous identity is labelled with what the customer did whom it turned out to be by ``known``.
    A missing number (an average over nothing) is 0: it did not come true.
    """
    ends = [c + prediction.horizon for c in cutoffs]
    [values] = evaluate(block, ends, [prediction.measure], known=known)
    comparison = prediction.comparison
    label = values.to_float() if comparison is None else compare(values, comparison).true.astype(np.int8)
    return label if block.owner is None or block.hidden is None else label[_owners(block, block.owner, block.hidden, known)]


def _owners(block: Block, owner: Array, hidden: Array, known: int) -> Array:
    """Return int64 (customers): whose label each has. A link learned of after ``known`` joins nobody yet."""
    joined = hidden[block.offsets[:-1]] <= known  # the rows of an earlier identity all end with its link
    return np.where(joined, owner, np.arange(len(owner)))
