"""The command about pseudonyms: another name for everybody."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from predseg.cli.frame import Answer, Run, command, plain
from predseg.cli.people import write_private


class Pseudonyms(StrEnum):
    """What `predseg pseudonyms` does."""

    ROTATE = "rotate"


@command("pseudonyms", "predseg pseudonyms rotate --dry-run", "predseg pseudonyms rotate --map names.csv")
def pseudonyms(
    run: Run,
    _: Annotated[Pseudonyms, typer.Argument(metavar="ACTION", help="rotate: after a key was added to `pseudonymize`, name everybody anew.")],
    reassign: Annotated[bool, typer.Option("--reassign", help="Let what is tried out begin anew: other customers are held out then.")] = False,
    out: Annotated[
        Path | None, typer.Option("--map", metavar="FILE", help="Write old and new names as CSV, for other systems and for your eyes only.")
    ] = None,
) -> Answer:
    """Give everybody in the store another pseudonym."""
    from predseg.errors import UsageError
    from predseg.history.quarantine import with_replayed
    from predseg.live.handover import hand_over
    from predseg.moment import clock
    from predseg.segments.definitions import load_segments
    from predseg.segments.designs import begin_anew

    project = run.project()
    trying = [segment for segment in load_segments(project.config).values() if segment.experiment is not None]
    if trying and not (reassign or run.dry_run):
        names = ", ".join(segment.name for segment in trying)
        remedy = "look at them with `predseg experiment`, then take them out of the rules, or let them begin anew with --reassign"
        raise UsageError("E244", names, "who is held out and who gets which variant is drawn by the name, and would be drawn anew", remedy)

    def told(pairs: Mapping[str, str]) -> None:
        begin_anew(project.store, trying, clock())
        if out is not None:
            write_private(out, "\n".join(["old,new", *(f"{old},{new}" for old, new in pairs.items())]))

    found = project.people.names_anew(with_replayed(hand_over(project.config, dry_run=run.dry_run)), told, dry_run=run.dry_run)
    results = {"renamed": None if found is None else plain(found), "begun_anew": [s.name for s in trying] if found else [], "dry_run": run.dry_run}

    def show(console: Any) -> None:
        if found is None:
            console.print("everybody has the pseudonym that the keys make; nothing was done")
        elif run.dry_run:
            console.print(f"{found.names:,} names would be changed\n\ndry run: nothing was written")
        else:
            console.print(f"{found.names:,} names were changed, in every table, the database and {len(found.files)} exported files")
            console.print("keep all keys, in their order. Exports that others took over still have the old names")
        for path, why in (found.unreachable if found else {}).items():
            console.print(f"{path} {why}: write it anew", soft_wrap=True)

    return Answer(results, show, "failed" if found and found.unreachable else "ok", 1 if found and found.unreachable else 0)
