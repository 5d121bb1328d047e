"""Do the executors agree? Reference against batch and live, on random rules or those of the project, on random or real histories.

Compared are the truth of every rule for every customer at many moments, and the exact instants at which it changes, with
the live executor fed event by event, some of them late and some twice.
The first difference ends the search and is made as small as it can be while the executors still differ.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from predseg.evaluate import batch, live, moments
from predseg.evaluate.block import Block, from_table
from predseg.evaluate.moments import Known
from predseg.evaluate.program import Change, Program, Rule
from predseg.evaluate.reference import Event, Facts, Truth, decide
from predseg.evaluate.timeline import instants, transitions
from predseg.language import conditions as c
from predseg.language.english import say_condition
from predseg.language.measures import Measure, Window, kind_of
from predseg.language.time import DAY, SECOND, say_instant
from predseg.layers import parts, whole_customers
from predseg.segments.facts import DIMENSIONS, rfv_scores
from predseg.segments.publications import LiveFacts, Publications, random_publications, rfv_measures
from predseg.segments.worlds import Palette, palette_of, random_condition, random_histories, small, to_table

if TYPE_CHECKING:
    import pyarrow as pa

CUSTOMERS = 40
MOMENTS = 25
_TRIES = 400
_FOREVER = 2**61


@dataclass(frozen=True)
class Trial:
    """A rule, histories, what is published, and the moments to look at.

    ``every`` says that the moments are all at which anything happens, so that changes can be told from them alone.
    """

    condition: c.Condition
    histories: Mapping[str, Sequence[Event]]
    published: Publications
    moments: tuple[int, ...]
    palette: Palette
    every: bool = False
    block: Block | None = None
    complete: bool = True  # nobody was left out since the facts were made

    def rows(self) -> Block:
        """The histories as columns."""
        return self.block if self.block is not None else from_table(to_table(self.histories, self.palette))


@dataclass(frozen=True)
class Difference:
    """A customer of whom the executors say different things."""

    condition: c.Condition
    customer_id: str
    events: tuple[Event, ...]
    what: str
    reference: str
    found: str
    executor: str = "batch"
    tree: int = 0

    @property
    def sentence(self) -> str:
        """The rule in English."""
        return f"customers who {say_condition(self.condition)}"


@dataclass(frozen=True)
class Verification:
    """What was compared, and the first difference if there is one."""

    seed: int
    trees: int
    customers: int
    decisions: int
    changes: int
    difference: Difference | None = None

    @property
    def agreed(self) -> bool:
        """Whether no difference was found."""
        return self.difference is None


def verify(seed: int, trees: int, rules: Sequence[c.Condition] = (), files: Sequence[Path] = ()) -> Verification:
    """Compare the executors.

    Args:
        seed: What everything random is made from.
        trees: How many rules to try; given rules take turns.
        rules: The rules; random ones when there are none.
        files: The events table to take histories from; random ones when there is none.
    """
    done = Verification(seed, 0, 0, 0, 0)
    real = _Real(files) if files else None
    for tree in range(trees):
        r = random.Random(f"{seed} {tree}")
        trial = _trial(r, rules[tree % len(rules)] if rules else None, real)
        n = len(trial.histories)
        done = Verification(seed, tree + 1, done.customers + n, done.decisions + n * len(trial.moments), done.changes + n)
        if (found := compare(trial)) is not None:
            return replace(done, difference=replace(shrink(trial, found), tree=tree))
    return done


def _trial(r: random.Random, rule: c.Condition | None, real: _Real | None) -> Trial:
    if real is not None:
        return real.trial(r, rule)
    palette = small(r.choice([1, SECOND, DAY])) if rule is None else palette_of([rule], 1_767_225_600_000_000)
    condition = rule if rule is not None else random_condition(r, palette)
    histories = random_histories(r, palette, CUSTOMERS if rule is None else CUSTOMERS // 2)
    published = random_publications(r, palette, condition, histories)
    if rule is None:
        second = palette.times[1] - palette.times[0]
        last = palette.times[-1] + 2 * palette.spans[-1] + 2 * second
        ticks = range(palette.times[0] - second, last, second)
        return Trial(condition, histories, published, tuple(ticks), palette, True)
    return Trial(condition, histories, published, _moments(r, condition, histories, published), palette)


def _moments(r: random.Random, condition: c.Condition, histories: Mapping[str, Sequence[Event]], published: Publications) -> tuple[int, ...]:
    """Some of the instants at which the rule can change for somebody, and the microseconds before them."""
    found: set[int] = set()
    for who, events in histories.items():
        found |= {*instants(condition, events, published.instants(condition, who))}
    chosen = r.sample(sorted(found), min(len(found), MOMENTS // 2)) or [0]
    return tuple(sorted({*chosen, *(t - 1 for t in chosen)}))


# comparing


def compare(trial: Trial) -> Difference | None:
    """Return the first difference between the executors, None when they agree."""
    block, facts = trial.rows(), trial.published.facts()
    truth = batch.truth(block, trial.moments, trial.condition, facts=facts)
    position = {who: i for i, who in enumerate(block.customers)}
    told: dict[str, list[Truth]] = {}
    for who, events in trial.histories.items():
        told[who] = [decide(trial.condition, events, t, facts=_asked(trial.published, who)) for t in trial.moments]
        for k, expected in enumerate(told[who]):
            i = position[who]
            got = None if truth.unknown[i, k] else bool(truth.true[i, k])
            if expected is not got:
                return _difference(trial, who, f"truth at {say_instant(trial.moments[k])}", _say(expected), _say(got))
    return _compare_rfv(trial, block) or _compare_changes(trial, block, told, position)


def _compare_rfv(trial: Trial, block: Block) -> Difference | None:
    """Compare the rfv scores themselves at their runs."""
    for (kind, part), runs in trial.published.runs.items():
        for at, rows in runs if kind == "rfv" and trial.complete else ():
            since, count, total = (values.number[:, 0] for values in batch.evaluate(block, [at], rfv_measures(part)))
            some = [i for i in range(block.size) if count[i] > 0]
            scores = {d: rfv_scores(v[some]).tolist() for d, v in zip(DIMENSIONS, (-since, count, total), strict=True)}
            told = {block.customers[i]: tuple(scores[d][k] for d in DIMENSIONS) for k, i in enumerate(some)}
            for who in trial.histories:
                if rows.get(who) != told.get(who):
                    return _difference(trial, who, f"rfv scores at {say_instant(at)}", str(rows.get(who)), str(told.get(who)))
    return None


def _asked(published: Publications, who: str) -> Facts:
    return lambda condition, t: published.truth(who, condition, t)


def _compare_changes(trial: Trial, block: Block, told: Mapping[str, Sequence[Truth]], position: Mapping[str, int]) -> Difference | None:
    facts, after, until = trial.published.facts(), trial.moments[0], trial.moments[-1]
    known = Known(facts.instants(trial.condition), facts.own_instants(trial.condition, block.customers))
    customer, at, member = moments.transitions(block, trial.condition, after, until, facts=facts, known=known)
    found: dict[int, list[tuple[int, bool]]] = {}
    for i, t, now in zip(customer.tolist(), at.tolist(), member.tolist(), strict=True):
        found.setdefault(i, []).append((t, now))
    live = _live_changes(trial, after, until)
    what = f"changes in ({say_instant(after)}, {say_instant(until)}]"
    for who, events in trial.histories.items():
        expected = _walked(trial, events, told[who]) if trial.every else _by_timeline(trial, who, events, after, until)
        for executor, got in (("batch", found.get(position[who], [])), ("live", live.get(who, []))):
            if expected != got:
                return replace(_difference(trial, who, what, _say_changes(expected), _say_changes(got)), executor=executor)
    return None


def _live_changes(trial: Trial, after: int, until: int) -> dict[str, list[tuple[int, bool]]]:
    """Feed the histories event by event, one in five behind the clock, and return the log after its corrections."""
    engine = live.Engine(Program([Rule("rule", trial.condition)]), LiveFacts(trial.published), lateness=_FOREVER)
    r = random.Random(len(trial.histories))
    rows = [
        (e.visible + (r.choice(trial.palette.spans) if r.random() < 0.2 else 0), who, e) for who, events in trial.histories.items() for e in events
    ]
    said: list[Change] = []
    for _, who, e in sorted(rows, key=lambda row: row[:2]):
        said += engine.advance(e.visible - 1)
        said += engine.add(who, None, e.time, e.visible, e.name, e.properties)
    return _log([*said, *engine.advance(until)], after, until)


def _log(said: Sequence[Change], after: int, until: int) -> dict[str, list[tuple[int, bool]]]:
    """Return the changes of each customer in (after, until]: a correction takes the opposite of its instant away."""
    found: dict[str, list[tuple[int, bool]]] = {}
    for change in said:
        mine, now = found.setdefault(change.customer_id, []), change.change == "entered"
        if change.correction and (change.at, not now) in mine:
            mine.remove((change.at, not now))
        else:
            mine.append((change.at, now))
    return {who: sorted(x for x in mine if after < x[0] <= until) for who, mine in found.items()}


def _walked(trial: Trial, events: Sequence[Event], told: Sequence[Truth]) -> list[tuple[int, bool]]:
    """Tell the changes from the truth at every moment."""
    first = min(e.visible for e in events)
    inside = [t >= first and truth is True for t, truth in zip(trial.moments, told, strict=True)]
    return [(t, now) for t, before, now in zip(trial.moments[1:], inside, inside[1:], strict=False) if before != now]


def _by_timeline(trial: Trial, who: str, events: Sequence[Event], after: int, until: int) -> list[tuple[int, bool]]:
    changes = trial.published.instants(trial.condition, who)
    return transitions(trial.condition, events, after=after, until=until, facts=_asked(trial.published, who), changes=changes)


def _difference(trial: Trial, who: str, what: str, reference: str, got: str) -> Difference:
    return Difference(trial.condition, who, tuple(sorted(trial.histories[who], key=lambda e: e.time)), what, reference, got)


def _say(truth: Truth) -> str:
    return "unknown" if truth is None else str(truth).lower()


def _say_changes(changes: Sequence[tuple[int, bool]]) -> str:
    return ", ".join(f"{'enters' if now else 'leaves'} {say_instant(t)}" for t, now in changes) or "none"


# shrinking


def shrink(trial: Trial, found: Difference) -> Difference:
    """Return a smaller trial's difference: one customer, fewer events, a simpler rule, as long as the executors differ."""
    tries = 0
    smaller = True
    while smaller and tries < _TRIES:
        smaller = False
        for candidate in _smaller(trial, found):
            tries += 1
            if (differs := _try(candidate)) is not None:
                trial, found, smaller = candidate, differs, True
                break
    return found


def _try(trial: Trial) -> Difference | None:
    try:
        return compare(trial)
    except Exception:  # a smaller world may be one that an executor refuses; that is another question
        return None


def _smaller(trial: Trial, found: Difference) -> Iterator[Trial]:
    events = trial.histories[found.customer_id]
    if len(trial.histories) > 1:
        yield replace(trial, histories={found.customer_id: events}, block=None, complete=False)
    if trial.block is None:
        for i in range(len(events) if len(events) > 1 else 0):
            yield replace(trial, complete=False, histories={**trial.histories, found.customer_id: [*events[:i], *events[i + 1 :]]})
        for i, event in enumerate(events):
            if event.received is not None:
                yield replace(
                    trial,
                    complete=False,
                    histories={**trial.histories, found.customer_id: [*events[:i], replace(event, received=None), *events[i + 1 :]]},
                )
    yield from (replace(trial, condition=simpler) for simpler in simpler_rules(trial.condition))


def simpler_rules(condition: c.Condition) -> Iterator[c.Condition]:
    """Yield rules with something taken away."""
    if isinstance(condition, c.Did):
        yield from (replace(condition, measure=measure) for measure in _simpler_measures(condition.measure))
    if not isinstance(condition, c.LAYERS):
        return
    yield from condition.of
    for i, part in enumerate(condition.of):
        rest = condition.of[:i] + condition.of[i + 1 :]
        if rest and not isinstance(condition, c.Holds) and not (isinstance(condition, c.Some) and condition.at_least > len(rest)):
            yield replace(condition, of=rest)
        yield from (replace(condition, of=(*condition.of[:i], simpler, *condition.of[i + 1 :])) for simpler in simpler_rules(part))


def _simpler_measures(measure: Measure) -> Iterator[Measure]:
    if measure.then is not None:
        yield replace(measure, then=None)
        if measure.then.then is not None:
            yield replace(measure, then=replace(measure.then, then=None))
        for bare in (replace(measure.then, same=None), replace(measure.then, events=replace(measure.then.events, where=()))):
            if bare != measure.then:
                yield replace(measure, then=bare)
    for i in range(len(measure.events.where)):
        where = measure.events.where[:i] + measure.events.where[i + 1 :]
        yield replace(measure, events=replace(measure.events, where=where))
    if measure.window != Window():
        yield replace(measure, window=Window())


# real histories


class _Real:
    """Samples customers of an events table."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.tables = [(part, group) for part in parts(files) for group in range(len(part.base.sizes))]

    def trial(self, r: random.Random, rule: c.Condition | None) -> Trial:
        """Return a trial on a few customers: a given rule, or a random one of events and properties that they have."""
        from predseg.segments.lookup import to_events

        table = self._sample(r)
        palette = _palette(r, table)
        if rule is not None:
            palette = replace(palette_of([rule], 0), properties=palette.properties)
        condition = rule if rule is not None else random_condition(r, palette)
        histories: dict[str, list[Event]] = {}
        for who, event in zip(table["customer_id"].to_pylist(), to_events(table), strict=True):
            histories.setdefault(who, []).append(event)
        palette = replace(palette, times=tuple(sorted({e.time for events in histories.values() for e in events})))
        published = random_publications(r, palette, condition, histories)
        return Trial(condition, histories, published, _moments(r, condition, histories, published), palette, block=from_table(table))

    def _sample(self, r: random.Random) -> pa.Table:
        """Read a few whole customers from one row group; a customer who goes on in the next is left out."""
        import pyarrow as pa
        import pyarrow.compute as pc

        part, group = r.choice(self.tables)
        table = whole_customers(part, group)
        ids = pc.unique(table["customer_id"]).to_pylist()
        chosen = r.sample(ids, min(len(ids), CUSTOMERS // 4))
        return table.filter(pc.is_in(table["customer_id"], pa.array(chosen, table["customer_id"].type)))


def _palette(r: random.Random, table: pa.Table) -> Palette:
    """What random rules about some rows are made of."""
    from predseg.evaluate.block import CORE, IDENTITY
    from predseg.language.time import DAY, HOUR
    from predseg.segments.lookup import to_events

    events = to_events(table.slice(0, 5_000))
    names = sorted({e.name for e in events})
    properties = {}
    for name in sorted(set(table.column_names) - {*CORE, *IDENTITY, "event_id"}):
        values = [value for _, value in dict.fromkeys((kind_of(e.properties[name]), e.properties[name]) for e in events if name in e.properties)]
        if values:
            properties[name] = (None, *r.sample(values, min(len(values), 6)))
    times = tuple(sorted({e.time for e in events}))
    spans = tuple(n * unit for n, unit in ((1, HOUR), (1, DAY), (7, DAY), (30, DAY), (90, DAY), (365, DAY)))
    return Palette(tuple(r.sample(names, min(len(names), 6))), properties, spans, times)
