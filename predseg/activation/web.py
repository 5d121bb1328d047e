"""Messages over HTTP: signed webhooks, and identify calls as tracking clients make them."""

from __future__ import annotations

import base64
import binascii
import json
import ssl
from collections.abc import Mapping, Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from predseg.activation.claims import Message
from predseg.activation.posting import Forbidden, Reply, Unreachable, post
from predseg.activation.sending import Alert, Later, Never, OneByOne, World, content, say
from predseg.errors import ChannelError
from predseg.language.channels import Identify, Webhook
from predseg.language.time import SECOND, to_datetime

FOR_GOOD = (400, 410, 413, 415, 422)
"""Answers that say: this will never be accepted."""
LONGEST_WAIT = 24 * 3600 * SECOND
"""What is asked for with Retry-After is done up to this."""


class Hook(OneByOne):
    """Posts signed messages."""

    def __init__(self, channel: Webhook, world: World) -> None:
        self.channel, self.world, self.tls = channel, world, ssl.create_default_context()
        self.keys = [signing_key(secret.reveal(world.environment), secret.name) for secret in channel.secrets]

    def send(self, messages: Sequence[Message]) -> str:
        """Post one message."""
        [message] = messages
        return self._post(message.action_id, f"segment.{message.change}", message.at, content(message))

    def alert(self, alert: Alert) -> str:
        """Post an alert."""
        return self._post(alert.alert_id, f"alert.{alert.kind}", alert.at, {"subject": alert.subject, **alert.data})

    def _post(self, message_id: str, kind: str, at: int, data: Mapping[str, Any]) -> str:
        """Post a body with a signature of each key."""
        from standardwebhooks import Webhook as Signer

        now = to_datetime(self.world.wall() // SECOND * SECOND)
        body = json.dumps({"type": kind, "timestamp": say(at), "data": data}, separators=(",", ":"))
        signatures = [Signer(key).sign(message_id, now, body) for key in self.keys]
        headers = {"webhook-id": message_id, "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": " ".join(signatures)}
        return _exchange(self.channel, self.world, self.tls, body, headers)


def signing_key(secret: str, name: str) -> bytes:
    """Return the key of a Standard Webhooks secret: base64 after ``whsec_``.

    >>> len(signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "RECOVERY_SECRET"))
    24
    """
    text = secret.removeprefix("whsec_")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        help_ = f"make one: export {name}=whsec_$(openssl rand -base64 24), and give the receiver the same"
        raise ChannelError("E801", name, "the secret is not `whsec_` and base64, as Standard Webhooks has them", help_)
    return key


class Profile(OneByOne):
    """Posts the membership as a trait of the customer, as tracking clients of Segment do."""

    def __init__(self, channel: Identify, world: World) -> None:
        self.channel, self.world, self.tls = channel, world, ssl.create_default_context()
        self.key = channel.key.reveal(world.environment)

    def send(self, messages: Sequence[Message]) -> str:
        """Post one identify."""
        [message] = messages
        said = {
            "type": "identify",
            "messageId": message.action_id,
            "userId": message.customer_id,
            "traits": {message.segment: message.change == "entered"},
        }
        body = json.dumps({**said, "timestamp": say(message.at), "sentAt": say(self.world.wall()), "context": {"library": {"name": "predseg"}}})
        return _exchange(self.channel, self.world, self.tls, body, {"Authorization": _basic(self.key)})


def _basic(key: str) -> str:
    return "Basic " + base64.b64encode(f"{key}:".encode()).decode("ascii")


def _exchange(channel: Webhook | Identify, world: World, tls: ssl.SSLContext, body: str, headers: Mapping[str, str]) -> str:
    said = {"Content-Type": "application/json", "User-Agent": "predseg", **headers}
    try:
        reply = post(channel.url, body.encode("ascii"), said, private=channel.private, seconds=world.seconds, resolver=world.resolver, tls=tls)
    except Forbidden as error:
        raise Never(str(error)) from None
    except Unreachable as error:
        raise Later(str(error), busy=True) from None
    return judge(reply, world.wall())


def judge(reply: Reply, now: int) -> str:
    """Return a remark when the answer is yes, else raise what it means."""
    if 200 <= reply.status < 300:
        return ""
    if reply.status in FOR_GOOD:
        raise Never(f"answered {reply.status}")
    if 300 <= reply.status < 400:
        raise Never(f"answered {reply.status}: redirects are not followed")
    raise Later(f"answered {reply.status}", asked_to_wait(reply.retry_after, now), busy=reply.status in (429, 503))


def asked_to_wait(text: str | None, now: int) -> int | None:
    """Return how long a Retry-After asks to wait (microseconds), of which a day at most is kept to; None when it says nothing.

    >>> asked_to_wait("120", 0) == 120 * SECOND, asked_to_wait("Thu, 01 Jan 1970 00:02:00 GMT", 0) == 120 * SECOND, asked_to_wait("soon", 0)
    (True, True, None)
    """
    text = (text or "").strip()
    if text.isascii() and text.isdigit():
        return min(int(text[:9]) * SECOND, LONGEST_WAIT)
    try:
        said = parsedate_to_datetime(text)
        until = int((said if said.tzinfo else said.replace(tzinfo=UTC)).timestamp()) * SECOND  # a date of HTTP is in GMT
    except (ValueError, OverflowError):
        return None
    return min(max(until - now, 0), LONGEST_WAIT)
