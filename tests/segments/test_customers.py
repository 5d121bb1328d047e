"""Ids, each once and in order: whatever order they come in, a place stands for one of them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predseg.segments import customers
from predseg.segments.customers import Customers

IDS = st.lists(st.one_of(st.sampled_from(["", "a", "b", "B", "aa", "é", "e\u0301", "z\U0001f600"]), st.text(max_size=3)), max_size=12)


def of(texts: list[str], cut: int = 0) -> tuple[Customers, list[str]]:
    """In two chunks, and the ids at the places that were said."""
    found, place = Customers.of(pa.chunked_array([texts[:cut], texts[cut:]], pa.string()))
    return found, found.texts[place].tolist()


@given(IDS, st.integers(0, 12))
def test_each_id_is_there_once_in_the_order_of_python_and_has_its_place(texts: list[str], cut: int) -> None:
    found, again = of(texts, cut)
    assert found.texts.tolist() == sorted(set(texts)) and again == texts and len(found) == len(set(texts))


@given(IDS, IDS)
def test_joined_they_are_all_and_each_keeps_its_id(some: list[str], others: list[str]) -> None:
    mine, theirs = of(some)[0], of(others)[0]
    both, here, there = mine.join(theirs)
    assert both.texts.tolist() == sorted({*some, *others})
    assert both.texts[here].tolist() == mine.texts.tolist() and both.texts[there].tolist() == theirs.texts.tolist()
    places = mine.places(theirs.ids).tolist()
    with pytest.MonkeyPatch.context() as patch:
        for few in (0, 100):
            patch.setattr(customers, "FEW", few)
            assert mine.find(theirs.texts[::-1]).tolist() == places[::-1]
    assert [mine.texts[at] if at >= 0 else None for at in places] == [text if text in set(some) else None for text in sorted(set(others))]


@pytest.mark.parametrize("stretch", [1, 2, 5, 100])
@given(st.data())
def test_texts_are_the_same_however_many_are_made_at_a_time(stretch: int, data: st.DataObject) -> None:
    known, _ = of([f"c{i}" for i in range(data.draw(st.integers(0, 9)))])
    places = data.draw(st.dictionaries(st.sampled_from("xyz"), st.lists(st.integers(0, max(len(known) - 1, 0)), max_size=9 if len(known) else 0)))
    at = {name: np.sort(np.array(some, np.int64)) for name, some in places.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(customers, "STRETCH", stretch)
        found = known.by_name(at)
    assert {name: texts.tolist() for name, texts in found.items()} == {name: known.texts[some].tolist() for name, some in at.items()}
