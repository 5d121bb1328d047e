"""All watches over a project in one table: what was read, where the limit is, whether it is past it, and since when.

A reading has a level: 1 is its limit. A watch fails when its level reaches 1 and is in order again when it has fallen below
`RECOVERED`, so that a reading that trembles around its limit is told of once. What was said last is kept in the store.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from predseg.forecast.drift import MOVED, UNLIKELY
from predseg.forecast.gate import CALIBRATION_LIMIT, VALUE_LIMIT
from predseg.history.volumes import Counts, apart, judged
from predseg.language.time import DAY, HOUR, MINUTE, say_duration, say_instant
from predseg.segments.memberships import Ledger

if TYPE_CHECKING:
    import pandas as pd

    from predseg.forecast.watching import Drift
    from predseg.outcomes.engagement import Engagement
    from predseg.store import Store

FILE = "monitor.json"
RECOVERED = 0.8
OK, FAILING, UNKNOWN = "ok", "failing", "not judged"
FEWEST, RUNS = 50, 3
"""Members, and earlier runs, that a segment must have to be judged by what is usual of it."""


@dataclass(frozen=True)
class Reading:
    """One look: a watch, what it is about (an event, a segment, a model; empty for the whole), the value and its limit in words.

    ``level`` is 1 at the limit; None when it cannot be judged yet.
    """

    watch: str
    about: str
    value: str
    limit: str
    level: float | None


@dataclass(frozen=True)
class Watch:
    """A reading, judged: ok, failing or not judged, and since when (microseconds)."""

    watch: str
    about: str
    value: str
    limit: str
    level: float | None
    status: str
    since: int

    @property
    def key(self) -> str:
        """What its state is kept under."""
        return f"{self.watch}/{self.about}"


@dataclass(frozen=True)
class Turn:
    """A watch that began to fail, or is in order again."""

    watch: str
    about: str
    status: str
    says: str

    @property
    def key(self) -> str:
        """What its state is kept under."""
        return f"{self.watch}/{self.about}"


BY_MODEL = ("drift", "calibration")
"""Watches of models, of which a look may take only some: what was said of the others stands."""

States = Mapping[str, tuple[str, int]]
"""Watch → what was said last, ok or failing, and since when."""


def judge(states: States, readings: Iterable[Reading], now: int) -> tuple[list[Watch], list[Turn]]:
    """Judge readings by what was said before; a watch that cannot be judged keeps what was said of it.

    Args:
        states: What was said last.
        readings: What is read now.
        now: The moment (microseconds).
    """
    watches, turns = [], []
    for reading in readings:
        said, since = states.get(f"{reading.watch}/{reading.about}", (OK, now))
        status = said if reading.level is None else FAILING if reading.level >= 1 or (said == FAILING and reading.level >= RECOVERED) else OK
        shown = UNKNOWN if reading.level is None and said == OK else status
        watches.append(Watch(**asdict(reading), status=shown, since=since if status == said else now))
        if status != said:
            turns.append(Turn(reading.watch, reading.about, status, _says(reading, status)))
    seen = {w.key for w in watches}
    for key in sorted(key for key, (said, _) in states.items() if said == FAILING and key not in seen and not _of_a_model(key)):
        watch, _, about = key.partition("/")
        turns.append(Turn(watch, about, OK, f"{_called(watch, about)} is no longer watched"))
    return watches, turns


def _of_a_model(key: str) -> bool:
    return key.partition("/")[0] in BY_MODEL


def _called(watch: str, about: str) -> str:
    return f"{watch} of {about}" if about else watch


def _says(reading: Reading, status: str) -> str:
    verb = "is past its limit" if status == FAILING else "is in order again"
    return f"{_called(reading.watch, reading.about)} {verb}: {reading.value} (limit: {reading.limit})"


def read_watches(store: Store) -> tuple[list[Watch], int | None]:
    """Return what the watches said last, and when that was; nothing and None before the first look."""
    text = store.read_text(FILE)
    kept = json.loads(text) if text else {"at": None, "watches": []}
    return [Watch(**watch) for watch in kept["watches"]], kept["at"]


def states_of(watches: Iterable[Watch]) -> dict[str, tuple[str, int]]:
    """Return what was said last by watches, as `judge` takes it."""
    return {w.key: (FAILING if w.status == FAILING else OK, w.since) for w in watches}


def keep_watches(store: Store, now: Sequence[Watch], before: Sequence[Watch], at: int, again: Collection[str] = ()) -> None:
    """Keep what is said now, and what was said of models that were not looked at.

    Args:
        store: Where.
        now: What is said now.
        before: What was said before.
        at: The moment.
        again: Watches whose turn nobody heard of: what was said before stands, so that they turn again.
    """
    said = {w.key: w for w in before}
    kept = [replace(w, status=said[w.key].status if w.key in said else OK) if w.key in again else w for w in now]
    seen = {w.key for w in now}
    kept += [w for w in before if w.key not in seen and (_of_a_model(w.key) or w.key in again)]
    store.write_text(FILE, json.dumps({"at": at, "watches": [asdict(w) for w in kept]}))


# readings


def freshness(newest: int, now: int, limit: int | None) -> list[Reading]:
    """Read how old the newest event is."""
    age = max(now - newest, 0)
    level = None if limit is None else age / limit
    return [Reading("freshness", "", f"newest event is {_age(age)} old", "none" if limit is None else say_duration(limit), level)]


def staleness(what: str, last: int | None, newest: int, limit: int | None) -> list[Reading]:
    """Read how much older the last run of something is than the newest event."""
    if limit is None:
        return []
    if last is None:
        return [Reading(what, "", "never run", say_duration(limit), None)]
    age = max(newest - last, 0)
    return [Reading(what, "", f"last run {say_instant(last)[:16]}Z, {_age(age)} before the newest event", say_duration(limit), age / limit)]


def _age(micros: int) -> str:
    unit = next((unit for unit in (DAY, HOUR, MINUTE) if micros >= 3 * unit), MINUTE)
    return say_duration(micros // unit * unit) if micros >= MINUTE else "under a minute"


def volumes(counts: Counts, limit: float | None) -> list[Reading]:
    """Read how many of each event came in the last 24 hours; it is unusual when it is far from every one of the same hours of the last weeks."""
    if limit is None:
        return []
    return [Reading("volume", name, str(v), f"{limit:.0%} away", v.away / limit) for name, v in judged(counts).items()]


def rejected(received: int, quarantined: int, limit: float | None) -> list[Reading]:
    """Read which share of the rows is in quarantine."""
    if limit is None:
        return []
    share = quarantined / received if received else 0.0
    return [Reading("rejected", "", f"{share:.2%} of the received rows", f"{limit:.2%}", share / limit)]


def segment_sizes(ledger: Ledger, names: Iterable[str], as_of: int, limit: float | None) -> list[Reading]:
    """Read how far the size of each segment is from that of the run before; three times what is usual of it is allowed at least."""
    found = []
    for name in names if limit is not None else ():
        runs = _runs(ledger, name, as_of)
        steps = [apart(a, b) for a, b in zip(runs["members"], runs["members"][1:], strict=False)]
        if steps:
            before, now = (int(n) for n in runs["members"].iloc[-2:])
            found.append(_segment_reading("size", name, f"{now:,} members, before {before:,}", steps, limit or 0.0, 3, before))
    return found


def segment_churn(ledger: Ledger, names: Iterable[str], as_of: int, limit: float | None) -> list[Reading]:
    """Read which share of each segment's members the last run exchanged; twice what is usual of it is allowed at least."""
    found = []
    for name in names if limit is not None else ():
        runs = _runs(ledger, name, as_of)
        either = runs["members"] + runs["left"]
        shares = [float((e + gone) / max(n, 1)) for e, gone, n in zip(runs["entered"][1:], runs["left"][1:], either[1:], strict=True)]
        if shares:
            before = int(runs["members"].iloc[-2])
            found.append(_segment_reading("churn", name, f"{shares[-1]:.0%} of members exchanged", shares, limit or 0.0, 2, before))
    return found


def _runs(ledger: Ledger, name: str, as_of: int) -> pd.DataFrame:
    """The runs of a segment under its last definition up to as_of."""
    runs = ledger.log[(ledger.log["segment"] == name) & (ledger.log["as_of"] <= as_of)].sort_values("as_of")
    return runs[runs["definition"] == runs["definition"].iloc[-1]] if len(runs) else runs


def _segment_reading(watch: str, name: str, value: str, steps: Sequence[float], limit: float, times: int, before: int) -> Reading:
    if before < FEWEST:
        return Reading(watch, name, value, f"none under {FEWEST} members", 0.0)
    usual = float(np.median(steps[:-1])) if len(steps) > RUNS else 0.0
    most = max(limit, times * usual)
    if most > 1:  # it exchanges nearly everybody at every run, as triggers do
        return Reading(watch, name, value, f"usual is {usual:.0%}", 0.0)
    return Reading(watch, name, value, f"{most:.0%}", steps[-1] / most)


def click_rates(found: Engagement, limit: float | None) -> list[Reading]:
    """Read which segments have a low click rate, against their own past and against the others."""
    low = {name: [w for w in found.warnings if w.segment == name] for name in (e.segment for e in found.segments)} if limit is not None else {}
    readings = []
    for one in found.segments if limit is not None else ():
        if one.figures.delivered:
            said = "; ".join(f"{_percent(w.ctr.value)}, {w.against} {_percent(w.other.value)}" for w in low[one.segment])
            value = said or f"{_percent(one.figures.ctr.value)} of what was delivered"
            readings.append(Reading("ctr", one.segment, value, "lower, beyond chance", float(bool(said))))
    return readings


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def drifts(found: Mapping[str, Drift]) -> list[Reading]:
    """Read how far the scores of each champion have moved, and how far its matured forecasts were off."""
    readings = []
    for name, one in found.items():
        if one.moves:
            score, moved = one.moves[0], sum(move.moved for move in one.moves[1:])
            value = f"score PSI {score.psi:.2f}, {moved} of {len(one.moves) - 1} features moved"
            readings.append(Reading("drift", name, value, f"PSI {MOVED:g}, beyond chance", score.psi / MOVED if score.p < UNLIKELY else 0.0))
        last = next((run for run in reversed(one.runs) if run.enough), None)
        limit = VALUE_LIMIT if last is not None and last.value else CALIBRATION_LIMIT
        if last is None:
            why = "of those that matured too few came true" if one.runs else "no scores have matured yet"
            readings.append(Reading("calibration", name, why, f"{limit:g}, beyond chance", None))
        else:
            value = f"off by {last.calibration_error:.3f} when scored {say_instant(last.as_of)[:10]}"
            level = last.calibration_error / limit if last.chance < 0.05 else 0.0
            readings.append(Reading("calibration", name, value, f"{limit:g}, beyond chance", level))
    return readings


def behind(clock: int | None, newest: int, limit: int | None) -> list[Reading]:
    """Read how far the live engine is behind the newest event; ``clock`` is its own, None when there is none."""
    if limit is None:
        return []
    if clock is None:
        return [Reading("lag", "", "no live engine has run here", say_duration(limit), None)]
    lag = max(newest - clock, 0)
    return [Reading("lag", "", f"live is {_age(lag)} behind the newest event", say_duration(limit), lag / limit)]


def overdue(due: Sequence[int], now: int, limit: int | None) -> list[Reading]:
    """Read how long the oldest message waits that should have been sent; ``due`` says when each waiting one should have been."""
    if limit is None:
        return []
    late = [now - t for t in due if t <= now]
    value = f"{len(late):,} messages overdue" + (f", the oldest for {_age(max(late))}" if late else "")
    return [Reading("queue", "", value, say_duration(limit), max(late, default=0) / limit)]
