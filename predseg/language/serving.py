"""What a project says of serving: where it listens, with which keys, when it raises an alarm; and what of a segment that is not up to date.

    serve:
      host: 127.0.0.1
      port: 8000
      write_key: env:SHOP_WRITE_KEY          # without them two keys are made at the first start
      read_key: env:SHOP_READ_KEY
      stream: {url: "redis://127.0.0.1:6379", topic: events, group: predseg}
      alerts: {lag: 1 minute, rejected: 5%, queue: 80%, silence: {Order Completed: 6 hours}, send: ops}

A segment may have ``max_stale: 2 hours`` and ``on_stale: serve | hold | exclude``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from predseg.errors import ConfigError, nearest
from predseg.language.documents import read_duration, read_share
from predseg.language.secrets import Secret, read_secret
from predseg.language.time import DAY, MINUTE
from predseg.language.yaml import Node

ON_STALE = ("serve", "hold", "exclude")
BROKERS = ("redis", "rediss", "nats", "tls", "kafka")
URL = rf"^({'|'.join(BROKERS)})://[^\s/@]+(/[0-9]*)?$"
HOST, TOPIC = r"^[A-Za-z0-9_.:-]{1,253}$", r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$"


@dataclass(frozen=True)
class Stream:
    """A topic of a broker from which events are taken; ``group`` shares it among several servers."""

    url: str
    topic: str
    group: str = "predseg"
    user: str | None = None
    password: Secret | None = None
    place: str = field(default="", compare=False)

    @property
    def broker(self) -> str:
        """What kind of broker it is: redis, nats or kafka."""
        scheme = self.url.partition("://")[0]
        return {"rediss": "redis", "tls": "nats"}.get(scheme, scheme)


@dataclass(frozen=True)
class Alerts:
    """When an alarm is raised.

    Attributes:
        lag: An event waits so long for its decision (microseconds).
        rejected: This share of the messages is put into quarantine.
        queue: This share of the queue is full.
        silence: Event → how long it may stay away; others are judged by their own rhythm.
        send: A channel that is told.
    """

    lag: int = MINUTE
    rejected: float = 0.05
    queue: float = 0.8
    silence: tuple[tuple[str, int], ...] = ()
    send: str | None = None


@dataclass(frozen=True)
class Serving:
    """Where the server listens and with which keys."""

    host: str = "127.0.0.1"
    port: int = 8000
    write_key: Secret | None = None
    read_key: Secret | None = None
    stream: Stream | None = None
    alerts: Alerts = Alerts()


DAILY = 2 * DAY
"""How old a daily segment may be that does not say so itself."""


@dataclass(frozen=True)
class Stale:
    """What is answered of a segment when it is older than ``max_stale`` (microseconds; None is never too old)."""

    max_stale: int | None = None
    on_stale: str = "serve"

    def most(self, *, live: bool) -> int | None:
        """Return how old an answer may be and not be called stale: a daily segment without ``max_stale`` may miss one run."""
        return self.max_stale if live or self.max_stale is not None else DAILY


def parse_serving(node: Node) -> Serving:
    """Return the declaration under ``serve:``."""
    keys = node.mapping("`serve`", ("host", "port", "write_key", "read_key", "stream", "alerts"))
    read: dict[str, Any] = {key: read_secret(keys[key], f"`{key}`") for key in ("write_key", "read_key") if key in keys}
    if len(read) == 2 and read["write_key"] == read["read_key"]:
        raise ConfigError("E382", keys["read_key"].place, "one key for writing and for reading", "name two environment variables")
    if "host" in keys:
        read["host"] = _matching(keys["host"], "`host`", HOST, "write an address such as 127.0.0.1")
    if "port" in keys:
        read["port"] = _port(keys["port"])
    if "stream" in keys:
        read["stream"] = _stream(keys["stream"])
    if "alerts" in keys:
        read["alerts"] = _alerts(keys["alerts"])
    return Serving(**read)


def read_stale(keys: Mapping[str, Node]) -> Stale:
    """Return ``max_stale`` and ``on_stale`` of a segment."""
    most = read_duration(keys["max_stale"], "max_stale") if "max_stale" in keys else None
    word = keys["on_stale"].text("`on_stale`") if "on_stale" in keys else "serve"
    if word not in ON_STALE:
        raise ConfigError("E332", keys["on_stale"].place, f"`on_stale` is serve, hold or exclude, found {word!r}", nearest(word, ON_STALE))
    if "on_stale" in keys and most is None:
        raise ConfigError("E332", keys["on_stale"].place, "`on_stale` without `max_stale` never applies", "add `max_stale: 2 hours`")
    return Stale(most, word)


def _matching(node: Node, what: str, pattern: str, remedy: str) -> str:
    text = node.text(what)
    if not re.search(pattern, text) or text.endswith("\n"):
        raise ConfigError("E382", node.place, f"{what} cannot be what is written here", remedy)  # it may hold a password
    return text


def _port(node: Node) -> int:
    if isinstance(node.value, bool) or not isinstance(node.value, int) or not 1 <= node.value <= 65535:
        raise ConfigError("E304", node.place, f"`port` is a whole number from 1 to 65535, found {node.show()}", "write for example 8000")
    return node.value


def _stream(node: Node) -> Stream:
    keys = node.mapping("`stream`", ("url", "topic", "group", "user", "password"))
    for key in ("url", "topic"):
        if key not in keys:
            raise ConfigError("E382", node.place, f"`stream` has no `{key}`", "write `stream: {url: redis://127.0.0.1:6379, topic: events}`")
    remedy = f"write {', '.join(f'{b}://host:port' for b in BROKERS)}; user and password have keys of their own"
    url = _matching(keys["url"], "`url`", URL, remedy)
    names = {
        key: _matching(keys[key], f"`{key}`", TOPIC, "use letters, digits, `_`, `-` and `.`") for key in ("topic", "group", "user") if key in keys
    }
    password = read_secret(keys["password"], "`password`") if "password" in keys else None
    return Stream(url, password=password, place=node.place, **names)


def _alerts(node: Node) -> Alerts:
    keys = node.mapping("`alerts`", ("lag", "rejected", "queue", "silence", "send"))
    read: dict[str, Any] = {key: float(read_share(keys[key], key)) / 100 for key in ("rejected", "queue") if key in keys}
    if "lag" in keys:
        read["lag"] = read_duration(keys["lag"], "lag")
    if "silence" in keys:
        read["silence"] = tuple((name, read_duration(n, "silence")) for name, n in keys["silence"].mapping("`silence`").items())
    if "send" in keys:
        read["send"] = keys["send"].text("`send`")
    return Alerts(**read)


def serving_schema() -> dict[str, Any]:
    """Return the JSON Schema of ``serve:``, which accepts what `parse_serving` accepts; durations and shares are defined beside it."""
    duration, share = {"$ref": "#/$defs/duration"}, {"$ref": "#/$defs/share"}
    secret = {"type": "string", "pattern": r"^env:[A-Za-z_][A-Za-z0-9_]{0,127}$"}
    topic = {"type": "string", "pattern": TOPIC}
    stream = {"url": {"type": "string", "pattern": URL}, "topic": topic, "group": topic, "user": topic, "password": secret}
    silence = {"type": "object", "additionalProperties": duration, "description": "Event → how long it may stay away."}
    send = {"type": "string", "pattern": r"\S", "description": "A channel that is told."}
    alerts = {"lag": duration, "rejected": share, "queue": share, "silence": silence, "send": send}
    keys = {
        "host": {"type": "string", "pattern": HOST, "description": "The address to listen at."},
        "port": {"type": "integer", "minimum": 1, "maximum": 65535},
        "write_key": secret | {"description": "Who sends events has this key: `env:NAME`."},
        "read_key": secret | {"description": "Who asks has this key: `env:NAME`."},
        "stream": _closed(stream, "A topic of a broker from which events are taken.") | {"required": ["url", "topic"]},
        "alerts": _closed(alerts, "When an alarm is raised."),
    }
    return _closed(keys, "The live server.")


def _closed(properties: dict[str, Any], description: str) -> dict[str, Any]:
    return {"type": "object", "description": description, "properties": properties, "additionalProperties": False}
