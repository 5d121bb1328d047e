"""From when on a segment tries out what: noted at each run, so that a later look knows which entries a design was in force for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from predseg.language.assignment import Experiment
from predseg.segments.definitions import Segment

if TYPE_CHECKING:
    from predseg.store import Store

TABLE = "experiments"
_COLUMNS = ("segment", "since", "holdout", "split")


def note_designs(store: Store, segments: Iterable[Segment], as_of: int) -> None:
    """Note the design of each segment where it is not the one that was noted last (table ``experiments``: segment, since, holdout, split)."""
    noted = _rows(store)
    last = {row["segment"]: (row["holdout"], row["split"]) for row in noted}
    designs = [(segment.name, as_of, *_written(segment.experiment)) for segment in segments]
    new = [dict(zip(_COLUMNS, row, strict=True)) for row in designs if row[2:] != last.get(row[0], _written(None))]
    if new:
        _write(store, [*noted, *new])


def begin_anew(store: Store, segments: Iterable[Segment], at: int) -> None:
    """Let what is tried out count from an instant on, as when a design is changed: customers are in other groups since then."""
    new = [dict(zip(_COLUMNS, (s.name, at, *_written(s.experiment)), strict=True)) for s in segments if s.experiment is not None]
    if new:
        _write(store, [*_rows(store), *new])


def take_back(store: Store, after: int) -> None:
    """Forget the designs that were noted by runs after an instant."""
    kept = [row for row in _rows(store) if row["since"] <= after]
    if kept:
        _write(store, kept)
    else:
        store.drop(TABLE)


def _write(store: Store, rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa

    columns: dict[str, pa.Array] = {name: pa.array([row[name] for row in rows]) for name in _COLUMNS}
    store.write(TABLE, pa.table({**columns, "since": columns["since"].cast(pa.timestamp("us", "UTC"))}))


def in_force_since(store: Store, segment: Segment) -> int | None:
    """Return from when on the present design of a segment is in force; None when no run has seen it."""
    mine = [row for row in _rows(store) if row["segment"] == segment.name]
    if not mine or (mine[-1]["holdout"], mine[-1]["split"]) != _written(segment.experiment):
        return None
    return int(mine[-1]["since"])


def _rows(store: Store) -> list[dict[str, Any]]:
    import pyarrow as pa

    if not store.exists(TABLE):
        return []
    table = store.read(TABLE)
    since = table["since"].cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    return list(table.set_column(table.schema.get_field_index("since"), "since", since).to_pylist())


def _written(experiment: Experiment | None) -> tuple[str, str]:
    """A design as text, equal for equal designs.

    >>> from decimal import Decimal
    >>> _written(Experiment("a", Decimal("10.0"), (("control", Decimal(50)), ("b", Decimal(50)))))
    ('10', 'b 50, control 50')
    """
    found = experiment or Experiment("")
    return f"{found.holdout.normalize():f}", ", ".join(f"{name} {share.normalize():f}" for name, share in sorted(found.split))
