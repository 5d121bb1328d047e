"""A person's rights: what is held about them, and taking all of it out.

Whatever table has a column ``customer_id`` or ``anonymous_id`` is looked through, those of later versions too; so are the
databases, the quarantine, the samples of the last report and the files that were exported. Ids are taken literally:
a row of somebody else that happens to mention the person in a property is theirs, and stays.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from predseg.columns import mixed_in
from predseg.disks import disk_errors, link
from predseg.history import customers, exports, report
from predseg.history.persons import IDS, names
from predseg.history.privacy import DATABASE
from predseg.language.spelling import value_of
from predseg.layers import Reader, is_recent, readers, tables_with
from predseg.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

EVENTS = "events"
OUR_LISTS = ("optouts", "forgotten", "dropped", "privacy")
"""Tables of the database that hold hashes only: a no outlasts the person's data."""


@dataclass(frozen=True)
class Erased:
    """What was taken out.

    Attributes:
        ids: How many ids the persons had, anonymous ones included.
        rows: Rows by table; ``live.db/NAME`` are those of the database.
        files: Rows by exported file.
        unreachable: Exported files that cannot be looked through, and why.
    """

    ids: int
    rows: dict[str, int] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    unreachable: dict[str, str] = field(default_factory=dict)


def ids_of(store: Store, customers_: Sequence[str]) -> list[str]:
    """Return the ids of some customers with the anonymous ones that belong to them."""
    rows = [anonymous for _, anonymous, _ in _linked(store, "customer_id", customers_)]
    mine = owners(store, sorted({*rows, *(anonymous for anonymous, owner in _live_links(store) if owner in customers_)}))
    return list(dict.fromkeys((*customers_, *(anonymous for anonymous, owner in mine.items() if owner in customers_))))


def owners(store: Store, anonymous_ids: Sequence[str]) -> dict[str, str]:
    """Return the customers to whom anonymous ids belong: by the earliest visible link, as in `predseg.history.identity`."""
    found = {anonymous: (2**62, owner) for anonymous, owner in _live_links(store) if anonymous in anonymous_ids}
    for customer, anonymous, visible in _linked(store, "anonymous_id", anonymous_ids):
        found[anonymous] = min(found.get(anonymous, (visible, customer)), (visible, customer))
    return {anonymous: customer for anonymous, (_, customer) in found.items()}


def _live_links(store: Store) -> list[tuple[str, str]]:
    """Return which anonymous visitor is whom, as far as only the live engine knows."""
    if not (store.path / DATABASE).is_file():
        return []
    with disk_errors(store.path / DATABASE), closing(sqlite3.connect(store.path / DATABASE, timeout=60)) as connection:
        if connection.execute("select 1 from sqlite_master where name = 'links'").fetchone() is None:
            return []
        return connection.execute("select anonymous_id, customer_id from links").fetchall()


def _linked(store: Store, column: str, wanted: Sequence[str]) -> list[tuple[str, str, int]]:
    """Return the links among the events with one of some ids in a column: customer, anonymous id, and when it became visible."""
    import pyarrow as pa

    found: list[tuple[str, str, int]] = []
    for rows in tables_with(store.files(EVENTS), column, wanted, _LINK):
        if "anonymous_id" in rows.column_names:
            times = (rows[name].cast(pa.int64()).to_pylist() for name in ("event_time", "received_at"))
            names = (rows[name].to_pylist() for name in ("customer_id", "anonymous_id", "linked_at"))
            links = zip(*names, *times, strict=True)
            found += [(who, visitor, max(seen)) for who, visitor, joined, *seen in links if visitor not in (None, who) and joined is None]
    return found


_LINK = ("customer_id", "anonymous_id", "event_time", "received_at", "linked_at")


# what is held


def held(store: Store, ids: Sequence[str]) -> dict[str, Any]:
    """Return every row about a person: table → rows, ``live.db/NAME`` → rows, exported file → rows; only where there are some."""
    found: dict[str, Any] = {}
    for name in table_names(store):
        rows = [row for reader in readers(store.files(name)) for row in _rows(name, reader, ids)]
        if rows:
            found[name] = rows
    if (store.path / DATABASE).is_file():
        with closing(_opened(store.path / DATABASE)) as connection:
            connection.row_factory = sqlite3.Row
            for table, columns in columns_of(connection):
                rows = [dict(row) for row in connection.execute(f"select * from {table} where {_whose(columns)}", {"ids": json.dumps(list(ids))})]
                if rows:
                    found[f"{DATABASE}/{table}"] = rows
    for path in exports.known_files(store):
        with suppress(ValueError):
            if about := exports.rows_about(path, ids):
                found[str(path)] = about
    return found


def table_names(store: Store) -> list[str]:
    """Return the tables that there are."""
    return sorted(folder.name for folder in store.tables.iterdir() if folder.is_dir())


def everybody(store: Store) -> set[str]:
    """Return every id that a table or the database names."""
    import pyarrow.parquet as pq

    found: set[str | None] = set()
    for name in table_names(store):
        for file in store.files(name):
            columns = [column for column in IDS if column in pq.read_schema(file).names]
            for column in pq.ParquetFile(file).read(columns).columns:
                found.update(column.unique().to_pylist())
    if (store.path / DATABASE).is_file():
        with closing(_opened(store.path / DATABASE)) as connection:
            for table, columns in columns_of(connection):
                for column in set(columns) & set(IDS):
                    found.update(row[0] for row in connection.execute(f"select distinct {column} from {table}"))
    return {one for one in found if one is not None}


def _rows(name: str, reader: Reader, ids: Sequence[str]) -> list[dict[str, Any]]:
    table = reader.read()
    several = mixed_in(table.schema)
    rows = [{k: value_of(v) if k in several else v for k, v in row.items()} for row in table.filter(_about(table, ids)).to_pylist()]
    inside = reader.path.parent.name
    return [{**row, "partition": inside} for row in rows] if inside != name else rows


def _about(table: pa.Table, ids: Sequence[str]) -> pa.ChunkedArray:
    """Return which rows are about a person: by their customer, by their anonymous id where they have none, by what a raw row says."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted, found = pa.array(ids, pa.string()), pa.chunked_array([pa.repeat(False, len(table))])
    columns = {name: table[name].cast(pa.string()) for name in IDS if name in table.column_names}
    if "customer_id" in columns:
        found = pc.fill_null(pc.is_in(columns["customer_id"], wanted), False)
    if "anonymous_id" in columns:
        nobody = pc.is_null(columns["customer_id"]) if "customer_id" in columns else pa.chunked_array([pa.repeat(True, len(table))])
        found = pc.or_(found, pc.and_(nobody, pc.is_in(columns["anonymous_id"], wanted)))
    if "raw" in table.column_names:
        found = pc.or_(found, pa.chunked_array([[raw is not None and names(raw, ids) for raw in table["raw"].to_pylist()]], pa.bool_()))
    return found


# taking it out


def erase(store: Store, ids: Sequence[str]) -> Erased:
    """Take everything about persons out of the store and out of exported files. Done twice, the second time finds nothing.

    Each table is replaced whole or not at all.

    Raises:
        UsageError: E210 when another process is writing.
        DataError: E410, E411 when something cannot be written.
    """
    found = Erased(len(ids))
    with store.lock():
        for name in table_names(store):
            if number := sum(_erase_folder(store, folder, ids) for folder in _folders(store, name) if name != EVENTS):
                found.rows[name] = number
        if number := _erase_events(store, ids):
            found.rows[EVENTS] = number
        _erase_samples(store, ids, number)
        for table, number in _erase_database(store.path / DATABASE, ids):
            found.rows[f"{DATABASE}/{table}"] = number
        for path in exports.known_files(store):
            try:
                if number := exports.take_out(path, ids):
                    found.files[str(path)] = number
            except (ValueError, OSError) as error:
                found.unreachable[str(path)] = str(error)
    return found


def _folders(store: Store, name: str) -> list[Path]:
    return sorted({file.parent for file in store.files(name)})


def _erase_folder(store: Store, folder: Path, ids: Sequence[str]) -> int:
    changed, removed = _without_rows(folder, ids)
    changed |= _unlinked_files(folder, changed, ids)
    if changed:
        with store.replace(str(folder.relative_to(store.tables))) as target:
            _lay(folder, changed, target)
    return removed


def _erase_events(store: Store, ids: Sequence[str]) -> int:
    """Take rows out of the events table; where others used an anonymous id of the person, it is taken out and their rows are named anew."""
    if not store.exists(EVENTS):
        return 0
    if any(map(is_recent, store.files(EVENTS))):
        with store.scratch("erasure") as aside:
            name_anew(store, aside, store.files(EVENTS))
    folder = store.tables / EVENTS
    changed, removed = _without_rows(folder, ids)
    unlinked = _unlinked_files(folder, changed, ids)
    if unlinked:
        with store.scratch("erasure") as aside:
            (aside / "rows").mkdir()
            _lay(folder, changed | unlinked, aside / "rows")
            name_anew(store, aside, sorted((aside / "rows").glob("*.parquet")))
    elif removed:
        with store.replace(EVENTS) as target:
            _lay(folder, changed, target)
    return removed


def _without_rows(folder: Path, ids: Sequence[str]) -> tuple[dict[Path, pa.Table], int]:
    """Return the rest of every file that has rows about a person, and how many rows these are."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    changed, removed = {}, 0
    for file in sorted(folder.glob("*.parquet")):
        table = pq.ParquetFile(file).read()
        about = _about(table, ids)
        if number := pc.sum(about).as_py():
            changed[file], removed = table.filter(pc.invert(about)), removed + number
    return changed, removed


def _lay(folder: Path, changed: dict[Path, pa.Table], target: Path) -> None:
    """Lay the files of a table into a folder, the changed ones as they are now; one that became empty only when it is the last."""
    files = sorted(folder.glob("*.parquet"))
    kept = [file for file in files if file not in changed or len(changed[file])] or files[:1]
    for file in kept:
        if file in changed:
            write_rows(_compact(changed[file]), target / file.name)
        else:
            link(file, target / file.name)


def _unlinked_files(folder: Path, changed: dict[Path, pa.Table], ids: Sequence[str]) -> dict[Path, pa.Table]:
    found = {file: _unlinked(changed.get(file, file), ids) for file in sorted(folder.glob("*.parquet"))}
    return {file: rows for file, rows in found.items() if rows is not None}


def _unlinked(rows: pa.Table | Path, ids: Sequence[str]) -> pa.Table | None:
    """Return rows of others without the anonymous ids of the person; None when they have none."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if isinstance(rows, Path):
        if "anonymous_id" not in pq.read_schema(rows).names:
            return None
        rows = pq.ParquetFile(rows).read()
    if "anonymous_id" not in rows.column_names:
        return None
    named = pc.fill_null(pc.is_in(rows["anonymous_id"], pa.array(ids, pa.string())), False)
    if not pc.any(named).as_py():
        return None
    cleared = pc.if_else(named, pa.scalar(None, pa.string()), rows["anonymous_id"])
    return rows.set_column(rows.column_names.index("anonymous_id"), "anonymous_id", cleared)


def name_anew(store: Store, aside: Path, files: list[Path]) -> None:
    """Make the events table of the rows of files of one, as if they had come in like this; all of it is its base then. ``aside``: for unfinished work."""
    import pyarrow.parquet as pq

    from predseg.engine import engine_in
    from predseg.history import merge
    from predseg.history.staging import plan

    kinds, anonymous = merge.existing_kinds(files[0]), "anonymous_id" in pq.read_schema(files[0]).names
    whole = merge.Merge(files, kinds, {}, plan([kinds], set()), anonymous, named=True, again=True)
    with engine_in(aside, "merge", memory=merge.MEMORY) as engine, store.replace(EVENTS) as target:
        merge.merge_events(engine, whole, target, lambda done: None)


def _compact(table: pa.Table) -> pa.Table:
    """Return a table whose dictionaries hold only what its rows have."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for i, column in enumerate(table.schema):
        if pa.types.is_dictionary(column.type):
            values = pc.dictionary_encode(table.column(i).cast(column.type.value_type)).unify_dictionaries()
            table = table.set_column(i, column, values.cast(column.type))
    return table


def write_rows(table: pa.Table, file: Path) -> None:
    """Write rows of a table as one of its files."""
    import pyarrow.parquet as pq

    from predseg.history.merge import GROUP_ROWS, encoding

    options = encoding(table.schema) if "event_time" in table.column_names else {"compression": "zstd"}
    pq.write_table(table, file, row_group_size=GROUP_ROWS, **options)


def _erase_samples(store: Store, ids: Sequence[str], erased: int) -> None:
    """Take the person out of the samples of bad rows that the last reports show, and count the events that were taken out."""
    memory = report.remembered(store)
    if memory is not None:
        parts = tuple(_without(part, ids) for part in memory.report.sources)
        traits = _without(memory.report.traits, ids) if memory.report.traits else None
        now = report.described(store, replace(memory.report, sources=parts, traits=traits, erased=memory.report.erased + erased))
        if now != memory.report:
            report.remember(store, replace(memory, report=now))
    text = store.read_text(customers.FILE)
    if text is not None:
        saved = json.loads(text)
        kept = [sample for sample in saved["report"]["samples"] if not names(sample["raw"], ids)]
        if kept != saved["report"]["samples"]:
            saved["report"]["samples"] = kept
            store.write_text(customers.FILE, json.dumps(saved, ensure_ascii=False, indent=1))


def _without(part: report.SourceReport, ids: Sequence[str]) -> report.SourceReport:
    return replace(part, samples=tuple(s for s in part.samples if not names(s.raw, ids)))


# the database


def columns_of(connection: sqlite3.Connection) -> Iterator[tuple[str, list[str]]]:
    """Yield the tables that name persons, and the columns in which they do; ``raw`` is a row as it came."""
    tables = [row[0] for row in connection.execute("select name from sqlite_master where type = 'table' and name not like 'sqlite_%' order by name")]
    for table in tables:
        found = [row[1] for row in connection.execute(f"pragma table_info({table})") if row[1] in (*IDS, "raw")]
        if found and table not in OUR_LISTS:
            yield table, found


def _whose(columns: Sequence[str]) -> str:
    """Return the SQL that finds rows about persons, whose ids are the JSON list ``:ids``."""
    among = "in (select value from json_each(:ids))"
    found = [f"customer_id {among}"] if "customer_id" in columns else []
    if "anonymous_id" in columns:
        found.append(f"(customer_id is null and anonymous_id {among})" if found else f"anonymous_id {among}")
    if "raw" in columns:
        found.append("names(raw, :ids)")
    return " or ".join(found)


def _opened(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, timeout=60, isolation_level=None)
    connection.create_function("names", 2, lambda raw, ids: raw is not None and names(str(raw), json.loads(ids)), deterministic=True)
    return connection


def _erase_database(file: Path, ids: Sequence[str]) -> list[tuple[str, int]]:
    """Delete rows, and overwrite what they leave behind in the file and its journal."""
    if not file.is_file():
        return []
    with disk_errors(file), closing(_opened(file)) as connection:
        connection.execute("pragma secure_delete = on")
        connection.execute("begin immediate")
        given, found = {"ids": json.dumps(list(ids))}, []
        for table, columns in columns_of(connection):
            found.append((table, connection.execute(f"delete from {table} where {_whose(columns)}", given).rowcount))
        _unlink_rows(connection, given)
        connection.execute("commit")
        connection.execute("vacuum")
        connection.execute("pragma wal_checkpoint(truncate)")
    return [(table, number) for table, number in found if number]


def _unlink_rows(connection: sqlite3.Connection, given: dict[str, str]) -> None:
    """Take anonymous ids of the person out of what others left; the state of these is built anew from history by the live engine."""
    among = "in (select value from json_each(:ids))"
    others: set[str] = set()
    for table, columns in columns_of(connection):
        if set(IDS) <= set(columns):
            others.update(row[0] for row in connection.execute(f"select customer_id from {table} where anonymous_id {among}", given))
            keyed = any(row[1] == "anonymous_id" and row[5] for row in connection.execute(f"pragma table_info({table})"))
            change = f"delete from {table}" if keyed else f"update {table} set anonymous_id = null"
            connection.execute(f"{change} where anonymous_id {among}", given)
    if others and {"people", "meta"} <= {row[0] for row in connection.execute("select name from sqlite_master")}:
        connection.execute(f"delete from people where customer_id {among}", {"ids": json.dumps(sorted(others))})
        connection.execute("delete from meta where name = 'program'")
