"""What a file may cost to open: bombs are refused by their first bytes, and a row that is one harms no other row."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from predseg.errors import DataError
from predseg.history import bounds
from predseg.history.bounds import DEPTH, KEYS
from tests.history.projects import Place

SOURCE = "contract: {tolerance: 100%}\nsources: {e: {path: e.jsonl}}\n"
GOOD = {"customer_id": "ann", "event": "Look", "event_time": "2026-03-01T00:00:00Z"}


def lists(levels: int) -> object:
    found: object = "[{" * 50
    for _ in range(levels):
        found = [found]
    return found


def test_a_row_that_is_nested_too_deeply_harms_no_other(place: Place) -> None:
    """It ended the whole command before, with a traceback."""
    deepest = {**GOOD, "customer_id": "bob", "p": lists(DEPTH - 1)}
    place.write(
        "e.jsonl", "".join(json.dumps(row) + "\n" for row in (GOOD, deepest, {**GOOD, "p": lists(DEPTH)})) + '{"a":' * 100_000 + "1" + "}" * 100_000
    )
    report = place.ingest(SOURCE).sources[0]
    assert (report.received, report.accepted, report.quarantined) == (4, 2, 2)
    assert report.reasons == {f"line nested more than {DEPTH} levels deep": 2}


def test_a_row_of_too_many_keys_harms_no_other(place: Place) -> None:
    rows = [GOOD, {**GOOD, **{f"k{i}": i for i in range(KEYS)}}, {**GOOD, "t": "x" * 5 * KEYS}]
    place.jsonl("e.jsonl", rows)
    report = place.ingest(SOURCE).sources[0]
    assert (report.accepted, report.reasons) == (2, {f"line more than {KEYS:,} keys": 1})


def test_columns_have_an_end(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "COLUMNS", 20)
    for columns, refused in ((20, False), (21, True)):
        names = [*GOOD, *(f"k{i}" for i in range(columns - len(GOOD)))]
        place.write("e.csv", ",".join(names) + "\n" + ",".join([*GOOD.values(), *["1"] * (columns - len(GOOD))]) + "\n")
        place.parquet("e.parquet", **{name: ["2026-03-01T00:00:00Z"] for name in names})
        place.jsonl("e.jsonl", [{**GOOD, **{n: 1 for n in names[3 : columns // 2]}}, {**GOOD, **{n: 1 for n in names[columns // 2 :]}}])
        for kind, rows in (("csv", 1), ("parquet", 1), ("jsonl", 2)):
            text = f"timezone: UTC\nsources: {{e: {{path: e.{kind}}}}}\n"
            if refused:
                with pytest.raises(DataError, match=r"E418.*columns, at most 20"):
                    place.ingest(text)
            else:
                assert place.ingest(text, rebuild=True).rows == rows


def test_wide_sources_cost_what_their_columns_cost(place: Place) -> None:
    """Two hundred columns took over a gigabyte: one query looked at all of them."""
    import resource

    names, values = [*GOOD, *(f"k{i}" for i in range(200))], [*GOOD.values(), *["1"] * 200]
    place.write("e.csv", f"{','.join(names)}\n{','.join(values)}\n")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert place.ingest("sources: {e: {path: e.csv}}\n").rows == 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000


def test_a_header_without_an_end_is_refused(place: Place) -> None:
    place.write("e.csv", "a" * 1_000_001)
    with pytest.raises(DataError, match="E405.*header"):
        place.ingest("sources: {e: {path: e.csv}}\n")


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that small files reach."""
    for name, value in {"FREE": 1_000_000, "_ROWS_FREE": 1_000, "_FOOTER": 2_000}.items():
        monkeypatch.setattr(bounds, name, value)


def test_gzip_that_unpacks_to_far_more_is_refused_wherever_it_does(tmp_path: Path, narrow: None) -> None:
    import random

    honest = random.Random(1).randbytes(400_000).hex().encode()
    for number, (pieces, bomb) in enumerate([([honest], False), ([honest, bytes(50_000_000)], True), ([bytes(900_000)], False)]):
        file = tmp_path / f"{number}.csv.gz"
        file.write_bytes(b"".join(map(gzip.compress, pieces)))
        if bomb:
            with pytest.raises(DataError, match=rf"E418.*looks like a bomb.*\n.*gunzip {number}.csv.gz"):
                bounds.check_gzip(file, "source x")
        else:
            bounds.check_gzip(file, "source x")
    (tmp_path / "damaged.gz").write_bytes(b"not gzip")
    bounds.check_gzip(tmp_path / "damaged.gz", "source x")


def test_parquet_that_says_it_holds_far_more_is_refused(tmp_path: Path, narrow: None) -> None:
    file = tmp_path / "x.parquet"
    for columns, why in (
        ({"a": pa.DictionaryArray.from_arrays(pa.array(bytes(500_000), pa.int8()), ["x"])}, "bytes hold 500,000 rows"),
        ({"a": ["x" * 5_000_000]}, "bytes unpack to"),
        ({f"c{i}": [1] for i in range(50)}, "its footer has"),
        ({"a": [1, 2]}, ""),
    ):
        pq.write_table(pa.table(columns), file, compression="zstd")
        if why:
            with pytest.raises(DataError, match=f"E418.*{why}"):
                bounds.check_parquet(file, "source x")
        else:
            bounds.check_parquet(file, "source x")
    file.write_bytes(b"PAR1 not at all")
    bounds.check_parquet(file, "source x")
