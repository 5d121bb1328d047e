"""The trees of a model on a million rows: ways of asking LightGBM, compilers of trees, and predseg's loops.

    python -m benchmarks.trees            # 1,000,000 rows, 61 features, 300 trees of 31 leaves
    python -m benchmarks.trees --python PATH
    python -m benchmarks.trees --small

PATH is an interpreter that has the compilers (``pip install lightgbm lleaves "llvmlite<0.45" treelite``), which need older
libraries than predseg; those it has not are left out. Every way gets the same float64 matrix in memory and two threads, and is
compared with `Booster.predict`: seconds, the greatest difference of a margin, and the seconds to make it ready once.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.scoring import feature_set, make_bundle, values
from benchmarks.timing import medians, table
from predseg.forecast.trees import Trees

if TYPE_CHECKING:
    import lightgbm as lgb

THREADS = os.cpu_count() or 1
COMPILERS = """
import importlib.util, json, statistics, sys, time
import numpy as np
folder, repeat = sys.argv[1], int(sys.argv[2])
matrix, expected = np.load(folder + "/matrix.npy"), np.load(folder + "/expected.npy")

def lleaves():
    from lleaves import Model
    model = Model(model_file=folder + "/model.txt")
    model.compile(raw_score=True)
    return model.predict

def treelite():
    import treelite
    model = treelite.frontend.load_lightgbm_model(folder + "/model.txt")
    return lambda rows: treelite.gtil.predict(model, rows, pred_margin=True).ravel()

for compiler in (lleaves, treelite):
    if importlib.util.find_spec(compiler.__name__) is None:
        continue
    begin = time.perf_counter()
    predict = compiler()
    ready = time.perf_counter() - begin
    found, seconds = predict(matrix), []
    for _ in range(repeat):
        begin = time.perf_counter()
        predict(matrix)
        seconds.append(time.perf_counter() - begin)
    print(json.dumps([compiler.__name__, statistics.median(seconds), float(np.abs(found - expected).max()), ready]))
"""


def asked(booster: lgb.Booster, matrix: np.ndarray) -> dict[str, Callable[[], np.ndarray]]:
    """Ways to ask LightGBM itself."""
    single = matrix.astype(np.float32)
    return {
        "Booster.predict": lambda: booster.predict(matrix),
        "Booster.predict, raw_score": lambda: booster.predict(matrix, raw_score=True),
        "Booster.predict, 1 thread": lambda: booster.predict(matrix, raw_score=True, num_threads=1),
        "Booster.predict, float32": lambda: booster.predict(single, raw_score=True),
    }


def in_parts(trees: Trees, matrix: np.ndarray) -> np.ndarray:
    """The loops on as many threads as LightGBM takes, as scoring calls them."""
    with ThreadPoolExecutor(THREADS) as threads:
        return np.concatenate(list(threads.map(trees.margins, np.array_split(matrix, max(1, len(matrix) // 16_384)))), axis=1)[0]


def compilers(python: str, folder: str, repeat: int) -> list[tuple[str, float, float, float]]:
    """What the compilers of trees do, in another interpreter."""
    done = subprocess.run([python, "-c", COMPILERS, folder, str(repeat)], capture_output=True, text=True, check=True)
    return [tuple(json.loads(line)) for line in done.stdout.splitlines() if line.startswith("[")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="4,000 rows, 30 trees, once")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--trees", type=int, default=300)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--python", help="an interpreter with lleaves or treelite")
    options = parser.parse_args()
    n, count, repeat = (4_000, 30, 1) if options.small else (options.rows, options.trees, options.repeat)
    matrix = values(n, len(feature_set().names), 3)
    with tempfile.TemporaryDirectory() as folder:
        booster: lgb.Booster = make_bundle(feature_set(), folder, count).forecaster.boosters[0]
        tools = asked(booster, matrix)
        begin = time.perf_counter()
        trees = Trees.of([booster])
        assert trees is not None
        trees.margins(matrix[:1])
        ready = time.perf_counter() - begin
        seconds, results = medians({**tools, "predseg": lambda: in_parts(trees, matrix)}, repeat)
        expected = results["Booster.predict, raw_score"]
        found = [(name, seconds[name], float(np.abs(results[name] - expected).max()), 0.0) for name in tools if name != "Booster.predict"]
        found.append(("predseg", seconds["predseg"], float(np.abs(results["predseg"] - expected).max()), ready))
        if options.python:
            np.save(Path(folder) / "matrix.npy", matrix)
            np.save(Path(folder) / "expected.npy", expected)
            booster.save_model(Path(folder) / "model.txt")
            found += compilers(options.python, folder, repeat)
    bare = seconds["Booster.predict"]
    print(f"{n:,} rows, {count} trees of 31 leaves, {THREADS} threads, median of {repeat}; Booster.predict: {bare:.2f} s\n")
    rows = [[name, f"**{bare / s:.2f}**", f"{s:.2f}", f"{difference:.1g}", f"{once:.1f}"] for name, s, difference, once in found]
    print(table(["way", "times Booster.predict", "seconds", "greatest difference", "seconds to make ready"], rows))


if __name__ == "__main__":
    main()
