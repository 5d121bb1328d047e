"""The audience of a project as a table in PostgreSQL: who may be written to, by segment, brought up to date by its differences.

    segment      text          \\ the key
    customer_id  text          /
    entered_at   timestamptz
    variant      text          of a segment with a `split`

Everything is one transaction: who reads sees the audience of before or the whole new one, and one that is killed leaves the table as it
was. Rows that are right are not touched, so the second time nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from predseg.errors import ChannelError
from predseg.history.databases import hidden
from predseg.language.audience import Audience
from predseg.language.urls import without_password

if TYPE_CHECKING:
    import pyarrow as pa

_TABLE = "(segment text not null, customer_id text not null, entered_at timestamptz not null, variant text, primary key (segment, customer_id))"
_REMOVE = """delete from {table} t where {which} not exists
(select 1 from predseg_wanted w where w.segment = t.segment and w.customer_id = t.customer_id)"""
_PUT = """insert into {table} as t (segment, customer_id, entered_at, variant) select segment, customer_id, entered_at, variant from predseg_wanted
on conflict (segment, customer_id) do update set entered_at = excluded.entered_at, variant = excluded.variant
where (t.entered_at, t.variant) is distinct from (excluded.entered_at, excluded.variant) returning (xmax = 0)"""


@dataclass(frozen=True)
class Published:
    """What was different: rows that were added, changed and removed."""

    added: int
    changed: int
    removed: int


def publish(audience: Audience, members: pa.Table, segments: Sequence[str] | None, *, dry_run: bool = False) -> Published:
    """Make the table say who may be written to.

    Args:
        audience: Where it is; the table is made when it is not there.
        members: segment, customer_id, entered_at and, if there are some, variant.
        segments: Whose rows are looked at; None for all, those of segments that are no more among them.
        dry_run: Only say what is different.

    Raises:
        ChannelError: E803 when the database does not answer, or does not take it.
    """
    with _connected(audience) as (connection, table):
        _make(connection, table)
        connection.execute(_sql("lock table {table} in share row exclusive mode", table))
        connection.execute(f"create temp table predseg_wanted {_TABLE} on commit drop")
        with connection.cursor().copy("copy predseg_wanted from stdin") as copy:
            copy.set_types(["text", "text", "timestamptz", "text"])
            for row in members.to_pylist():
                copy.write_row((row["segment"], row["customer_id"], row["entered_at"], row.get("variant")))
        removed = _remove(connection, table, segments)
        put = [row[0] for row in connection.execute(_sql(_PUT, table))]
        if dry_run:
            connection.rollback()
    return Published(sum(put), len(put) - sum(put), removed)


def take_out(audience: Audience, ids: Sequence[str]) -> int:
    """Delete the rows about some customers, and return how many there were.

    Raises:
        ChannelError: E803 when the database does not answer, or does not let us.
    """
    with _connected(audience) as (connection, table):
        if not _exists(connection, table):
            return 0
        return int(connection.execute(_sql("delete from {table} where customer_id = any(%s)", table), (list(ids),)).rowcount)


def rows_about(audience: Audience, ids: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows about some customers.

    Raises:
        ChannelError: E803 when the database does not answer, or does not let us.
    """
    from psycopg.rows import dict_row

    with _connected(audience) as (connection, table):
        if not _exists(connection, table):
            return []
        cursor = connection.cursor(row_factory=dict_row)
        return list(cursor.execute(_sql("select * from {table} where customer_id = any(%s) order by segment", table), (list(ids),)))


@contextmanager
def _connected(audience: Audience) -> Iterator[tuple[Any, Any]]:
    """Give a connection in a transaction that ends with the block, and the name of the table."""
    where = without_password(audience.url)
    try:
        import psycopg
        from psycopg import sql
    except ImportError:
        raise ChannelError(
            "E803", "audience", "writing to PostgreSQL needs psycopg, which is not installed", "pip install 'predseg[postgres]'"
        ) from None
    try:
        with psycopg.connect(audience.url, connect_timeout=10, application_name="predseg") as connection:
            connection.execute("set time zone 'UTC'")
            yield connection, sql.Identifier(*audience.table.split("."))
    except (psycopg.Error, UnicodeError) as error:
        remedy = "may this user write the table, has it the columns segment, customer_id, entered_at, variant, and is its key the first two?"
        raise ChannelError("E803", "audience", f"{audience.table} of {where}: {hidden(error, audience.url)}", remedy) from None


def _sql(text: str, table: Any, **more: Any) -> Any:
    from psycopg import sql

    return sql.SQL(text).format(table=table, **more)


def _exists(connection: Any, table: Any) -> bool:
    return bool(connection.execute("select to_regclass(%s) is not null", (table.as_string(connection),)).fetchone()[0])


def _make(connection: Any, table: Any) -> None:
    if not _exists(connection, table):
        connection.execute(_sql(f"create table if not exists {{table}} {_TABLE}", table))


def _remove(connection: Any, table: Any, segments: Sequence[str] | None) -> int:
    from psycopg import sql

    which = sql.SQL("" if segments is None else "segment = any(%(segments)s) and")
    return int(connection.execute(_sql(_REMOVE, table, which=which), {"segments": list(segments or ())}).rowcount)
