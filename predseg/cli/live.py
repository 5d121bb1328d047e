"""The live engine over a file or a pipe: rows in as lines of JSON, changes of membership out as lines of JSON."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from predseg.cli.frame import Answer, Run, command

if TYPE_CHECKING:
    from predseg.evaluate.program import Change
    from predseg.live.loop import Loop
    from predseg.project import Project

BATCH = 1_000
CLOCKS = ("event", "wall")


@command("live", "predseg live events.jsonl", "predseg live - --clock wall --durable")
def live(
    run: Run,
    source: Annotated[str, typer.Argument(metavar="[FILE|-]", help="Lines of JSON, an event each; `-` is standard input.")] = "-",
    clock: Annotated[str, typer.Option("--clock", metavar="event|wall", help="Time is that of the events, or that of the world.")] = "event",
    durable: Annotated[bool, typer.Option("--durable", help="Keep state and what is due in the store, and go on from there.")] = False,
    new: Annotated[
        bool, typer.Option("--new", help="Begin with nothing known; else with the project's events before the first line. Not with --durable.")
    ] = False,
) -> Answer:
    """Print who enters and leaves live segments, event by event and by the clock alone."""
    from predseg.errors import UsageError, nearest
    from predseg.live import lines
    from predseg.live.calm import steady
    from predseg.moment import recordable

    recordable(run.as_of, unless=not durable or run.dry_run)
    if clock not in CLOCKS:
        raise UsageError("E203", "--clock", f"no such clock: {clock!r}", nearest(clock, CLOCKS))
    if durable and new:
        remedy = "leave --new away; or leave --durable away to see who would enter and leave if nothing were known"
        raise UsageError("E268", "--new, --durable", "what is kept goes on from where it was, with the project's events known", remedy)
    project = run.project()
    if durable:
        _told_once(project, source)
    said: list[dict[str, Any]] = []
    out = _Out(said if run.json else None)
    with _opened(source) as file:
        rows = lines.rows(file)
        first = next(rows, None)
        loop = _loop(project, first, clock == "event", durable and not run.dry_run, new)
        before = Counter(loop.counts)
        steady()
        try:
            with _sending(run, project, loop, clock == "wall"):
                _play(loop, _with(first, rows), clock, out, _end(run), "" if source == "-" else str(Path(source).absolute()))
        finally:
            loop.close()
    counts = {kind: n - before[kind] for kind, n in loop.counts.items() if n != before[kind]}
    if counts.get("quarantined"):
        run.note(f"warning: {counts['quarantined']:,} of {sum(counts.values()):,} lines were put aside: {'; '.join(_reasons(loop.reasons))}")
    if loop.unscored:
        run.note(f"warning: {sum(loop.unscored.values()):,} live scores could not be made: {'; '.join(_reasons(loop.unscored))}")
    if not loop.engine.program.rules:
        run.note("warning: the project has no live segments: write `refresh: live` in a rule")
    return Answer({"changes": said, "rows": counts, "reasons": _reasons(loop.reasons)})


def _told_once(project: Project, file: str) -> None:
    """Refuse a file whose rows come from a source already: a row tells one event, and what is kept of the live engine is a source too."""
    from predseg.errors import UsageError
    from predseg.history import sources

    for name, source in project.config.sources.items() if file != "-" else ():
        if Path(file).resolve() in {path.resolve() for path in sources.locate(source, project.config.resolve, f"source {name}")}:
            found = f"the source {name} reads this file: its events are known, and would count twice"
            remedy = "take it out of `sources:`, what comes live is a source by itself; or leave --durable away to see what it would have changed"
            raise UsageError("E267", file, found, remedy)


def _play(loop: Loop, rows: Iterator[Any], clock: str, out: _Out, end: int | None, name: str) -> None:
    """Feed rows one after the other; the clock follows the events, or the world. What is durable is said after it is written."""
    from predseg.moment import clock as now

    done, unsaid = loop.done(name), []
    for number, row in enumerate(rows if loop.state is None or clock == "wall" else _expected(loop, rows), 1):
        if number <= done:
            continue
        if clock == "wall":
            loop.remember(name, number)
            out(loop.feed([row if isinstance(row, bytes) else {"received_at": now(), **row}], now()).changes)
            continue
        unsaid += loop.follow(row, now())
        if loop.state is None or number % BATCH == 0:
            loop.remember(name, number)
            loop.commit((), now())
            out(unsaid)
            unsaid = []
        done = number
    loop.remember(name, max(done, 0))
    last = loop.tick(end if end is not None else loop.clock_of_events if clock == "event" else now())
    out([*unsaid, *last])


def _expected(loop: Loop, rows: Iterator[Any]) -> Iterator[Any]:
    """Read as many rows ahead as are committed together anyway."""
    while batch := list(islice(rows, BATCH)):
        loop.expect(batch)
        yield from batch


class _Out:
    """Prints changes, or collects them."""

    def __init__(self, collected: list[dict[str, Any]] | None) -> None:
        self.collected = collected

    def __call__(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if self.collected is not None:
                self.collected.append(change.plain())
            else:
                import orjson

                sys.stdout.write(orjson.dumps(change.plain()).decode() + "\n")
        if changes and self.collected is None:
            sys.stdout.flush()


def _loop(project: Project, first: Any, by_events: bool, durable: bool, new: bool) -> Loop:
    from predseg.evaluate.live import BEGINNING
    from predseg.live.deployment import listening
    from predseg.live.lines import Contract, Refused
    from predseg.live.opening import open_durable, open_in_memory
    from predseg.moment import clock

    workspace, persons = project.segments(), project.people.persons()
    if durable:
        known = (project.moment() if workspace.files else BEGINNING) if by_events else clock()
        return listening(open_durable(project.config, workspace, known, persons=persons), project.people)
    before = None
    if not new and workspace.files and isinstance(first, dict) and "clock" not in first:
        try:
            before = Contract.of(project.config).read(first).visible - 1
        except Refused:
            before = None
    return open_in_memory(project.config, workspace, before, for_ever=by_events, persons=persons)


@contextmanager
def _sending(run: Run, project: Project, loop: Loop, by_wall: bool) -> Iterator[None]:
    """Send what changes call for, where they are kept and it is now: what a file tells of the past is sent to nobody."""
    from functools import partial

    from predseg.activation.live import sending
    from predseg.moment import clock

    if loop.state is None or not by_wall:
        yield
        return
    with sending(project.segments(), project.people, clock, lambda text: run.note(f"warning: {text}")) as outbox:
        loop.said = partial(outbox, loop.state.connection)
        yield


def _end(run: Run) -> int | None:
    from predseg.moment import instant

    return None if run.as_of is None else instant(run.as_of)


def _with(first: Any, rows: Iterator[Any]) -> Iterator[Any]:
    if first is not None:
        yield first
        yield from rows


def _reasons(counted: Counter[str]) -> list[str]:
    return [f"{reason} ({n:,})" for reason, n in counted.most_common(5)]


@contextmanager
def _opened(source: str) -> Iterator[BinaryIO]:
    from predseg.errors import DataError

    if source == "-":
        yield sys.stdin.buffer
        return
    try:
        file = Path(source).open("rb")  # noqa: SIM115 (closed below; only opening it is refused in these words)
    except OSError as error:
        raise DataError("E401", source, f"cannot be read: {error.strerror}", "name a file with a JSON object on each line, or `-`") from None
    with file:
        yield file
