"""Traits: facts of the customer, at a moment when the source has a time for them."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from predseg.columns import coded
from predseg.evaluate.batch import Facts, Truth
from predseg.evaluate.block import Array
from predseg.language import conditions as c

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

ALWAYS = int(np.iinfo(np.int64).min)
NEAR = 4
"""So many times as many rows as customers are looked through together; among more each customer is searched alone."""
BY_CUSTOMER = "by customer"
"""The name of the index of a frame that is sorted by customer."""


def at_moments(traits: pd.DataFrame, name: str, customers: Array, moments: Array) -> Array:
    """Return the trait of each customer at each moment, object (k), None where missing.

    ``traits`` has customer_id, the trait columns, and optionally event_time and known_since (microseconds): from when a row
    is true, and from when we know of it. At t, of the rows visible by t (both have passed), the one with the greatest
    event_time counts; of equal times the greatest value.
    """
    [found] = all_at_moments(traits, [name], customers, moments)
    return found


def all_at_moments(traits: pd.DataFrame, names: Sequence[str], customers: Array, moments: Array) -> list[Array]:
    """Return several traits, each as `at_moments` does; the rows of the customers are looked up once."""
    import pandas as pd

    customers, moments = np.asarray(customers, object), np.asarray(moments, np.int64)
    if traits.index.name != BY_CUSTOMER:
        traits = by_customer(traits)
    code, who = pd.factorize(customers)
    first, number = _rows_of(traits.index, who)
    if number.max(initial=0) <= 1:
        row = np.where(number == 1, first, len(traits))[code]
        return _only(traits, names, row, moments)
    rows = traits.iloc[np.repeat(first, number) + np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)]
    return [_last(rows, name, customers, moments) for name in names]


def _rows_of(index: pd.Index, who: Array) -> tuple[Array, Array]:
    """Return where the rows of some customers, each once, begin in a sorted index, and how many each has."""
    import pyarrow as pa
    import pyarrow.compute as pc

    low, high = (int(index.searchsorted(end, side)) for end, side in ((min(who), "left"), (max(who), "right"))) if len(who) else (0, 0)
    if high - low > NEAR * len(who):
        first = index.searchsorted(who)
        return first, index.searchsorted(who, "right") - first
    codes, ids = coded(pa.chunked_array([pa.array(index[low:high].to_numpy(object), pa.string())]))
    number = np.append(np.bincount(codes, minlength=len(ids)), 0)
    at = pc.index_in(pa.array(who, pa.string()), value_set=ids).fill_null(len(ids)).to_numpy()
    return low + (np.cumsum(number) - number)[at], number[at]


def _last(rows: pd.DataFrame, name: str, customers: Array, moments: Array) -> Array:
    """Return the trait of customers with several rows, see `at_moments`."""
    import pandas as pd

    true_from, known_from = (instants_of(rows, column) for column in ("event_time", "known_since"))
    values: Array = np.array([*rows[name].astype(object).where(rows[name].notna(), None), None], object)
    rank = np.lexsort((np.array(["" if v is None else str(v) for v in values[:-1]], str), true_from))  # the order in which rows count
    ids = np.asarray(rows["customer_id"], object)[rank]
    found = pd.DataFrame(
        {"customer_id": pd.Series(ids, dtype=object), "visible": np.maximum(true_from, known_from)[rank], "best": np.arange(len(rank))}
    )
    found = found.sort_values("visible", kind="stable")
    found["best"] = found.groupby("customer_id", sort=False)["best"].cummax()
    asked = pd.DataFrame({"customer_id": pd.Series(customers, dtype=object), "visible": moments, "row": np.arange(len(customers))})
    best = pd.merge_asof(asked.sort_values("visible", kind="stable"), found, on="visible", by="customer_id").sort_values("row")["best"]
    at: Array = values[np.append(rank, -1)[best.fillna(-1).to_numpy(np.int64)]]
    return at


def _only(traits: pd.DataFrame, names: Sequence[str], row: Array, moments: Array) -> list[Array]:
    """Return the traits of customers with one row each, None before it is visible; the row after the last is none."""
    at = np.flatnonzero(row < len(traits))
    found = traits[[name for name in dict.fromkeys((*names, "event_time", "known_since")) if name in traits]].iloc[row[at]]
    visible = np.maximum(instants_of(found, "event_time"), instants_of(found, "known_since")) <= moments[at]
    values: list[Array] = [np.full(len(row), None, object) for _ in names]
    for name, column in zip(names, values, strict=True):
        column[at[visible]] = found[name].astype(object).where(found[name].notna(), None).to_numpy(object)[visible]
    return values


def by_customer(traits: pd.DataFrame) -> pd.DataFrame:
    """Return traits so that `at_moments` finds the rows of a few customers without looking at all: sorted, the ids as the index."""
    import pandas as pd

    rows = traits.iloc[np.argsort(traits["customer_id"].to_numpy(object), kind="stable")]
    return rows.set_axis(pd.Index(rows["customer_id"].to_numpy(object), dtype=object, name=BY_CUSTOMER))


def trait_frame(table: pa.Table) -> pd.DataFrame:
    """Return the customers table as `by_customer` gives it, with ``event_time`` and ``known_since``, where it has them, in microseconds; always is the smallest."""
    import pyarrow as pa

    timed = [name for name in ("event_time", "known_since") if name in table.column_names]
    times = {name: table[name].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).fill_null(ALWAYS).to_numpy() for name in timed}
    return by_customer(table.drop_columns(timed).to_pandas().assign(**times))


def instants_of(rows: pd.DataFrame, column: str) -> Array:
    """Return int64; without a time a row is from the beginning."""
    if column not in rows:
        return np.full(len(rows), ALWAYS)
    times: Array = rows[column].fillna(ALWAYS).to_numpy(np.int64)
    return times


def trait_columns(names: Sequence[str], traits: pd.DataFrame | None, frame: pd.DataFrame) -> dict[str, Any]:
    """Return the traits of the rows of a feature frame as columns ``trait_NAME`` of text, missing where not known."""
    import pandas as pd

    known = [name for name in names if traits is not None and name in traits]
    values = all_at_moments(traits, known, frame["customer_id"].to_numpy(), frame["as_of"].to_numpy()) if traits is not None and known else []
    said = {name: [_text(v) for v in column] for name, column in zip(known, values, strict=True)}
    return {f"trait_{name}": pd.Series(said.get(name, [None] * len(frame)), dtype=object, index=frame.index) for name in names}


def _text(value: Any) -> str | None:
    """Write a value the same way whatever the column was stored as: 3, 3.0 and 3.0000 are one category."""
    if isinstance(value, str):
        return value
    number = _exact(value)
    return None if value is None else f"{number.normalize():f}" if isinstance(number, Decimal) and number.is_finite() else str(value)


def _exact(value: Any) -> Any:
    return Decimal(str(value)) if isinstance(value, int | float | Decimal) and not isinstance(value, bool) else value


def trait_facts(traits: pd.DataFrame | None) -> Facts:
    """Return the facts of conditions on traits: unknown where the trait is missing, unless it is asked whether it exists."""

    def facts(condition: c.Condition, customers: Array, moments: Array) -> Truth:
        if not isinstance(condition, c.Trait):
            raise TypeError(f"{type(condition).__name__} does not follow from events and traits")
        name = condition.filter.property
        known = traits is not None and name in traits
        values = at_moments(traits, name, customers, moments) if known and traits is not None else np.full(len(customers), None, object)
        wanted = condition.filter

        @cache
        def accepts(kind: str, value: Any) -> bool:  # kinds apart: True is no 1
            return wanted.accepts(_exact(value))

        true: Array = np.array([accepts(type(v).__name__, v) for v in values], np.bool_)
        present = any(test.op == "exists" and test.operands[0] for test in condition.filter.tests)
        return Truth(true, np.array([v is None for v in values], bool) & ~true & (not present))

    return facts
