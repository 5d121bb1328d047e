"""`predseg verify` agrees with itself, notices planted errors, and makes its counter-examples small."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import fields, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from predseg.columns import mixed_in
from predseg.evaluate import batch, block, live, moments
from predseg.evaluate.batch import Truth
from predseg.forecast import traits
from predseg.language import conditions as c
from predseg.language.measures import Measure
from predseg.language.time import DAY, HOUR
from predseg.segments import facts, live_scores, verify
from predseg.segments.publications import random_publications
from predseg.segments.worlds import SMALL, Palette, palette_of, random_condition, random_histories, to_table
from tests.segments.stores import STAMP, rules, write_events

SEED = 20_260_301


def test_the_executors_agree_on_random_rules() -> None:
    found = verify.verify(SEED, 40)
    assert found.agreed, found
    assert (found.trees, found.customers) == (40, 40 * verify.CUSTOMERS) and found.decisions > 40_000 and found.changes == found.customers


def test_the_same_seed_is_the_same_world() -> None:
    first, second = (verify._trial(random.Random("1 2"), None, None) for _ in range(2))
    assert first == second and first != verify._trial(random.Random("1 3"), None, None)


def test_random_rules_have_every_construct() -> None:
    seen: Counter[str] = Counter()
    for seed in range(600):
        for part in c.walk(random_condition(random.Random(seed), SMALL)):
            seen[type(part).__name__] += 1
            if isinstance(part, c.Did):
                seen.update([part.measure.aggregate, part.comparison.op, *(t.op for f in part.measure.events.where for t in f.tests)])
                window, step = part.measure.window, part.measure.then
                seen.update([f"window {window.start is not None} {window.until > 0} {window.since is not None}"])
                while step is not None:
                    seen.update([f"then {step.did}", f"within {step.within is not None}", f"same {step.same is not None}", f"times {step.at_least}"])
                    step = step.then
            if isinstance(part, c.Score):
                seen.update(f.name for f in fields(part) if f.name != "model" and getattr(part, f.name) not in (None, ()))
                seen.update([part.change.direction] if part.change else [])
    wanted = "Did Score In Trait Rfv Cluster All Any NoneOf Some Holds count sum avg min max distinct is not exists contains".split()
    wanted += "more_than at_least less_than at_most exactly between comparison top bottom deciles change rises falls".split()
    wanted += ["then True", "then False", "within True", "within False", "same True", "times 2"]
    wanted += ["window False False False", "window True False False", "window True True False", "window False True False", "window False False True"]
    assert not [name for name in wanted if seen[name] < 10], seen


def later(function: Callable[..., Any], by: int) -> Callable[..., Any]:
    """Ask as if it were a moment later."""
    return lambda self, segment, customers, at: function(self, segment, customers, np.asarray(at) + by)


def unknown_is_false(layer: Callable[..., Truth]) -> Callable[..., Truth]:
    def wrong(condition: c.Layer, parts: list[Truth]) -> Truth:
        return layer(condition, [Truth(p.true, np.zeros_like(p.unknown)) for p in parts])

    return wrong


def wrong_comparison(compare: Callable[..., Truth]) -> Callable[..., Truth]:
    def wrong(values: Any, comparison: Any) -> Truth:
        return compare(values, replace(comparison, op="at_least") if comparison.op == "more_than" else comparison)

    return wrong


def no_then(evaluate: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(rows: Any, at: Any, measures: list[Measure], **more: Any) -> Any:
        return evaluate(rows, at, [m if m.then is None or m.then.did else replace(m, then=replace(m.then, within=None)) for m in measures], **more)

    return wrong


def closed_window(evaluate: Callable[..., Any]) -> Callable[..., Any]:
    def wrong(rows: Any, at: Any, measures: list[Measure], **more: Any) -> Any:
        return evaluate(
            rows, at, [m if not m.window.start else replace(m, window=replace(m.window, start=m.window.start + 1)) for m in measures], **more
        )

    return wrong


def last_row(at_moments: Callable[..., Any]) -> Callable[..., Any]:
    return lambda rows, name, customers, at: at_moments(rows, name, customers, np.full(len(at), 2**62))


PLANTED: dict[str, tuple[Any, str, Callable[[Any], Any]]] = {
    "a share that includes its bound": (facts, "_share", lambda f: lambda beyond, share, n: f(beyond - 1, share, n)),
    "membership that ends a moment too early": (facts.Facts, "belongs", lambda f: later(f, 1)),
    "a score one run too new": (facts.Facts, "_groups", lambda f: lambda self, condition, at: f(self, condition, np.asarray(at) + 1)),
    "probabilities rounded to tenths": (facts, "units", lambda f: lambda p: f(np.round(p, 1))),
    "unknown taken for false": (batch, "layer", unknown_is_false),
    "more_than taken for at_least": (batch, "compare", wrong_comparison),
    "windows closed at their start": (batch, "evaluate", closed_window),
    "an absence that never waits": (batch, "evaluate", no_then),
    "an offset forgotten": (moments, "offsets", lambda f: lambda condition: frozenset(list(f(condition))[1:])),
    "late events seen at once": (block, "instants", lambda f: lambda column: f(column) // 7_000_000 * 7_000_000),
    "rfv scores that split ties": (verify, "rfv_scores", lambda f: lambda v: f(np.asarray(v) + np.arange(len(v)) / 1e3)),
    "the latest trait whatever the moment": (traits, "at_moments", last_row),
    "what comes late is never corrected": (live.Engine, "_correct", lambda f: lambda self, row: f(self, row)[:0]),
    "live scores that nobody sees": (live_scores.LiveScores, "last", lambda f: lambda self, *asked: None),
    "a live score that outlives a run": (live_scores.LiveScores, "last", lambda f: lambda self, model, who, t, since: f(self, model, who, t)),
    "live scores without an instant": (live_scores.LiveScores, "instants", lambda f: lambda self, model, who: []),
    "nobody is woken by the clock": (live.Engine, "_wake", lambda f: lambda self, person, at: None),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_error_is_found_and_shown_small(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, attribute, change = PLANTED[name]
    monkeypatch.setattr(where, attribute, change(getattr(where, attribute)))
    found = verify.verify(SEED, 80)
    assert found.difference is not None, f"{name} was not found"
    difference = found.difference
    assert difference.reference != difference.found and difference.sentence.startswith("customers who ")
    if name != "rfv scores that split ties":  # these are about everyone at once
        assert len(difference.events) <= 5, difference
        assert len(list(c.walk(difference.condition))) <= 4, difference


def test_shrinking_keeps_the_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "compare", wrong_comparison(batch.compare))
    trial = next(t for t in (verify._trial(random.Random(f"{SEED} {i}"), None, None) for i in range(100)) if verify.compare(t) is not None)
    before = verify.compare(trial)
    assert before is not None
    after = verify.shrink(trial, before)
    assert isinstance(after.condition, c.Did) and after.condition.comparison.op == "more_than"
    assert len(after.events) <= max(1, int(after.condition.comparison.low)), "no event that is not needed"


CART = """
segment: cart
match: {did: Add, where: {price: {at_least: 100}}, within: 3 days, then: {did_not: [Order, Add], within: 24 hours}}
---
segment: rich
match:
  all:
    - {did: Order, sum: value, more_than: 5000, within: 6 months}
    - {in: cart}
    - {score: churn, top: 10%}
    - {trait: {country: GB}}
    - {rfv: {of: Order, within: 365 days, recency: [4, 5]}}
    - {cluster: {personas: [loyal]}}
"""


def test_histories_for_given_rules_reach_their_boundaries() -> None:
    segments = rules(CART, "churn")
    palette = palette_of([s.match for s in segments.values()], 0)
    assert {"Add", "Order"} < set(palette.names) and {3 * DAY, DAY, 180 * DAY} <= set(palette.spans)
    assert {0, 3 * DAY - 1, 3 * DAY, 3 * DAY + 1, 4 * DAY} <= set(palette.times)
    assert {Decimal(5000), Decimal("5000.0001"), Decimal("4999.9999"), Decimal(2500)} <= set(palette.properties["value"])
    assert {Decimal(100), Decimal("99.9999")} <= set(palette.properties["price"]) and palette.traits["country"][:2] == (None, "GB")


def test_given_rules_are_compared_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    from predseg.segments.replay import inline_all

    segments = rules(CART, "churn")
    matches = [inline_all(s.match, segments) for s in segments.values()]
    assert verify.verify(SEED, 10, matches).agreed
    monkeypatch.setattr(moments, "offsets", lambda condition: frozenset())
    found = verify.verify(SEED, 10, matches).difference
    assert found is not None and found.what.startswith("changes in")


def real(folder: Path) -> list[Path]:
    r = random.Random(3)
    rows = [
        (f"c{r.randrange(60):02}", r.randrange(60) * 12 * HOUR, r.choice(["Add", "Order"]), {"value": Decimal(r.randrange(5))}) for _ in range(400)
    ]
    files = write_events(folder, [(*row[:3], {**row[3], "sku": r.choice(["a", "b"])}) for row in rows])
    pq.write_table(pq.read_table(files[0]), files[0], row_group_size=97)
    return files


def test_real_histories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = real(tmp_path)
    assert verify.verify(SEED, 30, (), files).agreed
    matches = [s.match for s in rules("segment: s\nmatch: {did: Order, sum: value, at_least: 3, within: 3 days}").values()]
    assert verify.verify(SEED, 10, matches, files).agreed
    monkeypatch.setattr(batch, "evaluate", closed_window(batch.evaluate))
    found = verify.verify(SEED, 60, matches, files).difference
    assert found is not None and len(found.events) <= 3


def test_customers_with_earlier_identities(tmp_path: Path) -> None:
    table = pa.table(
        {
            "customer_id": ["ann"] * 4 + ["bob"],
            "event": ["Add", "Order", "Add", "Order", "Add"],
            "event_time": pa.array([DAY, 2 * DAY, 3 * DAY, 4 * DAY, DAY], pa.int64()).cast(STAMP),
            "received_at": pa.array([DAY, 2 * DAY, 3 * DAY, 4 * DAY, DAY], pa.int64()).cast(STAMP),
            "value": pa.array([Decimal(1)] * 5, pa.decimal128(18, 4)),
            "anonymous_id": ["x", "x", None, None, None],
            "linked_at": pa.array([3 * DAY, 3 * DAY, None, None, None], pa.int64()).cast(STAMP),
        }
    )
    pq.write_table(table, tmp_path / "part.parquet")
    assert verify.verify(SEED, 20, (), [tmp_path / "part.parquet"]).agreed


def test_a_table_of_histories_has_their_kinds() -> None:
    r = random.Random(1)
    palette: Palette = SMALL
    table = to_table(random_histories(r, palette, 20), palette)
    kinds = {name: str(table[name].type) for name in palette.properties}
    assert kinds == {"value": "decimal128(18, 4)", "word": "string", "tags": "list<item: string>", "flag": "bool", "any": "string"}
    assert mixed_in(table.schema) == {"any"} and len({*map(type, palette.properties["any"])}) > 3


def test_everything_a_rule_asks_for_is_published() -> None:
    asked = 0
    for seed in range(100):
        r = random.Random(seed)
        condition = random_condition(r, SMALL)
        histories = random_histories(r, SMALL, 10)
        published = random_publications(r, SMALL, condition, histories)
        for part in c.walk(condition):
            if isinstance(part, c.Score | c.Rfv | c.Cluster | c.In | c.Trait):
                asked += 1
                assert {published.truth(who, part, t) for who in histories for t in SMALL.times} <= {True, False, None}
    assert asked > 50
