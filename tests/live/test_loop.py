"""The loop over rows: verdicts, one transaction per batch, and going on after any stop as if nothing had happened."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from predseg.cli import main
from predseg.config import load
from predseg.language.time import parse_instant, say_instant
from predseg.live.loop import Loop
from predseg.live.opening import open_durable, open_in_memory, resumed
from predseg.project import Project
from tests.evaluate.live_logs import World, applied, arrivals, random_world
from tests.evaluate.worlds import SEED

RULES = """
segment: abandoned_cart
refresh: live
match:
  did: Product Added
  within: 3 days
  then: {did_not: [Order Completed, Product Added], within: 24 hours}
---
segment: spender
refresh: live
match: {did: Order Completed, sum: value, more_than: 100, within: 30 days}
---
segment: both
refresh: live
match: {all: [{in: abandoned_cart}, {in: spender}]}
---
segment: british
refresh: live
match: {trait: {country: GB}}
"""
DAY0 = "2026-03-01T"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "rules.yaml").write_text(RULES)
    (tmp_path / "predseg.yaml").write_text("project: shop\nsources: {}\nsegments: rules.yaml\n")
    return Project(load(tmp_path))


def opened(project: Project, **options: Any) -> Loop:
    return open_durable(project.config, project.segments(), -(2**61), **options)


def event(name: str, at: str, who: str = "ann", **more: Any) -> dict[str, Any]:
    return {"customer_id": who, "event": name, "event_time": f"{at}Z", **more}


def follow(loop: Loop, rows: Sequence[Any], until: str) -> list[tuple[str, str, str, bool]]:
    from predseg.language.time import parse_instant, say_instant

    changes = [change for row in rows for change in loop.follow(row)]
    changes += loop.tick(parse_instant(until))
    return [(c.change, c.segment, say_instant(c.at), c.correction) for c in changes]


def test_a_cart_is_abandoned_by_the_clock_alone_and_once(project: Project) -> None:
    rows = [event("Product Added", "2026-03-01T10:00"), event("Product Added", "2026-03-01T12:00")]
    assert follow(opened(project), rows, "2026-03-03") == [("entered", "abandoned_cart", "2026-03-02T12:00Z", False)]


def test_an_order_that_comes_late_withdraws_the_entry(project: Project) -> None:
    rows = [event("Product Added", "2026-03-01T10:00"), {"clock": "2026-03-03T00:00Z"}, event("Order Completed", "2026-03-01T20:00", value=150)]
    assert follow(opened(project), rows, "2026-03-03") == [
        ("entered", "abandoned_cart", "2026-03-02T10:00Z", False),
        ("entered", "spender", "2026-03-01T20:00Z", True),
        ("left", "abandoned_cart", "2026-03-02T10:00Z", True),
    ]


def test_what_was_followed_and_not_decided_before_a_stop_is_decided_after_it(project: Project) -> None:
    """The clock follows the events up to the instant before the last of them, until the next comes or there are no more."""
    loop = opened(project)
    assert loop.follow(event("Order Completed", "2026-03-01T20:00", value=150)) == []
    loop.commit((), 0)
    loop.close()
    again = opened(project)
    assert [c.segment for c in again.tick(again.clock_of_events)] == ["spender"]


def test_traits_of_a_row_count_from_its_instant(project: Project) -> None:
    rows = [
        {"customer_id": "ann", "event_time": "2026-03-01T10:00Z", "traits": {"country": "FR"}},
        {"customer_id": "ann", "event_time": "2026-03-02T10:00Z", "traits": {"country": "GB"}},
    ]
    assert follow(opened(project), rows, "2026-03-03") == [("entered", "british", "2026-03-02T10:00Z", False)]
    again = opened(project)
    assert again.state is not None and again.state.members("british") and again.feed([], 2**50).changes == []


def test_every_row_has_a_verdict(project: Project) -> None:
    loop = opened(project)
    rows = [
        event("Order Completed", "2026-03-01T10:00", event_id="e1", value=5),
        event("Order Completed", "2026-03-01T10:00", event_id="e1", value=5),
        event("Order Completed", "2026-03-01T10:00", event_id="e2", value="much"),
        {"event": "Order Completed", "event_time": "2026-03-01T10:00Z"},
        event("Order Completed", "2026-03-01T10:00", event_id="e3", value=10**9),
        {"customer_id": "ann", "event": "Order Completed", "event_time": "2026-03-01T10:00"},
        event("Order Completed", "2026-03-02T10:00"),
        b"nonsense",
    ]
    fed = loop.feed(rows, 1_772_359_200_000_000)
    assert [(v.kind, v.field, v.reason) for v in fed.verdicts] == [
        ("accepted", "", ""),
        ("duplicate", "", ""),
        ("quarantined", "value", "cannot be read"),
        ("quarantined", "customer_id", "is missing"),
        ("quarantined", "value", "is 10^9 or more"),
        ("quarantined", "event_time", "has no offset, and the project no `timezone`"),
        ("quarantined", "event_time", "is more than 5 minutes ahead of the clock"),
        ("quarantined", "line", "is not a JSON object"),
    ]
    assert loop.counts == {"accepted": 1, "duplicate": 1, "quarantined": 6} and loop.state is not None
    assert len(loop.state.connection.execute("select * from refused").fetchall()) == 6
    assert opened(project).feed(rows[:1], 1_772_359_200_000_001).verdicts[0].kind == "duplicate"


@pytest.mark.parametrize("first", [0, 1])
def test_of_two_contents_with_one_id_the_smaller_counts_in_any_order(project: Project, first: int) -> None:
    """The one received first; here that is 150, so ann is a spender, and any other order says so in the end."""
    rows = [
        event("Order Completed", "2026-03-01T10:00", event_id="e1", value=150, received_at="2026-03-01T11:00Z"),
        event("Order Completed", "2026-03-01T10:00", event_id="e1", value=1, received_at="2026-03-01T12:00Z"),
    ]
    loop = opened(project)
    follow(loop, [rows[first], rows[1 - first]], "2026-03-02")
    assert loop.state is not None and loop.state.members("spender") == {"ann": 1_772_362_800_000_000}
    assert loop.counts["accepted"] == loop.counts["duplicate"] == 1


def test_a_changed_rule_is_filled_in_silence(project: Project, tmp_path: Path) -> None:
    """Who is a member by the history alone is one at once, and nothing is said of the past."""
    (tmp_path / "events.jsonl").write_text('{"customer_id": "ann", "event": "Order Completed", "event_time": "2026-03-01T10:00Z", "value": 150}\n')
    (tmp_path / "predseg.yaml").write_text("project: shop\nsources: {shop: {path: events.jsonl}}\nsegments: rules.yaml\n")
    project = Project(load(tmp_path))
    loop = open_durable(project.config, project.segments(), 1_772_445_600_000_000)
    assert loop.state is not None and loop.state.members("spender") == {"ann": 1_772_359_200_000_000}
    assert loop.tick(1_772_445_600_000_001) == [] and loop.state.connection.execute("select * from changes").fetchall() == []
    loop.close()
    (tmp_path / "rules.yaml").write_text(RULES.replace("more_than: 100", "more_than: 200"))
    again = open_durable(project.config, project.segments(), 1_772_445_600_000_002)
    assert again.state is not None and again.state.members("spender") == {} and again.tick(1_772_445_600_000_003) == []
    again.close()


# any stop


def plain_row(value: Any) -> Any:
    """A value as a line of JSON has it."""
    if isinstance(value, tuple):
        return [plain_row(v) for v in value]
    return value if not isinstance(value, Decimal) else int(value) if value == value.to_integral_value() else float(value)


def as_rows(world: World) -> list[dict[str, Any]]:
    """The arrivals of a world as flat rows, numbered."""
    return [
        {"customer_id": own, "anonymous_id": anonymous, "event": name, "event_time": time, "received_at": visible, "event_id": f"e{i}"}
        | {key: plain_row(value) for key, value in properties.items()}
        for i, (own, anonymous, time, visible, name, properties) in enumerate(arrivals(world))
    ]


def in_pieces(world: World, folder: Path, r: random.Random, repeat: float) -> list[Any]:
    """What a loop says that is stopped and started again and again, with rows that come twice."""
    from predseg.evaluate.live import Engine
    from predseg.evaluate.program import Program
    from predseg.live.lines import Contract
    from predseg.live.state import DATABASE, State, connect
    from predseg.segments.publications import LiveFacts

    class Facts(LiveFacts):
        def learn(self, *_: Any) -> None: ...

    folder.mkdir()
    said: list[Any] = []
    state = State(connect(folder / DATABASE))
    engine = Engine(Program(world.rules), Facts(world.published), recall=state.fetch)
    loop = Loop(engine, Contract(), Facts(world.published), state)  # type: ignore[arg-type]
    rows = as_rows(world)
    rows += r.sample(rows, int(repeat * len(rows)))
    rows.sort(key=lambda row: row["received_at"])
    while rows:
        n = r.randrange(1, 6)
        for row in rows[:n]:
            said += loop.follow(row)
        loop.commit((), 0)
        rows = rows[n:]
        if r.random() < 0.5:
            state.connection.close()
            state = State(connect(folder / DATABASE))
            loop = resumed(Program(world.rules), Contract(), Facts(world.published), state)  # type: ignore[arg-type]
        elif r.random() < 0.3:
            loop.engine.prune()
            loop.engine.evict()
    said += loop.tick(world.end)
    state.connection.close()
    return said


@pytest.mark.parametrize("seed", range(SEED, SEED + 60))
def test_stopping_and_starting_again_changes_nothing(seed: int, tmp_path: Path) -> None:
    world = random_world(seed, linked=seed % 2 == 1)
    assert applied(in_pieces(world, tmp_path / "store", random.Random(seed), 0.1)) == world.expected


# one truth with the batch side


def test_what_came_live_is_known_to_batch_and_equal(project: Project) -> None:
    """Events, joined visitors and traits reach the batch side, and both sides have the same members."""
    from predseg.live.checking import compare

    loop = opened(project)
    follow(
        loop,
        [
            {"anonymous_id": "phone", "event": "Product Added", "event_time": "2026-03-01T10:00Z", "price": 12.5, "tags": ["a"]},
            {"customer_id": "ann", "anonymous_id": "phone", "event": "Signed In", "event_time": "2026-03-01T11:00Z", "traits": {"country": "GB"}},
            event("Order Completed", "2026-03-01T12:00", "bob", value=150, event_id="e1"),
            event("Product Added", "2026-03-01T13:00", "bob"),
        ],
        "2026-03-02T20:00",
    )
    loop.close()
    found = compare(project.config, project.segments())
    assert found.equal and {o.segment: o.members for o in found.segments} == {"abandoned_cart": 2, "spender": 1, "both": 1, "british": 1}
    state = opened(project).state
    assert state is not None
    with state.transaction():
        state.connection.execute("delete from memberships where segment = 'both'")
    found = compare(project.config, project.segments())
    assert [(o.segment, o.only_live, o.only_batch, o.examples) for o in found.segments if not o.equal] == [("both", 0, 1, ("bob",))]


def test_without_a_live_state_there_is_nothing_to_compare(project: Project) -> None:
    from predseg.errors import DataError
    from predseg.live.checking import compare

    with pytest.raises(DataError, match="there is no live state yet"):
        compare(project.config, project.segments())


def test_scores_that_are_published_while_it_runs_are_heard(tmp_path: Path) -> None:
    """Customers whose rank changed are decided at the next instant, the others are left alone."""
    import pyarrow as pa

    from predseg.live.opening import refresh
    from predseg.store import Store

    (tmp_path / "rules.yaml").write_text("segment: risky\nrefresh: live\nmatch: {score: churn, top: 50%}\n")
    models = "models: {churn: {predict: {did_not: Order Completed, within_next: 30 days}}}\n"
    (tmp_path / "predseg.yaml").write_text(f"project: shop\nsources: {{}}\nsegments: rules.yaml\n{models}")
    project = Project(load(tmp_path))
    loop = opened(project)
    follow(loop, [event("Order Completed", "2026-03-01T10:00", who) for who in ("ann", "bob")], "2026-03-02")
    scores = {"customer_id": ["ann", "bob"], "model": ["churn"] * 2, "probability": [0.9, 0.1], "percentile": [1.0, 0.5], "decile": [1, 6]}
    day = 1_772_409_600_000_000
    Store(tmp_path / "store").write("scores", pa.table(scores), day)
    assert refresh(loop, project.segments(), day + 1)
    assert [(c.change, c.customer_id) for c in loop.tick(day + 2)] == [("entered", "ann")]
    (tmp_path / "rules.yaml").write_text("segment: risky\nrefresh: live\nmatch: {score: churn, top: 10%}\n")
    assert not refresh(loop, project.segments(), day + 3)


def test_a_database_that_cannot_be_opened_is_refused_with_its_place(tmp_path: Path) -> None:
    """A store on a read-only disk ended the nightly run with a bug."""
    from predseg.errors import DataError
    from predseg.live.state import connect

    with pytest.raises(DataError, match=r"E410.*live\.db"):
        connect(tmp_path / "nowhere" / "live.db")


@pytest.mark.parametrize("aggregate", ["sum", "max"])
def test_what_is_no_number_is_as_good_as_missing_where_rules_compute(tmp_path: Path, aggregate: str) -> None:
    (tmp_path / "predseg.yaml").write_text("project: shop\nsources: {}\nsegments: rules.yaml\n")
    (tmp_path / "rules.yaml").write_text(f"segment: s\nrefresh: live\nmatch: {{did: O, {aggregate}: size, more_than: 2}}\n")
    loop = opened(Project(load(tmp_path)))
    fed = loop.feed([event("O", f"{DAY0}12:00", size=size) for size in ("large", True, [1], 10**14, "2.5", "", None)], parse_instant("2026-03-02"))
    assert [v.kind for v in fed.verdicts] == ["accepted"] * 3 + ["quarantined"] + ["accepted"] * 3 and fed.verdicts[3].field == "size"
    assert fed.changes == []
    assert [c.change for c in loop.feed([event("O", f"{DAY0}13:00", size=2.5)], parse_instant("2026-03-02")).changes] == ["entered"]


def test_elements_of_lists_are_texts_as_in_the_events_table(tmp_path: Path) -> None:
    (tmp_path / "predseg.yaml").write_text("project: shop\nsources: {}\nsegments: rules.yaml\n")
    (tmp_path / "rules.yaml").write_text('segment: s\nrefresh: live\nmatch: {did: O, where: {tags: "1"}}\n')
    loop = opened(Project(load(tmp_path)))
    assert follow(loop, [event("O", f"{DAY0}10:00", tags=[1, True, None, "x", {"a": 1.5}])], DAY0 + "11:00Z") == [
        ("entered", "s", "2026-03-01T10:00Z", False)
    ]
    assert loop.state is not None and [dict(seen.properties) for seen in loop.state.since(0)] == [{"tags": ("1", "true", "x", '{"a":1.5}')}]


def test_lines_that_the_project_has_as_well_count_once(tmp_path: Path) -> None:
    """What is known before are the events before the first line, those of the file itself are not."""
    lines = [event("Order Completed", f"{DAY0}{hour}:00:00", value=60) for hour in ("10", "11")]
    (tmp_path / "orders.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "rules.yaml").write_text(RULES.split("---")[1])
    (tmp_path / "predseg.yaml").write_text("project: shop\nsources: {orders: {path: orders.jsonl}}\nsegments: rules.yaml\n")
    project = Project(load(tmp_path))
    for first in (0, 1):
        before = parse_instant(lines[first]["event_time"]) - 1
        loop = open_in_memory(project.config, project.segments(), before, for_ever=True)
        said = [change for line in lines[first:] for change in loop.follow(line, parse_instant("2026-03-02"))]
        said += loop.tick(parse_instant("2026-03-01T23:00Z"))
        assert [say_instant(change.at) for change in said] == ["2026-03-01T11:00Z"]


def test_a_file_that_a_source_reads_is_kept_by_no_live_state_as_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its first order came from history, and once more from the line: one order of 60 was a sum above 100."""
    lines = [event("Order Completed", f"{DAY0}10:00:00", value=60), event("Order Completed", f"{DAY0}11:00:00", "bob", value=60)]
    (tmp_path / "orders.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "orders.jsonl")
    (tmp_path / "rules.yaml").write_text(RULES.split("---")[1])
    (tmp_path / "predseg.yaml").write_text("project: shop\nstore: out\nsources: {web: {path: 'orders*.jsonl'}}\nsegments: rules.yaml\n")
    for name in ("orders.jsonl", "link.jsonl"):
        assert main(["live", str(tmp_path / name), "--durable", "-c", str(tmp_path)]) == 2
        err = capsys.readouterr().err
        assert "error[E267]" in err and "the source web reads this file" in err and not (tmp_path / "out" / "live.db").exists()
    assert main(["live", str(tmp_path / "orders.jsonl"), "-c", str(tmp_path)]) == 0, "nothing is kept: what they would have changed"
    (tmp_path / "predseg.yaml").write_text("project: shop\nstore: live\nsources: {}\nsegments: rules.yaml\n")
    assert main(["live", str(tmp_path / "orders.jsonl"), "--durable", "-c", str(tmp_path)]) == 0


def test_what_is_kept_never_begins_with_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The batch side knows the project's events, and what is kept must agree with it; `--new` was passed over."""
    (tmp_path / "rules.yaml").write_text(RULES)
    (tmp_path / "lines.jsonl").write_text(json.dumps(event("Order Completed", f"{DAY0}10:00:00", value=60)) + "\n")
    (tmp_path / "predseg.yaml").write_text("project: shop\nstore: out\nsources: {}\nsegments: rules.yaml\n")
    for more in ([], ["--dry-run"]):
        assert main(["live", str(tmp_path / "lines.jsonl"), "--new", "--durable", "-c", str(tmp_path), *more]) == 2
        assert "error[E268] --new, --durable" in capsys.readouterr().err and not (tmp_path / "out").exists()
    for alone in ("--new", "--durable"):
        assert main(["live", str(tmp_path / "lines.jsonl"), alone, "-c", str(tmp_path)]) == 0


def test_a_line_cannot_move_a_clock_that_is_kept_ahead_of_the_world(project: Project) -> None:
    """All that came until then would have been too late."""
    loop = opened(project)
    now = parse_instant("2026-03-02")
    loop.follow({"clock": "2462-03-02T00:00:00Z"}, now)
    assert loop.clock_of_events < now and list(loop.reasons) == ["clock is more than 5 minutes ahead of the clock of the world"]
    loop.follow({"clock": "2026-03-02T00:04:00Z"}, now)
    assert loop.clock_of_events == parse_instant("2026-03-02T00:04Z")
