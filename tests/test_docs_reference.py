"""The reference and the index of the docs are complete: keys as the schema has them, tables as the demo writes them, every page listed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from predseg.language.documents import ADVERBS
from predseg.language.schema import project_schema, segments_schema

DOCS = Path(__file__).parents[1] / "docs"
Schema = dict[str, Any]


def keys(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Every key under a schema with the path that leads to it; NAME stands for a name of yours."""
    for option in [schema, *schema.get("anyOf", []), *schema.get("oneOf", [])]:
        for name, one in option.get("properties", {}).items():
            yield f"{path}{name}", one
            yield from keys(one, f"{path}{name}.")
        if isinstance(option.get("additionalProperties"), dict):
            yield from keys(option["additionalProperties"], f"{path}NAME.")
        if isinstance(option.get("items"), dict):
            yield from keys(option["items"], path)


def rows(schema: Schema) -> str:
    """The keys of a schema as lines of a table."""
    found = {}
    for path, one in keys(schema):
        choices = " or ".join(f"`{value}`" for value in one.get("enum", []) if value not in ("", None))
        said = one.get("description", "")
        found[path] = f"| `{path}` | {said.replace('|', chr(92) + '|')}{f' {choices}.' if choices and choices not in said else ''} |"
    return "\n".join(found.values())


def reference() -> str:
    """The text of docs/reference.md."""
    verbs = "\n".join(f"| `{verb}` | {', '.join(f'`{adverb}`' for adverb in sorted(adverbs))} |" for verb, adverbs in ADVERBS.items())
    return f"""# Every key

Made from the JSON Schema that `predseg schema` prints; NAME is a name of yours. How they are used: [the project file](configuration.md), [rules](rules.md),
[actions](actions.md), [rule tests](rule_tests.md).

## Of the project file

| key | meaning |
|---|---|
{rows(project_schema())}

## Of a segment

| key | meaning |
|---|---|
{rows(segments_schema())}

## Of a condition

Each has one verb; what it means stands in [rules](rules.md).

| verb | may stand with |
|---|---|
{verbs}
"""


def test_the_reference_of_tables_names_the_columns_of_the_demo(demo: Path) -> None:
    """Tables that the demo writes; its properties and traits are its own."""
    said = dict(re.findall(r"^\| `(\w+)` \| [^|]* \| (.*) \|$", (DOCS / "tables.md").read_text("utf-8"), re.MULTILINE))
    written = {p.name: p for p in (demo / "shop" / "store" / "tables").iterdir() if p.is_dir()}
    assert not set(written) - set(said)
    for name, folder in written.items():
        columns = pq.read_schema(next(folder.rglob("*.parquet"))).names
        named = re.findall(r"`(\w+)`", said[name])
        own = name in ("events", "customers")
        assert columns[: len(named)] == named if own else columns == [n for n in named if n != "as_of" or n in columns], name


def test_the_index_lists_every_page_once() -> None:
    text = (DOCS / "README.md").read_text("utf-8")
    pages = sorted(p.name for p in DOCS.glob("*.md") if p.name != "README.md")
    assert sorted(re.findall(r"^- \[[^\]]+\]\(([a-z_]+\.md)\)", text, re.MULTILINE)) == pages
