"""A new segment on the page: where it may stand, what it begins with, and from then on the same checks as for an edit."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from predseg.errors import UsageError, nearest
from predseg.outcomes.projects import goal_of
from predseg.page.rules import Draft, Trial, draft, save, trial
from predseg.segments.edits import lines_of
from predseg.segments.workspace import Workspace

_BLANK = """\
segment: {name}
about: What it is for, in a sentence
owner: you@example.com
match:
  all:
    - {{did: {event}, within: 30 days}}
"""
_NAMED = re.compile(r"^segment:[ \t]*([A-Za-z][A-Za-z0-9_]{0,63})[ \t]*(#.*)?$", re.MULTILINE)


def places(workspace: Workspace) -> list[str]:
    """Return where a new segment may stand: the rule files, and for each pattern of them a file of its own, called by the pattern."""
    patterns = [p for p in workspace.config.segments if not Path(p).is_absolute() and re.fullmatch(r"[^*?\[]*\*[^*?\[/]*", p)]
    return [*workspace.texts(), *patterns]


def begun(workspace: Workspace, as_of: int, file: str | None, text: str | None, base: str | None = None, like: str = "") -> tuple[Trial, list[str]]:
    """Return what a text would do as a new segment, and where it may stand; without a text, one to begin with."""
    found = places(workspace)
    if not found:
        raise UsageError("E233", "segments", "the project names no rule files", "add `segments: segments/*.yaml` to the project file")
    text = _first(workspace, like) if text is None else text
    return trial(workspace, as_of, _place(workspace, file or found[0], text), text, base), found


def added(workspace: Workspace, as_of: int, file: str, text: str, base: str) -> tuple[Trial | str, list[str]]:
    """Write a text as a new segment and return its name; a trial when that cannot be."""
    return save(workspace, _place(workspace, file, text), text, base), places(workspace)


def _first(workspace: Workspace, like: str) -> str:
    """Return a blank rule, or the document of another segment under a name that is free."""
    name = next(name for number in range(1, 10**6) if (name := f"{like or 'new_segment'}_{number}") not in workspace.segments)
    if like:
        return _NAMED.sub(f"segment: {name}", draft(workspace, like).text, count=1)
    occurred, goal = sorted(workspace.vocabulary.occurred or ()), goal_of(workspace.config)
    return _BLANK.format(name=name, event=goal if goal in occurred or not occurred else occurred[0])


def _place(workspace: Workspace, file: str, text: str) -> Draft:
    """Return the place after the last document of a file.

    Raises:
        UsageError: E233 when it is none of those where a segment may stand.
    """
    known, texts = places(workspace), workspace.texts()
    if file not in known:
        raise UsageError("E233", file, "no rule file of this project", nearest(file, known))
    named = _NAMED.search(text)
    path = file.replace("*", named[1] if named else "new_segment")
    there = workspace.config.root / path
    whole = texts.get(path) or (there.read_text("utf-8") if there.is_file() else "")
    lines = lines_of(whole)
    written = [line for line in lines if line.strip()]
    before = ("---",) if written and not written[-1].startswith("---") else ()
    stamp = hashlib.sha256(repr(sorted(texts.items())).encode()).hexdigest()[:16]
    return Draft("", path, whole, len(lines) + 1, len(lines), before, stamp)
