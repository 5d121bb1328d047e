"""The features of a customer at a moment: declared once, named by rule, answered by the batch kernel.

Recency, frequency and value of each declared event over each window, the rhythm of its occurrences, shares between
windows, named measures, and traits. A feature at ``as_of`` sees events visible by then, windows are (as_of - w, as_of].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import predseg.config as declared
from predseg.errors import ConfigError
from predseg.evaluate.ahead import Answer, Over, here
from predseg.evaluate.batch import Values, decide, known_customers
from predseg.evaluate.block import BEGINNING, ROWS, Array, Block
from predseg.evaluate.matrix import Choice, columns
from predseg.evaluate.moments import as_seen, virtual_blocks
from predseg.forecast import bags
from predseg.forecast.gaps import Gaps, answer, gaps_of
from predseg.forecast.taste import names as names_of_taste
from predseg.forecast.visits import BROUGHT, FIRST_VISIT, SIGN, SIGNS, VISITS, brought
from predseg.language import conditions as c
from predseg.language.measures import Events, Measure, Step, Window, column_name, slug
from predseg.language.time import YEAR, short_duration

if TYPE_CHECKING:
    import pandas as pd

CELLS = 36_000_000
"""Events × moments × features of a block: with many moments blocks get smaller, as each of their customers needs that many numbers.

So few that these mostly fit the memory that one block leaves to the next (see `predseg.evaluate.memory`): new memory costs a quarter of the time.
"""


@dataclass(frozen=True)
class Ratio:
    """One column over another; missing where the second is missing, 0 or (refunds) negative."""

    numerator: str
    denominator: str


Feature = Measure | Ratio | Gaps


@dataclass(frozen=True)
class FeatureSet:
    """The columns of a project's features, in order, each with its declaration; then traits, and what a taste is learned from."""

    columns: tuple[tuple[str, Feature], ...]
    traits: tuple[str, ...] = ()
    bag: bags.Bag | None = None

    @property
    def measures(self) -> list[Measure]:
        """What the kernel must answer."""
        return [f for _, f in self.columns if isinstance(f, Measure)]

    @property
    def names(self) -> list[str]:
        """All columns: numbers, traits, and the bag."""
        return [name for name, _ in self.columns] + [f"trait_{t}" for t in self.traits] + ([self.bag.name] if self.bag else [])

    def properties(self) -> set[str]:
        """The properties of events that the measures and the bag read."""
        return set().union(*(m.properties() for m in self.measures), {self.bag.of} if self.bag else ())


def compile_features(features: declared.Features, models: Iterable[declared.Model] = ()) -> FeatureSet:
    """Return the columns that a declaration stands for, named by rule; of events that models predict also their gaps, and the same season a year ago.

    >>> names = compile_features(declared.Features(events=(("Order Completed", declared.EventFeatures("value")),))).names
    >>> names[:3]
    ['tenure', 'days_since_order_completed', 'days_since_first_order_completed']
    >>> "sum_value_order_completed_365d" in names
    True

    Raises:
        ConfigError: E309 when two declarations make a column of the same name.
    """
    columns: dict[str, Feature] = {"tenure": Measure(Events(), Window(), "days_since_first")}
    for name, wanted in features.events:
        _add(columns, _of_event(Events((name,)), wanted, features.windows), features, f"features.events.{name}")
    if features.visits:
        _add(columns, _visits(features.visits), features, "features.visits")
    for name, measure in features.measures:
        _add(columns, {name: measure}, features, f"features.measures.{name}")
    asked = [(m.predict.measure.events.names, m.predict.horizon) for m in models]
    for name, _ in features.events:
        if horizons := [horizon for names, horizon in asked if names == (name,)]:
            found: dict[str, Feature] = {g.name: g for g in gaps_of(Events((name,)), horizons)}
            if features.visits and features.visits.brought_by:
                found[brought(slug(name))] = Measure(Events((name,), features.visits.brought_by))
            _add(columns, found | _last_year(Events((name,)), horizons), features, f"features.events.{name}")
    bag = bags.Bag(Events(features.taste.did), features.taste.of) if features.taste else None
    if bag:
        _refuse_taken(columns, {bag.name, *names_of_taste()}, features, "features.taste")
    return FeatureSet(tuple(columns.items()), features.traits, bag)


def _add(columns: dict[str, Feature], more: dict[str, Feature], features: declared.Features, place: str) -> None:
    _refuse_taken(columns, more.keys(), features, place)
    columns |= more


def _refuse_taken(columns: Iterable[str], more: AbstractSet[str], features: declared.Features, place: str) -> None:
    """Refuse the name of a column that stands for something else already."""
    taken = {*columns, "customer_id", "as_of", *(f"trait_{t}" for t in features.traits)}
    if again := sorted(taken & more):
        raise ConfigError("E309", place, f"the column {again[0]!r} stands for something else already", "choose another name")


def _of_event(events: Events, wanted: declared.EventFeatures, windows: Sequence[int]) -> dict[str, Feature]:
    spans = [*(Window(w) for w in windows), Window()]
    measures = [Measure(events, Window(), a) for a in ("days_since_last", "days_since_first", "gap_mean", "gap_std", "gap_last")]
    measures += [Measure(events, span) for span in spans]
    for aggregate in ("sum", "avg", "max") if wanted.value else ():
        measures += [Measure(events, span, aggregate, wanted.value) for span in spans]
    measures += [Measure(events, span, "distinct", of) for of in wanted.distinct for span in spans]
    columns: dict[str, Feature] = {column_name(m): m for m in measures}
    return columns | _ratios(events, wanted, windows)


def _visits(wanted: declared.VisitFeatures) -> dict[str, Feature]:
    """How many visits were over by then (each counts by its last event), when the first began, and the last sign of life.

    Where it is said what brings visits, also how many were brought; where there are other signs of life, also how many of them.
    """
    visit, sign = Events(wanted.did), Events((*wanted.did, *wanted.signs))

    def spells(events: Events) -> Measure:
        return Measure(events, then=Step(events, wanted.pause, did=False))

    found: dict[str, Feature] = {VISITS: spells(visit), FIRST_VISIT: Measure(visit, aggregate="days_since_first")}
    found |= {BROUGHT: spells(replace(visit, where=wanted.brought_by))} if wanted.brought_by else {}
    return found | ({SIGNS: Measure(Events(wanted.signs))} if wanted.signs else {}) | {SIGN: Measure(sign, aggregate="days_since_last")}


def _ratios(events: Events, wanted: declared.EventFeatures, windows: Sequence[int]) -> dict[str, Feature]:
    """Recency in units of the customer's own rhythm, and what share of a window falls into the next shorter one."""
    event = slug(events.names[0])
    ratios: dict[str, Feature] = {f"recency_over_gap_{event}": Ratio(f"days_since_{event}", f"gap_mean_{event}")}
    kinds = [f"count_{event}", *([f"sum_{wanted.value}_{event}"] if wanted.value else [])]
    for shorter, longer in zip(windows, windows[1:], strict=False):
        for kind in kinds:
            short, long = short_duration(shorter), short_duration(longer)
            ratios[f"share_{kind}_{short}_of_{long}"] = Ratio(f"{kind}_{short}", f"{kind}_{long}")
    return ratios


def _last_year(events: Events, horizons: Sequence[int]) -> dict[str, Feature]:
    """What happened a year before each horizon, and around that time, half a horizon to both sides."""
    found: dict[str, Feature] = {}
    for horizon in sorted(h for h in set(horizons) if 3 * h < 2 * YEAR):
        name = f"count_{slug(events.names[0])}_year_before_{short_duration(horizon)}"
        found[name] = Measure(events, Window(YEAR, YEAR - horizon))
        found[f"{name}_wide"] = Measure(events, Window(YEAR + horizon // 2, YEAR - horizon - horizon // 2))
    return found


def block_features(block: Block, as_of: Sequence[int], features: FeatureSet) -> tuple[Array, Array]:
    """Return who is known, bool (customers, moments), and the features, float64 (columns, customers, moments), traits left out."""
    matrix, *_ = feature_columns(block, as_of, features, [])
    return known_customers(block, as_of), matrix.reshape(len(matrix), len(as_of), -1).transpose(0, 2, 1)


def feature_columns(
    block: Block, as_of: Sequence[int], features: FeatureSet, also: Sequence[Measure], choose: Choice | None = None
) -> tuple[Array, dict[Measure, Values], Array | None]:
    """Return the features, traits left out, of the chosen customers at each moment, see `predseg.evaluate.matrix.columns`."""
    matrix, exact, at = columns(block, as_of, [f if isinstance(f, Measure) else None for _, f in features.columns], also=also, choose=choose)
    place = {name: i for i, (name, _) in enumerate(features.columns)}
    gaps = [f for _, f in features.columns if isinstance(f, Gaps)]
    for one, values in zip(gaps, answer(block, as_of, gaps), strict=True):
        matrix[place[one.name]] = values.T.ravel() if at is None else values.T.ravel().take(at)
    for name, feature in features.columns:
        if isinstance(feature, Ratio):
            ratio, below = matrix[place[name]], matrix[place[feature.denominator]]
            ratio.fill(np.nan)
            np.divide(matrix[place[feature.numerator]], below, out=ratio, where=below > 0)
    return matrix, exact, at


def features_at(block: Block, customers: Array, moments: Array, features: FeatureSet, traits: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return the features of k customers, each at a moment of its own: a row each, in their order, all missing for who is not in the block.

    Args:
        block: Whole histories.
        customers: Ids (k).
        moments: Microseconds, int64 (k).
        features: What to compute.
        traits: Facts of customers, see `predseg.forecast.traits`.
    """
    import pandas as pd

    from predseg.forecast.traits import trait_columns

    place = block.places(customers)
    here = np.flatnonzero(place >= 0)
    matrix = np.full((len(features.columns), len(customers)), np.nan)
    for at, virtual in virtual_blocks(block, place[here], np.asarray(moments, np.int64)[here], features.measures):
        relative = replace(features, columns=tuple((n, as_seen(f) if isinstance(f, Measure) else f) for n, f in features.columns))
        matrix[:, here[at]] = feature_columns(virtual, [0], relative, [])[0]
    keys = pd.DataFrame({"customer_id": customers, "as_of": moments})
    return pd.DataFrame(matrix.T, columns=[name for name, _ in features.columns]).assign(**trait_columns(features.traits, traits, keys))


def frames(
    files: Sequence[Path],
    as_of: Sequence[int],
    features: FeatureSet,
    *,
    among: c.Condition | None = None,
    traits: pd.DataFrame | None = None,
    over: Over = here,
) -> Iterator[pd.DataFrame]:
    """Yield the features block by block: a row per known customer and moment, columns customer_id, as_of, then the features.

    Args:
        files: The files of the events table.
        as_of: Moments (microseconds).
        features: What to compute.
        among: Who is eligible, seen at each moment; everyone known by default.
        traits: Facts of customers, see `predseg.forecast.traits`.
        over: Where it is computed.
    """
    return each_frame(lambda frame: frame, files, as_of, features, among=among, traits=traits, over=over)


def each_frame(
    then: Callable[[pd.DataFrame], Answer],
    files: Sequence[Path],
    as_of: Sequence[int],
    features: FeatureSet,
    *,
    among: c.Condition | None = None,
    traits: pd.DataFrame | None = None,
    over: Over = here,
) -> Iterator[Answer]:
    """Yield what ``then`` makes of the features of each block, where they were computed; see `frames`."""
    return each_block(lambda block: then(block_frame(block, as_of, features, among=among, traits=traits)), files, as_of, features, [among], over)


def each_block(
    work: Callable[[Block], Answer],
    files: Sequence[Path],
    as_of: Sequence[int],
    features: FeatureSet,
    among: Sequence[c.Condition | None],
    over: Over,
) -> Iterator[Answer]:
    """Yield what ``work`` makes of each block, of a size that suits the features, with the properties that they and who is eligible ask for."""
    wanted = features.properties().union(*(m.properties() for one in among if one for m in c.measures(one)))
    rows = max(ROWS // 4, min(ROWS, CELLS // max(1, len(as_of) * len(features.names))))
    return over(work, files, wanted, rows, min(as_of, default=BEGINNING))


@lru_cache(maxsize=64)
def _names(features: tuple[str, ...]) -> pd.Index:
    """The columns of a frame: one object for all blocks, as making and looking them up would take longer than all else in a small one."""
    import pandas as pd

    names = pd.Index(["customer_id", "as_of", *features])
    names.get_indexer(names)  # its table is made here, not by two threads at once
    return names


def block_frame(
    block: Block, as_of: Sequence[int], features: FeatureSet, *, among: c.Condition | None = None, traits: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Return the features of one block, see `frames`."""
    return block_frames(block, as_of, features, [among], traits)[0]


def block_frames(
    block: Block,
    as_of: Sequence[int],
    features: FeatureSet,
    among: Sequence[c.Condition | None],
    traits: pd.DataFrame | None = None,
    more: Mapping[str, Array] | None = None,
) -> list[pd.DataFrame]:
    """Return the features of one block, computed once, of the eligible by each of some conditions, see `frames`; ``more``: columns of one value a customer."""
    import pandas as pd
    import pyarrow as pa

    from predseg.forecast.traits import trait_columns, trait_facts

    facts, eligible = trait_facts(traits), list[Array]()

    def chosen(exact: dict[Measure, Values]) -> Array:
        known = known_customers(block, as_of)
        eligible.extend(known if one is None else known & decide(one, exact, block, as_of, facts).true for one in among)
        return eligible[0] if len(eligible) == 1 else np.logical_or.reduce(eligible)

    also = [measure for one in among if one is not None for measure in c.measures(one)]
    matrix, _, at = feature_columns(block, as_of, features, also, chosen)
    at = np.arange(matrix.shape[1]) if at is None else at
    begins = np.arange(len(as_of) + 1) * block.size
    rows = np.diff(np.searchsorted(at, begins))
    customer = at - np.repeat(begins[:-1], rows)
    frame = pd.DataFrame(matrix.T, copy=False)
    frame.insert(0, -1, np.repeat(np.asarray(as_of, np.int64), rows))
    frame.insert(0, -2, pd.array(block.ids.cast(pa.large_string()).take(pa.array(customer)), dtype="str"))
    frame.columns = _names(tuple(name for name, _ in features.columns))
    told = trait_columns(features.traits, traits, frame) if features.traits else {}
    if features.bag:
        told[features.bag.name] = pd.arrays.ArrowExtensionArray(bags.answer(block, as_of, features.bag, at))
    frame = frame.assign(**told, **{name: column[customer] for name, column in (more or {}).items()})
    if len(eligible) == 1:
        return [frame]
    own = [some.T.ravel()[at] for some in eligible]
    return [frame if mine.all() else frame[mine].reset_index(drop=True) for mine in own]
