"""Tables of a DuckDB or SQLite file, or of a PostgreSQL server, as the view ``source``.

    duckdb:///shop.duckdb      sqlite:///shop.sqlite      postgresql://user@host:5432/shop

A relative path is relative to the project file. Nothing is written to the database. A DuckDB table is read in place;
the others are copied in batches into the engine's temporary folder first. A password never appears in a message;
better than in the URL it stands in ``~/.pgpass`` or ``PGPASSWORD``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from predseg.engine import Engine, engine_errors, first_line, literal, quoted
from predseg.errors import DataError, nearest
from predseg.history.files import Raw
from predseg.language.urls import without_password

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH = 50_000
_SCHEMES = {"duckdb": "duckdb", "sqlite": "sqlite", "postgresql": "postgresql", "postgres": "postgresql"}


def scheme(url: str, place: str) -> str:
    """Return which database a URL names: duckdb, sqlite or postgresql.

    Raises:
        DataError: E402 for any other.
    """
    found = url.partition("://")[0].lower()
    if found not in _SCHEMES:
        raise DataError(
            "E402", place, f"unknown database {found!r} in the URL", "write duckdb:///FILE, sqlite:///FILE or postgresql://USER@HOST/DATABASE"
        )
    return _SCHEMES[found]


def file_of(url: str, resolve: Callable[[str], Path], place: str) -> Path | None:
    """Return the file of a DuckDB or SQLite URL, None for a server.

    Raises:
        DataError: E401 when there is no such file.
    """
    if scheme(url, place) == "postgresql":
        return None
    name = unquote(url.partition("://")[2].removeprefix("/"))
    for path in (resolve(name), Path("/" + name)):
        if path.is_file():
            return path
    folder = resolve(name).parent
    near = nearest(Path(name).name, [p.name for p in folder.iterdir() if p.is_file()]) if folder.is_dir() else f"there is no folder {folder}"
    raise DataError("E401", place, f"no such database file: {resolve(name)}", f"in {folder} {near}" if folder.is_dir() else near)


def register(engine: Engine, url: str, table: str, file: Path | None, place: str) -> Raw:
    """Make the view ``source`` of a table.

    Raises:
        DataError: E401 no such table, E405 content that cannot be read, E407 a database that does not answer.
    """
    kind = scheme(url, place)
    if file is None:
        return _copied(engine, _postgresql(url, table, place))
    return _duckdb(engine, file, table, place) if kind == "duckdb" else _copied(engine, _sqlite(file, table, place))


def _copied(engine: Engine, batches: Iterator[pa.RecordBatch]) -> Raw:
    """Copy batches into a temporary Parquet file: the query may read the source more than once."""
    import pyarrow.parquet as pq

    file = engine.temp / "source.parquet"
    first = next(batches)
    with pq.ParquetWriter(file, first.schema, compression="lz4") as writer:
        writer.write_batch(first)
        for batch in batches:
            writer.write_batch(batch)
    engine.view("source", f"select * from read_parquet({literal(file)})")
    return Raw(engine.columns("select * from source"), engine.rows("select count(*) from source")[0][0])


def _names(table: str) -> str:
    return ".".join(quoted(part) for part in table.split("."))


def _no_table(table: str, known: list[str], where: str, place: str) -> DataError:
    return DataError("E401", place, f"no table {table!r} in {where}", nearest(table, known))


# duckdb


def _duckdb(engine: Engine, file: Path, table: str, place: str) -> Raw:
    help_ = f"is {file.name} a DuckDB database of a version not newer than the installed one, and is nobody writing it?"
    with engine_errors(place, "E407", help_):
        engine.execute("detach database if exists source_file")
        engine.execute(f"attach {literal(file)} as source_file (read_only, type duckdb)")
    known = engine.rows("select schema_name || '.' || table_name from duckdb_tables() where database_name = 'source_file'")
    known += engine.rows("select schema_name || '.' || view_name from duckdb_views() where database_name = 'source_file' and not internal")
    wanted = table if "." in table else f"main.{table}"
    if wanted not in [name for (name,) in known]:
        raise _no_table(table, [name.removeprefix("main.") for (name,) in known], str(file), place)
    engine.view("source", f"select * from source_file.{_names(wanted)}")
    return Raw(engine.columns("select * from source"), engine.rows("select count(*) from source")[0][0])


# sqlite


def _sqlite(file: Path, table: str, place: str) -> Iterator[pa.RecordBatch]:
    try:
        connection = sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True)
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        known = [row[0] for row in connection.execute("select name from sqlite_master where type in ('table', 'view')")]
        if table.removeprefix("main.") not in known:
            raise _no_table(table, known, str(file), place)
        yield from _sqlite_batches(connection, _names(table))
    except sqlite3.Error as error:
        raise DataError("E407", place, f"cannot read {file}: {error}", "is it an SQLite database, and is nobody holding it locked?") from None
    finally:
        connection.close()


def _sqlite_batches(connection: sqlite3.Connection, table: str) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    names = [column[0] for column in connection.execute(f"select * from {table} limit 0").description]
    kinds = _sqlite_kinds(connection, table, names)
    picked = [f"cast({quoted(n)} as text)" if kinds[n] == "text" else quoted(n) for n in names]
    arrow = {"text": pa.string(), "real": pa.float64(), "integer": pa.int64()}
    schema = pa.schema([(name, arrow[kinds[name]]) for name in names])
    cursor = connection.execute(f"select {', '.join(picked)} from {table}")
    yield pa.RecordBatch.from_pylist([], schema)
    while rows := cursor.fetchmany(_BATCH):
        yield pa.record_batch([pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), schema, strict=True)], schema)


def _sqlite_kinds(connection: sqlite3.Connection, table: str, names: list[str]) -> dict[str, str]:
    """Return what the values of every column are, whatever the column was declared as: SQLite lets them differ."""
    tests = [f"max(typeof({quoted(n)}) in ('text', 'blob')), max(typeof({quoted(n)}) = 'real'), count({quoted(n)})" for n in names]
    row = connection.execute(f"select {', '.join(tests)} from {table}").fetchone()
    kinds = {}
    for i, name in enumerate(names):
        text, real, known = row[3 * i : 3 * i + 3]
        kinds[name] = "text" if text or not known else "real" if real else "integer"
    return kinds


# postgresql

_PLAIN = {
    16: "bool",
    20: "int64",
    21: "int64",
    23: "int64",
    700: "float64",
    701: "float64",
    1700: "number",
    1082: "date",
    1114: "time",
    1184: "instant",
}
_LISTS = {1009, 1015}


def _postgresql(url: str, table: str, place: str) -> Iterator[pa.RecordBatch]:
    try:
        import psycopg
    except ImportError:
        raise DataError("E407", place, "reading PostgreSQL needs psycopg, which is not installed", "pip install 'predseg[postgres]'") from None
    where = without_password(url)
    try:
        connection = psycopg.connect(url, connect_timeout=10, application_name="predseg")
    except psycopg.Error as error:
        raise DataError(
            "E407", place, f"{where} does not answer: {hidden(error, url)}", "is the server up, and are user and database right?"
        ) from None
    try:
        with connection:
            connection.read_only = True
            connection.execute("set time zone 'UTC'")
            yield from _postgresql_batches(connection, table)
    except psycopg.errors.UndefinedTable:
        raise _no_table(table, _postgresql_tables(url), where, place) from None
    except psycopg.Error as error:
        raise DataError(
            "E407", place, f"cannot read {table} of {where}: {hidden(error, url)}", "read a view of the table that leaves such values away"
        ) from None
    finally:
        connection.close()


def hidden(error: Exception, url: str) -> str:
    """Return the first line of what a database said, without the password of its URL."""
    password = urlsplit(url).password
    text = first_line(error)
    return text.replace(unquote(password), "***").replace(password, "***") if password else text


def _postgresql_tables(url: str) -> list[str]:
    import psycopg

    query = "select case schemaname when 'public' then '' else schemaname || '.' end || relname from pg_stat_user_tables"
    with psycopg.connect(url, connect_timeout=10) as connection:
        return [row[0] for row in connection.execute(query)]


def _postgresql_batches(connection: Any, table: str) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    columns = connection.execute(f"select * from {_names(table)} limit 0").description
    schema = pa.schema([(column.name, _arrow_type(column)) for column in columns])
    picked = ", ".join(_picked(column) for column in columns)
    yield pa.RecordBatch.from_pylist([], schema)
    with connection.cursor(name="predseg") as cursor:
        cursor.execute(f"select {picked} from {_names(table)}")
        while rows := cursor.fetchmany(_BATCH):
            yield pa.record_batch([_array(values, field) for values, field in zip(zip(*rows, strict=True), schema, strict=True)], schema)


def _arrow_type(column: Any) -> pa.DataType:
    import pyarrow as pa

    if column.type_code in _LISTS:
        return pa.list_(pa.string())
    number = pa.decimal128(*_precision(column))
    known = {"bool": pa.bool_(), "int64": pa.int64(), "float64": pa.float64(), "number": number, "date": pa.date32()}
    known |= {"time": pa.timestamp("us"), "instant": pa.timestamp("us", "UTC")}
    return known.get(_PLAIN.get(column.type_code, ""), pa.string())


def _precision(column: Any) -> tuple[int, int]:
    """Return digits and scale of an exact number; one declared without them gets twelve digits after the point."""
    if column.type_code == 1700 and column.precision and 0 < column.precision <= 38 and 0 <= (column.scale or 0) <= column.precision:
        return column.precision, column.scale or 0
    return 38, 12


def _picked(column: Any) -> str:
    name = quoted(column.name)
    if column.type_code == 1700 and _precision(column) == (38, 12):
        return f"round({name}, 12)"
    if column.type_code in _PLAIN or column.type_code in _LISTS:
        return name
    return f"{name}::text"


def _array(values: tuple[Any, ...], field: pa.Field) -> pa.Array:
    import pyarrow as pa

    try:
        return pa.array(values, field.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, ValueError) as error:
        help_ = f"cast {field.name} to text or double precision in a view of the table"
        raise DataError("E405", f"column {field.name}", f"a value does not fit {field.type}: {first_line(error)}", help_) from None
