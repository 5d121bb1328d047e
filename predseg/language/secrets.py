"""Secrets as a project file names them: ``env:NAME``. The value stays in the environment; no file, log or message ever shows it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from predseg.errors import ConfigError
from predseg.language.yaml import Node

SHORTEST_KEY = 16
"""Characters of a key; shorter ones can be found by trying."""


@dataclass(frozen=True)
class Secret:
    """The name of an environment variable, and where the project file asks for it."""

    name: str
    place: str = field(default="", compare=False)

    def reveal(self, environment: Mapping[str, str]) -> str:
        """Return the value.

        Raises:
            ConfigError: E381 when the variable is not set.
        """
        if not environment.get(self.name):
            raise ConfigError("E381", self.place, f"the environment variable {self.name} is not set", f"set it: export {self.name}=...")
        return environment[self.name]

    def key(self, environment: Mapping[str, str]) -> bytes:
        """Return the value as a key.

        Raises:
            ConfigError: E381 when the variable is not set or too short for a key.
        """
        value = self.reveal(environment)
        if len(value) < SHORTEST_KEY:
            found = f"the key in {self.name} has {len(value)} characters, at least {SHORTEST_KEY} are needed"
            raise ConfigError("E381", self.place, found, f"make one: export {self.name}=$(openssl rand -hex 32)")
        return value.encode()


def read_secret(node: Node, what: str) -> Secret:
    """Return the secret that a value names, or refuse one that is written out."""
    match = re.fullmatch(r"env:([A-Za-z_][A-Za-z0-9_]{0,127})", node.value, re.ASCII) if isinstance(node.value, str) else None
    if match is None:
        raise ConfigError(
            "E381", node.place, f"{what} is not the name of an environment variable", "a secret is never written here: write `env:NAME` and set NAME"
        )
    return Secret(match[1], node.place)


def read_keys(node: Node, what: str) -> tuple[Secret, ...]:
    """Return one secret or a list of them, the oldest first."""
    if node.is_list and not node.value:
        raise ConfigError("E381", node.place, f"{what} names no environment variable", "write `env:NAME`, or take the key out")
    return tuple(read_secret(one, what) for one in (node.value if node.is_list else [node]))
