"""Values of several kinds in one column of texts: what stands there says of which kind it is.

``12.5`` is a number, ``true`` a flag, ``["a","b"]`` a list, and everything else a text; a text that could be taken for one of these,
or begins with an apostrophe, has one before it. So each value is what it is, whatever stands beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import orjson

from predseg.language.measures import Value, kind_of

NUMBER = r"-?(0|[1-9][0-9]*)(\.[0-9]*[1-9])?"
"""A number as it is spelled; ``-0`` is not."""
READ = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
"""A number as somebody may write it."""
TAKEN = rf"\s*('|\[).*|\s*(true|false|{READ})\s*"
"""A text that is told apart by an apostrophe; small and capital letters are the same."""
_NUMBER, _TAKEN = re.compile(NUMBER), re.compile(TAKEN, re.IGNORECASE | re.DOTALL | re.ASCII)


def spelled(value: Value) -> str | None:
    """Return what stands in the column for a value; numbers have at most four digits after the point.

    >>> [spelled(v) for v in (Decimal("12.50"), "12 EUR", "12", True, ("a", "b"))]
    ['12.5', '12 EUR', "'12", 'true', '["a","b"]']
    """
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"'{value}" if _TAKEN.fullmatch(value) else value
    if isinstance(value, tuple):
        return json.dumps([str(v) for v in value], ensure_ascii=False, separators=(",", ":"))
    return f"{Decimal(value).normalize() + 0:f}"


def element(value: Any) -> str:
    """Return an element of a list, which is a text; what came as another kind is as JSON writes it.

    >>> [element(v) for v in ("a", 1, Decimal("2.50"), True, [1, {"b": None}])]
    ['a', '1', '2.5', 'true', '[1,{"b":null}]']
    """
    if isinstance(value, str):
        return value
    return str(value) if type(value) is int else orjson.dumps(value, default=float).decode()


def kinds_of(values: Iterable[Value]) -> set[str]:
    """Return of which kinds some values are: number, flag, text, list.

    >>> sorted(kinds_of([Decimal("12.5"), "12 EUR", None, ("a", "b")]))
    ['list', 'number', 'text']
    """
    return {"list" if isinstance(value, tuple) else kind_of(value) for value in values if value is not None}


def value_of(text: str | None) -> Value:
    """Return the value that stands in the column.

    >>> [value_of(t) for t in ("12.5", "12 EUR", "'12", "true", '["a","b"]')]
    [Decimal('12.5'), '12 EUR', '12', True, ('a', 'b')]
    """
    if text is None:
        return None
    if text[:1] == "'":
        return text[1:]
    if text[:1] == "[":
        return tuple(v for v in json.loads(text) if v is not None)
    if text in ("true", "false"):
        return text == "true"
    return Decimal(text) if _NUMBER.fullmatch(text) else text
