"""What working with segments needs of a project: its rules, the events, what is published, what is recorded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from predseg.config import Config
from predseg.errors import UsageError, nearest
from predseg.evaluate.ahead import Over
from predseg.evaluate.block import CORE, IDENTITY, Array
from predseg.forecast.traits import ALWAYS, by_customer, trait_frame
from predseg.history.merge import existing_kinds
from predseg.history.privacy import OptedOut
from predseg.language import conditions as c
from predseg.language.assignment import HOLDOUT
from predseg.language.documents import NEVER
from predseg.language.time import say_instant
from predseg.layers import readers, rows_in
from predseg.segments.customers import Customers
from predseg.segments.definitions import STANDARD_EVENTS, Segment, Vocabulary, load_segments, never_occurred, with_used
from predseg.segments.designs import note_designs
from predseg.segments.edits import apply, write
from predseg.segments.facts import DIMENSIONS, Facts
from predseg.segments.kinds import never_passed, numberless
from predseg.segments.memberships import LOG, OPEN, Ledger, Spells, from_table, to_table
from predseg.segments.population import BEGINNING, NOBODY, Listed, members_at, publish_rfv, rfv_wanted
from predseg.segments.preview import SAMPLED_ROWS, Preview, preview
from predseg.segments.replay import Replay, replay
from predseg.segments.review import SMALL, Members, Proposal, Review, review
from predseg.segments.runs import Run, run_segments
from predseg.spark import over_of
from predseg.store import partition_name, steady

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from predseg.forecast.bundle import Bundle
    from predseg.store import Store

LIVE_TRAITS = "live_traits"
_MARK = b"scored"
"""Under this key a partition of rfv scores remembers what was scored: the files of the events and the rules' questions."""
MEMBERSHIPS, RUNS, RFV, CUSTOMERS = "memberships", "segment_runs", "rfv", "customers"
_NO_PROPERTY = {*CORE, *IDENTITY, "event_id"}


@dataclass(frozen=True)
class Audience:
    """Members that may be written to, and how many were left away.

    Attributes:
        as_of: The moment of the run.
        members: Of each segment the open spells, and the variant of each, "" for none, where one of the segments has a `split`.
        opted_out: Members who opted out of the purpose.
        held_out: Other members in the holdout.
    """

    as_of: int
    members: Mapping[str, tuple[Spells, Array | None]]
    opted_out: int
    held_out: int

    @cached_property
    def table(self) -> pa.Table:
        """One row per member: segment, customer_id, entered_at, as_of; with ``variant`` when one of the segments has a `split`."""
        import pyarrow as pa

        return pa.concat_tables([_rows(name, spells, self.as_of, variants) for name, (spells, variants) in self.members.items()])


@dataclass(frozen=True)
class Workspace:
    """The segments of a project over its store."""

    config: Config
    store: Store
    segments: dict[str, Segment]
    vocabulary: Vocabulary
    opted_out: Callable[[str | None], OptedOut]
    champion: Callable[[str], Bundle | None] = lambda model: None

    @classmethod
    def open(
        cls,
        config: Config,
        store: Store,
        opted_out: Callable[[str | None], OptedOut],
        occurred: Sequence[str] | None = None,
        champion: Callable[[str], Bundle | None] = lambda model: None,
    ) -> Workspace:
        """Read the rules and check every name against the data.

        Args:
            config: The project file.
            store: Its store.
            opted_out: Says who must be left alone for a purpose.
            occurred: The events that occurred; None when nothing was ingested yet, so that any name may be used.
            champion: Loads the version of a model that speaks for it, verified; None when it has none.
        """
        known = vocabulary(config, store, occurred)
        return cls(config, store, load_segments(config, known), known, opted_out, champion)

    @property
    def over(self) -> Over:
        """Where blocks of events are answered."""
        return over_of(self.config.engine)

    @property
    def files(self) -> list[Path]:
        """The files of the events table."""
        return self.store.files("events") if self.store.exists("events") else []

    def segment(self, name: str) -> Segment:
        """Return a segment, or refuse with the nearest name."""
        if name not in self.segments:
            raise UsageError("E220", name, "no such segment", nearest(name, tuple(self.segments)))
        return self.segments[name]

    def ledger(self) -> Ledger:
        """Return what is recorded."""
        return ledger_of(self.store)

    def facts(self, ledger: Ledger) -> Facts:
        """Return what is published: scores, rfv scores, clusters, daily memberships, traits."""
        used = {name for segment in self.segments.values() for name in segment.uses() if not self.segments[name].live}
        daily = {name: ledger.spells(name, self.segments[name].definition) for name in used}
        return Facts(self.store, self.traits(), {name: (s.customers, s.entered, s.left) for name, s in daily.items()})

    def traits(self) -> pd.DataFrame | None:
        """Return the traits, None when the project has none."""
        found = [trait_frame(self.store.read(name)) for name in (CUSTOMERS, LIVE_TRAITS) if self.store.exists(name)]
        return found[0] if len(found) == 1 else _one_frame(found) if found else None

    def listed(self) -> Listed:
        """Return the customers who are known without an event."""
        if not self.store.exists(CUSTOMERS):
            return NOBODY
        table = self.store.read(CUSTOMERS)
        since = _instants(table, "known_since" if "known_since" in table.column_names else "event_time", BEGINNING)
        customers, place = Customers.of(table["customer_id"])
        first = np.full(len(customers), OPEN)
        np.minimum.at(first, place, since)
        return Listed(customers, first)

    def run(self, as_of: int, names: Sequence[str] = (), *, write: bool = True) -> Run:
        """Bring segments up to as_of and record it."""
        with self.store.lock() if write else self.store.reading("events"):
            return self._run(as_of, names, write)

    def _run(self, as_of: int, names: Sequence[str], write: bool) -> Run:
        for name in names:
            self.segment(name)
        ledger = self.ledger()
        self.publish_rfv(as_of)
        run = run_segments(self.files, self.segments, as_of, self.facts(ledger), ledger, listed=self.listed(), chosen=names, over=self.over)
        if write and run.recorded:
            self.store.write(MEMBERSHIPS, to_table(run.ledger))
            self.store.write(RUNS, log_table(run.ledger.log))
            note_designs(self.store, [self.segments[name] for name in run.spells], as_of)
        return run

    def members(self, as_of: int) -> dict[str, set[str]]:
        """Return who is a member of each segment at a moment; nothing is recorded."""
        found = members_at(self.files, self.segments, as_of, self.facts(self.ledger()), self.listed(), self.over)
        return {name: set(customers.tolist()) for name, customers in found.items()}

    def publish_rfv(self, as_of: int) -> None:
        """Score recency, frequency and value for the rules that ask for them, unless the same was done for the same events before."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        wanted = rfv_wanted(self.segments.values())
        events = [(stat.st_size, stat.st_mtime_ns) for stat in map(Path.stat, self.files)]
        mark = hashlib.sha256(json.dumps([events, sorted(wanted)]).encode()).digest()
        before = self.store.files(f"{RFV}/{partition_name(as_of)}")
        if not wanted or (before and (pq.read_schema(before[0]).metadata or {}).get(_MARK) == mark):
            return
        tables = [
            pa.table(
                {"customer_id": pa.array(run.customers, pa.string()), "rfv": [key] * len(run.customers), **{n: run.columns[n] for n in DIMENSIONS}}
            )
            for key, run in publish_rfv(self.files, wanted, as_of, self.over).items()
        ]
        if tables:
            self.store.write(RFV, pa.concat_tables(tables).replace_schema_metadata({_MARK: mark}), as_of)

    @steady
    def preview(self, name: str, as_of: int, *, exact: bool = False) -> Preview:
        """Count what each condition of a rule removes."""
        self.segment(name)
        self.publish_rfv(as_of)
        return self._preview(name, as_of, None if exact else SAMPLED_ROWS)

    @steady
    def tried(self, name: str, segments: dict[str, Segment], as_of: int, sample: int) -> Preview:
        """Count what a rule would reach if the segments were these, on about ``sample`` events; what is published for the project's own stays."""
        replace(self, segments={**self.segments, "": segments[name]}).publish_rfv(as_of)
        return replace(self, segments=segments)._preview(name, as_of, sample)

    def _preview(self, name: str, as_of: int, sample: int | None) -> Preview:
        ledger = self.ledger()
        last = ledger.last_run(name)
        return preview(
            self.files,
            self.segments,
            name,
            as_of,
            self.facts(ledger),
            listed=self.listed(),
            opted_out=self.opted_out(self.segments[name].purpose),
            before=None if last is None else ledger.spells(name).at(last),
            rows=self._rows(),
            sample=sample,
            over=self.over,
        )

    def _last(self) -> int:
        columns = [reader.read(["event_time"])["event_time"] for reader in readers(self.files)]
        return max((int(_greatest(column)) for column in columns), default=BEGINNING)

    def _rows(self) -> int:
        return rows_in(self.files)

    @steady
    def replay(self, name: str, start: int, end: int, every: int) -> Replay:
        """Say what a rule would have done from ``start`` to ``end``, both included."""
        self.segment(name)
        if end < start:
            raise UsageError("E223", "--from, --to", f"{say_instant(start)} is after {say_instant(end)}", "name the earlier moment first")
        if (end - start) // every > 10_000:
            raise UsageError("E223", "--from, --to, --every", f"there are {(end - start) // every + 1:,} moments", "ask for at most 10,000")
        model = next(((m.name, m.predict) for m in self.config.models.values() if m.predict.comparison != NEVER), None)
        moments = range(start, end + 1, every)
        facts, listed = self.facts(self.ledger()), self.listed()
        found = replay(self.files, self.segments, name, moments, facts, listed=listed, model=model, last_event=self._last(), over=self.over)
        return replace(found, overlaps=self.preview(name, moments[-1]).overlaps)

    @steady
    def review(self, as_of: int, *, small: int = SMALL) -> Review:
        """Compare all segments and propose what to merge, retire or widen."""
        ledger = self.ledger()
        self.publish_rfv(as_of)
        facts, listed = self.facts(ledger), self.listed()
        members = members_at(self.files, self.segments, as_of, facts, listed, self.over)
        undecided = frozenset(name for name in self.segments if self.unscored(self._resting_on([name]), as_of))

        def measure(rules: dict[str, Segment]) -> Members:
            return members_at(self.files, rules, as_of, facts, listed, self.over)

        return review(self.segments, members, ledger.log, self.texts(), measure, small=small, undecided=undecided)

    def texts(self) -> dict[str, str]:
        """Return the rule files by the name that their places carry."""
        files = {s.node.file for s in self.segments.values() if s.node is not None}
        return {name: (self.config.root / name).read_text("utf-8") for name in sorted(files)}

    def write_rules(self, proposals: Sequence[Proposal]) -> list[Path]:
        """Make the edits of some proposals in the rule files, each file whole or not at all."""
        texts = self.texts()
        every = [edit for proposal in proposals for edit in proposal.edits]
        written = []
        for name in dict.fromkeys(edit.file for edit in every):
            written.append(write(self.config.root / name, apply(texts[name], [e for e in every if e.file == name])))
        return written

    def warnings(self, as_of: int, names: Sequence[str] = ()) -> list[str]:
        """Return what a reader of the figures must know: events that never occurred, filters that nothing passes, models without scores."""
        chosen = self._resting_on(names or self.segments)
        found = never_occurred(chosen, self.vocabulary) + never_passed(chosen, *self._kinds())
        for model in self.unscored(chosen, as_of):
            remedy = f"run `predseg score {model}`, before that `predseg train {model}` if it is not trained yet"
            found.append(f"{model} has no scores at or before {say_instant(as_of)}: what asks for them is unknown; {remedy}")
        return found

    def _resting_on(self, names: Collection[str]) -> list[Segment]:
        """Return segments with all that they ask about, however far down."""
        return list(with_used(self.segments, names).values())

    def _kinds(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return of which kind the properties of events are, and the traits, as far as there is one table of each."""
        events = existing_kinds(self.files[0]) | {"value": "number"} if self.files else {}
        traits = self.store.files(CUSTOMERS) if self.store.exists(CUSTOMERS) and not self.store.exists(LIVE_TRAITS) else []
        return events, existing_kinds(traits[0]) if traits else {}

    def unscored(self, segments: Sequence[Segment], as_of: int) -> list[str]:
        """Return the models that the rules ask for and that have no scores yet."""
        facts = Facts(self.store)
        published = [t for t in (self.store.partitions("scores") if self.store.exists("scores") else []) if t <= as_of]
        used = {p.model for s in segments for p in c.walk(s.match) if isinstance(p, c.Score)}
        return [model for model in sorted(used) if facts.last_run(c.Score(model), published) is None]

    def audience(self, run: Run, names: Sequence[str] = ()) -> Audience:
        """Return the members of a run that may be written to: without the opted-out, and of the others without the held out."""
        names, members, opted, held = tuple(dict.fromkeys(names or run.spells)), {}, 0, 0
        split = any((tries := self.segments[name].experiment) and tries.split for name in names)
        out = {purpose: self.opted_out(purpose) for purpose in {self.segments[name].purpose for name in names}}
        said_no = {purpose: cache(some.__contains__) for purpose, some in out.items() if len(some)}  # most members are in several segments
        for name in names:
            spells, segment, groups = run.spells[name], self.segments[name], None
            kept = np.ones(len(spells.customers), bool)
            if segment.purpose in said_no:
                kept = np.array([not said_no[segment.purpose](c) for c in spells.customers], bool)
                opted += int((~kept).sum())
            if segment.experiment:
                groups = np.array(segment.experiment.groups(spells.customers), object)
                held += int((kept & (groups == HOLDOUT)).sum())
                kept &= groups != HOLDOUT
            groups = np.full(len(kept), "", object) if groups is None else groups
            members[name] = spells.take(kept), groups[kept] if split else None
        return Audience(run.as_of, members, opted, held)


def _rows(segment: str, members: Spells, as_of: int, variants: Array | None) -> pa.Table:
    import pyarrow as pa

    stamp, number = pa.timestamp("us", "UTC"), len(members.customers)
    columns = {
        "segment": pa.repeat(pa.scalar(segment), number),
        "customer_id": pa.array(members.customers, pa.string()),
        "entered_at": pa.array(members.entered, pa.int64()).cast(stamp),
        "as_of": pa.repeat(pa.scalar(as_of, pa.int64()), number).cast(stamp),
    }
    if variants is not None:
        columns["variant"] = pa.array([v or None for v in variants], pa.string())
    return pa.table(columns)


def _one_frame(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Put the traits of the customers file and those that came live under each other; a row without a time is from the beginning."""
    import pandas as pd

    timed = [f.assign(**{name: ALWAYS for name in ("event_time", "known_since") if name not in f}) for f in frames]
    return by_customer(pd.concat(timed, ignore_index=True))


def _greatest(column: pa.ChunkedArray) -> int:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.max(column.cast(pa.timestamp("us", "UTC")).cast(pa.int64())).as_py() or BEGINNING


def vocabulary(config: Config, store: Store, occurred: Sequence[str] | None) -> Vocabulary:
    """Return what the rules of a project may name."""
    import pyarrow.parquet as pq

    channels, purposes = frozenset(config.channels), config.consent.known
    if occurred is None or not store.exists("events"):
        return Vocabulary(frozenset(config.models), channels=channels, purposes=purposes)
    declared = {*(config.contract.events or ()), *config.event_names()}
    columns = {n for path in store.files("events")[:1] for n in pq.read_schema(path).names} - _NO_PROPERTY
    named = [frozenset(store.read(name).column_names) for name in (CUSTOMERS, LIVE_TRAITS) if store.exists(name)]
    traits = frozenset().union(*named) - {"customer_id", "event_time", "known_since"} if store.exists(CUSTOMERS) else None
    events, present = STANDARD_EVENTS | declared | set(occurred), frozenset(columns | {"value"})
    return Vocabulary(
        frozenset(config.models),
        events,
        frozenset(occurred),
        present | set(config.contract.properties),
        present,
        traits,
        channels,
        numberless(store.files("events")),
        purposes,
    )


def ledger_of(store: Store) -> Ledger:
    """Return what is recorded in a store."""
    if not store.exists(RUNS):
        return Ledger.empty()
    log = store.read(RUNS).to_pandas()
    log = log.assign(as_of=log["as_of"].astype("datetime64[us, UTC]").astype(np.int64))[list(LOG)]
    return from_table(store.read(MEMBERSHIPS), log) if store.exists(MEMBERSHIPS) else replace(Ledger.empty(), log=log)


def log_table(log: pd.DataFrame) -> pa.Table:
    """Return the log of runs as it is stored."""
    import pyarrow as pa

    rows = log.sort_values(["as_of", "segment"], kind="stable")
    columns = {name: pa.array(rows[name].to_numpy(object if name in ("segment", "definition") else np.int64)) for name in LOG}
    return pa.table({**columns, "as_of": columns["as_of"].cast(pa.timestamp("us", "UTC"))})


def _instants(table: pa.Table, name: str, missing: int) -> Array:
    import pyarrow as pa

    if name not in table.column_names:
        return np.full(table.num_rows, missing)
    return table[name].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).fill_null(missing).to_numpy()
