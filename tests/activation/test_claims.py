"""What a message must pass at the moment it is taken: consent, caps, quiet hours, the rule as it is now."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from predseg.activation import claims, outbox
from predseg.activation.claims import Gate, claim, first_due, in_flight, recover, transaction
from predseg.history import privacy
from predseg.language.time import DAY, HOUR, parse_instant
from tests.activation.desk import CART, MAIL, Desk, entered, left
from tests.activation.races import LONG, race


def test_the_opted_out_get_nothing_and_it_is_noted() -> None:
    desk = Desk(CART + MAIL + "purpose: email_marketing\n")
    desk.out = {("ann", "email_marketing"), ("bob", "training")}
    desk.tell(entered(desk, 1), entered(desk, 1, customer="bob"))
    assert [m.customer_id for m in desk.deliver(1)] == ["bob"]
    assert desk.rows("customer_id", "status", "reason") == [("ann", "suppressed", "opted out"), ("bob", "sent", "")]


def test_consent_is_asked_for_the_purpose_of_the_segment() -> None:
    desk = Desk()
    desk.out = {("ann", None)}
    desk.tell(entered(desk, 1))
    assert desk.deliver(1) == [], "a segment without a purpose asks for any"


def test_the_list_of_opt_outs_of_the_same_database_is_asked() -> None:
    desk = Desk(CART + MAIL + "purpose: email_marketing\n")
    privacy.prepare(desk.connection, [b"a key of some length"])
    privacy.say(desk.connection, ["ann"], ["email_marketing"], 0, out=True, origin="command")
    desk._sender = None
    gate = replace(desk.gate, opted_out=privacy.opted_out)
    desk.tell(entered(desk, 1), entered(desk, 1, customer="bob"))
    assert [m.customer_id for m in claim(desk.connection, gate, "mail", HOUR, 9)] == ["bob"]


# caps


def test_once_per_seven_days() -> None:
    desk = Desk(CART + "on_enter: {send: mail, limit: once per 7 days}\n")
    for n, day in enumerate([0, 3, 7, 13, 14], 1):
        desk.tell(entered(desk, 24 * day, 2 * n - 1))
        desk.deliver(24 * day)
        desk.tell(left(desk, 24 * day + 1, 2 * n))
    assert [m.at // DAY for m in desk.mail.got] == [0, 7, 14]
    reasons = {reason for status, reason in desk.state() if status == "suppressed"}
    assert reasons == {"once per 7 days, the last at 1970-01-01T00:00Z", "once per 7 days, the last at 1970-01-08T00:00Z"}


def test_a_cap_holds_for_two_that_are_due_together() -> None:
    """Both wait when the sender comes; the second is decided when the first is on its way."""
    desk = Desk(
        CART + "on_enter: {send: mail, limit: once per 7 days}\n---\nsegment: other\nmatch: {did: Add}\non_enter: {send: mail, limit: once per day}\n"
    )
    desk.still = lambda *_: True
    desk.tell(entered(desk, 1), entered(desk, 1, customer="bob"), entered(desk, 1, segment="other"))
    desk.connection.execute("insert into actions select 'act_2', segment, definition, customer_id, 3, change, slot, at, channel, variant, due_at, status, reason, "
                            "attempts, batch, made_at, claimed_at, sent_at from actions where segment = 'cart' and customer_id = 'ann'")  # fmt: skip
    assert sorted((m.customer_id, m.segment) for m in desk.deliver(2)) == [("ann", "cart"), ("ann", "other"), ("bob", "cart")], "caps are per segment"
    assert sorted(desk.rows("status")) == ["sent", "sent", "sent", "suppressed"]


def test_a_cap_outlives_a_change_of_the_rule() -> None:
    desk = Desk(CART + "on_enter: {send: mail, limit: once per 7 days}\n")
    desk.tell(entered(desk, 1))
    assert len(desk.deliver(1)) == 1
    again = Desk(desk.text.replace("3 days", "4 days"))
    again.connection = desk.connection
    again.tell(entered(again, 5))
    assert again.deliver(5) == [] and again.segments["cart"].definition != desk.segments["cart"].definition


def test_each_action_of_a_segment_has_its_own_cap() -> None:
    desk = Desk(CART + "on_enter: [{send: mail, limit: once per 7 days}, {send: mail, after: 2 hours, limit: once per 7 days}]\n")
    desk.tell(entered(desk, 1))
    assert len(desk.deliver(1)) == 1 and len(desk.deliver(3)) == 1, "a reminder two hours later"


# quiet hours


@pytest.mark.parametrize(
    ("zone", "asked", "sent"),
    [
        ("UTC", "2026-03-01T23:00", "2026-03-02T08:00"),
        ("Europe/London", "2026-03-28T23:00", "2026-03-29T07:00"),
        ("Europe/London", "2026-10-24T23:00", "2026-10-25T08:00"),
        ("UTC", "2024-02-28T23:00", "2024-02-29T08:00"),
        ("UTC", "2024-02-29T23:00", "2024-03-01T08:00"),
    ],
)
def test_nothing_is_sent_at_night(zone: str, asked: str, sent: str) -> None:
    desk = Desk(CART + f"on_enter: {{send: mail, quiet: 22:00-08:00, timezone: {zone}}}\n")
    at, morning = parse_instant(asked), parse_instant(sent)
    desk.tell(entered(desk, at / HOUR))
    assert desk.rows("due_at") == [morning], "due in the morning"
    desk.connection.execute("update actions set due_at = at")  # as if it had become due before a delay of the sender
    assert desk.deliver(at / HOUR) == [] and desk.rows("status", "reason", "due_at") == [("pending", "quiet hours", morning)]
    assert desk.deliver((morning - 1) / HOUR) == [] and len(desk.deliver(morning / HOUR)) == 1


def test_who_leaves_at_night_gets_nothing_in_the_morning() -> None:
    desk = Desk(CART + "on_enter: {send: mail, quiet: 22:00-08:00}\n")
    desk.tell(entered(desk, 23), left(desk, 26))
    assert desk.deliver(32) == [] and desk.deliver(33) == []
    desk.tell(entered(desk, 47, 3), left(desk, 48, 4), entered(desk, 49, 5))
    assert [m.at // HOUR for m in desk.deliver(56)] == [49], "one message for a night of coming and going"


# the rule as it is now


def test_messages_of_a_rule_that_changed_are_cancelled() -> None:
    for text, reason in (
        (CART.replace("3 days", "4 days") + MAIL, "the rule was changed"),
        (CART, "no longer declared"),
        ("segment: other\nmatch: {did: Add}\n", "no longer declared"),
    ):
        desk = Desk(CART + MAIL)
        desk.tell(entered(desk, 1))
        desk.segments = Desk(text).segments
        assert desk.deliver(1) == [] and desk.state() == [("cancelled", reason)]


def test_a_message_follows_its_action_to_another_channel() -> None:
    desk = Desk()
    desk.tell(entered(desk, 1))
    desk.segments = Desk(CART + "on_enter: {send: crm}\n").segments
    assert [m.channel for m in desk.deliver(1)] == ["crm"] and desk.mail.got == [] and desk.rows("channel") == ["crm"]


def test_segments_that_somebody_else_sends_for_are_left_alone() -> None:
    desk = Desk(CART + MAIL + "---\nsegment: daily\nmatch: {did: Add}\non_enter: {send: mail}\n", others=("cart",))
    desk.tell(entered(desk, 1), entered(desk, 1, segment="daily"))
    assert first_due(desk.connection, desk.gate, "mail") == HOUR and [m.segment for m in desk.deliver(1)] == ["daily"]
    assert first_due(desk.connection, desk.gate, "mail") is None and desk.deliver(9) == []
    desk.connection.execute("update actions set status = 'claimed'")
    assert recover(desk.connection, desk.gate, lambda *_: None) == 1, "and so are their claims"


def test_a_claim_undoes_itself_when_it_fails() -> None:
    desk = Desk()
    desk.tell(entered(desk, 1), entered(desk, 1, customer="bob"))

    def opted_out(_: sqlite3.Connection, customer_id: str, __: str | None) -> bool:
        if customer_id == "bob":
            raise RuntimeError("no")
        return False

    with pytest.raises(RuntimeError):
        claim(desk.connection, replace(desk.gate, opted_out=opted_out), "mail", HOUR, 9)
    assert desk.rows("status") == ["pending", "pending"] and not desk.connection.in_transaction


def test_a_claim_looks_at_a_bounded_number_of_rows() -> None:
    desk = Desk()
    desk.tell(*(entered(desk, 1, customer=f"c{i}") for i in range(claims.LOOK + 50)))
    desk.out = {(f"c{i}", None) for i in range(claims.LOOK + 50)}
    assert claim(desk.connection, desk.gate, "mail", HOUR, 9) == []
    assert desk.rows("status").count("suppressed") == claims.LOOK
    assert desk.deliver(1) == [] and desk.rows("status").count("suppressed") == claims.LOOK + 50


# races with opting out


def test_whoever_says_no_gets_nothing_from_then_on(tmp_path: Path) -> None:
    """An opt-out is acknowledged when it is written and nothing is on its way any more."""
    schedules = 10_000 if LONG else 300
    found = race(tmp_path, schedules)
    assert found.after == 0, f"seed {found.seed}: {found.after} messages after the no was acknowledged"
    assert found.sent > schedules / 10 and found.refused > schedules / 10, "both happen, else nothing was tried"


@pytest.mark.parametrize("broken", ["asked before", "not waited"])
def test_the_race_finds_a_gap(tmp_path: Path, broken: str) -> None:
    assert any(race(tmp_path, 150, seed, broken).after for seed in range(0, 10_000, 500))  # threads may run past each other, but not every time


def test_in_flight_counts_claims_of_a_customer() -> None:
    desk = Desk()
    desk.tell(entered(desk, 1), entered(desk, 1, customer="bob"))
    claim(desk.connection, desk.gate, "mail", HOUR, 1)
    assert in_flight(desk.connection, "ann") + in_flight(desk.connection, "bob") == 1


def test_two_claims_at_once_never_take_the_same(tmp_path: Path) -> None:
    desk = Desk(file=tmp_path / "live.db")
    desk.connection.execute("pragma journal_mode = wal")
    desk.tell(*(entered(desk, 1, customer=f"c{i}") for i in range(120)))
    gate = Gate(desk.segments, outbox.still, lambda *_: False)
    taken: list[str] = []

    def work() -> None:
        connection = sqlite3.connect(tmp_path / "live.db", isolation_level=None, timeout=30)
        while some := claim(connection, gate, "mail", HOUR, 7):
            taken.extend(m.action_id for m in some)
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken)) == 120
    with transaction(desk.connection):
        assert desk.rows("status") == ["claimed"] * 120
