"""Truths of a block's customers at one moment, eight in a byte: those of a thousand conditions stay in the processor's cache.

`predseg.evaluate.batch.layer` combines them as it does flags. What the last byte holds beyond the customers means nothing.
"""

from __future__ import annotations

import numpy as np

from predseg.columns import Array
from predseg.evaluate.batch import Truth


def of(truth: Truth) -> Truth:
    """Return a truth of n customers as bits: uint8 (n / 8, rounded up)."""
    true = np.packbits(truth.true)
    return Truth(true, np.packbits(truth.unknown)) if truth.unknown.flags.writeable else Truth.of(true)


def flags(bits: Array, customers: int) -> Array:
    """Return bits as bool (customers)."""
    return np.unpackbits(bits, count=customers).view(bool)


def number(bits: Array) -> int:
    """Return how many are set, in bits whose last byte holds nothing beyond the customers."""
    return int(np.bitwise_count(bits).sum())
