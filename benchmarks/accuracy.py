"""Forecasts of real shops: predseg with its defaults, through the package, beside what users build by hand.

    python -m benchmarks.accuracy --data FOLDER
    python -m benchmarks.accuracy --data FOLDER --small    # one task

Each task is a moment and a horizon: everything is trained with what was known at the moment and asked who, of those who
have ordered, will order within the horizon. predseg runs the project files in configs/ (with one model per task),
`train` and `score` as of the moment. Data sets that are not in the folder are left out.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.accuracy_peers import forecasts, load_orders
from benchmarks.timing import table

CONFIGS = Path(__file__).parents[1] / "configs"


@dataclass(frozen=True)
class Data:
    """A data set: the file of orders that the peers read, the file that the project file reads, and what an order is called there."""

    name: str
    orders: str
    source: str
    event: str


@dataclass(frozen=True)
class Task:
    """At a moment: who orders within so many days?"""

    data: str
    cutoff: str
    days: int

    @property
    def model(self) -> str:
        return f"purchase_{self.cutoff.replace('-', '')}_{self.days}d"


DATA = [
    Data("online_retail", "online_retail.parquet", "online_retail_raw.csv.gz", "Order Completed"),
    Data("grocery", "grocery.parquet", "grocery.parquet", "purchase"),
    Data("completejourney", "completejourney.parquet", "completejourney.parquet", "purchase"),
]
TASKS = [
    Task("online_retail", "2011-09-10", 30),
    Task("online_retail", "2011-09-10", 90),
    Task("grocery", "2007-10-01", 60),
    Task("completejourney", "2017-11-01", 30),
    Task("online_retail", "2011-08-10", 30),
    Task("online_retail", "2011-11-08", 30),
    Task("grocery", "2007-08-01", 60),
    Task("completejourney", "2017-09-01", 30),
]


def project_file(data: Data, tasks: list[Task], folder: Path, store: Path, cutoffs: int | None) -> Path:
    """Write the shipped project file with the given data and one model per task, and return it."""
    from ruamel.yaml import YAML

    config = YAML(typ="safe").load(CONFIGS / f"{data.name}.yaml")
    [source] = config["sources"].values()
    source["path"] = str((folder / data.source).resolve())
    config["store"] = str(store / "store")
    config.pop("segments", None)
    few = {"cutoffs": cutoffs} if cutoffs else {}
    config["models"] = {t.model: {"predict": {"did": data.event, "within_next": f"{t.days} days"}, "among": {"did": data.event}} | few for t in tasks}
    path = store / "predseg.yaml"
    with path.open("w", encoding="utf-8") as stream:
        YAML().dump(config, stream)
    return path


def predseg_forecast(path: Path, task: Task) -> pd.DataFrame:
    """Return customer_id and probability, trained and scored as of the cutoff."""
    from predseg import Project

    project = Project.load(path)
    project.train([task.model], as_of=task.cutoff, force=True)
    return project.score([task.model], as_of=task.cutoff)[["customer_id", "probability", "percentile"]]


def compare(task: Task, orders: pd.DataFrame, path: Path) -> dict[str, tuple[float, float]]:
    """Return AUC and Brier score of each tool, on the same customers."""
    from sklearn.metrics import brier_score_loss, roc_auc_score

    scores = predseg_forecast(path, task).set_index("customer_id")
    truth, others = forecasts(orders, pd.Timestamp(task.cutoff), task.days)
    missing = truth.index.difference(scores.index)
    assert not len(missing) and len(scores) == len(truth), f"{task}: {len(scores)} scores for {len(truth)} customers, without {list(missing[:3])}"
    found = {}
    for name, values in {"predseg": scores.loc[truth.index, "probability"].to_numpy(), **others}.items():
        ranked = scores.loc[truth.index, "percentile"].to_numpy() if name == "predseg" else values
        brier = float("nan") if name == "recency" else brier_score_loss(truth, np.clip(values, 0, 1))
        found[name] = roc_auc_score(truth, ranked), brier
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets")
    parser.add_argument("--small", action="store_true", help="one task of the smallest data set, with few cutoffs")
    options = parser.parse_args()
    os.environ.setdefault("DO_NOT_TRACK", "true")
    logging.disable(logging.WARNING)
    chosen = [t for t in TASKS if t.data == "grocery"][:1] if options.small else TASKS
    results: dict[Task, dict[str, tuple[float, float]]] = {}
    for data in DATA:
        tasks = [t for t in chosen if t.data == data.name]
        absent = [name for name in {data.orders, data.source} if not (options.data / name).is_file()]
        if absent and tasks:
            print(f"{data.name} left out: no {' and no '.join(sorted(absent))} in {options.data}", file=sys.stderr)
        elif tasks:
            results |= _run(data, tasks, options.data, 4 if options.small else None)
    if not results:
        sys.exit(f"no data set in {options.data}")
    print(_show({t: results[t] for t in chosen if t in results}))


def _run(data: Data, tasks: list[Task], folder: Path, cutoffs: int | None) -> dict[Task, dict[str, tuple[float, float]]]:
    orders, found = load_orders(folder / data.orders), {}
    orders["customer_id"] = orders["customer_id"].astype(str)
    with tempfile.TemporaryDirectory() as store:
        path = project_file(data, tasks, folder, Path(store), cutoffs)
        for task in tasks:
            begin = time.perf_counter()
            found[task] = compare(task, orders, path)
            print(f"{task.data} {task.cutoff} {task.days} d: {time.perf_counter() - begin:.0f} s", file=sys.stderr)
    return found


def _show(results: dict[Task, dict[str, tuple[float, float]]]) -> str:
    tools = list(dict.fromkeys(name for found in results.values() for name in found))
    rows = []
    for task, found in results.items():
        best_auc = max(a for name, (a, _) in found.items() if name != "predseg")
        best_brier = np.nanmin([b for name, (_, b) in found.items() if name != "predseg"])
        auc, brier = found["predseg"]
        cells = [f"{found[t][0]:.4f} / {found[t][1]:.4f}".replace("nan", "-") if t in found else "-" for t in tools]
        rows.append([f"{task.data} {task.cutoff}, {task.days} d", f"{auc - best_auc:+.4f} / {brier - best_brier:+.4f}", *cells])
    return "AUC / Brier score; the second column is predseg less the best of the others\n\n" + table(["task", "difference", *tools], rows)


if __name__ == "__main__":
    main()
