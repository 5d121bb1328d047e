"""The addresses of the server: events come in, segments, customers and changes are asked for.

Everything is decided and stored before it is answered with 200. Whatever cannot be taken now is answered 429 or 503 with
Retry-After, so that a client comes again; a message that can never be taken is put into quarantine, and the answer says why.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.concurrency import run_in_threadpool
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from predseg import __version__
from predseg.errors import PredsegError, nearest
from predseg.evaluate.program import Change
from predseg.language.time import SECOND, say_instant
from predseg.live import bodies, keys, spec
from predseg.live.collector import KINDS, Rejected, Row, collect
from predseg.live.desk import STREAMS, Desk, Subscriber
from predseg.live.metrics import exposition
from predseg.live.served import wire
from predseg.live.service import Busy

BODY_SECONDS, BODIES_BYTES = 10, 64 * 1024 * 1024
"""How long a client may take for its body, and how many bytes of bodies are held at a time."""
PING = 15
"""Seconds between signs of life to readers of changes."""
SETTLE = 10.0
"""Seconds that a no is held back for what is on its way."""
TOLD = 100
"""Rejected messages that an answer lists."""
NO_STORE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def answer(content: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON answer that nobody keeps."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return Response(text.encode("utf-8", "replace"), status, {**NO_STORE, **(headers or {})}, "application/json")


def refusal(status: int, code: str, message: str, retry: int | None = None) -> Response:
    """Return an error as tracking clients read it."""
    headers = {"Retry-After": str(retry)} if retry is not None else {}
    if status == 401:
        headers["WWW-Authenticate"] = 'Basic realm="predseg"'
    return answer({"code": code, "message": message}, status, headers)


Taker = Callable[[Request], Awaitable[Response]]


def application(desk: Desk) -> FastAPI:
    """Return the application that serves a desk."""
    app = FastAPI(title="predseg", version=__version__, docs_url=None, redoc_url=None, openapi_url="/openapi.json")
    app.state.desk = desk
    for kind in (*KINDS, "batch"):
        app.add_api_route(f"/v1/{kind}", _collector(desk, kind), methods=["POST"], **spec.collector(kind))
    _reading(app, desk)
    app.add_exception_handler(HTTPException, _unknown)
    app.add_exception_handler(RequestValidationError, _unreadable)
    app.add_exception_handler(Exception, _bug)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


class Front:
    """Takes messages to the collector without the way through the application, which costs more than deciding them."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self.takers: dict[str, Taker] = {f"/v1/{kind}": _collector(app.state.desk, kind) for kind in (*KINDS, "batch")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        take = self.takers.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if take is None:
            await self.app(scope, receive, send)
        else:
            answered = await take(Request(scope, receive))
            await answered(scope, receive, send)


def _openapi(app: FastAPI) -> dict[str, Any]:
    if not app.openapi_schema:
        app.openapi_schema = spec.with_keys(get_openapi(title=app.title, version=app.version, description=spec.ABOUT, routes=app.routes))
    return app.openapi_schema


async def _unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    found = refusal(error.status_code, "not_found" if error.status_code == 404 else "refused", str(error.detail))
    found.headers.update(error.headers or {})
    return found


async def _unreadable(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    wrong = error.errors()[0]
    return refusal(422, "refused", f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}")


async def _bug(request: Request, error: Exception) -> Response:
    return refusal(500, "internal", "this is a bug of predseg, not your mistake")


# events come in


def _collector(desk: Desk, kind: str) -> Taker:
    async def take(request: Request) -> Response:
        received = desk.clock()
        try:
            return await _take(desk, request, kind, received)
        except bodies.RefusedBody as refused:
            desk.counts.refused[refused.status] += 1
            return refusal(refused.status, "refused", refused.reason)
        except Busy as busy:
            desk.counts.refused[busy.status] += 1
            return refusal(busy.status, "busy", busy.reason, busy.retry)
        except ClientDisconnect:
            desk.counts.refused[499] += 1
            return refusal(400, "refused", "the client went away")
        except Exception as error:
            desk.writer.state.error = (desk.clock(), type(error).__name__)
            return await _bug(request, error)

    take.__name__ = kind
    return take


async def _take(desk: Desk, request: Request, kind: str, received: int) -> Response:
    given = keys.presented(request.headers.get("authorization"))
    if given is not None and not keys.same(given, desk.keys.write):
        raise bodies.RefusedBody(401, "the write key is wrong")
    if desk.writer.state.down is not None:
        raise Busy(503, "the store cannot be used at the moment", 2)
    packed = await read_body(desk, request)
    try:
        body = bodies.unpacked(packed, request.headers.get("content-encoding"))
        value = bodies.read(body)
        if kind == "batch" and isinstance(value, dict) and "batch" not in value:
            raise bodies.RefusedBody(400, "the body has no `batch`")
        rows = list(collect(value, received, None if kind == "batch" else kind, length=len(body)))
    except bodies.RefusedBody as refused:
        if given is None or refused.status != 400:
            raise
        await _decide(
            desk, [Rejected(packed[: bodies.EVENT_BYTES].decode("utf-8", "backslashreplace"), "body", refused.reason)], len(packed), received
        )
        raise
    if given is None and not keys.same(str(value.get("writeKey") or ""), desk.keys.write):
        raise bodies.RefusedBody(401, "a write key is needed: as Basic user name, or as `writeKey` in the body")
    return answer(await _decide(desk, rows, len(body), received))


async def read_body(desk: Desk, request: Request) -> bytes:
    """Read a body within its bounds of length, of time, and of what all bodies together may take.

    Raises:
        RefusedBody: 413 when it is too long, 408 when it takes too long.
        Busy: 503 when too much is being received.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > bodies.BATCH_BYTES:
        raise bodies.RefusedBody(413, f"the body is longer than {bodies.BATCH_BYTES:,} bytes")
    if desk.reading > BODIES_BYTES:
        raise Busy(503, "too much is being received", 1)
    found = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                found += part
                desk.reading += len(part)
                if len(found) > bodies.BATCH_BYTES:
                    raise bodies.RefusedBody(413, f"the body is longer than {bodies.BATCH_BYTES:,} bytes")
    except TimeoutError:
        raise bodies.RefusedBody(408, f"the body took longer than {BODY_SECONDS} seconds") from None
    finally:
        desk.reading -= len(found)
    return bytes(found)


async def _decide(desk: Desk, rows: list[Row | Rejected], size: int, received: int) -> dict[str, Any]:
    verdicts = await desk.writer.submit(rows, size) if rows else []
    counted = desk.decided(rows, verdicts, received)
    await _settled(desk, rows)
    rejected = [{"index": i, "reason": f"{v.field} {v.reason}"} for i, v in enumerate(verdicts) if v.kind == "quarantined"]
    return {"success": True, **counted, "rejected": rejected[:TOLD]}


async def _settled(desk: Desk, rows: list[Row | Rejected]) -> None:
    """Wait for what is on its way to who just said no: after the answer nothing more arrives there.

    Raises:
        Busy: 503 when it is still on its way; what was said is stored, and holds.
    """
    said = {
        desk.name(str(row.get("customer_id") or row.get("anonymous_id")))
        for row in rows
        if not isinstance(row, Rejected) and row["event"] in desk.noes
    }
    end = asyncio.get_running_loop().time() + SETTLE
    while said and not await run_in_threadpool(desk.settled, said):
        if asyncio.get_running_loop().time() > end:
            raise Busy(503, "a message is still on its way", 5)
        await asyncio.sleep(0.02)


# segments, customers and changes are asked for


class Anything(PathConvertor):
    """The rest of a path, whatever stands there: by itself it would end at a line break."""

    regex = "(?s:.*)"


def _reading(app: FastAPI, desk: Desk) -> None:
    def denied(request: Request) -> Response | None:
        given = keys.presented(request.headers.get("authorization"))
        return None if given is not None and keys.same(given, desk.keys.read) else refusal(401, "refused", "the read key is needed")

    async def customer(request: Request, customer_id: str, features: bool = False) -> Response:
        if (no := denied(request)) is not None:
            return no
        now, served, name = desk.clock(), desk.served, desk.name(customer_id.strip())  # as an id that comes in
        as_of = None if served.as_of is None else say_instant(served.as_of)
        stale, more, ends = served.down() is not None, dict[str, Any](), dict[str, int]()
        try:
            more |= await run_in_threadpool(desk.person, name, features)
            ends |= await run_in_threadpool(desk.ends, name)
        except (OSError, PredsegError, sqlite3.Error):
            stale = True  # the tables are away; what is in memory is answered
        return answer({"customer_id": name, "as_of": as_of, "stale": stale, "segments": served.of(name, now, ends), **more})

    async def segment(request: Request, name: str) -> Response:
        if (no := denied(request)) is not None:
            return no
        if name not in desk.served.segments:
            return refusal(404, "not_found", f"no such segment; {nearest(name, tuple(desk.served.segments))}")
        without = await run_in_threadpool(desk.without, name)
        return answer(desk.served.told(name, desk.clock(), without))

    async def segments(request: Request) -> Response:
        if (no := denied(request)) is not None:
            return no
        now = desk.clock()
        return answer({"segments": [_listed(desk, name, now) for name in desk.served.segments]})

    async def changes(request: Request, segment: str | None = None) -> Response:
        return denied(request) or follow(desk, request, segment)

    async def health(request: Request) -> Response:
        return answer(_health(desk, denied(request) is None), 200 if desk.writer.state.down is None else 503)

    async def metrics(request: Request) -> Response:
        return denied(request) or Response(exposition(desk), headers=NO_STORE, media_type="text/plain; version=0.0.4; charset=utf-8")

    register_url_convertor("anything", Anything())
    for path, function in (
        ("/v1/customers/{customer_id:anything}", customer),
        ("/v1/segments", segments),
        ("/v1/segments/{name}", segment),
        ("/v1/changes", changes),
        ("/health", health),
        ("/metrics", metrics),
    ):
        app.add_api_route(path, function, methods=["GET"], **spec.reading(function.__name__))


def follow(desk: Desk, request: Request, segment: str | None, said: Callable[[int, Change], str] | None = None, after: str = "") -> Response:
    """Answer with changes as they happen, of one segment or of all, those after a number first; ``said`` says one as an event of the stream."""
    if segment is not None and segment not in desk.served.segments:
        return refusal(404, "not_found", f"no such segment; {nearest(segment, tuple(desk.served.segments))}")
    last = request.headers.get("last-event-id", after).strip()
    if last and not (last.isascii() and last.isdigit() and len(last) < 19):
        return refusal(400, "refused", "Last-Event-ID is the id of a change")
    if len(desk.subscribers) >= STREAMS:
        return refusal(503, "busy", f"{STREAMS} readers follow the changes already", 5)
    stream = _stream(desk, int(last) if last else None, segment, said or _event)
    return StreamingResponse(stream, headers=NO_STORE, media_type="text/event-stream")


def _listed(desk: Desk, name: str, now: int) -> dict[str, Any]:
    found = desk.served.told(name, now)
    return {key: found[key] for key in ("segment", "about", "refresh", "size", "as_of", "stale")}


def _health(desk: Desk, trusted: bool) -> dict[str, Any]:
    """How the server is; what it has to say of segments and errors only to who has the read key."""
    now, state = desk.clock(), desk.writer.state
    ringing = [alarm for alarm in desk.alarms.values() if alarm.since is not None]
    found: dict[str, Any] = {
        "status": "down" if state.down is not None else "alarm" if ringing else "ok",
        "as_of": None if state.as_of is None else say_instant(state.as_of),
        "freshness_seconds": None if state.as_of is None else max(now - state.as_of, 0) / SECOND,
        "lag_seconds": desk.lag(now) / SECOND,
        "queue": {"rows": desk.writer.queue.rows, "fill": round(desk.fill(), 4)},
    }
    if desk.stream is not None:
        found["stream"] = "ok" if desk.stream == "ok" else "away"
    if not trusted:
        return found
    error = None if state.error is None else {"at": say_instant(state.error[0]), "error": state.error[1]}
    segments = {}
    for name in desk.served.segments:
        as_of, stale = desk.served.age(name, now)
        segments[name] = {"as_of": None if as_of is None else say_instant(as_of), "stale": stale, "last_error": desk.served.errors.get(name, error)}
    alarms = [{"alarm": alarm.name, "since": say_instant(alarm.since or 0), "says": alarm.said} for alarm in ringing]
    totals = {
        "received": desk.counts.received,
        **{name: desk.counts.outcomes[name] for name in ("accepted", "duplicates", "quarantined", "suppressed")},
    }
    return found | {
        "last_error": error,
        "consent": desk.served.errors.get("consent"),
        "stream": desk.stream,
        "alarms": alarms,
        "received": totals,
        "segments": segments,
    }


async def _stream(desk: Desk, after: int | None, segment: str | None, said: Callable[[int, Change], str]) -> AsyncIterator[str]:
    """Yield changes as server-sent events: those after a number, then those that come, until the reader falls behind."""
    subscriber = Subscriber()
    desk.subscribers.add(subscriber)
    last = desk.served.last if after is None else after
    try:
        yield ": follow\n\n"
        if after is not None:
            for number, change in await run_in_threadpool(_missed, desk, after):
                last = number
                if segment in (None, change.segment):
                    yield said(number, change)
        while True:
            try:
                found = await asyncio.wait_for(subscriber.queue.get(), PING)
            except TimeoutError:
                yield ": here\n\n"
                continue
            if found is None:
                return
            number, change = found
            if number > last and segment in (None, change.segment):
                yield said(number, change)
    finally:
        desk.subscribers.discard(subscriber)


def _missed(desk: Desk, after: int) -> list[Any]:
    found, whole = desk.served.since(after)
    if whole or desk.log is None:
        return found
    first = found[0][0] if found else desk.served.last + 1
    older: list[Any] = []
    while after < first - 1 and (more := desk.log(after, 10_000)):
        after = more[-1][0]
        older += [pair for pair in more if pair[0] < first and pair[1].segment in desk.served.segments]
    return older + found


def _event(number: int, change: Change) -> str:
    return f"id: {number}\nevent: {change.change}\ndata: {json.dumps(wire(number, change), ensure_ascii=False)}\n\n"
