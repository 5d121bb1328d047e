"""Consent as a project declares it: the purposes, who said no in a file, and the events by which people say no or yes again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches

from predseg.errors import ConfigError, PredsegError, nearest
from predseg.language.secrets import Secret, read_keys
from predseg.language.yaml import Node

PURPOSES = ("email_marketing", "training", "profiling")
"""Messages; being learned from; being scored and clustered."""
EVERY = "*"
"""In place of a purpose: all of them."""
PURPOSE = r"(?![* ])[^\x00-\x1f\x7f]{1,64}(?<! )"
Said = tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Consent:
    """What a project says of consent.

    Attributes:
        path: A CSV file with customer_id and, if wanted, purpose: who opted out outside of predseg.
        purposes: Those of the project, beside `PURPOSES`.
        opt_out: Event → purposes that it withdraws.
        opt_in: Event → purposes that it gives back.
        keys: Of the list of opt-outs, the oldest first.
    """

    path: str | None = None
    purposes: tuple[str, ...] = ()
    opt_out: Said = (("Unsubscribed", ("email_marketing",)),)
    opt_in: Said = ()
    keys: tuple[Secret, ...] = ()

    @property
    def known(self) -> tuple[str, ...]:
        """Every purpose that is declared."""
        said = [purpose for _, purposes in (*self.opt_out, *self.opt_in) for purpose in purposes if purpose != EVERY]
        return tuple(dict.fromkeys((*PURPOSES, *self.purposes, *said)))


def parse_consent(node: Node) -> Consent:
    """Return the declaration under ``consent:``."""
    keys = node.mapping("`consent`", ("path", "purposes", "opt_out", "opt_in", "key"))
    read: dict[str, object] = {}
    if "path" in keys:
        read["path"] = keys["path"].text("`path`")
    if "purposes" in keys:
        read["purposes"] = tuple(_purpose(n) for n in _items(keys["purposes"]))
    read |= {key: _said(keys[key], key) for key in ("opt_out", "opt_in") if key in keys}
    if "key" in keys:
        read["keys"] = read_keys(keys["key"], "`key`")
    return Consent(**read)  # type: ignore[arg-type]


def _said(node: Node, key: str) -> Said:
    events = node.mapping(f"`{key}`")
    return tuple((name, tuple(EVERY if n.value == EVERY else _purpose(n) for n in _items(n))) for name, n in events.items())


def _items(node: Node) -> list[Node]:
    if node.is_list and not node.value:
        raise ConfigError("E303", node.place, "expected at least one, found an empty list", "write a name, or take the key out")
    return node.value if node.is_list else [node]


def _purpose(node: Node) -> str:
    return purpose_name(node.text("a purpose"), node.place)


def purpose_name(text: str, place: str, known: tuple[str, ...] = (), error: type[PredsegError] = ConfigError, code: str = "E380") -> str:
    """Return the name of a purpose.

    A name that nobody declared is accepted, unless it is so close to a declared one that it must be a slip: nobody would
    have opted out of that one.

    Raises:
        ConfigError: E380; or ``error`` with ``code``.
    """
    if not re.fullmatch(PURPOSE, text):
        raise error(code, place, f"{text!r} is not a purpose", "write a name of at most 64 characters, such as email_marketing")
    if text not in known and get_close_matches(text.lower(), known, n=1, cutoff=0.8):
        help_ = f"{nearest(text, known)} a purpose of your own goes under `consent: {{purposes: [{text}]}}`"
        raise error(code, place, f"unknown purpose {text!r}", help_)
    return text
