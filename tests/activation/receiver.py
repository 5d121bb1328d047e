"""A web server on the loopback that counts what arrives, answers as it is told, and can be slow."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Got:
    """A request."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float = 0.0


@dataclass
class Receiver:
    """Answer with a status and headers, as ``answer`` says for each request; by default 200."""

    port: int = 0
    got: list[Got] = field(default_factory=list)
    connections: int = 0
    answer: Callable[[Got], tuple[int, dict[str, str], bytes]] = lambda _: (200, {}, b"")
    slow: float = 0.0

    def url(self, path: str = "/", host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}{path}"


@contextmanager
def receiving(tls: ssl.SSLContext | None = None, address: str = "127.0.0.1", **given: Any) -> Iterator[Receiver]:
    receiver = Receiver(**given)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if len(body) < int(self.headers.get("Content-Length", 0)):
                return  # whoever was to send it died
            answering = receiver.answer  # what it is now: whoever sees the message may change it at once
            found = Got(self.path, {k.lower(): v for k, v in self.headers.items()}, body, time.time())
            receiver.got.append(found)
            time.sleep(receiver.slow)
            status, headers, answer = answering(found)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Quietly."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 64

        def verify_request(self, *_: Any) -> bool:
            receiver.connections += 1
            return True

        def handle_error(self, *_: Any) -> None:
            """Whoever hangs up is no error here."""

    server = Server((address, receiver.port), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
