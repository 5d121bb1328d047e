"""The command that looks for a better threshold, window or layer of a rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from predseg.cli.frame import Answer, Run, command, plain
from predseg.cli.options import complete_segments
from predseg.errors import UsageError, nearest

if TYPE_CHECKING:
    from rich.console import Console

    from predseg.outcomes.tuning import Candidate, Part, Tuning

SHOWN = 12


@command("tune", "predseg tune win_back", "predseg tune win_back --for conversions --within 30d --keep 70%")
def tune(
    run: Run,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A segment.", autocompletion=complete_segments)],
    aim: Annotated[str, typer.Option("--for", metavar="WHAT", help="clicks (of messages) or conversions (of members).")] = "clicks",
    last: Annotated[str, typer.Option("--last", metavar="DURATION", help="How far back to look.")] = "1 year",
    keep: Annotated[str, typer.Option("--keep", metavar="SHARE", help="A change must keep this share of the reach.")] = "50%",
    goal: Annotated[str | None, typer.Option("--goal", metavar="EVENT", help="What converts; else what the first model predicts.")] = None,
    within: Annotated[str, typer.Option("--within", metavar="DURATION", help="How long after a moment it converts.")] = "30 days",
) -> Answer:
    """Say which threshold, window or layer would have raised the rate, tested on a later part of history."""
    from predseg.cli.options import duration, share
    from predseg.language.time import say_instant
    from predseg.outcomes.projects import CLICKS, CONVERSIONS, tuned

    if aim not in (CLICKS, CONVERSIONS):
        raise UsageError("E229", "--for", f"nothing can be tuned for {aim!r}", nearest(aim, (CLICKS, CONVERSIONS)))
    project = run.project()
    workspace, as_of = project.segments(), project.moment(run.as_of)
    lengths = {"last": duration("--last", last), "within": duration("--within", within)}
    found = tuned(workspace, name, as_of, aim=aim, goal=goal, keep=share("--keep", keep), **lengths)
    moments = {key: say_instant(getattr(found, key)) for key in ("split", "first", "last")}
    return Answer({**plain(found), **moments}, lambda console: _show(console, found, aim))


def _show(console: Console, found: Tuning, aim: str) -> None:
    from predseg.cli.views import heading, table
    from predseg.language.time import say_instant

    first, split, last = (say_instant(t)[:10] for t in (found.first, found.split, found.last))
    what = "clicks of deliveries to members" if aim == "clicks" else "members who converted"
    console.print(f"{found.segment}: {what}; looked for from {first} to {split}, tested from then to {last}\n", soft_wrap=True)
    tested = [candidate for candidate in found.candidates if candidate.tested is not None]
    others = [candidate for candidate in found.candidates if candidate.tested is None]
    rows = [_row(candidate) for candidate in (*tested, *others[: max(SHOWN - len(tested), 0)])]
    columns = ("rate", "reach", "rate later", "better by, in points", "change")
    now = (_rate(found.searched), f"{found.searched.tried:,}", _rate(found.tested), "", "as it is")
    console.print(table(columns, [now, *rows], columns[:4]))
    if len(found.candidates) > SHOWN:
        console.print(f"and {len(found.candidates) - SHOWN:,} more: --json")
    if not found.searched.tried:
        console.print("\nthe rule had no members then; rules that ask for scores have none from before the first `predseg score`")
    elif found.proposal is None:
        console.print("\nno change holds up in the later part: leave the rule as it is")
    else:
        heading(console, f"proposal: {found.proposal.says}")
        console.print(found.proposal.diff, soft_wrap=True)
        console.print(
            f"\nit keeps {found.proposal.size:.0%} of the reach. nothing was changed; next: edit the rule, then predseg test {found.segment}"
        )


def _rate(part: Part) -> str:
    return "-" if part.rate is None else f"{part.rate:.2%}"


def _row(candidate: Candidate) -> tuple[str, ...]:
    better = ""
    if candidate.interval is not None and candidate.difference is not None:
        low, high = candidate.interval
        better = f"{100 * candidate.difference:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"
    says = f"{candidate.says}{' (holds)' if candidate.holds else ''}"
    return (_rate(candidate.searched), f"{candidate.size:.0%}", "" if candidate.tested is None else _rate(candidate.tested), better, says)
