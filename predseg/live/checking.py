"""Does live say what batch says? The memberships of the live state beside those of the batch executor at the same moment."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from predseg.config import Config
from predseg.errors import DataError
from predseg.live.state import DATABASE, State, connect

if TYPE_CHECKING:
    from predseg.segments.workspace import Workspace

SHOWN = 5


@dataclass(frozen=True)
class Compared:
    """One segment: how many members batch finds, and who is a member on one side only (a few of them)."""

    segment: str
    members: int
    only_live: int
    only_batch: int
    examples: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether both sides have the same members."""
        return not self.only_live and not self.only_batch


@dataclass(frozen=True)
class Comparison:
    """All live segments at the clock of the live state (microseconds)."""

    as_of: int
    segments: tuple[Compared, ...]

    @property
    def equal(self) -> bool:
        """Whether both sides have the same members everywhere."""
        return all(one.equal for one in self.segments)


def compare(config: Config, workspace: Workspace) -> Comparison:
    """Compare the live state with batch at the clock of the live state.

    Raises:
        DataError: E423 when there is no live state yet.
    """
    path = config.store / DATABASE
    clock, members = _live(path, workspace) if path.is_file() else (None, {})
    if clock is None:
        raise DataError("E423", str(path), "there is no live state yet", "start `predseg serve`, or `predseg live FILE --durable`")
    found = workspace.members(clock)
    return Comparison(clock, tuple(_compared(name, members[name], found.get(name, set())) for name in members))


def _live(path: Path, workspace: Workspace) -> tuple[int | None, Mapping[str, set[str]]]:
    with closing(connect(path)) as connection:
        state = State(connection)
        clock = state.get("clock")
        return (None if clock is None else int(clock)), {s.name: set(state.members(s.name)) for s in workspace.segments.values() if s.live}


def _compared(name: str, live: set[str], batch: set[str]) -> Compared:
    return Compared(name, len(batch), len(live - batch), len(batch - live), tuple(sorted(live ^ batch)[:SHOWN]))
