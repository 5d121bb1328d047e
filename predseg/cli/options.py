"""How values of options are read: durations and shares, refused in the words of the option; what `--select` means; and how names are completed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from predseg.cli.frame import project_file
from predseg.errors import PredsegError, UsageError
from predseg.language.time import parse_duration

if TYPE_CHECKING:
    from predseg.config import Config
    from predseg.segments.definitions import Segment
    from predseg.segments.lineage import Node


def _nodes(context: typer.Context) -> dict[str, Node]:
    """Return the nodes of the project that the line is about; none where it cannot be read: completing never fails."""
    from predseg.config import load
    from predseg.segments.definitions import load_segments
    from predseg.segments.lineage import lineage

    with suppress(PredsegError):
        if file := project_file(context.params.get("config")):
            config = load(file)
            return lineage(config, load_segments(config))
    return {}


def complete_segments(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the segments that begin so, each with what it is for."""
    return [(n.name, n.about) for n in _nodes(context).values() if n.kind == "segment" and n.name.startswith(incomplete)]


def complete_models(context: typer.Context, incomplete: str) -> list[str]:
    """Return the models that begin so."""
    return [n.name for n in _nodes(context).values() if n.kind == "model" and n.name.startswith(incomplete)]


def _complete_terms(context: typer.Context, incomplete: str) -> list[str]:
    begun = re.match(r"[0-9]*\+|", incomplete)
    before = begun[0] if begun else ""
    return [before + n.name for n in _nodes(context).values() if n.name.startswith(incomplete[len(before) :])]


_SELECT = "Only these: NAME, +NAME with what it uses, NAME+ with what uses it, tag:TAG; `a,b` is both; may be repeated."
Select = Annotated[list[str] | None, typer.Option("--select", metavar="TERMS", help=_SELECT, autocompletion=_complete_terms)]
Exclude = Annotated[
    list[str] | None, typer.Option("--exclude", metavar="TERMS", help="But not these, written the same way.", autocompletion=_complete_terms)
]


def duration(option: str, text: str) -> int:
    """Return microseconds.

    Raises:
        UsageError: E203.
    """
    try:
        return parse_duration(text)
    except ValueError as error:
        found, _, remedy = str(error).partition(": ")
        raise UsageError("E203", option, found, remedy) from None


def share(option: str, text: str) -> float:
    """Return a share over 0 % and under 100 % as a number.

    Raises:
        UsageError: E204.

    >>> share("--detect", "10%"), share("--detect", "2.5 %")
    (0.1, 0.025)
    """
    match = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,9})?)\s*%", text.strip(), re.ASCII)
    if match is None or not 0 < float(match[1]) < 100:
        raise UsageError("E204", option, f"expected a share over 0% and under 100%, found {text!r}", f"write for example `{option} 10%`")
    return float(match[1]) / 100


def narrowed(
    config: Config,
    kind: str,
    names: list[str] | None,
    select: list[str] | None,
    exclude: list[str] | None,
    segments: Mapping[str, Segment] | None = None,
) -> list[str] | None:
    """Return the names of one kind that are meant: those that are named and those that are selected; None for all.

    Raises:
        UsageError: E232 when the selection finds none.
    """
    if not (select or exclude):
        return names
    from predseg.segments.definitions import load_segments
    from predseg.segments.lineage import lineage
    from predseg.segments.selection import chosen

    nodes = lineage(config, load_segments(config) if segments is None else segments)
    return chosen(nodes, kind, [*(f"{kind}.{name}" for name in names or ()), *(select or ())], exclude or ())
