"""What a project says of monitoring: from where on something is wrong, and who is told.

    monitor:
      freshness: 2 days        # the newest event is older than that; not watched unless it is named
      lag: 5 minutes           # the live engine is so far behind the newest event; not watched unless it is named
      scores: 2 days           # the newest scores are so much older than the newest event
      segments: 2 days         # and the newest run of the segments
      volume: 50%              # of an event, half as many as usual on this weekday, or twice as many
      rejected: 1%             # of the received rows
      size: 50%                # of a segment, half as many members as at the run before, or twice as many
      churn: 50%               # half of the members of both runs are not members of both
      ctr: 5%                  # how many of the warnings about low click rates may be false
      queue: 1 hour            # a message is overdue for so long
      send: ops                # a channel that is told when something goes wrong, and when it is right again

Any of them may be ``off``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from predseg.language.documents import read_duration, read_share
from predseg.language.time import DAY, HOUR
from predseg.language.yaml import Node

OFF = "off"
LENGTHS, SHARES = ("freshness", "lag", "scores", "segments", "queue"), ("volume", "rejected", "size", "churn", "ctr")


@dataclass(frozen=True)
class Limits:
    """From where on something is wrong; None is not watched. Lengths are microseconds, shares are fractions."""

    freshness: int | None = None
    lag: int | None = None
    scores: int | None = 2 * DAY
    segments: int | None = 2 * DAY
    queue: int | None = HOUR
    volume: float | None = 0.5
    rejected: float | None = 0.01
    size: float | None = 0.5
    churn: float | None = 0.5
    ctr: float | None = 0.05
    send: str | None = None


def parse_limits(node: Node) -> Limits:
    """Return the declaration under ``monitor:``."""
    keys = node.mapping("`monitor`", (*LENGTHS, *SHARES, "send"))
    found: dict[str, Any] = {key: keys[key].text(f"`{key}`") for key in ("send",) if key in keys}
    found |= {key: None if keys[key].value == OFF else read_duration(keys[key], key) for key in LENGTHS if key in keys}
    found |= {key: None if keys[key].value == OFF else float(read_share(keys[key], key)) / 100 for key in SHARES if key in keys}
    return Limits(**found)


def limits_schema() -> dict[str, Any]:
    """Return the JSON Schema of the declaration; durations and shares are defined beside it."""
    said = {
        "freshness": "The newest event may be so old; not watched unless it is named.",
        "lag": "The live engine may be so far behind the newest event; not watched unless it is named.",
        "scores": "The newest scores may be so much older than the newest event; 2 days by default.",
        "segments": "The newest run of the segments may be so much older than the newest event; 2 days by default.",
        "queue": "A message may be overdue for so long; 1 hour by default.",
        "volume": "How far the number of an event may be from what is usual on its weekday; 50% by default.",
        "rejected": "The share of the received rows that may be in quarantine; 1% by default.",
        "size": "How far a segment may be from its size at the run before; 50% by default.",
        "churn": "The share of members that a run may exchange; 50% by default.",
        "ctr": "How many of the warnings about low click rates may be false; 5% by default.",
    }
    off = {"const": OFF}
    keys: dict[str, Any] = {key: {"anyOf": [{"$ref": "#/$defs/duration"}, off], "description": said[key]} for key in LENGTHS}
    keys |= {key: {"anyOf": [{"$ref": "#/$defs/share"}, off], "description": said[key]} for key in SHARES}
    keys["send"] = {
        "type": "string",
        "pattern": r"\S",
        "description": "A channel that is told when something goes wrong, and when it is right again.",
    }
    return {"type": "object", "description": "From where on something is wrong.", "properties": keys, "additionalProperties": False}
