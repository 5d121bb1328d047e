"""Sorting a history that is larger than memory: rows are parted by customer in one pass, and each part is sorted by itself.

Memory then holds two parts at a time, however many there are; time grows with the rows. (An ORDER BY of DuckDB over all
of them spills to disk too, but fails now and then when the rows exceed its memory limit.)

DuckDB compares texts of a sort byte by byte. A part has few customers for its rows, so their texts are sorted once, and rows
by one integer of customer and time: half the work. Only parts of very wide rows are left to DuckDB, which can spill them.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc

from predseg.engine import ROWS, Engine, literal
from predseg.history.behind import behind

PART = 1_000_000
"""Rows that are sorted at once, about; a customer's rows stay together."""
WIDE = 400_000_000
"""Bytes of a part that are not sorted in memory."""
_SAMPLE = 20_000


def in_order(engine: Engine, rows: str, keys: str) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a query in the order of ``keys``, no null among them: ``customer_id``, whole numbers or instants, any more."""
    number = engine.rows(f"select count(*) from ({rows})")[0][0]
    if number <= PART:
        yield from engine.stream(f"select * from ({rows}) order by {keys}")
        return
    files = _split(engine, rows, _cuts(engine, rows, number))
    with ThreadPoolExecutor(1) as beside:
        after = beside.submit(_part_in_order, engine, files[0], keys)
        for following in [*files[1:], None]:
            part = after.result()
            if following is not None:
                after = beside.submit(_part_in_order, engine, following, keys)
            yield from part


def _part_in_order(engine: Engine, file: Path, keys: str) -> Iterator[pa.RecordBatch]:
    """Find out the order of a part and return its rows, which are put in order as they are taken."""
    if file.stat().st_size > WIDE:
        return _by_engine(engine, file, keys)
    with pa.memory_map(str(file)) as opened, pa.ipc.open_stream(opened) as part:
        rows = part.read_all().combine_chunks()
    order = _order(rows.select(keys.split(", ")))
    return (batch for start in range(0, len(order), ROWS) for batch in rows.take(order[start : start + ROWS]).to_batches())


def _by_engine(engine: Engine, file: Path, keys: str) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(file)) as opened, pa.ipc.open_stream(opened) as part:
        engine.show("part", part)
        yield from engine.stream(f"select * from part order by {keys}")


def _order(keys: pa.Table) -> np.ndarray:
    """Return the order of rows: by one integer of customer and time, and where that is equal by all keys."""
    customer, when = keys.column(0).combine_chunks().dictionary_encode(), keys.column(1).cast(pa.int64()).to_numpy()
    rank = np.empty(len(customer.dictionary), np.int64)
    rank[pc.sort_indices(customer.dictionary).to_numpy()] = np.arange(len(rank))
    first, last = int(when.min(initial=0)), int(when.max(initial=0))
    bits = 63 - len(rank).bit_length()
    coarse = rank[customer.indices.to_numpy()] << bits | (when - first) >> max(0, (last - first).bit_length() - bits)
    order = np.argsort(coarse)
    found = coarse[order]
    same = np.flatnonzero(found[1:] == found[:-1])
    if len(same):
        tied = np.union1d(same, same + 1)
        order[tied] = order[tied][pc.sort_indices(keys.take(order[tied]), [(name, "ascending") for name in keys.column_names])]
    return order


def _cuts(engine: Engine, rows: str, number: int) -> list[str]:
    """Return the customers at which parts begin, ascending: they share out a sample of the rows."""
    sample = f"select customer_id from ({rows}) using sample reservoir({_SAMPLE} rows) repeatable (1)"
    shares = [n * PART / number for n in range(1, 1 + number // PART)]
    return sorted({cut for (cut,) in engine.rows(f"select unnest(quantile_disc(customer_id, {shares})) from ({sample})")}, key=str.encode)


def _split(engine: Engine, rows: str, cuts: list[str]) -> list[Path]:
    """Write the rows of every part to a file of its own; return the files in the order of their customers."""
    number = len(cuts) + 1
    files = [engine.temp / f"part-{part}.arrow" for part in range(number)]
    writers: list[pa.RecordBatchStreamWriter] = []
    with ExitStack() as opened, behind(2 * number) as later:
        for batch in engine.stream(f"select *, ({_place(cuts)})::usmallint as part from ({rows})"):
            part = batch.column("part").to_numpy()
            order = np.argsort(part, kind="stable")
            ends = np.searchsorted(part[order], np.arange(number + 1))
            batch = batch.drop_columns(["part"]).take(pa.array(order))
            writers = writers or [opened.enter_context(pa.ipc.new_stream(str(file), batch.schema)) for file in files]
            for writer, start, end in zip(writers, ends, ends[1:], strict=False):
                if end > start:  # of no rows Arrow would write where all of the batch lie
                    later(writer.write_batch, batch.slice(start, end - start))
    return files


def _place(cuts: list[str], first: int = 0) -> str:
    """Return the SQL of how many cuts are not above a customer, ``first`` ones left out; it halves what is left with each comparison."""
    if not cuts:
        return str(first)
    middle = len(cuts) // 2
    below, above = _place(cuts[:middle], first), _place(cuts[middle + 1 :], first + middle + 1)
    return f"case when customer_id < {literal(cuts[middle])} then {below} else {above} end"
