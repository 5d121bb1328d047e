"""What `expectations:` found, as a table and as JUnit XML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from rich.text import Text

from predseg.cli.views import Show, count, heading, table

if TYPE_CHECKING:
    from rich.console import Console

    from predseg.history.expectations import Check

COLOURS = {"pass": "green", "warn": "yellow", "fail": "red", "skipped": "dim"}


def failing(found: Sequence[Check]) -> list[Check]:
    """Return the checks that fail and are not allowed to."""
    return [c for c in found if c.status == "fail" and not c.allowed]


def after(show: Show, found: Sequence[Check]) -> Show:
    """Show something, and then the checks."""

    def both(console: Console) -> None:
        show(console)
        if found:
            heading(console, "expected of the data")
            rows = [(c.kind, c.about, Text(c.status + (", allowed" if c.allowed else ""), COLOURS[c.status]), c.found, c.limit) for c in found]
            console.print(table(("check", "of", "", "found", "limit"), rows))
        if wrong := failing(found):
            console.print(f"\n{count(len(wrong), 'check')} failing: predseg train and predseg score are refused")
            console.print(f"next: mend the data, or `expectations: {{allow: [{', '.join(c.name for c in wrong)}]}}`", markup=False, soft_wrap=True)

    return both


def write_junit(file: Path, found: Sequence[Check]) -> None:
    """Write the checks as JUnit XML: one suite, a case a check; what warns or is allowed to fail passes with what was found as its output.

    Raises:
        DataError: E410, E411 when it cannot be written.
    """
    from predseg.disks import disk_errors, replaced
    from predseg.segments.junit import allowed

    wrong, skipped = failing(found), [c for c in found if c.status == "skipped"]
    counts = {
        "name": "predseg check",
        "tests": str(len(found)),
        "failures": str(len(wrong)),
        "errors": "0",
        "skipped": str(len(skipped)),
        "time": "0",
    }
    root = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(root, "testsuite", counts)
    for c in found:
        case = ElementTree.SubElement(suite, "testcase", {"classname": c.kind, "name": allowed(c.name), "time": "0"})
        said = allowed(f"{c.found} (expected {c.limit})")
        if c in wrong:
            ElementTree.SubElement(case, "failure", {"message": said, "type": c.kind})
        elif c in skipped:
            ElementTree.SubElement(case, "skipped", {"message": said})
        else:
            ElementTree.SubElement(case, "system-out").text = f"{c.status}: {said}"
    ElementTree.indent(root)
    with disk_errors(file), replaced(file) as aside:
        aside.write_text(f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n', "utf-8")
