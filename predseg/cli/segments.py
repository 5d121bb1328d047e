"""The commands about segments: who belongs, how many each condition removes, what a rule would have done."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from predseg.cli.frame import Answer, Run, command, plain
from predseg.cli.options import Exclude, Select, complete_segments, narrowed

if TYPE_CHECKING:
    from predseg.history.audience import Published
    from predseg.project import Project
    from predseg.segments.preview import Preview
    from predseg.segments.replay import Replay
    from predseg.segments.review import Review
    from predseg.segments.workspace import Audience, Workspace

Names = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME]...", help="Segments; all of them when none is named.", autocompletion=complete_segments)
]
OneName = Annotated[str, typer.Argument(metavar="NAME", help="A segment.", autocompletion=complete_segments)]


@command(
    "segment",
    "predseg segment",
    "predseg segment --as-of 2011-12-09T13:00 --out members.csv",
    "predseg segment --from 2011-06-01 --every 7d",
    "predseg segment --select tag:daily",
)
def segment(
    run: Run,
    names: Names = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Also write the members: .parquet, .csv or .jsonl.")] = None,
    describe: Annotated[bool, typer.Option("--describe", help="Only say each rule as one English sentence.")] = False,
    on: Annotated[str | None, typer.Option("--on", metavar="INSTANT", help="Only read who was recorded as a member then; nothing is run.")] = None,
    start: Annotated[str | None, typer.Option("--from", metavar="INSTANT", help="First fill in the past, as if it had been run since then.")] = None,
    every: Annotated[str, typer.Option("--every", metavar="DURATION", help="The time between two runs of the past.")] = "7d",
    publish: Annotated[bool, typer.Option("--publish", help="Also bring the table that `audience:` names up to date.")] = False,
    select: Select = None,
    exclude: Exclude = None,
) -> Answer:
    """Bring segments up to one moment: members, entered, left."""
    from predseg.history.exports import export
    from predseg.moment import AHEAD, clock, recordable

    recordable(run.as_of, unless=run.dry_run or describe or on is not None)
    project, workspace = _open(run)
    names = narrowed(project.config, "segment", names, select, exclude, workspace.segments)
    if describe:
        return _described(workspace, names)
    if on is not None:
        return _recorded(workspace, names, on)
    as_of = project.moment(run.as_of)
    for moment in _past(start, as_of, every) if not run.dry_run else ():
        workspace.run(moment, names or ())
    result = workspace.run(as_of, names or (), write=not run.dry_run)
    audience = workspace.audience(result, names or ())
    if out is not None and not run.dry_run:
        export(workspace.store, out, audience.table)
    notes = workspace.warnings(as_of, names or ())
    published = _published(project, audience, names, result.recorded, run.dry_run) if publish else None
    if result.recorded and as_of > clock() + AHEAD and not run.dry_run:
        notes.append(f"{_say(as_of)} lies ahead of the clock, and no run before it is recorded until then: `predseg doctor --repair` takes it back")
    if not result.recorded:
        later = max(result.ledger.last_run(name) or as_of for name in result.spells)
        notes.append(f"a later run is recorded already, at {_say(later)}, so this one at {_say(as_of)} was computed but not recorded")
        if later > clock() + AHEAD:
            notes.append("that run lies ahead of the clock: `predseg doctor --repair` takes it back")
    for note in notes:
        run.note(f"warning: {note}")
    return _ran(result, audience, None if run.dry_run else out, notes, published)


@command("preview", "predseg preview champions", "predseg preview abandoned_cart --json")
def preview(
    run: Run, name: OneName, exact: Annotated[bool, typer.Option("--exact", help="Never sample, however large the history.")] = False
) -> Answer:
    """Count what each condition of a rule removes, and who can be contacted."""
    project, workspace = _open(run)
    as_of = project.moment(run.as_of)
    found = workspace.preview(name, as_of, exact=exact)
    notes = workspace.warnings(as_of, [name])
    for note in (*notes, *found.warnings):
        run.note(f"warning: {note}")
    return Answer({**_plain(found), "notes": notes}, lambda console: _show_preview(console, found))


@command("replay", "predseg replay champions --from 2011-06-01 --to 2011-12-01 --every 7d")
def replay(
    run: Run,
    name: OneName,
    start: Annotated[str, typer.Option("--from", metavar="INSTANT", help="The first moment.")],
    end: Annotated[str, typer.Option("--to", metavar="INSTANT", help="The last moment.")],
    every: Annotated[str, typer.Option("--every", metavar="DURATION", help="The time between two moments.")] = "1d",
) -> Answer:
    """Say what a rule would have done on history, and what its members did next."""
    from predseg.cli.options import duration
    from predseg.moment import instant

    _, workspace = _open(run)
    result = workspace.replay(name, instant(start, "--from"), instant(end, "--to"), duration("--every", every))
    return Answer(_plain(result), lambda console: _show_replay(console, result))


@command("review", "predseg review", "predseg review --small 500", "predseg review --select tag:carts --write")
def review(
    run: Run,
    names: Names = None,
    small: Annotated[int, typer.Option("--small", metavar="N", help="Fewer members than this are too few.")] = 100,
    write: Annotated[bool, typer.Option("--write", help="Make the proposed edits in the rule files.")] = False,
    select: Select = None,
    exclude: Exclude = None,
) -> Answer:
    """Say which segments are alike, too small, empty or still, and propose edits of the rule files."""
    project, workspace = _open(run)
    names = narrowed(project.config, "segment", names, select, exclude, workspace.segments)
    as_of = project.moment(run.as_of)
    chosen = [workspace.segment(name).name for name in names or ()]
    found = workspace.review(as_of, small=small)  # of all: those that are meant may be like any other
    found = found.about(chosen) if chosen else found
    written = [str(path) for path in workspace.write_rules(found.proposals)] if write and not run.dry_run else []
    return Answer({"as_of": _say(as_of), **_plain(found), "written": written}, lambda console: _show_review(console, found, written))


def _open(run: Run) -> tuple[Project, Workspace]:
    from predseg.segments.definitions import no_segments

    project = run.project()
    workspace = project.segments()
    if not workspace.segments:
        raise no_segments(project.config)
    return project, workspace


def _published(project: Project, audience: Audience, names: list[str] | None, recorded: bool, dry_run: bool) -> Published | None:
    """Bring the table of the audience up to date; what was before a later run is not published."""
    from predseg.errors import UsageError
    from predseg.history.audience import publish

    if project.config.audience is None:
        remedy = "add `audience: {url: postgresql://writer@host/database}` to the project file"
        raise UsageError("E234", "--publish", "the project names no table for its audience", remedy)
    return publish(project.config.audience, audience.table, names, dry_run=dry_run) if recorded or dry_run else None


def _past(start: str | None, as_of: int, every: str) -> range:
    """The moments from ``start`` to before as_of, the last of them a whole step before it."""
    from predseg.cli.options import duration
    from predseg.errors import UsageError
    from predseg.moment import instant

    if start is None:
        return range(0)
    first, step = instant(start, "--from"), duration("--every", every)
    number = max(-(-(as_of - first) // step), 0)
    if number > 10_000:
        raise UsageError("E223", "--from, --every", f"there are {number:,} moments", "ask for at most 10,000")
    return range(as_of - number * step, as_of, step) if number else range(0)


def _described(workspace: Workspace, names: list[str] | None) -> Answer:
    chosen = [workspace.segment(n) for n in names] if names else list(workspace.segments.values())
    sentences = {s.name: s.sentence() for s in chosen}
    return Answer({"segments": sentences}, lambda console: console.print("\n\n".join(sentences.values()), soft_wrap=True))


def _recorded(workspace: Workspace, names: list[str] | None, on: str) -> Answer:
    from predseg.moment import instant

    at, ledger = instant(on, "--on"), workspace.ledger()
    chosen = [workspace.segment(n).name for n in names] if names else list(workspace.segments)
    members = {name: ledger.spells(name).at(at).tolist() for name in chosen}

    def show(console: Any) -> None:
        from predseg.cli.views import table

        console.print(table(("segment", f"members at {_say(at)}"), [(n, f"{len(m):,}") for n, m in members.items()], ("members",)))
        for name in chosen if names else ():
            console.print(f"\n{name}: {', '.join(members[name]) or 'nobody'}", soft_wrap=True)

    return Answer({"at": _say(at), "members": members}, show)


def _ran(result: Any, audience: Audience, out: Path | None, notes: list[str], published: Published | None = None) -> Answer:
    changes = [{"segment": c.segment, "members": c.members, "entered": c.entered, "left": c.left, "definition": c.definition} for c in result.changes]

    def show(console: Any) -> None:
        from predseg.cli.views import table

        lines = [(c["segment"], f"{c['members']:,}", f"{c['entered']:,}", f"{c['left']:,}") for c in changes]
        console.print(table(("segment", "members", "entered", "left"), lines, ("members", "entered", "left")))
        console.print(f"\nat {_say(result.as_of)}; entered and left are counted since the run before")
        if out is not None:
            held = f" and {audience.held_out:,} held out" if audience.held_out else ""
            console.print(f"{audience.table.num_rows:,} rows written to {out}, {audience.opted_out:,} opted-out{held} left away")
        if published is not None:
            console.print(f"audience: {published.added:,} rows added, {published.changed:,} changed, {published.removed:,} removed")
        console.print("next: predseg preview NAME, predseg explain NAME CUSTOMER")

    nodes = {f"segment.{c['segment']}": c["members"] for c in changes}
    left = {"opted_out": audience.opted_out, "held_out": audience.held_out}
    return Answer(
        {"as_of": _say(result.as_of), "recorded": result.recorded, "segments": changes, **left, "published": plain(published), "notes": notes},
        show,
        nodes=nodes,
    )


def _show_preview(console: Any, found: Preview) -> None:
    from predseg.cli.views import table

    about = "" if found.sampled == 1 else f" (estimated from {found.sampled:.0%} of the customers, ± {found.error:,})"
    console.print(f"{found.sentence}\n", soft_wrap=True)
    lines = [("known customers", "", "", f"{found.known:,}")]
    lines += [(s.condition, f"{s.alone:,}", f"-{s.removes:,}", f"{s.remains:,}") for s in found.steps]
    lines += [("opted out", "", f"-{found.opted_out:,}", f"{found.contactable + found.held_out:,}")]
    if found.held_out:
        lines += [("held out", "", f"-{found.held_out:,}", f"{found.contactable:,}")]
    console.print(table(("condition", "true of", "removes", "remain"), lines, ("true of", "removes", "remain")))
    unknown = [f"{s.condition}: unknown of {s.unknown:,}" for s in found.steps if s.unknown]
    console.print(f"\n{found.members:,} members{about}, {found.contactable:,} of them contactable, at {_say(found.as_of)}")
    if found.variants:
        console.print("; ".join(f"{n:,} get {name}" for name, n in found.variants.items()))
    for line in unknown:
        console.print(line, soft_wrap=True)
    if found.before is not None and found.entered is not None:
        console.print(f"the run before had {found.before:,}: {found.entered:,} would enter, {found.left:,} leave")
    for o in found.overlaps:
        console.print(f"{o.share:.0%} are also in {o.segment} ({o.both:,} customers)")


def _show_replay(console: Any, found: Replay) -> None:
    from predseg.cli.views import table

    console.print(f"{found.sentence}\n", soft_wrap=True)
    lines = [(_say(d.at), f"{d.members:,}", f"{d.entered:,}", f"{d.left:,}", f"{d.sent:,}") for d in found.days]
    console.print(table(("moment", "members", "entered", "left", "sent"), lines, ("members", "entered", "left", "sent")))
    console.print(f"\n{found.unique:,} customers were members at one of these moments")
    for overlap in found.overlaps:
        console.print(f"at the end {overlap.share:.0%} are also in {overlap.segment} ({overlap.both:,} customers)")
    after = found.outcome
    if after is not None and after.members and after.others:
        rates = f"{after.members_did / after.members:.1%} of members and {after.others_did / after.others:.1%} of the others"
        console.print(f"{after.model} came true for {rates} ({after.moments} moments with a complete horizon)")


def _show_review(console: Any, found: Review, written: list[str]) -> None:
    from predseg.cli.views import table

    console.print(table(("segment", "members"), [(name, f"{size:,}") for name, size in found.sizes.items()], ("members",)))
    lines = [(p.first, p.second, f"{p.both:,}", f"{p.jaccard:.0%}", f"{p.first_in_second:.0%}", f"{p.second_in_first:.0%}") for p in found.pairs[:10]]
    if lines:
        console.print(
            table(("\nfirst", "\nsecond", "\nboth", "of either", "of first", "of second"), lines, ("\nboth", "of either", "of first", "of second"))
        )
    for finding in found.findings:
        console.print(f"{finding.kind}: {finding.message}", soft_wrap=True)
    for p in found.proposals:
        console.print(f"\nproposal: {p.kind} {' and '.join(p.segments)}: {p.reason}; {p.before:,} members become {p.after:,}", soft_wrap=True)
        console.print(p.diff, soft_wrap=True)
    if not found.findings and not found.proposals:
        console.print("\nnothing to point out")
    if found.proposals:
        console.print(f"\nwritten: {', '.join(written)}" if written else "\nnothing was changed; predseg review --write makes these edits")


def _plain(value: Any) -> dict[str, Any]:
    from dataclasses import asdict

    found = asdict(value)
    if "as_of" in found:
        found["as_of"] = _say(found["as_of"])
    for day in found.get("days", ()):
        day["at"] = _say(day["at"])
    return found


def _say(instant: int) -> str:
    from predseg.language.time import say_instant

    return say_instant(instant)
