"""Keys and what they make of ids: hashes that tell nobody who is meant, and pseudonyms.

With several keys everything is the HMAC with the second of what the first made of it, and so on: a key can be added
without knowing the ids, and only who has them all can tell who is who.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from predseg.disks import disk_errors

KEY = "privacy.key"
FLOAT = r"^(\s*[+-]?[0-9]+)\.0+\s*$"
"""An id that is a whole number and was a float on its way: wherever texts are read, what stands before the point is the id."""
PSEUDONYM = re.compile(r"p_[0-9a-f]{32}", re.ASCII)


def person(customer_id: str, keys: Sequence[bytes]) -> bytes:
    """Return what stands for a customer in the list.

    >>> person("c1", [b"first"]) == person("c1", [b"first", b"second"])
    False
    """
    found = customer_id.encode("utf-8", "surrogatepass")
    for key in keys:
        found = hmac.digest(key, found, "sha256")
    return found


def pseudonym(customer_id: str, keys: Sequence[bytes]) -> str:
    """Return what stands for an id in every table; a pseudonym stands for itself.

    >>> pseudonym("c1", [b"a key of the shop"])
    'p_98e4cfd935f418221e959e7d641d58d6'
    """
    return generations(customer_id, keys)[-1]


def generations(customer_id: str, keys: Sequence[bytes]) -> list[str]:
    """Return an id, and what it is called with the first key, with the first two, and so on."""
    return _chain(customer_id, () if PSEUDONYM.fullmatch(customer_id) else keys)


def renamed(name: str, keys: Sequence[bytes]) -> str:
    """Return what a pseudonym is called after keys were added.

    >>> renamed(pseudonym("c1", [b"first"]), [b"second"]) == pseudonym("c1", [b"first", b"second"])
    True
    """
    return _chain(name, keys)[-1]


def _chain(name: str, keys: Sequence[bytes]) -> list[str]:
    found = [name]
    for key in keys:
        found.append("p_" + hmac.digest(key, found[-1].encode("utf-8", "surrogatepass"), "sha256").hex()[:32])
    return found


def kept_key(folder: Path) -> bytes | None:
    """Return the key that the store keeps, None when it keeps none."""
    with suppress(FileNotFoundError):
        return (folder / KEY).read_text("ascii").strip().encode()
    return None


def make_key(folder: Path) -> bytes:
    """Make a key in the store, for nobody but its owner to read, unless there is one, and return the one that is there."""
    aside = folder / f".{KEY}.{os.getpid()}-{secrets.token_hex(4)}"
    with disk_errors(folder):
        handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            with suppress(FileExistsError):
                os.link(aside, folder / KEY)
        finally:
            aside.unlink()
    found = kept_key(folder)
    assert found is not None
    return found


def keys_of(folder: Path, named: Sequence[bytes], *, dry_run: bool = False) -> tuple[bytes, ...]:
    """Return the keys of a store's list: the kept one, when there is one, before those that the project names."""
    kept = kept_key(folder)
    if kept is None and not named:
        kept = secrets.token_hex(32).encode() if dry_run else make_key(folder)
    return (*([kept] if kept else []), *named)
