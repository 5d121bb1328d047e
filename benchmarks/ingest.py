"""Reading in: predseg against a bare sort of the same files.

    python -m benchmarks.ingest                    # 10 million events, 1 million customers
    python -m benchmarks.ingest --small

predseg reads, checks every row against the contract, removes duplicates, joins identities, sorts by customer and time,
writes the events table and a report. DuckDB does `COPY (SELECT ... ORDER BY customer_id, event_time)` to one Parquet file
and nothing else. They take turns; the median counts.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.histories import write_source
from benchmarks.memory import CONFIG
from benchmarks.timing import medians, table


def predseg_ingest(folder: Path) -> int:
    """Read in a source anew; return how many events the table has."""
    from predseg import Project

    shutil.rmtree(folder / "store", ignore_errors=True)
    return Project.load(folder / "predseg.yaml").check().rows


def duckdb_copy(folder: Path) -> int:
    """Sort and write the same rows; return how many."""
    import duckdb

    source, target = folder / "source" / "*.parquet", folder / "sorted.parquet"
    found = duckdb.connect().execute(
        f"copy (select * from read_parquet('{source}') order by customer_id, event_time) to '{target}' (format parquet, compression zstd)"
    )
    return int(found.fetchall()[0][0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="20,000 events, once")
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--customers", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    events, customers, repeat = (20_000, 1_000, 1) if options.small else (options.events, options.customers, options.repeat)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_source(folder / "source", events, customers)
        (folder / "predseg.yaml").write_text(CONFIG, "utf-8")
        tools = {"predseg": partial(predseg_ingest, folder), "DuckDB COPY": partial(duckdb_copy, folder)}
        seconds, rows = medians(tools, repeat)
    assert len(set(rows.values())) == 1, rows
    ratio = seconds["predseg"] / seconds["DuckDB COPY"]
    print(f"{rows['predseg']:,} events of {customers:,} customers, seconds, median of {repeat}\n")
    print(table(["predseg / COPY", *tools], [[f"**{ratio:.2f}**", *(f"{seconds[t]:.1f}" for t in tools)]]))


if __name__ == "__main__":
    main()
