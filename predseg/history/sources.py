"""A declared source → one query that gives its rows under their canonical names.

``columns:`` maps canonical names to columns of the source, or to a constant (``event: "=Order Completed"``); a column
that already bears a canonical name needs no mapping. In text files ids and events are text, and times only what is read as one. ``query:`` reshapes the raw rows first; there, ``source`` is the raw table.
Every column that is not canonical becomes a property.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from predseg.engine import Engine, engine_errors, literal, quoted
from predseg.errors import DataError, nearest
from predseg.history import databases, files
from predseg.history.files import NEVER, Before, Each, Raw
from predseg.history.keys import FLOAT
from predseg.history.mixed import ITEMS, JSON, MIXED
from predseg.language.urls import without_password

if TYPE_CHECKING:
    from predseg.config import Customers, Source

EVENT_COLUMNS = ("customer_id", "event", "event_time", "received_at", "value", "event_id", "anonymous_id")
"""The canonical columns of events; the rest are properties."""
TIMES = ("event_time", "received_at", "known_since")
TEXTS = ("customer_id", "event", "event_id", "anonymous_id")
RESERVED = ("linked_at", "as_of")
_WHOLE = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "HUGEINT", "UHUGEINT"}
_WIDE = {"UBIGINT", "HUGEINT", "UHUGEINT"}


@dataclass(frozen=True)
class Reading:
    """How to read one source.

    Attributes:
        name: Name of the source.
        place: What errors name.
        inner: Query of the rows under the names of the source.
        given: Canonical column → SQL expression over ``inner``.
        properties: Property → SQL expression over ``inner``.
        kinds: Property → ``flag``, ``whole``, ``number``, ``text``, ``list`` or ``mixed``.
        columns: The names that the source has for what ``inner`` gives, in order.
        labels: Canonical column or property → the name it has in the source; constants have none.
        floats: The properties that are binary floats.
        query: Whether a query reshapes the source.
        zone: Time zone of naive times, or None.
        raw: What was registered.
    """

    name: str
    place: str
    inner: str
    columns: tuple[str, ...]
    given: dict[str, str]
    properties: dict[str, str]
    kinds: dict[str, str]
    labels: dict[str, str]
    floats: frozenset[str]
    query: bool
    zone: str | None
    raw: Raw

    @property
    def rows(self) -> int | None:
        """The number of rows, None when it is not known beforehand."""
        return None if self.query else self.raw.rows

    @property
    def code(self) -> str:
        """The code of rows that cannot be read."""
        return "E406" if self.query else "E405"

    def help(self) -> str:
        """Return what to look at when the rows cannot be read."""
        return self.raw.help() if self.query else "the file may be damaged"


def locate(source: Source, resolve: Callable[[str], Path], place: str) -> tuple[Path, ...]:
    """Return the files of a source; none for a server or a table of Spark.

    Raises:
        DataError: E401 when something is not there.
    """
    if source.path:
        return tuple(files.find(source.path, resolve, place))
    file = databases.file_of(source.url, resolve, place) if source.url else None
    return (file,) if file else ()


def fingerprint(found: tuple[Path, ...]) -> list[list[Any]] | None:
    """Return path, size and time of change of every file, with the journal of a database; None when there is no file to look at."""
    marks: list[list[Any]] = []
    for path in found:
        for file in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + ".wal")):
            if file.is_file():
                stat = file.stat()
                marks.append([str(file), stat.st_size, stat.st_mtime_ns])
    return marks or None


def definition(source: Source, zone: str | None) -> dict[str, Any]:
    """Return everything a source declares that decides what its rows become; no password."""
    where = {"path": source.path, "table": source.table, "url": without_password(source.url) if source.url else None}
    return where | {"query": source.query, "columns": sorted(source.columns), "timezone": source.timezone or zone}


def read_events(
    engine: Engine,
    source: Source,
    found: tuple[Path, ...],
    zone: str | None,
    known: dict[str, str] | None = None,
    each: Each | None = None,
    before: Before = NEVER,
) -> Reading:
    """Register a source of events and say how its rows are read; ``known``, ``each`` and ``before`` are those of `predseg.history.files.register`.

    Raises:
        Unlike: When these files have other columns.
        DataError: E402 to E408, naming the source, what was found and what to write.
    """
    place = f"source {source.name}"
    reading = _read(engine, source, found, zone, place, EVENT_COLUMNS, dict(source.columns), known, each, before)
    _require(reading, engine.columns(reading.inner), source)
    return reading


def read_customers(engine: Engine, customers: Customers, found: tuple[Path, ...], zone: str | None) -> Reading:
    """Register the source of traits and say how its rows are read.

    Raises:
        DataError: E402 to E408, naming what was found and what to write.
    """
    named = {"customer_id": customers.customer_id, "event_time": customers.event_time, "known_since": customers.known_since}
    mapping = {name: column for name, column in named.items() if column}
    canonical = ("customer_id", *(name for name in ("event_time", "known_since") if named[name]))
    return _read(engine, customers.source, found, zone, "customers", canonical, mapping)


def _read(
    engine: Engine,
    source: Source,
    found: tuple[Path, ...],
    zone: str | None,
    place: str,
    canonical: tuple[str, ...],
    mapping: dict[str, str],
    known: dict[str, str] | None = None,
    each: Each | None = None,
    before: Before = NEVER,
) -> Reading:
    if source.url:
        raw = _register_table(engine, source, found, place)
    else:
        raw = files.register(engine, list(found), place, known, each, _types(mapping, canonical, bool(source.query)), before)
    inner = "select * from source"
    if source.query:
        inner = f"select * from ({source.query.strip().rstrip(';')}\n)"
    with engine_errors(place, "E406", raw.help()):
        laid = engine.columns(inner)
    named = {name if source.query else raw.keys.get(name, name): name for name in laid}
    types = {name: laid[column] for name, column in named.items()}
    given, labels = _canonical(mapping, canonical, types, named, place, raw.lay is None)
    used = set(labels.values())
    properties = [name for name in types if name not in used and name not in canonical]
    _check_names(properties, place)
    for column in given.keys() & set(TIMES):
        _check_time(column, labels.get(column), types, zone, place)
    kinds = {name: "mixed" if kind_of(raw.columns.get(name, "")) == "mixed" else kind_of(types[name]) for name in properties}
    expressions = {name: _expression(named[name], types[name]) for name in properties}
    labels |= {name: name for name in properties}
    floats = frozenset(name for name in properties if types[name] in ("DOUBLE", "FLOAT"))
    return Reading(source.name, place, inner, tuple(types), given, expressions, kinds, labels, floats, bool(source.query), zone, raw)


def _types(mapping: dict[str, str], canonical: Sequence[str], query: bool) -> files.Types:
    """Return which types columns get: phone numbers keep their ``+``, times that are properties are as they were written.

    Where no query reshapes them properties of events are of several kinds, and lists of anything are lists of texts.
    """
    texts, times = ({mapping.get(name, name) for name in names} for names in (TEXTS, TIMES))
    used = {mapping.get(name, name) for name in canonical}

    def allowed(name: str, kind: str) -> bool:
        if kind in (MIXED, ITEMS):
            return not query and name not in used and (kind == ITEMS or canonical == EVENT_COLUMNS)
        return query or (name not in texts and (name in times or not kind.startswith(("TIMESTAMP", "DATE"))))

    return allowed


def _register_table(engine: Engine, source: Source, found: tuple[Path, ...], place: str) -> Raw:
    return databases.register(engine, source.url or "", source.table or "", found[0] if found else None, place)


def _canonical(
    mapping: dict[str, str], canonical: Sequence[str], types: dict[str, str], named: dict[str, str], place: str, typed: bool
) -> tuple[dict[str, str], dict[str, str]]:
    given, labels = {}, {}
    for name in canonical:
        column = mapping.get(name, name if name in types else None)
        if column is None:
            continue
        if column.startswith("="):
            given[name] = literal(column[1:])
        elif column in types:
            given[name], labels[name] = _canonical_expression(name, named[column], types[column], typed), column
        else:
            raise _no_column(name, column, types, place)
    return given, labels


def _no_column(name: str, column: str, types: dict[str, str], place: str) -> DataError:
    close = nearest(column, list(types))
    near = re.search(r"did you mean '(.*)'\?", close)
    write = f"{name}: {near[1] if near else _guess(name, types)}"
    write = write if place == "customers" else f"columns: {{{write}}}"
    help_ = f"{close} write `{write}`" if near else f"map {name} to one of them, for example `{write}`"
    return DataError("E403", place, f"no column {column!r} for {name}; {_found(types)}", help_)


def _require(reading: Reading, types: dict[str, str], source: Source) -> None:
    found = _found(types)
    missing = [name for name in ("customer_id", "event_time", "event") if name not in reading.given]
    if "anonymous_id" in reading.given:
        missing = [name for name in missing if name != "customer_id"]
    if not missing:
        return
    if source.query:
        given = ", ".join(f"{_IN_SQL.get(name, 'COLUMN')} as {name}" for name in missing)
        help_ = f"let the query give it: `select ..., {given} from source`"
    else:
        examples = {"event": '"=Order Completed"'}
        lines = ", ".join(f"{name}: {examples.get(name, _guess(name, types))}" for name in missing)
        help_ = f"write under source {source.name}: `columns: {{{lines}}}`"
    raise DataError("E403", reading.place, f"no column for {', '.join(missing)}; {found}", help_)


def _found(types: dict[str, str]) -> str:
    names = list(types)
    return f"found {', '.join(names[:30])}" + (f" and {len(names) - 30} more" if len(names) > 30 else "")


_IN_SQL = {"event": "'Order Completed'"}
_HINTS = {"customer_id": ("customer", "client", "user", "household", "visitor", "member", "id"), "event_time": ("time", "date", "stamp", "_at")}


def _guess(name: str, types: dict[str, str]) -> str:
    for hint in _HINTS.get(name, ()):
        for column in types:
            if hint in column.lower():
                return column
    return "COLUMN"


def _check_names(properties: list[str], place: str) -> None:
    for name in properties:
        if name in RESERVED:
            raise DataError("E403", place, f"a property cannot be named {name!r}: predseg writes a column of that name", "rename it in a `query:`")


def _check_time(name: str, column: str | None, types: dict[str, str], zone: str | None, place: str) -> None:
    if column is None:
        return
    kind = types[column]
    if kind in _WHOLE or kind in ("DOUBLE", "FLOAT") or kind.startswith("DECIMAL"):
        help_ = f"say what it counts in a query: `query: select to_timestamp({quoted(column)} / 1000) as {name}, ... from source` (milliseconds since 1970)"
        raise DataError("E408", place, f"{name} is read from {column}, which holds numbers, expected times", help_)
    if kind in ("TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS") and zone is None:
        raise naive(place, name, column)


def naive(place: str, name: str, column: str | None, example: str | None = None) -> DataError:
    """Return the refusal of times without offset where no time zone is declared."""
    shown = f", such as {example!r}" if example else ""
    message = f"{name} (column {column or name}) holds times without an offset{shown}, and no timezone is declared"
    return DataError(
        "E408", place, message, "write for example `timezone: Europe/London`, or `timezone: UTC`, in the source or at the top of the project file"
    )


def kind_of(type_: str) -> str:
    """Return flag, whole, number, list, text or mixed for the type of a column."""
    if type_ in (MIXED, JSON):
        return "mixed"
    if type_ == "BOOLEAN":
        return "flag"
    if type_ in _WHOLE:
        return "whole"
    if type_ in ("DOUBLE", "FLOAT"):
        return "number"
    if type_.startswith("DECIMAL("):
        return "whole" if type_.endswith(",0)") else "number"
    return "list" if type_ == "VARCHAR[]" else "text"


def _expression(name: str, type_: str) -> str:
    """Return the column in one of the few types that the reading of a batch knows."""
    column = quoted(name)
    if type_ in _WIDE or (type_ in _WHOLE and type_ != "BIGINT"):
        return f"{column}::{'DECIMAL(38,0)' if type_ in _WIDE else 'BIGINT'}"
    if type_ == "FLOAT":
        return f"{column}::varchar::double"
    if type_ in ("BOOLEAN", "BIGINT", "DOUBLE", "VARCHAR", "VARCHAR[]") or type_.startswith("DECIMAL("):
        return column
    if type_.endswith("]") or type_.startswith(("STRUCT", "MAP", "UNION", "JSON")):
        return f"to_json({column})::varchar"
    return f"hex({column})" if type_ == "BLOB" else f"{column}::varchar"


def _canonical_expression(name: str, column: str, type_: str, typed: bool) -> str:
    """``typed``: the source has types of its own, else a whole number with ``.0`` is one that was a float on its way."""
    if name in TEXTS and type_ == "VARCHAR" and not typed:
        return rf"regexp_replace({quoted(column)}, '{FLOAT}', '\1')"
    timed = name in TIMES and (type_.startswith("TIMESTAMP") or type_ == "DATE")
    return quoted(column) if timed else _expression(column, type_)
