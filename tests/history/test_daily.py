"""A history that comes in day by day is the history that comes in at once, and costs the day."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import predseg.history
from predseg.evaluate.block import NEVER, blocks
from predseg.forecast.dataset import count_customers
from predseg.history import adding, erasure, merge
from predseg.history.report import IngestReport, described
from predseg.layers import is_recent, parts, readers, rows_in, whole_customers, with_gone
from predseg.segments.lookup import read_events
from predseg.store import Store
from tests.history import projects
from tests.history.projects import LONGER, NOW, Place, stored
from tests.planting import Bug, plant

TICK = 1_000_000
START = NOW - 1000 * TICK
SOURCE = "sources: {a: {path: 'a/*.parquet'}}\ncontract: {tolerance: 100%}\n"

row = st.fixed_dictionaries(
    {
        "customer_id": st.sampled_from(["c1", "c2", "c3", "v1", None, None]),
        "anonymous_id": st.sampled_from([None, "v1", "v2", "v3", "w"]),
        "event": st.sampled_from(["Order Completed", "Product Viewed"]),
        "event_time": st.integers(0, 3).map(lambda k: START + k * TICK),
        "received_at": st.sampled_from([None, 0, 1, 2, 5]).map(lambda k: None if k is None else START + k * TICK),
        "event_id": st.one_of(st.none(), st.integers(0, 11).map("e{}".format)),
        "n": st.sampled_from([None, 1, 2]),
    }
)
GOOD = {"customer_id": "c9", "anonymous_id": None, "event": "Signed Up", "event_time": START, "received_at": None, "event_id": "good", "n": None}
history = st.lists(st.lists(row, min_size=1, max_size=6), min_size=2, max_size=5)


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """Rows are put beside bases of any size, and files are cut after a few rows. Counts how often that came about."""
    yield from _beside(monkeypatch)


def _beside(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    counts: Counter[str] = Counter()
    add = adding.add_events

    def counted(*args: Any) -> Any:
        counts["tried"] += 1
        found = add(*args)
        counts["beside"] += 1
        return found

    for of, name, value in ((adding, "LEAST", 0), (adding, "SHARE", 0), (adding, "GROUP_ROWS", 2), (merge, "GROUP_ROWS", 3), (merge, "FILE_ROWS", 5)):
        monkeypatch.setattr(of, name, value)
    monkeypatch.setattr(adding, "add_events", counted)
    yield counts


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Place]:
    root, number = tmp_path_factory.mktemp("daily"), iter(range(10**9))
    return lambda: Place(root / str(next(number)))


def put(place: Place, name: str, rows: list[dict[str, Any]]) -> Path:
    kinds = {"event_time": pa.timestamp("us", "UTC"), "received_at": pa.timestamp("us", "UTC"), "n": pa.int64()}
    return place.parquet(name, **{key: pa.array([r[key] for r in rows], kinds.get(key, pa.string())) for key in rows[0]})


def seen(store: Store) -> list[list[Any]]:
    """Whom the blocks know, in order, and their rows: when, visible from and until when, what, and a number."""
    found = []
    for block in blocks(store.files("events"), {"n"}, 4):
        numbers: Any = block.properties.get("n")
        rows = range(len(block.time))
        hidden = block.hidden if block.hidden is not None else np.full(len(rows), NEVER)
        assert all(np.diff(block.time)[np.diff(block.customer) == 0] >= 0)
        columns = (
            block.time,
            block.received,
            hidden,
            [block.names[e] for e in block.event],
            numbers.units if numbers is not None else [0] * len(rows),
        )
        owners = block.owner if block.owner is not None else np.arange(block.size)
        for i in range(block.size):
            here = slice(block.offsets[i], block.offsets[i + 1])
            found.append([block.customers[owners[i]], block.customers[i], sorted(zip(*(map(str, column[here]) for column in columns), strict=True))])
    return sorted(found)


def of_table(report: IngestReport) -> tuple[Any, ...]:
    every = report.rows, report.customers, report.events, report.first, report.last, report.visible, report.refused_links
    return (
        *every,
        [(s.name, s.received, s.accepted, s.duplicates, s.quarantined, s.conflicts, s.reasons, s.samples, s.last) for s in report.sources],
    )


def same(place: Place, report: IngestReport, whole: Place, expected: IngestReport) -> None:
    assert stored(place.store.read("events")) == stored(whole.store.read("events"))
    assert sorted(map(str, place.quarantine())) == sorted(map(str, whole.quarantine()))
    assert of_table(report) == of_table(expected)
    assert seen(place.store) == seen(whole.store)
    names = [
        Counter(name for reader in readers(one.store.files("events")) for name in reader.read()["event_id"].to_pylist()) for one in (place, whole)
    ]
    assert names[0] == names[1] and rows_in(place.store.files("events")) == report.rows


def by_day(fresh: Callable[[], Place], days: list[list[dict[str, Any]]], each: bool = True) -> None:
    """Compare after each day, or after the last one."""
    place, whole = fresh(), fresh()
    for number, rows in enumerate([[GOOD, *days[0]], *days[1:]]):
        put(place, f"a/{number}.parquet", rows)
        put(whole, f"a/{number}.parquet", rows)
        report = place.ingest(SOURCE)
        if each or number == len(days) - 1:
            same(place, report, whole, whole.ingest(SOURCE, rebuild=True))
    assert place.ingest(SOURCE).up_to_date


@settings(max_examples=2 * LONGER)
@given(days=history)
def test_day_by_day_is_all_at_once(fresh: Callable[[], Place], days: list[list[dict[str, Any]]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        [_] = [by_day(fresh, days) for _ in _beside(patch)]


# one story with everything in it


def at(tick: int, customer: str | None, anonymous: str | None = None, event_id: str | None = None, n: int | None = None) -> dict[str, Any]:
    when = START + tick * TICK
    return {
        "customer_id": customer,
        "anonymous_id": anonymous,
        "event": "Product Viewed",
        "event_time": when,
        "received_at": when,
        "event_id": event_id,
        "n": n,
    }


VISITOR = [[at(0, None, "v1", "e1"), at(0, "c1", None, "e2"), at(1, None, "v2", "e3"), at(1, "c2"), at(1, None, "v2", "e0")]]
STORIES: dict[str, list[list[dict[str, Any]]]] = {
    "a visitor becomes a customer, and then an earlier one is heard of": [*VISITOR, [at(5, "c1", "v1", "e4")], [at(3, "c2", "v1", "e5")]],
    "a visitor of before comes again as somebody known": [*VISITOR, [at(5, "c1", "v1", "e4")], [at(6, None, "v1", "e5"), at(7, "c3")]],
    "a second customer under one id is refused once": [*VISITOR, [at(4, "c1", "v1", "e4")], [at(5, "c3", "v1", "e5")], [at(6, "c2", "v1", "e6")]],
    "an event comes again": [*VISITOR, [at(0, "c1", None, "e2"), at(1, None, "v2", "e3"), at(2, "c1", "v2", "e6")]],
    "an event comes again with other content": [*VISITOR, [at(4, "c1", None, "e2", 2)], [at(4, "c1", None, "e2", 2)]],
    "an earlier content of an event is heard of": [[GOOD, at(4, "c1", None, "e2", 2)], [at(1, "c3", None, "e2", 1)], [at(5, "c1")]],
    "an event without an id comes again": [*VISITOR, [at(1, "c2")], [at(2, "c2")]],
    "a customer of each day": [
        [at(0, f"c{k}", None, f"e{k}") for k in (1, 4, 6)],
        [at(1, f"c{k}", None, f"f{k}") for k in (0, 2, 4, 9)],
        [at(2, "c5")],
    ],
    "rows that moved are taken into a larger file": [
        *VISITOR,
        [at(5, "c1", "v1", "e4")],
        [at(6, "c1", "v2", "e5"), at(6, "c4", None, "e6"), at(7, "c4")],
    ],
}


@pytest.mark.parametrize("story", STORIES)
def test_a_story_day_by_day(fresh: Callable[[], Place], beside: Counter[str], story: str) -> None:
    by_day(fresh, STORIES[story], each=False)
    assert beside["tried"] == len(STORIES[story]) - 1


PLANTED = [
    Bug("events of the same id are not looked for", "adding", "where event_id in (select name from fresh)", "where false"),
    Bug("an event gives way, and stays", "adding", "    if counts.conflicts.get(EXISTING):", "    if False:"),
    Bug("what has no id is counted by file", "adding", "    if counts.repeated:", "    if False:"),
    Bug("a visitor who is gone is still counted", "adding", "+ came - left", "+ came"),
    Bug("links of before are forgotten", "adding", " union all select anonymous_id, own, seen, seen from about", ""),
    Bug("an earlier link does not change since when", "adding", " or a.linked_at is distinct from l.linked_at", ""),
    Bug("a moved row stays where it was, too", "adding", "for name, rows in gone.items() if name in", "for name, rows in {}.items() if name in"),
    Bug("what is gone comes back in a larger file", "adding", "scan(taken, gone, engine.temp)", "scan(taken, {}, engine.temp)"),
    Bug("a refused link is written down each day", "events", "looked_at is not None and name not in looked_at", "looked_at is not None"),
    Bug("bad rows of before are lost", "events", "if before else QUARANTINE.empty_table()", "if not before else QUARANTINE.empty_table()"),
    Bug("duplicates of the day are counted as accepted", "report", "accepted=before.accepted + more.new", "accepted=before.accepted + more.accepted"),
]


@pytest.mark.parametrize("bug", PLANTED if LONGER > 1 else PLANTED[5:7], ids=lambda bug: bug.name)
def test_a_planted_bug_is_found(fresh: Callable[[], Place], monkeypatch: pytest.MonkeyPatch, bug: Bug) -> None:
    events, adding_, merge_ = plant(predseg.history, bug, ["events", "adding", "merge"])
    for of, name, value in (
        (adding_, "LEAST", 0),
        (adding_, "SHARE", 0),
        (adding_, "GROUP_ROWS", 2),
        (merge_, "GROUP_ROWS", 3),
        (merge_, "FILE_ROWS", 5),
    ):
        monkeypatch.setattr(of, name, value)
    monkeypatch.setattr(projects, "ingest", events.ingest)
    bad = [*VISITOR, [at(4, None)], [at(4, "c1", "v1", "e9")]]
    found = False
    for days in [bad, *STORIES.values()]:
        try:
            by_day(fresh, days, each=False)
        except (AssertionError, RuntimeError, ValueError):
            found = True
            break
    assert found


# what is read


SHOP = "contract: {tolerance: 50%}\nsources: {a: {path: 'a/*.KIND', query: 'QUERY'}, b: {path: b.jsonl}}\n"
ROWS = "select *, size + 1 as larger from source where flag or flag is null"


def day(place: Place, kind: str, number: int, **changes: Any) -> Path:
    rows: list[dict[str, Any]] = [
        {"customer_id": f"c{k}", "event": "Seen", "event_time": "2026-01-02T00:00:00Z", "event_id": f"{number}-{k}"} for k in (1, 2)
    ]
    rows = [{**r, "size": 3, "flag": True, **changes} for r in rows]
    if kind == "parquet":
        return place.parquet(f"a/{number}.parquet", **{name: [r[name] for r in rows] for name in rows[0]})
    if kind == "jsonl":
        return place.jsonl(f"a/{number}.jsonl", [{k: v for k, v in r.items() if v is not None} for r in rows])
    cells = [list(rows[0]), *([json.dumps(v) if isinstance(v, bool) else "" if v is None else str(v) for v in r.values()] for r in rows)]
    return place.write(f"a/{number}.csv", "".join(",".join(line) + "\n" for line in cells))


CHANGES: list[tuple[str, dict[str, Any], bool, str]] = [("csv", {}, True, ROWS), ("jsonl", {}, True, ""), ("parquet", {}, True, "")]
CHANGES += [
    ("csv", {"size": "x"}, False, ""),
    ("jsonl", {"flag": None}, True, ROWS),
    ("parquet", {"more": 1}, False, ""),
    ("csv", {}, False, "select distinct * from source"),
]
if LONGER > 1:
    CHANGES = [(kind, *case[1:]) for kind in ("csv", "jsonl", "parquet") for case in [*CHANGES[2:], ("", {"size": None}, True, ROWS)]]


@pytest.mark.parametrize(("kind", "changes", "alone", "query"), CHANGES)
def test_only_the_files_that_came_are_read(place: Place, kind: str, changes: dict[str, Any], alone: bool, query: str) -> None:
    """Of a file that was read, nothing is left but its size and its time: to read it again would fail, or give other rows."""
    text = SHOP.replace("KIND", kind).replace("QUERY", query).replace(", query: ''", "")
    place.jsonl("b.jsonl", [{"customer_id": "b", "event": "Seen", "event_time": "2026-01-02T00:00:00Z"}])
    files = [day(place, kind, 0), place.root / "b.jsonl"]
    place.ingest(text)
    whole = Place(place.root / "whole")
    for file in files:
        whole.write(str(file.relative_to(place.root)), file.read_bytes())
        kept = file.stat()
        if alone:
            file.write_bytes(bytes(kept.st_size))
            os.utime(file, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    if kind == "parquet" and None in changes.values():
        changes = {name: pa.scalar(None, {"size": pa.int64(), "flag": pa.bool_()}[name]) for name in changes}
    day(place, kind, 1, **changes)
    day(whole, kind, 1, **changes)
    same(place, place.ingest(text), whole, whole.ingest(text, rebuild=True))


def test_what_was_cut_short_is_read_again(place: Place, beside: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between the exchange of the table and the note of what it was made of."""
    put(place, "a/0.parquet", [GOOD, *VISITOR[0]])
    place.ingest(SOURCE)
    put(place, "a/1.parquet", [at(5, "c1", "v1", "e4"), at(5, None)])
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("predseg.history.report.remember", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
        place.ingest(SOURCE)
    assert any(map(is_recent, place.store.files("events"))) and beside["beside"] == 1
    report = place.ingest(SOURCE)
    whole = Place(place.root / "whole")
    put(whole, "a/0.parquet", [GOOD, *VISITOR[0]])
    put(whole, "a/1.parquet", [at(5, "c1", "v1", "e4"), at(5, None)])
    same(place, report, whole, whole.ingest(SOURCE))


# who reads and who changes the table


def layered(place: Place) -> Store:
    for number, rows in enumerate([[GOOD, *VISITOR[0]], [at(5, "c1", "v1", "e4"), at(6, "c7", None, "e5")], [at(7, "c2", "v2", "e6")]]):
        put(place, f"a/{number}.parquet", rows)
        place.ingest(SOURCE)
    assert any(map(is_recent, place.store.files("events")))
    return place.store


def test_the_forgotten_leave_every_file(place: Place, beside: Counter[str]) -> None:
    store = layered(place)
    everything = stored(store.read("events"))
    erased = erasure.erase(store, erasure.ids_of(store, ["c1"]))
    assert erased.rows == {"events": sum(row["customer_id"] == "c1" for row in everything)} and erased.ids == 2
    held = {text for file in store.files("events") for row in pq.ParquetFile(file).read().to_pylist() for text in row.values()}
    assert not held & {"c1", "v1"} and "c2" in held and b"predseg.gone" not in (pq.read_schema(store.files("events")[0]).metadata or {})
    assert stored(store.read("events")) == [row for row in everything if row["customer_id"] != "c1"]


def test_what_is_held_of_a_person_is_told_once(place: Place, beside: Counter[str]) -> None:
    store = layered(place)
    mine = erasure.held(store, erasure.ids_of(store, ["c1"]))["events"]
    assert sorted(row["event_id"] for row in mine) == ["e1", "e2", "e4"]


def test_a_visitor_belongs_to_whom_the_rows_that_are_there_say(place: Place) -> None:
    """Whoever asks for links leaves rows away that are gone, whatever took their place."""
    kinds = dict.fromkeys(("event_time", "received_at", "linked_at"), pa.timestamp("us", "UTC"))

    def rows(customer: str, visible: int) -> pa.Table:
        values = {"customer_id": customer, "anonymous_id": "v1", "event": "A", "event_time": visible, "received_at": visible, "linked_at": None}
        return pa.table({name: pa.array([value], kinds.get(name, pa.string())) for name, value in values.items()})

    with place.store.replace("events") as folder:
        pq.write_table(rows("c1", START), folder / "part-00000.parquet")
        assert erasure.ids_of(place.store, ["c1"]) == ["c1"], "not there yet"
        later = rows("c2", START + TICK)
        pq.write_table(later.cast(with_gone(later.schema, {"part-00000.parquet": np.array([0])})), folder / "recent-00001.parquet")
    assert erasure.owners(place.store, ["v1"]) == {"v1": "c2"}
    assert erasure.ids_of(place.store, ["c1"]) == ["c1"] and erasure.ids_of(place.store, ["c2"]) == ["c2", "v1"]


def test_readers_see_whole_customers(place: Place, beside: Counter[str]) -> None:
    store = layered(place)
    every = Counter(store.read("events")["customer_id"].to_pylist())
    files = store.files("events")
    for part in parts(files):
        for group in range(len(part.base.sizes)):
            for name, number in Counter(whole_customers(part, group)["customer_id"].to_pylist()).items():
                assert every[name] == number
    assert count_customers(files) == len(every)
    assert {e.name for e in read_events(files, "c1")} == {"Product Viewed"} and len(read_events(files, "c1")) == every["c1"]
    with store.reading("events"):
        assert rows_in(store.files("events")) == every.total() and seen(store)
    assert described(store, IngestReport()).customers == len(every)


def test_a_base_that_is_small_or_has_much_beside_it_is_written_anew(place: Place, beside: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adding, "SHARE", 4)
    put(place, "a/0.parquet", [at(k, f"c{k}", None, f"e{k}") for k in range(16)])
    place.ingest(SOURCE)
    numbers = []
    for k in range(1, 7):
        put(place, f"a/{k}.parquet", [at(k, "c1", None, f"f{k}")])
        place.ingest(SOURCE)
        numbers.append([pq.read_metadata(file).num_rows for file in place.store.files("events") if is_recent(file)])
    assert numbers == [[1], [2], [3], [3, 1], [], [1]]
    monkeypatch.setattr(adding, "LEAST", 100)
    put(place, "a/9.parquet", [at(9, "c1", None, "f9")])
    assert place.ingest(SOURCE).rows == 23 and not any(map(is_recent, place.store.files("events")))
