"""What a source maps, and, word for word, what is said when it does not fit."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import pyarrow as pa
import pytest

from predseg.errors import DataError
from tests.history.projects import Place

HEAD = "who,stamp,what,amount\n"
LINE = "c1,2026-01-01T10:00Z,Order Completed,12.5\n"


def refusal(place: Place, text: str) -> DataError:
    with pytest.raises(DataError) as refused:
        place.ingest(text)
    return refused.value


def test_columns_constants_and_properties(place: Place) -> None:
    place.write("x.csv", HEAD + LINE)
    place.ingest("sources: {a: {path: x.csv, columns: {customer_id: who, event_time: stamp, event: '=It''s', value: amount}}}\n")
    (row,) = place.events()
    assert (row["customer_id"], row["event"], str(row["value"]), row["what"]) == ("c1", "It's", "12.5000", "Order Completed")
    assert "who" not in row and "amount" not in row


def test_columns_that_bear_canonical_names_need_no_mapping(place: Place) -> None:
    place.write("x.csv", "customer_id,event_time,type\nc1,2026-01-01,A\n")
    place.ingest("sources: {a: {path: x.csv, columns: {event: type}}}\n")
    assert place.events()[0]["event"] == "A"


def test_a_query_reshapes_and_columns_may_map_its_result(place: Place) -> None:
    place.write("x.csv", HEAD + LINE + "c1,2026-01-01T11:00Z,Order Completed,2.25\n")
    query = "with s as (select who, min(stamp) as first, sum(amount) as total from source group by who) select *, 'Order' as event from s -- the end"
    place.ingest(f'sources: {{a: {{path: x.csv, query: "{query}", columns: {{customer_id: who, event_time: first, value: total}}}}}}\n')
    (row,) = place.events()
    assert str(row["value"]) == "14.7500" and row["event_time"].hour == 10


@pytest.mark.parametrize(
    ("column", "row"), [("event_time", "c1;31.05.2026 10:00;A;1250.50"), ("value", "c1;2026-05-31 10:00;A;1250,50")], ids=["times", "numbers"]
)
def test_what_is_written_another_way_is_read_by_the_query_that_is_offered(place: Place, column: str, row: str) -> None:
    place.write("x.csv", f"customer_id;event_time;event;value\n{row}\n")
    refused = refusal(place, "timezone: UTC\nsources: {a: {path: x.csv}}\n")
    query = re.search(r'`query:` such as ("[^"]+")', refused.help)
    assert f"{column} cannot be read" in refused.message and query
    place.ingest(f"timezone: UTC\nsources: {{a: {{path: x.csv, query: {query[1]}}}}}\n")
    (found,) = place.events()
    assert (str(found["event_time"]), str(found["value"])) == ("2026-05-31 10:00:00+00:00", "1250.5000")


def test_a_source_may_have_its_own_zone(place: Place) -> None:
    place.write("x.csv", "customer_id,event,event_time\nc1,A,2026-05-01 10:00\n")
    place.ingest("timezone: Asia/Tokyo\nsources: {a: {path: x.csv, timezone: Europe/London}}\n")
    assert place.events()[0]["event_time"].hour == 9


def test_files_whose_times_have_an_offset_and_files_whose_have_none_are_one_source(place: Place) -> None:
    """Summer in London is an hour ahead; what says its offset is no hour off because others do not."""
    for name, kind in {"old": pa.timestamp("us"), "new": pa.timestamp("us", "UTC")}.items():
        place.parquet(f"{name}.parquet", customer_id=[name], event=["A"], event_time=pa.array([datetime(2026, 5, 1, 10)], kind))
    place.ingest("timezone: Europe/London\nsources: {a: {path: '*.parquet'}}\n")
    assert {row["customer_id"]: row["event_time"].hour for row in place.events()} == {"old": 9, "new": 10}


def test_what_stands_behind_a_time_is_never_passed_over(place: Place) -> None:
    """`UTC` is UTC, whatever the zone of the source; evening is no morning."""
    lines = ["a,A,2026-05-01 10:00:00 UTC", "b,A,2026-05-01 10:00:00.25 UTC", "c,A,2026-05-01 10:00 PM", "d,A,2026-05-01 10:00 America/New_York"]
    place.write("x.csv", "\n".join(["customer_id,event,event_time", *lines]) + "\n")
    report = place.ingest("timezone: Europe/London\nsources: {a: {path: x.csv}}\ncontract: {tolerance: 50%}\n")
    assert [(r["customer_id"], r["event_time"].hour) for r in place.events()] == [("a", 10), ("b", 10)]
    assert report.sources[0].reasons == {"event_time cannot be read": 2}


def test_odd_types_of_parquet_become_text(place: Place) -> None:
    import datetime as dt
    from decimal import Decimal

    columns: dict[str, Any] = {
        "customer_id": pa.array([17850], pa.uint32()),
        "event": pa.array(["A"]).dictionary_encode(),
        "event_time": pa.array([0], pa.timestamp("ns", "Europe/London")),
        "big": pa.array([2**63], pa.uint64()),
        "small": pa.array([0.1], pa.float32()),
        "blob": pa.array([b"\x00\xff"]),
        "day": pa.array([dt.date(2026, 1, 1)]),
        "clock": pa.array([dt.time(10)]),
        "pair": pa.array([{"a": 1, "b": "x"}]),
        "numbers": pa.array([[1, 2]]),
        "texts": pa.array([["a", None]]),
        "fixed": pa.array([Decimal("3")], pa.decimal128(5, 0)),
    }
    place.parquet("x.parquet", **columns)
    report = place.ingest("sources: {a: {path: x.parquet, query: 'select * exclude (big) from source'}}\n")
    (row,) = place.events()
    assert report.accepted == 1 and row["customer_id"] == "17850"
    assert (row["small"], row["fixed"], row["texts"]) == (Decimal("0.1000"), 3, ["a", None])
    assert (row["blob"], row["day"], row["clock"], row["pair"], row["numbers"]) == ("00FF", "2026-01-01", "10:00:00", '{"a":1,"b":"x"}', "[1,2]")


def test_a_whole_number_that_fits_nowhere_is_quarantined(place: Place) -> None:
    when = pa.array([0, 0], pa.timestamp("us", "UTC"))
    place.parquet("x.parquet", customer_id=["a", "b"], event=["A", "A"], event_time=when, big=pa.array([2**63, 5], pa.uint64()))
    report = place.ingest("sources: {a: {path: x.parquet}}\ncontract: {tolerance: 50%}\n")
    assert report.sources[0].reasons == {"big is too large for a whole number": 1} and place.events()[0]["big"] == 5


MAPPED = "sources: {a: {path: x.csv, columns: {customer_id: who, event_time: stamp, event: what}}}\n"

GOLDEN = {
    "missing column": (
        HEAD + LINE,
        MAPPED.replace("customer_id: who", "customer_id: whom"),
        "error[E403] source a: no column 'whom' for customer_id; found who, stamp, what, amount\n"
        "help: did you mean 'who'? write `columns: {customer_id: who}`",
    ),
    "missing column, nothing near": (
        HEAD + LINE,
        MAPPED.replace("customer_id: who", "customer_id: KUNDE"),
        "error[E403] source a: no column 'KUNDE' for customer_id; found who, stamp, what, amount\nhelp: map customer_id to one of them, for example `columns: {customer_id: COLUMN}`",
    ),
    "nothing mapped": (
        "CustomerID,InvoiceDate,amount\n17850.0,2010-12-01,1\n",
        "sources: {a: {path: x.csv}}\n",
        "error[E403] source a: no column for customer_id, event_time, event; found CustomerID, InvoiceDate, amount\n"
        'help: write under source a: `columns: {customer_id: CustomerID, event_time: InvoiceDate, event: "=Order Completed"}`',
    ),
    "query gives too little": (
        HEAD + LINE,
        "sources: {a: {path: x.csv, query: 'select who as customer_id, stamp as event_time from source'}}\n",
        "error[E403] source a: no column for event; found customer_id, event_time\nhelp: let the query give it: `select ..., 'Order Completed' as event from source`",
    ),
    "naive times": (
        "who,stamp,what\nc1,2026-01-01 10:00,A\n",
        MAPPED,
        "error[E408] source a: event_time (column stamp) holds times without an offset, and no timezone is declared\n"
        "help: write for example `timezone: Europe/London`, or `timezone: UTC`, in the source or at the top of the project file",
    ),
    "naive times among others": (
        "who,stamp,what\nc1,2026-01-01T10:00Z,A\nc1,2026-01-01 10:00,A\n",
        MAPPED,
        "error[E408] source a: event_time (column stamp) holds times without an offset, such as '2026-01-01 10:00', and no timezone is declared\n"
        "help: write for example `timezone: Europe/London`, or `timezone: UTC`, in the source or at the top of the project file",
    ),
    "numbers as times": (
        "who,stamp,what\nc1,1767225600000,A\n",
        MAPPED,
        "error[E408] source a: event_time is read from stamp, which holds numbers, expected times\n"
        'help: say what it counts in a query: `query: select to_timestamp("stamp" / 1000) as event_time, ... from source` (milliseconds since 1970)',
    ),
    "empty source": (
        HEAD,
        MAPPED,
        "error[E404] source a: no rows\nhelp: check the files, or what the query leaves; take the source out while it is empty",
    ),
    "query leaves nothing": (
        HEAD + LINE,
        MAPPED.replace("path: x.csv", "path: x.csv, query: select * from source where false"),
        "error[E404] source a: no rows\nhelp: check the files, or what the query leaves; take the source out while it is empty",
    ),
    "all rows bad": (
        "who,stamp,what\n,2026-01-01,A\nc1,soon,A\nc2,soon,A\n",
        MAPPED,
        "error[E409] source a: all 3 rows break the contract (event_time cannot be read: 2; customer_id is missing: 1)\n"
        "help: times are read as 2026-05-31 10:00, others with a `query:` such as "
        "\"select * replace (strptime(event_time, '%d.%m.%Y %H:%M') as event_time) from source\"; "
        "`predseg quarantine list --source a` shows them; correct the source or its `columns:`, or raise `contract: {tolerance: ...}`",
    ),
    "query of a missing column": (
        HEAD + LINE,
        "sources: {a: {path: x.csv, query: 'select whom from source'}}\n",
        'error[E406] source a: Referenced column "whom" not found in FROM clause!\n'
        "help: `source` has the columns who VARCHAR, stamp TIMESTAMP WITH TIME ZONE, what VARCHAR, amount DOUBLE",
    ),
    "query of a column that is text because of one value": (
        HEAD + LINE + "c1,2026-01-01T10:00Z,A,n/a\n",
        "sources: {a: {path: x.csv, query: select sum(amount) from source}}\n",
        "error[E406] source a: No function matches the given name and argument types 'sum(VARCHAR)'. You might need to add explicit type casts.\n"
        "help: `source` has the columns who VARCHAR, stamp TIMESTAMP WITH TIME ZONE, what VARCHAR, amount VARCHAR; "
        "amount is text: 'n/a' (1 of 2 values) is not a number",
    ),
    "query that fails while it runs": (
        HEAD + LINE,
        "sources: {a: {path: x.csv, query: 'select who as customer_id, stamp as event_time, what as event, what::int as value from source'}}\n",
        "error[E406] source a: Could not convert string 'Order Completed' to INT32 when casting from source column what\n"
        "help: `source` has the columns who VARCHAR, stamp TIMESTAMP WITH TIME ZONE, what VARCHAR, amount DOUBLE",
    ),
    "reserved property": (
        "customer_id,event_time,event,linked_at\nc1,2026-01-01,A,x\n",
        "sources: {a: {path: x.csv}}\n",
        "error[E403] source a: a property cannot be named 'linked_at': predseg writes a column of that name\nhelp: rename it in a `query:`",
    ),
}


@pytest.mark.parametrize("case", GOLDEN)
def test_refusals_word_for_word(place: Place, case: str) -> None:
    content, text, expected = GOLDEN[case]
    place.write("x.csv", content)
    assert str(refusal(place, text)) == expected


def test_a_missing_file_is_named_with_what_is_nearby(place: Place) -> None:
    place.write("events.csv", HEAD)
    refused = refusal(place, MAPPED.replace("x.csv", "event.csv"))
    assert str(refused) == f"error[E401] source a: no such file: {place.root}/event.csv\nhelp: in {place.root} did you mean 'events.csv'?"
