"""Rule tests: what a test file may say, what is found, what no test ever looks at, and which mistakes the tests would notice."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from predseg.errors import ConfigError
from predseg.language.time import HOUR, parse_instant
from predseg.language.yaml import read_documents
from predseg.segments.cases import Suite, condition_places, conditions_of, run_tests
from predseg.segments.definitions import Segment
from predseg.segments.junit import junit
from predseg.segments.mutations import mutate, mutations
from tests.segments.stores import rules

CART = """
segment: abandoned_cart
about: Items in the cart and no checkout for 24 hours
refresh: live
match:
  did: Product Added
  within: 3 days
  then: {did_not: [Order Completed, Product Added], within: 24 hours}
tests:
  - it: fires 24 h after the last add
    events: |
      2026-03-01 10:00  Product Added
      2026-03-01 12:00  Product Added
    enters: 2026-03-02 12:00
  - it: stays quiet when the order comes in time
    events: |
      2026-03-01 10:00  Product Added
      2026-03-01 20:00  Order Completed
    enters: never
"""
LUXURY = """
---
segment: luxury
match:
  all:
    - {did: Order Completed, sum: value, more_than: 5000, within: 6 months}
    - {did: Product Viewed, where: {category: Luxury Watches}, within: 48 hours}
    - {in: abandoned_cart}
    - {score: churn, top: 10%}
tests:
  - it: holds when all is true
    events: |
      2026-02-01 10:00  Order Completed  {value: 5000}
      2026-02-02 10:00  Order Completed  {value: 0.01}
      2026-03-01 10:00  Product Added
      2026-03-02 09:00  Product Viewed  {category: Luxury Watches}
    facts: {score: {churn: 0.9}}
    enters: 2026-03-02 10:00
    leaves: [2026-03-04 09:00]
    member_at: {2026-03-02 09:59:59.999999: false, 2026-03-02 10:00: true}
"""


def run(text: str, *models: str) -> dict[str, Suite]:
    segments = rules(text, *models)
    return {s.segment.name: s for s in run_tests(segments, models)}


def one(rule: str, test: str, *models: str) -> Suite:
    """The suite of one segment with one test, written in flow style."""
    return run(f"segment: one\nmatch: {rule}\ntests: [{test}]\n---\nsegment: other\nmatch: {{did: Never}}\n", *models)["one"]


def found(suite: Suite) -> tuple[list[int], list[int]]:
    [result] = suite.results
    return list(result.entered), list(result.left)


def at(text: str) -> int:
    return parse_instant(text)


def test_the_examples_of_the_language_pass() -> None:
    suites = run(CART + LUXURY, "churn")
    assert [r.failures for s in suites.values() for r in s.results] == [(), (), ()]
    assert [len(s.results) for s in suites.values()] == [2, 1]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("{value: 5000}", "{value: 4999.99}"),
        ("category: Luxury Watches}\n    facts", "category: Watches}\n    facts"),
        ("      2026-03-01 10:00  Product Added\n      2026-03-02 09", "      2026-03-02 09"),
        ("churn: 0.9}", "churn: 0.89}"),
    ],
)
def test_each_clause_alone_fails_the_test(old: str, new: str) -> None:
    assert old in LUXURY
    suite = run(CART + LUXURY.replace(old, new), "churn")["luxury"]
    assert not suite.passed
    [enters, *_] = suite.results[0].failures
    assert (enters.what, enters.expected, enters.found) == ("enters", "2026-03-02T10:00Z", "never")
    wrong = [r.number for r in enters.reason.leaves() if r.truth is not True]
    assert len(wrong) == 1, "the explanation blames exactly the clause that was changed"


def test_a_failure_is_explained_at_the_first_difference() -> None:
    suite = run(CART.replace("enters: 2026-03-02 12:00", "enters: 2026-03-02 10:00"))["abandoned_cart"]
    [failure] = suite.results[0].failures
    assert failure.at == at("2026-03-02 10:00") and failure.reason.truth is False
    assert failure.found == "2026-03-02T12:00Z" and len(failure.reason.events) == 2


def test_daily_segments_are_decided_continuously() -> None:
    suite = one("{did: A, within: 2 hours}", '{it: x, events: "2026-03-01 10:00  A", enters: 2026-03-01 10:00, leaves: 2026-03-01 12:00}')
    assert suite.passed and suite.segment.refresh == "daily"


def test_known_from_the_first_event_or_always() -> None:
    quiet = '{it: x, events: "2026-03-01 10:00  B", enters: 2026-03-01 10:00, member_at: {2026-03-01 09:59: false}}'
    assert one("{did_not: A}", quiet).passed
    assert one("{did_not: A}", "{it: x, member_at: {2026-03-01: true}}").passed
    nobody = one("{did_not: A}", "{it: x, enters: never}")
    assert nobody.results[0].failures[0].found == "the beginning"


def test_an_event_counts_from_when_it_was_received() -> None:
    late = '{it: x, events: "2026-03-01 10:00  A  {received_at: 2026-03-01 15:00}", enters: 2026-03-01 15:00, leaves: 2026-03-02 10:00}'
    assert one("{did: A, within: 24 hours}", late).passed


def test_the_order_of_lines_and_comments_change_nothing() -> None:
    shuffled = CART.replace(
        "      2026-03-01 10:00  Product Added\n      2026-03-01 12:00  Product Added\n",
        "      # twice\n\n      2026-03-01 12:00  Product Added\n      2026-03-01 10:00  Product Added\n      2026-03-01 12:00  Product Added\n",
    )
    assert run(shuffled)["abandoned_cart"].passed


@pytest.mark.parametrize(
    ("rule", "facts", "truth"),
    [
        ("{score: churn, at_least: 0.9}", "{score: {churn: 0.9}}", True),
        ("{score: churn, more_than: 0.9}", "{score: {churn: 0.9}}", False),
        ("{score: churn, top: 10%}", "{score: {churn: 0.9}}", True),
        ("{score: churn, top: 10%}", "{score: {churn: 0.8999}}", False),
        ("{score: churn, top: 10%}", "{score: {churn: {probability: 0.1, percentile: 0.9001}}}", True),
        ("{score: churn, top: 10%}", "{score: {churn: {probability: 0.9, percentile: 0.9}}}", False),
        ("{score: churn, top: 10%}", "{score: {churn: {probability: 0.9}}}", None),
        ("{score: churn, top: 10%}", "{score: {churn: {decile: 1}}}", True),
        ("{score: churn, top: 15%}", "{score: {churn: {decile: 2}}}", None),
        ("{score: churn, bottom: 10%}", "{score: {churn: 0.0999}}", True),
        ("{score: churn, bottom: 10%}", "{score: {churn: 0.1}}", False),
        ("{score: churn, bottom: 10%}", "{score: {churn: {percentile: 0.1}}}", True),
        ("{score: churn, bottom: 10%}", "{score: {churn: {decile: 10}}}", True),
        ("{score: churn, decile: 2}", "{score: {churn: 0.85}}", True),
        ("{score: churn, decile: 2}", "{score: {churn: {percentile: 0.9}}}", True),
        ("{score: churn, decile: 1}", "{score: {churn: 1}}", True),
        ("{score: churn, at_least: 0}", "{trait: {country: GB}}", None),
        ("{trait: {country: GB}}", "{trait: {country: GB}}", True),
        ("{trait: {country: GB}}", "{trait: {tier: gold}}", None),
        ("{trait: {tags: a}}", "{trait: {tags: [b, a]}}", True),
        ("{trait: {tags: '2.5'}}", "{trait: {tags: [a, 2.50, ~]}}", True),
        ("{trait: {tags: 7}}", "{trait: {tags: [7]}}", False),
        ("{trait: {age: {more_than: 30}}}", "{trait: {age: 30.5}}", True),
        ("{trait: {country: {exists: true}}}", "{trait: {tier: gold}}", False),
        ("{rfv: {of: A, recency: [4, 5], value: {at_least: 4}}}", "{rfv: {recency: 5, value: 4}}", True),
        ("{rfv: {of: A, recency: [4, 5], value: {at_least: 4}}}", "{rfv: {recency: 5, value: 3}}", False),
        ("{rfv: {of: A, recency: [4, 5], value: {at_least: 4}}}", "{rfv: {recency: 5}}", None),
        ("{cluster: {personas: [loyal]}}", "{cluster: {personas: loyal}}", True),
        ("{cluster: {personas: [loyal]}}", "{cluster: {personas: new}}", False),
        ("{cluster: {personas: [loyal]}}", "{score: {churn: 0.5}}", None),
        ("{in: other}", "{in: other}", True),
        ("{not_in: other}", "{in: [other]}", False),
        ("{not_in: other}", "{not_in: other}", True),
    ],
)
def test_facts(rule: str, facts: str, truth: bool | None) -> None:
    suite = one(rule, f"{{it: x, facts: {facts}, member_at: {{2026-03-01: {str(truth is True).lower()}}}}}", "churn")
    assert suite.passed and suite.results[0].seen == (frozenset({truth}),)


def test_facts_that_change() -> None:
    facts = "[{score: {churn: 0.3}}, {at: 2026-03-15, score: {churn: 0.5}}]"
    rises = one(
        "{score: churn, rises: 0.2, within: 14 days}",
        f'{{it: x, events: "2026-03-01  A", facts: {facts}, enters: 2026-03-15, leaves: 2026-03-29}}',
        "churn",
    )
    assert rises.passed, found(rises)
    trait = one(
        "{trait: {tier: gold}}",
        "{it: x, facts: [{at: 2026-03-02, trait: {tier: gold}}, {at: 2026-03-05, trait: {tier: silver}}], enters: 2026-03-02, leaves: 2026-03-05}",
    )
    assert trait.passed, found(trait)


def test_stated_membership_goes_before_the_rule_of_the_other_segment() -> None:
    text = '{it: x, events: "2026-03-01 10:00  Never", facts: {not_in: other}, enters: never}'
    assert one("{in: other}", text).passed
    assert not one("{in: other}", text.replace("facts: {not_in: other}, ", "")).passed


REFUSED = [
    ("tests: never", "E340", "2:8"),
    ("tests: [{enters: never}]", "E340", "2:9"),
    ("tests: [{it: x}]", "E340", "2:9"),
    ("tests: [{it: x, enter: never}]", "E301", "2:17"),
    ("tests: [{it: x, enters: nevr}]", "E342", "2:25"),
    ("tests: [{it: x, enters: []}]", "E342", "2:25"),
    ("tests: [{it: x, enters: [never]}]", "E342", "2:26"),
    ("tests: [{it: x, member_at: {}}]", "E342", "2:28"),
    ("tests: [{it: x, member_at: {soon: true}}]", "E342", "2:29"),
    ("tests: [{it: x, member_at: {2026-03-01: 1}}]", "E342", "2:41"),
    ("tests: [{it: x, enters: never, facts: {score: {chrn: 0.5}}}]", "E344", "2:48"),
    ("tests: [{it: x, enters: never, facts: {score: {churn: 5}}}]", "E343", "2:55"),
    ("tests: [{it: x, enters: never, facts: {score: {churn: {percentile: 0.95, decile: 2}}}}]", "E343", "2:55"),
    ("tests: [{it: x, enters: never, facts: {score: {churn: {}}}}]", "E343", "2:55"),
    ("tests: [{it: x, enters: never, facts: {in: nobody}}]", "E344", "2:44"),
    ("tests: [{it: x, enters: never, facts: {rfv: {recency: 6}}}]", "E343", "2:55"),
    ("tests: [{it: x, enters: never, facts: {trait: {a: {b: 1}}}}]", "E343", "2:51"),
    ("tests: [{it: x, enters: never, facts: [{at: soon}]}]", "E342", "2:45"),
    ("tests:\n  - it: x\n    enters: never\n    events: |\n        2026-03-01 10:00  A\n        2026-03-01 10:00 A", "E341", "7:9"),
    ("tests:\n  - it: x\n    enters: never\n    events: |\n      2026-03-01 10:00  A  {a: 1}\n      2026-03-01 10:00  A {a: 1}", "E341", "7:7"),
    ("tests:\n  - it: x\n    enters: never\n    events: |\n      2026-03-01 25:00  A", "E342", "6:7"),
    ("tests:\n  - it: x\n    enters: never\n    events: |\n      2026-03-01 10:00  A  {a: [1, {b: 2}]}", "E343", "6:36"),
    ("tests:\n  - it: x\n    enters: never\n    events: |\n      2026-03-01 10:00  A  {a: *x}", "E307", "6:32"),
    ("tests:\n  - it: x\n    enters: never\n    events: |\n      2026-03-01 10:00  A  {a: 1", "E306", None),
]


@pytest.mark.parametrize(("tests", "code", "place"), REFUSED)
def test_a_wrong_test_is_refused_with_its_place(tests: str, code: str, place: str | None) -> None:
    with pytest.raises(ConfigError) as refused:
        run(f"segment: one\n{tests}\nmatch: {{did: A}}", "churn")
    assert refused.value.code == code and refused.value.help
    if place is not None:
        assert refused.value.place == f"rules.yaml:{place}"


def test_places_are_right_in_the_second_document_too() -> None:
    text = "segment: one\nmatch: {did: A}\n---\nsegment: two\nmatch: {did: A}\ntests:\n- it: x\n  enters: never\n  events: |\n\n   2026-03-01 10:00  A\n   oh\n"
    with pytest.raises(ConfigError) as refused:
        run(text)
    assert refused.value.place == "rules.yaml:12:4"


def test_conditions_that_no_test_decides_are_named() -> None:
    text = LUXURY.replace("facts: {score: {churn: 0.9}}", "facts: {score: {churn: {probability: 0.9}}}")
    gaps = {g.number: g for g in run(CART + text, "churn")["luxury"].gaps}
    assert set(gaps) == {4}
    line = (CART + text).splitlines().index("    - {score: churn, top: 10%}") + 1
    assert gaps[4].never == "true or false" and gaps[4].place == f"rules.yaml:{line}:7" and "churn" in gaps[4].says
    assert run(CART)["abandoned_cart"].gaps == ()


def test_places_of_conditions_follow_their_order() -> None:
    text = "all: [{did: A}, {some: {at_least: 1, of: [{trait: {b: 1, a: 2}}, {none: [{in: x}]}]}}, {any: [{did: C}]}]"
    [node] = read_documents(text)
    from predseg.language.documents import parse_condition

    assert list(condition_places(node)) == ["<text>:1:7", "<text>:1:58", "<text>:1:52", "<text>:1:74", "<text>:1:95"]
    assert len(conditions_of(parse_condition(node))) == 5


def test_slips_of_the_pen_are_pointed_out() -> None:
    suite = run(CART.replace("20:00  Order Completed", "20:00  Order Complete"))["abandoned_cart"]
    assert suite.notes == ("rules.yaml:15:5: no condition asks about the event 'Order Complete'; did you mean 'Order Completed'?",)
    assert one("{trait: {country: GB}}", "{it: x, facts: {trait: {contry: GB}}, enters: never}").notes


def survivors(suite: Suite, segments: dict[str, Segment]) -> set[str]:
    return {o.mutation.says for o in mutate(suite, segments) if o.survived}


def test_mutations_that_no_test_notices() -> None:
    segments = rules(CART)
    [suite] = run_tests(segments, ())
    assert survivors(suite, segments) == {"moved 3 days to 48 hours in condition 1", "moved 3 days to 4 days in condition 1"}
    segments = rules(CART.replace("    enters: 2026-03-02 12:00", "    enters: 2026-03-02 12:00\n    leaves: 2026-03-04 12:00"))
    assert survivors(run_tests(segments, ())[0], segments) == set()


def test_exactly_the_bound_is_a_mutation_of_its_own() -> None:
    rule = "segment: s\nmatch: {did: Order, sum: value, more_than: 5000}\ntests:\n"
    case = "  - it: order of VALUE\n    events: |\n      2026-03-01 10:00  Order  {value: VALUE}\n    enters: WHEN\n"
    loose = rule + case.replace("VALUE", "9000").replace("WHEN", "2026-03-01 10:00")
    segments = rules(loose)
    assert {"moved more than 5,000 to at least 5,000 in condition 1", "moved more than 5,000 to more than 5,001 in condition 1"} <= survivors(
        run_tests(segments, ())[0], segments
    )
    tight = rule + case.replace("VALUE", "5000").replace("WHEN", "never") + case.replace("VALUE", "5000.01").replace("WHEN", "2026-03-01 10:00")
    segments = rules(tight)
    assert survivors(run_tests(segments, ())[0], segments) == set()


def test_every_construct_is_mutated_and_no_mutation_is_the_rule_itself() -> None:
    text = """
segment: s
match:
  all:
    - any: [{score: churn, top: 10%}, {score: churn, bottom: 10%}, {score: churn, decile: [2, 3]}, {score: churn, between: [0.2, 0.5]}]
    - some: {at_least: 2, of: [{score: churn, rises: 0.2, within: 14 days}, {trait: {country: [GB, FR], age: {more_than: 30}}}, {in: other}]}
    - none: [{rfv: {of: A, within: 365 days, recency: [4, 5], value: {at_least: 4}}}, {cluster: {p: [x]}}]
    - {did: [A, B], distinct: p, at_least: 2, from: 10 days ago, until: 2 days ago, where: {x: {exists: true}, y: {between: [1, 2]}}}
    - {did: A, since: 2026-01-01, then: {did: B, within: 1 hour, same: p, at_least: 2, then: {did_not: [C, D]}}}
---
segment: other
match: {did: A}
"""
    match = rules(text, "churn")["s"].match
    made = mutations(match)
    assert all(m.match != match for m in made) and len({m.match for m in made}) == len(made) > 60
    said = " | ".join(m.says for m in made)
    for part in (
        "top 10% to 9%",
        "bottom 10% to 11%",
        "0.2 to 0.3",
        "14 days",
        "FR out of country",
        "age more than 30",
        "recency 4 or 5 to 3, 4 or 5",
        "value at least 4 to at least 5",
        "decile 2 or 3 to 1, 2 or 3",
    ):
        assert part in said, part
    for part in (
        "left B out",
        "exists" if "exists" in said else "test of x",
        "since by a day back",
        "untied p",
        "1 hour",
        "left D out",
        "asked for 3 instead of 2",
        "turned all into any",
    ):
        assert part in said, part
    assert {m.number for m in made} == set(range(len(conditions_of(match)) + 1))
    for m in made:
        assert m.sentence("s").startswith("s: customers who ")


def test_junit_names_file_line_and_failure() -> None:
    suites = list(
        run(
            CART.replace("enters: never", "enters: 2026-03-02 10:00").replace("it: stays", 'it: "\\x07 <stays>').replace("in time", 'in time"')
        ).values()
    )
    root = ElementTree.fromstring(junit(suites))
    assert (root.get("tests"), root.get("failures")) == ("2", "1")
    good, bad = root.iter("testcase")
    assert good.find("failure") is None and good.get("file") == "rules.yaml" and good.get("line") == "10"
    failure = bad.find("failure")
    assert failure is not None and failure.get("message") == "enters: expected 2026-03-02T10:00Z, found never"
    assert bad.get("name") == "? <stays> quiet when the order comes in time"


def test_only_the_chosen_segments_are_run_but_all_tests_are_read() -> None:
    segments = rules(CART + LUXURY, "churn")
    assert [s.segment.name for s in run_tests(segments, ["churn"], ["luxury"])] == ["luxury"]
    with pytest.raises(ConfigError):
        run_tests(rules(CART.replace("enters: never", "enters: nevr") + LUXURY, "churn"), ["churn"], ["luxury"])


def test_a_segment_used_by_many_is_decided_once_per_moment() -> None:
    """A tower of segments, each asking twice for the one below, would take 2^30 decisions if rules were copied into each other."""
    tower = ["segment: s0\nmatch: {did: A, within: 1 hour}\n"]
    tower += [f"segment: s{i}\nmatch: {{all: [{{in: s{i - 1}}}, {{not_in: s{i - 1}}}, {{in: s{i - 1}}}]}}\n" for i in range(1, 30)]
    tower.append(
        'segment: top\nmatch: {any: [{in: s29}, {in: s0}]}\ntests: [{it: x, events: "2026-03-01 10:00  A", enters: 2026-03-01 10:00, leaves: 2026-03-01 11:00}]\n'
    )
    suite = run("---\n".join(tower))["top"]
    assert suite.passed and found(suite) == ([at("2026-03-01 10:00")], [at("2026-03-01 10:00") + HOUR])
