"""Files that are read again, in whatever order, with whatever came since: no event comes twice, and none becomes another."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predseg.errors import DataError
from predseg.history import adding, merge, quarantine
from predseg.history.mixed import ITEMS, MIXED
from predseg.history.persons import EVERYBODY
from predseg.live.lines import Contract
from predseg.segments.lookup import to_events
from tests.history.projects import LONGER, NOW, Place

JSONL = "sources: {a: {path: 'a/*.jsonl'}}\n"
PARQUET = "sources: {a: {path: 'a/*.parquet'}}\n"
NUMBERS: tuple[Any, ...] = (0, 5, -7, 2.5, 1e-7, 2**53 + 1, 2**62, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 10**22)
OTHERS: tuple[Any, ...] = (None, "5", "n/a", "9223372036854775808", True, ["x"], [], [2], [1.5, "x", {"b": None}], {"b": 1.5})
ONE_KIND = st.sampled_from([NUMBERS[:6], NUMBERS[5:], NUMBERS, *([other] for other in OTHERS), (*NUMBERS, *OTHERS)])
FILES = st.lists(ONE_KIND.flatmap(lambda some: st.lists(st.sampled_from(some), min_size=1, max_size=4)), min_size=2, max_size=4)


def write(place: Place, file: int, values: list[Any]) -> None:
    rows = [{"customer_id": f"c{i}", "event": f"E{file}", "event_time": "2026-01-01T00:00Z", "price": v} for i, v in enumerate(values)]
    place.jsonl(f"a/{file}.jsonl", rows)


def touch(place: Place, file: int) -> None:
    place.write(f"a/{file}.jsonl", (place.root / f"a/{file}.jsonl").read_bytes() + b"\n")


def ids(place: Place) -> dict[tuple[str, str], str]:
    """The id of the event of each row; one that came twice would have two."""
    rows = place.events()
    found = {(row["event"], row["customer_id"]): row["event_id"] for row in rows}
    assert len(found) == len(rows), "an event came twice"
    return found


@settings(max_examples=12 * LONGER)
@given(FILES, st.data())
def test_a_row_of_json_is_the_same_event_whatever_comes_beside_it(files: list[list[Any]], data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        place, known = Place(Path(folder)), dict[tuple[str, str], str]()
        for number, values in enumerate(files):
            write(place, number, values)
            again = data.draw(st.none() | st.integers(0, number - 1)) if number else None
            if again is not None:
                touch(place, again)
            place.ingest(JSONL)
            assert known.items() <= ids(place).items()
            known = ids(place)
        assert place.ingest(JSONL, rebuild=True).rows == sum(map(len, files)) and ids(place) == known


@pytest.mark.parametrize("first, then", [([2**63, 5], ["n/a"]), ([5], [2**63]), ([2**62, 5], [1.5]), ([1.5, -(2**63) - 1], [True])])
def test_numbers_beside_one_of_too_many_digits_stay_numbers(place: Place, first: list[Any], then: list[Any]) -> None:
    for number, values in enumerate((first, then)):
        write(place, number, values)
        place.ingest(JSONL)
    found = {row["price"] for row in place.events()}
    assert found == {f"'{v}" if isinstance(v, int) and abs(v) >= 2**63 else str(v).lower() for v in (*first, *then)}
    touch(place, 0)
    assert place.ingest(JSONL).rows == len(first) + len(then) and {row["price"] for row in place.events()} == found


@pytest.mark.parametrize("remembered", [True, False])
@pytest.mark.parametrize(
    "first, texts", [([2**63, 5], {"9223372036854775808", "5"}), ([[1, "x"], ["x"]], {'[1,"x"]', '["x"]'}), ([[2, 3]], {"[2,3]"})]
)
def test_a_table_of_an_earlier_version_keeps_its_texts(
    place: Place, first: list[Any], texts: set[str], remembered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There 5 beside a number of too many digits was a text, and so was a list of numbers; at first types of columns were not remembered."""
    with monkeypatch.context() as patch:
        patch.setattr(merge, "KINDS", {b"predseg.version": b"2"})
        patch.setattr("predseg.history.sources._types", lambda mapping, canonical, query: lambda name, kind: kind not in (MIXED, ITEMS))
        write(place, 0, first)
        place.ingest(JSONL)
    before = ids(place)
    if not remembered:
        memory = json.loads((place.root / "store/ingest.json").read_text())
        memory["state"].pop("columns")
        place.write("store/ingest.json", json.dumps(memory))
    assert {row["price"] for row in place.events()} == texts
    for number, values in ((1, ["n/a"]), (2, [7, 2.5]), (3, [["y"], [4]])):
        write(place, number, values)
        place.ingest(JSONL)
        touch(place, number - 1)
        place.ingest(JSONL)
        assert {row["price"] for row in place.events() if row["event"] == "E0"} == texts and before.items() <= ids(place).items()
    assert {row["price"] for row in place.events() if row["event"] != "E0"} == {"n/a", "7", "2.5", '["y"]', "[4]"}
    assert place.ingest(JSONL, rebuild=True).rows == len(first) + 5 and '["4"]' in {row["price"] for row in place.events()}


def test_a_table_of_an_earlier_version_keeps_its_texts_of_lists_of_parquet(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def come(number: int, prices: list[Any]) -> None:
        place.parquet(f"a/{number}.parquet", customer_id=["c"], event=[f"E{number}"], event_time=["2026-01-01T00:00Z"], price=prices)
        place.ingest(PARQUET)

    with monkeypatch.context() as patch:
        patch.setattr(merge, "KINDS", {b"predseg.version": b"2"})
        patch.setattr("predseg.history.sources._types", lambda mapping, canonical, query: lambda name, kind: kind not in (MIXED, ITEMS))
        come(0, [[1, 2]])
    before = ids(place)
    come(1, [[3]])
    come(0, [[1, 2]])
    assert before.items() <= ids(place).items() and {row["price"] for row in place.events()} == {"[1,2]", "[3]"}
    assert place.ingest(PARQUET, rebuild=True).rows == 2 and sorted(row["price"] for row in place.events()) == [["1", "2"], ["3"]]


def test_a_query_sees_lists_of_more_than_texts_as_their_json(place: Place) -> None:
    write(place, 0, [[{"id": "p1"}], [1, "x"]])
    place.ingest(JSONL.replace("}}", ", query: \"select * exclude (price), coalesce(price ->> '$[0].id', price) as price from source\"}}"))
    assert {row["price"] for row in place.events()} == {"p1", '[1,"x"]'}


# keys that differ only in case


KEYS = st.lists(
    st.dictionaries(st.sampled_from(["price", "Price", "PRICE", "price_1"]), st.sampled_from([5, 2.5, "x", ["x"]])), min_size=1, max_size=3
)


@settings(max_examples=12 * LONGER)
@given(st.lists(KEYS, min_size=2, max_size=4), st.booleans(), st.data())
def test_keys_that_differ_only_in_case_are_properties_of_their_own(files: list[list[dict[str, Any]]], beside: bool, data: st.DataObject) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        for name in ("LEAST", "SHARE") if beside else ():
            patch.setattr(adding, name, 0)
        place, known = Place(Path(folder)), dict[tuple[str, str], str]()
        for number, values in enumerate(files):
            rows = [{**v, "customer_id": f"c{i}", "event": f"E{number}", "event_time": "2026-01-01T00:00Z"} for i, v in enumerate(values)]
            place.jsonl(f"a/{number}.jsonl", rows)
            if number and data.draw(st.booleans()):
                touch(place, data.draw(st.integers(0, number - 1)))
            place.ingest(JSONL)
            assert known.items() <= ids(place).items()
            known = ids(place)
        table = place.store.read("events")
        found = {(row["event"], row["customer_id"]): event.properties for row, event in zip(place.events(), to_events(table), strict=True)}
        for (event, who), properties in found.items():
            given = files[int(event[1:])][int(who[1:])]
            said = Contract().read({**given, "customer_id": who, "event": event, "event_time": 0}).properties
            assert {k: v for k, v in properties.items() if v is not None} == said
        assert place.ingest(JSONL, rebuild=True).rows == len(found) and ids(place) == known


@pytest.mark.parametrize("query", ["", ", query: select * from source"])
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_column_keeps_the_case_of_its_name_whichever_file_comes_first(place: Place, form: str, query: str) -> None:
    """In CSV and Parquet files such columns are one."""
    text, known = f"sources: {{a: {{path: 'a/*.{form}'{query}}}}}\n", dict[tuple[str, str], str]()
    for number, name in ((1, "price"), (0, "Price"), (2, "PRICE")):
        row = {"customer_id": "c", "event": f"E{number}", "event_time": "2026-01-01T00:00Z", name: "5 EUR"}
        if form == "csv":
            place.write(f"a/{number}.csv", f"{','.join(row)}\n{','.join(row.values())}\n")
        else:
            place.parquet(f"a/{number}.parquet", **{key: [value] for key, value in row.items()})
        place.ingest(text)
        assert known.items() <= ids(place).items() and {row["price"] for row in place.events()} == {"5 EUR"}
        known = ids(place)
    assert len(known) == 3 == place.ingest(text, rebuild=True).rows


def test_what_a_source_maps_and_puts_aside_has_its_keys_whatever_their_case(place: Place) -> None:
    plain = {"User": "c1", "user": "someone", "Event": "z", "event_time": "2026-01-01T00:00Z", "price": 1, "Price": "n/a"}
    place.jsonl("a/0.jsonl", [{**plain, "event": name} for name in "AB"])
    text = JSONL.replace("}}", ", columns: {customer_id: User}}}") + "contract: {events: [A], tolerance: 100%}\n"
    place.ingest(text)
    [row], [bad] = place.events(), place.quarantine()
    assert (row["customer_id"], row["user"], row["event"], row["Event"], row["price"], row["Price"]) == ("c1", "someone", "A", "z", 1, "n/a")
    assert json.loads(bad["raw"]) == {**plain, "event": "B"}
    config = place.config(text.replace("[A]", "[A, B]"))
    [replayed] = quarantine.replay(config, place.store, quarantine.rows(place.store), now=NOW, persons=EVERYBODY)
    assert (replayed.passed, replayed.unlike) == (0, 1), "no file of replayed rows has both"
    assert {row["Price"] for row in place.events()} == {"n/a"} and place.ingest(text.replace("[A]", "[A, B]")).rows == 2


def test_a_table_of_an_earlier_version_that_calls_such_a_key_otherwise_is_built_anew(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"customer_id": "c", "event": "A", "event_time": "2026-01-01T00:00Z", "price": 1, "price_1": 2}]
    with monkeypatch.context() as patch:
        patch.setattr(merge, "KINDS", {b"predseg.version": b"2"})
        place.jsonl("a/0.jsonl", rows)
        place.ingest(JSONL)
    place.jsonl("a/0.jsonl", [{**rows[0], "Price": 2}])
    assert place.ingest(JSONL).rows == 2, "no property is called otherwise"
    place.jsonl("a/0.jsonl", [{"Price" if key == "price_1" else key: value for key, value in rows[0].items()}])
    with pytest.raises(DataError, match=r"E403.*source a: Price is another property .* calls one of them Price_1") as refused:
        place.ingest(JSONL)
    assert "predseg check --rebuild" in str(refused.value)
    assert place.ingest(JSONL, rebuild=True).rows == 1 and {"price", "Price"} == place.events()[0].keys() & {"price", "Price", "price_1", "Price_1"}
