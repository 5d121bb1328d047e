"""One message for one occasion: what changes, repetitions and corrections leave in the outbox, and what is sent of it."""

from __future__ import annotations

import random
import sqlite3

import pytest

from predseg.activation import outbox
from predseg.activation.claims import transaction
from predseg.evaluate.program import Change
from predseg.language.time import DAY, HOUR
from tests.activation.desk import CART, MAIL, Desk, entered, left
from tests.activation.races import LONG

BOTH = CART + "on_enter: {send: mail}\non_leave: {send: crm}\n"
LATER = CART + "on_enter: {send: mail, after: 5 hours}\n"


def test_an_entry_is_sent_once() -> None:
    desk = Desk()
    assert desk.tell(entered(desk, 1)) == 1
    [message] = desk.deliver(1)
    assert (message.customer_id, message.segment, message.change, message.at, message.attempts) == ("ann", "cart", "entered", HOUR, 1)
    assert desk.deliver(2) == [] and desk.rows("status", "sent_at", "due_at") == [("sent", HOUR, HOUR)]


def test_telling_it_again_changes_nothing() -> None:
    desk = Desk()
    assert [desk.tell(entered(desk, 1)) for _ in range(3)] == [1, 0, 0]
    assert len(desk.deliver(1)) == 1
    assert desk.tell(entered(desk, 1)) == 0 and desk.deliver(2) == []


def test_what_is_not_sent_leaves_no_row() -> None:
    desk = Desk(CART + MAIL + "---\nsegment: silent\nmatch: {did: Add}\n")
    other = Change("entered", "cart", "ann", HOUR, "another definition", False, 1)
    assert desk.tell(left(desk, 1), entered(desk, 1, segment="silent"), Change("entered", "gone", "ann", 1, "x"), other) == 0
    assert desk.rows("action_id") == []


def test_an_id_is_a_hash_of_the_occasion() -> None:
    desk = Desk(CART + "on_enter: [{send: mail}, {send: crm}]\non_leave: {send: crm}\n")
    desk.tell(entered(desk, 1), left(desk, 2), entered(desk, 3, 3), entered(desk, 1, customer="an|n"), entered(desk, 1, customer="an"))
    ids = desk.rows("action_id")
    assert len(ids) == len(set(ids)) == 9 and all(len(i) == 20 and i.startswith("act_") and "ann" not in i for i in ids)
    again = Desk(desk.text)
    again.tell(entered(again, 1))
    assert set(again.rows("action_id")) < set(ids), "the same in a store that is made anew"


def test_who_changed_back_gets_nothing() -> None:
    desk = Desk(LATER)
    desk.tell(entered(desk, 1))
    assert desk.deliver(5) == []
    desk.tell(left(desk, 5.5))
    assert desk.deliver(6) == [] and desk.state() == [("cancelled", "changed back")]


def test_leaving_and_entering_again_while_it_waits_sends_one() -> None:
    desk = Desk(LATER)
    desk.tell(entered(desk, 1), left(desk, 2), entered(desk, 3, 3))
    assert desk.deliver(6) == [], "the first is over, the second not yet due"
    assert [m.at for m in desk.deliver(8)] == [3 * HOUR]
    assert [s for s, _ in desk.state()] == ["cancelled", "sent"]


def test_both_directions() -> None:
    desk = Desk(BOTH)
    desk.tell(entered(desk, 1))
    assert [m.change for m in desk.deliver(1)] == ["entered"]
    desk.tell(left(desk, 2))
    assert [(m.change, m.channel) for m in desk.deliver(2)] == [("left", "crm")]
    desk.tell(entered(desk, 3, 3), left(desk, 3.5, 4))
    assert [m.change for m in desk.deliver(4)] == ["left"], "who is gone is not greeted"


def test_the_owner_of_the_state_has_the_last_word() -> None:
    desk = Desk(BOTH)
    desk.still = lambda *_: False
    desk.tell(entered(desk, 1))
    assert desk.deliver(1) == [] and desk.state() == [("cancelled", "changed back")]
    asked: list[tuple[str, str, str]] = []
    desk = Desk(BOTH)
    desk.still = lambda connection, *who: asked.append(who) or connection.in_transaction  # type: ignore[func-returns-value]
    desk.tell(entered(desk, 1))
    assert len(desk.deliver(1)) == 1 and asked == [("cart", desk.segments["cart"].definition, "ann")], "asked inside the transaction"


def test_the_held_out_are_noted_and_get_nothing() -> None:
    desk = Desk(CART + MAIL + "holdout: 50%\nsplit: {control: 50%, treated: 50%}\n")
    desk.tell(*(entered(desk, 1, customer=f"c{i}") for i in range(200)))
    groups = dict(desk.rows("customer_id", "variant"))
    held = {c for c, group in groups.items() if group == "holdout"}
    got = desk.deliver(2)
    assert 70 < len(held) < 130 and {m.customer_id for m in got} == set(groups) - held
    assert {m.variant for m in got} == {"control", "treated"}
    assert set(desk.rows("status", "reason")) == {("sent", ""), ("suppressed", "held out")}


# corrections: a withdrawn change is said as its opposite at the same instant


def test_a_withdrawn_entry_is_not_sent() -> None:
    desk = Desk(LATER)
    desk.tell(entered(desk, 1))
    desk.tell(left(desk, 1, 1, correction=True))
    assert desk.deliver(10) == [] and desk.state() == [("cancelled", "changed back")]


@pytest.mark.parametrize("hour", [0.5, 1.5], ids=["earlier", "later"])
@pytest.mark.parametrize("turned", [False, True], ids=["withdrawn first", "added first"])
@pytest.mark.parametrize("n", [1, 3], ids=["the same number", "another number"])
def test_an_entry_that_moves_is_sent_once(hour: float, turned: bool, n: int) -> None:
    for sent_before in (False, True):
        desk = Desk(LATER)
        desk.tell(entered(desk, 1))
        first = desk.deliver(6) if sent_before else []
        changes = [left(desk, 1, 1, correction=True), entered(desk, hour, n, correction=True)]
        desk.tell(*(changes[::-1] if turned else changes))
        second = desk.deliver(5.4) + desk.deliver(7)
        assert len(first) == sent_before and len(first) + len(second) == 1
        assert desk.rows("status", "at") == [("sent", int(hour * HOUR))], "the same row, the same id"
        assert sent_before or [m.at for m in second] == [int(hour * HOUR)]


def test_a_moved_entry_is_due_after_its_new_instant() -> None:
    desk = Desk(LATER)
    desk.tell(entered(desk, 1))
    desk.tell(left(desk, 1, 1, correction=True), entered(desk, 3, 1, correction=True))
    assert desk.deliver(7) == [] and len(desk.deliver(8)) == 1


def test_a_new_occasion_after_a_withdrawn_one_is_sent_although_the_counter_begins_again() -> None:
    desk = Desk()
    desk.tell(entered(desk, 1))
    assert len(desk.deliver(1)) == 1
    desk.tell(left(desk, 1, 1, correction=True))
    desk.tell(entered(desk, 9, 1))
    assert [m.at for m in desk.deliver(9)] == [9 * HOUR] and len(set(desk.rows("action_id"))) == 2


def test_a_gap_that_closes_makes_one_occasion_of_two() -> None:
    desk = Desk(LATER)
    desk.tell(entered(desk, 1), left(desk, 2), entered(desk, 3, 3))
    desk.tell(entered(desk, 2, 2, correction=True), left(desk, 3, 3, correction=True))
    assert [m.at for m in desk.deliver(6)] == [HOUR] and desk.deliver(20) == []

    desk = Desk(LATER)
    desk.tell(entered(desk, 1), left(desk, 2), entered(desk, 3, 3))
    assert len(desk.deliver(8)) == 1, "the second was sent, the first dropped"
    desk.tell(entered(desk, 2, 2, correction=True), left(desk, 3, 3, correction=True))
    assert desk.deliver(20) == [], "and is not sent now that they are one"


def test_a_gap_that_opens_makes_two_occasions_of_one() -> None:
    desk = Desk()
    desk.tell(entered(desk, 1))
    assert len(desk.deliver(1)) == 1
    desk.tell(left(desk, 2, 2, correction=True), entered(desk, 3, 3, correction=True))
    assert [m.at for m in desk.deliver(4)] == [3 * HOUR]


def test_what_is_found_to_have_been_and_gone_is_not_sent() -> None:
    desk = Desk()
    desk.tell(entered(desk, 5))
    assert len(desk.deliver(5)) == 1
    desk.tell(entered(desk, 1, 1, correction=True), left(desk, 2, 2, correction=True))
    assert desk.deliver(6) == []


def test_a_leave_that_never_was_is_not_sent() -> None:
    desk = Desk(CART + "on_leave: {send: crm, after: 1 hour}\n")
    desk.tell(entered(desk, 1))
    desk.tell(left(desk, 1, 1, correction=True))
    assert desk.deliver(9) == [], "he never entered, so he did not leave"
    desk.tell(entered(desk, 10), left(desk, 11))
    desk.tell(entered(desk, 11, 2, correction=True))
    assert desk.deliver(20) == [], "he did not leave"
    desk.tell(left(desk, 21, 2, correction=True))
    assert [m.at for m in desk.deliver(23)] == [21 * HOUR], "a correction may find that he left"


def test_what_was_cancelled_by_hand_stays_so() -> None:
    desk = Desk(LATER)
    desk.tell(entered(desk, 1))
    desk.connection.execute("update actions set status = 'cancelled', reason = 'by hand'")
    desk.tell(left(desk, 1, 1, correction=True), entered(desk, 0.5, 1, correction=True))
    assert desk.deliver(9) == [] and desk.state() == [("cancelled", "by hand")]


# against an oracle


class Oracle:
    """What has to arrive, by lists in memory: the log of one customer, and which of its changes were answered, withdrawn ones included."""

    def __init__(self, wants: dict[str, int]) -> None:
        self.wants = wants
        self.log: list[tuple[int, str]] = []
        self.answered: set[tuple[int, str]] = set()
        self.sent: list[tuple[str, int]] = []

    def correct(self, log: list[tuple[int, str]]) -> None:
        different = set(log) ^ set(self.log)
        self.log = log
        if not log or not different or log[-1] in self.answered:
            return
        since = max(min(x[0] for x in different), log[-2][0] + 1 if len(log) > 1 else 0)
        if ghosts := [x for x in self.answered if x[1] == log[-1][1] and x[0] >= since and x not in log]:
            self.answered.remove(max(ghosts))
            self.answered.add(log[-1])

    def deliver(self, now: int) -> None:
        if self.log and self.log[-1] not in self.answered and self.log[-1][1] in self.wants:
            at, change = self.log[-1]
            if at + self.wants[change] <= now:
                self.answered.add(self.log[-1])
                self.sent.append((change, at))


def difference(old: list[tuple[int, str]], new: list[tuple[int, str]]) -> list[tuple[int, str, int]]:
    """What a live loop says to turn one log into the other; a number is the place in the new log, of what is withdrawn in the old."""
    opposite = {"entered": "left", "left": "entered"}
    found = [(at, opposite[change], old.index((at, change)) + 1) for at, change in old if (at, change) not in new]
    found += [(at, change, new.index((at, change)) + 1) for at, change in new if (at, change) not in old]
    return sorted(found, key=lambda x: x[0])


def story(seed: int) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Tell random changes and corrections of one customer, deliver in between; return what was sent and what should have been."""
    r = random.Random(seed)
    waits = {"entered": r.choice([0, 3]), "left": r.choice([0, 2])}
    wants = {change: wait for change, wait in waits.items() if change == "entered" or r.random() < 0.5}
    text = CART + "".join(
        f"{'on_enter' if change == 'entered' else 'on_leave'}: {{send: mail{f', after: {wait} hours' if wait else ''}}}\n"
        for change, wait in wants.items()
    )
    desk, oracle, now = Desk(text), Oracle(wants), 0
    for _ in range(r.randrange(3, 25)):
        now += r.randrange(1, 4)
        what = r.random()
        if what < 0.45:
            change = "left" if oracle.log and oracle.log[-1][1] == "entered" else "entered"
            desk.tell(desk.change(change, now, len(oracle.log) + 1))
            oracle.log = [*oracle.log, (now, change)]
        elif what < 0.75:
            times = sorted(r.sample(range(now + 1), min(now + 1, r.randrange(0, 5))))
            keep = oracle.log[: r.randrange(len(oracle.log) + 1)]
            new = list(keep)
            for t in times:
                if not new or t > new[-1][0]:
                    new.append((t, "left" if new and new[-1][1] == "entered" else "entered"))
            desk.tell(*(desk.change(change, t, n, correction=True) for t, change, n in difference(oracle.log, new)))
            oracle.correct(new)
        else:
            desk.deliver(now)
            oracle.deliver(now)
    desk.deliver(now + 100)
    oracle.deliver(now + 100)
    return [(m.change, m.at // HOUR) for m in desk.mail.got], oracle.sent


def test_random_stories_send_what_an_oracle_says() -> None:
    told = 0
    for seed in range(20_000 if LONG else 400):
        sent, wanted = story(seed)
        assert sent == wanted, seed
        told += len(sent)
    assert told > 600


def test_forgetting_keeps_the_latest_change() -> None:
    desk = Desk()
    desk.tell(entered(desk, 1), left(desk, 2), entered(desk, 3, 3), entered(desk, 1, customer="bob"))
    with transaction(desk.connection):
        assert outbox.prune(desk.connection, DAY) == 2
    assert desk.connection.execute("select customer_id, at from transitions order by 1").fetchall() == [("ann", 3 * HOUR), ("bob", HOUR)]
    assert {m.customer_id for m in desk.deliver(4)} == {"ann", "bob"}


def test_nothing_is_noted_when_the_transaction_fails() -> None:
    desk = Desk()
    with pytest.raises(sqlite3.IntegrityError), transaction(desk.connection):
        outbox.enqueue(desk.connection, [entered(desk, 1)], desk.segments, 0)
        desk.connection.execute("insert into actions (action_id) values ('x')")
    assert desk.rows("action_id") == [] and desk.tell(entered(desk, 1)) == 1
