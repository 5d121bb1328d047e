"""Every verb, adverb, filter and comparison becomes the declaration it says, and equal meanings become equal declarations."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest

from predseg.language import conditions as c
from predseg.language import measures as m
from predseg.language.documents import ADVERBS, parse_condition, parse_measure, parse_prediction
from predseg.language.time import DAY, HOUR, parse_instant
from predseg.language.yaml import read_documents
from tests.language.documents import CONDITIONS, MEASURES, random_document, to_yaml

ANY = m.Window()
ONE = m.Comparison("at_least", Decimal(1))


def condition(text: str) -> c.Condition:
    [node] = read_documents(text)
    return parse_condition(node)


def measure(text: str) -> m.Measure:
    [node] = read_documents(text)
    return parse_measure(node)


def prediction(text: str) -> c.Prediction:
    [node] = read_documents(text)
    return parse_prediction(node)


def did(*names: str, where: tuple[m.Filter, ...] = (), window: m.Window = ANY, comparison: m.Comparison = ONE, then: m.Step | None = None) -> c.Did:
    return c.Did(m.Measure(m.Events(names, where), window, then=then), comparison)


def where(*tests: m.Test) -> m.Filter:
    return m.Filter("p", tests)


def compared(op: m.Op, low: str | int, high: str | int | None = None) -> m.Comparison:
    return m.Comparison(op, Decimal(low), None if high is None else Decimal(high))


A, B = did("A"), did("B")
TABLE: dict[str, c.Condition] = {
    # verbs
    "{did: A}": A,
    "{did: Order Completed}": did("Order Completed"),
    "{did: [B, A]}": did("A", "B"),
    "{did_not: A}": did("A", comparison=compared("exactly", 0)),
    "{did_not: [A, B], within: 1 day}": did("A", "B", window=m.Window(DAY), comparison=compared("exactly", 0)),
    "{in: vip}": c.In("vip"),
    "{not_in: vip}": c.In("vip", member=False),
    "{all: [{did: A}, {did: B}]}": c.All((A, B)),
    "{any: [{did: A}, {did: B}]}": c.Any((A, B)),
    "{none: [{did: A}]}": c.NoneOf((A,)),
    "{some: {at_least: 2, of: [{did: A}, {did: B}]}}": c.Some(2, (A, B)),
    "{all: [{any: [{none: [{did: A}]}]}]}": c.All((c.Any((c.NoneOf((A,)),)),)),
    "{trait: {country: [GB, FR]}}": c.Trait(m.Filter("country", (m.Test("is", ("FR", "GB")),))),
    "{trait: {tier: {not: bronze}}}": c.Trait(m.Filter("tier", (m.Test("not", ("bronze",)),))),
    "{trait: {b: 1, a: true}}": c.All((c.Trait(m.Filter("a", (m.Test("is", (True,)),))), c.Trait(m.Filter("b", (m.Test("is", (Decimal(1),)),))))),
    "{cluster: {personas: bargain hunter}}": c.Cluster("personas", ("bargain hunter",)),
    "{cluster: {personas: [b, a]}}": c.Cluster("personas", ("a", "b")),
    "{rfv: {of: A, within: 365 days, recency: [5, 4], value: {at_least: 4}}}": c.Rfv(
        m.Events(("A",)), m.Window(365 * DAY), (("recency", (4, 5)), ("value", compared("at_least", 4)))
    ),
    "{rfv: {of: [B, A], where: {p: x}, frequency: 1}}": c.Rfv(m.Events(("A", "B"), (where(m.Test("is", ("x",))),)), ANY, (("frequency", (1,)),)),
    # scores
    "{score: churn, at_least: 0.5}": c.Score("churn", compared("at_least", "0.5")),
    "{score: churn, top: 10%}": c.Score("churn", top=Decimal(10)),
    "{score: churn, top: 2.5 %}": c.Score("churn", top=Decimal("2.5")),
    "{score: churn, bottom: 100%}": c.Score("churn", bottom=Decimal(100)),
    "{score: churn, decile: [2, 1, 2]}": c.Score("churn", deciles=(1, 2)),
    "{score: churn, decile: 10}": c.Score("churn", deciles=(10,)),
    "{score: churn, rises: 0.2, within: 14 days}": c.Score("churn", change=c.Change("rises", Decimal("0.2"), 14 * DAY)),
    "{score: churn, falls: 0.2, within: 1d}": c.Score("churn", change=c.Change("falls", Decimal("0.2"), DAY)),
    # comparisons
    "{did: A, more_than: 1}": did("A", comparison=compared("more_than", 1)),
    "{did: A, at_least: 2}": did("A", comparison=compared("at_least", 2)),
    "{did: A, less_than: 1}": did("A", comparison=compared("less_than", 1)),
    "{did: A, at_most: 0.5}": did("A", comparison=compared("at_most", "0.5")),
    "{did: A, exactly: 0}": did("A", comparison=compared("exactly", 0)),
    "{did: A, between: [1, 3]}": did("A", comparison=compared("between", 1, 3)),
    "{did: A, between: [2, 2]}": did("A", comparison=compared("between", 2, 2)),
    # aggregates
    "{did: A, sum: value, more_than: 5000}": c.Did(m.Measure(m.Events(("A",)), ANY, "sum", "value"), compared("more_than", 5000)),
    "{did: A, avg: value, at_least: -1.50}": c.Did(m.Measure(m.Events(("A",)), ANY, "avg", "value"), compared("at_least", "-1.5")),
    "{did: A, min: price, at_most: 3}": c.Did(m.Measure(m.Events(("A",)), ANY, "min", "price"), compared("at_most", 3)),
    "{did: A, max: price, exactly: 3}": c.Did(m.Measure(m.Events(("A",)), ANY, "max", "price"), compared("exactly", 3)),
    "{did: A, distinct: sku, at_least: 3}": c.Did(m.Measure(m.Events(("A",)), ANY, "distinct", "sku"), compared("at_least", 3)),
    # time
    "{did: A, within: 48 hours}": did("A", window=m.Window(48 * HOUR)),
    "{did: A, from: 12 months ago}": did("A", window=m.Window(360 * DAY)),
    "{did: A, until: 90 days ago}": did("A", window=m.Window(until=90 * DAY)),
    "{did: A, from: 12 months ago, until: 90 days ago}": did("A", window=m.Window(360 * DAY, 90 * DAY)),
    "{did: A, since: 2026-01-01}": did("A", window=m.Window(since=parse_instant("2026-01-01"))),
    "{did: A, since: 2026-01-01T10:00+01:00, until: 1 day ago}": did("A", window=m.Window(None, DAY, parse_instant("2026-01-01T09:00"))),
    # filters
    "{did: A, where: {p: x}}": did("A", where=(where(m.Test("is", ("x",))),)),
    "{did: A, where: {p: [y, x, 2, true]}}": did("A", where=(where(m.Test("is", (True, Decimal(2), "x", "y"))),)),
    "{did: A, where: {p: {not: [y, x]}}}": did("A", where=(where(m.Test("not", ("x", "y"))),)),
    "{did: A, where: {p: {contains: gold}}}": did("A", where=(where(m.Test("contains", ("gold",))),)),
    "{did: A, where: {p: {exists: false}}}": did("A", where=(where(m.Test("exists", (False,))),)),
    "{did: A, where: {p: {more_than: 100}}}": did("A", where=(where(m.Test("more_than", (Decimal(100),))),)),
    "{did: A, where: {p: {at_least: 2026-01-01}}}": did("A", where=(where(m.Test("at_least", ("2026-01-01",))),)),
    "{did: A, where: {p: {between: [1.5, 2]}}}": did("A", where=(where(m.Test("between", (Decimal("1.5"), Decimal(2)))),)),
    "{did: A, where: {p: {between: [a, c]}}}": did("A", where=(where(m.Test("between", ("a", "c"))),)),
    "{did: A, where: {p: {less_than: 9, at_least: 2}}}": did(
        "A", where=(where(m.Test("at_least", (Decimal(2),)), m.Test("less_than", (Decimal(9),))),)
    ),
    "{did_not: A, where: {p: x}}": did("A", where=(where(m.Test("is", ("x",))),), comparison=compared("exactly", 0)),
    # what follows
    "{did: A, then: {did: B}}": did("A", then=m.Step(m.Events(("B",)))),
    "{did: A, then: {did: B, within: 1 day, at_least: 2, same: p}}": did("A", then=m.Step(m.Events(("B",)), DAY, True, 2, "p")),
    "{did: A, then: {did_not: [B, A], within: 24 hours}}": did("A", then=m.Step(m.Events(("A", "B")), DAY, False)),
    "{did: A, then: {did_not: B, where: {p: x}, same: p}}": did(
        "A", then=m.Step(m.Events(("B",), (where(m.Test("is", ("x",))),)), None, False, 1, "p")
    ),
    "{did: A, then: {did: B, same: p, then: {did: C, same: p, then: {did_not: D}}}}": did(
        "A",
        then=m.Step(m.Events(("B",)), same="p", then=m.Step(m.Events(("C",)), same="p", then=m.Step(m.Events(("D",)), did=False))),
    ),
    # nobody can match an absence as long as the window; one microsecond less is possible in principle, one unit less in YAML
    "{did: A, within: 3 days, then: {did_not: B, within: 71 hours}}": did(
        "A", window=m.Window(3 * DAY), then=m.Step(m.Events(("B",)), 71 * HOUR, False)
    ),
    "{did: A, from: 10 days ago, until: 5 days ago, then: {did_not: B, within: 9 days}}": did(
        "A", window=m.Window(10 * DAY, 5 * DAY), then=m.Step(m.Events(("B",)), 9 * DAY, False)
    ),
    "{did: A, within: 3 days, then: {did: B, within: 30 days}}": did("A", window=m.Window(3 * DAY), then=m.Step(m.Events(("B",)), 30 * DAY)),
    "{did: A, within: 3 days, then: {did_not: B}}": did("A", window=m.Window(3 * DAY), then=m.Step(m.Events(("B",)), did=False)),
}


@pytest.mark.parametrize("text", TABLE)
def test_a_condition_is_declared_as_it_is_written(text: str) -> None:
    assert condition(text) == TABLE[text]


def test_the_table_uses_every_verb_and_adverb() -> None:
    """A verb or adverb added to the language needs its line above."""
    used: dict[str, set[str]] = {verb: set() for verb in ADVERBS}
    for text in TABLE:
        [node] = read_documents(text)
        [verb] = [key for key in node.value if key in ADVERBS]
        used[verb] |= set(node.value) - {verb}
    missing = {verb: set(adverbs) - used[verb] for verb, adverbs in ADVERBS.items()}
    assert not {verb: left for verb, left in missing.items() if left - set(m.COMPARISONS) - {"from", "until", "since"}}
    assert set(m.COMPARISONS) <= used["did"]


@pytest.mark.parametrize(
    ("text", "declared"),
    [
        ("{did: A}", m.Measure(m.Events(("A",)))),
        ("{did: A, within: 48 hours, where: {p: x}}", m.Measure(m.Events(("A",), (where(m.Test("is", ("x",))),)), m.Window(2 * DAY))),
        ("{did: A, days_since: first}", m.Measure(m.Events(("A",)), ANY, "days_since_first")),
        ("{did: A, days_since: last}", m.Measure(m.Events(("A",)), ANY, "days_since_last")),
        ("{did: A, gap: mean}", m.Measure(m.Events(("A",)), ANY, "gap_mean")),
        ("{did: A, gap: std, from: 2 days ago}", m.Measure(m.Events(("A",)), m.Window(2 * DAY), "gap_std")),
        ("{did: [A, B], gap: last}", m.Measure(m.Events(("A", "B")), ANY, "gap_last")),
        ("{did: A, sum: value, then: {did: B}}", m.Measure(m.Events(("A",)), ANY, "sum", "value", m.Step(m.Events(("B",))))),
    ],
)
def test_a_measure_is_a_condition_without_its_threshold(text: str, declared: m.Measure) -> None:
    assert measure(text) == declared


@pytest.mark.parametrize(
    ("text", "declared"),
    [
        ("{did: A, within_next: 30 days}", c.Prediction(m.Measure(m.Events(("A",)), m.Window(30 * DAY)), ONE, 30 * DAY)),
        ("{did_not: A, within_next: 90d}", c.Prediction(m.Measure(m.Events(("A",)), m.Window(90 * DAY)), compared("exactly", 0), 90 * DAY)),
        (
            "{did: A, sum: value, more_than: 100, within_next: 1 year, where: {p: x}}",
            c.Prediction(
                m.Measure(m.Events(("A",), (where(m.Test("is", ("x",))),)), m.Window(365 * DAY), "sum", "value"),
                compared("more_than", 100),
                365 * DAY,
            ),
        ),
    ],
)
def test_a_prediction_is_a_measure_over_its_horizon(text: str, declared: c.Prediction) -> None:
    assert prediction(text) == declared


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("{did: A, within: 48 hours}", "{within: 2 days, did: A}"),
        ("{did: [A, B, A]}", "{did: [B, A]}"),
        ("{did: A}", "{did: A, at_least: 1}"),
        ("{did: A, at_least: 1.0}", "{did: A}"),
        ("{did_not: A}", "{did: A, exactly: 0}"),
        ("{did: A, within: 6 months}", "{did: A, from: 180 days ago}"),
        ("{did: A, where: {a: 1, b: 2}}", "{did: A, where: {b: 2, a: 1}}"),
        ("{did: A, where: {a: [x, y, x]}}", "{did: A, where: {a: [y, x]}}"),
        ("{did: A, where: {a: x}}", "{did: A, where: {a: [x]}}"),
        ("{did: A, where: {a: [10, 9.0, 9]}}", "{did: A, where: {a: [9, 10.00]}}"),
        ("{did: A, where: {a: {not: [true, 1]}}}", "{did: A, where: {a: {not: [1, true, 1.0]}}}"),
        ("{did: A, where: {a: {at_least: 1, less_than: 2}}}", "{did: A, where: {a: {less_than: 2, at_least: 1}}}"),
        ("{did: A, since: 2026-01-01}", "{did: A, since: '2026-01-01T01:00+01:00'}"),
        ("{score: m, decile: [2, 1]}", "{score: m, decile: [1, 2, 2]}"),
        ("{trait: {b: 1, a: 2}}", "{trait: {a: 2, b: 1}}"),
    ],
)
def test_equal_meanings_are_equal_declarations(one: str, other: str) -> None:
    assert condition(one) == condition(other) and hash(condition(one)) == hash(condition(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("{did: A, where: {p: true}}", "{did: A, where: {p: 1}}"),  # Python holds True == 1: the kernel would answer one for the other
        ("{did: A, where: {p: [true, 1]}}", "{did: A, where: {p: 1}}"),
        ("{did: A, where: {p: 1}}", "{did: A, where: {p: '1'}}"),
        ("{did: A, where: {p: {exists: true}}}", "{did: A, where: {p: true}}"),
        ("{did: A, within: 1 day}", "{did: A, until: 1 day ago}"),
        ("{did: A, more_than: 0.5}", "{did: A}"),
        ("{in: s}", "{not_in: s}"),
        ("{all: [{did: A}]}", "{any: [{did: A}]}"),
    ],
)
def test_different_meanings_are_different_declarations(one: str, other: str) -> None:
    assert condition(one) != condition(other)


@pytest.mark.parametrize("seed", range(30))
def test_neither_the_order_of_keys_nor_of_names_matters(seed: int) -> None:
    """Random rules, their mappings and name lists shuffled, are the same declaration."""
    document = random_document(random.Random(seed))
    for other in range(5):
        assert condition(to_yaml(document, shuffle=random.Random(other))) == condition(to_yaml(document)), f"seed {seed}, shuffle {other}"


@pytest.mark.parametrize("text", [*CONDITIONS, *TABLE])
def test_the_corpus_is_accepted(text: str) -> None:
    hash(condition(text))


@pytest.mark.parametrize("text", MEASURES)
def test_the_corpus_of_measures_is_accepted(text: str) -> None:
    assert m.column_name(measure(text))


def test_names_and_properties_reach_into_the_steps() -> None:
    found = measure("{did: A, where: {p: 1}, sum: value, then: {did: B, same: q, then: {did_not: C, where: {r: 1}}}}")
    assert found.names() == {"A", "B", "C"}
    assert found.properties() == {"p", "value", "q", "r"}


class TestComparison:
    """Thresholds are exact decimals, whatever the unit of the number."""

    @pytest.mark.parametrize(
        ("op", "low", "high", "scale", "bounds"),
        [
            ("more_than", "5000", None, 10_000, (50_000_001, None)),
            ("more_than", "0.00005", None, 10_000, (1, None)),  # between two ten-thousandths
            ("at_least", "0.00005", None, 10_000, (1, None)),
            ("less_than", "0.00005", None, 10_000, (None, 0)),
            ("at_most", "0.00005", None, 10_000, (None, 0)),
            ("exactly", "0.00005", None, 10_000, (1, 0)),  # nothing passes
            ("between", "-1.5", "1.5", 1, (-1, 1)),
            ("more_than", "-1", None, 1, (0, None)),
            ("less_than", "-1", None, 1, (None, -2)),
            # 33 digits: decimal arithmetic of 28 digits would round this to a threshold that is met
            ("at_least", "123456789012345.000000000000000001", None, 10_000, (1_234_567_890_123_450_001, None)),
            ("at_most", "123456789012344.999999999999999999", None, 10_000, (None, 1_234_567_890_123_449_999)),
        ],
    )
    def test_bounds(self, op: m.Op, low: str, high: str | None, scale: int, bounds: tuple[int | None, int | None]) -> None:
        assert compared(op, low, high).bounds(scale) == bounds

    @pytest.mark.parametrize("op", m.COMPARISONS)
    def test_bounds_accept_what_the_comparison_accepts(self, op: m.Op) -> None:
        r = random.Random(op)
        for _ in range(300):
            low = Decimal(r.randrange(-30, 30)) / r.choice([1, 2, 3, 8, 10])
            comparison = m.Comparison(op, low, low + r.randrange(3) if op == "between" else None)
            floor, ceiling = comparison.bounds(10)
            for units in range(-60, 60):
                inside = (floor is None or units >= floor) and (ceiling is None or units <= ceiling)
                assert inside == comparison.accepts(Decimal(units) / 10), (comparison, units)


def test_columns_are_named_by_rule() -> None:
    names = {text: m.column_name(measure(text)) for text in MEASURES}
    assert names["{did: Order Completed, within: 90 days}"] == "count_order_completed_90d"
    assert names["{did: Order Completed, sum: value, within: 365 days}"] == "sum_value_order_completed_365d"
    assert names["{did: Order Completed, days_since: last}"] == "days_since_order_completed"
    assert names["{did: Order Completed, days_since: first}"] == "days_since_first_order_completed"
    assert names["{did: [Email Opened, Email Link Clicked], distinct: campaign}"] == "distinct_campaign_email_link_clicked_or_email_opened"
    assert names["{did: Order Completed, gap: std}"] == "gap_std_order_completed"
    assert names["{did: Product Viewed, within: 36 hours}"] == "count_product_viewed_36h"
