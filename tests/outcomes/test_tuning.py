"""Tuning a rule: every candidate is the edited file, measured as the rule would decide; what only looked good does not hold up."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from predseg.language.time import DAY, WEEK
from predseg.language.yaml import read_documents
from predseg.outcomes.log import read_log
from predseg.outcomes.tuning import Tuning, clicks, conversions, mail_days, tune
from predseg.outcomes.variations import variations
from predseg.segments import edits
from predseg.segments.definitions import Vocabulary, arrange
from predseg.segments.facts import Facts
from predseg.segments.population import members_at
from tests.outcomes.mailings import deliveries
from tests.outcomes.simulations import LONG
from tests.segments.stores import Row, write_events

RULE = """\
segment: spenders
# who spent something
match:
  all:
    - {did: Order, sum: value, more_than: 50, within: 400 days}   # in all
    - {did: View, within: 400 days}
tests: []
"""
T0 = 1_000 * DAY


def changed(text: str, *layers: dict) -> dict[str, str]:
    """What each variation says, and the edited file."""
    segments = arrange(read_documents(text, "rules.yaml"), Vocabulary(frozenset({"churn"})))
    first = next(iter(segments.values()))
    return {v.says: edits.apply(text, [v.edit]) for v in variations(first, segments, {"rules.yaml": text}, layers)}


def test_one_thing_is_changed_and_the_rest_stays_to_the_letter() -> None:
    found = changed(RULE, {"not_in": "other"}, {"did": "View", "within": "400 days"})
    halved = found["`more_than: 25` instead of `more_than: 50` for Order"]
    assert halved == RULE.replace("more_than: 50", "more_than: 25")
    assert found["without {did: View, within: 400 days}"] == RULE.replace("    - {did: View, within: 400 days}\n", "")
    assert (
        "    - {did: View, within: 400 days}\n    - {not_in: other}\n"
        in changed(RULE + "---\nsegment: other\nmatch: {did: View}\n", {"not_in": "other"})["with {not_in: other} as well"]
    )
    assert "with {did: View, within: 400 days} as well" not in found, "it is there already"
    assert "with {not_in: other} as well" not in found, "there is no such segment"


@pytest.mark.parametrize(
    ("match", "wanted"),
    [
        ("{score: churn, top: 10%}", "match: {score: churn, top: 20%}"),
        ("{score: churn, at_least: 0.5}", "match: {score: churn, at_least: 0.6}"),
        ("{rfv: {of: Order, value: {at_least: 4}}}", "match: {rfv: {of: Order, value: {at_least: 5}}}"),
        ("{did: A, from: 365 days ago, until: 90 days ago}", "match: {did: A, from: 365 days ago, until: 45 days ago}"),
        ("{did: A, within: 3 days, then: {did_not: B, within: 24 hours}}", "match: {did: A, within: 3 days, then: {did_not: B, within: 12 hours}}"),
        ("{did: A, at_least: 2}", "match: {did: A, at_least: 3}"),
        ("{some: {at_least: 2, of: [{did: A}, {did: B}, {did: C}]}}", "match: {some: {at_least: 3, of: [{did: A}, {did: B}, {did: C}]}}"),
        ("{any: [{did: A, within: 9 days}, {did: B}]}", "match: {any: [{did: A, within: 18 days}, {did: B}]}"),
        ("{did: A}", "match: {all: [{did: A}, {did: Open, within: 90 days}]}"),
        ("{all: [{did: A}, {did: B}]}", "match: {did: B}"),
        ("{did: A, where: {price: {more_than: 5}}}", "match: {all: [{did: A, where: {price: {more_than: 5}}}, {did: Open, within: 90 days}]}"),
    ],
)
def test_thresholds_windows_and_layers_of_every_kind(match: str, wanted: str) -> None:
    found = list(changed(f"segment: one\nmatch: {match}\n", {"did": "Open", "within": "90 days"}).values())
    assert f"segment: one\n{wanted}\n" in found and len(set(found)) == len(found)


def world(folder: Path, r: np.random.Generator, effect: tuple[float, float]) -> tuple[list[Path], object]:
    """500 customers with a view and an order; a mail a week for 30 weeks; who spent over 100 clicks so many times more, in each part of history."""
    value = r.integers(60, 160, 500)
    rows: list[Row] = [(f"c{n:05d}", T0 - 2 * DAY, "Order", {"value": Decimal(int(v))}) for n, v in enumerate(value)]
    rows += [(f"c{n:05d}", T0 - 1 * DAY, "View", {}) for n in range(500)]
    customer, week = np.repeat(np.arange(500), 30), np.tile(np.arange(30), 500)
    more = np.where(value[customer] > 100, np.where(week < 20, *effect), 1.0)
    clicked = r.random(len(customer)) < 0.06 * more
    return write_events(folder, rows), deliveries(customer, T0 + week * WEEK + 9 * DAY // 24, clicked)


def look(folder: Path, effect: tuple[float, float], seed: int, keep: float = 0.4) -> Tuning:
    files, sent = world(folder, np.random.default_rng(seed), effect)
    segments = arrange(read_documents(RULE, "rules.yaml"), Vocabulary(frozenset()))
    texts, moments = {"rules.yaml": RULE}, mail_days(sent)  # type: ignore[arg-type]
    found = variations(segments["spenders"], segments, texts)
    return tune(files, segments, "spenders", found, moments, clicks(sent, moments), Facts(), lambda v: edits.diff(texts, [v.edit]), keep=keep)  # type: ignore[arg-type]


def test_the_threshold_that_is_better_is_found_and_holds_up(tmp_path: Path) -> None:
    found = look(tmp_path, (2.5, 2.5), 1)
    assert (
        found.proposal is not None
        and "`more_than: 100`" in found.proposal.says
        and "+    - {did: Order, sum: value, more_than: 100" in found.proposal.diff
    )
    assert found.proposal.size == pytest.approx(0.6, abs=0.06) and found.proposal.tested is not None and found.proposal.interval is not None
    assert found.proposal.interval[0] > 0 and found.split == T0 + 20 * WEEK and (found.first, found.last) == (T0, T0 + 29 * WEEK)


def test_what_was_better_only_where_it_was_looked_for_is_not_proposed(tmp_path: Path) -> None:
    found = look(tmp_path, (2.5, 1.0), 2)
    best = next(candidate for candidate in found.candidates if candidate.tested is not None)
    assert "`more_than: 100`" in best.says and (best.searched.rate or 0) > 1.2 * (found.searched.rate or 1)
    assert not best.holds and found.proposal is None


def test_a_change_that_gives_up_too_many_is_not_proposed(tmp_path: Path) -> None:
    found = look(tmp_path, (2.5, 2.5), 3, keep=0.9)
    assert found.proposal is None and all(candidate.size >= 0.9 for candidate in found.candidates if candidate.tested)


def test_without_an_effect_a_change_is_proposed_five_times_in_a_hundred_at_most(tmp_path: Path) -> None:
    times = 400 if LONG else 25
    proposed = sum(look(tmp_path, (1.0, 1.0), 100 + seed).proposal is not None for seed in range(times))
    assert proposed <= 0.1 * times


def test_tries_are_counted_where_the_rule_decides_at_that_moment(tmp_path: Path) -> None:
    r = np.random.default_rng(7)
    rows: list[Row] = [
        (f"c{r.integers(30):05d}", int(T0 + r.integers(0, 60) * DAY), str(r.choice(["Order", "View"])), {"value": Decimal(30)}) for _ in range(300)
    ]
    files = write_events(tmp_path, rows)
    rule = RULE.replace("400 days", "9 days")
    segments = arrange(read_documents(rule, "rules.yaml"), Vocabulary(frozenset()))
    moments = [T0 + day * DAY for day in range(3, 60, 7)]
    log = read_log(files, ["Order"], 10**18)
    found = tune(files, segments, "spenders", [], moments, conversions(log, moments, 5 * DAY), Facts(), lambda v: "")
    wanted = [0, 0, 0, 0]
    for number, t in enumerate(moments):
        members = set(members_at(files, segments, t, Facts())["spenders"])
        buyers = {c for c, at, event, _ in rows if event == "Order" and t < at <= t + 5 * DAY}
        part = int(number >= round(len(moments) * 2 / 3))
        wanted[2 * part] += len(members)
        wanted[2 * part + 1] += len(members & buyers)
    assert [found.searched.tried, found.searched.succeeded, found.tested.tried, found.tested.succeeded] == wanted and min(wanted) > 0


def test_deliveries_count_on_the_day_that_they_arrived() -> None:
    sent = deliveries([0, 0, 2, 2, 2], T0 + np.array([0, 8, 1, 30, 31]) * DAY // 4, [True, False, False, True, True])
    moments = mail_days(sent)
    assert moments == [T0, T0 + 2 * DAY, T0 + 7 * DAY]
    tried, succeeded = clicks(sent, moments)(np.array(["c00002", "c00001", "nobody", "c00000"], object))
    assert tried.tolist() == [[1, 0, 2], [0, 0, 0], [0, 0, 0], [1, 1, 0]]
    assert succeeded.tolist() == [[0, 0, 2], [0, 0, 0], [0, 0, 0], [1, 0, 0]]
    assert clicks(sent, moments[1:])(np.array(["c00002"], object))[0].tolist() == [[0, 2]]
