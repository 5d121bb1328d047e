"""Request bodies → messages: unpacked within bounds, read strictly, every flaw charged to the message that has it.

A body that is no JSON is refused whole. A flaw that JSON readers disagree about (a key that stands twice, NaN, half of a
surrogate pair) or that would cost too much (too deep, too long) is the fault of one message; the others of its batch go on.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

EVENT_BYTES, BATCH_BYTES = 32 * 1024, 500 * 1024
"""How long one message and one body may be, unpacked."""
DEPTH = 16
"""How deeply the values of a message may be nested."""
_DIGITS, _MEMBERS = 40, 17


class RefusedBody(Exception):
    """A body that is not taken at all; ``status`` is the HTTP status that says why."""

    def __init__(self, status: int, reason: str) -> None:
        self.status, self.reason = status, reason
        super().__init__(reason)


@dataclass(frozen=True)
class Flaw:
    """A place of a message where no value can stand, and why."""

    reason: str


class _Doubled(dict[str, Any]):
    """An object in which a key stands twice."""


def unpacked(body: bytes, encoding: str | None, limit: int = BATCH_BYTES) -> bytes:
    """Return a body without its compression.

    Args:
        body: As it came.
        encoding: The header Content-Encoding.
        limit: Bytes at most; no more than this is ever unpacked.

    Raises:
        RefusedBody: 413 too long, 415 another encoding than gzip, 400 damaged.
    """
    named = (encoding or "").strip().lower()
    if named not in ("", "identity", "gzip"):
        raise RefusedBody(415, f"Content-Encoding {named[:40]!r} is not taken, send gzip or none")
    if named == "gzip":
        body = _gunzipped(body, limit)
    if len(body) > limit:
        raise RefusedBody(413, f"the body is longer than {limit:,} bytes")
    return body


def _gunzipped(body: bytes, limit: int) -> bytes:
    found = bytearray()
    try:
        for _ in range(_MEMBERS):
            if not body:
                return bytes(found)
            stream = zlib.decompressobj(wbits=31)
            found += stream.decompress(body, limit + 1 - len(found))
            if len(found) > limit:
                return bytes(found)
            if not stream.eof:
                raise RefusedBody(400, "the gzip data end too early")
            body = stream.unused_data
    except zlib.error:
        raise RefusedBody(400, "the body is not gzip") from None
    raise RefusedBody(400, f"the gzip data have more than {_MEMBERS - 1} parts")


def read(body: bytes) -> Any:
    """Return the value of a JSON text; what has no value in it is a `Flaw` there.

    Raises:
        RefusedBody: 400 when it is not JSON.
    """
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer)
    except RecursionError:
        raise RefusedBody(400, "the body is nested too deeply") from None
    except ValueError as error:
        raise RefusedBody(400, f"the body is not JSON: {_said(error)}") from None


def _said(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg.lower()} at character {error.pos}"
    return f"not UTF-8 at byte {error.start}" if isinstance(error, UnicodeDecodeError) else "a value cannot be read"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else _Doubled(found)


def _constant(name: str) -> Flaw:
    return Flaw(f"{name} is no number")


def _integer(digits: str) -> int | Flaw:
    return int(digits) if len(digits) <= _DIGITS else Flaw(f"a number of more than {_DIGITS} digits")


def flaw(message: Any) -> str | None:
    """Return why a message cannot be taken as it is, None when nothing is wrong with its JSON."""
    waiting: list[tuple[Any, int]] = [(message, 0)]
    while waiting:
        value, depth = waiting.pop()
        kind = type(value)
        if kind is str:
            if not value.isascii() and (found := _text_flaw(value)):
                return found
        elif kind is float:
            if not math.isfinite(value):
                return "a number is too large"
        elif kind in (dict, list, _Doubled):
            if depth >= DEPTH:
                return f"nested more than {DEPTH} levels deep"
            if kind is _Doubled:
                return "a key stands twice"
            inside = value if kind is list else (*value, *value.values())
            waiting.extend((item, depth + 1) for item in inside)
        elif kind is Flaw:
            return value.reason
    return None


def _text_flaw(text: str) -> str | None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return "a text has half of a surrogate pair"
    return None


def too_long(message: Any) -> bool:
    """Say whether a sound message is longer than `EVENT_BYTES`, written compactly."""
    return len(json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()) > EVENT_BYTES


def as_text(message: Any) -> str:
    """Return any message, sound or not, as text to be kept: at most `EVENT_BYTES` characters."""
    try:
        text = json.dumps(message, ensure_ascii=False, default=lambda value: value.reason, separators=(",", ":"))
    except RecursionError:
        text = "(nested too deeply to be written down)"
    return text[:EVENT_BYTES].encode("utf-8", "backslashreplace").decode()


def messages(value: Any, *, batch: bool = True) -> Iterator[Any]:
    """Yield the messages of the value of a body: of its ``batch`` when it may have one and has one, else itself.

    Raises:
        RefusedBody: 400 when it is neither.
    """
    if not isinstance(value, dict):
        raise RefusedBody(400, "expected a JSON object")
    if not batch or "batch" not in value:
        yield value
    elif not isinstance(value["batch"], list):
        raise RefusedBody(400, "`batch` is not a list")
    else:
        yield from value["batch"]
