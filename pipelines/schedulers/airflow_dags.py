"""The daily and the weekly run of a project as Airflow DAGs; each step is a task of its own, so that one sees where it ended.

Put this file into the DAG folder of an Airflow 3 whose workers have predseg, and set PREDSEG_CONFIG to the project file.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow.sdk import dag, task

if TYPE_CHECKING:
    from predseg import Project

COMMON = {
    "start_date": datetime(2026, 1, 1, tzinfo=UTC),
    "catchup": False,  # a run is about the present; `predseg segment --from` fills in the past
    "max_active_runs": 1,
    "default_args": {"retries": 0},  # what was refused is refused again; messages that did not arrive wait for the next run
    "tags": ["predseg"],
}


def project() -> Project:
    """Return the project; imported in the worker, so that the scheduler parses this file in no time."""
    from predseg import Project

    return Project.load(os.environ.get("PREDSEG_CONFIG", "predseg.yaml"))


@task
def step(name: str) -> str:
    """Take one step and return what it did, in a few words."""
    from predseg.formats import write_page

    mine = project()
    match name:
        case "check":
            return f"{mine.check().accepted:,} rows accepted"
        case "train":
            return ", ".join(f"{model}: {report.evaluation['quality']}" for model, report in mine.train().items())
        case "score":
            return f"{len(mine.score()):,} scores"
        case "segment":
            return ", ".join(f"{c.segment}: {c.members:,}" for c in mine.segments().run(mine.moment()).changes)
        case "act":
            return f"{mine.act().count('sent'):,} messages sent"
        case "monitor":
            return f"failing: {', '.join(watch.key for watch in mine.monitor().failing) or 'none'}"
    return str(write_page(mine.config.store / "report.html", mine.report()))


def in_order(*names: str) -> None:
    """Declare steps, each after the one before it."""
    before = None
    for name in names:
        now = step.override(task_id=name)(name)
        if before is not None:
            before >> now
        before = now


@dag(dag_id="predseg_daily", schedule="0 5 * * *", **COMMON)
def daily() -> None:
    """Every morning."""
    in_order("check", "score", "segment", "act", "monitor", "report")


@dag(dag_id="predseg_weekly", schedule="0 3 * * 0", **COMMON)
def weekly() -> None:
    """Every Sunday."""
    in_order("check", "train")


daily()
weekly()
