"""A day's rows beside the base of the events table: what they cost depends on them, not on the rows that are there.

What a new row can change of the table is little, and it is found by looking at one column each: events of the same id, and
the events of visitors who became customers, or other ones. These are merged with the new rows as `merge_events` merges all.
The result lies in a file beside the base; see `predseg.layers`. When what lies there is more than an eighth of the base, or
when the base is small, everything is merged and written anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from predseg.disks import link
from predseg.engine import Engine, literal
from predseg.history import identity
from predseg.history.merge import Merge, describe, distinct_rows, encoding, final, rows_sql, scan, schema_of, settle
from predseg.history.repeats import EXISTING, Counts
from predseg.history.report import IngestReport
from predseg.history.sorting import in_order
from predseg.layers import ORDER, gone_in, is_recent, name_of, with_gone

LEAST = 2_000_000
"""Rows of a base beside which rows are put; a smaller one is written anew in some seconds, and its files stay plain."""
SHARE = 8
"""All rows beside a base are at most the base divided by this; the next older file is taken into a new one of at least half its rows."""
GROUP_ROWS = 16_384
_PLACE = "filename, file_row_number"
_LEFT = "not exists (from gone g where g.filename = f.filename and g.file_row_number = f.file_row_number)"
_NONE = np.zeros(0, np.int64)


class ReadAll(Exception):
    """Only a reading of all sources says what becomes of the rows of some files."""


def fits(files: Sequence[Path], rows: int, properties: Sequence[str]) -> bool:
    """Say whether so many rows go beside the base of a table."""
    sizes = {file: pq.read_metadata(file).num_rows for file in files}
    base = sum(size for file, size in sizes.items() if not is_recent(file))
    return base >= LEAST and SHARE * (sum(sizes.values()) - base + rows) <= base and not {p.lower() for p in properties} & {*_PLACE.split(", ")}


def add_events(engine: Engine, merge: Merge, folder: Path, before: IngestReport) -> tuple[Counts, list[identity.Refused], set[str]]:
    """Write the files of the events table with the new rows beside its base into ``folder``.

    Returns what became of the rows, with what the table holds now; the links that were refused; and of which anonymous ids all
    these were found.

    Raises:
        ReadAll: When a new row takes the place of one that is there, or is the same without having an id.
    """
    counts, gone = Counts(), gone_in(merge.existing)
    every = scan(merge.existing, {}, engine.temp, numbered=True)  # to leave out what is gone while scanning takes long
    engine.execute("create temp table gone (filename varchar, file_row_number bigint)")
    for file in merge.existing:
        if rows := gone.get(name_of(file), _NONE).tolist():
            engine.execute(f"insert into gone select {literal(file)}, unnest({rows})")
    engine.execute(f"create temp table fresh as {rows_sql(merge, None)}")
    engine.execute(f"create temp table same_id as select * from {every} where event_id in (select name from fresh)")
    engine.execute(f"create temp table present as select * exclude ({_PLACE}) from same_id f where {_LEFT}")
    engine.execute(f"create temp table loads as {rows_sql(merge, 'present')}")
    engine.view("kept", settle(engine, merge, counts))
    if counts.conflicts.get(EXISTING):
        raise ReadAll
    engine.execute("create temp table moved (filename varchar, file_row_number bigint, customer_id varchar)")
    refused = _identities(engine, every) if merge.anonymous else []
    file = engine.temp / "final.parquet"
    with pq.ParquetWriter(file, schema_of(merge)) as writer:
        for distinct in distinct_rows(engine, merge, _rows(engine, merge, every), counts, "again"):
            new = distinct["load"].to_numpy() != EXISTING
            writer.write_table(final(distinct.filter(pa.array(new | distinct["again"].to_numpy())), merge))
            describe(distinct.filter(pa.array(new)), counts)
    if counts.repeated:
        raise ReadAll
    _add_up(engine, counts, before, every, file)
    for path, rows in engine.rows("select filename, list(file_row_number) from moved group by all"):
        gone[name_of(Path(path))] = np.union1d(gone.get(name_of(Path(path)), _NONE), rows)
    _write(engine, merge, gone, file, folder)
    return counts, refused, {one for (one,) in engine.rows("select distinct anonymous_id from loads where anonymous_id is not null")}


def _identities(engine: Engine, every: str) -> list[identity.Refused]:
    """Settle whom the anonymous ids of the rows belong to: fill ``links``, and ``moved``, the present rows that stand under somebody else so far."""
    own = identity.own_sql("customer_id", "anonymous_id", "linked_at")
    engine.execute(
        f"create temp table same_visitor as select {_PLACE}, customer_id, anonymous_id, linked_at, {own} as own, "
        f"greatest(event_time, received_at) as seen from {every} where anonymous_id in (select anonymous_id from loads)"
    )
    engine.execute(f"create temp table about as select * from same_visitor f where {_LEFT}")
    links = "select anonymous_id, customer_id, event_time, received_at from kept union all select anonymous_id, own, seen, seen from about"
    refused = identity.link(engine, f"({links})")
    engine.execute(
        f"insert into moved select {_PLACE}, a.customer_id from about a left join links l using (anonymous_id) "
        "where own is null and (a.customer_id <> coalesce(l.owner, anonymous_id) or a.linked_at is distinct from l.linked_at)"
    )
    return refused


def _rows(engine: Engine, merge: Merge, every: str) -> str:
    """Return the query of the new rows, the present ones that they repeat, and those that moved (``again``), under the customer known now."""
    if not merge.anonymous:
        return "select *, false as again from kept"
    if not engine.rows("select 1 from moved limit 1"):
        return identity.person_sql("(select *, false as again from kept)")
    engine.execute(f"create temp table restated as select * exclude ({_PLACE}) from {every} semi join moved using ({_PLACE})")
    engine.execute(f"create temp table back as {rows_sql(replace(merge, staged={}), 'restated')}")
    kept = f"select *, false as again from kept where load <> {EXISTING} or name not in (select name from back)"
    return identity.person_sql(f"({kept} union all select *, true as again from back)")


def _add_up(engine: Engine, counts: Counts, before: IngestReport, every: str, file: Path) -> None:
    """Make the counts of the new rows those of the table: no event is taken from it, and only of customers more is to be known than their number."""
    changes = f"select customer_id, 1 as n from read_parquet({literal(file)}) union all select customer_id, -1 from moved"
    engine.execute(f"create temp table sums as select customer_id, sum(n) as n from ({changes}) group by all")
    held = f"select customer_id, count(*) as n from {every} where customer_id in (select customer_id from sums) group by all"
    held += f" union all select customer_id, -count(*) from {every} semi join gone using ({_PLACE}) group by all"
    engine.execute(f"create temp table were as select customer_id, sum(n) as n from ({held}) group by all having sum(n) > 0")
    [(came, left)] = engine.rows(
        "select count(*) filter (w.n is null and s.n > 0), count(*) filter (w.n + s.n = 0) from sums s left join were w using (customer_id)"
    )
    counts.rows += before.rows
    counts.customers = before.customers + came - left
    counts.events = dict(Counter(before.events) + Counter(counts.events))
    counts.first = min((t for t in (before.first, counts.first) if t is not None), default=None)
    counts.last = max((t for t in (before.last, counts.last) if t is not None), default=None)
    counts.visible = max((t for t in (before.visible, counts.visible) if t is not None), default=None)


def _write(engine: Engine, merge: Merge, gone: Mapping[str, np.ndarray], file: Path, folder: Path) -> None:
    """Lay the files of the table into a folder, the youngest of the recent ones made one with the new rows."""
    size, taken, left = pq.read_metadata(file).num_rows, [], list(merge.existing)
    number = 1 + max((int(name_of(f)[-13:-8]) for f in left if is_recent(f)), default=0)
    while size and is_recent(left[-1]) and (more := pq.read_metadata(left[-1]).num_rows) <= 2 * size:
        taken.append(left.pop())
        size += more
    for one in left:
        link(one, folder / name_of(one))
    if not size:
        return
    schema = with_gone(schema_of(merge), {name: rows for name, rows in gone.items() if name in map(name_of, left)})
    parts = [f"select * from read_parquet({literal(file)})", *([f"select * from {scan(taken, gone, engine.temp)}"] if taken else [])]
    with pq.ParquetWriter(folder / f"recent-{number:05d}.parquet", schema, **encoding(schema)) as writer:
        for batch in in_order(engine, " union all ".join(parts), ", ".join(ORDER)):
            columns = [column.cast(f.type) for column, f in zip(batch.columns, schema, strict=True)]
            writer.write_table(pa.table(columns, schema=schema), row_group_size=GROUP_ROWS)
