"""Rates: intervals that cover, tests that agree with their intervals, counts of nobody and everybody, and oracles for all of it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from predseg.outcomes.rates import _difference_z, detectable, difference_interval, needed, p_value, ratio_interval, wilson

stats = pytest.importorskip("statsmodels.stats.proportion")
Counts = tuple[int, int, int, int]


def random_counts(number: int, seed: int) -> Iterator[Counts]:
    r = np.random.default_rng(seed)
    for _ in range(number):
        n, n0 = (int(v) for v in r.integers(5, 3000, 2))
        p, p0 = r.random(2) * r.choice([0.02, 0.3, 1.0])
        yield int(r.binomial(n, p)), n, int(r.binomial(n0, p0)), n0


def test_wilson_is_that_of_statsmodels() -> None:
    for x, n, _, _ in random_counts(50, 1):
        for level in (0.95, 0.99):
            assert wilson(x, n, level) == pytest.approx(stats.proportion_confint(x, n, 1 - level, "wilson"), abs=1e-12)
    assert [float(v) for v in wilson(0, 0)] == [0, 1] and float(wilson(0, 9)[0]) == 0 and float(wilson(9, 9)[1]) == 1


def test_the_p_value_and_the_ratio_are_those_of_statsmodels() -> None:
    compared = 0
    for x, n, x0, n0 in random_counts(60, 2):
        if min(x, x0, n - x, n0 - x0) == 0:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert p_value(x, n, x0, n0) == pytest.approx(stats.test_proportions_2indep(x, n, x0, n0, method="score").pvalue, abs=1e-12)
            wanted = stats.confint_proportions_2indep(x, n, x0, n0, method="score", compare="ratio")
        assert ratio_interval(x, n, x0, n0) == pytest.approx(wanted, rel=1e-6)
        compared += 1
    assert compared > 40


@pytest.mark.parametrize(
    ("counts", "interval"), [((56, 70, 48, 80), (0.0528, 0.3382)), ((9, 10, 3, 10), (0.1700, 0.8406)), ((5, 56, 0, 29), (-0.0326, 0.1933))]
)
def test_the_difference_is_that_of_the_literature(counts: Counts, interval: tuple[float, float]) -> None:
    """Newcombe, "Interval estimation for the difference between independent proportions", Statistics in Medicine 17 (1998), table II, method 6."""
    assert difference_interval(*counts) == pytest.approx(interval, abs=5e-5)


def test_the_statistic_is_that_of_the_likelihood_maximised_by_search() -> None:
    for x, n, x0, n0 in random_counts(40, 3):
        for d in (-0.3, -0.01, 0.02, 0.4):

            def unlikely(q: float, x: int = x, n: int = n, x0: int = x0, n0: int = n0, d: float = d) -> float:
                with np.errstate(all="ignore"):
                    terms = [k * np.log(v) if k else 0.0 for k, v in ((x, q + d), (n - x, 1 - q - d), (x0, q), (n0 - x0, 1 - q))]
                return -float(np.sum(terms))

            q = minimize_scalar(unlikely, bounds=(max(0.0, -d), min(1.0, 1 - d)), method="bounded", options={"xatol": 1e-12}).x
            spread = np.sqrt(((q + d) * (1 - q - d) / n + q * (1 - q) / n0) * (n + n0) / (n + n0 - 1))
            assert float(_difference_z(x, n, x0, n0, d)) == pytest.approx((x / n - x0 / n0 - d) / spread, rel=2e-3, abs=1e-4)


def test_test_and_intervals_never_contradict_each_other() -> None:
    r = np.random.default_rng(4)
    n, n0 = r.integers(10, 500, (2, 5000))
    x, x0 = r.binomial(n, r.random(5000) * 0.4), r.binomial(n0, r.random(5000) * 0.4)
    low, high = difference_interval(x, n, x0, n0)
    least, most = ratio_interval(x, n, x0, n0)
    sure = p_value(x, n, x0, n0) < 0.05
    assert 1000 < sure.sum() < 4000
    assert np.array_equal((low > 0) | (high < 0), sure) and np.array_equal((least > 1) | (most < 1), sure)
    assert np.all((low <= x / n - x0 / n0) & (x / n - x0 / n0 <= high))


@pytest.mark.parametrize("counts", [(0, 50, 0, 60), (50, 50, 60, 60), (0, 5, 5, 5), (5, 5, 0, 5), (0, 1, 1, 1)])
def test_nobody_and_everybody_are_no_special_case(counts: Counts) -> None:
    low, high = difference_interval(*counts)
    least, most = ratio_interval(*counts)
    assert -1 <= low < high <= 1 and 0 <= least < most and 0 <= p_value(*counts) <= 1


@pytest.mark.parametrize(("n", "n0", "p", "p0"), [(300, 300, 0.05, 0.05), (2000, 200, 0.04, 0.05), (100, 100, 0.5, 0.6), (4000, 400, 0.02, 0.02)])
def test_intervals_cover_the_truth(n: int, n0: int, p: float, p0: float) -> None:
    r = np.random.default_rng(5)
    x, x0 = r.binomial(n, p, 20_000), r.binomial(n0, p0, 20_000)
    low, high = difference_interval(x, n, x0, n0)
    least, most = ratio_interval(x, n, x0, n0)
    under, over = wilson(x, n)
    for covered in ((low <= p - p0) & (p - p0 <= high), (least <= p / p0) & (p / p0 <= most), (under <= p) & (p <= over)):
        assert 0.935 <= covered.mean() <= 0.965


@pytest.mark.parametrize(("rate", "other", "ratio"), [(0.04, 0.044, 1.0), (0.04, 0.06, 9.0), (0.3, 0.2, 0.5)])
def test_so_many_are_needed(rate: float, other: float, ratio: float) -> None:
    n = needed(rate, other, ratio)
    power = stats.power_proportions_2indep(other - rate, rate, round(n), ratio=ratio, return_results=False)
    r = np.random.default_rng(6)
    found = p_value(r.binomial(round(n * ratio), other, 20_000), round(n * ratio), r.binomial(round(n), rate, 20_000), round(n)) < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.03) and (ratio != 1 or power == pytest.approx(0.8, abs=0.01))
    assert other < rate or detectable(rate, n, n * ratio) == pytest.approx(other, rel=1e-3)


def test_what_cannot_be_seen_is_said() -> None:
    assert detectable(0.0, 100, 100) is None and detectable(0.9, 5, 5) is None
