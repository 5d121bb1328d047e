"""Labels look at (c, c + horizon] of what was known when training ran, and ask those who were eligible at c."""

from __future__ import annotations

import numpy as np
import pytest

from predseg.evaluate import reference
from predseg.evaluate.reference import Event
from predseg.forecast.labels import block_labels
from predseg.language.conditions import Prediction
from predseg.language.documents import parse_prediction
from predseg.language.time import DAY, parse_instant
from predseg.language.yaml import read_documents
from tests.evaluate.differential import IDENTITIES, random_identities
from tests.evaluate.stories import parse_events
from tests.evaluate.worlds import MOMENTS, SECOND, TICKS, random_comparison, random_events_of_customers, random_measure, seeded, to_block

LATER = parse_instant("2027-01-01")


def prediction(text: str) -> Prediction:
    [node] = read_documents(text)
    return parse_prediction(node)


def label(text: str, events: str, cutoff: str, known: int = LATER) -> bool:
    histories = {"a": parse_events(events), "b": [Event(0, "Something Else")]}
    c = parse_instant(cutoff.removeprefix("<")) - cutoff.startswith("<")
    kinds = {"value": IDENTITIES["value"], "p": IDENTITIES["word"]}
    found = block_labels(to_block(histories, kinds), [c], prediction(text), known)
    assert found.dtype == np.int8 and found.shape == (2, 1)
    return bool(found[0, 0])


def test_the_horizon_is_half_open() -> None:
    """What happens at the cutoff is the past; what happens exactly a horizon later still counts. Features and labels tile time."""
    text, order = "{did: Order, within_next: 30 days}", "2026-03-31 10:00  Order"
    assert {at: label(text, order, at) for at in ("<2026-03-01 10:00", "2026-03-01 10:00", "<2026-03-31 10:00", "2026-03-31 10:00")} == {
        "<2026-03-01 10:00": False,
        "2026-03-01 10:00": True,
        "<2026-03-31 10:00": True,
        "2026-03-31 10:00": False,
    }


def test_did_not_is_the_opposite() -> None:
    for at in ("<2026-03-01 10:00", "2026-03-01 10:00", "<2026-03-31 10:00", "2026-03-31 10:00"):
        assert label("{did_not: Order, within_next: 30 days}", "2026-03-31 10:00  Order", at) is not label(
            "{did: Order, within_next: 30 days}", "2026-03-31 10:00  Order", at
        )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{did: Order, at_least: 2, within_next: 10 days}", True),
        ("{did: Order, at_least: 3, within_next: 10 days}", False),
        ("{did: Order, sum: value, more_than: 15, within_next: 10 days}", False),
        ("{did: Order, sum: value, at_least: 15, within_next: 10 days}", True),
        ("{did: Order, avg: value, exactly: 7.5, within_next: 10 days}", True),
        ("{did: [Order, Fee], exactly: 3, within_next: 10 days}", True),
        ("{did: Order, where: {p: x}, within_next: 10 days}", True),
        ("{did: Order, where: {p: y}, within_next: 10 days}", False),
        ("{did_not: Order, where: {p: y}, within_next: 10 days}", True),
        ("{did: Refund, avg: value, less_than: 5, within_next: 10 days}", False),  # over nothing: it did not come true
        ("{did: Refund, sum: value, less_than: 5, within_next: 10 days}", True),  # over nothing a sum is 0
    ],
)
def test_whatever_a_measure_says_can_be_predicted(text: str, expected: bool) -> None:
    events = "2026-03-01  Order  {value: 99, p: y}\n2026-03-02  Order  {value: 10, p: x}\n2026-03-11  Order  {value: 5}\n2026-03-03  Fee\n2026-03-11 00:00:00.000001  Order"
    assert label(text, events, "2026-03-01") is expected


def test_a_late_event_counts_once_training_knows_it() -> None:
    """The label of a cutoff is settled by everything received when training runs, not by what was visible at its end."""
    late = "2026-03-10  Order  received 2026-06-01"
    text = "{did: Order, within_next: 30 days}"
    assert label(text, late, "2026-03-01", parse_instant("2026-06-01"))
    assert not label(text, late, "2026-03-01", parse_instant("2026-06-01") - 1)
    assert label("{did_not: Order, within_next: 30 days}", late, "2026-03-01", parse_instant("2026-06-01") - 1)


def test_labels_are_what_the_reference_says() -> None:
    """Any measure over any horizon, at every cutoff, for every moment of training."""
    compared = 0
    for seed in range(60):
        r = seeded(seed)
        events, horizon, known = random_events_of_customers(r), r.randrange(1, 6) * SECOND, r.randrange(TICKS + 6) * SECOND
        asked = random_measure(r)
        while asked.aggregate.startswith(("days", "gap")) or asked.then:
            asked = random_measure(r)
        wanted = Prediction(type(asked)(asked.events, type(asked.window)(horizon), asked.aggregate, asked.of), random_comparison(r), horizon)
        found = block_labels(to_block(events), MOMENTS, wanted, known)
        for i, history in enumerate(events.values()):
            for k, cutoff in enumerate(MOMENTS):
                seen = [e for e in history if e.visible <= known and cutoff < e.time <= cutoff + horizon]
                answer = reference.compare(reference.measure(wanted.measure, seen, cutoff + horizon, known=known), wanted.comparison)
                assert found[i, k] == (answer is True), f"seed {seed}, customer {i}, cutoff {cutoff}"
                compared += 1
    assert compared > 4_000


def test_an_earlier_identity_is_labelled_with_what_its_owner_did() -> None:
    """A visitor at the cutoff who later turned out to be Ann bought what Ann bought."""
    events = parse_events("2026-03-01  View  {anonymous_id: phone}\n2026-03-20  Order")
    events[0].properties["linked_at"] = parse_instant("2026-03-10")  # type: ignore[index]
    block = to_block({"ann": events}, {k: IDENTITIES[k] for k in ("anonymous_id", "linked_at")})
    assert block.customers.tolist() == ["ann", "phone"]
    cutoffs = [parse_instant("2026-03-02"), parse_instant("2026-02-01")]
    found = block_labels(block, cutoffs, prediction("{did: Order, within_next: 30 days}"), LATER)
    assert found.tolist() == [[1, 0], [1, 0]]
    view = prediction("{did: View, within_next: 30 days}")
    assert block_labels(block, cutoffs, view, LATER).tolist() == [[0, 1], [0, 1]]


def test_a_link_learned_after_training_joins_nobody_yet() -> None:
    """Going back in time, the visitor is a customer of their own, with labels of their own."""
    events = parse_events("2026-03-01  View  {anonymous_id: phone}\n2026-03-08  Order")
    events[0].properties["linked_at"] = parse_instant("2026-03-10")  # type: ignore[index]
    block = to_block({"ann": events}, {k: IDENTITIES[k] for k in ("anonymous_id", "linked_at")})
    view, order = (prediction(f"{{did: {event}, within_next: 30 days}}") for event in ("View", "Order"))
    cutoff, link = [parse_instant("2026-02-20")], parse_instant("2026-03-10")
    assert block_labels(block, cutoff, view, link - 1).tolist() == [[0], [1]]
    assert block_labels(block, cutoff, order, link - 1).tolist() == [[1], [0]]
    assert block_labels(block, cutoff, view, link).tolist() == block_labels(block, cutoff, order, link).tolist() == [[1], [1]]


def test_every_identity_has_its_owners_labels() -> None:
    for seed in range(30):
        events = random_identities(seeded(seed))
        block = to_block(events, IDENTITIES)
        wanted = Prediction(random_measure(seeded(seed)), random_comparison(seeded(seed)), 3 * SECOND)
        if wanted.measure.aggregate.startswith(("days", "gap")):
            continue
        known = (TICKS + 20) * SECOND
        found = block_labels(block, MOMENTS, wanted, known)
        assert found.shape == (block.size, len(MOMENTS))
        for i, customer in enumerate(block.customers):
            owner = i if block.owner is None else int(block.owner[i])
            history = events[str(block.customers[owner])]
            for k, cutoff in enumerate(MOMENTS):
                answer = reference.compare(reference.measure(wanted.measure, history, cutoff + wanted.horizon, known=known), wanted.comparison)
                assert found[i, k] == (answer is True), f"seed {seed}, {customer}, cutoff {cutoff // SECOND}"


def test_a_horizon_of_days_is_exact() -> None:
    assert prediction("{did: A, within_next: 1 month}").horizon == 30 * DAY
