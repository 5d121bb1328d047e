"""`predseg monitor`: all watches over a running project in one table, the champions in detail, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from predseg.cli.commands import Names
from predseg.cli.frame import Answer, Run, command, plain
from predseg.cli.options import Exclude, Select, narrowed
from predseg.cli.scores import lacking
from predseg.cli.views import count, heading, table
from predseg.errors import UsageError, nearest
from predseg.language.time import say_instant

if TYPE_CHECKING:
    from rich.console import Console

    from predseg.forecast.watching import Drift
    from predseg.outcomes.watching import Monitored

FARTHEST = 5
ALARMS = ("retrain", "recalibrate", "drift")
"""What the champions may call for; only what `--fail-on` names fails the command."""
COLOURS = {"ok": "green", "failing": "red", "not judged": "yellow"}


@command("monitor", "predseg monitor", "predseg monitor churn --fail-on retrain --fail-on recalibrate")
def monitor(
    run: Run,
    models: Names = None,
    fail_on: Annotated[
        list[str] | None,
        typer.Option("--fail-on", metavar="ALARM", help="Exit 1 on this alarm: retrain, recalibrate, drift, or any; may be repeated."),
    ] = None,
    select: Select = None,
    exclude: Exclude = None,
) -> Answer:
    """Compare what runs with what was promised, and say what to do; exit 1 when a watch is failing."""
    from predseg.moment import recordable

    recordable(run.as_of, unless=run.dry_run)  # what is failing is kept, and told to whoever is to be told
    project = run.project()
    wanted = _wanted(fail_on or [])
    models = narrowed(project.config, "model", models, select, exclude)
    return answer(project.monitor(models, run.as_of, dry_run=run.dry_run), wanted)


def answer(found: Monitored, wanted: set[str]) -> Answer:
    """Return what the watches say; ``wanted`` are the alarms of champions that fail the command."""
    alarms = _alarms(found.drift)
    failed = sorted(wanted & alarms.keys())
    watches = [{**plain(w), "since": say_instant(w.since)} for w in found.watches]
    models = {"models": plain(found.drift)}
    results = {
        "as_of": say_instant(found.as_of),
        "watches": watches,
        "turns": plain(found.turns),
        "drift": models,
        "alarms": alarms,
        "failed_on": failed,
    }
    bad = bool(failed or found.failing)
    answer = Answer(results, lambda console: _show(console, found, failed), "failed" if bad or found.untold else "ok", int(bad), found.untold)
    return lacking(answer, found.missing)


def _alarms(drift: Mapping[str, Drift]) -> dict[str, list[str]]:
    alarms: dict[str, list[str]] = {}
    for name, one in drift.items():
        if one.advice.word != "nothing":
            alarms.setdefault(one.advice.word, []).append(f"{name}: {one.advice.reason}")
        if moved := [move.name for move in one.moves if move.moved]:
            alarms.setdefault("drift", []).append(f"{name}: {len(moved)} moved, first {moved[0]}")
    return alarms


def _wanted(given: Sequence[str]) -> set[str]:
    for word in given:
        if word not in (*ALARMS, "any"):
            raise UsageError("E250", "--fail-on", f"no alarm is called {word!r}", nearest(word, (*ALARMS, "any")))
    return set(ALARMS) if "any" in given else set(given)


def _show(console: Console, found: Monitored, failed: Sequence[str]) -> None:
    from rich.text import Text

    rows = [(w.watch, w.about, Text(w.status, COLOURS[w.status]), w.value, w.limit) for w in found.watches]
    console.print(table(("watch", "of", "", "found", "limit"), rows))
    if found.turns:
        console.print("\n" + "\n".join(turn.says for turn in found.turns), soft_wrap=True)
    failing = sum(w.status == "failing" for w in found.watches)
    console.print(f"\n{count(failing, 'watch', 'watches')} failing, at {say_instant(found.as_of)[:16]}Z")
    _show_drift(console, list(found.drift.values()))
    if failed:
        console.print(f"\nfailed on: {', '.join(failed)}")


def _show_drift(console: Console, found: Sequence[Drift]) -> None:
    for one in found:
        who = count(one.customers, "customer") + ("" if one.share == 1 else f" (of a sample of {one.share:.0%})")
        heading(console, f"{one.model}, version {one.version}: {who} at {say_instant(one.as_of)[:16]}Z")
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
