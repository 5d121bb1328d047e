"""Events from real brokers: Redis Streams and NATS JetStream from their packages, Kafka as librdkafka plays it. Nothing is lost, nothing counts twice."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from predseg.errors import UsageError
from predseg.language.serving import Stream
from predseg.live import broker
from predseg.live.collector import Rejected
from predseg.live.desk import Desk
from tests.live.fakes import Store
from tests.live.serving import made
from tests.patience import PATIENCE, eventually

pytest.importorskip("faststream")
LONG = bool(os.environ.get("PREDSEG_LONG"))
NOW = 1_772_366_400_000_000


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


KAFKA = """
import sys, time
from confluent_kafka import Producer
producer = Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 1})
print(*(broker.port for broker in producer.list_topics(timeout=60).brokers.values()), flush=True)
time.sleep(600)
"""
"""A broker that speaks the protocol over its own port, and holds what it has in memory."""


def command(kind: str, port: int, folder: Path) -> list[str]:
    if kind == "kafka":
        return [sys.executable, "-c", KAFKA]
    if kind == "redis":
        return ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--appendonly", "yes", "--save", ""]
    return ["nats-server", "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(folder)]


class Server:
    """A broker that can be stopped and started again, with what it holds."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind, self.folder, self.port = kind, folder, free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            return
        for _ in range(5):  # somebody else may have taken the port since it was found free
            self.process = self.begun()
            if eventually(lambda: self.process.poll() is not None or self.answers()) and self.process.poll() is None:
                return
            self.port = free_port()
        raise AssertionError(f"{self.kind} does not start")

    def begun(self) -> subprocess.Popen[bytes]:
        kafka = self.kind == "kafka"
        found = subprocess.Popen(
            command(self.kind, self.port, self.folder), stdout=subprocess.PIPE if kafka else subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        if kafka and found.stdout is not None:
            self.port = int(found.stdout.readline())
        return found

    def answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def stop(self, *, for_good: bool = False) -> None:
        """Stop; what has all it holds in memory is deaf instead, until it starts again or the test ends."""
        if self.process is None:
            return
        if self.kind == "kafka" and not for_good:
            self.process.send_signal(signal.SIGSTOP)
            return
        self.process.kill() if self.kind == "kafka" else self.process.terminate()
        self.process.wait(PATIENCE)
        self.process = None

    @property
    def stream(self) -> Stream:
        return Stream(f"{self.kind}://127.0.0.1:{self.port}", "shop.events")

    async def send(self, messages: list[bytes]) -> None:
        if self.kind == "kafka":
            from aiokafka import AIOKafkaProducer

            async with AIOKafkaProducer(bootstrap_servers=f"127.0.0.1:{self.port}") as producer:
                for message in messages:
                    await producer.send_and_wait("shop.events", message)
            return
        if self.kind == "redis":
            from redis.asyncio import Redis

            async with Redis(port=self.port) as client:
                for message in messages:
                    await client.xadd("shop.events", {"data": message})
            return
        await self.publish(messages)

    async def publish(self, messages: list[bytes]) -> None:
        """Publish to JetStream, which answers some time after its server took the connection, and not at all times while it declares a stream."""
        import nats
        from nats.js.errors import BadRequestError, NoStreamResponseError, ServiceUnavailableError

        away = retry_if_exception_type((ServiceUnavailableError, NoStreamResponseError))  # nothing was done: trying again is no second time
        patiently = AsyncRetrying(retry=away, wait=wait_fixed(0.05), stop=stop_after_delay(PATIENCE), reraise=True)
        client = await nats.connect(f"nats://127.0.0.1:{self.port}")
        jetstream = client.jetstream(timeout=PATIENCE)
        try:
            await patiently(jetstream.add_stream, name="shop_events", subjects=["shop.events"])
        except BadRequestError as error:
            if "already in use" not in str(error):  # the server that is tested declares it too
                raise
        for message in messages:
            await patiently(jetstream.publish, "shop.events", message)
        await client.close()


@pytest.fixture(params=["redis", "nats", "kafka"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    if request.param == "kafka":
        pytest.importorskip("confluent_kafka")
        if not LONG and not any(part in request.node.name for part in ("every_form", "not_there")):
            pytest.skip("a group of Kafka takes seconds to come together: PREDSEG_LONG=1 runs all")
    elif shutil.which(f"{request.param}-server") is None and not Path(f"/usr/sbin/{request.param}-server").exists():
        pytest.skip(f"no {request.param}-server: apt-get install {request.param}-server")
    found = Server(request.param, tmp_path)
    found.start()
    yield found
    found.stop(for_good=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "PAUSE", (0.1, 0.5))
    monkeypatch.setattr(broker, "CLAIM", 300)
    monkeypatch.setattr(broker, "POLL", 50)
    monkeypatch.setattr(broker, "AGAIN", 1)
    monkeypatch.setattr(broker, "GRACE", 0.2)
    monkeypatch.setattr("faststream.redis.subscriber.usecases.stream_subscriber.CONSUME_ERROR_BACKOFF_SECONDS", 0.2)


def track(number: int, **more: Any) -> bytes:
    return json.dumps({"type": "track", "userId": f"c{number}", "event": "Look", "messageId": f"m{number}", **more}).encode()


def following(desk: Desk, server: Server, then: Callable[[], Awaitable[Any]]) -> None:
    """Follow the topic while something else goes on."""

    async def both() -> None:
        task = asyncio.create_task(broker.follow(desk, server.stream))
        try:
            await asyncio.wait_for(then(), 3 * PATIENCE)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    asyncio.run(both())


async def until(check: Callable[[], Any]) -> None:
    await asyncio.to_thread(eventually, check)


def test_messages_of_every_form_arrive(server: Server) -> None:
    desk = made(store := Store())
    batch = json.dumps({"batch": [json.loads(track(2)), {"type": "identify", "userId": "c3", "traits": {"a": 1}}, {"bad": 1}]}).encode()
    row = json.dumps({"customer_id": "c4", "event": "Look", "event_time": NOW}).encode()
    messages = [track(1), batch, row, b"\xff", b"7", b"{", json.dumps({"type": "track", "userId": "c5", "event": "Look"}).encode()]

    async def then() -> None:
        await server.send(messages)
        await until(lambda: desk.counts.received == 9)

    following(desk, server, then)
    desk.writer.stop()
    assert sorted(str(r["customer_id"]) for r in store.rows) == ["c1", "c2", "c3", "c4", "c5"] and len(store.quarantine) == 4
    named = [str(r["event_id"]) for r in store.rows]
    assert {"m1", "m2"} < set(named) and sum(name.startswith("shop.events/") for name in named) == 3


def test_what_was_sent_before_the_first_start_arrives_and_what_was_acknowledged_does_not_come_again(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, came, acknowledged, original = Store(), list[str](), set[str](), broker._handler

    def told(desk: Desk, places: Any) -> Any:
        handle = original(desk, places)

        async def handled(message: Any) -> None:
            named = [place for place, _ in places(message.raw_message)]
            came.extend(named)
            await handle(message)
            acknowledged.update(named)

        return handled

    monkeypatch.setattr(broker, "_handler", told)
    asyncio.run(server.send([track(i) for i in range(50)]))
    first = made(store)
    following(first, server, lambda: until(lambda: len(acknowledged) == 50))
    first.writer.stop()
    second, before = made(store), set(acknowledged)
    came.clear()

    async def then() -> None:
        await server.send([track(1_000)])
        await until(lambda: "m1000" in store.ids)
        await asyncio.sleep(1.2)  # longer than AGAIN and CLAIM: what is not acknowledged comes by then

    following(second, server, then)
    second.writer.stop()
    assert came and before.isdisjoint(came)
    assert len(store.rows) == 51


def test_what_a_dead_server_took_is_taken_again_and_counts_once(server: Server) -> None:
    """The first server stores the events and dies before it acknowledges; the events have no ids of their own."""
    store = Store()
    asyncio.run(server.send([json.dumps({"type": "track", "userId": f"c{i}", "event": "Look"}).encode() for i in range(40)]))
    first = made(store)

    async def dies() -> None:
        await until(lambda: len(store.rows) >= (1 if server.kind == "kafka" else 40))  # Kafka's has several partitions, one taken at a time

    original = broker._handler

    def deaf(desk: Desk, places: Any) -> Any:
        async def handle(message: Any) -> None:
            await broker.take(desk, places(message.raw_message))
            await asyncio.sleep(60)  # it dies here

        return handle

    broker._handler = deaf
    try:
        following(first, server, dies)
    finally:
        broker._handler = original
        first.writer.stop()
    second, before = made(store), len(store.rows)
    following(second, server, lambda: until(lambda: second.counts.outcomes["duplicates"] >= before and len(store.rows) >= 40))
    second.writer.stop()
    assert len(store.rows) == 40 and second.counts.outcomes["accepted"] == 40 - before


def test_a_store_and_a_broker_that_go_away_lose_nothing(server: Server) -> None:
    desk = made(store := Store())

    async def then() -> None:
        await server.send([track(i) for i in range(20)])
        await until(lambda: len(store.rows) == 20)
        store.fails = OSError("gone")
        await server.send([track(i) for i in range(20, 40)])
        await until(lambda: desk.writer.state.down)
        await asyncio.sleep(0.3)
        store.fails = None
        await until(lambda: len(store.rows) == 40)
        await asyncio.to_thread(server.stop)
        await asyncio.sleep(0.3)
        await asyncio.to_thread(server.start)
        await server.send([track(i) for i in range(40, 60)])
        await until(lambda: len(store.rows) == 60)

    following(desk, server, then)
    desk.writer.stop()
    assert sorted(store.ids) == sorted(f"m{i}" for i in range(60))


def test_a_broker_that_is_not_there_is_tried_again(server: Server) -> None:
    desk = made(store := Store())
    server.stop()

    async def then() -> None:
        await until(lambda: desk.stream not in (None, "ok"))
        await asyncio.to_thread(server.start)
        await server.send([track(1)])
        await until(lambda: store.rows and desk.stream == "ok")

    following(desk, server, then)
    desk.writer.stop()


def test_rows_have_the_id_of_their_place_unless_they_bring_one() -> None:
    assert [row["event_id"] for row in broker.rows_of("t/7", track(1), NOW) if isinstance(row, dict)] == ["m1"]
    batch = json.dumps({"batch": [{"type": "page", "userId": "a"}, {"type": "page", "userId": "b"}]}).encode()
    assert [row["event_id"] for row in broker.rows_of("t/7", batch, NOW) if isinstance(row, dict)] == ["t/7/0", "t/7/1"]
    assert list(broker.rows_of("t/7", {"customer_id": "a", "event": "X"}, NOW)) == [
        {"customer_id": "a", "event": "X", "received_at": NOW, "event_id": "t/7/0"}
    ]
    assert isinstance(next(broker.rows_of("t/7", b" " * 600_000, NOW)), Rejected)


def test_missing_packages_are_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"E261.*(\n.*)*pip install \"predseg\[stream\]\""):
        broker.check(Stream("nats://127.0.0.1:4222", "events", place="predseg.yaml:3:5"))


def test_a_client_that_swallows_the_cancellation_does_not_keep_the_server_from_stopping(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = asyncio.Event()

    class Deaf:
        """A broker whose client answers a cancellation with a timeout."""

        subscribers = (type("Subscriber", (), {"running": True}),)

        async def ping(self, timeout: float) -> bool:
            asked.set()
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(timeout)
            return False

        async def stop(self) -> None:
            return

    async def begin() -> None:
        return

    monkeypatch.setitem(broker._BROKERS, "redis", lambda desk, stream, password: (Deaf(), begin))
    stream = type("Named", (), {"broker": "redis"})

    async def both() -> None:
        task = asyncio.create_task(broker.follow(type("Desk", (), {})(), stream))  # type: ignore[arg-type]
        await asked.wait()
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=5)
        assert done and task.cancelled()

    asyncio.run(both())


def test_a_client_that_cannot_even_be_stopped_does_not_end_the_following(monkeypatch: pytest.MonkeyPatch) -> None:
    """NATS' client refuses to be stopped while it looks for its server."""
    begun: list[int] = []

    class Lost:
        async def stop(self) -> None:
            raise ConnectionError("reconnecting")

    async def begin() -> None:
        begun.append(1)
        raise TimeoutError

    monkeypatch.setitem(broker._BROKERS, "redis", lambda desk, stream, password: (Lost(), begin))
    stream = type("Named", (), {"broker": "redis"})

    async def both() -> None:
        task = asyncio.create_task(broker.follow(type("Desk", (), {})(), stream))  # type: ignore[arg-type]
        await until(lambda: task.done() or len(begun) > 1)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(both())
    assert len(begun) > 1
