"""The shops of the scoreboard, real and simulated: their orders for the peers, a project file for predseg, and the tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.accuracy_peers import load_orders

CONFIGS = Path(__file__).parents[1] / "configs"


@dataclass(frozen=True)
class Data:
    """A shop: where its orders are, which project file describes it, and what an order is called there.

    ``orders`` and ``source`` are files of the data folder; a simulated shop has ``kind`` and ``customers`` instead.
    """

    name: str
    event: str
    config: str
    orders: str = ""
    source: str = ""
    kind: str = ""
    customers: int = 0


@dataclass(frozen=True)
class Task:
    """At a moment: who orders within so many days?"""

    data: str
    cutoff: str
    days: int

    @property
    def model(self) -> str:
        return f"purchase_{self.cutoff.replace('-', '')}_{self.days}d"

    def __str__(self) -> str:
        return f"{self.data} {self.cutoff}, {self.days} d"


REAL = [
    Data("online_retail", "Order Completed", "online_retail.yaml", "online_retail.parquet", "online_retail_raw.csv.gz"),
    Data("grocery", "purchase", "grocery.yaml", "grocery.parquet", "grocery.parquet"),
    Data("completejourney", "purchase", "completejourney.yaml", "completejourney.parquet", "completejourney.parquet"),
]
SIMULATED = [
    Data(f"simulated {kind}", "Order Completed", "demo/predseg.yaml", kind=kind, customers=customers)
    for kind, customers in (("default", 4_000), ("few_buyers", 6_000), ("weekly_groceries", 3_000), ("gifts", 5_000), ("subscriptions", 4_000))
]
"""So many customers that chance alone makes a calibration error below 0.02 on each task."""
_MOMENTS: dict[str, dict[int, Sequence[str]]] = {
    "online_retail": {
        30: ("2011-07-10", "2011-08-10", "2011-09-10", "2011-10-10", "2011-11-08"),
        90: ("2011-07-10", "2011-08-10", "2011-09-10"),
    },
    "grocery": {
        30: ("2007-06-01", "2007-09-01", "2007-11-01"),
        60: ("2007-04-01", "2007-06-01", "2007-08-01", "2007-10-01"),
        90: ("2007-09-01",),
    },
    "completejourney": {30: ("2017-07-01", "2017-09-01", "2017-11-01", "2017-12-01"), 60: ("2017-09-01", "2017-11-01")},
    "simulated default": {30: ("2025-12-01", "2026-03-01"), 90: ("2026-03-01",)},
    "simulated few_buyers": {60: ("2025-12-01", "2026-03-01")},
    "simulated weekly_groceries": {14: ("2025-12-01", "2026-03-01")},
    "simulated gifts": {90: ("2025-12-01", "2026-03-01")},
    "simulated subscriptions": {30: ("2025-12-01", "2026-03-01")},
}
TASKS = [Task(name, moment, days) for name, horizons in _MOMENTS.items() for days, moments in horizons.items() for moment in moments]


@dataclass(frozen=True, eq=False)
class Shop:
    """A shop made ready in a folder of its own.

    Attributes:
        orders: customer_id, time, value of every order.
        project: The project file, with one model per task.
        truth: For a simulated shop, what `predseg.shop.true_probability` needs.
    """

    orders: pd.DataFrame
    project: Path
    truth: Any = None

    def best(self, task: Task, customers: pd.Index) -> np.ndarray | None:
        """Return the probability of a perfect forecast from the history; None where the truth is not known."""
        if self.truth is None:
            return None
        from predseg.language.time import DAY, parse_instant
        from predseg.shop import true_probability

        known = true_probability(self.truth, parse_instant(task.cutoff), task.days * DAY, "history")
        return pd.Series(known, self.truth["customer_id"].to_pylist()).loc[customers].to_numpy()


def open_shop(data: Data, tasks: Sequence[Task], folder: Path | None, work: Path, cutoffs: int | None = None) -> Shop:
    """Make a shop ready: the simulated ones are simulated, the real ones are read from ``folder``."""
    if data.kind:
        from predseg.shop import write

        shop = write(work, data.customers, kind=data.kind, seed=5)
        events = shop.events.select(["customer_id", "event_time", "event", "value"]).to_pandas()
        orders = events[events["event"] == "Order Completed"].assign(time=lambda o: o["event_time"].dt.tz_localize(None))
        orders = orders.assign(value=orders["value"].astype("float64"))[["customer_id", "time", "value"]]
        orders = orders.sort_values(["customer_id", "time"], ignore_index=True)
        return Shop(orders, _project_file(data, tasks, None, work, cutoffs), shop.truth)
    assert folder is not None
    orders = load_orders(folder / data.orders)
    orders["customer_id"] = orders["customer_id"].astype(str)
    return Shop(orders, _project_file(data, tasks, (folder / data.source).resolve(), work, cutoffs))


def _project_file(data: Data, tasks: Sequence[Task], source: Path | None, work: Path, cutoffs: int | None) -> Path:
    """Write the shipped project file with the given data and one model per task, and return it."""
    from ruamel.yaml import YAML

    config = YAML(typ="safe").load(CONFIGS / data.config)
    if source is not None:
        [only] = config["sources"].values()
        only["path"] = str(source)
    config["store"] = str(work / "store")
    config.pop("segments", None)
    few = {"cutoffs": cutoffs} if cutoffs else {}
    config["models"] = {t.model: {"predict": {"did": data.event, "within_next": f"{t.days} days"}, "among": {"did": data.event}} | few for t in tasks}
    path = work / "predseg.yaml"
    with path.open("w", encoding="utf-8") as stream:
        YAML().dump(config, stream)
    return path
