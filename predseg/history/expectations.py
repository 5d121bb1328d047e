"""Whether the data are as the project expects: each check passes, warns or fails; see `predseg.language.expectations`.

A check has a level: 1 is its limit. It fails from there on, and warns from `NEAR` on. What cannot be judged yet is skipped. Events are looked at
over (as_of − within, as_of], what came before over the four weeks before that; only what was visible by as_of counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from predseg.errors import GateError
from predseg.history.report import IngestReport
from predseg.history.volumes import USUAL, volumes
from predseg.language.expectations import FAIL, OFF, WARN, Expectations
from predseg.language.time import DAY, say_duration, say_instant

if TYPE_CHECKING:
    from predseg.config import Config

PASS, SKIPPED = "pass", "skipped"
NEAR = 0.8
BEFORE = 28 * DAY
"""How far back before ``within`` it is looked at what came then."""
_NO_PROPERTY = ("customer_id", "event", "event_time", "received_at", "event_id", "anonymous_id", "linked_at")


@dataclass(frozen=True)
class Check:
    """One check: its kind, what it is about, pass, warn, fail or skipped, what was found, and the limit; ``allowed``: it may fail."""

    kind: str
    about: str
    status: str
    found: str
    limit: str
    allowed: bool = False

    @property
    def name(self) -> str:
        """What `allow:` calls it."""
        return f"{self.kind} of {self.about}"


def judge(config: Config, files: Sequence[Path], report: IngestReport, as_of: int, now: int) -> list[Check]:
    """Return all checks of a project; none when it expects nothing.

    Args:
        config: The project.
        files: Of its events table.
        report: The last ingest.
        as_of: The moment that is asked about: no event that was not visible by then is looked at.
        now: What the age of the newest event is counted to.
    """
    wanted = config.expectations
    if wanted is None:
        return []
    facts = _facts(files, wanted, as_of)
    found = [*_of_sources(wanted, report, now), *_of_events(wanted, files, facts, as_of, now), *_changes(wanted, facts)]
    return [Check(c.kind, c.about, c.status, c.found, c.limit, c.name in wanted.allow) for c in found]


def demand(config: Config, files: Sequence[Path], report: IngestReport, as_of: int, now: int) -> None:
    """Refuse data that are not as expected.

    Raises:
        GateError: E630 when a check fails that is not allowed by name.
    """
    failing = [c for c in judge(config, files, report, as_of, now) if c.status == FAIL and not c.allowed]
    if failing:
        said = "; ".join(f"{c.name}: {c.found} (expected {c.limit})" for c in failing)
        names = ", ".join(c.name for c in failing)
        raise GateError("E630", "expectations", f"the data are not as expected: {said}", f"mend the data; or `expectations: {{allow: [{names}]}}`")


def _check(kind: str, about: str, level: float | None, found: str, limit: str) -> Check:
    status = SKIPPED if level is None else FAIL if level >= 1 else WARN if level >= NEAR else PASS
    return Check(kind, about, status, found, limit)


def _lag(about: str, last: int | None, now: int, most: int) -> Check:
    if last is None:
        return _check("max_lag", about, 1.0, "none came", say_duration(most))
    return _check("max_lag", about, max(now - last, 0) / most, f"the newest is of {say_instant(last)[:16]}Z", say_duration(most))


def _share(kind: str, about: str, part: int, whole: int, most: float) -> Check:
    if not whole:
        return _check(kind, about, None, "none came", f"{most:.2%} at most")
    share = part / whole
    status = FAIL if share > most else WARN if part and share >= NEAR * most else PASS  # the limit itself is allowed
    return Check(kind, about, status, f"{part:,} of {whole:,}, {share:.2%}", f"{most:.2%} at most")


def _of_sources(wanted: Expectations, report: IngestReport, now: int) -> Iterator[Check]:
    parts = {part.name: part for part in report.sources}
    for name, expected in wanted.sources:
        part = parts.get(name)
        if expected.max_lag is not None and part is not None and part.last is None and part.accepted:
            yield _check("max_lag", f"source {name}", None, "known after the next reading", say_duration(expected.max_lag))  # of an earlier predseg
        elif expected.max_lag is not None:
            yield _lag(f"source {name}", part.last if part else None, now, expected.max_lag)
        if expected.rejected is not None and part is not None:
            yield _share("rejected", f"source {name}", part.quarantined, part.received, expected.rejected)


@dataclass
class _Facts:
    """What is known of one event: how many, and of each property how many have it, lately and before; values of those with limits."""

    lately: int = 0
    before: int = 0
    last: int | None = None
    has: dict[str, list[int]] = field(default_factory=dict)
    outside: dict[str, tuple[int, int, Decimal | None]] = field(default_factory=dict)


def _of_events(wanted: Expectations, files: Sequence[Path], facts: tuple[dict[str, _Facts], bool], as_of: int, now: int) -> Iterator[Check]:
    counts = volumes(files, as_of) if any(e.volume is not None for _, e in wanted.events) else {}
    for name, expected in wanted.events:
        seen = facts[0].get(name, _Facts())
        if expected.volume is not None:
            volume = counts.get(name)
            level, found = (None, "too few weeks, or too few a day") if volume is None else (volume.away / expected.volume, str(volume))
            yield _check("volume", name, level, found, f"{expected.volume:.0%} away")
        if expected.max_lag is not None:
            yield _lag(name, seen.last, now, expected.max_lag)
        for prop, most in expected.nulls:
            yield _share("nulls", f"{name}.{prop}", seen.lately - seen.has.get(prop, [0, 0])[0], seen.lately, most)
        for prop, low, high in expected.between:
            yield _range(f"{name}.{prop}", seen.outside.get(prop), f"{low:f} to {high:f}")


def _range(about: str, seen: tuple[int, int, Decimal | None] | None, limit: str) -> Check:
    if seen is None or not seen[1]:
        return _check("between", about, None, "no number came", limit)
    outside, number, worst = seen
    found = f"{outside:,} of {number:,} outside" + (f", such as {worst.normalize():f}" if worst is not None else "")
    return _check("between", about, float(bool(outside)), found, limit)


def _changes(wanted: Expectations, facts: tuple[dict[str, _Facts], bool]) -> Iterator[Check]:
    """Yield the events and properties that came in one of the two times and not in the other; nothing while the history is too short."""
    known, long_enough = facts
    span = say_duration(wanted.within)
    for name, seen in sorted(known.items()) if long_enough else ():
        pairs = {name: (seen.lately, seen.before)}
        if seen.lately and seen.before:
            pairs |= {f"{name}.{prop}": (lately, before) for prop, (lately, before) in sorted(seen.has.items())}
        for about, (lately, before) in pairs.items():
            if wanted.vanished != OFF and not lately and before >= USUAL:
                yield Check("vanished", about, wanted.vanished, f"{before:,} in the four weeks before, none in {span}", "comes as before")
            if wanted.new != OFF and not before and lately:
                yield Check("new", about, wanted.new, f"{lately:,} in {span}, none in the four weeks before", "came before")


# reading


def _facts(files: Sequence[Path], wanted: Expectations, as_of: int) -> tuple[dict[str, _Facts], bool]:
    """Return what is known of each event, and whether the history goes back far enough to say what is new."""
    known: dict[str, _Facts] = {}
    expected, first = dict(wanted.events), as_of
    for file in files:
        table = pq.read_table(file)
        times = {name: table[name].cast(pa.timestamp("us", "UTC")).cast(pa.int64()) for name in ("event_time", "received_at")}
        first = min(first, pc.min(times["event_time"]).as_py() or first)
        seen = pc.and_(pc.less_equal(times["event_time"], as_of), pc.less_equal(times["received_at"], as_of))
        table = table.set_column(table.column_names.index("event_time"), "event_time", times["event_time"])
        table = table.set_column(table.column_names.index("event"), "event", table["event"].cast(pa.string())).filter(seen)
        for key, last in _groups(table, {"event_time": "max"}):
            facts = known.setdefault(key["event"], _Facts())
            facts.last = max(facts.last or last["event_time"], last["event_time"])
        lately = pc.greater(table["event_time"], as_of - wanted.within)
        recent = table.append_column("lately", lately).filter(pc.greater(table["event_time"], as_of - wanted.within - BEFORE))
        _count(recent, known)
        for name, of in expected.items():
            for prop, low, high in of.between if name in known else ():
                _outside(recent.filter(pc.and_(recent["lately"], pc.equal(recent["event"], name))), prop, low, high, known[name])
    return known, first <= as_of - wanted.within - BEFORE


def _groups(table: pa.Table, aggregates: Mapping[str, str], keys: Sequence[str] = ("event",)) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    found = table.group_by(list(keys)).aggregate(list(aggregates.items()))
    for row in found.to_pylist():
        yield {key: row[key] for key in keys}, {name: row[f"{name}_{how}"] for name, how in aggregates.items()}


def _count(recent: pa.Table, known: dict[str, _Facts]) -> None:
    props = [name for name in recent.column_names if name not in (*_NO_PROPERTY, "lately")]
    for key, numbers in _groups(recent, {"event_time": "count", **dict.fromkeys(props, "count")}, ("event", "lately")):
        facts = known[key["event"]]
        if key["lately"]:
            facts.lately += numbers["event_time"]
        else:
            facts.before += numbers["event_time"]
        for prop in props:
            facts.has.setdefault(prop, [0, 0])[0 if key["lately"] else 1] += numbers[prop]


def _outside(rows: pa.Table, prop: str, low: Decimal, high: Decimal, facts: _Facts) -> None:
    """Count the numbers outside, and keep the one that is farthest."""
    values = (
        [Decimal(v) for v in rows[prop].to_pylist() if isinstance(v, int | Decimal) and not isinstance(v, bool)] if prop in rows.column_names else []
    )
    outside, number, worst = facts.outside.get(prop, (0, 0, None))
    wrong = [v for v in values if not low <= v <= high]
    far = max((v for v in (*wrong, worst) if v is not None), key=lambda v: (max(low - v, v - high), v), default=None)
    facts.outside[prop] = (outside + len(wrong), number + len(values), far)
