"""No event twice, whatever the order, the repetition and the cutting of what comes in."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from predseg.engine import Engine
from predseg.history import files, merge, sorting, sources
from predseg.history.merge import canonical_json, made_id
from tests.history.projects import LONGER, NOW, Place, expected, stored

TICK = 1_000_000
START = NOW - 1000 * TICK
ONE = "sources: {a: {path: 'a/*.parquet'}}\n"
TWO = ONE[:-2] + ", b: {path: 'b/*.parquet'}}\n"

row = st.fixed_dictionaries(
    {
        "customer_id": st.sampled_from(["c1", "c2", "é"]),
        "event": st.sampled_from(["Order Completed", "Product Viewed"]),
        "event_time": st.integers(0, 2).map(lambda k: START + k * TICK),
        "received_at": st.integers(0, 1).map(lambda k: START + 3 * TICK + k),
        "value": st.sampled_from([None, Decimal("0.0000"), Decimal("12.5000"), Decimal("-3.0000")]),
        "event_id": st.sampled_from([None, None, "e1", "e2", "~x"]),
        "source": st.sampled_from([None, "mail"]),
        "note": st.sampled_from([None, "", 'a"b\\\n\x1f', "\u2028é"]),
    }
)
load = st.builds(  # every second row or so comes more than once
    lambda rows, again: rows + [rows[k % len(rows)] for k in again], st.lists(row, min_size=1, max_size=5), st.lists(st.integers(0, 4), max_size=4)
)


def numbered() -> Iterator[int]:
    return itertools.count()


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    counter = numbered()
    root = tmp_path_factory.mktemp("merge")
    yield lambda: Place(root / str(next(counter)))


def put(place: Place, name: str, rows: list[dict[str, Any]]) -> None:
    instant = pa.timestamp("us", "UTC")
    types = {"event_time": instant, "received_at": instant, "value": pa.decimal128(18, 4)}
    columns = {key: pa.array([r[key] for r in rows], types.get(key, pa.string())) for key in rows[0]}
    place.parquet(name, **columns)


def table(place: Place) -> list[dict[str, Any]]:
    return stored(place.store.read("events"))


def sale(tick: int = 0, value: int = 1, event_id: str | None = None, received: int = 3) -> dict[str, Any]:
    money = Decimal(value).quantize(Decimal("0.0001"))
    times = {"event_time": START + tick * TICK, "received_at": START + received * TICK}
    return {"customer_id": "c1", "event": "Order Completed", **times, "value": money, "event_id": event_id}


@pytest.mark.parametrize(
    ("rows", "left", "duplicates", "conflicts"),
    [
        pytest.param([sale(event_id="a"), sale(event_id="a"), sale(event_id="b")], [(0, 1, "a"), (0, 1, "b")], 1, 0, id="same id, same content"),
        pytest.param([sale(0, 2, "a", 4), sale(1, 3, "a", 3)], [(1, 3, "a")], 1, 1, id="same id: the one received first stays"),
        pytest.param([sale(1, 10, "a"), sale(1, 2, "a")], [(1, 10, "a")], 1, 1, id="same id, received together: the smaller text stays"),
        pytest.param([sale(0, 2, "a", 4), sale(1, 3, "a", 3), sale(1, 3, "a", 3)], [(1, 3, "a")], 2, 1, id="same id, winner twice"),
        pytest.param([sale(), sale(), sale(1)], [(0, 1, "~"), (0, 1, "~"), (1, 1, "~")], 0, 0, id="equal rows without an id are real"),
        pytest.param([sale(), sale(event_id="a")], [(0, 1, "a"), (0, 1, "~")], 0, 0, id="an id tells equal rows apart"),
    ],
)
def test_what_is_the_same_event(place: Place, rows: list[dict[str, Any]], left: list[Any], duplicates: int, conflicts: int) -> None:
    for order in (rows, rows[::-1]):
        put(place, "a/1.parquet", order)
        report = place.ingest(ONE, rebuild=True)
        found = [((r["event_time"] - START) // TICK, int(r["value"]), r["event_id"]) for r in table(place)]
        assert [(t, v, e if not e.startswith("~") else "~") for t, v, e in found] == left and len({e for _, _, e in found}) == len(left)
        assert (report.sources[0].duplicates, report.sources[0].conflicts) == (duplicates, conflicts)


@pytest.mark.parametrize("at_once", [1, 3, None], ids=["in parts of a row", "in parts of three", "whole"])
@settings(max_examples=6 * LONGER, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=load, data=st.data())
def test_the_table_is_what_the_oracle_says_in_any_order_and_after_any_repetition(
    fresh: Any, monkeypatch: pytest.MonkeyPatch, at_once: int | None, rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    if at_once:
        monkeypatch.setattr(sorting, "PART", at_once)
        monkeypatch.setattr(merge, "COUNTED", at_once)
    place = fresh()
    put(place, "a/1.parquet", rows)
    report = place.ingest(ONE)
    assert table(place) == expected([rows])
    assert report.received == len(rows) == report.accepted + report.duplicates and report.accepted == report.rows
    first = place.store.read("events")
    put(place, "a/1.parquet", data.draw(st.permutations(rows)))
    again = place.ingest(ONE)
    assert not again.up_to_date and place.store.read("events").equals(first)
    assert (again.accepted, again.duplicates, again.sources[0].new) == (report.accepted, report.duplicates, 0)
    assert place.ingest(ONE).up_to_date


@settings(max_examples=8 * LONGER)
@given(first=load, second=load)
def test_two_sources_make_one_history(fresh: Any, first: list[dict[str, Any]], second: list[dict[str, Any]]) -> None:
    place = fresh()
    put(place, "a/1.parquet", first)
    put(place, "b/1.parquet", second)
    report = place.ingest(TWO)
    assert table(place) == expected([first, second])
    assert report.accepted == report.rows
    turned = place.ingest("sources: {b: {path: 'b/*.parquet'}, a: {path: 'a/*.parquet'}}\n", rebuild=True)
    assert turned.rebuilt and table(place) == expected([first, second])


@settings(max_examples=8 * LONGER)
@given(first=load, second=load)
def test_a_growing_folder_ends_like_one_load(fresh: Any, first: list[dict[str, Any]], second: list[dict[str, Any]]) -> None:
    place = fresh()
    put(place, "a/1.parquet", first)
    place.ingest(ONE)
    put(place, "a/2.parquet", second)
    report = place.ingest(ONE)
    assert table(place) == expected([first + second])
    assert not report.rebuilt and report.accepted == report.rows


@settings(max_examples=8 * LONGER)
@given(first=load, second=load)
def test_what_was_loaded_stays_when_its_file_is_gone(fresh: Any, first: list[dict[str, Any]], second: list[dict[str, Any]]) -> None:
    place = fresh()
    put(place, "a/1.parquet", first)
    place.ingest(ONE)
    put(place, "a/1.parquet", second)
    report = place.ingest(ONE)
    assert table(place) == expected([first, second])
    assert report.sources[0].received == len(second) == report.accepted + report.duplicates
    rebuilt = place.ingest(ONE, rebuild=True)
    assert rebuilt.rebuilt and table(place) == expected([second])


@settings(max_examples=12 * LONGER)
@given(rows=st.lists(row, min_size=1, max_size=4))
def test_canonical_json_in_sql_is_the_one_in_python(fresh: Any, rows: list[dict[str, Any]]) -> None:
    place = fresh()
    put(place, "a/1.parquet", [{**r, "event_id": None} for r in rows])
    place.ingest(ONE)
    assert {r["event_id"] for r in table(place) if r["event_id"].count("~") == 1} == {made_id({**r, "event_id": None}) for r in rows}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("12.5000"), "12.5"),
        (Decimal("-0.0001"), "-0.0001"),
        (Decimal("100"), "100"),
        (7, "7"),
        (True, "true"),
        (["a", None], '["a",null]'),
        ('"\x01', '"\\"\\u0001"'),
    ],
)
def test_canonical_json_of_values(value: Any, text: str) -> None:
    assert canonical_json({"b": value, "a": None, "event_id": "e"}) == f'{{"b":{text}}}'
    if value != ["a", None]:
        json.loads(canonical_json({"b": value}))


# types that change between loads


def test_equal_events_stay_equal_when_the_type_of_a_property_changes(place: Place) -> None:
    """A whole number that was text elsewhere must not make its old events come twice."""
    head = "customer_id,event,event_time,size,code\n"
    place.write("a/1.csv", head + "c1,A,2026-01-01T00:00Z,7,7\nc1,A,2026-01-01T00:00Z,7,7\n")
    text = "sources: {a: {path: 'a/*.csv'}}\n"
    assert place.ingest(text).rows == 2
    assert place.store.read("events").schema.field("size").type == pa.int64()
    place.write("a/2.csv", head + "c2,A,2026-01-01T00:00Z,7.5,x\n")
    report = place.ingest(text)
    assert (report.rows, report.sources[0].new) == (3, 1)
    found = place.store.read("events")
    assert found.schema.field("size").type == pa.decimal128(18, 4) and found.schema.field("code").type == pa.string()
    assert found.column("code").to_pylist() == ["7", "7", "x"]
    assert place.ingest(text, rebuild=True).rows == 3 and place.store.read("events").equals(found)


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("code", ["x1", "x"])
def test_events_do_not_come_twice_when_a_property_gets_texts_and_was_spelled_otherwise(place: Place, named: bool, code: str) -> None:
    """With a code among them all become texts as they were written; else each keeps its kind."""

    def csv(name: str, rows: list[dict[str, str]]) -> None:
        head = "customer_id,event,event_time,size,flag,n" + (",event_id" if named else "")
        lines = [f"c1,A,2026-01-01T00:00Z,{','.join(row.values())}" + (f",{name}{i}" if named else "") for i, row in enumerate(rows)]
        place.write(f"a/{name}.csv", "\n".join([head, *lines]) + "\n")

    text = "sources: {a: {path: 'a/*.csv'}}\n"
    gone = [{"size": "1.50", "flag": "true", "n": "7.0"}]
    csv("gone", gone)
    csv("kept", [{"size": "1.50", "flag": "True", "n": "2"}] * 2)
    assert place.ingest(text).rows == 3
    (place.root / "a/gone.csv").unlink()
    csv("new", [{"size": code, "flag": code, "n": code}])
    report = place.ingest(text)
    assert report.rows == 4 and report.sources[0].conflicts == 0
    found = sorted((row["size"], row["flag"], row["n"]) for row in place.events())
    size, flag = ("1.50", "True") if code == "x1" else ("1.5", "true")
    assert found == sorted([("1.5", "true", "7"), (size, flag, "2"), (size, flag, "2"), (code, code, code)])
    kept = place.store.read("events")
    csv("gone", [])
    place.ingest(text)
    assert place.store.read("events").equals(kept)


def test_a_store_of_ids_and_times_that_were_read_as_types_has_each_event_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores of earlier versions have 44 for the id +44, and 2026-01-01 10:00:00 for a property 2026-01-01T10:00."""
    head = "customer_id,event,event_time,due\n"
    place.write("a/1.csv", head + "+44,A,2026-01-01T00:00Z,2026-01-02T10:00\n")
    text = "sources: {a: {path: 'a/*.csv'}}\n"
    with monkeypatch.context() as patch:
        patch.setattr(sources, "_types", lambda *declared: files.any_type)
        patch.setattr(files, "_misfit", partial(_as_it_was, files._misfit))
        place.ingest(text)
    assert [(r["customer_id"], r["due"]) for r in place.events()] == [("44", "2026-01-02 10:00:00")]
    place.write("a/1.csv", head + "+44,A,2026-01-01T00:00Z,2026-01-02T10:00\n+45,A,2026-01-01T00:00Z,\n")
    place.ingest(text)
    assert [(r["customer_id"], r["due"]) for r in place.events()] == [("+44", "2026-01-02T10:00"), ("+45", None)]


def _as_it_was(misfit: Any, name: str, kind: str) -> str:
    return "false" if kind == "BIGINT" and name == "customer_id" else str(misfit(name, kind))


def test_properties_that_differ_only_in_case_stay_apart(place: Place) -> None:
    place.jsonl("a.jsonl", [{"customer_id": "c", "event": "A", "event_time": "2026-01-01T00:00Z", "brand": "x"}])
    place.jsonl("b.jsonl", [{"customer_id": "c", "event": "B", "event_time": "2026-01-01T00:00Z", "Brand": "y"}])
    place.ingest("sources: {a: {path: a.jsonl}, b: {path: b.jsonl}}\n")
    assert {(r["event"], r["brand"], r["Brand"]) for r in place.events()} == {("A", "x", None), ("B", None, "y")}


# files


def test_files_are_cut_between_customers_and_sorted_as_a_whole(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "FILE_ROWS", 40)
    monkeypatch.setattr(merge, "GROUP_ROWS", 16)
    sizes = {"c1": 39, "c2": 1, "c3": 130, "c4": 2, "c5": 38, "c6": 41, "c7": 1}
    names = [name for name, size in sizes.items() for _ in range(size)]
    times = pa.array([START + k * TICK for k in range(len(names))]).cast(pa.timestamp("us", "UTC"))
    place.parquet("a/1.parquet", customer_id=names[::-1], event=["A"] * len(names), event_time=times)
    report = place.ingest(ONE)
    files = place.store.files("events")
    parts = [pq.read_table(f, columns=["customer_id", "event_time", "event_id"]).to_pylist() for f in files]
    assert [f.name for f in files] == [f"part-{k:05d}.parquet" for k in range(len(files))]
    assert [len(part) for part in parts] == [40, 130, 40, 41, 1]
    owners = [{r["customer_id"] for r in part} for part in parts]
    assert all(not a & b for a, b in itertools.combinations(owners, 2))
    rows = [tuple(r.values()) for part in parts for r in part]
    assert rows == sorted(rows) and len(rows) == len(names)
    assert report.customers == len(sizes)
    assert max(pq.ParquetFile(f).metadata.row_group(0).num_rows for f in files) <= 16


def test_row_groups_are_cut_between_customers_unless_one_fills_more_than_a_group(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "GROUP_ROWS", 16)
    sizes = {"c1": 7, "c2": 9, "c3": 1, "c4": 12, "c5": 4, "c6": 40, "c7": 3, "c8": 2}
    names = [name for name, size in sizes.items() for _ in range(size)]
    times = pa.array([START + k * TICK for k in range(len(names))]).cast(pa.timestamp("us", "UTC"))
    place.parquet("a/1.parquet", customer_id=names, event=["A"] * len(names), event_time=times)
    place.ingest(ONE)
    [file] = place.store.files("events")
    reader = pq.ParquetFile(file)
    groups = [reader.read_row_group(g)["customer_id"].to_pylist() for g in range(reader.num_row_groups)]
    assert [sorted({*group}) for group in groups] == [["c1", "c2"], ["c3", "c4"], ["c5"], ["c6"], ["c6"], ["c6", "c7", "c8"]]
    assert [len(group) for group in groups] == [16, 13, 4, 16, 16, 13]


def test_a_run_of_equal_rows_may_span_many_batches(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Engine.stream
    monkeypatch.setattr(Engine, "stream", lambda self, sql: (b.slice(k, 5) for b in whole(self, sql) for k in range(0, b.num_rows, 5)))
    names = ["c1"] * 23 + ["c2"] * 2
    times = pa.array([START] * 25).cast(pa.timestamp("us", "UTC"))
    place.parquet("a/1.parquet", customer_id=names, event=["A"] * 25, event_time=times)
    assert place.ingest(ONE).rows == 25
    ids = [r["event_id"] for r in place.events()]
    assert len(set(ids)) == 25 and ids == sorted(ids[:23]) + sorted(ids[23:])
    assert ids[1].endswith("~000001") and ids[22].endswith("~000016")
