"""Every refusal of a rule, word for word: the place, the code, what was found, and what to write instead."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from predseg.errors import ConfigError
from predseg.language import documents, yaml
from predseg.language.documents import parse_condition, parse_measure, parse_prediction
from predseg.language.yaml import MAX_BYTES, read_documents
from tests.language.refusals import Case, line_of, read_cases, refuse, refusing_lines, update

GOLDEN = Path(__file__).parent / "refusals_of_rules.txt"


def read(text: str) -> object:
    """A condition; or what stands under ``measure:`` or ``predict:``."""
    [node] = read_documents(text, "rule.yaml")
    if node.is_mapping and "measure" in node.value:
        return parse_measure(node.value["measure"])
    if node.is_mapping and "predict" in node.value:
        return parse_prediction(node.value["predict"])
    return parse_condition(node)


update(GOLDEN, read)
CASES = read_cases(GOLDEN)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_a_rule_is_refused_in_these_words(case: Case) -> None:
    assert str(refuse(read, case.text)) == case.answer


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_a_refusal_has_a_place_within_the_text_and_a_remedy(case: Case) -> None:
    error = refuse(read, case.text)
    found = re.fullmatch(r"rule\.yaml(?::(\d+):(\d+))?", error.place)
    assert found and error.message and error.help and error.exit_code == 3
    if found[1]:
        line, column = int(found[1]), int(found[2])
        assert 1 <= column <= len(case.text.split("\n")[line - 1]) + 1


@pytest.mark.parametrize("module", [documents, yaml], ids=lambda module: module.__name__)
def test_every_refusal_has_a_case(module: object) -> None:
    """A new ``raise`` needs its case in the golden file."""
    texts = [*(case.text for case in CASES), "x" * (MAX_BYTES + 1)]
    reached = {line_of(refuse(read, text), module) for text in texts}  # type: ignore[arg-type]
    assert not {line: text for line, text in refusing_lines(module).items() if line not in reached}  # type: ignore[arg-type]


def test_two_cases_never_have_the_same_title() -> None:
    assert len({case.title for case in CASES}) == len(CASES)


def test_a_refusal_survives_its_way_between_processes() -> None:
    """Blocks are worked on in other processes: an error must arrive as it was."""
    import pickle

    error = refuse(read, "{dod: A}")
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, ConfigError) and str(again) == str(error)
