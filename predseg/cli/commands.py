"""The commands, in the order in which a newcomer meets them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from predseg.cli.frame import Answer, Run, app, command, plain
from predseg.cli.options import Exclude, Select, complete_models, narrowed
from predseg.errors import DataError, ModelError

if TYPE_CHECKING:
    from predseg.project import Project
    from predseg.segments.sides import Side

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="[MODEL]...", help="Models of the project file; all of them when none is named.", autocompletion=complete_models),
]
OneModel = Annotated[str, typer.Argument(metavar="MODEL", help="A model of the project file.", autocompletion=complete_models)]
Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Also write one file: .parquet, .csv or .jsonl.")]
Force = Annotated[bool, typer.Option("--force", help="Pass the gate; the run says so.")]


@app.callback(invoke_without_command=True)
def _predseg(context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from predseg import __version__

        typer.echo(f"predseg {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


@command("demo", "predseg demo shop", "predseg demo shop --json")
def demo(
    run: Run,
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="A new folder for the sample project.")] = Path("shop"),
    customers: Annotated[int, typer.Option("--customers", metavar="N", help="Accounts of the simulated shop.")] = 5_000,
) -> Answer:
    """Write a sample shop project and run everything on it, offline."""
    from predseg.cli.demo import run_demo

    return run_demo(run, folder, customers)


@command("init", "predseg init my_shop")
def init(run: Run, folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where the project file goes.")] = Path()) -> Answer:
    """Write an empty project: a commented predseg.yaml."""
    from predseg.cli.projects import new_project

    return new_project(run, folder)


@command("doctor", "predseg doctor", "predseg doctor --repair", "predseg doctor --json")
def doctor(
    run: Run, repair: Annotated[bool, typer.Option("--repair", help="Take away what dead processes left, and finish what they began.")] = False
) -> Answer:
    """Look whether all that is needed is there and loads, and whether the project's store and models are sound."""
    from predseg.cli import doctor, views

    project = run.project() if repair or run.has_project() else None
    done = doctor.repair(project) if project is not None and repair and not run.dry_run else []
    for one in done:
        run.note(f"repaired: {one}")
    findings = [*doctor.examine(Path.cwd()), *(doctor.of_project(project) if project is not None else ())]
    sick = [f for f in findings if f.status in ("missing", "broken")]
    results = {"findings": [{"what": f.what, "status": f.status, "found": f.found, "help": f.help} for f in findings], "repaired": done}
    return Answer(results, views.findings(findings), "failed" if sick else "ok", 1 if sick else 0)


@command("check", "predseg check", "predseg check -c configs/online_retail.yaml --json", "predseg check --junit data.xml")
def check(
    run: Run,
    junit: Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="Also write what `expectations:` found as JUnit XML.")] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Build the events table anew: what no source holds any more is lost.")] = False,
) -> Answer:
    """Read and validate the data: what is accepted, what not, why, and whether it is as expected."""
    from predseg.cli import checks, reports

    project = run.project()
    error = None
    try:
        report = project.check(dry_run=run.dry_run, rebuild=rebuild)
    except DataError as refusal:
        found = project.last_check() if refusal.code == "E409" and not run.dry_run else None
        if found is None:
            raise
        report, error = found, refusal
    warnings = project.warnings(report)
    totals = {name: getattr(report, name) for name in ("received", "accepted", "duplicates", "quarantined", "suppressed")}
    judged = project.expectations(run.as_of, dry_run=run.dry_run) if error is None else []
    if junit is not None and not run.dry_run:
        checks.write_junit(junit, judged)
    failing = checks.failing(judged)
    results = {**totals, **plain(report), "warnings": warnings, "expectations": plain(judged), "dry_run": run.dry_run}
    said = checks.after(reports.ingest(project.config.project, report, warnings, error is None and not failing, run.dry_run), judged)
    return Answer(results, said, "failed" if error or failing else "ok", int(bool(failing)), error, reports.accepted(report))


@command("train", "predseg train", "predseg train churn --as-of 2011-09-10", "predseg train --select tag:weekly", "predseg train churn --recalibrate")
def train(
    run: Run,
    models: Names = None,
    force: Force = False,
    select: Select = None,
    exclude: Exclude = None,
    recalibrate: Annotated[
        bool, typer.Option("--recalibrate", help="Keep the champion's trees; learn from newer outcomes how likely is likely.")
    ] = False,
) -> Answer:
    """Train, test forward in time, register behind a gate; shows who changes sides by a new champion."""
    from predseg.cli import reports

    project = run.project()
    chosen = narrowed(project.config, "model", models, select, exclude)
    before = {name: registry.champion(name) for name in project.config.models} if (registry := project.registry()).exists() else {}
    trained = project.train(chosen, run.as_of, force=force, dry_run=run.dry_run, recalibrate=recalibrate)
    crowned = {name: old for name, report in trained.items() if report.version and report.decision.promoted and (old := before.get(name))}
    moved = {name: sides for name, old in crowned.items() if (sides := _sides(run, project, name, trained[name].version, old))}
    results = {"models": trained, "sides": moved, "dry_run": run.dry_run}
    return Answer(results, reports.training(trained, run.dry_run, moved), nodes=reports.learned(trained))


class Models(StrEnum):
    """What `predseg models` does."""

    LIST = "list"
    VERIFY = "verify"
    SIGN = "sign"


@command("models", "predseg models", "predseg models verify", "predseg models sign")
def models(
    run: Run,
    action: Annotated[
        Models, typer.Argument(metavar="[ACTION]", help="list; verify: every byte as it was registered; sign: anew, with the first of the keys.")
    ] = Models.LIST,
) -> Answer:
    """List the registered versions and their champions, look whether they are as they were registered, or sign them."""
    from predseg.cli import custody, reports

    project = run.project()
    if action is not Models.LIST:
        return custody.sign(project, run.dry_run) if action is Models.SIGN else custody.verify(project)
    versions = project.models()
    return Answer({"models": versions}, reports.versions(versions))


@command("promote", "predseg promote churn --version 2")
def promote(
    run: Run,
    model: OneModel,
    version: Annotated[int | None, typer.Option("--version", metavar="N", help="Else the challenger.")] = None,
    force: Force = False,
) -> Answer:
    """Make a version the champion, when it passes the gate; shows who changes sides."""
    from predseg.cli import reports

    project = run.project()
    moved = _sides(run, project, model, version)
    gains = project.gains(model, version)
    change = project.promote(model, version, force=force, dry_run=run.dry_run)
    results = {**plain(change), "sides": moved, "gains": gains, "dry_run": run.dry_run}
    return Answer(results, reports.champion(change, run.dry_run, moved, gains))


def _sides(run: Run, project: Project, model: str, version: int | None, against: int | None = None) -> list[Side]:
    """Who changes sides; a champion that cannot be asked any more is no reason to keep it."""
    try:
        return project.sides(model, version, run.as_of, against=against)
    except (ModelError, DataError) as error:
        if error.code in ("E720", "E722"):
            raise
        run.note(f"note: who changes sides cannot be told: {error.message}")
        return []


@command("rollback", "predseg rollback churn")
def rollback(run: Run, model: OneModel) -> Answer:
    """Give the title back to the champion before this one."""
    from predseg.cli import reports

    change = run.project().rollback(model, dry_run=run.dry_run)
    return Answer({**plain(change), "dry_run": run.dry_run}, reports.champion(change, run.dry_run))


@command("score", "predseg score --out scores.parquet", "predseg score churn --as-of 2011-12-09T13:00 --out churn.csv")
def score(run: Run, models: Names = None, out: Out = None, select: Select = None, exclude: Exclude = None) -> Answer:
    """Score every eligible customer at one moment."""
    from predseg.cli import reports, scores

    project = run.project()
    names = narrowed(project.config, "model", models, select, exclude)
    missing = {} if models else project.missing(names, dry_run=run.dry_run)
    asked = [name for name in names or project.config.models if name not in missing]
    scored = project.score(asked or names, run.as_of, out=out, dry_run=run.dry_run)
    answer = Answer(reports.summary(scored, out, run.dry_run), reports.scores(scored, out, run.dry_run), nodes=reports.rows(scored))
    return scores.lacking(answer, missing)


@command("run", "predseg run", "predseg run --as-of 2011-12-09T13:00 --json", "predseg run --select +abandoned_cart+", "predseg run --timings")
def run_daily(
    run: Run,
    select: Select = None,
    exclude: Exclude = None,
    full_refresh: Annotated[bool, typer.Option("--full-refresh", help="Score and segment anew even if nothing changed.")] = False,
    timings: Annotated[bool, typer.Option("--timings", help="Also say how long each step took.")] = False,
) -> Answer:
    """Run the daily steps: check, score, segments, actions, monitor, report; what is up to date is not done again."""
    from predseg.cli.daily import run_all

    return run_all(run, select, exclude, full_refresh=full_refresh, timings=timings)
