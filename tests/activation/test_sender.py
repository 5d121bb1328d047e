"""Sending: again and again with growing pauses, not too often, and never by two at once."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from predseg.activation import outbox
from predseg.activation import sender as sender_module
from predseg.activation.claims import Message
from predseg.activation.sender import DAILY, Sender, sole_sender
from predseg.activation.sending import Later, Never
from predseg.language.channels import Dry
from predseg.language.time import DAY, HOUR, MINUTE, SECOND
from tests.activation.desk import CART, MAIL, Desk, entered
from tests.patience import PATIENCE, eventually


def failing(times: int, error: Exception) -> tuple[Desk, list[float]]:
    """A desk whose channel fails so often, and the hours at which it was tried."""
    desk, tried = Desk(), []

    def fail(_: Message) -> Exception | None:
        tried.append(desk.now / SECOND)
        return error if len(tried) <= times else None

    desk.mail.fail = fail
    desk.tell(entered(desk, 0))
    return desk, tried


def pass_time(desk: Desk, until: float = 10 * DAY) -> None:
    """Deliver whenever something is due, until nothing is."""
    while (due := desk.sender.next_moment()) is not None and due <= until:
        desk.now = max(due, desk.now)
        desk.sender.deliver()


def test_what_did_not_arrive_is_tried_again_with_growing_pauses() -> None:
    desk, tried = failing(6, Later("answered 500"))
    pass_time(desk)
    pauses = [b - a for a, b in zip(tried, tried[1:], strict=False)]
    assert len(desk.mail.got) == 1 and desk.rows("attempts", "status", "reason") == [(7, "sent", "")]
    assert all(3**i <= pause <= 2 * 3**i for i, pause in enumerate(pauses)) and len(pauses) == 6
    assert len({round(p / 3**i, 6) for i, p in enumerate(pauses)}) > 3, "with jitter"


def test_after_a_bound_it_is_dead() -> None:
    desk, tried = failing(99, Later("answered 500"))
    pass_time(desk)
    assert len(tried) == 12 and desk.state() == [("dead", "answered 500; tried 12 times")]
    assert 12 * 3600 < tried[-1] < 3 * 24 * 3600, "within days"
    desk, tried = failing(99, Later("answered 500"))
    desk.attempts = 3
    pass_time(desk)
    assert len(tried) == 3


def test_a_channel_asks_to_be_left_alone() -> None:
    """Retry-After holds for all messages of the channel, and for no other."""
    desk = Desk(CART + "on_enter: [{send: mail}, {send: crm}]\n")
    tried: list[tuple[int, str]] = []

    def busy(message: Message) -> Exception | None:
        tried.append((desk.now, message.customer_id))
        return Later("answered 429", 10 * MINUTE, busy=True) if len(tried) == 1 else None

    desk.mail.fail, desk.mail.room = busy, 1
    desk.tell(entered(desk, 0), entered(desk, 0, customer="bob"))
    desk.deliver(0)
    assert len(tried) == 1 and len(desk.crm.got) == 2, "the other channel goes on"
    assert sorted(desk.rows("channel", "status", "attempts")) == [
        ("crm", "sent", 1),
        ("crm", "sent", 1),
        ("mail", "failed", 1),
        ("mail", "pending", 0),
    ]
    assert desk.sender.next_moment() == 10 * MINUTE
    desk.deliver(9 / 60)
    assert len(tried) == 1
    desk.deliver(10 / 60)
    assert sorted(c for _, c in tried[1:]) == ["ann", "bob"] and set(desk.rows("status")) == {"sent"}


def test_a_message_that_is_refused_does_not_stop_the_others() -> None:
    desk = Desk()
    desk.mail.fail = lambda m: Never("answered 410") if m.customer_id == "ann" else Later("answered 500") if m.customer_id == "bob" else None
    desk.tell(*(entered(desk, 0, customer=c) for c in ("ann", "bob", "cleo")))
    desk.deliver(0)
    assert desk.rows("customer_id", "status", "reason") == [("ann", "dead", "answered 410"), ("bob", "failed", "answered 500"), ("cleo", "sent", "")]


def test_a_bug_in_a_channel_is_one_failed_attempt() -> None:
    desk, tried = failing(1, KeyError("x"))
    desk.deliver(0)
    assert desk.state() == [("failed", "a bug of predseg: KeyError: 'x'")]
    pass_time(desk)
    assert len(tried) == 2 and desk.rows("status") == ["sent"]


def test_a_failed_one_is_decided_again() -> None:
    desk, _ = failing(99, Later("answered 500"))
    desk.deliver(0)
    desk.out = {("ann", None)}
    pass_time(desk)
    assert desk.state() == [("suppressed", "opted out")]


def test_claims_of_a_sender_that_is_gone_are_sent_again_under_the_same_id() -> None:
    desk = Desk()
    desk.tell(entered(desk, 0))
    desk.connection.execute("update actions set status = 'claimed', batch = 'crm-1', channel = 'crm', attempts = 1")
    desk.segments = Desk(CART + "on_enter: {send: crm}\n").segments
    [message] = desk.deliver(0)
    assert message.attempts == 2 and desk.rows("action_id") == [message.action_id] and desk.crm.discarded == ["crm-1"]


def test_the_messages_of_a_file_share_its_name() -> None:
    desk = Desk()
    desk.mail.files, desk.mail.room = True, 3
    desk.tell(*(entered(desk, 0, customer=c) for c in "abcde"))
    desk.deliver(30)
    names = [m.batch for m in desk.mail.got]
    assert len(set(names)) == 2 and sorted(map(names.count, set(names))) == [2, 3]
    assert all(str(n).startswith("mail-19700102T060000Z-") for n in names) and set(desk.rows("batch")) == set(names)


# the life of a sender


def test_there_is_one_sender(tmp_path: Path) -> None:
    code = "import sys, time; from pathlib import Path; from predseg.activation.sender import DAILY, sole_sender\nwith sole_sender(Path(sys.argv[1]), 'daily') as mine: print(mine, flush=True); time.sleep(60)"
    with sole_sender(tmp_path, DAILY) as mine:
        assert mine
        with sole_sender(tmp_path, DAILY) as other:
            assert not other
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "True\n"
    with sole_sender(tmp_path, DAILY) as mine:
        assert not mine
    process.kill()
    process.wait()
    process.stdout.close()
    with sole_sender(tmp_path, DAILY) as mine:
        assert mine, "a lock never outlives its process"


def running(desk: Desk, file: Path, wake: threading.Event | None = None) -> tuple[threading.Thread, threading.Event, threading.Event, list[Sender]]:
    stop, wake, made = threading.Event(), wake or threading.Event(), []

    def work() -> None:
        connection = sqlite3.connect(file, isolation_level=None, timeout=30)
        sender = Sender(connection, desk.gate, {"mail": Dry("mail")}, {"mail": desk.mail}, lambda: desk.now)
        made.append(sender)
        sender.run(stop, wake)
        connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    return thread, stop, wake, made


def test_a_sender_wakes_when_it_is_told_and_stops_when_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender_module, "PATIENCE", HOUR)  # without waiting for its rounds
    desk = Desk(file=tmp_path / "live.db")
    desk.connection.execute("pragma journal_mode = wal")
    thread, stop, wake, _ = running(desk, tmp_path / "live.db")
    try:
        for n, customer in enumerate("abc", 1):
            desk.tell(entered(desk, 0, customer=customer))
            wake.set()
            eventually(lambda n=n: len(desk.mail.got) == n)
    finally:
        stop.set()
        wake.set()
        thread.join(PATIENCE)
    assert not thread.is_alive()


def test_what_is_told_while_the_sender_looks_whether_it_is_told_is_not_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The transaction that notes the message ends after the sender has looked for what is due."""
    monkeypatch.setattr(sender_module, "PATIENCE", HOUR)
    desk = Desk(file=tmp_path / "live.db")
    desk.connection.execute("pragma journal_mode = wal")
    noting = sqlite3.connect(tmp_path / "live.db", isolation_level=None, check_same_thread=False)

    class Told(threading.Event):
        """Is set by somebody just after the sender saw that it was not."""

        first = True

        def is_set(self) -> bool:
            found = super().is_set()
            if self.first:
                self.first = False
                noting.execute("begin immediate")
                outbox.enqueue(noting, [entered(desk, 0)], desk.segments, 0)
                self.set()
            return found

        def wait(self, timeout: float | None = None) -> bool:
            if noting.in_transaction:
                noting.execute("commit")
            return super().wait(timeout)

    thread, stop, wake, _ = running(desk, tmp_path / "live.db", Told())
    try:
        eventually(lambda: desk.mail.got)
    finally:
        stop.set()
        wake.set()
        thread.join(PATIENCE)
    noting.close()


def test_a_sender_outlives_trouble_with_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was sent and could not be noted is sent again, under its id."""
    monkeypatch.setattr(sender_module, "PATIENCE", SECOND // 100)
    desk = Desk(file=tmp_path / "live.db")
    desk.connection.execute("pragma journal_mode = wal")
    finish, broken = sender_module.finish, [True]

    def full(*given: object) -> None:
        if broken:
            broken.clear()
            raise sqlite3.OperationalError("database or disk is full")
        finish(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(sender_module, "finish", full)
    desk.tell(entered(desk, 0))
    thread, stop, wake, made = running(desk, tmp_path / "live.db")
    try:
        eventually(lambda: desk.rows("status") == ["sent"])
        assert [m.attempts for m in desk.mail.got] == [1, 2] and len({m.action_id for m in desk.mail.got}) == 1
        assert made
    finally:
        stop.set()
        wake.set()
        thread.join(PATIENCE)


def test_nothing_due_is_not_waited_for_longer_than_needed() -> None:
    desk = Desk(CART + "on_enter: {send: mail, after: 2 hours}\n" + "---\nsegment: b\nmatch: {did: Add}\non_enter: {send: nowhere}\n")
    assert desk.sender.next_moment() is None
    desk.tell(entered(desk, 1), entered(desk, 0, segment="b"))
    assert desk.sender.next_moment() == 3 * HOUR, "of channels that are there"
    assert MAIL and desk.deliver(2) == []
