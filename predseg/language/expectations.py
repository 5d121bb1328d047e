"""What a project expects of its data beyond the contract of single rows: how many, how fresh, how full, how large.

expectations:
  within: 7 days                     # of events, what came in this long is looked at
  sources:
    orders: {max_lag: 1 day, rejected: 0.5%}
  events:
    Order Completed:
      volume: 50%                    # of 24 hours, against the same weekday
      max_lag: 6 hours               # the newest one is older
      nulls: {product_id: 5%}        # the share without this property
      between: {value: [0, 10000]}   # no value outside
  vanished: fail                     # an event or property that came until a week ago: fail, warn or off
  new: warn                          # one that never came before
  types: warn                        # values of a property that are of another kind than before: texts for numbers, say
  allow: [volume of Order Completed]
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from predseg.errors import ConfigError, nearest
from predseg.language.documents import read_duration, read_pair, read_share
from predseg.language.time import DAY
from predseg.language.yaml import Node

FAIL, WARN, OFF = "fail", "warn", "off"
KINDS = ("max_lag", "rejected", "volume", "nulls", "between", "vanished", "new", "types")
"""The kinds of checks; the name of one is ``KIND of WHAT``."""
_WORDS = ("vanished", "new", "types")


@dataclass(frozen=True)
class OfSource:
    """What is expected of a source; None is not looked at. Lengths are microseconds, shares are fractions."""

    max_lag: int | None = None
    rejected: float | None = None


@dataclass(frozen=True)
class OfEvent:
    """What is expected of an event: its number, its age, and of properties the share without and the values, both ends included."""

    volume: float | None = None
    max_lag: int | None = None
    nulls: tuple[tuple[str, float], ...] = ()
    between: tuple[tuple[str, Decimal, Decimal], ...] = ()


@dataclass(frozen=True)
class Expectations:
    """What a project expects of its data; ``allow`` names checks that may fail."""

    sources: tuple[tuple[str, OfSource], ...] = ()
    events: tuple[tuple[str, OfEvent], ...] = ()
    within: int = 7 * DAY
    vanished: str = FAIL
    new: str = WARN
    types: str = WARN
    allow: tuple[str, ...] = ()


def parse_expectations(node: Node) -> Expectations:
    """Return the declaration under ``expectations:``."""
    keys = node.mapping("`expectations`", ("sources", "events", "within", *_WORDS, "allow"))
    found: dict[str, Any] = {key: _word(keys[key], key) for key in _WORDS if key in keys}
    if "within" in keys:
        found["within"] = read_duration(keys["within"], "within")
    if "allow" in keys:
        found["allow"] = _allowed(keys["allow"])
    for key, read in (("sources", _source), ("events", _event)):
        if key in keys:
            found[key] = tuple((name, read(name, one)) for name, one in keys[key].mapping(f"`{key}`").items())
    return Expectations(**found)


def _word(node: Node, key: str) -> str:
    if node.value not in (FAIL, WARN, OFF):
        raise ConfigError("E309", node.place, f"`{key}` is {FAIL}, {WARN} or {OFF}, found {node.show()}", f"write `{key}: {WARN}`")
    return str(node.value)


def _allowed(node: Node) -> tuple[str, ...]:
    names = node.texts("`allow`")
    for name in names:
        kind, of, _ = name.partition(" of ")
        if kind not in KINDS or not of:
            raise ConfigError(
                "E309", node.place, f"no check can be called {name!r}", f"write `KIND of WHAT`, as predseg check does: {nearest(kind, KINDS)}"
            )
    return names


def _source(name: str, node: Node) -> OfSource:
    keys = node.mapping(f"expectations of {name!r}", ("max_lag", "rejected"))
    return OfSource(_length(keys), _small(keys["rejected"], "rejected") if "rejected" in keys else None)


def _event(name: str, node: Node) -> OfEvent:
    keys = node.mapping(f"expectations of {name!r}", ("volume", "max_lag", "nulls", "between"))
    nulls = keys["nulls"].mapping("`nulls`") if "nulls" in keys else {}
    between = keys["between"].mapping("`between`") if "between" in keys else {}
    return OfEvent(
        float(read_share(keys["volume"], "volume")) / 100 if "volume" in keys else None,
        _length(keys),
        tuple((prop, _small(one, prop)) for prop, one in nulls.items()),
        tuple((prop, *read_pair(one)) for prop, one in between.items()),
    )


def _length(keys: dict[str, Node]) -> int | None:
    return read_duration(keys["max_lag"], "max_lag") if "max_lag" in keys else None


def _small(node: Node, what: str) -> float:
    """Return a share that may be nothing."""
    return 0.0 if node.value in ("0%", 0) and not isinstance(node.value, bool) else float(read_share(node, what)) / 100


def expectations_schema() -> dict[str, Any]:
    """Return the JSON Schema of the declaration; durations and shares are defined beside it."""
    duration, share = {"$ref": "#/$defs/duration"}, {"$ref": "#/$defs/share"}
    small = {"anyOf": [share, {"enum": ["0%", 0]}]}
    pair = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
    lag = duration | {"description": "The newest one may be so old."}
    word = {"enum": [FAIL, WARN, OFF]}

    def mapping(values: dict[str, Any], said: str) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": values, "description": said}

    def some(properties: dict[str, Any], said: str) -> dict[str, Any]:
        return {"type": "object", "properties": properties, "additionalProperties": False, "description": said}

    rejected = small | {"description": "The share of the rows that may be in quarantine."}
    event = {
        "volume": share | {"description": "How far the number of 24 hours may be from the same weekday of the last weeks."},
        "max_lag": lag,
        "nulls": mapping(small, "Property → the share of these events that may lack it."),
        "between": mapping(pair, "Property → its lowest and its highest value, both included."),
    }
    names = {"type": "string", "pattern": rf"^({'|'.join(KINDS)}) of [\s\S]*\S"}
    keys = {
        "within": duration | {"description": "How far back events are looked at; 7 days by default."},
        "sources": mapping(some({"max_lag": lag, "rejected": rejected}, "What is expected of a source."), "Source → what is expected of it."),
        "events": mapping(some(event, "What is expected of an event."), "Event → what is expected of it."),
        "vanished": word | {"description": "An event or property that came in the four weeks before and no more; fail by default."},
        "new": word | {"description": "One that did not come in the four weeks before; warn by default."},
        "types": word | {"description": "Values of a property that are of another kind than in the four weeks before; warn by default."},
        "allow": {"anyOf": [names, {"type": "array", "items": names, "minItems": 1}], "description": "Checks that may fail: `KIND of WHAT`."},
    }
    return some(keys, "What is expected of the data; a check that fails blocks train and score.")
