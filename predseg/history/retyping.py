"""Columns of sources that are of another type than when they were read before, so that no event comes twice because it is spelled otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from predseg.errors import DataError
from predseg.history import files, merge, sources
from predseg.history.mixed import MIXED
from predseg.history.sources import Reading
from predseg.history.staging import Stage


def retyped(stage: Stage, before: Mapping[str, str]) -> dict[str, str]:
    """Return the columns that are text now and were not when the source was read before, and what they were."""
    reading, names = stage.reading, {name: name for name in sources.TEXTS} | {p.name: p.column for p in stage.properties}
    if reading.query:
        return {}
    now = {names[name]: label for name, label in reading.labels.items() if name in names and reading.raw.columns[label] == "VARCHAR"}
    types = {column: before.get(label, "VARCHAR") for column, label in now.items()}
    kinds = {column: type_ if type_.startswith("TIMESTAMP") else sources.kind_of(type_) for column, type_ in types.items()}
    return {column: kind for column, kind in kinds.items() if kind != "text"}


def check_names(readings: Iterable[Reading], present: Path, was: Iterable[str]) -> None:
    """Refuse keys of JSON lines that differ only in case where the ``present`` table, of an earlier version, has another name for one of them: E403."""
    taken = set() if merge.tells_kinds(present) else {name.lower() for name in was}
    for reading in readings:
        for column, key in reading.raw.keys.items():
            if column != key and column.lower() in taken and not reading.query:
                message = f"{key} is another property than one whose name differs only in case, and the table of an earlier version calls one of them {column}"
                raise DataError("E403", reading.place, message, "`predseg check --rebuild` builds the table anew from the files as they are")


def kept(found: Sequence[Path], before: Mapping[str, str], present: Path, was: Mapping[str, str]) -> set[str]:
    """Return the columns that stay texts as they were ``before``: of files without types, and where the ``present`` table is of an earlier version.

    There lists of more than texts were texts as well; in Parquet others may stand among texts. Before the types of columns were
    remembered, what ``was`` a text in the table stays one.
    """
    formats, told = {files.format_of(file) for file in found}, merge.tells_kinds(present)
    if not (before or told):
        return {name for name, kind in was.items() if kind == "text"}
    texts = {"VARCHAR"} if "csv" in formats or (not told and "jsonl" in formats) else set()
    return {name for name, type_ in before.items() if type_ in texts or (not told and type_.endswith("]") and type_ != "VARCHAR[]")}


def texts(readings: Sequence[Reading], before: Mapping[str, Mapping[str, str]], present: Path, was: Mapping[str, str]) -> set[str]:
    """Return the properties of which every value becomes a text where they would be of several kinds.

    They are those of which the ``present`` table, of an earlier version, has numbers among its texts; and those of a source that has them
    as texts now and had not before, or the other way round: each value has another kind then, and its rows would come twice.

    Args:
        readings: How the sources are read.
        before: Source → column → its type when it was read before.
        present: A file of the table.
        was: Property → its kind in the table.
    """
    found = set() if merge.tells_kinds(present) else {name for name, kind in was.items() if kind == "text"}
    for reading in readings:
        types, now = before.get(reading.name, {}), reading.raw.columns
        if reading.query:
            found |= {name for name, kind in reading.kinds.items() if name in was and was[name] != "mixed" and _to_or_from_text(was[name], kind)}
        elif not reading.raw.said:  # lines of JSON say of each value of which kind it is, and so may the files of a column of several kinds
            named = {name for name in reading.kinds if name in types and (reading.raw.lay or MIXED not in (types[name], now[name]))}
            found |= {name for name in named if _to_or_from_text(sources.kind_of(types[name]), sources.kind_of(now[name]))}
    return found


def _to_or_from_text(one: str, other: str) -> bool:
    return one != other and "text" in (one, other)
