"""Who is held out, and who gets which variant: decided by a salted hash of the customer, the same in every place and at any time.

The position of a customer is the first 8 bytes of the SHA-256 of ``SEGMENT/holdout/CUSTOMER`` (or ``SEGMENT/split/CUSTOMER``) as a
fraction of 2^64. Positions below the holdout's share are held out; the others are split by their second position, so neither tells
anything of the other.

Each of k variants, in the order of their names, is at home in one k-th of the line and fills it from its start; what it needs beyond
that it takes from the ends of the other homes. So growing shares move nobody from one variant to another who need not move: up to one
k-th each, and with two variants always.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cached_property

from predseg.language.english import say_list

HOLDOUT = "holdout"
CONTROL = "control"
_LINE = 2**64


@dataclass(frozen=True)
class Experiment:
    """What a segment tries out: a share that is left alone, and variants for the rest. Shares are percentages.

    Attributes:
        segment: The salt: each segment draws its own customers.
        holdout: The share that nothing is sent to.
        split: Variants of the others with their shares, together at most 100; who is left over gets no variant.
    """

    segment: str
    holdout: Decimal = Decimal(0)
    split: tuple[tuple[str, Decimal], ...] = ()

    def group(self, customer_id: str) -> str:
        """Return ``holdout``, the name of a variant, or nothing for who is outside of the experiment.

        >>> Experiment("win_back", Decimal(10)).group("c000026"), Experiment("win_back", Decimal(10)).group("c000001")
        ('holdout', '')
        """
        if self.holdout and position(self.segment, HOLDOUT, customer_id) < self._held_out:
            return HOLDOUT
        if self.split:
            at = position(self.segment, "split", customer_id)
            return next((name for low, high, name in self._places if low <= at < high), "")
        return ""

    def groups(self, customers: Iterable[str]) -> list[str]:
        """Return the group of each customer."""
        return [self.group(customer) for customer in customers]

    def shares(self) -> dict[str, Fraction]:
        """Return which part of the members each group is meant to have; the empty name is who is outside."""
        rest = 1 - Fraction(self.holdout) / 100
        found = {HOLDOUT: 1 - rest} if self.holdout else {}
        found |= {name: rest * Fraction(share) / 100 for name, share in self.split}
        outside = 1 - sum(found.values(), Fraction(0))
        return {**found, "": outside} if outside else found

    def control(self) -> str:
        """Return what the others are compared with: the variant called control, else the holdout, else the first variant."""
        names = [name for name, _ in self.split]
        return CONTROL if CONTROL in names else HOLDOUT if self.holdout else names[0]

    def says(self) -> str:
        """Return the design in words.

        >>> Experiment("a", Decimal(10), (("control", Decimal(50)), ("short", Decimal(50)))).says()
        '10% are held out; of the others 50% get control and 50% get short'
        """
        held = f"{self.holdout.normalize():f}% are held out" if self.holdout else ""
        variants = say_list([f"{share.normalize():f}% get {name}" for name, share in self.split]) if self.split else ""
        return f"{held}; of the others {variants}" if held and variants else held or variants

    @cached_property
    def _held_out(self) -> int:
        return int(Fraction(self.holdout) / 100 * _LINE)

    @cached_property
    def _places(self) -> list[tuple[int, int, str]]:
        split = sorted(self.split)
        found = places([Fraction(share) / 100 for _, share in split])
        return [(int(low * _LINE), int(high * _LINE), split[who][0]) for low, high, who in found]


def position(segment: str, what: str, customer_id: str) -> int:
    """Return where a customer stands on the line of 2^64 places.

    >>> position("abandoned_cart", HOLDOUT, "c000001")
    6329604407524365500
    """
    return int.from_bytes(hashlib.sha256(f"{segment}/{what}/{customer_id}".encode()).digest()[:8], "big")


def places(shares: Sequence[Fraction]) -> list[tuple[Fraction, Fraction, int]]:
    """Return the stretches [low, high) of the line from 0 to 1 that belong to each of k shares.

    >>> places([Fraction(7, 10), Fraction(1, 10)]) == [
    ...     (0, Fraction(1, 2), 0), (Fraction(1, 2), Fraction(6, 10), 1), (Fraction(8, 10), 1, 0)]
    True
    """
    home = Fraction(1, len(shares))
    found = [(who * home, who * home + min(share, home), who) for who, share in enumerate(shares) if share]
    free = [(who * home + min(share, home), (who + 1) * home) for who, share in enumerate(shares) if share < home]
    for who, share in enumerate(shares):
        needed = share - home
        while needed > 0:
            low, high = free.pop()
            start = max(low, high - needed)
            found.append((start, high, who))
            needed -= high - start
            if start > low:
                free.append((low, start))
    return found
