"""A rule as an edit would have it is what the whole file says after the edit, read again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from predseg.language.yaml import read_documents
from predseg.segments.definitions import Vocabulary, arrange
from predseg.segments.edited import edited, read_again
from predseg.segments.edits import Edit, apply, document, lines_of, with_match, with_scalar, without_document, write

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
    found = edited(segments["keen"], edit, TEXT, segments, frozenset())
    assert found is not None and (found.match, found.definition) == (expected.match, expected.definition) != segments["keen"].match
    assert expected.node is not None and read_again(segments["keen"], edit, TEXT).plain() == expected.node.plain()
    assert read_again(segments["keen"], edit, TEXT).place == expected.node.place == "rules.yaml:6:1"


@pytest.mark.parametrize(
    "line", ["    - {in: nobody}", "    - {did: Order, at_least: 0", "    - {did_not: Order, within: 7 days, at_least: 2}", "    - {in: keen}"]
)
def test_an_edit_that_is_no_rule_gives_none(line: str) -> None:
    segments = arrange(read_documents(TEXT, "rules.yaml"), Vocabulary(frozenset()))
    assert edited(segments["keen"], Edit("rules.yaml", KEEN, KEEN, (line,)), TEXT, segments, frozenset()) is None


WRITTEN = {
    "plain": "segment: a\nmatch: {did: Look, at_least: 8}\n---\nsegment: b\nmatch: {did: Order, at_least: 5}\n",
    "on the line of the separator": "--- {segment: a, match: {did: Look, at_least: 8}}\n---   {segment: b,\n  match: {did: Order, at_least: 5}}\n",
    "each ends": "segment: a\nmatch: {did: Look, at_least: 8}\n...\n---\nsegment: b\nmatch: {did: Order, at_least: 5}\n...\n",
    "none begins": "segment: a\nmatch: {did: Look, at_least: 8}\n...\nsegment: b\nmatch: {did: Order, at_least: 5}\n",
    "begins and ends": "--- {segment: a, match: {did: Look, at_least: 8}}\n...\n--- {segment: b, match: {did: Order, at_least: 5}}\n",
    "with its version": "%YAML 1.2\n---\nsegment: a\nmatch: {did: Look, at_least: 8}\n...\n---\nsegment: b\nmatch: {did: Order, at_least: 5}\n",
    "comments": "--- # one\n# of a\nsegment: a\nmatch: {did: Look, at_least: 8} # x\n--- # two\n\nsegment: b\nmatch:\n  did: Order\n  at_least: 5 # y\n",
    "nothing between": "---\n---\nsegment: a\nmatch: {did: Look, at_least: 8}\n---\n# nothing\n---\nsegment: b\nmatch: {did: Order, at_least: 5}\n",
    "a line separator": 'segment: a\nabout: "one\u2028two"\nmatch:\n  did: Look\n  at_least: 8\n---\nsegment: b\nmatch: {did: Order, at_least: 5}\n',
    "set in": "  segment: a\n  match: {did: Look, at_least: 8}\n---\n  segment: b\n  match: {did: Order, at_least: 5}\n",
    "a byte order mark": "\ufeff{segment: a, match: {did: Look, at_least: 8}}\n---\nsegment: b\nmatch: {did: Order, at_least: 5}\n",
}
"""The same two rules in files that are written differently."""


def _plain(text: str) -> dict[str, Any]:
    return {str(node.value["segment"].value): node.plain() for node in read_documents(text, "rules.yaml")}


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize("text", WRITTEN.values(), ids=WRITTEN)
def test_an_edit_is_right_however_the_file_is_written(text: str, name: str) -> None:
    segments = arrange(read_documents(text, "rules.yaml"), Vocabulary(frozenset()))
    segment, before = segments[name], _plain(text)
    assert segment.node is not None
    edit = with_scalar(text, segment.node.value["match"].value["at_least"], "2")
    wider = {**before, name: {**before[name], "match": {**before[name]["match"], "at_least": 2}}}
    assert _plain(apply(text, [edit])) == wider
    found = edited(segment, edit, text, segments, frozenset())
    assert found is not None and found.node is not None and found.node.plain() == wider[name]
    other = {"did": "Look", "within": "3 days"}
    assert _plain(apply(text, [with_match(text, segment.node, other)])) == {**before, name: {**before[name], "match": other}}
    assert _plain(apply(text, [without_document(text, segment.node)])) == {n: rule for n, rule in before.items() if n != name}
    assert _plain("\n".join(lines_of(text)[slice(document(text, segment.node)[0] - 1, document(text, segment.node)[1])])) == {name: before[name]}


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_file_keeps_its_ends_of_lines(tmp_path: Path, ends: str) -> None:
    file = tmp_path / "rules.yaml"
    file.write_bytes(TEXT.replace("\n", ends).encode())
    text = file.read_text("utf-8")
    assert write(file, apply(text, [Edit("rules.yaml", KEEN, KEEN)])) == file
    assert file.read_bytes().decode() == "".join(line + ends for i, line in enumerate(TEXT.splitlines(), 1) if i != KEEN)
