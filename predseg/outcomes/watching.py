"""All watches over one project: what each reads."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from predseg import __version__
from predseg.errors import ChannelError, ModelError
from predseg.forecast.publishing import SCORES
from predseg.language.time import YEAR
from predseg.marks import Kept, hashed, marks
from predseg.outcomes.deliveries import DELIVERED
from predseg.outcomes.monitoring import (
    BY_MODEL,
    FAILING,
    Reading,
    Turn,
    Watch,
    behind,
    click_rates,
    drifts,
    freshness,
    judge,
    keep_watches,
    overdue,
    read_watches,
    rejected,
    segment_churn,
    segment_sizes,
    staleness,
    states_of,
    volumes,
)
from predseg.outcomes.projects import Outlook, engaged

if TYPE_CHECKING:
    from predseg.forecast.watching import Drift
    from predseg.history.report import IngestReport

LIVE = "live.db"
NAME = "watches"
"""What readings of tables are kept under."""


@dataclass(frozen=True)
class Monitored:
    """What all watches say.

    Attributes:
        as_of: The moment that was asked about.
        watches: All of them.
        turns: Those that began or ceased to fail since the last look.
        drift: The champions in detail.
        untold: Why somebody who should have been told was not; None when all was told. It is told again at the next look.
        missing: Models that have no champion to look at, each with the refusal that asking for it gives.
    """

    as_of: int
    watches: tuple[Watch, ...]
    turns: tuple[Turn, ...]
    drift: Mapping[str, Drift]
    untold: ChannelError | None = None
    missing: Mapping[str, ModelError] = field(default_factory=dict)

    @property
    def failing(self) -> list[Watch]:
        """The watches that fail a run: those of models only give advice."""
        return [w for w in self.watches if w.status == FAILING and w.watch not in BY_MODEL]


Tell = Callable[[Turn], None]
"""Tells a turn to whom it concerns, or raises a ChannelError."""


def look(seen: Outlook, report: IngestReport, drift: Mapping[str, Drift], now: int, *, keep: bool = True, tell: Tell | None = None) -> Monitored:
    """Judge all watches by what was said last; see `readings`.

    Args:
        seen: The project, from the moment that is asked about.
        report: The last check of its data.
        drift: Its champions, compared with the present.
        now: The clock.
        keep: Tell and keep what is said, unless a later look was kept already.
        tell: Told of every turn.
    """
    as_of, store = seen.as_of, seen.workspace.store
    before, at = read_watches(store)
    earlier = at is not None and at > as_of
    watches, turns = judge({} if earlier else states_of(before), readings(seen, report, drift, now, keep=keep), as_of)
    if not keep or earlier:
        return Monitored(as_of, tuple(watches), () if earlier else tuple(turns), drift)
    untold: dict[str, ChannelError] = {}
    if tell is not None:
        for turn in turns:
            try:
                tell(turn)
            except ChannelError as error:
                untold[turn.key] = error
    keep_watches(store, watches, before, as_of, again=untold)
    return Monitored(as_of, tuple(watches), tuple(turns), drift, next(iter(untold.values()), None))


def readings(seen: Outlook, report: IngestReport, drift: Mapping[str, Drift], now: int, *, keep: bool = False) -> Iterator[Reading]:
    """Read all watches of a project.

    Args:
        seen: It, from the moment that is asked about: nothing later is looked at.
        report: The last check of its data.
        drift: Its champions, compared with the present.
        now: The clock, for how old the newest event is.
        keep: Keep what follows from the tables alone, to say it again while they are as they are.
    """
    workspace, as_of = seen.workspace, seen.as_of
    limits, store = workspace.config.monitor, workspace.store
    newest = min(report.visible if report.visible is not None else as_of, now)
    told = _told(seen, keep)
    yield from freshness(newest, now, limits.freshness)
    yield from told["volumes"]
    yield from rejected(report.received, report.quarantined, limits.rejected)
    yield from drifts(drift)
    if workspace.config.models:
        runs = [t for t in (store.partitions(SCORES) if store.exists(SCORES) else []) if t <= as_of]
        yield from staleness("scores", max(runs, default=None), min(newest, as_of), limits.scores)
    if workspace.segments:
        yield from staleness("segments", told["last run"], min(newest, as_of), limits.segments)
    yield from told["segments"]
    clock, due = live_state(store.path / LIVE)
    yield from behind(clock, newest, limits.lag)
    if due is not None:
        yield from overdue(due, now, limits.queue)


def _told(seen: Outlook, keep: bool) -> dict[str, Any]:
    """Return what the watches read in the tables of events and memberships: kept, where these are as they were."""
    workspace = seen.workspace
    tables = marks(workspace.store, ["events", "memberships", "segment_runs"])
    made_of = hashed(__version__, seen.as_of, workspace.config.text, workspace.texts(), tables)
    told = Kept(workspace.store).get(NAME, made_of)
    if told is None:
        told = _read(seen)
        if keep:
            Kept(workspace.store).put({NAME: (made_of, told)})
    return {name: [Reading(**one) for one in found] if isinstance(found, list) else found for name, found in told.items()}


def _read(seen: Outlook) -> dict[str, Any]:
    workspace, as_of, ledger = seen.workspace, seen.as_of, seen.ledger
    limits, done = workspace.config.monitor, ledger.log["as_of"][ledger.log["as_of"] <= as_of]
    found = [*segment_sizes(ledger, workspace.segments, as_of, limits.size), *segment_churn(ledger, workspace.segments, as_of, limits.churn)]
    if limits.ctr is not None and DELIVERED in (workspace.vocabulary.occurred or ()):
        found += click_rates(engaged(seen, last=YEAR, alarms=limits.ctr), limits.ctr)
    told = {"volumes": volumes(seen.daily, limits.volume), "segments": found}
    return {name: [asdict(one) for one in some] for name, some in told.items()} | {"last run": int(done.max()) if len(done) else None}


def live_state(file: Path) -> tuple[int | None, list[int] | None]:
    """Return the clock of the live engine, and when each waiting message is due; None for what is not there."""
    if not file.is_file():
        return None, None
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        tables = {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}
        clock, due = None, None
        if "meta" in tables:
            found = connection.execute("select value from meta where name = 'clock'").fetchone()
            clock = int(found[0]) if found else None
        if "actions" in tables:
            due = [int(t) for (t,) in connection.execute("select due_at from actions where status in ('pending', 'failed')")]
        return clock, due
