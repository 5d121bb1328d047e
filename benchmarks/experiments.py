"""How often the figures of `predseg experiment` are wrong, over simulated experiments whose effect is known.

python -m benchmarks.experiments [--times 2000] [--small]

A/A: both halves get the same; called different at 5 % is an error. Effect: a rate of 15 % becomes 21 %, and money with it; an interval that
misses the effect is an error. Peeking: the difference is looked at after every 20 of 4,000 customers; once outside is an error.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.stats import binom

from benchmarks.timing import table
from predseg.language.time import DAY
from predseg.outcomes.experiments import Comparison, analyse
from tests.outcomes.simulations import START, WITHIN, design, peeking, simulate

CUSTOMERS, RATE, LIFT = 1_500, 0.15, 0.4
SPENT = RATE * LIFT * (0.5 * 40 + 20)
NOMINAL, LOWEST, HIGHEST = 0.05, 0.935, 0.965
"""The share of errors that is promised, and between what the coverage of an interval of 95 % must lie."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=2_000)
    parser.add_argument("--small", action="store_true", help="30 experiments")
    options = parser.parse_args()
    times = 30 if options.small else options.times
    rows, kept = [], True
    for what, wrong, most_only in (*same(times), *effect(times), *peeked(times)):
        low, high = (int(n) for n in binom.interval(0.99, times, NOMINAL))
        fine = wrong <= high and (most_only or wrong >= low) and (most_only or LOWEST <= 1 - wrong / times <= HIGHEST or times < 2_000)
        kept &= fine or "usual" in what
        rows.append([what, f"{times:,}", f"{wrong:,}", f"{wrong / times:.1%}", f"{'at most' if most_only else f'{low} to'} {high}"])
    print(table(["", "experiments", "wrong", "share", "chance allows around 5 %"], rows))
    if not kept and not options.small:
        sys.exit("more or fewer errors than chance allows")


def same(times: int) -> Iterator[tuple[str, int, bool]]:
    """A/A experiments that are called different."""
    wrong = np.zeros(3, int)
    for found in compared(times, control="50", same="50"):
        assert found.value is not None and found.adjusted is not None
        wrong += [found.did.p < NOMINAL, found.value.p < NOMINAL, found.adjusted.p < NOMINAL]
    yield from zip(("A/A: rate", "A/A: value", "A/A: value, with CUPED"), (int(w) for w in wrong), (False,) * 3, strict=True)


def effect(times: int) -> Iterator[tuple[str, int, bool]]:
    """Intervals that miss the effect."""
    missed = np.zeros(4, int)
    for found in compared(times, effects={"new": LIFT}, control="50", new="50"):
        assert found.did.ratio_interval is not None and found.did.always is not None and found.adjusted is not None
        intervals = (found.did.interval, found.did.ratio_interval, found.adjusted.interval, found.did.always)
        missed += [not low <= true <= high for (low, high), true in zip(intervals, (RATE * LIFT, 1 + LIFT, SPENT, RATE * LIFT), strict=True)]
    names = ("effect: interval of the difference", "effect: of the ratio", "effect: of the value, with CUPED", "effect: for any number of looks")
    yield from zip(names, (int(m) for m in missed), (False, False, False, True), strict=True)


def peeked(times: int) -> Iterator[tuple[str, int, bool]]:
    """Runs in which a difference of nothing was outside of an interval at one of 195 looks."""
    wrong, usual = peeking(times)
    yield "peeking: interval for any number of looks", wrong, True
    yield "peeking: the usual interval, for comparison", usual, True


def compared(times: int, **given: Any) -> Iterator[Comparison]:
    """The comparisons of so many experiments; those whose shares look wrong by chance are withheld, and not counted."""
    effects, done, number = given.pop("effects", {}), 0, 0
    while done < times:
        experiment = design(number, **given)
        units, log = simulate(experiment, CUSTOMERS, RATE, effects, number)
        found = analyse(experiment, units, log, START + 1_000 * DAY, WITHIN)
        number += 1
        if not found.withheld:
            done += 1
            yield found.comparisons[0]


if __name__ == "__main__":
    main()
