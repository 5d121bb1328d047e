"""What happened after an instant of each customer's own: the same as counting one by one."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np

from predseg.outcomes.log import Log, read_log
from tests.segments.stores import write_events


def test_totals_are_those_of_counting(tmp_path: Path) -> None:
    r = np.random.default_rng(1)
    rows = [(f"c{r.integers(8)}", int(r.integers(1, 12)), "Order", {"value": Decimal(int(r.integers(-5, 9))) / 4}) for _ in range(120)]
    log = read_log(write_events(tmp_path, rows), ["Order"], 100)
    assert list(log.customers) == sorted({row[0] for row in rows})
    asked = [(f"c{r.integers(9)}", int(r.integers(0, 12))) for _ in range(400)]
    customer, start = log.positions(np.array([a[0] for a in asked], object)), np.array([a[1] for a in asked])
    end = start + r.integers(0, 6, len(asked))
    number, value = log.totals(customer, start, end)
    for (who, _), s, e, n, v in zip(asked, start, end, number, value, strict=True):
        mine = [row[3]["value"] for row in rows if row[0] == who and s < row[1] <= e]
        assert (n, Decimal(int(v)) / 10_000) == (len(mine), sum(mine))


def test_only_what_is_known_and_asked_for_is_read(tmp_path: Path) -> None:
    rows = [
        ("b", 5, "Order", {"campaign": "x", "size": 3}),
        ("a", 5, "Order", {"received_at": 9}),
        ("a", 4, "Order", {"campaign": "y", "size": Decimal("2.50")}),
        ("a", 3, "View", {"campaign": "z"}),
        ("c", 8, "Mail", {"campaign": "y"}),
    ]
    log = read_log(write_events(tmp_path, rows), ["Mail", "Order"], 8, ["campaign", "size", "absent"])
    assert [(log.customers[c], t, log.names[e]) for c, t, e in zip(log.customer, log.time, log.event, strict=True)] == [
        ("a", 4, "Order"),
        ("b", 5, "Order"),
        ("c", 8, "Mail"),
    ]
    codes, said = log.texts["campaign"]
    assert [said[c] for c in codes] == ["y", "x", "y"] and list(log.texts["absent"][0]) == [-1, -1, -1]
    sizes, texts = log.texts["size"]
    assert [texts[c] if c >= 0 else None for c in sizes] == ["2.5", "3", None]
    orders = log.where("Order")
    assert list(orders.time) == [4, 5] and [orders.texts["campaign"][1][c] for c in orders.texts["campaign"][0]] == ["y", "x"]
    assert not len(read_log([], ["Order"], 8).time) and isinstance(log, Log)
