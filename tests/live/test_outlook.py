"""When the clock alone will end a membership: what is said beforehand is what the loop says when it comes."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from predseg.config import load
from predseg.language.floor import Floor
from predseg.language.time import DAY, HOUR, parse_instant
from predseg.live import core
from predseg.live.deployment import reading
from predseg.live.loop import Loop
from predseg.live.opening import open_durable
from predseg.live.outlook import ends
from predseg.live.profiles import Profiles
from predseg.live.served import Served
from predseg.live.state import State
from predseg.project import Project
from tests.live.test_loop import RULES

START = parse_instant("2026-03-01T12:00Z")
MORE = """
---
segment: for_ever
refresh: live
match: {did: Order Completed}
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "rules.yaml").write_text(RULES + MORE)
    (tmp_path / "predseg.yaml").write_text("project: shop\nsources: {}\nsegments: rules.yaml\n")
    return Project(load(tmp_path))


def row(name: str, at: int, **more: Any) -> dict[str, Any]:
    return {"customer_id": "ann", "event": name, "event_time": at, **more}


def asked(project: Project, loop: Loop, who: str = "ann") -> dict[str, int]:
    with closing(reading(core.database(project.config.store))) as connection:
        return ends(State(connection), loop.engine.program, loop.published, who)


def test_what_is_said_beforehand_comes_true(project: Project) -> None:
    loop = open_durable(project.config, project.segments(), -(2**61))
    rows = [
        row("Order Completed", START, value=80, anonymous_id="visitor"),
        {"anonymous_id": "visitor", "event": "Order Completed", "event_time": START + HOUR, "value": 30},
        row("Product Added", START + 2 * HOUR),
    ]
    for one in rows:
        loop.follow(one)
    loop.tick(START + 30 * HOUR)
    said = asked(project, loop)
    assert said == {"abandoned_cart": START + 2 * HOUR + 3 * DAY, "both": START + 2 * HOUR + 3 * DAY, "spender": START + 30 * DAY}
    left = {c.segment: c.at for c in loop.tick(START + 60 * DAY) if c.change == "left"}
    assert left == said and asked(project, loop) == {} == asked(project, loop, "nobody")
    loop.close()


def test_it_is_served_with_the_membership(project: Project) -> None:
    served = Served(project.segments().segments, Floor(1))
    served.follow(SimpleNamespace(members=lambda: {"spender": {"ann": START}}, last=0, log=lambda after, limit: []), START)  # type: ignore[arg-type]
    [found] = served.of("ann", START, {"spender": START + DAY})
    assert (found["since"], found["until"]) == ("2026-03-01T12:00Z", "2026-03-02T12:00Z")
    assert served.of("ann", START)[0]["until"] is None


def test_a_live_score_stands_beside_that_of_the_run(tmp_path: Path) -> None:
    config: Any = SimpleNamespace(models={"churn": None})
    store: Any = SimpleNamespace(partitions=lambda name: [])
    assert Profiles(config, store).of("ann", START, False) == {"scores": []}
    [found] = Profiles(config, store, lambda *key: (START, 0.25)).of("ann", START, False)["scores"]
    assert (found["model"], found["probability"], found["as_of"]) == ("churn", None, None)
    assert found["live"] == {"probability": 0.25, "as_of": "2026-03-01T12:00Z"}
