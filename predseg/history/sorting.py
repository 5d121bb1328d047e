"""Sorting a history that is larger than memory: rows are parted by customer in one pass, and each part is sorted by itself.

Memory then holds a part at a time, however many there are; time grows with the rows. (An ORDER BY of DuckDB over all
of them spills to disk too, but fails now and then when the rows exceed its memory limit.)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from predseg.engine import Engine, literal
from predseg.history.behind import behind

PART = 2_000_000
"""Rows that are sorted at once, about; a customer's rows stay together."""
SPILL = {"compression": "none", "use_dictionary": False, "write_statistics": False}
"""Options of a Parquet writer of rows that are read back once and soon."""
_SAMPLE = 20_000


def in_order(engine: Engine, rows: str, keys: str) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a query in the order of ``keys``, the first of which is ``customer_id``."""
    number = engine.rows(f"select count(*) from ({rows})")[0][0]
    cuts = _cuts(engine, rows, number) if number > PART else []
    for part in map(_scan, _split(engine, rows, cuts)) if cuts else [f"({rows})"]:
        yield from engine.stream(f"select * from {part} order by {keys}")


def _scan(file: Path) -> str:
    return f"read_parquet({literal(file)}, hive_partitioning = false)"


def _cuts(engine: Engine, rows: str, number: int) -> list[str]:
    """Return the customers at which parts begin, ascending: they share out a sample of the rows."""
    sample = f"select customer_id from ({rows}) using sample reservoir({_SAMPLE} rows) repeatable (1)"
    shares = [n * PART / number for n in range(1, 1 + number // PART)]
    return sorted({cut for (cut,) in engine.rows(f"select unnest(quantile_disc(customer_id, {shares})) from ({sample})")}, key=str.encode)


def _split(engine: Engine, rows: str, cuts: list[str]) -> list[Path]:
    """Write the rows of every part to a file of its own; return the files in the order of their customers."""
    number = len(cuts) + 1
    cases = " ".join(f"when customer_id < {literal(cut)} then {part}" for part, cut in enumerate(cuts))
    files = [engine.temp / f"part-{part}.parquet" for part in range(number)]
    writers: list[pq.ParquetWriter] = []
    with ExitStack() as opened, behind(2 * number) as later:
        for batch in engine.stream(f"select *, case {cases} else {len(cuts)} end as part from ({rows})"):
            part = batch.column("part").to_numpy()
            order = np.argsort(part, kind="stable")
            ends = np.searchsorted(part[order], np.arange(number + 1))
            batch = batch.drop_columns(["part"]).take(pa.array(order))
            writers = writers or [opened.enter_context(pq.ParquetWriter(file, batch.schema, **SPILL)) for file in files]
            for writer, start, end in zip(writers, ends, ends[1:], strict=False):
                later(writer.write_batch, batch.slice(start, end - start))
    return files
