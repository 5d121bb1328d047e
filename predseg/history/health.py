"""Whether a store is sound: nothing left over, every table readable, the databases whole, the log unchanged, nobody half-forgotten.

Looking changes nothing; `repair` takes away what dead processes left and finishes what they began.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from predseg.errors import PredsegError
from predseg.history import erasure, exports, privacy
from predseg.history.keys import KEY
from predseg.layers import rows_in
from predseg.store import Store

if TYPE_CHECKING:
    from predseg.history.people import People

REPAIR = "predseg doctor --repair"


@dataclass(frozen=True)
class Finding:
    """One thing looked at: ``ok``, ``missing`` or ``broken`` (something does not work), or ``optional``."""

    what: str
    status: str
    found: str
    help: str = ""


def examine(people: People) -> Iterator[Finding]:
    """Yield what is found of the store of a project."""
    folder = people.config.store
    if not folder.is_dir():
        yield Finding("store", "ok", f"{folder} is not made yet")
        return
    left = leftovers(people)
    some = ", ".join(str(path.relative_to(folder.parent) if path.is_relative_to(folder.parent) else path) for path in left[:3])
    yield _finding("leftovers", f"{len(left)} of dead processes: {some}" if left else "", "none", REPAIR)
    store = Store(folder)
    yield from (_table(store, name) for name in erasure.table_names(store))
    yield from (_database(folder / name) for name in (privacy.DATABASE, "mlflow.db") if (folder / name).is_file())
    yield _key(folder)
    yield from _persons(people, store)


def _finding(what: str, wrong: str, right: str, help_: str) -> Finding:
    return Finding(what, "broken" if wrong else "ok", wrong or right, help_ if wrong else "")


def leftovers(people: People) -> list[Path]:
    """Return the files and folders that processes left which did not end by themselves; while one is writing, what dead readers left."""
    folder = people.config.store
    found = [path for path in (folder / ".work").glob("*") if not Store.in_use(path)]
    if Store.busy(folder):
        return [path for path in found if path.name.startswith("read-")]
    found += folder.glob(f".{KEY}.*")
    for file in exports.known_files_in(folder):
        found += file.parent.glob(f".{file.name}.*.part")
    for models in people.config.root.glob(f"models/{people.config.project}-*"):
        found += [path for path in models.glob(".*") if path.is_dir()]
    return sorted(found)


def _table(store: Store, name: str) -> Finding:
    import pyarrow as pa

    rows, wrong = 0, ""
    try:
        rows = rows_in(store.files(name))
    except (OSError, pa.ArrowException, PredsegError) as error:
        wrong = str(error).splitlines()[0][:200]
    help_ = "put a copy back; events and customers are built anew from the sources when you delete the folder"
    return _finding(f"table {name}", wrong, f"{rows:,} rows, version {store.version(name)}", help_)


def _database(file: Path) -> Finding:
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=30)) as connection:
            said = [row[0] for row in connection.execute("pragma quick_check(3)")]
    except sqlite3.DatabaseError as error:
        said = [str(error)]
    return _finding(file.name, "" if said == ["ok"] else "; ".join(said)[:200], "whole", "put a copy back")


def _key(folder: Path) -> Finding:
    file = folder / KEY
    if not file.is_file():
        return Finding("key", "ok", "kept in the environment, or not needed yet")
    open_to = file.stat().st_mode & 0o077
    return _finding("key", "others can read it" if open_to else "", f"{KEY}, for its owner only", f"chmod 600 {file}")


def _persons(people: People, store: Store) -> Iterator[Finding]:
    try:
        checked = people.audited()
        yield _finding("audit log", checked.wrong, f"{checked.lines:,} lines, as they were written", "compare it with a copy: somebody changed it")
        half = half_forgotten(people, store)
    except PredsegError as error:
        yield Finding("lists", "broken", f"{error.code} {error.message}", error.help)
        return
    yield _finding("forgotten persons", f"{len(half)} are still in the store" if half else "", "none is held", REPAIR)


def half_forgotten(people: People, store: Store) -> list[str]:
    """Return the forgotten persons of whom something is held all the same: erasing them was cut short."""
    forgotten = people.persons(dry_run=True).forgotten
    return sorted(one for one in erasure.everybody(store) if one in forgotten) if len(forgotten) else []


def repair(people: People) -> list[str]:
    """Take away what dead processes left, finish what they began, and return what was done.

    Raises:
        UsageError: E210 while another process is writing.
    """
    import shutil

    folder = people.config.store
    if not folder.is_dir():
        return []
    done = [f"removed {path.name}" for path in leftovers(people)]
    store = Store(folder)
    with store.lock():
        for path in leftovers(people):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if half := half_forgotten(people, store):
            erasure.erase(store, half)
            done.append(f"erased {len(half)} persons who were to be forgotten")
    return done
