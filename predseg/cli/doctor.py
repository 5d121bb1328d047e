"""What an installation needs, and whether it is there."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

NEEDED = ("numpy", "pandas", "pyarrow", "duckdb", "pandera", "lightgbm", "scikit-learn", "mlflow", "matplotlib")
OPTIONAL = {"psycopg": "predseg[postgres]", "optuna": "predseg[tune]"}
_MODULES = {"scikit-learn": "sklearn"}
_FREE = 2 * 1024**3


@dataclass(frozen=True)
class Finding:
    """One thing looked at: ``ok``, ``missing`` (something does not work) or ``optional``."""

    what: str
    status: str
    found: str
    help: str = ""


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
