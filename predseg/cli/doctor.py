"""What an installation needs, and whether it is there."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from predseg.history.health import Finding

if TYPE_CHECKING:
    from predseg.project import Project

NEEDED = ("numpy", "pandas", "pyarrow", "duckdb", "pandera", "lightgbm", "scikit-learn", "mlflow", "matplotlib")
OPTIONAL = {"psycopg": "predseg[postgres]", "optuna": "predseg[tune]", "pyspark": "predseg[spark]", "numba": "predseg[fast]"}
_MODULES = {"scikit-learn": "sklearn"}
_FREE = 2 * 1024**3


def examine(folder: Path) -> Iterator[Finding]:
    """Yield what is found of Python, the libraries, the cores, and the disk under ``folder``."""
    found = sys.version_info >= (3, 11)
    yield Finding("python", "ok" if found else "missing", platform.python_version(), "" if found else "install Python 3.11 or newer")
    yield from (_library(name) for name in NEEDED)
    for name, extra in OPTIONAL.items():
        yield Finding(name, *_version(name, "optional"), help=f'for it: pip install "{extra}"' if _version(name, "optional")[0] != "ok" else "")
    yield Finding("cores", "ok", str(os.cpu_count() or 1))
    yield _disk(folder)


def _version(name: str, otherwise: str) -> tuple[str, str]:
    try:
        return "ok", version(name)
    except PackageNotFoundError:
        return otherwise, "not installed"


def _library(name: str) -> Finding:
    status, found = _version(name, "missing")
    if status != "ok":
        return Finding(name, status, found, f"pip install {name}")
    try:
        import_module(_MODULES.get(name, name))
    except (ImportError, OSError) as error:
        remedy = "apt-get install libgomp1 (or your system's OpenMP runtime)" if name == "lightgbm" else f"pip install --force-reinstall {name}"
        return Finding(name, "missing", f"{found} does not load: {str(error).splitlines()[0]}", remedy)
    return Finding(name, "ok", found)


def _disk(folder: Path) -> Finding:
    if not os.access(folder, os.W_OK):
        return Finding("folder", "missing", f"{folder} cannot be written", "choose another folder, or give yourself the right to write here")
    free = shutil.disk_usage(folder).free
    return Finding(
        "disk",
        "ok" if free > _FREE else "missing",
        f"{free / 1024**3:,.0f} GB free in {folder}",
        "" if free > _FREE else "make room: 2 GB are a good start",
    )


def of_project(project: Project) -> Iterator[Finding]:
    """Yield what is found of a project: its store, what was recorded in it, and its models."""
    from predseg.forecast import custody
    from predseg.history import health
    from predseg.language.time import say_instant

    yield from health.examine(project.people)
    if project.config.store.is_dir():
        _, ahead = _ahead(project)
        said = (
            f"there is one at {say_instant(ahead)}, ahead of the clock: nothing else is recorded until then"
            if ahead
            else "none is ahead of the clock"
        )
        yield Finding("runs", "broken" if ahead else "ok", said, health.REPAIR if ahead else "")
    registry = project.registry()
    if registry.exists():
        left = custody.unfinished(registry)
        yield Finding(
            "trainings", "broken" if left else "ok", f"{len(left)} were cut short" if left else "none was cut short", health.REPAIR if left else ""
        )
        for kept in custody.verify(registry):
            yield Finding(f"model {kept.model} {kept.version}", "broken" if kept.wrong else "ok", kept.wrong or kept.said, kept.help)


def _ahead(project: Project) -> tuple[int, int | None]:
    """Return up to where runs may lie ahead of the clock, and the last one that lies beyond."""
    from predseg.activation.ahead import last_after
    from predseg.moment import AHEAD, clock

    limit = clock() + AHEAD
    return limit, last_after(project.store, limit) if project.config.store.is_dir() else None


def repair(project: Project) -> list[str]:
    """Repair what can be repaired and return what was done."""
    from predseg.activation.ahead import take_back
    from predseg.forecast import custody
    from predseg.history import health
    from predseg.language.time import say_instant

    registry, done = project.registry(), []
    limit, ahead = _ahead(project)
    if ahead:
        take_back(project.store, limit)
        done.append(f"took back what runs up to {say_instant(ahead)} recorded ahead of the clock")
    if registry.exists():
        with project.store.lock():
            done += [f"closed {one} of a training that was cut short" for one in custody.close_unfinished(registry)]
    return health.repair(project.people) + done
