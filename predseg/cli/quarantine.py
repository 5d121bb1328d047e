"""The command about rows that broke the contract: what they are, once more through the contract, or never again."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from predseg.cli.frame import Answer, Run, command, plain

if TYPE_CHECKING:
    import pyarrow as pa

    from predseg.errors import DataError
    from predseg.history.quarantine import Group, Replayed
    from predseg.project import Project

LONGEST = 120
"""Characters of a row that are shown."""


class Verb(StrEnum):
    """What `predseg quarantine` does."""

    LIST = "list"
    REPLAY = "replay"
    DROP = "drop"


@command(
    "quarantine",
    "predseg quarantine",
    "predseg quarantine list --source orders --out bad.jsonl",
    "predseg quarantine replay --source orders",
    'predseg quarantine drop --reason "customer_id is missing"',
)
def quarantine(
    run: Run,
    action: Annotated[
        Verb, typer.Argument(metavar="[list|replay|drop]", help="list: look; replay: let them through the contract again; drop: leave them away.")
    ] = Verb.LIST,
    source: Annotated[list[str] | None, typer.Option("--source", metavar="NAME", help="Only rows of this source; may be repeated.")] = None,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Only rows whose field and reason have this text.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Drop all of them.")] = False,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="List: also write the rows to .parquet, .csv or .jsonl.")] = None,
) -> Answer:
    """Show the rows that broke the contract, replay them after a correction of the project file, or drop them."""
    project = run.project()
    chosen = _chosen(project, source or [], reason)
    if action is Verb.LIST:
        return _listed(run, project, chosen, out)
    return _replay(run, project, chosen) if action is Verb.REPLAY else _drop(run, project, chosen, bool(source or reason) or everything)


def _chosen(project: Project, names: Sequence[str], reason: str | None) -> pa.Table:
    from predseg.errors import UsageError, nearest
    from predseg.history import quarantine

    known = sorted({*quarantine.rows(project.store)["source"].to_pylist(), *project.config.sources})
    for name in names:
        if name not in known:
            raise UsageError("E284", "--source", f"no source is called {name!r}", nearest(name, known))
    return quarantine.rows(project.store, names, reason)


def _listed(run: Run, project: Project, chosen: pa.Table, out: Path | None) -> Answer:
    from predseg.history import exports, quarantine

    groups = quarantine.groups(chosen)
    if out is not None and not run.dry_run:
        exports.export(project.store, out, chosen)
    results = {"rows": len(chosen), "groups": plain(groups), "out": out, "dry_run": run.dry_run}
    return Answer(results, lambda console: _show(console, groups, len(chosen), None if run.dry_run else out))


def _show(console: Any, groups: Sequence[Group], number: int, out: Path | None) -> None:
    from predseg.cli.frame import printable
    from predseg.cli.views import count, table

    if not groups:
        console.print("nothing is in quarantine; predseg check reads the sources")
        return
    console.print(table(("source", "field", "reason", "rows"), [(g.source, g.field, g.reason, f"{g.rows:,}") for g in groups], ("rows",)))
    for g in groups:
        console.print(f"\n{g.source}: {g.field} {g.reason}, such as", markup=False, soft_wrap=True)
        for raw in g.samples:
            console.print("  " + printable(raw if len(raw) <= LONGEST else raw[:LONGEST] + "..."), markup=False, highlight=False, soft_wrap=True)
    console.print(f"\n{count(number, 'row')} written to {out}" if out is not None else f"\n{count(number, 'row')} in quarantine")
    console.print("next: correct the project file, then predseg quarantine replay; what nobody wants: predseg quarantine drop")


def _replay(run: Run, project: Project, chosen: pa.Table) -> Answer:
    from predseg.history import quarantine
    from predseg.moment import clock

    persons = project.people.persons(dry_run=run.dry_run)
    found = quarantine.replay(project.config, project.store, chosen, now=clock(), persons=persons, dry_run=run.dry_run)
    elsewhere = quarantine.elsewhere(chosen["source"].to_pylist(), project.config)
    now, error = _read(run, project)
    results = {"rows": len(chosen), "replayed": found, "not_replayed": elsewhere, "in_quarantine": now, "dry_run": run.dry_run}
    return Answer(results, lambda console: _show_replayed(console, found, elsewhere, now, run.dry_run), "failed" if error else "ok", error=error)


def _read(run: Run, project: Project) -> tuple[int, DataError | None]:
    """Bring the events up to date; return how many rows are in quarantine, and why the data are refused, when there are too many."""
    from predseg.errors import DataError
    from predseg.history import quarantine

    error = None
    try:
        if not run.dry_run:
            project.check()
    except DataError as refusal:
        if refusal.code != "E409":
            raise
        error = refusal
    return len(quarantine.rows(project.store)), error


def _show_replayed(console: Any, found: Sequence[Replayed], elsewhere: dict[str, str], now: int, dry_run: bool) -> None:
    from predseg.cli.views import count, table

    columns = ("rows", "pass now", "of these new", "still bad", "of the forgotten", "not as the source is now")
    if found:
        lines = [(r.source, *(f"{n:,}" for n in (r.rows, r.passed, r.new, r.bad, r.suppressed, r.unlike))) for r in found]
        console.print(table(("source", *columns), lines, columns))
    for r in found:
        for reason, number in r.reasons.items():
            console.print(f"  {r.source}: {count(number, 'row')}: {reason}", markup=False, soft_wrap=True)
    for name, why in elsewhere.items():
        console.print(f"  {name}: {why}", markup=False, soft_wrap=True)
    if not found and not elsewhere:
        console.print("no such row is in quarantine")
    console.print("\ndry run: nothing was written" if dry_run else f"\n{count(now, 'row')} in quarantine now")


def _drop(run: Run, project: Project, chosen: pa.Table, named: bool) -> Answer:
    from predseg.cli.views import count
    from predseg.errors import UsageError
    from predseg.history import quarantine

    if not named:
        raise UsageError("E283", "quarantine drop", "nothing is named", "predseg quarantine drop --source NAME, --reason TEXT, or --all")
    dropped = {} if run.dry_run else quarantine.drop(project.people, project.store, chosen)
    now, error = _read(run, project)

    def show(console: Any) -> None:
        would = "would be dropped" if run.dry_run else "dropped; they are left away as long as they break the contract"
        console.print(f"{count(len(chosen) if run.dry_run else sum(dropped.values()), 'row')} {would}")
        console.print(f"{count(now, 'row')} in quarantine now")

    results = {"rows": len(chosen), "dropped": dropped, "in_quarantine": now, "dry_run": run.dry_run}
    return Answer(results, show, "failed" if error else "ok", error=error)
