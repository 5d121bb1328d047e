"""What the features and the members of yesterday could save today: for whom do all windows hold the same events, and what does it cost to see that?

    python -m benchmarks.reuse [--customers 100000] [--keep FOLDER] [--small]

The shop of the demo, whose last moment is compared with a day before it. Seconds are of the processor, of all threads. Nothing is
kept or reused here: the last line is what a reuse that costs nothing itself could save at most.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.commands import kept_shop
from benchmarks.timing import table
from predseg import Project
from predseg.evaluate.ahead import here
from predseg.evaluate.block import Array, Block
from predseg.forecast.dataset import Source, open_source
from predseg.language import conditions as c
from predseg.language.measures import Measure
from predseg.language.time import DAY
from predseg.segments.population import members_at, properties_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--customers", type=int, default=100_000)
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    parser.add_argument("--small", action="store_true", help="a shop of 1,000")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        shop = kept_shop(options.keep or Path(temporary) / "shop", 1_000 if options.small else options.customers)
        print(table(["of a day", "customers", "processor seconds"], measured(Project.load(shop / "predseg.yaml"))))


def measured(project: Project) -> list[list[str]]:
    """Lines of the table."""
    workspace, now = project.segments(), project.moment()
    source, facts, listed = open_source(project.config, project.store), workspace.facts(workspace.ledger()), workspace.listed()
    rules = list(workspace.segments.values())
    measures = [*source.features.measures, *(m for rule in rules for m in c.measures(rule.match))]
    frame(source, now)  # warms everything up
    today, features = spent(lambda: frame(source, now))
    _, deciding = spent(lambda: members_at(workspace.files, workspace.segments, now, facts, listed))
    reading = (
        spent(lambda: list(here(len_of, source.files, source.properties())))[1],
        spent(lambda: list(here(len_of, source.files, properties_of(rules))))[1],
    )
    found, seeing = spent(lambda: np.concatenate(list(here(partial(moved, edges=edges(measures), now=now), source.files, (), since=now))))
    yesterday = frame(source, now - DAY).reindex(today.index)
    same = ((today == yesterday) | (today.isna() & yesterday.isna())).all(axis=1)
    share = 1 - float(found.mean())
    most = share * (features + deciding - sum(reading))
    return [
        ["features", f"{len(today):,}", f"{features:.1f}"],
        ["of that, reading", "-", f"{reading[0]:.1f}"],
        ["members", f"{len(found):,}", f"{deciding:.1f}"],
        ["of that, reading", "-", f"{reading[1]:.1f}"],
        ["with the features of yesterday", f"{int(same.sum()):,} ({same.mean():.0%})", "-"],
        ["with the events of yesterday in every window", f"{int((~found).sum()):,} ({share:.0%})", f"{seeing:.1f} to see it"],
        ["saved at most", "-", f"**{most:.1f}** ({most / (features + deciding):.0%})"],
    ]


def spent(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what work gives, and its processor seconds."""
    begin = time.process_time()
    return work(), time.process_time() - begin


def frame(source: Source, moment: int) -> pd.DataFrame:
    """Everybody's features."""
    return pd.concat(source.frames([moment]), ignore_index=True).set_index("customer_id").drop(columns="as_of")


def edges(measures: Iterable[Measure]) -> list[int]:
    """Return how far back windows begin and end."""
    return sorted({0, *(edge for m in measures for edge in (m.window.start, m.window.until) if edge)})


def moved(block: Block, edges: list[int], now: int) -> Array:
    """Return of whom, bool (customers), an event came into or went out of a window within the last day."""
    hit = (block.received > now - DAY) & (block.received <= now)
    for edge in edges:
        hit |= (block.time > now - DAY - edge) & (block.time <= now - edge)
    return np.bincount(block.customer[hit], minlength=block.size) > 0


def len_of(block: Block) -> int:
    return block.size


if __name__ == "__main__":
    main()
