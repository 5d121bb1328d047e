"""Golden files of refusals: what was written, and word for word what is answered.

A case is a title (``# ...``), the text indented by two spaces, and the answer. UPDATE_GOLDEN=1 writes the answers anew.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

from predseg.errors import ConfigError

_CONTROL = re.compile(r"\\x([0-9a-f]{2})")


@dataclass(frozen=True)
class Case:
    """A text and the answer that the golden file promises."""

    title: str
    text: str
    answer: str


def read_cases(file: Path) -> list[Case]:
    cases = []
    for block in file.read_text("utf-8").split("\n\n"):
        lines = block.strip("\n").split("\n")
        text = [line[2:] for line in lines[1:] if line.startswith("  ")]
        cases.append(
            Case(lines[0].removeprefix("# "), _CONTROL.sub(lambda m: chr(int(m[1], 16)), "\n".join(text)), "\n".join(lines[1 + len(text) :]))
        )
    return cases


def refuse(read: Callable[[str], object], text: str) -> ConfigError:
    """The refusal of a text."""
    try:
        found = read(text)
    except ConfigError as error:
        return error
    raise AssertionError(f"accepted: {text!r} as {found}")


def update(file: Path, read: Callable[[str], object]) -> None:
    """Write the answers anew when UPDATE_GOLDEN is set."""
    if not os.environ.get("UPDATE_GOLDEN"):
        return
    blocks = []
    for case in read_cases(file):
        text = "\n".join("  " + line for line in re.sub(r"[\x00-\x09\x0b-\x1f]", lambda m: f"\\x{ord(m[0]):02x}", case.text).split("\n"))
        blocks.append(f"# {case.title}\n{text}\n{refuse(read, case.text)}")
    file.write_text("\n\n".join(blocks) + "\n", "utf-8")


@cache
def refusing_lines(module: ModuleType) -> dict[int, str]:
    """Every ``raise`` of a ConfigError in a module: its line and its text."""
    tree = ast.parse(Path(str(module.__file__)).read_text("utf-8"))
    found = [n for n in ast.walk(tree) if isinstance(n, ast.Raise) and n.exc is not None]
    return {n.lineno: ast.unparse(n) for n in found if any(name in ast.unparse(n) for name in ("ConfigError(", "time_error("))}


def line_of(error: ConfigError, module: ModuleType) -> int | None:
    """The line of the module's own ``raise`` that made the refusal."""
    traceback, found, lines = error.__traceback__, None, refusing_lines(module)
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == module.__file__:
            found = traceback.tb_lineno
        traceback = traceback.tb_next
    return max((line for line in lines if found is not None and line <= found), default=None)
