"""Mail through a real server on the loopback."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from predseg.activation.channels import open_channel
from predseg.activation.sending import Later, Never, World
from predseg.language.channels import Mail
from predseg.language.secrets import Secret
from predseg.language.time import parse_instant
from predseg.language.urls import parse_url
from tests.activation.test_web import MESSAGE
from tests.patience import PATIENCE

NOW = parse_instant("2026-03-02T12:00")
TRAITS: dict[str, dict[str, Any]] = {"ann": {"email": "ann@example.com", "first_name": "Ann"}}


@dataclass
class Postbox:
    """What the server was given, and what it answers to recipients and mails."""

    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)
    to: list[list[str]] = field(default_factory=list)
    logins: list[tuple[bytes, bytes]] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)
    recipient: str = "250 OK"
    data: str = "250 OK"

    async def handle_RCPT(self, server: SMTP, session: Any, envelope: Any, address: str, options: list[str]) -> str:  # noqa: N802
        if self.recipient.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.recipient

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:  # noqa: N802
        if self.data.startswith("250"):
            found = message_from_bytes(envelope.content, policy=policy.default)
            assert isinstance(found, EmailMessage)
            self.mails.append(found)
            self.to.append(envelope.rcpt_tos)
            self.encrypted.append(session.ssl is not None)
        return self.data

    def log_in(self, server: SMTP, session: Any, envelope: Any, mechanism: str, given: Any) -> AuthResult:
        assert isinstance(given, LoginPassword)
        self.logins.append((given.login, given.password))
        return AuthResult(success=given.password == b"secret", handled=False)


@contextmanager
def server(**given: Any) -> Iterator[Postbox]:
    box = Postbox()
    more: dict[str, Any] = {"auth_require_tls": False, "ready_timeout": PATIENCE, **given}
    for attempt in Retrying(stop=stop_after_attempt(5), retry=retry_if_exception_type(OSError), reraise=True):
        with attempt:  # somebody else may have taken the port since it was found free
            with socket.create_server(("127.0.0.1", 0)) as free:
                box.port = free.getsockname()[1]
            (controller := Controller(box, hostname="127.0.0.1", port=box.port, authenticator=box.log_in, **more)).start()
    try:
        yield box
    finally:
        controller.stop()


@pytest.fixture
def box() -> Iterator[Postbox]:
    with server() as found:
        yield found


def channel(box: Postbox, **given: Any) -> Mail:
    url = parse_url(f"smtp://127.0.0.1:{box.port}", ("smtp",))
    plain = Mail("mail", url, "shop@example.com", "Still here, $first_name?", "Your cart ($segment) waits.\n5 $$ off.", trait="email", private=True)
    return replace(plain, **given)


def world(**given: Any) -> World:
    plain = World({"PASSWORD": "secret", "WRONG": "wrong"}, Path(), lambda: NOW, traits=lambda customer: TRAITS.get(customer, {}), seconds=PATIENCE)
    return replace(plain, **given)


def send(mail: Mail, **given: Any) -> str:
    return open_channel(mail, world(**given)).send([MESSAGE])


def test_a_mail_says_what_the_template_says(box: Postbox) -> None:
    assert send(channel(box)) == ""
    [mail] = box.mails
    assert (mail["From"], mail["To"], mail["Subject"]) == ("shop@example.com", "ann@example.com", "Still here, Ann?")
    assert mail.get_content().splitlines() == ["Your cart (cart) waits.", "5 $ off."]
    assert mail["Message-ID"] == "<act_1@example.com>", "so that a mail that is sent again is known"
    assert mail["Date"] == "Mon, 02 Mar 2026 12:00:00 +0000" and box.to == [["ann@example.com"]]


def test_a_mail_to_a_fixed_address(box: Postbox) -> None:
    send(channel(box, to="ops@example.com", trait=None, subject="$customer_id $change $segment", text="at $at"))
    assert box.to == [["ops@example.com"]] and box.mails[0]["Subject"] == "ann entered cart"
    assert box.mails[0].get_content().strip() == "at 2026-03-02T12:00:00Z"


def test_letters_of_any_alphabet(box: Postbox) -> None:
    traits = {"ann": {"email": "ann@example.com", "first_name": "Änne ☃"}}
    send(channel(box), traits=lambda customer: traits[customer])
    assert box.mails[0]["Subject"] == "Still here, Änne ☃?"


@pytest.mark.parametrize(
    ("traits", "reason"),
    [
        ({}, "the trait email is no mail address"),
        ({"email": None}, "no mail address"),
        ({"email": "ann"}, "no mail address"),
        ({"email": "ann@example.com, eve@example.com"}, "no mail address"),
        ({"email": "ann@example.com\r\nBcc: eve@example.com"}, "no mail address"),
        ({"email": "<ann@example.com>"}, "no mail address"),
        ({"email": "ann@example.com"}, "the trait first_name is not known"),
        ({"email": "ann@example.com", "first_name": "Ann\r\nBcc: eve@example.com"}, "several lines"),
        ({"email": "ann@example.com", "first_name": "Ann\nBcc: eve@example.com"}, "several lines"),
    ],
)
def test_who_cannot_be_written_to_is_dead_at_once(box: Postbox, traits: dict[str, Any], reason: str) -> None:
    with pytest.raises(Never, match=reason) as caught:
        send(channel(box), traits=lambda _: traits)
    assert box.mails == [] and "ann@example" not in str(caught.value), "reasons name nobody"


def test_words_of_the_message_cannot_be_replaced_by_traits(box: Postbox) -> None:
    send(channel(box, subject="$segment"), traits=lambda _: {"email": "ann@example.com", "segment": "forged"})
    assert box.mails[0]["Subject"] == "cart"


@pytest.mark.parametrize(("answer", "kind"), [("550 no such user", Never), ("450 try later", Later), ("552 full", Never)])
@pytest.mark.parametrize("where", ["recipient", "data"])
def test_what_the_server_says(box: Postbox, where: str, answer: str, kind: type[Exception]) -> None:
    setattr(box, where, answer)
    with pytest.raises(kind, match=answer[:3]):
        send(channel(box))
    assert box.mails == []


def test_logging_in(box: Postbox) -> None:
    send(channel(box, user="shop", password=Secret("PASSWORD")))
    assert box.logins == [(b"shop", b"secret")] and len(box.mails) == 1
    with pytest.raises(Later, match="does not let us in: 535") as caught:
        send(channel(box, user="shop", password=Secret("WRONG")))
    assert "wrong" not in str(caught.value) and caught.value.busy


def test_without_encryption_nothing_is_said_to_a_public_server(box: Postbox) -> None:
    url = parse_url(f"smtp://mail.example.com:{box.port}", ("smtp",))
    with pytest.raises(Never, match="127.0.0.1 is a loopback address"):
        send(channel(box, url=url, private=False), resolver=lambda *_: ["127.0.0.1"])
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Later, match="offers no encryption"):
        patch.setattr("predseg.activation.posting.why_refused", lambda *_: None)
        send(channel(box, url=url, private=False, user="shop", password=Secret("PASSWORD")), resolver=lambda *_: ["127.0.0.1"])
    assert box.mails == [] and box.logins == []


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_an_encrypted_server_has_to_prove_who_it_is(scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("mail.example.com").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with server(**({"ssl_context": context} if scheme == "smtps" else {"tls_context": context})) as box:
        url = parse_url(f"{scheme}://mail.example.com:{box.port}", (scheme,))
        here = {"resolver": lambda *_: ["127.0.0.1"]}
        with pytest.raises(Later, match="certificate"):
            send(channel(box, url=url), **here)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        with pytest.raises(Later, match="certificate"):
            send(channel(box, url=replace(url, host="other.example.com")), **here)
        assert box.mails == []
        assert send(channel(box, url=url, user="shop", password=Secret("PASSWORD")), **here) == ""
        assert len(box.mails) == 1 and (scheme == "smtps" or box.encrypted == [True])


def test_a_server_that_is_away_is_tried_again() -> None:
    with server() as box:
        pass
    with pytest.raises(Later, match="does not answer") as caught:
        send(channel(box))
    assert caught.value.busy
