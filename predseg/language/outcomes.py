"""What counts as success, as a project declares it: the event that is hoped for, and how answers to messages are told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from predseg.language.documents import read_duration
from predseg.language.time import DAY, WEEK
from predseg.language.yaml import Node


@dataclass(frozen=True)
class Outcomes:
    """How outcomes are read.

    Attributes:
        goal: The event that is hoped for; None is what the first model predicts, else an order.
        campaign: The property that says which message a delivery, open or click is about; None looks for a usual one.
        within: How long after a delivery the goal may come to belong to it (microseconds).
        every: The length of a period of the engagement table (microseconds).
    """

    goal: str | None = None
    campaign: str | None = None
    within: int = 7 * DAY
    every: int = 4 * WEEK


def parse_outcomes(node: Node) -> Outcomes:
    """Return the declaration under ``outcomes:``."""
    keys = node.mapping("`outcomes`", ("goal", "campaign", "within", "every"))
    found: dict[str, Any] = {key: keys[key].text(f"`{key}`") for key in ("goal", "campaign") if key in keys}
    found |= {key: read_duration(keys[key], key) for key in ("within", "every") if key in keys}
    return Outcomes(**found)


def outcomes_schema() -> dict[str, Any]:
    """Return the JSON Schema of the declaration."""
    text, duration = {"type": "string", "pattern": r"\S"}, {"$ref": "#/$defs/duration"}
    keys = {
        "goal": text | {"description": "The event that is hoped for; by default what the first model predicts."},
        "campaign": text | {"description": "The property that says which message a delivery, an open or a click is about."},
        "within": duration | {"description": "How long after a delivery the goal may come to belong to it; 7 days by default."},
        "every": duration | {"description": "The length of a period of the engagement table; 28 days by default."},
    }
    return {"type": "object", "description": "What counts as success.", "properties": keys, "additionalProperties": False}
