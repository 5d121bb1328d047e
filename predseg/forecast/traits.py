"""Traits: facts of the customer, at a moment when the source has a time for them."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from predseg.evaluate.batch import Facts, Truth
from predseg.evaluate.block import Array
from predseg.language import conditions as c

if TYPE_CHECKING:
    import pandas as pd


def at_moments(traits: pd.DataFrame, name: str, customers: Array, moments: Array) -> Array:
    """Return the trait of each customer at each moment, object (k), None where missing.

    ``traits`` has customer_id, optionally event_time (microseconds), and the trait columns. At t the visible row with the
    greatest event_time counts; of equal times the greatest value.
    """
    import pandas as pd

    rows = traits[["customer_id", *(["event_time"] if "event_time" in traits else []), name]].dropna(subset=[name])
    if "event_time" not in rows:
        rows = rows.assign(event_time=np.iinfo(np.int64).min)
    rows = rows.assign(event_time=rows["event_time"].fillna(np.iinfo(np.int64).min).astype(np.int64), order=rows[name].astype(str))
    rows = rows.sort_values(["event_time", "order"], kind="stable").drop(columns="order")
    asked = pd.DataFrame({"customer_id": customers, "event_time": np.asarray(moments, np.int64), "row": np.arange(len(customers))}).sort_values("event_time", kind="stable")
    asked["customer_id"], rows["customer_id"] = asked["customer_id"].astype(object), rows["customer_id"].astype(object)
    found = pd.merge_asof(asked, rows, on="event_time", by="customer_id").sort_values("row")[name]
    return found.astype(object).where(found.notna(), None).to_numpy()


def trait_columns(names: Sequence[str], traits: pd.DataFrame | None, frame: pd.DataFrame) -> dict[str, Any]:
    """Return the traits of the rows of a feature frame as columns ``trait_NAME`` of text, missing where not known."""
    import pandas as pd

    found = {}
    for name in names:
        known = traits is not None and name in traits
        values = at_moments(traits, name, frame["customer_id"].to_numpy(), frame["as_of"].to_numpy()) if known and traits is not None else [None] * len(frame)
        found[f"trait_{name}"] = pd.Series([None if v is None else str(v) for v in values], dtype=object, index=frame.index)
    return found


def trait_facts(traits: pd.DataFrame | None) -> Facts:
    """Return the facts of conditions on traits: unknown where the trait is missing."""

    def facts(condition: c.Condition, customers: Array, moments: Array) -> Truth:
        if not isinstance(condition, c.Trait):
            raise TypeError(f"{type(condition).__name__} does not follow from events and traits")
        name = condition.filter.property
        known = traits is not None and name in traits
        values = at_moments(traits, name, customers, moments) if known and traits is not None else np.full(len(customers), None, object)
        exact = [Decimal(str(v)) if isinstance(v, int | float) and not isinstance(v, bool) else v for v in values]
        true = np.array([condition.filter.accepts(v) for v in exact], bool)
        return Truth(true, np.array([v is None for v in exact], bool) & ~true)

    return facts
