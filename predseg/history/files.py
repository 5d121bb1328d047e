"""Files as the view ``source``: Parquet, CSV and JSON lines, one or many.

Parquet brings its types along. Text files are read as text first and get their types in one look over the whole of
them, so that a type never fails late: a column is a number, a boolean or a time only when every value is. Codes such
as ``00123`` and whole numbers of more digits than a float can hold stay text. A CSV file needs a header line; its
delimiter is the most frequent of ``, ; tab |`` there, its quote is ``"``. Lines that are no rows are kept aside.
"""

from __future__ import annotations

import csv
import glob
import gzip
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from predseg.engine import Engine, engine_errors, literal, quoted
from predseg.errors import DataError, nearest
from predseg.history import bounds

FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}
_SAMPLE, _HEADER = 20_000, 1_000_000


@dataclass(frozen=True)
class Raw:
    """What was registered as ``source``.

    Attributes:
        columns: Name of every column → its DuckDB type, in order.
        rows: Number of rows, None when it is not known beforehand.
        rejected: Query of the lines that were no rows when the source was read: ``raw, reason``; None when the format has none.
        notes: Why a column that looks like a number, a boolean or a time is text, by column.
    """

    columns: dict[str, str]
    rows: int | None = None
    rejected: str | None = None
    notes: dict[str, str] = field(default_factory=dict)

    def help(self) -> str:
        """Return what a query over ``source`` may use."""
        columns = ", ".join(f"{name} {kind}" for name, kind in self.columns.items())
        return "; ".join([f"`source` has the columns {columns}", *self.notes.values()])


def find(patterns: tuple[str, ...], resolve: Callable[[str], Path], place: str) -> list[Path]:
    """Return the files of paths and globs, each once, in order of their names.

    Raises:
        DataError: E401 when a path or a glob finds nothing, naming what exists nearby.
    """
    found: set[Path] = set()
    for pattern in patterns:
        path = resolve(pattern)
        matches = [path] if path.is_file() else [Path(p) for p in glob.glob(str(path), recursive=True) if Path(p).is_file()]  # noqa: PTH207
        if not matches:
            raise _missing(path, pattern, place)
        found.update(matches)
    return sorted(found)


def _missing(path: Path, pattern: str, place: str) -> DataError:
    if path.is_dir():
        return DataError("E401", place, f"{path} is a folder, expected a file or a glob", f"write `path: {pattern.rstrip('/')}/*.parquet`")
    folder = path.parent
    while not folder.is_dir():
        folder = folder.parent
    names = [p.name for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")]
    near = nearest(path.name, names) if names else "it holds no files"
    what = "no file matches" if glob.has_magic(pattern) else "no such file:"
    return DataError(
        "E401", place, f"{what} {path}", f"in {folder} {near}" if folder == path.parent else f"there is no folder {path.parent}; in {folder} {near}"
    )


class Unlike(Exception):
    """Files do not fit the columns of those that were read before, so that only all of them together say what the columns are."""


def register(engine: Engine, files: list[Path], place: str, known: dict[str, str] | None = None) -> Raw:
    """Make the view ``source`` of files of one format; with ``known``, the columns that more files of the same source have, in these columns and types.

    Raises:
        Unlike: When a column is not known, or a value does not fit its type.
        DataError: E402 unknown or mixed formats, E404 no header or no rows, E405 unreadable content, E418 far more than the files weigh.
    """
    kinds = {_kind(file, place) for file in files}
    if len(kinds) > 1:
        raise DataError("E402", place, f"the files mix formats: {', '.join(sorted(kinds))}", "make one source of each format")
    for file in files:
        if file.name.lower().endswith(".gz"):
            bounds.check_gzip(file, place)
    with engine_errors(place, "E405", "the file may be damaged or of another format than its name says"):
        raw = {"parquet": _parquet, "csv": _csv, "jsonl": _jsonl}[kinds.pop()](engine, files, place)
        return raw if known is None or list(known.items()) == list(raw.columns.items()) else _as_known(engine, files, raw, known)


def _as_known(engine: Engine, files: list[Path], raw: Raw, known: dict[str, str]) -> Raw:
    text = raw.rejected is not None
    if raw.columns.keys() - known.keys() or not (text or raw.columns.items() <= known.items()):
        raise Unlike
    typed = [(name, known[name]) for name in raw.columns if known[name] != "VARCHAR"] if text else []
    if any(_looks(engine, [f"count(*) filter ({_misfit(*one)})" for one in typed], "source_text")):
        raise Unlike
    here = {name: _cast(name, kind) if text else quoted(name) for name, kind in known.items() if name in raw.columns}
    picked = (here.get(name, f"null::{kind} as {quoted(name)}") for name, kind in known.items())
    engine.view("source", f"select {', '.join(picked)} from {'source_text' if text else _scan_parquet(files)}")
    engine.execute("delete from reject_errors") if text else None
    return Raw(dict(known), raw.rows, raw.rejected, raw.notes)


def _kind(file: Path, place: str) -> str:
    name = file.name.lower().removesuffix(".gz")
    kind = FORMATS.get(Path(name).suffix)
    if kind is None or (kind == "parquet" and file.name.lower().endswith(".gz")):
        raise DataError("E402", place, f"cannot tell the format of {file.name}", "name it .csv, .csv.gz, .parquet, .jsonl or .jsonl.gz")
    return kind


def _list(files: list[Path]) -> str:
    return "[" + ", ".join(literal(f) for f in files) + "]"


def _parquet(engine: Engine, files: list[Path], place: str) -> Raw:
    for file in files:
        bounds.check_parquet(file, place)
    engine.view("source", f"select * from {_scan_parquet(files)}")
    rows = engine.rows("select count(*) from source")[0][0]
    return Raw(engine.columns("select * from source"), rows)


def _scan_parquet(files: list[Path]) -> str:
    return f"read_parquet({_list(files)}, union_by_name = true, hive_partitioning = false)"


def is_parquet(file: Path) -> bool:
    """Say whether the name of a file is one of Parquet."""
    return FORMATS.get(file.suffix.lower()) == "parquet"


def with_columns(engine: Engine, file: Path, columns: dict[str, str]) -> str:
    """Return the query of one Parquet file with the columns, and in the types, that it has among others of its source."""
    scan = f"read_parquet({literal(file)}, hive_partitioning = false)"
    present = {name.lower() for name in engine.columns(f"select * from {scan}")}
    picked = (f"{quoted(name) if name.lower() in present else 'null'}::{kind} as {quoted(name)}" for name, kind in columns.items())
    return f"select {', '.join(picked)} from {scan}"


# csv


def _csv(engine: Engine, files: list[Path], place: str) -> Raw:
    groups: dict[tuple[str, tuple[str, ...]], list[Path]] = {}
    for file in files:
        groups.setdefault(_header(file, place), []).append(file)
    scans = [f"select * from {_scan(paths, names, delimiter)}" for (delimiter, names), paths in groups.items()]
    engine.view("source_text", " union all by name ".join(scans))
    names = tuple(dict.fromkeys(name for _, group in groups for name in group))
    return _typed(engine, names, {}, "csv_line as raw, 'not a row of the header: ' || lower(replace(error_type::varchar, '_', ' ')) as reason")


def _header(file: Path, place: str) -> tuple[str, tuple[str, ...]]:
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as content:
            line = content.readline(_HEADER).decode("utf-8-sig")
    except (UnicodeDecodeError, OSError, EOFError) as error:
        raise DataError("E405", place, f"cannot read the header of {file}: {error}", "save the file as UTF-8 text, or as .gz of it") from None
    if not line.strip():
        raise DataError("E404", place, f"{file} is empty", "a CSV file starts with a line of column names")
    if len(line) >= _HEADER:
        raise DataError(
            "E405", place, f"the header of {file} does not end within {_HEADER:,} characters", "a CSV file starts with a line of column names"
        )
    delimiter = max(",;\t|", key=line.count)
    bounds.check_columns(range(line.count(delimiter) + 1), place)
    names = [name.strip() for name in next(csv.reader([line], delimiter=delimiter))]
    return delimiter, _distinct(names)


def _distinct(names: list[str]) -> tuple[str, ...]:
    """Give every column a name of its own, whatever the case: SQL does not see case."""
    seen: dict[str, int] = {}
    result = []
    for position, name in enumerate(names):
        name = name or f"column{position}"
        again = seen[name.lower()] = seen.get(name.lower(), -1) + 1
        result.append(f"{name}_{again}" if again else name)
    return tuple(result)


def _scan(files: list[Path], names: tuple[str, ...], delimiter: str) -> str:
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names)
    dialect = f"delim = {literal(delimiter)}, quote = '\"', escape = '\"', header = true, auto_detect = false, null_padding = false"
    return f"read_csv({_list(files)}, {dialect}, columns = {{{columns}}}, store_rejects = true, max_line_size = 16777216)"


# json lines


def _jsonl(engine: Engine, files: list[Path], place: str) -> Raw:
    scan = f"read_csv({_list(files)}, delim = '\x01', quote = '', escape = '', header = false, auto_detect = false, columns = {{'line': 'VARCHAR'}}"
    engine.view("source_lines", f"select line from {scan}, store_rejects = true, max_line_size = 16777216) where trim(line) <> ''")
    verdict = bounds.verdict("line")
    good = f"select line::json as line from source_lines where {verdict} is null"
    bad = f"select line as raw, {verdict} as reason from source_lines where {verdict} is not null"
    structures = [row[0] for row in engine.rows(f"select distinct json_structure(line) from ({good})")]  # json_group_structure holds every line
    if not structures:
        raise DataError(
            "E404", place, "no line is a JSON object", 'write one object a line, such as {"customer_id": "c1", "event": "Order Completed", ...}'
        )
    kinds = _json_kinds(structures)
    bounds.check_columns(kinds, place)
    paths = "[" + ", ".join(literal("/" + name.replace("~", "~0").replace("/", "~1")) for name in kinds) + "]"
    names = _distinct(list(kinds))
    picked = ", ".join(f"v[{i}] as {quoted(name)}" for i, name in enumerate(names, 1))
    engine.view("source_text", f"select {picked} from (select json_extract_string(line, {paths}) as v from ({good}))")
    raw = _typed(engine, names, dict(zip(names, kinds.values(), strict=True)), "csv_line as raw, 'not UTF-8 text' as reason")
    return Raw(raw.columns, raw.rows, f"{bad} union all {raw.rejected}", raw.notes)


def _json_kinds(structures: list[str]) -> dict[str, str | None]:
    """Return the type to try for every key: numbers and booleans of JSON, lists of text; the rest stays text."""
    import json

    known = {"BIGINT": "BIGINT", "UBIGINT": "BIGINT", "HUGEINT": "BIGINT", "DOUBLE": "DOUBLE", "BOOLEAN": "BOOLEAN"}
    found: dict[str, set[str | None]] = {}
    for name, kind in (item for structure in structures for item in json.loads(structure).items()):
        kinds = found.setdefault(name, set())
        if kind in (["VARCHAR"], ["NULL"]):
            kinds.add("VARCHAR[]")
        elif kind != "NULL":
            kinds.add(known.get(kind) if isinstance(kind, str) else None)
    return {name: _one_kind(kinds) for name, kinds in found.items()}


def _one_kind(kinds: set[str | None]) -> str | None:
    if kinds == {"BIGINT", "DOUBLE"}:
        return "DOUBLE"
    return next(iter(kinds)) if len(kinds) == 1 else None


# types of text


def _typed(engine: Engine, names: tuple[str, ...], kinds: dict[str, str | None], rejected: str) -> Raw:
    """Make ``source`` of ``source_text``: every column in the narrowest type that all of its values have."""
    candidates = kinds or _guess(engine, names)
    tries = [(name, kind) for name, first in candidates.items() if first for kind in (_NUMBERS if first == "BIGINT" else (first,))]
    counts = [f"count(*) filter ({_misfit(name, kind)}), min({quoted(name)}) filter ({_misfit(name, kind)})" for name, kind in tries]
    rows, *found = _looks(engine, ["count(*)", *counts], "source_text")
    types = dict.fromkeys(names, "VARCHAR")
    notes: dict[str, str] = {}
    for (name, kind), bad, example in zip(tries, found[::2], found[1::2], strict=True):
        if types[name] != "VARCHAR":
            continue
        if not bad:
            types[name] = kind
            notes.pop(name, None)
        else:
            notes[name] = f"{name} is text: {example!r} ({bad:,} of {rows:,} values) is not {_SAY[kind]}"
    engine.view("source", f"select {', '.join(_cast(name, types[name]) for name in names)} from source_text")
    engine.execute("delete from reject_errors")  # of this look; what the reading of the source itself rejects is what counts
    lines = "select distinct on (file_path, line_byte_position) * from reject_errors join reject_scans using (scan_id, file_id)"
    return Raw(types, rows, f"select {rejected} from ({lines})", notes)


def _looks(engine: Engine, tests: list[str], table: str) -> tuple[Any, ...]:
    """Return one row of many tests, asked for some at a time: what a query costs grows with the square of their number."""
    found: tuple[Any, ...] = ()
    for begin in range(0, len(tests), _AT_ONCE):
        found += engine.rows(f"select {', '.join(tests[begin : begin + _AT_ONCE])} from {table}")[0]
    return found


_AT_ONCE = 40
_NUMBERS = ("BIGINT", "DOUBLE")
_SAY = {"BIGINT": "a whole number", "DOUBLE": "a number", "BOOLEAN": "true or false", "DATE": "a date", "VARCHAR[]": "a list of texts"}
_SAY |= {"TIMESTAMP": "a time without offset", "TIMESTAMP WITH TIME ZONE": "a time with offset"}
_ORDER = ("BIGINT", "DOUBLE", "BOOLEAN", "DATE", "TIMESTAMP WITH TIME ZONE", "TIMESTAMP")
_OFFSET = r"[0-9]([zZ]|[+-][0-9]{2}(:?[0-9]{2})?)\s*$"
_TIMED = r"^\s*[0-9]{4}-[0-9]{2}-[0-9]{2}[T ]"


def _guess(engine: Engine, names: tuple[str, ...]) -> dict[str, str | None]:
    """Return for every column the type to try: the first that fits the most values of a sample, if it fits at least half."""
    tests = [f"count({quoted(name)}), " + ", ".join(f"count(*) filter ({_misfit(name, kind)})" for kind in _ORDER) for name in names]
    row = _looks(engine, tests, f"(select * from source_text limit {_SAMPLE})")
    found: dict[str, str | None] = {}
    for name in names:
        (known, *misfits), row = row[: 1 + len(_ORDER)], row[1 + len(_ORDER) :]
        least = min(misfits)
        found[name] = _ORDER[misfits.index(least)] if known and 2 * least <= known else None
    return found


def _misfit(name: str, kind: str) -> str:
    """Return the test that a value of the column is not of the type, or would not come back the same."""
    c = quoted(name)
    strange = {
        "BIGINT": f"regexp_matches({c}, '^\\s*[+-]?0[0-9]|[^0-9\\s+-]')",
        "DOUBLE": f"regexp_matches({c}, '^\\s*[+-]?0[0-9]|^\\s*[+-]?[0-9]{{16,}}\\s*$|[a-df-zA-DF-Z_]')",
        "BOOLEAN": f"lower(trim({c})) not in ('true', 'false')",
        "DATE": f"not regexp_full_match({c}, '\\s*[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}\\s*')",
        "TIMESTAMP WITH TIME ZONE": f"not (regexp_matches({c}, '{_TIMED}') and regexp_matches({c}, '{_OFFSET}'))",
        "TIMESTAMP": f"not regexp_matches({c}, '{_TIMED}') or regexp_matches({c}, '{_OFFSET}')",
        "VARCHAR[]": "false",
    }[kind]
    return f"{c} is not null and ({strange} or {_try(name, kind)} is null)"


def _try(name: str, kind: str) -> str:
    text = (
        f"try_cast({quoted(name)} as json)" if kind == "VARCHAR[]" else f"nullif({quoted(name)}, '')"
    )  # a bare cast would be done by the scan, its way
    return f"try_cast({text} as {kind})"


def _cast(name: str, kind: str) -> str:
    return quoted(name) if kind == "VARCHAR" else f"{_try(name, kind)} as {quoted(name)}"
