"""Bags, beside a naive answer from the list of events of one customer: point in time, in any order, with late events and joined identities."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from predseg.config import Features, TasteFeatures
from predseg.evaluate.block import Block
from predseg.evaluate.reference import Event
from predseg.forecast import bags, leaks
from predseg.forecast.bags import Bag, answer
from predseg.forecast.features import block_frame, compile_features
from predseg.language.measures import Events
from tests.evaluate.differential import IDENTITIES
from tests.evaluate.worlds import MOMENTS, SECOND, random_events_of_customers, seeded, to_block

WANTED = compile_features(Features(taste=TasteFeatures(("A", "B"), "tags")))


def naive(history: list[Event], t: int, bag: Bag) -> list[str]:
    found: set[str] = set()
    for event in history:
        value: Any = event.properties.get(bag.of)
        if event.name in bag.events.names and event.visible <= t and value is not None:
            found |= {_text(v) for v in (value if isinstance(value, tuple) else (value,))}
    return sorted(found)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value.normalize():f}" if isinstance(value, Decimal) else str(value)


@pytest.mark.parametrize("of", ["word", "tags", "flag", "n", "value", "nowhere"])
def test_they_are_what_the_list_of_events_says(of: str) -> None:
    """At every moment, for who is wanted; whatever the order of the events, and however often they come."""
    bag, compared = Bag(Events(("A", "C")), of), 0
    for seed in range(30):
        r = seeded(seed)
        histories = random_events_of_customers(r, customers=5)
        block = to_block(histories)
        cells = [(t, str(who)) for t in MOMENTS for who in block.customers]
        at = np.array(sorted(r.sample(range(len(cells)), len(cells) // 2)))
        expected = [naive(histories[who], t, bag) for t, who in cells]
        assert answer(block, MOMENTS, bag).to_pylist() == expected
        assert answer(block, MOMENTS, bag, at).to_pylist() == [expected[i] for i in at]
        again = {who: random.Random(seed).sample(2 * events, 2 * len(events)) for who, events in histories.items()}
        assert answer(to_block(again), MOMENTS, bag).to_pylist() == expected
        compared += sum(map(bool, expected))
    assert compared > 1_000 or of == "nowhere"


def test_a_link_joins_bags_from_its_own_instant_on() -> None:
    def bought(minute: int, what: str, phone: bool = False) -> Event:
        joined = {"anonymous_id": "phone", "linked_at": 50 * SECOND} if phone else {"anonymous_id": None, "linked_at": None}
        return Event(minute * SECOND, "A", {"word": what, **joined})

    block = to_block({"ann": [bought(10, "x"), bought(20, "y", True)]}, {"word": IDENTITIES["anonymous_id"], **IDENTITIES})
    found = answer(block, [30 * SECOND, 50 * SECOND], Bag(Events(("A",)), "word")).to_pylist()
    assert list(block.customers) == ["ann", "phone"] and found == [["x"], ["y"], ["x", "y"], []]


def test_it_is_a_column_of_the_features_of_everybody_who_is_asked_about() -> None:
    assert WANTED.names == ["tenure", "all_tags_a_or_b"] and WANTED.properties() == {"tags"}
    histories = {"a": [Event(0, "A", {"tags": ("x", "y")}), Event(5, "B", {"tags": ("x",)})], "b": [Event(3, "C", {"tags": ("z",)})]}
    frame = block_frame(to_block(histories), [2, 9], WANTED)
    told = dict(zip(zip(frame["customer_id"], frame["as_of"], strict=True), frame["all_tags_a_or_b"], strict=True))
    assert {who: list(values) for who, values in told.items()} == {("a", 2): ["x", "y"], ("a", 9): ["x", "y"], ("b", 9): []}


def test_what_sees_the_future_is_found_as_a_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    block = to_block(random_events_of_customers(seeded(1), customers=200))
    assert leaks.future_leaks(block, [7 * SECOND], WANTED) == []

    def leaky(found: Block, as_of: list[int], bag: Bag) -> Any:
        return answer(found, [t + 3 * SECOND for t in as_of], bag)

    monkeypatch.setattr(bags, "answer", leaky)
    assert [leak.name for leak in leaks.future_leaks(block, [7 * SECOND], WANTED)] == ["all_tags_a_or_b"]
