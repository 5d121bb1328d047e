"""Facts of customers: at t the visible row with the greatest event_time, and unknown is not false."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predseg.evaluate import batch
from predseg.forecast import traits
from predseg.forecast.traits import at_moments, trait_columns, trait_facts
from predseg.language import conditions as c
from predseg.language.documents import parse_condition
from predseg.language.yaml import read_documents


def trait(traits: pd.DataFrame, name: str, *asked: tuple[str, int]) -> list[Any]:
    return at_moments(traits, name, np.array([i for i, _ in asked], object), np.array([t for _, t in asked])).tolist()


HISTORY = pd.DataFrame(
    {
        "customer_id": ["ann", "ann", "bob", "ann", "bob"],
        "event_time": [10, 30, 5, 20, 5],
        "country": ["GB", "DE", "FR", "IE", "IT"],
    }
)


def test_the_row_with_the_greatest_time_counts() -> None:
    """From its own instant on, in any order of rows, moments and customers."""
    asked = [("ann", 30), ("ann", 9), ("bob", 100), ("ann", 10), ("zoe", 50), ("ann", 29), ("ann", 19), ("ann", 20)]
    assert trait(HISTORY, "country", *asked) == ["DE", None, "IT", "GB", None, "IE", "GB", "IE"]


def test_of_equal_times_the_greatest_value_counts() -> None:
    """Ties are decided by value, never by the order of the rows."""
    r = random.Random(0)
    for _ in range(5):
        order = r.sample(range(5), 5)
        assert trait(HISTORY.iloc[order], "country", ("bob", 5), ("ann", 25)) == ["IT", "IE"]


def test_without_a_time_a_trait_is_constant() -> None:
    constant = pd.DataFrame({"customer_id": ["ann", "bob"], "country": ["GB", None]})
    assert trait(constant, "country", ("ann", -(10**15)), ("ann", 10**15), ("bob", 0), ("zoe", 0)) == ["GB", "GB", None, None]


def test_a_row_without_a_time_is_from_the_beginning() -> None:
    rows = pd.DataFrame({"customer_id": ["ann", "ann"], "event_time": [None, 10], "country": ["GB", "DE"]})
    assert trait(rows, "country", ("ann", 9), ("ann", 10)) == ["GB", "DE"]


def test_a_row_counts_from_when_it_is_known() -> None:
    """The law of time holds for traits too: a change of the 10th that we learn of on the 20th is no fact on the 15th."""
    rows = pd.DataFrame(
        {"customer_id": ["ann"] * 4, "event_time": [0, 10, 15, 30], "known_since": [0, 20, 15, 5], "country": ["GB", "DE", "FR", "ES"]}
    )
    asked = [("ann", t) for t in (9, 10, 14, 15, 19, 20, 29, 30)]
    assert trait(rows, "country", *asked) == ["GB", "GB", "GB", "FR", "FR", "FR", "FR", "ES"]
    only_known = rows.drop(columns="event_time").iloc[:2]
    assert trait(only_known, "country", ("ann", -1), ("ann", 19)) == [None, "GB"]


def test_a_later_row_without_the_value_takes_it_away() -> None:
    """The row counts, not the last value that some row had."""
    rows = pd.DataFrame({"customer_id": ["ann", "ann"], "event_time": [10, 20], "country": ["GB", None], "tier": [None, "gold"]})
    assert trait(rows, "country", ("ann", 10), ("ann", 20)) == ["GB", None]
    assert trait(rows, "tier", ("ann", 10), ("ann", 20)) == [None, "gold"]


def test_rows_not_visible_yet_change_nothing() -> None:
    r = random.Random(7)
    for _ in range(50):
        rows = [(r.choice("ab"), r.randrange(10), r.randrange(10), r.choice(["x", "y", None])) for _ in range(r.randrange(1, 8))]
        t = r.randrange(10)
        frame = pd.DataFrame(rows, columns=["customer_id", "event_time", "known_since", "p"])
        seen = frame[(frame["event_time"] <= t) & (frame["known_since"] <= t)]
        for customer in "ab":
            mine = [(row.event_time, row.p if isinstance(row.p, str) else "") for row in seen[seen["customer_id"] == customer].itertuples()]
            assert trait(frame, "p", (customer, t)) == [max(mine)[1] or None if mine else None]


def test_customers_with_one_row_each_are_answered_as_all_others_are() -> None:
    """One more row of anybody else takes the other way through `at_moments`."""
    r = random.Random(11)
    for _ in range(50):
        rows = [(who, r.randrange(10), r.randrange(10), r.choice(["x", "y", None])) for who in r.sample("abcdef", r.randrange(1, 7))]
        frame = pd.DataFrame(rows, columns=["customer_id", "event_time", "known_since", "p"])
        frame = frame.drop(columns=r.choice([[], ["event_time"], ["known_since"]]))
        twice = pd.concat([frame, pd.DataFrame([("z", 3, 3, "x"), ("z", 1, 1, "y")], columns=["customer_id", "event_time", "known_since", "p"])])
        asked = [(r.choice("abcdefg"), r.randrange(10)) for _ in range(20)]
        assert trait(frame, "p", *asked) == trait(twice[[*frame.columns]], "p", *asked, ("z", 5))[:-1]


@given(st.lists(st.sampled_from("abcdefé"), max_size=9), st.lists(st.sampled_from("abcdefgé"), unique=True), st.sampled_from([0, 1, 100]))
def test_rows_of_customers_are_found_among_many_and_among_few(ids: list[str], who: list[str], near: int) -> None:
    asked = np.array(who, object)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(traits, "NEAR", near)
        first, number = traits._rows_of(pd.Index(sorted(ids), dtype=object), asked)
    assert number.tolist() == [ids.count(one) for one in who]
    assert all(sorted(ids)[at : at + n] == [one] * n for one, at, n in zip(who, first.tolist(), number.tolist(), strict=True))


def test_no_rows_at_all() -> None:
    empty = pd.DataFrame({"customer_id": pd.Series([], dtype=object), "country": pd.Series([], dtype=object)})
    assert trait(empty, "country", ("ann", 0)) == [None]
    assert trait(HISTORY, "country") == []


@pytest.mark.parametrize(
    ("stored", "text"),
    [
        ([3, 3], "3"),
        ([3.0, None], "3"),
        ([Decimal("3.0000"), Decimal(5)], "3"),
        ([0.5, None], "0.5"),
        ([1_000_000, 5], "1000000"),
        (["3.0", None], "3.0"),
        ([True, None], "True"),
    ],
)
def test_a_category_is_written_the_same_way_however_it_is_stored(stored: list[object], text: str) -> None:
    """A column of whole numbers becomes one of fractions as soon as one is missing: the model must not see another category."""
    traits = pd.DataFrame({"customer_id": ["ann", "bob"], "p": stored})
    for asked in (["ann"], ["ann", "zoe"]):
        frame = pd.DataFrame({"customer_id": asked, "as_of": [0] * len(asked)}, index=range(7, 7 + len(asked)))
        [column] = trait_columns(("p",), traits, frame).values()
        assert column.tolist() == [text, None][: len(asked)] and column.index.equals(frame.index)


def test_columns_are_named_and_missing_where_nothing_is_known() -> None:
    frame = pd.DataFrame({"customer_id": ["ann", "ann"], "as_of": [10, 30]})
    found = trait_columns(("country", "tier"), HISTORY, frame)
    assert found["trait_country"].tolist() == ["GB", "DE"] and found["trait_tier"].tolist() == [None, None]
    assert trait_columns(("country",), None, frame)["trait_country"].tolist() == [None, None]


def decided(text: str, traits: pd.DataFrame | None, *asked: tuple[str, int]) -> list[bool | None]:
    [node] = read_documents(text)
    truth = trait_facts(traits)(parse_condition(node), np.array([i for i, _ in asked], object), np.array([t for _, t in asked]))
    return [None if u else bool(t) for t, u in zip(truth.true, truth.unknown, strict=True)]


def test_conditions_on_traits_have_three_values() -> None:
    asked = ("ann", 10), ("ann", 30), ("bob", 5), ("zoe", 5)
    assert decided("{trait: {country: [GB, IT]}}", HISTORY, *asked) == [True, False, True, None]
    assert decided("{trait: {country: {not: GB}}}", HISTORY, *asked) == [False, True, True, None]
    assert decided("{trait: {country: {exists: false}}}", HISTORY, *asked) == [False, False, False, True]
    assert decided("{trait: {country: {exists: true}}}", HISTORY, *asked)[:3] == [True, True, True]
    assert decided("{trait: {country: GB}}", None, *asked) == [None] * 4
    assert decided("{trait: {tier: gold}}", HISTORY, *asked) == [None] * 4


def test_whether_a_trait_exists_is_always_known() -> None:
    """``exists`` asks about presence itself, so it has two values."""
    assert decided("{trait: {country: {exists: true}}}", HISTORY, ("zoe", 5), ("ann", 9)) == [False, False]


def test_numbers_and_flags_keep_their_kinds() -> None:
    traits = pd.DataFrame({"customer_id": ["ann", "bob"], "age": [30, None], "vip": [True, None], "code": ["30", None]})
    asked = ("ann", 0), ("bob", 0)
    assert decided("{trait: {age: {at_least: 30}}}", traits, *asked) == [True, None]
    assert decided("{trait: {age: {more_than: 30}}}", traits, *asked) == [False, None]
    assert decided("{trait: {age: '30'}}", traits, *asked) == [False, None]
    assert decided("{trait: {code: 30}}", traits, *asked) == [False, None]
    assert decided("{trait: {vip: true}}", traits, *asked) == [True, None]
    assert decided("{trait: {vip: 1}}", traits, *asked) == [False, None]


def test_other_conditions_do_not_follow_from_traits() -> None:
    with pytest.raises(TypeError, match="In does not follow from events and traits"):
        trait_facts(HISTORY)(c.In("vip"), np.array(["ann"], object), np.array([0]))


def test_unknown_traits_go_through_the_layers() -> None:
    """Nobody is refused or chosen for a fact that nobody has told us."""
    from tests.evaluate.stories import parse_events
    from tests.evaluate.worlds import to_block

    block = to_block({"ann": parse_events("1970-01-01  A"), "zoe": parse_events("1970-01-01  A")}, {})
    [node] = read_documents("{none: [{trait: {country: GB}}]}")
    truth = batch.truth(block, [10, 30], parse_condition(node), facts=trait_facts(HISTORY))
    assert truth.true.tolist() == [[False, True], [False, False]] and truth.unknown.tolist() == [[False, False], [True, True]]
