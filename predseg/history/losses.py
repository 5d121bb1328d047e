"""What building the events table anew would lose: events that the table holds and no source holds any more.

What the declaration leaves out now stands in the files still, and is not lost; neither is what was forgotten. The last full
reading says how many events no source held. Where files were altered or are gone since, nothing can say which rows they had;
then events are counted, of each customer and name and the like, and where there are fewer of them, so many at least are lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from predseg.engine import Engine, literal
from predseg.errors import DataError
from predseg.history.merge import scan
from predseg.history.report import IngestReport, Memory, State
from predseg.layers import gone_in

Marks = list[list[Any]] | None
"""Path, size and time of change of each file of a source; None of a server."""


def refuse_early(before: Memory) -> None:
    """Refuse before anything is read when it is known by then that events would be lost; see `refuse`."""
    if before.report.kept > 0:
        raise _loss(before, f"{before.report.kept:,}", ())


def refuse(engine: Engine, before: Memory, state: State, report: IngestReport, tables: tuple[list[Path], list[Path]], store: Path) -> None:
    """Refuse a new table that has lost events.

    Args:
        engine: Counts.
        before: What is remembered of the last ingest.
        state: What the sources look like now.
        report: What the new table holds.
        tables: Files of the present table and of the new one.
        store: Where the project's own sources lie: only `forget` takes anything out of them.

    Raises:
        DataError: E419 with their number and the sources that held them.
    """
    lost = before.report.kept + min(before.report.erased, _forgotten(before, report, store))
    altered = [name for name, marks in before.state.files.items() if not _stands(name, marks, state.files)]
    if altered:
        lost = max(lost, _fewer(engine, *tables))
    if lost > 0:
        raise _loss(before, f"{'at least ' if altered else ''}{lost:,}", altered)


def _forgotten(before: Memory, report: IngestReport, store: Path) -> int:
    """Return how many rows that sources gave are those of persons who were forgotten since."""
    now, number = {part.name: part for part in report.sources}, 0
    for part in before.report.sources:
        if part.name in now:
            inside = _inside(before.state.files.get(part.name), store)
            number += max(0, part.received - now[part.name].received if inside else now[part.name].suppressed - part.suppressed)
        elif _inside(before.state.files.get(part.name), store):
            number += part.accepted
    return number


def _stands(name: str, marks: Marks, now: Mapping[str, Marks]) -> bool:
    """Say whether a source holds what it held, or is declared no more and its files are there."""
    if name not in now:
        return all(Path(path).exists() for path, *_ in marks or () if not path.endswith("wal"))
    there = now[name]
    return marks is not None and there is not None and all(mark in there for mark in marks)


def _inside(marks: Marks, store: Path) -> bool:
    return bool(marks) and all(Path(path).is_relative_to(store) for path, *_ in marks or ())


def _fewer(engine: Engine, old: list[Path], new: list[Path]) -> int:
    """Return how many events fewer there are, at least: a declaration may change customers, names or times, but hardly two of them at once."""
    tables = scan(old, gone_in(old), engine.temp), f"read_parquet([{', '.join(map(literal, new))}], hive_partitioning = false)"
    least = 2**62
    for kept in ("customer_id, event", "event, event_time", "customer_id, event_time"):
        were, are = (f"(select {kept}, count(*) as n from {table} group by all)" for table in tables)
        [(number,)] = engine.rows(f"select sum(greatest(o.n - coalesce(w.n, 0), 0)) from {were} o left join {are} w using ({kept})")
        if (least := min(least, int(number or 0))) == 0:
            break
    return least


def _loss(before: Memory, lost: str, altered: Iterable[str]) -> DataError:
    names = sorted({*altered, *(part.name for part in before.report.sources if part.gone)})
    who = (
        f"source{'s' * (len(names) > 1)} {', '.join(names)} no longer {'hold' if len(names) > 1 else 'holds'}"
        if names
        else "no source holds any more"
    )
    found = f"the table has to be built anew, as it is declared otherwise now, and would lose {lost} of {before.report.rows:,} events, which {who}"
    remedy = "put the files back, or undo the change of the project file, or go on without these events: `predseg check --rebuild`"
    return DataError("E419", "events", found, remedy)
