"""Every construct reads as English: the rest of a sentence that begins with "customers who"."""

from __future__ import annotations

import random

import pytest

from predseg.language import conditions as c
from predseg.language.english import say_condition, say_list, say_measure
from tests.language.documents import random_document, to_yaml
from tests.language.test_documents import condition, measure

SENTENCES = {
    # verbs
    "{did: A}": "did A",
    "{did: [B, A]}": "did A or B",
    "{did: [C, B, A]}": "did A, B or C",
    "{did_not: A, within: 1 day}": "did not do A in the last 24 hours",
    "{in: vip}": "are in segment vip",
    "{not_in: vip}": "are not in segment vip",
    "{trait: {country: [GB, FR]}}": "have country FR or GB",
    "{trait: {tier: {not: bronze}}}": "have tier not bronze",
    "{trait: {email: {exists: true}}}": "have an email",
    "{cluster: {personas: [b, a]}}": "belong to a or b of personas",
    "{score: churn, at_least: 0.5}": "have a churn probability of at least 0.5",
    "{score: spend, more_than: 100}": "have a spend score of more than 100",
    "{score: churn, top: 10%}": "are in the top 10% by churn score",
    "{score: churn, bottom: 2.50%}": "are in the bottom 2.5% by churn score",
    "{score: churn, top: 100%}": "are in the top 100% by churn score",
    "{score: churn, decile: [2, 1]}": "are in decile 1 or 2 of the churn score",
    "{score: churn, rises: 0.2, within: 14 days}": "have a churn probability that rose by at least 0.2 within 14 days",
    "{score: churn, falls: 0.2, within: 1d}": "have a churn probability that fell by at least 0.2 within 24 hours",
    "{rfv: {of: A, within: 365 days, recency: [5, 4], value: {at_least: 4}}}": (
        "have a recency score of 4 or 5 and a value score of at least 4 out of 5 for A in the last 365 days"
    ),
    # how often, how much
    "{did: A, at_least: 2}": "did A at least 2 times",
    "{did: A, exactly: 1}": "did A exactly 1 time",
    "{did: A, exactly: 0}": "did not do A",
    "{did: A, between: [1, 3]}": "did A between 1 and 3 times",
    "{did: A, more_than: 1500}": "did A more than 1,500 times",
    "{did: A, sum: value, more_than: 5000, within: 6 months}": "have a total value of A of more than 5,000 in the last 180 days",
    "{did: A, avg: value, less_than: 12.50}": "have an average value of A of less than 12.50",
    "{did: A, min: price, at_most: 3}": "have a smallest price of A of at most 3",
    "{did: A, max: price, exactly: 3}": "have a largest price of A of exactly 3",
    "{did: A, distinct: sku, at_least: 3}": "have a number of different sku of A of at least 3",
    # when
    "{did: A, from: 12 months ago, until: 90 days ago}": "did A between 360 days and 90 days ago",
    "{did: A, until: 90 days ago}": "did A until 90 days ago",
    "{did: A, since: 2026-01-01}": "did A since 2026-01-01T00:00Z",
    "{did: A, since: 2026-01-01, until: 1 day ago}": "did A since 2026-01-01T00:00Z and until 24 hours ago",
    # which
    "{did: A, where: {category: Luxury Watches}}": "did A with category Luxury Watches",
    "{did: A, where: {p: [x, 2, true]}}": "did A with p true, 2 or x",
    "{did: A, where: {p: {not: [x, y]}}}": "did A with p not x nor y",
    "{did: A, where: {p: {contains: gold}, q: {exists: false}}}": "did A with p containing 'gold' and no q",
    "{did: A, where: {p: {at_least: 2, less_than: 9}}}": "did A with p at least 2 and p less than 9",
    "{did: A, where: {p: {between: [1.5, 2]}}}": "did A with p between 1.5 and 2",
    # what followed
    "{did: A, then: {did: B, within: 1 day, at_least: 2, same: p}}": "did A followed by at least 2 B with the same p within 24 hours",
    "{did: A, within: 3 days, then: {did_not: [B, A], within: 24 hours}}": "did A in the last 3 days, followed by no A or B within 24 hours",
    "{did: A, within: 3 days, at_least: 2, then: {did: B}}": "did A followed by B at least 2 times in the last 3 days",
    "{did: A, then: {did: B, then: {did_not: C}}}": "did A followed by B followed by no C",
    # layers
    "{all: [{did: A}, {did: B}]}": "did A and did B",
    "{any: [{did: A}, {did: B}, {in: s}]}": "did A, or did B, or are in segment s",
    "{none: [{did: A}]}": "do not match this: did A",
    "{none: [{did: A}, {did: B}]}": "match none of these: did A; did B",
    "{some: {at_least: 2, of: [{did: A}, {did: B}, {did: C}]}}": "match at least 2 of these: did A; did B; did C",
    "{all: [{any: [{did: A}, {did: B}]}, {did_not: C}]}": "(did A or did B) and did not do C",
}


@pytest.mark.parametrize("text", SENTENCES)
def test_a_rule_reads_as_a_sentence(text: str) -> None:
    assert say_condition(condition(text)) == SENTENCES[text]


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("{did: A}", "number of A"),
        ("{did: A, within: 90 days}", "number of A in the last 90 days"),
        ("{did: A, sum: value, within: 1 year}", "total value of A in the last 365 days"),
        ("{did: A, avg: value}", "average value of A"),
        ("{did: A, min: value}", "smallest value of A"),
        ("{did: A, max: value}", "largest value of A"),
        ("{did: A, distinct: sku}", "number of different sku of A"),
        ("{did: A, days_since: first}", "days since the first A"),
        ("{did: A, days_since: last, where: {p: x}}", "days since the last A with p x"),
        ("{did: A, gap: mean}", "mean gap between A, in days"),
        ("{did: A, gap: std}", "spread of the gaps between A, in days"),
        ("{did: A, gap: last, within: 1 year}", "last gap between A, in days in the last 365 days"),
        ("{did: A, sum: value, then: {did_not: B}}", "total value of A followed by no B"),
    ],
)
def test_a_measure_reads_as_a_phrase(text: str, phrase: str) -> None:
    assert say_measure(measure(text)) == phrase


def test_a_segment_put_in_its_place_reads_as_its_rule() -> None:
    rule = condition("{did: A}")
    assert say_condition(c.Holds((rule,))) == "did A"
    assert say_condition(c.Holds((rule,), member=False)) == "do not match this: did A"


@pytest.mark.parametrize("seed", range(100))
def test_every_random_rule_can_be_said(seed: int) -> None:
    """No construct is forgotten: every event name of the rule is in its sentence, on one line."""
    text = to_yaml(random_document(random.Random(seed)))
    rule = condition(text)
    sentence = say_condition(rule)
    assert "\n" not in sentence and "None" not in sentence and "Decimal" not in sentence
    assert all(name in sentence for measured in c.measures(rule) for name in measured.names())


def test_lists_are_joined_as_in_a_sentence() -> None:
    assert [say_list(list(parts)) for parts in ("a", "ab", "abcd")] == ["a", "a and b", "a, b, c and d"]
