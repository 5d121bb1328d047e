"""Requests that somebody would like predseg to make for him: to its own machine, its network, the keys of its cloud."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

from benchmarks.trust.figures import Figure, Tally
from predseg.activation import posting
from predseg.activation.channels import open_channel
from predseg.activation.sending import Later, Never
from predseg.errors import ConfigError
from predseg.language.channels import parse_channels
from predseg.language.urls import parse_url
from predseg.language.yaml import read_documents
from tests.activation.receiver import receiving
from tests.activation.test_forged_requests import NAMES, WRITTEN, canary, hook, world
from tests.activation.test_web import MESSAGE
from tests.activation.test_web import hook as hook_to

TRIED = "addresses spelled in every way, names that lead inside, names that change, redirects"
PROMISED = "0 of them reached"
FULL = SMALL = 1
"""The corpus is what it is: every case of it is tried."""
PUBLIC = "93.184.215.14"
REDIRECTS = (301, 302, 303, 307, 308)


def measure(_: int, folder: Path, seed: int) -> Figure:
    tally, r = Tally(), random.Random(seed)
    with canary() as (port, came), mock.patch.object(posting.socket, "create_connection", counting(tally)):
        for text in sorted(set(WRITTEN), key=lambda _: r.random()):
            written(tally, text.replace("PORT", str(port)))
        for text in ("localhost", socket.gethostname()):
            straight(tally, f"https://{text}:{port}/")
        for name, addresses in NAMES.items():
            attempt(tally, name, lambda n=name, a=addresses: open_channel(hook(n), world(a)).send([MESSAGE]))
        rebound(tally)
        redirected(tally, f"http://127.0.0.1:{port}/")
    tally.demand(came == [0], f"{came[0]} connections arrived at the canary")
    tally.demand(reachable(), "a public address cannot be written to either: nothing was tried")
    return tally.figure(f"{tally.counts['reached']} reached, {tally.counts['refused']} refused")


def counting(tally: Tally) -> Callable[..., socket.socket]:
    """Connections are counted, but for those to a receiver that is allowed; those to this machine are really made."""
    real = socket.create_connection

    def connect(address: tuple[str, int], timeout: float) -> socket.socket:
        tally.counts["reached"] += address[0] != PUBLIC and address[1] not in tally.counts
        if address[0] not in ("127.0.0.1", "::1"):
            raise ConnectionRefusedError(111, "Connection refused")
        return real(address, timeout)

    return connect


def written(tally: Tally, url: str) -> None:
    """As it stands in a project file, and, should it be accepted there, as it is sent to."""
    quoted = '"' + "".join(c if c.isprintable() and c not in '"\\' else f"\\u{ord(c):04x}" for c in url) + '"'

    def send() -> None:
        [node] = read_documents(f"hook: {{webhook: {quoted}, secret: env:HOOK}}")
        open_channel(parse_channels(node)["hook"], replace(world([]), resolver=posting.resolve)).send([MESSAGE])

    attempt(tally, url, send)
    straight(tally, url)


def straight(tally: Tally, url: str) -> None:
    """Past the project file: the connection itself refuses as well."""
    attempt(tally, f"{url} (straight)", lambda: posting.connect(parse_url(url, ("https",)), private=False, seconds=0.5).close())


def attempt(tally: Tally, what: str, send: Callable[[], object]) -> None:
    tally.cases += 1
    before = tally.counts["reached"]
    try:
        send()
        tally.fault(f"{what}: sent")
    except (ConfigError, Never, Later, ValueError, posting.Forbidden, posting.Unreachable):
        tally.counts["refused"] += 1
    tally.demand(tally.counts["reached"] == before, f"{what}: it was connected to")


def rebound(tally: Tally) -> None:
    """A name server that says a public address first and the own machine ever after."""
    for inside in sorted({address for addresses in NAMES.values() for address in addresses}):
        answers = iter([[PUBLIC], [inside], [inside]])
        transport = open_channel(hook("rebind.example.com"), replace(world([]), resolver=lambda *_, a=answers: next(a)))
        for _ in range(2 if inside != PUBLIC else 1):
            attempt(tally, f"rebind to {inside}", lambda t=transport: t.send([MESSAGE]))


def redirected(tally: Tally, target: str) -> None:
    """A receiver that is allowed answers: go there."""
    for status in REDIRECTS:
        with receiving(answer=lambda _, s=status: (s, {"Location": target, "Refresh": f"0; url={target}"}, b"")) as receiver:
            tally.counts[receiver.port] += 1  # type: ignore[index]
            attempt(tally, f"redirect {status}", lambda r=receiver: open_channel(hook_to(r.url()), world(["127.0.0.1"])).send([MESSAGE]))
            tally.demand(len(receiver.got) == 1, f"redirect {status}: the receiver got {len(receiver.got)} requests")


def reachable() -> bool:
    tried: list[str] = []

    def note(address: tuple[str, int], timeout: float) -> socket.socket:
        tried.append(address[0])
        raise ConnectionRefusedError(111, "Connection refused")

    with mock.patch.object(posting.socket, "create_connection", note):
        try:
            open_channel(hook("hooks.example.com"), world([PUBLIC])).send([MESSAGE])
        except Later:
            return tried == [PUBLIC]
    return False
