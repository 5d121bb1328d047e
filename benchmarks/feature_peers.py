"""The features of `features.py` by hand, as an expert of each tool would write them, from the same files.

All use that the files are sorted by customer and time. ``again`` is the next event with the same product of the same
customer: a distinct count over a window that ends at c is then a count of the events that do not come again by c.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

DAY = 86_400_000_000
EVENTS = {"order_completed": 0, "product_viewed": 1, "product_added": 2, "email_opened": 3}
NAMES = ["Order Completed", "Product Viewed", "Product Added", "Email Opened"]
COUNTS: dict[str, list[int | None]] = {
    "order_completed": [30, 90, 180, 365, None],
    "product_viewed": [7, 30, 90],
    "product_added": [7, 30],
    "email_opened": [30, 90],
}
SUMS: list[int | None] = [30, 90, 180, 365, None]
VALUES: list[int | None] = [90, 365, None]  # mean and greatest
DISTINCT = [("order_completed", 365), ("product_viewed", 30), ("product_viewed", 90)]
GAP_MEANS: list[tuple[str, int | None]] = [("order_completed", 365), ("order_completed", None), ("product_viewed", 90)]
GAP_DEVIATIONS: list[int | None] = [365, None]


def named(kind: str, event: str, window: int | None = None) -> str:
    return f"{kind}_{event}" + (f"_{window}d" if window else "")


def duckdb_features(files: Sequence[Path], cutoffs: Sequence[int]) -> Any:
    """One query: a row per customer, cutoff and event, then conditional aggregates."""
    import duckdb

    columns: dict[str, str] = {}

    def where(event: str, window: int | None = None, also: str = "") -> str:
        return f"filter (where e = {EVENTS[event]}{f' and age < {window * DAY}' if window else ''}{also})"

    for event in EVENTS:
        columns[named("days_since", event)] = f"min(age) {where(event)} / {DAY}.0"
    order = "order_completed"
    columns[named("days_since_first", order)] = f"max(age) {where(order)} / {DAY}.0"
    for event, windows in COUNTS.items():
        columns |= {named("count", event, w): f"count(*) {where(event, w)}" for w in windows}
    columns |= {named("sum_value", order, w): f"coalesce(sum(value) {where(order, w)}, 0)" for w in SUMS}
    columns |= {named("avg_value", order, w): f"avg(value) {where(order, w)}" for w in VALUES}
    columns |= {named("max_value", order, w): f"max(value) {where(order, w)}" for w in VALUES}
    for event, w in DISTINCT:
        columns[named("distinct_product_id", event, w)] = f"count(*) {where(event, w, ' and latest')}"
    for event, w_ in GAP_MEANS:
        here = where(event, w_)
        columns[named("gap_mean", event, w_)] = f"(max(age) {here} - min(age) {here}) / nullif(count(*) {here} - 1, 0) / {DAY}.0"
    for w_ in GAP_DEVIATIONS:
        here = where(order, None, f" and age + gap < {w_ * DAY}" if w_ else " and gap is not null")
        columns[named("gap_std", order, w_)] = f"case when count(*) {here} > 1 then stddev_pop(gap) {here} / {DAY}.0 end"
    columns[named("gap_last", order)] = f"arg_min(gap, age) {where(order)} / {DAY}.0"
    query = f"""
        with history as (
            select customer_id, epoch_us(event_time) as t, value::double as value, product_id,
                   list_position({NAMES}, event)::tinyint - 1 as e
            from read_parquet({[str(f) for f in files]})),
        linked as (
            select customer_id, e, t, value, null::bigint as gap, null::bigint as again from history where e > 1
            union all
            select customer_id, e, t, value, t - lag(t) over (partition by customer_id, e order by t),
                   lead(t) over (partition by customer_id, e, product_id order by t) from history where e < 2),
        seen as (
            select customer_id, c, e, value, gap, c - t as age, again is null or again > c as latest
            from linked join (select unnest({list(cutoffs)}) as c) on t <= c)
        select customer_id, c as as_of, {", ".join(f"{sql} as {name}" for name, sql in columns.items())}
        from seen group by customer_id, c"""
    return duckdb.connect().sql(query).to_arrow_table()


def polars_features(files: Sequence[Path], cutoffs: Sequence[int]) -> Any:
    """One lazy aggregation per cutoff, all at once, and all columns of all of them at the end."""
    import polars as pl

    queries, ids = _polars_queries(files, cutoffs)
    found = pl.collect_all(queries, engine="streaming")
    return [part.with_columns(customer_id=ids.gather(part["customer"]), as_of=pl.lit(c)) for part, c in zip(found, cutoffs, strict=True)]


def polars_streamed(files: Sequence[Path], cutoffs: Sequence[int]) -> int:
    """The same aggregations into sinks of batches, each dropped once its rows are counted."""
    import polars as pl

    queries, ids = _polars_queries(files, cutoffs)
    rows: list[int] = []

    def take(batch: Any) -> None:
        rows.append(len(batch.with_columns(customer_id=ids.gather(batch["customer"]))))

    pl.collect_all([query.sink_batches(take, lazy=True, maintain_order=False) for query in queries], engine="streaming")
    return sum(rows)


def _polars_queries(files: Sequence[Path], cutoffs: Sequence[int]) -> tuple[list[Any], Any]:
    """Integers for customers and products, neighbours by shifting sorted rows, then one lazy aggregation per cutoff; and whose ids the integers are."""
    import polars as pl

    e, t, key, age, gap, value, latest = (pl.col(c) for c in ("e", "t", "key", "age", "gap", "value", "latest"))
    history = (
        pl.scan_parquet(files)
        .select(
            "customer_id",
            "value",
            e=pl.col("event").replace_strict(NAMES, list(EVENTS.values()), return_dtype=pl.Int8),
            t=pl.col("event_time").dt.epoch("us"),
            product=pl.col("product_id").cast(pl.Categorical).to_physical().cast(pl.UInt64),
        )
        .with_columns(value.cast(pl.Float64))
        .collect(engine="streaming")
        .with_columns(customer=pl.col("customer_id").rle_id())
        .with_row_index("row")
    )
    customers = history.select("customer", "customer_id").filter(pl.col("customer") != pl.col("customer").shift(1, fill_value=2**32 - 1))
    orders = history.lazy().filter(e == 0)
    same = pl.col("customer") == pl.col("customer").shift(1)
    gaps = orders.select("row", gap=pl.when(same).then(t - t.shift(1)))
    product = (pl.col("customer").cast(pl.UInt64) * 2 + e.cast(pl.UInt64)) * 2**32 + pl.col("product")
    sorted_ = history.lazy().filter(e < 2).select("row", "t", key=product).sort("key", maintain_order=True)
    again = sorted_.select("row", again=pl.when(key == key.shift(-1)).then(t.shift(-1)))
    linked = history.lazy().select("row", "customer", "e", "t", "value")
    for part in (gaps, again):
        linked = linked.join(part, on="row", how="left", maintain_order="left")
    linked = linked.collect(engine="streaming").lazy()

    def where(event: str, window: int | None = None) -> Any:
        return (e == EVENTS[event]) & (age < window * DAY) if window else e == EVENTS[event]

    order = "order_completed"
    columns = {named("days_since", event): age.filter(where(event)).min() / DAY for event in EVENTS}
    columns[named("days_since_first", order)] = age.filter(where(order)).max() / DAY
    columns |= {named("count", event, w): where(event, w).sum() for event, windows in COUNTS.items() for w in windows}
    columns |= {named("sum_value", order, w): value.filter(where(order, w)).sum() for w in SUMS}
    columns |= {named("avg_value", order, w): value.filter(where(order, w)).mean() for w in VALUES}
    columns |= {named("max_value", order, w): value.filter(where(order, w)).max() for w in VALUES}
    columns |= {named("distinct_product_id", event, w): (where(event, w) & latest).sum() for event, w in DISTINCT}
    for event, w_ in GAP_MEANS:
        ages = age.filter(where(event, w_))
        columns[named("gap_mean", event, w_)] = (ages.max() - ages.min()) / (ages.len() - 1) / DAY
    for w_ in GAP_DEVIATIONS:
        inside = gap.filter((e == 0) & (age + gap < w_ * DAY if w_ else gap.is_not_null()))
        columns[named("gap_std", order, w_)] = pl.when(inside.len() > 1).then(inside.std(ddof=0) / DAY)
    columns[named("gap_last", order)] = gap.filter(where(order)).last() / DAY
    queries = [
        linked.filter(t <= c)
        .select("customer", "e", "value", "gap", age=c - t, latest=pl.col("again").is_null() | (pl.col("again") > c))
        .group_by("customer")
        .agg(**columns)
        for c in cutoffs
    ]
    return queries, customers["customer_id"]


def pandas_features(files: Sequence[Path], cutoffs: Sequence[int]) -> Any:
    """Integer customers, one filtered group-by per event and window, aligned by the customers' index."""
    import numpy as np
    import pandas as pd

    columns = ["customer_id", "event", "event_time", "value", "product_id"]
    history = pd.concat([pd.read_parquet(f, columns=columns) for f in files], ignore_index=True)
    customer, ids = pd.factorize(history["customer_id"])
    history = pd.DataFrame(
        {
            "customer": customer,
            "e": pd.Categorical(history["event"], NAMES).codes,
            "t": history["event_time"].astype("int64"),
            "value": pd.to_numeric(history["value"]).astype("float64"),
            "product": pd.factorize(history["product_id"])[0],
        }
    )
    parts = {name: history[history["e"] == code] for name, code in EVENTS.items()}
    for name in ("order_completed", "product_viewed"):
        of = parts[name]
        parts[name] = of.assign(gap=of.groupby("customer")["t"].diff(), again=of.groupby(["customer", "product"])["t"].shift(-1))
    first = history.groupby("customer")["t"].min()
    return [_pandas_at(parts, c, first.index[first <= c], ids, np, pd) for c in cutoffs]


def _pandas_at(parts: dict[str, Any], c: int, known: Any, ids: Any, np: Any, pd: Any) -> Any:
    found: dict[str, Any] = {}
    windows: dict[tuple[str, int | None], Any] = {}

    def inside(event: str, window: int | None) -> Any:
        if (event, window) not in windows:
            of = parts[event]
            windows[event, window] = of[(of["t"] <= c) & (of["t"] > c - window * DAY)] if window else of[of["t"] <= c]
        return windows[event, window]

    for event, some in COUNTS.items():
        found |= {named("count", event, w): inside(event, w).groupby("customer").size() for w in some}
        found[named("days_since", event)] = (c - inside(event, None).groupby("customer")["t"].last()) / DAY
    order = "order_completed"
    found[named("days_since_first", order)] = (c - inside(order, None).groupby("customer")["t"].first()) / DAY
    for w in SUMS:
        values = inside(order, w).groupby("customer")["value"]
        found[named("sum_value", order, w)] = values.sum()
        if w in VALUES:
            found |= {named("avg_value", order, w): values.mean(), named("max_value", order, w): values.max()}
    for event, w_ in DISTINCT:
        rows = inside(event, w_)
        found[named("distinct_product_id", event, w_)] = rows[~(rows["again"] <= c)].groupby("customer").size()
    for event, w in GAP_MEANS:
        times = inside(event, w).groupby("customer")["t"]
        n = times.size()
        found[named("gap_mean", event, w)] = ((times.last() - times.first()) / (n - 1).where(n > 1)) / DAY
    for w in GAP_DEVIATIONS:
        rows = inside(order, w)
        gaps = rows[rows["t"] - rows["gap"] > c - w * DAY] if w else rows[rows["gap"].notna()]
        deviation = gaps.groupby("customer")["gap"].agg(["std", "size"])
        found[named("gap_std", order, w)] = (deviation["std"] * np.sqrt((deviation["size"] - 1) / deviation["size"]) / DAY)[deviation["size"] > 1]
    last = inside(order, None).groupby("customer")["gap"].nth(-1)
    found[named("gap_last", order)] = pd.Series(last.to_numpy() / DAY, parts[order].loc[last.index, "customer"])
    frame = pd.DataFrame({name: column.reindex(known) for name, column in found.items()})
    zero = [name for name in frame if name.startswith(("count", "sum", "distinct"))]
    return frame.assign(**frame[zero].fillna(0), customer_id=ids[known], as_of=c)
