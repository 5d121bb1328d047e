"""Blocks are whole customers in order, however the file was cut into row groups."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predseg.columns import valid_in
from predseg.evaluate.block import Block, Numbers, Words, blocks, from_table
from predseg.layers import Reader
from tests.evaluate.worlds import PROPERTIES, random_events_of_customers, seeded, to_table


def read(folder: Path, table: pa.Table, group: int, rows: int) -> list[Block]:
    pq.write_table(table, folder / "part-00000.parquet", row_group_size=group)
    return list(blocks([folder / "part-00000.parquet"], PROPERTIES, rows))


def values(block: Block, name: str) -> list[object]:
    column = block.properties[name]
    if isinstance(column, Words):
        return [None if code < 0 else column.values[code] for code in column.codes]
    assert isinstance(column, Numbers)
    return [int(u) * 10_000 // column.scale if p else None for u, p in zip(column.units, column.present, strict=True)]


@pytest.mark.parametrize("group", [1, 2, 3, 7, 50, 1_000])
@pytest.mark.parametrize("rows", [1, 5, 20, 1_000])
def test_a_customer_is_never_split_and_nothing_is_lost(tmp_path: Path, group: int, rows: int) -> None:
    table = to_table(random_events_of_customers(seeded(group * 100 + rows), customers=25))
    whole, parts = from_table(table), read(tmp_path, table, group, rows)
    np.testing.assert_array_equal(np.concatenate([b.customers for b in parts]), whole.customers)
    for name in ("time", "received", "customer"):
        offset = np.cumsum([0, *(len(b.customers) for b in parts)]) if name == "customer" else np.zeros(len(parts) + 1, int)
        found = [getattr(b, name) + o for b, o in zip(parts, offset, strict=False)]
        np.testing.assert_array_equal(np.concatenate(found), getattr(whole, name))
    assert [b.names[e] for b in parts for e in b.event] == [whole.names[e] for e in whole.event]
    for name in PROPERTIES:
        assert [v for b in parts for v in values(b, name)] == values(whole, name), name


@pytest.mark.parametrize("late", [0, 1, 70])
def test_when_events_were_received_is_read_where_it_is_not_when_they_happened(tmp_path: Path, late: int) -> None:
    """Also when a single row group of several, or a single row, differs."""
    time = np.arange(100) * 1_000_000
    received = time + np.where(np.arange(100) == late, 5, 0) * (late > 0)
    stamps = [pa.array(t, pa.timestamp("us", "UTC")) for t in (time, received)]
    table = pa.table({"customer_id": ["a"] * 100, "event": ["A"] * 100, "event_time": stamps[0], "received_at": stamps[1]})
    for rows in (10, 1_000):
        [block] = read(tmp_path, table, 10, rows)
        np.testing.assert_array_equal(block.received, received)


def test_the_same_digits_in_another_unit_are_another_instant(tmp_path: Path) -> None:
    stamps = [pa.array([1_000, 2_000], pa.timestamp(unit, "UTC")) for unit in ("us", "ms")]
    [block] = read(tmp_path, pa.table({"customer_id": ["a"] * 2, "event": ["A"] * 2, "event_time": stamps[0], "received_at": stamps[1]}), 10, 10)
    assert block.time.tolist() == [1_000, 2_000] and block.received.tolist() == [1_000_000, 2_000_000]


def test_blocks_are_of_much_the_same_size(tmp_path: Path) -> None:
    table = to_table(random_events_of_customers(seeded(1), customers=200))
    sizes = [len(b.time) for b in read(tmp_path, table, 10_000, 100)]
    assert len(sizes) == round(len(table) / 100) and max(sizes) - min(sizes) < 20


def test_a_file_without_events_has_no_blocks(tmp_path: Path) -> None:
    assert read(tmp_path, to_table({}), 10, 10) == []


def test_only_named_properties_are_read(tmp_path: Path) -> None:
    pq.write_table(to_table(random_events_of_customers(seeded(2))), tmp_path / "part-00000.parquet")
    [block] = blocks([tmp_path / "part-00000.parquet"], {"word", "nowhere"})
    assert set(block.properties) == {"word"}


def test_missing_money_is_zero_units_whatever_lies_below_the_null(tmp_path: Path) -> None:
    """A null's bytes in a file are anything; sums run over all rows of an event."""
    raw = np.array([70_000, 0, 990_000, 0], np.int64)  # two decimals of 16 bytes; the second is null
    column = pa.Array.from_buffers(pa.decimal128(18, 4), 2, [pa.py_buffer(b"\x01"), pa.py_buffer(raw.tobytes())])
    time = pa.array([0, 1], pa.timestamp("us", "UTC"))
    block = from_table(pa.table({"customer_id": ["a", "a"], "event": ["A", "A"], "event_time": time, "received_at": time, "value": column}))
    value = block.properties["value"]
    assert isinstance(value, Numbers) and value.units.tolist() == [70_000, 0] and value.present.tolist() == [True, False]


@pytest.mark.parametrize("gone", [[], [0], [9], [0, 1, 4, 9, 10, 299], [*range(0, 300, 2)], [*range(300)]])
@pytest.mark.parametrize("texts", [False, True])
def test_rows_that_are_gone_are_left_away_however_many_there_are(tmp_path: Path, gone: list[int], texts: bool) -> None:
    rows = pa.table({"customer_id": [f"c{i // 7:03}" for i in range(300)], "n": [i if i % 3 else None for i in range(300)]})
    pq.write_table(rows, file := tmp_path / "part-00000.parquet", row_group_size=10)
    reader, kept = Reader(file, np.array(gone, np.int64), texts), [i for i in range(300) if i not in gone]
    for found, wanted in (
        (reader.read(), kept),
        (reader.groups([1, 2]), [i for i in kept if 10 <= i < 30]),
        (reader.group(29), [i for i in kept if i >= 290]),
    ):
        assert found.to_pylist() == [rows.slice(i, 1).to_pylist()[0] for i in wanted]


@given(st.lists(st.integers(0, 9) | st.none(), min_size=1), st.data())
def test_what_is_missing_is_seen_in_any_part_of_a_column(values: list[int | None], data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, len(values) - 1))
    length = data.draw(st.integers(0, len(values) - begin))
    part = pa.array(values, pa.int64()).slice(begin, length)
    assert valid_in(part).tolist() == [value is not None for value in values[begin : begin + length]]
