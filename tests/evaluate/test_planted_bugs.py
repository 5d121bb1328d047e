"""The differential test can fail: bugs planted in the kernel are found by it.

The questions, with the reference's answers, are made once; each bug is planted in a copy of the kernel, which is asked
until it gives itself away.
"""

from __future__ import annotations

import sys
from functools import cache

import pytest

import predseg.evaluate
from predseg.evaluate import batch, block
from tests.evaluate.differential import Kernel, Question, question
from tests.evaluate.planted import BUGS, EQUIVALENT, planted
from tests.planting import Bug

QUESTIONS = 250
SOME = 60
"""So many questions find nearly every bug: enough where none is to be found."""
ENOUGH = 0.95
"""The share of the bugs that must be found."""


@cache
def questions() -> tuple[Question, ...]:
    """The questions of the differential test, all kinds in turn."""
    found = tuple(question(seed, shift=0) for seed in range(QUESTIONS))
    for asked in found:
        _ = asked.expected
    return found


def found_by(kernel: Kernel, most: int = QUESTIONS) -> str | None:
    """How the kernel gives itself away, in words; None when it does not."""
    for asked in questions()[:most]:
        try:
            difference = next(asked.differences(kernel), None)
        except Exception as error:
            return f"seed {asked.seed}: {type(error).__name__}: {error}"
        if difference is not None:
            return difference
    return None


@cache
def verdict(bug: Bug) -> str | None:
    return found_by(planted(bug))


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_found(bug: Bug) -> None:
    assert verdict(bug) is not None, f"{QUESTIONS} questions and nobody noticed: {bug.name}"


def test_nearly_all_bugs_are_found_and_there_are_enough_of_them() -> None:
    found = [bug for bug in BUGS if verdict(bug) is not None]
    assert len(BUGS) >= 20 and len(found) >= ENOUGH * len(BUGS)
    assert {bug.module for bug in BUGS} >= {"batch", "sequences", "block"}
    assert len({bug.name for bug in BUGS}) == len({(bug.module, bug.old, bug.new) for bug in BUGS}) == len(BUGS)


@pytest.mark.parametrize("bug", EQUIVALENT, ids=lambda bug: bug.name)
def test_an_equivalent_change_is_no_bug(bug: Bug) -> None:
    """These cannot be found, for the reason given; a difference would be a bug of the harness."""
    assert bug.equivalent and found_by(planted(bug), SOME) is None


def test_a_copy_without_a_bug_is_the_kernel() -> None:
    """The harness itself changes nothing, and leaves nothing behind."""
    copy = planted(Bug("none", "batch", "from __future__ import annotations", "from __future__ import annotations  # a copy"))
    assert copy.batch is not batch and copy.block is not block and copy.batch.Block is copy.block.Block
    assert found_by(copy, SOME) is None
    assert sys.modules["predseg.evaluate.batch"] is batch is predseg.evaluate.batch
    assert sys.modules["predseg.evaluate.block"] is block is predseg.evaluate.block


def test_a_bug_whose_text_is_gone_says_so() -> None:
    """A refactoring of the kernel must not disarm the test in silence."""
    with pytest.raises(AssertionError, match="the planted bug 'old' no longer applies: .* stands 0 times in batch.py"):
        planted(Bug("old", "batch", "no such text", ""))
