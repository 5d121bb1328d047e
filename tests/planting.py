"""Plant a bug: replace one text of a module's source, in a copy of its package that nothing else sees."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any


@dataclass(frozen=True)
class Bug:
    """A bug by its name: in one module of a package, one text becomes another."""

    name: str
    module: str
    old: str
    new: str
    equivalent: str = ""  # why no answer can differ


def planted_source(package: ModuleType, bug: Bug) -> str:
    """The source with the bug.

    Raises AssertionError when its text no longer stands there exactly once.
    """
    text = (_folder(package) / f"{bug.module}.py").read_text("utf-8")
    found = text.count(bug.old)
    assert found == 1, f"the planted bug {bug.name!r} no longer applies: {bug.old!r} stands {found} times in {bug.module}.py; plant it anew"
    return text.replace(bug.old, bug.new)


def plant(package: ModuleType, bug: Bug, wanted: Sequence[str], keep: Sequence[str] = ()) -> list[ModuleType]:
    """Copies of modules of the package, all of one making, one of them with the bug; those to ``keep`` stay the originals."""
    planter = _Planter(package, bug, keep)
    with _set_aside(package, keep):
        sys.meta_path.insert(0, planter)
        try:
            return [importlib.import_module(f"{package.__name__}.{name}") for name in wanted]
        finally:
            sys.meta_path.remove(planter)


class _Planter(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads the modules of a package anew, one of them with a bug."""

    def __init__(self, package: ModuleType, bug: Bug, keep: Sequence[str]) -> None:
        self.package, self.bug, self.keep, self.planted = package, bug, keep, planted_source(package, bug)

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> Any:
        parent, _, stem = name.rpartition(".")
        mine = parent == self.package.__name__ and stem not in self.keep and (_folder(self.package) / f"{stem}.py").is_file()
        return importlib.machinery.ModuleSpec(name, self) if mine else None

    def exec_module(self, module: ModuleType) -> None:
        stem = module.__name__.rpartition(".")[2]
        text = self.planted if stem == self.bug.module else (_folder(self.package) / f"{stem}.py").read_text("utf-8")
        exec(compile(text, f"{stem}.py, where {self.bug.name}", "exec"), module.__dict__)


def _folder(package: ModuleType) -> Path:
    return Path(str(package.__file__)).parent


@contextmanager
def _set_aside(package: ModuleType, keep: Sequence[str]) -> Iterator[None]:
    """Forget the modules of a package while inside, and bring the very same ones back."""

    def loaded() -> list[str]:
        prefix = f"{package.__name__}."
        return [name for name in sys.modules if name.startswith(prefix) and name.removeprefix(prefix) not in keep]

    kept, attributes = {name: sys.modules.pop(name) for name in loaded()}, dict(vars(package))
    try:
        yield
    finally:
        for name in loaded():
            del sys.modules[name]
        sys.modules.update(kept)
        vars(package).update(attributes)
