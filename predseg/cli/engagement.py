"""The command about engagement: what members of segments do with what they are sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from predseg.cli.frame import Answer, Run, command, plain
from predseg.cli.options import Exclude, Select, complete_segments, narrowed
from predseg.errors import UsageError, nearest

if TYPE_CHECKING:
    from rich.console import Console

    from predseg.outcomes.engagement import Engaged, Engagement, Figures, Rate

BY = ("segment", "campaign", "period")
Names = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME]...", help="Segments; all of them when none is named.", autocompletion=complete_segments)
]
_COLUMNS = ("delivered", "opened", "clicked", "CTR (95 %)", "of opens", "orders", "revenue", "left")


@command("engagement", "predseg engagement", "predseg engagement abandoned_cart --by campaign", "predseg engagement --by period --last 90d")
def engagement(
    run: Run,
    names: Names = None,
    by: Annotated[str, typer.Option("--by", metavar="WHAT", help="A row per segment, campaign or period.")] = "segment",
    last: Annotated[str, typer.Option("--last", metavar="DURATION", help="How far back deliveries count.")] = "1 year",
    goal: Annotated[str | None, typer.Option("--goal", metavar="EVENT", help="What converts; else what the first model predicts.")] = None,
    within: Annotated[str | None, typer.Option("--within", metavar="DURATION", help="How long after a delivery; else 7 days.")] = None,
    select: Select = None,
    exclude: Exclude = None,
) -> Answer:
    """Say who opened, clicked and bought, by segment at the moment of sending, and where the click rate is low."""
    from predseg.cli.options import duration
    from predseg.outcomes.projects import Outlook, engaged

    if by not in BY:
        raise UsageError("E227", "--by", f"there is no table by {by!r}", nearest(by, BY))
    project = run.project()
    workspace, as_of = project.segments(), project.moment(run.as_of)
    names = narrowed(project.config, "segment", names, select, exclude, workspace.segments)
    length = None if within is None else duration("--within", within)
    found = engaged(Outlook(workspace, as_of), names or (), last=duration("--last", last), goal=goal, within=length)
    return Answer(_results(found), lambda console: _show(console, found, by))


def _results(found: Engagement) -> dict[str, Any]:
    from predseg.language.time import say_instant

    def said(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: say_instant(v) if key in _INSTANTS and v is not None else said(v) for key, v in value.items()}
        return [said(v) for v in value] if isinstance(value, list) else value

    return dict(said(plain(found)))


_INSTANTS = ("since", "as_of", "first", "last", "start", "end", "at", "recorded")


def _show(console: Console, found: Engagement, by: str) -> None:
    from predseg.cli.views import heading, table

    if by == "segment":
        console.print(table(("segment", *_COLUMNS), [(e.segment, *_figures(e.figures)) for e in found.segments], _COLUMNS))
    for one in found.segments if by != "segment" else ():
        heading(console, one.segment)
        console.print(table((by, *_COLUMNS), _rows(one, by), _COLUMNS))
    _notes(console, found)


def _rows(one: Engaged, by: str) -> list[tuple[str, ...]]:
    if by == "campaign":
        return [(c.campaign or "(none)", *_figures(c.figures)) for c in one.campaigns]
    return [(f"from {_day(p.start)}", *_figures(p.figures)) for p in one.periods]


def _figures(f: Figures) -> tuple[str, ...]:
    opened = f"{f.opened / f.delivered:.1%}" if f.delivered else "-"
    shown = (f"{f.delivered:,}", opened, f"{f.clicked:,}", _interval(f.ctr), _percent(f.click_to_open))
    return (*shown, f"{f.orders:,}", f"{f.revenue:,.0f}", f"{f.unsubscribed + f.complained:,}")


def _percent(rate: Rate) -> str:
    return "-" if rate.value is None else f"{rate.value:.1%}"


def _interval(rate: Rate) -> str:
    return "-" if rate.value is None else f"{rate.value:.1%} ({100 * rate.low:.1f}-{100 * rate.high:.1f})"


def _day(instant: int) -> str:
    from predseg.language.time import say_instant

    return say_instant(instant)[:10]


def _notes(console: Console, found: Engagement) -> None:
    from predseg.cli.views import count

    whole = found.segments[0].figures
    console.print(f"\ndeliveries from {_day(found.since)} to {_day(found.as_of)}; a segment counts who was a member when the message arrived")
    console.print("orders and revenue followed a delivery, not always because of it: to know that, hold some customers out")
    console.print(
        f"left: unsubscribed ({whole.unsubscribed:,}) or marked as spam ({whole.complained:,}); of opens: clicked, of those opened by a person"
    )
    if whole.machine:
        console.print(f"{count(whole.machine, 'message')} opened by machines only, as far as can be told")
    if found.recorded is None:
        console.print("no memberships are recorded yet: run `predseg segment`, or fill in the past with `predseg segment --from INSTANT`")
    elif found.recorded > found.since:
        console.print(f"memberships are recorded since {_day(found.recorded)} only: earlier deliveries count for everyone alone")
    for one in found.segments:
        for turn in one.turns:
            verb = "fell" if turn.after < turn.before else "rose"
            console.print(f"{one.segment}: in the week of {_day(turn.at)} the click rate {verb} from {turn.before:.1%} to {turn.after:.1%}")
    for w in found.warnings:
        console.print(
            f"low: {w.segment} has a click rate of {_percent(w.ctr)} in the last period, {w.against} {_percent(w.other)} (p = {w.p:.4f})",
            soft_wrap=True,
        )
    if any(w.segment != "everyone" for w in found.warnings):
        console.print("next: predseg tune NAME")
