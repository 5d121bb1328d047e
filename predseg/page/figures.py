"""What the page says of segments: sizes, who entered and left, how fresh that is. Small groups are hidden."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from predseg.language.time import HOUR, say_instant
from predseg.live.desk import Desk
from predseg.live.served import HOURS
from predseg.page.pictures import Bar, Moved, bars
from predseg.segments.definitions import Segment
from predseg.segments.memberships import LOG
from predseg.segments.workspace import RUNS
from predseg.store import Store

SHOWN = 24
"""Runs of a daily segment that are shown."""

Runs = Mapping[str, Sequence["Run"]]


@dataclass(frozen=True)
class Run:
    """One recorded run of a daily segment."""

    as_of: int
    members: int
    entered: int
    left: int


@dataclass(frozen=True)
class Row:
    """One segment as the list shows it; figures are texts."""

    name: str
    sentence: str
    about: str
    live: bool
    size: str
    entered: str
    left: str
    over: str
    as_of: str
    stale: bool
    error: str


@dataclass(frozen=True)
class Movement:
    """Who entered and left, in steps of time: the bars, and the rows of the table behind them."""

    says: str
    bars: list[Bar]
    rows: list[tuple[str, str, str, str]]
    sized: bool


def short(instant: int | None) -> str:
    """Return an instant to the minute, for people.

    >>> short(0), short(None)
    ('1970-01-01 00:00', 'never')
    """
    return "never" if instant is None else to_minute(say_instant(instant))


def to_minute(instant: str) -> str:
    """Return an instant of ISO 8601 to the minute, for people."""
    return instant[:16].replace("T", " ")


def runs_of(store: Store, segments: Iterable[Segment]) -> Runs:
    """Return the last recorded runs of daily segments as they are defined now, the earliest first."""
    if not store.exists(RUNS):
        return {}
    log = store.read(RUNS).to_pandas()[list(LOG)].sort_values("as_of")
    log["as_of"] = log["as_of"].astype("datetime64[us, UTC]").astype("int64")
    found = {}
    for segment in segments:
        mine = log[(log["segment"] == segment.name) & (log["definition"] == segment.definition)].tail(SHOWN)
        found[segment.name] = [Run(*map(int, row)) for row in mine[["as_of", "members", "entered", "left"]].itertuples(index=False)]
    return found


def listed(desk: Desk, name: str, runs: Runs) -> Row:
    """Return one segment."""
    now, segment, floor = desk.clock(), desk.served.segments[name], desk.served.floor
    found = desk.served.segment(name, now)
    moved = _moved(found["hours"], segment, runs)
    over = f"since {short(desk.started)}" if desk.started > now - HOURS * HOUR else "in 24 hours"
    if not segment.live:
        over = "at its last run"
        moved = moved[-1:]
    as_of, stale = desk.served.age(name, now)
    return Row(
        name,
        without_name(name, segment.sentence()),
        segment.about,
        segment.live,
        "withheld" if found["size"] is None else floor.count(found["size"]),
        floor.count(sum(m.entered for m in moved)),
        floor.count(sum(m.left for m in moved)),
        over,
        short(as_of),
        stale,
        desk.served.errors.get(name, {}).get("error", ""),
    )


def without_name(name: str, sentence: str) -> str:
    """Return the sentence of a segment without its name before it.

    >>> without_name("buyers", "buyers: customers who did Order Completed.")
    'Customers who did Order Completed.'
    """
    said = sentence.removeprefix(f"{name}: ")
    return said[:1].upper() + said[1:]


def movement(desk: Desk, name: str, runs: Runs) -> Movement:
    """Return who entered and left: by the hour of a live segment, by the run of a daily one."""
    now, segment, floor = desk.clock(), desk.served.segments[name], desk.served.floor
    moved = _moved(desk.served.segment(name, now)["hours"], segment, runs)
    entered, left = floor.count(sum(m.entered for m in moved)), floor.count(sum(m.left for m in moved))
    if segment.live:
        began = desk.started > now - HOURS * HOUR
        span = f"since the server started at {short(desk.started)} UTC" if began else "in the last 24 hours"
        rows = [(m.when, floor.count(m.entered), floor.count(m.left), "") for m in reversed(moved) if m.entered or m.left]
    else:
        mine = list(runs.get(name, ()))
        span = f"in the last {len(mine)} runs" if len(mine) != 1 else "at the only run"
        rows = [(short(r.as_of), floor.count(r.entered), floor.count(r.left), floor.count(r.members)) for r in reversed(mine)]
    says = f"{entered} entered and {left} left {span}." if entered != "0" or left != "0" else f"Nobody entered or left {span}."
    return Movement(says, bars(moved, floor), rows, not segment.live)


def _moved(hours: Sequence[Mapping[str, object]], segment: Segment, runs: Runs) -> list[Moved]:
    if segment.live:
        return [Moved(to_minute(str(h["hour"])), int(str(h["entered"])), int(str(h["left"]))) for h in hours]
    return [Moved(short(r.as_of), r.entered, r.left) for r in runs.get(segment.name, ())]
