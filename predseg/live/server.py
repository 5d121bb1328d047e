"""The HTTP server itself: slow and endless clients are cut off, and a stop lets everything that was taken be decided."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from predseg.errors import UsageError
from predseg.live.desk import Desk
from predseg.live.web import Front, application

HEAD_SECONDS, HEAD_BYTES = 10, 32 * 1024
"""How long a client may take to say what it wants, and how long that may be."""
CONNECTIONS = 1_000
STOP_SECONDS = 10
CHECK_SECONDS = 1.0
Task = Callable[[], Coroutine[Any, Any, None]]
"""Something that goes on beside the server, until it is cancelled."""
Mount = Callable[[FastAPI, Desk], None]
"""Adds addresses to the application of a desk."""


class Protocol(HttpToolsProtocol):
    """HTTP/1.1 with bounds on the time and the length of a request's head."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Give the client `HEAD_SECONDS` for its first request."""
        super().connection_made(transport)
        self._head: int | None = 0
        self._late = self.loop.call_later(HEAD_SECONDS, self._cut)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        self._late.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what comes while the head is not complete."""
        if self._head is not None:
            self._head += len(data)
            if self._head > HEAD_BYTES and not self._within(data):
                self._cut()
                return
        super().data_received(data)

    def _within(self, data: bytes) -> bool:
        """Whether the head ends in these data before it is too long; a body may follow in the same piece."""
        end = data.find(b"\r\n\r\n")
        return end >= 0 and self._head is not None and self._head - len(data) + end <= HEAD_BYTES

    def on_message_begin(self) -> None:
        """A request begins, perhaps a later one of the same connection."""
        super().on_message_begin()
        self._late.cancel()
        self._late = self.loop.call_later(HEAD_SECONDS, self._cut)

    def on_headers_complete(self) -> None:
        """The head is whole; the body has bounds of its own."""
        self._head = None
        self._late.cancel()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """The next head is counted anew."""
        self._head = 0
        super().on_response_complete()

    def _cut(self) -> None:
        if not self.transport.is_closing():
            self.transport.abort()


class Server(uvicorn.Server):
    """Lets readers of changes go before it waits for the rest."""

    def __init__(self, config: uvicorn.Config, desk: Desk) -> None:
        super().__init__(config)
        self.desk = desk

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on a signal, which is answered when all is decided, and not raised once more."""
        with super().capture_signals():
            yield
            self._captured_signals.clear()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop."""
        self.desk.hang_up()
        await super().shutdown(sockets)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket for an address; nobody is let in yet.

    Raises:
        UsageError: E260 when the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
    except (OSError, OverflowError) as error:
        found.close()
        said = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            "E260", f"{host}:{port}", f"cannot listen here: {said.lower()}", "stop what listens there, or choose another --port"
        ) from None
    return found


def server(desk: Desk, tasks: Sequence[Task] = (), mount: Mount | None = None) -> Server:
    """Return a server for a desk; ``tasks`` go on beside it, and ``mount`` adds more addresses."""
    app = application(desk)
    if mount is not None:
        mount(app, desk)
    app.router.lifespan_context = _lifespan(desk, tasks)
    config = uvicorn.Config(
        Front(app),
        http=Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    return Server(config, desk)


def _lifespan(desk: Desk, tasks: Sequence[Task]) -> Callable[[FastAPI], contextlib.AbstractAsyncContextManager[None]]:
    @contextlib.asynccontextmanager
    async def span(app: FastAPI) -> AsyncIterator[None]:
        desk.started = desk.clock()
        desk.events = asyncio.get_running_loop()
        running = [asyncio.create_task(task()) for task in (lambda: _watch(desk), *tasks)]
        try:
            yield
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await asyncio.to_thread(desk.writer.stop)

    return span


async def _watch(desk: Desk) -> None:
    while True:
        desk.check()
        await asyncio.sleep(CHECK_SECONDS)
