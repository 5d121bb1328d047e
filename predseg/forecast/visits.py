"""Visits, and what share of them ends in the predicted event: a customer who comes often and seldom buys is another one than who comes seldom and buys.

Orders are few; visits are many, and say sooner who is still a customer. How often somebody comes is the law of `predseg.forecast.rhythm`, on visits
instead of orders and in the shop's own time (`predseg.forecast.clock`); who is still there tell all signs of life, which an opened e-mail is too. What
share of the visits ends in the event differs between customers by a Beta law (after Moe and Fader, "Dynamic conversion behavior at e-commerce sites",
Management Science 50, 2004), fitted by maximum likelihood; a customer with few visits gets the share of the population. Visits that something else brought,
such as an e-mail, say that somebody is there, not how often one comes, and what they end in has a share of its own.

The first visit, and an event within a week of it, are left out of the share: they made somebody a customer. Where everybody who is learned from has had the event, who
did not have it at once has had it since, and the likelihood is given that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from predseg.forecast.clock import PLAIN, Clock, fit_clock
from predseg.forecast.rhythm import Array, alive, at_least_one, learned_from, likeliest
from predseg.language.time import DAY

if TYPE_CHECKING:
    import pandas as pd

VISITS, BROUGHT, FIRST_VISIT = "count_visits", "count_visits_brought", "days_since_first_visit"
SIGNS, SIGN = "count_signs_of_life", "days_since_sign_of_life"
"""The columns of a project that says what a visit is (see `predseg.forecast.features`)."""
AS_OF = "as_of"
"""The moment of a row, microseconds: no feature, but what the shop's time is told by."""
AT_ONCE = 7.0
"""An event within so many days of the first visit is what made somebody come at all, and says nothing of the visits after it."""
START = (1.0, 30.0, 0.8, 2.5)
"""Where the search for the numbers of a law begins."""


def brought(event: str) -> str:
    """Return the column of how many events were brought by something else."""
    return f"count_{event}_brought"


@dataclass(frozen=True)
class Visits:
    """The fitted laws of visits, of life and of an event at the end of a visit, and the horizon that is asked about.

    Attributes:
        event: As it stands in column names.
        pace: Shape and scale (days) of the rates of visits.
        life: Shape and scale of the rates of signs of life, and the two parameters of the share that leaves after one.
        share: The two parameters of the share of visits that end in the event.
        brought: Those of events that something else brought, per visit; None where nobody says what brings them.
        signs: Whether there are signs of life beside visits.
        days: The horizon.
        clock: The shop's time.
    """

    event: str
    pace: tuple[float, float]
    life: tuple[float, float, float, float]
    share: tuple[float, float]
    brought: tuple[float, float] | None
    signs: bool
    days: float
    clock: Clock = PLAIN

    @property
    def sources(self) -> tuple[str, ...]:
        """The columns that it reads."""
        also: tuple[str, ...] = (BROUGHT, brought(self.event)) if self.brought else ()
        also += ((SIGNS,) if self.signs else ()) + ((AS_OF,) if self.clock.speeds else ())
        return VISITS, FIRST_VISIT, SIGN, f"count_{self.event}", f"days_since_first_{self.event}", *also

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
        known = _statistics(frame, self)
        here = alive(known.signs, known.last, known.age, *self.life)
        shape, scale = self.pace[0] + known.again, self.pace[1] + known.age
        share = _mean(self.share, known.events, known.again)
        if self.brought:
            share = share + _mean(self.brought, known.brought, known.again + 1)
        ahead = -self.clock.passed(_moments(frame), np.full(len(frame), -self.days))
        added = dict(zip(self.names, (here, shape / scale, share, at_least_one(here, shape, scale, ahead * share)), strict=True))
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
        numbers = {name: tuple(map(float, values[name])) for name in ("pace", "life", "share")}
        also = tuple(map(float, values["brought"])) if values["brought"] else None
        clock = Clock.from_dict(values["clock"])
        return cls(str(values["event"]), **numbers, brought=also, signs=bool(values["signs"]), days=float(values["days"]), clock=clock)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class _Known:
    """One number a customer.

    Attributes:
        again: Visits after the first, but for those that something else brought.
        signs: Those visits and all other signs of life; where no others are declared, all visits after the first.
        last: Days from the first visit to the last sign of life, of the shop's time.
        age: Those from the first visit to now.
        events: Events of their own accord, the one at once left out.
        brought: Events that something else brought.
        at_once: Whether there was one within a week of the first visit.
    """

    again: Array
    signs: Array
    last: Array
    age: Array
    events: Array
    brought: Array
    at_once: Array


def _statistics(frame: pd.DataFrame, law: Visits) -> _Known:
    def column(name: str) -> Array:
        return frame[name].to_numpy(np.float64)

    now, age = _moments(frame), column(FIRST_VISIT)
    count, also = column(f"count_{law.event}"), column(brought(law.event)) if law.brought else np.zeros(len(frame))
    absent = np.where(np.isnan(age), np.nan, 0.0)
    again = absent + np.maximum(column(VISITS) - (column(BROUGHT) if law.brought else 0.0) - 1, 0)
    signs = again + column(SIGNS) if law.signs else absent + np.maximum(column(VISITS) - 1, 0)
    at_once = age - column(f"days_since_first_{law.event}") < AT_ONCE
    age, quiet = law.clock.passed(now, age), law.clock.passed(now, column(SIGN))
    events, brought_ = np.clip(count - also - at_once, 0, again), np.clip(also, 0, again + 1)
    return _Known(again, signs, np.maximum(age - quiet, 0.0), age, events, brought_, at_once)


def _moments(frame: pd.DataFrame) -> Array:
    return frame[AS_OF].to_numpy(np.int64) if AS_OF in frame.columns else np.zeros(len(frame), np.int64)


def _mean(law: tuple[float, float], hits: Array, of: Array) -> Array:
    """Return the share that a customer is expected to have after so many hits of so many."""
    return np.asarray((law[0] + hits) / (law[0] + law[1] + of))


def clock_of(frame: pd.DataFrame, customer: Array) -> Clock:
    """Return the shop's time by the visits in a frame of many moments; plain days where it tells of none."""
    if not {VISITS, AS_OF} <= set(frame.columns):
        return PLAIN
    return fit_clock(customer, frame[AS_OF].to_numpy(np.int64), frame[VISITS].to_numpy(np.float64))


def fit_visits(frame: pd.DataFrame, event: str, horizon: int, clock: Clock = PLAIN) -> Visits | None:
    """Return the laws over the customers of a frame, each once; None where its columns or customers are missing."""
    told = {BROUGHT, brought(event)} <= set(frame.columns)
    law = Visits(event, START[:2], START, (1.0, 1.0), (1.0, 1.0) if told else None, SIGNS in frame.columns, horizon / DAY, clock)
    if not event or not set(law.sources) <= set(frame.columns):
        return None
    known = _statistics(frame, law)
    learned = learned_from((known.again, known.signs, known.last, known.age, known.events, known.brought, known.at_once))
    if learned is None:
        return None
    again, signs, last, age, events, also, at_once = learned
    since = (at_once == 0) & bool((frame[f"count_{event}"] > 0).all())
    share, other = _shares(events, also, again, since, told)
    return Visits(event, likeliest(again, last, age, START)[:2], likeliest(signs, last, age, START), share, other, law.signs, law.days, clock)


def _shares(hits: Array, also: Array, of: Array, since: Array, told: bool) -> tuple[tuple[float, float], tuple[float, float] | None]:
    """Return the Beta laws of shares that are likeliest to give so many hits of so many each, of visits' own ends and of what was brought.

    ``since`` (bool) had at least one hit of either kind, or would not be here.
    """
    from scipy.optimize import minimize
    from scipy.special import betaln

    def likely(a: float, b: float, hits: Array, of: Array) -> Array:
        return np.asarray(betaln(a + hits, b + of - hits) - betaln(a, b))

    def loss(logs: Array) -> float:
        a, b, c, d = np.exp(logs)
        none, found = likely(a, b, 0.0 * of, of), likely(a, b, hits, of)
        if told:
            none, found = none + likely(c, d, 0.0 * of, of + 1), found + likely(c, d, also, of + 1)
        given = np.where(since, np.log(-np.expm1(np.minimum(none, -1e-9))), 0.0)
        return float(0.001 * np.sum(logs**2) - np.mean(found - given))

    a, b, c, d = map(float, np.exp(minimize(loss, np.zeros(4), method="L-BFGS-B", bounds=[(-5, 8)] * 4).x))
    return (a, b), (c, d) if told else None
