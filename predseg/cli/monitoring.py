"""`predseg monitor`: watches over a running project, each of which may raise alarms that schedulers act on.

A watch is one function here: it looks at the project and returns what it found, how to show it, and its alarms. Add one to
`WATCHES` with the alarms that it may raise, and `--fail-on` knows them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from predseg.cli.commands import Names
from predseg.cli.frame import Answer, Run, command
from predseg.cli.views import Show, count, heading, table
from predseg.errors import UsageError, nearest
from predseg.language.time import say_instant

if TYPE_CHECKING:
    from rich.console import Console

    from predseg.forecast.watching import Drift
    from predseg.project import Project

FARTHEST = 5


@dataclass(frozen=True)
class Watched:
    """What a watch found: ``results`` for ``--json``, ``show`` for people, and its ``alarms`` with the reason of each."""

    results: dict[str, Any]
    show: Show
    alarms: dict[str, list[str]] = field(default_factory=dict)


Watch = Callable[[Run, "Project", Sequence[str] | None], Watched]


def drift(run: Run, project: Project, models: Sequence[str] | None) -> Watched:
    """Compare champions with the present, and their matured scores with what came true."""
    found = project.drift(models, run.as_of)
    alarms: dict[str, list[str]] = {}
    for name, one in found.items():
        if one.advice.word != "nothing":
            alarms.setdefault(one.advice.word, []).append(f"{name}: {one.advice.reason}")
        if moved := [move.name for move in one.moves if move.moved]:
            alarms.setdefault("drift", []).append(f"{name}: {len(moved)} moved, first {moved[0]}")
    return Watched({"models": found}, lambda console: _show_drift(console, list(found.values())), alarms)


WATCHES: dict[str, tuple[Watch, tuple[str, ...]]] = {"drift": (drift, ("retrain", "recalibrate", "drift"))}
"""Watches by name, each with the alarms that it may raise."""


@command("monitor", "predseg monitor", "predseg monitor churn --fail-on retrain --fail-on recalibrate")
def monitor(
    run: Run,
    models: Names = None,
    fail_on: Annotated[
        list[str] | None,
        typer.Option("--fail-on", metavar="ALARM", help="Exit 1 on this alarm: retrain, recalibrate, drift, or any; may be repeated."),
    ] = None,
) -> Answer:
    """Compare what runs with what was promised, and say what to do."""
    project = run.project()
    wanted = _wanted(fail_on or [])
    found = {name: watch(run, project, models) for name, (watch, _) in WATCHES.items()}
    alarms = {alarm: reasons for watched in found.values() for alarm, reasons in watched.alarms.items()}
    failed = sorted(wanted & alarms.keys())
    results = {**{name: watched.results for name, watched in found.items()}, "alarms": alarms, "failed_on": failed}
    return Answer(results, lambda console: _show(console, found, failed), "failed" if failed else "ok", int(bool(failed)))


def _wanted(given: Sequence[str]) -> set[str]:
    known = [alarm for _, alarms in WATCHES.values() for alarm in alarms]
    for word in given:
        if word not in (*known, "any"):
            raise UsageError("E250", "--fail-on", f"no alarm is called {word!r}", nearest(word, (*known, "any")))
    return set(known) if "any" in given else set(given)


def _show(console: Console, found: dict[str, Watched], failed: Sequence[str]) -> None:
    for watched in found.values():
        watched.show(console)
    if failed:
        console.print(f"\nfailed on: {', '.join(failed)}")


def _show_drift(console: Console, found: Sequence[Drift]) -> None:
    for one in found:
        heading(console, f"{one.model}, version {one.version}: {count(one.customers, 'customer')} at {say_instant(one.as_of)[:16]}Z")
        _show_moves(console, one)
        _show_runs(console, one)
        console.print(f"advice: {one.advice.word}: {one.advice.reason}", soft_wrap=True)
        if one.advice.word != "nothing":
            console.print(f"next: predseg train {one.model}")


def _show_moves(console: Console, one: Drift) -> None:
    if not one.moves:
        return
    moved = sum(move.moved for move in one.moves[1:])
    console.print(f"{moved} of {count(len(one.moves) - 1, 'feature')} moved; the score and the farthest:")
    rows = [(m.name, f"{m.psi:.2f}", f"{m.p:.3f}", f"{m.weight:.0%}", "moved" if m.moved else "") for m in one.moves[: FARTHEST + 1]]
    console.print(table(("", "PSI", "by chance", "importance", ""), rows, ("PSI", "by chance", "importance")))


def _show_runs(console: Console, one: Drift) -> None:
    if not one.runs:
        console.print("no published scores have matured yet")
        return
    console.print()
    rows = [
        (
            say_instant(r.as_of)[:10],
            r.version,
            f"{r.rows:,}",
            f"{r.said:,.2f}" if r.value else f"{r.said:.1%}",
            f"{r.came:,.2f}" if r.value else f"{r.came:.1%}",
            f"{r.auc:.3f} ({r.auc_interval[0]:.3f} to {r.auc_interval[1]:.3f})",
            f"{r.calibration_error:.3f}",
        )
        for r in one.runs
    ]
    columns = ("scored at", "version", "customers", "said", "came true", one.runs[0].measure, "off by")
    console.print(table(columns, rows, columns[1:]))
