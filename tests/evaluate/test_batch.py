"""Batch answers what the reference answers: every measure, every condition, at every boundary.

PREDSEG_SEED=7 asks other questions; PREDSEG_LONG=1 compares more than a million answers.
"""

from __future__ import annotations

import random
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predseg.evaluate import batch, reference
from predseg.evaluate.block import blocks
from predseg.evaluate.reference import Event
from predseg.language import conditions as c
from predseg.language.measures import Events, Measure, Window
from tests.evaluate.differential import ORIGINAL, Question, question
from tests.evaluate.worlds import (
    LONG,
    MOMENTS,
    PROPERTIES,
    SECOND,
    SEED,
    TICKS,
    random_condition,
    random_event,
    random_events_of_customers,
    random_measure,
    random_step,
    random_world,
    seeded,
    to_table,
)

QUESTIONS = 6_000 if LONG else 400
PARTS = 4


@pytest.mark.parametrize("part", range(PARTS))
def test_batch_answers_what_the_reference_answers(part: int) -> None:
    """Measures, labels, conditions with unknown facts, earlier identities: each question at every tick and beyond both ends."""
    compared = trees = 0
    for seed in range(part, QUESTIONS, PARTS):
        asked = question(seed)
        found = next(asked.differences(), None)
        assert found is None, f"PREDSEG_SEED={SEED}: {found}"
        compared += asked.size
        trees += sum(not isinstance(a, Measure) for a in asked.asked)
    assert compared > (1_000_000 if LONG else 20_000) / PARTS and trees > (1_000 if LONG else 100) / PARTS


def same(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> bool:
    return left.keys() == right.keys() and all(np.array_equal(left[k], right[k], equal_nan=True) for k in left)


@given(st.integers(0, 2**32), st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_the_order_of_events_changes_nothing(seed: int, shuffle: random.Random) -> None:
    asked = question(seed)
    assert same(asked.answers(), asked.answers(events={k: shuffle.sample(v, len(v)) for k, v in asked.events.items()}))


@given(st.integers(0, 2**32))
@settings(max_examples=40)
def test_asking_again_changes_nothing(seed: int) -> None:
    """Nor does asking for less, for the same measure twice, or at other moments, in another order or twice, beside them."""
    r = seeded(seed)
    world, measures = random_world(r), [random_measure(r) for _ in range(3)]
    together = batch.evaluate(world.block, MOMENTS, measures)
    chosen = [r.randrange(len(MOMENTS)) for _ in range(5)]
    again = batch.evaluate(world.block, [MOMENTS[k] for k in chosen], [measures[1], measures[0], measures[1]])
    for i, values in zip([1, 0, 1], again, strict=True):
        np.testing.assert_array_equal(values.to_float(), together[i].to_float()[:, chosen])
    assert batch.evaluate(world.block, [], measures)[0].number.shape == (len(world.block.customers), 0)
    assert batch.evaluate(world.block, MOMENTS, []) == []


FIRST, LAST = -62_135_596_800_000_000, 253_402_300_799_999_999


@pytest.mark.parametrize("shift", [FIRST, -7 * SECOND - 1, LAST - 40 * SECOND], ids=["year 1", "about 1970", "year 9999"])
def test_answers_do_not_depend_on_when_the_history_is(shift: int) -> None:
    for seed in range(LONG and 1000 or 10):
        asked = question(seed)
        moved = replace(
            asked,
            events={who: [_later(event, shift) for event in events] for who, events in asked.events.items()},
            asked=tuple(_since_later(one, shift) for one in asked.asked),
            moments=tuple(t + shift for t in asked.moments),
            known=None if asked.known is None else asked.known + shift,
        )
        assert not list(moved.differences())


def _later(event: Event, shift: int) -> Event:
    linked = {"linked_at": event.properties["linked_at"] + shift} if event.properties.get("linked_at") is not None else {}  # type: ignore[operator]
    return replace(
        event, time=event.time + shift, received=None if event.received is None else event.received + shift, properties={**event.properties, **linked}
    )


def _since_later(asked: Any, shift: int) -> Any:
    if isinstance(asked, c.LAYERS):
        return replace(asked, of=tuple(_since_later(part, shift) for part in asked.of))
    if isinstance(asked, c.Did):
        return c.Did(_since_later(asked.measure, shift), asked.comparison)
    since = asked.window.since if isinstance(asked, Measure) else None
    return asked if since is None else replace(asked, window=replace(asked.window, since=since + shift))


@given(st.integers(0, 2**32))
@settings(max_examples=80)
def test_events_not_visible_yet_change_no_feature(seed: int) -> None:
    """The law of time: whatever happens, or is learned, after t leaves every answer at t as it was."""
    r = seeded(seed)
    events, measures = random_events_of_customers(r), tuple(random_measure(r) for _ in range(4))
    k = r.randrange(len(MOMENTS))
    t = MOMENTS[k]
    later = {customer: [*history, *(not_yet_visible(r, t) for _ in range(r.randrange(4)))] for customer, history in events.items()}
    later["newcomer"] = [not_yet_visible(r, t)]
    asked = Question(seed, events, measures)
    before, after = asked.answers(), asked.answers(events=later)
    for customer in events:
        np.testing.assert_array_equal(before[customer][:, k], after[customer][:, k])
    seen = batch.evaluate(Question(seed, later, measures).block, [t], [Measure(Events())])[0]
    assert batch.known_customers(Question(seed, later, measures).block, [t]).tolist() == (seen.number > 0).tolist()


def not_yet_visible(r: random.Random, t: int) -> Event:
    """An event in t's future, or one of its past that is received in its future."""
    event = random_event(r, 0)
    late = t + r.randrange(1, 4)  # one microsecond is enough
    return replace(event, time=late) if r.random() < 0.5 else replace(event, time=min(event.time, t), received=late)


@given(st.integers(0, 2**32))
@settings(max_examples=40)
def test_a_condition_and_its_negation_partition_the_customers(seed: int) -> None:
    """Each customer is in S, in ``none: [S]``, or S is unknown: never in both. Membership has two values, so with it nobody is left."""
    r = seeded(seed)
    world, condition = random_world(r), random_condition(r)
    inside, outside = (batch.truth(world.block, MOMENTS, s) for s in (condition, c.NoneOf((condition,))))
    assert (inside.true.astype(int) + outside.true + inside.unknown == 1).all() and (inside.unknown == outside.unknown).all()
    member, stranger = (batch.truth(world.block, MOMENTS, c.Holds((condition,), member)) for member in (True, False))
    assert (member.true ^ stranger.true).all() and not (member.unknown | stranger.unknown).any()
    for t in MOMENTS:
        for history in world.events.values():
            one, other = (reference.decide(s, history, t) for s in (condition, c.NoneOf((condition,))))
            assert (one is None and other is None) or (one is not other and None not in (one, other))


@pytest.mark.parametrize("rows", [1, 3, 7, 10**6])
def test_cutting_a_history_into_blocks_changes_nothing(rows: int, tmp_path: Path) -> None:
    """Blocks end between customers, whatever their size; neighbours in a block never touch each other."""
    import pyarrow.parquet as pq

    r = seeded(rows)
    events = random_events_of_customers(r, customers=12)
    measures = tuple(random_measure(r) for _ in range(12))
    file = tmp_path / "part-00000.parquet"
    pq.write_table(to_table(events), file, row_group_size=5)
    whole = Question(rows, events, measures).answers()
    found: dict[str, np.ndarray] = {}
    cut = list(blocks([file], set(PROPERTIES), rows))
    for block in cut:
        parts = np.array([v.to_float() for v in batch.evaluate(block, MOMENTS, measures)])
        assert not found.keys() & set(block.customers), "a customer stands in two blocks"
        found |= {str(customer): parts[:, i] for i, customer in enumerate(block.customers)}
    assert same(whole, found) and (len(cut) > 1) == (rows < 100)
    alone = {customer: Question(rows, {customer: history}, measures).answers()[customer] for customer, history in events.items()}
    assert same(whole, alone)


def test_an_empty_block_is_answered() -> None:
    block = Question(0, {}, ()).block
    [values] = batch.evaluate(block, MOMENTS, [random_measure(seeded(1))])
    assert values.to_float().shape == (0, len(MOMENTS))
    assert batch.truth(block, MOMENTS, random_condition(seeded(2))).true.shape == (0, len(MOMENTS))


def test_a_world_has_ties_late_rows_and_strangers() -> None:
    """The questions are worth asking: what they are about occurs."""
    asked = [question(seed) for seed in range(60)]
    histories = [history for q in asked for history in q.events.values()]
    assert any(len({e.time for e in h}) < len(h) for h in histories)
    assert any(e.visible > e.time for h in histories for e in h)
    assert any(set(q.customers) - set(q.events) for q in asked if q.identities)
    values = np.concatenate([e.ravel() for q in asked for e in q.expected.values()])
    assert np.isnan(values).any() and (values == 0).any() and (values == 1).any() and (values == -1).any()
    assert all(t in MOMENTS for t in (-SECOND, 0, TICKS * SECOND)) and ORIGINAL.batch is batch


def test_sums_do_not_depend_on_neighbours_even_where_they_wrap() -> None:
    """Running sums over a block may leave 64 bits; the difference of two of them does not."""
    most = Decimal("99999999999999.9999")
    events = {f"c{i:02d}": [Event(k * SECOND, "A", {"value": most if i % 3 else -most}) for k in range(3)] for i in range(40)}
    measures = [Measure(Events(("A",)), Window(2 * SECOND), "sum", "value"), Measure(Events(("A",)), Window(), "avg", "value")]
    for values, m in zip(batch.evaluate(Question(0, events, ()).block, [2 * SECOND], measures), measures, strict=True):
        expected = [reference.measure(m, history, 2 * SECOND).number for history in events.values()]
        assert values.number[:, 0].tolist() == expected


def test_a_long_history_is_answered_like_a_short_one() -> None:
    """Thousands of events of a few customers over years, at moments that are no ticks."""
    r = seeded(11)
    start, span = -(10**15), 3 * 365 * 86_400 * SECOND
    events = {
        f"c{i}": [
            replace(random_event(r, 0.05), time=(t := start + r.randrange(span)), received=t + r.randrange(10**12))
            for _ in range(r.choice([1, 40, 700]))
        ]
        for i in range(5)
    }
    day = 86_400 * SECOND
    windows = [Window(), Window(r.randrange(1, 90) * day), Window(365 * day, 30 * day), Window(since=start + span // 2)]
    asked = [replace(random_measure(r), window=r.choice(windows), then=None) for _ in range(25)]
    step = random_step(r)
    asked += [replace(m, then=replace(step, within=r.choice([None, 3 * day]), then=None)) for m in asked[:3]]
    moments = tuple(r.randrange(start, start + span + 10 * day) for _ in range(4))
    found = next(Question(11, events, tuple(asked), moments=moments).differences(), None)
    assert found is None, f"PREDSEG_SEED={SEED}: {found}"
