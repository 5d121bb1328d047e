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
