"""Small groups are told by nothing that shows aggregates: report, page, HTTP interface, metrics, alerts; and the project says how small."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from predseg import Project
from predseg.config import parse
from predseg.errors import ConfigError
from predseg.evaluate.program import Change
from predseg.language.floor import Floor
from predseg.language.time import HOUR
from predseg.live.desk import Desk
from predseg.live.metrics import exposition
from predseg.live.served import Served
from predseg.page import figures
from tests.live.fakes import INSIDE, Store
from tests.live.serving import made


def test_the_project_says_how_small_a_group_may_be() -> None:
    assert parse("project: a", Path("predseg.yaml")).smallest_group == Floor(10)
    assert parse("project: a\nsmallest_group: 25", Path("predseg.yaml")).smallest_group == Floor(25)
    for wrong in ("0", "-3", "true", "ten", "1.5", "99999"):
        with pytest.raises(ConfigError, match="E304"):
            parse(f"project: a\nsmallest_group: {wrong}", Path("predseg.yaml"))


@pytest.mark.parametrize(
    ("k", "number", "told"), [(10, 0, 0), (10, 1, "<10"), (10, 9, "<10"), (10, 10, 10), (25, 24, "<25"), (25, 25, 25), (1, 1, 1)]
)
def test_one_place_decides(k: int, number: int, told: Any) -> None:
    floor = Floor(k)
    assert floor.plain(number) == told and floor.hides(number) == isinstance(told, str)
    assert (floor.count(number) == f"under {k}") == floor.hides(number)
    assert floor.told(f"{number} members, before {number}") == f"{floor.count(number)} members, before {floor.count(number)}"


def served_by(found: Served, now: int) -> Desk:
    """A desk that serves this."""
    desk = made(Store(), clock=lambda: now)
    desk.writer.stop()
    desk.served = found
    return desk


class Log:
    """Members who entered one an hour, the last ones within this hour."""

    def __init__(self, number: int, now: int) -> None:
        self.changes = [(n, Change("entered", "inside", f"c{n}", now, "d1", False, n)) for n in range(1, number + 1)]
        self.last = number

    def members(self) -> dict[str, dict[str, int]]:
        return {"inside": {}}

    def log(self, after: int, limit: int) -> list[tuple[int, Change]]:
        return self.changes[after : after + limit]


def served(number: int, k: int, now: int) -> Served:
    found = Served({"inside": INSIDE}, Floor(k))
    empty = Log(0, now)
    found.follow(empty, now)
    found.follow(Log(number, now), now)
    return found


@pytest.mark.parametrize("number", [0, 1, 9, 10, 24, 25])
@pytest.mark.parametrize("k", [1, 10, 25])
def test_the_interface_hides_size_hours_and_members_of_a_small_group(number: int, k: int) -> None:
    now = 500_000 * HOUR
    told = served(number, k, now).told("inside", now)
    hidden = 0 < number < k
    assert told["size"] == (f"<{k}" if hidden else number) and told["hours"][-1]["entered"] == told["size"]
    assert bool(told["sample"]) == (number > 0 and not hidden) and told["hours"][0]["entered"] == 0
    assert not hidden or not re.search(rf'[": ]{number}[,}}]', json.dumps(told)), "the number stands nowhere"


def test_metrics_leave_small_segments_out() -> None:
    now = 500_000 * HOUR
    for number, said in ((9, False), (10, True), (0, True)):
        text = exposition(served_by(served(number, 10, now), now)).decode()
        assert (f'predseg_segment_members{{segment="inside"}} {float(number)}' in text) == said


def test_the_page_follows_the_project() -> None:
    now = 500_000 * HOUR
    desk: Desk = served_by(served(24, 25, now), now)
    row, moved = figures.listed(desk, "inside", {}), figures.movement(desk, "inside", {})
    assert row.size == row.entered == "under 25" and moved.rows[0][1] == "under 25" and moved.bars[0].kind == "entered few"
    assert figures.listed(served_by(served(24, 10, now), now), "inside", {}).size == "24"


def test_the_report_follows_the_project(tmp_path: Path) -> None:
    rows = [f"c{n},Order Completed,2026-03-{1 + n:02d}T10:00:00Z" for n in range(24)]
    (tmp_path / "events.csv").write_text("customer_id,event,event_time\n" + "\n".join(rows) + "\n")
    (tmp_path / "rules.yaml").write_text("segment: buyers\nmatch: {did: Order Completed}\n")
    texts = {}
    for k in (10, 25):
        (tmp_path / "predseg.yaml").write_text(f"project: a\nsources: {{o: {{path: events.csv}}}}\nsegments: rules.yaml\nsmallest_group: {k}\n")
        project = Project.load(tmp_path)
        project.segments().run(project.moment())
        texts[k] = re.sub(r"<script.*?</script>", "", project.report(), flags=re.S)
    assert ">24<" in texts[10] and "Groups of one to 9 people" in texts[10] and "under 25" not in texts[10]
    assert "under 25" in texts[25] and "Groups of one to 24 people" in texts[25] and "No segment has 25 members" in texts[25]
    assert not re.search(r"buyers</td>\s*<td[^>]*>24<", texts[25])
