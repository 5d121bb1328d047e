"""Changes to rule files as text: what stays, stays to the letter, comments included."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from predseg.language.yaml import Node

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_ .%-]*|[0-9]+ [a-z]+( ago)?|[0-9]+(\.[0-9]+)?%")


@dataclass(frozen=True)
class Edit:
    """Lines first to last (from 1, both included) of a file, and what stands there instead."""

    file: str
    first: int
    last: int
    lines: tuple[str, ...] = ()


def lines_of(text: str) -> list[str]:
    """Return the lines of a file as its nodes count them: what else may separate lines, such as U+2028, is text."""
    return text.removesuffix("\n").split("\n") if text else []


def apply(text: str, edits: Iterable[Edit]) -> str:
    """Return the text with the edits made, the last one first; of two that touch the same lines the first is made."""
    lines = lines_of(text)
    done: list[Edit] = []
    for edit in edits:
        if all(edit.last < other.first or edit.first > other.last for other in done):
            done.append(edit)
    for edit in sorted(done, key=lambda e: -e.first):
        lines[edit.first - 1 : edit.last] = edit.lines
    return "\n".join(lines) + "\n" if lines else ""


def write(file: Path, text: str) -> Path:
    """Write a rule file, whole or not at all, with the ends of lines that it has."""
    ends = "\r\n" if file.exists() and b"\r\n" in file.read_bytes() else "\n"
    aside = file.with_name(f".{file.name}.new")
    aside.write_text(text, "utf-8", newline=ends)
    return aside.replace(file)


def diff(texts: Mapping[str, str], edits: Iterable[Edit]) -> str:
    """Return a unified diff of all files that the edits touch."""
    edits = list(edits)
    found: list[str] = []
    for file in dict.fromkeys(e.file for e in edits):
        after = apply(texts[file], [e for e in edits if e.file == file])
        found += difflib.unified_diff(lines_of(texts[file]), lines_of(after), f"a/{file}", f"b/{file}", lineterm="")
    return "\n".join(found)


def without_document(text: str, node: Node) -> Edit:
    """Return the edit that takes a document out of its file, with the separator after it, else the one before it."""
    lines = lines_of(text)
    first, end = _span(lines, node)
    begins = lines[first - 1].startswith("---")
    if end <= len(lines):
        return Edit(node.file, first, end - 1 if begins and lines[end - 1].startswith("---") else end)
    return Edit(node.file, first if begins or first == 1 else first - 1, len(lines))


def document(text: str, node: Node) -> tuple[int, int]:
    """Return the first and last line (from 1, both included) of a document in its file, without separators and empty lines around it."""
    lines = lines_of(text)
    first, end = _span(lines, node)
    last = end - 1
    while first < last and not lines[first - 1].strip():
        first += 1
    while last > first and not lines[last - 1].strip():
        last -= 1
    return first, last


def _span(lines: Sequence[str], node: Node) -> tuple[int, int]:
    """Return the first line of a document, which may be that of the separator before it, and the line that ends it, which may be the one after all."""
    marks = [i + 1 for i, line in enumerate(lines) if line.startswith(("---", "..."))]
    first = node.line if node.line in marks else max((mark + 1 for mark in marks if mark < node.line), default=1)
    return first, next((mark for mark in marks if mark > node.line), len(lines) + 1)


def with_match(text: str, node: Node, match: Any) -> Edit:
    """Return the edit that gives a document another rule."""
    lines = lines_of(text)
    first, column = node.keys["match"]
    if column > 1:  # the keys do not stand on lines of their own
        begin, last = document(text, node)
        before = "--- " if lines[begin - 1].startswith("---") else ""
        return Edit(node.file, begin, last, (before + flow({**node.plain(), "match": match}),))
    later = [line for line, _ in node.keys.values() if line > first]
    last = min([*later, _span(lines, node)[1]]) - 1
    while last > first and not lines[last - 1].strip():
        last -= 1
    return Edit(node.file, first, last, (f"match: {flow(match)}",))


def with_scalar(text: str, node: Node, value: str) -> Edit:
    """Return the edit that writes another value in the place of a plain scalar."""
    line = lines_of(text)[node.line - 1]
    start = node.column - 1 + line.startswith("\ufeff")  # which no column counts
    rest = line[start:]
    end = re.search(r"\s*(?:[,}\]]|\s#|$)", rest)
    assert end is not None
    return Edit(node.file, node.line, node.line, (line[:start] + value + rest[end.start() :],))


def flow(value: Any) -> str:
    """Return plain values as one line of YAML.

    >>> flow({"any": [{"did": "A", "where": {"x": Decimal("1.50")}}, {"in": "b"}]})
    '{any: [{did: A, where: {x: 1.50}}, {in: b}]}'
    """
    if isinstance(value, dict):
        return "{" + ", ".join(f"{flow(k)}: {flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(flow(v) for v in value) + "]"
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, int | Decimal):
        return str(value)
    return value if _PLAIN.fullmatch(value) and value == value.strip() and value.lower() not in ("true", "false", "null") else json.dumps(value)
