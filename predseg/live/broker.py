"""A broker as a source: Redis Streams, NATS JetStream or Kafka through FastStream, at least once, duplicates absorbed.

A message is acknowledged after its events are stored. What was taken and not acknowledged, because a server died, is
taken again; an event without an id of its own is named by its place in the topic, so that it still counts once. A message
is what a tracking client would send (one message or a ``batch``), or a row of the events table as JSON.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

from predseg.errors import UsageError
from predseg.language.serving import Stream
from predseg.live import bodies
from predseg.live.collector import Rejected, Row, collect, flat
from predseg.live.desk import Desk
from predseg.live.service import Busy

RECORDS, POLL = 500, 200
"""Messages that are taken at a time, and milliseconds between two looks where the broker must be asked."""
CLAIM, AGAIN = 60_000, 60
"""Milliseconds (Redis) and seconds (NATS) after which a message that was taken and not acknowledged is taken again."""
PAUSE = (1.0, 30.0)
"""Seconds before a lost broker is tried again: at first, at most."""
ANSWER, GRACE = 3.0, 5.0
"""Seconds a broker may take for an answer, and what is being stored when the server stops."""
NEEDED = {"redis": "redis", "nats": "nats", "kafka": "aiokafka"}
Taken = Sequence[tuple[str, bytes | Mapping[str, str]]]
"""Messages with their places in the topic."""


def check(stream: Stream) -> None:
    """Refuse a stream whose packages are not installed.

    Raises:
        UsageError: E261 with the command that installs them.
    """
    if find_spec("faststream") is None or find_spec(NEEDED[stream.broker]) is None:
        raise UsageError("E261", stream.place, f"taking events from {stream.broker} needs more packages", 'pip install "predseg[stream]"')


async def follow(desk: Desk, stream: Stream, password: str | None = None) -> None:
    """Take events from a broker until cancelled; while it is away, try again and again."""
    pause = PAUSE[0]
    while not _cancelled():
        broker = None
        try:
            broker, begin = _BROKERS[stream.broker](desk, stream, password)
            desk.stream = "the broker does not answer yet"
            await begin()
            pause = PAUSE[0]
            while all(subscriber.running for subscriber in broker.subscribers) and not _cancelled():
                desk.stream = "ok" if await broker.ping(ANSWER) else "the broker does not answer"
                await asyncio.sleep(PAUSE[0])
            desk.stream = "the topic is gone"
        except Exception as error:
            desk.stream = f"{type(error).__name__}: {error}"[:200]
        finally:
            if broker is not None:
                with suppress(Exception):  # a client that looks for its broker may refuse to stop; the next one is a new one
                    await broker.stop()
        await asyncio.sleep(pause)
        pause = min(2 * pause, PAUSE[1])
    raise asyncio.CancelledError


def _cancelled() -> bool:
    """Whether this task was cancelled, also when a client swallowed that: one that times out at the same moment does."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


# messages


async def take(desk: Desk, taken: Taken) -> None:
    """Have messages decided and stored; while the server cannot take them they stay with the broker."""
    received = desk.clock()
    rows = [row for place, message in taken for row in rows_of(place, message, received)]
    size = sum(len(message) for _, message in taken)
    while rows:
        try:
            verdicts = await desk.writer.submit(rows, size)
        except Busy as busy:
            await asyncio.sleep(busy.retry)
        else:
            desk.decided(rows, verdicts, received)
            break


def rows_of(place: str, message: bytes | Mapping[str, str], received: int) -> Iterator[Row | Rejected]:
    """Yield the rows of one message, each with an id: its own, or its place in the topic."""
    for number, row in enumerate(_rows(message, received)):
        yield row if isinstance(row, Rejected) or row.get("event_id") else row | {"event_id": f"{place}/{number}"}


def _rows(message: bytes | Mapping[str, str], received: int) -> Iterator[Row | Rejected]:
    if not isinstance(message, bytes):
        yield flat(dict(message), received)
        return
    try:
        value = bodies.read(bodies.unpacked(message, None))
        if isinstance(value, dict) and not {"type", "batch"} & set(value):
            yield flat(value, received)
        else:
            yield from collect(value, received, length=len(message))
    except bodies.RefusedBody as refused:
        yield Rejected(message[: bodies.EVENT_BYTES].decode("utf-8", "backslashreplace"), "body", refused.reason)


# brokers


def _handler(desk: Desk, places: Callable[[Any], Taken]) -> Callable[[Any], Any]:
    async def handle(message: Any) -> None:
        await take(desk, places(message.raw_message))
        await message.ack()

    return handle


async def _as_it_is(message: Any) -> Any:
    return message


def _redis(desk: Desk, stream: Stream, password: str | None) -> tuple[Any, Callable[[], Any]]:
    from faststream import AckPolicy
    from faststream.redis import RedisBroker, StreamSub
    from faststream.redis.parser import BinaryMessageFormatV1
    from redis.asyncio import Redis
    from redis.exceptions import ResponseError

    named: dict[str, Any] = {"username": stream.user, "password": password}
    options: dict[str, Any] = {"logger": None, "apply_types": False, "graceful_timeout": GRACE}
    broker = RedisBroker(stream.url, **options, **named)

    async def parser(raw: Any, original: Any) -> Any:
        message = await original({**raw, "data": []})  # it would fail on what other clients write
        message.raw_message = raw
        return message

    def places(raw: Any) -> Taken:
        return [(f"{stream.topic}/{at.decode()}", content(entry)) for at, entry in zip(raw["message_ids"], raw["data"], strict=True)]

    def content(entry: Mapping[bytes, bytes]) -> bytes | Mapping[str, str]:
        if b"__data__" in entry:
            return BinaryMessageFormatV1.parse(entry[b"__data__"])[0]
        if len(entry) == 1 or b"data" in entry:
            return entry.get(b"data", next(iter(entry.values())))
        return {name.decode("utf-8", "replace"): value.decode("utf-8", "surrogateescape") for name, value in entry.items()}

    shared: dict[str, Any] = {"group": stream.group, "consumer": f"predseg-{os.getpid()}", "batch": True, "polling_interval": POLL}
    for more in ({"max_records": RECORDS}, {"min_idle_time": CLAIM}):
        source: Any = StreamSub
        subscriber = broker.subscriber(
            stream=source(stream.topic, **shared, **more), ack_policy=AckPolicy.MANUAL, no_reply=True, parser=parser, decoder=_as_it_is
        )
        subscriber(_handler(desk, places))

    async def begin() -> None:
        async with Redis.from_url(stream.url, **named) as client:
            try:
                await client.xgroup_create(stream.topic, stream.group, "0", mkstream=True)
            except ResponseError as error:
                if "already exists" not in str(error):
                    raise
        await broker.start()

    return broker, begin


def _nats(desk: Desk, stream: Stream, password: str | None) -> tuple[Any, Callable[[], Any]]:
    from faststream import AckPolicy
    from faststream.nats import JStream, NatsBroker, PullSub
    from faststream.security import SASLPlaintext
    from nats.js.api import ConsumerConfig

    security = SASLPlaintext(stream.user or "", password or "", use_ssl=stream.url.startswith("tls")) if password else None
    broker = NatsBroker(stream.url, logger=None, apply_types=False, graceful_timeout=GRACE, security=security, max_reconnect_attempts=-1)
    subscriber = broker.subscriber(
        stream.topic,
        stream=JStream(stream.topic.replace(".", "_"), subjects=[stream.topic]),
        durable=stream.group.replace(".", "_"),
        config=ConsumerConfig(ack_wait=AGAIN),
        pull_sub=PullSub(RECORDS, timeout=POLL / 1000, batch=True),
        ack_policy=AckPolicy.MANUAL,
        no_reply=True,
        decoder=_as_it_is,
    )
    subscriber(_handler(desk, lambda raw: [(f"{stream.topic}/{m.metadata.sequence.stream}", m.data) for m in raw]))
    return broker, broker.start


def _kafka(desk: Desk, stream: Stream, password: str | None) -> tuple[Any, Callable[[], Any]]:
    from faststream import AckPolicy
    from faststream.kafka import KafkaBroker
    from faststream.security import SASLPlaintext

    security = SASLPlaintext(stream.user or "", password) if password else None
    broker = KafkaBroker(stream.url.removeprefix("kafka://"), logger=None, apply_types=False, graceful_timeout=GRACE, security=security)
    subscriber = broker.subscriber(
        stream.topic,
        group_id=stream.group,
        batch=True,
        max_records=RECORDS,
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.MANUAL,
        no_reply=True,
        decoder=_as_it_is,
    )
    subscriber(_handler(desk, lambda raw: [(f"{r.topic}/{r.partition}/{r.offset}", r.value or b"") for r in raw]))
    return broker, broker.start


_BROKERS: dict[str, Callable[[Desk, Stream, str | None], tuple[Any, Callable[[], Any]]]] = {"redis": _redis, "nats": _nats, "kafka": _kafka}
