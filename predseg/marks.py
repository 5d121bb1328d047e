"""What answers are made of, as hashes, and a small file of answers that would be given again: nothing is computed twice of the same.

STORE/kept.json     {NAME: {"made_of": HASH, "value": plain JSON}}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from predseg.store import Store

FILE = "kept.json"


@dataclass(frozen=True)
class Kept:
    """Answers kept in a store, each under its name with a hash of what it was made of."""

    store: Store

    def get(self, name: str, made_of: str) -> Any | None:
        """Return what is kept under a name; None when there is nothing, or it was made of something else."""
        found = self._all().get(name)
        return found["value"] if found is not None and found["made_of"] == made_of else None

    def put(self, answers: Mapping[str, tuple[str, Any]]) -> None:
        """Keep answers, plain JSON values, by name: what each was made of, and the answer."""
        with self.store.lock():
            kept = self._all() | {name: {"made_of": made_of, "value": value} for name, (made_of, value) in answers.items()}
            self.store.write_text(FILE, json.dumps(kept))

    def clear(self) -> None:
        """Keep nothing any more."""
        self.store.write_text(FILE, "{}")

    def _all(self) -> dict[str, Any]:
        try:
            found = json.loads(self.store.read_text(FILE) or "{}")
        except ValueError:  # not as it was written: nothing is believed of it
            return {}
        return found if isinstance(found, dict) else {}


def marks(store: Store, names: Iterable[str]) -> str:
    """Hash what is in files of the store, and the names, sizes and times of the files of tables: one is replaced whole, so they change with it."""
    from predseg.layers import name_of  # it needs NumPy

    tables = {name: {f"{f.parent.name}/{name_of(f)}": mark(f) for f in store.files(name)} for name in names if store.exists(name)}
    return hashed(tables, {name: store.read_text(name) for name in names if "." in name})


def mark(file: Path) -> list[int] | None:
    """Return size and time of change (nanoseconds) of a file; None when there is none."""
    return [file.stat().st_size, file.stat().st_mtime_ns] if file.is_file() else None


def hashed(*parts: Any) -> str:
    """Return a hash of plain JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
