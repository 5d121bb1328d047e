"""The command that writes the report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from predseg.cli.frame import Answer, Run, command

if TYPE_CHECKING:
    from rich.console import Console

    from predseg.outcomes.projects import Outlook
    from predseg.project import Project


@command("report", "predseg report", "predseg report --out monday.html --as-of 2011-12-09T13:00")
def report(
    run: Run, out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the page goes; it ends in .html.")] = Path("report.html")
) -> Answer:
    """Write one page with everything worth looking at: pictures, what they say, and the numbers behind them."""
    return written(run, run.project(), out)


def written(run: Run, project: Project, out: Path, seen: Outlook | None = None) -> Answer:
    """Write the report of a project and return what was written; ``seen``: what is read of it already."""
    return page_written(run, project.report(run.as_of, seen=seen), out)


def _said(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size / 1e3:.0f} kB"


def page_written(run: Run, html: str, out: Path) -> Answer:
    """Write a page that is one file and return what was written."""
    from predseg.formats import write_page

    if not run.dry_run:
        write_page(out, html)
    size = len(html.encode())

    def show(console: Console) -> None:
        verb = "would write" if run.dry_run else "wrote"
        console.print(f"{verb} {out} ({_said(size)}): open it in any browser; it loads nothing, so it can be mailed", soft_wrap=True)

    return Answer({"out": None if run.dry_run else str(out), "bytes": size, "dry_run": run.dry_run}, show)
