"""A project, served: over a real live database that goes away, is locked, is killed, and forgets."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from predseg import Project
from predseg.history import adding
from predseg.language.serving import Serving
from predseg.layers import gone_in, is_recent
from predseg.live import core, deployment, service
from predseg.live.deployment import Deployment
from predseg.live.desk import Desk
from predseg.live.keys import Keys
from predseg.live.profiles import Profiles
from predseg.moment import clock
from tests import small
from tests.live.serving import READ, WRITE, Running, running
from tests.live.test_service import submitted
from tests.patience import PATIENCE, eventually

CONFIG = "project: shop\nsources: {}\nsegments: segments.yaml\n"
RULES = """\
segment: shopper
refresh: live
match: {did: Product Added}
---
segment: abandoned_cart
refresh: live
max_stale: 1 hour
on_stale: exclude
match: {did: Product Added, then: {did_not: Order Completed, within: 1 minute}}
"""


def lay(folder: Path, config: str = CONFIG, rules: str = RULES) -> Project:
    folder.mkdir(exist_ok=True)
    (folder / "predseg.yaml").write_text(config)
    (folder / "segments.yaml").write_text(rules)
    return Project.load(folder)


class Clock:
    """The clock of the world, and as much later as a test wants."""

    later = 0

    def __call__(self) -> int:
        return clock() + self.later


@contextmanager
def served(project: Project, now: Callable[[], int] = clock) -> Iterator[Desk]:
    desk = Deployment(project.config, project.segments(), project.people, now).desk(Serving(), Keys(WRITE, READ))
    try:
        yield desk
    finally:
        desk.writer.stop()


def row(event: str = "Product Added", customer: str = "ann", **more: Any) -> dict[str, Any]:
    return {"customer_id": customer, "event": event, "event_time": clock(), **more}


def inside(desk: Desk, customer: str = "ann") -> dict[str, dict[str, Any]]:
    return {found["segment"]: found for found in desk.served.of(customer, desk.clock())}


def logged(project: Project) -> int:
    with closing(sqlite3.connect(project.config.store / "live.db")) as connection:
        return int(connection.execute("select count(*) from log").fetchone()[0])


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "RETRY", (0.02, 0.1))
    monkeypatch.setattr(service, "HEARTBEAT", 50_000)
    monkeypatch.setattr(core, "WAIT", 100)
    monkeypatch.setattr(deployment, "REFRESH", 0.05)


def test_events_and_the_clock_alone_change_what_is_served(tmp_path: Path) -> None:
    now = Clock()
    with served(lay(tmp_path), now) as desk:
        assert submitted(desk, [row(event_id="e1"), row(event_id="e1"), row("Order Refunded", "bob", value="much")]) == [
            ["accepted", "duplicate", "quarantined"]
        ]
        assert set(inside(desk)) == {"shopper"}
        now.later = 61_000_000
        eventually(lambda: "abandoned_cart" in inside(desk))
    with served(Project.load(tmp_path), now) as desk:
        eventually(lambda: desk.served.as_of is not None)
        assert set(inside(desk)) == {"shopper", "abandoned_cart"} and submitted(desk, [row(event_id="e1")]) == [["duplicate"]]


def test_rows_are_decided_in_order_and_are_no_corrections(tmp_path: Path) -> None:
    """A row that was received before the clock went on is received when it is decided."""
    with served(lay(tmp_path)) as desk:
        for _ in range(20):
            earlier = clock() - 40_000
            submitted(desk, [{**row(), "received_at": earlier, "event_time": earlier}])
        assert [change.correction for _, change in desk.served.since(0)[0]] == [False]


@pytest.mark.parametrize("way", ["moved away", "locked", "deleted"])
def test_without_the_store_the_last_answer_is_served_and_the_gap_is_closed(tmp_path: Path, way: str) -> None:
    project, now = lay(tmp_path), Clock()
    store, away = project.config.store, tmp_path / "away"
    with served(project, now) as desk:
        submitted(desk, [row(event_id="e1")])
        lock = sqlite3.connect(store / "live.db", isolation_level=None)
        if way == "locked":
            lock.execute("begin immediate")
        elif way == "moved away":
            store.rename(away)
        else:
            for file in ("live.db", "live.db-wal", "live.db-shm"):
                (store / file).rename(tmp_path / file)
        eventually(lambda: desk.writer.state.down)
        assert submitted(desk, [row(customer="bob", event_id="e2")]) == [503]
        assert inside(desk)["shopper"]["stale"] and inside(desk)["shopper"]["since"]
        as_of = desk.served.as_of
        now.later = 7_200_000_000
        assert inside(desk)["shopper"]["stale"] and "abandoned_cart" not in inside(desk), "older than max_stale: excluded"
        if way == "locked":
            lock.execute("rollback")
        elif way == "moved away":
            away.rename(store)
        else:
            for file in ("live.db-shm", "live.db-wal", "live.db"):  # as soon as the last one is there it is opened with what it needs
                (tmp_path / file).rename(store / file)
        lock.close()
        eventually(lambda: desk.writer.state.down is None and desk.served.as_of != as_of)
        assert submitted(desk, [row(customer="bob", event_id="e2"), row(customer="bob", event_id="e2")]) == [["accepted", "duplicate"]]
        eventually(lambda: "abandoned_cart" in inside(desk))
        assert not inside(desk)["shopper"]["stale"]
        told = [(number, change.customer_id, change.segment) for number, change in desk.served.since(0)[0]]
        assert len(told) == len({pair[1:] for pair in told}) == 4 or "bob" not in str(told), told
    assert logged(project) == 2


def test_a_database_that_is_gone_is_never_made_anew_behind_the_back(tmp_path: Path) -> None:
    project = lay(tmp_path)
    with served(project) as desk:
        submitted(desk, [row()])
        (project.config.store / "live.db").unlink()
        eventually(lambda: desk.writer.state.down)
        time.sleep(0.3)
        assert "is gone" in str(desk.writer.state.down) and not (project.config.store / "live.db").exists()


def test_who_was_forgotten_is_served_to_nobody_and_does_not_come_back(tmp_path: Path) -> None:
    project = lay(tmp_path)
    with served(project) as desk:
        submitted(desk, [row(customer="canary_ann", event_id="e1"), row(customer="bob", event_id="e2")])
        assert inside(desk, "canary_ann")
        Project.load(tmp_path).forget(["canary_ann"])
        eventually(lambda: not inside(desk, "canary_ann") and desk.writer.state.down is None)
        assert submitted(desk, [row(customer="canary_ann"), row(customer="bob", anonymous_id="canary_ann"), row(customer="eve")]) == [
            ["suppressed", "accepted", "accepted"]
        ]
        assert inside(desk, "bob") and not inside(desk, "canary_ann")
    with closing(sqlite3.connect(project.config.store / "live.db")) as connection:
        assert not [line for line in connection.iterdump() if "canary_ann" in line]


def test_a_no_that_comes_live_counts_from_its_answer_on(tmp_path: Path) -> None:
    project = lay(tmp_path)
    with served(project) as desk:
        assert submitted(desk, [row(customer="ann"), row("Unsubscribed", "ann"), row("Unsubscribed", None, anonymous_id="v7"), row(customer="bob")])
        out = Project.load(tmp_path).opted_out("email_marketing")
        assert "ann" in out and "v7" in out and "bob" not in out
        submitted(desk, [row(customer="bob", anonymous_id="v7")])
        assert "bob" in Project.load(tmp_path).opted_out("email_marketing"), "what the visitor said holds for whom he turned out to be"


def test_a_no_waits_for_the_messages_in_flight(tmp_path: Path) -> None:
    from predseg.activation.claims import in_flight
    from predseg.activation.daily import create

    project = lay(tmp_path)
    desk = Deployment(project.config, project.segments(), project.people, clock, None, in_flight).desk(Serving(), Keys(WRITE, READ))
    with closing(sqlite3.connect(project.config.store / "live.db", isolation_level=None)) as connection:
        create(connection)
        assert desk.noes == {"Unsubscribed"} and desk.settled({"ann"})
        columns = "action_id, segment, definition, customer_id, n, change, slot, at, channel, due_at, status, made_at"
        connection.execute(f"insert into actions ({columns}) values ('a', 's', 'd', 'ann', 1, 'entered', 0, 0, 'c', 0, 'claimed', 0)")
        assert not desk.settled({"ann"}) and desk.settled({"bob"})
    desk.writer.stop()


def test_ids_are_pseudonyms_from_the_door_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAMES", "0123456789abcdef")
    project = lay(tmp_path, CONFIG + "pseudonymize: env:NAMES\n")
    with served(project) as desk:
        submitted(desk, [row(customer="canary_ann")])
        name = desk.name("canary_ann")
        assert name.startswith("p_") and set(inside(desk, name)) == {"shopper"} and not inside(desk, "canary_ann")
    with closing(sqlite3.connect(project.config.store / "live.db")) as connection:
        assert not [line for line in connection.iterdump() if "canary_ann" in line]


def test_features_over_http_are_those_of_batch_where_rows_lie_beside_the_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a visitor whose rows of days before moved to a customer."""
    for name in ("LEAST", "SHARE"):
        monkeypatch.setattr(adding, name, 0)
    project = lay(
        tmp_path, "project: shop\nsources: {a: {path: 'a*.jsonl'}}\nfeatures: {windows: [9 days], events: {Seen: {}}}\nsegments: segments.yaml\n"
    )
    first = [{"anonymous_id": "v1", "event": "Seen", "event_time": f"2026-03-0{n}"} for n in range(1, 4)]
    first += [{"customer_id": f"c{n}", "event": "Seen", "event_time": "2026-03-02"} for n in range(9)]
    later = [{"customer_id": "c4", "anonymous_id": "v1", "event": "Signed In", "event_time": "2026-03-04"}]
    later += [{"customer_id": "c4", "event": "Seen", "event_time": "2026-03-02T12:00Z"}]
    for number, rows in enumerate((first, later)):
        (tmp_path / f"a{number}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        project.check()
    files = project.store.files("events")
    assert any(map(is_recent, files)) and len(gone_in(files)["part-00000.parquet"]) == 3
    wanted = project.features("2026-03-05").loc["c4"].to_dict()
    assert wanted["count_seen_9d"] == 5
    profiles = Profiles(project.config, project.store)
    with running(person=lambda customer, features: profiles.of(customer, project.moment("2026-03-05"), features)) as up:
        assert up.ask("/v1/customers/c4?features=true")[1]["features"] == wanted
        assert up.ask("/v1/customers/v1?features=true")[1]["features"] is None, "that was c4"


def test_daily_segments_scores_and_features_are_served_and_follow_the_runs(trained: Path, tmp_path: Path) -> None:
    small.copied(trained, tmp_path)
    file = tmp_path / "predseg.yaml"
    file.write_text(file.read_text() + "segments: segments.yaml\n")
    (tmp_path / "segments.yaml").write_text(
        "segment: buyers\nmatch: {did: Order Completed, at_least: 3}\n---\n" + RULES.replace("Product Added", "Order Completed")
    )
    project = Project.load(tmp_path)
    made = Deployment(project.config, project.segments(), project.people, clock)
    desk = made.desk(Serving(), Keys(WRITE, READ))
    try:
        [buyer, *_] = [str(customer) for customer in project.segments().run(project.moment(), write=False).spells["buyers"].customers]
        assert desk.served.segment("buyers", clock())["as_of"] is None, "it was never run"
        more = desk.person(buyer, True)
        assert [score["model"] for score in more["scores"]] == ["purchase"] and 0 < more["scores"][0]["probability"] < 1
        assert more["features"]["count_order_completed"] >= 3 if "count_order_completed" in more["features"] else len(more["features"]) > 3
        assert desk.person("nobody", True) == {"scores": [], "features": None}

        async def follow() -> None:
            task = asyncio.create_task(made.follow_runs(desk.served))
            await asyncio.to_thread(lambda: project.segments().run(project.moment()))
            await asyncio.to_thread(eventually, lambda: desk.served.sizes()["buyers"])
            task.cancel()

        asyncio.run(follow())
        assert desk.served.segment("buyers", clock())["stale"], "the shop's last day is long ago"
        answer = desk.served.segment("buyers", project.moment())
        assert answer["size"] > 50 and not answer["stale"] and answer["as_of"] and inside(desk, buyer)["buyers"]["member"]
        assert "shopper" in inside(desk, buyer), "history is known before the first event"
    finally:
        desk.writer.stop()


def test_the_opted_out_are_in_no_sample(tmp_path: Path) -> None:
    project = lay(tmp_path, CONFIG + "consent: {path: out.csv}\n", RULES.replace("refresh: live", "refresh: live\npurpose: email_marketing", 1))
    (tmp_path / "out.csv").write_text("customer_id,purpose\nann,\n")
    with served(project) as desk:
        submitted(desk, [row(customer="ann"), row(customer="bob")])
        assert desk.served.segment("shopper", clock(), desk.without("shopper"))["sample"] == ["bob"]
        (tmp_path / "out.csv").unlink()
        assert desk.served.segment("shopper", clock(), desk.without("shopper"))["sample"] == [], "nobody is shown without knowing who opted out"


# the command


class Command:
    """`predseg serve` as its own process on a port of its own, started again on the same port."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, 0
        self.process: subprocess.Popen[str] | None = None
        self.said = ""

    def start(self) -> None:
        command = [sys.executable, "-m", "predseg", "serve", "--port", str(self.port)]
        self.process = subprocess.Popen(command, cwd=self.folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        lines = []
        for line in self.process.stderr:
            lines.append(line)
            if line.startswith("serving at"):
                break
        self.said = "".join(lines)
        found = re.search(r"http://127.0.0.1:(\d+)", self.said)
        assert found, self.said + self.process.stderr.read()
        self.port = int(found[1])

    def stop(self, how: int = signal.SIGINT) -> tuple[int, str]:
        assert self.process is not None
        self.process.send_signal(how)
        out, _ = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out

    def ask(self, path: str, body: Any = None) -> tuple[int, Any]:
        keys = json.loads((self.folder / "store" / "serve.json").read_text())
        data = None if body is None else json.dumps(body).encode()
        key = keys["read_key" if body is None else "write_key"]
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, {"Authorization": f"Bearer {key}"})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as found:
                return found.status, json.loads(found.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    lay(tmp_path)
    found = Command(tmp_path)
    yield found
    if found.process is not None and found.process.poll() is None:
        found.process.kill()
        found.process.communicate()


def test_a_newcomer_starts_the_server_and_stops_it(command: Command) -> None:
    command.start()
    keys = re.findall(r"^new (write|read) key, kept in the store for its owner: ([0-9a-f]{32})$", command.said, re.MULTILINE)
    assert [name for name, _ in keys] == ["write", "read"] and (command.folder / "store" / "serve.json").stat().st_mode & 0o777 == 0o600
    assert command.ask("/v1/track", {"userId": "ann", "event": "Product Added"})[1]["accepted"] == 1
    assert [m["segment"] for m in command.ask("/v1/customers/ann")[1]["segments"]] == ["shopper"]
    code, out = command.stop()
    assert code == 0 and "1 received, 1 accepted" in out
    command.start()
    assert "new" not in command.said, "keys are shown once"
    assert [m["segment"] for m in command.ask("/v1/customers/ann")[1]["segments"]] == ["shopper"]
    assert command.stop(signal.SIGTERM)[0] == 0


def test_an_address_that_is_taken_is_named(command: Command, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from predseg.cli import main
    from predseg.live.server import listen

    taken = listen("127.0.0.1", 0)
    taken.listen()
    port = taken.getsockname()[1]
    monkeypatch.chdir(command.folder)
    assert main(["serve", "--port", str(port)]) == 2
    err = capfd.readouterr().err
    assert err.startswith(f"error[E260] 127.0.0.1:{port}: cannot listen here: address already in use") and "--port" in err
    taken.close()


def test_killed_at_random_moments_nothing_is_lost_and_nothing_counts_twice(command: Command) -> None:
    """PREDSEG_KILLS=50 for a longer look. Clients send each batch until it is answered with 200."""
    kills, clients, batches = int(os.environ.get("PREDSEG_KILLS", "2")), 4, 20
    command.start()
    done, acknowledged = threading.Event(), []

    def client(number: int) -> None:
        for batch in range(batches * kills):
            events = [{"type": "track", "userId": f"c{number}", "event": "Product Added", "messageId": f"{number}.{batch}.{i}"} for i in range(5)]
            while True:
                try:
                    status, _ = command.ask("/v1/batch", {"batch": events})
                except (OSError, http.client.HTTPException):
                    status = 0
                if status == 200:
                    acknowledged.append(f"{number}.{batch}")
                    break
                time.sleep(0.02)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    progress = []
    for _ in range(kills):
        before = len(acknowledged)
        eventually(lambda before=before: len(acknowledged) > before + 8)
        assert command.process is not None
        command.process.kill()
        command.process.communicate()
        progress.append(len(acknowledged))
        command.start()
    for thread in threads:
        thread.join(PATIENCE)
    done.set()
    code, _ = command.stop()
    assert code == 0 and progress == sorted(set(progress)) and progress[-1] < clients * batches * kills, "killed while it was at work"
    with closing(sqlite3.connect(command.folder / "store" / "live.db")) as connection:
        ids = [found for (found,) in connection.execute("select event_id from log")]
        changes = connection.execute("select change, segment, customer_id, n from changes where segment = 'shopper'").fetchall()
        counts = dict(connection.execute("select name, value from meta where name like 'count.%'"))
    assert len(ids) == len(set(ids)) == clients * batches * kills * 5
    assert sorted(changes) == sorted(("entered", "shopper", f"c{number}", 1) for number in range(clients))
    assert int(counts.get("count.quarantined", 0)) == 0


def test_the_served_project_answers_over_http(tmp_path: Path) -> None:
    from predseg.live.server import listen, server

    project = lay(tmp_path)
    with served(project) as desk:
        listening = listen("127.0.0.1", 0)
        web = server(desk)
        thread = threading.Thread(target=web.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        eventually(lambda: web.started)
        up = Running(listening.getsockname()[1], desk, web, None)  # type: ignore[arg-type]
        assert up.ask("/v1/track", {"userId": "ann", "event": "Product Added", "properties": {"value": "x"}})[1]["rejected"] == [
            {"index": 0, "reason": "value is not a number"}
        ]
        assert (
            up.ask("/v1/track", {"userId": "ann", "event": "A", "properties": {"value": 10**9}})[1]["rejected"][0]["reason"]
            == "value is 10^9 or more"
        )
        assert up.ask("/v1/alias", {"userId": "ann", "previousId": "v7"})[1]["accepted"] == 1
        assert up.ask("/v1/track", {"anonymousId": "v7", "event": "Product Added"})[1]["accepted"] == 1
        found = up.ask("/v1/customers/ann")[1]
        assert found["segments"][0]["segment"] == "shopper" and found["scores"] == []
        web.should_exit = True
        thread.join(PATIENCE)
        listening.close()


def test_what_the_docs_show_works(command: Command) -> None:
    """Every curl and every client of docs/live.md, against a server."""
    page = (Path(__file__).parents[2] / "docs" / "live.md").read_text("utf-8").split("## Serving")[1]
    command.start()
    keys = json.loads((command.folder / "store" / "serve.json").read_text())
    environment = {**os.environ, "WRITE_KEY": keys["write_key"], "READ_KEY": keys["read_key"]}

    def here(text: str) -> str:
        return text.replace("127.0.0.1:8000", f"127.0.0.1:{command.port}")

    curls = [line for block in re.findall(r"^```sh\n(.*?)^```", page, re.M | re.S) for line in block.splitlines() if line.startswith("curl")]
    clients = [block for block in re.findall(r"^```python\n(.*?)^```", page, re.M | re.S) if "client" in block]
    assert len(curls) >= 3 and len(clients) == 1
    for line in curls:
        shell = here(line).replace("curl ", f"curl -sS --fail --max-time {2 if '/v1/changes' in line else PATIENCE} ", 1)
        done = subprocess.run(["bash", "-c", shell], env=environment, capture_output=True, text=True)
        assert done.returncode == 0 or "/v1/changes" in line and done.returncode == 28, done.stderr
    subprocess.run([sys.executable, "-c", here(clients[0])], env=environment, check=True)
    found = command.ask("/v1/customers/ann")[1]
    assert [m["segment"] for m in found["segments"]] == ["shopper"]
