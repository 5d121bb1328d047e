"""Features at many moments beside featuretools, and the point-in-time join beside Feast's.

    python -m benchmarks.feature_stores --featuretools PATH --feast PATH    # a million events, 100,000 customers
    python -m benchmarks.feature_stores --small

PATH is an interpreter that has the peer (`pip install featuretools`, `pip install "feast[duckdb]"`). Each runs in a process
of its own, from the same Parquet files to a table in memory, without its imports and its start; its numbers must be predseg's.
featuretools is asked for what it can express: how often, for how much in sum, on average and at most, over three windows and
ever. Feast joins the last row before a moment and aggregates nothing: it is asked when the last order was.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.timing import table

ROOT = Path(__file__).resolve().parent.parent
DAY = 86_400_000_000
WINDOWS = (30, 90, 365)
ORDER = "Order Completed"
KEYS = ["customer_id", "as_of"]


def predseg_windows(files: Sequence[Path], cutoffs: Sequence[int]) -> pd.DataFrame:
    """Return count, sum, mean and greatest value of orders over each window and ever, of who had an order by then."""
    from predseg.language.measures import Window

    spans = [*(Window(days * DAY) for days in WINDOWS), Window()]
    return _features(
        files, cutoffs, [(a, span, of) for span in spans for a, of in (("count", None), ("sum", "value"), ("avg", "value"), ("max", "value"))]
    )


def predseg_last(files: Sequence[Path], cutoffs: Sequence[int]) -> pd.DataFrame:
    """Return how many days ago the last order was."""
    from predseg.language.measures import Window

    return _features(files, cutoffs, [("days_since_last", Window(), None)])


def _features(files: Sequence[Path], cutoffs: Sequence[int], asked: list[tuple[object, object, str | None]]) -> pd.DataFrame:
    from predseg.forecast.features import FeatureSet, frames
    from predseg.language.measures import Events, Measure, column_name

    measures = [Measure(Events((ORDER,)), span, aggregate, of) for aggregate, span, of in asked]  # type: ignore[arg-type]
    seen = Measure(Events((ORDER,)))
    columns = dict([(column_name(m), m) for m in measures] + [("ever", seen)])
    found = pd.concat(frames(files, cutoffs, FeatureSet(tuple(columns.items()))), ignore_index=True)
    return found[found["ever"] > 0].drop(columns="ever").reset_index(drop=True)


def orders(files: Sequence[Path]) -> pd.DataFrame:
    """Return the orders, for the peers: customer_id, event_time without a zone, value."""
    found = pd.concat([pd.read_parquet(f, columns=["customer_id", "event", "event_time", "value"]) for f in files], ignore_index=True)
    found = found[found["event"] == ORDER]
    times = found["event_time"].dt.tz_localize(None).astype("datetime64[ns]")
    return pd.DataFrame({"customer_id": found["customer_id"].astype(object), "event_time": times, "value": found["value"].astype("float64")})


def moments(history: pd.DataFrame, cutoffs: Sequence[int]) -> pd.DataFrame:
    """Return who is asked when: each customer at each cutoff by which there was an order."""
    first = history.groupby("customer_id")["event_time"].min()
    asked = pd.DataFrame({"customer_id": np.repeat(first.index.to_numpy(), len(cutoffs)), "as_of": np.tile(cutoffs, len(first))})
    asked["time"] = pd.to_datetime(asked["as_of"], unit="us").astype("datetime64[ns]")
    return asked[asked["time"].to_numpy() >= first.loc[asked["customer_id"]].to_numpy()].reset_index(drop=True)


def featuretools_windows(files: Sequence[Path], cutoffs: Sequence[int]) -> pd.DataFrame:
    """Ask featuretools once for each window: it has one window a call."""
    import featuretools as ft

    history = orders(files)
    asked = moments(history, cutoffs)
    es = ft.EntitySet("shop")
    es = es.add_dataframe(pd.DataFrame({"customer_id": history["customer_id"].unique()}), "customers", index="customer_id")
    es = es.add_dataframe(history.assign(order_id=np.arange(len(history))), "orders", index="order_id", time_index="event_time")
    es = es.add_relationship("customers", "customer_id", "orders", "customer_id")
    times = asked[["customer_id", "time"]]
    parts = []
    for days in (*WINDOWS, None):
        window = None if days is None else f"{days * 24} h"
        primitives = ["count", "sum", "mean", "max"]
        found, _ = ft.dfs(
            entityset=es,
            target_dataframe_name="customers",
            cutoff_time=times,
            training_window=window,
            agg_primitives=primitives,
            trans_primitives=[],
            max_depth=1,
            cutoff_time_in_index=True,
        )
        columns = ["COUNT(orders)", "SUM(orders.value)", "MEAN(orders.value)", "MAX(orders.value)"]
        parts.append(found[columns].astype("float64").set_axis([f"{c}{days}" for c in columns], axis=1))
    whole = pd.concat(parts, axis=1).reset_index()
    whole.insert(1, "as_of", whole.pop("time").astype("datetime64[us]").astype("int64"))
    return whole


def feast_last(files: Sequence[Path], cutoffs: Sequence[int]) -> pd.DataFrame:
    """Let Feast join the last order by each moment; writing its source and its registry is not counted."""
    from datetime import timedelta

    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
    from feast.types import Int64
    from feast.value_type import ValueType

    folder = Path(tempfile.mkdtemp())
    history = orders(files)
    history["at"] = history["event_time"].astype("datetime64[us]").astype("int64")
    history["event_time"] = history["event_time"].dt.tz_localize("UTC")
    history.to_parquet(folder / "orders.parquet")
    customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
    source = FileSource(path=str(folder / "orders.parquet"), timestamp_field="event_time")
    view = FeatureView(name="orders", entities=[customer], ttl=timedelta(0), schema=[Field(name="at", dtype=Int64)], source=source)
    store = FeatureStore(
        config=RepoConfig(
            project="shop",
            provider="local",
            registry=str(folder / "registry.db"),
            offline_store={"type": "duckdb"},
            online_store={"type": "sqlite", "path": str(folder / "online.db")},
            entity_key_serialization_version=3,
        )
    )
    store.apply([customer, view])
    asked = moments(history.assign(event_time=history["event_time"].dt.tz_localize(None)), cutoffs)
    entities = pd.DataFrame({"customer_id": asked["customer_id"], "event_timestamp": asked["time"].dt.tz_localize("UTC")})
    begin = time.perf_counter()
    found = store.get_historical_features(entity_df=entities, features=["orders:at"]).to_df()
    feast_last.seconds = time.perf_counter() - begin  # type: ignore[attr-defined]
    as_of = found["event_timestamp"].dt.tz_convert("UTC").dt.tz_localize(None).astype("datetime64[us]").astype("int64")
    return pd.DataFrame({"customer_id": found["customer_id"], "as_of": as_of, "days": (as_of - found["at"]) / DAY})


TOOLS: dict[str, Callable[[Sequence[Path], Sequence[int]], pd.DataFrame]] = {
    "predseg windows": predseg_windows,
    "featuretools": featuretools_windows,
    "predseg last": predseg_last,
    "Feast": feast_last,
}


def apart(tool: str, python: str, folder: Path, cutoffs: Sequence[int]) -> tuple[float, pd.DataFrame] | None:
    """Run a tool in a process of its own; return its seconds and its table, None where it is not installed."""
    command = [python, "-W", "ignore", "-m", "benchmarks.feature_stores", "--tool", tool, str(folder), ",".join(map(str, cutoffs))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode == 3:
        return None
    if done.returncode:
        raise RuntimeError(f"{tool}: {done.stderr[-3_000:]}")
    return float(json.loads(done.stdout.strip().rpartition("\n")[2])), pd.read_parquet(folder / "found.table")


def run(tool: str, folder: Path, cutoffs: Sequence[int]) -> int:
    """Run a tool here, twice, and keep the second: the first loads what it needs."""
    files = sorted(folder.glob("*.parquet"))
    try:
        TOOLS[tool](files, cutoffs[:1])
    except ImportError as error:
        print(error, file=sys.stderr)
        return 3
    begin = time.perf_counter()
    found = TOOLS[tool](files, cutoffs)
    seconds = getattr(TOOLS[tool], "seconds", time.perf_counter() - begin)
    found["customer_id"] = found["customer_id"].astype(object)
    found.to_parquet(folder / "found.table")
    print(json.dumps(seconds))
    return 0


def compare(ours: pd.DataFrame, others: pd.DataFrame) -> int:
    """Compare every number to 1e-9, columns in their order; return how many there are."""
    mine, its = (f.set_index(KEYS).sort_index() for f in (ours, others))
    assert mine.index.equals(its.index), f"{len(its)} rows for {len(mine)}"
    np.testing.assert_allclose(np.nan_to_num(its.to_numpy(np.float64)), np.nan_to_num(mine.to_numpy(np.float64)), rtol=1e-9, atol=1e-9)
    return mine.size


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="20,000 events")
    parser.add_argument("--featuretools", default=sys.executable, metavar="PATH")
    parser.add_argument("--feast", default=sys.executable, metavar="PATH")
    parser.add_argument("--cutoffs", type=lambda text: [int(n) for n in text.split(",")], default=[1, 4])
    parser.add_argument("--tool", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.tool:
        tool, folder, cutoffs = options.tool
        return run(tool, Path(folder), [int(c) for c in cutoffs.split(",")])
    from benchmarks.histories import end, write_store

    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_store(folder, *((20_000, 1_000) if options.small else (1_000_000, 100_000)))
        for n in options.cutoffs:
            cutoffs = [end() - 20 * DAY * i for i in range(n)]
            for own, peer, python in (("predseg windows", "featuretools", options.featuretools), ("predseg last", "Feast", options.feast)):
                mine, its = apart(own, sys.executable, folder, cutoffs), apart(peer, python, folder, cutoffs)
                assert mine is not None
                said = ["not installed", ""] if its is None else [f"{its[0]:.2f}", f"{compare(mine[1], its[1]):,}"]
                rows.append([peer, n, "" if its is None else f"**{its[0] / mine[0]:.0f}**", f"{mine[0]:.2f}", *said])
    print(table(["peer", "cutoffs", "peer / predseg", "predseg, s", "peer, s", "numbers compared"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
