"""Rows in order, a part at a time: the parts join to what one sort gives."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predseg.engine import Engine
from predseg.history import sorting

far = st.sampled_from([0, 1, 2, 3, -(2**61), 2**61 - 1, 2**61])
rows = st.lists(st.tuples(st.sampled_from(["", "a", "aa", "b'", "é", "z\U0001f600"]), far, st.sampled_from(["x", "xy", "é"])), max_size=40)


@given(rows=rows, at_once=st.integers(1, 12), wide=st.sampled_from([0, sorting.WIDE]))
def test_parts_join_to_one_order(rows: list[tuple[str, int, str]], at_once: int, wide: int) -> None:
    customer, n, name = zip(*rows, strict=True) if rows else ((), (), ())
    table = pa.table({"customer_id": pa.array(customer, pa.string()), "n": pa.array(n, pa.int64()), "name": pa.array(name, pa.string())})
    with tempfile.TemporaryDirectory() as temp, pytest.MonkeyPatch.context() as patch, Engine(Path(temp)) as engine:
        patch.setattr(sorting, "PART", at_once)
        patch.setattr(sorting, "WIDE", wide)
        engine.show("given", table.to_reader())
        engine.execute("create table held as select * from given")
        found = [tuple(row.values()) for batch in sorting.in_order(engine, "select * from held", "customer_id, n, name") for row in batch.to_pylist()]
    assert found == sorted(rows, key=lambda row: (row[0].encode(), row[1], row[2].encode()))


def test_a_part_holds_no_more_than_its_share_and_customers_stay_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorting, "PART", 100)
    with Engine(tmp_path) as engine:
        cuts = sorting._cuts(engine, "select ('c' || (range % 50)) as customer_id from range(1000)", 1000)
        files = sorting._split(engine, "select ('c' || (range % 50)) as customer_id, range as n from range(1000)", cuts)
    held = [(len(customers := pa.ipc.open_stream(file).read_all()["customer_id"]), len(customers.unique())) for file in files]
    assert len(files) in (10, 11)
    assert sum(count for count, _ in held) == 1000
    assert sum(customers for _, customers in held) == 50, "a customer is in two parts"
    assert max(count for count, _ in held) <= 120


def test_parts_take_the_room_of_their_rows_also_when_few_parts_have_rows_of_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorting, "PART", 10_000)
    rows = "select 'c' || (1000000 + range) as customer_id, range as n from range(400000)"
    with Engine(tmp_path) as engine:
        files = sorting._split(engine, rows, sorting._cuts(engine, rows, 400_000))
    assert len(files) == 41
    assert sum(file.stat().st_size for file in files) < 30 * 400_000
