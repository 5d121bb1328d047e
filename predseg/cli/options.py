"""How values of options are read: durations and shares, refused in the words of the option; and what `--select` means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from predseg.errors import UsageError
from predseg.language.time import parse_duration

if TYPE_CHECKING:
    from predseg.config import Config
    from predseg.segments.definitions import Segment

_SELECT = "Only these: NAME, +NAME with what it uses, NAME+ with what uses it, tag:TAG; `a,b` is both; may be repeated."
Select = Annotated[list[str] | None, typer.Option("--select", metavar="TERMS", help=_SELECT)]
Exclude = Annotated[list[str] | None, typer.Option("--exclude", metavar="TERMS", help="But not these, written the same way.")]


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
