"""Declarations are looked up by value: equal ones are found, whichever process made them."""

from __future__ import annotations

import pickle
import subprocess
import sys
from decimal import Decimal

from predseg.language import conditions as c
from predseg.language import measures as m

RULE = c.All(
    (c.Did(m.Measure(m.Events(("A",), (m.Filter("p", (m.Test("is", ("x",)),)),)), m.Window(5)), m.Comparison("at_least", Decimal(1))), c.In("s"))
)
AGAIN = c.All(
    (c.Did(m.Measure(m.Events(("A",), (m.Filter("p", (m.Test("is", ("x",)),)),)), m.Window(5)), m.Comparison("at_least", Decimal(1))), c.In("s"))
)


def test_equal_rules_are_one_key() -> None:
    assert {RULE: 1} == {AGAIN: 1} and hash(RULE) == hash(AGAIN) and hash(RULE) != hash(RULE.of[0])


def test_a_rule_of_another_process_is_found() -> None:
    """Texts hash differently in each process, so what one has counted is not sent along."""
    hash(RULE)
    code = (
        "import pickle, sys; from tests.language.test_hashes import RULE; hash(RULE); "
        "sys.exit(pickle.loads(sys.stdin.buffer.read()) not in {RULE: 1})"
    )
    for seed in ("1", "2"):
        subprocess.run(
            [sys.executable, "-c", code], input=pickle.dumps(RULE), check=True, env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)}
        )


def test_shared_conditions_are_equal_and_each_part_is_one_object() -> None:
    count = RULE.of[0]
    assert isinstance(count, c.Did)
    other = c.Some(2, (c.Holds((AGAIN,), True), c.NoneOf((count,)), c.Did(count.measure, m.Comparison("exactly", Decimal(0)))))
    first, second, third = c.shared([RULE, other, AGAIN])
    assert (first, second, third) == (RULE, other, AGAIN) and first is third
    assert isinstance(first, c.All) and isinstance(second, c.Some)
    holds, nobody, zero = second.of
    assert isinstance(holds, c.Holds) and isinstance(nobody, c.NoneOf) and isinstance(zero, c.Did) and isinstance(first.of[0], c.Did)
    assert holds.of[0] is first and nobody.of[0] is first.of[0] and zero.measure is first.of[0].measure
