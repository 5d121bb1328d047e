"""What tables, counts and findings look like; how history and forecasts read is in ``reports``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from predseg.cli.frame import printable

if TYPE_CHECKING:
    from predseg.history.health import Finding

Show = Callable[[Console], None]
COLOURS = {"ok": "green", "missing": "red", "broken": "red", "optional": "yellow"}


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = ()) -> Table:
    """Return a plain table; the columns named in ``right`` are aligned to the right."""
    found = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        found.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        found.add_row(*(cell if isinstance(cell, Text) else Text(printable(str(cell))) for cell in row))
    return found


def heading(console: Console, text: str) -> None:
    """Print a heading with an empty line before it."""
    console.print()
    console.print(Text(text, "bold"))


def count(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun.

    >>> count(1, "row"), count(1200, "row")
    ('1 row', '1,200 rows')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def findings(found: Sequence[Finding]) -> Show:
    """Show what `predseg doctor` found."""

    def show(console: Console) -> None:
        rows = [(f.what, Text(f.status, COLOURS[f.status]), f.found, f.help) for f in found]
        console.print(table(("", "", "found", "help"), rows))
        sick = sum(f.status in ("missing", "broken") for f in found)
        console.print(f"\n{sick} to repair, see help above" if sick else "\nall is well. next: predseg demo shop")

    return show
