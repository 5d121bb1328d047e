"""The writer: group commit, an answer only after it, a store that goes away and comes back, a row that nobody foresaw."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from typing import Any

import pytest

from predseg.errors import DataError
from predseg.language.time import SECOND
from predseg.live import service
from predseg.live.collector import Rejected
from predseg.live.desk import Desk
from predseg.live.service import Busy, Limits
from tests.live.fakes import Store
from tests.live.serving import clock, made
from tests.patience import eventually


def row(event: str = "Look", customer: str = "ann", **more: Any) -> dict[str, Any]:
    return {"customer_id": customer, "event": event, "event_time": clock(), **more}


def submitted(desk: Desk, *batches: list[Any]) -> list[Any]:
    """The answer to every batch: kinds of verdicts, or the status of a refusal."""

    async def all_of_them() -> list[Any]:
        return await asyncio.gather(*(desk.writer.submit(batch) for batch in batches), return_exceptions=True)

    found = asyncio.run(all_of_them())
    return [answer.status if isinstance(answer, Busy) else [v.kind for v in answer] if isinstance(answer, list) else answer for answer in found]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "RETRY", (0.02, 0.1))


def test_whatever_has_arrived_is_one_transaction() -> None:
    desk = made(store := Store())
    store.free.clear()
    put, came = desk.writer.queue.put, list[Any]()
    desk.writer.queue.put = lambda item: came.append(put(item))  # type: ignore[method-assign]

    def let() -> None:
        """Let the first transaction end when all have come."""
        eventually(lambda: len(came) == 201)
        store.free.set()

    (letting := threading.Thread(target=let)).start()
    assert submitted(desk, *[[row(event_id=f"{i}")] for i in range(200)], [row(event_id="0")]) == [["accepted"]] * 200 + [["duplicate"]]
    letting.join()
    assert len(store.groups) <= 2 and sum(store.groups) == 201
    desk.writer.stop()


def test_nobody_is_answered_before_the_commit() -> None:
    store = Store(slow=0.2)
    desk = made(store)
    begin = time.monotonic()
    assert submitted(desk, [row()]) == [["accepted"]]
    assert time.monotonic() - begin >= 0.2 and store.rows
    desk.writer.stop()


def test_the_clock_acts_at_every_heartbeat_and_when_the_loop_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "HEARTBEAT", SECOND // 20)
    store = Store()
    desk = made(store)
    eventually(lambda: desk.writer.state.commits >= 5)
    before = desk.served.as_of
    eventually(lambda: desk.served.as_of != before)
    desk.writer.stop()
    monkeypatch.setattr(service, "HEARTBEAT", 100 * SECOND)
    desk = made(store)
    desk.writer.state.due = clock() + SECOND // 10
    submitted(desk, [row()])
    commits = desk.writer.state.commits
    desk.writer._core.next_due = clock() + SECOND // 10  # type: ignore[union-attr]
    submitted(desk, [row()])
    eventually(lambda: desk.writer.state.commits > commits + 1, 50)
    desk.writer.stop()


def test_a_stop_decides_what_waits() -> None:
    store = Store(slow=0.1)
    desk = made(store)

    async def stopping() -> list[Any]:
        waiting = [asyncio.create_task(desk.writer.submit([row(event_id=f"{i}")])) for i in range(10)]
        await asyncio.sleep(0.01)
        await asyncio.to_thread(desk.writer.stop)
        with pytest.raises(Busy) as late:
            await desk.writer.submit([row()])
        assert late.value.status == 503
        return await asyncio.gather(*waiting)

    assert len(asyncio.run(stopping())) == 10 == len(store.rows)


def test_too_many_rows_are_refused_but_a_large_batch_alone_is_taken() -> None:
    desk = made(Store(slow=0.05), Limits(rows=10, group=5))
    found = submitted(desk, *[[row() for _ in range(4)] for _ in range(10)])
    assert 429 in found and ["accepted"] * 4 in found
    assert submitted(desk, [row() for _ in range(50)]) == [["accepted"] * 50]
    assert desk.writer.queue.rows == desk.writer.queue.bytes == 0
    desk.writer.stop()


@pytest.mark.parametrize("error", [sqlite3.OperationalError("database is locked"), OSError("gone"), DataError("E410", "store", "cannot write")])
def test_a_lost_store_refuses_keeps_answering_and_comes_back(error: Exception) -> None:
    store = Store()
    desk = made(store)
    submitted(desk, [row("Enter", "ann")])
    as_of = desk.served.as_of
    store.fails = error
    assert submitted(desk, [row("Enter", "bob", event_id="b1")]) == [503]
    assert submitted(desk, [row()]) == [503], "at once, and nothing is kept in memory"
    [inside] = desk.served.of("ann", clock())
    assert inside["stale"] and inside["member"] and desk.served.as_of is not None and as_of is not None and desk.served.as_of >= as_of
    assert desk.check()[0].name == "store"
    store.fails = None
    eventually(lambda: desk.writer.state.down is None)
    assert submitted(desk, [row("Enter", "bob", event_id="b1")]) == [["accepted"]]
    assert not desk.served.of("bob", clock())[0]["stale"] and len(store.rows) == 2
    desk.writer.stop()


def test_a_commit_whose_answer_was_lost_is_told_once() -> None:
    """The transaction held, the answer did not come: the client sends again, and the log is told once."""
    store = Store()
    desk = made(store)
    told: list[Any] = []
    desk.tell = told.extend  # type: ignore[method-assign]
    desk.events = events = asyncio.new_event_loop()
    threading.Thread(target=events.run_forever, daemon=True).start()
    store.fails_after_commit = True
    assert submitted(desk, [row("Enter", "ann", event_id="a1")]) == [503]
    assert desk.served.of("ann", clock()) == [] and store.members
    store.fails, store.fails_after_commit = None, False
    eventually(lambda: desk.writer.state.down is None)
    assert submitted(desk, [row("Enter", "ann", event_id="a1")]) == [["duplicate"]]
    eventually(lambda: told)
    assert [(number, change.customer_id) for number, change in told] == [(1, "ann")] and desk.served.of("ann", clock())
    desk.writer.stop()
    events.call_soon_threadsafe(events.stop)


def test_a_row_that_nobody_foresaw_is_set_aside_and_the_others_go_on() -> None:
    store = Store()
    desk = made(store)
    rows = [row(event_id=f"{i}") for i in range(20)]
    rows[13]["event"] = "Poison"
    [kinds] = submitted(desk, rows)
    assert kinds == ["accepted"] * 13 + ["quarantined"] + ["accepted"] * 6
    assert store.quarantine[0].reason == "could not be decided: ZeroDivisionError" and '"Poison"' in store.quarantine[0].raw
    assert desk.writer.state.down is None and desk.writer.state.error is not None and len(store.rows) == 19
    desk.writer.stop()


def test_a_store_that_cannot_be_opened_is_refused_at_the_start() -> None:
    with pytest.raises(OSError, match="gone"):
        made(Store(fails=OSError("gone")))


def test_rejected_rows_are_stored_with_the_others() -> None:
    desk = made(store := Store())
    assert submitted(desk, [Rejected("{}", "type", "is missing"), row()]) == [["quarantined", "accepted"]]
    assert len(store.quarantine) == 1
    desk.writer.stop()
