"""Too many segments, too alike, too small: what the rules and their members say, and proposals as a diff of the rule files.

Every proposal is measured: the edited text is parsed and evaluated like any rule, so the size it shows is the size it gives.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from predseg.evaluate.block import Array
from predseg.language import logic
from predseg.language.measures import COMPARISONS
from predseg.language.time import parse_duration, short_duration
from predseg.language.yaml import Node
from predseg.segments import edits
from predseg.segments.customers import Customers
from predseg.segments.definitions import Segment
from predseg.segments.edited import edited, models_in
from predseg.segments.edits import Edit
from predseg.segments.replay import inline_all

if TYPE_CHECKING:
    import pandas as pd

SMALL = 100
"""Fewer members than this are too few to learn anything from."""
ALIKE = 0.8
"""Two segments whose members overlap this much (Jaccard) are nearly one."""
UNSTABLE = 0.5
"""A segment that exchanges this share of its members at an average run is unstable."""
RUNS = 3
"""So many runs are needed to call a segment never changing or unstable."""

Members = Mapping[str, Array]


@dataclass(frozen=True)
class Pair:
    """Two segments with common members: |both| / |either|, and which share of each is in the other."""

    first: str
    second: str
    both: int
    jaccard: float
    first_in_second: float
    second_in_first: float
    logic: str  # equal | first implies second | second implies first | ""


@dataclass(frozen=True)
class Finding:
    """Something a colleague would point out."""

    kind: str  # empty | small | equal | contained | alike | never changes | unstable
    segments: tuple[str, ...]
    message: str


@dataclass(frozen=True)
class Proposal:
    """An edit of the rule files, what it is for, and the sizes before and after it."""

    kind: str  # merge | retire | widen
    segments: tuple[str, ...]
    reason: str
    before: int
    after: int
    edits: tuple[Edit, ...]
    diff: str


@dataclass(frozen=True)
class Review:
    """All segments side by side."""

    sizes: dict[str, int]
    pairs: tuple[Pair, ...]
    findings: tuple[Finding, ...]
    proposals: tuple[Proposal, ...]

    def about(self, names: Collection[str]) -> Review:
        """Return what concerns at least one of some segments."""
        sizes = {name: size for name, size in self.sizes.items() if name in names}
        pairs = tuple(p for p in self.pairs if p.first in names or p.second in names)
        findings = tuple(f for f in self.findings if not set(names).isdisjoint(f.segments))
        return Review(sizes, pairs, findings, tuple(p for p in self.proposals if not set(names).isdisjoint(p.segments)))


Measure = Callable[[dict[str, Segment]], Members]
"""Evaluates rules (in dependency order) and returns their members."""


def review(
    segments: dict[str, Segment],
    members: Members,
    log: pd.DataFrame,
    texts: Mapping[str, str],
    measure: Measure,
    *,
    small: int = SMALL,
    undecided: frozenset[str] = frozenset(),
) -> Review:
    """Compare all segments and propose what to merge, retire or widen.

    Args:
        segments: All rules, in dependency order.
        members: Their members now.
        log: The recorded runs: segment, as_of, members, entered, left.
        texts: The rule files, by the name that their nodes carry.
        measure: Evaluates edited rules.
        small: Fewer members are too few.
        undecided: Segments that ask for scores which do not exist yet: nothing is said of their size.
    """
    sizes = {name: len(members[name]) for name in segments}
    found = tuple(pairs(segments, members))
    decided = {name: size for name, size in sizes.items() if name not in undecided}
    findings = (*_sizes(decided, small), *_alike(found), *_moving(segments, log))
    proposals = [*_merges(found, segments, members, texts), *_retired(decided, segments, texts)]
    touched = {name for p in proposals for name in p.segments}
    proposals += _widened([n for n, size in decided.items() if 0 < size < small and n not in touched], segments, sizes, texts, measure, small)
    return Review(sizes, found, findings, tuple(proposals))


def pairs(segments: Mapping[str, Segment], members: Members) -> Iterator[Pair]:
    """Yield all pairs with common members or with one rule implying the other, most alike first."""
    rules = {name: inline_all(s.match, segments) for name, s in segments.items()}
    sizes, common, found = {name: len(members[name]) for name in segments}, _common([members[name] for name in segments]), []
    for (i, a), (j, b) in combinations(enumerate(segments), 2):
        both, n, m = int(common[i, j]), sizes[a], sizes[b]
        forward = both == n and logic.implies(rules[a], rules[b])  # nobody may be in the one and not in the other
        back = both == m and logic.implies(rules[b], rules[a])
        relation = "equal" if forward and back else "first implies second" if forward else "second implies first" if back else ""
        if both or relation:
            found.append(Pair(a, b, both, both / max(n + m - both, 1), both / max(n, 1), both / max(m, 1), relation))
    yield from sorted(found, key=lambda p: (-p.jaccard, p.first, p.second))


def _common(members: Sequence[Array]) -> Array:
    """Return int64 (segments, segments): how many customers each two have in common."""
    from scipy.sparse import csr_array

    everybody, place = Customers.named(np.concatenate([np.zeros(0, object), *members]))
    ends = np.cumsum([0, *map(len, members)])
    inside = csr_array((np.ones(len(place), np.int64), place, ends), shape=(len(members), len(everybody)))
    return np.asarray((inside @ inside.T).toarray())


def _sizes(sizes: Mapping[str, int], small: int) -> Iterator[Finding]:
    for name, size in sizes.items():
        if size == 0:
            yield Finding("empty", (name,), f"{name} has no members")
        elif size < small:
            yield Finding("small", (name,), f"{name} has {size:,} members, under {small:,}")


def _alike(found: Sequence[Pair]) -> Iterator[Finding]:
    for p in found:
        both = (p.first, p.second)
        if p.logic == "equal":
            yield Finding("equal", both, f"{p.first} and {p.second} say the same in other words")
        elif p.logic:
            inner, outer = both if p.logic == "first implies second" else both[::-1]
            yield Finding("contained", (inner, outer), f"every member of {inner} is always in {outer}: its rule implies the other")
        elif p.jaccard >= ALIKE:
            yield Finding("alike", both, f"{p.first} and {p.second} share {p.jaccard:.0%} of their members ({p.both:,})")


def _moving(segments: Mapping[str, Segment], log: pd.DataFrame) -> Iterator[Finding]:
    for name, segment in segments.items():
        runs = log[(log["segment"] == name) & (log["definition"] == segment.definition)].sort_values("as_of")
        later = runs.iloc[1:]
        if len(later) < RUNS:
            continue
        exchanged = (later["entered"] + later["left"]).sum()
        share = exchanged / 2 / max(later["members"].sum(), 1)
        if exchanged == 0:
            yield Finding("never changes", (name,), f"{name} has not changed in {len(later) + 1} runs")
        elif share > UNSTABLE:
            yield Finding("unstable", (name,), f"{name} exchanges {share:.0%} of its members at an average run")


def _used_by(name: str, segments: Mapping[str, Segment]) -> list[str]:
    return [s.name for s in segments.values() if name in s.uses()]


def _merges(found: Sequence[Pair], segments: Mapping[str, Segment], members: Members, texts: Mapping[str, str]) -> Iterator[Proposal]:
    gone: set[str] = set()
    for p in found:
        keep, drop = segments[p.first], segments[p.second]
        alike = (p.logic == "equal" or p.jaccard >= ALIKE) and not {p.first, p.second} & gone
        if not alike or (keep.purpose, keep.refresh) != (drop.purpose, drop.refresh) or _used_by(drop.name, segments):
            continue
        assert keep.node is not None and drop.node is not None
        gone.add(drop.name)
        changes = [edits.without_document(texts[drop.node.file], drop.node)]
        size = len(members[keep.name])
        if not p.logic:
            rule = {"any": [keep.node.value["match"].plain(), drop.node.value["match"].plain()]}
            changes.insert(0, edits.with_match(texts[keep.node.file], keep.node, rule))
            size += len(members[drop.name]) - p.both
        why = "they say the same" if p.logic == "equal" else f"they share {p.jaccard:.0%} of their members"
        yield Proposal("merge", (keep.name, drop.name), why, len(members[keep.name]), size, tuple(changes), edits.diff(texts, changes))


def _retired(sizes: Mapping[str, int], segments: Mapping[str, Segment], texts: Mapping[str, str]) -> Iterator[Proposal]:
    for name, size in sizes.items():
        node = segments[name].node
        if size == 0 and node is not None and not _used_by(name, segments):
            change = edits.without_document(texts[node.file], node)
            yield Proposal("retire", (name,), "nobody is in it", 0, 0, (change,), edits.diff(texts, [change]))


def _widened(
    names: Sequence[str], segments: dict[str, Segment], sizes: Mapping[str, int], texts: Mapping[str, str], measure: Measure, small: int
) -> Iterator[Proposal]:
    """Try looser bounds of small segments, all in one pass, and propose the one that adds the fewest members to be enough."""
    tries: dict[str, tuple[str, Edit, str]] = {}
    trial, models = dict(segments), models_in(segments)
    for name in names:
        for edit, said in _looser(segments[name], texts):
            wider = edited(segments[name], edit, texts[edit.file], segments, models)
            if wider is not None:
                key = f"{name}__{len(tries)}"
                tries[key], trial[key] = (name, edit, said), replace(wider, name=key)
    found = measure(trial) if tries else {}
    for name in names:
        enough = [(len(found[key]), edit, said) for key, (of, edit, said) in tries.items() if of == name and len(found[key]) >= small]
        if enough:
            size, edit, said = min(enough, key=lambda e: e[0])
            yield Proposal("widen", (name,), said, sizes[name], size, (edit,), edits.diff(texts, [edit]))


def _looser(segment: Segment, texts: Mapping[str, str]) -> Iterator[tuple[Edit, str]]:
    """Yield edits that loosen one bound or one window of a rule."""
    assert segment.node is not None
    for leaf in _leaves(segment.node.value["match"]):
        for key, node in leaf.value.items():
            for value in _looser_values(key, node, leaf):
                verb = leaf.value.get("did") or leaf.value.get("score")
                about = verb.plain() if verb is not None else "the rule"
                yield edits.with_scalar(texts[node.file], node, value), f"`{key}: {value}` instead of `{key}: {node.plain()}` for {about}"


def _looser_values(key: str, node: Node, leaf: Node) -> list[str]:
    if key in COMPARISONS and isinstance(node.value, int | Decimal) and node.value > 0:
        factors = {"more_than": ("0.8", "0.5", "0.25"), "at_least": ("0.8", "0.5", "0.25"), "less_than": ("1.25", "2"), "at_most": ("1.25", "2")}
        scaled = [(node.value * Decimal(f)) for f in factors.get(key, ())]
        whole = isinstance(node.value, int)
        return list(dict.fromkeys(str(max(int(v), 1) if whole else f"{v.normalize():f}") for v in scaled if v != node.value))
    if key == "within" and "did" in leaf.value and "then" not in leaf.value:
        return [_spelled(parse_duration(str(node.plain())) * n) for n in (2, 4)]
    if key in ("top", "bottom") and isinstance(node.value, str):
        share = Decimal(node.value.removesuffix("%").strip())
        return [f"{min(share * n, Decimal(100)).normalize():f}%" for n in (2, 3)]
    return []


def _spelled(micros: int) -> str:
    short = short_duration(micros)
    return f"{short[:-1]} { ({'d': 'days', 'h': 'hours', 'm': 'minutes'}[short[-1]]) }"


def _leaves(node: Node) -> Iterator[Node]:
    """Yield the mappings of a rule that have a verb of their own, outside `none` and the steps of `then`."""
    if node.is_list:
        for item in node.value:
            yield from _leaves(item)
    elif node.is_mapping:
        if "did" in node.value or "score" in node.value:
            yield node
        for key in ("all", "any", "some", "of"):
            if key in node.value:
                yield from _leaves(node.value[key])
