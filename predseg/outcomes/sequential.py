"""An interval that holds at every look: whoever looks daily and stops when it excludes zero is still wrong at most 5 times in 100.

Johari, Koomen, Pekelis and Walsh, "Peeking at A/B tests: why it matters, and what to do about it", KDD 2017: the mixture sequential
probability ratio test. Its prior spread of effects must not come from the effect that is seen.
"""

from __future__ import annotations

import math


def half_width(variance: float, spread: float, alpha: float = 0.05) -> float:
    """Return the half width of the interval around a difference.

    Args:
        variance: Of the difference, as estimated so far.
        spread: Standard deviation of the effects that are thought possible; the interval is narrowest when effects have this size.
        alpha: How often the interval may miss the truth at any of all looks.

    >>> round(half_width(0.01**2, 0.02), 4), round(1.96 * 0.01, 4)
    (0.0308, 0.0196)
    """
    if variance <= 0 or spread <= 0:
        return math.inf
    total = variance + spread**2
    return math.sqrt(variance * total / spread**2 * (math.log(total / variance) - 2 * math.log(alpha)))
