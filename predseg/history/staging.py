"""Reading one source to its end: good rows to a file, bad rows to quarantine, everything counted."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from predseg.engine import Engine, engine_errors, literal, quoted
from predseg.errors import DataError
from predseg.history import mixed, values
from predseg.history.behind import behind
from predseg.history.contract import NOT_ROW, Checked, Property
from predseg.history.parquet import float_text
from predseg.history.persons import EVERYBODY, Persons
from predseg.history.report import SAMPLES, Sample, SourceReport
from predseg.history.sources import Reading
from predseg.store import Store

Progress = Callable[[str, int, int | None], None]
"""Called with the name of a step, the rows done and, when known, the rows in all."""
_SPILL = {"compression": "none", "use_dictionary": False, "write_statistics": False}
"""Options of a Parquet writer of rows that are read back once and soon."""
QUARANTINE = pa.schema(
    [("source", pa.string()), ("raw", pa.string()), ("reason", pa.string()), ("field", pa.string()), ("received_at", values.INSTANT)]
)


@dataclass
class Tally:
    """Counts of one source while it is read. ``due``: the earliest time that the clock has yet to reach; ``last``: the latest event_time."""

    received: int = 0
    good: int = 0
    bad: int = 0
    suppressed: int = 0
    rounded: int = 0
    reasons: dict[tuple[str, str], int] = field(default_factory=dict)
    samples: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    due: int | None = None
    last: int | None = None

    def note(self, fields: list[str], reasons: list[str], raw: list[str]) -> None:
        """Count bad rows and keep the first samples in order of their text: which these are never depends on the order of reading."""
        self.bad += len(raw)
        for key, text in zip(zip(fields, reasons, strict=True), raw, strict=True):
            self.reasons[key] = self.reasons.get(key, 0) + 1
            kept = self.samples.setdefault(key, [])
            if len(kept) < SAMPLES or text < kept[-1]:
                self.samples[key] = sorted([*kept, text])[:SAMPLES]

    def join(self, other: Tally) -> None:
        """Add what was counted of other rows of the same source."""
        for name in ("received", "good", "bad", "suppressed", "rounded"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for key, number in other.reasons.items():
            self.reasons[key] = self.reasons.get(key, 0) + number
            self.samples[key] = sorted([*self.samples.get(key, []), *other.samples[key]])[:SAMPLES]
        self.wait(other.due)
        self.last = other.last if self.last is None or (other.last is not None and other.last > self.last) else self.last

    def wait(self, due: int | None) -> None:
        """Remember the earliest of the times waited for."""
        self.due = due if self.due is None or (due is not None and due < self.due) else self.due

    def see(self, good: pa.Table) -> None:
        """Remember the latest event_time."""
        found = pc.max(good["event_time"].cast(pa.int64())).as_py()
        self.last = found if self.last is None or (found is not None and found > self.last) else self.last

    def report(self, name: str, accepted: int, new: int, conflicts: int = 0) -> SourceReport:
        """Return what became of the rows; of those that came in, what is neither accepted nor bad is a duplicate."""
        ordered = sorted(self.reasons.items(), key=lambda pair: (-pair[1], pair[0]))
        return SourceReport(
            name,
            received=self.received,
            accepted=accepted,
            duplicates=self.good - accepted,
            quarantined=self.bad,
            suppressed=self.suppressed,
            last=self.last,
            new=new,
            conflicts=conflicts,
            rounded=self.rounded,
            reasons={f"{field_} {reason}": number for (field_, reason), number in ordered},
            samples=tuple(Sample(*key, raw) for key, _ in ordered for raw in self.samples[key]),
        )


@dataclass(frozen=True)
class Stage:
    """Where the rows of one source go while it is read."""

    engine: Engine
    reading: Reading
    properties: list[Property]
    fields: pa.Schema
    file: Path
    quarantine: pq.ParquetWriter
    persons: Persons = EVERYBODY
    tally: Tally = field(default_factory=Tally)

    def fill(self, check: Callable[[pa.RecordBatch], Checked], tell: Progress) -> None:
        """Read the source to its end.

        Raises:
            DataError: E404 when it has no rows, E405 and E408 when they cannot be read.
        """
        with engine_errors(self.reading.place, self.reading.code, self.reading.help()):
            self.read(check, tell)
        self.require_rows()

    def require_rows(self) -> None:
        """Refuse a source without rows: E404."""
        if self.tally.received == 0:
            raise DataError("E404", self.reading.place, "no rows", "check the files, or what the query leaves; take the source out while it is empty")

    def read(self, check: Callable[[pa.RecordBatch], Checked], tell: Progress) -> None:
        """Read what the engine shows as the source: good rows to the file, bad ones to quarantine."""
        step, tally = f"reading {self.reading.name}", self.tally
        with pq.ParquetWriter(self.file, self.fields, **_SPILL) as writer, behind() as later:
            for batch in self.engine.stream(select(self.reading, self.properties)):
                checked = check(batch)
                if len(checked.good) + len(checked.bad) != batch.num_rows:
                    raise RuntimeError(f"{self.reading.place}: {batch.num_rows} rows became {len(checked.good)} good and {len(checked.bad)} bad")
                checked, left = self.persons.admit(batch, checked)
                later(writer.write_table, checked.good.select(self.fields.names))
                self._refuse(batch, checked)
                tally.received += batch.num_rows
                tally.good += len(checked.good)
                tally.suppressed += left
                tally.rounded += checked.rounded
                tally.see(checked.good)
                tally.wait(checked.due)
                tell(step, tally.received, self.reading.rows)
        self._refuse_lines()

    def _refuse(self, batch: pa.RecordBatch, checked: Checked) -> None:
        if len(checked.bad):
            raw = self._raw(self.persons.shown(batch.take(pa.array(checked.bad))))
            self._write(raw, checked.fields, checked.reasons, checked.received)

    def _refuse_lines(self) -> None:
        for batch in self.engine.stream(self.reading.raw.rejected) if self.reading.raw.rejected else ():
            lines = [(self.persons.line(raw), reason) for raw, reason in zip(*(batch.column(n).to_pylist() for n in ("raw", "reason")), strict=True)]
            kept = [(raw, reason) for raw, reason in lines if raw is not None]
            self.tally.received += batch.num_rows
            self.tally.suppressed += batch.num_rows - len(kept)
            raws, reasons = pa.array([raw for raw, _ in kept], pa.string()), [reason for _, reason in kept]
            self._write(raws, [NOT_ROW] * len(kept), reasons, pa.nulls(len(kept), values.INSTANT))

    def _write(self, raw: pa.Array, fields: list[str], reasons: list[str], received: pa.Array) -> None:
        names = pa.array([self.reading.name] * len(raw), pa.string())
        rows = pa.table([names, raw, pa.array(reasons, pa.string()), pa.array(fields, pa.string()), received], schema=QUARANTINE)
        kept = rows.filter(self.persons.wanted(self.reading.name, raw))
        self.tally.suppressed += len(rows) - len(kept)
        self.quarantine.write_table(kept)
        self.tally.note(kept["field"].to_pylist(), kept["reason"].to_pylist(), kept["raw"].to_pylist())

    def _raw(self, rows: pa.RecordBatch) -> pa.Array:
        """Return rows as JSON under the names they have in the source."""
        named, several = {p.column: p.name for p in self.properties}, {p.column for p in self.properties if p.kind == "mixed"}
        labels = {self.reading.labels.get(named.get(column.name, column.name)): column for column in rows.schema}
        pairs = []
        for label in self.reading.columns:
            if column := labels.get(label):
                value = quoted(column.name)
                finite = f"case when isfinite({value}) then to_json({value}) else to_json({value}::varchar) end"
                said = finite if pa.types.is_floating(column.type) else mixed.json_as_written(value) if column.name in several else value
                pairs.append(f"{literal(label)}, {said}")
        query = f"select json_object({', '.join(pairs)})::varchar as raw from bad_rows"
        return self.engine.over("bad_rows", pa.Table.from_batches([rows]), query).column("raw").combine_chunks()


def select(reading: Reading, properties: list[Property]) -> str:
    """Return the query of a source's rows under canonical names, and plain ones for properties."""
    columns = [f"{expression} as {name}" for name, expression in reading.given.items()]
    for item in properties:
        if item.name in reading.properties:
            expression, kind = reading.properties[item.name], reading.kinds[item.name]
            float_ = item.kind in ("text", "mixed") and item.name in reading.floats
            columns.append(f"{float_text(expression) if float_ else as_kind(expression, kind, item.kind)} as {item.column}")
    return f"select {', '.join(columns)} from ({reading.inner})"


def as_kind(expression: str, kind: str, wanted: str) -> str:
    """Return the SQL of a property of one kind as one of another, which it is of in another load."""
    if kind == wanted:
        return expression
    if kind == "mixed":
        return mixed.plain(expression)
    if wanted not in ("text", "mixed"):
        return expression
    return number_text(expression) if kind == "number" else mixed.of_kind(expression, kind)


def number_text(column: str) -> str:
    """Return the SQL of an exact number as text without trailing zeros."""
    return f"case when {column} % 1 = 0 then {column}::bigint::varchar else rtrim({column}::varchar, '0') end"


def plan(kinds: list[dict[str, str]], counted: set[str], texts: Collection[str] = ()) -> list[Property]:
    """Return the properties of a table fed by several loads, in order of their names.

    A property that is computed with is a number whatever its sources say; whole and fractional make a number; of any other mixture
    each value keeps its kind, but for ``texts``.
    """
    found = []
    for position, name in enumerate(sorted({name for load in kinds for name in load})):
        seen = {load[name] for load in kinds if name in load}
        several = "text" if name in texts else "mixed"
        kind = "number" if name in counted or seen == {"whole", "number"} else seen.pop() if len(seen) == 1 else several
        found.append(Property(name, kind, f"p{position}", name in counted))
    return found


def keep_quarantine(store: Store, part: str, file: Path) -> None:
    """Put the bad rows of one kind of source (``part-events``, ``part-customers``) in place of those of its last load."""
    with store.replace_file("quarantine", f"{part}.parquet") as target:
        file.rename(target)
