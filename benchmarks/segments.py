"""Segments side by side: predseg, hand-written DuckDB SQL and Polars give the same members; how long does each take?

    python -m benchmarks.segments            # 1 million customers, 10 million events; 1, 20, 100 and 1,000 segments
    python -m benchmarks.segments --segments 1,1000 --without duckdb
    python -m benchmarks.segments --tenth
    python -m benchmarks.segments --small    # a look that everything still runs and agrees

Segments of 3 to 6 conditions at one moment, from stored sorted Parquet to the ids of the members of each segment. The peers
get one good query each: every distinct measure once per customer, then the rules. Tools take turns; the median counts.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from benchmarks.histories import NAMES, end, write_store
from benchmarks.timing import medians, table
from predseg.language import conditions as c
from predseg.language.measures import Comparison, Events, Filter, Measure, Test, Window
from predseg.language.time import DAY, say_instant
from predseg.segments.definitions import Segment, fingerprint
from predseg.segments.facts import Facts
from predseg.segments.population import members_at

SHELVES = [tuple(f"p{i:05d}" for i in range(first, 2_000, 20)) for first in range(4)]
"""Four groups of a hundred products, as a category would be."""


@dataclass(frozen=True)
class Sizes:
    """How large the history is and how many segments are asked for."""

    events: int
    customers: int
    segments: tuple[int, ...]


FULL = Sizes(10_000_000, 1_000_000, (1, 20, 100, 1_000))
SMALL = Sizes(20_000, 2_000, (1, 5, 20))
TENTH = Sizes(1_000_000, 100_000, (1, 20, 100, 1_000))


def random_rule(r: random.Random) -> c.All:
    """A rule of 3 to 6 conditions: counts, sums, absence, a filter."""
    parts: list[c.Condition] = []
    for _ in range(r.randint(3, 6)):
        window = Window(r.choice([7, 30, 60, 90, 180, 365]) * DAY)
        event = r.choice(NAMES)
        where = (Filter("product_id", (Test("is", r.choice(SHELVES)),)),) if r.random() < 0.3 else ()
        kind = r.random()
        if kind < 0.25:
            parts.append(
                c.Did(Measure(Events(("Order Completed",)), window, "sum", "value"), Comparison("more_than", Decimal(r.choice([20, 50, 100, 500]))))
            )
        elif kind < 0.45:
            parts.append(c.Did(Measure(Events((event,), where), window), Comparison("exactly", Decimal(0))))
        else:
            parts.append(c.Did(Measure(Events((event,), where), window), Comparison("at_least", Decimal(r.choice([1, 1, 2, 3])))))
    return c.All(tuple(parts))


def rules(n: int) -> dict[str, Segment]:
    """The same n rules every time."""
    r = random.Random(7)
    found = {}
    for i in range(n):
        rule = random_rule(r)
        found[f"s{i}"] = Segment(f"s{i}", rule, fingerprint(rule, "daily"))
    return found


def by_predseg(files: list[Path], as_of: int, segments: dict[str, Segment]) -> dict[str, Any]:
    """Members by predseg."""
    return members_at(files, segments, as_of, Facts())


def by_duckdb(files: list[Path], as_of: int, segments: dict[str, Segment]) -> Any:
    """Members by one query: every measure once per customer, then every rule."""
    measures = list(dict.fromkeys(m for s in segments.values() for m in c.measures(s.match)))
    columns = ", ".join(f"{_sql_measure(m, as_of)} as m{i}" for i, m in enumerate(measures))
    wheres = ", ".join(f"list(customer_id) filter (where {_sql_rule(s, measures)}) as {name}" for name, s in segments.items())
    moment = f"timestamptz '{say_instant(as_of)}'"
    query = f"""
        with m as (select customer_id, {columns} from read_parquet({[str(f) for f in files]}) where event_time <= {moment} group by customer_id)
        select {wheres} from m"""
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        return connection.sql(query).to_arrow_table()


def _sql_measure(measure: Measure, as_of: int) -> str:
    tests = [f"event = '{measure.events.names[0]}'", f"event_time > timestamptz '{say_instant(as_of - (measure.window.start or 0))}'"]
    tests += [f"product_id in {f.tests[0].operands}" for f in measure.events.where]
    inner = f"filter (where {' and '.join(tests)})"
    return f"coalesce(sum(value) {inner}, 0)" if measure.aggregate == "sum" else f"count(*) {inner}"


_SQL_OPS = {"more_than": ">", "at_least": ">=", "exactly": "="}


def _sql_rule(segment: Segment, measures: list[Measure]) -> str:
    assert isinstance(segment.match, c.All)
    tests = [f"m{measures.index(p.measure)} {_SQL_OPS[p.comparison.op]} {p.comparison.low}" for p in segment.match.of if isinstance(p, c.Did)]
    return " and ".join(tests)


def by_polars(files: list[Path], as_of: int, segments: dict[str, Segment]) -> Any:
    """Members by one lazy query on the streaming engine."""
    measures = list(dict.fromkeys(m for s in segments.values() for m in c.measures(s.match)))
    moment = pl.lit(as_of).cast(pl.Datetime("us", "UTC"))
    frame = pl.scan_parquet(files).filter(pl.col("event_time") <= moment)
    per_customer = frame.group_by("customer_id").agg(**{f"m{i}": _polars_measure(m, as_of) for i, m in enumerate(measures)})
    found = per_customer.select(**{name: pl.col("customer_id").filter(_polars_rule(s, measures)).implode() for name, s in segments.items()})
    return found.collect(engine="streaming")


def _polars_measure(measure: Measure, as_of: int) -> pl.Expr:
    start = pl.lit(as_of - (measure.window.start or 0)).cast(pl.Datetime("us", "UTC"))
    test = (pl.col("event") == measure.events.names[0]) & (pl.col("event_time") > start)
    for f in measure.events.where:
        test = test & pl.col("product_id").is_in(list(f.tests[0].operands))
    return pl.col("value").filter(test).sum() if measure.aggregate == "sum" else test.sum()


def _polars_rule(segment: Segment, measures: list[Measure]) -> pl.Expr:
    assert isinstance(segment.match, c.All)
    tests = []
    for part in segment.match.of:
        assert isinstance(part, c.Did)
        column, low = pl.col(f"m{measures.index(part.measure)}"), pl.lit(part.comparison.low)
        tests.append({"more_than": column > low, "at_least": column >= low, "exactly": column == low}[part.comparison.op])
    return pl.all_horizontal(tests)


def members(found: Any) -> dict[str, list[str]]:
    """Return the sorted ids of each segment, whatever a tool gave them as."""
    if isinstance(found, Mapping):
        return {name: list(ids) for name, ids in found.items()}
    row = found.row(0, named=True) if isinstance(found, pl.DataFrame) else found.to_pylist()[0]
    return {name: sorted(ids or ()) for name, ids in row.items()}


TOOLS = {"predseg": by_predseg, "DuckDB SQL": by_duckdb, "Polars": by_polars}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="20,000 events, once")
    parser.add_argument("--tenth", action="store_true", help="a tenth of the size")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--segments", type=lambda text: tuple(int(n) for n in text.split(",")), help="how many, with commas between")
    parser.add_argument("--without", default="", help="peers to leave out, with commas between: DuckDB takes minutes for 1,000 segments")
    options = parser.parse_args()
    sizes = SMALL if options.small else TENTH if options.tenth else FULL
    with tempfile.TemporaryDirectory() as folder:
        files, rows, one = write_store(Path(folder), sizes.events, sizes.customers), [], 0.0
        chosen = {name: tool for name, tool in TOOLS.items() if name.split()[0].lower() not in options.without.lower().split(",")}
        for n in options.segments or sizes.segments:
            tools = {name: partial(tool, files, end(), rules(n)) for name, tool in chosen.items()}
            seconds, results = medians(tools, 1 if options.small else options.repeat)
            mine = members(results["predseg"])
            assert all(members(found) == mine for found in results.values()), "the members differ"
            one = one or seconds["predseg"]
            ratios = [f"**{seconds[name] / seconds['predseg']:.1f}**" for name in chosen if name != "predseg"]
            rows.append(
                [n, *(f"{seconds[name]:.2f}" for name in chosen), *ratios, f"{seconds['predseg'] / one:.1f}", f"{sum(map(len, mine.values())):,}"]
            )
    print(f"{sizes.events:,} events, {sizes.customers:,} customers, seconds from sorted Parquet to members, median of {options.repeat}\n")
    print(table(["segments", *chosen, *(f"{name} / predseg" for name in chosen if name != "predseg"), "of the time of one", "members"], rows))


if __name__ == "__main__":
    main()
