"""Messages as mail, through an SMTP server."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Sequence
from contextlib import closing
from email.message import EmailMessage
from email.utils import format_datetime
from string import Template
from typing import Any

from predseg.activation.claims import Message
from predseg.activation.posting import Forbidden, Unreachable, connect, deadline
from predseg.activation.sending import Alert, Later, Never, OneByOne, World, content
from predseg.language.channels import Mail, is_mailbox
from predseg.language.time import to_datetime

WORDS = ("segment", "customer_id", "change", "at")
"""What templates may name beside traits."""


class Post(OneByOne):
    """Sends mails."""

    def __init__(self, channel: Mail, world: World) -> None:
        self.channel, self.world, self.tls = channel, world, ssl.create_default_context()
        self.password = channel.password.reveal(world.environment) if channel.password else None

    def send(self, messages: Sequence[Message]) -> str:
        """Send one mail."""
        [message] = messages
        return self._deliver(self.written(message))

    def alert(self, alert: Alert) -> str:
        """Send an alert to the address of the channel."""
        if not self.channel.to:
            raise Never("the channel writes to customers; an alert needs one with a fixed address, `to: you@example.com`")
        facts = "\n".join(f"{name}: {value}" for name, value in alert.data.items())
        return self._deliver(self._mail(self.channel.to, alert.subject, f"{alert.subject}\n\n{facts}\n", alert.alert_id))

    def _deliver(self, mail: EmailMessage) -> str:
        try:
            wire = connect(self.channel.url, private=self.channel.private, seconds=self.world.seconds, resolver=self.world.resolver)
        except Forbidden as error:
            raise Never(str(error)) from None
        except Unreachable as error:
            raise Later(str(error), busy=True) from None
        if self.channel.url.secure:
            wire = self.tls.wrap_socket(wire, server_hostname=self.channel.url.host, do_handshake_on_connect=False)
        with closing(wire), deadline(wire, 2 * self.world.seconds):
            try:
                self._talk(_Client(wire, self.channel), mail)
            except smtplib.SMTPRecipientsRefused as error:
                _refused(max(code for code, _ in error.recipients.values()))
            except smtplib.SMTPAuthenticationError as error:
                raise Later(f"the server does not let us in: {error.smtp_code}", busy=True) from None
            except smtplib.SMTPResponseException as error:
                _refused(error.smtp_code)
            except (OSError, smtplib.SMTPException, ValueError) as error:
                raise Later(f"{self.channel.url.authority}: {str(error) or type(error).__name__}", busy=True) from None
        return ""

    def _talk(self, client: smtplib.SMTP, mail: EmailMessage) -> None:
        client.ehlo()
        if not self.channel.url.secure and (client.has_extn("starttls") or not self.channel.private):
            if not client.has_extn("starttls"):
                raise smtplib.SMTPException("the server offers no encryption")
            client.starttls(context=self.tls)
            client.ehlo()
        if self.channel.user and self.password:
            client.login(self.channel.user, self.password)
        client.send_message(mail)

    def written(self, message: Message) -> EmailMessage:
        """Return the mail to a customer."""
        channel = self.channel
        words = {**self.world.traits(message.customer_id), **{k: str(v) for k, v in content(message).items() if k in WORDS}}
        to = channel.to or str(words.get(channel.trait or "") or "")
        if not is_mailbox(to):
            raise Never(f"the trait {channel.trait} is no mail address")
        try:
            subject, text = Template(channel.subject).substitute(words), Template(channel.text).substitute(words)
        except KeyError as error:
            raise Never(f"the trait {error.args[0]} is not known") from None
        return self._mail(to, subject, text, message.action_id)

    def _mail(self, to: str, subject: str, text: str, message_id: str) -> EmailMessage:
        mail = EmailMessage()
        try:
            mail["Subject"] = subject
        except ValueError:
            raise Never("the subject would have several lines") from None
        mail["From"], mail["To"], mail["Date"] = self.channel.sender, to, format_datetime(to_datetime(self.world.wall()))
        mail["Message-ID"] = f"<{message_id}@{self.channel.sender.partition('@')[2]}>"
        mail.set_content(text)
        return mail


class _Client(smtplib.SMTP):
    """Speaks over the connection that it is given."""

    def __init__(self, wire: Any, channel: Mail) -> None:
        self._wire = wire
        super().__init__(local_hostname=channel.sender.partition("@")[2])
        self._host = channel.url.host
        code, said = self.connect(channel.url.host, channel.url.port)
        if code != 220:
            raise smtplib.SMTPConnectError(code, said)

    def _get_socket(self, *_: Any) -> Any:
        return self._wire


def _refused(code: int) -> None:
    raise Never(f"the server said {code}") if 500 <= code < 600 else Later(f"the server said {code}")
