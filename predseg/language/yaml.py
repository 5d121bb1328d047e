"""A YAML reader that knows where every value stands and has no traps.

Only ``true`` and ``false`` (or ``True``, ``TRUE``) are booleans; ``on``, ``off``, ``yes``, ``no`` and ``NO`` are text. There are no sexagesimal
numbers, no dates, no anchors, aliases or tags. Fractions stay exact (`decimal.Decimal`). A document has at most
256 KB and 20 levels, and a key stands once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from predseg.errors import ConfigError, nearest

MAX_BYTES = 256 * 1024
MAX_DEPTH = 20
Scalar = str | int | Decimal | bool | None

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})", re.ASCII)
_FRACTION = re.compile(r"[-+]?([0-9]{1,18}\.[0-9]{0,18}|\.[0-9]{1,18})", re.ASCII)
_CONSTANTS: dict[str, Scalar] = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_CONSTANTS |= dict.fromkeys(("null", "Null", "NULL", "~", ""), None)
_SWITCHES = {"on", "off", "yes", "no"}
_SIGN = re.compile(r"(\w+): *[<>=]+ *(-?[0-9][0-9.]*)", re.ASCII)


@dataclass(frozen=True)
class Node:
    """A value and its place: a scalar, a list of nodes, or a mapping from text to nodes."""

    file: str
    line: int
    column: int
    value: Any
    keys: Any = None  # of a mapping: key -> (line, column)
    first: tuple[int, int] | None = None  # of a block text (`|`): line and column where its first line begins

    @property
    def place(self) -> str:
        """``file:line:column``, counted from 1."""
        return f"{self.file}:{self.line}:{self.column}"

    @property
    def is_mapping(self) -> bool:
        """Whether it has keys."""
        return isinstance(self.value, dict)

    @property
    def is_list(self) -> bool:
        """Whether it has items."""
        return isinstance(self.value, list)

    def key_place(self, key: str) -> str:
        """``file:line:column`` of a key of this mapping."""
        line, column = self.keys[key]
        return f"{self.file}:{line}:{column}"

    def plain(self) -> Any:
        """The value without places: dicts, lists, text, int, Decimal, bool, None."""
        if self.is_mapping:
            return {key: node.plain() for key, node in self.value.items()}
        return [node.plain() for node in self.value] if self.is_list else self.value

    def mapping(self, what: str, allowed: tuple[str, ...] | None = None, more: str = "") -> dict[str, Node]:
        """Return the mapping, or refuse: ``what`` names it, ``allowed`` are its keys, ``more`` is said beside them of one that is not."""
        if not self.is_mapping:
            raise ConfigError(
                "E302",
                self.place,
                f"{what} must be a mapping of keys to values, found {self.show()}",
                "write `key: value`, one a line, or {key: value, ...}",
            )
        for key in self.value:
            if allowed is not None and key not in allowed:
                raise ConfigError("E301", self.key_place(key), f"unknown key {key!r} in {what}", nearest(key, allowed, more))
        return dict(self.value)

    def text(self, what: str) -> str:
        """Return the text, or refuse."""
        if not isinstance(self.value, str) or not self.value.strip():
            hint = f'put it in quotes: "{self.value}"' if isinstance(self.value, int | Decimal) else "write a name or a text"
            raise ConfigError("E303", self.place, f"{what} must be text, found {self.show()}", hint)
        return self.value

    def number(self, what: str) -> Decimal:
        """Return the exact number, or refuse."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | Decimal):
            raise ConfigError("E304", self.place, f"{what} must be a number, found {self.show()}", _number_help(self.value))
        return Decimal(self.value)

    def texts(self, what: str) -> tuple[str, ...]:
        """Return one text or a list of them as a tuple, or refuse."""
        if self.is_list:
            if not self.value:
                raise ConfigError("E303", self.place, f"{what} must name at least one, found an empty list", "write a name")
            return tuple(node.text(what) for node in self.value)
        return (self.text(what),)

    def show(self) -> str:
        """The value as an error message shows it."""
        if self.is_mapping:
            return "a mapping" if self.value else "an empty mapping"
        if self.is_list:
            return "a list" if self.value else "an empty list"
        return "nothing" if self.value is None else repr(self.value) if isinstance(self.value, str) else str(self.plain()).lower()


def _number_help(value: object) -> str:
    digits = re.sub(r"[^0-9.\-]", "", value) if isinstance(value, str) else ""
    return f"write {digits}" if _INTEGER.fullmatch(digits) or _FRACTION.fullmatch(digits) else "write digits, such as 5000 or 12.50"


def read_documents(text: str, file: str = "<text>") -> list[Node]:
    """Return the documents of a YAML text, each a `Node`.

    Raises ConfigError (exit 3) with the place of whatever is not accepted.

    >>> [document] = read_documents("country: NO\\nprice: 12.50")
    >>> document.plain()
    {'country': 'NO', 'price': Decimal('12.50')}
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    if (size := len(text.encode("utf-8", "surrogatepass"))) > MAX_BYTES:
        raise ConfigError("E305", file, f"the file has {size:,} bytes, at most {MAX_BYTES:,} are read", "split it into several files")
    try:
        events = _Events(YAML(typ="safe", pure=True).parse(text), file)
        return list(events.documents())
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else file
        raise ConfigError("E306", place, f"not YAML: {error.problem or error.context}", _yaml_help(text, mark.line if mark else 0)) from None
    except (YAMLError, ValueError, RecursionError) as error:
        place = _place_of(file, text, getattr(error, "position", 0))
        raise ConfigError("E306", place, f"not YAML: {str(error).splitlines()[0]}", "check the indentation, quotes and brackets") from None


def _place_of(file: str, text: str, at: int) -> str:
    """Return ``file:line:column`` of a character."""
    return f"{file}:{text.count(chr(10), 0, at) + 1}:{at - text.rfind(chr(10), 0, at)}"


def _yaml_help(text: str, line: int) -> str:
    """Say what to write where a comparison is put as a sign, such as ``more_than: > 5000``."""
    sign = _SIGN.search(dict(enumerate(text.splitlines())).get(line, ""))
    return f"a comparison is a word, not a sign: write `{sign[1]}: {sign[2]}`" if sign else "check the indentation, quotes and brackets here"


class _Events:
    """Walks the parser's events and builds nodes."""

    def __init__(self, events: Iterator[Any], file: str) -> None:
        self.events, self.file = iter(events), file

    def documents(self) -> Iterator[Node]:
        for event in self.events:
            if type(event).__name__ == "DocumentStartEvent":
                node = self.node(next(self.events), 1)
                if node.value is not None:
                    yield node

    def node(self, event: Any, depth: int) -> Node:
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        place, kind = f"{self.file}:{line}:{column}", type(event).__name__
        if kind == "AliasEvent" or getattr(event, "anchor", None):
            raise ConfigError("E307", place, "anchors and aliases (& and *) are not accepted", "write the value out")
        if getattr(event, "tag", None):
            raise ConfigError("E307", place, f"tags are not accepted, found {event.tag}", "leave it away")
        if depth > MAX_DEPTH:
            raise ConfigError("E305", place, f"nested deeper than {MAX_DEPTH} levels", "use `in: segment` to layer rules")
        if kind == "ScalarEvent":
            first = _block_start(event) if event.style == "|" else None
            return Node(self.file, line, column, _scalar(event.value) if event.implicit[0] else event.value, first=first)
        if kind == "SequenceStartEvent":
            return Node(self.file, line, column, list(self.items("SequenceEndEvent", depth)))
        return self.mapping(line, column, depth)

    def items(self, end: str, depth: int) -> Iterator[Node]:
        while type(event := next(self.events)).__name__ != end:
            yield self.node(event, depth + 1)

    def mapping(self, line: int, column: int, depth: int) -> Node:
        values: dict[str, Node] = {}
        keys: dict[str, tuple[int, int]] = {}
        items = self.items("MappingEndEvent", depth)
        for key in items:
            if key.is_list or key.is_mapping:
                raise ConfigError("E308", key.place, "a key must be text", "write `name: value`")
            name = key.value if isinstance(key.value, str) else str(key.plain())
            if name in values:
                raise ConfigError("E308", key.place, f"the key {name!r} stands twice", "keep one of them")
            if name.lower() in _SWITCHES:
                raise ConfigError("E308", key.place, f"no key is named {name!r}", "actions are `on_enter` and `on_leave`")
            values[name], keys[name] = next(items), (key.line, key.column)
        return Node(self.file, line, column, values, keys)


def _block_start(event: Any) -> tuple[int, int]:
    """Return where the text of a `|` begins; all its lines begin in that column."""
    buffer, begin, line = event.start_mark.buffer, event.start_mark.index, ""
    while not line.strip() and (begin := buffer.find("\n", begin) + 1):
        end = buffer.find("\n", begin)
        line = buffer[begin : end if end >= 0 else len(buffer)]
    return event.start_mark.line + 2, len(line) - len(line.lstrip(" ")) + 1


def _scalar(text: str) -> Scalar:
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return Decimal(text) if _FRACTION.fullmatch(text) else text
