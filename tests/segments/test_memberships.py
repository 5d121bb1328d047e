"""What runs record, beside a list of rows that does the same customer by customer."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predseg.language.time import DAY
from predseg.segments.customers import Customers
from predseg.segments.definitions import Segment
from predseg.segments.memberships import OPEN, Ledger, Rows, from_table, record, retire, standing, to_table
from tests.segments.stores import rules

NAMES = ("a", "b", "c", "d", "e")
RULE = rules("segment: s\nmatch: {did: A}")["s"].match

Row = list[object]
"""customer, entered, left, definition, as_of"""


@dataclass
class Slow:
    """Memberships of one daily segment as a list of rows."""

    rows: list[Row] = field(default_factory=list)
    runs: dict[int, set[str]] = field(default_factory=dict)

    def run(self, definition: str, members: set[str], as_of: int) -> tuple[int, int, int]:
        """Record a run, and return how many are members, entered and left."""
        before = self.runs[max(t for t in self.runs if t < as_of)] if any(t < as_of for t in self.runs) else set()
        for row in self.rows:
            if row[3] == definition and row[2] == as_of:
                row[2] = OPEN
            if row[2] == OPEN and (row[3] != definition or row[0] not in members):
                row[2], row[4] = as_of, as_of
        inside = {row[0] for row in self.rows if row[2] == OPEN}
        self.rows += [[customer, as_of, OPEN, definition, as_of] for customer in members if customer not in inside]
        self.rows = [row for row in self.rows if row[1] < row[2]]  # type: ignore[operator]
        for row in self.rows:
            row[4] = as_of if row[2] == OPEN else row[4]
        self.runs[as_of] = members
        return len(members), len(members - before), len(before - members)


def stored(ledger: Ledger) -> list[Row]:
    found = to_table(ledger).to_pylist()
    keys = [(row["segment"], row["customer_id"], row["entered_at"]) for row in found]
    assert keys == sorted(keys)
    table = from_table(to_table(ledger), ledger.log)
    assert to_table(table).equals(to_table(ledger)), "what is stored is read as it was"
    rows = [(*row, d) for d, own in table.rows.get("s", {}).items() for row in zip(*(column.tolist() for column in own.columns), strict=True)]
    return sorted([table.customers.texts[who], entered, left, d, as_of] for who, entered, left, as_of, d in rows)


RUNS = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["old", "new"]), st.sets(st.sampled_from(NAMES))), max_size=8)


@given(RUNS)
def test_daily_runs_record_what_a_list_of_rows_does(runs: list[tuple[int, str, set[str]]]) -> None:
    """Also when a run is repeated at its moment with other members, and when a definition changes and changes back at once."""
    ledger, slow, as_of = Ledger.empty(), Slow(), 0
    for days, definition, members in runs:
        as_of += days * DAY
        segment = Segment("s", RULE, definition)
        some, _ = Customers.named(np.array(sorted(members), object))
        ledger, who = ledger.until(as_of).knowing(some)
        own, change = record(ledger, segment, standing(who, as_of), as_of)
        ledger = ledger.with_({"s": (own, change)}, as_of)
        assert (change.members, change.entered, change.left) == slow.run(definition, members, as_of)
        assert stored(ledger) == sorted(slow.rows)
    assert len(ledger.log) == len(slow.runs) and ledger.last_run("s") == max(slow.runs, default=None)
    gone = retire(ledger, (), as_of + DAY)
    assert not any(row[2] == OPEN for row in stored(gone)) and len(stored(gone)) == len(slow.rows)


def test_what_a_table_holds_in_another_order_is_read_in_its_own() -> None:
    ledger = Ledger.empty()
    some, _ = Customers.named(np.array(NAMES, object))
    ledger, who = ledger.knowing(some)
    for i, name in enumerate(("s", "t")):
        own, change = record(ledger, Segment(name, RULE, "d"), standing(who[i:], DAY), DAY)
        ledger = ledger.with_({name: (own, change)}, DAY)
    table = to_table(ledger)
    turned = table.take(np.random.default_rng(0).permutation(table.num_rows))
    assert to_table(from_table(turned, ledger.log)).equals(table)
    assert from_table(table, ledger.log).spells("t").customers.tolist() == ["b", "c", "d", "e"]


def test_rows_are_cut_at_a_moment_as_they_stood_then() -> None:
    rows = Rows(*(np.array(column, np.int64) for column in ([0, 0, 1], [1, 5, 9], [3, OPEN, OPEN], [3, 7, 9])))
    assert [rows.until(t).left.tolist() for t in (0, 2, 3, 6, 9)] == [[], [OPEN], [3], [3, OPEN], [3, OPEN, OPEN]]
    assert [rows.at(t).tolist() for t in (0, 1, 3, 5, 9)] == [[], [0], [], [0], [0, 1]]


@pytest.mark.parametrize("definition", ["d", None])
def test_nothing_is_recorded_of_a_segment_that_never_ran(definition: str | None) -> None:
    ledger = Ledger.empty()
    assert not len(ledger.spells("s", definition).customers) and ledger.last_run("s", definition) is None
    assert to_table(ledger).num_rows == 0 and from_table(to_table(ledger), ledger.log).rows == {}
