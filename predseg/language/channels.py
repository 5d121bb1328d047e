"""Channels: where messages go. One mapping each; its first word says what it is, the rest how.

    recovery: {webhook: "https://mail.example.com/hooks/recovery", secret: "env:RECOVERY_SECRET"}
    profiles: {identify: "https://events.example.com/v1/identify", key: "env:EVENTS_KEY"}
    crm:      {file: ../exports, format: csv}
    mail:     {smtp: "smtp://mail.example.com", from: shop@example.com, to: {trait: email}, subject: ..., text: ...}
    trial:    {dry: true}

Messages go to the hosts that are written here and to no others. Each option is one line of a table below, from which
both the parser and the JSON Schema are made.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from string import Template
from typing import Any

from predseg.errors import ConfigError, nearest
from predseg.language.secrets import Secret, read_secret
from predseg.language.urls import HOST, PATH, PORT, Url, parse_url, why_not
from predseg.language.yaml import Node

ATTEMPTS = 12
"""How often a message is tried, over about a day, before it is dead."""
FORMATS = ("csv", "jsonl", "parquet")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}", re.ASCII)
_MAILBOX = r"[^@\s<>,;:\"\\\x00-\x1f]+@[^@\s<>,;:\"\\\x00-\x1f]+"
_OWN_NETWORK = "for tests and servers of your own network add `private: true`"
Schema = dict[str, Any]


@dataclass(frozen=True)
class Webhook:
    """POST of a signed JSON message (standard-webhooks). Several secrets sign side by side, so that one can be changed."""

    name: str
    url: Url
    secrets: tuple[Secret, ...]
    private: bool = False
    attempts: int = ATTEMPTS


@dataclass(frozen=True)
class Identify:
    """POST of a Segment-style identify with one trait per segment, true or false; the key is its Basic user name."""

    name: str
    url: Url
    key: Secret
    private: bool = False
    attempts: int = ATTEMPTS


@dataclass(frozen=True)
class Folder:
    """Files in a folder, one for each batch of messages."""

    name: str
    folder: str
    format: str = "csv"
    attempts: int = ATTEMPTS


@dataclass(frozen=True)
class Mail:
    """Mail through an SMTP server, to one address or to the address in a trait; $name in subject and text is a trait or a word of the message."""

    name: str
    url: Url
    sender: str
    subject: str
    text: str
    to: str | None = None
    trait: str | None = None
    user: str | None = None
    password: Secret | None = None
    private: bool = False
    attempts: int = ATTEMPTS


@dataclass(frozen=True)
class Dry:
    """Notes what would be sent, and sends nothing."""

    name: str
    dry: bool = True
    attempts: int = ATTEMPTS


Channel = Webhook | Identify | Folder | Mail | Dry


def parse_channels(node: Node) -> dict[str, Channel]:
    """Return the channels under ``channels:`` by name."""
    found = {}
    for name, channel in node.mapping("`channels`").items():
        if not _NAME.fullmatch(name):
            raise ConfigError("E350", node.key_place(name), f"{name!r} cannot be the name of a channel", "use letters, digits and `_`")
        found[name] = _channel(name, channel)
    return found


def _channel(name: str, node: Node) -> Channel:
    keys = node.mapping(f"channel {name!r}")
    kinds = [kind for kind in KINDS if kind in keys]
    if len(kinds) != 1:
        said = " and ".join(f"`{kind}`" for kind in kinds or keys) or "nothing"
        hint = nearest(next(iter(keys), ""), tuple(KINDS)) if not kinds else "make two channels of it"
        raise ConfigError("E350", node.place, f"channel {name!r} is one of {', '.join(KINDS)}, found {said}", hint)
    make, options, required = KINDS[kinds[0]]
    node.mapping(f"channel {name!r} ({kinds[0]})", tuple(options))
    for key in required:
        if key not in keys:
            raise ConfigError("E350", node.place, f"channel {name!r} ({kinds[0]}) needs `{key}`", f"write for example `{_EXAMPLES[kinds[0]]}`")
    if ("user" in keys) != ("password" in keys):
        raise ConfigError("E350", node.place, f"channel {name!r} needs `user` and `password` together", "write both, or leave both away")
    found = make(name=name, **{option.field: option.read(keys[key], key) for key, option in options.items() if key in keys})
    if isinstance(found, Webhook | Identify | Mail) and (why := why_not(found.url, found.private)):
        raise ConfigError("E351", keys[kinds[0]].place, why, "name a public host" if found.private else _OWN_NETWORK)
    return found


# options


@dataclass(frozen=True)
class Option:
    """A key of a channel: the attribute it becomes, how it is read, and what a schema says of it."""

    field: str
    read: Callable[[Node, str], Any]
    schema: Schema


def _true(node: Node, key: str) -> bool:
    if not isinstance(node.value, bool):
        raise ConfigError("E303", node.place, f"`{key}` is true or false, found {node.show()}", "write `true` or `false`")
    return node.value


def _dry(node: Node, key: str) -> bool:
    if node.value is not True:
        raise ConfigError("E350", node.place, f"`{key}` is true, found {node.show()}", "write `dry: true`, or make another kind of channel of it")
    return True


def _url(*schemes: str) -> Callable[[Node, str], Url]:
    def read(node: Node, key: str) -> Url:
        try:
            found = parse_url(node.text(f"`{key}`"), schemes)
        except ValueError as error:
            raise ConfigError("E351", node.place, f"`{key}`: {error}", f"write for example {schemes[0]}://hooks.example.com") from None
        if found.path != "/" and "smtp" in schemes:
            raise ConfigError(
                "E351", node.place, f"`{key}`: a mail server has no path, found {found.path}", f"write {found.scheme}://{found.authority}"
            )
        return found

    return read


def _text(node: Node, key: str) -> str:
    return node.text(f"`{key}`")


def _secret(node: Node, key: str) -> Secret:
    return read_secret(node, f"`{key}`")


def _secrets(node: Node, key: str) -> tuple[Secret, ...]:
    if node.is_list and not node.value:
        raise ConfigError("E303", node.place, f"`{key}` must name at least one, found an empty list", "write `env:NAME`")
    return tuple(read_secret(n, f"`{key}`") for n in (node.value if node.is_list else [node]))


def _format(node: Node, key: str) -> str:
    if node.value not in FORMATS:
        raise ConfigError("E350", node.place, f"`{key}` is csv, jsonl or parquet, found {node.show()}", nearest(str(node.value), FORMATS))
    return str(node.value)


def _mailbox(node: Node, key: str) -> str:
    text = node.text(f"`{key}`")
    if not is_mailbox(text):
        raise ConfigError("E352", node.place, f"`{key}` is a mail address, found {text!r}", "write for example shop@example.com")
    return text


def is_mailbox(text: str) -> bool:
    """Whether a text is one mail address, and nothing beside it.

    >>> is_mailbox("ann@example.com"), is_mailbox("ann@example.com, bob@example.com")
    (True, False)
    """
    return re.fullmatch(_MAILBOX, text) is not None


def _to(node: Node, key: str) -> dict[str, str]:
    if not node.is_mapping:
        return {"to": _mailbox(node, key)}
    keys = node.mapping(f"`{key}`", ("trait",))
    if "trait" not in keys:
        raise ConfigError("E352", node.place, f"`{key}` names nobody", "write an address, or `{trait: email}`")
    return {"trait": keys["trait"].text("`trait`")}


def _template(node: Node, key: str) -> str:
    text = node.text(f"`{key}`")
    if not Template(text).is_valid():
        raise ConfigError("E352", node.place, f"`{key}`: a $ begins the name of a trait or of a word of the message", "write $$ for a dollar sign")
    return text


def _attempts(node: Node, key: str) -> int:
    if not isinstance(node.value, int) or isinstance(node.value, bool) or not 1 <= node.value <= 100:
        raise ConfigError("E304", node.place, f"`{key}` is a whole number from 1 to 100, found {node.show()}", f"write for example {ATTEMPTS}")
    return node.value


def _mail(**given: Any) -> Mail:
    return Mail(**given.pop("to"), **given)


def _described(description: str, pattern: str = r"\S") -> Schema:
    return {"type": "string", "pattern": pattern, "description": description}


_ENV = r"^env:[A-Za-z_][A-Za-z0-9_]{0,127}$"
_ATTEMPTS = Option(
    "attempts",
    _attempts,
    {"type": "integer", "minimum": 1, "maximum": 100, "default": ATTEMPTS, "description": "How often a message is tried before it is dead."},
)
_SENT: dict[str, Option] = {
    "private": Option("private", _true, {"type": "boolean", "description": "The address may be a private or loopback one, and plain http."}),
    "attempts": _ATTEMPTS,
}
_WEB = rf"^https?://{HOST}{PORT}{PATH}$"
_SECRET: Schema = {"type": "string", "pattern": _ENV}


def _one_or_more(one: Schema, description: str) -> Schema:
    return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}], "description": description}


_TO: Schema = {
    "anyOf": [
        {"type": "string", "pattern": f"^{_MAILBOX}$"},
        {"type": "object", "properties": {"trait": {"type": "string", "pattern": r"\S"}}, "required": ["trait"], "additionalProperties": False},
    ],
    "description": "An address, or the trait with the customer's address: `{trait: email}`.",
}
KINDS: dict[str, tuple[Callable[..., Channel], dict[str, Option], tuple[str, ...]]] = {
    "webhook": (
        Webhook,
        {
            "webhook": Option("url", _url("https", "http"), _described("Where a signed message is posted to.", _WEB)),
            "secret": Option("secrets", _secrets, _one_or_more(_SECRET, "What it is signed with: `env:NAME`; several while one is changed.")),
            **_SENT,
        },
        ("secret",),
    ),
    "identify": (
        Identify,
        {
            "identify": Option("url", _url("https", "http"), _described("Where a Segment-style identify is posted to.", _WEB)),
            "key": Option("key", _secret, _described("The write key: `env:NAME`.", _ENV)),
            **_SENT,
        },
        ("key",),
    ),
    "file": (
        Folder,
        {
            "file": Option("folder", _text, _described("The folder that files are written to; relative to this file.")),
            "format": Option("format", _format, {"enum": list(FORMATS), "default": "csv", "description": "csv, jsonl or parquet."}),
            "attempts": _ATTEMPTS,
        },
        (),
    ),
    "smtp": (
        _mail,
        {
            "smtp": Option(
                "url", _url("smtp", "smtps"), _described("The mail server: smtp:// (STARTTLS) or smtps://.", rf"^smtps?://{HOST}{PORT}/?$")
            ),
            "from": Option("sender", _mailbox, _described("The sender's address.", f"^{_MAILBOX}$")),
            "to": Option("to", _to, _TO),
            "subject": Option("subject", _template, _described("Template of the subject.")),
            "text": Option("text", _template, _described("Template of the text; $name is a trait, or segment, customer_id, change, at.")),
            "user": Option("user", _text, _described("User name at the server.")),
            "password": Option("password", _secret, _described("Password: `env:NAME`.", _ENV)),
            **_SENT,
        },
        ("from", "to", "subject", "text"),
    ),
    "dry": (Dry, {"dry": Option("dry", _dry, {"const": True, "description": "Nothing is sent."}), "attempts": _ATTEMPTS}, ()),
}
_EXAMPLES = {
    "webhook": '{webhook: "https://hooks.example.com/segments", secret: "env:HOOK_SECRET"}',
    "identify": '{identify: "https://events.example.com/v1/identify", key: "env:EVENTS_KEY"}',
    "smtp": '{smtp: "smtp://mail.example.com", from: shop@example.com, to: {trait: email}, subject: "...", text: "..."}',
}


def channels_schema() -> Schema:
    """Return the JSON Schema of ``channels:``."""
    chosen = []
    for kind, (_, options, required) in KINDS.items():
        properties = {key: option.schema for key, option in options.items()}
        one: Schema = {"properties": properties, "required": list(required), "additionalProperties": False}
        if kind in ("webhook", "identify"):  # without encryption only within one's own network
            one["if"] = {"properties": {kind: {"pattern": "^http:"}}}
            one["then"] = {"required": ["private"], "properties": {"private": {"const": True}}}
        if "user" in options:
            one["dependentRequired"] = {"user": ["password"], "password": ["user"]}
        chosen.append({"if": {"type": "object", "required": [kind]}, "then": one})
    described = {kind: {"description": options[kind].schema["description"]} for kind, (_, options, _) in KINDS.items()}
    channel = {"type": "object", "properties": described, "oneOf": [{"required": [kind]} for kind in KINDS], "allOf": chosen}
    names = {"pattern": f"^{_NAME.pattern}$"}
    return {"type": "object", "propertyNames": names, "additionalProperties": channel, "description": "Where messages go, by name."}
