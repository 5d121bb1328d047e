"""The tests of the language can fail: bugs planted in it change the answer to some line of the corpus."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

import pytest

import predseg.language
from predseg.errors import ConfigError
from predseg.language import documents, english, measures, yaml
from tests.language.documents import CONDITIONS, MEASURES
from tests.language.planted import BUGS
from tests.language.test_documents import TABLE
from tests.language.test_english import SENTENCES
from tests.language.test_refusals import CASES
from tests.planting import Bug, plant

PREDICTIONS = (
    "predict: {did: A, within_next: 30 days}",
    "predict: {did_not: A, within_next: 90d}",
    "predict: {did: A, sum: v, more_than: 1, within_next: 1 day}",
)
MODULES = ("yaml", "documents", "english", "measures")
ENOUGH = 0.95


def answers(yaml: ModuleType, documents: ModuleType, english: ModuleType, measures: ModuleType) -> list[str]:
    """What the language makes of every line of the corpus: the declaration, the sentence, the refusal."""
    found = [_answer(lambda text=text: _read(yaml, documents, english, text)) for text in _corpus()]
    return found + [_answer(lambda: _meaning(measures))]


def _corpus() -> list[str]:
    return [
        *TABLE,
        *CONDITIONS,
        *SENTENCES,
        *(f"measure: {m}" for m in MEASURES),
        *PREDICTIONS,
        *(case.text for case in CASES),
        "country: yes",
        "{did: A, within: 0 days}",
    ]


def _read(yaml: ModuleType, documents: ModuleType, english: ModuleType, text: str) -> str:
    [node] = yaml.read_documents(text, "rule.yaml")
    if node.is_mapping and "measure" in node.value:
        return repr(documents.parse_measure(node.value["measure"]))
    if node.is_mapping and "predict" in node.value:
        return repr(documents.parse_prediction(node.value["predict"]))
    if node.is_mapping and "country" in node.value:
        return repr(node.plain())
    declared = documents.parse_condition(node)
    return f"{declared!r} {english.say_condition(declared)}"


def _meaning(m: Any) -> str:
    """What thresholds, tests of properties and windows accept at their boundaries."""
    bounds = [m.Comparison(op, low, low).bounds() for op in m.COMPARISONS for low in (1, documents.Decimal("0.5"))]
    values = (None, True, 1, "x", ("x", "y"), ())
    accepted = [m.Test(op, (operand,)).accepts(v) for op in ("is", "not") for operand in ("x", True, documents.Decimal(1)) for v in values]
    seen = [m.Window(3, until, since).contains(e, 10) for until in (0, 1) for since in (None, 8) for e in range(5, 12)]
    return repr((bounds, accepted, seen))


def _answer(read: Callable[[], str]) -> str:
    try:
        return read()
    except ConfigError as error:
        return str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


@cache
def expected() -> list[str]:
    return answers(yaml, documents, english, measures)


@cache
def differences(bug: Bug) -> tuple[str, ...]:
    found = answers(*plant(predseg.language, bug, MODULES))
    return tuple(f"{text}: {now}" for text, before, now in zip([*_corpus(), "meaning"], expected(), found, strict=True) if now != before)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_found(bug: Bug) -> None:
    assert differences(bug), f"no line of the corpus noticed: {bug.name}"


def test_nearly_all_bugs_are_found_and_there_are_enough_of_them() -> None:
    assert len(BUGS) >= 20 and sum(bool(differences(bug)) for bug in BUGS) >= ENOUGH * len(BUGS)
    assert len({bug.name for bug in BUGS}) == len(BUGS)


def test_a_copy_without_a_bug_is_the_language() -> None:
    copy = Bug("none", "time", "from __future__ import annotations", "from __future__ import annotations  # a copy")
    assert differences(copy) == () and not any(text.startswith("TypeError") for text in expected())
    assert predseg.language.documents is documents
