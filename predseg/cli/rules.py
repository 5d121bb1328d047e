"""The commands about rules themselves: are they right, why do they decide as they do, do all executors agree, how are they written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from predseg.cli.frame import Answer, Run, command
from predseg.cli.options import Exclude, Select, complete_segments, narrowed

if TYPE_CHECKING:
    from predseg.config import Config
    from predseg.language.conditions import Condition
    from predseg.project import Project
    from predseg.segments.definitions import Segment

DOCUMENTS = ("project", "segments", "manifest", "run_results")
Names = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME]...", help="Segments; all of them when none is named.", autocompletion=complete_segments)
]


@command("test", "predseg test", "predseg test abandoned_cart --mutate", "predseg test --junit rules.xml")
def test(
    run: Run,
    names: Names = None,
    junit: Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="Also write the results as JUnit XML.")] = None,
    mutate: Annotated[bool, typer.Option("--mutate", help="Change the rules a little; do the tests notice?")] = False,
    select: Select = None,
    exclude: Exclude = None,
) -> Answer:
    """Run the tests of the rule files under a fake clock; nothing leaves the process."""
    from predseg.cli import explanations
    from predseg.segments import cases
    from predseg.segments.mutations import mutate as mutations

    config = run.project().config
    segments = _segments(config, names)
    names = narrowed(config, "segment", names, select, exclude, segments)
    suites = cases.run_tests(segments, config.models, names or ())
    mutated = {s.segment.name: mutations(s, segments) for s in suites} if mutate else {}
    if junit is not None and not run.dry_run:
        _write_junit(junit, suites)
    for note in (note for s in suites for note in s.notes):
        run.note(f"note: {note}")
    failed = not all(s.passed for s in suites)
    lines = explanations.suites(suites, mutated, not run.quiet)
    return Answer(
        explanations.plain_suites(suites, mutated),
        lambda console: explanations.show_lines(console, lines),
        "failed" if failed else "ok",
        int(failed),
        nodes={f"segment.{s.segment.name}": len(s.results) for s in suites},
    )


@command("explain", "predseg explain abandoned_cart 12347", "predseg explain champions 12347 --as-of 2011-12-01 --json")
def explain(
    run: Run,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A segment.", autocompletion=complete_segments)],
    customer: Annotated[str, typer.Argument(metavar="CUSTOMER", help="A customer_id.")],
) -> Answer:
    """Say why a customer is, or is not, in a segment, and what would change it."""
    from predseg.cli import explanations
    from predseg.segments.lookup import explain_customer

    project = run.project()
    found = explain_customer(project.segments(), name, customer, project.moment(run.as_of))
    return Answer(explanations.plain_explanation(found), lambda console: explanations.show_lines(console, explanations.explanation(found)))


@command("verify", "predseg verify", "predseg verify --trees 1000 --seed 7", "predseg verify --rules --events", "predseg verify --live")
def verify(
    run: Run,
    trees: Annotated[int, typer.Option("--trees", metavar="N", min=1, help="How many rules to try.")] = 100,
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", help="What randomness is made from; else a new one, which is printed.")] = None,
    rules: Annotated[bool, typer.Option("--rules", help="The project's own rules instead of random ones.")] = False,
    events: Annotated[bool, typer.Option("--events", help="Customers of the project's own events instead of random histories.")] = False,
    live: Annotated[bool, typer.Option("--live", help="The members of the live state against batch at the same moment.")] = False,
) -> Answer:
    """Compare the executors: reference, batch and live, on random or on your own rules and data."""
    import secrets

    from predseg.cli import explanations
    from predseg.segments.verify import verify as compare

    if live:
        return _verify_live(run)
    chosen = seed if seed is not None else secrets.randbelow(2**32)
    project = run.project() if rules or events else None
    matches = _rules(project.config) if project is not None and rules else []
    files = _events(project) if project is not None and events else []
    found = compare(chosen, trees, matches, files)
    again = f"predseg verify --trees {trees} --seed {chosen}{' --rules' if rules else ''}{' --events' if events else ''}"
    return Answer(
        explanations.plain_verification(found),
        lambda console: explanations.show_lines(console, explanations.verification(found, again)),
        "ok" if found.agreed else "failed",
        int(not found.agreed),
    )


def _verify_live(run: Run) -> Answer:
    from predseg.language.time import say_instant
    from predseg.live.checking import compare

    project = run.project()
    found = compare(project.config, project.segments())
    results = [{**vars(one), "equal": one.equal} for one in found.segments]

    def show(console: Any) -> None:
        from predseg.cli.views import table

        lines = [(o.segment, f"{o.members:,}", f"{o.only_live:,}", f"{o.only_batch:,}", ", ".join(o.examples)) for o in found.segments]
        console.print(table(("segment", "members", "only live", "only batch", "who"), lines, ("members", "only live", "only batch")))
        console.print(f"\nlive and batch are {'equal' if found.equal else 'not equal'} at {say_instant(found.as_of)}")

    return Answer({"as_of": say_instant(found.as_of), "segments": results}, show, "ok" if found.equal else "failed", int(not found.equal))


@command("schema", "predseg schema segments > segments.schema.json", "predseg schema project > predseg.schema.json")
def schema(
    _: Run, what: Annotated[str, typer.Argument(metavar="[DOCUMENT]", help="project, segments (files), manifest, or run_results.")] = "project"
) -> Answer:
    """Print the JSON Schema of a file: of what you write, for an editor, or of what is left in target/."""
    import json

    from predseg.cli.artifacts import manifest_schema, results_schema
    from predseg.errors import UsageError, nearest
    from predseg.language.schema import project_schema, segments_schema

    if what not in DOCUMENTS:
        raise UsageError("E222", what, "there is no schema of this", nearest(what, DOCUMENTS))
    found = dict(zip(DOCUMENTS, (project_schema, segments_schema, manifest_schema, results_schema), strict=True))[what]()
    return Answer({"document": what, "schema": found}, lambda _: typer.echo(json.dumps(found, indent=2, ensure_ascii=False)))


def _rules(config: Config) -> list[Condition]:
    """Return the project's rules, those of the segments they use in their place."""
    from predseg.segments.definitions import no_segments
    from predseg.segments.replay import inline_all

    segments = _segments(config, None)
    if not segments:
        raise no_segments(config)
    return [inline_all(s.match, segments) for s in segments.values()]


def _events(project: Project) -> list[Path]:
    from predseg.errors import DataError

    files = project.segments().files
    if not files:
        raise DataError("E420", "events", "there are no events", "check `sources:`, then `predseg check`")
    return files


def _segments(config: Config, names: list[str] | None) -> dict[str, Segment]:
    """Return all rules of a project, checked against the project file alone."""
    from predseg.errors import UsageError, nearest
    from predseg.segments.definitions import STANDARD_EVENTS, Vocabulary, load_segments

    declared = config.contract.events
    events = None if declared is None else frozenset(declared) | frozenset(config.event_names()) | STANDARD_EVENTS
    segments = load_segments(config, Vocabulary(frozenset(config.models), events, channels=frozenset(config.channels), purposes=config.consent.known))
    for name in names or ():
        if name not in segments:
            raise UsageError("E220", name, "no such segment", nearest(name, tuple(segments)))
    return segments


def _write_junit(path: Path, suites: object) -> None:
    from predseg.disks import disk_errors
    from predseg.segments.junit import junit

    with disk_errors(path):
        path.write_text(junit(suites), "utf-8")  # type: ignore[arg-type]
