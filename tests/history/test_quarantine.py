"""Rows that broke the contract: seen, let in after a correction as if they had come in right, or dropped for good."""

from __future__ import annotations

import json
import sqlite3
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from predseg import Project
from predseg.cli import main
from predseg.errors import DataError, PredsegError
from predseg.history import quarantine
from predseg.history.events import ingest, last_report
from predseg.history.people import People
from predseg.history.persons import Persons
from predseg.history.report import IngestReport
from tests.history.projects import NOW, Place, stored

STRICT = "sources: {orders: {path: orders.*}}\ncontract: {tolerance: 100%, events: [Order Completed]}\n"
RIGHT = STRICT.replace("[Order Completed]", "[Order Completed, Order Complete]")
ROWS = [
    {"customer_id": "c1", "event": "Order Completed", "event_time": "2026-01-01T10:00:00Z", "value": 10.5, "city": "Bonn", "n": 1},
    {"customer_id": "c2", "event": "Order Complete", "event_time": "2026-01-02T10:00:00Z", "value": 20, "city": "2026-01-01", "n": None},
    {"customer_id": "c2", "event": "Order Complete", "event_time": "2026-01-02T10:00:00Z", "value": 20, "city": "2026-01-01", "n": None},
    {"customer_id": "c3", "event": "Order Complete", "event_time": "2026-01-02T10:00:00Z", "value": None, "city": 'a, "b"', "n": 3},
    {"customer_id": "c4", "event": "Order Complete", "event_time": "never", "value": 20, "city": "X", "n": 4},
]


def replay(place: Place, text: str, chosen: pa.Table | None = None, **options: Any) -> list[quarantine.Replayed]:
    rows = quarantine.rows(place.store) if chosen is None else chosen
    return quarantine.replay(place.config(text), place.store, rows, now=NOW, persons=options.pop("persons", Persons()), **options)


def load(place: Place, text: str, **options: Any) -> IngestReport:
    """Ingest with what was replayed, and look whether every row is accounted for; that all rows of a source are bad is no matter here."""
    try:
        report = ingest(quarantine.with_replayed(place.config(text)), place.store, now=NOW, **options)
    except DataError as error:
        assert error.code == "E409"
        found = last_report(place.store)
        assert found is not None
        report = found
    for part in report.sources:
        assert part.received == part.accepted + part.duplicates + part.quarantined + part.suppressed
    return report


def elsewhere(place: Place, name: str) -> Place:
    (place.root / name).mkdir()
    return Place(place.root / name)


def write(place: Place, kind: str, rows: list[dict[str, Any]]) -> None:
    """Lay the rows as a source of a kind; columns of Parquet have types of their own."""
    for old in place.root.glob("orders.*"):
        old.unlink()
    if kind == "parquet":
        columns = {name: [row[name] for row in rows] for name in ROWS[0]}
        exact = pa.array([None if v is None else Decimal(str(v)) for v in columns.pop("value")], pa.decimal128(9, 2))
        tags = pa.array([[row["city"], "x"] for row in rows], pa.list_(pa.string()))
        place.parquet("orders.parquet", **columns, value=exact, tags=tags, at=pa.array([1_767_000_000] * len(rows), pa.timestamp("s", "UTC")))
    elif kind == "jsonl":
        place.jsonl("orders.jsonl", rows)
    else:
        cells = [["" if v is None else '"' + str(v).replace('"', '""') + '"' for v in (row[name] for name in ROWS[0])] for row in rows]
        place.write("orders.csv", "\n".join(",".join(line) for line in [list(ROWS[0]), *cells]) + "\n")


CHOSEN = {"source": ["orders"] * 2, "raw": [""] * 2, "reason": [""] * 2, "field": [""] * 2}
KINDS = ("csv", "jsonl", "parquet")


def test_rows_are_seen_in_groups(place: Place) -> None:
    assert quarantine.groups(quarantine.rows(place.store)) == []
    write(place, "jsonl", ROWS)
    load(place, STRICT)
    found = quarantine.groups(quarantine.rows(place.store))
    assert [(g.source, g.field, g.rows, len(g.samples)) for g in found] == [("orders", "event", 4, 3)]
    load(place, RIGHT)
    [group] = quarantine.groups(quarantine.rows(place.store))
    assert (group.field, group.reason) == ("event_time", "cannot be read") and json.loads(group.samples[0])["customer_id"] == "c4"
    assert len(quarantine.rows(place.store, ["orders"], "CANNOT BE")) == 1
    assert not len(quarantine.rows(place.store, ["other"])) and not len(quarantine.rows(place.store, [], "is missing"))


@pytest.mark.parametrize("gone", [False, True], ids=["the source has them", "their file is gone"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_passes_is_an_event_as_if_it_had_come_in_right(place: Place, kind: str, gone: bool) -> None:
    write(place, kind, ROWS)
    load(place, STRICT)
    if gone:
        write(place, kind, ROWS[:1])
    [found] = replay(place, RIGHT)
    unlike = int(gone and kind == "csv")  # the column holds times now
    assert (found.rows, found.passed, found.new, found.bad, found.unlike) == (4, 3, 3, 1 - unlike, unlike)
    assert found.reasons == ({} if unlike else {"event_time cannot be read": 1})
    report = load(place, RIGHT)
    part = report.sources[1]
    assert (part.name, part.received, part.accepted) == ("orders, replayed", 3, 3 if gone else 0)
    fresh = elsewhere(place, "fresh")
    write(fresh, kind, ROWS)
    fresh.ingest(RIGHT)
    assert stored(place.store.read("events")) == stored(fresh.store.read("events"))


def test_done_again_or_after_a_kill_nothing_is_there_twice(place: Place) -> None:
    write(place, "jsonl", ROWS)
    load(place, STRICT)
    write(place, "jsonl", ROWS[:1])
    before = quarantine.rows(place.store)
    assert [replay(place, RIGHT, before, dry_run=True)[0].new, replay(place, RIGHT, before)[0].new, replay(place, RIGHT, before)[0].new] == [3, 3, 0]
    load(place, RIGHT)
    assert [row["customer_id"] for row in place.events()] == ["c1", "c2", "c2", "c3"], "two equal rows are two, as in a source"
    write(place, "jsonl", ROWS)
    load(place, RIGHT)
    load(place, RIGHT, rebuild=True)
    assert len(place.events()) == 4


def test_a_dry_run_writes_nothing(place: Place) -> None:
    write(place, "jsonl", ROWS)
    load(place, STRICT)
    files = {p: p.stat().st_mtime_ns for p in place.store.path.rglob("*") if p.is_file() and p.name != ".lock"}
    assert replay(place, RIGHT, dry_run=True)[0].new == 3
    assert files == {p: p.stat().st_mtime_ns for p in place.store.path.rglob("*") if p.is_file() and p.name != ".lock"}


def test_only_the_chosen_rows_are_replayed(place: Place) -> None:
    write(place, "jsonl", ROWS)
    place.jsonl("visits.jsonl", ROWS[3:4])
    both = RIGHT.replace("orders.*}", "orders.*}, visits: {path: visits.jsonl}")
    load(place, both.replace(", Order Complete]", "]"))
    assert [(r.source, r.new) for r in replay(place, both, quarantine.rows(place.store, ["visits"]))] == [("visits", 1)]
    assert set(quarantine.with_replayed(place.config(both)).sources) == {"orders", "visits", "visits, replayed"}
    assert [r.source for r in replay(place, both)] == ["orders", "visits"]
    assert len(quarantine.with_replayed(place.config(RIGHT)).sources) == 2, "a source that is taken out takes its replayed rows along"


def test_of_one_event_id_the_same_one_counts_as_in_an_ingest(place: Place) -> None:
    rows = [{**ROWS[0], "event_id": "e1", "event": name, "value": value} for name, value in (("Order Completed", 7), ("Order Complete", 5))]
    write(place, "jsonl", rows)
    load(place, STRICT)
    replay(place, RIGHT)
    load(place, RIGHT)
    fresh = elsewhere(place, "fresh")
    write(fresh, "jsonl", rows)
    fresh.ingest(RIGHT)
    assert [row["event_id"] for row in place.events()] == ["e1"] and stored(place.store.read("events")) == stored(fresh.store.read("events"))


def test_a_corrected_mapping(place: Place) -> None:
    place.write("orders.csv", "who,name,event,when\nc1,Ann,Order Completed,2026-01-01T10:00:00Z\n,c2,Order Completed,2026-01-02T10:00:00Z\n")
    wrong = "sources: {orders: {path: orders.csv, columns: {customer_id: who, event_time: when}}}\ncontract: {tolerance: 100%}\n"
    load(place, wrong)
    place.write("orders.csv", "who,name,event,when\nc1,Ann,Order Completed,2026-01-01T10:00:00Z\n")
    [found] = replay(place, wrong.replace("who", "name"))
    assert found.passed == 1
    load(place, wrong.replace("who", "name"))
    assert [row["customer_id"] for row in place.events()] == ["Ann", "c2"]


def test_what_the_source_would_not_give_any_more_stays(place: Place) -> None:
    """A line that is no row, columns that were renamed, a value that does not fit the type: none becomes an event with a hole."""
    place.write("orders.jsonl", json.dumps(ROWS[1]) + "\nno row\n" + json.dumps(ROWS[3]) + "\n")
    load(place, STRICT)
    place.jsonl("orders.jsonl", [{**ROWS[0], "value": 1}, {**ROWS[0], "value": 2}])
    [found] = replay(place, RIGHT)
    assert (found.rows, found.passed, found.unlike) == (3, 2, 1)
    place.jsonl("orders.jsonl", [{**ROWS[0], "n": True}] * 2)
    [found] = replay(place, RIGHT)
    assert (found.rows, found.passed, found.unlike) == (3, 1, 2), "3 is no true"
    place.jsonl("orders.jsonl", [{**ROWS[0], "value": 1}, {**ROWS[0], "value": 2}])
    [found] = replay(place, RIGHT, pa.table({**CHOSEN, "raw": [json.dumps({**ROWS[1], "value": 2.5}), json.dumps({**ROWS[1], "value": "x"})]}))
    assert (found.passed, found.unlike) == (0, 2), "2.5 is no 2"
    place.jsonl("orders.jsonl", [{("town" if name == "city" else name): value for name, value in ROWS[0].items()}])
    [found] = replay(place, RIGHT)
    assert (found.passed, found.unlike, found.reasons) == (0, 3, {})


VALUES = st.one_of(st.none(), st.integers(-(10**6), 10**6), st.decimals(-100, 100, places=2).map(float))
TEXTS = st.one_of(
    st.none(), st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=8), st.sampled_from(["2026-01-01", "007", "true", "1e5", "null"])
)


@settings(max_examples=8, phases=[Phase.explicit, Phase.generate])
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "customer_id": st.sampled_from(["c1", "c2", " c3", "0004"]),
                "event": st.sampled_from(["Order Completed", "Order Complete"]),
                "event_time": st.sampled_from(["2026-01-01T10:00:00Z", "2026-01-02T10:00:00.123456+02:00", "2026-02-01"]),
                "value": VALUES,
                "city": TEXTS,
                "n": st.one_of(st.none(), st.integers(0, 5)),
            }
        ),
        min_size=2,
        max_size=8,
    ),
    st.sampled_from(KINDS),
)
def test_any_rows_replayed_equal_a_history_that_had_them_right(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], kind: str
) -> None:
    place = Place(tmp_path_factory.mktemp("replayed"))
    zone = "timezone: UTC\n"
    write(place, kind, rows)
    load(place, zone + STRICT)
    replay(place, zone + RIGHT)
    report = load(place, zone + RIGHT)
    fresh = elsewhere(place, "fresh")
    write(fresh, kind, rows)
    fresh.ingest(zone + RIGHT)
    assert stored(place.store.read("events")) == stored(fresh.store.read("events")) and report.quarantined == 0


# persons


def people(place: Place, text: str, **environment: str) -> People:
    return People(place.config(text), environment)


def test_forgotten_persons_are_not_replayed_and_leave_the_replayed_rows(place: Place) -> None:
    write(place, "jsonl", ROWS)
    load(place, STRICT)
    write(place, "jsonl", ROWS[:1])
    before = quarantine.rows(place.store)
    replay(place, RIGHT, before)
    load(place, RIGHT)
    mine = people(place, RIGHT)
    assert mine.forget(["c2"], now=NOW).rows["replayed"] == 2
    assert b"c2" not in repr(place.store.read("replayed").to_pylist()).encode() and len(place.events()) == 2
    [found] = replay(place, RIGHT, before, persons=mine.persons())
    assert (found.suppressed, found.passed, found.new) == (2, 1, 0)
    load(place, RIGHT, persons=mine.persons())
    assert {row["customer_id"] for row in place.events()} == {"c1", "c3"}
    mine.forget(["c3"], now=NOW)
    load(place, RIGHT, persons=mine.persons())
    assert [row["customer_id"] for row in place.events()] == ["c1"], "a source that lost all its replayed rows is none"


def test_numbers_that_became_pseudonyms_are_replayed(place: Place) -> None:
    rows = [{**row, "customer_id": 7 + n} for n, row in enumerate(ROWS[:4])]
    write(place, "jsonl", rows)
    text = "pseudonymize: env:NAMES\n"
    persons = people(place, text + RIGHT, NAMES="a key of the whole shop").persons()
    load(place, text + STRICT, persons=persons)
    write(place, "jsonl", rows[:1])
    [found] = replay(place, text + RIGHT, persons=persons)
    assert (found.passed, found.unlike) == (3, 0)
    load(place, text + RIGHT, persons=persons)
    assert {row["customer_id"] for row in place.events()} == {persons.named(pa.array([str(7 + n)]))[0].as_py() for n in range(4)}


# dropping


def test_what_is_dropped_stays_away_until_it_is_right(place: Place) -> None:
    write(place, "jsonl", ROWS)
    place.write("people.csv", "id,country\nc1,GB\n,FR\n")
    strict, right = (text + "customers: {path: people.csv, customer_id: id}\n" for text in (STRICT, RIGHT))
    load(place, strict)
    mine = people(place, strict)
    chosen = quarantine.rows(place.store, reason="is not one of")
    assert quarantine.drop(mine, place.store, chosen) == {"orders": 4}
    assert quarantine.drop(mine, place.store, quarantine.rows(place.store, ["customers"])) == {"customers": 1}
    for rebuild in (False, True):
        report = load(place, strict, persons=mine.persons(), rebuild=rebuild)
        assert not report.rebuilt or rebuild, "what is in the table and in no source any more is kept"
        assert (report.quarantined, report.suppressed, report.sources[0].samples) == (0, 4, ())
        assert report.traits is not None and (report.traits.quarantined, report.traits.suppressed) == (0, 1)
        assert not len(quarantine.rows(place.store))
    assert b"Order Comp" not in (place.store.path / "live.db").read_bytes()
    report = load(place, right, persons=mine.persons())
    assert (report.accepted, report.suppressed) == (4, 1), "those that are right by now come in"
    write(place, "jsonl", [*ROWS, {**ROWS[4], "customer_id": "c9"}])
    assert load(place, right, persons=mine.persons()).quarantined == 1, "another bad row is seen"


def test_dropped_rows_are_known_after_a_new_key(place: Place) -> None:
    write(place, "jsonl", ROWS)
    load(place, STRICT)
    quarantine.drop(people(place, STRICT), place.store, quarantine.rows(place.store))
    text = STRICT + "consent: {key: env:NEW}\n"
    assert load(place, text, persons=people(place, text, NEW="n" * 20).persons()).suppressed == 4


# the command


@pytest.fixture
def shop(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.chdir(place.root)
    write(place, "jsonl", ROWS)
    place.write("predseg.yaml", "project: shop\n" + STRICT)
    assert main(["check"]) == 0
    return place


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    main(["quarantine", *arguments, "--json"])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_command_lists_replays_and_drops(shop: Place, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "list", "--out", "bad.jsonl")
    assert (
        found["rows"] == 4
        and found["groups"][0]["reason"].startswith("is not one of")
        and len((shop.root / "bad.jsonl").read_text().splitlines()) == 4
    )
    shop.write("predseg.yaml", "project: shop\n" + RIGHT)
    assert answer(capsys, "replay", "--dry-run")["replayed"][0]["new"] == 3 and not (shop.store.tables / "replayed").exists()
    found = answer(capsys, "replay")
    assert (found["status"], found["replayed"][0]["passed"], found["in_quarantine"]) == ("ok", 3, 1)
    assert len(shop.events()) == 4 and Project.load(shop.root / "predseg.yaml").check().rows == 4
    shop.write("predseg.yaml", "project: shop\n" + STRICT)
    assert main(["check"]) == 4, "all replayed rows are bad once more"
    assert "do not any more" in answer(capsys, "replay")["not_replayed"]["orders, replayed"]
    shop.write("predseg.yaml", "project: shop\n" + RIGHT)
    assert main(["check"]) == 0
    assert main(["quarantine", "replay"]) == 0 and "1 row: event_time cannot be read" in capsys.readouterr().out
    assert answer(capsys, "drop", "--all", "--dry-run")["in_quarantine"] == 1
    assert answer(capsys, "drop", "--source", "orders")["in_quarantine"] == 0
    assert main(["quarantine"]) == 0 and "nothing is in quarantine" in capsys.readouterr().out
    logged = [json.loads(line) for line in (shop.store.path / "audit.jsonl").read_text().splitlines()]
    assert [(e["arguments"]["action"], e["status"]) for e in logged if e["command"] == "quarantine"] == [
        *(("list", "ok"), ("replay", "ok"), ("replay", "failed"), ("replay", "ok"), ("drop", "ok"), ("list", "ok"))
    ]


@pytest.mark.parametrize(("arguments", "said"), [("drop", "E283"), ("list --source order", "did you mean 'orders'?")])
def test_the_command_refuses(shop: Place, capsys: pytest.CaptureFixture[str], arguments: str, said: str) -> None:
    assert main(["quarantine", *arguments.split()]) == 2 and said in capsys.readouterr().err
    assert len(shop.quarantine()) == 4


def test_too_many_bad_rows_are_refused_until_they_are_replayed_or_dropped(shop: Place, capsys: pytest.CaptureFixture[str]) -> None:
    tight = "project: shop\n" + STRICT.replace("100%", "10%")
    shop.write("predseg.yaml", tight)
    assert main(["check"]) == 4 and main(["quarantine", "replay"]) == 4 and "E409" in capsys.readouterr().err
    assert main(["quarantine", "drop", "--reason", "is not one of"]) == 0 and main(["check"]) == 0


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_written_quarantine_is_looked_through_when_somebody_is_forgotten(shop: Place, capsys: pytest.CaptureFixture[str], suffix: str) -> None:
    assert main(["quarantine", "list", "--out", f"bad.{suffix}"]) == 0
    assert main(["forget", "c4"]) == 0
    content = (shop.root / f"bad.{suffix}").read_bytes()
    if suffix == "parquet":
        import pyarrow.parquet as pq

        content = repr(pq.read_table(shop.root / "bad.parquet").to_pylist()).encode()
    assert b"c4" not in content and b"c3" in content


def refuse_live(place: Place) -> None:
    from predseg.live.state import connect

    connection = connect(place.store.path / "live.db")
    rows = [(None, '{"event": ""}', "event", "is missing", None), ("c1", '{"event": "x"}', "event_time", "is missing", NOW)]
    connection.executemany("insert into refused (customer_id, raw, field, reason, received_at) values (?, ?, ?, ?, ?)", rows)
    connection.close()


def test_what_came_live_is_shown_and_dropped_but_not_replayed(shop: Place, capsys: pytest.CaptureFixture[str]) -> None:
    refuse_live(shop)
    assert answer(capsys, "list", "--source", "live")["rows"] == 2
    found = answer(capsys, "replay", "--source", "live")
    assert found["replayed"] == [] and "sent again" in found["not_replayed"]["live"] and found["in_quarantine"] == 6
    assert answer(capsys, "drop", "--source", "live", "--reason", "event is")["dropped"] == {"live": 1}
    with sqlite3.connect(shop.store.path / "live.db") as connection:
        assert connection.execute("select field from refused").fetchall() == [("event_time",)]


@pytest.mark.parametrize("broken", ["a second time", "with a hole"])
def test_the_tests_find_what_they_look_for(place: Place, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    if broken == "a second time":
        numbers = iter(range(100))
        monkeypatch.setattr(quarantine, "bad_row", lambda source, raw: f"{source}{raw}{next(numbers)}")
        with pytest.raises(AssertionError):
            test_done_again_or_after_a_kill_nothing_is_there_twice(place)
    else:
        real = quarantine.Engine.view
        monkeypatch.setattr(
            quarantine.Engine,
            "view",
            lambda self, name, sql: real(self, name, sql.split(" from typed where ")[0] + " from typed" if name == "again" else sql),
        )
        with pytest.raises((AssertionError, PredsegError)):
            test_what_the_source_would_not_give_any_more_stays(place)
