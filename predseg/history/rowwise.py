"""Queries that look at each row alone: what they say of some files is what they say of these among all.

Such a query is asked of the files that are new, or of each file on whichever machine. DuckDB's own parser says what a query is
made of; whatever is not known to be harmless (joins, aggregates, windows, subqueries, order, limits, samples, what the time is,
chance) makes it a query of all rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from predseg.engine import literal

_CLASSES = frozenset("BETWEEN CASE CAST COLLATE COLUMN_REF COMPARISON CONJUNCTION CONSTANT FUNCTION LAMBDA OPERATOR STAR TYPE".split())
_EMPTY = ("modifiers", "group_expressions", "group_sets", "having", "sample", "qualify")
_AS_WELL = frozenset({"if", "nullif", "unnest"})
"""Functions that DuckDB lists as macros or tables."""
_HARMFUL = frozenset({"age"})
"""Harmless of two times, but of one it looks at the clock."""
_CLOCK = frozenset("current_date current_time current_timestamp localtime localtimestamp".split())
"""What looks at the clock and is written like a column."""
_HARMLESS = """
    select function_name from duckdb_functions() group by all
    having bool_or(function_type = 'scalar' and stability = 'CONSISTENT') and bool_and(function_type in ('scalar', 'table')) and bool_and(stability is distinct from 'VOLATILE')
"""


@cache
def is_rowwise(query: str | None) -> bool:
    """Say whether a query over ``source`` looks at each of its rows alone; no query does.

    >>> is_rowwise("select id as customer_id, amount / 100 as value, unnest(items) as item from source where amount > 0")
    True
    >>> [is_rowwise(f"select {what} from source") for what in ("distinct id", "id, count(*) over ()", "id, now()", "id, (select 1)")]
    [False, False, False, False]
    """
    if not query:
        return True
    import duckdb

    with duckdb.connect() as connection:
        said = connection.execute(f"select json_serialize_sql({literal(query)})").fetchall()[0][0]
        harmless = {name for (name,) in connection.execute(_HARMLESS).fetchall()} - _HARMFUL | _AS_WELL
    statements = json.loads(said).get("statements", [])
    if len(statements) != 1:
        return False
    node = statements[0]["node"]
    if node["type"] != "SELECT_NODE" or any(node[part] for part in _EMPTY) or node["cte_map"]["map"] or not _is_source(node["from_table"]):
        return False
    return node["aggregate_handling"] == "STANDARD_HANDLING" and all(_is_harmless(part, harmless) for part in _expressions(node))


def _is_source(table: dict[str, Any]) -> bool:
    return table["type"] == "BASE_TABLE" and table["table_name"].lower() == "source" and not table["sample"]


def _is_harmless(part: dict[str, Any], functions: set[str]) -> bool:
    if part["class"] == "FUNCTION":
        return part["function_name"].lower() in functions
    return part["class"] in _CLASSES and not {name.lower() for name in part.get("column_names", ())} & _CLOCK


def _expressions(part: Any) -> Iterator[dict[str, Any]]:
    if isinstance(part, dict) and "class" in part:
        yield part
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from _expressions(inner)
