"""The two keys of the server: one for sending events, one for asking. Named in the environment, or made at the first start."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from predseg.errors import DataError
from predseg.language.serving import Serving
from predseg.store import disk_errors

FILE = "serve.json"
NAMES = ("write_key", "read_key")


@dataclass(frozen=True)
class Keys:
    """The keys; ``made`` names those that were made just now, so that somebody is told."""

    write: str = field(repr=False)
    read: str = field(repr=False)
    made: tuple[str, ...] = ()


def keys_of(folder: Path, serving: Serving, environment: Mapping[str, str]) -> Keys:
    """Return the keys of a project: those it names, else those that the store keeps, else new ones that it keeps from now on.

    Raises:
        ConfigError: E381 when a variable is not set or too short for a key.
        DataError: E410, E411 when the store cannot be written; E460 when the kept keys cannot be read.
    """
    named = {name: secret.key(environment).decode() for name in NAMES if (secret := getattr(serving, name)) is not None}
    kept = _kept(folder / FILE) if len(named) < len(NAMES) else {}
    made = {name: secrets.token_hex(16) for name in NAMES if name not in named and name not in kept}
    if made:
        _keep(folder / FILE, kept | made)
    found = kept | made | named
    return Keys(found["write_key"], found["read_key"], tuple(made))


def _kept(file: Path) -> dict[str, str]:
    try:
        found = json.loads(file.read_text("utf-8"))
        if not isinstance(found, dict) or not all(isinstance(value, str) and len(value) >= 16 for value in found.values()):
            raise ValueError
    except FileNotFoundError:
        return {}
    except (ValueError, OSError):
        raise DataError("E460", str(file), "the keys of the server cannot be read", "delete the file: new keys are made at the next start") from None
    return {name: found[name] for name in NAMES if name in found}


def _keep(file: Path, keys: Mapping[str, str]) -> None:
    aside = file.with_name(f".{file.name}.{os.getpid()}")
    with disk_errors(file):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside.unlink(missing_ok=True)
        handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            json.dump(dict(keys), out)
            out.flush()
            os.fsync(out.fileno())
        aside.replace(file)


def same(given: str, key: str) -> bool:
    """Compare two keys in a time that tells nothing about them, not even their length."""
    digests = (hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in (given, key))
    return hmac.compare_digest(*digests)


def presented(authorization: str | None) -> str | None:
    """Return the key of an Authorization header: the user name of Basic, or the token of Bearer; None when it has none.

    >>> presented("Basic a2V5Og=="), presented("Bearer key"), presented(None)
    ('key', 'key', None)
    """
    scheme, _, rest = (authorization or "").strip().partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(rest.strip(), validate=True).decode("utf-8").partition(":")[0]
    except (binascii.Error, ValueError):
        return None
