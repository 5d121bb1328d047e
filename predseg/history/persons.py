"""At the door of every table: under which names persons come in, and who was forgotten and does not.

`Persons.admit` is asked for every batch of every source, after its check: ids become pseudonyms when the project wants
that, and rows of forgotten persons are left away and counted, the good and the bad ones alike.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from predseg.history import values
from predseg.history.contract import Checked
from predseg.history.keys import generations, pseudonym
from predseg.history.privacy import NOBODY, OptedOut

IDS = ("customer_id", "anonymous_id")
"""The columns of every table that name a person."""


@dataclass(frozen=True)
class Persons:
    """Who comes in, and as whom.

    Attributes:
        forgotten: Whose rows are left away.
        keys: What pseudonyms are made with; without any, ids stay as they are.
        dropped: Bad rows that are left away, see `bad_row`.
        listed: Of whom something was said; looked at where a key was added, for who was on the list before the store knew them.
        met: Told the id of one of them who comes in and stands on the list under an earlier name.
    """

    forgotten: OptedOut = NOBODY
    keys: tuple[bytes, ...] = ()
    dropped: OptedOut = NOBODY
    listed: OptedOut = NOBODY
    met: Callable[[str], None] = field(default=lambda customer_id: None, compare=False)

    @property
    def mark(self) -> str:
        """What tells these pseudonyms from others without telling the keys."""
        return pseudonym("predseg", self.keys)

    def named(self, ids: pa.Array) -> pa.Array:
        """Return ids as they stand in the tables."""
        return mapped(ids, self.name) if self.keys else ids

    def name(self, text: str) -> str:
        """Return an id as it stands in the tables."""
        found = generations(text, self.keys)
        if len(self.listed) and any(name in self.listed for name in found[:-1]):
            self.met(text)
        return found[-1]

    def admit(self, batch: pa.RecordBatch, checked: Checked) -> tuple[Checked, int]:
        """Return a checked batch as it may come in, and how many of its rows are left away because their person was forgotten."""
        good = checked.good
        if not len(self.forgotten):
            return replace(checked, good=self._renamed(good)), 0
        own = self._gone(*(_column(good, name) for name in IDS))
        worse = self._gone(*(_raw_ids(batch, name).take(pa.array(checked.bad, pa.int64())) for name in IDS))
        stay = ~worse
        kept = replace(
            checked,
            good=self._renamed(self._unlinked(good.filter(pa.array(~own)))),
            bad=checked.bad[stay],
            fields=[field for field, one in zip(checked.fields, stay, strict=True) if one],
            reasons=[reason for reason, one in zip(checked.reasons, stay, strict=True) if one],
            received=checked.received.filter(pa.array(stay)),
        )
        return kept, int(own.sum() + worse.sum())

    def event(self, row: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return one row as it may come in, with pseudonyms and without the anonymous id of a forgotten person; None is one of theirs."""
        if not (self.keys or len(self.forgotten)):
            return row
        row, ids = dict(row), {}
        for name in IDS:
            try:
                ids[name] = id_text(row.get(name)) or ""
            except ValueError:  # it is refused later, and shown as it is now
                row[name] = [] if self.keys else row[name]
        if self.gone(ids.get("customer_id") or ids.get("anonymous_id") or ""):
            return None
        if self.gone(ids.get("anonymous_id") or ""):
            del row["anonymous_id"], ids["anonymous_id"]
        return row | {name: self.name(one) for name, one in ids.items() if one}

    def _gone(self, customers: pa.Array, anonymous: pa.Array) -> np.ndarray:
        """Return which rows are of a forgotten person: by their customer, or, when they have none, by their anonymous id."""
        return values.flags(mapped(pc.coalesce(customers, anonymous), self.gone, pa.bool_()))

    def gone(self, text: str) -> bool:
        """Say whether an id was forgotten, whatever the keys were then."""
        return any(name in self.forgotten for name in generations(text, self.keys))

    def _renamed(self, good: pa.Table) -> pa.Table:
        for name in set(IDS) & set(good.column_names) if self.keys else ():
            good = good.set_column(good.column_names.index(name), name, self.named(good[name]))
        return good

    def _unlinked(self, good: pa.Table) -> pa.Table:
        """Take the anonymous id of a forgotten person out of the rows of others."""
        if "anonymous_id" not in good.column_names or not len(good):
            return good
        column = good["anonymous_id"].combine_chunks()
        gone = values.flags(mapped(column, self.gone, pa.bool_()))
        cleared = pc.if_else(pa.array(gone), pa.scalar(None, column.type), column)
        return good.set_column(good.column_names.index("anonymous_id"), "anonymous_id", cleared)

    def shown(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Return raw rows as they may stand in quarantine: with pseudonyms for ids."""
        for name in set(IDS) & set(rows.schema.names) if self.keys else ():
            rows = rows.set_column(rows.schema.names.index(name), name, self.named(_raw_ids(rows, name)))
        return rows

    def line(self, raw: str) -> str | None:
        """Return a line that is no row as it may stand in quarantine; None when it names somebody who was forgotten."""
        if self.keys:
            return f"({len(raw.encode('utf-8', 'replace')):,} bytes, not kept: ids are pseudonyms here)"
        return None if len(self.forgotten) and any(word in self.forgotten for word in words(raw)) else raw

    def wanted(self, source: str, raw: pa.Array) -> pa.Array:
        """Return which bad rows of a source were not dropped."""
        return pa.array([not len(self.dropped) or bad_row(source, text) not in self.dropped for text in raw.to_pylist()], pa.bool_())


EVERYBODY = Persons()


def id_text(value: Any) -> str | None:
    """Return an id as the tables have it; None when there is none.

    Raises:
        ValueError: when the value is neither a text nor a whole number.

    >>> id_text(" c1 "), id_text(17.0), id_text("")
    ('c1', '17', None)
    """
    if value is None or isinstance(value, str):
        return (value.strip() or None) if value else None
    if isinstance(value, bool | list | tuple | Mapping) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError(value)
    return str(int(value))


def bad_row(source: str, raw: str) -> str:
    """Return what names a row of the quarantine: equal rows of one source are one."""
    return f"{source}\n{raw}"


def mapped(ids: pa.Array | pa.ChunkedArray, change: Callable[[str], object], kind: pa.DataType | None = None) -> pa.Array:
    """Return ``change`` of every id, null for null; each different id is asked once."""
    ids = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    coded = pc.dictionary_encode(ids.cast(pa.string()))
    return pa.array([change(text) for text in coded.dictionary.to_pylist()], kind or pa.string()).take(coded.indices)


_DELIMITERS = (",", ";", "\t", r"\|", r"\s", r"[,;\t|\s\"':{}\[\]]")


def words(raw: str) -> set[str]:
    """Return everything in a raw row that may be an id: values of a JSON object, else what stands between delimiters.

    >>> sorted(words('{"id": " c1 ", "n": 7}')), sorted(words('c1;"c 2"'))
    (['7', 'c1'], ['2', 'c', 'c 2', 'c1', 'c1;"c', 'c1;"c 2'])
    """
    try:
        read = json.loads(raw)
    except (ValueError, RecursionError):
        read = None
    if isinstance(read, dict):
        return {str(value).strip() for value in read.values() if isinstance(value, str | int) and not isinstance(value, bool)}
    return {part.strip().strip("\"'").strip() for delimiter in _DELIMITERS for part in re.split(delimiter, raw)} - {""}


def names(raw: str, ids: Iterable[str]) -> bool:
    """Say whether a raw row names one of the ids."""
    return not words(raw).isdisjoint(ids)


def _column(table: pa.Table, name: str) -> pa.Array:
    return table[name].combine_chunks() if name in table.column_names else pa.nulls(len(table), pa.string())


def _raw_ids(batch: pa.RecordBatch, name: str) -> pa.Array:
    return values.ids(batch.column(name))[0] if name in batch.schema.names else pa.nulls(batch.num_rows, pa.string())
