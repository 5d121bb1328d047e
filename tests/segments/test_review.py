"""Review points out what is alike, small, empty or still, and its proposals give the sizes that they promise."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from predseg.evaluate.block import Array
from predseg.language.time import DAY
from predseg.language.yaml import read_documents
from predseg.segments import edits
from predseg.segments.definitions import Segment, Vocabulary, arrange
from predseg.segments.facts import Facts
from predseg.segments.memberships import LOG
from predseg.segments.population import members_at
from predseg.segments.review import Review, pairs, review
from tests.segments.stores import write_events

AS_OF = 100 * DAY
RULES = """\
# buyers of the last month
segment: recent
match: {did: Order, within: 30 days}   # a month
---
segment: lately
about: nearly the same
match:
  did: Order
  within: 31 days
---
segment: nobody
match: {did: Order, at_least: 99}
---
segment: keen
match: {did: Order, at_least: 10, within: 30 days}
---
segment: twice
match: {all: [{did: Order, within: 30 days}, {did: Order, at_least: 2, within: 30 days}]}
---
segment: twice_again
match: {did: Order, at_least: 2, within: 30 days}
"""


def reviewed(folder: Path, text: str = RULES, log: pd.DataFrame | None = None, small: int = 20) -> tuple[Review, Mapping[str, Array]]:
    """120 customers; customer i ordered i // 10 times in the last month."""
    rows = [(f"c{i:03d}", AS_OF - (k + 1) * DAY, "Order", {}) for i in range(120) for k in range(i // 10)]
    files = write_events(folder, [*rows, *((f"c{i:03d}", 0, "Other", {}) for i in range(120))])
    segments = arrange(read_documents(text, "rules.yaml"), Vocabulary(frozenset()))

    def measure(trial: dict[str, Segment]) -> Mapping[str, Array]:
        return members_at(files, trial, AS_OF, Facts())

    members = measure(segments)
    runs = pd.DataFrame({name: [] for name in LOG}) if log is None else log
    return review(segments, members, runs, {"rules.yaml": text}, measure, small=small), members


def test_findings(tmp_path: Path) -> None:
    found, _ = reviewed(tmp_path, small=30)
    kinds = {(f.kind, frozenset(f.segments)) for f in found.findings}
    assert ("empty", frozenset({"nobody"})) in kinds
    assert ("small", frozenset({"keen"})) in kinds
    assert ("equal", frozenset({"twice", "twice_again"})) in kinds
    assert ("contained", frozenset({"recent", "lately"})) in kinds


@given(st.lists(st.sets(st.sampled_from("abcdef")), min_size=2, max_size=5))
def test_pairs_have_the_customers_in_common_that_sets_of_them_have(sets: list[set[str]]) -> None:
    """Of rules that have nothing to do with each other."""
    texts = [f"segment: s{i}\nmatch: {{did: E{i}}}" for i in range(len(sets))]
    segments = arrange(read_documents("\n---\n".join(texts), "rules.yaml"), Vocabulary(frozenset()))
    inside = dict(zip(segments, sets, strict=True))
    found = {(p.first, p.second): p for p in pairs(segments, {name: np.array(sorted(some), object) for name, some in inside.items()})}
    assert set(found) == {(a, b) for a, b in combinations(segments, 2) if inside[a] & inside[b]}
    for (a, b), pair in found.items():
        some, others, both = inside[a], inside[b], inside[a] & inside[b]
        assert (pair.both, pair.jaccard, pair.logic) == (len(both), len(both) / len(some | others), "")
        assert (pair.first_in_second, pair.second_in_first) == (len(both) / len(some), len(both) / len(others))


def test_what_concerns_some_segments_only(tmp_path: Path) -> None:
    whole, _ = reviewed(tmp_path)
    found = whole.about(["recent"])
    assert found.sizes == {"recent": whole.sizes["recent"]}
    assert found.pairs == tuple(p for p in whole.pairs if "recent" in (p.first, p.second)) and 0 < len(found.pairs) < len(whole.pairs)
    assert found.findings == tuple(f for f in whole.findings if "recent" in f.segments) and 0 < len(found.findings) < len(whole.findings)
    assert [p.segments for p in found.proposals] == [("recent", "lately"), ("recent", "twice")]
    assert whole.about(list(whole.sizes)) == whole


def test_a_merge_keeps_one_of_two_that_say_the_same(tmp_path: Path) -> None:
    found, _ = reviewed(tmp_path)
    [merge] = [p for p in found.proposals if p.segments == ("twice", "twice_again")]
    assert merge.after == merge.before == found.sizes["twice"]
    after = edits.apply(RULES, merge.edits)
    assert [d.plain()["segment"] for d in read_documents(after)] == ["recent", "lately", "nobody", "keen", "twice"]
    assert "# a month" in after


def test_a_widened_rule_has_the_size_that_was_promised(tmp_path: Path) -> None:
    found, _ = reviewed(tmp_path, small=30)
    [wider] = [p for p in found.proposals if p.kind == "widen"]
    assert wider.segments == ("keen",) and wider.before == 20
    again, members = reviewed(tmp_path, edits.apply(RULES, wider.edits), small=30)
    assert len(members["keen"]) == again.sizes["keen"] == wider.after == 40
    assert "-match: {did: Order, at_least: 10, within: 30 days}" in wider.diff
    assert "+match: {did: Order, at_least: 8, within: 30 days}" in wider.diff


def test_the_empty_one_is_retired(tmp_path: Path) -> None:
    found, _ = reviewed(tmp_path)
    [retire] = [p for p in found.proposals if p.kind == "retire"]
    assert retire.segments == ("nobody",)
    assert "nobody" not in edits.apply(RULES, retire.edits)


def test_all_proposals_together_still_parse(tmp_path: Path) -> None:
    found, _ = reviewed(tmp_path, small=30)
    after = edits.apply(RULES, [e for p in found.proposals for e in p.edits])
    arrange(read_documents(after, "rules.yaml"), Vocabulary(frozenset()))
    assert len(read_documents(after)) < len(read_documents(RULES))


def test_members_alike_by_chance_are_merged_by_any(tmp_path: Path) -> None:
    text = "segment: a\nmatch: {did: Order, at_least: 2}\n---\nsegment: b\nmatch: {did: Order, from: 31 days ago, until: 2 days ago}\n"
    found, members = reviewed(tmp_path, text)
    [merge] = [p for p in found.proposals if p.kind == "merge"]
    _, merged = reviewed(tmp_path, edits.apply(text, merge.edits))
    assert list(merged) == ["a"] and len(merged["a"]) == merge.after >= max(map(len, members.values()))


def test_still_and_restless_segments_are_told_from_the_log(tmp_path: Path) -> None:
    segments = arrange(read_documents(RULES, "rules.yaml"), Vocabulary(frozenset()))
    rows = [("recent", segments["recent"].definition, day * DAY, 50, 0, 0) for day in range(5)]
    rows += [("keen", segments["keen"].definition, day * DAY, 50, 40, 40) for day in range(5)]
    found, _ = reviewed(tmp_path, log=pd.DataFrame(rows, columns=list(LOG)))
    assert {(f.kind, f.segments) for f in found.findings if f.kind in ("never changes", "unstable")} == {
        ("never changes", ("recent",)),
        ("unstable", ("keen",)),
    }
