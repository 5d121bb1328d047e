"""The command that looks for latent segments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from predseg.cli.frame import Answer, Run, command

if TYPE_CHECKING:
    from predseg.forecast.latent.profiles import Discovery, Persona

TOLD = 4
"""Lines of a profile that are shown; ``--json`` has all."""

ROUGH = 0.6
"""A rule that is right less often is said to be rough."""


@command("discover", "predseg discover", "predseg discover --clusters 4", "predseg discover personas --rename recent_big_spenders=vips")
def discover(
    run: Run,
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="What rules call the clustering.")] = "personas",
    clusters: Annotated[int | None, typer.Option("--clusters", metavar="K", help="So many, however stable; else the number is found.")] = None,
    rename: Annotated[
        list[str] | None, typer.Option("--rename", metavar="OLD=NEW", help="Give a cluster another name; it stays from run to run.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of every random choice.")] = 0,
) -> Answer:
    """Find latent segments: stable clusters, named and described by rules."""
    project = run.project()
    found = project.discover(name, run.as_of, clusters=clusters, renames=_renames(rename or []), seed=seed, dry_run=run.dry_run)
    for note in (*found.notes, *_lost(found)):
        run.note(f"note: {note}")
    failed = found.chosen is None
    return Answer(_plain(found, run.dry_run), lambda console: _show(console, found, run.dry_run), "failed" if failed else "ok", int(failed))


def _renames(given: list[str]) -> dict[str, str]:
    from predseg.errors import UsageError

    pairs = [text.partition("=") for text in given]
    wrong = next(("".join(pair) for pair in pairs if not all(part.strip() for part in pair)), None)
    if wrong is not None:
        raise UsageError("E231", "--rename", f"found {wrong!r}, expected OLD=NEW", "write for example --rename recent_big_spenders=vips")
    return {old.strip(): new.strip() for old, _, new in pairs}


def _lost(found: Discovery) -> list[str]:
    return [f"{name} of the last run was not found again: a rule that asks for it finds nobody" for name in found.lost]


def _plain(found: Discovery, dry_run: bool) -> dict[str, Any]:
    from predseg.cli.frame import plain
    from predseg.language.time import say_instant

    left = ("members", "memory", "as_of", "personas", "left_out")
    results = {key: value for key, value in vars(found).items() if key not in left}
    clusters = [{**plain(p), "condition": _condition(found, p)} for p in found.personas]
    return {"as_of": say_instant(found.as_of), **results, "left_out": found.left_out, "clusters": clusters, "dry_run": dry_run}


def _condition(found: Discovery, persona: Persona) -> str:
    return f"cluster: {{{found.model}: [{persona.name}]}}"


def _show(console: Any, found: Discovery, dry_run: bool) -> None:
    from predseg.cli.views import heading, table
    from predseg.language.time import say_instant

    of = "" if found.sampled == found.customers else f", fitted on {found.sampled:,} of them"
    console.print(
        f"{found.customers:,} customers with {found.event} by {say_instant(found.as_of)}{of}, compared by {len(found.measures)} measures",
        soft_wrap=True,
    )
    if found.personas:
        heading(console, found.model)
        first = not any(p.found_again for p in found.personas)
        lines = [(p.name, f"{p.size:,}", f"{p.share:.0%}", "" if first or p.found_again else "new") for p in found.personas]
        console.print(table(("cluster", "customers", "share", ""), lines, ("customers", "share")))
    for persona in found.personas:
        _show_persona(console, persona)
    _show_choice(console, found)
    _show_next(console, found, dry_run)


def _show_persona(console: Any, persona: Persona) -> None:
    from rich.padding import Padding
    from rich.text import Text

    from predseg.cli.views import heading

    heading(console, f"{persona.name}: {persona.size:,} customers")
    different = [t for t in persona.profile if abs(t.deviation) >= 0.25][:TOLD] or persona.profile[:1]
    lines = [f"{t.says} (all: {_median(t.overall)})" for t in different]
    console.print(Padding(Text("typical: " + ", ".join(lines)), (0, 0, 0, 2)))
    if persona.rule is None or persona.precision is None or persona.recall is None:
        console.print("  no short rule tells them from the others")
        return
    console.print(Padding(Text("rule: " + str(persona.sentence)), (0, 0, 0, 2)))
    for line in persona.rule.splitlines():
        console.print(f"    {line}", soft_wrap=True)
    console.print(f"  {persona.precision:.0%} of those whom the rule finds are in the cluster; it finds {persona.recall:.0%} of the cluster")
    if min(persona.precision, persona.recall) < ROUGH:
        console.print("  a rough rule: better ask for the cluster itself")


def _median(value: float) -> str:
    from predseg.forecast.latent.profiles import say_number

    return say_number(value)


def _show_choice(console: Any, found: Discovery) -> None:
    from predseg.cli.views import heading, table

    heading(console, "how many")
    lines = [
        (
            f"{t.clusters}{' ←' if t.clusters == found.chosen else ''}",
            f"{t.stability:.2f}",
            f"{1 - t.within / t.chance:+.0%}",
            f"{t.smallest:.1%}",
            "good"
            if t.good
            else ", ".join(w for w, bad in (("unstable", not t.stable), ("as chance", not t.better), ("tiny", t.stable and t.better)) if bad),
        )
        for t in found.trials
    ]
    columns = ("clusters", "stability", "tighter than chance", "smallest", "")
    console.print(table(columns, lines, columns[1:4]))
    console.print(f"{found.verdict}", soft_wrap=True)
    console.print(f"\ncompared by: {', '.join(found.measures)}", soft_wrap=True)
    if found.left_out:
        console.print("left out: " + "; ".join(f"{name} ({why})" for name, why in found.left_out.items()), soft_wrap=True)


def _show_next(console: Any, found: Discovery, dry_run: bool) -> None:
    console.print()
    if not found.personas:
        console.print("nothing was published. next: predseg discover --clusters 3 forces a number; or declare other measures under `features:`")
        return
    console.print("nothing was written (--dry-run)" if dry_run else f"{found.customers:,} rows written to the table clusters")
    console.print(f"next: use it in a rule, {_condition(found, found.personas[0])}", soft_wrap=True)
    console.print(f"      or give a name that stays: predseg discover {found.model} --rename {found.personas[0].name}=NEW_NAME", soft_wrap=True)
