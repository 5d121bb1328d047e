"""The command that explains a project to colleagues."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from predseg.cli.frame import Answer, Run, command
from predseg.cli.report import page_written
from predseg.errors import ModelError

if TYPE_CHECKING:
    from predseg.forecast.bundle import Bundle


@command("docs", "predseg docs", "predseg docs --out handbook.html")
def docs(
    run: Run, out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the page goes; it ends in .html.")] = Path("docs.html")
) -> Answer:
    """Write one page that explains the project to colleagues: segments, models, data, and what rests on what."""
    from predseg.outcomes.handbook.build import build, render

    project = run.project()
    workspace = project.segments()

    def champion(model: str) -> Bundle | None:
        with suppress(ModelError):  # one that was changed on disk has no card to show
            return project.champion(model)
        return None

    html = render(build(workspace, project.last_check(), champion, project.moment(run.as_of)))
    return page_written(run, html, out)
