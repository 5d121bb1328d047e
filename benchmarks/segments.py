"""Segments side by side: predseg, hand-written DuckDB SQL and Polars give the same members; how long does each take?

    python benchmarks/segments.py [--small] [--repeat 3]

1 million customers, 10 million events, segments of 3 to 6 conditions at one moment, from stored sorted Parquet to the
members of each segment. The peers get one good query each: every distinct measure once per customer, then the rules.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import duckdb
import polars as pl

from benchmarks.histories import NAMES, end, write_store
from predseg.language import conditions as c
from predseg.language.measures import Comparison, Events, Filter, Measure, Test, Window
from predseg.language.time import DAY, say_instant
from predseg.segments.definitions import Segment, fingerprint
from predseg.segments.facts import Facts
from predseg.segments.population import members_at

Members = dict[str, int]
SHELVES = [tuple(f"p{i:05d}" for i in range(first, 2_000, 20)) for first in range(4)]
"""Four groups of a hundred products, as a category would be."""


@dataclass(frozen=True)
class Sizes:
    """How large the history is and how many segments are asked for."""

    events: int
    customers: int
    segments: tuple[int, ...]


FULL = Sizes(10_000_000, 1_000_000, (1, 20, 100))
SMALL = Sizes(20_000, 2_000, (1, 5, 20))
TENTH = Sizes(1_000_000, 100_000, (1, 20, 100))


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


def ours(files: list[Path], as_of: int, segments: dict[str, Segment]) -> Members:
    """Members by predseg."""
    return {name: len(ids) for name, ids in members_at(files, segments, as_of, Facts()).items()}


def by_duckdb(files: list[Path], as_of: int, segments: dict[str, Segment]) -> Members:
    """Members by one query: every measure once per customer, then every rule."""
    measures = list(dict.fromkeys(m for s in segments.values() for m in c.measures(s.match)))
    columns = ", ".join(f"{_sql_measure(m, as_of)} as m{i}" for i, m in enumerate(measures))
    wheres = ", ".join(f"count(*) filter (where {_sql_rule(s, measures)}) as {name}" for name, s in segments.items())
    moment = f"timestamptz '{say_instant(as_of)}'"
    query = f"""
        with m as (select customer_id, {columns} from read_parquet({[str(f) for f in files]}) where event_time <= {moment} group by customer_id)
        select {wheres} from m"""
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        relation = connection.sql(query)
        return dict(zip(relation.columns, relation.fetchall()[0], strict=True))


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


def by_polars(files: list[Path], as_of: int, segments: dict[str, Segment]) -> Members:
    """Members by one lazy query on the streaming engine."""
    measures = list(dict.fromkeys(m for s in segments.values() for m in c.measures(s.match)))
    moment = pl.lit(as_of).cast(pl.Datetime("us", "UTC"))
    frame = pl.scan_parquet(files).filter(pl.col("event_time") <= moment)
    per_customer = frame.group_by("customer_id").agg(**{f"m{i}": _polars_measure(m, as_of) for i, m in enumerate(measures)})
    counts = per_customer.select(**{name: _polars_rule(s, measures).sum() for name, s in segments.items()})
    return {name: int(n) for name, n in counts.collect(engine="streaming").row(0, named=True).items()}


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


def timed(function: Callable[[list[Path], int, dict[str, Segment]], Members], repeat: int, *given: object) -> tuple[float, Members]:
    """Return the median of the seconds and the last answer."""
    seconds, found = [], {}
    for _ in range(repeat):
        start = time.perf_counter()
        found = function(*given)  # type: ignore[arg-type]
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a look that everything still runs and agrees")
    parser.add_argument("--tenth", action="store_true", help="a tenth of the size")
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    sizes = SMALL if given.small else TENTH if given.tenth else FULL
    with tempfile.TemporaryDirectory() as folder:
        files, as_of = write_store(Path(folder), sizes.events, sizes.customers), end()
        print(f"{sizes.events:,} events, {sizes.customers:,} customers, medians of {given.repeat}\n")
        print("| segments | predseg s | DuckDB SQL / predseg | Polars / predseg | predseg, of one segment |")
        print("|---|---|---|---|---|")
        one = 0.0
        for n in sizes.segments:
            segments = rules(n)
            mine, found = timed(ours, given.repeat, files, as_of, segments)
            duck, from_duck = timed(by_duckdb, given.repeat, files, as_of, segments)
            polar, from_polars = timed(by_polars, given.repeat, files, as_of, segments)
            assert found == from_duck == from_polars, "the members differ"
            one = one or mine
            print(f"| {n} | {mine:.2f} | {duck / mine:.1f} | {polar / mine:.1f} | {mine / one:.1f} |", flush=True)


if __name__ == "__main__":
    main()
