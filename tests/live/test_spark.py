"""The live executor on Spark says what `predseg live` says, with any cut of the stream into batches, and after a restart."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from predseg import Project
from predseg.cli import main
from predseg.evaluate.program import Change
from predseg.history.keys import pseudonym
from predseg.history.persons import EVERYBODY, Persons
from predseg.history.privacy import OptedOut, person
from predseg.language.time import parse_instant, say_instant
from predseg.live.lines import Contract
from predseg.live.opening import open_in_memory
from predseg.live.spark import _carried, _decider, _of_line

LONG = bool(os.environ.get("PREDSEG_LONG"))
LATE = timedelta(minutes=5)
START = datetime(2026, 3, 1, tzinfo=UTC)
RULES = """\
segment: abandoned_cart
refresh: live
match: {did: Product Added, within: 40 minutes, then: {did_not: [Order Completed, Product Added], within: 10 minutes}}
---
segment: spender
refresh: live
match: {did: Order Completed, sum: value, more_than: 100, within: 30 minutes}
---
segment: both
refresh: live
match: {all: [{in: abandoned_cart}, {in: spender}]}
---
segment: quiet_spender
refresh: live
match: {all: [{did: Order Completed, at_least: 2}, {did_not: [Product Added, Order Completed], within: 20 minutes}]}
"""
Row = dict[str, Any]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return live_project(tmp_path)


def live_project(tmp_path: Path) -> Project:
    (tmp_path / "rules.yaml").write_text(RULES, "utf-8")
    (tmp_path / "predseg.yaml").write_text("project: shop\nsources: {}\nsegments: rules.yaml\n", "utf-8")
    return Project.load(tmp_path)


def stream(seed: int, customers: int = 25, events: int = 500) -> list[Row]:
    """Rows as they come: up to five minutes late, some twice, all on full seconds so that instants meet; a visitor without a customer among them."""
    r, found = random.Random(seed), []
    for n in range(events):
        at = START + timedelta(seconds=r.randrange(0, 7_200, 20))
        name = r.choice(["Product Added", "Product Added", "Order Completed", "Product Viewed"])
        row = {"customer_id": f"c{r.randrange(customers)}", "event": name, "event_time": at.isoformat(), "event_id": f"e{n}"}
        row |= {"value": r.choice([20.5, 60, 110])} if name == "Order Completed" else {}
        row |= {"customer_id": None, "anonymous_id": "v1"} if r.random() < 0.05 else {}
        found += [(at + r.random() * LATE, row)] * (1 + (r.random() < 0.1))
    return [row for _, row in sorted(found, key=lambda pair: pair[0])]


END = START + timedelta(hours=4)


def log(found: Sequence[Change]) -> list[tuple[str, str, str, str]]:
    return sorted((say_instant(x.at), x.segment, x.customer_id, x.change) for x in found)


def embedded(project: Project, rows: Sequence[Row]) -> list[tuple[str, str, str, str]]:
    """The log of `predseg live --new` over the sorted stream."""
    loop = open_in_memory(project.config, project.segments(), None, for_ever=True)
    found = [x for row in sorted(rows, key=lambda row: row["event_time"]) for x in loop.follow(row)]
    found += loop.tick(parse_instant(END))
    assert not any(x.correction for x in found)
    return log(found)


@pytest.mark.parametrize("seed", range(40 if LONG else 4))
def test_any_cut_into_batches_gives_the_log_of_the_sorted_stream(project: Project, seed: int) -> None:
    """What Spark does, without Spark: states as bytes, a watermark in milliseconds, timers, rows of a batch in any order."""
    rows, r = stream(seed), random.Random(seed)
    workspace = project.segments()
    decide, contract = _decider(workspace).decide(), Contract.of(project.config)
    states: dict[str, bytes] = {}
    timers: dict[str, int] = {}
    found: list[Change] = []
    newest = clock = 0
    while rows or clock < parse_instant(END):
        n = r.choice([1, 3, 40])
        batch, rows = rows[:n], rows[n:]
        read = [_of_line(json.dumps(row), contract, EVERYBODY, "refuse", True) for row in batch]
        assert all(line is not None and line[4] is None and line[1] > clock for line in read), "none is too late"
        r.shuffle(read)
        for key in {line[0] for line in read if line} | {key for key, due in timers.items() if due <= clock}:
            mine = [(line[1], line[2]) for line in read if line and line[0] == key]
            states[key], said, due = decide(key, states.get(key), mine, clock)
            found += said
            timers[key] = 2**62 if due is None else -(-due // 1_000) * 1_000
        newest = max([newest, *(line[1] for line in read if line)]) if batch else newest + 60_000_000
        clock = max(clock, newest - 300_000_000)
    wanted = embedded(project, stream(seed))
    assert log(found) == wanted and len(wanted) > 100
    assert {segment for _, segment, _, _ in wanted} == {"abandoned_cart", "spender", "both", "quiet_spender"}


def test_what_a_stream_on_spark_does_not_take(project: Project) -> None:
    contract = Contract.of(project.config)
    line = json.dumps({"customer_id": "a", "anonymous_id": "v", "event": "X", "event_time": "2026-03-01T00:00Z"})
    refuse, ignore = (_of_line(line, contract, EVERYBODY, links, False) for links in ("refuse", "ignore"))
    assert refuse is not None and refuse[3] == "anonymous_id" and refuse[0] is None
    assert ignore is not None and ignore[0] == "a" and b"anonymous_id" not in ignore[2]
    for bad in ("no json", "[1]", '{"customer_id": "a", "event": "X"}'):
        found = _of_line(bad, contract, EVERYBODY, "refuse", False)
        assert found is not None and found[4]


def test_persons_travel_without_the_way_into_the_store() -> None:
    def met(customer_id: str) -> None:
        raise AssertionError("the store is opened on this machine alone")

    keys = (b"the first key of the shop", b"the second key of the shop")
    gone, listed = (OptedOut({person(pseudonym(one, keys[:n]), keys): 0}, keys) for one, n in (("gone", 2), ("ann", 1)))
    here = Persons(gone, keys, listed=listed, met=met)
    row = {"customer_id": "ann", "event": "A"}
    with pytest.raises(AssertionError):
        here.event(row)
    assert (
        _carried(here).event(row) == {**row, "customer_id": pseudonym("ann", keys)} and _carried(here).event({**row, "customer_id": "gone"}) is None
    )


def test_what_predseg_stream_asks_for_before_spark_starts(project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "predseg.yaml"
    checkpoint = ["--checkpoint", str(tmp_path / "state"), "-c", str(config)]
    assert main(["stream", str(tmp_path), *checkpoint]) == 2 and "E264" in capsys.readouterr().err
    config.write_text(config.read_text("utf-8") + "engine: {spark: {master: nowhere}}\n", "utf-8")
    wrong = {"E266 --checkpoint": ["-c", str(config)], "E266 SOURCE": checkpoint, "E266 --option": [*checkpoint, "--option", "=1"]}
    wrong |= {"E203 --late": [*checkpoint, "--late", "soon"], "E203 --links": [*checkpoint, "--links", "join"]}
    for refusal, arguments in wrong.items():
        assert main(["stream", *arguments]) == 2
        assert "error[{}] {}:".format(*refusal.split()) in capsys.readouterr().err
    assert main(["stream", str(tmp_path / "gone"), *checkpoint]) == 4 and "E401" in capsys.readouterr().err
    assert main(["stream", *checkpoint, "--dry-run", "--json"]) == 0
    assert "abandoned_cart" in json.loads(capsys.readouterr().out)["live"] and not (tmp_path / "state").exists()
