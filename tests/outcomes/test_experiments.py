"""Experiments: an A/A is wrong as often as it says, an A/B finds the effect that is there, and a broken set-up is not interpreted."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, chisquare

from predseg.language.time import DAY
from predseg.outcomes.experiments import CONTACTED, Comparison, Result, Units, analyse, plan, share_test
from predseg.outcomes.log import Log
from tests.outcomes.simulations import LONG, START, WITHIN, design, peeking, simulate

END = START + 1_000 * DAY


def run(number: int, customers: int = 1_500, rate: float = 0.15, effects: dict[str, float] | None = None, holdout: str = "0", **split: str) -> Result:
    experiment = design(number, holdout, **split)
    units, log = simulate(experiment, customers, rate, effects or {}, number)
    return analyse(experiment, units, log, END, WITHIN)


def interpreted(times: int, **given: Any) -> Iterator[tuple[Comparison, ...]]:
    """The comparisons of so many experiments; of a thousand about one is withheld, because its shares look wrong by chance."""
    results = [run(number, **given) for number in range(times + times // 100)]
    found = [result.comparisons for result in results if not result.withheld]
    assert len(found) >= times
    yield from found[:times]


def within_chance(wrong: int, times: int, rate: float = 0.05) -> bool:
    """Whether so many of so many are within the central 99 % of the binomial."""
    low, high = binom.interval(0.99, times, rate)
    return bool(low <= wrong <= high)


def test_an_aa_is_wrong_five_times_in_a_hundred() -> None:
    times, wrong = 2_000 if LONG else 120, np.zeros(3, int)
    for [found] in interpreted(times, control="50", same="50"):
        assert found.value is not None and found.adjusted is not None
        wrong += [found.did.p < 0.05, found.value.p < 0.05, found.adjusted.p < 0.05]
    assert all(within_chance(int(w), times) for w in wrong), wrong


def test_intervals_hold_the_effect_that_was_simulated() -> None:
    times, inside = 2_000 if LONG else 100, np.zeros(4, int)
    for [found] in interpreted(times, effects={"new": 0.4}, control="50", new="50"):
        assert found.did.ratio_interval is not None and found.did.always is not None and found.adjusted is not None
        difference, ratio, always = found.did.interval, found.did.ratio_interval, found.did.always
        spent = 0.15 * 0.4 * (0.5 * 40 + 20)
        inside += [
            difference[0] <= 0.06 <= difference[1],
            ratio[0] <= 1.4 <= ratio[1],
            found.adjusted.interval[0] <= spent <= found.adjusted.interval[1],
            always[0] <= 0.06 <= always[1],
        ]
    assert all(within_chance(times - int(n), times) for n in inside[:3]), inside
    assert inside[3] >= inside[0]


def test_looking_after_every_twenty_customers_is_still_right() -> None:
    """The interval for repeated looks keeps its 5 %; the usual one is wrong six times as often, so the test can fail."""
    times = 5_000 if LONG else 1_000
    wrong, usual = peeking(times)
    assert wrong <= binom.ppf(0.995, times, 0.05) and usual > 0.2 * times


def test_of_many_variants_that_do_nothing_one_is_taken_for_better_five_times_in_a_hundred() -> None:
    times, wrong = 2_000 if LONG else 80, 0
    for found in interpreted(times, control="25", a="25", b="25", c="25"):
        wrong += any(comparison.did.p < 0.05 for comparison in found)
        assert all((c.did.p < 0.05) == (c.did.interval[0] > 0 or c.did.interval[1] < 0) for c in found)
    assert wrong <= binom.ppf(0.995, times, 0.05) and (not LONG or wrong > binom.ppf(0.005, times, 0.03))


def test_a_large_effect_is_found_and_said() -> None:
    [found] = run(1, 8_000, effects={"": 0.5}, holdout="20").comparisons
    assert (found.group, found.base) == (CONTACTED, "holdout")
    assert found.did.always is not None and found.did.always[0] > 0 and "holds however often one looks" in found.verdict
    assert found.spared is not None and found.spared > 0.01 and found.did.ratio == pytest.approx(1.5, abs=0.25)


def test_variants_are_compared_with_the_control_and_all_who_are_contacted_with_the_holdout() -> None:
    found = run(2, 3_000, holdout="10", control="50", new="40")
    assert [(c.group, c.base) for c in found.comparisons] == [("new", "control"), (CONTACTED, "holdout")]
    sizes = {group.name: group.customers for group in found.groups}
    assert list(sizes) == ["holdout", "control", "new"] and 0.8 < sum(sizes.values()) / 3_000 < 0.95


def test_a_mismatch_of_shares_withholds_the_result() -> None:
    experiment = design(3, "50")
    units, log = simulate(experiment, 3_000, 0.2, {}, 3)
    kept = np.array([group != "holdout" or number % 5 > 0 for number, group in enumerate(experiment.groups(units.customers))])
    found = analyse(experiment, Units(units.customers[kept], units.since[kept]), log, END, WITHIN)
    assert found.withheld and not found.comparisons and found.p_shares is not None and found.p_shares < 0.001
    assert not analyse(experiment, units, log, END, WITHIN).withheld


def test_the_test_of_shares_is_that_of_scipy() -> None:
    counts, shares = [480, 260, 230], [Fraction(1, 2), Fraction(1, 4), Fraction(1, 4)]
    assert share_test(counts, shares) == pytest.approx(chisquare(counts, [485, 242.5, 242.5]).pvalue, rel=1e-9)
    assert share_test([0, 0], shares[:2]) is None


def test_who_is_still_watched_waits_and_the_window_ends_where_it_says() -> None:
    experiment = design(4, "50")
    ids = np.array([f"c{n}" for n in range(60)], object)
    time = np.tile([START, START + 1, START + WITHIN, START + WITHIN + 1], 15)
    log = Log(ids, np.arange(60), time, np.zeros(60, np.int64), ("Order",), np.full(60, 10_000))
    units = Units(ids, np.where(np.arange(60) < 56, START, START + 1))
    early, late = (analyse(experiment, units, log, START + WITHIN + more, WITHIN) for more in (0, 1))
    assert (early.waiting, late.waiting) == (4, 0)
    assert sum(g.did for g in early.groups) == 28 and sum(g.customers for g in early.groups) == 56  # (since, since + within]
    assert sum(g.did for g in late.groups) == 28 + 2  # two of the last four: the first two come before they are watched


def test_so_many_are_needed_of_each_group() -> None:
    plans = plan(design(5, control="50", new="50"), 0.04, 0.1, 100.0), plan(design(6, "10"), 0.04, 0.1, 0.0)
    even, held = (one for one in plans if one is not None)
    assert even.target == pytest.approx(0.044) and even.customers == {"control": 39_475, "new": 39_475} and even.days == pytest.approx(789, abs=1)
    assert held.customers[CONTACTED] > 8.9 * held.customers["holdout"] and held.days is None
    both = plan(design(7, "10", control="50", new="50"), 0.04, 0.1, 1.0)
    assert both is not None and list(both.customers) == ["holdout", "control", "new"]


@pytest.mark.parametrize("split", [{}, {"control": "50", "new": "50"}])
def test_who_are_all_held_out_are_compared_with_nobody(split: dict[str, str]) -> None:
    found = run(3, 100, holdout="100", **split)
    assert [(g.name, g.share, g.assigned) for g in found.groups][0] == ("holdout", 1.0, 100)
    assert (found.p_shares, found.withheld, found.comparisons) == (None, False, ())
    assert plan(design(5, "100", **split), 0.04, 0.1, 100.0) is None


def test_nobody_in_it_is_no_division_by_zero() -> None:
    experiment = design(8, "10", control="50", new="50")
    empty = Log(np.zeros(0, object), *(np.zeros(0, np.int64) for _ in range(3)), ("Order",), np.zeros(0, np.int64))
    found = analyse(experiment, Units(np.array(["a"], object), np.array([START])), empty, START, WITHIN)
    assert [(g.rate, g.interval) for g in found.groups] == [(None, (0.0, 1.0))] * 3 and not found.comparisons
