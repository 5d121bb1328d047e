"""A page of sections with pictures, and the one file that it becomes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Picture:
    """A picture with what it says.

    Attributes:
        key: Short and unlike all others of the page; letters, digits and ``-``.
        title: What it shows.
        reads: One sentence: what a reader should see in it.
        columns: Of the table behind it.
        rows: Texts, one for each column; columns of nothing but figures are aligned to the right.
        chart: A Vega-Lite specification without a width; None when the table says it all.
        alt: What it shows, for who cannot see it; by default title and reading.
        wide: Whether it takes the whole width of the page.
    """

    key: str
    title: str
    reads: str
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    chart: Mapping[str, Any] | None = None
    alt: str = ""
    wide: bool = False

    @property
    def says(self) -> str:
        """The text in the place of the picture."""
        return self.alt or f"{self.title}. {self.reads}"

    @property
    def kinds(self) -> list[str]:
        """Of each column: ``number``, ``date`` or nothing, for how it is set."""
        return [_kind([row[i] for row in self.rows if row[i] not in ("", "-")]) for i in range(len(self.columns))]


@dataclass(frozen=True)
class Section:
    """A part of the page; one without pictures says in ``about`` why."""

    key: str
    title: str
    about: str
    pictures: Sequence[Picture] = ()


@dataclass(frozen=True)
class Page:
    """The whole page. ``facts`` are the figures at its top: name → value; ``state`` is ok, failing or empty."""

    title: str
    subtitle: str
    facts: Mapping[str, str]
    sections: Sequence[Section]
    state: str = ""
    notes: Sequence[str] = field(default_factory=tuple)


def _kind(cells: Sequence[str]) -> str:
    if cells and all(_DATE.fullmatch(cell) for cell in cells):
        return "date"
    return "number" if cells and all(_FIGURE.fullmatch(cell) for cell in cells) else ""


_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_FIGURE = re.compile(r"[-+−]?[\d,.]+ ?%?( to [-+−]?[\d,.]+ ?%?)?|under \d+")


def render(page: Page) -> str:
    """Return the page as one HTML text that loads nothing."""
    from jinja2 import Environment, select_autoescape

    environment = Environment(autoescape=select_autoescape(default=True), trim_blocks=True, lstrip_blocks=True)
    charts = {p.key: p.chart for section in page.sections for p in section.pictures if p.chart is not None}
    template = environment.from_string(_asset("page.html"))
    return template.render(page=page, charts=_inert(json.dumps(charts)), style=_asset("page.css"), draw=_asset("draw.js"), vega=_asset("vega.js"))


def _inert(text: str) -> str:
    """JSON that cannot end the script element it stands in."""
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


@cache
def _asset(name: str) -> str:
    return (files("predseg.outcomes.report") / name).read_text("utf-8")
