"""Flat rows, as lines of JSON or from the collector → events as the live executor takes them.

A row has the columns of the events table: ``customer_id`` or ``anonymous_id`` or both (a link), ``event``, ``event_time``, and
if wanted ``received_at``, ``event_id``, ``value``, any property, a mapping ``properties`` of more of them, and a mapping ``traits``
of facts of the customer. A line ``{"clock": INSTANT}`` only moves the clock.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Any, BinaryIO, NamedTuple
from zoneinfo import ZoneInfo

import orjson

from predseg.config import Config
from predseg.history.contract import AHEAD
from predseg.history.persons import id_text
from predseg.history.values import YEARS
from predseg.language.measures import Value
from predseg.language.spelling import element

CORE = frozenset("customer_id anonymous_id event event_time received_at event_id properties traits".split())
_TIMES = ("event_time", "received_at", "clock")
LIMIT, WIDE = 10**9, 10**14
_DIGITS = Decimal("0.0001")
_WRITTEN = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[T ]([0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?)(?:(?<=\.[0-9]{6})[0-9]+)?\s?([zZ]|UTC|[+-][0-9]{2}(?::?[0-9]{2})?)?)?",
    re.ASCII,
)
"""A day, a time and an offset, as `predseg.history.values.instants` takes them."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Seen(NamedTuple):
    """An event of a row. ``received`` is None when the row does not say when it was received."""

    customer_id: str | None
    anonymous_id: str | None
    event: str
    time: int
    received: int | None
    event_id: str | None
    properties: dict[str, Value]
    traits: dict[str, Value]

    @property
    def visible(self) -> int:
        """The instant from which it counts."""
        return self.time if self.received is None else max(self.time, self.received)


class Refused(Exception):
    """A row that breaks the contract: its field, and the reason."""

    def __init__(self, field: str, reason: str) -> None:
        self.field, self.reason = field, reason
        super().__init__(f"{field} {reason}")


def rows(file: BinaryIO) -> Iterator[dict[str, Any] | bytes]:
    """Yield each line of JSON as a row; a line that is none as it stands there. Blank lines are left out."""
    for line in file:
        text = line.strip()
        if not text:
            continue
        row = row_of(text)
        yield text if row is None else row


def row_of(line: bytes) -> dict[str, Any] | None:
    """Return the row that a line of JSON is, None when it is none. A number is no time there, as in the files of sources."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(row, dict):
        return None
    for name in _TIMES:
        if isinstance(row.get(name), int):
            row[name] = str(row[name])
    return row


@dataclass(frozen=True)
class Contract:
    """What rows must keep.

    Attributes:
        zone: Of times without an offset; None refuses them.
        counted: Properties that must be numbers, below 10^9.
        events: Event names that may occur; None for any.
    """

    zone: ZoneInfo | None = None
    counted: frozenset[str] = frozenset({"value"})
    events: frozenset[str] | None = None

    @classmethod
    def of(cls, config: Config) -> Contract:
        """Return the contract of a project."""
        events = config.contract.events
        zone = ZoneInfo(config.timezone) if config.timezone else None
        return cls(zone, frozenset(config.numeric_properties()), None if events is None else frozenset(events))

    def read(self, row: Mapping[str, Any], latest: int | None = None) -> Seen:
        """Return the event of a row.

        Args:
            row: Flat, numbers as int, float or Decimal.
            latest: The clock of the world (microseconds); nothing more than five minutes ahead of it is taken.

        Raises:
            Refused: with the field and the reason.
        """
        customer, anonymous = _id(row, "customer_id"), _id(row, "anonymous_id")
        if customer is None and anonymous is None:
            raise Refused("customer_id", "is missing")
        name = row.get("event")
        if name is None and row.get("traits"):
            name = "Identify"
        if not isinstance(name, str) or not name.strip():
            raise Refused("event", "is missing" if name in (None, "") else "is not a text")
        if self.events is not None and name not in self.events:
            raise Refused("event", "is not one of `contract: events`")
        time, received = self.instant(row, "event_time"), self.instant(row, "received_at")
        if time is None:
            raise Refused("event_time", "is missing")
        if latest is not None and max(time, time if received is None else received) > latest + AHEAD:
            raise Refused("event_time", "is more than 5 minutes ahead of the clock")
        return Seen(customer, anonymous, name.strip(), time, received, _id(row, "event_id"), self._properties(row), self._mapping(row, "traits"))

    def instant(self, row: Mapping[str, Any], field: str) -> int | None:
        """Return an instant of a row (microseconds, or written), None when it has none there."""
        value = row.get(field)
        if value is None or value.__class__ is int:
            return value
        text = value.strip() if isinstance(value, str) else "?"
        written = _WRITTEN.fullmatch(text)
        if written is None:
            if not text:
                return None
            raise Refused(field, "cannot be read")
        day, time, offset = written.groups()
        if time and not offset and self.zone is None:
            raise Refused(field, "has no offset, and the project no `timezone`")
        try:
            found = datetime.fromisoformat(f"{day}T{time}{'Z' if offset in ('z', 'UTC') else offset or ''}" if time else day)
        except ValueError:
            raise Refused(field, "cannot be read") from None
        micros = ((found if offset else found.replace(tzinfo=self.zone if time else UTC)) - _EPOCH) // _MICROSECOND
        if not YEARS[0] <= micros <= YEARS[1]:
            raise Refused(field, "cannot be read")
        return micros

    def _properties(self, row: Mapping[str, Any]) -> dict[str, Value]:
        found = self._mapping(row, "properties") if "properties" in row else {}
        for name, value in row.items():
            if name not in CORE and value is not None:
                found[name] = self._value(name, value)
        return found

    def _mapping(self, row: Mapping[str, Any], field: str) -> dict[str, Value]:
        more = row.get(field)
        if more is None:
            return {}
        if not isinstance(more, Mapping):
            raise Refused(field, "is not a mapping")
        return {name: self._value(name, value) for name, value in more.items() if value is not None}

    def _value(self, name: str, value: Any) -> Value:
        if name in self.counted:
            blank = isinstance(value, str) and not value.strip()
            return None if blank else _number(name, value, LIMIT)
        if isinstance(value, str | bool):
            return value
        if isinstance(value, int | float | Decimal):
            return _number(name, value, WIDE)
        if isinstance(value, list | tuple):
            return tuple(element(v) for v in value if v is not None)
        return element(value)


def _id(row: Mapping[str, Any], field: str) -> str | None:
    try:
        return id_text(row.get(field))
    except ValueError:
        raise Refused(field, "is neither a text nor a whole number") from None


def _number(name: str, value: Any, limit: int) -> Decimal:
    if value.__class__ is int and -limit < value < limit:
        return Decimal(value)
    try:
        if isinstance(value, bool | list | tuple | dict):
            raise InvalidOperation
        number = Decimal(value) if isinstance(value, int | Decimal) else Decimal(repr(value) if isinstance(value, float) else str(value).strip())
    except InvalidOperation:
        raise Refused(name, "cannot be read") from None
    if not number.is_finite():
        raise Refused(name, "is not finite")
    if abs(number) >= limit:
        raise Refused(name, f"is {'10^9' if limit == LIMIT else '10^14'} or more")
    return number if number == number.to_integral_value() else number.quantize(_DIGITS, ROUND_HALF_EVEN)
