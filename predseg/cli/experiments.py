"""The command about experiments: what a holdout or the variants of a segment show so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from predseg.cli.frame import Answer, Run, command, plain
from predseg.cli.options import complete_segments

if TYPE_CHECKING:
    from rich.console import Console

    from predseg.outcomes.experiments import Comparison, Effect, Group, Plan, Result
    from predseg.outcomes.projects import Trial

Name = Annotated[str, typer.Argument(metavar="NAME", help="A segment.", autocompletion=complete_segments)]
Goal = Annotated[str | None, typer.Option("--goal", metavar="EVENT", help="What is hoped for; else what the first model predicts.")]


@command("experiment", "predseg experiment win_back", "predseg experiment win_back --within 14d --detect 5%")
def experiment(
    run: Run,
    name: Name,
    goal: Goal = None,
    within: Annotated[str, typer.Option("--within", metavar="DURATION", help="How long each customer is watched.")] = "30 days",
    since: Annotated[str | None, typer.Option("--since", metavar="INSTANT", help="Only customers from then on.")] = None,
    detect: Annotated[str, typer.Option("--detect", metavar="SHARE", help="The relative effect that should be seen.")] = "10%",
    rate: Annotated[str | None, typer.Option("--rate", metavar="SHARE", help="The rate to plan with; else what was seen.")] = None,
) -> Answer:
    """Say what a holdout or a split of a segment shows, and how many customers it needs."""
    from predseg.cli.options import duration, share
    from predseg.moment import instant
    from predseg.outcomes.projects import Outlook, trial

    project = run.project()
    found = trial(
        Outlook(project.segments(), project.moment(run.as_of)),
        name,
        goal=goal,
        within=duration("--within", within),
        since=None if since is None else instant(since, "--since"),
        detect=share("--detect", detect),
        rate=None if rate is None else share("--rate", rate),
    )
    withheld = found.result is not None and found.result.withheld
    return Answer(_results(found), lambda console: _show(console, found), "failed" if withheld else "ok", 1 if withheld else 0)


def _results(found: Trial) -> dict[str, Any]:
    from predseg.language.time import say_duration, say_instant

    since = None if found.since is None else say_instant(found.since)
    return {**plain(found), "since": since, "as_of": say_instant(found.as_of), "within": say_duration(found.within)}


def _show(console: Console, found: Trial) -> None:
    from predseg.language.time import say_duration, say_instant

    console.print(f"{found.segment}: {found.design}", soft_wrap=True)
    if found.since is None:
        console.print("no run has seen this design yet: it begins with the next `predseg segment`")
    else:
        watched = f"{found.goal} within {say_duration(found.within)}"
        console.print(f"in force since {say_instant(found.since)}; looked at {say_instant(found.as_of)}: {watched}\n", soft_wrap=True)
    if found.result is not None:
        _show_result(console, found.result, found.goal)
    elif found.since is not None:
        console.print("nobody is in it yet")
    if found.plan is not None:
        _show_plan(console, found.plan)
    elif found.result is not None and max(group.share for group in found.result.groups) == 1:
        console.print("\neverybody is in one group: there is nobody to compare with")
    else:
        console.print("\nhow many it needs cannot be said: nobody's time is over yet; name a rate to plan with, such as --rate 4%")


def _show_result(console: Console, found: Result, goal: str) -> None:
    from predseg.cli.views import count, table

    columns = ("group", "share", "of all", "watched", "did", "rate", "95 % interval", "value each")
    total = sum(group.assigned for group in found.groups)
    console.print(table(columns, [_row(group, total) for group in found.groups], columns[1:]))
    console.print(f"\n{goal} is what they did; {count(found.waiting, 'more customer')} must still be watched")
    if found.p_shares is not None:
        odds = f"chance brings such shares about in {found.p_shares:.2%} of experiments"
        if found.withheld:
            console.print(f"\nThe groups are not as large as declared: {odds}. Something takes customers out of a group or")
            console.print("puts them in, so a comparison would compare that, and none is made. Look for a filter, a lost export or merged ids.")
            return
        console.print(f"the groups are as large as declared ({odds})")
    for comparison in found.comparisons:
        _show_comparison(console, comparison)


def _row(group: Group, total: int) -> tuple[str, ...]:
    low, high = group.interval
    known = group.rate is not None
    return (
        group.name,
        f"{group.share:.1%}",
        f"{group.assigned / total:.1%}" if total else "-",
        f"{group.customers:,}",
        f"{group.did:,}",
        f"{group.rate:.2%}" if known else "-",
        f"{low:.2%} to {high:.2%}" if known else "-",
        f"{group.value:,.2f}" if group.value is not None else "-",
    )


def _show_comparison(console: Console, found: Comparison) -> None:
    from predseg.cli.views import heading, table

    heading(console, f"{found.group} against {found.base}")
    rows = [_effect("rate, in points", found.did, 100)]
    if found.value is not None:
        rows.append(_effect("value each", found.value))
    if found.adjusted is not None and found.spared is not None and found.spared > 0.01:
        rows.append(_effect("value each, without what was known before", found.adjusted))
    console.print(table(("", "difference", "at one look", "at any look", "ratio", "p"), rows, ("difference", "ratio", "p")))
    if found.spared is not None and found.spared > 0.01:
        console.print(f"what was spent before explains {found.spared:.0%} of the variance of value")
    console.print(f"\n{found.verdict}", soft_wrap=True)
    if found.sees is not None:
        console.print(f"so many customers show a rate of {found.sees:.2%} or more in 4 of 5 experiments")


def _effect(what: str, effect: Effect, times: float = 1.0) -> tuple[str, ...]:
    def ends(interval: tuple[float, float] | None) -> str:
        return "-" if interval is None else f"{interval[0] * times:+,.2f} to {interval[1] * times:+,.2f}"

    ratio = "-" if effect.ratio is None or effect.ratio_interval is None else f"{effect.ratio:.2f} ({_bounds(effect.ratio_interval)})"
    return what, f"{effect.difference * times:+,.2f}", ends(effect.interval), ends(effect.always), ratio, f"{effect.p:.3f}"


def _bounds(interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{low:.2f} to {high:.2f}" if high < 1000 else f"over {low:.2f}"


def _show_plan(console: Console, found: Plan) -> None:
    groups = ", ".join(f"{number:,} in {name}" for name, number in found.customers.items())
    console.print(f"\nto see {found.target:.2%} beside {found.rate:.2%} in 4 of 5 experiments it takes {groups}", soft_wrap=True)
    if found.days is not None:
        console.print(f"at {found.per_day:,.1f} customers a day that is {found.days:,.0f} days")
