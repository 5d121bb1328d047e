"""One run of the server, from the first look at its address to the last commit."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from functools import partial

from predseg.language.serving import Serving
from predseg.live import broker
from predseg.live.alarms import Alarm
from predseg.live.deployment import Deployment
from predseg.live.desk import OUTCOMES
from predseg.live.keys import NAMES, keys_of
from predseg.live.server import Mount, Task, listen, server

BACKLOG = 2_048
SWITCH = 0.0005
"""Seconds after which one thread gives way to the other: with Python's 5 ms every commit would wait for it twice."""


def run(
    deployment: Deployment,
    serving: Serving,
    environment: Mapping[str, str],
    ready: Callable[[str, dict[str, str]], None],
    told: Callable[[Alarm], None],
    mount: Mount | None = None,
) -> dict[str, int]:
    """Serve until stopped and return what became of the messages that came.

    Raises:
        PredsegError: when the address, the keys, the broker's packages or the live state cannot be had.
    """
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # what clients do wrong is counted, not logged
    if serving.stream is not None:
        broker.check(serving.stream)
    listening = listen(serving.host, serving.port)
    try:
        keys = keys_of(deployment.config.store, serving, environment)
        desk = deployment.desk(serving, keys, told=told)
        tasks: list[Task] = [partial(deployment.follow_runs, desk.served)]
        if serving.stream is not None:
            password = serving.stream.password.reveal(environment) if serving.stream.password is not None else None
            tasks.append(partial(broker.follow, desk, serving.stream, password))
        sys.setswitchinterval(SWITCH)
        listening.listen(BACKLOG)
        host, port = listening.getsockname()[:2]
        shown = dict(zip(NAMES, (keys.write, keys.read), strict=True))
        ready(f"http://{f'[{host}]' if ':' in host else host}:{port}", {name: shown[name] for name in keys.made})
        server(desk, tasks, mount).run(sockets=[listening])
    finally:
        listening.close()
    return {"received": desk.counts.received, **{name: desk.counts.outcomes[name] for name in OUTCOMES.values()}}
