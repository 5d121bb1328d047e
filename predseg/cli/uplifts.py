"""The command about uplift: whom the messages of a segment move, as its holdout shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from predseg.cli.experiments import Goal, Name
from predseg.cli.frame import Answer, Run, command, plain

if TYPE_CHECKING:
    from rich.console import Console

    from predseg.forecast.uplift import Uplift
    from predseg.outcomes.uplifts import Mover, Moving


@command("uplift", "predseg uplift win_back", "predseg uplift win_back --within 14d --out uplift.csv")
def uplift(
    run: Run,
    name: Name,
    goal: Goal = None,
    within: Annotated[str, typer.Option("--within", metavar="DURATION", help="How long each customer is watched.")] = "30 days",
    since: Annotated[str | None, typer.Option("--since", metavar="INSTANT", help="Only customers from then on.")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Also write the members' uplift: .parquet, .csv or .jsonl.")] = None,
) -> Answer:
    """Say whom a segment's messages move, from its holdout; exits with 1 while there is not enough evidence."""
    from predseg.cli.options import duration
    from predseg.history.exports import export
    from predseg.moment import instant
    from predseg.outcomes.projects import Outlook
    from predseg.outcomes.uplifts import moving

    project = run.project()
    begin = None if since is None else instant(since, "--since")
    found = moving(Outlook(project.segments(), project.moment(run.as_of)), name, goal=goal, within=duration("--within", within), since=begin)
    written = out if found.scores is not None and not run.dry_run else None
    if written is not None and found.scores is not None:
        export(project.store, written, found.scores)
    shown = found.scores is not None
    results = {**_results(found), "out": written, "dry_run": run.dry_run}
    return Answer(results, lambda console: _show(console, found, out, written), "ok" if shown else "failed", 0 if shown else 1)


def _results(found: Moving) -> dict[str, Any]:
    from predseg.language.time import say_duration, say_instant

    told = plain(replace(found, scores=None, uplift=found.uplift and replace(found.uplift, model=None)))
    moments = {name: None if (at := getattr(found, name)) is None else say_instant(at) for name in ("since", "as_of", "complete_at")}
    told.pop("scores")
    if told["uplift"] is not None:
        told["uplift"].pop("model")
    enough = found.scores is not None
    return {**told, **moments, "within": say_duration(found.within), "enough": enough, "members": found.scores.num_rows if found.scores else None}


def _show(console: Console, found: Moving, out: Path | None, written: Path | None) -> None:
    from predseg.cli.views import count
    from predseg.language.time import say_duration, say_instant

    console.print(f"{found.segment}: {found.design}", soft_wrap=True)
    if found.since is None:
        console.print("no run has seen this design yet: it begins with the next `predseg segment`")
    else:
        watched = f"{found.goal} within {say_duration(found.within)}"
        console.print(f"in force since {say_instant(found.since)}; looked at {say_instant(found.as_of)}: {watched}", soft_wrap=True)
    if found.uplift is None:
        console.print("\nThe groups are not as large as declared, so nothing is learned from them: `predseg experiment` says more.")
        return
    result = found.uplift
    console.print(f"{count(result.customers, 'customer')} watched, {result.treated:,} written to and {result.customers - result.treated:,} held out")
    if result.fifths:
        _show_effects(console, result)
    if found.movers:
        _show_movers(console, found.movers)
    console.print(f"\n{result.verdict}", soft_wrap=True)
    if result.needed is not None:
        console.print(f"if the ranking is as good as it looks, about {result.needed:,} customers in all would show it", soft_wrap=True)
    if found.complete_at is not None:
        waits = count(found.waiting, "more customer")
        console.print(f"{waits} must still be watched, until {say_instant(found.complete_at)}", soft_wrap=True)
    if out is not None:
        console.print(f"wrote {written}" if written else f"nothing was written to {out}")


def _show_effects(console: Console, found: Uplift) -> None:
    from predseg.cli.views import heading, table

    console.print(f"\non average it comes true more often by {_points(found.average)} points ({_between(found.average_interval)}), doubly robust")
    console.print(
        f"Qini {found.qini:.4f} ({found.qini_interval[0]:+.4f} to {found.qini_interval[1]:+.4f}): above 0 the ranking is better than chance"
    )
    heading(console, "fifths of the customers by the effect expected by models that had not learned from them, in points")
    rows = [
        (("highest", "2nd", "3rd", "4th", "lowest")[i], f"{f.customers:,}", _points(f.said), _points(f.found), _between(f.interval))
        for i, f in enumerate(found.fifths)
    ]
    columns = ("fifth", "customers", "expected", "found", "95 % interval")
    console.print(table(columns, rows, columns[1:]))


def _show_movers(console: Console, found: tuple[Mover, ...]) -> None:
    from predseg.cli.views import heading, table

    heading(console, "what tells them apart: the expected effect where it is up to the median, above, and where there is none, in points")
    rows = [(m.feature, m.says, f"{m.weight:.0%}", *("-" if x is None else _points(x) for x in (m.low, m.high, m.missing))) for m in found]
    columns = ("feature", "", "weight", "low", "high", "none")
    console.print(table(columns, rows, columns[2:]))


def _points(value: float) -> str:
    return f"{value * 100:+.1f}"


def _between(interval: tuple[float, float]) -> str:
    return f"{_points(interval[0])} to {_points(interval[1])}"
