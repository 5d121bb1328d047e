"""The sender: claims what is due, sends it, notes how it went, and tries again later what did not arrive.

One process at a time sends for the daily segments of a store, and one for the live ones. A message is claimed before it is sent and noted after: killed in between, the
next sender finds it claimed by nobody alive and sends it again under the same id, by which the receiver knows it.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tenacity import RetryCallState, Retrying, stop_after_attempt, wait_exponential, wait_random_exponential

from predseg.activation.claims import Gate, Message, Result, claim, finish, first_due, recover, transaction
from predseg.activation.outbox import DEAD, FAILED, SENT
from predseg.activation.sending import Later, Never, Transport
from predseg.errors import PredsegError
from predseg.language.channels import Channel
from predseg.language.time import HOUR, SECOND, to_datetime
from predseg.store import disk_errors

PATIENCE = 5 * SECOND
"""How long to sleep at most: another process may have put something into the outbox."""
_LONGEST = 6 * HOUR // SECOND
WAIT = wait_exponential(exp_base=3, max=_LONGEST) + wait_random_exponential(exp_base=3, max=_LONGEST)
"""Between attempts: 1 to 2 seconds, 3 to 6, 9 to 18 ... up to 6 to 12 hours."""


DAILY, LIVE = "daily", "live"


@contextmanager
def sole_sender(folder: Path, kind: str) -> Iterator[bool]:
    """Be the one sender of a kind inside the block, and say whether one is. A lock never outlives its process.

    Args:
        folder: Of the store.
        kind: `DAILY` or `LIVE`: whose messages it sends.
    """
    import fcntl

    with disk_errors(folder):
        file = os.open(folder / f".sender-{kind}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(file)


class Sender:
    """Sends what is due. Only for who holds `sole_sender`.

    Args:
        connection: To the database of the outbox, in autocommit, used by nobody else; its functions are called by one thread.
        gate: What a message must pass.
        channels: As they are declared.
        transports: The same at work.
        clock: The moment by which things are due (microseconds).
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        gate: Gate,
        channels: Mapping[str, Channel],
        transports: Mapping[str, Transport],
        clock: Callable[[], int],
    ) -> None:
        self.connection, self.gate, self.channels, self.transports, self.clock = connection, gate, channels, transports, clock
        self.busy: dict[str, int] = {}  # channel → until when it is left alone
        self._take_back()

    def deliver(self, stop: threading.Event | None = None) -> Counter[str]:
        """Send all that is due, and return how many attempts ended how: sent, failed, dead. With ``stop`` set, a batch of each channel."""
        found: Counter[str] = Counter()
        with ThreadPoolExecutor(max_workers=8, thread_name_prefix="predseg-sender") as pool:
            while due := [name for name, at in self._waiting() if at <= self.clock()]:
                for name in due:
                    found.update(result.status for result in self._some(name, pool))
                if stop is not None and stop.is_set():
                    break
        return found

    def next_moment(self) -> int | None:
        """Return when there is something to do, None when nothing waits."""
        return min((at for _, at in self._waiting()), default=None)

    def run(self, stop: threading.Event, wake: threading.Event, note: Callable[[str], None] = lambda _: None) -> None:
        """Deliver when something is due, when ``wake`` is set, and every few seconds; once more after ``stop`` is set.

        ``wake`` may be set inside the transaction that notes a message: it is waited for. ``note`` is told why nothing can be sent,
        and nothing when it can.
        """
        trouble, stopping = "", False
        while not stopping:
            stopping = stop.is_set()
            if woken := wake.is_set():  # not to be cleared when it was set since then: what that tells of may not be there yet
                wake.clear()
            try:
                if woken or trouble:
                    with transaction(self.connection):
                        pass
                if trouble:
                    self._take_back()
                self.deliver(stop)
                trouble, due = "", self.next_moment()
            except (sqlite3.OperationalError, PredsegError) as error:  # the disk is full, or nobody knows who opted out
                trouble, due = str(error), None
            note(trouble)
            if stop.is_set():
                continue
            wake.wait(PATIENCE / SECOND if due is None else min(max(due - self.clock(), 0), PATIENCE) / SECOND)

    # inside

    def _take_back(self) -> None:
        recover(self.connection, self.gate, lambda channel, file: self.transports[channel].discard(file) if channel in self.transports else None)

    def _waiting(self) -> Iterator[tuple[str, int]]:
        """Yield the channels that have something to do, each with when."""
        for name in self.transports:
            if (due := first_due(self.connection, self.gate, name)) is not None:
                yield name, max(due, self.busy.get(name, due))

    def _some(self, name: str, pool: ThreadPoolExecutor) -> list[Result]:
        transport = self.transports[name]
        messages = claim(self.connection, self.gate, name, self.clock(), transport.room, self._name_of_file(name) if transport.files else None)
        parts = [messages] if transport.files else [[message] for message in messages]
        results = [result for part in pool.map(lambda part: self._attempt(transport, part), parts) for result in part] if messages else []
        if results:
            finish(self.connection, results, self.clock())
        return results

    def _name_of_file(self, channel: str) -> Callable[[str], str]:
        return lambda action_id: f"{channel}-{to_datetime(self.clock()):%Y%m%dT%H%M%SZ}-{action_id[-8:]}"

    def _attempt(self, transport: Transport, messages: Sequence[Message]) -> list[Result]:
        try:
            remark = transport.send(messages)
        except Never as error:
            return [Result(m.action_id, DEAD, str(error)) for m in messages]
        except Later as error:
            return [self._again(m, str(error), error.wait, error.busy) for m in messages]
        except Exception as error:  # a bug in a channel must not stop the others
            return [self._again(m, f"a bug of predseg: {type(error).__name__}: {error}", None, False) for m in messages]
        return [Result(m.action_id, SENT, remark) for m in messages]

    def _again(self, message: Message, reason: str, wait: int | None, busy: bool) -> Result:
        state = RetryCallState(Retrying(), None, (), {})
        state.attempt_number = message.attempts
        due = self.clock() + max(int(WAIT(state) * SECOND), wait or 0)
        if busy:
            self.busy[message.channel] = max(due, self.busy.get(message.channel, 0))
        if stop_after_attempt(self.channels[message.channel].attempts)(state):
            return Result(message.action_id, DEAD, f"{reason}; tried {message.attempts} times")
        return Result(message.action_id, FAILED, reason, due)
