"""The live server: events in over HTTP, segments and customers out."""

from __future__ import annotations

from typing import Annotated

import typer

from predseg.cli.frame import Answer, Run, command


@command("serve", "predseg serve", "predseg serve --port 8080", "predseg serve --allow-edits")
def serve(
    run: Run,
    host: Annotated[str | None, typer.Option("--host", metavar="ADDRESS", help="Where to listen; else `serve: {host: ...}`, else 127.0.0.1.")] = None,
    port: Annotated[
        int | None, typer.Option("--port", metavar="N", min=0, max=65535, help="Else `serve: {port: ...}`, else 8000; 0 takes a free one.")
    ] = None,
    edits: Annotated[bool, typer.Option("--allow-edits", help="Let the page save edited rules to their files.")] = False,
) -> Answer:
    """Serve live: events of Segment clients in, segments and customers out."""
    from predseg.live.alarms import Alarm

    def told(alarm: Alarm) -> None:
        run.note(f"{'alarm' if alarm.since is not None else 'over'}: {alarm.said}")

    def ready(url: str, made: dict[str, str]) -> None:
        for name, key in made.items():
            run.note(f"new {name.replace('_', ' ')}, kept in the store for its owner: {key}")
        run.note(f"serving at {url}, stop with Ctrl-C")

    project = run.project()
    if run.dry_run:
        workspace = project.segments()
        return Answer({"live": [name for name, segment in workspace.segments.items() if segment.live], "dry_run": True})
    counts = project.serve(host, port, edits=edits, ready=ready, told=told, note=lambda why: run.note(f"warning: messages wait: {why}"))
    return Answer(counts, lambda console: console.print(", ".join(f"{n:,} {name}" for name, n in counts.items())))
