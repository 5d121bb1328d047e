"""The customers table mirrors its source, with the same ids as the events."""

from __future__ import annotations

import datetime as dt

import pytest

from predseg.errors import DataError
from predseg.history.customers import ingest_customers
from tests.history.projects import Place

TEXT = "customers: {path: people.csv, customer_id: id}\n"


def test_ids_and_traits(place: Place) -> None:
    place.write("people.csv", "id,country,zip,age,vip\n17850.0,GB,00123,41,true\n,FR,1,2,false\n13047.0,,00124,,\n13047.0,,00124,,\n")
    report = ingest_customers(place.config(TEXT + "contract: {tolerance: 50%}\n"), place.store)
    assert report is not None
    assert (report.received, report.accepted, report.duplicates, report.quarantined) == (4, 2, 1, 1)
    assert report.reasons == {"customer_id is missing": 1}
    rows = place.store.read("customers").to_pylist()
    assert rows[0] == {"customer_id": "13047", "event_time": None, "known_since": None, "country": None, "zip": "00124", "age": None, "vip": None}
    assert rows[1] == {"customer_id": "17850", "event_time": None, "known_since": None, "country": "GB", "zip": "00123", "age": 41, "vip": True}
    assert place.quarantine()[0]["source"] == "customers"


def test_times_are_named_and_localised(place: Place) -> None:
    place.write("people.csv", "id,since,tier,seen\na,2026-07-01 10:00,gold,2026-01-01\na,2026-01-01 10:00,silver,\nb,soon,gold,\nb,,gold,\n")
    text = "timezone: Europe/London\ncustomers: {path: people.csv, customer_id: id, event_time: since, known_since: seen}\n"
    report = ingest_customers(place.config(text), place.store)
    assert report is not None and report.reasons == {"event_time cannot be read": 1, "event_time is missing": 1}
    rows = place.store.read("customers").to_pylist()
    utc = dt.UTC
    assert [(r["event_time"], r["known_since"], r["tier"]) for r in rows] == [
        (dt.datetime(2026, 1, 1, 10, tzinfo=utc), None, "silver"),
        (dt.datetime(2026, 7, 1, 9, tzinfo=utc), dt.datetime(2026, 1, 1, tzinfo=utc), "gold"),
    ]


def test_an_ingest_brings_the_customers_along_and_forgets_them_when_they_are_gone(place: Place) -> None:
    place.write("people.csv", "id,tier\na,gold\nb,gold\n")
    place.write("x.csv", "customer_id,event,event_time\na,A,2026-01-01\n")
    events = "sources: {x: {path: x.csv}}\n"
    report = place.ingest(events + TEXT)
    assert report.traits is not None and report.traits.accepted == 2 and report.received == 1
    place.write("people.csv", "id,tier\na,bronze\n")
    again = place.ingest(events + TEXT)
    assert again.up_to_date and again.traits is not None and again.traits.accepted == 1
    assert place.store.read("customers").column("tier").to_pylist() == ["bronze"]
    assert place.ingest(events).traits is None and not place.store.exists("customers")


def test_bad_customers_count_towards_the_tolerance(place: Place) -> None:
    place.write("people.csv", "id,tier\n,gold\nb,gold\n")
    with pytest.raises(DataError, match="E409] source customers: 1 of 2 rows"):
        place.ingest("sources: {}\n" + TEXT)


def test_quarantined_events_and_customers_stand_side_by_side(place: Place) -> None:
    place.write("people.csv", "id,tier\n,gold\nb,gold\n")
    place.write("x.csv", "customer_id,event,event_time\na,A,2026-01-01\n,A,2026-01-01\n")
    text = "sources: {x: {path: x.csv}}\ncontract: {tolerance: 50%}\n" + TEXT
    place.ingest(text)
    place.write("x.csv", "customer_id,event,event_time\na,A,2026-01-01\n,B,2026-01-01\n")
    place.ingest(text)
    assert sorted((r["source"], r["raw"]) for r in place.quarantine()) == [
        ("customers", '{"id":null,"tier":"gold"}'),
        ("x", '{"customer_id":null,"event":"B","event_time":"2026-01-01"}'),
    ]


def test_a_missing_column_says_what_to_write(place: Place) -> None:
    place.write("people.csv", "ident,tier\na,gold\n")
    with pytest.raises(DataError) as refusal:
        ingest_customers(place.config(TEXT), place.store)
    assert (refusal.value.code, refusal.value.place) == ("E403", "customers")
    assert refusal.value.message == "no column 'id' for customer_id; found ident, tier"
    assert refusal.value.help == "map customer_id to one of them, for example `customer_id: ident`"
