"""The engine streams, stays offline, and says what it refuses in one line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from predseg.engine import Engine, engine_errors, literal, quoted
from predseg.errors import DataError


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with Engine(tmp_path, threads=2) as engine:
        yield engine


def test_a_stream_comes_in_batches_and_other_queries_may_run_beside_it(engine: Engine) -> None:
    stream = engine.stream("select range as n from range(300000)", 100_000)
    first = next(stream)
    beside = engine.over("rows", pa.table({"x": [1, 2]}), "select sum(x)::bigint as s from rows")
    assert beside.to_pydict() == {"s": [3]}
    assert 0 < first.num_rows < 300_000 and first.num_rows + sum(b.num_rows for b in stream) == 300_000


def test_a_sort_larger_than_its_memory_spills_into_its_folder(tmp_path: Path) -> None:
    with Engine(tmp_path, memory="60MB", threads=1) as small:
        query = "select range as n, md5(range::varchar) as h, repeat('x', 40) as pad from range(1000000) order by h"
        last, rows = "", 0
        for batch in small.stream(query):
            column = batch.column("h").to_pylist()
            assert last <= column[0]
            last, rows = column[-1], rows + batch.num_rows
    assert rows == 1_000_000


def test_times_are_utc_whatever_the_machine_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    with Engine(tmp_path) as engine:
        assert engine.rows("select timestamptz '2026-01-01 00:00:00'::varchar, (timestamp '2026-01-01')::timestamptz::varchar") == [
            ("2026-01-01 00:00:00+00", "2026-01-01 00:00:00+00")
        ]
        shown = engine.over("t", pa.table({"x": pa.array([0], pa.timestamp("us", "UTC"))}), "select x::varchar as s from t")
        assert shown.to_pydict() == {"s": ["1970-01-01 00:00:00+00"]}


def test_nothing_is_downloaded_and_python_is_not_seen(engine: Engine) -> None:
    secret = pa.table({"x": [1]})
    assert secret is not None
    for sql in ("select * from secret", "select * from sqlite_scan('x.db', 't')", "select * from 'https://example.com/x.parquet'"):
        with pytest.raises(DataError):
            engine.rows(sql)


def test_refusals_are_one_line_with_the_place_and_the_code_asked_for() -> None:
    import duckdb

    with pytest.raises(DataError) as refusal, engine_errors("source x", "E406", "look at the query"):
        duckdb.execute("select nothing from nowhere")
    assert (refusal.value.code, refusal.value.place, refusal.value.help) == ("E406", "source x", "look at the query")
    assert "\n" not in refusal.value.message and "nowhere" in refusal.value.message


def test_names_and_texts_cannot_leave_their_quotes(engine: Engine) -> None:
    name, text = 'a"b; drop table t; --', "it's '; drop table t; --"
    assert engine.columns(f"select {literal(text)} as {quoted(name)}") == {name: "VARCHAR"}
    assert engine.rows(f"select {literal(text)}") == [(text,)]
