"""Invented event histories of any size, made block by block: the events table as predseg stores it, or a source file.

Orders, views, carts and e-mails of customers who differ in how active they are. Times are whole seconds and, within a
customer, all different, so that every tool finds the same last event.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from predseg.history.merge import Parts

DAY = 86_400_000_000
START = 19_723 * DAY  # 2024-01-01
SPAN = 540
NAMES = ["Email Opened", "Order Completed", "Product Added", "Product Viewed"]
SHARES = [0.2, 0.1, 0.1, 0.6]
PRODUCTS = 2_000


def end() -> int:
    """The moment up to which the histories reach (microseconds)."""
    return START + SPAN * DAY


def tables(events: int, customers: int, seed: int = 0, portion: int = 50_000) -> Iterator[pa.Table]:
    """Yield about ``events`` events, sorted by customer and time, some whole customers at a time."""
    for first in range(0, customers, portion):
        ids = np.arange(first, min(first + portion, customers))
        yield _table(np.random.default_rng([seed, first]), ids, events / customers)


def _table(r: np.random.Generator, ids: np.ndarray, mean: float) -> pa.Table:
    n = len(ids)
    counts = 1 + r.poisson(r.gamma(0.8, max(mean - 1, 0) / 0.8, n))
    customer = np.repeat(np.arange(n), counts)
    rows = len(customer)
    begin = r.integers(0, SPAN * 8_640, n)[customer] * 8  # customers arrive during the first eight tenths
    second = begin + (r.random(rows) * (SPAN * 86_400 - begin)).astype(np.int64)
    order = np.lexsort((second, customer))
    place = np.arange(rows) - np.repeat(np.cumsum(counts) - counts, counts)
    second = _different(customer, second[order], place)
    event = r.choice(4, rows, p=SHARES)
    money = np.round(np.minimum(r.lognormal(3.2, 0.9, rows), 90_000) * 100).astype(np.int64) * 100
    product = (r.random(rows) ** 2 * PRODUCTS).astype(np.int32)
    time = pa.array(START + second * 1_000_000, pa.timestamp("us", "UTC"))
    return pa.table(
        {
            "customer_id": _words(customer, [f"c{i:08d}" for i in ids]),
            "event": _words(event, NAMES),
            "event_time": time,
            "received_at": time,
            "value": _money(money, event == 1),
            "event_id": pa.array(ids[customer] * 1_000_000 + place, pa.int64()).cast(pa.string()),
            "product_id": _words(product, [f"p{i:05d}" for i in range(PRODUCTS)]),
        }
    )


def _words(codes: np.ndarray, values: list[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), values).cast(pa.string())


def _different(customer: np.ndarray, second: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Move equal times of one customer apart: a running maximum of (time - place) plus the place."""
    shifted = (second - place) + customer * 10**9
    return np.maximum.accumulate(shifted) - customer * 10**9 + place


def _money(units: np.ndarray, present: np.ndarray) -> pa.Array:
    words = np.stack([units, np.zeros(len(units), np.int64)], axis=1)
    valid = pa.py_buffer(np.packbits(present, bitorder="little").tobytes())
    return pa.Array.from_buffers(pa.decimal128(18, 4), len(units), [valid, pa.py_buffer(words.tobytes())])


def write_store(folder: Path, events: int, customers: int, seed: int = 0) -> list[Path]:
    """Write the events table as the store keeps it, and return its files."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = tables(events, customers, seed)
    first = next(parts)
    with Parts(folder, first.schema) as store:
        for table in chain([first], parts):
            store.write(table)
    return sorted(folder.glob("*.parquet"))


def write_source(folder: Path, events: int, customers: int, files: int = 4, seed: int = 0) -> None:
    """Write a source as it might come: some files, each in order of time, with customers from everywhere."""
    folder.mkdir(parents=True, exist_ok=True)
    portion = min(100_000, max(1_000, 3_000_000 * customers // events))
    for number in range(files):
        ids = np.arange(number, customers, files)
        writer: pq.ParquetWriter | None = None
        for first in range(0, len(ids), portion):
            table = _table(np.random.default_rng([seed, number, first]), ids[first : first + portion], events / customers)
            table = table.drop_columns("received_at").sort_by("event_time")
            writer = writer or pq.ParquetWriter(folder / f"events-{number}.parquet", table.schema, compression="zstd")
            writer.write_table(table)
        if writer:
            writer.close()
