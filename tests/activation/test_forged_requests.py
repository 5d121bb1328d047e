"""Requests that an attacker would like predseg to make for him: none of them may open a connection."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from predseg.activation import posting
from predseg.activation.channels import open_channel
from predseg.activation.posting import Forbidden, Unreachable, connect
from predseg.activation.sending import Later, Never, World
from predseg.errors import ConfigError
from predseg.language.channels import Webhook, parse_channels
from predseg.language.urls import parse_url
from predseg.language.yaml import read_documents
from tests.activation.test_web import ENVIRONMENT, MESSAGE
from tests.patience import PATIENCE, eventually

CANARY = 47_113
"""In place of the port of a server on this machine that counts who comes."""

WRITTEN = """
https://127.0.0.1:PORT/
https://127.0.0.1:PORT
https://127.1:PORT/
https://127.0.1:PORT/
https://127.000.000.001:PORT/
https://0177.0.0.1:PORT/
https://0177.0.0.01:PORT/
https://0x7f.0.0.1:PORT/
https://0x7f.1:PORT/
https://0x7f000001:PORT/
https://2130706433:PORT/
https://017700000001:PORT/
https://0:PORT/
https://0.0.0.0:PORT/
https://127.127.127.127:PORT/
https://127.0.0.1.:PORT/
https://[::1]:PORT/
https://[::]:PORT/
https://[0:0:0:0:0:0:0:1]:PORT/
https://[0000::1]:PORT/
https://[::ffff:127.0.0.1]:PORT/
https://[::ffff:7f00:1]:PORT/
https://[0:0:0:0:0:ffff:127.0.0.1]:PORT/
https://[::127.0.0.1]:PORT/
https://[64:ff9b::127.0.0.1]:PORT/
https://[64:ff9b:1::7f00:1]:PORT/
https://[2002:7f00:1::]:PORT/
https://[::1%25lo]:PORT/
https://[::1%lo]:PORT/
https://[fe80::1]:PORT/
https://[fd00:ec2::254]:PORT/
https://[ff02::1]:PORT/
https://169.254.169.254/latest/meta-data/
https://[::ffff:169.254.169.254]/latest/meta-data/
https://[::ffff:a9fe:a9fe]/latest/meta-data/
https://2852039166/latest/meta-data/
https://0xa9fea9fe/latest/meta-data/
https://0251.0376.0251.0376/latest/meta-data/
https://168.63.129.16/
https://100.100.100.200/latest/meta-data/
https://10.0.0.1:PORT/
https://172.16.0.1:PORT/
https://192.168.0.1:PORT/
https://100.64.0.1:PORT/
https://198.18.0.1:PORT/
https://224.0.0.1:PORT/
https://255.255.255.255:PORT/
http://127.0.0.1:PORT/
http://example.com:PORT/
HTTPS://127.0.0.1:PORT/
https://example.com@127.0.0.1:PORT/
https://example.com:443@127.0.0.1:PORT/
https://127.0.0.1:PORT@example.com/
https://example.com%00@127.0.0.1:PORT/
https://example.com#@127.0.0.1:PORT/
https://example.com\\@127.0.0.1:PORT/
https://127.0.0.1:PORT\\.example.com/
https://127.0.0.1:PORT#.example.com/
https://127.0.0.1%2f.example.com:PORT/
https:127.0.0.1:PORT/
https:/127.0.0.1:PORT/
https:\\\\127.0.0.1:PORT/
//127.0.0.1:PORT/
gopher://127.0.0.1:PORT/_x
file:///etc/passwd
dict://127.0.0.1:PORT/x
ftp://127.0.0.1:PORT/
jar:https://127.0.0.1:PORT/!/
https://１２７.0.0.1:PORT/
https://①②⑦.0.0.1:PORT/
https://127。0。0。1:PORT/
https://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ:PORT/
https://loc\tal.host:PORT/
https://localhost:PORT/%0d%0aHost:%20x /
""".strip().splitlines()
"""Refused when the project file is read, by what is written alone."""

NAMES: dict[str, list[str]] = {
    "localhost": ["127.0.0.1"],
    "localhost6": ["::1"],
    "localhost.localdomain": ["127.0.0.1", "::1"],
    "spoofed.example.com": ["127.0.0.1"],
    "127.0.0.1.nip.example": ["127.0.0.1"],
    "zero.example.com": ["0.0.0.0"],
    "unspecified.example.com": ["::"],
    "mapped.example.com": ["::ffff:127.0.0.1"],
    "compatible.example.com": ["::7f00:1"],
    "nat64.example.com": ["64:ff9b::7f00:1"],
    "sixtofour.example.com": ["2002:7f00:1::"],
    "teredo.example.com": ["2001:0:7f00:1::1"],
    "metadata.google.internal": ["169.254.169.254"],
    "metadata6.example.com": ["fd00:ec2::254"],
    "wireserver.example.com": ["168.63.129.16"],
    "ten.example.com": ["10.1.2.3"],
    "carrier.example.com": ["100.64.0.1"],
    "ula.example.com": ["fc00::1"],
    "linklocal.example.com": ["fe80::1%lo"],
    "site.example.com": ["fec0::1"],
    "multicast.example.com": ["224.0.0.1"],
    "broadcast.example.com": ["255.255.255.255"],
    "both.example.com": ["93.184.215.14", "127.0.0.1"],
    "first.example.com": ["127.0.0.1", "93.184.215.14"],
    "six.example.com": ["93.184.215.14", "::1"],
    "scoped.example.com": ["::1%1"],
}
"""Names that look harmless, and where an attacker's name server says they are."""


class Wire:
    """Sockets that write down where they were to connect to, and do not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached: list[str] = []
        monkeypatch.setattr(posting.socket, "create_connection", self.connect)

    def connect(self, address: tuple[str, int], timeout: float) -> socket.socket:
        self.reached.append(address[0])
        raise ConnectionRefusedError(111, "Connection refused")


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    return Wire(monkeypatch)


def test_the_corpus_is_large_enough() -> None:
    assert len(set(WRITTEN)) + len(NAMES) >= 90


@pytest.mark.parametrize("url", WRITTEN, ids=lambda u: u.encode("unicode_escape").decode())
def test_no_spelling_of_an_address_is_reached(url: str, wire: Wire) -> None:
    url = url.replace("PORT", str(CANARY))
    quoted = '"' + "".join(c if c.isprintable() and c not in '"\\' else f"\\u{ord(c):04x}" for c in url) + '"'
    [node] = read_documents(f"hook: {{webhook: {quoted}, secret: env:HOOK}}")
    with pytest.raises(ConfigError) as caught:
        parse_channels(node)
    assert caught.value.code == "E351" and wire.reached == []


@pytest.mark.parametrize("name", NAMES)
def test_no_name_leads_there(name: str, wire: Wire) -> None:
    found = world(NAMES[name])
    with pytest.raises(Never, match="address"):
        open_channel(hook(name), found).send([MESSAGE])
    assert wire.reached == []


def test_a_public_name_is_connected_to_where_it_was_looked_at(wire: Wire) -> None:
    """The check can pass: else nothing above says anything."""
    with pytest.raises(Later, match="does not answer"):
        open_channel(hook("hooks.example.com"), world(["93.184.215.14", "2606:2800:21f:cb07::1", "8.8.8.8"])).send([MESSAGE])
    assert wire.reached == ["93.184.215.14", "2606:2800:21f:cb07::1"]


def test_a_name_is_asked_for_once(wire: Wire) -> None:
    """A name server that answers another time with another address is not asked another time."""
    answers = iter([["93.184.215.14"], ["127.0.0.1"], ["127.0.0.1"]])
    asked: list[str] = []

    def rebinding(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return next(answers)

    with pytest.raises(Later):
        open_channel(hook("rebind.example.com"), replace(world([]), resolver=rebinding)).send([MESSAGE])
    assert asked == ["rebind.example.com"] and wire.reached == ["93.184.215.14"]


def test_every_message_is_looked_at_anew(wire: Wire) -> None:
    answers = iter([["93.184.215.14"], ["127.0.0.1"]])
    transport = open_channel(hook("rebind.example.com"), replace(world([]), resolver=lambda *_: next(answers)))
    with pytest.raises(Later):
        transport.send([MESSAGE])
    with pytest.raises(Never):
        transport.send([MESSAGE])
    assert wire.reached == ["93.184.215.14"]


def test_private_means_ones_own_network_and_not_everything(wire: Wire) -> None:
    url = parse_url("https://inside.example.com/", ("https",))
    for address in ("127.0.0.1", "10.1.2.3", "fc00::1"):
        with pytest.raises(Unreachable):
            connect(url, private=True, resolver=lambda *_, a=address: [a])
    assert wire.reached == ["127.0.0.1", "10.1.2.3", "fc00::1"]
    for address in ("169.254.169.254", "0.0.0.0", "224.0.0.1", "fe80::1", "100.64.0.1", "fd00:ec2::254"):
        with pytest.raises(Forbidden):
            connect(url, private=True, resolver=lambda *_, a=address: [a])
    assert len(wire.reached) == 3


def test_a_name_without_an_address_fails(wire: Wire) -> None:
    with pytest.raises(Later, match="does not answer"):
        open_channel(hook("empty.example.com"), world([])).send([MESSAGE])
    with pytest.raises(Later, match="has no address"):
        open_channel(hook("x" * 63 + ".example.com"), replace(world([]), resolver=posting.resolve)).send([MESSAGE])
    assert wire.reached == []


@contextmanager
def canary() -> Iterator[tuple[int, list[int]]]:
    """A server on the loopback, by both protocols, that counts who comes."""
    came, servers = [0], []
    first = socket.create_server(("127.0.0.1", 0))
    servers.append(first)
    port = first.getsockname()[1]
    if socket.has_ipv6:
        with suppress(OSError):
            servers.append(socket.create_server(("::1", port), family=socket.AF_INET6))

    def count(server: socket.socket) -> None:
        while True:
            try:
                server.accept()[0].close()
            except OSError:
                return
            came[0] += 1

    threads = [threading.Thread(target=count, args=(server,), daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield port, came
    finally:
        for server in servers:
            server.shutdown(socket.SHUT_RDWR)
            server.close()
        for thread in threads:
            thread.join(PATIENCE)


def test_a_real_server_on_this_machine_counts_nobody() -> None:
    """The same without any replaced part, with the machine's own names."""
    with canary() as (port, came):
        tried = 0
        for text in [u.replace("PORT", str(port)) for u in WRITTEN] + [f"https://localhost:{port}/", f"https://{socket.gethostname()}:{port}/"]:
            try:
                url = parse_url(text, ("https",))
                connect(url, private=False, seconds=0.5).close()
            except (ValueError, Forbidden, Unreachable):
                tried += 1
        assert tried == len(WRITTEN) + 2 and came == [0]
        connect(parse_url(f"https://localhost:{port}/", ("https",)), private=True).close()
        eventually(lambda: came[0] >= 1)  # and can be reached when it is allowed


def hook(host: str) -> Webhook:
    [node] = read_documents(f"hook: {{webhook: 'https://{host}:{CANARY}/in', secret: env:HOOK}}")
    found = parse_channels(node)["hook"]
    assert isinstance(found, Webhook)
    return found


def world(addresses: Sequence[str]) -> World:
    return World(ENVIRONMENT, Path(), lambda: 0, resolver=lambda *_: addresses, seconds=PATIENCE)
