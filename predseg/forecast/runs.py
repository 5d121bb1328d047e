"""What a training leaves in the registry, and what the registry says of it: plain values, no MLflow here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from predseg.forecast.gate import Decision

if TYPE_CHECKING:
    from predseg.forecast.forecaster import Forecaster

_PASSWORD = re.compile(r"(://[^\s/:@\"']*):[^\s/@\"']+@")


COMPARED = ("auc", "brier", "calibration_error", "gini", "deviance", "off")
"""Figures of a forward test that two versions are compared by, as far as both have them."""


@dataclass(frozen=True, eq=False)
class Training:
    """What one training leaves behind.

    Attributes:
        model: Its name in the project.
        as_of: The moment that it was trained at, as text.
        forecaster: The model.
        decision: What the gate said.
        facts: For the bundle: cutoffs, horizon, versions of libraries and the like; plain values.
        declarations: What each feature means, by name.
        card: The model card, Markdown.
        params: Settings, nested or flat.
        metrics: Numbers, nested or flat; texts among them are left to the card.
        config: The text of the project file. Passwords in URLs are blotted out.
        fingerprint: Of the data.
        pictures: PNG by file name.
        tags: More to say of the run.
    """

    model: str
    as_of: str
    forecaster: Forecaster
    decision: Decision
    facts: Mapping[str, Any] = field(default_factory=dict)
    declarations: Mapping[str, Any] = field(default_factory=dict)
    card: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    config: str = ""
    fingerprint: str = ""
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """What MLflow has of one version: its number, where its files are, its run, when it was made (milliseconds), and its tags."""

    version: str
    source: str
    run_id: str
    creation_timestamp: int
    tags: dict[str, str]


@dataclass(frozen=True)
class Version:
    """A registered version.

    Attributes:
        model: Its name in the project.
        version: From 1.
        created_at: Microseconds since 1970.
        alias: ``champion``, ``challenger`` or empty.
        gate: ``passed`` or ``refused``, and ``reasons`` in words.
        forced: Whether it became champion against the gate.
        as_of: The moment that it was trained at, as text.
        run_id: Its run in MLflow.
        metrics: As logged, by ``group/name``.
    """

    model: str
    version: int
    created_at: int
    alias: str
    gate: str
    reasons: tuple[str, ...]
    forced: bool
    as_of: str
    run_id: str
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """A new champion: its version, the one before (None when there was none), whether the gate was forced, and why."""

    model: str
    version: int
    before: int | None
    forced: bool = False
    reasons: tuple[str, ...] = ()


def flatten(nested: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return a nested mapping as one level: ``{"test": {"auc": 0.8}}`` as ``{"test/auc": 0.8}``; a pair becomes low and high.

    >>> flatten({"test": {"auc": 0.8, "interval": (0.7, 0.9)}})
    {'test/auc': 0.8, 'test/interval/low': 0.7, 'test/interval/high': 0.9}
    """
    found: dict[str, Any] = {}
    for name, value in nested.items():
        path = re.sub(r"[^\w\-. :/]", "_", f"{above}{name}")
        if isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(v, int | float) for v in value):
            value = {"low": value[0], "high": value[1]}
        if isinstance(value, Mapping):
            found |= flatten(value, f"{path}/")
        else:
            found[path] = value
    return found


def without_passwords(text: str) -> str:
    """Return a text with the passwords of its URLs blotted out.

    >>> without_passwords("url: postgresql://me:secret@host/db")
    'url: postgresql://me:***@host/db'
    """
    return _PASSWORD.sub(r"\1:***@", text)
