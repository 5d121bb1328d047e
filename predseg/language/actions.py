"""What is sent when somebody enters or leaves a segment: to which channel, how often at most, not at night, after how long."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from predseg.errors import ConfigError, nearest
from predseg.language.documents import read_duration
from predseg.language.time import DAY, SECOND, parse_duration, say_duration, to_datetime
from predseg.language.yaml import Node

KEYS = ("send", "limit", "quiet", "timezone", "after")
_HOURS = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-(?:([01][0-9]|2[0-3]):([0-5][0-9])|24:00)", re.ASCII)
_LIMIT = re.compile(r"once per (.+)", re.DOTALL)


@dataclass(frozen=True)
class Quiet:
    """Hours of the local day in which nothing is sent: [start, end), minutes after midnight, over midnight when end ≤ start."""

    start: int
    end: int
    timezone: str

    def covers(self, t: int) -> bool:
        """Whether the clock on the wall stands in the quiet hours at t.

        >>> Quiet(22 * 60, 8 * 60, "UTC").covers(0), Quiet(22 * 60, 8 * 60, "UTC").covers(8 * 3600 * SECOND)
        (True, False)
        """
        local = to_datetime(t).astimezone(ZoneInfo(self.timezone))
        minute = local.hour * 60 + local.minute
        return self.start <= minute < self.end if self.start < self.end else minute >= self.start or minute < self.end

    def release(self, t: int) -> int:
        """Return the first instant from t on that is not quiet, in whole seconds when it is not t itself.

        Where clocks are put forward over the end of the quiet hours, that is the moment of the change; where they are put
        back, the hours that come twice are quiet twice.
        """
        if not self.covers(t):
            return t
        quiet, loud = t // SECOND, self._ends(t)
        while loud - quiet > 1:  # between the two the wall clock leaves the quiet hours once
            middle = (quiet + loud) // 2
            quiet, loud = (middle, loud) if self.covers(middle * SECOND) else (quiet, middle)
        return loud * SECOND

    def _ends(self, t: int) -> int:
        """Return seconds of an instant after t that is not quiet: when the wall shows the end, before or after a change of clocks."""
        zone = ZoneInfo(self.timezone)
        local = to_datetime(t).astimezone(zone)
        for days in range(3):  # the day on which the end is next shown may have been skipped by the zone
            end = datetime(local.year, local.month, local.day) + timedelta(days=days, minutes=self.end)
            found = sorted(int(end.replace(tzinfo=zone, fold=fold).timestamp()) for fold in (0, 1))
            for second in found:
                if second * SECOND > t and not self.covers(second * SECOND):
                    return second
        raise AssertionError(f"no end of {self} after {t}")


@dataclass(frozen=True)
class Action:
    """One message: its channel, the shortest time between two of them to one customer, quiet hours, and how long to wait (microseconds)."""

    send: str
    limit: int | None = None
    quiet: Quiet | None = None
    after: int = 0

    def due(self, at: int) -> int:
        """Return when a message about a change at ``at`` may go out at the earliest."""
        return self.awake(at + self.after)

    def awake(self, t: int) -> int:
        """Return t, or the end of the quiet hours in which it lies."""
        return self.quiet.release(t) if self.quiet else t

    def sentence(self) -> str:
        """The action in words.

        >>> Action("mail", limit=7 * DAY, after=2 * 3600 * SECOND).sentence()
        'mail, 2 hours later, once per 7 days'
        """
        later = f", {say_duration(self.after)} later" if self.after else ""
        limit = f", once per {say_duration(self.limit)}" if self.limit else ""
        quiet = f", not {_clock(self.quiet.start)}-{_clock(self.quiet.end)} {self.quiet.timezone}" if self.quiet else ""
        return f"{self.send}{later}{limit}{quiet}"


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def parse_actions(node: Node, key: str, timezone: str = "UTC") -> tuple[Action, ...]:
    """Return the actions of ``on_enter`` or ``on_leave``: one mapping, or a list of them.

    Args:
        node: What stands there.
        key: Which of the two it is.
        timezone: Of quiet hours that name none themselves.
    """
    if node.is_list and not node.value:
        raise ConfigError("E334", node.place, f"`{key}` sends nothing", f"write `{key}: {{send: CHANNEL}}`, or leave it away")
    return tuple(_action(item, key, timezone) for item in (node.value if node.is_list else [node]))


def _action(node: Node, key: str, timezone: str) -> Action:
    keys = node.mapping(f"`{key}`", KEYS)
    if "send" not in keys:
        raise ConfigError("E334", node.place, f"`{key}` sends nothing", f"write `{key}: {{send: CHANNEL}}`")
    if "timezone" in keys and "quiet" not in keys:
        raise ConfigError("E348", keys["timezone"].place, "`timezone` is that of the quiet hours, and there are none", "add `quiet: 22:00-08:00`")
    found = Action(keys["send"].text("`send`"))
    if "limit" in keys:
        found = replace(found, limit=_limit(keys["limit"]))
    if "quiet" in keys:
        found = replace(found, quiet=_quiet(keys["quiet"], read_timezone(keys["timezone"]) if "timezone" in keys else timezone))
    return replace(found, after=read_duration(keys["after"], "after")) if "after" in keys else found


def _limit(node: Node) -> int:
    text = node.text("`limit`") if isinstance(node.value, str) else ""
    found = _LIMIT.fullmatch(text)
    try:
        return parse_duration(found[1] if found and found[1].strip()[:1].isdigit() else f"1 {found[1].strip()}" if found else "")
    except ValueError:
        raise ConfigError("E347", node.place, f"`limit` says how often at most, found {node.show()}", "write `limit: once per 7 days`") from None


def _quiet(node: Node, timezone: str) -> Quiet:
    text = node.text("`quiet`") if isinstance(node.value, str) else ""
    found = _HOURS.fullmatch(text)
    start = int(found[1]) * 60 + int(found[2]) if found else 0
    end = (int(found[3]) * 60 + int(found[4]) if found[3] else DAY // (60 * SECOND)) if found else 0
    if found is None:
        raise ConfigError("E348", node.place, f"`quiet` is a stretch of the day, found {node.show()}", "write `quiet: 22:00-08:00`")
    if (end - start) % 1440 == 0:
        raise ConfigError("E348", node.place, f"{text} is the whole day, so nothing would ever be sent", "write for example `quiet: 22:00-08:00`")
    return Quiet(start, end % 1440, timezone)


def read_timezone(node: Node) -> str:
    """Return the name of a time zone, or refuse."""
    zone = node.text("`timezone`")
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        from zoneinfo import available_timezones

        hint = nearest(zone, tuple(available_timezones()))
        hint = hint if hint.startswith("did") else "write a name of the IANA list, such as Europe/London"
        raise ConfigError("E309", node.place, f"unknown time zone {zone!r}", hint) from None
    return zone
