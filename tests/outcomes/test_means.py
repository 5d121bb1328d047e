"""Means of money: Welch against scipy, CUPED against the regression it is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from predseg.outcomes.means import Mean, compare, without_before


def spending(r: np.random.Generator, n: int, mean: float = 1.0) -> np.ndarray:
    """Most spend nothing, a few much."""
    return np.where(r.random(n) < 0.2, r.lognormal(3, 0.8, n) * mean, 0.0)


def test_welch_is_that_of_scipy() -> None:
    r = np.random.default_rng(1)
    for n, n0 in ((2, 3), (50, 500), (1000, 100)):
        a, b = r.normal(3, 2, n), r.normal(2.5, 1, n0)
        found, wanted = compare(Mean.of(a), Mean.of(b)), stats.ttest_ind(a, b, equal_var=False)
        assert found is not None
        assert found.p == pytest.approx(wanted.pvalue, rel=1e-9)
        assert found.interval == pytest.approx(tuple(wanted.confidence_interval(0.95)), rel=1e-9)


def test_intervals_cover_the_truth_of_heavy_tails() -> None:
    r, inside, ratios = np.random.default_rng(2), 0, 0
    truth = 0.2 * np.exp(3 + 0.8**2 / 2)
    for _ in range(1500):
        found = compare(Mean.of(spending(r, 600, 1.2)), Mean.of(spending(r, 600)))
        assert found is not None and found.ratio_interval is not None
        inside += found.interval[0] <= 0.2 * truth <= found.interval[1]
        ratios += found.ratio_interval[0] <= 1.2 <= found.ratio_interval[1]
    assert 0.935 <= inside / 1500 <= 0.965 and 0.935 <= ratios / 1500 <= 0.965


def test_too_little_to_compare_is_no_number() -> None:
    assert compare(Mean.of(np.array([1.0])), Mean.of(np.array([1.0, 2.0]))) is None
    assert compare(Mean.of(np.zeros(5)), Mean.of(np.zeros(9))) is None
    found = compare(Mean.of(np.array([0.0, 0.0, 1.0])), Mean.of(np.zeros(9)))
    assert found is not None and found.ratio is None


def test_what_was_known_before_is_taken_out_as_a_regression_does() -> None:
    api = pytest.importorskip("statsmodels.api")
    r = np.random.default_rng(3)
    before, group = r.gamma(2, 10, 4000), (r.random(4000) < 0.3).astype(int)
    after = 5 + 0.7 * before + 2 * group + r.normal(0, 4, 4000)
    found = without_before(after, before, group)
    fit = api.OLS(after, np.column_stack([np.ones(4000), group, before])).fit()
    effect = found[group == 1].mean() - found[group == 0].mean()
    assert effect == pytest.approx(fit.params[1], rel=1e-9)
    welch = compare(Mean.of(found[group == 1]), Mean.of(found[group == 0]))
    assert welch is not None and welch.interval == pytest.approx(fit.conf_int()[1], abs=0.02)
    assert found.mean() == pytest.approx(after.mean()) and found.var() < 0.2 * after.var()


def test_nothing_before_changes_nothing() -> None:
    after = np.array([1.0, 2.0, 3.0])
    assert np.array_equal(without_before(after, np.zeros(3), np.array([0, 1, 1])), after)
