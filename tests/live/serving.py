"""A real server on a free port of the loopback, over the loop without rules."""

from __future__ import annotations

import base64
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from predseg.language.floor import Floor
from predseg.language.serving import Alerts, Serving
from predseg.live.desk import Desk
from predseg.live.keys import Keys
from predseg.live.served import Served
from predseg.live.server import Mount, Server, listen, server
from predseg.live.service import Limits, Writer
from predseg.segments.definitions import Segment
from tests.live.fakes import INSIDE, Core, Store
from tests.patience import PATIENCE, eventually

WRITE, READ = "write-key-of-the-tests", "read-key-of-the-tests"


def clock() -> int:
    return time.time_ns() // 1000


def made(store: Store, limits: Limits | None = None, segment: Segment = INSIDE, **more: Any) -> Desk:
    """A desk over a store, started."""
    served = Served({"inside": segment}, Floor(1))
    now = more.pop("clock", clock)
    box: list[Desk] = []
    writer = Writer(lambda: Core(store), now, lambda core: box[0].committed(core), limits or Limits())
    served.down = lambda: writer.state.down
    box.append(Desk(writer, served, Keys(WRITE, READ), Serving(alerts=more.pop("alerts", Alerts())), now, **more))
    writer.start()
    return box[0]


@dataclass
class Running:
    port: int
    desk: Desk
    server: Server
    store: Store
    answers: list[int] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path: str, body: Any = None, key: str | None = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
        """GET, or POST of a body (bytes as they are, anything else as JSON); returns status, JSON or text, headers."""
        data = body if isinstance(body, bytes | type(None)) else json.dumps(body).encode()
        key = key if key is not None else READ if body is None else WRITE
        found = {"Authorization": "Basic " + base64.b64encode(f"{key}:".encode()).decode()} if key else {}
        request = urllib.request.Request(self.url + path, data, {**found, **{k.replace("_", "-"): v for k, v in headers.items()}})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                status, text, got = answer.status, answer.read(), dict(answer.headers)
        except urllib.error.HTTPError as error:
            status, text, got = error.code, error.read(), dict(error.headers)
        self.answers.append(status)
        return status, json.loads(text) if "json" in got.get("content-type", "") else text.decode(), got


@contextmanager
def running(store: Store | None = None, *, mount: Mount | None = None, desk: Desk | None = None, **more: Any) -> Iterator[Running]:
    store = Store() if store is None else store
    desk = desk or made(store, **more)
    listening = listen("127.0.0.1", 0)
    http = server(desk, mount=mount)
    thread = threading.Thread(target=http.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        eventually(lambda: http.started)
        yield Running(listening.getsockname()[1], desk, http, store)
    finally:
        http.should_exit = True
        thread.join(PATIENCE)
        listening.close()
        assert not thread.is_alive()
