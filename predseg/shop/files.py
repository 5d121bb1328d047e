"""The files of a demo project: what a shop would really hand over, repetitions and broken rows included."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from predseg.disks import disk_errors
from predseg.formats import write_file
from predseg.language.time import DAY, parse_instant, say_instant
from predseg.shop.kinds import Kind
from predseg.shop.simulation import DEFAULT_CUSTOMERS, DEFAULT_DAYS, DEFAULT_START, Shop, simulate
from predseg.shop.tables import micros

APP_DAYS = 30
"""The app's own export, ``data/app.jsonl``, holds its events of so many last days."""
REPEATED = 0.004
"""Share of the rows of ``data/events.parquet`` that are delivered twice."""
APP_NAMES = {
    "customer_id": "userId",
    "anonymous_id": "anonymousId",
    "event": "event",
    "event_time": "timestamp",
    "received_at": "receivedAt",
    "value": "value",
    "event_id": "messageId",
}
"""How the app's export calls the columns."""
_AHEAD = parse_instant("2199-01-01")


def write(
    folder: str | Path,
    customers: int = DEFAULT_CUSTOMERS,
    days: int = DEFAULT_DAYS,
    seed: int = 0,
    start: int = DEFAULT_START,
    kind: str | Kind = "default",
) -> Shop:
    """Simulate a shop and write the files of a demo project into ``folder/data``; the same arguments give the same bytes.

    ======================== ======================================================================================
    ``data/events.parquet``  all events but those of ``app.jsonl``, in the order of arrival; 0.4 % are delivered twice,
                             and eight rows are broken: no time, a time in 2199, nobody's, or a value of 10⁹
    ``data/app.jsonl``       the events of the app in the last 30 days, under other names (``userId``, ``timestamp``, ...);
                             eight lines are broken: no real time, a value of -inf, nobody's, cut off
    ``data/customers.parquet`` one row per customer: id, country, tier, signed_up, birth_years, channel
    ``data/truth.parquet``   the hidden state, for `predseg.shop.true_probability`; no part of a project
    ======================== ======================================================================================

    Returns:
        The shop, clean.

    Raises:
        UsageError: E206, see `simulate`.
        DataError: E410 the folder cannot be written, E411 the disk is full.
    """
    shop = simulate(customers, days, seed, start, kind)
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, 2**32 + 1))))
    data = Path(folder) / "data"
    with disk_errors(data):
        data.mkdir(parents=True, exist_ok=True)
    by_app = pc.fill_null(pc.equal(shop.events["device"], "app"), False).to_numpy()
    app = by_app & (micros(shop.events["received_at"]) > shop.end - APP_DAYS * DAY)
    write_file(data / "events.parquet", _with_flaws(shop.events.filter(pa.array(~app)), rng))
    _write_lines(data / "app.jsonl", shop.events.filter(pa.array(app)), rng)
    write_file(data / "customers.parquet", shop.customers)
    write_file(data / "truth.parquet", shop.truth)
    return shop


def _with_flaws(events: pa.Table, rng: np.random.Generator) -> pa.Table:
    """Repeat some rows, and put broken copies of others among them."""
    order = np.repeat(np.arange(len(events)), 1 + (rng.random(len(events)) < REPEATED))
    flaws: list[dict[str, Any]] = [{"event_time": None}] * 2 + [{"event_time": "ahead"}] * 2
    flaws += [{"customer_id": None, "anonymous_id": None}] * 3 + [{"value": Decimal(10**9)}]
    rows = rng.integers(len(events), size=len(flaws))
    broken = pa.concat_tables([_changed(events.slice(int(row), 1), i, flaw) for i, (row, flaw) in enumerate(zip(rows, flaws, strict=True))])
    places = np.concatenate((np.arange(len(order), dtype=np.float64), rng.random(len(flaws)) * len(order)))
    return pa.concat_tables([events.take(pa.array(order)), broken]).take(pa.array(np.argsort(places, kind="stable"))).combine_chunks()


def _changed(row: pa.Table, number: int, flaw: dict[str, Any]) -> pa.Table:
    for name, value in {"event_id": f"broken-{number}", **flaw}.items():
        column = row.schema.field(name)
        new = pa.array([_AHEAD], pa.int64()).cast(column.type) if value == "ahead" else pa.array([value], column.type)
        row = row.set_column(row.schema.get_field_index(name), column, new)
    return row


def _write_lines(file: Path, events: pa.Table, rng: np.random.Generator) -> None:
    renamed = events.rename_columns([APP_NAMES.get(name, name) for name in events.column_names])
    lines = [json.dumps(_plain(row)) for row in renamed.to_pylist()]
    for number, flaw in enumerate(_LINE_FLAWS if lines else ()):
        at = int(rng.integers(len(lines)))
        row = {**json.loads(lines[at]), "messageId": f"broken-app-{number}", **flaw}
        lines.insert(at, json.dumps({name: value for name, value in row.items() if value is not None}))
    if lines:
        lines.insert(int(rng.integers(len(lines))), lines[0][: len(lines[0]) // 2])
    aside = file.with_suffix(".part")
    with disk_errors(file):
        aside.write_text("".join(line + "\n" for line in lines), "utf-8", newline="\n")
        aside.replace(file)


_LINE_FLAWS: list[dict[str, Any]] = [
    {"timestamp": "yesterday"},
    {"timestamp": "2026-02-30T10:00:00Z"},
    {"timestamp": None},
    {"value": "-inf"},
    {"value": "many"},
    {"userId": None, "anonymousId": None},
    {"event": None},
]


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {name: _say(value) for name, value in row.items() if value is not None}


def _say(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    if hasattr(value, "timestamp"):
        return say_instant(round(value.timestamp() * 1e6))
    return value
