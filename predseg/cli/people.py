"""The commands about people: what they said no to."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from predseg.cli.frame import Answer, Run, command

if TYPE_CHECKING:
    from predseg.project import Project


class OptOut(StrEnum):
    """What `predseg optout` does."""

    ADD = "add"
    REMOVE = "remove"
    LIST = "list"


@command("optout", "predseg optout add c000017 --purpose email_marketing", "predseg optout add --from no_thanks.txt", "predseg optout list c000017")
def optout(
    run: Run,
    action: Annotated[OptOut, typer.Argument(metavar="ACTION", help="add: they said no; remove: yes again; list: who said what.")],
    customers: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Customers.")] = None,
    purpose: Annotated[
        list[str] | None, typer.Option("--purpose", metavar="NAME", help="Only this purpose, may be repeated; else every one.")
    ] = None,
    source: Annotated[Path | None, typer.Option("--from", metavar="FILE", help="Also the customers of a text file, one a line.")] = None,
) -> Answer:
    """Note who must not be written to, learned from or scored."""
    project = run.project()
    named = _named(customers or [], source)
    purposes = _purposes(project, purpose or [])
    if action is OptOut.LIST:
        return _listed(run, project, named)
    return _said(run, project, named, purposes, action is OptOut.ADD)


def _named(customers: list[str], source: Path | None) -> list[str]:
    from predseg.errors import UsageError

    lines: list[str] = []
    if source is not None:
        try:
            lines = source.read_text("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError("E240", str(source), f"cannot be read: {error}", "name a text file with one customer_id a line") from None
    return list(dict.fromkeys(name.strip() for name in (*customers, *lines) if name.strip()))


def _purposes(project: Project, given: list[str]) -> list[str]:
    from predseg.errors import UsageError
    from predseg.language.consent import EVERY, purpose_name

    known = project.config.consent.known
    return [purpose_name(name, "--purpose", known, UsageError, "E241") for name in given if name != EVERY] or [EVERY]


def _said(run: Run, project: Project, customers: list[str], purposes: list[str], out: bool) -> Answer:
    from predseg.errors import UsageError
    from predseg.history import privacy
    from predseg.project import clock

    if not customers:
        raise UsageError("E240", "optout", "no customer is named", "predseg optout add ID..., or --from FILE")
    with project.consent(dry_run=run.dry_run) as (connection, _):
        changed = privacy.say(connection, customers, purposes, clock(), out=out, origin=privacy.COMMAND)
        still = [] if out else [c for c in customers if any(privacy.opted_out(connection, c, _asked(p)) for p in purposes)]
    for customer in still[:5]:
        run.note(f"warning: {customer} is still opted out: the file of opt-outs has a line about them, take it out there")
    results = {"customers": len(customers), "purposes": purposes, "changed": changed, "still_opted_out": len(still), "dry_run": run.dry_run}

    def show(console: Any) -> None:
        verb = "opted out of" if out else "may be asked again for"
        console.print(f"{len(customers):,} {'customer' if len(customers) == 1 else 'customers'} {verb} {_say(purposes)}")
        console.print("dry run: nothing was written" if run.dry_run else "it holds from now on, in every export, message, training and scoring")

    return Answer(results, show, "failed" if still else "ok", 1 if still else 0)


def _asked(purpose: str) -> str | None:
    return None if purpose == "*" else purpose


def _say(purposes: list[str]) -> str:
    return "every purpose" if purposes == ["*"] else ", ".join(purposes)


def _listed(run: Run, project: Project, customers: list[str]) -> Answer:
    from predseg.history import privacy

    with project.consent(dry_run=run.dry_run) as (connection, _):
        counts = privacy.counts(connection)
        said = {customer: _statements(privacy.purposes_of(connection, customer)) for customer in customers}
        refused = {c: {p: privacy.opted_out(connection, c, p) for p in project.config.consent.known} for c in customers}
    totals = [{"purpose": purpose, "from": origin, "persons": number} for (purpose, origin), number in counts.items()]
    people = [{"customer_id": c, "opted_out": [p for p, no in refused[c].items() if no], "said": said[c]} for c in customers]
    return Answer({"opted_out": totals} | ({"customers": people} if customers else {}), lambda console: _show(console, totals, people))


def _statements(found: list[tuple[str, str, int, bool]]) -> list[dict[str, Any]]:
    from predseg.history.privacy import ALWAYS
    from predseg.language.time import say_instant

    return [{"purpose": p, "from": origin, "at": None if at == ALWAYS else say_instant(at), "opted_out": out} for p, origin, at, out in found]


def _show(console: Any, totals: list[dict[str, Any]], people: list[dict[str, Any]]) -> None:
    from predseg.cli.views import table

    if not totals:
        console.print("nobody has opted out")
    else:
        console.print(
            table(("purpose", "said in", "persons"), [(_say([t["purpose"]]), t["from"], f"{t['persons']:,}") for t in totals], ("persons",))
        )
        console.print("\nthe list holds keyed hashes, no ids: predseg optout list ID looks one up")
    for one in people:
        console.print(f"\n{one['customer_id']}: {'opted out of ' + ', '.join(one['opted_out']) if one['opted_out'] else 'has not opted out'}")
        for s in one["said"]:
            console.print(
                f"  {s['at'] or 'as long as it stands there'}  {'no' if s['opted_out'] else 'yes'} to {_say([s['purpose']])}, by {s['from']}"
            )
