"""A project in Python, as pleasant as the command line: load the file, call a verb."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from predseg.config import Config, Model, load
from predseg.errors import ModelError, UsageError, nearest
from predseg.moment import Moment, clock, moment_of, recordable
from predseg.store import PATIENCE, Store

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from predseg.activation.daily import Acted
    from predseg.forecast.bundle import Bundle
    from predseg.forecast.latent.profiles import Discovery
    from predseg.forecast.learn import TrainingReport
    from predseg.forecast.runs import Change, Version
    from predseg.forecast.tracking import Registry
    from predseg.forecast.watching import Drift
    from predseg.history.erasure import Erased
    from predseg.history.expectations import Check
    from predseg.history.people import People
    from predseg.history.privacy import OptedOut
    from predseg.history.report import IngestReport
    from predseg.live.alarms import Alarm
    from predseg.outcomes.projects import Outlook
    from predseg.outcomes.watching import Monitored
    from predseg.segments.sides import Side
    from predseg.segments.workspace import Workspace

Progress = Callable[[str, int, int | None], None]
"""Called with the name of a step, how much is done and, when known, how much there is."""


@dataclass(frozen=True)
class Project:
    """A project file with its data, features and models.

    Every verb brings the events table up to date with the sources first; when no source changed nothing is read.

    Attributes:
        config: The project file, checked.
        progress: Called while long work goes on.
        wait: Seconds to wait for another process that writes to the store.
    """

    config: Config
    progress: Progress | None = field(default=None, compare=False, repr=False)
    wait: float = field(default=PATIENCE, compare=False, repr=False)

    @property
    def store(self) -> Store:
        """The store of the project; it is made when it is not there."""
        return Store(self.config.store, wait=self.wait)

    @classmethod
    def load(cls, path: str | Path = "predseg.yaml", *, progress: Progress | None = None) -> Project:
        """Read a project file.

        Raises:
            ConfigError: when anything in it is not accepted, with file:line:column.
        """
        return cls(load(path), progress)

    # history

    def check(self, *, dry_run: bool = False, rebuild: bool = False) -> IngestReport:
        """Read and validate the sources, and return what was accepted, what was put aside, and why; ``rebuild``: into a new table, see E419.

        Raises:
            DataError: E401 to E411 when a source cannot be read or breaks its contract beyond the tolerance.
        """
        with self._events(dry_run, rebuild=rebuild) as (_, report):
            return report

    def expectations(self, as_of: Moment = None, *, dry_run: bool = False) -> list[Check]:
        """Return whether the data are as the project expects at a moment, and their age by the clock unless it is named."""
        from predseg.history.expectations import judge

        if self.config.expectations is None:
            return []
        with self._events(dry_run) as (store, report):
            moment = moment_of(as_of, report)
            return judge(self.config, store.files("events"), report, moment, clock() if as_of is None else moment)

    def last_check(self) -> IngestReport | None:
        """Return what the last check found, None when there was none."""
        from predseg.history.events import last_report

        return last_report(self.store)

    def warnings(self, report: IngestReport) -> list[str]:
        """Return what is worth a second look: events that are lost, and those that the project file names and the data do not have."""
        return report.warnings(self.config.event_names())

    def events(self) -> pa.Table:
        """Return the events table, sorted by customer and time."""
        with self._events(False) as (store, _):
            return store.read("events")

    def quarantine(self) -> pd.DataFrame:
        """Return the rows that were put aside: source, raw, reason, field, received_at."""
        with self._events(False) as (store, _):
            return store.read("quarantine").to_pandas()

    # forecast

    def features(self, as_of: Moment = None, *, among: str | None = None) -> pd.DataFrame:
        """Return the features of every known customer at a moment, indexed by customer_id.

        Args:
            as_of: The moment; by default the last one of the data.
            among: The name of a model: only the customers that it asks about.
        """
        from predseg.forecast.dataset import open_source

        model = self.model(among) if among else None
        with self._events(False) as (store, report):
            source, moment = open_source(self.config, store), moment_of(as_of, report)
            return source.table(moment, model)

    def train(
        self, models: Sequence[str] | None = None, as_of: Moment = None, *, force: bool = False, dry_run: bool = False, recalibrate: bool = False
    ) -> dict[str, TrainingReport]:
        """Train, test forward in time, and register each model behind its gate; nothing later than ``as_of`` is used.

        Args:
            models: Names; all of the project file by default.
            as_of: The moment of training; by default the last one of the data.
            force: Pass the gate; the run says so.
            dry_run: Train and test, register nothing.
            recalibrate: Learn the calibrations of the champions alone, from what came true since they were trained.

        Raises:
            LabelError: when nothing can be learned from the labels.
            GateError: when a leak is found that the model does not allow, or the data are not as expected.
        """
        from predseg.forecast import learn

        chosen = self._chosen(models)
        with self._events(dry_run) as (store, report):
            moment = self._expected(as_of, store, report)
            without = self.opted_out("training", events=store, dry_run=dry_run)
            how = partial(learn.learn, without=without, force=force, register=not dry_run, recalibrate=recalibrate)
            return {m.name: how(self.config, store, m, moment, self.registry(keep=not dry_run)) for m in chosen}

    def score(
        self, models: Sequence[str] | None = None, as_of: Moment = None, *, out: str | Path | None = None, dry_run: bool = False
    ) -> pd.DataFrame:
        """Score every eligible customer at a moment with the champions.

        Args:
            models: Names; all of the project file by default.
            as_of: The moment; by default the last one of the data.
            out: Also write one file: .parquet, .csv or .jsonl.
            dry_run: Write neither the table nor the file.

        Returns:
            customer_id, as_of, model, model_version, probability, percentile, decile, reasons.

        Raises:
            ModelError: when a model is not trained, was changed on disk, or does not fit the features.
        """
        from predseg.forecast import publishing, watching
        from predseg.history import exports

        recordable(as_of, unless=dry_run)
        chosen = self._chosen(models)
        registry = self.registry(keep=not dry_run)
        bundles = {model.name: registry.load(model.name) for model in chosen}
        with self._events(dry_run, alone=not dry_run) as (store, report):
            moment = self._expected(as_of, store, report)
            without = self.opted_out("profiling", events=store, dry_run=dry_run)
            watcher = watching.Watcher(self.config, store, moment, report.customers, without, not dry_run)
            scored = watcher.score(bundles, self.progress)
            if not dry_run:
                publishing.publish(store, scored, moment)
                if out is not None:
                    exports.export(store, out, scored)
        return scored.to_pandas()

    def drift(self, models: Sequence[str] | None = None, as_of: Moment = None, *, dry_run: bool = False) -> dict[str, Drift]:
        """Compare each champion with the present, and its matured scores with what came true; answers are kept, and given again while nothing changed.

        Args:
            models: Names; all of the project file by default.
            as_of: The moment; by default the last one of the data.
            dry_run: Keep nothing.

        Raises:
            ModelError: when a model is not trained, was changed on disk, or does not fit the features.
        """
        from predseg.forecast.watching import Watcher

        chosen = self._chosen(models)
        with self._events(False) as (store, report):
            without, moment = self.opted_out("profiling", events=store), moment_of(as_of, report)
            return Watcher(self.config, store, moment, report.customers, without, not dry_run).drift(self.registry(keep=not dry_run), chosen)

    def monitor(self, models: Sequence[str] | None = None, as_of: Moment = None, *, dry_run: bool = False, seen: Outlook | None = None) -> Monitored:
        """Look at all watches, and keep what was found, so that the next look tells what began and what ended; see `missing`.

        Args:
            models: Names; all of the project file by default.
            as_of: The moment; by default the last one of the data, and the clock for how old that is.
            dry_run: Keep nothing.
            seen: The project from that moment, when something of it is read already.

        Raises:
            ModelError: when a model was changed on disk, or does not fit the features.
            ConfigError: E339 when the channel that is to be told is not declared.
        """
        from predseg.activation.alerts import watches
        from predseg.outcomes.projects import Outlook
        from predseg.outcomes.watching import look

        tell = watches(self.config, os.environ, clock)
        missing = self.missing(models, dry_run=dry_run)
        drift = self.drift(asked, as_of, dry_run=dry_run) if (asked := [m for m in models or self.config.models if m not in missing]) else {}
        seen = seen or Outlook(self.segments(), self.moment(as_of))
        with self._events(False) as (_, report):
            found = look(seen, report, drift, clock() if as_of is None else seen.as_of, keep=not dry_run, tell=tell)
        return replace(found, missing=missing)

    def report(self, as_of: Moment = None, *, seen: Outlook | None = None) -> str:
        """Return the report, one HTML text that loads nothing: segments, engagement, experiments, models, data and watches at a moment; see `monitor`."""
        from predseg.outcomes.projects import Outlook
        from predseg.outcomes.report.build import build
        from predseg.outcomes.report.page import render

        champions, seen = self.registry().champions(self.config.models), seen or Outlook(self.segments(), self.moment(as_of))
        with self._events(False) as (_, report):
            return render(build(seen, report, champions))

    def discover(
        self,
        name: str = "personas",
        as_of: Moment = None,
        *,
        clusters: int | None = None,
        renames: Mapping[str, str] | None = None,
        seed: int = 0,
        dry_run: bool = False,
    ) -> Discovery:
        """Find latent segments at a moment and publish them, unless no number of clusters is stable.

        Args:
            name: What rules call the clustering: ``cluster: {NAME: [...]}``.
            as_of: The moment; by default the last one of the data.
            clusters: So many, however stable; else the number is found.
            renames: New names of clusters by their present ones.
            seed: Of every random choice.
            dry_run: Write nothing.

        Raises:
            LabelError: E560 too few customers, E561 too little that they differ in.
        """
        from predseg.forecast.latent import discovery

        recordable(as_of, unless=dry_run)
        with self._events(dry_run, alone=not dry_run) as (store, report):
            memory = discovery.remembered(self.config.store, name)
            without, moment = self.opted_out("training", "profiling", events=store, dry_run=dry_run), moment_of(as_of, report)
            how = partial(discovery.discover, clusters=clusters, renames=renames, seed=seed, progress=self.progress)
            found = how(self.config, store, name, moment, memory=memory, without=without)
            if not dry_run:
                discovery.publish(store, found, memory)
            return found

    # segments

    def segments(self) -> Workspace:
        """Return the segments of the project over the events as they are now."""
        from predseg.live.handover import hand_over
        from predseg.segments.workspace import Workspace

        if not self.config.sources and not hand_over(self.config).sources:
            store = self.store
            if not store.exists("events"):
                return Workspace.open(self.config, store, self.opted_out, None, self.champion)
        with self._events(False) as (store, report):
            return Workspace.open(self.config, store, self.opted_out, list(report.events), self.champion)

    def moment(self, as_of: Moment = None) -> int:
        """Return the moment that is asked about (microseconds): as given, else the last one of the data."""
        with self._events(False) as (_, report):
            return moment_of(as_of, report)

    def serve(
        self,
        host: str | None = None,
        port: int | None = None,
        *,
        edits: bool = False,
        ready: Callable[[str, dict[str, str]], None] = lambda url, made: None,
        told: Callable[[Alarm], None] = lambda alarm: None,
        note: Callable[[str], None] = lambda text: None,
    ) -> dict[str, int]:
        """Serve the live segments over HTTP and send what they call for, until stopped; return what became of the events that came.

        Args:
            host: Where to listen; by default what the project file says.
            port: The same; 0 takes a free one.
            edits: Whether the page may save rules.
            ready: Told the address, and the keys that were made just now, when events can come.
            told: Told when an alarm begins or ends.
            note: Told why messages are not sent, when they are not.

        Raises:
            UsageError: E260 when the address cannot be had, E261 when the packages of a stream are missing.
            ConfigError, ChannelError: E381, E801 when a secret of a channel is not set, or cannot sign.
        """
        from predseg.activation.alerts import alarms
        from predseg.activation.claims import in_flight
        from predseg.activation.live import sending
        from predseg.live.deployment import Deployment
        from predseg.live.running import run
        from predseg.page.site import page

        serving = self.config.serve
        serving = replace(serving, host=host or serving.host, port=serving.port if port is None else port)
        workspace, ring = self.segments(), alarms(self.config, os.environ, clock, note)

        def heard(alarm: Alarm) -> None:
            told(alarm)
            ring(alarm.name, alarm.since, alarm.said)

        with sending(workspace, self.people, clock, note) as outbox:
            deployment = Deployment(self.config, workspace, self.people, clock, outbox, in_flight)
            return run(deployment, serving, os.environ, ready, heard, page(workspace, replace(self, progress=None)._now, edits))

    def _now(self) -> tuple[Workspace, int]:
        """Return the segments over the events table as it is, without a look at the sources, and the last moment of its data."""
        from predseg.segments.workspace import Workspace

        report = self.last_check()
        moment = moment_of(None, report) if report is not None and report.rows else clock()
        return Workspace.open(self.config, self.store, self.opted_out, None if report is None else list(report.events), self.champion), moment

    # actions

    def act(self, as_of: Moment = None, *, dry_run: bool = False) -> Acted:
        """Turn the changes that runs recorded up to a moment into messages and send what is due; part of the daily run, after the segments.

        Args:
            as_of: The moment. When it is named, what is due, quiet or too soon is judged as if it were now.
            dry_run: Count what would be sent; send and write nothing.

        Raises:
            ConfigError, ChannelError: E381, E801 when a secret of a channel is not set, or cannot sign.
        """
        from predseg.activation.daily import act

        recordable(as_of, unless=dry_run)
        workspace, moment, started = self.segments(), self.moment(as_of), clock()

        def due() -> int:
            return clock() if as_of is None else moment + clock() - started

        return act(workspace, self.people, moment, wall=clock, clock=due, sleep=time.sleep, dry_run=dry_run)

    # people

    @property
    def people(self) -> People:
        """The persons of the project: consent, erasure, access, and the audit log."""
        from predseg.history.people import People

        return People(self.config, os.environ)

    def opted_out(self, *purposes: str | None, events: Store | None = None, dry_run: bool = False) -> OptedOut:
        """Return everybody who opted out of one of the purposes; None among them stands for any."""
        return self.people.opted_out(*purposes, events=events, dry_run=dry_run)

    def forget(self, customers: Sequence[str], *, dry_run: bool = False) -> Erased:
        """Take everything about some customers out of the store and of exported files, and keep them from coming in again."""
        return self.people.forget(customers, now=clock(), dry_run=dry_run)

    # registry

    def registry(self, *, keep: bool = True) -> Registry:
        """Return the registry of models, kept in the project's store; unless ``keep``, a look at it writes nothing there."""
        from predseg.forecast.tracking import KEY, Registry

        key = os.environ.get(KEY)
        return Registry(self.config.project, self.config.store, self.config.root / "models", key.encode() if key else None, keep)

    def champion(self, model: str) -> Bundle | None:
        """Return the version that speaks for a model, verified; None when there is none."""
        registry = self.registry()
        return registry.load(model) if registry.exists() and registry.champion(model) is not None else None

    def missing(self, models: Sequence[str] | None = None, *, dry_run: bool = False) -> dict[str, ModelError]:
        """Return which models, by default of all, have no champion yet, each with the refusal that asking for it gives."""
        from predseg.forecast.watching import missing

        return missing(self.registry(keep=not dry_run), [self.model(name).name for name in models or self.config.models])

    def models(self) -> dict[str, list[Version]]:
        """Return the registered versions of every model, oldest first."""
        registry = self.registry()
        return {name: registry.versions(name) for name in self.config.models}

    def promote(self, model: str, version: int | None = None, *, force: bool = False, dry_run: bool = False) -> Change:
        """Make a version the champion, by default the challenger, when it passed the gate."""
        return self.registry(keep=not dry_run).promote(self.model(model).name, version, force=force, dry_run=dry_run)

    def gains(self, model: str, version: int | None = None) -> dict[str, tuple[float, float]]:
        """Return the figures of the forward tests of the champion and of a version (by default the challenger), by name."""
        from predseg.forecast.runs import COMPARED

        name, registry = self.model(model).name, self.registry()
        change = registry.promote(name, version, force=True, dry_run=True)
        tests = {v.version: v.metrics for v in registry.versions(name)}
        before, after = tests.get(change.before or 0, {}), tests[change.version]
        return {m: (before[f"test/{m}"], after[f"test/{m}"]) for m in COMPARED if f"test/{m}" in before and f"test/{m}" in after}

    def sides(self, model: str, version: int | None = None, as_of: Moment = None, *, against: int | None = None) -> list[Side]:
        """Return who enters or leaves each segment that asks for a model, if a version speaks for it instead of another.

        Args:
            model: Its name.
            version: Which one; by default the challenger.
            as_of: The moment; by default the last one of the data.
            against: The other one; by default the champion.

        Raises:
            ModelError: when a version is not there, was changed on disk, or does not fit the features.
        """
        from predseg.forecast.publishing import score_models
        from predseg.segments.sides import asking, sides

        name, registry = self.model(model).name, self.registry()
        change = registry.promote(name, version, force=True, dry_run=True)
        before = against or change.before
        if before is None or not self.config.segments or not asking((workspace := self.segments()).segments, name):
            return []
        bundles = [registry.load(name, v) for v in (before, change.version)]
        with self._events(False) as (store, report):
            moment, without = moment_of(as_of, report), self.opted_out("profiling", events=store)
            then, now = (score_models(self.config, store, {name: bundle}, moment, None, without).table for bundle in bundles)
        return sides(workspace, name, moment, then, now)

    def rollback(self, model: str, *, dry_run: bool = False) -> Change:
        """Give the title back to the champion before this one."""
        return self.registry(keep=not dry_run).rollback(self.model(model).name, dry_run=dry_run)

    def model(self, name: str) -> Model:
        """Return a declared model, or refuse with the nearest name."""
        if name not in self.config.models:
            raise UsageError("E207", name, "no such model in the project file", nearest(name, tuple(self.config.models)))
        return self.config.models[name]

    def _chosen(self, models: Sequence[str] | None) -> list[Model]:
        if not self.config.models:
            raise UsageError("E208", self.config.file.name, "the project has no models", "add `models:`, see docs/configuration.md")
        return [self.model(name) for name in dict.fromkeys(models or self.config.models)]

    def _expected(self, as_of: Moment, store: Store, report: IngestReport) -> int:
        """Return the moment that is asked about, when the data are as expected then."""
        from predseg.history.expectations import demand

        moment = moment_of(as_of, report)
        demand(self.config, store.files("events"), report, moment, clock() if as_of is None else moment)
        return moment

    @contextmanager
    def _events(self, dry_run: bool, *, alone: bool = False, rebuild: bool = False) -> Iterator[tuple[Store, IngestReport]]:
        """Give the store with the events table up to date, as it is now whatever other processes do; a dry run gets one that is thrown away.

        ``alone``: what is written inside depends on what was read there, so nobody else writes meanwhile.
        """
        from tempfile import TemporaryDirectory

        from predseg.history.events import ingest
        from predseg.history.quarantine import with_replayed
        from predseg.live.handover import hand_over

        config = with_replayed(hand_over(self.config, dry_run=dry_run))
        if dry_run:
            with TemporaryDirectory(prefix="predseg-") as folder:
                aside = Store(folder)
                yield aside, ingest(config, aside, now=clock(), persons=self.people.persons(dry_run=True), progress=self.progress)
        else:
            store = self.store
            with store.lock() if alone else nullcontext():
                report = ingest(config, store, now=clock(), persons=self.people.persons(), rebuild=rebuild, progress=self.progress)
                with store.reading("events"):
                    yield store, report
