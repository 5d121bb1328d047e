"""Parquet files as a query: what the columns of each hold, and how they are laid over each other where these are of different kinds."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from predseg.columns import is_mixed
from predseg.engine import Engine, literal, quoted
from predseg.history import bounds, mixed
from predseg.history.mixed import MIXED

if TYPE_CHECKING:
    from pyarrow.parquet import FileMetaData

_UNION = "union_by_name = true, hive_partitioning = false"
_KINDS = {"number", "flag", "text", "list", MIXED}
_PLAIN = {"whole": "number", "float": "number"}
ITEMS = "items"
"""What lists of other than texts begin with; of what is said behind."""


def listed(files: Iterable[Path]) -> str:
    """Return the SQL of a list of files."""
    return "[" + ", ".join(literal(f) for f in files) + "]"


def kinds(footer: FileMetaData | None, lists: Callable[[str], bool]) -> dict[str, str]:
    """Return what some columns of a file are: "float", "whole" (or decimal), "flag", "text", "list" of texts, `ITEMS`, `MIXED`, of times "offset", "none", or "spark".

    ``lists`` says which of other than texts are told: a query sees them as they are.
    The INT96 of Spark says nothing of an offset and means UTC.
    """
    columns = [footer.schema.column(i) for i in range(footer.num_columns)] if footer else []
    old = "spark" if footer and b"org.apache.spark.version" in (footer.metadata or {}) else "none"
    found = {}
    for column in columns:
        type_ = column.logical_type.type
        if column.path != column.name:  # inside of another
            continue
        if type_ == "TIMESTAMP":
            found[column.name] = "offset" if json.loads(column.logical_type.to_json())["isAdjustedToUTC"] else "none"
        elif column.physical_type == "INT96" or type_ == "DATE":
            found[column.name] = old if column.physical_type == "INT96" else "none"
        elif type_ in _LOGICAL or (type_ == "NONE" and column.physical_type in _PHYSICAL):
            found[column.name] = _LOGICAL.get(type_) or _PHYSICAL[column.physical_type]
    nested = any(column.path != column.name for column in columns)
    fields = footer.schema.to_arrow_schema() if footer and (nested or b"ARROW:schema" in (footer.metadata or {})) else ()
    return found | {field.name: kind for field in fields if (kind := MIXED if is_mixed(field) else _list(field, lists))}


def _list(field: pa.Field, lists: Callable[[str], bool]) -> str | None:
    if not (pa.types.is_list(field.type) or pa.types.is_large_list(field.type) or pa.types.is_fixed_size_list(field.type)):
        return None
    return "list" if pa.types.is_string(field.type.value_type) else f"{ITEMS} {field.type}" if lists(field.name) else None


_LOGICAL = {"STRING": "text", "INT": "whole", "DECIMAL": "whole"}
_PHYSICAL = {"FLOAT": "float", "DOUBLE": "float", "BOOLEAN": "flag", "INT32": "whole", "INT64": "whole"}


def several(files: Iterable[Mapping[str, str]], types: Callable[[str, str], bool], known: Mapping[str, str]) -> set[str]:
    """Return the columns that hold values of several kinds, in small letters: numbers in some files, or as is ``known``, and texts in others, say."""
    before = {name: _kind(type_) for name, type_ in known.items()}
    every: dict[str, set[str]] = {}
    for name, kind in (item for found in (*files, before) for item in found.items()):
        if kind == MIXED or types(name, MIXED):
            every.setdefault(name.lower(), set()).add(_plain(kind))
    return {name for name, found in every.items() if found <= _KINDS and (MIXED in found or len(found) > 1)}


def _plain(kind: str) -> str:
    return "list" if kind.startswith(ITEMS) else _PLAIN.get(kind, kind)


def _kind(type_: str) -> str:
    """Return of which kind a column was whose type is known."""
    named = {"VARCHAR": "text", "BOOLEAN": "flag", "VARCHAR[]": "list", MIXED: MIXED, "FLOAT": "float", "DOUBLE": "float"}
    return named.get(type_) or ("whole" if type_.startswith("DECIMAL(") or type_.endswith(("INT", "INTEGER")) else type_)


def scan(files: Mapping[Path, Mapping[str, str]], several: Collection[str]) -> str:
    """Return the query of files, given what their columns are; a column that has an offset in some of them and none in others is text, as in text files.

    So is one of floats in some and texts in others that is not among the ``several``: whole numbers without their ``.0``, NaN null.
    Lists of anything are lists of texts.
    """
    every = {(name.lower(), kind) for found in files.values() for name, kind in found.items()}
    texts = {name for name, kind in every if kind == "none" and {(name, "offset"), (name, "spark")} & every}
    texts |= {name for name, kind in every if kind == "float" and (name, "text") in every}
    alike: dict[tuple[tuple[str, str], ...], list[Path]] = {}
    for file, found in files.items():
        other = ((c, kind) for c, kind in found.items() if kind == "spark" or kind.startswith(ITEMS) or c.lower() in {*texts, *several})
        alike.setdefault(tuple(other), []).append(file)
    parts = []
    for same, some in alike.items():
        said = ", ".join(f"{_said(c, kind, c.lower() in several, c.lower() in texts)} as {quoted(c)}" for c, kind in same)
        parts.append(f"select *{f' replace ({said})' if said else ''} from read_parquet({listed(some)}, {_UNION})")
    return " union all by name ".join(parts)


def _said(column: str, kind: str, several: bool, text: bool) -> str:
    value = {"spark": f"timezone('UTC', {quoted(column)})", "float": float_text(quoted(column))}.get(kind, quoted(column))
    if kind.startswith(ITEMS):
        value = f"json_extract_string(to_json({value}), '$[*]')"
    if several:
        return value if kind in (MIXED, "float") else mixed.of_kind(value, _plain(kind))
    return f"{value}::varchar" if text else value


def float_text(column: str) -> str:
    """Return the SQL of a float as text: no ``.0`` of whole numbers, NaN null."""
    whole = f"{column} = trunc({column}) and abs({column}) < 1e15"
    return f"case when {whole} then try_cast({column} as bigint)::varchar when not isnan({column}) then {column}::varchar end"


def with_columns(engine: Engine, file: Path, columns: Mapping[str, str]) -> str:
    """Return the query of one file with the columns, and in the types, that it has among others of its source."""
    several, lists = ({name.lower() for name, kind in columns.items() if kind in some} for some in ((MIXED,), (MIXED, "VARCHAR[]")))
    one = f"({scan({file: kinds(bounds.footer_of(file), lambda name: name.lower() in lists)}, several)})"
    present = {name.lower() for name in engine.columns(f"select * from {one}")}
    types = {name: "VARCHAR" if kind == MIXED else kind for name, kind in columns.items()}
    picked = (f"{quoted(name) if name.lower() in present else 'null'}::{kind} as {quoted(name)}" for name, kind in types.items())
    return f"select {', '.join(picked)} from {one}"
