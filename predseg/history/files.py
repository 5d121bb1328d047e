"""Files as the view ``source``: Parquet, CSV and JSON lines, one or many.

Parquet brings its types along. Text files are read as text first and get their types in one look over the whole of
them, so that a type never fails late: a column is a number, a boolean or a time only when every value is. Codes such
as ``00123`` and ``+44123`` and whole numbers of more digits than a float can hold stay text. Where some values are of another kind
(``n/a`` among numbers) every value keeps its own, see `predseg.history.mixed`: the type `MIXED`, of JSON `JSON`. A CSV file needs a header line; its
delimiter is the most frequent of ``, ; tab |`` there, its quote is ``"``. Lines that are no rows are kept aside.
"""

from __future__ import annotations

import csv
import glob
import gzip
from collections.abc import Callable, Collection, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from predseg.engine import Engine, engine_errors, literal, quoted
from predseg.errors import DataError, nearest
from predseg.history import bounds, jsonl, mixed, parquet
from predseg.history.mixed import ITEMS, JSON, MIXED

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
Answer = TypeVar("Answer")
Lay = Callable[[Engine, list[Path]], None]
Types = Callable[[str, str], bool]
"""Says whether a column of text files may get a type."""


def any_type(name: str, kind: str) -> bool:
    """Let every column get every type, but none several kinds."""
    return kind != MIXED


class Each(Protocol):
    """Looks at the files of a source: at all of them at once, or at each on whichever machine, with an engine of its own there."""

    def __call__(self, look: Callable[[Engine, list[Path]], Answer]) -> Iterator[Answer]:
        """Yield what ``look`` says of some of the files until all of them were looked at; it holds no engine."""
        ...


@dataclass(frozen=True)
class Raw:
    """What was registered as ``source``.

    Attributes:
        columns: Name of every column → its DuckDB type, in order.
        rows: Number of rows, None when it is not known beforehand.
        rejected: Query of the lines that were no rows when the source was read: ``raw, reason``; None when the format has none.
        notes: Why a column that looks like a number, a boolean or a time is text, by column.
        lay: Makes the view ``source_text`` of some of the files, every column as text; None when the format has types.
        typed: The query of it in the types of ``columns``, or of all files when the format has types.
        said: Of JSON lines the types of each column, None for texts; empty where it is always null.
        keys: Of JSON lines the key of each column of ``source``, where keys that differ in case have names of their own; ``columns`` has keys.
    """

    columns: dict[str, str]
    rows: int | None = None
    rejected: str | None = None
    notes: dict[str, str] = field(default_factory=dict)
    lay: Lay | None = None
    typed: str = ""
    said: Mapping[str, Set[str | None]] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)

    def help(self) -> str:
        """Return what a query over ``source`` may use."""
        named = {key: name for name, key in self.keys.items()}
        columns = ", ".join(f"{named.get(name, name)} {kind}" for name, kind in self.columns.items())
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


class Before(NamedTuple):
    """What a source was when it was read before: the names of its columns, which keep their case, and the properties that stay texts."""

    names: Collection[str] = ()
    texts: Collection[str] = ()


NEVER = Before()


def register(
    engine: Engine,
    files: list[Path],
    place: str,
    known: dict[str, str] | None = None,
    each: Each | None = None,
    types: Types = any_type,
    before: Before = NEVER,
) -> Raw:
    """Make the view ``source`` of files of one format.

    Args:
        engine: Where the view is made.
        files: The files.
        place: What errors name.
        known: The columns that the source has, when these files are more of it: they are read in these columns and types.
        each: Looks at all of text files, which decides their types; by default ``engine`` does.
        types: Which types columns may get.
        before: What is known of the source, when these are all of its files.

    Raises:
        Unlike: When a column is not known, or a value does not fit its type.
        DataError: E402 unknown or mixed formats, E404 no header or no rows, E405 unreadable content, E418 far more than the files weigh.
    """
    kinds = {_kind(file, place) for file in files}
    if len(kinds) > 1:
        raise DataError("E402", place, f"the files mix formats: {', '.join(sorted(kinds))}", "make one source of each format")
    look: Each = each or (lambda look: iter([look(engine, files)]))
    types, called = _but(types, before.texts), {name.lower(): name for name in before.names}
    with engine_errors(place, "E405", "the file may be damaged or of another format than its name says"):
        if any(file.name.lower().endswith(".gz") for file in files):
            list(look(partial(_check_gzip, place)))
        kind = kinds.pop()
        if kind == "parquet":
            raw = _parquet(engine, files, place, types, known or {}, called)
        elif kind == "csv":
            raw = _csv(engine, files, place, look, types, called)
        else:
            return _jsonl(engine, files, place, known, look, types)
        return _as_known(engine, files, raw, known, look, types)


def _but(types: Types, texts: Collection[str]) -> Types:
    """Let some properties be nothing but texts."""
    return lambda name, kind: types(name, kind) and not (name in texts and types(name, MIXED))


def format_of(file: Path) -> str | None:
    """Return the format that the name of a file says: csv, jsonl, parquet."""
    return FORMATS.get(Path(file.name.lower().removesuffix(".gz")).suffix)


def _check_gzip(place: str, _: Engine, some: list[Path]) -> None:
    for file in some:
        if file.name.lower().endswith(".gz"):
            bounds.check_gzip(file, place)


def _as_known(engine: Engine, files: list[Path], raw: Raw, known: dict[str, str] | None, each: Each, types: Types) -> Raw:
    if known is None or list(known.items()) == list(raw.columns.items()):
        return raw
    if not raw.lay:
        known = {name: MIXED if raw.columns.get(name) == MIXED else kind for name, kind in known.items()}
    if raw.columns.keys() - known.keys() or not (raw.lay or raw.columns.items() <= known.items()):
        raise Unlike
    if raw.lay and raw.said:
        known = {name: _joined(kind, raw.said.get(name, set())) if types(name, MIXED) else kind for name, kind in known.items()}
        raw = replace(raw, lay=partial(raw.lay, several=[name for name in raw.columns if known[name] == JSON]))  # type: ignore[call-arg]
    if raw.lay:
        known |= dict.fromkeys(_loosened(raw, known, each, types), MIXED)
        raw.lay(engine, files)
    here = {name: _cast(name, kind) if raw.lay else quoted(name) for name, kind in known.items() if name in raw.columns}
    plain = {MIXED: "VARCHAR", JSON: "VARCHAR"}
    picked = (here.get(name, f"null::{plain.get(kind, kind)} as {quoted(name)}") for name, kind in known.items())
    query = f"select {', '.join(picked)} from {'source_text' if raw.lay else f'({raw.typed})'}"
    engine.view("source", query)
    return replace(raw, columns=dict(known), typed=query)


def _joined(kind: str, said: Set[str | None]) -> str:
    """Return the type of a column of JSON that was of one type so far, and is of these in more files."""
    return kind if kind == JSON or said <= _SAID.get(kind, set()) or said | {kind} <= {*_NUMBERS} else JSON


def _loosened(raw: Raw, known: dict[str, str], each: Each, types: Types) -> list[str]:
    """Return the columns of text files that are of several kinds now, those before among them.

    Raises:
        Unlike: When other values do not fit the types that are known.
    """
    assert raw.lay is not None
    typed = [(name, known[name]) for name in raw.columns if known[name] not in ("VARCHAR", MIXED, JSON)]
    found = zip(*each(partial(_looked, raw.lay, [f"count(*) filter ({_misfit(*one)})" for one in typed])), strict=True) if typed else ()
    odd = [name for (name, _), counted in zip(typed, found, strict=True) if any(counted)]
    if any(known[name] not in _LOOSE or raw.said or raw.columns[name] in _LOOSE or not types(name, MIXED) for name in odd):
        raise Unlike
    loose = [*odd, *(name for name in raw.columns if known[name] == MIXED)]
    if len(_without_codes(raw.lay, loose, each)) < len(loose):
        raise Unlike
    return loose


def of_file(engine: Engine, file: Path, raw: Raw) -> str:
    """Return the query of one file with the columns, and in the types, that it has among others of its source."""
    if raw.lay is None:
        return parquet.with_columns(engine, file, raw.columns)
    raw.lay(engine, [file])
    return raw.typed


def _kind(file: Path, place: str) -> str:
    kind = format_of(file)
    if kind is None or (kind == "parquet" and file.name.lower().endswith(".gz")):
        raise DataError("E402", place, f"cannot tell the format of {file.name}", "name it .csv, .csv.gz, .parquet, .jsonl or .jsonl.gz")
    return kind


def _parquet(engine: Engine, files: list[Path], place: str, types: Types, known: Mapping[str, str], called: Mapping[str, str]) -> Raw:
    kinds = {file: parquet.kinds(bounds.check_parquet(file, place), lambda name: types(name, ITEMS)) for file in files}
    several = parquet.several(kinds.values(), types, known)
    query = parquet.scan(kinds, several)
    if renamed := [f"{quoted(n)} as {quoted(called[n.lower()])}" for n in engine.columns(query) if called.get(n.lower(), n) != n]:
        query = f"select * rename ({', '.join(renamed)}) from ({query})"
    engine.view("source", query)
    rows = engine.rows("select count(*) from source")[0][0]
    return Raw({name: MIXED if name.lower() in several else kind for name, kind in engine.columns("select * from source").items()}, rows, typed=query)


# csv


def _csv(engine: Engine, files: list[Path], place: str, each: Each, types: Types, called: Mapping[str, str]) -> Raw:
    headers = {file: _header(file, place) for file in files}
    spelled: dict[str, str] = {}
    for name in (name for _, given in headers.values() for name in given):
        spelled.setdefault(name.lower(), called.get(name.lower(), name))  # SQL does not see case: of two files these are one column
    names = tuple(spelled.values())
    headers = {file: (delimiter, tuple(spelled[name.lower()] for name in given)) for file, (delimiter, given) in headers.items()}
    lay = partial(_lay_csv, headers, names)
    lay(engine, files)
    rejected = "csv_line as raw, 'not a row of the header: ' || lower(replace(error_type::varchar, '_', ' ')) as reason"
    return _typed(engine, lay, names, _guess(engine, names), rejected, each, types)


def _lay_csv(headers: dict[Path, tuple[str, tuple[str, ...]]], names: tuple[str, ...], engine: Engine, some: list[Path]) -> None:
    """Make ``source_text`` of some of the files, with the columns of all."""
    groups: dict[tuple[str, tuple[str, ...]], list[Path]] = {}
    for file in some:
        groups.setdefault(headers[file], []).append(file)
    scans = [f"select * from {_scan(paths, given, delimiter)}" for (delimiter, given), paths in groups.items()]
    there = {name.lower() for _, given in groups for name in given}
    if missing := [name for name in names if name.lower() not in there]:
        scans.append(f"select {', '.join(f'null::varchar as {quoted(name)}' for name in missing)} where false")
    engine.view("source_text", " union all by name ".join(scans))


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
    try:
        names = [name.strip() for name in next(csv.reader([line], delimiter=delimiter))]
    except csv.Error as error:
        raise DataError("E405", place, f"cannot read the header of {file}: {error}", "end its lines with a line feed") from None
    return delimiter, _distinct(names)


def _distinct(names: list[str]) -> tuple[str, ...]:
    """Give every column a name of its own, whatever the case: SQL does not see case."""
    seen: dict[str, str] = {}
    for position, name in enumerate(names):
        name = plain = name or f"column{position}"
        again = 0
        while name.lower() in seen:
            again += 1
            name = f"{plain}_{again}"
        seen[name.lower()] = name
    return tuple(seen.values())


def _scan(files: list[Path], names: tuple[str, ...], delimiter: str) -> str:
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names)
    dialect = f"delim = {literal(delimiter)}, quote = '\"', escape = '\"', header = true, auto_detect = false, null_padding = false"
    return f"read_csv({parquet.listed(files)}, {dialect}, columns = {{{columns}}}, store_rejects = true, max_line_size = 16777216)"


# json lines


def _jsonl(engine: Engine, files: list[Path], place: str, known: dict[str, str] | None, each: Each, types: Types) -> Raw:
    structures = sorted(set().union(*each(jsonl.structures)))
    if not structures:
        raise DataError(
            "E404", place, "no line is a JSON object", 'write one object a line, such as {"customer_id": "c1", "event": "Order Completed", ...}'
        )
    kinds = jsonl.kinds(structures)
    bounds.check_columns(kinds, place)
    every = list(dict.fromkeys([*(known or ()), *kinds]))
    keys = {name: key or name for name, key in zip(_distinct(every), every, strict=True)}
    columns = {key: name for name, key in zip(keys, every, strict=True)}

    def allowed(name: str, kind: str) -> bool:
        return types(keys[name], kind)

    lists = {name: "VARCHAR[]" if allowed(name, ITEMS) else None for name in keys}
    said = {columns[key]: {lists[columns[key]] if kind == ITEMS else kind for kind in found} for key, found in kinds.items()}
    candidates = {name: _one_kind(found, allowed(name, MIXED)) for name, found in said.items()}
    there = {key: columns[key] for key in kinds}
    raw = _as_said(engine, files, there, candidates, each, allowed)
    if wide := [name for name in raw.notes if candidates[name] in _NUMBERS and allowed(name, MIXED)]:  # each number is what it is by itself
        raw = _as_said(engine, files, there, candidates | dict.fromkeys(wide, JSON), each, allowed)
    raw = replace(raw, rejected=f"{jsonl.REJECTED} union all {raw.rejected}", said=said)
    raw = _as_known(engine, files, raw, known and {columns[key]: kind for key, kind in known.items()}, each, allowed)
    return replace(raw, columns={keys[name]: kind for name, kind in raw.columns.items()}, keys=keys)


def _as_said(engine: Engine, files: list[Path], columns: dict[str, str], candidates: dict[str, str | None], each: Each, types: Types) -> Raw:
    lay = partial(jsonl.lay, columns, several=[name for name, kind in candidates.items() if kind == JSON])
    lay(engine, files)
    return _typed(engine, lay, tuple(candidates), candidates, jsonl.NOT_UTF8, each, types)


def _one_kind(kinds: set[str | None], several: bool) -> str | None:
    if kinds == {"BIGINT", "DOUBLE"}:
        return "DOUBLE"
    return next(iter(kinds)) if len(kinds) == 1 else JSON if kinds and several else None


# types of text


def _typed(engine: Engine, lay: Lay, names: tuple[str, ...], candidates: dict[str, str | None], rejected: str, each: Each, allowed: Types) -> Raw:
    """Make ``source`` of ``source_text``: every column in the narrowest type that all of its values have."""
    tries = [
        (name, kind)
        for name, first in candidates.items()
        if first not in (None, JSON) and allowed(name, first)
        for kind in (_NUMBERS if first == "BIGINT" else (first,))
    ]
    counts = [f"count(*) filter ({_misfit(name, kind)}), min({quoted(name)}) filter ({_misfit(name, kind)})" for name, kind in tries]
    totals, *found = zip(*each(partial(_looked, lay, ["count(*)", *counts])), strict=True)
    rows = sum(totals)
    types = {name: JSON if candidates[name] == JSON else "VARCHAR" for name in names}
    notes: dict[str, str] = {}
    for (name, kind), counted, examples in zip(tries, found[::2], found[1::2], strict=True):
        if types[name] != "VARCHAR":
            continue
        if not (bad := sum(counted)):
            types[name] = kind
            notes.pop(name, None)
        else:
            example = min(one for one in examples if one is not None)
            notes[name] = f"{name} is text: {example!r} ({bad:,} of {rows:,} values) is not {_SAY[kind]}"
    for name in _without_codes(lay, [name for name in notes if candidates[name] in _LOOSE and allowed(name, MIXED)], each):
        types[name] = MIXED
        del notes[name]
    query = f"select {', '.join(_cast(name, types[name]) for name in names)} from source_text"
    engine.view("source", query)
    lines = "select distinct on (file_path, line_byte_position) * from reject_errors join reject_scans using (scan_id, file_id)"
    return Raw(types, rows, f"select {rejected} from ({lines})", notes, lay, query)


def _without_codes(lay: Lay, names: list[str], each: Each) -> list[str]:
    """Return the columns that are of numbers or flags but for some values, none of which makes codes of all."""
    tests = [f"count(*) filter (not {_number(name)} and regexp_full_match({quoted(name)}, {literal(mixed.CODE)}))" for name in names]
    found = zip(*each(partial(_looked, lay, tests)), strict=True) if names else ()
    return [name for name, counted in zip(names, found, strict=True) if not any(counted)]


def _looked(lay: Lay, tests: list[str], engine: Engine, some: list[Path]) -> tuple[Any, ...]:
    """Return one row of tests over the text of some of the files."""
    lay(engine, some)
    found = _looks(engine, tests, "source_text")
    engine.execute("delete from reject_errors")  # of this look; what the reading of the source itself rejects is what counts
    return found


def _looks(engine: Engine, tests: list[str], table: str) -> tuple[Any, ...]:
    """Return one row of many tests, asked for some at a time: what a query costs grows with the square of their number."""
    found: tuple[Any, ...] = ()
    for begin in range(0, len(tests), _AT_ONCE):
        found += engine.rows(f"select {', '.join(tests[begin : begin + _AT_ONCE])} from {table}")[0]
    return found


_AT_ONCE = 40
_NUMBERS = ("BIGINT", "DOUBLE")
_LOOSE = (*_NUMBERS, "BOOLEAN")
"""Types of which a column in a file without types may be but for some values."""
_SAID: dict[str, set[str | None]] = {kind: {kind} for kind in (*_LOOSE, "VARCHAR[]")}
_SAID |= {"DOUBLE": {*_NUMBERS}, "VARCHAR": {None}}
_SAY = {"BIGINT": "a whole number", "DOUBLE": "a number", "BOOLEAN": "true or false", "DATE": "a date", "VARCHAR[]": "a list of texts"}
_SAY |= {"TIMESTAMP": "a time without offset", "TIMESTAMP WITH TIME ZONE": "a time with offset"}
_ORDER = ("BIGINT", "DOUBLE", "BOOLEAN", "DATE", "TIMESTAMP WITH TIME ZONE", "TIMESTAMP")
_TIMED = r"\s*[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{1,2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?\s*"
"""The whole of it: what stands behind would be passed over, ``UTC`` or ``PM``."""
_OFFSET = r"([zZ]|[+-][0-9]{2}(:?[0-9]{2})?)\s*"


def _guess(engine: Engine, names: tuple[str, ...]) -> dict[str, str | None]:
    """Return for every column the type to try: the first that fits the most of the first values, if it fits at least half."""
    tests = [f"count({quoted(name)}), " + ", ".join(f"count(*) filter ({_misfit(name, kind)})" for kind in _ORDER) for name in names]
    engine.execute("set preserve_insertion_order = true")  # else the sample is what is read first on however many threads
    row = _looks(engine, tests, f"(select * from source_text limit {_SAMPLE})")
    engine.execute("set preserve_insertion_order = false")
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
        "BIGINT": f"regexp_matches({c}, '^\\s*-?0[0-9]|[^0-9\\s-]')",
        "DOUBLE": f"regexp_matches({c}, '^\\s*\\+|^\\s*-?0[0-9]|^\\s*-?[0-9]{{16,}}\\s*$|[a-df-zA-DF-Z_]')",
        "BOOLEAN": f"lower(trim({c})) not in ('true', 'false')",
        "DATE": f"not regexp_full_match({c}, '\\s*[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}\\s*')",
        "TIMESTAMP WITH TIME ZONE": f"not regexp_full_match({c}, '{_TIMED}{_OFFSET}')",
        "TIMESTAMP": f"not regexp_full_match({c}, '{_TIMED}')",
        "VARCHAR[]": "false",
    }[kind]
    return f"{c} is not null and ({strange} or {_try(name, kind)} is null)"


def _try(name: str, kind: str) -> str:
    text = (
        f"try_cast({quoted(name)} as json)" if kind == "VARCHAR[]" else f"nullif({quoted(name)}, '')"
    )  # a bare cast would be done by the scan, its way
    return f"try_cast({text} as {kind})"


def _number(name: str) -> str:
    """Return the test that a value of the column is a number."""
    return f"not ({' and '.join(f'({_misfit(name, kind)})' for kind in _NUMBERS)})"


def _cast(name: str, kind: str) -> str:
    if kind in (MIXED, JSON):
        said = mixed.of_json(f"{quoted(name)}::json") if kind == JSON else mixed.of_untyped(quoted(name), _number(name))
        return f"{said} as {quoted(name)}"
    return quoted(name) if kind == "VARCHAR" else f"{_try(name, kind)} as {quoted(name)}"
