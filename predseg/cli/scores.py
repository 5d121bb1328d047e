"""What `predseg score` and the daily run say of scores: models without a champion are named, and keep no other from being asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from predseg.cli.frame import Answer

if TYPE_CHECKING:
    from predseg.errors import ModelError


def lacking(answer: Answer, missing: Mapping[str, ModelError]) -> Answer:
    """Return an answer that also says which models have no champion, and what to do: as its error."""
    from predseg.forecast.watching import refusal

    if not missing:
        return answer
    results = {**answer.results, "missing": {name: error.help for name, error in missing.items()}}
    return replace(answer, results=results, status="failed", error=answer.error or refusal(missing))
