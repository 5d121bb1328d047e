"""Whether the data are as the project expects: each check passes, warns or fails; see `predseg.language.expectations`.

A check has a level: 1 is its limit. It fails from there on, and warns from `NEAR` on. What cannot be judged yet is skipped. Events are looked at
over (as_of − within, as_of], what came before over the four weeks before that; only what was visible by as_of counts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from predseg.columns import mixed_in
from predseg.errors import GateError
from predseg.history.report import IngestReport
from predseg.history.volumes import COLUMNS, LOOKED_AT, USUAL, Daily, Volume, instants, judged
from predseg.language.english import say_list
from predseg.language.expectations import FAIL, OFF, WARN, Expectations
from predseg.language.spelling import value_of
from predseg.language.time import DAY, say_duration, say_instant
from predseg.layers import readers

if TYPE_CHECKING:
    from predseg.config import Config

PASS, SKIPPED = "pass", "skipped"
NEAR = 0.8
BEFORE = 28 * DAY
"""How far back before ``within`` it is looked at what came then."""
TEXT = "texts"
_LIKE = {
    "numbers": re.compile(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?", re.ASCII),
    "true or false": re.compile(r"true|false", re.ASCII | re.IGNORECASE),
    "dates": re.compile(r"\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}.*)?", re.ASCII),
    "lists": re.compile(r"\[.*\]", re.DOTALL),
}
"""What a text may be that is more than a text."""
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
    facts = _read(files, wanted, as_of)
    found = [*_of_sources(wanted, report, now), *_of_events(wanted, facts, now), *_changes(wanted, facts)]
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
    kinds: dict[str, tuple[Counter[str], Counter[str]]] = field(default_factory=dict)


@dataclass
class _History:
    """What one reading of the events table found: facts by event, how many a day, and whether it goes back far enough to say what is new."""

    events: dict[str, _Facts]
    volumes: dict[str, Volume]
    long_enough: bool


def _of_events(wanted: Expectations, facts: _History, now: int) -> Iterator[Check]:
    for name, expected in wanted.events:
        seen = facts.events.get(name, _Facts())
        if expected.volume is not None:
            volume = facts.volumes.get(name)
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


def _changes(wanted: Expectations, facts: _History) -> Iterator[Check]:
    """Yield the events and properties that came in one of the two times and not in the other, and values of another kind; nothing while the history is too short."""
    span = say_duration(wanted.within)
    for name, seen in sorted(facts.events.items()) if facts.long_enough else ():
        pairs = {name: (seen.lately, seen.before)}
        if seen.lately and seen.before:
            pairs |= {f"{name}.{prop}": (lately, before) for prop, (lately, before) in sorted(seen.has.items())}
        for about, (lately, before) in pairs.items():
            if wanted.vanished != OFF and not lately and before >= USUAL:
                yield Check("vanished", about, wanted.vanished, f"{before:,} in the four weeks before, none in {span}", "comes as before")
            if wanted.new != OFF and not before and lately:
                yield Check("new", about, wanted.new, f"{lately:,} in {span}, none in the four weeks before", "came before")
        for prop, (kinds, usual) in sorted(seen.kinds.items()) if wanted.types != OFF else ():
            if other := _other_kinds(kinds, usual):
                number = sum(kinds[kind] for kind in other)
                found = f"{number:,} of {kinds.total():,} in {span} {'is' if number == 1 else 'are'} {say_list(other)}"
                yield Check("types", f"{name}.{prop}", wanted.types, found, f"{say_list(sorted(usual))}, as in the four weeks before")


def _other_kinds(now: Counter[str], before: Counter[str]) -> list[str]:
    """Return of which kinds values are that none was of before. A text that looks like something else is still a text, unless all are like it."""
    if before.total() < USUAL:
        return []
    if TEXT in before:
        return [] if TEXT in now or now.total() < USUAL else sorted(now.keys() - before.keys())
    return sorted(now.keys() - before.keys())


# reading


def _read(files: Sequence[Path], wanted: Expectations, as_of: int) -> _History:
    """Read the events once, a part at a time, and of each part only the columns that are asked about."""
    known: dict[str, _Facts] = {}
    daily = Daily(as_of, LOOKED_AT)
    for reader in readers(files):
        props = [name for name in reader.names if name not in _NO_PROPERTY and _asked_about(name, wanted)]
        for part in range(len(reader.sizes)):
            rows = reader.group(part, COLUMNS)
            daily.add(rows)
            _take(rows, partial(reader.group, part, props), wanted, as_of, known)
    return _History(known, judged(daily.counts()), daily.first <= as_of - wanted.within - BEFORE)


def _asked_about(prop: str, wanted: Expectations) -> bool:
    named = {one[0] for _, event in wanted.events for one in (*event.nulls, *event.between)}
    return prop in named or (wanted.vanished, wanted.new, wanted.types) != (OFF, OFF, OFF)


def _take(rows: pa.Table, more: Callable[[], pa.Table], wanted: Expectations, as_of: int, known: dict[str, _Facts]) -> None:
    """Take in one part of the table; its properties are read only when something of it is of the time that is looked at."""
    time, received = instants(rows, "event_time"), instants(rows, "received_at")
    seen = (time <= as_of) & (received <= as_of)
    names = rows["event"].cast(pa.string())
    columns = pa.table({"event": names, "event_time": time})
    for key, last in _groups(columns.filter(pa.array(seen)), {"event_time": "max"}):
        facts = known.setdefault(key["event"], _Facts())
        facts.last = max(facts.last or last["event_time"], last["event_time"])
    kept = seen & (time > as_of - wanted.within - BEFORE)
    if not kept.any():
        return
    recent = more().filter(pa.array(kept))
    recent = recent.append_column("event", names.filter(pa.array(kept))).append_column("lately", pa.array(time[kept] > as_of - wanted.within))
    recent = recent.append_column("event_time", pa.array(time[kept]))
    _count(recent, known)
    for name, of in wanted.events:
        for prop, low, high in of.between if name in known else ():
            _outside(recent.filter(pc.and_(recent["lately"], pc.equal(recent["event"], name))), prop, low, high, known[name])


def _groups(table: pa.Table, aggregates: Mapping[str, str], keys: Sequence[str] = ("event",)) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    found = table.group_by(list(keys)).aggregate(list(aggregates.items()))
    for row in found.to_pylist():
        yield {key: row[key] for key in keys}, {name: row[f"{name}_{how}"] for name, how in aggregates.items()}


def _count(recent: pa.Table, known: dict[str, _Facts]) -> None:
    props = [name for name in recent.column_names if name not in (*_NO_PROPERTY, "lately")]
    texts = [name for name in props if pa.types.is_string(_plain_type(recent.schema.field(name).type))]
    for key, numbers in _groups(recent, {"event_time": "count", **dict.fromkeys(props, "count")}, ("event", "lately")):
        facts = known[key["event"]]
        if key["lately"]:
            facts.lately += numbers["event_time"]
        else:
            facts.before += numbers["event_time"]
        for prop in props:
            facts.has.setdefault(prop, [0, 0])[0 if key["lately"] else 1] += numbers[prop]
    for prop in texts:
        kinds = _kinds(recent[prop])
        for key, number in _groups(
            pa.table([recent["event"], recent["lately"], kinds], ["event", "lately", "kind"]), {"event": "count"}, ("event", "lately", "kind")
        ):
            if key["kind"] is not None:
                known[key["event"]].kinds.setdefault(prop, (Counter(), Counter()))[0 if key["lately"] else 1][key["kind"]] += number["event"]


def _plain_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _kinds(texts: pa.ChunkedArray) -> pa.Array:
    """Return of which kind each text is: a property of which some values were of another kind stands as text in the table."""
    coded = pc.dictionary_encode(texts.cast(pa.string()).combine_chunks())
    named = [next((kind for kind, like in _LIKE.items() if like.fullmatch(text)), TEXT) for text in coded.dictionary.to_pylist()]
    return pa.array(named, pa.string()).take(coded.indices)


def _outside(rows: pa.Table, prop: str, low: Decimal, high: Decimal, facts: _Facts) -> None:
    """Count the numbers outside, and keep the one that is farthest."""
    column = rows[prop].to_pylist() if prop in rows.column_names else []
    column = [*map(value_of, column)] if prop in mixed_in(rows.schema) else column
    values = [Decimal(v) for v in column if isinstance(v, int | Decimal) and not isinstance(v, bool)]
    outside, number, worst = facts.outside.get(prop, (0, 0, None))
    wrong = [v for v in values if not low <= v <= high]
    far = max((v for v in (*wrong, worst) if v is not None), key=lambda v: (max(low - v, v - high), v), default=None)
    facts.outside[prop] = (outside + len(wrong), number + len(values), far)
