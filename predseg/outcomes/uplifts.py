"""Whom a segment's messages move: the uplift score of its holdout, from what was known of each customer before its first message."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from predseg.errors import UsageError
from predseg.evaluate.block import Array
from predseg.forecast.dataset import Source, open_source
from predseg.forecast.features import features_at
from predseg.forecast.reasons import declare
from predseg.forecast.scoring import ranks
from predseg.forecast.uplift import Uplift, UpliftModel, learn_uplift
from predseg.language.assignment import HOLDOUT, Experiment
from predseg.language.time import DAY
from predseg.layers import parts
from predseg.outcomes.experiments import MISMATCH, Units, group_shares, share_test
from predseg.outcomes.log import histories
from predseg.outcomes.projects import Outlook, begun, check_occurred, joined
from predseg.segments.definitions import Segment
from predseg.segments.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

TOP = 5
"""So many features are named."""


@dataclass(frozen=True)
class Mover:
    """A feature by which the effect differs.

    Attributes:
        feature: Its column.
        says: What it is, in words.
        weight: Its share of what the trees of the effect gained.
        low: The expected effect on those with at most the median of it; None where nobody is on that side, as with all three of a text.
        high: On those above the median.
        missing: On those who have none.
    """

    feature: str
    says: str
    weight: float
    low: float | None
    high: float | None
    missing: float | None


@dataclass(frozen=True, eq=False)
class Moving:
    """What a segment's holdout says about whom its messages move.

    Attributes:
        segment: Its name.
        design: What it tries out, in words.
        since: From when on its present design is in force; None when no run has seen it.
        as_of: The moment of looking.
        goal: The event that is hoped for.
        within: How long each customer is watched.
        waiting: Customers whose time is not over.
        complete_at: When it is over for all of them; None when nobody waits.
        p_shares: How often chance brings such group sizes about.
        withheld: Whether they are not as declared: then nothing is said.
        uplift: What was found; None where it is withheld.
        movers: The features by which effects differ most, while there is enough evidence.
        scores: The members at as_of (segment, customer_id, as_of, uplift, percentile, decile); None while there is not.
    """

    segment: str
    design: str
    since: int | None
    as_of: int
    goal: str
    within: int
    waiting: int
    complete_at: int | None
    p_shares: float | None
    withheld: bool
    uplift: Uplift | None
    movers: tuple[Mover, ...] = ()
    scores: pa.Table | None = field(default=None, repr=False)


def moving(seen: Outlook, name: str, *, goal: str | None = None, within: int = 30 * DAY, since: int | None = None, seed: int = 0) -> Moving:
    """Learn whom the messages of a segment move, from its holdout.

    Customers are those of `predseg.outcomes.projects.trial`, each with its features as they were known at the moment from which on it counts.
    Who opted out of ``training`` is not learned from.

    Args:
        seen: The project, from the moment of looking.
        name: The segment.
        goal: The event that is hoped for; by default `goal_of`.
        within: How long each customer is watched: (since, since + within].
        since: Only customers from then on; not before the present design.
        seed: Of the trees and the bootstrap.

    Raises:
        UsageError: E220 no such segment, E225 it has no holdout or ``since`` is before its present design, E226 no such event.
    """
    workspace, as_of, ledger = seen.workspace, seen.as_of, seen.ledger
    segment = workspace.segment(name)
    experiment = segment.experiment
    if experiment is None or not experiment.holdout:
        raise UsageError("E225", name, "the segment has no `holdout`: nobody is left alone to compare with", "declare one: `holdout: 10%`")
    start, goal = begun(workspace, segment, since), goal or seen.goal
    check_occurred(workspace, "--goal", goal)
    log = seen.events(goal)
    units = joined(workspace, segment, ledger, start, as_of)
    groups = np.array(experiment.groups(units.customers), object)
    within_it = (groups != "") | np.array(not experiment.split)
    sizes = [int((within_it & (groups == HOLDOUT)).sum()), int((within_it & (groups != HOLDOUT)).sum())]
    chance = _chance(experiment)
    p_shares = share_test(sizes, [1 - chance, chance])
    withheld = p_shares is not None and p_shares < MISMATCH
    source = open_source(workspace.config, workspace.store, workspace.opted_out("training"))
    done = within_it & (units.since + within <= as_of)
    late = units.since[within_it & ~done]
    complete_at = int(late.max()) + within if len(late) else None
    common = (name, experiment.says(), start, as_of, goal, within, len(late), complete_at, p_shares, withheld)
    if withheld:
        return Moving(*common, None)
    done &= np.array([c not in source.without for c in units.customers], bool)
    learned, treated = Units(units.customers[done], units.since[done]), groups[done] != HOLDOUT
    number, _ = log.totals(log.positions(learned.customers), learned.since, learned.since + within)
    frame = _features(source, learned)
    found = learn_uplift(frame, treated, number > 0, learned.customers, float(chance), seed)
    if found.model is None:
        return Moving(*common, found)
    members = _members(workspace, segment, ledger.spells(name, segment.definition).at(as_of), as_of)
    return Moving(*common, found, _movers(found.model, frame, source), _scores(found.model, source, segment, members))


def _chance(experiment: Experiment) -> Fraction:
    """The share of those in the experiment who are written to."""
    shares = group_shares(experiment)
    return 1 - shares[HOLDOUT] / sum(shares.values(), Fraction(0))


def _features(source: Source, units: Units) -> pd.DataFrame:
    block = histories(parts(source.files), units.customers, source.properties())
    return features_at(block, units.customers, units.since, source.features, source.traits)


def _members(workspace: Workspace, segment: Segment, members: Array, as_of: int) -> Units:
    out = workspace.opted_out(segment.purpose)
    willing = np.array([c for c in members if c not in out], object)
    return Units(willing, np.full(len(willing), as_of, np.int64))


def _scores(model: UpliftModel, source: Source, segment: Segment, members: Units) -> pa.Table:
    import pyarrow as pa

    effect = model.effect(_features(source, members)) if len(members.customers) else np.zeros(0)
    percentile, decile = ranks(effect)
    return pa.table(
        {
            "segment": pa.array([segment.name] * len(effect), pa.string()),
            "customer_id": pa.array(members.customers, pa.string()),
            "as_of": pa.array(members.since, pa.timestamp("us", "UTC")),
            "uplift": pa.array(effect, pa.float64()),
            "percentile": pa.array(percentile, pa.float64()),
            "decile": pa.array(decile, pa.int64()),
        }
    ).sort_by([("uplift", "descending"), ("customer_id", "ascending")])


def _movers(model: UpliftModel, frame: pd.DataFrame, source: Source) -> tuple[Mover, ...]:
    """The features that the trees of the effect gained most by, and the expected effect on both sides of the median of each."""
    gains = sum(np.asarray(booster.feature_importance("gain"), np.float64) for booster in model.effects)
    weights = np.asarray(gains / max(float(np.sum(gains)), 1e-12))
    effect, declared = model.effect(frame), declare(source.features)
    order = np.argsort(-weights, kind="stable")[:TOP]
    return tuple(_mover(model.features[i], float(weights[i]), frame, effect, declared) for i in order if weights[i] > 0)


def _mover(name: str, weight: float, frame: pd.DataFrame, effect: Array, declared: Mapping[str, Any]) -> Mover:
    says, column = str(declared[name]["says"]), frame[name]
    if column.dtype == object:
        return Mover(name, says, weight, None, None, None)
    values = column.to_numpy(np.float64)
    missing = np.isnan(values)
    low = values <= (np.median(values[~missing]) if not missing.all() else 0.0)
    sides = (low, ~low & ~missing, missing)
    return Mover(name, says, weight, *(float(effect[side].mean()) if side.any() else None for side in sides))
