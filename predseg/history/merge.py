"""Many loads → one events table: no event twice, sorted by customer and time, cut into files between customers.

What is the same event:

- Rows with an ``event_id`` are the same event when it is equal. Of different contents the smallest (received_at, canonical JSON) stays.
- A row without one is named by a hash of its content: ``~`` and 24 hex digits, for the second and later equal rows
  of one load ``~`` and their ordinal in 6 hex digits. So a reload changes nothing, and equal real rows survive.

Canonical JSON is the content with sorted keys, without nulls, spaces, source name and event_id; instants in
microseconds, numbers without trailing zeros. :func:`canonical_json` is its definition, :func:`_json_sql` the same in SQL.
"""

from __future__ import annotations

import hashlib
import json
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from predseg.columns import is_mixed
from predseg.engine import Engine, literal
from predseg.history import identity, mixed, values
from predseg.history.behind import behind
from predseg.history.contract import Property
from predseg.history.repeats import EXISTING, Counts, without_repeats
from predseg.history.sorting import in_order
from predseg.history.staging import as_kind, number_text
from predseg.language.time import parse_instant
from predseg.layers import gone_in, name_of

FILE_ROWS = 1_000_000
GROUP_ROWS = 131_072
MEMORY = "1GB"
"""What the engine of a merge may hold: a part of the rows and of the event ids fits, see `in_order` and `COUNTED`."""
COUNTED = 4_000_000
"""Event ids that are compared at once."""
MADE = r"^~[0-9a-f]{24}(~[0-9a-f]{6})?$"
KINDS = {b"predseg.version": b"3"}
"""What a table says of itself whose texts are texts: before, numbers beside texts were texts too."""
_EVENT = pa.dictionary(pa.int32(), pa.string())


# content and names


def canonical_json(row: dict[str, Any]) -> str:
    """Return the content of an event as canonical JSON: what the hash of an event without id is made of.

    Args:
        row: Column → value; instants as microseconds or aware datetimes, exact numbers as Decimal, null as None.

    >>> canonical_json({"event": "Order Completed", "value": Decimal("12.5000"), "customer_id": "c1", "event_id": "e1", "note": None})
    '{"customer_id":"c1","event":"Order Completed","value":12.5}'
    """
    pairs = (f"{_json_text(name)}:{_json_value(row[name])}" for name in sorted(row) if row[name] is not None and name not in _NO_CONTENT)
    return "{" + ",".join(pairs) + "}"


_NO_CONTENT = ("event_id", "linked_at")


def _json_text(text: str) -> str:
    return re.sub(r"\\u00([0-9a-f]{2})", lambda m: m[0].upper().replace("\\U", "\\u"), json.dumps(text, ensure_ascii=False))


def _json_value(value: Any) -> str:
    if isinstance(value, Decimal):
        return f"{value:f}".rstrip("0").rstrip(".") if value % 1 else str(int(value))
    if isinstance(value, datetime):
        return str(parse_instant(value))
    if isinstance(value, str):
        return _json_text(value)
    if isinstance(value, list):
        return "[" + ",".join("null" if item is None else _json_text(item) for item in value) + "]"
    return json.dumps(value)


def made_id(row: dict[str, Any], ordinal: int = 0) -> str:
    """Return the event_id of an event that came without one; ``ordinal`` counts equal rows of one load.

    >>> made_id({"customer_id": "c1", "event": "Order Completed", "event_time": 0, "received_at": 0})
    '~48751ad3b8bae19c3664b01d'
    """
    name = "~" + hashlib.sha256(canonical_json(row).encode()).hexdigest()[:24]
    return f"{name}~{ordinal:06x}" if ordinal else name


def _json_sql(properties: list[Property], anonymous: bool) -> str:
    """Return the SQL of canonical JSON over the engine's columns."""
    texts = {"customer_id": "to_json(customer_id)", "event": "to_json(event)"}
    texts |= {"event_time": "epoch_us(event_time)::varchar", "received_at": "epoch_us(received_at)::varchar", "value": number_text("value")}
    if anonymous:
        texts["anonymous_id"] = "to_json(anonymous_id)"
    for item in properties:
        plain = number_text(item.column) if item.kind == "number" else f"to_json({item.column})"
        texts[item.name] = mixed.json_sql(item.column) if item.kind == "mixed" else plain
    pairs = [f"{literal(',' + _json_text(name) + ':')} || {texts[name]}" for name in sorted(texts)]
    return f"'{{' || substr(concat({', '.join(pairs)}), 2) || '}}'"


# what goes in


@dataclass(frozen=True)
class Merge:
    """Everything that a merge reads.

    Attributes:
        existing: Files of the present events table; empty when it is built anew.
        kinds: Kind of each of its properties.
        staged: One Parquet file of good rows per load.
        properties: The properties of the new table.
        anonymous: Whether anonymous ids are in use.
        named: Whether some rows bring an event_id.
        retyped: Load → column → the kind, or type of times, that the column had when its source was read before, where it is text now.
        again: Whether the content of present rows was changed, so that those without an id of their own need a new one.
    """

    existing: list[Path]
    kinds: dict[str, str]
    staged: dict[int, Path]
    properties: list[Property]
    anonymous: bool
    named: bool
    retyped: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    again: bool = False


def existing_kinds(file: Path) -> dict[str, str]:
    """Return the properties of an events file and their kinds."""
    kinds = {}
    for column in pq.read_schema(file):
        if column.name not in ("customer_id", "event", "event_time", "received_at", "value", "event_id", "anonymous_id", "linked_at"):
            type_ = column.type
            is_text = "list" if pa.types.is_list(type_) else "text"
            kinds[column.name] = (
                "mixed"
                if is_mixed(column)
                else "flag"
                if pa.types.is_boolean(type_)
                else "whole"
                if pa.types.is_integer(type_)
                else "number"
                if pa.types.is_decimal(type_)
                else is_text
            )
    return kinds


def tells_kinds(file: Path) -> bool:
    """Say whether texts of an events file are texts, and no numbers that an earlier version took in beside texts."""
    return bool(KINDS.items() <= (pq.read_schema(file).metadata or {}).items())


def scan(files: list[Path], gone: Mapping[str, np.ndarray], temp: Path, *, numbered: bool = False) -> str:
    """Return the SQL of the rows that files of the events table have; ``numbered`` adds filename and file_row_number."""
    listed = ", ".join(map(literal, files))
    if not gone and not numbered:
        return f"read_parquet([{listed}], hive_partitioning = false)"
    rows = f"read_parquet([{listed}], hive_partitioning = false, filename = true, file_row_number = true)"
    if gone:
        paths = {name_of(file): str(file) for file in files}
        parts = [pa.table({"filename": [paths[name]] * len(at), "file_row_number": at}) for name, at in gone.items() if name in paths]
        aside = temp / f"gone-{len(files)}.parquet"
        pq.write_table(pa.concat_tables(parts) if parts else pa.table({"filename": [""], "file_row_number": [0]}), aside)
        rows = f"{rows} t where not exists (from read_parquet({literal(aside)}) g where (g.filename, g.file_row_number) = (t.filename, t.file_row_number))"
    return f"(select * {'' if numbered else 'exclude (filename, file_row_number)'} from {rows})"


def existing_sql(merge: Merge, table: str) -> str:
    """Return rows of the present table, given as SQL, under the engine's names, every one with the customer its source gave it."""
    aliases = {name: f"c{i}" for i, name in enumerate(pq.read_schema(merge.existing[0]).names)}
    own, anonymous = aliases["customer_id"], aliases.get("anonymous_id", "null::varchar")
    if "anonymous_id" in aliases:
        own = identity.own_sql(own, anonymous, aliases["linked_at"])
    columns = [f"{EXISTING}::smallint as load", f"{own} as customer_id", f"{anonymous} as anonymous_id"]
    columns += [f"{aliases[name]} as {name}" for name in ("event", "event_time", "received_at", "value")]
    event_id = aliases["event_id"]
    renamed = merge.again or any(merge.retyped.values()) or any(merge.kinds.get(p.name, p.kind) != p.kind for p in merge.properties)
    columns.append(f"case when not {_made(event_id)} then {event_id} end as event_id" if renamed else f"{event_id} as event_id")
    columns += [f"{_converted(item, merge.kinds.get(item.name), aliases)} as {item.column}" for item in merge.properties]
    return f"select {', '.join(columns)} from {table} as t({', '.join(aliases.values())})"


def _converted(item: Property, was: str | None, aliases: dict[str, str]) -> str:
    if was is None:
        return f"null::{_SQL[item.kind]}"
    column = aliases[item.name]
    return column if was == item.kind else f"({as_kind(column, was, item.kind)})::{_SQL[item.kind]}"


def _made(column: str) -> str:
    return f"(starts_with({column}, '~') and regexp_matches({column}, {literal(MADE)}))"


_SQL = {"flag": "boolean", "whole": "bigint", "number": "decimal(18,4)", "text": "varchar", "mixed": "varchar", "list": "varchar[]"}


def rows_sql(merge: Merge, existing: str | None) -> str:
    """Return the SQL of the rows of all loads, and of those of the present table that are given as SQL, each with its name."""
    plain = ["customer_id", "anonymous_id", "event", "event_time", "received_at", "value", "event_id", *(p.column for p in merge.properties)]
    parts = [f"select {load}::smallint as load, {', '.join(plain)} from read_parquet({literal(file)})" for load, file in merge.staged.items()]
    if existing is not None:
        parts.insert(0, _not_respelled(merge, existing_sql(merge, existing), plain))
    made = f"(event_id is null or {_made('event_id')})"
    content = f"'~' || substr(sha256({_json_sql(merge.properties, merge.anonymous)}), 1, 24)"
    name = f"case when event_id is null then {content} when {made} then left(event_id, 25) else event_id end"
    return f"select *, {made} as made, {name} as name from ({' union all '.join(parts)})"


def _not_respelled(merge: Merge, present: str, columns: list[str]) -> str:
    """Return the query of present rows but for those that a load brings again, spelled otherwise, because a column became text.

    A column of numbers that gets one ``n/a`` is read as text: of what was 1.5 it now says 1.50.
    """
    kinds = {p.column: merge.kinds[p.name] for p in merge.properties if p.kind == "text" != merge.kinds.get(p.name, "text")}
    was = {load: {**kinds, **merge.retyped.get(load, {})} for load in merge.staged}
    if not any(was.values()):
        return present
    same = f"md5(coalesce(event_id, '') || {_json_sql(merge.properties, merge.anonymous)})"
    came = []
    for load, file in merge.staged.items():
        before = ", ".join(f"{_as_before(column, kind)} as {column}" for column, kind in was[load].items())
        now = f"select {', '.join(columns)}, {same} as own from read_parquet({literal(file)})"
        came.append(f"select {same} as was from (select *{f' replace ({before})' if before else ''} from ({now})) where was <> own")
    times = f"select was, count(*) as times from ({' union all '.join(came)}) group by was"
    numbered = f"select *, row_number() over (partition by was) as nth from (select *, {same} as was from ({present}))"
    return f"select r.* exclude (was, nth) from ({numbered}) r left join ({times}) c using (was) where r.nth > coalesce(c.times, 0)"


def _as_before(column: str, kind: str) -> str:
    """Return the SQL of a text as a present row has it that was read as of another kind."""
    if kind in ("flag", "mixed"):
        flag = f"lower(trim({column}))"
        column = f"(case when {flag} in ('true', 'false') then {flag} else {column} end)"
    if kind == "flag":
        return column
    if kind == "list":
        return f"coalesce(to_json(try_cast(try_cast({column} as json) as varchar[]))::varchar, {column})"
    if kind in ("number", "mixed"):
        return f"coalesce({number_text(f'try_cast({column} as decimal(18,4))')}, {column})"
    return f"coalesce(try_cast({column} as {'bigint' if kind == 'whole' else kind})::varchar, {column})"


# the merge


def merge_events(engine: Engine, merge: Merge, folder: Path, progress: Callable[[int], None]) -> tuple[Counts, list[identity.Refused]]:
    """Write the files of the events table into ``folder`` and return what became of the rows.

    ``progress`` is called with the number of rows written so far.
    """
    counts = Counts()
    if not merge.existing and not merge.staged:
        with Parts(folder, schema_of(merge)):
            return counts, []
    engine.view("loads", rows_sql(merge, scan(merge.existing, gone_in(merge.existing), engine.temp) if merge.existing else None))
    engine.view("kept", settle(engine, merge, counts))
    refused = identity.link(engine, "kept") if merge.anonymous else []
    rows = identity.person_sql("kept") if merge.anonymous else "select * from kept"
    with Parts(folder, schema_of(merge)) as files:
        for distinct in distinct_rows(engine, merge, rows, counts):
            table = final(distinct, merge)
            files.write(table)
            describe(table, counts)
            progress(counts.rows)
    counts.customers = files.customers
    return counts, refused


def settle(engine: Engine, merge: Merge, counts: Counts) -> str:
    """Find event ids that come with more than one content among ``loads`` and return the query of the rows that stay."""
    if not merge.named:
        return "select * from loads"
    engine.execute("create or replace temp table marks as select hash(event_id) as id from loads where not made")
    engine.execute("create or replace temp table again (id ubigint)")
    parts = 1 + engine.rows("select count(*) from marks")[0][0] // COUNTED  # a part's ids fit into memory, however many there are
    for part in range(parts):
        engine.show("found", pa.table({"id": _repeated(engine.numbers(f"select id from marks where id % {parts} = {part}"))}).to_reader())
        engine.execute("insert into again from found")
    engine.execute("drop table marks")
    if not engine.rows("select count(*) from again")[0][0]:
        return "select * from loads"
    content = ["customer_id", "anonymous_id", "event", "event_time", "received_at", "value", *(p.column for p in merge.properties)]
    mark = f"hash({', '.join(content)})"
    engine.execute(
        f"create or replace temp table disputed as select hash(event_id) as id from loads where not made and hash(event_id) in (from again) "
        f"group by id having min({mark}) <> max({mark})"
    )
    engine.execute("drop table again")
    if not engine.rows("select count(*) from disputed")[0][0]:
        return "select * from loads"
    engine.execute(
        "create or replace temp table winners as select name, arg_min(mark, (received_at, content)) as mark from "
        f"(select name, received_at, {mark} as mark, {_json_sql(merge.properties, merge.anonymous)} as content from loads "
        "where not made and hash(name) in (select id from disputed)) group by name"
    )
    verdict = (
        f"from loads left join winners on loads.name = winners.name and not loads.made where winners.name is {{}} null and {mark} {{}} winners.mark"
    )
    counts.conflicts = dict(engine.rows(f"select load, count(*) {verdict.format('not', '<>')} group by load"))
    return f"select loads.* from loads left join winners on loads.name = winners.name and not loads.made where winners.name is null or {mark} = winners.mark"


def _repeated(ids: np.ndarray) -> np.ndarray:
    """Return the ids that come more than once, each at least once."""
    ids = np.sort(ids)
    return ids[1:][ids[1:] == ids[:-1]]


def distinct_rows(engine: Engine, merge: Merge, rows: str, counts: Counts, *more: str) -> Iterator[pa.Table]:
    """Yield the rows of a query in the order of the table and without repeats, each with its event_id, its load and ``more`` columns."""
    columns = [name for name in schema_of(merge).names if name not in ("event_id", *(p.name for p in merge.properties))]
    columns += ["load", "made", "name", *(p.column for p in merge.properties), *more]
    yield from without_repeats(in_order(engine, f"select {', '.join(columns)} from ({rows})", "customer_id, event_time, name, load"), counts)


# what comes out


def schema_of(merge: Merge) -> pa.Schema:
    """Return the columns of the new table."""
    fields = [("customer_id", pa.string()), ("event", _EVENT), ("event_time", values.INSTANT), ("received_at", values.INSTANT)]
    fields += [("value", values.EXACT), ("event_id", pa.string())]
    fields += [("anonymous_id", pa.string()), ("linked_at", values.INSTANT)] if merge.anonymous else []
    told = not merge.existing or tells_kinds(merge.existing[0])
    return pa.schema([*(pa.field(*field) for field in fields), *(p.field for p in merge.properties)], metadata=KINDS if told else None)


def final(rows: pa.Table, merge: Merge) -> pa.Table:
    """Return rows of a merge as the table has them."""
    schema = schema_of(merge)
    named = {p.name: p.column for p in merge.properties}
    return pa.table([rows.column(named.get(f.name, f.name)).cast(f.type) for f in schema], schema=schema)


def describe(rows: pa.Table, counts: Counts) -> None:
    """Count rows of the new table."""
    counts.rows += len(rows)
    for pair in pc.value_counts(rows.column("event")).to_pylist():
        counts.events[pair["values"]] = counts.events.get(pair["values"], 0) + pair["counts"]
    when = rows.column("event_time").cast(pa.int64()).to_numpy()
    seen = np.maximum(when, rows.column("received_at").cast(pa.int64()).to_numpy())
    if len(when):
        counts.first = int(when.min()) if counts.first is None else min(counts.first, int(when.min()))
        counts.last = int(when.max()) if counts.last is None else max(counts.last, int(when.max()))
        counts.visible = int(seen.max()) if counts.visible is None else max(counts.visible, int(seen.max()))


def encoding(schema: pa.Schema) -> dict[str, Any]:
    """Return the options of a Parquet writer that make a table small and quick to read back.

    Only ids of events are worth a strong compression: times are stored as small differences, texts as numbers.
    """
    texts = [f.name for f in schema if (pa.types.is_string(f.type) or pa.types.is_dictionary(f.type)) and f.name != "event_id"]
    lists = [f"{f.name}.list.element" for f in schema if pa.types.is_list(f.type)]
    times = {f.name: "DELTA_BINARY_PACKED" for f in schema if pa.types.is_timestamp(f.type)}
    plain = {f.name: "PLAIN" for f in schema if pa.types.is_integer(f.type) or pa.types.is_decimal(f.type)}
    compression = dict.fromkeys([*(f.name for f in schema if not pa.types.is_list(f.type)), *lists], "lz4") | dict.fromkeys(times, "none")
    return {
        "compression": compression | {"event_id": "zstd"},
        "use_dictionary": texts + lists,
        "column_encoding": times | plain,
        "store_decimal_as_integer": True,
    }


class Parts:
    """Part files of about a million rows in row groups of at most 131,072, both cut between customers where that can be.

    Readers then take a row group as it is, without joining the ends of two.
    """

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self._folder, self._schema = folder, schema
        self._opened = ExitStack()
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.Table] = []
        self._begins: list[int] = []  # where customers begin among the waiting rows
        self._number = self._written = self._held = 0
        self._last: str | None = None
        self.customers = 0

    def __enter__(self) -> Parts:
        self._later = self._opened.enter_context(behind())
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        try:
            if kind is None:
                self._close()
                if self._number == 0:
                    pq.write_table(self._schema.empty_table(), self._folder / "part-00000.parquet", **encoding(self._schema))
        finally:
            self._opened.__exit__(kind, *error)
            if self._writer is not None:
                self._writer.close()

    def write(self, table: pa.Table) -> None:
        """Add rows, sorted by customer, that come after those before."""
        ids = table.column("customer_id").combine_chunks()
        begins = np.ones(len(ids), dtype=bool)
        begins[1:] = values.flags(pc.not_equal(ids.slice(1), ids.slice(0, max(0, len(ids) - 1))))
        if len(ids):
            begins[0] = ids[0].as_py() != self._last
            self._last = ids[-1].as_py()
        self.customers += int(begins.sum())
        cuts = np.flatnonzero(begins)
        start = 0
        while (at := int(np.searchsorted(cuts, start + max(0, FILE_ROWS - self._written - self._held)))) < len(cuts):
            self._hold(table, cuts, start, int(cuts[at]))
            self._close()
            start = int(cuts[at])
        self._hold(table, cuts, start, len(table))

    def _hold(self, table: pa.Table, cuts: np.ndarray[Any, Any], start: int, end: int) -> None:
        self._waiting.append(table.slice(start, end - start))
        self._begins += (cuts[(cuts >= start) & (cuts < end)] - start + self._held).tolist()
        self._held += end - start
        if self._held >= GROUP_ROWS:
            held = pa.concat_tables(self._waiting)
            while len(held) >= GROUP_ROWS:
                at = bisect_right(self._begins, GROUP_ROWS)
                size = self._begins[at - 1] if at and self._begins[at - 1] else GROUP_ROWS
                self._flush(held.slice(0, size))
                held, self._begins = held.slice(size), [b - size for b in self._begins if b >= size]
            self._waiting, self._held = [held], len(held)

    def _flush(self, table: pa.Table) -> None:
        if self._writer is None:
            path = self._folder / f"part-{self._number:05d}.parquet"
            self._writer = pq.ParquetWriter(path, self._schema, **encoding(self._schema))
            self._number += 1
        self._later(partial(self._writer.write_table, table.unify_dictionaries(), row_group_size=GROUP_ROWS))
        self._written += len(table)

    def _close(self) -> None:
        if self._held:
            self._flush(pa.concat_tables(self._waiting))
        if self._writer is not None:
            self._later(self._writer.close)
        self._writer, self._waiting, self._begins, self._written, self._held = None, [], [], 0, 0
