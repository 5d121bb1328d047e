"""A process that decides and sends, and is killed: by itself at a step that is named, or from outside at any moment.

Run as a program it waits for lines ``FILE PORT KILL``, works on each in a child of its own and says how the child ended. The
child enqueues changes batch by batch, each with its progress in one transaction, as a live loop does, and delivers in between.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from predseg.activation import outbox
from predseg.activation.channels import open_channel
from predseg.activation.claims import Gate, Message, transaction
from predseg.activation.sender import DAILY, Sender, sole_sender
from predseg.activation.sending import World
from predseg.evaluate.program import Change
from predseg.language.channels import Folder, Webhook
from predseg.language.secrets import Secret
from predseg.language.time import HOUR
from predseg.language.urls import Url
from predseg.language.yaml import read_documents
from predseg.segments.definitions import Vocabulary, arrange

RULES = "segment: cart\nmatch: {did: Add}\non_enter: [{send: hook}, {send: crm}]\n"
CUSTOMERS, BATCH = 6, 2
SECRET = {"HOOK": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}


class Steps:
    """Counts steps and dies at one of them."""

    def __init__(self, kill: int) -> None:
        self.kill, self.names = kill, [""]

    def __call__(self, name: str) -> None:
        self.names.append(" ".join(name.split())[:40])
        if len(self.names) - 1 == self.kill:
            os.kill(os.getpid(), signal.SIGKILL)


class Watched:
    """A channel with a step before and after each sending."""

    def __init__(self, inner: Any, name: str, step: Callable[[str], None]) -> None:
        self.inner, self.name, self.step, self.room, self.files = inner, name, step, inner.room, inner.files

    def send(self, messages: Sequence[Message]) -> str:
        self.step(f"before {self.name}")
        remark = str(self.inner.send(messages))
        self.step(f"after {self.name}")
        return remark

    def discard(self, batch: str) -> None:
        self.step(f"before discarding of {self.name}")
        self.inner.discard(batch)
        self.step(f"after discarding of {self.name}")


def live(file: Path, port: int, kill: int, customers: int = CUSTOMERS) -> list[str]:
    """Work until everything is decided and sent; return the names of the steps."""
    step, segments = Steps(kill), arrange(read_documents(RULES), Vocabulary(frozenset()))
    connection = sqlite3.connect(file, isolation_level=None, timeout=30)
    connection.executescript("pragma journal_mode = wal; pragma synchronous = full")
    outbox.create(connection)
    connection.execute("create table if not exists progress (done integer)")
    connection.set_trace_callback(step)
    hook = Webhook("hook", Url("http", "127.0.0.1", port, "/"), (Secret("HOOK"),), private=True)
    crm = Folder("crm", "out")
    world = World(SECRET, file.parent, lambda: 0, writing=lambda path: step("before the file"))
    transports = {"hook": Watched(open_channel(hook, world), "hook", step), "crm": Watched(open_channel(crm, world), "crm", step)}
    gate = Gate(segments, outbox.still, lambda *_: False)
    with sole_sender(file.parent, DAILY) as mine:
        assert mine, "a lock outlived its process"
        sender = Sender(connection, gate, {"hook": hook, "crm": crm}, transports, lambda: HOUR)
        while (done := connection.execute("select coalesce(max(done), 0) from progress").fetchone()[0]) < customers:
            some = range(done, min(done + BATCH, customers))
            changes = [Change("entered", "cart", f"c{i}", HOUR, segments["cart"].definition, False, 1) for i in some]
            with transaction(connection):
                outbox.enqueue(connection, changes, segments, HOUR)
                connection.execute("insert into progress values (?)", (some.stop,))
            sender.deliver()
        sender.deliver()
    connection.close()
    return step.names[1:]


def main() -> None:
    import pyarrow.csv  # noqa: F401 (once, not in every child)
    import standardwebhooks  # noqa: F401

    for line in sys.stdin:
        file, port, kill, customers = line.rsplit(maxsplit=3)
        child = os.fork()
        if not child:
            live(Path(file), int(port), int(kill), int(customers))
            os._exit(0)
        print(child, flush=True)  # noqa: T201
        print(os.waitpid(child, 0)[1], flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
