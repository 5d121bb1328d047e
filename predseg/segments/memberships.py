"""The history of belonging: who was a member of what, from when until when, under which definition of the rule.

A row is [entered_at, left_at); an open row has no left_at. A changed definition closes the rows of the old one and opens
its own. Running again at the same moment changes nothing; running at an earlier one never rewrites what was recorded.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from predseg.evaluate.block import Array
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
        found = self.customers[(self.entered <= t) & (t < self.left)].astype(object)
        return found if bool(np.all(found[1:] > found[:-1])) else np.unique(found)  # what is stored is sorted already, and texts sort slowly


@dataclass(frozen=True)
class Change:
    """What a run did to one segment: how many are members, how many entered and left since the run before."""

    segment: str
    definition: str
    members: int
    entered: int
    left: int


LOG = ("segment", "definition", "as_of", "members", "entered", "left")


@dataclass(frozen=True)
class Ledger:
    """What is recorded of segments; instants are microseconds, an open left_at is the largest integer.

    Attributes:
        history: A row per membership: segment, customer_id, entered_at, left_at, definition, as_of (the run that last touched it).
        log: A row per segment and run: segment, definition, as_of, members, entered, left.
    """

    history: pd.DataFrame
    log: pd.DataFrame

    @classmethod
    def empty(cls) -> Ledger:
        """Return a ledger in which nothing is recorded."""
        import pandas as pd

        text = ("segment", "customer_id", "definition")
        return cls(*(pd.DataFrame({n: np.zeros(0, object if n in text else np.int64) for n in names}) for names in (COLUMNS, LOG)))

    def until(self, as_of: int) -> Ledger:
        """Return the ledger as it stood after the runs up to as_of."""
        history = self.history[self.history["entered_at"] <= as_of].copy()
        history.loc[history["left_at"] > as_of, "left_at"] = OPEN
        return Ledger(history, self.log[self.log["as_of"] <= as_of])

    def last_run(self, segment: str, definition: str | None = None, before: int = OPEN) -> int | None:
        """Return the as_of of a segment's last run before an instant, None when there is none."""
        runs = self.log[(self.log["segment"] == segment) & (self.log["as_of"] < before)]
        runs = runs if definition is None else runs[runs["definition"] == definition]
        return int(runs["as_of"].max()) if len(runs) else None

    def spells(self, segment: str, definition: str | None = None) -> Spells:
        """Return the recorded spells of a segment, of one definition or of all."""
        rows = self.history.iloc[self._rows.get(segment, [])]
        rows = rows if definition is None else rows[rows["definition"] == definition]
        return Spells(rows["customer_id"].to_numpy(object), rows["entered_at"].to_numpy(np.int64), rows["left_at"].to_numpy(np.int64))

    def of(self, segment: str) -> Ledger:
        """Return what is recorded of one segment."""
        return Ledger(self.history.iloc[self._rows.get(segment, [])], self.log[self.log["segment"] == segment])

    def with_(self, own: Mapping[str, Ledger], as_of: int) -> Ledger:
        """Return the ledger with the ledgers of some segments, see `of`, each brought up to as_of by `record`, in the place of what it has of them."""
        import pandas as pd

        others = self.history[~self.history["segment"].isin(list(own))]
        log = self.log[~(self.log["segment"].isin(list(own)) & (self.log["as_of"] == as_of))]
        lines = [one.log[one.log["as_of"] == as_of] for one in own.values()]
        history = pd.concat([others, *(one.history for one in own.values())], ignore_index=True)
        return Ledger(history, pd.concat([log, *lines], ignore_index=True))

    @cached_property
    def _rows(self) -> dict[str, Array]:
        """The rows of each segment."""
        return dict(self.history.groupby("segment", sort=False).indices)


def among(customers: Array, some: Array) -> Array:
    """Say of each customer whether it is one of some, bool; by hash, because texts that are objects sort slowly."""
    import pandas as pd

    return np.asarray(pd.Index(customers, dtype=object).isin(some))


def record(ledger: Ledger, segment: Segment, spells: Spells, as_of: int) -> tuple[Ledger, Change]:
    """Bring one segment up to as_of.

    Args:
        ledger: What is recorded so far, nothing of it after as_of.
        segment: The rule.
        spells: For a daily segment the members at as_of; for a live one its spells since the last run, those already open
            then with the entered_at that is recorded.
        as_of: The moment of the run.
    """
    import pandas as pd

    history, mine = ledger.history, ledger.history["segment"] == segment.name
    last = ledger.last_run(segment.name, before=as_of)
    before = set() if last is None else set(ledger.spells(segment.name).at(last))
    other = history[mine & (history["definition"] != segment.definition)].copy()
    other.loc[other["left_at"] == OPEN, ["left_at", "as_of"]] = as_of
    current = history[mine & (history["definition"] == segment.definition)]
    since = ledger.last_run(segment.name, segment.definition, before=as_of)
    rows = _live_rows(current, spells, since, as_of) if segment.live else _daily_rows(current, spells.at(as_of), as_of)
    found = pd.concat([other, rows.assign(segment=segment.name, definition=segment.definition)], ignore_index=True)[list(COLUMNS)]
    found = found[found["entered_at"] < found["left_at"]]
    found.loc[found["left_at"] == OPEN, "as_of"] = as_of
    members = set(found.loc[found["left_at"] == OPEN, "customer_id"].to_numpy(object))
    change = Change(segment.name, segment.definition, len(members), len(members - before), len(before - members))
    log = ledger.log[(ledger.log["segment"] != segment.name) | (ledger.log["as_of"] != as_of)]
    line = pd.DataFrame([{**vars(change), "as_of": as_of}])[list(LOG)]
    return Ledger(pd.concat([history[~mine], found], ignore_index=True), pd.concat([log, line], ignore_index=True)), change


def retire(ledger: Ledger, segments: Collection[str], as_of: int) -> Ledger:
    """Let the members of segments that no longer exist leave at as_of."""
    history = ledger.history.copy()
    history.loc[~history["segment"].isin(list(segments)) & (history["left_at"] == OPEN), ["left_at", "as_of"]] = as_of
    return Ledger(history, ledger.log)


def _daily_rows(current: pd.DataFrame, members: Array, as_of: int) -> pd.DataFrame:
    """Open rows stay, who is gone leaves at as_of, who is new enters at as_of; a row closed by this very moment is decided again."""
    import pandas as pd

    rows = current.copy()
    rows.loc[rows["left_at"] == as_of, "left_at"] = OPEN
    gone = (rows["left_at"] == OPEN) & ~among(rows["customer_id"].to_numpy(object), members)
    rows.loc[gone, ["left_at", "as_of"]] = as_of
    inside = set(rows.loc[rows["left_at"] == OPEN, "customer_id"].to_numpy(object))
    new = np.array([m for m in members if m not in inside], object)
    added = pd.DataFrame({"customer_id": new, "entered_at": as_of, "left_at": OPEN, "as_of": as_of})
    return pd.concat([rows, added.astype({"entered_at": np.int64, "left_at": np.int64})], ignore_index=True)


def _live_rows(current: pd.DataFrame, spells: Spells, last: int | None, as_of: int) -> pd.DataFrame:
    """Rows that had ended by the last run stay; the spells are the truth since then."""
    import pandas as pd

    ended = current.iloc[:0] if last is None else current[current["left_at"] <= last]
    found = pd.DataFrame({"customer_id": spells.customers, "entered_at": spells.entered, "left_at": spells.left, "as_of": as_of})
    return pd.concat([ended, found], ignore_index=True)


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
    import pyarrow as pa

    found = table.select(COLUMNS[:2] + ("definition",)).to_pandas()
    for name in ("entered_at", "left_at", "as_of"):
        found[name] = table[name].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).fill_null(OPEN).to_numpy()
    return found[list(COLUMNS)]
