"""What a project says of its engine: who moves the data and answers the blocks of customers.

engine: duckdb                                             # embedded, the default
engine: {spark: {master: "local[4]"}}                      # or spark://host:7077, yarn, k8s://...; sc://host for Spark Connect
engine:
  spark:
    master: yarn
    options: {spark.executor.memory: 8g, spark.executor.instances: 20}

The same project, its store included, is used with one or the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from predseg.errors import ConfigError
from predseg.language.yaml import Node

EMBEDDED = "duckdb"
_HELP = "write `engine: duckdb`, or `engine: {spark: {master: local}}`"


@dataclass(frozen=True)
class Spark:
    """A Spark session: its master (None: what surrounds the process says) and options by their names in Spark's documentation."""

    master: str | None = None
    options: tuple[tuple[str, str], ...] = ()


def parse_engine(node: Node) -> Spark | None:
    """Return the declaration under ``engine:``; None is the embedded engine."""
    if node.value == EMBEDDED:
        return None
    if not node.is_mapping:
        raise ConfigError("E309", node.place, f"unknown engine {node.show()}", _HELP)
    keys = node.mapping("`engine`", ("spark",))
    if "spark" not in keys:
        raise ConfigError("E309", node.place, "`engine` names none", _HELP)
    said = keys["spark"].mapping("`spark`", ("master", "options"))
    master = said["master"].text("`master`") if "master" in said else None
    options = said["options"].mapping("`options`") if "options" in said else {}
    return Spark(master, tuple((name, _option(name, value, said["options"].key_place(name))) for name, value in options.items()))


def _option(name: str, node: Node, place: str) -> str:
    if not name.startswith("spark."):
        raise ConfigError("E309", place, f"{name!r} is no option of Spark", f"write `spark.{name}`; Spark's options begin with `spark.`")
    if isinstance(node.value, bool):
        return str(node.value).lower()
    return str(node.value) if isinstance(node.value, int) else node.text(f"`{name}`")


def engine_schema() -> dict[str, Any]:
    """Return the JSON Schema of the declaration."""
    option = {"type": ["string", "integer", "boolean"]}
    options = {"type": "object", "propertyNames": {"pattern": "^spark\\."}, "additionalProperties": option}
    keys = {
        "master": {"type": "string", "minLength": 1, "description": "`local[4]`, `spark://host:7077`, `yarn`; `sc://host` for Spark Connect."},
        "options": {**options, "description": "Options of the session, by their names in Spark."},
    }
    spark = {"type": "object", "properties": keys, "additionalProperties": False}
    whole = {"type": "object", "properties": {"spark": spark}, "required": ["spark"], "additionalProperties": False}
    return {"anyOf": [{"const": EMBEDDED}, whole], "description": "What moves the data and answers blocks of customers."}
