"""Engagement by segment, campaign and period: at the moment of sending, never 0/0, and alarms that are seldom false."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from predseg.language.time import DAY, WEEK, parse_instant
from predseg.outcomes.engagement import EVERYONE, MONDAY, Rate, benjamini_hochberg, engagement, members_when_sent, warnings
from predseg.outcomes.trend import changes
from predseg.segments.memberships import OPEN, Spells
from tests.outcomes.mailings import deliveries
from tests.outcomes.simulations import LONG

END = parse_instant("2026-03-02")  # a Monday


def spells(*rows: tuple[str, int, int]) -> Spells:
    return Spells(np.array([r[0] for r in rows], object), np.array([r[1] for r in rows], np.int64), np.array([r[2] for r in rows], np.int64))


def test_members_are_those_at_the_moment_of_sending() -> None:
    r = np.random.default_rng(1)
    sent = deliveries(r.integers(0, 6, 200), r.integers(0, 40, 200), r.random(200) < 0.3)
    rows = []
    for number in range(8):  # the last two were never written to
        ends = np.sort(r.choice(40, 4, replace=False))
        rows += [(f"c{number:05d}", int(ends[0]), int(ends[1])), (f"c{number:05d}", int(ends[1]), int(ends[2]))][: r.integers(0, 3)]
        rows += [(f"c{number:05d}", int(ends[3]), OPEN)] if r.random() < 0.5 else []
    inside = members_when_sent(sent, spells(*rows))
    expected = [any(sent.customers[c] == who and a <= t < b for who, a, b in rows) for c, t in zip(sent.customer, sent.time, strict=True)]
    assert list(inside) == expected and 0 < inside.sum() < 200


def test_figures_add_up_by_campaign_and_by_period() -> None:
    r = np.random.default_rng(2)
    time, clicked = END - r.integers(0, 120, 500) * DAY, r.random(500) < 0.2
    columns = {
        "campaign": r.integers(-1, 4, 500),
        "orders": r.integers(0, 2, 500),
        "revenue": r.integers(0, 9, 500) * 10_000,
        "opened": r.random(500) < 0.4,
    }
    sent = deliveries(r.integers(0, 50, 500), time, clicked, **columns)
    everyone, some = engagement(sent, {"some": spells(*((f"c{n:05d}", END - 60 * DAY, OPEN) for n in range(20)))}, END - 100 * DAY, END).segments
    assert everyone.segment == EVERYONE and everyone.figures.delivered == int((sent.time > END - 100 * DAY).sum())
    kept = (sent.time >= END - 60 * DAY) & (sent.customer < 20)
    assert some.figures.delivered == kept.sum() and some.figures.clicked == sent.clicked[kept].sum()
    assert some.figures.revenue == sent.revenue[kept].sum() / 10_000 and some.figures.converted == (sent.orders[kept] > 0).sum()
    for one in (everyone, some):
        for parts in (one.campaigns, one.periods):
            for name in ("delivered", "opened", "clicked", "orders", "revenue"):
                assert sum(getattr(part.figures, name) for part in parts) == getattr(one.figures, name)
    assert [c.campaign for c in sorted(everyone.campaigns, key=lambda c: c.campaign)] == ["", "m0", "m1", "m2", "m3"]
    assert all((p.start - MONDAY) % (4 * WEEK) == 0 and p.end - p.start == 4 * WEEK for p in everyone.periods)


def test_nothing_is_divided_by_nothing() -> None:
    found = engagement(deliveries([], [], []), {"empty": spells()}, 0, END)
    assert [e.figures.ctr for e in found.segments] == [Rate(None, 0.0, 1.0)] * 2 and found.recorded is None and not found.warnings
    only_machines = deliveries([0, 1], [END - DAY] * 2, [False, False], opened=[True, True], machine=[True, True])
    assert engagement(only_machines, {}, 0, END).segments[0].figures.click_to_open.value is None


def history(r: np.random.Generator, low: float = 1.0) -> Iterator[np.ndarray]:
    """A mailing every week for 24 weeks to 400 customers, who differ much; one in ten click; the last weeks of the first 200 differ by ``low``."""
    customer, week = np.repeat(np.arange(400), 24), np.tile(np.arange(24), 400)
    chance = r.beta(0.5, 4.5, 400)[customer] * np.where((customer < 200) & (week >= 20), low, 1.0)
    yield customer
    yield END - (23 - week) * WEEK - 4 * DAY
    yield r.random(len(customer)) < chance


def halves() -> dict[str, Spells]:
    return {name: spells(*((f"c{n:05d}", 0, OPEN) for n in who)) for name, who in (("first", range(200)), ("second", range(200, 400)))}


def test_a_low_click_rate_is_said_against_its_own_past_and_against_the_others() -> None:
    found = engagement(deliveries(*history(np.random.default_rng(3), low=0.3)), halves(), 0, END)
    assert {(w.segment, w.against) for w in found.warnings} >= {("first", "its own before"), ("first", "everyone else")}
    assert all(w.ctr.value < w.other.value and w.p < 0.05 for w in found.warnings) and "second" not in {w.segment for w in found.warnings}
    [first] = [e for e in found.segments if e.segment == "first"]
    assert [(t.at, t.after < t.before / 2) for t in first.turns] == [(END - 4 * WEEK, True)]


def test_alarms_are_seldom_false_though_customers_differ() -> None:
    times, alarms, turns = 1_000 if LONG else 120, 0, 0
    for number in range(times):
        found = engagement(deliveries(*history(np.random.default_rng(number))), halves(), 0, END)
        alarms += bool(found.warnings)
        turns += any(e.turns for e in found.segments)
    assert alarms <= 0.09 * times and turns <= 0.09 * times  # 5 %, and 1 % for each of three series, with room for chance


def test_without_the_likeness_of_customers_alarms_would_be_false_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """One customer in ten answers nearly always: then messages are no independent trials."""
    monkeypatch.setattr("predseg.outcomes.engagement._likeness", lambda sent, mask: 1.0)
    r, alarms = np.random.default_rng(5), 0
    for _ in range(60):
        loyal = r.random(300) < 0.1
        customer = np.repeat(np.arange(300), 12)
        time = np.tile(END - 4 * DAY - np.arange(12) * 2 * DAY, 300)
        sent = deliveries(customer, time, r.random(3_600) < np.where(loyal, 0.9, 0.02)[customer])
        half = {"some": customer_mask(sent, 150), EVERYONE: np.ones(3_600, bool)}
        alarms += bool(warnings(sent, half, END))
    assert alarms > 0.12 * 60


def customer_mask(sent: object, below: int) -> np.ndarray:
    return sent.customer < below  # type: ignore[attr-defined]


def test_the_correction_is_that_of_statsmodels() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    r = np.random.default_rng(4)
    for n in (1, 2, 7, 40):
        p = r.random(n) ** 3
        assert benjamini_hochberg(list(p)) == pytest.approx(multitest.multipletests(p, method="fdr_bh")[1], abs=1e-12)
    assert benjamini_hochberg([]) == []


def test_change_points_of_a_known_series() -> None:
    r = np.random.default_rng(6)
    n = r.integers(300, 900, 40)
    rate = np.where(np.arange(40) < 14, 0.05, np.where(np.arange(40) < 28, 0.09, 0.04))
    clicked = r.binomial(n, rate)
    found = changes(clicked, n)
    assert found == changes(clicked, n) and [abs(c.at - at) <= 1 for c, at in zip(found, (14, 28), strict=True)] == [True, True]
    assert [c.before for c in found] + [found[-1].after] == pytest.approx([0.05, 0.09, 0.04], abs=0.01)
    assert changes(np.zeros(7), np.ones(7)) == [] == changes(np.zeros(30), np.ones(30))
