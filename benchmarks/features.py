"""Features from the stored events: predseg against hand-written DuckDB SQL, Polars and pandas.

    python -m benchmarks.features            # 2 million events, 90,000 customers, 4 and 12 cutoffs
    python -m benchmarks.features --small    # a look that everything still runs and agrees

Every tool reads the same sorted Parquet files and ends with float columns of every known customer at every cutoff; the
numbers are compared to 1e-9. Tools take turns; the median counts.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import feature_peers as peers
from benchmarks.histories import DAY, end, write_store
from benchmarks.timing import medians, table
from predseg.evaluate.ahead import ahead
from predseg.evaluate.batch import evaluate
from predseg.evaluate.block import Array, Block, blocks
from predseg.language.measures import Aggregate, Events, Measure, Window, column_name


def measures() -> list[Measure]:
    """The measures that the peers write by hand."""
    events = dict(zip(peers.EVENTS, (Events((name,)) for name in peers.NAMES), strict=True))

    def over(event: str, window: int | None, aggregate: Aggregate, of: str | None = None) -> Measure:
        return Measure(events[event], Window(window * DAY if window else None), aggregate, of)

    order = "order_completed"
    found = [over(event, None, "days_since_last") for event in events] + [over(order, None, "days_since_first")]
    found += [over(event, w, "count") for event, windows in peers.COUNTS.items() for w in windows]
    found += [over(order, w, "sum", "value") for w in peers.SUMS]
    found += [over(order, w, aggregate, "value") for aggregate in ("avg", "max") for w in peers.VALUES]
    found += [over(event, w, "distinct", "product_id") for event, w in peers.DISTINCT]
    found += [over(event, w, "gap_mean") for event, w in peers.GAP_MEANS]
    return found + [over(order, w, "gap_std") for w in peers.GAP_DEVIATIONS] + [over(order, None, "gap_last")]


def predseg_features(files: Sequence[Path], cutoffs: Sequence[int]) -> list[tuple[Array, Array, dict[str, Array]]]:
    """Return, block by block, the customers, who is known (customers, cutoffs), and the columns, each (customers, cutoffs)."""
    asked = measures()
    properties = set().union(*(m.properties() for m in asked))
    return list(ahead(partial(_answer, cutoffs=cutoffs, asked=asked), blocks(files, properties)))


def _answer(block: Block, cutoffs: Sequence[int], asked: list[Measure]) -> tuple[Array, Array, dict[str, Array]]:
    *answers, seen = evaluate(block, cutoffs, [*asked, Measure(Events())])
    columns = {column_name(m): values.to_float() for m, values in zip(asked, answers, strict=True)}
    return block.customers, seen.number > 0, columns


def compare(ours: list[tuple[Array, Array, dict[str, Array]]], theirs: dict[str, Any], cutoffs: Sequence[int]) -> int:
    """Compare every number of every peer to 1e-9, relative; return how many there are of each."""
    customers = np.concatenate([c for c, _, _ in ours])
    known = np.concatenate([k for _, k, _ in ours])
    mine = {name: np.concatenate([columns[name] for _, _, columns in ours])[known] for name in ours[0][2]}
    for peer, found in theirs.items():
        frame = _frame(found)
        at = pd.Index(customers).get_indexer(frame["customer_id"].astype(object))
        moment = pd.Index(cutoffs).get_indexer(frame["as_of"])
        assert len(frame) == int(known.sum()), f"{peer}: {len(frame)} rows for {int(known.sum())} known customers"
        for name, expected in mine.items():
            column = np.full(known.shape, np.nan)
            column[at, moment] = frame[name].to_numpy(np.float64, na_value=np.nan)
            np.testing.assert_allclose(column[known], expected, rtol=1e-9, atol=1e-9, err_msg=f"{peer}: {name}")
    return sum(map(len, mine.values()))


def _frame(found: Any) -> pd.DataFrame:
    parts = found if isinstance(found, list) else [found]
    return pd.concat([p if isinstance(p, pd.DataFrame) else p.to_pandas() for p in parts], ignore_index=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="20,000 events, once")
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--customers", type=int, default=90_000)
    parser.add_argument("--cutoffs", type=lambda text: [int(n) for n in text.split(",")], default=[4, 12])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--without", default="", help="peers to leave out, with commas between")
    options = parser.parse_args()
    events, customers, repeat = (20_000, 1_000, 1) if options.small else (options.events, options.customers, options.repeat)
    names = {"DuckDB SQL": peers.duckdb_features, "Polars": peers.polars_features, "pandas": peers.pandas_features}
    chosen = {name: peer for name, peer in names.items() if name.split()[0].lower() not in options.without.lower().split(",")}
    with tempfile.TemporaryDirectory() as folder:
        files = write_store(Path(folder), events, customers)
        rows = [_row(files, n, chosen, repeat) for n in options.cutoffs]
    print(
        f"{len(measures())} measures, {events:,} events, {customers:,} customers, seconds from sorted Parquet to float columns, median of {repeat}\n"
    )
    print(table(["cutoffs", "best peer / predseg", "predseg", *chosen, "numbers compared"], rows))


def _row(files: list[Path], n: int, chosen: dict[str, Any], repeat: int) -> list[object]:
    cutoffs = [end() - 20 * DAY * i for i in range(n)]
    tools = {"predseg": predseg_features, **chosen}
    seconds, results = medians({name: partial(tool, files, cutoffs) for name, tool in tools.items()}, repeat)
    compared = compare(results.pop("predseg"), results, cutoffs)
    ratio = min((seconds[peer] for peer in chosen), default=float("nan")) / seconds["predseg"]
    return [n, f"**{ratio:.1f}**", *(f"{seconds[name]:.2f}" for name in tools), f"{compared:,}"]


if __name__ == "__main__":
    main()
