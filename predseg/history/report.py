"""What an ingest found: the report, how it is kept in the store, and when it is refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from predseg.errors import DataError, nearest
from predseg.layers import CORE, by_customer, parts
from predseg.store import Store

FILE = "ingest.json"
SAMPLES = 5
_TIMES = ("event_time", "received_at", "known_since")
_ODD = 0.01
"""Rows with the id of another event are worth a warning from this share on: some are what is sent again with another time of receipt."""


@dataclass(frozen=True)
class Sample:
    """One quarantined row: what is wrong with which field, and the row as it came."""

    field: str
    reason: str
    raw: str


@dataclass(frozen=True)
class SourceReport:
    """What became of the rows of one source.

    Attributes:
        name: Name of the source.
        received: Rows read.
        accepted: Rows in the events table.
        duplicates: Rows that repeat another one of this load; of one event_id also those with other content.
        quarantined: Rows that break the contract.
        suppressed: Rows left away because their person was forgotten, or because they broke the contract and were dropped by hand.
        new: Accepted rows that were not in the table before.
        conflicts: Duplicates that had other content than the row that stayed.
        rounded: Numbers that lost digits beyond the fourth.
        reasons: ``FIELD REASON`` → rows, most frequent first.
        samples: Up to five quarantined rows of every reason.
        last: Latest event_time among the rows that keep the contract (µs).
        gone: Events that came from it and that it holds no more; they stay in the table.
    """

    name: str
    received: int
    accepted: int
    duplicates: int
    quarantined: int
    new: int = 0
    conflicts: int = 0
    rounded: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    samples: tuple[Sample, ...] = ()
    suppressed: int = 0
    last: int | None = None
    gone: int = 0


@dataclass(frozen=True)
class IngestReport:
    """What an ingest did and what the events table holds since.

    Attributes:
        sources: One report a source.
        rows: Events in the table.
        customers: Customers in it.
        events: Event name → number of events, most frequent first.
        first: Earliest event_time (µs); None when the table is empty.
        last: Latest event_time (µs).
        visible: Latest instant at which an event became visible (µs): the default ``as_of``.
        refused_links: Links that would have merged two customers.
        rebuilt: The table was built anew from the sources.
        traits: What became of the rows of `customers:`; None when the project declares none.
        fewer: So many fewer events than before are in a table that was built anew.
        erased: Events that were forgotten since all sources were read.
        up_to_date: Nothing had changed and nothing was read; the rest is what the last reading found.
    """

    sources: tuple[SourceReport, ...] = ()
    rows: int = 0
    customers: int = 0
    events: dict[str, int] = field(default_factory=dict)
    first: int | None = None
    last: int | None = None
    visible: int | None = None
    refused_links: int = 0
    rebuilt: bool = False
    traits: SourceReport | None = None
    fewer: int = 0
    erased: int = 0
    up_to_date: bool = False

    def warnings(self, named: Mapping[str, str]) -> list[str]:
        """Return what is worth a second look; ``named``: events that the project file mentions → where."""
        told = "the events table was built anew from the sources, as they are declared now, and its events are"
        lost = [f"{told} {self.fewer:,} fewer than before"] if self.fewer else []
        for source in self.sources:
            if source.conflicts > _ODD * source.received:
                also = f"{source.conflicts:,} rows of source {source.name} have the event_id of another event, and only the one received first stays"
                lost.append(f"{also}: an event_id names one event; without one, equal rows are told apart by what is in them")
        absent = {name: place for name, place in named.items() if self.events and name not in self.events}
        return lost + [f"{place} names the event {name!r}, which never occurs: {nearest(name, tuple(self.events))}" for name, place in absent.items()]

    @property
    def received(self) -> int:
        """Rows read from all sources."""
        return sum(s.received for s in self.sources)

    @property
    def accepted(self) -> int:
        """Rows of all sources that are in the table."""
        return sum(s.accepted for s in self.sources)

    @property
    def kept(self) -> int:
        """Events in the table that no source held when all were read; fewer by those of ``erased`` that a source held."""
        return self.rows - self.accepted

    @property
    def duplicates(self) -> int:
        """Rows of all sources that repeat another."""
        return sum(s.duplicates for s in self.sources)

    @property
    def quarantined(self) -> int:
        """Rows of all sources that break the contract."""
        return sum(s.quarantined for s in self.sources)

    @property
    def suppressed(self) -> int:
        """Rows of all sources left away because their person was forgotten, or dropped by hand."""
        return sum(s.suppressed for s in self.sources)


def described(store: Store, report: IngestReport) -> IngestReport:
    """Return the report with what the events table holds now."""
    import numpy as np
    import pyarrow as pa

    rows = customers = 0
    events: dict[str, int] = {}
    times: list[tuple[int, int, int]] = []
    files = store.files("events")
    for table in (table for part in parts(files) for table in by_customer(part, CORE)):
        rows, customers = rows + len(table), customers + len(table["customer_id"].unique())
        for pair in table["event"].cast(pa.string()).value_counts().to_pylist():
            events[pair["values"]] = events.get(pair["values"], 0) + pair["counts"]
        when, heard = (table[name].cast(pa.int64()).to_numpy() for name in ("event_time", "received_at"))
        if len(table):
            times.append((int(when.min()), int(when.max()), int(np.maximum(when, heard).max())))
    first, last, visible = (min(t[0] for t in times), max(t[1] for t in times), max(t[2] for t in times)) if times else (None, None, None)
    events = dict(sorted(events.items(), key=lambda pair: (-pair[1], pair[0])))
    return replace(report, rows=rows, customers=customers, events=events, first=first, last=last, visible=visible)


def joined(before: SourceReport, more: SourceReport) -> SourceReport:
    """Return what became of the rows of a source of which more was read: what the table had before are duplicates."""
    reasons = sorted((Counter(before.reasons) + Counter(more.reasons)).items(), key=lambda pair: (-pair[1], pair[0]))
    samples: dict[str, list[Sample]] = {}
    for sample in sorted((*before.samples, *more.samples), key=lambda s: s.raw):
        samples.setdefault(f"{sample.field} {sample.reason}", []).append(sample)
    return SourceReport(
        before.name,
        received=before.received + more.received,
        accepted=before.accepted + more.new,
        duplicates=before.duplicates + more.accepted + more.duplicates - more.new,
        quarantined=before.quarantined + more.quarantined,
        new=more.new,
        conflicts=before.conflicts + more.conflicts,
        rounded=before.rounded + more.rounded,
        reasons=dict(reasons),
        samples=tuple(sample for reason, _ in reasons for sample in samples.get(reason, [])[:SAMPLES]),
        suppressed=before.suppressed + more.suppressed,
        last=max((t for t in (before.last, more.last) if t is not None), default=None),
        gone=before.gone,
    )


def with_gone(part: SourceReport, before: SourceReport) -> SourceReport:
    """Return what became of the rows of a source of which all was read again, with what it held before and holds no more."""
    forgotten = max(0, part.suppressed - before.suppressed)
    return replace(part, gone=max(0, before.gone + before.accepted + part.new - part.accepted - forgotten))


def judge(report: IngestReport, tolerance: float) -> None:
    """Refuse data of which more than a share of ``tolerance`` breaks the contract, or all of a source.

    Raises:
        DataError: E409 with counts by reason and a sample.
    """
    every = [*report.sources, *([report.traits] if report.traits else [])]
    for source in every:
        if source.quarantined and source.quarantined == source.received:
            raise _broken(source, f"all {source.received:,} rows break the contract")
    received, bad = sum(s.received for s in every), sum(s.quarantined for s in every)
    if received and bad > tolerance * received:
        worst = max(every, key=lambda source: source.quarantined)
        share = f"{bad:,} of {received:,} rows ({bad / received:.2%}) break the contract"
        raise _broken(worst, f"{share}, more than the tolerance of {tolerance * 100:g}%")


def _broken(source: SourceReport, message: str) -> DataError:
    reasons = "; ".join(f"{reason}: {number:,}" for reason, number in list(source.reasons.items())[:5])
    rest = (
        f"`predseg quarantine list --source {source.name}` shows them; correct the source or its `columns:`, or raise `contract: {{tolerance: ...}}`"
    )
    return DataError("E409", f"source {source.name}", f"{message} ({reasons})", "; ".join([*_readable(source.reasons), rest]))


def _readable(reasons: Iterable[str]) -> Iterator[str]:
    """Say how times and numbers have to be written, where that is what is wrong."""
    unread = [field for reason in reasons for field, cannot, _ in [reason.partition(" cannot be read")] if cannot]
    if times := [field for field in unread if field in _TIMES]:
        query = f"select * replace (strptime({times[0]}, '%d.%m.%Y %H:%M') as {times[0]}) from source"
        yield f'times are read as 2026-05-31 10:00, others with a `query:` such as "{query}"'
    if numbers := [field for field in unread if field not in _TIMES]:
        query = f"select * replace (replace({numbers[0]}, ',', '.') as {numbers[0]}) from source"
        yield f'numbers are read as 1250.50, others with a `query:` such as "{query}"'


@dataclass(frozen=True)
class State:
    """What the sources looked like.

    Attributes:
        definition: A hash of what is declared.
        files: The marks of each source's files, see `predseg.history.sources.fingerprint`.
        due: When a quarantined event ahead of the clock becomes good.
        columns: The columns and types of each source as its files have them.
    """

    definition: str
    files: dict[str, list[list[Any]] | None]
    due: int | None = None
    columns: dict[str, dict[str, str]] = field(default_factory=dict)

    def same(self, other: State, now: int) -> bool:
        """Say whether nothing needs to be read at ``now``; a server may always have changed."""
        unchanged = self.files == other.files and None not in other.files.values()
        return unchanged and (self.due is None or now < self.due)

    def added(self, other: State, now: int) -> dict[str, set[str]] | None:
        """Return the files that ``other`` has besides, by source; None when more than that has changed at ``now``."""
        if self.definition != other.definition or self.files.keys() != other.files.keys() or (self.due is not None and now >= self.due):
            return None
        found: dict[str, set[str]] = {}
        for name, marks in other.files.items():
            before = self.files[name]
            if before is None or marks is None or any(mark not in marks for mark in before):
                return None
            if new := {mark[0] for mark in marks if mark not in before}:
                found[name] = new
        return found


@dataclass(frozen=True)
class Memory:
    """What the store remembers of the last ingest."""

    state: State
    report: IngestReport


def source_report(saved: dict[str, Any]) -> SourceReport:
    """Return a report that was kept as JSON."""
    return SourceReport(**{**saved, "samples": tuple(Sample(**sample) for sample in saved["samples"])})


def remembered(store: Store) -> Memory | None:
    """Return what the store remembers, or None when there is nothing, or nothing that this version understands."""
    text = store.read_text(FILE)
    if text is None:
        return None
    try:
        saved = json.loads(text)
        parts = tuple(source_report(part) for part in saved["report"].pop("sources"))
        traits = saved["report"].pop("traits")
        return Memory(State(**saved["state"]), IngestReport(parts, traits=source_report(traits) if traits else None, **saved["report"]))
    except (ValueError, KeyError, TypeError):
        return None


def remember(store: Store, memory: Memory) -> None:
    """Keep the report and the state of the sources in the store."""
    kept = replace(memory, report=replace(memory.report, up_to_date=False))
    store.write_text(FILE, json.dumps(asdict(kept), ensure_ascii=False, indent=1))
