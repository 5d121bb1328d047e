"""What outcomes need of a project: its memberships, its events, and what counts as a success."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from predseg.config import Config
from predseg.errors import UsageError, nearest
from predseg.forecast.dataset import span
from predseg.history.volumes import LOOKED_AT, Counts, daily_counts
from predseg.language.documents import NEVER
from predseg.language.time import DAY, WEEK, YEAR, say_instant
from predseg.outcomes.causes import Moved, moved
from predseg.outcomes.deliveries import DELIVERED, Deliveries, deliveries_of, read_messages
from predseg.outcomes.engagement import FALSE_ALARMS, SETTLED, Engagement, engagement
from predseg.outcomes.experiments import Plan, Result, Units, analyse, group_shares, plan
from predseg.outcomes.log import Log, read_log
from predseg.outcomes.tuning import Tuning, clicks, conversions, mail_days, tune, usual_layers
from predseg.outcomes.variations import variations
from predseg.segments.definitions import Segment
from predseg.segments.designs import in_force_since
from predseg.segments.edits import diff
from predseg.segments.memberships import Ledger
from predseg.segments.workspace import Workspace

ORDER = "Order Completed"
CLICKS, CONVERSIONS = "clicks", "conversions"
FEWEST_MOMENTS = 6
DAYS = 90
"""That a report shows of each event."""
RECENT = 90 * DAY


def goal_of(config: Config) -> str:
    """Return the event that the project hopes for: as declared, else what its first model predicts to happen, else an order."""
    if config.outcomes.goal is not None:
        return config.outcomes.goal
    hoped = (m.predict.measure.names() for m in config.models.values() if m.predict.comparison != NEVER)
    return next((names[0] for names in map(list, hoped)), ORDER)


@dataclass(frozen=True)
class Outlook:
    """A project seen from a moment: what its outcomes are told from is read once.

    Attributes:
        workspace: The project's segments.
        as_of: The moment of looking; nothing later is known.
        told: What `engaged` said, by what it was asked.
        sent: What `deliveries` said, by what it was asked.
    """

    workspace: Workspace
    as_of: int
    told: dict[tuple[object, ...], Engagement] = field(default_factory=dict, init=False, repr=False)
    sent: dict[tuple[str, int], Deliveries] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def goal(self) -> str:
        """What the project hopes for."""
        return goal_of(self.workspace.config)

    @cached_property
    def ledger(self) -> Ledger:
        """What is recorded of its segments."""
        return self.workspace.ledger()

    @cached_property
    def messages(self) -> Log:
        """The deliveries, the answers to them, and the goal."""
        return self._messages(self.goal)

    @cached_property
    def daily(self) -> Counts:
        """How many of each event came a day, as far back as anybody asks."""
        return daily_counts(self.workspace.files, self.as_of, max(LOOKED_AT, DAYS))

    def begin(self) -> None:
        """Read what watches and reports ask of the events alone; it may be done while it is decided who belongs where."""
        if DELIVERED in (self.workspace.vocabulary.occurred or ()):
            self.deliveries()
        _ = self.daily

    @property
    def begun(self) -> bool:
        """Whether `begin` was called."""
        return "daily" in vars(self)

    @cached_property
    def moved(self) -> list[Moved]:
        """Who entered and left segments at their last run, and why."""
        return moved(self.workspace, self.ledger, self.as_of)

    def _messages(self, goal: str) -> Log:
        present = tuple(self.workspace.vocabulary.present or ())
        return read_messages(self.workspace.files, self.as_of, goal=goal, campaign=self.workspace.config.outcomes.campaign, present=present)

    def deliveries(self, goal: str | None = None, within: int | None = None) -> Deliveries:
        """Return the deliveries with what came of them: ``goal`` counts as an order, up to ``within`` later, both by default as the project says."""
        declared, goal = self.workspace.config.outcomes, goal or self.goal
        asked = goal, within or declared.within
        if asked not in self.sent:
            log = self.messages if goal == self.goal else self._messages(goal)
            self.sent[asked] = deliveries_of(log, goal=goal, within=asked[1], campaign=declared.campaign)
        return self.sent[asked]

    def events(self, goal: str | None = None) -> Log:
        """Return the events of a goal, by default of the project's."""
        goal = goal or self.goal
        if goal == self.goal and "messages" in vars(self):  # read already
            return self.messages.where(goal)
        return read_log(self.workspace.files, [goal], self.as_of)


def check_occurred(workspace: Workspace, option: str, event: str) -> None:
    """Refuse an event that nobody ever did.

    Raises:
        UsageError: E226.
    """
    occurred = workspace.vocabulary.occurred
    if occurred is not None and event not in occurred:
        raise UsageError("E226", option, f"the event {event!r} never occurred", nearest(event, tuple(occurred)))


def engaged(
    seen: Outlook,
    names: Sequence[str] = (),
    *,
    last: int = YEAR,
    goal: str | None = None,
    within: int | None = None,
    alarms: float = FALSE_ALARMS,
) -> Engagement:
    """Add up what came of the deliveries of the last time, for everyone and for segments.

    Args:
        seen: The project, from the moment of looking.
        names: Segments; all by default.
        last: How far back deliveries count.
        goal: What counts as an order; by default `goal_of`.
        within: How long after a delivery; by default as the project says, else 7 days.
        alarms: How many of the warnings may be false, on average.

    Raises:
        UsageError: E220 no such segment, E226 nothing was ever delivered, or nobody ever did the goal.
    """
    workspace, as_of = seen.workspace, seen.as_of
    chosen = [workspace.segment(name).name for name in names or workspace.segments]
    check_occurred(workspace, "engagement", DELIVERED)
    if goal is not None:
        check_occurred(workspace, "--goal", goal)
    asked = (*chosen, last, goal, within, alarms)
    if asked not in seen.told:
        spells = {name: seen.ledger.spells(name) for name in chosen}
        sent, every = seen.deliveries(goal, within), workspace.config.outcomes.every
        found = engagement(sent, spells, as_of - last, as_of, every, alarms)
        runs = seen.ledger.log[seen.ledger.log["segment"].isin(chosen)]["as_of"]
        seen.told[asked] = replace(found, recorded=int(runs.min())) if found.recorded is None and len(runs) else found  # nobody was in one
    return seen.told[asked]


def tuned(
    workspace: Workspace,
    name: str,
    as_of: int,
    *,
    aim: str = CLICKS,
    last: int = YEAR,
    goal: str | None = None,
    within: int = 30 * DAY,
    keep: float = 0.5,
) -> Tuning:
    """Say which change of a rule would have raised its rate, on history.

    Args:
        workspace: The project's segments.
        name: The segment.
        as_of: The moment of looking.
        aim: clicks, of the messages delivered to members; or conversions, of members at every week to the goal.
        last: How far back.
        goal: Of conversions; by default `goal_of`.
        within: Of conversions: how long after the moment.
        keep: A change must keep this share of the present tries.

    Raises:
        UsageError: E220 no such segment, E226 nothing was delivered or nobody did the goal, E228 too little history.
    """
    segment = workspace.segment(name)
    if aim == CLICKS:
        check_occurred(workspace, "tune", DELIVERED)
        sent = Outlook(workspace, as_of - SETTLED).deliveries()
        sent = sent.take(np.flatnonzero(sent.time - sent.time % DAY > as_of - last))
        moments = mail_days(sent)
        tries = clicks(sent, moments) if moments else None
    else:
        seen = Outlook(workspace, as_of)
        check_occurred(workspace, "--goal", goal or seen.goal)
        log = seen.events(goal)
        first, _ = span(workspace.files, as_of)  # before that there was nobody
        moments = [t for t in range(as_of - within - (last - within) // WEEK * WEEK, as_of - within + 1, WEEK) if t >= first]
        tries = conversions(log, moments, within)
    if tries is None or len(moments) < FEWEST_MOMENTS:
        found = f"there are {len(moments)} {'days with deliveries' if aim == CLICKS else 'weeks'} to look at, expected at least {FEWEST_MOMENTS}"
        raise UsageError("E228", name, found, "look further back with --last, or later")
    texts = workspace.texts()
    tried = variations(segment, workspace.segments, texts, usual_layers(workspace.segments, name))
    return tune(
        workspace.files,
        workspace.segments,
        name,
        tried,
        moments,
        tries,
        workspace.facts(workspace.ledger()),
        lambda v: diff(texts, [v.edit]),
        listed=workspace.listed(),
        keep=keep,
        over=workspace.over,
    )


@dataclass(frozen=True)
class Trial:
    """An experiment of a project, looked at.

    Attributes:
        segment: Its name.
        design: What it tries out, in words.
        since: From when on its present design is in force; None when no run has seen it.
        goal: The event that is hoped for.
        within: How long each customer is watched.
        result: None while nobody is in it.
        plan: None when the rate to start from is not known, or everybody is in one group.
    """

    segment: str
    design: str
    since: int | None
    as_of: int
    goal: str
    within: int
    result: Result | None
    plan: Plan | None


def trial(
    seen: Outlook,
    name: str,
    *,
    goal: str | None = None,
    within: int = 30 * DAY,
    since: int | None = None,
    detect: float = 0.1,
    rate: float | None = None,
) -> Trial:
    """Look at the experiment of a segment.

    Args:
        seen: The project, from the moment of looking.
        name: The segment.
        goal: The event that is hoped for; by default `goal_of`.
        within: How long each customer is watched.
        since: Only customers from then on; not before the present design.
        detect: The relative effect that is to be seen.
        rate: The rate to plan with; by default what was seen.

    Raises:
        UsageError: E220 no such segment, E225 it tries nothing out or ``since`` is before its present design, E226 no such event.
    """
    workspace, as_of, ledger = seen.workspace, seen.as_of, seen.ledger
    segment = workspace.segment(name)
    if segment.experiment is None:
        raise UsageError("E225", name, "the segment has no `holdout` and no `split`", "declare one: `holdout: 10%`")
    check_occurred(workspace, "--goal", goal or seen.goal)
    start, log = begun(workspace, segment, since), seen.events(goal)
    units = joined(workspace, segment, ledger, start, as_of)
    result = analyse(segment.experiment, units, log, as_of, within, detect=detect) if len(units.customers) else None
    base = rate if rate is not None else _base_rate(segment, result, ledger, log, as_of, within)
    entering = _per_day(segment, ledger, as_of)
    expected = plan(segment.experiment, base, detect, entering * float(sum(group_shares(segment.experiment).values()))) if base is not None else None
    return Trial(name, segment.experiment.says(), start, as_of, goal or seen.goal, within, result, expected)


def begun(workspace: Workspace, segment: Segment, since: int | None) -> int | None:
    """Return from when on customers count in a segment's experiment: its present design, or later; None when no run has seen it.

    Raises:
        UsageError: E225 ``since`` is before the present design.
    """
    found = in_force_since(workspace.store, segment)
    if since is not None and (found is None or since < found):
        said = "no run has seen the present design yet" if found is None else f"the present design is in force since {say_instant(found)} only"
        raise UsageError("E225", "--since", said, "leave it away, or choose a later moment")
    return found if since is None else since


def joined(workspace: Workspace, segment: Segment, ledger: Ledger, start: int | None, as_of: int) -> Units:
    """Return who is in an experiment by a moment, and since when; nobody before it has begun."""
    nobody = Units(np.zeros(0, object), np.zeros(0, np.int64))
    return nobody if start is None or start > as_of else _willing(workspace, segment, members_since(ledger, segment, start, as_of))


def members_since(ledger: Ledger, segment: Segment, start: int, as_of: int) -> Units:
    """Return who was a member at a moment of [start, as_of], each once, from the first such moment; of a segment with `on_enter`, who entered then."""
    spells = ledger.spells(segment.name)
    first = spells.entered if segment.on_enter else np.maximum(spells.entered, start)
    kept = (first >= start) & (first <= as_of) & (spells.left > first)
    customers, moments = spells.customers[kept], first[kept]
    order = np.lexsort((moments, customers.astype(str)))
    customers, moments = customers[order], moments[order]
    new = np.append(True, customers[1:] != customers[:-1]) if len(customers) else np.zeros(0, bool)
    return Units(customers[new], moments[new])


def _willing(workspace: Workspace, segment: Segment, units: Units) -> Units:
    """Leave away who had opted out by then. Who opted out later stays: that may be what the messages did, and would tilt the comparison."""
    out = workspace.opted_out(segment.purpose)
    kept = np.array([not out.by(customer, int(since)) for customer, since in zip(units.customers, units.since, strict=True)], bool)
    return Units(units.customers[kept], units.since[kept])


def _base_rate(segment: Segment, result: Result | None, ledger: Ledger, log: Log, as_of: int, within: int) -> float | None:
    """The rate of the base group; before there is one, of everybody who was ever a member and whose time is over."""
    assert segment.experiment is not None
    base = [g.rate for g in result.groups if g.name == segment.experiment.control()] if result else []
    if base and base[0]:
        return base[0]
    past = members_since(ledger, segment, -(2**61), as_of)
    done = past.since + within <= as_of
    number, _ = log.totals(log.positions(past.customers[done]), past.since[done], past.since[done] + within)
    rate = float(np.mean(number > 0)) if len(number) else 0.0
    return rate if 0 < rate < 1 else None


def _per_day(segment: Segment, ledger: Ledger, as_of: int) -> float:
    """How many customers a day entered for the first time in the last 90 days, or since the first run if that is later."""
    runs = ledger.log[ledger.log["segment"] == segment.name]["as_of"]
    start = max(as_of - RECENT, int(runs.min())) if len(runs) else as_of
    first = members_since(ledger, segment, -(2**61), as_of).since
    return float(np.sum(first > start)) / ((as_of - start) / DAY) if as_of > start else 0.0
