"""The history of belonging: who was a member of what, from when until when, under which definition of the rule.

A row is [entered_at, left_at); an open row has no left_at. A changed definition closes the rows of the old one and opens
its own. Running again at the same moment changes nothing; running at an earlier one never rewrites what was recorded.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from predseg.columns import Array, coded, instants, starts
from predseg.segments.customers import Customers
from predseg.segments.definitions import Segment

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

COLUMNS = ("segment", "customer_id", "entered_at", "left_at", "definition", "as_of")
LOG = ("segment", "definition", "as_of", "members", "entered", "left")
OPEN = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Spells:
    """Stretches of membership of one segment: entered_at[i] ≤ t < left_at[i], the largest integer while open."""

    customers: Array  # str (k)
    entered: Array  # int64 (k)
    left: Array  # int64 (k)

    def take(self, rows: Array) -> Spells:
        """Return some of them, bool (k)."""
        return self if bool(rows.all()) else Spells(self.customers[rows], self.entered[rows], self.left[rows])

    def at(self, t: int) -> Array:
        """Return the customers who are members at t, sorted, each once."""
        found = self.customers[(self.entered <= t) & (t < self.left)].astype(object)
        return found if bool(np.all(found[1:] > found[:-1])) else np.unique(found)  # what is stored is sorted already, and texts sort slowly


@dataclass(frozen=True)
class Rows:
    """Memberships of one segment under one definition, sorted by customer and entered_at.

    Attributes:
        who: Places among the ledger's customers.
        entered, left: As in `Spells`.
        as_of: The run that last touched each row.
    """

    who: Array  # int64 (k)
    entered: Array  # int64 (k)
    left: Array  # int64 (k)
    as_of: Array  # int64 (k)

    @classmethod
    def sorted(cls, *columns: Array) -> Rows:
        """Return rows that come in any order."""
        order = np.lexsort(columns[1::-1])
        return cls(*(column[order] for column in columns))

    @property
    def columns(self) -> tuple[Array, Array, Array, Array]:
        """The four columns."""
        return self.who, self.entered, self.left, self.as_of

    def take(self, rows: Array) -> Rows:
        """Return some rows: bool (k) or places."""
        return Rows(*(column[rows] for column in self.columns))

    def at(self, t: int) -> Array:
        """Return who is a member at t: places, sorted."""
        return self.who[(self.entered <= t) & (t < self.left)]

    def close(self, which: Array, as_of: int) -> Rows:
        """Return the rows with some, bool (k), ended at as_of, and without those that began just then."""
        return replace(self, left=np.where(which, as_of, self.left), as_of=np.where(which, as_of, self.as_of)).lasting()

    def lasting(self) -> Rows:
        """Return the rows that lasted for some time."""
        lasted = self.entered < self.left
        return self if bool(lasted.all()) else self.take(lasted)

    def until(self, as_of: int) -> Rows:
        """Return the rows as they stood after the runs up to as_of."""
        found = self if not len(self.who) or self.entered.max() <= as_of else self.take(self.entered <= as_of)
        return replace(found, left=np.where(found.left > as_of, OPEN, found.left))


def standing(members: Array, as_of: int) -> Rows:
    """Return the rows of members, places in order, who are so from now on."""
    return Rows(members, np.full(len(members), as_of), np.full(len(members), OPEN), np.full(len(members), as_of))


NOTHING = Rows(*(np.zeros(0, np.int64) for _ in range(4)))


@dataclass(frozen=True)
class Change:
    """What a run did to one segment: how many are members, how many entered and left since the run before."""

    segment: str
    definition: str
    members: int
    entered: int
    left: int


@dataclass(frozen=True)
class Ledger:
    """What is recorded of segments; instants are microseconds, an open left_at is the largest integer.

    Attributes:
        customers: Everybody with a membership, and maybe others.
        rows: Of each segment, and each of its definitions, the memberships.
        log: A row per segment and run: segment, definition, as_of, members, entered, left.
    """

    customers: Customers
    log: pd.DataFrame
    rows: Mapping[str, Mapping[str, Rows]] = field(default_factory=dict)

    @classmethod
    def empty(cls) -> Ledger:
        """Return a ledger in which nothing is recorded."""
        import pandas as pd

        text = ("segment", "definition")
        return cls(Customers.named(np.zeros(0, object))[0], pd.DataFrame({n: np.zeros(0, object if n in text else np.int64) for n in LOG}))

    @property
    def history(self) -> pd.DataFrame:
        """A row per membership, sorted: segment, customer_id, entered_at, left_at (missing while open), definition, as_of (the run that last touched it)."""
        return to_table(self).to_pandas()

    def until(self, as_of: int) -> Ledger:
        """Return the ledger as it stood after the runs up to as_of."""
        rows = {name: {d: rows.until(as_of) for d, rows in own.items()} for name, own in self.rows.items()}
        return Ledger(self.customers, self.log[self.log["as_of"] <= as_of], rows)

    def last_run(self, segment: str, definition: str | None = None, before: int = OPEN) -> int | None:
        """Return the as_of of a segment's last run before an instant, None when there is none."""
        runs = self._runs.get(segment, ())
        return max((t for d, t in runs if t < before and definition in (None, d)), default=None)

    @cached_property
    def _runs(self) -> dict[str, list[tuple[str, int]]]:
        """Definition and as_of of the runs of each segment."""
        found: dict[str, list[tuple[str, int]]] = {}
        for name, definition, as_of in zip(*(self.log[n].tolist() for n in ("segment", "definition", "as_of")), strict=True):
            found.setdefault(name, []).append((definition, as_of))
        return found

    def spells(self, segment: str, definition: str | None = None) -> Spells:
        """Return the recorded spells of a segment, of one definition or of all, sorted by customer and entered_at."""
        own = self.rows.get(segment, {})
        rows = own.get(definition, NOTHING) if definition is not None else _merged(own)[0]
        return Spells(self.customers.texts[rows.who], rows.entered, rows.left)

    def knowing(self, others: Customers) -> tuple[Ledger, Array]:
        """Return the same ledger of more customers, and where the others stand among them: int64."""
        customers, mine, theirs = self.customers.join(others)
        if customers is self.customers:
            return self, theirs
        rows = {name: {d: replace(rows, who=mine[rows.who]) for d, rows in own.items()} for name, own in self.rows.items()}
        return replace(self, customers=customers, rows=rows), theirs

    def marked(self, who: Array) -> Array:
        """Return which customers stand at some places: bool, one for each customer."""
        found = np.zeros(len(self.customers), bool)
        found[who] = True
        return found

    def with_(self, changed: Mapping[str, tuple[Mapping[str, Rows], Change]], as_of: int) -> Ledger:
        """Return the ledger with what `record` found of some segments at as_of."""
        import pandas as pd

        if not changed:
            return self
        log = self.log[~(self.log["segment"].isin(list(changed)) & (self.log["as_of"] == as_of))]
        lines = pd.DataFrame([{**vars(change), "as_of": as_of} for _, change in changed.values()], columns=list(LOG))
        rows = {**self.rows, **{name: own for name, (own, _) in changed.items()}}
        return Ledger(self.customers, pd.concat([log, lines], ignore_index=True), rows)


def among(customers: Array, some: Array) -> Array:
    """Say of each customer whether it is one of some, bool; by hash, because texts that are objects sort slowly."""
    import pandas as pd

    return np.asarray(pd.Index(customers, dtype=object).isin(some))


def record(ledger: Ledger, segment: Segment, found: Rows, as_of: int) -> tuple[dict[str, Rows], Change]:
    """Bring one segment up to as_of, see `Ledger.with_`.

    Args:
        ledger: What is recorded so far, nothing of it after as_of; it knows all whom ``found`` names.
        segment: The rule.
        found: For a daily segment a row for each member at as_of; for a live one its spells since the last run, those already open
            then with the entered_at that is recorded.
        as_of: The moment of the run.

    Returns:
        The memberships by definition, and what changed.
    """
    last, since = (ledger.last_run(segment.name, d, before=as_of) for d in (None, segment.definition))
    recorded = ledger.rows.get(segment.name, {})
    own = {d: rows.close(rows.left == OPEN, as_of) for d, rows in recorded.items() if d != segment.definition}
    current = recorded.get(segment.definition, NOTHING)
    rows = _live_rows(current, found, since) if segment.live else _daily_rows(ledger, current, found, as_of)
    rows = rows.lasting()
    is_open = rows.left == OPEN
    own[segment.definition] = replace(rows, as_of=np.where(is_open, as_of, rows.as_of))
    members, before = ledger.marked(rows.who[is_open]), _members(ledger, recorded, last)
    numbers = (np.count_nonzero(members), np.count_nonzero(members & ~before), np.count_nonzero(before & ~members))
    return own, Change(segment.name, segment.definition, *map(int, numbers))


def _members(ledger: Ledger, recorded: Mapping[str, Rows], at: int | None) -> Array:
    """Return who was a member under any definition: bool, one for each customer."""
    return ledger.marked(np.concatenate([NOTHING.who, *(rows.at(at) for rows in recorded.values() if at is not None)]))


def retire(ledger: Ledger, segments: Collection[str], as_of: int) -> Ledger:
    """Let the members of segments that no longer exist leave at as_of."""
    gone = {name: {d: rows.close(rows.left == OPEN, as_of) for d, rows in own.items()} for name, own in ledger.rows.items() if name not in segments}
    return replace(ledger, rows={**ledger.rows, **gone})


def _daily_rows(ledger: Ledger, current: Rows, found: Rows, as_of: int) -> Rows:
    """Open rows stay, who is gone leaves at as_of, who is new enters at as_of; a row closed by this very moment is decided again."""
    rows = replace(current, left=np.where(current.left == as_of, OPEN, current.left))
    is_open = rows.left == OPEN
    gone = is_open & ~ledger.marked(found.who)[rows.who]
    new = found.take(~ledger.marked(rows.who[is_open])[found.who])
    return _together(rows.close(gone, as_of), new)


def _live_rows(current: Rows, found: Rows, last: int | None) -> Rows:
    """Rows that had ended by the last run stay; the spells are the truth since then."""
    return found if last is None else _together(current.take(current.left <= last), found)


def _together(rows: Rows, more: Rows) -> Rows:
    if not len(rows.who) or not len(more.who):
        return rows if len(rows.who) else more
    return Rows.sorted(*(np.concatenate(pair) for pair in zip(rows.columns, more.columns, strict=True)))


def _merged(own: Mapping[str, Rows]) -> tuple[Rows, Array]:
    """Return the rows of all definitions of a segment, sorted, and the definition of each, by its place among the sorted ones."""
    parts = [own[definition] for definition in sorted(own)]
    which = np.repeat(np.arange(len(parts)), [len(part.who) for part in parts])
    if len(parts) == 1:
        return parts[0], which
    columns = [np.concatenate(column) for column in zip(*(part.columns for part in (NOTHING, *parts)), strict=True)]
    order = np.lexsort(columns[1::-1])
    return Rows(*columns).take(order), which[order]


def to_table(ledger: Ledger) -> pa.Table:
    """Return the memberships as the Arrow table that is stored, sorted by segment, customer_id, entered_at."""
    import pyarrow as pa

    stamp = pa.timestamp("us", "UTC")
    kinds = [stamp if name.endswith(("_at", "_of")) else pa.string() for name in COLUMNS]
    schema = pa.schema(zip(COLUMNS, kinds, strict=True))
    parts = []
    for name, own in sorted(ledger.rows.items()):
        rows, which = _merged(own)
        columns = [
            pa.repeat(pa.scalar(name), len(which)),
            ledger.customers.ids.take(pa.array(rows.who)).cast(pa.string()),
            pa.array(rows.entered).cast(stamp),
            pa.array(rows.left, mask=rows.left == OPEN).cast(stamp),
            pa.array(sorted(own), pa.string()).take(pa.array(which)),
            pa.array(rows.as_of).cast(stamp),
        ]
        parts.append(pa.table(columns, schema=schema))
    return pa.concat_tables([schema.empty_table(), *parts])


def from_table(table: pa.Table, log: pd.DataFrame) -> Ledger:
    """Return the ledger of stored memberships, see `to_table`, and of its log."""
    import pyarrow as pa

    codes, ids = coded(table["customer_id"])
    customers, place = Customers.of(pa.chunked_array([ids]))
    (segment, names), (definition, definitions) = coded(table["segment"]), coded(table["definition"])
    left = table["left_at"].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).fill_null(OPEN).to_numpy()
    columns = [place[codes], instants(table["entered_at"]), left, instants(table["as_of"])]
    if not _in_order(segment, *columns[:2]):
        order = np.lexsort((*columns[1::-1], segment))
        columns, segment, definition = [column[order] for column in columns], segment[order], definition[order]
    rows = {}
    for begin, end in pairwise([*starts(segment).tolist(), len(segment)]):
        own, which = Rows(*(column[begin:end] for column in columns)), definition[begin:end]
        some = set(which[starts(which)].tolist())
        rows[names[segment[begin]].as_py()] = {definitions[d].as_py(): own.take(which == d) if len(some) > 1 else own for d in some}
    return Ledger(customers, log, rows)


def _in_order(segment: Array, who: Array, entered: Array) -> bool:
    """Say whether rows stand as `to_table` sorts them, whatever comes first among the segments."""
    step, begins = np.diff(who), starts(segment)
    follows = (segment[1:] != segment[:-1]) | (step > 0) | ((step == 0) & (np.diff(entered) >= 0))
    return bool(follows.all()) and len(set(segment[begins].tolist())) == len(begins)
