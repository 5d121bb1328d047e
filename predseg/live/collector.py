"""Messages of Segment and RudderStack clients → rows as the events table has them, one row a message.

| message | event | what becomes of the rest |
| --- | --- | --- |
| ``track`` | its ``event`` | properties |
| ``page``, ``screen`` | ``Page Viewed``, ``Screen Viewed`` | properties, ``name``, ``category`` |
| ``identify`` | ``Identify`` | ``traits`` (RudderStack: ``context.traits``) are facts of the customer from the time of the message on |
| ``group`` | ``Group`` | ``group_id``; traits of the group as properties ``group_NAME`` |
| ``alias`` | ``Alias`` | joins the anonymous ``previousId`` to ``userId`` |

``userId`` is the customer_id, ``anonymousId`` the anonymous_id (one is needed, both together join the two), ``messageId`` the
event_id, ``value`` else ``revenue`` else ``total`` the value. An object inside the properties gives ``outer_inner``; a list of
objects gives lists, those of ``products`` under the names of the products' own properties: ``product_id: [p1, p2]``. A
property whose name is a column of the events table gets ``property_`` before it. Nulls are left away; ``context`` and ``integrations`` are not kept.

The time is that of the server when there is no ``timestamp``. A client whose clock is wrong says so by ``sentAt``: what it
sent happened as long before it was received as it says it happened before it was sent. Less than `NETWORK` between
``sentAt`` and the server's clock is the way through the network and changes nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from predseg.language.time import SECOND, parse_instant
from predseg.live import bodies

KINDS = ("track", "identify", "page", "screen", "group", "alias")
EVENTS = {"identify": "Identify", "page": "Page Viewed", "screen": "Screen Viewed", "group": "Group", "alias": "Alias"}
NETWORK = 5 * SECOND
NAME_LENGTH = 255
"""Characters of an id, of an event and of the name of a property, at most."""
PROPERTIES = 200
COLUMNS = frozenset("customer_id anonymous_id event event_time received_at event_id value linked_at traits".split())
_YEARS = (-62_135_596_800 * SECOND, 253_402_300_800 * SECOND)
_OFFSET = re.compile(r"([zZ]|[+-]\d\d(:?\d\d)?)$|^\d{4}-\d\d-\d\d$", re.ASCII)
Row = dict[str, Any]


@dataclass(frozen=True)
class Rejected:
    """A message that is no row: its text, the field that is wrong, and why."""

    raw: str
    field: str
    reason: str


class _Wrong(Exception):
    def __init__(self, field: str, reason: str) -> None:
        self.field, self.reason = field, reason


def collect(value: Any, received: int, kind: str | None = None, *, length: int = 0) -> Iterator[Row | Rejected]:
    """Yield a row, or why there is none, for every message of a body.

    Args:
        value: What `bodies.read` returned.
        received: The clock of the server (microseconds).
        kind: Of `KINDS`, when the body is one message of this kind; else it is a batch, or one message, that says it by ``type``.
        length: Of the body; up to `bodies.EVENT_BYTES` no message can be too long.

    Raises:
        RefusedBody: 400 when the body is neither a message nor a batch.
    """
    sent = value.get("sentAt") if isinstance(value, dict) else None
    for message in bodies.messages(value, batch=kind is None):
        yield to_row(message, received, kind, sent=sent, long=length > bodies.EVENT_BYTES)


def to_row(message: Any, received: int, kind: str | None = None, *, sent: Any = None, long: bool = True) -> Row | Rejected:
    """Return the row of one message; ``sent`` is the ``sentAt`` of its batch, ``long`` asks whether it is too long."""
    try:
        if (found := bodies.flaw(message)) is not None:
            raise _Wrong("message", found)
        if not isinstance(message, dict):
            raise _Wrong("message", "is not an object")
        if long and bodies.too_long(message):
            raise _Wrong("message", f"is longer than {bodies.EVENT_BYTES:,} bytes")
        return _row(message, received, kind or message.get("type"), sent)
    except _Wrong as wrong:
        return Rejected(bodies.as_text(message), wrong.field, wrong.reason)


def flat(message: Any, received: int) -> Row | Rejected:
    """Return a message that is a row already (``customer_id``, ``event``, ``event_time``, ...), as a broker may carry it."""
    found = bodies.flaw(message)
    if found is None and bodies.too_long(message):
        found = f"is longer than {bodies.EVENT_BYTES:,} bytes"
    return Rejected(bodies.as_text(message), "message", found) if found else {**message, "received_at": received}


def _row(message: Mapping[str, Any], received: int, kind: Any, sent: Any) -> Row:
    if kind not in KINDS:
        raise _Wrong("type", f"is not one of {', '.join(KINDS)}")
    customer, anonymous = _id(message, "userId"), _id(message, "previousId" if kind == "alias" else "anonymousId")
    if kind == "alias" and not (customer and anonymous):
        raise _Wrong("previousId" if customer else "userId", "is missing")
    if not (customer or anonymous):
        raise _Wrong("userId", "is missing, and so is anonymousId")
    found: Row = {"customer_id": customer, "anonymous_id": None if anonymous == customer else anonymous, "event": _event(message, kind)}
    found |= {"event_time": _time(message, received, sent), "received_at": received, "event_id": _id(message, "messageId")}
    row = {name: item for name, item in found.items() if item is not None}
    return row | _MORE[kind](message)


# the parts of a message


def _id(message: Mapping[str, Any], field: str) -> str | None:
    value = message.get(field)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    if isinstance(value, bool | float | list | dict):
        raise _Wrong(field, "is neither a text nor a whole number")
    text = "" if value is None else str(value).strip()
    if len(text) > NAME_LENGTH:
        raise _Wrong(field, f"is longer than {NAME_LENGTH} characters")
    return text or None


def _event(message: Mapping[str, Any], kind: str) -> str:
    if kind != "track":
        return EVENTS[kind]
    name = message.get("event")
    if not isinstance(name, str) or not name.strip():
        raise _Wrong("event", "is missing" if name is None or name == "" else "is not a text")
    if len(name) > NAME_LENGTH:
        raise _Wrong("event", f"is longer than {NAME_LENGTH} characters")
    return name.strip()


def _time(message: Mapping[str, Any], received: int, sent: Any) -> int:
    if message.get("timestamp") is None:
        return received
    own = message.get("sentAt") or sent
    happened, late = _instant(message["timestamp"], "timestamp"), 0
    if own is not None:
        late = received - _instant(own, "sentAt")
    happened += late if abs(late) > NETWORK else 0
    if not _YEARS[0] <= happened < _YEARS[1]:
        raise _Wrong("timestamp", "is not in the years 1 to 9999")
    return happened


def _instant(value: Any, field: str) -> int:
    if not isinstance(value, str) or len(value) > 64:
        raise _Wrong(field, "is not an instant such as 2026-03-01T12:00:00Z")
    if not _OFFSET.search(value.strip()):
        raise _Wrong(field, "has no offset: write 2026-03-01T12:00:00Z")
    try:
        return parse_instant(value)
    except (ValueError, OverflowError):
        raise _Wrong(field, "is not an instant such as 2026-03-01T12:00:00Z") from None


# properties


def _track(message: Mapping[str, Any]) -> Row:
    return _properties(_object(message, "properties"))


def _page(message: Mapping[str, Any]) -> Row:
    named = {name: message[name] for name in ("name", "category") if isinstance(message.get(name), str)}
    return _properties(named | _object(message, "properties"))


def _identify(message: Mapping[str, Any]) -> Row:
    context = message.get("context")
    elsewhere = _object(context, "traits") if isinstance(context, dict) else {}
    found: Row = {}
    _flatten(elsewhere | _object(message, "traits"), "", found)
    return {"traits": found} if found else {}


def _group(message: Mapping[str, Any]) -> Row:
    group = _id(message, "groupId")
    if group is None:
        raise _Wrong("groupId", "is missing")
    found: Row = {}
    _flatten(_object(message, "traits"), "group_", found)
    return found | {"group_id": group}


def _alias(_: Mapping[str, Any]) -> Row:
    return {}


_MORE = {"track": _track, "page": _page, "screen": _page, "identify": _identify, "group": _group, "alias": _alias}


def _object(message: Mapping[str, Any], field: str) -> dict[str, Any]:
    value = message.get(field)
    if value is not None and not isinstance(value, dict):
        raise _Wrong(field, "is not an object")
    return value or {}


def _properties(given: Mapping[str, Any]) -> Row:
    found: Row = {}
    _flatten(given, "", found)
    for name in ("value", "revenue", "total"):
        if given.get(name) is not None:
            found["value"] = _number(given[name], name)
            break
    return found


def _number(value: Any, field: str) -> int | float | str:
    text = value.strip() if isinstance(value, str) else value
    try:
        if isinstance(value, bool | list | dict) or not math.isfinite(float(text)):
            raise ValueError
    except (ValueError, OverflowError):
        raise _Wrong(field, "is not a number") from None
    return text


def _flatten(given: Mapping[str, Any], prefix: str, found: Row) -> None:
    """Put the properties of an object into ``found``; a name that stands there already stays as it is."""
    put = partial(_put, found)
    inner = {name: value for name, value in given.items() if isinstance(value, dict | list)}
    for name, value in given.items():
        if name not in inner and value is not None:
            put(prefix + name, value)
    for name, value in inner.items():
        if isinstance(value, dict):
            _flatten(value, f"{prefix}{name}_", found)
        else:
            _flatten_list(value, prefix, name, put)


def _flatten_list(items: list[Any], prefix: str, name: str, put: Any) -> None:
    inside = prefix if name == "products" else f"{prefix}{name}_"
    columns: dict[str, list[str]] = {}
    for item in items:
        parts = {inside + key: value for key, value in item.items()} if isinstance(item, dict) else {prefix + name: item}
        for key, value in parts.items():
            if value is not None:
                columns.setdefault(key, []).append(_text(value))
    for key, texts in columns.items():
        put(key, texts)


def _put(found: Row, name: str, value: Any) -> None:
    name = f"property_{name}" if name in COLUMNS and name != "value" else name
    if name == "value" or name in found:
        return
    if not name.strip() or len(name) > NAME_LENGTH:
        raise _Wrong("properties", f"a name is empty or longer than {NAME_LENGTH} characters")
    if len(found) >= PROPERTIES:
        raise _Wrong("properties", f"are more than {PROPERTIES}")
    found[name] = value


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, str) else bodies.as_text(value)
