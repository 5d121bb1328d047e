"""What is answered when the store is away or a segment is old: served, held back, or nobody."""

from __future__ import annotations

from dataclasses import replace

import pytest

from predseg.evaluate.program import Change
from predseg.language.floor import Floor
from predseg.language.serving import Stale
from predseg.language.time import HOUR, MINUTE
from predseg.live.served import HOURS, Served
from tests.live.fakes import INSIDE, Core, Store

NOW = 500_000 * HOUR + 30 * MINUTE
OLD = NOW - 3 * HOUR


def served(on_stale: str = "serve", max_stale: int | None = 2 * HOUR, refresh: str = "live") -> Served:
    found = Served({"inside": replace(INSIDE, stale=Stale(max_stale, on_stale), refresh=refresh)}, Floor(1))
    found.follow(Core(Store(members={"ann": OLD - 1, "bob": OLD})), OLD)
    return found


def answered(found: Served, now: int) -> tuple[object, object]:
    return [(m["member"], m["stale"]) for m in found.of("ann", now)], [(m["member"], m["stale"]) for m in found.of("eve", now)]


def test_a_fresh_answer_is_an_answer() -> None:
    assert answered(served("hold"), OLD + HOUR) == ([(True, False)], [])


def test_beyond_max_stale_the_segment_says_what_happens() -> None:
    assert answered(served("serve"), NOW) == ([(True, True)], [])
    assert answered(served("hold"), NOW) == ([(None, True)], [(None, True)]), "neither yes nor no"
    assert answered(served("exclude"), NOW) == ([], [])
    assert answered(served("serve", None), NOW) == ([(True, False)], []), "never too old"
    assert [served(word).segment("inside", NOW)["size"] for word in ("serve", "hold", "exclude")] == [2, None, 0]
    assert [served(word).segment("inside", NOW)["sample"] for word in ("serve", "hold", "exclude")] == [["bob", "ann"], [], []]


def test_the_limit_itself_is_not_beyond() -> None:
    assert answered(served("exclude"), OLD + 2 * HOUR) == ([(True, False)], [])
    assert answered(served("exclude"), OLD + 2 * HOUR + 1) == ([], [])


def test_without_the_store_the_last_answer_is_marked() -> None:
    found = served("exclude")
    found.down = lambda: "gone"
    assert answered(found, OLD + HOUR) == ([(True, True)], []), "marked at once, withheld only beyond max_stale"
    assert answered(found, NOW) == ([], [])


def test_a_daily_segment_is_as_old_as_its_run() -> None:
    found = served("hold", refresh="daily")
    assert answered(found, OLD) == ([(None, True)], [(None, True)]), "it was never run"
    found.replace({"inside": {"ann": 5}}, {"inside": NOW - HOUR})
    found.down = lambda: "gone"
    assert answered(found, NOW) == ([(True, False)], []), "what a run published does not need the live store"
    assert answered(found, NOW + 2 * HOUR) == ([(None, True)], [(None, True)])


def test_a_daily_segment_that_does_not_say_so_may_miss_one_run() -> None:
    found = served("serve", None, refresh="daily")
    found.replace({"inside": {"ann": 5}}, {"inside": NOW - 48 * HOUR})
    assert answered(found, NOW) == ([(True, False)], [])
    assert answered(found, NOW + 1) == ([(True, True)], []), "it is said, and answered as it was"
    assert answered(served("serve", None), NOW + 100 * 24 * HOUR) == ([(True, False)], []), "a live one lives as long as its loop"


def test_who_opted_out_is_in_no_list() -> None:
    assert served().segment("inside", OLD, without={"bob"})["sample"] == ["ann"]


def test_hours_and_corrections() -> None:
    store = Store()
    found = Served({"inside": INSIDE}, Floor(1))
    found.follow(Core(store), NOW)

    def say(change: str, customer: str, at: int, correction: bool = False) -> None:
        store.changes.append(Change(change, "inside", customer, at, "d1", correction, 1))

    say("entered", "ann", NOW - HOUR)
    say("entered", "bob", NOW)
    say("left", "bob", NOW, correction=True)  # an entry that is withdrawn had never been
    say("left", "ann", NOW)
    found.follow(Core(store), NOW)
    hours = [(h["entered"], h["left"]) for h in found.segment("inside", NOW)["hours"]]
    assert len(hours) == HOURS and hours[-2:] == [(1, 0), (0, 1)] and found.sizes() == {"inside": 0}


def test_changes_are_followed_once_whatever_happens() -> None:
    store = Store()
    found = Served({"inside": INSIDE}, Floor(1))
    assert found.follow(Core(store), NOW) == [] and found.since(0) == ([], True)
    store.changes += [Change("entered", "inside", f"c{i}", NOW, "d1", False, i) for i in range(25)]
    assert [n for n, _ in found.follow(Core(store), NOW)] == list(range(1, 26)) and found.follow(Core(store), NOW) == []
    assert [n for n, _ in found.since(20)[0]] == [21, 22, 23, 24, 25]


@pytest.mark.parametrize(("kept", "whole"), [(25, True), (10, False)])
def test_it_is_known_whether_memory_reaches_back(kept: int, whole: bool) -> None:
    store = Store()
    found = Served({"inside": INSIDE}, Floor(1))
    found.follow(Core(store), NOW)
    store.changes += [Change("entered", "inside", f"c{i}", NOW, "d1", False, i) for i in range(25)]
    found.follow(Core(store), NOW)
    while len(found._recent) > kept:
        found._recent.popleft()
    assert found.since(0)[1] is whole and found.since(15)[1] and found.since(25) == ([], True)
