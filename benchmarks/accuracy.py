"""Forecasts of real and simulated shops: predseg with its defaults, through the package, beside what users build by hand.

    python -m benchmarks.accuracy --data FOLDER
    python -m benchmarks.accuracy --data FOLDER --small                          # one task
    python -m benchmarks.accuracy --data FOLDER --cache DIR --picture board.svg  # peers are not asked twice

Each task is a moment and a horizon: everything is trained with what was known at the moment and asked who, of those who
have ordered, will order within the horizon. predseg runs the project files in configs/ (with one model per task),
`train` and `score` as of the moment. Data sets that are not in the folder are left out; without --data only the
simulated shops are run.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import accuracy_peers
from benchmarks.accuracy_board import BEST, OURS, Result, board, draw
from benchmarks.accuracy_data import REAL, SIMULATED, TASKS, Data, Shop, Task, open_shop


def predseg_forecast(path: Path, task: Task) -> pd.DataFrame:
    """Return probability and percentile by customer, trained and scored as of the cutoff."""
    from predseg import Project

    project = Project.load(path)
    project.train([task.model], as_of=task.cutoff, force=True)
    return project.score([task.model], as_of=task.cutoff).set_index("customer_id")[["probability", "percentile"]]


def peers(task: Task, shop: Shop, cache: Path | None) -> tuple[pd.Series, dict[str, np.ndarray]]:
    """Return the truth and what every peer says, from the cache when code, orders and task are the same."""
    content = pd.util.hash_pandas_object(shop.orders, index=False).to_numpy().tobytes()
    key = hashlib.sha256(content + Path(accuracy_peers.__file__).read_bytes() + str(task).encode()).hexdigest()[:24]
    file = cache / f"{key}.parquet" if cache else None
    if file is not None and file.is_file():
        kept = pd.read_parquet(file)
        return kept["truth"], {str(name): kept[name].to_numpy() for name in kept.columns if name != "truth"}
    truth, said = accuracy_peers.forecasts(shop.orders, pd.Timestamp(task.cutoff), task.days)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame({"truth": truth, **said}).to_parquet(file)
    return truth, said


def compare(task: Task, shop: Shop, cache: Path | None) -> Result:
    """Ask every tool about the same customers."""
    truth, said = peers(task, shop, cache)
    scores = predseg_forecast(shop.project, task)
    here = truth.index.isin(scores.index)
    assert here.mean() > 0.99, f"{task}: no scores for {list(truth.index[~here][:3])}"  # an order received late is not known yet
    truth, said = truth[here], {name: np.clip(np.nan_to_num(values[here]), -1e9, 1.0) for name, values in said.items()}
    ours, best = scores.loc[truth.index], shop.best(task, truth.index)
    known = {} if best is None else {BEST: best}
    ranks = {OURS: ours["percentile"].to_numpy(), **said, **known}
    probabilities = {OURS: ours["probability"].to_numpy(), **{n: np.clip(v, 0, 1) for n, v in said.items() if n != "recency"}, **known}
    return Result(task, truth.index.to_numpy().astype(str), truth.to_numpy(), ranks, probabilities)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with the data sets; without it only simulated shops")
    parser.add_argument("--small", action="store_true", help="one task of the smallest data set, with few cutoffs")
    parser.add_argument("--only", help="only the data sets whose name contains this")
    parser.add_argument("--cache", type=Path, help="folder that keeps what the peers said")
    parser.add_argument("--picture", type=Path, help="also draw the scoreboard, .svg or .png")
    options = parser.parse_args()
    os.environ.setdefault("DO_NOT_TRACK", "true")
    logging.disable(logging.WARNING)
    chosen = [t for t in TASKS if (options.only or "") in t.data]
    chosen = [Task("grocery", "2007-10-01", 60)] if options.small else chosen
    results: list[Result] = []
    for data in (*REAL, *SIMULATED):
        tasks = [t for t in chosen if t.data == data.name]
        absent = [] if data.kind else [n for n in {data.orders, data.source} if options.data is None or not (options.data / n).is_file()]
        if absent and tasks:
            print(f"{data.name} left out: no {' and no '.join(sorted(absent))} in {options.data}", file=sys.stderr)
        elif tasks:
            results += _run(data, tasks, options.data, options.cache, 4 if options.small else None)
    if not results:
        sys.exit(f"no data set in {options.data}")
    print(board(results))
    if options.picture:
        draw(results, options.picture)


def _run(data: Data, tasks: list[Task], folder: Path | None, cache: Path | None, cutoffs: int | None) -> list[Result]:
    found = []
    with tempfile.TemporaryDirectory() as work:
        shop = open_shop(data, tasks, folder, Path(work), cutoffs)
        for task in tasks:
            begin = time.perf_counter()
            found.append(compare(task, shop, cache))
            print(f"{task}: {time.perf_counter() - begin:.0f} s", file=sys.stderr)
    return found


if __name__ == "__main__":
    main()
