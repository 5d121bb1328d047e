"""From declared channels to channels at work; files, and nowhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from predseg.activation.claims import Message
from predseg.activation.mail import Post
from predseg.activation.sending import Alert, Later, OneByOne, Transport, World, content, say
from predseg.activation.web import Hook, Profile
from predseg.errors import DataError
from predseg.language.channels import Channel, Dry, Folder, Identify, Mail, Webhook
from predseg.language.time import to_datetime


def open_channel(channel: Channel, world: World) -> Transport:
    """Return a channel at work.

    Raises:
        ConfigError: E381 when a secret is not set.
        ChannelError: E801 when it is not one to sign with.
    """
    makers: dict[type, Callable[[Any, World], Transport]] = {Webhook: Hook, Identify: Profile, Mail: Post, Folder: Files, Dry: lambda *_: Nowhere()}
    return makers[type(channel)](channel, world)


class Files:
    """Writes a file for each batch, whole or not at all; what is left of an interrupted one is removed, and its messages are in another."""

    room, files = 500, True

    def __init__(self, channel: Folder, world: World) -> None:
        self.channel, self.world = channel, world
        self.folder = world.root / os.path.expanduser(channel.folder)  # noqa: PTH111 (a home that nobody has is a name like any other)

    def send(self, messages: Sequence[Message]) -> str:
        """Write the file of a batch."""
        import pyarrow as pa

        from predseg.store import disk_errors, write_file

        columns = [{"action_id": message.action_id, **content(message)} for message in messages]
        schema = pa.schema([(name, pa.int64() if name == "n" else pa.string()) for name in columns[0]])
        path = self._path(str(messages[0].batch))
        try:
            with disk_errors(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
            self.world.writing(path)
            write_file(path, pa.Table.from_pylist(columns, schema))
        except DataError as error:
            raise Later(error.message, busy=True) from None
        return path.name

    def discard(self, batch: str) -> None:
        """Remove a file that was perhaps written, or half of it."""
        path = self._path(batch)
        for left in (path, *self.folder.glob(f".{path.name}.*.part")):
            left.unlink(missing_ok=True)

    def alert(self, alert: Alert) -> str:
        """Write a file of one line."""
        import pyarrow as pa

        from predseg.store import disk_errors, write_file

        row = {"alert_id": alert.alert_id, "at": say(alert.at), "kind": alert.kind, "subject": alert.subject, **alert.data}
        path = self._path(f"alert-{to_datetime(alert.at):%Y%m%dT%H%M%SZ}-{alert.alert_id[-8:]}")
        try:
            with disk_errors(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
            write_file(path, pa.Table.from_pylist([row]))
        except DataError as error:
            raise Later(error.message, busy=True) from None
        return path.name

    def _path(self, batch: str) -> Path:
        return self.folder / f"{batch}.{self.channel.format}"


class Nowhere(OneByOne):
    """Sends nothing."""

    room = 500

    def send(self, messages: Sequence[Message]) -> str:
        """Say that it was dry."""
        return "dry"

    def alert(self, alert: Alert) -> str:
        """Say that it was dry."""
        return "dry"
