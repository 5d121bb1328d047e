"""Visits, and what share of them ends in the predicted event: a customer who comes often and seldom buys is another one than who comes seldom and buys.

Orders are few; visits are many, and say sooner who is still a customer. How often somebody comes is the law of `predseg.forecast.rhythm`, on visits
instead of orders, and with the last sign of life, which an opened e-mail is too. What share of the visits ends in the event differs between customers by
a Beta law (after Moe and Fader, "Dynamic conversion behavior at e-commerce sites", Management Science 50, 2004): its two numbers are fitted by
maximum likelihood, and a customer with few visits gets the share of the population. The first visit and the first event are left out of both, for most are asked about
because they have one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from predseg.forecast.rhythm import Array, alive, at_least_one, learned_from, likeliest
from predseg.language.time import DAY

if TYPE_CHECKING:
    import pandas as pd

VISITS, FIRST_VISIT, SIGN = "count_visits", "days_since_first_visit", "days_since_sign_of_life"
"""The columns of a project that says what a visit is (see `predseg.forecast.features`)."""


@dataclass(frozen=True)
class Visits:
    """The fitted laws of visits and of an event at their end, and the horizon that is asked about.

    Attributes:
        event: As it stands in column names.
        r: Shape of the rates of visits.
        alpha: Their scale, in days.
        a: First parameter of the share that leaves after a visit.
        b: Second.
        hits: First parameter of the share of visits that end in the event.
        misses: Second.
        days: The horizon.
    """

    event: str
    r: float
    alpha: float
    a: float
    b: float
    hits: float
    misses: float
    days: float

    @property
    def sources(self) -> tuple[str, str, str, str]:
        """The columns that it reads: number of visits, days since the first and since the last sign of life, number of events."""
        return VISITS, FIRST_VISIT, SIGN, f"count_{self.event}"

    @property
    def names(self) -> tuple[str, str, str, str]:
        """The columns that it adds: still a customer (probability), visits a day, share that ends in the event, logit of at least one in the horizon."""
        return "alive_visits", "pace_visits", f"share_of_visits_{self.event}", f"expected_visits_{self.event}"

    @property
    def expected(self) -> str:
        """The column that alone says how likely the event is (a logit)."""
        return self.names[-1]

    def extend(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the frame with the columns of `names`; missing without a visit. A frame that lacks its sources is returned as it is."""
        if not set(self.sources) <= set(frame.columns):
            return frame
        again, last, age, events = _statistics(frame, self.sources)
        here = alive(again, last, age, self.r, self.alpha, self.a, self.b)
        pace = (self.r + again) / (self.alpha + age)
        share = (self.hits + events) / (self.hits + self.misses + again)
        some = at_least_one(here, self.r + again, self.alpha + age, self.days * share)
        added = dict(zip(self.names, (here, pace, share, some), strict=True))
        import pandas as pd

        return pd.concat([frame, pd.DataFrame(added, index=frame.index)], axis=1)

    def declare(self, event: str) -> dict[str, dict[str, Any]]:
        """Return what its columns mean, as `predseg.forecast.reasons.declare` does; ``event`` as people say it."""
        said = {
            "rhythm_0": ("visits", "probability of still being a customer, by visits and signs of life"),
            "rhythm_1": ("visits", "usual number of visits in 30 days"),
            "rhythm_share": (event, f"share of visits that end in {event}"),
            "rhythm_2": (event, f"{event} expected from visits, and the share of them that end so"),
        }
        return {
            name: {"kind": kind, "events": events, "when": "", "of": None, "says": says}
            for name, (kind, (events, says)) in zip(self.names, said.items(), strict=True)
        }

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; `from_dict` gives the same back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Visits:
        """Return the law of `to_dict`."""
        return cls(str(values["event"]), *(float(values[name]) for name in ("r", "alpha", "a", "b", "hits", "misses", "days")))


def _statistics(frame: pd.DataFrame, sources: tuple[str, str, str, str]) -> tuple[Array, Array, Array, Array]:
    """Return visits after the first, days from the first to the last sign of life, days since the first, and events after the first: never more than visits."""
    number, age, quiet, events = (frame[name].to_numpy(np.float64) for name in sources)
    again = np.where(np.isnan(age), np.nan, np.maximum(number - 1, 0))
    return again, np.maximum(age - quiet, 0.0), age, np.clip(events - 1, 0, again)


def fit_visits(frame: pd.DataFrame, event: str, horizon: int) -> Visits | None:
    """Return the laws over the customers of a frame, each once; None where its columns or customers are missing."""
    law = Visits(event, 1.0, 30.0, 0.8, 2.5, 1.0, 1.0, horizon / DAY)
    if not event or not set(law.sources) <= set(frame.columns):
        return None
    known = learned_from(_statistics(frame, law.sources))
    if known is None:
        return None
    again, last, age, events = known
    return Visits(event, *likeliest(again, last, age, (law.r, law.alpha, law.a, law.b)), *_shares(events, again), law.days)


def _shares(hits: Array, of: Array) -> tuple[float, float]:
    """Return the Beta law of shares that is likeliest to give so many hits of so many each."""
    from scipy.optimize import minimize
    from scipy.special import betaln

    def loss(logs: Array) -> float:
        a, b = np.exp(logs)
        return float(0.001 * np.sum(logs**2) - np.mean(betaln(a + hits, b + of - hits) - betaln(a, b)))

    found = np.exp(minimize(loss, np.zeros(2), method="L-BFGS-B", bounds=[(-5, 8)] * 2).x)
    return float(found[0]), float(found[1])
