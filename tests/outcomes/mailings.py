"""Small histories of messages, and what comes of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from predseg.outcomes.deliveries import Deliveries


def deliveries(customer: Any, time: Any, clicked: Any, **columns: Any) -> Deliveries:
    """Deliveries to customers c000, c001, ... with what is given, and nothing of the rest; sorted here."""
    customer, time = np.asarray(customer), np.asarray(time)
    order = np.lexsort((time, customer))
    n = len(order)
    none = {name: np.zeros(n, bool) for name in ("opened", "machine", "unsubscribed", "complained")}
    whole = {"orders": np.zeros(n, np.int64), "revenue": np.zeros(n, np.int64), "campaign": np.full(n, -1)}
    given = {"clicked": np.asarray(clicked, bool), **{name: np.asarray(column) for name, column in columns.items()}}
    found = {**none, **whole, **given}
    found["opened"] = found["opened"] | found["clicked"]
    ids = np.array([f"c{number:05d}" for number in range(int(customer.max(initial=-1)) + 1)], object)
    names = [f"m{number}" for number in range(int(found["campaign"].max(initial=-1)) + 1)]
    return Deliveries(ids, customer[order], time[order], campaigns=names, **{name: column[order] for name, column in found.items()})
