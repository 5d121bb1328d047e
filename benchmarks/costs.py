"""What each step costs, and what it grows with: processor seconds and peak memory of steps of different sizes, and the slopes through them.

    python -m benchmarks.costs --picture costs.svg
    python -m benchmarks.costs --small

One size at a time is changed, the others stay. Each measurement is a process of its own; its processor seconds (user and system, of all
its threads) and its peak are what the operating system says, so other work on the machine hardly matters. The median counts. The law of a
step is the non-negative least-squares fit through all its measurements.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.features import measures
from benchmarks.histories import DAY, end, write_source, write_store
from benchmarks.memory import CONFIG, peak
from benchmarks.scoring import feature_set, frames, make_bundle, values
from benchmarks.segments import rules
from benchmarks.timing import table
from predseg import Project
from predseg.forecast import bundle as bundles
from predseg.forecast.features import FeatureSet
from predseg.forecast.features import frames as features_of
from predseg.forecast.scoring import score
from predseg.language.measures import column_name
from predseg.segments.facts import Facts
from predseg.segments.population import members_at

Sizes = Mapping[str, int]
MILLION = 1_000_000


def reading(folder: Path, n: Sizes) -> None:
    """Read, check, sort and write a source."""
    Project.load(folder / "predseg.yaml").check()


def featuring(folder: Path, n: Sizes) -> None:
    """Compute the features of everybody, block by block."""
    features = FeatureSet(tuple((column_name(m), m) for m in measures()[: n["measures"]]))
    for _ in features_of(sorted(folder.glob("*.parquet")), [end() - 20 * DAY * i for i in range(n["cutoffs"])], features):
        pass


def scoring(folder: Path, n: Sizes) -> None:
    """Score customers whose features are there, with quick reasons."""
    bundle, matrix = bundles.load(folder / "purchase" / "1"), np.load(folder / "features.npy")
    customers = np.array([f"c{i:08d}" for i in range(len(matrix))])
    score(bundle, frames(matrix, list(bundle.forecaster.features), customers), as_of=0, reasons="quick")


def segmenting(folder: Path, n: Sizes) -> None:
    """Find the members of segments of 3 to 6 conditions."""
    members_at(sorted(folder.glob("*.parquet")), rules(n["segments"]), end(), Facts())


@dataclass(frozen=True)
class Step:
    """A step of predseg, measured at ``base`` with one size changed at a time.

    Attributes:
        work: Does it, with what ``make`` has put into a folder.
        base: The sizes.
        tried: Of each size that is changed, its values.
        law: Of each term of the law its name and its number, from the sizes.
    """

    work: Callable[[Path, Sizes], None]
    make: Callable[[Path, Sizes], object]
    base: Sizes
    tried: Mapping[str, Sequence[int]]
    law: Mapping[str, Callable[[Sizes], float]]

    def sizes(self) -> list[Sizes]:
        """Return all sizes that are measured, each once."""
        found = [{**self.base, name: value} for name, several in self.tried.items() for value in several]
        return [n for i, n in enumerate(found) if n not in found[:i]]

    def smaller(self) -> Step:
        """Return the step with a hundredth of the events and customers, two of each size."""
        part = {"events": 100, "customers": 100}
        tried = {name: [value // part.get(name, 1) for value in several[:2]] for name, several in self.tried.items()}
        return replace(self, base={name: value // part.get(name, 1) for name, value in self.base.items()}, tried=tried)


def _source(folder: Path, n: Sizes) -> None:
    write_source(folder / "source", n["events"], n["customers"])
    (folder / "predseg.yaml").write_text(CONFIG, "utf-8")


def _model(folder: Path, n: Sizes) -> None:
    features = feature_set()
    make_bundle(features, str(folder), 300)
    np.save(folder / "features.npy", values(n["customers"], len(features.names), 3))


def _store(folder: Path, n: Sizes) -> None:
    write_store(folder, n["events"], n["customers"])


STEPS = {
    "reading in": Step(
        reading,
        _source,
        {"events": 4 * MILLION, "customers": 200_000},
        {"events": (2 * MILLION, 4 * MILLION, 8 * MILLION), "customers": (100_000, 200_000, 400_000)},
        {"a million events": lambda n: n["events"] / 1e6, "a million customers": lambda n: n["customers"] / 1e6},
    ),
    "features": Step(
        featuring,
        _store,
        {"events": 10 * MILLION, "customers": 500_000, "cutoffs": 4, "measures": 20},
        {
            "events": (5 * MILLION, 10 * MILLION, 20 * MILLION),
            "customers": (250_000, 500_000, MILLION),
            "cutoffs": (1, 4, 12),
            "measures": (10, 20, 37),
        },
        {
            "a million events": lambda n: n["events"] / 1e6,
            "a million customers": lambda n: n["customers"] / 1e6,
            "a million events × measures": lambda n: n["events"] * n["measures"] / 1e6,
            "a million customers × cutoffs × measures": lambda n: n["customers"] * n["cutoffs"] * n["measures"] / 1e6,
        },
    ),
    "scores": Step(
        scoring,
        _model,
        {"customers": 500_000},
        {"customers": (250_000, 500_000, MILLION)},
        {"a million customers": lambda n: n["customers"] / 1e6},
    ),
    "segments": Step(
        segmenting,
        _store,
        {"events": 10 * MILLION, "customers": 500_000, "segments": 20},
        {"events": (5 * MILLION, 10 * MILLION, 20 * MILLION), "customers": (250_000, 500_000, MILLION), "segments": (1, 20, 100)},
        {
            "a million events": lambda n: n["events"] / 1e6,
            "a million customers": lambda n: n["customers"] / 1e6,
            "a million events × segments": lambda n: n["events"] * n["segments"] / 1e6,
            "a million customers × segments": lambda n: n["customers"] * n["segments"] / 1e6,
        },
    ),
}


@dataclass(frozen=True)
class Cost:
    """What one step of one size took: processor seconds, and GB at its peak."""

    sizes: Sizes
    seconds: float
    peak: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a hundredth of the size, once")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--picture", type=Path, help="draw it, .svg or .png")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        name, folder, sizes = json.loads(options.work)
        print(*_taken(name, Path(folder), sizes))
        return
    steps = {name: step.smaller() if options.small else step for name, step in STEPS.items()}
    with tempfile.TemporaryDirectory() as under:
        folders, repeat = Folders(under), 0 if options.small else options.repeat
        found = {name: [_measured(name, n, repeat, folders) for n in step.sizes()] for name, step in steps.items()}
    laws = {name: fitted(steps[name], costs) for name, costs in found.items()}
    rows = [
        [name, ", ".join(f"{k} {v:,}" for k, v in c.sizes.items()), f"{c.seconds:.2f}", f"{c.peak:.2f}"] for name, cs in found.items() for c in cs
    ]
    print(table(["step", "of", "processor seconds", "peak, GB"], rows) + "\n")
    terms = [(name, term, f"{slope:.3g}") for name, law in laws.items() for term, slope in law.items()]
    print(table(["step", "for", "processor seconds"], terms))
    if options.picture:
        draw(options.picture, steps, found, laws)


def _used() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _taken(name: str, folder: Path, sizes: Sizes) -> tuple[float, float]:
    begin = _used()
    STEPS[name].work(folder, sizes)
    return _used() - begin, peak()


class Folders:
    """What steps work on, made once for equal sizes."""

    def __init__(self, under: str) -> None:
        self._under, self._made = Path(under), dict[object, Path]()

    def of(self, step: Step, sizes: Sizes) -> Path:
        """Return the folder of a step, as if nothing had been done in it."""
        key = (step.make, *(sizes.get(name) for name in ("events", "customers")))
        if key not in self._made:
            self._made[key] = self._under / str(len(self._made))
            self._made[key].mkdir()
            step.make(self._made[key], sizes)
        shutil.rmtree(self._made[key] / "store", ignore_errors=True)
        return self._made[key]


def _measured(name: str, sizes: Sizes, repeat: int, folders: Folders) -> Cost:
    """Measure a step so many times, in processes of their own; once in this one for none."""
    found = []
    for _ in range(max(repeat, 1)):
        folder = folders.of(STEPS[name], sizes)
        command = [sys.executable, "-m", "benchmarks.costs", "--work", json.dumps([name, str(folder), dict(sizes)])]
        apart = repeat and subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found.append([float(n) for n in apart.split()] if apart else _taken(name, folder, sizes))
    return Cost(sizes, *(statistics.median(several) for several in zip(*found, strict=True)))


def fitted(step: Step, costs: Sequence[Cost]) -> dict[str, float]:
    """Return what each term of the law of a step costs, and what it costs in any case."""
    from scipy.optimize import nnls

    terms = np.array([[1.0, *(number(c.sizes) for number in step.law.values())] for c in costs])
    slopes, _ = nnls(terms, np.array([c.seconds for c in costs]))
    return dict(zip(("in any case", *step.law), map(float, slopes), strict=True))


def expected(step: Step, law: Mapping[str, float], sizes: Sizes) -> float:
    """Return the processor seconds that the law of a step tells."""
    return law["in any case"] + sum(law[term] * number(sizes) for term, number in step.law.items())


def draw(file: Path, steps: Mapping[str, Step], found: Mapping[str, Sequence[Cost]], laws: Mapping[str, Mapping[str, float]]) -> None:
    """Draw every step, in a row, against each size that was changed: dots as measured, lines as the law tells."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"] = "predseg"
    columns = max(len(step.tried) for step in steps.values())
    figure = Figure((3 * columns, 2.4 * len(steps)), layout="constrained")
    for i, (name, step) in enumerate(steps.items()):
        axes = [figure.add_subplot(len(steps), columns, i * columns + j + 1) for j in range(len(step.tried))]
        for axis, size in zip(axes, step.tried, strict=True):
            same = [c for c in found[name] if all(c.sizes[other] == value for other, value in step.base.items() if other != size)]
            same.sort(key=lambda c: c.sizes[size])
            unit = MILLION if size in ("events", "customers") else 1
            x = [c.sizes[size] / unit for c in same]
            axis.plot(x, [c.seconds for c in same], "o", color="#3b6ea5")
            axis.plot(x, [expected(step, laws[name], c.sizes) for c in same], color="#888888", linewidth=1)
            highest = max(max(c.seconds, expected(step, laws[name], c.sizes)) for c in same)
            axis.set(xlim=(0, 1.05 * x[-1]), ylim=(0, 1.1 * highest), xlabel=f"{size}, millions" if unit > 1 else size)
            axis.spines[["top", "right"]].set_visible(False)
        axes[0].set(ylabel="processor seconds", title=name)
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


if __name__ == "__main__":
    main()
