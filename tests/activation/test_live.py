"""Messages of live segments: decided, noted and sent beside the live loop, in the moment and by the clock alone."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook as Verifier

from predseg import Project
from predseg.activation import live, sender
from predseg.activation.live import sending
from predseg.activation.sender import LIVE, sole_sender
from predseg.errors import ConfigError
from predseg.language.time import HOUR, MINUTE, SECOND, say_instant
from predseg.live.loop import Loop
from predseg.live.opening import open_durable
from predseg.moment import clock
from tests.activation.receiver import Receiver, receiving
from tests.patience import PATIENCE, eventually

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
RULES = """\
segment: cart
refresh: live
purpose: email_marketing
match: {did: Product Added, within: 3 days, then: {did_not: Order Completed, within: 1 minute}}
on_enter: {send: hook}
on_leave: {send: hook}
---
segment: buyers
match: {did: Order Completed}
on_enter: {send: hook}
"""


class Clock:
    """The clock of the world, and as much later as a test wants."""

    def __init__(self) -> None:
        self.later = 0

    def __call__(self) -> int:
        return clock() + self.later


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "PATIENCE", SECOND // 5)
    monkeypatch.setattr(live, "PATIENCE", SECOND // 5)
    monkeypatch.setenv("HOOK", SECRET)


@contextmanager
def living(folder: Path, port: int, now: Clock, more: str = "") -> Iterator[Loop]:
    """A project with its live loop and its sender at work."""
    hook = f'channels: {{hook: {{webhook: "http://127.0.0.1:{port}/in", secret: "env:HOOK", private: true}}}}\n'
    (folder / "predseg.yaml").write_text(f"project: shop\nsources: {{}}\nsegments: rules.yaml\n{hook}{more}")
    (folder / "rules.yaml").write_text(RULES)
    project = Project.load(folder)
    workspace = project.segments()
    with sending(workspace, project.people, now, lambda text: None) as outbox:
        loop = open_durable(project.config, workspace, now())
        assert loop.state is not None
        loop.said = partial(outbox, loop.state.connection)
        with closing(loop):
            yield loop


def row(now: Clock, event: str = "Product Added", customer: str = "ann", number: int = 0) -> dict[str, Any]:
    at = say_instant(now())
    return {"event": event, "customer_id": customer, "event_time": at, "received_at": at, "event_id": f"{customer}{event}{at}{number}"}


def arrived(receiver: Receiver, number: int) -> list[tuple[str, str]]:
    """Wait for so many requests and return whom they were about, and what."""
    eventually(lambda: len(receiver.got) >= number)
    said = [Verifier(SECRET).verify(got.body, dict(got.headers))["data"] for got in receiver.got]
    return [(data["customer_id"], data["change"]) for data in said]


def test_by_the_clock_alone_and_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cart is left for a minute: one signed message, without waiting for the sender's rounds."""
    monkeypatch.setattr(sender, "PATIENCE", HOUR)
    now = Clock()
    with receiving() as receiver, living(tmp_path, receiver.port, now) as loop:
        loop.feed([row(now)], now())
        time.sleep(0.3)
        assert receiver.got == []
        now.later += MINUTE
        loop.tick(now())
        assert arrived(receiver, 1) == [("ann", "entered")]
        now.later += MINUTE
        loop.feed([row(now, "Order Completed")], now())
        time.sleep(0.5)
        assert len(receiver.got) == 1, "an order after the minute does not take her out"
    with sqlite3.connect(tmp_path / "store" / "live.db") as connection:
        assert connection.execute("select segment, change, status from actions").fetchall() == [("cart", "entered", "sent")], "daily ones by the run"


def test_who_comes_back_before_it_is_sent_gets_nothing(tmp_path: Path) -> None:
    """While the receiver is away the order comes; nothing is sent when it is back."""
    now = Clock()
    with receiving(answer=lambda _: (503, {}, b"")) as receiver, living(tmp_path, receiver.port, now) as loop:
        loop.feed([row(now)], now())
        now.later += MINUTE
        loop.tick(now())
        assert arrived(receiver, 1)
        late = row(now, "Order Completed") | {"event_time": say_instant(now() - MINUTE // 2)}
        late["received_at"] = late["event_time"]
        corrections = loop.feed([late], now()).changes
        assert [(c.change, c.correction) for c in corrections] == [("left", True)]
        kept, receiver.answer = [], lambda got: (kept.append(got), (200, {}, b""))[1]
        now.later += 3 * MINUTE
        with closing(sqlite3.connect(tmp_path / "store" / "live.db")) as connection:
            ended = eventually(lambda: connection.execute("select status, reason from actions where status not in ('claimed', 'failed')").fetchall())
        assert ended == [("cancelled", "changed back")] and kept == []


def test_opting_out_by_an_event_or_a_file_is_known_to_the_next_claim(tmp_path: Path) -> None:
    now = Clock()
    (tmp_path / "out.csv").write_text("customer_id,purpose\n")
    with receiving() as receiver, living(tmp_path, receiver.port, now, "consent: {path: out.csv}\n") as loop:
        loop.feed([row(now, customer=c) for c in ("ann", "bob", "cleo")], now())
        (tmp_path / "out.csv").write_text("customer_id,purpose\nbob,email_marketing\n")
        now.later += MINUTE
        loop.tick(now())
        assert sorted(arrived(receiver, 2)) == [("ann", "entered"), ("cleo", "entered")]
        (tmp_path / "out.csv").unlink()
        loop.feed([row(now, customer="dan")], now())
        now.later += MINUTE
        loop.tick(now())
        time.sleep(0.6)
        assert len(receiver.got) == 2, "without the file nobody is written to"
        (tmp_path / "out.csv").write_text("customer_id,purpose\nbob,email_marketing\n")
        assert arrived(receiver, 3)[2] == ("dan", "entered")


def test_a_restart_sends_what_waits_and_nothing_twice(tmp_path: Path) -> None:
    now = Clock()
    with receiving(answer=lambda _: (503, {"Retry-After": "180"}, b"")) as receiver:
        with living(tmp_path, receiver.port, now) as loop:
            loop.feed([row(now)], now())
            now.later += MINUTE
            loop.tick(now())
            arrived(receiver, 1)
        receiver.answer = lambda _: (200, {}, b"")
        with living(tmp_path, receiver.port, now):
            now.later += 190 * SECOND  # the receiver takes messages within five minutes
            arrived(receiver, 2)
        with living(tmp_path, receiver.port, now):
            time.sleep(0.5)
    assert len(receiver.got) == 2 and len({got.headers["webhook-id"] for got in receiver.got}) == 1


def test_another_server_on_the_same_store_does_not_send(tmp_path: Path) -> None:
    now = Clock()
    (tmp_path / "store").mkdir()
    with receiving() as receiver, sole_sender(tmp_path / "store", LIVE), living(tmp_path, receiver.port, now) as loop:
        loop.feed([row(now)], now())
        now.later += MINUTE
        loop.tick(now())
        time.sleep(0.6)
        assert receiver.got == []


def test_without_its_secret_a_server_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOOK")
    with pytest.raises(ConfigError, match="HOOK is not set"), living(tmp_path, 9, Clock()):
        pass
    assert not [t for t in threading.enumerate() if t.name == "predseg sender"]


def test_a_server_signs_and_sends(tmp_path: Path) -> None:
    """`predseg serve` as a whole: an event of a client in, one webhook out."""
    import base64
    import urllib.request

    with receiving() as receiver:
        hook = f'channels: {{hook: {{webhook: "http://127.0.0.1:{receiver.port}/in", secret: "env:HOOK", private: true}}}}\n'
        (tmp_path / "predseg.yaml").write_text(f"project: shop\nsources: {{}}\nsegments: rules.yaml\n{hook}")
        (tmp_path / "rules.yaml").write_text("segment: looked\nrefresh: live\nmatch: {did: Product Viewed}\non_enter: {send: hook}\n")
        post_one(tmp_path, base64, urllib.request)
        assert arrived(receiver, 1) == [("ann", "entered")]


def test_lines_by_the_clock_of_the_world_send_and_those_of_the_past_do_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from predseg.cli import main

    with receiving() as receiver:
        hook = f'channels: {{hook: {{webhook: "http://127.0.0.1:{receiver.port}/in", secret: "env:HOOK", private: true}}}}\n'
        (tmp_path / "predseg.yaml").write_text(f"project: shop\nsources: {{}}\nsegments: rules.yaml\n{hook}")
        (tmp_path / "rules.yaml").write_text("segment: looked\nrefresh: live\nmatch: {did: Product Viewed}\non_enter: {send: hook}\n")
        at = say_instant(clock())
        for customer, options in (("ann", []), ("bob", ["--durable"]), ("cleo", ["--durable", "--clock", "wall"])):
            line = {"customer_id": customer, "event": "Product Viewed", "event_time": at}
            (tmp_path / f"{customer}.jsonl").write_text(json.dumps(line) + "\n")
            assert main(["live", str(tmp_path / f"{customer}.jsonl"), "-c", str(tmp_path / "predseg.yaml"), *options]) == 0
            assert f'"customer_id":"{customer}"' in capsys.readouterr().out
        assert arrived(receiver, 1) == [("cleo", "entered")]


def post_one(folder: Path, base64: Any, request: Any) -> None:
    """Start a server of its own, post an event, and stop it when the message is out."""
    import os
    import signal
    import subprocess
    import sys

    command = [sys.executable, "-m", "predseg", "serve", "-c", str(folder / "predseg.yaml"), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env={**os.environ, "HOOK": SECRET})
    assert process.stderr is not None
    try:
        key, url = "", ""
        for line in process.stderr:
            key = line.rpartition(": ")[2].strip() if line.startswith("new write key") else key
            if line.startswith("serving at "):
                url = line.split()[2].rstrip(",")
                break
        body = json.dumps({"userId": "ann", "event": "Product Viewed", "messageId": "m1"}).encode()
        basic = "Basic " + base64.b64encode(f"{key}:".encode()).decode()
        asked = request.Request(f"{url}/v1/track", body, {"Authorization": basic, "Content-Type": "application/json"})
        assert request.urlopen(asked, timeout=PATIENCE).status == 200
        with sqlite3.connect(folder / "store" / "live.db") as connection:
            eventually(lambda: connection.execute("select status from actions").fetchall() == [("sent",)])
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)
        process.stderr.close()
