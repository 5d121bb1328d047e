"""Files become rows with types that never fail late; what is no row is kept aside."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from predseg.engine import Engine
from predseg.errors import DataError
from predseg.history import files
from predseg.history.files import Raw
from tests.history.projects import Place


@pytest.fixture
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with Engine(tmp_path_factory.mktemp("engine"), threads=1) as engine:
        yield engine


@pytest.fixture
def read(place: Place, engine: Engine) -> Callable[..., tuple[Raw, list[tuple[Any, ...]]]]:
    def read_(*patterns: str) -> tuple[Raw, list[tuple[Any, ...]]]:
        raw = files.register(engine, files.find(patterns, lambda p: place.root / p, "source x"), "source x")
        batches = engine.stream("select * from source")
        return raw, [tuple(row) for batch in batches for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)]

    return read_


def refused(engine: Engine, raw: Raw) -> list[tuple[str, str]]:
    assert raw.rejected is not None
    return sorted(engine.rows(raw.rejected))


# csv


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "-2", "", "9223372036854775807"], "BIGINT"),
        (["1", "9223372036854775808"], "VARCHAR"),
        (["1.5", "2", "1e3"], "DOUBLE"),
        (["17850.0", ""], "DOUBLE"),
        (["00123", "123"], "VARCHAR"),
        (["+44123", "44123"], "VARCHAR"),
        (["+0.5", "1"], "VARCHAR"),
        (["0", "0.5"], "DOUBLE"),
        (["12345678901234567.5", "1"], "DOUBLE"),
        (["1234567890123456789012", "1.5"], "VARCHAR"),
        (["nan", "1"], "VARCHAR"),
        (["inf", "1"], "VARCHAR"),
        (["true", "FALSE"], "BOOLEAN"),
        (["yes", "no"], "VARCHAR"),
        (["t", "f"], "VARCHAR"),
        (["2011-07-01", "2011-07-02"], "DATE"),
        (["2011-07-01 10:00", "2011-07-01T10:00:00.5"], "TIMESTAMP"),
        (["2011-07-01T10:00Z", "2011-07-01 10:00:00+02:00"], "TIMESTAMP WITH TIME ZONE"),
        (["2011-07-01T10:00Z", "2011-07-01T10:00"], "VARCHAR"),
        (["2011-07-01 10:00:00 UTC", "2011-07-01 10:00:00.5 UTC"], "VARCHAR"),
        (["2011-07-01 10:00 PM"], "VARCHAR"),
        (["2011-07-01 10:00:00 America/New_York"], "VARCHAR"),
        (["2011-07-01 10:00:00+05:30:15"], "VARCHAR"),
        (["2011-02-30"], "VARCHAR"),
        (["12/01/2010 8:26"], "VARCHAR"),
        (["", ""], "VARCHAR"),
    ],
)
def test_a_column_has_the_type_that_all_its_values_have(place: Place, read: Any, values: list[str], kind: str) -> None:
    place.write("x.csv", "a,b\n" + "".join(f"{value},z\n" for value in values))
    raw, rows = read("x.csv")
    assert raw.columns["a"] == kind and raw.rows == len(values)
    if kind == "VARCHAR":
        assert [row[0] for row in rows] == [value or None for value in values]


def test_what_a_column_is_tried_as_does_not_depend_on_the_threads(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_SAMPLE", 20)
    for n in range(12):
        place.write(f"{n:02d}.csv", "a,b\n" + "".join(f"x,{i if n else ''}\n" for i in range(3_000)))
    with Engine(tmp_path, threads=4) as engine:
        found = files.find(("*.csv",), lambda p: place.root / p, "source x")
        assert {files.register(engine, found, "source x").columns["b"] for _ in range(12)} == {"VARCHAR"}


def test_columns_of_csv_files_that_differ_in_case_are_one(place: Place, engine: Engine, read: Any) -> None:
    place.write("1.csv", "a,coupon\n1,x\n")
    place.write("2.csv", "Coupon,a\ny,2\n")
    raw, rows = read("*.csv")
    assert raw.columns == {"a": "BIGINT", "coupon": "VARCHAR"} == engine.columns("select * from source") and sorted(rows) == [(1, "x"), (2, "y")]


def test_a_late_misfit_turns_the_whole_column_to_text_and_says_why(place: Place, read: Any) -> None:
    place.write("x.csv", "n\n" + "7\n" * 25_000 + "N/A\n")
    raw, rows = read("x.csv")
    assert raw.columns == {"n": "VARCHAR"} and rows[0] == ("7",)
    assert raw.notes == {"n": "n is text: 'N/A' (1 of 25,001 values) is not a number"}


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters_quotes_newlines_bom_and_gzip(place: Place, read: Any, delimiter: str) -> None:
    text = f'id{delimiter}"a note"\r\n1{delimiter}"x{delimiter}y ""z""\nw"\r\n'
    place.write("x.csv.gz", gzip.compress(b"\xef\xbb\xbf" + text.encode()))
    raw, rows = read("x.csv.gz")
    assert list(raw.columns) == ["id", "a note"] and rows == [(1, f'x{delimiter}y "z"\nw')]


def test_lines_that_are_no_rows_are_kept_aside_once_even_when_the_source_is_read_twice(place: Place, engine: Engine, read: Any) -> None:
    place.write("d/1.csv", b"a,b\n1,2\n3\n4,5,6\n7,\xff\n")
    place.write("d/2.csv", b"a,b\n3\n8,9\n")
    raw, _ = read("d/*.csv")
    assert len(engine.rows("select * from source union all select * from source")) == 4
    reasons = [reason for _, reason in refused(engine, raw)]
    assert [text for text, _ in refused(engine, raw)][:3] == ["3", "3", "4,5,6"]
    assert sorted(set(reasons)) == [f"not a row of the header: {why}" for why in ("invalid encoding", "missing columns", "too many columns")]


def test_files_with_other_columns_are_laid_over_each_other(place: Place, read: Any) -> None:
    place.write("d/1.csv", "a,b\n1,2\n")
    place.write("d/2.csv", "b;c\n3;x\n")
    raw, rows = read("d/*.csv")
    assert list(raw.columns) == ["a", "b", "c"] and sorted(rows, key=str) == [(1, 2, None), (None, 3, "x")]


def test_columns_of_one_name_get_names_of_their_own(place: Place, read: Any) -> None:
    place.write("x.csv", "a,A,,a\n1,2,3,4\n")
    raw, rows = read("x.csv")
    assert list(raw.columns) == ["a", "A_1", "column2", "a_2"] and rows == [(1, 2, 3, 4)]


def test_lines_that_end_as_on_old_machines_are_refused(place: Place, read: Any) -> None:
    place.write("x.csv", "a,b\r1,2\r3,4\r")
    with pytest.raises(DataError, match=r"E405.*cannot read the header of .*x\.csv"):
        read("x.csv")


# json lines


def test_json_lines(place: Place, engine: Engine, read: Any) -> None:
    place.write(
        "x.jsonl",
        '{"id": "007", "n": 1, "v": 2, "f": true, "t": ["a", "b"], "o": {"k": [1]}, "when": "2026-01-01", "a/b~c": 5}\n'
        "\n"
        '{"id": 8, "n": 12345678901234567890, "v": 1.5, "t": [], "o": null, "m": "£"}\n'
        'cut off {"id"\n'
        "[1]\n",
    )
    raw, rows = read("x.jsonl")
    kinds = ["VARCHAR", "VARCHAR", "DOUBLE", "BOOLEAN", "VARCHAR[]", "VARCHAR", "VARCHAR", "BIGINT", "VARCHAR"]
    assert dict(raw.columns) == dict(zip(["id", "n", "v", "f", "t", "o", "when", "a/b~c", "m"], kinds, strict=True))
    found = [dict(zip(raw.columns, row, strict=True)) for row in rows]
    assert found[0] == {"id": "007", "n": "1", "v": 2.0, "f": True, "t": ["a", "b"], "o": '{"k":[1]}', "when": "2026-01-01", "a/b~c": 5, "m": None}
    assert found[1]["n"] == "12345678901234567890" and found[1]["t"] == [] and found[1]["o"] is None
    assert refused(engine, raw) == [("[1]", "not a JSON object"), ('cut off {"id"', "not a JSON object")]


def test_json_keys_that_differ_in_case_stay_apart(place: Place, read: Any) -> None:
    place.write("x.jsonl", '{"a": 1, "A": 2}\n')
    raw, rows = read("x.jsonl")
    assert list(raw.columns) == ["a", "A"] and rows == [(1, 2)] and raw.help() == "`source` has the columns a BIGINT, A_1 BIGINT"


# parquet


def test_parquet_keeps_its_types_and_takes_no_columns_from_folders(place: Place, read: Any) -> None:
    place.parquet("day=1/x.parquet", a=["1"], f=pa.array([0.1], pa.float32()))
    place.parquet("day=2/x.parquet", a=["2"], n=[3])
    raw, rows = read("*/x.parquet")
    assert raw.columns == {"a": "VARCHAR", "f": "FLOAT", "n": "BIGINT"} and raw.rows == 2 and {row[0] for row in rows} == {"1", "2"}


def test_times_that_spark_writes_by_default_are_instants(place: Place, read: Any) -> None:
    """INT96 has no word for it; whose files it is not known of, and other times of Spark, stay times without an offset."""
    time = datetime(2024, 1, 2, 3, 4, 5, 678901)
    table, spark = pa.table({"t": [time], "n": [1]}), {"org.apache.spark.version": "3.5.1"}
    for name in ("a", "b"):
        pq.write_table(table.replace_schema_metadata(spark), place.root / f"{name}.parquet", use_deprecated_int96_timestamps=True)
    raw, rows = read("*.parquet")
    assert raw.columns == {"t": "TIMESTAMP WITH TIME ZONE", "n": "BIGINT"}
    assert [row[0].isoformat() for row in rows] == ["2024-01-02T03:04:05.678901+00:00"] * 2
    pq.write_table(table.replace_schema_metadata(spark), place.root / "ntz.parquet")
    pq.write_table(table, place.root / "other.parquet", use_deprecated_int96_timestamps=True)
    for name in ("ntz", "other"):
        assert read(f"{name}.parquet")[0].columns["t"] == "TIMESTAMP"
        raw, rows = read(f"{name}.parquet", "a.parquet")
        assert raw.columns["t"] == "VARCHAR" and {row[0] for row in rows} == {"2024-01-02 03:04:05.678901", "2024-01-02 03:04:05.678901+00"}


# refusals


@pytest.mark.parametrize(
    ("name", "content", "code", "says"),
    [
        ("x.xlsx", b"1", "E402", "cannot tell the format of x.xlsx"),
        ("x.parquet", b"PAR1 but not really PAR1", "E405", ""),
        ("x.csv", b"", "E404", "x.csv is empty"),
        ("x.csv.gz", b"not gzip", "E405", "cannot read the header"),
        ("x.csv", b"\xff\xfea,b\n", "E405", "cannot read the header"),
        ("x.jsonl", b"[]\n", "E404", "no line is a JSON object"),
    ],
)
def test_a_file_that_is_not_what_it_says_is_refused(place: Place, read: Any, name: str, content: bytes, code: str, says: str) -> None:
    place.write(name, content)
    with pytest.raises(DataError) as refusal:
        read(name)
    assert refusal.value.code == code and says in refusal.value.message and refusal.value.help
    assert refusal.value.place == "source x"


def test_formats_do_not_mix(place: Place, read: Any) -> None:
    place.write("d/1.csv", "a\n1\n")
    place.write("d/1.jsonl", '{"a": 1}\n')
    with pytest.raises(DataError, match="E402.*csv, jsonl"):
        read("d/*")


def test_missing_files_say_what_exists_nearby(place: Place, tmp_path: Path) -> None:
    place.write("data/events_2024.csv", "a\n1\n")
    cases = {
        "data/event_2024.csv": (f"no such file: {tmp_path}/data/event_2024.csv", f"in {tmp_path}/data did you mean 'events_2024.csv'?"),
        "data/*.parquet": (f"no file matches {tmp_path}/data/*.parquet", f"in {tmp_path}/data known are: events_2024.csv"),
        "dat/x.csv": (f"no such file: {tmp_path}/dat/x.csv", f"there is no folder {tmp_path}/dat; in {tmp_path} it holds no files"),
        "data": (f"{tmp_path}/data is a folder, expected a file or a glob", "write `path: data/*.parquet`"),
    }
    for pattern, (message, help_) in cases.items():
        with pytest.raises(DataError) as refusal:
            files.find((pattern,), lambda p: place.root / p, "source x")
        assert (refusal.value.code, refusal.value.message, refusal.value.help) == ("E401", message, help_)


def test_a_file_named_twice_is_read_once(place: Place) -> None:
    place.write("d/1.csv", "a\n1\n")
    assert len(files.find(("d/1.csv", "d/*.csv"), lambda p: place.root / p, "source x")) == 1
