"""The exact meaning of `where` and of the layers, whose third value is unknown.

Each story is told to the reference and to the batch executor, between two neighbours who did much the same.
``<INSTANT`` means one microsecond before.
"""

from __future__ import annotations

import pytest

from predseg.language import conditions as c
from predseg.language import measures as m
from tests.evaluate.stories import rule, tell

VIEW = "2026-03-01 10:00  Product Viewed"


class TestWhere:
    """Two values, and a missing or wrong-typed property fails every test, ``not`` included."""

    @pytest.mark.parametrize(
        ("test", "passing", "failing"),
        [
            ("gold", ["gold"], ["Gold", "5", "[silver]", "true"]),
            ("[gold, 5]", ["gold", "5", "5.0"], ["silver", "6", "true"]),
            ("{not: gold}", ["silver", "Gold"], ["gold", "5", "true"]),
            ("{not: [gold, 5]}", ["silver", "6"], ["gold", "5", "true"]),
            ("5", ["5", "5.000"], ["'5'", "5.0001", "true"]),
            ("'5'", ["'5'"], ["5"]),
            ("true", ["true"], ["false", "1", "'true'"]),
            ("1", ["1"], ["true"]),
            ("{not: true}", ["false"], ["true", "0", "'false'"]),
            ("{contains: gold}", ["gold", "old gold ring"], ["Gold", "5", "true"]),
            ("{contains: 'a.b'}", ["xa.by"], ["axb"]),  # no pattern
            ("{more_than: 100}", ["100.0001"], ["100", "99.9999", "'101'", "true"]),
            ("{at_least: 100}", ["100"], ["99.9999"]),
            ("{less_than: 100}", ["99.9999", "-5"], ["100", "'1'", "false"]),
            ("{at_most: 100}", ["100"], ["100.0001"]),
            ("{exactly: 100}", ["100.0"], ["100.0001"]),
            ("{between: [1, 2]}", ["1", "2", "1.5"], ["0.9999", "2.0001", "'1'"]),
            ("{between: [a, c]}", ["a", "bz", "c"], ["ca", "A", "2"]),
            ("{more_than: b}", ["c", "ba", "é"], ["b", "B", "9"]),  # text compares by code points: B before a before é
            ("{at_least: 2026-03-01}", ["2026-03-01", "2026-03-01T10:00"], ["2026-02-28"]),
            ("{more_than: 1, at_most: 2}", ["2"], ["1", "3"]),
            ("{exists: true}", ["gold", "0", "false", "''"], []),
            ("{exists: false}", [], ["gold", "0", "false", "''"]),
        ],
    )
    def test_tests_of_one_value(self, test: str, passing: list[str], failing: list[str]) -> None:
        for value, answer in [*((v, True) for v in passing), *((v, False) for v in failing)]:
            if not value.startswith("["):
                tell(f"{{did: A, where: {{p: {test}}}}}", f"2026-03-01 10:00  A  {{p: {value}}}", {"2026-03-02": answer})

    @pytest.mark.parametrize("test", ["x", "{not: x}", "{contains: x}", "{more_than: 1}", "{less_than: 1}", "{exists: true}", "true"])
    def test_a_missing_property_fails_every_test_but_absence(self, test: str) -> None:
        other = "2026-03-01 10:00  A\n2026-03-01 10:00  B  {p: y}"
        tell(f"{{did: A, where: {{p: {test}}}}}", "2026-03-01 10:00  A", {"2026-03-02": False})
        tell(f"{{did: A, where: {{p: {test}}}}}", other, {"2026-03-02": False})
        tell("{did: A, where: {p: {exists: false}}}", "2026-03-01 10:00  A", {"2026-03-02": True})
        tell("{did: A, where: {p: {exists: false}}}", other, {"2026-03-02": True})

    def test_a_list_matches_if_one_element_does(self) -> None:
        """Also for ``not``: one element is not gold. An empty list is there, but matches nothing."""
        for test, value, answer in [
            ("gold", "[silver, gold]", True),
            ("gold", "[silver]", False),
            ("{not: gold}", "[silver, gold]", True),
            ("{not: gold}", "[gold]", False),
            ("{contains: ol}", "[silver, gold]", True),
            ("gold", "[]", False),
            ("{not: gold}", "[]", False),
            ("{exists: true}", "[]", True),
            ("{exists: false}", "[]", False),
        ]:
            tell(f"{{did: A, where: {{p: {test}}}}}", f"2026-03-01 10:00  A  {{p: {value}}}", {"2026-03-02": answer})

    def test_all_tests_must_pass_on_the_same_event(self) -> None:
        text = "{did: A, where: {p: x, q: {more_than: 1}}}"
        tell(text, "2026-03-01 10:00  A  {p: x, q: 1}\n2026-03-01 11:00  A  {p: y, q: 2}", {"2026-03-02": False})
        tell(text, "2026-03-01 10:00  A  {p: x, q: 2}", {"2026-03-02": True})

    def test_a_filter_keeps_did_not_total(self) -> None:
        tell("{did_not: A, where: {p: x}}", "2026-03-01 10:00  A  {p: y}\n2026-03-01 11:00  A", {"2026-03-02": True})


def facts(condition: c.Condition, t: int) -> bool | None:
    """The trait tier is gold, the trait tea is unknown, segments have two values."""
    if isinstance(condition, c.In):
        return (condition.segment == "inside") == condition.member
    assert isinstance(condition, c.Trait)
    return None if condition.filter.property == "tea" else condition.filter.accepts("gold")


YES, NO, MAYBE = "{trait: {tier: gold}}", "{trait: {tier: tin}}", "{trait: {tea: green}}"


class TestKleene:
    """Unknown goes through all layers, and only there where it could decide."""

    @pytest.mark.parametrize(
        ("layer", "answer"),
        [
            ("{all: [YES, YES]}", True),
            ("{all: [YES, MAYBE]}", None),
            ("{all: [NO, MAYBE]}", False),
            ("{any: [YES, MAYBE]}", True),
            ("{any: [NO, MAYBE]}", None),
            ("{any: [NO, NO]}", False),
            ("{none: [NO, NO]}", True),
            ("{none: [NO, MAYBE]}", None),
            ("{none: [YES, MAYBE]}", False),
            ("{some: {at_least: 2, of: [YES, YES, MAYBE]}}", True),
            ("{some: {at_least: 2, of: [YES, NO, MAYBE]}}", None),
            ("{some: {at_least: 2, of: [NO, NO, MAYBE]}}", False),
            ("{some: {at_least: 3, of: [YES, MAYBE, MAYBE]}}", None),
            ("{some: {at_least: 3, of: [NO, MAYBE, MAYBE]}}", False),
            ("{none: [{none: [MAYBE]}]}", None),
            ("{all: [{any: [NO, {all: [YES, MAYBE]}]}, YES]}", None),
            ("{in: inside}", True),
            ("{not_in: inside}", False),
            ("{none: [{in: inside}]}", False),
            ("{none: [{in: outside}]}", True),
            ("{not_in: outside}", True),
        ],
    )
    def test_layers(self, layer: str, answer: bool | None) -> None:
        text = layer.replace("YES", YES).replace("NO", NO).replace("MAYBE", MAYBE)
        tell(text, "2026-03-01 10:00  A", {"2026-03-02": answer}, facts)

    def test_an_average_over_nothing_is_unknown_in_its_layer(self) -> None:
        average = "{did: Order, avg: value, at_least: 5}"
        tell(average, VIEW, {"2026-03-02": None})
        tell(f"{{none: [{average}]}}", VIEW, {"2026-03-02": None})
        tell(f"{{any: [{average}, {{did: Product Viewed}}]}}", VIEW, {"2026-03-02": True})
        tell(f"{{all: [{average}, {{did: Order}}]}}", VIEW, {"2026-03-02": False})

    def test_membership_has_two_values(self) -> None:
        """A segment whose rule is unknown has no member: ``in`` is false and ``not_in`` true, where ``none`` of the rule stays unknown."""
        average = rule("{did: Order, avg: value, at_least: 5}")
        tell(c.Holds((average,)), VIEW, {"2026-03-02": False})
        tell(c.Holds((average,), member=False), VIEW, {"2026-03-02": True})
        tell(c.NoneOf((average,)), VIEW, {"2026-03-02": None})
        tell(c.NoneOf((c.Holds((average,)),)), VIEW, {"2026-03-02": True})

    def test_traits_may_ask_whether_they_exist(self) -> None:
        exists = c.Trait(m.Filter("tea", (m.Test("exists", (False,)),)))
        assert exists.filter.accepts(None) and not exists.filter.accepts("green")
