"""predseg: statements about customers, at a moment.

One event history, one language, one law of time: the answer at a moment depends on what was known by that moment.

    Project         a project file with its data, features and models: where everything starts
    Config, load    the project file itself, checked
    PredsegError    what every refusal is; its subclasses are named for the situation

>>> import predseg
>>> callable(predseg.Project.load)
True
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from predseg.errors import ChannelError, ConfigError, DataError, GateError, LabelError, ModelError, PredsegError, UsageError

if TYPE_CHECKING:
    from predseg.config import Config as Config
    from predseg.config import load as load
    from predseg.project import Project as Project

__version__ = "0.1.0"
__all__ = [
    "ChannelError",
    "Config",
    "ConfigError",
    "DataError",
    "GateError",
    "LabelError",
    "ModelError",
    "PredsegError",
    "Project",
    "UsageError",
    "load",
]

_LAZY = {"Project": "predseg.project", "Config": "predseg.config", "load": "predseg.config"}


def __getattr__(name: str) -> Any:
    """Import the heavy parts when they are first asked for, so that `predseg --help` stays quick."""
    if name not in _LAZY:
        raise AttributeError(f"module 'predseg' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)
