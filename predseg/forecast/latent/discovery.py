"""Latent segments: groups of customers that are in the data, with a name, a profile and a short rule for each.

    discover(config, store, "personas", as_of) -> Discovery       reads the events block by block, writes nothing
    publish(store, discovery)                                     the table `clusters` and the memory of names

Customers with the value event are compared by measures that a rule can ask for, on a robust scale. k-means is fitted on a
sample chosen by a hash of the ids; how many clusters there are is decided in `predseg.forecast.latent.choice`, and when none
come back in every resample nothing is published. Names stay from run to run, see `predseg.forecast.latent.names`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from predseg.config import Config
from predseg.errors import LabelError, UsageError
from predseg.evaluate.ahead import Answer
from predseg.evaluate.batch import Values, decide, evaluate, known_customers
from predseg.evaluate.block import Array, Block
from predseg.forecast.dataset import CUSTOMERS, count_customers, sampled
from predseg.forecast.latent import choice
from predseg.forecast.latent import measures as measured
from predseg.forecast.latent.measures import Aspect, Scaling
from predseg.forecast.latent.names import NAME, Known, Memory, call, match, renamed
from predseg.forecast.latent.profiles import Discovery, Persona, filled, profile, verdict
from predseg.forecast.latent.rules import find_rule, read_rule, sayable
from predseg.history.privacy import NOBODY, OptedOut
from predseg.language import conditions as c
from predseg.language.english import say_condition
from predseg.language.measures import Events, Measure
from predseg.language.time import say_instant
from predseg.spark import over_of

if TYPE_CHECKING:
    import pyarrow as pa

    from predseg.store import Store

CLUSTERS = "clusters"
SAMPLE = 20_000
"""Customers that clusters are fitted on; beyond, a share of them by a hash of their id."""
FEWEST = 100
"""Customers below which there is nothing to group."""
MOST = 20
"""Clusters that may be asked for."""
Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class _Sample:
    """Customers that clusters are fitted on: values float64 (n, d) of the aspects, and how many customers there are of which kind."""

    values: Array
    population: int
    others: bool  # somebody is known without the event


def discover(
    config: Config,
    store: Store,
    name: str,
    as_of: int,
    *,
    memory: Memory | None = None,
    without: OptedOut = NOBODY,
    clusters: int | None = None,
    renames: Mapping[str, str] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Discovery:
    """Find clusters among the customers with the value event by ``as_of``.

    Args:
        config: The project.
        store: Its store, with the events table.
        name: What rules call the clustering: ``cluster: {NAME: [...]}``.
        as_of: The moment.
        memory: The last run, see `remembered`.
        without: Who must be in no cluster.
        clusters: So many, however stable; by default the largest number that is stable and better than chance.
        renames: New names of clusters by their present ones.
        seed: Of every random choice.
        progress: Told of the work.

    Raises:
        UsageError: E230 when the name or the number is not accepted, E231 when a rename is not.
        LabelError: E560 too few customers, E561 too little that they differ in.
    """
    _check(name, clusters)
    event = measured.value_event(config.features)
    offered = [a for a in measured.candidates(config.features) if sayable(a)]
    if event is None:
        raise LabelError("E561", "features.events", "no event is declared, so customers cannot be compared", "declare one under `features: events:`")
    source = _Source(config, store.files("events"), without)
    sample = _read(source, offered, Events((event,)), as_of, progress)
    sample = replace(sample, others=sample.others or store.exists(CUSTOMERS))
    if sample.population < FEWEST:
        message = f"{sample.population:,} customers have {event!r} by {say_instant(as_of)}: at least {FEWEST} are needed to find groups"
        raise LabelError("E560", event, message, "ask at a later moment, or declare another event with a value first under `features: events:`")
    kept, left = _kept(sample.values, offered, memory)
    if len(kept) < 2:
        raise LabelError("E561", "features", f"customers differ in {len(kept)} of {len(offered)} measures", "declare more under `features:`")
    aspects, values = [offered[i] for i in kept], sample.values[:, kept]
    scaling = measured.fit_scaling(values)
    points = scaling.apply(measured.spread_ties(values, aspects, np.random.default_rng([seed, 1]))), scaling.apply(values)
    before = len(memory.clusters) if memory is not None else None
    told = partial(_tell, progress)
    trials = choice.try_numbers(points, choice.RANGE if clusters is None else [clusters], np.random.default_rng([seed, 2]), told)
    trial = choice.choose(trials, before) if clusters is None else trials[0]
    found = Discovery(
        name, as_of, event, sample.population, len(values), tuple(a.name for a in aspects), left, tuple(trials),
        trial.clusters if trial else None, clusters is not None, verdict(trials, trial, clusters is not None),
        notes=filled(values, aspects, scaling),
    )  # fmt: skip
    if trial is None:
        return found
    return _describe(found, _Fit(source, offered, kept, scaling, sample, points, seed), memory, renames or {}, progress)


@dataclass(frozen=True)
class _Source:
    """Whom clusters are made of."""

    config: Config
    files: Sequence[Path]
    without: OptedOut


@dataclass(frozen=True)
class _Fit:
    """What describing clusters needs of the steps before."""

    source: _Source
    offered: Sequence[Aspect]
    kept: Sequence[int]
    scaling: Scaling
    sample: _Sample
    points: choice.Points
    seed: int

    @property
    def aspects(self) -> list[Aspect]:
        return [self.offered[i] for i in self.kept]

    @property
    def values(self) -> Array:
        return self.sample.values[:, self.kept]


def _describe(found: Discovery, fit: _Fit, memory: Memory | None, renames: Mapping[str, str], progress: Progress | None) -> Discovery:
    """Fit, name, describe and assign: the second half of `discover`."""
    assert found.chosen is not None
    start = memory.centers if memory is not None and memory.aspects == tuple(a.fingerprint for a in fit.aspects) else None
    if start is not None and memory is not None:  # centroids of the last run in the scaling of this one
        start = (start * memory.scaling.scale + memory.scaling.center - fit.scaling.center) / fit.scaling.scale
    centers = choice.fit(fit.points[0], found.chosen, fit.seed, start)
    centers = centers[np.unique(choice.assign(fit.points[1], centers))]  # a cluster whom nobody belongs to is none
    label, total = choice.assign(fit.points[1], centers), len(centers)
    known, notes = _again(fit, label, total, memory)
    if memory is not None and memory.as_of > found.as_of:
        notes.append(f"a later run, at {say_instant(memory.as_of)}, stays the one that names are taken from; names given here do not stick")
    lost = [k for k in (memory.clusters if memory else ()) if k not in known.values()]
    names = _names(fit, label, total, known, [k.name for k in lost], renames)
    only = Events((found.event,)) if fit.sample.others else None
    rules = [find_rule(fit.values, label == k, fit.aspects, only) for k in range(total)]
    count = _count(found, fit, centers, names, rules, progress)
    personas, following = [], memory.next_id if memory else 1
    for k, name in enumerate(names):
        was = known.get(k)
        personas.append(_persona(was.id if was else following, name, was is not None, fit, label == k, rules[k], count, k))
        following += was is None
    if not choice.parted(fit.points[0], centers):
        notes.append("the borders are soft: between some of the clusters customers lie as densely as within them")
    remembered = Memory(
        found.as_of, tuple(a.fingerprint for a in fit.aspects), tuple(a.fingerprint for a in fit.offered), fit.scaling,
        tuple(Known(p.id, p.name, tuple(center)) for p, center in zip(personas, centers.tolist(), strict=True)), following,
    )  # fmt: skip
    ordered = tuple(sorted(personas, key=lambda p: (-p.size, p.name)))
    gone = tuple(k.name for k in lost)
    return replace(
        found, personas=ordered, lost=gone, notes=(*found.notes, *notes), members=count.table, memory=remembered, customers=count.customers
    )


def _again(fit: _Fit, label: Array, k: int, memory: Memory | None) -> tuple[dict[int, Known], list[str]]:
    """Return which clusters the last run had, compared in its scaling."""
    if memory is None:
        return {}, []
    at = {a.fingerprint: i for i, a in enumerate(fit.offered)}
    common = [i for i, print_ in enumerate(memory.aspects) if print_ in at]
    if len(common) < max(2, len(memory.aspects) / 2):
        return {}, ["the measures have changed since the last run, so the clusters are named anew"]
    points = memory.scaling.take(common).apply(fit.sample.values[:, [at[memory.aspects[i]] for i in common]])
    return match(np.array([points[label == i].mean(axis=0) for i in range(k)]), memory.centers[:, common], memory.clusters), []


def _names(fit: _Fit, label: Array, k: int, known: Mapping[int, Known], lost: Sequence[str], renames: Mapping[str, str]) -> list[str]:
    new = [i for i in range(k) if i not in known]
    overall = np.median(fit.points[1], axis=0)
    deviations = np.array([np.median(fit.points[1][label == i], axis=0) - overall for i in new]).reshape(len(new), len(fit.aspects))
    medians = np.array([measured.medians(fit.values[label == i]) for i in new]).reshape(len(new), len(fit.aspects))
    fresh = call(deviations, medians, fit.aspects, measured.noun(fit.source.config.features), [*(was.name for was in known.values()), *lost])
    named = {i: was.name for i, was in known.items()} | dict(zip(new, fresh, strict=True))
    return renamed([named[i] for i in range(k)], renames)


# everybody, block by block


@dataclass
class _Count:
    """Who is in which cluster, and whom its rule finds."""

    sizes: Array
    hits: Array
    found: Array
    table: pa.Table | None = None

    @property
    def customers(self) -> int:
        return int(self.sizes.sum())


def _count(found: Discovery, fit: _Fit, centers: Array, names: Sequence[str], rules: Sequence[str | None], progress: Progress | None) -> _Count:
    """Assign every customer, and evaluate every rule for everybody who is known."""
    import pyarrow as pa

    conditions, as_of = [read_rule(rule) if rule else None for rule in rules], found.as_of
    aspects, scaling = fit.aspects, fit.scaling

    def work(block: Block, answers: Answers, known: Array, present: Array) -> tuple[Array, Array]:
        values = np.column_stack([answers[a.measure].to_float()[:, 0] for a in aspects])
        told = [decide(rule, answers, block, [as_of], None).true[:, 0] if rule else np.zeros(len(known), bool) for rule in conditions]
        return np.where(present, choice.assign(scaling.apply(values), centers), -1), np.array(told) & known

    more = [m for rule in conditions if rule is not None for m in c.measures(rule)]
    count = _Count(*(np.zeros(len(names), np.int64) for _ in range(3)))
    ids: list[Array] = []
    labels: list[Array] = []
    every = _everyone(fit.source, [*(a.measure for a in aspects), *more], Events((found.event,)), as_of, work)
    for customers, allowed, _, present, (label, told) in every:
        inside = (label == np.arange(len(names))[:, None]) & allowed
        count.sizes += inside.sum(axis=1)
        count.found += (told & allowed).sum(axis=1)
        count.hits += (told & inside).sum(axis=1)
        ids.append(customers[present & allowed])
        labels.append(label[present & allowed])
        _progress(progress, "assigning customers, blocks", len(ids), None)
    who, where = np.concatenate(ids), np.concatenate(labels)
    order = np.argsort(who.astype(str), kind="stable")
    column = pa.DictionaryArray.from_arrays(pa.array(where[order], pa.int32()), pa.array(names, pa.string())).cast(pa.string())
    count.table = pa.table({"customer_id": pa.array(who[order], pa.string()), "model": pa.repeat(found.model, len(who)), "cluster": column})
    return count


def _read(source: _Source, offered: Sequence[Aspect], event: Events, as_of: int, progress: Progress | None) -> _Sample:
    share = min(1.0, SAMPLE / max(count_customers(source.files), 1))
    parts, population, others = [], 0, False

    def work(block: Block, answers: Answers, known: Array, present: Array) -> Array:
        chosen = present & sampled(block.customers, share)
        return np.column_stack([answers[a.measure].to_float()[chosen, 0] for a in offered])

    every = _everyone(source, [a.measure for a in offered], event, as_of, work)
    for number, (customers, allowed, known, present, values) in enumerate(every, 1):
        population += int((present & allowed).sum())
        others |= bool((known & ~present & allowed).any())
        parts.append(values[allowed[present & sampled(customers, share)]])
        _progress(progress, "measuring customers, blocks", number, None)
    return _Sample(np.concatenate(parts) if parts else np.zeros((0, len(offered))), population, others)


Answers = dict[Measure, Values]


def _everyone(
    source: _Source, measures: Sequence[Measure], event: Events, as_of: int, work: Callable[[Block, Answers, Array, Array], Answer]
) -> Iterator[tuple[Array, Array, Array, Array, Answer]]:
    """Yield of each block its customers, who may be looked at, who is known, who of them has the event, and what ``work`` says.

    Who may not, and the keys that tell, stay on this machine: ``work`` sees everybody.
    """
    wanted = list(dict.fromkeys([*measures, Measure(event)]))

    def of_block(block: Block) -> tuple[Array, Array, Array, Answer]:
        answers = dict(zip(wanted, evaluate(block, [as_of], wanted), strict=True))
        known = known_customers(block, [as_of])[:, 0]
        present = known & (answers[Measure(event)].number[:, 0] > 0)
        return block.customers, known, present, work(block, answers, known, present)

    properties = set().union(*(m.properties() for m in wanted))
    for customers, known, present, said in over_of(source.config.engine)(of_block, source.files, properties, since=as_of):
        allowed = np.array([customer not in source.without for customer in customers], bool) if len(source.without) else np.ones(len(customers), bool)
        yield customers, allowed, known, present, said


def _kept(values: Array, offered: Sequence[Aspect], memory: Memory | None) -> tuple[list[int], dict[str, str]]:
    """Choose the columns as the last run did while the same are offered, so that clusters stay comparable."""
    kept, left = measured.select(values, offered)
    prints = [a.fingerprint for a in offered]
    if memory is not None and tuple(prints) == memory.offered:
        again = [prints.index(f) for f in memory.aspects]
        left = {name: why for name, why in left.items() if name not in {offered[i].name for i in again}}
        left |= {offered[i].name: "left out in the last run" for i in kept if i not in again}
        kept = again
    return kept, left


# words


def _persona(id_: int, name: str, again: bool, fit: _Fit, inside: Array, rule: str | None, count: _Count, k: int) -> Persona:
    size, found, hits = int(count.sizes[k]), int(count.found[k]), int(count.hits[k])
    sentence = f"Customers who {say_condition(read_rule(rule))}." if rule else None
    rates = (hits / found if found else None, hits / size if size else None) if rule else (None, None)
    return Persona(
        id_, name, size, size / max(count.customers, 1), again, profile(fit.aspects, fit.points[1], fit.values, inside), rule, sentence, *rates
    )


# the store


def remembered(folder: Path, name: str) -> Memory | None:
    """Return the memory of the last run from the folder of a store, None when there is none."""
    file = folder / _file(name)
    return Memory.from_text(file.read_text("utf-8"), str(file)) if file.is_file() else None


def publish(store: Store, found: Discovery, memory: Memory | None = None) -> None:
    """Write the clusters of a moment, those of other models at the same moment stay; remember them unless a later run is."""
    import pyarrow as pa
    import pyarrow.compute as pc

    table = found.members
    if table is None or found.memory is None:
        return
    with store.lock():
        if found.as_of in (store.partitions(CLUSTERS) if store.exists(CLUSTERS) else []):
            before = store.read(CLUSTERS, found.as_of).select(table.column_names).cast(table.schema)
            table = pa.concat_tables([before.filter(pc.not_equal(before["model"], found.model)), table])
        store.write(CLUSTERS, table.sort_by([("model", "ascending"), ("customer_id", "ascending")]), found.as_of)
        if memory is None or memory.as_of <= found.as_of:
            store.write_text(_file(found.model), found.memory.to_text())


def _file(name: str) -> str:
    return f"clusters-{name}.json"


def _check(name: str, clusters: int | None) -> None:
    if not NAME.fullmatch(name) or " " in name:
        raise UsageError("E230", name, "this cannot be the name of a clustering", "begin with a letter; use letters, digits, `_` and `-`")
    if clusters is not None and not 2 <= clusters <= MOST:
        raise UsageError("E230", "--clusters", f"found {clusters}, expected 2 to {MOST}", "leave it away, and the number is found")


def _tell(progress: Progress | None, clusters: int) -> None:
    _progress(progress, "trying numbers of clusters", clusters - choice.RANGE.start + 1, len(choice.RANGE))


def _progress(progress: Progress | None, step: str, done: int, total: int | None) -> None:
    if progress is not None:
        progress(step, done, total)
