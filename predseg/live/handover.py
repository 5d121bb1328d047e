"""What came live goes to the batch side: accepted events become a source of the project, traits rows of its customers.

STORE/tables/live/as_of=.../            the events of live.db, one part each time they are handed over
STORE/tables/live_traits/               the facts of customers that came live
STORE/tables/live_scores/               the probabilities of single customers, between the runs of a model
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from predseg.columns import field_of
from predseg.config import Config, Source
from predseg.disks import disk_errors
from predseg.evaluate.reference import Event
from predseg.language.measures import Value, kind_of
from predseg.language.spelling import kinds_of, spelled
from predseg.live.lines import Seen
from predseg.live.state import DATABASE, State, connect
from predseg.segments.live_scores import LIVE_SCORES, table_of
from predseg.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

EVENTS, TRAITS = "live", "live_traits"
UNTIL, UNTIL_SCORED = "handed over", "scores handed over"


def hand_over(config: Config, *, dry_run: bool = False) -> Config:
    """Write the live events that the batch side does not have yet, and return the project with them among its sources."""
    if (config.store / DATABASE).is_file() and not dry_run:
        with disk_errors(config.store / DATABASE), closing(connect(config.store / DATABASE)) as connection:
            _write(Store(config.store), State(connection))
    if not any(_has_rows(file) for file in sorted((config.store / "tables" / EVENTS).glob("*/*.parquet"))):
        return config  # nothing came, or everybody who did was forgotten
    source = Source(EVENTS, (str(config.store / "tables" / EVENTS / "*" / "*.parquet"),), place="live events")
    return replace(config, sources={**config.sources, EVENTS: source})


def _has_rows(file: Path) -> bool:
    import pyarrow.parquet as pq

    return bool(pq.read_metadata(file).num_rows)


def to_come(store: Path, customer_id: str) -> tuple[int, list[Event]]:
    """Return the clock of the live state, and the live events of a customer that the batch side does not have yet."""
    if not (store / DATABASE).is_file():
        return 0, []
    with closing(connect(store / DATABASE)) as connection:
        state = State(connection)
        found = state.since_of(customer_id, int(state.get(UNTIL) or 0))
        return int(state.get("clock") or 0), [Event(seen.time, seen.event, seen.properties, seen.visible) for seen in found]


def _write(store: Store, state: State) -> None:
    done, last = int(state.get(UNTIL) or 0), state.last
    scored = state.scored
    if scored > int(state.get(UNTIL_SCORED) or 0):
        with store.lock():
            store.write(LIVE_SCORES, table_of(state.scores()))
        with state.transaction():
            state.put(**{UNTIL_SCORED: scored})
    if last <= done:
        return
    events, traits = list(state.since(done)), state.traits()
    with store.lock():
        if events:
            store.write(EVENTS, events_table(events), last)
        if traits:
            store.write(TRAITS, traits_table(traits))
    with state.transaction():
        state.put(**{UNTIL: last})


def events_table(events: Sequence[Seen]) -> pa.Table:
    """Return events as a source gives them."""
    import pyarrow as pa

    stamp = pa.timestamp("us", "UTC")
    texts = {name: pa.array([getattr(e, name) for e in events], pa.string()) for name in ("customer_id", "anonymous_id", "event", "event_id")}
    times = {
        name: pa.array([getattr(e, at) for e in events], pa.int64()).cast(stamp) for name, at in (("event_time", "time"), ("received_at", "received"))
    }
    names = sorted({name for e in events for name in e.properties})
    found = {name: _properties([e.properties.get(name) for e in events]) for name in names}
    plain = texts | times
    fields = [pa.field(name, column.type) for name, column in plain.items()]
    fields += [field_of(name, column.type, several) for name, (column, several) in found.items()]
    return pa.table([*plain.values(), *(column for column, _ in found.values())], schema=pa.schema(fields))


def _properties(values: Sequence[Value]) -> tuple[pa.Array, bool]:
    """Return a column of values, and whether it says of each of which kind it is because they are of several."""
    import pyarrow as pa

    return (pa.array([*map(spelled, values)], pa.string()), True) if len(kinds_of(values)) > 1 else (_column(values), False)


def traits_table(rows: Sequence[tuple[str, int, int, dict[str, Any]]]) -> pa.Table:
    """Return facts of customers, each from an instant on."""
    import pyarrow as pa

    stamp = pa.timestamp("us", "UTC")
    names = sorted({name for *_, traits in rows for name in traits})
    columns = {"customer_id": pa.array([who for who, *_ in rows], pa.string())}
    columns |= {name: pa.array([row[i] for row in rows], pa.int64()).cast(stamp) for i, name in ((1, "event_time"), (2, "known_since"))}
    return pa.table(columns | {name: _column([traits.get(name) for *_, traits in rows]) for name in names})


def _column(values: Sequence[Any]) -> pa.Array:
    """Values of one kind as they are, of several as texts."""
    import pyarrow as pa

    some = [v for v in values if v is not None]
    if any(isinstance(v, tuple) for v in some):
        lists = [None if v is None else [str(x) for x in (v if isinstance(v, tuple) else (v,))] for v in values]
        return pa.array(lists, pa.list_(pa.string()))
    kinds = {kind_of(v) for v in some}
    if kinds == {"number"}:
        return pa.array(values, pa.decimal128(18, 4))
    return pa.array(values, pa.bool_()) if kinds == {"flag"} else pa.array([None if v is None else str(v) for v in values], pa.string())
