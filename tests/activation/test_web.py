"""Webhooks and identify calls: what is sent, to whom, and what is made of the answers."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import trustme
from standardwebhooks import Webhook as Verifier

from predseg.activation.channels import open_channel
from predseg.activation.claims import Message
from predseg.activation.posting import MOST_BYTES, Reply
from predseg.activation.sending import Later, Never, World
from predseg.activation.web import LONGEST_WAIT, asked_to_wait, judge, signing_key
from predseg.errors import ChannelError, ConfigError
from predseg.language.channels import Channel, Identify, Webhook
from predseg.language.secrets import Secret
from predseg.language.time import SECOND, parse_instant
from predseg.language.urls import parse_url
from tests.activation.receiver import Receiver, receiving
from tests.patience import PATIENCE

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
ENVIRONMENT = {"HOOK": SECRET, "OLD": OTHER, "BARE": SECRET.removeprefix("whsec_"), "KEY": "write-key"}
MESSAGE = Message("act_1", "cart", "4f2a", "ann", 1, "entered", 0, parse_instant("2026-03-02T12:00"), "hook", None, 1, None)


def world(**given: object) -> World:
    return replace(World(ENVIRONMENT, Path(), lambda: time.time_ns() // 1000, seconds=PATIENCE), **given)  # type: ignore[arg-type]


def hook(url: str, *secrets: str, private: bool = True) -> Webhook:
    return Webhook("hook", parse_url(url, ("https", "http")), tuple(Secret(s) for s in secrets or ("HOOK",)), private)


def send(channel: Channel, **given: object) -> str:
    return open_channel(channel, world(**given)).send([MESSAGE])


# signatures


@pytest.mark.parametrize(
    ("secret", "id_", "at", "body", "signature"),
    [
        (SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, '{"test": 2432232314}', "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        (OTHER, "msg_loFOjxBNrRLzqYUf", 1731705121, '{"event_type":"ping","data":{"success":true}}', None),
    ],
)
def test_signatures_are_those_of_standard_webhooks(secret: str, id_: str, at: int, body: str, signature: str | None) -> None:
    """The first is the vector that the reference implementations share; each is also computed here by hand."""
    import base64
    import hashlib
    import hmac
    from datetime import UTC, datetime

    ours = Verifier(signing_key(secret, "X")).sign(id_, datetime.fromtimestamp(at, UTC), body)
    by_hand = hmac.digest(b64decode(secret.removeprefix("whsec_")), f"{id_}.{at}.{body}".encode(), hashlib.sha256)
    assert ours == f"v1,{base64.b64encode(by_hand).decode()}" == (signature or ours)


def test_a_webhook_is_verified_by_the_receivers_library() -> None:
    with receiving() as receiver:
        assert send(hook(receiver.url("/in?a=1"))) == ""
    [got] = receiver.got
    assert got.path == "/in?a=1" and got.headers["content-type"] == "application/json" and got.headers["host"] == f"127.0.0.1:{receiver.port}"
    said = Verifier(SECRET).verify(got.body, dict(got.headers))
    assert got.headers["webhook-id"] == "act_1"
    assert said == {
        "type": "segment.entered",
        "timestamp": "2026-03-02T12:00:00Z",
        "data": {
            "segment": "cart",
            "customer_id": "ann",
            "change": "entered",
            "at": "2026-03-02T12:00:00Z",
            "definition": "4f2a",
            "n": 1,
            "variant": None,
        },
    }
    with pytest.raises(Exception, match="No matching signature"):
        Verifier(OTHER).verify(got.body, dict(got.headers))
    with pytest.raises(Exception, match="No matching signature"):
        Verifier(SECRET).verify(got.body.replace(b"ann", b"bob"), dict(got.headers))


def test_while_a_secret_is_changed_both_sign() -> None:
    with receiving() as receiver:
        send(hook(receiver.url(), "HOOK", "OLD"))
    [got] = receiver.got
    assert Verifier(SECRET).verify(got.body, dict(got.headers)) and Verifier(OTHER).verify(got.body, dict(got.headers))


def test_ids_of_any_shape_are_sent_as_they_are() -> None:
    for customer in ("ann@example.com", 'a"b\\c', "naïve ☃", "a\nb", "\x00", "x" * 5_000, "\ud800"):
        with receiving() as receiver:
            open_channel(hook(receiver.url()), world()).send([replace(MESSAGE, customer_id=customer)])
        assert json.loads(receiver.got[0].body)["data"]["customer_id"] == customer


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!!", "not base64 at all", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw "])
def test_a_secret_that_is_none_is_refused_without_showing_it(secret: str) -> None:
    with pytest.raises((ChannelError, ConfigError)) as caught:
        open_channel(hook("https://example.com/"), world(environment={"HOOK": secret}))
    assert caught.value.code == ("E801" if secret else "E381") and "HOOK" in str(caught.value)
    assert len(secret) < 7 or secret not in str(caught.value)


def test_a_secret_may_stand_without_its_prefix() -> None:
    assert signing_key(ENVIRONMENT["BARE"], "BARE") == signing_key(SECRET, "HOOK")


# identify


def test_identify_is_what_tracking_clients_send() -> None:
    with receiving() as receiver:
        channel = Identify("profiles", parse_url(receiver.url("/v1/identify"), ("http",)), Secret("KEY"), private=True)
        send(channel)
        open_channel(channel, world()).send([replace(MESSAGE, change="left")])
    first, second = (json.loads(got.body) for got in receiver.got)
    assert {k: first[k] for k in ("type", "userId", "messageId", "traits", "timestamp")} == {
        "type": "identify",
        "userId": "ann",
        "messageId": "act_1",
        "traits": {"cart": True},
        "timestamp": "2026-03-02T12:00:00Z",
    }
    assert second["traits"] == {"cart": False} and abs(parse_instant(first["sentAt"]) / SECOND - time.time()) < 60
    assert b64decode(receiver.got[0].headers["authorization"].removeprefix("Basic ")) == b"write-key:"


# answers


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_yes(status: int) -> None:
    assert judge(Reply(status, None, b""), 0) == ""


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308, 304, 400, 410, 413, 415, 422])
def test_never(status: int) -> None:
    with pytest.raises(Never, match=str(status)):
        judge(Reply(status, None, b""), 0)


@pytest.mark.parametrize("status", [401, 403, 404, 408, 409, 425, 429, 500, 502, 503, 504, 599, 999])
def test_later(status: int) -> None:
    with pytest.raises(Later, match=str(status)) as caught:
        judge(Reply(status, "7", b""), 0)
    assert caught.value.wait == 7 * SECOND and caught.value.busy == (status in (429, 503))


NOON = parse_instant("2026-03-02T12:00")


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The clock on the wall is not UTC."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Kathmandu")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("text", "wait"),
    [
        (None, None),
        ("", None),
        ("0", 0),
        (" 120 ", 120 * SECOND),
        ("999999999999", LONGEST_WAIT),
        ("-5", None),
        ("1.5", None),
        ("١٢", None),
        ("soon", None),
        ("Mon, 02 Mar 2026 12:05:00 GMT", 300 * SECOND),
        ("Monday, 02-Mar-26 12:05:00 GMT", 300 * SECOND),
        ("Mon Mar  2 12:05:00 2026", 300 * SECOND),
        ("Mon, 02 Mar 2026 14:05:00 +0200", 300 * SECOND),
        ("Mon, 02 Mar 2026 11:00:00 GMT", 0),
        ("Mon, 02 Mar 2099 11:00:00 GMT", LONGEST_WAIT),
        ("Mon, 99 Mar 2026 11:00:00 GMT", None),
        ("Mon, 02 Mar 0001 00:00:00 +2359", None),
    ],
)
def test_retry_after(text: str | None, wait: int | None, elsewhere: None) -> None:
    found = asked_to_wait(text, NOON)
    assert found == wait or (found == 0 and wait is None and text is not None and "0001" in text)


def test_redirects_are_not_followed() -> None:
    with receiving() as target, receiving(answer=lambda _: (302, {"Location": target.url("/secret")}, b"")) as receiver:
        with pytest.raises(Never, match="redirects are not followed"):
            send(hook(receiver.url()))
        assert len(receiver.got) == 1 and target.got == []


def test_proxies_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as proxy, receiving() as receiver:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy.url())
        send(hook(receiver.url()))
        assert len(receiver.got) == 1 and proxy.connections == 0


# bounds


@contextmanager
def talking(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that says what it likes."""
    server = socket.create_server(("127.0.0.1", 0))
    open_ = True

    def serve() -> None:
        while open_:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.recv(65536)
                talk(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        open_ = False
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(PATIENCE)


def drip(connection: socket.socket, text: bytes) -> None:
    for _ in range(3_000):  # a minute, or until the client hangs up
        connection.sendall(text)
        time.sleep(0.02)


def silent(connection: socket.socket) -> None:
    """Say nothing for a minute, or until the client hangs up."""
    connection.settimeout(60)
    while connection.recv(65_536):
        pass


SLOW: dict[str, Callable[[socket.socket], None]] = {
    "says nothing": silent,
    "slow status": lambda c: drip(c, b"H"),
    "slow headers": lambda c: (c.sendall(b"HTTP/1.1 200 OK\r\n"), drip(c, b"A: b\r\n"))[1],
    "slow body": lambda c: (c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"), drip(c, b"x"))[1],
    "slow continue": lambda c: drip(c, b"HTTP/1.1 100 Continue\r\n\r\n"),
}


@pytest.mark.parametrize("way", SLOW)
def test_a_slow_answer_is_given_up(way: str) -> None:
    with talking(SLOW[way]) as port:
        started = time.monotonic()
        with pytest.raises(Later, match=r"within 0\.4 seconds|hung up|closed"):
            send(hook(f"http://127.0.0.1:{port}/"), seconds=0.4)
        assert time.monotonic() - started < 30


def test_a_huge_answer_is_not_read() -> None:
    sent = [0]

    def huge(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        for _ in range(4_000):
            sent[0] += connection.send(b"x" * 65_536)

    with talking(huge) as port:
        assert send(hook(f"http://127.0.0.1:{port}/")) == ""
    assert sent[0] < 40_000_000 and MOST_BYTES < 100_000


GARBAGE = [
    b"",
    b"\r\n\r\n",
    b"SSH-2.0-OpenSSH_9\r\n",
    b"HTTP/1.1 abc\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 5_000,
    b"HTTP/1.1 200 OK\r\nA: " + b"x" * 99_999,
]
GARBAGE += [b"\x00" * 70_000, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"HTTP/1.1 -1 OK\r\n\r\n"]


@pytest.mark.parametrize("answer", GARBAGE, ids=lambda a: repr(a[:30]))
def test_garbage_is_a_failed_attempt(answer: bytes) -> None:
    with talking(lambda c: c.sendall(answer)) as port, pytest.raises(Later):
        send(hook(f"http://127.0.0.1:{port}/"))


def test_a_dead_host_is_a_failed_attempt_of_the_whole_channel() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(Later, match="does not answer: Connection refused") as caught:
        send(hook(f"http://127.0.0.1:{port}/"))
    assert caught.value.busy

    def unknown(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror(-2, "Name or service not known")

    with pytest.raises(Later, match="nowhere.example has no address: Name or service not known"):
        send(hook("https://nowhere.example/"), resolver=unknown)


# encryption


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@contextmanager
def encrypted(authority: trustme.CA, *names: str) -> Iterator[Receiver]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names).configure_cert(context)
    with receiving(tls=context) as receiver:
        yield receiver


def test_the_host_has_to_prove_who_it_is(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificate is asked for the name, the connection goes to the address that was looked at."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with encrypted(authority, "hooks.example.com") as receiver:
        here = {"resolver": lambda *_: ["127.0.0.1"]}
        with pytest.raises(Later, match="cannot prove who it is"):
            send(hook(receiver.url("/in", "hooks.example.com", "https")), **here)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        with pytest.raises(Later, match="cannot prove who it is"):
            send(hook(receiver.url("/in", "other.example.com", "https")), **here)
        assert receiver.got == []
        assert send(hook(receiver.url("/in", "hooks.example.com", "https")), **here) == ""
        [got] = receiver.got
        assert got.path == "/in" and got.headers["host"] == f"hooks.example.com:{receiver.port}"


@pytest.mark.parametrize("mute", [True, False])
def test_a_slow_encrypted_answer_is_given_up(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mute: bool) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with encrypted(authority, "localhost") as receiver, talking(silent) as deaf:
        receiver.slow = 60.0
        port, started = deaf if mute else receiver.port, time.monotonic()
        with pytest.raises(Later, match=r"no answer within 0\.3 seconds"):
            send(hook(f"https://localhost:{port}/"), seconds=0.3, resolver=lambda *_: ["127.0.0.1"])
        assert time.monotonic() - started < 30
