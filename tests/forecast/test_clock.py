"""The shop's own time: fast where everybody comes, told by nothing but visits between cutoffs, and the same a year later."""

from __future__ import annotations

import numpy as np
import pytest

from predseg.evaluate.block import Array
from predseg.forecast.clock import YEAR, Clock, fit_clock
from predseg.language.time import DAY

START = 700_000 * DAY


def counts(customers: int, rates: list[float], seed: int = 0) -> tuple[Array, Array, Array]:
    """Visits by then of customers who come at such rates a day between cutoffs 30 days apart; each is known from some cutoff on."""
    rng = np.random.default_rng(seed)
    made = np.cumsum(np.hstack([np.ones((customers, 1)), rng.poisson(30 * np.array(rates), (customers, len(rates)))]), axis=1)
    since = rng.integers(0, len(rates), customers)
    who, when = np.nonzero(np.arange(len(rates) + 1) >= since[:, None])
    return np.array([f"c{i}" for i in range(customers)], dtype=object)[who], START + 30 * DAY * when, made[who, when]


def test_it_runs_as_fast_as_the_same_customers_come() -> None:
    clock = fit_clock(*counts(2_000, [0.1, 0.2, 0.4, 0.1]))
    assert clock.moments == tuple(START + 30 * DAY * i for i in range(5))
    assert np.array(clock.speeds) == pytest.approx(np.array([0.5, 1.0, 2.0, 0.5]), rel=0.05)
    assert clock.passed(np.array([clock.moments[-1]]), np.array([120.0]))[0] == pytest.approx(120.0), "a plain day is the mean"


def test_the_order_of_rows_and_who_comes_later_change_nothing() -> None:
    customer, cutoff, visits = counts(300, [0.1, 0.3, 0.2])
    order = np.random.default_rng(1).permutation(len(customer))
    assert fit_clock(customer[order], cutoff[order], visits[order]) == fit_clock(customer, cutoff, visits)
    new = np.array(["late"], dtype=object)
    more = fit_clock(np.append(customer, new), np.append(cutoff, cutoff.max()), np.append(visits, 10_000.0))
    assert more == fit_clock(customer, cutoff, visits), "one cutoff says nothing of what happened between two"


def test_where_few_came_a_day_is_a_plain_day() -> None:
    few, many = (fit_clock(np.repeat(np.arange(n), 3), np.tile([0, 30 * DAY, 60 * DAY], n), np.tile([0.0, 1.0, 3.0], n)) for n in (2, 5_000))
    assert np.array(few.speeds) == pytest.approx(1.0, abs=0.1) and np.array(many.speeds) == pytest.approx(np.array([2 / 3, 4 / 3]), rel=0.01)


def test_nothing_to_tell_is_plain_days() -> None:
    one = np.array(["a", "b"], dtype=object), np.array([0, 0]), np.array([3.0, np.nan])
    still = np.array(["a", "a"], dtype=object), np.array([0, DAY]), np.array([3.0, 3.0])
    assert fit_clock(*one) == fit_clock(*still) == Clock()
    assert Clock().passed(np.array([5, 6]) * DAY, np.array([2.0, np.nan])).tolist()[0] == 2.0


@pytest.mark.parametrize("seed", range(5))
def test_days_add_up_and_come_again_every_year(seed: int) -> None:
    """Of any clock: what passed in two spans is what passed in both, never negative, and the same a year before and after what is known."""
    rng = np.random.default_rng(seed)
    steps = rng.integers(10, 60, 14)
    clock = Clock(tuple(int(START + DAY * s) for s in np.cumsum(steps)), tuple(rng.uniform(0.2, 3.0, 13)))
    now, a, b = clock.moments[-1] + rng.integers(-500, 500, 50) * DAY, rng.uniform(0, 300, 50), rng.uniform(0, 300, 50)
    both = clock.passed(now, a) + clock.passed(now - (a * DAY).astype(np.int64), b)
    assert clock.passed(now, a + b) == pytest.approx(both, abs=1e-6) and (clock.passed(now, a) >= 0).all()
    assert clock.passed(now, -a) == pytest.approx(-clock.passed(now + (a * DAY).astype(np.int64), a), abs=1e-6)
    begin, end, days = np.array([clock.moments[0]]), np.array([clock.moments[-1]]), np.array([90.0])
    if end[0] - begin[0] >= YEAR:
        assert clock.passed(end, -days) == pytest.approx(clock.passed(end - YEAR, -days)), "the season to come is that of a year before"
        assert clock.passed(begin, days) == pytest.approx(clock.passed(begin + YEAR, days)), "and that of a year before is the first one known"


def test_it_comes_back_from_json() -> None:
    clock = Clock((0, DAY, 5 * DAY), (0.5, 1.25))
    assert Clock.from_dict(clock.to_dict()) == clock
