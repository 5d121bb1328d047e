"""The data contract: what every row of every source must keep, checked with pandera batch by batch.

A row that breaks it goes to quarantine with the first thing that is wrong; the other rows of its batch go on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from predseg.columns import field_of
from predseg.history import mixed, values
from predseg.history.sources import Reading, naive
from predseg.language.time import MINUTE

if TYPE_CHECKING:
    from pandera.pandas import DataFrameSchema

AHEAD = 5 * MINUTE
"""How far ahead of the clock an event may lie."""
NOT_ROW = "line"
"""The field of lines that are no rows at all."""

_MISSING = "is missing"
_AHEAD = "is more than 5 minutes ahead of the clock"
_ORDER = ("customer_id", "anonymous_id", "event_id", "event", "event_time", "received_at", "known_since", "value")


@dataclass(frozen=True)
class Property:
    """One property of the events table: its name, its kind and the plain name it has inside the engine.

    ``kind`` is ``flag``, ``whole``, ``number``, ``text``, ``list`` or ``mixed``, of texts that say what they are; ``counted`` says that measures compute with it.
    """

    name: str
    kind: str
    column: str
    counted: bool = False

    @property
    def type(self) -> pa.DataType:
        """The Arrow type of its column."""
        types = {"flag": pa.bool_(), "whole": pa.int64(), "number": values.EXACT, "text": pa.string(), "mixed": pa.string()}
        return pa.list_(pa.string()) if self.kind == "list" else types[self.kind]

    @property
    def field(self) -> pa.Field:
        """Its column of a table."""
        return field_of(self.name, self.type, self.kind == "mixed")


@dataclass(frozen=True)
class Checked:
    """A batch after its check.

    Attributes:
        good: The rows that keep the contract, normalised.
        bad: Positions of the others in the batch.
        fields: What is wrong there, first thing first.
        reasons: Why.
        received: When these were received (null where that cannot be told).
        due: The earliest time among rows that are bad only because they lie ahead of the clock (µs), or None.
        rounded: Numbers of good rows that lost digits.
    """

    good: pa.Table
    bad: np.ndarray
    fields: list[str]
    reasons: list[str]
    received: pa.Array
    due: int | None
    rounded: int


class _Batch:
    """Columns of one batch on their way from raw to normal, with what the contract wants to know of them."""

    def __init__(self, batch: pa.RecordBatch, reading: Reading) -> None:
        self.batch, self.reading = batch, reading
        self.columns: dict[str, pa.Array] = {}
        self.facts: dict[str, Any] = {}
        self.rounded = np.zeros(batch.num_rows, dtype=np.int64)

    def raw(self, name: str) -> pa.Array:
        return self.batch.column(name) if name in self.batch.schema.names else pa.nulls(self.batch.num_rows)

    def id(self, name: str) -> pa.Array:
        text, inexact = values.ids(self.raw(name))
        if inexact.any():
            self.facts[f"{name} exact"] = ~inexact
        return text

    def instants(self, name: str) -> values.Instants:
        try:
            found = values.instants(self.raw(name), self.reading.zone)
        except values.NaiveTimes as error:
            raise naive(self.reading.place, name, self.reading.labels.get(name), error.example) from None
        if found.unreadable.any():
            self.facts[f"{name} readable"] = ~found.unreadable
        return found

    def number(self, name: str, array: pa.Array, counted: bool = True) -> pa.Array:
        found = values.numbers(array, values.LIMIT if counted else values.WIDE)
        for fact, wrong in (("readable", found.unreadable), ("finite", found.infinite), ("small" if counted else "kept", found.large)):
            if wrong.any():
                self.facts[f"{name} {fact}"] = ~wrong
        self.rounded += found.rounded
        return values.exact(found)


def check_events(batch: pa.RecordBatch, reading: Reading, properties: list[Property], events: tuple[str, ...] | None, now: int) -> Checked:
    """Normalise a batch of events and part its rows into good and bad.

    Args:
        batch: Rows under canonical names; properties under the plain names of ``properties``.
        reading: How its source is read.
        properties: All properties of the table; those the source lacks are null.
        events: Names that may occur; None for any.
        now: The clock (µs); nothing more than five minutes ahead of it is let in.

    Raises:
        DataError: E408 when a time has no offset and no zone is declared.
    """
    rows = _Batch(batch, reading)
    own, anonymous = rows.id("customer_id"), rows.id("anonymous_id")
    own = pc.if_else(pc.fill_null(pc.equal(own, anonymous), False), pa.scalar(None, pa.string()), own)
    event, _ = values.ids(rows.raw("event"))
    when, received = rows.instants("event_time"), rows.instants("received_at")
    heard = np.where(received.known, received.micros, when.micros)
    rows.columns = {"customer_id": own, "anonymous_id": anonymous, "event": event, "event_time": values.moments(when)}
    rows.columns["received_at"] = pa.array(heard, mask=~(received.known | when.known)).cast(values.INSTANT)
    rows.columns["value"] = rows.number("value", rows.raw("value"))
    rows.columns["event_id"] = rows.id("event_id")
    for item in properties:
        rows.columns[item.column] = _property(rows, item)
    who = pc.coalesce(own, anonymous).to_pandas()
    frame = pd.DataFrame(
        {"customer_id": who, "event": event.to_pandas(), "event_time": _column(when), "received_at": _column(received), **rows.facts}
    )
    bad, fields, reasons = _failures(frame, event_schema(events, now + AHEAD), rows.facts)
    return _parted(rows, bad, fields, reasons, np.maximum(when.micros, received.micros))


def check_customers(batch: pa.RecordBatch, reading: Reading, properties: list[Property]) -> Checked:
    """Normalise a batch of customers and part its rows into good and bad. Times may lie ahead: the rows wait for them.

    Raises:
        DataError: E408 when a time has no offset and no zone is declared.
    """
    rows = _Batch(batch, reading)
    who, when, since = rows.id("customer_id"), rows.instants("event_time"), rows.instants("known_since")
    rows.columns = {"customer_id": who, "event_time": values.moments(when), "known_since": values.moments(since)}
    for item in properties:
        rows.columns[item.column] = _property(rows, item)
    frame = pd.DataFrame({"customer_id": who.to_pandas(), "event_time": _column(when), "known_since": _column(since), **rows.facts})
    bad, fields, reasons = _failures(frame, customer_schema("event_time" in reading.given), rows.facts)
    return _parted(rows, bad, fields, reasons, when.micros)


def _property(rows: _Batch, item: Property) -> pa.Array:
    array = rows.raw(item.column)
    if item.kind == "number":
        if not item.counted and pa.types.is_floating(array.type):
            array = pc.if_else(pc.fill_null(pc.is_nan(array), True), pa.scalar(None, array.type), array)
        return rows.number(item.name, array, item.counted) if not pa.types.is_null(array.type) else pa.nulls(len(array), item.type)
    if item.kind == "mixed":
        tidy, large, rounded = mixed.tidy(array.cast(pa.string()))
        if large.any():
            rows.facts[f"{item.name} kept"] = ~large
        rows.rounded += rounded
        return tidy
    if pa.types.is_decimal(array.type):
        fits = pc.less(pc.abs(array.cast(pa.decimal128(38, 0))), pa.scalar(2**63 - 1, pa.decimal128(38, 0)))
        if not values.flags(pc.fill_null(fits, True)).all():
            rows.facts[f"{item.name} whole"] = values.flags(pc.fill_null(fits, True))
        array = pc.if_else(fits, array, pa.scalar(None, array.type))
    return array.cast(item.type)


def _column(found: values.Instants) -> pd.Series:
    micros = np.where(found.known, found.micros, np.iinfo(np.int64).min)
    return pd.Series(micros.view("datetime64[us]")).dt.tz_localize("UTC")


_FACTS = {
    "exact": "is a float of more digits than it can hold",
    "readable": "cannot be read",
    "finite": "is not finite",
    "small": "is 10^9 or more",
    "kept": "is 10^14 or more",
    "whole": "is too large for a whole number",
}


@cache
def event_schema(events: tuple[str, ...] | None, latest: int) -> DataFrameSchema:
    """Return the contract of events: ``events`` may occur (None: any), ``latest`` (µs) is the last instant not too far ahead."""
    from pandera.pandas import Check, Column, DataFrameSchema

    known = [Check.isin(events, error="is not one of `contract: events`")] if events is not None else []
    ahead = Check.le(pd.Timestamp(latest, unit="us", tz="UTC"), error=_AHEAD)
    return DataFrameSchema(
        {
            "customer_id": Column("str", nullable=False),
            "event": Column("str", known, nullable=False),
            "event_time": Column("datetime64[us, UTC]", ahead, nullable=False),
            "received_at": Column("datetime64[us, UTC]", ahead, nullable=True),
        }
    )


@cache
def customer_schema(timed: bool) -> DataFrameSchema:
    """Return the contract of customers; ``timed`` when the source says from when a row is true."""
    from pandera.pandas import Column, DataFrameSchema

    return DataFrameSchema(
        {
            "customer_id": Column("str", nullable=False),
            "event_time": Column("datetime64[us, UTC]", nullable=not timed),
            "known_since": Column("datetime64[us, UTC]", nullable=True),
        }
    )


def _failures(frame: pd.DataFrame, schema: DataFrameSchema, facts: dict[str, np.ndarray]) -> tuple[np.ndarray, list[str], list[str]]:
    """Return positions of bad rows, ascending, and for each the first field that is wrong and why.

    ``facts`` are columns ``FIELD FACT`` that must be true.
    """
    from pandera.errors import SchemaErrors
    from pandera.pandas import Check, Column

    if facts:
        schema = schema.add_columns({fact: Column(bool, Check.eq(True, error=_FACTS[fact.rpartition(" ")[2]])) for fact in facts})
    try:
        schema.validate(frame, lazy=True)
    except SchemaErrors as error:
        cases = error.failure_cases
    else:
        return np.zeros(0, dtype=np.int64), [], []
    if cases["index"].isna().any():
        raise RuntimeError(f"the contract cannot be checked: {cases.loc[cases['index'].isna(), ['column', 'check']].to_dict('records')}")
    field = cases["column"].map(lambda name: name.rpartition(" ")[0] if name in facts else name)
    reason = cases["check"].where(cases["check"] != "not_nullable", _MISSING)
    rank = field.map({name: i for i, name in enumerate(_ORDER)}).fillna(len(_ORDER))
    found = pd.DataFrame({"row": cases["index"].astype("int64"), "rank": rank, "null": reason == _MISSING, "field": field, "reason": reason})
    first = found.sort_values(["row", "rank", "null", "field"], kind="stable").drop_duplicates("row")
    return first["row"].to_numpy(), first["field"].tolist(), first["reason"].tolist()


def _parted(rows: _Batch, bad: np.ndarray, fields: list[str], reasons: list[str], heard: np.ndarray) -> Checked:
    table = pa.table(rows.columns)
    received = table.column("received_at" if "received_at" in table.column_names else "event_time").combine_chunks()
    ahead = [row for row, reason in zip(bad, reasons, strict=True) if reason == _AHEAD]
    due = int(heard[ahead].min()) if ahead else None
    if not len(bad):
        return Checked(table, bad, fields, reasons, received.slice(0, 0), due, int(rows.rounded.sum()))
    keep = np.ones(len(table), dtype=bool)
    keep[bad] = False
    return Checked(table.filter(pa.array(keep)), bad, fields, reasons, received.take(pa.array(bad)), due, int(rows.rounded[keep].sum()))
