"""Live scores: a customer's probability by the champion, from all that is known of it at a moment, equal to what batch would score.

The rows of a customer are those that an ingest at this moment would give: what the events table has of it, read from the
row groups that can hold it, and what came live, each event once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from predseg.columns import field_of, mixed_in
from predseg.config import Config
from predseg.evaluate.block import CORE, from_table
from predseg.forecast.dataset import Source, open_source
from predseg.history import mixed
from predseg.history.merge import made_id
from predseg.layers import tables_with
from predseg.live.handover import events_table
from predseg.live.lines import Seen
from predseg.segments.live_scores import LiveScore

if TYPE_CHECKING:
    import pyarrow as pa

    from predseg.forecast.bundle import Bundle
    from predseg.live.state import State
    from predseg.segments.workspace import Workspace


@dataclass(frozen=True)
class Rescorer:
    """Scores some customers anew.

    Attributes:
        config: The project file.
        source: The stored side of the project.
        bundles: The champion of each model with `refresh: live`.
        workspace: Says where the events are now, and who opted out of profiling.
        state: The live state: what came live.
    """

    config: Config
    source: Source
    bundles: Mapping[str, Bundle]
    workspace: Workspace
    state: State

    def __call__(self, customers: Mapping[str, Sequence[str]], at: int) -> list[LiveScore]:
        """Return the probability of each customer by each model with what is visible at a moment; None for who is not eligible then.

        Args:
            customers: Their ids, each with the anonymous ids that joined it.
            at: The moment (microseconds).

        Raises:
            ModelError: E710 when the features of the project are no longer those of a model.
            OSError: when the events table cannot be read.
        """
        source, found = replace(self.source, without=self.workspace.opted_out("profiling")), []
        for name, bundle in self.bundles.items():
            model = self.config.models[name]
            frame = source.frame(from_table(self._rows(customers, source.properties(model))), [at], model)
            scored = dict(zip(frame["customer_id"], bundle.forecaster.probability(frame).tolist(), strict=True))
            found += [LiveScore(name, who, at, scored.get(who), bundle.version) for who in customers]
        return found

    def _rows(self, customers: Mapping[str, Sequence[str]], properties: set[str]) -> pa.Table:
        """Return the events of customers as the events table would have them, with some properties."""
        owner = {one: who for who, joined in customers.items() for one in (who, *joined)}
        names = [*CORE, "event_id", "anonymous_id", *sorted(properties - {"event_id"})]
        stored = [_joined(table, owner) for table in tables_with(self.workspace.files, "customer_id", list(owner), names)]
        known = {name for table in stored for name in table["event_id"].to_pylist()}
        came = [_joining(seen, owner, properties) for seen in _once(self.state.of(list(owner))) if seen.event_id not in known]
        whole = _concat([*stored, events_table(came).drop_columns("anonymous_id")])
        return whole.sort_by([(name, "ascending") for name in ("customer_id", "event_time", "event_id")]).drop_columns("event_id")


def rescorer_of(config: Config, workspace: Workspace, state: State) -> Rescorer | None:
    """Return what scores customers anew, None when no model with `refresh: live` has a champion.

    Raises:
        ModelError: E710 when the features of the project are no longer those of a model.
    """
    import pandas as pd

    wanted = [name for name, model in config.models.items() if model.live]
    bundles = {name: bundle for name in wanted if (bundle := workspace.champion(name)) is not None}
    if not bundles:
        return None
    source = open_source(config, workspace.store)
    for bundle in bundles.values():
        bundle.forecaster.encode(pd.DataFrame(columns=["as_of", *source.features.names], dtype=float))
    state.index_people()
    return Rescorer(config, source, bundles, workspace, state)


def _once(events: Iterable[Seen]) -> Iterator[Seen]:
    """Yield events each with the name that an ingest gives it: its id, or the hash of its content and its number among equals."""
    equal: Counter[str] = Counter()
    for seen in events:
        if seen.event_id is not None:
            yield seen
            continue
        ids = {"customer_id": seen.customer_id, "anonymous_id": seen.anonymous_id, "event": seen.event}
        content = {**_lists(seen.properties), **ids, "event_time": seen.time, "received_at": _received(seen)}
        name = made_id(content)
        yield seen._replace(event_id=made_id(content, equal[name]))
        equal[name] += 1


def _lists(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list(v) if isinstance(v, tuple) else v for name, v in properties.items()}


def _received(seen: Seen) -> int:
    return seen.time if seen.received is None else seen.received


def _joining(seen: Seen, owner: Mapping[str, str], properties: set[str]) -> Seen:
    """Return an event under the customer known now, with only some properties."""
    who = seen.customer_id if seen.customer_id is not None else owner[str(seen.anonymous_id)]
    kept = {name: v for name, v in seen.properties.items() if name in properties}
    return seen._replace(customer_id=who, anonymous_id=None, received=_received(seen), properties=kept)


def _joined(table: pa.Table, owner: Mapping[str, str]) -> pa.Table:
    """Return stored rows under the customers known now."""
    import pyarrow as pa

    if "anonymous_id" not in table.column_names:
        return table
    pairs = zip(table["customer_id"].to_pylist(), table["anonymous_id"].to_pylist(), strict=True)
    ids = pa.array([owner[who] if who == anonymous else who for who, anonymous in pairs], pa.string())
    return table.set_column(table.column_names.index("customer_id"), "customer_id", ids).drop_columns("anonymous_id")


def _concat(tables: Sequence[pa.Table]) -> pa.Table:
    """Put tables under each other; of a property that is of two kinds each value keeps its own, as in an ingest."""
    import pyarrow as pa

    names = list(dict.fromkeys(name for table in tables for name in table.column_names))
    parts = {name: [t[name] if name in t.column_names else pa.nulls(len(t)) for t in tables] for name in names}
    marked = {name: [name in mixed_in(t.schema) for t in tables] for name in names}
    types = {name: None if any(marked[name]) else _type_of(parts[name]) for name in names}
    columns = [_spelled(parts[name], marked[name]) if kind is None else _cast(parts[name], kind) for name, kind in types.items()]
    fields = [field_of(name, column.type, types[name] is None) for name, column in zip(names, columns, strict=True)]
    return pa.table(columns, schema=pa.schema(fields))


def _type_of(parts: Sequence[Any]) -> pa.DataType | None:
    """Return the type that holds what is in some columns; None where they are of several kinds."""
    import pyarrow as pa

    types = {_plain(part.type) for part in parts} - {pa.null()}
    if len(types) < 2:
        return types.pop() if types else pa.null()
    return pa.decimal128(18, 4) if all(pa.types.is_integer(kind) or pa.types.is_decimal(kind) for kind in types) else None


def _spelled(parts: Sequence[Any], marked: Sequence[bool]) -> pa.Array:
    import pyarrow as pa

    return pa.array([text for part, already in zip(parts, marked, strict=True) for text in mixed.column(part, already)], pa.string())


def _cast(parts: Sequence[Any], wanted: pa.DataType) -> pa.Array:
    import pyarrow as pa

    return pa.chunked_array([chunk for part in parts for chunk in _chunks(part.cast(wanted))], wanted).combine_chunks()


def _chunks(part: Any) -> Sequence[pa.Array]:
    return part.chunks if hasattr(part, "chunks") else [part]


def _plain(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    return kind.value_type if pa.types.is_dictionary(kind) else kind
