"""Lines of JSON as columns of text: what each key holds, and which lines are no objects."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from predseg.engine import Engine, literal, quoted
from predseg.history import bounds
from predseg.history.mixed import ITEMS
from predseg.history.parquet import listed

_VERDICT = bounds.verdict("line")
_GOOD = f"select line::json as line from source_lines where {_VERDICT} is null"
REJECTED = f"select line as raw, {_VERDICT} as reason from source_lines where {_VERDICT} is not null"
"""The query of lines that are no rows."""
NOT_UTF8 = "csv_line as raw, 'not UTF-8 text' as reason"


def structures(engine: Engine, some: list[Path]) -> set[str]:
    """Return every structure that a line has; json_group_structure would hold every line."""
    _lay_lines(engine, some)
    return {row[0] for row in engine.rows(f"select distinct json_structure(line) from ({_GOOD})")}


def kinds(structures: Iterable[str]) -> dict[str, set[str | None]]:
    """Return the types that every key has: numbers and booleans of JSON, lists of texts, other lists, and None for the rest, which is text."""
    known = {"BIGINT": "BIGINT", "UBIGINT": "BIGINT", "HUGEINT": "BIGINT", "DOUBLE": "DOUBLE", "BOOLEAN": "BOOLEAN"}
    found: dict[str, set[str | None]] = {}
    for name, kind in (item for structure in structures for item in json.loads(structure).items()):
        has = found.setdefault(name, set())
        if kind in (["VARCHAR"], ["NULL"]):
            has.add("VARCHAR[]")
        elif kind != "NULL":
            has.add(ITEMS if isinstance(kind, list) else known.get(kind) if isinstance(kind, str) else None)
    return found


def lay(columns: Mapping[str, str], engine: Engine, some: list[Path], several: Collection[str] = ()) -> None:
    """Make ``source_text`` of some of the files, given the column of each key; ``several``: the columns of several kinds, as JSON."""
    _lay_lines(engine, some)
    paths = [literal(path_of(key)) for key in columns]
    says = {name: f"json_extract(line, {path})::varchar" for name, path in zip(columns.values(), paths, strict=True) if name in several}
    picked = ", ".join(f"{says.get(name, f'v[{i}]')} as {quoted(name)}" for i, name in enumerate(columns.values(), 1))
    engine.view("source_text", f"select {picked} from (select line, json_extract_string(line, [{', '.join(paths)}]) as v from ({_GOOD}))")


def path_of(key: str) -> str:
    """Return how SQL is told the value of a key."""
    return "/" + key.replace("~", "~0").replace("/", "~1")


def _lay_lines(engine: Engine, some: list[Path]) -> None:
    scan = f"read_csv({listed(some)}, delim = '\x01', quote = '', escape = '', header = false, auto_detect = false, columns = {{'line': 'VARCHAR'}}"
    engine.view("source_lines", f"select line from {scan}, store_rejects = true, max_line_size = 16777216) where trim(line) <> ''")
