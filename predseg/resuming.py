"""What the long steps of a daily run were made of: one with nothing new is not taken again, so a run that was stopped goes on where it was.

    STORE/steps.json    {STEP: {"made_of": HASH, "gave": HASH, "at": INSTANT}}

A step is up to date while everything it reads and everything it gave is as it was at its end. What is hashed is what decides the
result: predseg, the moment, the project file and the rules, the files of the tables, the registry and who opted out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from predseg import __version__
from predseg.language.time import say_instant
from predseg.marks import hashed, mark, marks
from predseg.project import Project
from predseg.store import Store

FILE = "steps.json"
PAGE = "report.html"
SCORE, SEGMENT, REPORT = "score", "segment", "report"
_READS = {
    SCORE: ("events", "customers", "live_traits"),
    SEGMENT: ("events", "customers", "live_traits", "scores", "live_scores", "clusters"),
    REPORT: ("events", "scores", "live_scores", "clusters", "memberships", "segment_runs", "experiments", "ingest.json", "monitor.json"),
}
_GIVES = {SCORE: ("scores",), SEGMENT: ("memberships", "segment_runs"), REPORT: (PAGE,)}


def scores_made_of(project: Project, models: Iterable[str], moment: int) -> str:
    """Return a hash of what the scores of some models at a moment are made of; the registry is not asked, only its file looked at."""
    out = sorted(one.hex() for one in project.opted_out("profiling").persons)
    return hashed(_common(project, SCORE, moment), sorted(set(models)), mark(project.registry().database), out)


def segments_made_of(project: Project, names: Iterable[str] | None, moment: int) -> str:
    """Return a hash of what the memberships of some segments (None: of all) at a moment are made of."""
    return hashed(_common(project, SEGMENT, moment), project.segments().texts(), None if names is None else sorted(names))


def report_made_of(project: Project, moment: int) -> str:
    """Return a hash of what the report at a moment is made of: the last check, what the watches said last, and who opted out belong to it."""
    segments = project.segments()
    purposes = {segment.purpose for segment in segments.segments.values()}  # one may be none at all
    out = sorted(sorted(one.hex() for one in segments.opted_out(purpose).persons) for purpose in purposes)
    return hashed(_common(project, REPORT, moment), segments.texts(), mark(project.registry().database), out)


def since_when(store: Store, step: str, made_of: str) -> str | None:
    """Return when a step was taken that would give the same again (ISO, UTC); None when it has to be taken."""
    found = _noted(store).get(step)
    if found is None or found["made_of"] != made_of or found["gave"] != marks(store, _GIVES[step]):
        return None
    return str(found["at"])


def note(store: Store, step: str, made_of: str, now: int) -> None:
    """Note that a step was taken, after its tables are in place."""
    with store.lock():
        noted = _noted(store) | {step: {"made_of": made_of, "gave": marks(store, _GIVES[step]), "at": say_instant(now)}}
        store.write_text(FILE, json.dumps(noted, indent=1))


def _noted(store: Store) -> dict[str, Any]:
    try:
        found = json.loads(store.read_text(FILE) or "{}")
    except ValueError:  # not as it was written: every step is taken again
        return {}
    return found if isinstance(found, dict) else {}


def _common(project: Project, step: str, moment: int) -> list[Any]:
    return [__version__, moment, project.config.text, marks(project.store, _READS[step])]
