"""Buy till you die: what a customer's own rhythm says, as features beside the others.

The BG/NBD law (Fader, Hardie and Lee, "Counting your customers the easy way", Marketing Science 24, 2005): customers order
at their own rates, which are Gamma distributed, and after each order some leave for good. Its four numbers are fitted by
maximum likelihood on the customers of the newest training cutoff, from recency, frequency and age alone. A customer with one
order gets the rate of the population: the prior of a cold start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from predseg.language.time import DAY

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray[Any, np.dtype[Any]]
ROWS, FEWEST = 5_000, 100
"""The most customers that it is fitted on, and the fewest that it is fitted for."""


@dataclass(frozen=True)
class Rhythm:
    """The fitted law of one event, and the horizon that is asked about.

    Attributes:
        event: As it stands in column names.
        r: Shape of the rates.
        alpha: Their scale, in days.
        a: First parameter of the share that leaves after an order.
        b: Second.
        days: The horizon.
    """

    event: str
    r: float
    alpha: float
    a: float
    b: float
    days: float

    @property
    def sources(self) -> tuple[str, str, str]:
        """The columns that it reads: recency, age, frequency."""
        return f"days_since_{self.event}", f"days_since_first_{self.event}", f"count_{self.event}"

    @property
    def names(self) -> tuple[str, str, str]:
        """The columns that it adds: still a customer (probability), rate a day, and the logit of at least one in the horizon."""
        return f"alive_{self.event}", f"pace_{self.event}", f"expected_{self.event}"

    @property
    def expected(self) -> str:
        """The column that alone says how likely the event is (a logit)."""
        return self.names[-1]

    def extend(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the frame with the columns of `names`; missing without an event. A frame that lacks its sources is returned as it is."""
        if not set(self.sources) <= set(frame.columns):
            return frame
        repeats, last, age = statistics(*(frame[name].to_numpy(np.float64) for name in self.sources))
        here = alive(repeats, last, age, self.r, self.alpha, self.a, self.b)
        pace = (self.r + repeats) / (self.alpha + age)
        added = dict(zip(self.names, (here, pace, at_least_one(here, self.r + repeats, self.alpha + age, self.days)), strict=True))
        import pandas as pd

        return pd.concat([frame, pd.DataFrame(added, index=frame.index)], axis=1)

    def declare(self, event: str) -> dict[str, dict[str, Any]]:
        """Return what its columns mean, as `predseg.forecast.reasons.declare` does; ``event`` as people say it."""
        says = ("probability of still being a customer", "usual number in 30 days", "expected from the own rhythm")
        return {
            name: {"kind": f"rhythm_{i}", "events": event, "when": "", "of": None, "says": s}
            for i, (name, s) in enumerate(zip(self.names, says, strict=True))
        }

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; `from_dict` gives the same back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Rhythm:
        """Return the rhythm of `to_dict`."""
        return cls(str(values["event"]), *(float(values[name]) for name in ("r", "alpha", "a", "b", "days")))


def statistics(recency: Array, age: Array, count: Array) -> tuple[Array, Array, Array]:
    """Return repeat orders, days from the first to the last, and days since the first; NaN without an order."""
    return np.where(count > 0, count - 1, np.nan), np.maximum(age - recency, 0.0), age


def alive(repeats: Array, last: Array, age: Array, r: float, alpha: float, a: float, b: float) -> Array:
    """Return the probability of not having left; 1 without a repeat order, when nobody has had the chance.

    >>> alive(np.array([3.0, 3.0]), np.array([90.0, 90.0]), np.array([90.0, 300.0]), 1.0, 30.0, 0.8, 2.5).round(2).tolist()
    [0.85, 0.09]
    """
    odds = np.log(a / (b + np.maximum(repeats, 1) - 1)) + (r + repeats) * (np.log(alpha + age) - np.log(alpha + last))
    return np.where(repeats > 0, 1 / (1 + np.exp(np.clip(odds, -50, 50))), np.where(np.isnan(repeats), np.nan, 1.0))


def at_least_one(here: Array, shape: Array, scale: Array, days: Array | float) -> Array:
    """Return the logit of at least one event in so many days, of who is still here, at a rate of Gamma law (``scale`` in days)."""
    some = np.clip(here * -np.expm1(shape * (np.log(scale) - np.log(scale + days))), 1e-9, 1 - 1e-9)
    return np.asarray(np.log(some) - np.log1p(-some))


def fit_rhythm(frame: pd.DataFrame, event: str, horizon: int) -> Rhythm | None:
    """Return the law of an event over the customers of a frame, each once; None where its columns or customers are missing."""
    law = Rhythm(event, 1.0, 30.0, 0.8, 2.5, horizon / DAY)
    if not event or not set(law.sources) <= set(frame.columns):
        return None
    known = learned_from(statistics(*(frame[name].to_numpy(np.float64) for name in law.sources)))
    if known is None:
        return None
    repeats, last, age = known
    return Rhythm(event, *likeliest(repeats, last, age, (law.r, law.alpha, law.a, law.b)), law.days)


def learned_from(statistic: Sequence[Array]) -> Array | None:
    """Return the statistics, float64 (statistics, customers), of at most `ROWS` customers who have all; None of fewer than `FEWEST`, or where none came again.

    The first statistic is how often each came again.
    """
    known = np.stack(statistic)
    known = known[:, ~np.isnan(known).any(axis=0)]
    known = known[:, :: max(1, -(-known.shape[1] // ROWS))]
    return known if known.shape[1] >= FEWEST and (known[0] > 0).any() else None


def likeliest(repeats: Array, last: Array, age: Array, start: Sequence[float]) -> tuple[float, float, float, float]:
    """Return the four numbers of the law under which these customers are likeliest."""
    from scipy.optimize import minimize
    from scipy.special import betaln, gammaln

    again = repeats > 0

    def loss(logs: Array) -> float:
        r, alpha, a, b = np.exp(logs)
        common = gammaln(r + repeats) - gammaln(r) + r * np.log(alpha) - betaln(a, b)
        stayed = betaln(a, b + repeats) - (r + repeats) * np.log(alpha + age)
        left = betaln(a + 1, b + np.maximum(repeats, 1) - 1) - (r + repeats) * np.log(alpha + last)
        return float(0.001 * np.sum(logs**2) - np.mean(common + np.where(again, np.logaddexp(stayed, left), stayed)))

    found = np.exp(minimize(loss, np.log(start), method="L-BFGS-B", bounds=[(-5, 8)] * 4).x)
    return float(found[0]), float(found[1]), float(found[2]), float(found[3])
