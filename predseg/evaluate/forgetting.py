"""What the live executor forgets: events that no rule can see any more and no correction can need."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from predseg.evaluate.leaves import NEVER, Folded, Kept, Stream

if TYPE_CHECKING:
    from predseg.evaluate.live import Engine
    from predseg.evaluate.program import Origin


def prune(engine: Engine) -> None:
    """Forget what lies behind the longest window and the time of corrections; what windows without a beginning see is summed up."""
    horizon = engine.clock - engine.lateness
    streams = [(stream, -NEVER if stream.span is None else engine.clock - stream.span) for stream in engine.program.streams]
    for person in engine.people.values():
        for number, kept in enumerate(person.kept):
            if kept is not None and kept.times and kept.times[0] <= streams[number][1]:
                _prune_stream(kept, *streams[number])
                if not kept.times and kept.folded is None:
                    person.kept[number] = None
        if person.log and person.log[0][0] < horizon:
            person.log = [x for x in person.log if x[0] >= horizon]
    for origins in (engine.own, engine.anonymous):
        for origin in origins.values():
            if origin.rows and origin.rows[0].visible < horizon:
                _prune_origin(engine, origin, horizon)


def _prune_stream(kept: Kept, stream: Stream, until: int) -> None:
    if stream.folds:
        kept.folded = kept.folded or Folded()
        for i in range(bisect_right(kept.times, until)):
            kept.folded.add(stream.columns, tuple([column[i] for column in kept.columns]))
    kept.drop(until)


def _prune_origin(engine: Engine, origin: Origin, horizon: int) -> None:
    streams, rows = engine.program.streams, []
    for row in origin.rows:
        seen = row.link or any((span := streams[s].span) is None or row.time > horizon - span for s, _ in row.hits)
        if row.visible >= horizon or seen:
            rows.append(row)
            continue
        for s, values in row.hits:
            if streams[s].folds:
                origin.folded = origin.folded or {}
                origin.folded.setdefault(s, Folded()).add(streams[s].columns, values)
    origin.rows = rows
