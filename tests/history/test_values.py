"""Ids, instants and numbers as they come, against the slow and obvious way of reading each."""

from __future__ import annotations

import datetime as dt
import math
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predseg.history.values import LIMIT, NaiveTimes, exact, ids, instants, moments, numbers
from predseg.language.time import parse_instant

LONDON = "Europe/London"


# ids


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        (pa.array([17850.0, 3.5, -2.0, float("nan"), None]), ["17850", "3.5", "-2", None, None]),
        (pa.array([" a ", "", " ", None, "007", "17850.0"]), ["a", None, None, None, "007", "17850.0"]),
        (pa.array([1, -1, 2**62]), ["1", "-1", str(2**62)]),
        (pa.array([Decimal("17850.00"), Decimal("1.50"), None]), ["17850", "1.50", None]),
        (pa.array(["x", "y", "x"]).dictionary_encode(), ["x", "y", "x"]),
        (pa.nulls(2), [None, None]),
    ],
)
def test_ids_are_text_without_the_traces_of_floats(given_: pa.Array, expected: list[str | None]) -> None:
    found, inexact = ids(given_)
    assert found.to_pylist() == expected and not inexact.any()


white = st.sampled_from(["", " ", "\t", "\x1c", "\x1f", "\x85", "\xa0", "\u2003", "\u3000", "a", "b c", "é", "\x7f", "\U0001f600"])


@given(st.lists(st.none() | st.lists(white, max_size=3).map("".join), max_size=12), st.integers(0, 3))
def test_ids_lose_white_space_at_both_ends(texts: list[str | None], left: int) -> None:
    found, _ = ids(pa.array(texts, pa.string()).slice(left))
    assert found.to_pylist() == [text.strip() or None if text else None for text in texts[left:]]
    for text in filter(None, texts):
        assert ids(pa.array([text]))[0].to_pylist() == [text.strip() or None]


def test_a_float_that_cannot_hold_its_digits_is_no_id() -> None:
    assert ids(pa.array([2.0**53 - 1, 2.0**53, 1e17]))[1].tolist() == [False, True, True]


# instants


def read(array: pa.Array, zone: str | None = None) -> list[Any]:
    found = instants(array, zone)
    return [
        "bad" if bad else value if known else None for value, known, bad in zip(found.micros.tolist(), found.known, found.unreadable, strict=True)
    ]


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2011-07-01T10:00:00Z", "2011-07-01T10:00"),
        ("2011-07-01 10:00+02:00", "2011-07-01T08:00"),
        ("2011-07-01 10:00:00 +0200", "2011-07-01T08:00"),
        ("2011-07-01T10:00:00-05", "2011-07-01T15:00"),
        ("2011-07-01", "2011-07-01"),
        (" 2011-07-01T10:00:00.5z ", "2011-07-01T10:00:00.5"),
        ("2011-07-01T10:00:00.1234569Z", "2011-07-01T10:00:00.123456"),
        ("1969-12-31T23:59:59.9999999Z", "1969-12-31T23:59:59.999999"),
    ],
)
def test_texts_with_an_offset_and_dates_need_no_zone(text: str, utc: str) -> None:
    assert read(pa.array([text])) == [parse_instant(utc)]


@pytest.mark.parametrize(
    "text", ["yesterday", "2011-02-30", "2011-13-01T10:00Z", "01/02/2011", "2011-07-01T25:00Z", "2011-07-01T10", "1e9", "20110701"]
)
def test_what_is_no_time_is_said_to_be_none(text: str) -> None:
    assert read(pa.array([text, "2011-07-01", "", None]), LONDON) == ["bad", parse_instant("2011-07-01"), None, None]


@pytest.mark.parametrize(
    ("local", "utc"),
    [
        ("2011-12-01 08:26", "2011-12-01T08:26"),
        ("2011-07-01 08:26", "2011-07-01T07:26"),
        ("2011-10-30 01:30", "2011-10-30T00:30"),  # occurs twice: the first of both
        ("2011-03-27 01:30", "2011-03-27T01:30"),  # never occurs: counted from before the gap
        ("2011-03-27 00:59:59.999999", "2011-03-27T00:59:59.999999"),
        ("2011-03-27 02:00", "2011-03-27T01:00"),
    ],
)
def test_local_times_are_read_in_their_zone(local: str, utc: str) -> None:
    assert read(pa.array([local]), LONDON) == [parse_instant(utc)]
    assert read(pa.array([dt.datetime.fromisoformat(local)], pa.timestamp("us")), LONDON) == [parse_instant(utc)]


def test_local_times_without_a_zone_are_refused_with_an_example() -> None:
    for array in (pa.array([None, "2011-07-01 10:00"]), pa.array([None, dt.datetime(2011, 7, 1, 10)], pa.timestamp("ns"))):
        with pytest.raises(NaiveTimes, match="2011-07-01 10:00"):
            instants(array, None)


def test_a_date_is_midnight_utc_whatever_the_zone() -> None:
    assert read(pa.array([dt.date(2011, 7, 1)]), LONDON) == [parse_instant("2011-07-01")] == read(pa.array(["2011-07-01"]), LONDON)


@given(st.integers(-(2**62), 2**62))
def test_nanoseconds_are_floored(ticks: int) -> None:
    assert read(pa.array([ticks], pa.timestamp("ns", "UTC"))) == [ticks // 1000]


@given(st.datetimes(dt.datetime(1900, 1, 2), dt.datetime(2100, 1, 1)))
def test_zoned_and_local_columns_agree_with_the_standard_library(moment: dt.datetime) -> None:
    from zoneinfo import ZoneInfo

    zone = ZoneInfo(LONDON)
    back = moment.replace(tzinfo=zone, fold=0).astimezone(dt.UTC)
    assert read(pa.array([moment], pa.timestamp("us")), LONDON) == [parse_instant(back)]
    assert read(pa.array([back], pa.timestamp("us", "America/New_York"))) == [parse_instant(back)]


def test_years_that_no_calendar_has_are_bad() -> None:
    far = pa.array([-(2**61), 2**61, 0], pa.timestamp("s", "UTC"))
    assert read(far) == ["bad", "bad", 0]


def test_moments_are_null_where_not_known() -> None:
    assert moments(instants(pa.array(["2011-07-01", None]), None)).to_pylist() == [dt.datetime(2011, 7, 1, tzinfo=dt.UTC), None]


# numbers


def slow(text: str) -> tuple[int | None, str]:
    """Read one number with decimals only."""
    number = Decimal(text)
    if not number.is_finite():
        return None, "infinite"
    with localcontext() as context:
        context.prec = 2000
        kept = number.quantize(Decimal("0.0001"), ROUND_HALF_EVEN) if abs(number) < 10 * LIMIT else number
        if abs(kept) >= LIMIT:
            return None, "large"
        return int(kept * 10_000), "rounded" if kept != number else "exact"


def fast(array: pa.Array) -> list[tuple[int | None, str]]:
    found = numbers(array)
    words = zip(found.unreadable, found.infinite, found.large, found.rounded, strict=True)
    states = ["unreadable" if u else "infinite" if i else "large" if large else "rounded" if r else "exact" for u, i, large, r in words]
    return [(value if known else None, state) for value, known, state in zip(found.scaled.tolist(), found.known, states, strict=True)]


digits = st.decimals(-(10**10), 10**10, allow_nan=False, places=None).map(str) | st.decimals(-100, 100, places=6).map(str)


@given(
    st.lists(
        digits
        | st.sampled_from(["0.00005", "0.00015", "-0.00025", "999999999.99995", "999999999.99994", "1E9", "-1e9", "NaN", "-Infinity", "1e-300"])
    )
)
def test_texts_are_read_exactly_and_rounded_half_even(texts: list[str]) -> None:
    assert fast(pa.array(texts, pa.string())) == [slow(text) for text in texts]


@given(
    st.lists(
        st.floats(-1e10, 1e10) | st.integers(-(10**7), 10**7).map(lambda k: k / 20_000) | st.sampled_from([0.00005, 1.00005, 2.00015, math.inf, 1e9])
    )
)
def test_a_float_means_its_shortest_text(values: list[float]) -> None:
    found = fast(pa.array(values, pa.float64()))
    assert [value for value, _ in found] == [slow(repr(value))[0] for value in values]


def test_noise_of_floats_is_not_rounding_but_digits_are() -> None:
    assert [state for _, state in fast(pa.array([0.1 + 0.2, sum([0.1] * 10), 123456789.1234, 0.12345, 10.00001]))] == ["exact"] * 3 + ["rounded"] * 2


@given(st.lists(st.decimals(-(10**10), 10**10, places=7)))
def test_decimals_are_rounded_half_even(values: list[Decimal]) -> None:
    assert fast(pa.array(values, pa.decimal128(38, 7))) == [slow(str(value)) for value in values]


@given(st.lists(st.none() | st.decimals(-(10**12), 10**12, places=3)), st.integers(0, 3), st.sampled_from([16, 17, 18, 38]))
def test_short_decimals_are_exact(values: list[Decimal | None], left: int, digits: int) -> None:
    array = pa.array(values, pa.decimal128(digits, 3)).slice(left)
    assert fast(array) == [(None, "exact") if value is None else slow(str(value)) for value in values[left:]]


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_whole_numbers_are_exact(values: list[int]) -> None:
    assert fast(pa.array(values, pa.int64())) == [slow(str(value)) for value in values]


@pytest.mark.parametrize("text", ["many", "12,5", "£3", "1_000", "٣", "0x10", "1 2", "--1"])
def test_what_is_no_number_is_said_to_be_none(text: str) -> None:
    assert fast(pa.array([text, "1", "", None])) == [(None, "unreadable"), (10_000, "exact"), (None, "exact"), (None, "exact")]


def test_a_boolean_is_no_number() -> None:
    assert fast(pa.array([True, None])) == [(None, "unreadable"), (None, "exact")]


def test_exact_survives_slices_and_nulls() -> None:
    array = pa.array([Decimal("1.5"), None, Decimal("-2.25"), Decimal("1e8")], pa.decimal128(20, 2)).slice(1)
    assert exact(numbers(array)).to_pylist() == [None, Decimal("-2.2500"), Decimal("100000000.0000")]


def test_decimals_beyond_a_word_are_large_and_what_lies_under_a_null_is_not() -> None:
    assert fast(pa.array([Decimal(10**30), Decimal(-(2**64)), Decimal(1)], pa.decimal128(38, 4))) == [
        (None, "large"),
        (None, "large"),
        (10_000, "exact"),
    ]
    words = pa.array([10**14, 2], pa.int64()).cast(pa.decimal128(19, 0)).cast(pa.decimal128(19, 4)).buffers()[1]
    assert fast(pa.Array.from_buffers(pa.decimal128(18, 4), 2, [pa.array([False, True]).buffers()[1], words])) == [(None, "exact"), (20_000, "exact")]


def test_wide_numbers_fit_where_nothing_is_computed() -> None:
    assert numbers(pa.array([21_035_000_000.0]), 10**14).scaled.tolist() == [210_350_000_000_000]
    assert numbers(pa.array([1e14]), 10**14).large.tolist() == [True]
