"""Tables of DuckDB, SQLite and a real PostgreSQL server, read without writing and without showing a password."""

from __future__ import annotations

import datetime as dt
import os
import pwd
import shlex
import shutil
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from tenacity import Retrying, stop_after_attempt

from predseg.engine import Engine
from predseg.errors import DataError
from predseg.history import databases
from tests.history.projects import Place

Rows = list[tuple[Any, ...]]


def read(place: Place, url: str, table: str, folder: Path) -> tuple[dict[str, str], Rows]:
    folder.mkdir(exist_ok=True)
    with Engine(folder, threads=1) as engine:
        file = databases.file_of(url, lambda p: place.root / p, "source x")
        raw = databases.register(engine, url, table, file, "source x")
        batches = engine.stream("select * from source")
        return raw.columns, [row for batch in batches for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)]


@pytest.fixture
def temp(tmp_path: Path) -> Path:
    return tmp_path / "engine"


# duckdb


@pytest.fixture
def shop(place: Place) -> Place:
    with duckdb.connect(str(place.root / "shop.duckdb")) as connection:
        connection.execute("create table orders as select '007' as id, timestamp '2026-01-01 10:00' as at, 1.5::decimal(10,2) as value")
        connection.execute("create schema raw; create view raw.orders as select id, 'view' as kind from main.orders")
    return place


def test_duckdb_tables_and_views(shop: Place, temp: Path) -> None:
    columns, rows = read(shop, "duckdb:///shop.duckdb", "orders", temp)
    assert columns == {"id": "VARCHAR", "at": "TIMESTAMP", "value": "DECIMAL(10,2)"}
    assert rows == [("007", dt.datetime(2026, 1, 1, 10), Decimal("1.50"))]
    assert read(shop, f"duckdb:///{shop.root}/shop.duckdb", "raw.orders", temp)[1] == [("007", "view")]


def test_a_duckdb_file_is_opened_for_reading_only(shop: Place, temp: Path) -> None:
    before = (shop.root / "shop.duckdb").read_bytes()
    read(shop, "duckdb:///shop.duckdb", "orders", temp)
    assert (shop.root / "shop.duckdb").read_bytes() == before


# sqlite


@pytest.fixture
def lite(place: Place) -> Place:
    connection = sqlite3.connect(place.root / "shop.sqlite")
    with connection:
        connection.execute("create table orders (id text, n integer, v real, mixed, code numeric, empty integer, data blob)")
        rows = [("007", 1, 1.5, 1, 7, None, b"ab"), ("8", 2**40, 2, "x", 2.5, None, None), (None, None, None, None, None, None, None)]
        connection.executemany("insert into orders values (?, ?, ?, ?, ?, ?, ?)", rows)
    connection.close()
    return place


def test_sqlite_columns_have_the_type_of_their_values(lite: Place, temp: Path) -> None:
    columns, rows = read(lite, "sqlite:///shop.sqlite", "orders", temp)
    kinds = {"id": "VARCHAR", "n": "BIGINT", "v": "DOUBLE", "mixed": "VARCHAR", "code": "DOUBLE", "empty": "VARCHAR", "data": "VARCHAR"}
    assert columns == kinds
    assert rows == [("007", 1, 1.5, "1", 7.0, None, "ab"), ("8", 2**40, 2.0, "x", 2.5, None, None), (None,) * 7]


def test_sqlite_is_read_in_batches_and_may_be_empty(place: Place, temp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "_BATCH", 3)
    with sqlite3.connect(place.root / "x.db") as connection:
        connection.execute('create table "odd "" name" (n)')
        connection.execute("create table void (n)")
        connection.executemany('insert into "odd "" name" values (?)', [(k,) for k in range(10)])
    assert [n for (n,) in read(place, "sqlite:///x.db", 'odd " name', temp)[1]] == list(range(10))
    assert read(place, "sqlite:///x.db", "void", temp)[1] == []


# refusals


@pytest.mark.parametrize(
    ("url", "table", "code", "message", "help_"),
    [
        ("duckdb:///shop.duckdb", "order", "E401", "no table 'order' in {root}/shop.duckdb", "did you mean 'orders'?"),
        ("sqlite:///shop.sqlite", "order", "E401", "no table 'order' in {root}/shop.sqlite", "did you mean 'orders'?"),
        ("sqlite:///shp.sqlite", "orders", "E401", "no such database file: {root}/shp.sqlite", "in {root} did you mean 'shop.sqlite'?"),
        ("sqlite:///shop.duckdb", "orders", "E407", "cannot read {root}/shop.duckdb: file is not a database", "is it an SQLite database"),
        ("mysql://ann:secret@db/shop", "orders", "E402", "unknown database 'mysql' in the URL", "write duckdb:///FILE"),
    ],
)
def test_what_is_not_there_is_named(shop: Place, lite: Place, temp: Path, url: str, table: str, code: str, message: str, help_: str) -> None:
    with pytest.raises(DataError) as refusal:
        read(shop, url, table, temp)
    assert (refusal.value.code, refusal.value.place) == (code, "source x")
    assert refusal.value.message == message.format(root=shop.root) and refusal.value.help.startswith(help_.format(root=shop.root))
    assert "secret" not in str(refusal.value)


def test_a_file_of_another_kind_is_no_duckdb_file(lite: Place, temp: Path) -> None:
    with pytest.raises(DataError) as refusal:
        read(lite, "duckdb:///shop.sqlite", "orders", temp)
    assert refusal.value.code == "E407" and "shop.sqlite" in str(refusal.value) and "xtension" not in refusal.value.message


# postgresql


@dataclass(frozen=True)
class Server:
    port: int

    def url(self, database: str = "shop", password: str = "se%20cret") -> str:
        return f"postgresql://ann:{password}@127.0.0.1:{self.port}/{database}"


def binaries() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    named = shutil.which("initdb")
    return found[-1].parent if found else Path(named).parent if named else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


SETUP = """
create table orders (id text, n bigint, small smallint, v numeric(12,2), free numeric, f real, day date, local timestamp, at timestamptz,
  ok boolean, tags text[], data jsonb, key uuid, padded char(5), span interval);
insert into orders values
  ('007', 9007199254740993, 3, 12.50, 1.00005, 0.1, '2026-01-01', '2026-01-01 10:00', '2026-01-01 10:00+02', true, '{a,NULL,"b c"}', '{"k": 1}',
   '00000000-0000-0000-0000-000000000001', 'x', '1 day'),
  (null, null, null, null, null, null, null, null, null, null, null, null, null, null, null);
create table many as select i as n from generate_series(1, 1234) i;
create table odd as select 'infinity'::timestamptz as at;
create table wide as select 'NaN'::numeric as v;
create schema raw; create table raw.lines as select 1 as one;
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'predseg[postgres]'")
    bin_ = binaries()
    if bin_ is None:
        pytest.skip("no PostgreSQL server is installed: apt-get install postgresql")
    if os.geteuid() not in {entry.pw_uid for entry in pwd.getpwall()}:
        pytest.skip("PostgreSQL does not start for a user without a name")
    folder = tmp_path_factory.mktemp("pg")
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        folder = Path(subprocess.run(["mktemp", "-d", "/tmp/predseg-pg-XXXXXX"], capture_output=True, text=True, check=True).stdout.strip())
        shutil.chown(folder, "postgres", "postgres")
        user = {"user": "postgres", "group": "postgres", "extra_groups": []}
    (folder / "pw").write_text("se cret\n")
    options: dict[str, Any] = {"check": True, "capture_output": True, "cwd": folder, **user}
    subprocess.run([bin_ / "initdb", "-D", folder / "db", "-U", "ann", "-A", "scram-sha-256", f"--pwfile={folder}/pw", "-E", "UTF8", "-N"], **options)
    options["capture_output"] = False
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}

    def start(port: int) -> None:
        settings = f"-c listen_addresses=127.0.0.1 -p {port} -k {shlex.quote(str(folder))} -c fsync=off -c timezone=America/New_York"
        subprocess.run([bin_ / "pg_ctl", "-D", folder / "db", "-w", "-t", "300", "-l", folder / "log", "-o", settings, "start"], **options, **quiet)

    for attempt in Retrying(stop=stop_after_attempt(5), reraise=True):  # somebody else may have taken the port since it was found free
        with attempt:
            start(port := free_port())
    try:
        import psycopg

        running = Server(port)
        with psycopg.connect(running.url("postgres"), autocommit=True) as connection:
            connection.execute("create database shop")
        with psycopg.connect(running.url()) as connection:
            connection.execute(SETUP)
        yield running
    finally:
        subprocess.run([bin_ / "pg_ctl", "-D", folder / "db", "-m", "immediate", "stop"], **options, **quiet)
        shutil.rmtree(folder, ignore_errors=True)


def test_postgresql_types(server: Server, place: Place, temp: Path) -> None:
    columns, rows = read(place, server.url(), "orders", temp)
    assert list(columns.values())[:5] == ["VARCHAR", "BIGINT", "BIGINT", "DECIMAL(12,2)", "DECIMAL(38,12)"]
    assert columns["tags"] == "VARCHAR[]" and columns["at"] == "TIMESTAMP WITH TIME ZONE" and columns["local"] == "TIMESTAMP"
    first = dict(zip(columns, rows[0], strict=True))
    assert first["at"] == dt.datetime(2026, 1, 1, 8, tzinfo=dt.UTC) and first["local"] == dt.datetime(2026, 1, 1, 10)
    assert first["tags"] == ["a", None, "b c"] and first["data"] == '{"k": 1}' and first["key"].endswith("01") and first["span"] == "1 day"
    assert (first["id"], first["n"], first["v"], first["free"]) == ("007", 2**53 + 1, Decimal("12.50"), Decimal("1.00005"))
    assert first["padded"] == "x" and first["day"] == dt.date(2026, 1, 1) and first["ok"] is True
    assert rows[1] == (None,) * len(columns)


def test_postgresql_comes_in_batches(server: Server, place: Place, temp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "_BATCH", 100)
    assert sorted(n for (n,) in read(place, server.url(), "many", temp)[1]) == list(range(1, 1235))
    assert read(place, server.url(), "raw.lines", temp)[1] == [(1,)]


@pytest.mark.parametrize(
    ("password", "database", "table", "code", "says", "help_"),
    [
        ("wrong-secret", "shop", "orders", "E407", "does not answer", "is the server up"),
        ("se%20cret", "sop", "orders", "E407", 'database "sop" does not exist', "is the server up"),
        ("se%20cret", "shop", "order", "E401", "no table 'order' in postgresql://ann@127.0.0.1", "did you mean 'orders'?"),
        ("se%20cret", "shop", "odd", "E407", "cannot read odd", "read a view"),
        ("se%20cret", "shop", "wide", "E405", "a value does not fit decimal128(38, 12)", "cast v to text"),
    ],
)
def test_postgresql_refusals(
    server: Server, place: Place, temp: Path, password: str, database: str, table: str, code: str, says: str, help_: str
) -> None:
    with pytest.raises(DataError) as refusal:
        read(place, server.url(database, password), table, temp)
    assert refusal.value.code == code and says in refusal.value.message and refusal.value.help.startswith(help_)
    assert "secret" not in str(refusal.value) and "se cret" not in str(refusal.value) and "se%20cret" not in str(refusal.value)


def test_a_server_that_is_down_is_said_to_be(place: Place, temp: Path) -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    with pytest.raises(DataError, match="E407.*postgresql://ann@127.0.0.1:1/shop does not answer") as refusal:
        read(place, "postgresql://ann:secret@127.0.0.1:1/shop", "orders", temp)
    assert "secret" not in str(refusal.value)


def test_without_psycopg_the_extra_is_named(place: Place, temp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(DataError) as refusal:
        read(place, "postgresql://ann@127.0.0.1/shop", "orders", temp)
    assert refusal.value.code == "E407" and refusal.value.help == "pip install 'predseg[postgres]'"


def test_postgresql_is_read_again_every_time_and_adds_what_is_new(server: Server, place: Place) -> None:
    import psycopg

    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("create table log as select 'c1' as customer_id, 'A' as event, timestamptz '2026-01-01' as event_time")
        text = f"sources: {{log: {{url: '{server.url()}', table: log}}}}\n"
        assert place.ingest(text).rows == 1
        connection.execute("insert into log values ('c2', 'B', '2026-01-02')")
    report = place.ingest(text)
    assert (report.rows, report.sources[0].new, report.up_to_date) == (2, 1, False)
    assert "cret" not in (place.store.path / "ingest.json").read_text()
