"""A shop whose names are written by somebody who wants to break pages, served with its page."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from predseg import Project
from predseg.language.serving import Serving
from predseg.live.deployment import Deployment
from predseg.live.keys import Keys
from predseg.moment import clock
from predseg.page.site import page
from predseg.segments.workspace import Workspace
from tests.live.serving import READ, WRITE, Running, running

EVIL = "<script>document.title='broken'</script>"
IMAGE = '"><img src=https://evil.example/x onerror="document.title=1">'
START = datetime(2025, 3, 1, tzinfo=UTC)
CONFIG = """\
project: shop
sources:
  orders: {path: events.csv}
segments: rules.yaml
"""
RULES = f"""\
# carts
segment: shopper
about: "{EVIL} and more"
refresh: live
match: {{did: Product Added, within: 30 days}}
---

segment: buyer
owner: '{IMAGE}'
match:
  all:
    - {{did: Order Completed, at_least: 2}}
    - {{did_not: Order Refunded}}
"""


def lay(folder: Path) -> Project:
    """Forty customers with two orders each, of whom five were refunded; one has a name that is a script."""
    lines = []
    for number in range(40):
        who = EVIL if number == 0 else f"c{number:02d}"
        names = ["Order Completed", "Order Completed", *(["Order Refunded"] if 1 <= number <= 5 else [])]
        lines += [(who, (START + timedelta(hours=number + 60 * i)).isoformat(), name, "1.5", IMAGE) for i, name in enumerate(names)]
    lines += [(f"c{n:02d}", (START + timedelta(hours=90)).isoformat(), "Email Delivered", "", "spring") for n in range(10, 40)]
    lines += [(f"c{n:02d}", (START + timedelta(hours=91)).isoformat(), "Email Link Clicked", "", "spring") for n in range(10, 24)]
    lines += [("idle", START.isoformat(), "Product Viewed", "", "x")]
    with (folder / "events.csv").open("w", newline="") as out:
        csv.writer(out).writerows([("customer_id", "event_time", "event", "value", "category"), *sorted(lines, key=lambda line: line[1])])
    (folder / "predseg.yaml").write_text(CONFIG)
    (folder / "rules.yaml").write_text(RULES)
    return Project.load(folder)


@contextmanager
def shop(folder: Path, *, edits: bool = False) -> Iterator[Running]:
    """The shop, open: one daily run was made."""
    project = lay(folder)
    workspace = project.segments()
    workspace.run(project.moment())
    desk = Deployment(project.config, workspace, project.people, clock).desk(Serving(), Keys(WRITE, READ))
    with running(desk=desk, mount=page(workspace, project._now, edits)) as found:
        yield found


def blocked(project: Project, go: Path) -> tuple[Workspace, int]:
    """What is counted over, but only when a file is there."""
    while not go.exists():
        time.sleep(0.01)
    return project._now()
