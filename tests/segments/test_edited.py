"""A rule as an edit would have it is what the whole file says after the edit, read again."""

from __future__ import annotations

import pytest

from predseg.language.yaml import read_documents
from predseg.segments.definitions import Vocabulary, arrange
from predseg.segments.edited import edited, read_again
from predseg.segments.edits import Edit, apply

TEXT = """\
# whoever buys
segment: buyers
match: {did: Order, within: 30 days}
---

segment: keen
match:
  all:
    - {in: buyers}    # first of all
    - {did: Order, at_least: 3, within: 60 days}
    - any:
        - {not_in: gone}
        - {did: Look, within: 10 days}
# the end of it
---
segment: gone
match: {none: [{in: long_known}]}
---
segment: long_known
match: {did: Order, within: 300 days}
"""
KEEN = 10
"""The line with what is tried out."""


@pytest.mark.parametrize(
    "line",
    [
        "    - {did: Order, at_least: 2, within: 60 days}",
        "    - {did: Order, within: 60 days}\n    - {did: Look, within: 60 days}",
        "    - {not_in: long_known}",
        "",
    ],
)
def test_an_edit_gives_the_rule_that_the_whole_file_would(line: str) -> None:
    segments = arrange(read_documents(TEXT, "rules.yaml"), Vocabulary(frozenset()))
    edit = Edit("rules.yaml", KEEN, KEEN, tuple(line.splitlines()))
    expected = arrange(read_documents(apply(TEXT, [edit]), "rules.yaml"), Vocabulary(frozenset()))["keen"]
    found = edited(segments["keen"], edit, TEXT, segments)
    assert found is not None and (found.match, found.definition) == (expected.match, expected.definition) != segments["keen"].match
    assert expected.node is not None and read_again(segments["keen"], edit, TEXT).plain() == expected.node.plain()
    assert read_again(segments["keen"], edit, TEXT).place == expected.node.place == "rules.yaml:6:1"


@pytest.mark.parametrize(
    "line", ["    - {in: nobody}", "    - {did: Order, at_least: 0", "    - {did_not: Order, within: 7 days, at_least: 2}", "    - {in: keen}"]
)
def test_an_edit_that_is_no_rule_gives_none(line: str) -> None:
    segments = arrange(read_documents(TEXT, "rules.yaml"), Vocabulary(frozenset()))
    assert edited(segments["keen"], Edit("rules.yaml", KEEN, KEEN, (line,)), TEXT, segments) is None
