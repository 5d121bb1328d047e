"""The demo: a simulated shop whose truth is known, and the whole main job on it, offline."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from predseg.cli import reports
from predseg.cli.engagement import engagement
from predseg.cli.frame import Answer, Run, console
from predseg.cli.monitoring import monitor
from predseg.cli.report import written
from predseg.cli.segments import segment
from predseg.cli.views import Show, table
from predseg.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd

    from predseg.project import Project

PAST, STEP = "2025-12-01", "14d"
"""Since when, and how often, the segments are filled in as if they had been run."""
NEXT = """
next
  look                  {folder}/report.html is a page for any browser
  show colleagues       predseg docs -c {file} --out {folder}/docs.html
  look around           {file} is the whole project: change it, and run the commands again
  who and why           predseg score -c {file} --out {folder}/scores.csv
  go back in time       predseg train -c {file} --as-of 2026-03-01      (nothing known later is used)
  your own data         predseg init my_shop
  help                  predseg --help
"""


def run_demo(run: Run, folder: Path, customers: int) -> Answer:
    """Write the sample project, simulate its shop, and run everything on it."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            "E209", str(folder), "the demo needs a new or empty folder, found something in it", "name another one: predseg demo another_shop"
        )
    if run.dry_run:
        return Answer(
            {"folder": folder, "dry_run": True}, lambda out: out.print(f"would write a sample project to {folder} and run check, train, score on it")
        )
    run.note(f"A shop with {customers:,} accounts and two years of history is simulated into {folder}/data: views, carts, orders,")
    run.note("refunds, e-mails. Nobody in it is real.")
    shop = simulate(folder, customers)
    write_project(folder)
    file = folder / "predseg.yaml"
    results, project = {"folder": str(folder), **shop}, run.open(file)
    report = project.check()
    _step(
        run,
        results,
        f"predseg check -c {file}",
        reports.ingest("shop", report, project.warnings(report), True, False),
        reports.accepted(report),
        checked=report,
    )
    trained = project.train()
    _step(run, results, f"predseg train -c {file}", reports.training(trained, False), reports.learned(trained), trained=trained)
    scored = project.score()
    _step(
        run,
        results,
        f"predseg score -c {file}",
        reports.scores(scored, None, False),
        reports.rows(scored),
        scored=reports.summary(scored, None, False),
    )
    mine = replace(run, config=file)
    members = segment(mine, start=PAST, every=STEP)
    _step(run, results, f"predseg segment -c {file} --from {PAST} --every {STEP}", members.show, members.nodes, segments=members.results)
    last: dict[str, Callable[[], Answer]] = {
        "engagement": lambda: engagement(mine),
        "monitor": lambda: monitor(mine),
        "report": lambda: written(mine, project, folder / "report.html"),
    }
    for name, step in last.items():
        answer = step()
        said = f"predseg {name} -c {file}{f' --out {folder}/report.html' if name == 'report' else ''}"
        _step(run, results, said, answer.show, **{name: answer.results})
    results["truth"] = compare(project, scored)
    return Answer(results, lambda out: _end(out, results["truth"], file, folder))


def write_project(folder: Path) -> None:
    """Copy the sample project: from the installed package, or from the checkout."""
    folder.mkdir(parents=True, exist_ok=True)
    packaged = files("predseg") / "_demo"
    with as_file(packaged) as path:
        source = path if path.is_dir() else Path(__file__).parents[2] / "configs" / "demo"
        shutil.copytree(source, folder, dirs_exist_ok=True)


def simulate(folder: Path, customers: int) -> dict[str, Any]:
    """Write the shop's files and return what there is."""
    from predseg.shop import write

    shop = write(folder, customers)
    return {"customers": shop.customers.num_rows, "events": shop.events.num_rows}


def _step(run: Run, results: dict[str, Any], command: str, show: Show | None, nodes: Mapping[str, int] | None = None, **found: Any) -> None:
    results.update(found)
    run.steps.add(command.split()[1], "ok", nodes or {})
    if not run.json and show is not None:
        out = console()
        out.print(Text(f"\n$ {command}", "bold"))
        show(out)


def compare(project: Project, scored: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Compare the probabilities with the best that anyone could know from the same history: only a simulation can say that.

    ``explained`` is 1 − mean squared distance to the best possible forecast over its variance.
    """
    import numpy as np
    import pyarrow.parquet as pq

    from predseg.language.documents import AT_LEAST_ONE
    from predseg.shop import true_probability

    truth = pq.read_table(project.config.root / "data" / "truth.parquet")
    as_of, found = int(scored["as_of"].iloc[0].value // 1000), {}
    for name, model in project.config.models.items():
        orders = true_probability(truth, as_of, model.predict.horizon, "history")
        best = dict(zip(truth["customer_id"].to_pylist(), orders if model.predict.comparison == AT_LEAST_ONE else 1 - orders, strict=True))
        rows = scored[(scored["model"] == name) & scored["customer_id"].isin(best)]
        said, could = rows["probability"].to_numpy(), np.array([best[c] for c in rows["customer_id"]])
        top = rows["decile"].to_numpy() == 1
        found[name] = {
            "mean_probability": float(said.mean()),
            "mean_best": float(could.mean()),
            "top_decile_best": float(could[top].mean()),
            "explained": float(1 - np.mean((said - could) ** 2) / could.var()),
        }
    return found


def _end(out: Console, truth: dict[str, dict[str, float]], file: Path, folder: Path) -> None:
    out.print(Text("\nhow close to the truth", "bold"))
    out.print("The shop is simulated, so the best possible forecast is known: what the true rates imply, given the same history.")
    columns = ("model", "mean said", "mean best", "in the highest tenth", "of the best forecast explained")
    rows = [
        (name, f"{t['mean_probability']:.1%}", f"{t['mean_best']:.1%}", f"{t['top_decile_best']:.1%}", f"{t['explained']:.0%}")
        for name, t in truth.items()
    ]
    out.print(table(columns, rows, columns[1:]))
    out.print(NEXT.format(file=file, folder=folder).rstrip(), soft_wrap=True)
