"""Features from the stored events: predseg against hand-written DuckDB SQL, Polars and pandas.

    python -m benchmarks.features            # 2 million events, 90,000 customers, 4 and 12 cutoffs
    python -m benchmarks.features --small    # a look that everything still runs and agrees

Every tool reads the same sorted Parquet files and ends with columns of every known customer at every cutoff; the numbers are
compared to 1e-9. Tools take turns; the median counts. Two things are measured. The first is the time until a tool holds all
columns in memory, each in its own types (Polars counts in 4 bytes, predseg in 8). The second is what scoring and training do:
every block is used and dropped before the next but a few is made. There Polars writes into sinks of batches that drop them,
and stands for itself with the better of its two times; the others have no part of their answer before they have all of it.
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
from predseg.forecast.features import FeatureSet, frames
from predseg.language.measures import Aggregate, Events, Measure, Window, column_name

KEYS = ["customer_id", "as_of"]
DROPPING = {"Polars, batches dropped": peers.polars_streamed}
"""Peers that hand over parts of their answer."""


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


def predseg_features(files: Sequence[Path], cutoffs: Sequence[int]) -> list[pd.DataFrame]:
    """The features as scoring and training get them: block by block, a row per known customer and cutoff."""
    return list(frames(files, cutoffs, FeatureSet(tuple((column_name(m), m) for m in measures()))))


def predseg_blocks(files: Sequence[Path], cutoffs: Sequence[int]) -> int:
    """The same features, each block dropped once its rows are counted."""
    return sum(map(len, frames(files, cutoffs, FeatureSet(tuple((column_name(m), m) for m in measures())))))


def compare(results: dict[str, Any]) -> int:
    """Compare every number of every peer with ours to 1e-9, relative, a column at a time; return how many there are of each."""
    ours, *others = (_parts(found) for found in results.values())
    names = [name for name in ours[0] if name not in KEYS]
    keys, order = _keys(ours)
    for peer, parts in zip(list(results)[1:], others, strict=True):
        its_keys, its_order = _keys(parts)
        assert its_keys.equals(keys), f"{peer}: {len(its_keys)} rows for {len(keys)} known customers at their moments"
        for name in names:
            mine, found = (pd.concat([p[name] for p in some]).to_numpy(np.float64, na_value=np.nan) for some in (ours, parts))
            np.testing.assert_allclose(found[its_order], mine[order], rtol=1e-9, atol=1e-9, err_msg=f"{peer}: {name}")
    return len(keys) * len(names)


def _parts(found: Any) -> list[pd.DataFrame]:
    return [p if isinstance(p, pd.DataFrame) else p.to_pandas() for p in (found if isinstance(found, list) else [found])]


def _keys(parts: list[pd.DataFrame]) -> tuple[pd.DataFrame, Any]:
    """Return who is known when, in order, and the rows in that order."""
    keys = pd.concat([p[KEYS].astype({"customer_id": "str", "as_of": "int64"}) for p in parts], ignore_index=True).sort_values(KEYS)
    return keys.reset_index(drop=True), keys.index.to_numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="20,000 events, once")
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--customers", type=int, default=90_000)
    parser.add_argument("--cutoffs", type=lambda text: [int(n) for n in text.split(",")], default=[4, 12])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument(
        "--pause", type=float, default=0.0, help="seconds before each turn, in which the system clears away gigabytes of the one before"
    )
    parser.add_argument("--without", default="", help="peers to leave out, with commas between")
    options = parser.parse_args()
    events, customers, repeat = (20_000, 1_000, 1) if options.small else (options.events, options.customers, options.repeat)
    names = {"DuckDB SQL": peers.duckdb_features, "Polars": peers.polars_features, "pandas": peers.pandas_features}
    chosen = {name: peer for name, peer in names.items() if name.split()[0].lower() not in options.without.lower().split(",")}
    dropping = {name: peer for name, peer in DROPPING.items() if name.split(",")[0] in chosen}
    with tempfile.TemporaryDirectory() as folder:
        files = write_store(Path(folder), events, customers)
        rows = [_row(files, n, chosen, dropping, repeat, options.pause) for n in options.cutoffs]
    print(
        f"{len(measures())} measures, {events:,} events, {customers:,} customers, seconds from sorted Parquet to float columns, median of {repeat}\n"
    )
    tools = ["predseg", "block by block", *chosen, *dropping]
    print(table(["cutoffs", "best peer / predseg, all held", "best peer / block by block", *tools, "numbers compared"], rows))


def _row(files: list[Path], n: int, chosen: dict[str, Any], dropping: dict[str, Any], repeat: int, pause: float) -> list[object]:
    cutoffs = [end() - 20 * DAY * i for i in range(n)]
    tools = {"predseg": predseg_features, "block by block": predseg_blocks, **chosen, **dropping}
    seconds, results = medians({name: partial(tool, files, cutoffs) for name, tool in tools.items()}, repeat, pause)
    rows = sum(map(len, results["predseg"]))
    assert all(results.pop(name) == rows for name in ("block by block", *dropping))
    best = {
        ours: min((seconds[peer] for peer in peers), default=float("nan"))
        for ours, peers in (("predseg", chosen), ("block by block", [*chosen, *dropping]))
    }
    ratios = [f"**{best[ours] / seconds[ours]:.1f}**" for ours in best]
    return [n, *ratios, *(f"{seconds[name]:.2f}" for name in tools), f"{compare(results):,}"]


if __name__ == "__main__":
    main()
