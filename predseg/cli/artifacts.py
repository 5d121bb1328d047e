"""What commands leave for other programs beside the project file: ``target/manifest.json`` and ``target/run_results.json``.

The manifest says what the project consists of, the results what the last command did, step by step. Both are written whole or
not at all, and hold numbers and names of the project, never a customer. Their JSON Schemas are those of `predseg schema`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from predseg.disks import disk_errors, replaced
from predseg.errors import PredsegError

if TYPE_CHECKING:
    from predseg.config import Config
    from predseg.segments.definitions import Segment
    from predseg.segments.lineage import Node

FOLDER = "target"
MANIFEST, RESULTS = "predseg manifest 1", "predseg run results 1"
STATUSES = ("ok", "failed", "error", "interrupted", "skipped")
Schema = dict[str, Any]


def said(error: BaseException) -> str:
    """Return an error as a message of its step."""
    return f"{error.code} {error.place}: {error.message}" if isinstance(error, PredsegError) else type(error).__name__


@dataclass(frozen=True)
class Step:
    """One step of a command: how it ended, how long it took (seconds), and the rows it gave for each node."""

    step: str
    status: str
    seconds: float
    nodes: Mapping[str, int]
    messages: tuple[str, ...] = ()

    @property
    def rows(self) -> int | None:
        """All rows together; None of a step that gives none."""
        return sum(self.nodes.values()) if self.nodes else None


@dataclass
class Steps:
    """The steps of one call of a command, timed by a clock that only goes forward; what was said belongs to the step that ends next."""

    done: list[Step] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)
    _last: float = field(default_factory=time.perf_counter)

    def add(self, step: str, status: str, nodes: Mapping[str, int], *messages: str) -> None:
        """End a step."""
        now = time.perf_counter()
        self.done.append(Step(step, status, round(now - self._last, 3), dict(nodes), (*self.said, *messages)))
        self._last = now
        self.said.clear()

    def skip(self, steps: Iterable[str]) -> None:
        """Note steps that were not taken."""
        self.done += [Step(name, "skipped", 0.0, {}) for name in steps]


def manifest(config: Config, segments: Mapping[str, Segment], now: str) -> dict[str, Any]:
    """Return what a project consists of; ``now`` is when it was asked (ISO, UTC)."""
    from predseg.segments.lineage import lineage, used_by

    nodes = lineage(config, segments)
    users = used_by(nodes)
    return {
        "metadata": _metadata(MANIFEST, config, now) | {"file": config.file.name},
        "nodes": {name: plain_node(node) | {"used_by": users[name]} for name, node in nodes.items()},
    }


def plain_node(node: Node) -> dict[str, Any]:
    """Return a node as it stands in the manifest."""
    found = asdict(node)
    return {**found, "uses": list(node.uses), "tags": list(node.tags), "line": node.line or None}


def run_results(config: Config, steps: Steps, now: str, **call: Any) -> dict[str, Any]:
    """Return what a command did: ``call`` is command, arguments, status and exit_code."""
    results = [{**asdict(step), "nodes": dict(step.nodes), "messages": list(step.messages), "rows": step.rows} for step in steps.done]
    return {"metadata": _metadata(RESULTS, config, now), **call, "seconds": round(time.perf_counter() - steps.began, 3), "results": results}


def write(config: Config, name: str, content: Mapping[str, Any]) -> Path:
    """Write one of the two files, whole or not at all.

    Raises:
        DataError: E410 unwritable, E411 disk full.
    """
    path = config.root / FOLDER / f"{name}.json"
    with disk_errors(path.parent):
        path.parent.mkdir(exist_ok=True)
        with replaced(path) as temporary:
            temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return path


def _metadata(schema: str, config: Config, now: str) -> dict[str, str]:
    from predseg import __version__

    return {"schema": schema, "predseg_version": __version__, "project": config.project, "generated_at": now}


def manifest_schema() -> Schema:
    """Return the JSON Schema of ``target/manifest.json``."""
    from predseg.segments.lineage import KINDS

    ids: Schema = {"type": "array", "items": {"type": "string", "pattern": f"^({'|'.join(KINDS)})\\."}}
    node = _object(
        {
            "kind": {"enum": list(KINDS)},
            "name": _TEXT,
            "definition": {"type": "string", "pattern": "^[0-9a-f]{12}$", "description": "Hash of what is declared: equal for equal meanings."},
            "uses": ids | {"description": "What it rests on."},
            "used_by": ids | {"description": "What rests on it."},
            "about": _TEXT,
            "owner": _TEXT,
            "tags": {"type": "array", "items": _TEXT},
            "refresh": {"enum": ["daily", "live", ""]},
            "file": _TEXT,
            "line": {"type": ["integer", "null"], "minimum": 1},
        }
    )
    whole = {"metadata": _described(MANIFEST, file=_TEXT), "nodes": {"type": "object", "additionalProperties": node}}
    return {"$schema": _DIALECT, "title": MANIFEST, **_object(whole)}


def results_schema() -> Schema:
    """Return the JSON Schema of ``target/run_results.json``."""
    count: Schema = {"type": "integer", "minimum": 0}
    step = _object(
        {
            "step": _TEXT,
            "status": {"enum": list(STATUSES)},
            "seconds": {"type": "number", "minimum": 0},
            "rows": {"anyOf": [count, {"type": "null"}], "description": "Of all nodes together."},
            "nodes": {"type": "object", "additionalProperties": count, "description": "Rows by node of the manifest."},
            "messages": {"type": "array", "items": _TEXT},
        }
    )
    whole = {
        "metadata": _described(RESULTS),
        "command": _TEXT,
        "arguments": {"type": "object"},
        "status": {"enum": list(STATUSES[:4])},
        "exit_code": count,
        "seconds": {"type": "number", "minimum": 0},
        "results": {"type": "array", "items": step},
    }
    return {"$schema": _DIALECT, "title": RESULTS, **_object(whole)}


_TEXT: Schema = {"type": "string"}
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def _object(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _described(schema: str, **more: Schema) -> Schema:
    return _object({"schema": {"const": schema}, "predseg_version": _TEXT, "project": _TEXT, "generated_at": _TEXT, **more})
