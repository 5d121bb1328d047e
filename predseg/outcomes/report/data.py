"""The sections about the data: how much comes in, what is set aside, how customers are spread, and what the watches say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from predseg.history.volumes import Counts
from predseg.language.expectations import FAIL
from predseg.language.floor import Floor
from predseg.language.measures import SCALE
from predseg.language.time import DAY, YEAR, say_instant
from predseg.outcomes.log import Log
from predseg.outcomes.monitoring import FAILING, UNKNOWN, Watch
from predseg.outcomes.projects import DAYS
from predseg.outcomes.report import charts
from predseg.outcomes.report.page import Picture, Section
from predseg.segments.facts import rfv_scores

if TYPE_CHECKING:
    from predseg.history.expectations import Check
    from predseg.history.report import IngestReport

EVENTS = 7


def rfv_section(goal: str, log: Log, as_of: int, floor: Floor) -> Section:
    """Return the grid of recency and frequency of who did the goal in the last year."""
    about = f"Everybody who did {goal} in the last 365 days, scored 1 to 5 by how recently, how often and for how much; equal customers get equal scores, 5 is best."
    kept = (log.time > as_of - YEAR) & (log.time <= as_of)
    customer, time, value = log.customer[kept], log.time[kept], log.value[kept]
    who, last, number = np.unique(customer[::-1], return_index=True, return_counts=True)
    if not floor.shown(len(who)):
        return Section("rfv", "Recency, frequency, value", f"Fewer than {floor.k} customers did {goal} in the last 365 days.")
    recency = rfv_scores(time[::-1][last])
    frequency, spent = rfv_scores(number), np.bincount(customer, weights=value / SCALE)[who]
    cells, table = [], []
    for f in range(5, 0, -1):
        row = []
        for r in range(1, 6):
            mine = (recency == r) & (frequency == f)
            n = int(mine.sum())
            row.append(floor.count(n))
            if floor.shown(n):
                cells.append({"recency": r, "frequency": f, "customers": n, "spent": float(spent[mine].mean())})
        table.append((str(f), *row))
    best = (recency >= 4) & (frequency >= 4)
    share = spent[best].sum() / spent.sum() if spent.sum() > 0 else 0.0
    reads = f"{floor.count(int(best.sum()))} of {len(who):,} are in the four best cells (recency and frequency of 4 and 5)"
    reads += f" and brought {share:.0%} of the money." if floor.shown(int(best.sum())) else "."
    chart = charts.grid(cells, "recency", "frequency", "customers", "recency, 5 is most recent", "frequency, 5 is most often")
    columns = ("frequency", *(f"recency {r}" for r in range(1, 6)))
    return Section("rfv", "Recency, frequency, value", about, [Picture("rfv", "Customers by recency and frequency", reads, columns, table, chart)])


def data_section(report: IngestReport | None, daily: Counts, as_of: int, checks: Sequence[Check] = ()) -> Section:
    """Return what came in, what was set aside, and whether it is as expected."""
    pictures = [p for p in (_daily(daily, as_of), _received(report), _expected(checks)) if p is not None]
    return Section("data", "Data", "What was read, day by day, and what became of every received row.", pictures)


def _daily(daily: Counts, as_of: int) -> Picture | None:
    counts = {name: days[:DAYS] for name, days in daily.items() if len(days)}
    if not counts:
        return None
    order = sorted(counts, key=lambda name: (-int(counts[name].sum()), name))
    named = {name: counts[name] for name in order[:EVENTS]}
    if order[EVENTS:]:
        named["all others"] = np.sum([counts[name] for name in order[EVENTS:]], axis=0)
    rows = [
        {"event": name, "day": say_instant(as_of - day * DAY), "events": int(n)}
        for name, days in named.items()
        for day, n in reversed(list(enumerate(days)))
    ]
    total = np.sum(list(counts.values()), axis=0)
    reads = f"{int(total[0]):,} events came in the last 24 hours; on a median day of the last {len(total)} it was {int(np.median(total)):,}."
    table = [(name, f"{int(days[0]):,}", f"{int(np.median(days)):,}", f"{int(days.sum()):,}") for name, days in named.items()]
    columns = ("event", "last 24 hours", "median day", f"{len(total)} days")
    return Picture("daily", "Events a day", reads, columns, table, charts.areas(rows, "day", "events", "event", "events"), wide=True)


def _received(report: IngestReport | None) -> Picture | None:
    if report is None or not report.sources:
        return None
    rows = [
        (s.name, f"{s.received:,}", f"{s.accepted:,}", f"{s.duplicates:,}", f"{s.quarantined:,}", _reasons(dict(s.reasons))) for s in report.sources
    ]
    share = report.quarantined / report.received if report.received else 0.0
    reads = f"Of {report.received:,} received rows {report.accepted:,} were accepted, and {report.quarantined:,} ({share:.2%}) set aside with their reasons."
    return Picture("received", "Received rows", reads, ("source", "received", "accepted", "duplicates", "quarantined", "most frequent reasons"), rows)


def _expected(checks: Sequence[Check]) -> Picture | None:
    """Return the checks without what they found, which may be a value of one customer."""
    if not checks:
        return None
    failing = [c.name for c in checks if c.status == FAIL]
    reads = f"{len(failing)} of {len(checks)} checks fail: {', '.join(failing[:5])}{' and others' if failing[5:] else ''}." if failing else ""
    rows = [(c.kind, c.about, f"{c.status}, allowed" if c.allowed else c.status, c.limit) for c in checks]
    return Picture("expected", "As expected", reads or "No check fails.", ("check", "of", "state", "limit"), rows)


def _reasons(reasons: dict[str, int]) -> str:
    return "; ".join(f"{reason} ({n:,})" for reason, n in list(reasons.items())[:3]) or "-"


def monitor_section(watches: Sequence[Watch], at: int | None, floor: Floor) -> Section:
    """Return what the watches said last."""
    if at is None:
        return Section("monitor", "Monitor", "The watches have not been looked at yet: `predseg monitor`.")
    failing = [w for w in watches if w.status == FAILING]
    judged = [w for w in watches if w.status != UNKNOWN]
    reads = f"All {len(judged)} watches are in order."
    if failing:
        what = ", ".join(f"{w.watch} of {w.about}" if w.about else w.watch for w in failing[:5])
        reads = f"{len(failing)} of {len(judged)} watches are failing: {what}{' and others' if len(failing) > 5 else ''}."
    order = {FAILING: 0, UNKNOWN: 2}
    shown_first = sorted(watches, key=lambda w: order.get(w.status, 1))
    rows = [(w.watch, w.about, w.status, floor.told(w.value), w.limit, say_instant(w.since)[:10]) for w in shown_first]
    picture = Picture("watches", "All watches", reads, ("watch", "of", "state", "found", "limit", "since"), rows)
    return Section("monitor", "Monitor", f"As looked at {say_instant(at)[:16].replace('T', ' ')} UTC.", [picture])
