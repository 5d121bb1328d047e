"""Live segments on Spark: a stream of lines in, changes of membership out, from a checkpoint on."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from predseg.cli.frame import Answer, Run, command

if TYPE_CHECKING:
    from rich.console import Console

    from predseg.project import Project

LINKS = ("refuse", "ignore")


@command(
    "stream",
    "predseg stream incoming --checkpoint state --out changes",
    "predseg stream --from kafka --option subscribe=events --option kafka.bootstrap.servers=broker:9092 --checkpoint state --out table:changes",
    "predseg stream incoming --checkpoint state --until-caught-up",
)
def stream(
    run: Run,
    source: Annotated[str | None, typer.Argument(metavar="[FOLDER]", help="Where files of JSON lines are put, an event a line.")] = None,
    checkpoint: Annotated[str | None, typer.Option("--checkpoint", metavar="FOLDER", help="What the stream goes on from after any stop.")] = None,
    out: Annotated[str, typer.Option("--out", metavar="FOLDER|table:NAME|-", help="Where changes go; `-` prints them.")] = "-",
    format_: Annotated[str, typer.Option("--from", metavar="FORMAT", help="Another source of Spark with lines in `value`, such as kafka.")] = "text",
    option: Annotated[
        list[str] | None, typer.Option("--option", metavar="NAME=VALUE", help="Of the source; `NAME=env:VARIABLE` for a secret.")
    ] = None,
    late: Annotated[str, typer.Option("--late", metavar="DURATION", help="How far behind the newest event one may come.")] = "5 minutes",
    links: Annotated[str, typer.Option("--links", metavar="refuse|ignore", help="Of rows that join a visitor to a customer.")] = "refuse",
    refused: Annotated[str | None, typer.Option("--refused", metavar="FOLDER", help="Where lines go that break the contract.")] = None,
    until: Annotated[bool, typer.Option("--until-caught-up", help="Stop when all that is there has been read.")] = False,
) -> Answer:
    """Run live segments on Spark, over a stream, until Ctrl-C or SIGTERM."""
    from predseg.errors import UsageError, nearest
    from predseg.live.streaming import STDOUT, Job, stream

    if links not in LINKS:
        raise UsageError("E203", "--links", f"no such word: {links!r}", nearest(links, LINKS))
    if checkpoint is None:
        raise UsageError("E266", "--checkpoint", "a stream goes on from its checkpoint, and none is named", "name a folder that all machines see")
    project = run.project()
    job = Job(source, out, checkpoint, format_, _options(option or [], project), _late(late), cast(Any, links), refused, until)
    workspace, said = project.segments(), _Said(run.json)
    if run.dry_run:
        return Answer({"live": [name for name, segment in workspace.segments.items() if segment.live], "dry_run": True})

    def ready() -> None:
        run.note(f"streaming into {'this terminal' if out == STDOUT else out}" + ("" if until else ", stop with Ctrl-C"))

    counts = stream(workspace, project.people.persons(), job, said, ready)
    _warn(run, counts, refused)
    return Answer({"lines": counts, **({"changes": said.kept} if out == STDOUT else {})}, None if out == STDOUT else _shown(counts))


class _Said:
    """Prints changes, or keeps them for the one object of ``--json``."""

    def __init__(self, keep: bool) -> None:
        self.keep, self.kept = keep, list[dict[str, Any]]()

    def __call__(self, lines: Sequence[str]) -> None:
        import orjson

        if self.keep:
            self.kept += map(orjson.loads, lines)
        else:
            sys.stdout.write("".join(line + "\n" for line in lines))
            sys.stdout.flush()


def _options(given: Sequence[str], project: Project) -> dict[str, str]:
    from predseg.errors import UsageError
    from predseg.language.secrets import Secret

    found = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not (name and equals):
            raise UsageError("E266", "--option", f"expected NAME=VALUE, found {one!r}", "write for example `--option subscribe=events`")
        found[name] = Secret(value[4:], f"--option {name}").reveal(project.people.environment) if value.startswith("env:") else value
    return found


def _late(text: str) -> int:
    from predseg.errors import UsageError
    from predseg.language.time import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError("E203", "--late", str(error), "write for example `--late '5 minutes'`") from None


def _warn(run: Run, counts: dict[str, int], refused: str | None) -> None:
    if counts["refused"]:
        where = f"they are in {refused}" if refused else "`--refused FOLDER` keeps them"
        run.note(f"warning: {counts['refused']:,} of {counts['rows']:,} lines broke the contract: {where}")
    if counts["late"]:
        run.note(f"warning: events that came too late and were left out: {counts['late']:,}; a longer `--late` waits for them")


def _shown(counts: dict[str, int]) -> Any:
    def show(console: Console) -> None:
        console.print(f"{counts['rows']:,} lines read")

    return show
