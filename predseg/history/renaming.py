"""Other pseudonyms for everybody in a store, after a key was added to `pseudonymize`: each name becomes the HMAC of the name before.

Nothing but the names is needed for that, so who came live alone follows like everybody else. Which name becomes which is
written into the database before anything is changed, and the last transaction takes it out again: what was cut short goes on
where it was, and until it is whole every other command is refused (`E451`).

    STORE/live.db, table renaming    was, name: while it goes on
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from predseg.disks import replaced
from predseg.history import erasure, exports, privacy, report
from predseg.history.events import definition_of
from predseg.history.keys import PSEUDONYM, person, pseudonym, renamed
from predseg.history.persons import IDS, Persons, mapped
from predseg.history.privacy import EVENT, FILE, NAMES, RENAMING
from predseg.layers import readers
from predseg.store import Store

if TYPE_CHECKING:
    from predseg.config import Config

_SORTED_BY = ("segment", "model", "rfv", "customer_id", "entered_at", "event_time", "known_since")
"""What tables that are in an order are in the order of, if they have it."""


@dataclass(frozen=True)
class Renamed:
    """What was given another name.

    Attributes:
        names: How many there were, anonymous ids included.
        files: Names by exported file.
        unreachable: Exported files that cannot be changed, and why.
        waiting: Of how many persons whom the store does not know something was said; they are recognised when they come in.
    """

    names: int
    files: dict[str, int] = field(default_factory=dict)
    unreachable: dict[str, str] = field(default_factory=dict)
    waiting: int = 0


class Names:
    """Which name becomes which; what is none of them stays, so that doing it twice is doing it once."""

    def __init__(self, pairs: dict[str, str]) -> None:
        self.pairs, self.changed = pairs, 0

    def __call__(self, name: str) -> str:
        """Return the new name of a name."""
        self.changed += name in self.pairs
        return self.pairs.get(name, name)

    def text(self, text: str) -> str:
        """Return a text with the new names in place of the old ones."""
        return PSEUDONYM.sub(lambda found: self(found[0]), text)


def known_keys(connection: sqlite3.Connection, keys: Sequence[bytes]) -> int | None:
    """Return with how many of the keys the names of a store are made; None when with others, or when it has none."""
    known = (privacy.noted(connection, NAMES) or "").partition(RENAMING)[0]
    return next((n for n in range(1, len(keys) + 1) if pseudonym("predseg", keys[:n]) == known), None)


def rename(
    config: Config,
    store: Store,
    connection: sqlite3.Connection,
    lists: Sequence[bytes],
    keys: Sequence[bytes],
    told: Callable[[Mapping[str, str]], object] = lambda pairs: None,
) -> Renamed:
    """Give everybody in a store the pseudonym that all the keys make. Done twice, the second time finds nothing.

    Args:
        config: The project, with what came live and what was replayed among its sources.
        store: Its store, which nobody else writes to meanwhile.
        connection: To its database, in no transaction, prepared whatever the names are.
        lists: The keys of the lists.
        keys: Those of pseudonyms, the oldest first; the names are made with the first of them, see `known_keys`.
        told: Called before anything is changed with the names: old → new.
    """
    before, after = known_keys(connection, keys), pseudonym("predseg", keys)
    assert before is not None
    if RENAMING not in (privacy.noted(connection, NAMES) or ""):
        _begin(store, connection, keys, before)
    names = Names(dict(connection.execute("select was, name from renaming")))
    told(names.pairs)
    found = Renamed(len(names.pairs))
    for table in erasure.table_names(store):
        (_rename_events if table == erasure.EVENTS else _rename_table)(store, table, names)
    _rename_texts(config, store, names, keys, before)
    for path in exports.known_files(store):
        try:
            if number := _rename_file(path, names):
                found.files[str(path)] = number
        except (ValueError, OSError, pa.ArrowException) as error:
            found.unreachable[str(path)] = str(error)
    return replace(found, waiting=_rename_database(connection, names, lists, after))


def names_of(store: Store) -> set[str]:
    """Return every name that a store or a file written from it has, those inside of raw rows too."""
    found = erasure.everybody(store)
    for table in erasure.table_names(store):
        for file in store.files(table):
            if "raw" in pq.read_schema(file).names:
                found.update(_inside(pq.ParquetFile(file).read(["raw"])["raw"].to_pylist()))
    with closing(sqlite3.connect(store.path / privacy.DATABASE)) as connection:
        for table, column in (("refused", "raw"), ("people", "state")):
            if connection.execute("select 1 from sqlite_master where name = ?", (table,)).fetchone():
                found.update(_inside(_text(row[0]) for row in connection.execute(f"select {column} from {table}")))
    for path in exports.known_files(store):
        if path.is_file() and path.suffix != ".parquet":
            found.update(PSEUDONYM.findall(path.read_text("utf-8", "replace")))
        elif path.is_file():
            found.update(name for row in exports.rows_of(path) for name in (row.get("customer_id"),) if isinstance(name, str))
    return found


def _inside(texts: Any) -> Iterator[str]:
    for text in texts:
        yield from PSEUDONYM.findall(text or "")


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")


def _begin(store: Store, connection: sqlite3.Connection, keys: Sequence[bytes], before: int) -> None:
    pairs = [(name, renamed(name, keys[before:]) if PSEUDONYM.fullmatch(name) else pseudonym(name, keys)) for name in sorted(names_of(store))]
    connection.execute("begin immediate")
    with connection:
        connection.execute("create table renaming (was text primary key, name text not null) without rowid")
        connection.executemany("insert into renaming values (?, ?)", pairs)
        privacy.note(connection, NAMES, f"{privacy.noted(connection, NAMES)}{RENAMING}{pseudonym('predseg', keys)}")


# tables and texts


def _rename_table(store: Store, name: str, names: Names) -> None:
    files = store.files(name)
    if not any({*IDS, "raw"} & set(pq.read_schema(file).names) for file in files):
        return
    with store.replace(name) as target:
        for file in files:
            new = target / file.relative_to(store.tables / name)
            new.parent.mkdir(exist_ok=True)
            erasure.write_rows(_in_order(pq.ParquetFile(file).read(), names), new)


def _in_order(rows: pa.Table, names: Names) -> pa.Table:
    """Return rows under their new names, and in their order, where they were in one."""
    order = [(name, "ascending") for name in _SORTED_BY if name in rows.column_names]
    nulls = {"null_placement": "at_start"}
    sorted_before = bool(order) and pc.sort_indices(rows, order, **nulls).equals(pa.array(range(len(rows)), pa.uint64()))
    new = _rows(rows, names)
    return new.take(pc.sort_indices(new, order, **nulls)) if sorted_before else new


def _rows(rows: pa.Table, names: Names) -> pa.Table:
    changes: dict[str, Callable[[str], object]] = {**dict.fromkeys(IDS, names), "raw": names.text, "reason": names.text}
    for column, change in changes.items():
        if column in rows.column_names:
            at = rows.column_names.index(column)
            rows = rows.set_column(at, rows.schema.field(at).with_type(pa.string()), mapped(rows[column], change))
    return rows


def _rename_events(store: Store, name: str, names: Names) -> None:
    """Name the rows anew, and join, sort and name the events that came without an id as if the rows had come in like this."""
    with store.scratch("renaming") as aside:
        (aside / "rows").mkdir()
        for number, reader in enumerate(readers(store.files(name))):
            erasure.write_rows(_rows(reader.read(), names), aside / "rows" / f"part-{number:05d}.parquet")
        if store.exists(name):
            erasure.name_anew(store, aside, sorted((aside / "rows").glob("*.parquet")))


def _rename_texts(config: Config, store: Store, names: Names, keys: Sequence[bytes], before: int) -> None:
    for file in sorted(store.path.glob("*.json")):
        text = file.read_text("utf-8")
        if (new := names.text(text)) != text:
            store.write_text(file.name, new)
    memory = report.remembered(store)
    if memory is not None and memory.state.definition == definition_of(config, Persons(keys=tuple(keys[:before]))):
        report.remember(store, replace(memory, state=replace(memory.state, definition=definition_of(config, Persons(keys=tuple(keys))))))


def _rename_file(path: Path, names: Names) -> int:
    before = names.changed
    if not path.is_file():
        return 0
    if path.suffix == ".parquet":
        rows = _rows(pq.ParquetFile(path).read(), names)
        if names.changed > before:
            with replaced(path) as aside:
                erasure.write_rows(rows, aside)
    elif path.suffix in (".csv", ".jsonl"):
        text = path.read_bytes().decode("utf-8")
        if (new := names.text(text)) != text:
            with replaced(path) as aside:
                aside.write_bytes(new.encode("utf-8"))
    else:
        raise ValueError("is of a kind that cannot be changed")
    return names.changed - before


# the database


def _rename_database(connection: sqlite3.Connection, names: Names, lists: Sequence[bytes], after: str) -> int:
    """Rename in one transaction, and return of how many persons something was said whom the store does not know."""
    connection.create_function("named", 1, names, deterministic=True)
    connection.create_function("retold", 1, lambda value: names.text(_text(value)), deterministic=True)
    connection.execute("pragma secure_delete = on")
    connection.execute("begin immediate")
    with connection:
        for table, columns in list(erasure.columns_of(connection)):
            for column in columns:
                change = "retold" if column == "raw" else "named"
                connection.execute(f"update {table} set {column} = {change}({column}) where {column} is not null")
            if table == "people":
                connection.execute("update people set state = cast(retold(state) as blob)")
        waiting = _rename_lists(connection, names, lists)
        connection.execute("drop table renaming")
        privacy.note(connection, NAMES, after)
    connection.execute("vacuum")
    connection.execute("pragma wal_checkpoint(truncate)")
    return waiting


def _rename_lists(connection: sqlite3.Connection, names: Names, lists: Sequence[bytes]) -> int:
    for origin in (FILE, EVENT):  # these are read anew
        connection.execute("delete from optouts where origin = ?", (origin,))
        privacy.note(connection, origin, None)
    left = {who for (who,) in connection.execute("select person from optouts")}
    for was, name in names.pairs.items() if left else ():
        if (old := person(was, lists)) in left:
            privacy.follow_name(connection, old, person(name, lists))
            left.discard(old)
    return len(left)
