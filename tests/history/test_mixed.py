"""Properties of which values are of several kinds: every value is what it is, whichever file it came in and whatever stands beside it."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from predseg.columns import mixed_in
from predseg.engine import Engine
from predseg.errors import DataError
from predseg.evaluate import batch
from predseg.evaluate.block import Words, blocks, from_table
from predseg.evaluate.reference import Event, decide
from predseg.history import adding, files, jsonl, merge, mixed, quarantine
from predseg.history.erasure import held
from predseg.history.events import ingest
from predseg.history.merge import canonical_json
from predseg.history.persons import EVERYBODY
from predseg.language import conditions as c
from predseg.language.measures import Comparison, Events, Measure, Value, kind_of
from predseg.language.spelling import spelled, value_of
from predseg.live import lines
from predseg.live.handover import events_table
from predseg.live.lines import Contract
from predseg.segments.lookup import to_events
from tests.evaluate.worlds import ANY, MOMENTS, SEED, random_condition, random_event
from tests.history.projects import LONGER, NOW, Place

TEXTS = (
    "12",
    " 12 ",
    "1e3",
    "+5",
    "0012",
    "true",
    "TRUE",
    "'x",
    "''",
    "[a",
    '["a"]',
    "n/a",
    "",
    "-",
    "12 EUR",
    "a\n12",
    "[\n",
    "ä",
    ".5",
    "5.",
    "-0",
)


# how values are spelled


@pytest.mark.parametrize("value", [None, *ANY, *TEXTS, Decimal("-0.0001"), Decimal(100), Decimal(0), Decimal("-0.0"), (), ("'a", "[b"), False])
def test_a_value_comes_back_as_what_it_was(value: Value) -> None:
    text = spelled(value)
    found = None if text is None else value_of(text)
    assert found == value and (value is None or kind_of(found) == kind_of(value))


def test_sql_spells_as_python_does_and_says_the_same_content(tmp_path: Path) -> None:
    values: list[Value] = [*TEXTS, *(v for v in ANY if v is not None), Decimal("-0.0001"), Decimal(100)]
    texts = pa.array([v for v in values if isinstance(v, str)])
    with Engine(tmp_path) as engine:
        found = engine.over("t", pa.table({"a": texts}), f"select {mixed.of_text('a')} as b, {mixed.plain(mixed.of_text('a'))} as c from t")
        assert found["b"].to_pylist() == [spelled(v.as_py()) for v in texts] and found["c"].to_pylist() == texts.to_pylist()
        said = engine.over("t", pa.table({"a": [spelled(v) for v in values]}), f"select {mixed.json_sql('a')} as b from t")["b"].to_pylist()
        assert said == [canonical_json({"b": list(v) if isinstance(v, tuple) else v})[5:-1] for v in values]
        rows = [json.dumps(_plain(v)) for v in values]
        back = engine.over("t", pa.table({"a": rows}), f"select {mixed.of_json('a::json')} as b from t")["b"]
        assert mixed.tidy(back.combine_chunks())[0].to_pylist() == [spelled(v) for v in values]


def test_values_that_are_the_same_have_one_code() -> None:
    texts = ['["a",null]', "1", "'1", "true", None, '["a"]', "'true"]
    column = {
        "customer_id": ["c"] * 7,
        "event": ["A"] * 7,
        **dict.fromkeys(("event_time", "received_at"), pa.array(range(7), pa.timestamp("us", "UTC"))),
    }
    table = pa.table({**column, "any": texts}).cast(pa.schema([*pa.table(column).schema, mixed.field("any")]))
    found = from_table(table).properties["any"]
    assert isinstance(found, Words) and found.values == (("a",), Decimal(1), "1", True, "true") and found.codes.tolist() == [0, 1, 2, 3, -1, 0, 4]


def test_numbers_are_spelled_in_one_way() -> None:
    found, large, rounded = mixed.tidy(pa.array(["12.50", "-0", "1e3", "n/a", None, "'12.50", "0.00005", "1e20", "1234567890123456789", "1.00"]))
    assert found.to_pylist() == ["12.5", "0", "1000", "n/a", None, "'12.50", "0", None, "1234567890123456789", "1"]
    assert np.flatnonzero(large).tolist() == [7] and np.flatnonzero(rounded).tolist() == [6]


def _plain(value: Value) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == int(value) else float(value)
    return list(value) if isinstance(value, tuple) else value


# files and live events, whatever comes first


NESTED: tuple[Any, ...] = ([1, "x"], [2.5, True, None], [1], [{"b": 2.5, "é": [None, "\n"]}, "n/a"], [[], ["1"]], {"x": 1}, {"y": {"z": [True]}})
"""Lists of more than texts, and objects, which are texts."""
OF_ONE = ([[1], [2, None, 1], None], [[2.5, 1.0], []], [[True]], [[{"b": 2.5, "c": "x"}], [None]], [[[1], []]])
"""Lists that a Parquet file may have."""


@dataclass(frozen=True)
class File:
    """Rows that come together: as lines of JSON, as Parquet with one kind a column, or handed over by the live side."""

    form: str
    rows: list[dict[str, Any]]

    def write(self, place: Place, number: int) -> None:
        if self.form == "jsonl":
            place.jsonl(f"in/{number}.jsonl", self.rows)
        elif self.form == "parquet":
            names = sorted({name for row in self.rows for name in row})
            columns = {name: [row.get(name) for row in self.rows] for name in names}
            lists = {name: [v for v in values if isinstance(v, list)] for name, values in columns.items()}
            texts = {name for name, found in lists.items() if found and all(isinstance(e, str | None) for v in found for e in v)}
            typed = {name: pa.array(values, pa.list_(pa.string()) if name in texts else None) for name, values in columns.items()}
            place.parquet(f"in/{number}.parquet", **typed)
        elif self.form == "live":
            (place.root / "in").mkdir(exist_ok=True)
            table = events_table([Contract().read(row) for row in self.rows])
            pq.write_table(table.drop_columns(["anonymous_id", "event_id"]), place.root / f"in/{number}.parquet")


def _files(r: random.Random, form: str) -> list[File]:
    """Some files, of which many have values of one kind only."""
    found = []
    for _ in range(r.randrange(2, 5)):
        kinds = r.sample(["number", "flag", "text", "list"], 1 if form == "parquet" else r.choice([1, 1, 2, 4]))
        some = [v for v in (*ANY, *(NESTED if form != "parquet" else ())) if v is None or _kind(v) in kinds]
        some = r.choice([*OF_ONE, some]) if form == "parquet" and kinds == ["list"] else some
        rows = [_row(r, some) for _ in range(r.randrange(1, 12))]
        found.append(File(form, rows))
    return found


def _kind(value: Any) -> str:
    return "list" if isinstance(value, tuple | list) else kind_of(value)


def _row(r: random.Random, some: Sequence[Any]) -> dict[str, Any]:
    event = random_event(r, 0.2)
    properties = {**event.properties, "any": r.choice(some)}
    row = {name: _plain(v) for name, v in properties.items() if v is not None}
    row |= {"customer_id": f"c{r.randrange(4)}", "event": event.name, "event_time": _iso(event.time), "received_at": _iso(event.visible)}
    return row


def _iso(micros: int) -> str:
    return np.datetime64(micros, "us").item().isoformat() + "Z"


def _oracle(files: Sequence[File]) -> dict[str, list[Event]]:
    """The events as the live side reads them, each once; equal rows of one source are several."""
    found: dict[str, list[Event]] = {}
    for file in files:
        for row in file.rows:
            seen = Contract().read(row)
            found.setdefault(str(seen.customer_id), []).append(Event(seen.time, seen.event, seen.properties, seen.visible))
    return found


def _content(events: Sequence[Event]) -> Counter[str]:
    return Counter(
        repr((e.time, e.visible, e.name, sorted((k, _kind(v), str(spelled(v))) for k, v in e.properties.items() if v is not None))) for e in events
    )


@pytest.mark.parametrize("seed", range(4 * LONGER))
@pytest.mark.parametrize("form", ["jsonl", "live", "parquet"])
def test_what_batch_says_is_what_live_says_of_the_same_rows(place: Place, form: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    r = random.Random(f"{SEED} {form} {seed}")
    if seed % 2:
        monkeypatch.setattr(adding, "LEAST", 0)
        monkeypatch.setattr(adding, "SHARE", 0)
    text = f"sources: {{a: {{path: 'in/*.{'jsonl' if form == 'jsonl' else 'parquet'}'}}}}\n"
    every, there, first = _files(r, form), 0, r.randrange(1, 3)
    while there < len(every):
        for file in every[there : there + first]:
            file.write(place, there)
            there += 1
        first = 1
        place.ingest(text)
        _same(place, every[:there], r)
    before = place.store.read("events")
    place.ingest(text, rebuild=True)
    assert place.store.read("events")["event_id"].equals(before["event_id"])
    _same(place, every, r)


def _same(place: Place, files: Sequence[File], r: random.Random) -> None:
    expected, table = _oracle(files), place.store.read("events")
    found: dict[str, list[Event]] = {}
    for who, event in zip(table["customer_id"].to_pylist(), to_events(table), strict=True):
        found.setdefault(who, []).append(event)
    assert {who: _content(events) for who, events in found.items()} == {who: _content(events) for who, events in expected.items()}
    asked = [random_condition(r, 1) for _ in range(4)]
    for block in blocks(place.store.files("events"), set().union(*(m.properties() for one in asked for m in c.measures(one)))):
        for one in asked:
            truth = batch.truth(block, MOMENTS, one)
            for k, t in enumerate(MOMENTS):
                for i, who in enumerate(block.customers):
                    says = None if truth.unknown[i, k] else bool(truth.true[i, k])
                    assert says == decide(one, expected[who], t), (one, who, t, expected[who])


PLANTED: dict[str, tuple[Any, str, Any]] = {
    "a text that looks like a number is one": (mixed, "of_text", lambda text: text),
    "numbers are not spelled anew": (mixed, "tidy", lambda column: (column, np.zeros(len(column), bool), np.zeros(len(column), bool))),
    "numbers that are there stay as their column has them": (merge, "as_kind", lambda column, *kinds: f"{column}::varchar"),
    "lists that are there become texts": (mixed, "of_kind", lambda column, kind: mixed.of_text(f"{column}::varchar")),
    "elements of lists are spelled otherwise live": (lines, "element", str),
    "lists of more than texts are texts": (
        jsonl,
        "kinds",
        lambda found, kinds=jsonl.kinds: {k: {None if t == mixed.ITEMS else t for t in v} for k, v in kinds(found).items()},
    ),
    "a table does not say what its texts are": (merge, "KINDS", {b"of": b"old"}),
}


@pytest.mark.parametrize("name", PLANTED if LONGER > 1 else [*PLANTED][:1])
def test_planted_errors_are_found(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where, attribute, wrong = PLANTED[name]
    monkeypatch.setattr(where, attribute, wrong)
    if attribute == "KINDS":
        monkeypatch.setattr(merge, "tells_kinds", lambda file: False)
    with pytest.raises((AssertionError, ValueError)):
        for seed in range(30):
            for form in ("jsonl", "live"):
                with pytest.MonkeyPatch.context() as patch:
                    (tmp_path / f"{form}-{seed}").mkdir()
                    test_what_batch_says_is_what_live_says_of_the_same_rows(Place(tmp_path / f"{form}-{seed}"), form, seed, patch)


# files without types


HEAD = "customer_id,event,event_time,price\n"
CSV = "sources: {a: {path: 'a/*.csv'}}\n"


def _csv(place: Place, name: str, *prices: str) -> None:
    place.write(f"a/{name}.csv", HEAD + "".join(f"c{i},{name},2026-01-01T00:00Z,{price}\n" for i, price in enumerate(prices)))


def _prices(place: Place) -> list[Value]:
    return _ordered([e.properties.get("price") for e in to_events(place.store.read("events"))])


def _ordered(values: Sequence[Value]) -> list[Value]:
    return sorted(values, key=lambda v: (_kind(v), str(v)))


@pytest.mark.parametrize("stray", ["n/a", "12 EUR", "-", "1,50", "true"])
def test_what_is_no_number_in_a_file_without_types_leaves_the_others_what_they_are(place: Place, stray: str) -> None:
    _csv(place, "A", "12.50", "7")
    place.ingest(CSV)
    assert place.store.read("events").schema.field("price").type == pa.decimal128(18, 4)
    _csv(place, "B", f'"{stray}"', "8.0")
    report = place.ingest(CSV)
    assert (report.rows, report.sources[0].new, report.rebuilt) == (4, 2, False)
    assert _prices(place) == _ordered([Decimal("12.5"), Decimal(7), Decimal(8), True if stray == "true" else stray])
    before = place.store.read("events")
    assert place.ingest(CSV, rebuild=True).rows == 4 and place.store.read("events").equals(before)
    _csv(place, "C", "3")
    assert place.ingest(CSV).rows == 5 and Decimal(3) in _prices(place)


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_file_with_the_first_text_among_numbers_is_all_that_is_read(place: Place, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text, seen, register = f"sources: {{a: {{path: 'a/*.{form}'}}}}\n", list[list[str]](), files.register
    monkeypatch.setattr(files, "register", lambda engine, some, *more: seen.append([f.name for f in some]) or register(engine, some, *more))

    def come(name: str, *prices: Any) -> None:
        if form == "csv":
            _csv(place, name, *("" if price is None else str(price) for price in prices))
        else:
            rows = [{"customer_id": f"c{i}", "event": name, "event_time": "2026-01-01T00:00Z", "price": price} for i, price in enumerate(prices)]
            rows = [{k: v for k, v in row.items() if v is not None} for row in rows]
            names = sorted({k for row in rows for k in row})
            if form == "jsonl":
                place.jsonl(f"a/{name}.jsonl", rows)
            else:
                place.parquet(f"a/{name}.parquet", **{k: [row.get(k) for row in rows] for k in names})
        place.ingest(text)

    come("A", 12.5, 7)
    come("B", "n/a")
    come("C", 8.25)
    come("D", None)
    come("E", "-")
    assert seen == [[f"{name}.{form}"] for name in "ABCDE"]
    assert _prices(place) == _ordered([Decimal("12.5"), Decimal(7), "n/a", Decimal("8.25"), None, "-"])
    before = place.store.read("events")
    assert place.ingest(text, rebuild=True).rows == 6 and place.store.read("events").equals(before)


def test_whole_numbers_of_many_digits_stay_what_they_are(place: Place) -> None:
    for name, order in (("A", 1234567890123456789), ("B", "n/a")):
        place.jsonl(f"a/{name}.jsonl", [{"customer_id": "c", "event": name, "event_time": "2026-01-01T00:00Z", "price": order}])
        place.ingest("sources: {a: {path: 'a/*.jsonl'}}\n")
    place.write("a/B.jsonl", (place.root / "a/B.jsonl").read_bytes() + b"\n")
    assert place.ingest("sources: {a: {path: 'a/*.jsonl'}}\n").rows == 2 and _prices(place) == [Decimal(1234567890123456789), "n/a"]


def test_spaces_of_any_kind_around_a_number_are_no_part_of_it(place: Place) -> None:
    _csv(place, "A", "5\t", "7")
    place.ingest(CSV)
    _csv(place, "B", "n/a", "\t8")
    assert place.ingest(CSV).rows == 4 and _prices(place) == [Decimal(5), Decimal(7), Decimal(8), "n/a"]
    before = place.store.read("events")
    assert place.ingest(CSV, rebuild=True).rows == 4 and place.store.read("events").equals(before)


def test_elements_of_lists_are_texts_whatever_stands_beside_them(place: Place) -> None:
    text, found = "sources: {a: {path: 'a/*.jsonl'}}\n", ([1, "x"], [2], [{"b": None}, 2.50, [True]], ["a", None])
    for name, prices in (("A", found), ("B", (5, ["a"], {"b": [1]}))):
        place.jsonl(f"a/{name}.jsonl", [{"customer_id": f"{p}", "event": name, "event_time": "2026-01-01T00:00Z", "price": p} for p in prices])
        place.ingest(text)
    before = place.store.read("events")
    assert _prices(place) == _ordered([("1", "x"), ("2",), ('{"b":null}', "2.5", "[true]"), ("a",), Decimal(5), ("a",), '{"b":[1]}'])
    place.write("a/A.jsonl", (place.root / "a/A.jsonl").read_bytes() + b"\n")
    assert place.ingest(text).rows == 7 and place.store.read("events").equals(before)
    assert place.ingest(text, rebuild=True).rows == 7 and place.store.read("events").equals(before)


def test_what_is_held_of_a_person_says_values_as_they_came(place: Place) -> None:
    place.jsonl("a.jsonl", [{"customer_id": "c", "event": "A", "event_time": "2026-01-01T00:00Z", "price": p} for p in ("7", 7, True, ["x"])])
    place.ingest("sources: {a: {path: a.jsonl}}\n")
    assert _ordered([row["price"] for row in held(place.store, ["c"])["events"]]) == _ordered(["7", Decimal(7), True, ("x",)])


@pytest.mark.parametrize("first, then", [(["7", "'x"], [5.5]), ([7.25, 3.5], ["n/a", "7", True, ["a"], None])])
def test_bad_rows_say_values_as_they_came_and_are_replayed_as_that(place: Place, first: list[Any], then: list[Any]) -> None:
    text = "sources: {{a: {{path: 'a/*.jsonl'}}}}\ncontract: {{events: [{}], tolerance: 100%}}\n"
    for name, prices in (("A", first), ("B", then)):
        place.jsonl(
            f"a/{name}.jsonl", [{"customer_id": "c", "event": e, "event_time": "2026-01-01T00:00Z", "price": p} for e in "XY" for p in prices]
        )
        place.ingest(text.format("X"))
    raw = [json.loads(row["raw"])["price"] for row in place.quarantine()]
    assert sorted(map(repr, raw)) == sorted(map(repr, (*first, *then)))
    config = place.config(text.format("X, Y"))
    [replayed] = quarantine.replay(config, place.store, quarantine.rows(place.store), now=NOW, persons=EVERYBODY)
    assert replayed.passed == len(raw)
    assert ingest(quarantine.with_replayed(config), place.store, now=NOW).rows == 2 * len(raw)


@pytest.mark.parametrize("more", [[], ["n/a"]])
@pytest.mark.parametrize("number", [10**15, -(10**15), 2**62])
def test_numbers_that_are_too_large_to_be_summed_are_refused(place: Place, number: int, more: list[str]) -> None:
    prices = [number, 5, *more]
    place.jsonl("a.jsonl", [{"customer_id": "c", "event": "A", "event_time": "2026-01-01T00:00Z", "price": p} for p in prices])
    place.ingest("sources: {a: {path: a.jsonl}}\n")
    rule = c.Did(Measure(Events(("A",)), aggregate="sum", of="price"), Comparison("more_than", Decimal(3)))
    with pytest.raises(DataError, match=f"found {abs(number):,}") as error:
        batch.truth(from_table(place.store.read("events")), MOMENTS, rule)
    assert error.value.code == "E432"


@pytest.mark.parametrize("code", ["00123", "85123A", "+44123", "1.2.3"])
def test_a_code_among_numbers_makes_all_of_them_texts_and_no_event_comes_twice(place: Place, code: str) -> None:
    _csv(place, "A", "12.50", "7")
    _csv(place, "B", "n/a")
    place.ingest(CSV)
    assert _prices(place) == [Decimal("12.5"), Decimal(7), "n/a"]
    _csv(place, "C", code)
    assert place.ingest(CSV).rows == 4 and _prices(place) == sorted(["12.50", "7", "n/a", code])
    before = place.store.read("events")
    assert not mixed_in(before.schema) and before["price"].type == pa.string()
    assert place.ingest(CSV, rebuild=True).rows == 4 and place.store.read("events").equals(before)


def test_numbers_of_one_source_and_texts_of_another_stay_what_they_are(place: Place) -> None:
    _csv(place, "A", "12.50", "7")
    place.jsonl("b.jsonl", [{"customer_id": "c9", "event": "B", "event_time": "2026-01-01T00:00Z", "price": p} for p in ("7", "n/a")])
    assert place.ingest(CSV).rows == 2
    text = CSV.replace("}}", "}, b: {path: b.jsonl}}")
    assert place.ingest(text).rows == 4 and _prices(place) == [Decimal("12.5"), Decimal(7), "7", "n/a"]
    assert {row["price"] for row in place.events()} == {"12.5", "7", "'7", "n/a"}
    before = place.store.read("events")
    assert place.ingest(text, rebuild=True).rows == 4 and place.store.read("events").equals(before)


def test_a_query_says_itself_of_which_kind_its_columns_are(place: Place) -> None:
    _csv(place, "A", "12.50", "7", "n/a")
    place.ingest("sources: {a: {path: 'a/*.csv', query: select * from source}}\n")
    assert _prices(place) == ["12.50", "7", "n/a"] and not mixed_in(place.store.read("events").schema)


def test_what_is_summed_is_a_number_or_put_aside_as_ever(place: Place) -> None:
    rows = [{"customer_id": "c", "event": "A", "event_time": "2026-01-01T00:00Z", "price": price} for price in (12.5, "7", "n/a", True)]
    place.jsonl("a.jsonl", rows)
    text = "sources: {a: {path: a.jsonl}}\nfeatures: {measures: {spent: {did: A, sum: price}}}\ncontract: {tolerance: 100%}\n"
    assert place.ingest(text).rows == 2 and _prices(place) == [Decimal("12.5"), Decimal(7)]
    assert {row["reason"] for row in place.quarantine()} == {"cannot be read"}


def test_a_number_of_several_kinds_that_is_too_large_is_put_aside(place: Place) -> None:
    rows = [{"customer_id": "c", "event": "A", "event_time": "2026-01-01T00:00Z", "price": price} for price in (1e15 + 0.5, "n/a", 0.00005)]
    place.jsonl("a.jsonl", rows)
    report = place.ingest("sources: {a: {path: a.jsonl}}\ncontract: {tolerance: 100%}\n")
    assert [row["reason"] for row in place.quarantine()] == ["is 10^14 or more"] and report.sources[0].rounded == 1
    assert _prices(place) == [Decimal(0), "n/a"]


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_table_of_an_earlier_version_stays_as_it_is_until_it_is_built_anew(place: Place, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """There 12.5 beside n/a was the text 12.5, or as it was written: its events must not come twice."""
    text = f"sources: {{a: {{path: 'a/*.{form}'}}}}\n"

    def come(name: str) -> None:
        if form == "csv":
            _csv(place, name, "12.50", "n/a")
        else:
            place.jsonl(
                f"a/{name}.jsonl", [{"customer_id": "c", "event": name, "event_time": "2026-01-01T00:00Z", "price": p} for p in (12.5, "n/a")]
            )

    come("A")
    with monkeypatch.context() as patch:
        patch.setattr(merge, "KINDS", {b"of": b"old"})
        patch.setattr("predseg.history.sources._types", lambda mapping, canonical, query: lambda name, kind: kind != mixed.MIXED)
        place.ingest(text)
    assert not mixed_in(place.store.read("events").schema) and {type(p) for p in _prices(place)} == {str}
    come("B")
    assert place.ingest(text).rows == 4 and not mixed_in(place.store.read("events").schema)
    place.write(f"a/A.{form}", (place.root / f"a/A.{form}").read_bytes() + b"\n")
    assert place.ingest(text).rows == 4
    assert place.ingest(text, rebuild=True).rows == 4 and Decimal("12.5") in _prices(place)
