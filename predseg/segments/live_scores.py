"""Probabilities of single customers, published between two scoring runs by a model with `refresh: live`.

A row counts from its instant until the next publication: a later row of the customer, or a scoring run at or after it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from predseg.evaluate.block import Array

if TYPE_CHECKING:
    import pyarrow as pa

LIVE_SCORES = "live_scores"
UNKNOWN = float("nan")
NEVER = -(2**63)
"""The instant of a run that there was not."""


class LiveScore(NamedTuple):
    """What a model says of one customer from an instant on (microseconds); None is unknown, as who is absent from a run."""

    model: str
    customer_id: str
    at: int
    probability: float | None
    model_version: int = 0


@dataclass
class LiveScores:
    """All that was published so, by model and customer in order of time."""

    _rows: dict[str, dict[str, list[tuple[int, float]]]] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Iterable[LiveScore]) -> LiveScores:
        """Return the scores that some rows hold."""
        found = cls()
        for row in rows:
            found.add(row)
        return found

    def add(self, row: LiveScore) -> None:
        """Take in a row, again when it is there already."""
        mine = self._rows.setdefault(row.model, {}).setdefault(row.customer_id, [])
        at = bisect_left(mine, row.at, key=lambda r: r[0])
        mine[at : at + (at < len(mine) and mine[at][0] == row.at)] = [(row.at, UNKNOWN if row.probability is None else row.probability)]

    def last(self, model: str, customer_id: str, t: int, since: int = NEVER) -> tuple[int, float] | None:
        """Return when, in (since, t], the customer was last scored, and the probability, NaN for unknown; None when it was not."""
        mine = self._rows.get(model, {}).get(customer_id, ())
        at = bisect_right(mine, t, key=lambda r: r[0]) - 1
        return mine[at] if at >= 0 and mine[at][0] > since else None

    def instants(self, model: str, customer_id: str) -> list[int]:
        """Return when the customer was scored."""
        return [at for at, _ in self._rows.get(model, {}).get(customer_id, ())]

    def among(self, model: str, customers: Array) -> Iterator[int]:
        """Yield the positions of those of some customers who were ever scored."""
        mine = self._rows.get(model, {})
        return (i for i, who in enumerate(customers) if who in mine) if mine else iter(())

    def forget(self, before: int) -> None:
        """Forget what was no longer in force at an instant."""
        for customers in self._rows.values():
            for who, rows in customers.items():
                customers[who] = rows[max(bisect_right(rows, before, key=lambda r: r[0]) - 1, 0) :]

    def until(self, t: int) -> LiveScores:
        """Return what was published at or before t."""
        kept = {m: {who: [r for r in rows if r[0] <= t] for who, rows in customers.items()} for m, customers in self._rows.items()}
        return LiveScores(kept)


def table_of(rows: Iterable[LiveScore]) -> pa.Table:
    """Return rows as the table of the store."""
    import pyarrow as pa

    types = {"model": pa.string(), "customer_id": pa.string(), "at": pa.int64(), "probability": pa.float64(), "model_version": pa.int64()}
    columns = list(zip(*rows, strict=True)) or [()] * len(types)
    table = pa.table({name: pa.array(column, type_) for (name, type_), column in zip(types.items(), columns, strict=True)})
    return table.set_column(2, "at", table["at"].cast(pa.timestamp("us", "UTC")))


def from_table(table: pa.Table) -> LiveScores:
    """Return the scores of a table of the store."""
    import pyarrow as pa

    at = table["at"].cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    columns = [table[name].to_pylist() for name in ("model", "customer_id")]
    return LiveScores.of(map(LiveScore, *columns, at.to_pylist(), table["probability"].to_pylist()))
