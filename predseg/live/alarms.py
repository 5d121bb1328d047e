"""Alarms with hysteresis: raised when a reading passes its limit, taken back when it has been calm for a while.

A reading that trembles around its limit rings once: an alarm ends when its reading was below half the limit for `CALM`.
An event that is normally there has a rhythm of its own: it is missed when it stays away three times as long as it ever
did in the last week, nights and all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from predseg.language.serving import Alerts
from predseg.language.time import DAY, MINUTE, say_duration, say_instant

CALM = MINUTE
WEEK, OFTEN, LONGER = 7, 100, 3
"""Days of a rhythm, events that make one, and how many times its longest gap is silence."""
NAMES = 500
"""Event names that are watched at most."""


@dataclass(frozen=True)
class Alarm:
    """One alarm: since when it rings (None: it does not), since when its reading is calm, what it says."""

    name: str
    since: int | None = None
    calm: int | None = None
    said: str = ""


@dataclass(frozen=True)
class Reading:
    """How full the measure is: 1 is the limit."""

    name: str
    level: float
    said: str


@dataclass
class Rhythm:
    """How often an event comes: when first and last, how many, and the longest gap of each of the last days."""

    first: int
    last: int
    count: int = 0
    gaps: dict[int, int] = field(default_factory=dict)

    def beat(self, at: int, count: int = 1) -> None:
        """Note that it came."""
        day = at // DAY
        self.gaps[day] = max(self.gaps.get(day, 0), at - self.last)
        self.gaps = {d: gap for d, gap in self.gaps.items() if d > day - WEEK} if len(self.gaps) > WEEK else self.gaps
        self.last, self.count = max(self.last, at), self.count + count

    @property
    def patience(self) -> int | None:
        """How long it may stay away; None while its rhythm is not known."""
        known = self.count >= OFTEN and self.last - self.first >= DAY
        return LONGER * max(self.gaps.values()) if known else None


def watch(rhythms: dict[str, Rhythm], counts: Mapping[str, int], at: int) -> None:
    """Note the events that came at an instant."""
    for name, count in counts.items():
        if name not in rhythms and len(rhythms) >= NAMES:
            continue
        rhythms.setdefault(name, Rhythm(at, at)).beat(at, count)


def readings(
    alerts: Alerts, now: int, *, lag: int, rejected: float, queue: float, down: str | None, rhythms: Mapping[str, Rhythm], since: int
) -> list[Reading]:
    """Return every reading.

    Args:
        alerts: The limits.
        now: The clock (microseconds).
        lag: How long the oldest event waits, or how far the clock of the segments is behind (microseconds).
        rejected: Share of the messages of the last minutes that went to quarantine.
        queue: Share of the queue that is full.
        down: Why the store cannot be used.
        rhythms: Of the events.
        since: When the server started.
    """
    found = [
        Reading("store", 1.0 if down else 0.0, f"the store cannot be used: {down}"),
        Reading("lag", lag / alerts.lag, f"events wait for {say_duration(lag)}"),
        Reading("rejected", rejected / alerts.rejected, f"{rejected:.1%} of the messages are rejected"),
        Reading("queue", queue / alerts.queue, f"the queue is {queue:.0%} full"),
    ]
    patience: dict[str, tuple[int, int]] = {name: (r.last, r.patience) for name, r in rhythms.items() if r.patience is not None}
    patience |= {name: (rhythms[name].last if name in rhythms else since, most) for name, most in alerts.silence}
    for name, (last, most) in patience.items():
        found.append(Reading(f"silence of {name}", (now - last) / most, f"no {name} since {say_instant(last)}"))
    return found


def judge(alarms: Mapping[str, Alarm], found: Iterable[Reading], now: int) -> tuple[dict[str, Alarm], list[Alarm]]:
    """Return the alarms after some readings, and those that begin or end to ring."""
    after, rung = {}, []
    for reading in found:
        before = alarms.get(reading.name, Alarm(reading.name))
        alarm = _judged(before, reading, now)
        after[reading.name] = alarm
        if (alarm.since is None) != (before.since is None):
            rung.append(alarm)
    return after, rung


def _judged(alarm: Alarm, reading: Reading, now: int) -> Alarm:
    if reading.level >= 1:
        return replace(alarm, since=now if alarm.since is None else alarm.since, calm=None, said=reading.said)
    if alarm.since is None:
        return alarm
    if reading.level >= 0.5:
        return replace(alarm, calm=None)
    if alarm.calm is None:
        return replace(alarm, calm=now)
    return Alarm(alarm.name, said=f"{alarm.name} is in order again") if now - alarm.calm >= CALM else alarm
