"""Filters that nothing can pass are said."""

from __future__ import annotations

import pytest

from predseg.language.documents import parse_condition
from predseg.language.yaml import read_documents
from predseg.segments.definitions import Segment
from predseg.segments.kinds import never_passed

PROPERTIES = {"any": "mixed", "price": "text", "sku": "whole", "tags": "list", "gift": "flag", "amount": "number"}
TEXTS = (
    "; a code such as 00123, or any text among traits, makes all of them texts, as any text did in a table of an earlier version, which "
    "`predseg check --rebuild` builds anew: write yours in quotes, or cast the column in a `query:`"
)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("{did: O, where: {price: {more_than: 1}}}", f"`price more than 1`, because price holds texts in the data{TEXTS}"),
        ("{did: O, where: {sku: '85123'}}", "`sku 85123`, because sku holds numbers in the data; write it without quotes"),
        ("{did: O, then: {did: P, where: {gift: 1}, within: 1 days}, within: 2 days}", "`gift 1`, because gift holds true and false in the data"),
        ("{all: [{trait: {zip: 8000}}]}", f"`zip 8,000`, because zip holds texts in the data{TEXTS}"),
        ("{rfv: {of: O, where: {amount: x}, recency: [5]}}", "`amount x`, because amount holds numbers in the data; write it without quotes"),
        (
            "{did: O, where: {any: 1, price: '1', sku: [1, x], tags: x, gift: true, amount: {between: [1, 2]}, unknown: 1, value: {exists: true}}}",
            None,
        ),
    ],
)
def test_a_filter_on_values_of_another_kind_is_said(rule: str, said: str | None) -> None:
    segment = Segment("s", parse_condition(read_documents(rule)[0]), "d")
    assert never_passed([segment], PROPERTIES, {"zip": "text"}) == ([f"s: nothing passes {said}"] if said else [])
