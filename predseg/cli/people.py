"""The commands about people: what they said no to."""

from __future__ import annotations

import sqlite3
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from predseg.cli.frame import Answer, Run, command, plain

if TYPE_CHECKING:
    from predseg.project import Project


WAY = 60
"""Seconds that a message is on its way at most; one that is longer was left by a sender that died, and is asked about anew."""


class OptOut(StrEnum):
    """What `predseg optout` does."""

    ADD = "add"
    REMOVE = "remove"
    LIST = "list"


class Subject(StrEnum):
    """What `predseg subject` does."""

    EXPORT = "export"


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
    if len(project.config.pseudonymize) > 1 and named and not run.dry_run:
        project.people.recognise(named)
    if action is OptOut.LIST:
        return _listed(run, project, named)
    return _said(run, project, _required(named, "optout add"), purposes, action is OptOut.ADD)


@command("forget", "predseg forget c000017", "predseg forget --from forget.txt --dry-run")
def forget(
    run: Run,
    customers: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Customers.")] = None,
    source: Annotated[Path | None, typer.Option("--from", metavar="FILE", help="Also the customers of a text file, one a line.")] = None,
    lift: Annotated[bool, typer.Option("--lift", help="Let them come in again; what was erased is not brought back.")] = False,
) -> Answer:
    """Erase persons from everything in the store and every file that left it, and keep them out."""
    project = run.project()
    named = _required(_named(customers or [], source), "forget")
    if lift:
        return _lifted(project, named, run.dry_run)
    found = project.forget(named, dry_run=run.dry_run)
    results = {"customers": len(named), **plain(found), "dry_run": run.dry_run}
    sources = [str(name) for name in project.config.sources] + (["customers"] if project.config.customers else [])

    def show(console: Any) -> None:
        from predseg.cli.views import table

        lines = [(name, f"{number:,}") for name, number in (*found.rows.items(), *found.files.items())]
        console.print(table(("held in", "rows"), lines, ("rows",)) if lines else "nothing was held about them")
        for path, why in found.unreachable.items():
            console.print(f"\n{path} {why}: look into it yourself", soft_wrap=True)
        console.print("\ndry run: nothing was erased" if run.dry_run else "\nerased, and whatever a source brings of them again is left away")
        if sources:
            console.print(f"the sources themselves are yours and were not touched: {', '.join(sources)}")

    return Answer(results, show, "failed" if found.unreachable else "ok", 1 if found.unreachable else 0)


def _lifted(project: Project, customers: list[str], dry_run: bool) -> Answer:
    from predseg.history import privacy
    from predseg.history.keys import generations

    names = [name for customer in customers for name in generations(customer, project.people.names())]
    with project.people.consent(dry_run=dry_run) as (connection, _):
        lifted = privacy.remember(connection, dict.fromkeys(names))
    return Answer(
        {"lifted": lifted, "dry_run": dry_run},
        lambda console: console.print(f"{lifted:,} of {len(customers):,} were forgotten; they may come in again"),
    )


@command("subject", "predseg subject export c000017", "predseg subject export c000017 --out c000017.json")
def subject(
    run: Run,
    _: Annotated[Subject, typer.Argument(metavar="ACTION", help="export: everything that is held, as JSON.")],
    customer: Annotated[str, typer.Argument(metavar="ID", help="A customer.")],
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write it to a file that only you can read.")] = None,
) -> Answer:
    """Give everything that is held about a person."""
    import json

    from predseg.formats import as_json

    found = run.project().people.subject(customer)
    text = json.dumps(json.loads(as_json(found)), ensure_ascii=False, indent=1)
    if out is not None and not run.dry_run:
        write_private(out, text)
    counts = {name: len(rows) for name, rows in found["held"].items()}
    results = {"out": out, "rows": counts} if out is not None else {"subject": json.loads(text)}
    return Answer(results, lambda console: typer.echo(text if out is None else f"{sum(counts.values()):,} rows written to {out}"))


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read."""
    import os

    from predseg.disks import disk_errors, replaced

    def private(name: str, flags: int) -> int:
        return os.open(name, flags, 0o600)

    with disk_errors(path), replaced(path) as aside, open(aside, "x", encoding="utf-8", opener=private) as file:
        file.write(text + "\n")


def _required(customers: list[str], command: str) -> list[str]:
    from predseg.errors import UsageError

    if not customers:
        raise UsageError("E240", command, "no customer is named", f"predseg {command} ID..., or --from FILE")
    return customers


def _named(customers: list[str], source: Path | None) -> list[str]:
    from predseg.errors import UsageError

    lines: list[str] = []
    if source is not None:
        try:
            lines = source.read_text("utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError("E240", str(source), f"cannot be read: {error}", "name a text file with one customer_id a line") from None
    return list(dict.fromkeys(name.strip() for name in (*customers, *lines) if name.strip()))


def _purposes(project: Project, given: list[str]) -> list[str]:
    from predseg.errors import UsageError
    from predseg.language.consent import EVERY, purpose_name

    known = project.config.consent.known
    return [purpose_name(name, "--purpose", known, UsageError, "E241") for name in given if name != EVERY] or [EVERY]


def _said(run: Run, project: Project, customers: list[str], purposes: list[str], out: bool) -> Answer:
    from predseg.history import privacy
    from predseg.moment import clock

    with project.people.consent(dry_run=run.dry_run) as (connection, _):
        changed = privacy.say(connection, customers, purposes, clock(), out=out, origin=privacy.COMMAND)
        if out and not run.dry_run:
            _wait_for_the_way(connection, [project.people.customer(c) for c in customers])
        still = [] if out else [c for c in customers if any(privacy.opted_out(connection, c, _asked(p)) for p in purposes)]
    for customer in still[:5]:
        run.note(f"warning: {customer} is still opted out: the file of opt-outs has a line about them, take it out there")
    results = {"customers": len(customers), "purposes": purposes, "changed": changed, "still_opted_out": len(still), "dry_run": run.dry_run}

    def show(console: Any) -> None:
        verb = "opted out of" if out else "may be asked again for"
        console.print(f"{len(customers):,} {'customer' if len(customers) == 1 else 'customers'} {verb} {_say(purposes)}")
        console.print("dry run: nothing was written" if run.dry_run else "it holds from now on, in every export, message, training and scoring")

    return Answer(results, show, "failed" if still else "ok", 1 if still else 0)


def _wait_for_the_way(connection: sqlite3.Connection, customers: list[str]) -> None:
    """Say that a no holds only when no message is on its way any more: it was claimed before the no was written."""
    import time

    from predseg.activation import claims, outbox

    outbox.create(connection)
    end = time.monotonic() + WAY
    while any(claims.in_flight(connection, c) for c in customers) and time.monotonic() < end:
        time.sleep(0.05)


def _asked(purpose: str) -> str | None:
    return None if purpose == "*" else purpose


def _say(purposes: list[str]) -> str:
    return "every purpose" if purposes == ["*"] else ", ".join(purposes)


def _listed(run: Run, project: Project, customers: list[str]) -> Answer:
    from predseg.history import privacy

    with project.people.consent(dry_run=run.dry_run) as (connection, _):
        counts = privacy.counts(connection)
        said = {customer: [s.plain() for s in privacy.said_of(connection, customer)] for customer in customers}
        refused = {c: {p: privacy.opted_out(connection, c, p) for p in project.config.consent.known} for c in customers}
    totals = [{"purpose": purpose, "from": origin, "persons": number} for (purpose, origin), number in counts.items()]
    people = [{"customer_id": c, "opted_out": [p for p, no in refused[c].items() if no], "said": said[c]} for c in customers]
    return Answer({"opted_out": totals} | ({"customers": people} if customers else {}), lambda console: _show(console, totals, people))


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
