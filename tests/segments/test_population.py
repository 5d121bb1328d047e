"""All segments at one moment: members come sorted, whatever the blocks come in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from predseg.evaluate.reference import Event
from predseg.language.documents import parse_condition
from predseg.language.yaml import read_documents
from predseg.segments import customers
from predseg.segments.definitions import Segment, fingerprint
from predseg.segments.facts import Facts
from predseg.segments.population import members_at
from tests.evaluate.worlds import to_block

GROUPS = [["cy", "dan"], ["ann", "eve"], ["bob"]]


@pytest.mark.parametrize("stretch", [1, 2, customers.STRETCH])
@pytest.mark.parametrize("turn", [1, -1])
def test_members_are_sorted_in_whatever_order_blocks_come(turn: int, stretch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """And however many of them are named at a time."""
    monkeypatch.setattr(customers, "STRETCH", stretch)
    found = {}
    for name, text in (("some", "{did: A}"), ("none", "{did_not: A}")):
        rule = parse_condition(read_documents(text)[0])
        found[name] = Segment(name, rule, fingerprint(rule, "daily"))
    histories = [{who: [Event(1, "A" if who in ("eve", "ann", "dan") else "B", {})] for who in group} for group in GROUPS]

    def over(work: Callable[[Any], Any], *_: object, **__: object) -> Iterator[Any]:
        return map(work, [to_block(history) for history in sorted(histories, key=min)[::turn]])

    members = members_at([], found, 10, Facts(), over=over)
    assert {name: list(ids) for name, ids in members.items()} == {"some": ["ann", "dan", "eve"], "none": ["bob", "cy"]}
