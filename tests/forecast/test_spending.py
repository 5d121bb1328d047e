"""The classical laws against simulated customers who follow them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from predseg.forecast.rhythm import Rhythm
from predseg.forecast.spending import classical, expected_orders, expected_value, fit_order
from predseg.language.time import DAY

LAW = Rhythm("order", 0.8, 40.0, 0.7, 3.0, 60.0)
ORDER = (6.0, 4.0, 90.0)  # p, q, gamma: an order brings 180 on average


def shop(customers: int, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Customers by both laws, known for up to a year: what is known of them, and how many orders and how much spend 60 days bring."""
    r = np.random.default_rng(seed)
    p, q, gamma = ORDER
    rows, came = [], []
    for _ in range(customers):
        rate, leaves, scale = r.gamma(LAW.r, 1 / LAW.alpha), r.beta(LAW.a, LAW.b), r.gamma(q, 1 / gamma)
        age, t, here = r.uniform(30, 365), 0.0, True
        times, values, later, brought = [0.0], [r.gamma(p, 1 / scale)], 0, 0.0
        while here and t < age + LAW.days:
            t += r.exponential(1 / rate)
            if t < age:
                times.append(t)
                values.append(r.gamma(p, 1 / scale))
            elif t < age + LAW.days:
                later, brought = later + 1, brought + r.gamma(p, 1 / scale)
            here = r.random() >= leaves
        rows.append((age - times[-1], age, len(times), sum(values)))
        came.append((later, brought))
    names = ["days_since_order", "days_since_first_order", "count_order", "sum_value_order"]
    return pd.DataFrame(rows, columns=names, dtype=np.float64), np.array(came)


def test_the_expected_orders_are_the_simulated_ones() -> None:
    known, came = shop(20_000, 1)
    said = expected_orders(LAW, known)
    assert said.mean() == pytest.approx(came[:, 0].mean(), rel=0.03)
    best = said >= np.quantile(said, 0.9)
    assert said[best].mean() == pytest.approx(came[best, 0].mean(), rel=0.05), "also among those of whom most is expected"


def test_the_value_of_an_order_is_found_again() -> None:
    known, _ = shop(6_000, 2)
    counts, totals = known["count_order"].to_numpy(), known["sum_value_order"].to_numpy()
    found = fit_order(counts, totals / counts)
    for n, mean in ((0, 0.0), (1, 400.0), (10, 400.0)):
        [[true], [fitted]] = (expected_value(law, np.array([n]), np.array([mean])) for law in (ORDER, found))
        assert fitted == pytest.approx(true, rel=0.08)


def test_spend_is_foretold_and_who_never_ordered_gets_the_mean_of_those() -> None:
    known, came = shop(4_000, 3)
    test, truth = shop(4_000, 4)
    nobody = pd.DataFrame([[np.nan, np.nan, 0.0, np.nan]], columns=known.columns)
    known, y = pd.concat([known, nobody, nobody]), np.append(came[:, 1], [0.0, 8.0])
    said = classical(known, y, pd.concat([test, nobody]), "sum_value_order", "order", 60 * DAY)
    assert said is not None and said[-1] == 4.0
    assert said[:-1].mean() == pytest.approx(truth[:, 1].mean(), rel=0.1)
    order = np.argsort(-said[:-1])
    assert truth[order[:400], 1].mean() > 3 * truth[:, 1].mean()


def test_without_its_columns_or_customers_there_is_none() -> None:
    known, came = shop(150, 5)
    assert classical(known.drop(columns="sum_value_order"), came[:, 1], known, "sum_value_order", "order", 60 * DAY) is None
    assert classical(known[:90], came[:90, 1], known, "sum_value_order", "order", 60 * DAY) is None
