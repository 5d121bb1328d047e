"""One load after another: what is read, what is refused and why, what is remembered."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predseg.errors import DataError, UsageError
from predseg.history import merge
from predseg.history.events import last_report
from predseg.language.time import DAY, MINUTE, parse_instant, say_instant
from tests.history.projects import LONGER, NOW, Place, stored

GOOD = {"customer_id": "c1", "event": "Order Completed", "event_time": "2026-05-01T10:00:00Z", "value": 12.5}
TEXT = "sources: {orders: {path: orders.jsonl}}\ncontract: {tolerance: 100%}\n"


def one(place: Place, **changes: Any) -> dict[str, Any]:
    """Load one row beside a good one; return it as stored, or why it is in quarantine."""
    place.jsonl("orders.jsonl", [{**GOOD, "customer_id": "good"}, {**GOOD, **changes}])
    report = place.ingest(TEXT, rebuild=True)
    assert report.received == 2 == report.accepted + report.quarantined
    if report.quarantined:
        (bad,) = place.quarantine()
        return {"field": bad["field"], "reason": bad["reason"]}
    return next(row for row in stored(place.store.read("events")) if row["customer_id"] != "good")


# the contract


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"customer_id": None}, "customer_id", "is missing"),
        ({"customer_id": "  "}, "customer_id", "is missing"),
        ({"event": ""}, "event", "is missing"),
        ({"event_time": None}, "event_time", "is missing"),
        ({"event_time": "soon"}, "event_time", "cannot be read"),
        ({"event_time": "2026-02-30T10:00:00Z"}, "event_time", "cannot be read"),
        ({"event_time": say_instant(NOW + 5 * MINUTE + 1)}, "event_time", "is more than 5 minutes ahead of the clock"),
        ({"received_at": say_instant(NOW + DAY)}, "received_at", "is more than 5 minutes ahead of the clock"),
        ({"received_at": "later"}, "received_at", "cannot be read"),
        ({"value": "many"}, "value", "cannot be read"),
        ({"value": "-inf"}, "value", "is not finite"),
        ({"value": "NaN"}, "value", "is not finite"),
        ({"value": 1e9}, "value", "is 10^9 or more"),
        ({"value": -1e9}, "value", "is 10^9 or more"),
        ({"customer_id": None, "value": "many", "event": None}, "customer_id", "is missing"),
    ],
)
def test_a_bad_row_goes_to_quarantine_with_the_first_thing_that_is_wrong(place: Place, changes: dict[str, Any], field: str, reason: str) -> None:
    assert one(place, **changes) == {"field": field, "reason": reason}


@pytest.mark.parametrize(
    ("changes", "stored_as"),
    [
        ({"customer_id": " c9 "}, {"customer_id": "c9"}),
        ({"event_time": "2026-05-01T12:00:00+02:00"}, {"event_time": parse_instant("2026-05-01T10:00")}),
        ({"event_time": "2026-05-01"}, {"event_time": parse_instant("2026-05-01")}),
        ({"event_time": say_instant(NOW + 5 * MINUTE)}, {"event_time": NOW + 5 * MINUTE}),
        ({"received_at": "2026-05-02T00:00Z"}, {"received_at": parse_instant("2026-05-02")}),
        ({}, {"received_at": parse_instant("2026-05-01T10:00")}),
        ({"value": None}, {}),
        ({"value": "999999999.9999"}, {"value": Decimal("999999999.9999")}),
        ({"value": "0.00005"}, {"value": Decimal("0")}),
    ],
)
def test_a_good_row_is_normalised(place: Place, changes: dict[str, Any], stored_as: dict[str, Any]) -> None:
    row = one(place, **changes)
    assert {name: row[name] for name in stored_as} == stored_as
    assert ("value" in row) == (changes.get("value", 1) is not None)


def test_names_that_are_not_listed_are_quarantined(place: Place) -> None:
    place.jsonl("orders.jsonl", [GOOD, {**GOOD, "event": "Oder Completed"}])
    report = place.ingest(TEXT.replace("tolerance: 100%", "tolerance: 100%, events: [Order Completed]"))
    assert report.sources[0].reasons == {"event is not one of `contract: events`": 1} and report.events == {"Order Completed": 1}


def test_the_raw_row_is_kept_under_the_names_of_the_source(place: Place) -> None:
    import json

    place.parquet("x.parquet", Who=pa.array([None], pa.float64()), When=pa.array([0], pa.timestamp("us", "UTC")), x=[float("inf")])
    text = "sources: {a: {path: x.parquet, columns: {customer_id: Who, event_time: When, event: '=Seen'}}}\ncontract: {tolerance: 100%}\n"
    with pytest.raises(DataError, match="E409.*all 1 rows break the contract"):
        place.ingest(text)
    (bad,) = place.quarantine()
    assert json.loads(bad["raw"]) == {"Who": None, "When": "1970-01-01 00:00:00+00", "x": "inf"}
    assert bad["source"] == "a" and bad["received_at"].timestamp() == 0


def test_lines_that_are_no_rows_count_as_received(place: Place) -> None:
    place.write("x.csv", "customer_id,event,event_time\nc1,A,2026-01-01\nc2,A\n")
    report = place.ingest("sources: {a: {path: x.csv}}\ncontract: {tolerance: 50%}\n")
    assert (report.received, report.accepted, report.quarantined) == (2, 1, 1)
    assert place.quarantine()[0]["raw"] == "c2,A" and place.quarantine()[0]["field"] == "line"


def test_counted_properties_are_exact_numbers_and_others_are_what_they_are(place: Place) -> None:
    rows = [{**GOOD, "price": "1.00005", "n": 7, "f": True, "t": ["x"], "w": 2.25, "o": {"a": 1}}, {**GOOD, "price": "free"}]
    place.jsonl("orders.jsonl", rows)
    report = place.ingest(TEXT + "features: {measures: {spend: {did: Order Completed, sum: price}}}\n")
    schema = place.store.read("events").schema
    kinds = {name: str(schema.field(name).type) for name in ("value", "price", "n", "f", "t", "w", "o")}
    assert kinds["value"] == kinds["price"] == kinds["w"] == "decimal128(18, 4)"
    assert (kinds["n"], kinds["f"], kinds["t"][:4], kinds["o"]) == ("int64", "bool", "list", "string")
    assert report.sources[0].rounded == 1 and report.sources[0].reasons == {"price cannot be read": 1}
    (row,) = place.events()
    assert row["price"] == Decimal("1.0000") and row["t"] == ["x"] and row["o"] == '{"a":1}'


def test_ids_with_leading_zeros_and_traces_of_floats(place: Place) -> None:
    place.write("x.csv", "id,card,event_time\n17850.0,00123,2026-01-01\n,00124,2026-01-01\n13047.0,00125,2026-01-01\n")
    place.ingest("sources: {a: {path: x.csv, columns: {customer_id: id, event: '=Seen'}}}\ncontract: {tolerance: 50%}\n")
    assert [(r["customer_id"], r["card"]) for r in place.events()] == [("13047", "00125"), ("17850", "00123")]


def test_ids_and_times_of_properties_are_as_they_were_written_whatever_the_others_are(place: Place) -> None:
    head = "customer_id,event,event_time,phone,due\n"
    place.write("a/1.csv", head + "+44123,A,2026-01-01,+44123,2026-01-02T10:00:00Z\n17850.0,A,2026-01-01,,\n")
    text = "sources: {a: {path: 'a/*.csv'}}\n"
    place.ingest(text)
    kept = [("+44123", "+44123", "2026-01-02T10:00:00Z"), ("17850", None, None)]
    assert [(r["customer_id"], r["phone"], r["due"]) for r in place.events()] == kept
    place.write("a/2.csv", head + "guest,A,2026-01-01,none,never\n")
    place.ingest(text)
    assert [(r["customer_id"], r["phone"], r["due"]) for r in place.events()] == [*kept, ("guest", "none", "never")]


def test_ids_that_are_floats_in_one_file_and_texts_in_another_are_the_same(place: Place) -> None:
    when = pa.array([0, 1], pa.timestamp("us", "UTC"))
    for name, ids in {"1": pa.array([17850.0, float("nan")]), "2": pa.array(["17850", "guest"])}.items():
        place.parquet(f"{name}.parquet", customer_id=ids, event=["A", "A"], event_time=when, n=pa.array([0.5, 2.0]) if name == "1" else ["x", "2"])
    report = place.ingest("sources: {a: {path: '*.parquet'}}\ncontract: {tolerance: 50%}\n")
    assert sorted((r["customer_id"], r["n"]) for r in place.events()) == [("17850", "0.5"), ("17850", "x"), ("guest", "'2")]
    assert report.sources[0].reasons == {"customer_id is missing": 1}


def test_a_float_column_that_is_not_counted_may_be_large_or_nan(place: Place) -> None:
    when = pa.array([0, 1], pa.timestamp("us", "UTC"))
    place.parquet("x.parquet", customer_id=["a", "b"], event=["E", "E"], event_time=when, code=[21_035_000_000.0, float("nan")])
    place.ingest("sources: {a: {path: x.parquet}}\n")
    assert [r["code"] for r in place.events()] == [Decimal("21035000000.0000"), None]


@settings(max_examples=12 * LONGER)
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {
                "customer_id": st.sampled_from(["c1", "c2", "", None]),
                "event": st.sampled_from(["A", "B", None]),
                "event_time": st.sampled_from(["2026-01-01T00:00Z", "2026-01-02", "x", None, "2199-01-01T00:00Z"]),
                "value": st.sampled_from(["1", "x", "NaN", None, "1e9"]),
                "event_id": st.sampled_from([None, "e1", "e2"]),
            }
        ),
        min_size=1,
        max_size=12,
    )
)
def test_every_row_is_accepted_a_duplicate_or_in_quarantine(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]) -> None:
    place = Place(tmp_path_factory.mktemp("rows"))
    place.jsonl("orders.jsonl", rows)
    try:
        report = place.ingest(TEXT)
    except DataError as refusal:
        assert refusal.code == "E409" and len(place.quarantine()) == len(rows)
        return
    source = report.sources[0]
    bad = [
        r
        for r in rows
        if not r["customer_id"] or not r["event"] or r["event_time"] not in ("2026-01-01T00:00Z", "2026-01-02") or r["value"] not in ("1", None)
    ]
    assert source.received == len(rows) == source.accepted + source.duplicates + source.quarantined
    assert source.quarantined == len(bad) == len(place.quarantine()) == sum(source.reasons.values())
    assert source.accepted == report.rows == len(place.events())
    assert Counter(r["event"] for r in place.events()) == report.events


# the tolerance


def test_beyond_the_tolerance_the_data_are_refused_but_written_and_stay_refused(place: Place) -> None:
    place.jsonl("orders.jsonl", [GOOD] * 98 + [{**GOOD, "customer_id": None}] * 2)
    text = "sources: {orders: {path: orders.jsonl}}\n"
    for _ in range(2):
        with pytest.raises(DataError) as refusal:
            place.ingest(text)
        assert refusal.value.code == "E409" and refusal.value.place == "source orders"
        assert refusal.value.message.startswith("2 of 100 rows (2.00%) break the contract, more than the tolerance of 1%")
    report = last_report(place.store)
    assert report is not None and report.rows == 98 == len(place.events()) and len(place.quarantine()) == 2
    assert place.ingest(text + "contract: {tolerance: 2%}\n").up_to_date


def test_exactly_the_tolerance_is_accepted(place: Place) -> None:
    place.jsonl("orders.jsonl", [GOOD] * 99 + [{**GOOD, "customer_id": None}])
    assert place.ingest("sources: {orders: {path: orders.jsonl}}\n").quarantined == 1


def test_samples_are_few_and_do_not_depend_on_the_order(place: Place) -> None:
    rows = [{**GOOD, "customer_id": None, "n": k} for k in range(9)] + [GOOD]
    place.jsonl("orders.jsonl", rows)
    first = place.ingest(TEXT).sources[0].samples
    place.jsonl("orders.jsonl", rows[::-1])
    assert place.ingest(TEXT, rebuild=True).sources[0].samples == first and len(first) == 5


# what is remembered


def test_nothing_is_read_when_nothing_changed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.jsonl("orders.jsonl", [GOOD])
    report = place.ingest(TEXT)
    assert report.rebuilt and not report.up_to_date
    monkeypatch.setattr(merge, "merge_events", None)
    again = place.ingest(TEXT)
    assert again == dataclasses.replace(report, up_to_date=True, rebuilt=False)
    assert last_report(place.store) == report


@pytest.mark.parametrize(
    "change",
    ["timezone: UTC\n", "features: {measures: {m: {did: A, sum: n}}}\n"],
)
def test_a_changed_declaration_builds_the_table_anew(place: Place, change: str) -> None:
    place.jsonl("orders.jsonl", [GOOD])
    place.ingest(TEXT)
    place.jsonl("orders.jsonl", [{**GOOD, "customer_id": "other"}])
    report = place.ingest(TEXT + change)
    assert report.rebuilt and [r["customer_id"] for r in place.events()] == ["other"]


def test_one_more_source_keeps_what_is_in_no_file_any_more(place: Place) -> None:
    first, more = place.jsonl("orders.jsonl", [GOOD, {**GOOD, "customer_id": "old"}]), TEXT.replace("}}", "}, more: {path: more.jsonl}}", 1)
    place.jsonl("more.jsonl", [{**GOOD, "customer_id": "new"}])
    place.ingest(TEXT)
    place.jsonl(first.name, [GOOD])
    report = place.ingest(more)
    assert (report.rebuilt, report.rows, report.warnings({})) == (False, 3, [])
    assert place.ingest(more).up_to_date


def test_ids_that_name_several_events_are_said(place: Place) -> None:
    place.jsonl("orders.jsonl", [{**GOOD, "customer_id": f"c{i}", "event_id": str(i % 50)} for i in range(100)])
    report = place.ingest(TEXT)
    assert (report.rows, report.duplicates) == (50, 50)
    assert "50 rows of source orders have the event_id of another event" in report.warnings({})[0]
    place.jsonl("orders.jsonl", [{**GOOD, "customer_id": f"c{i}", "event_id": str(i % 99)} for i in range(100)])
    assert place.ingest(TEXT, rebuild=True).warnings({}) == []


def test_a_changed_model_reads_nothing(place: Place) -> None:
    place.jsonl("orders.jsonl", [GOOD])
    place.ingest(TEXT)
    assert place.ingest(TEXT + "models: {m: {predict: {did: Order Completed, within_next: 30 days}}}\n").up_to_date


def test_a_touched_file_is_read_and_changes_nothing(place: Place) -> None:
    place.jsonl("orders.jsonl", [GOOD, GOOD])
    before = place.ingest(TEXT)
    table = place.store.read("events")
    os.utime(place.root / "orders.jsonl", ns=(1, 1))
    report = place.ingest(TEXT)
    assert not report.up_to_date and not report.rebuilt and report.sources[0].new == 0
    assert (report.accepted, report.duplicates) == (before.accepted, before.duplicates) and place.store.read("events").equals(table)


def test_an_event_ahead_of_the_clock_comes_in_when_the_clock_reaches_it(place: Place) -> None:
    ahead = NOW + 2 * DAY
    place.jsonl("orders.jsonl", [GOOD, {**GOOD, "event_time": say_instant(ahead)}])
    assert place.ingest(TEXT).quarantined == 1
    assert place.ingest(TEXT, now=ahead - 5 * MINUTE - 1).up_to_date
    report = place.ingest(TEXT, now=ahead - 5 * MINUTE)
    assert not report.up_to_date and (report.rows, report.quarantined) == (2, 0) and place.quarantine() == []


def test_a_report_that_cannot_be_read_means_starting_anew(place: Place) -> None:
    place.jsonl("orders.jsonl", [GOOD])
    place.ingest(TEXT)
    place.store.write_text("ingest.json", '{"state": 1}')
    assert last_report(place.store) is None
    assert place.ingest(TEXT).rebuilt


def test_no_sources_means_an_empty_table_that_stays_what_it_is(place: Place) -> None:
    report = place.ingest("sources: {}\n")
    assert report.rows == 0 and report.first is None and place.events() == []
    place.jsonl("orders.jsonl", [GOOD])
    place.ingest(TEXT)
    assert place.ingest("sources: {}\n").rows == 1 and len(place.events()) == 1


def test_the_report_describes_the_table(place: Place) -> None:
    place.jsonl("orders.jsonl", [GOOD, {**GOOD, "customer_id": "c2", "event": "Seen", "event_time": "2026-04-01", "received_at": "2026-05-20"}, GOOD])
    report = place.ingest(TEXT)
    assert (report.rows, report.customers, report.events) == (3, 2, {"Order Completed": 2, "Seen": 1})
    assert [say_instant(t or 0) for t in (report.first, report.last, report.visible)] == [
        "2026-04-01T00:00Z",
        "2026-05-01T10:00Z",
        "2026-05-20T00:00Z",
    ]


def test_progress_is_told(place: Place) -> None:
    place.jsonl("orders.jsonl", [GOOD] * 3)
    told: list[Any] = []
    place.ingest(TEXT, progress=lambda *step: told.append(step))
    assert told == [("reading orders", 3, 3), ("sorting", 3, 3)]


# interruptions


def test_an_ingest_cut_short_leaves_the_old_table_and_the_next_one_works(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.jsonl("orders.jsonl", [GOOD])
    place.ingest(TEXT)
    place.jsonl("orders.jsonl", [GOOD, {**GOOD, "customer_id": "c2"}])

    class Stop(BaseException):
        pass

    def stop(*_: Any) -> None:
        raise Stop

    for target in ("predseg.history.merge.without_repeats", "predseg.store.Store._swap", "predseg.history.report.remember"):
        with monkeypatch.context() as patch:
            patch.setattr(target, stop)
            with pytest.raises(Stop):
                place.ingest(TEXT)
        assert {r["customer_id"] for r in place.events()} in ({"c1"}, {"c1", "c2"})
    assert list((place.store.path / ".work").iterdir()) == []
    assert place.ingest(TEXT).rows == 2


def test_a_full_disk_while_loading_is_said_and_changes_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet as pq

    place.jsonl("orders.jsonl", [GOOD])
    place.ingest(TEXT)
    place.jsonl("orders.jsonl", [{**GOOD, "customer_id": "c2"}])

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetWriter, "write_table", full)
        with pytest.raises(DataError, match="E411"):
            place.ingest(TEXT)
    assert [r["customer_id"] for r in place.events()] == ["c1"]


CHILD = """
import sys
from pathlib import Path
from tests.history.projects import NOW, Place
place = Place(Path(sys.argv[1]))
print("ready", flush=True)
k = 0
while True:
    place.ingest("sources: {x: {path: x.csv}}\\n", now=NOW + k, rebuild=True)
    k += 1
"""


def test_kill_9_at_any_moment_leaves_a_whole_table_and_the_next_ingest_works(place: Place, root: Path) -> None:
    place.write("x.csv", "customer_id,event,event_time\n" + "".join(f"c{k % 50},A,2026-01-{1 + k % 28:02d}\n" for k in range(2_000)))
    text = "sources: {x: {path: x.csv}}\n"
    place.ingest(text)
    whole = place.store.read("events")
    for attempt in range(4):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(place.root)], stdout=subprocess.PIPE, cwd=root)
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        time.sleep(0.5 + 0.17 * attempt)
        child.kill()
        child.wait()
        child.stdout.close()
        assert place.store.read("events").equals(whole) and list(place.store.path.glob(".work/*")) == []
        assert place.ingest(text).rows == 2_000


def test_what_is_up_to_date_needs_no_lock(place: Place) -> None:
    place.jsonl("orders.jsonl", [GOOD])
    place.write("people.csv", "id,tier\na,gold\n")
    text = TEXT + "customers: {path: people.csv, customer_id: id}\n"
    place.ingest(text)
    with place.store.lock():
        assert place.ingest(text).up_to_date


def test_another_writer_is_named(place: Place) -> None:
    place.jsonl("orders.jsonl", [GOOD])
    with ThreadPoolExecutor(1) as other, place.store.lock(), pytest.raises(UsageError, match="E210"):
        other.submit(place.ingest, TEXT).result()


# real data


@pytest.mark.real
def test_online_retail_as_downloaded(place: Place, real_data: Path) -> None:
    text = f"""
timezone: Europe/London
sources:
  lines: {{path: {real_data}/online_retail_raw.csv.gz, columns: {{customer_id: CustomerID, event_time: InvoiceDate, event: "=Line Bought"}}}}
contract: {{tolerance: 30%}}
"""
    report = place.ingest(text)
    assert (report.received, report.accepted, report.duplicates, report.quarantined) == (541_909, 406_829, 0, 135_080)
    assert report.sources[0].reasons == {"customer_id is missing": 135_080} and report.customers == 4_372
    assert say_instant(report.first or 0) == "2010-12-01T08:26Z" and say_instant(report.last or 0) == "2011-12-09T12:50Z"
    assert [f.name for f in place.store.files("events")] == ["part-00000.parquet"]
    assert place.store.read("events").column("customer_id")[0].as_py() == "12346"


@pytest.mark.real
def test_online_retail_as_orders(place: Place, real_data: Path) -> None:
    text = f"""
timezone: Europe/London
sources:
  orders:
    path: {real_data}/online_retail_raw.csv.gz
    query: |
      select CustomerID as customer_id, min(InvoiceDate) as event_time, InvoiceNo as event_id, sum(Quantity * UnitPrice) as value,
        case when InvoiceNo like 'C%' then 'Order Refunded' else 'Order Completed' end as event
      from source where CustomerID is not null group by CustomerID, InvoiceNo
"""
    report = place.ingest(text)
    assert report.events == {"Order Completed": 18_536, "Order Refunded": 3_654} and report.quarantined == 0
    total = sum(place.store.read("events").column("value").to_pylist())
    assert total == Decimal("8300065.8140") and report.sources[0].rounded == 0
