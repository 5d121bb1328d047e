"""The history of belonging: who was a member of what, from when until when, under which definition of the rule.

A row is [entered_at, left_at); an open row has no left_at. A changed definition closes the rows of the old one and opens
its own. Running again at the same moment changes nothing; running at an earlier one never rewrites what was recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from predseg.evaluate.block import Array
from predseg.language.time import say_instant
from predseg.segments.definitions import Segment

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("segment", "customer_id", "entered_at", "left_at", "definition", "as_of")
OPEN = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Spells:
    """Stretches of membership of one segment: entered_at[i] ≤ t < left_at[i], the largest integer while open."""

    customers: Array  # str (k)
    entered: Array  # int64 (k)
    left: Array  # int64 (k)

    def at(self, t: int) -> Array:
        """Return the customers who are members at t, sorted, each once."""
        return np.unique(self.customers[(self.entered <= t) & (t < self.left)].astype(object)) if len(self.customers) else self.customers


@dataclass(frozen=True)
class Change:
    """What a run did to one segment: how many are members, how many entered and left since the run before."""

    segment: str
    definition: str
    members: int
    entered: int
    left: int


def empty() -> pd.DataFrame:
    """Return a history without rows; instants are microseconds, an open left_at is the largest integer."""
    import pandas as pd

    kinds = {"segment": object, "customer_id": object, "entered_at": np.int64, "left_at": np.int64, "definition": object, "as_of": np.int64}
    return pd.DataFrame({name: np.zeros(0, kind) for name, kind in kinds.items()})


def last_run(history: pd.DataFrame) -> int | None:
    """Return the as_of of the last recorded run, None when there is none."""
    return int(history["as_of"].max()) if len(history) else None


def record(history: pd.DataFrame, segment: Segment, spells: Spells, as_of: int) -> tuple[pd.DataFrame, Change]:
    """Bring the history of one segment up to as_of.

    Args:
        history: All rows of this segment.
        segment: Its rule.
        spells: For a daily segment the members at as_of, entered_at = as_of; for a live one its spells since the last run,
            those already open with the entered_at that is recorded.
        as_of: The moment of the run, not before the last recorded one.

    Returns:
        The new rows of this segment and what changed.
    """
    import pandas as pd

    before = set(history.loc[(history["entered_at"] < as_of) & (history["left_at"] >= as_of) & (history["as_of"] < as_of), "customer_id"])
    current = history[history["definition"] == segment.definition]
    other = history[history["definition"] != segment.definition].copy()
    closing = other["left_at"] == OPEN
    other.loc[closing, ["left_at", "as_of"]] = as_of
    rows = _live_rows(current, spells) if segment.live else _daily_rows(current, spells.at(as_of), as_of)
    rows = rows.assign(segment=segment.name, definition=segment.definition)
    found = pd.concat([other, rows], ignore_index=True)[list(COLUMNS)]
    found = found[found["entered_at"] < found["left_at"]]
    found.loc[found["left_at"] == OPEN, "as_of"] = as_of
    members = set(found.loc[found["left_at"] == OPEN, "customer_id"])
    return found, Change(segment.name, segment.definition, len(members), len(members - before), len(before - members))


def _daily_rows(current: pd.DataFrame, members: Array, as_of: int) -> pd.DataFrame:
    """Open rows stay, who is gone leaves at as_of, who is new enters at as_of; a row closed by this very moment is decided again."""
    import pandas as pd

    rows = current.copy()
    rows.loc[rows["left_at"] == as_of, "left_at"] = OPEN
    gone = (rows["left_at"] == OPEN) & ~rows["customer_id"].isin(members)
    rows.loc[gone, ["left_at", "as_of"]] = as_of
    inside = set(rows.loc[rows["left_at"] == OPEN, "customer_id"])
    new = np.array([m for m in members if m not in inside], object)
    added = pd.DataFrame({"customer_id": new, "entered_at": as_of, "left_at": OPEN, "as_of": as_of})
    return pd.concat([rows, added.astype({"entered_at": np.int64, "left_at": np.int64})], ignore_index=True)


def _live_rows(current: pd.DataFrame, spells: Spells) -> pd.DataFrame:
    """The spells are the truth since the last run; rows that had ended before it stay."""
    import pandas as pd

    start = int(spells.entered.min()) if len(spells.entered) else OPEN
    kept = current[(current["left_at"] != OPEN) & (current["left_at"] <= start)]
    keys = set(zip(spells.customers, spells.entered, strict=True))
    old = kept[[key not in keys for key in zip(kept["customer_id"], kept["entered_at"], strict=True)]]
    found = pd.DataFrame({"customer_id": spells.customers, "entered_at": spells.entered, "left_at": spells.left})
    found["as_of"] = np.where(found["left_at"] == OPEN, 0, found["left_at"])
    return pd.concat([old, found], ignore_index=True)


def spells_of(history: pd.DataFrame, segment: str, definition: str | None = None) -> Spells:
    """Return the recorded spells of a segment, of one definition or of all."""
    rows = history[history["segment"] == segment]
    rows = rows if definition is None else rows[rows["definition"] == definition]
    return Spells(rows["customer_id"].to_numpy(object), rows["entered_at"].to_numpy(np.int64), rows["left_at"].to_numpy(np.int64))


def daily_members(history: pd.DataFrame, segments: Mapping[str, Segment]) -> dict[str, tuple[Array, Array, Array]]:
    """Return what `predseg.segments.facts.Facts` needs to answer `in:` of daily segments."""
    found = {name: spells_of(history, name, s.definition) for name, s in segments.items() if not s.live}
    return {name: (s.customers, s.entered, s.left) for name, s in found.items()}


def to_table(history: pd.DataFrame) -> Any:
    """Return the history as the Arrow table that is stored, sorted by its key."""
    import pyarrow as pa

    rows = history.sort_values(["segment", "customer_id", "entered_at"], kind="stable")
    stamp = pa.timestamp("us", "UTC")
    left = rows["left_at"].to_numpy(np.int64)
    return pa.table(
        {
            "segment": pa.array(rows["segment"].to_numpy(object), pa.string()),
            "customer_id": pa.array(rows["customer_id"].to_numpy(object), pa.string()),
            "entered_at": pa.array(rows["entered_at"].to_numpy(np.int64)).cast(stamp),
            "left_at": pa.array(left, mask=left == OPEN).cast(stamp),
            "definition": pa.array(rows["definition"].to_numpy(object), pa.string()),
            "as_of": pa.array(rows["as_of"].to_numpy(np.int64)).cast(stamp),
        }
    )


def from_table(table: Any) -> pd.DataFrame:
    """Return the stored history as `record` takes it."""
    import pandas as pd
    import pyarrow as pa

    instants = {name: table[name].cast(pa.timestamp("us", "UTC")).cast(pa.int64()) for name in ("entered_at", "left_at", "as_of")}
    columns = {name: np.asarray(table[name].to_pylist(), object) for name in ("segment", "customer_id", "definition")}
    columns |= {name: column.fill_null(OPEN).to_numpy() for name, column in instants.items()}
    return pd.DataFrame(columns)[list(COLUMNS)]


def say_change(change: Change, as_of: int) -> str:
    """Return a line for people."""
    return f"{change.segment}: {change.members:,} members at {say_instant(as_of)}, {change.entered:,} entered, {change.left:,} left"
