"""How the keeping of models reads: `predseg models verify` and `predseg models sign`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from predseg.cli.frame import Answer, plain
from predseg.cli.views import COLOURS, table
from predseg.errors import ModelError
from predseg.forecast import custody

if TYPE_CHECKING:
    from predseg.project import Project


def verify(project: Project) -> Answer:
    """Look at every copy of every version."""
    kept = custody.verify(project.registry())
    broken = [one for one in kept if one.wrong]
    error = None
    if broken:
        message = f"{len(broken)} of {len(kept)} versions are not as they were registered"
        error = ModelError("E713", "models verify", message, broken[0].help)

    def show(console: Console) -> None:
        status = ["broken" if one.wrong else "ok" for one in kept]
        rows = [(k.model, str(k.version), Text(s, COLOURS[s]), k.wrong or k.said) for k, s in zip(kept, status, strict=True)]
        console.print(table(("model", "version", "", "found"), rows, ("version",)) if rows else "no model is trained yet. next: predseg train")

    return Answer({"versions": plain(kept)}, show, "failed" if broken else "ok", error=error)


def sign(project: Project, dry_run: bool) -> Answer:
    """Sign every version with the first of the keys."""
    with project.store.lock():
        signed = [] if dry_run else custody.sign(project.registry())
    return Answer({"signed": signed}, lambda console: console.print(f"signed: {', '.join(signed) or 'nothing, all are signed with this key'}"))
