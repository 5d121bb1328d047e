"""One HTTP POST to exactly one address: resolved once, looked at, connected to as it was looked at.

Nothing is followed, no proxy is asked, the whole exchange has a deadline, and of the answer only its status, one header and
its first bytes are read.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException

from predseg.language.urls import Url, why_refused

SECONDS = 15.0
"""From the first byte to the last."""
MOST_BYTES = 16_384
"""Of an answer; what is behind them is not read."""
Resolve = Callable[[str, int], Sequence[str]]


class Unreachable(Exception):
    """There was no answer; another time there may be one."""


class Forbidden(Exception):
    """Nothing may be sent there."""


@dataclass(frozen=True)
class Reply:
    """An answer: its status, how long to wait if it says so (as written), and how it begins."""

    status: int
    retry_after: str | None
    body: bytes


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host."""
    return list(dict.fromkeys(str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


def connect(url: Url, *, private: bool, seconds: float = SECONDS, resolver: Resolve = resolve) -> socket.socket:
    """Return a connection to a host, not yet encrypted, to an address that was looked at.

    Args:
        url: Where to.
        private: Addresses of one's own network are accepted.
        seconds: For each step.
        resolver: Asked once.

    Raises:
        Forbidden: when any of its addresses is one that nothing is sent to.
        Unreachable: when it has none, or none answers.
    """
    try:
        addresses = resolver(url.host, url.port)
    except (OSError, UnicodeError) as error:
        raise Unreachable(f"{url.host} has no address: {_said(error)}") from None
    for address in addresses:
        if why := why_refused(address.partition("%")[0], private):
            raise Forbidden(why if address == url.host else f"{url.host}: {why}")
    last: OSError | None = None
    for address in addresses[:2]:
        try:
            return socket.create_connection((address, url.port), timeout=seconds)
        except OSError as failure:
            last = failure
    raise Unreachable(f"{url.authority} does not answer: {_said(last)}")


@contextmanager
def deadline(connection: socket.socket, seconds: float) -> Iterator[threading.Event]:
    """Hang up when the block takes too long, and set the event that is given. A timeout of the socket bounds only each step."""
    late = threading.Event()

    def hang_up() -> None:
        late.set()
        with suppress(OSError):
            socket.socket.shutdown(connection, socket.SHUT_RDWR)

    timer = threading.Timer(seconds, hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()


def post(
    url: Url,
    body: bytes,
    headers: Mapping[str, str],
    *,
    private: bool,
    seconds: float = SECONDS,
    resolver: Resolve = resolve,
    tls: ssl.SSLContext | None = None,
) -> Reply:
    """Post a body and return the answer.

    Args:
        url: Where to.
        body: What.
        headers: Beside Host, Content-Length and Connection.
        private: Addresses of one's own network are accepted.
        seconds: For all of it, from the connection on.
        resolver: Asked once.
        tls: Whom to trust; by default whom the system trusts.

    Raises:
        Forbidden: when nothing may be sent there.
        Unreachable: when there was no answer in time.
    """
    wire = connect(url, private=private, seconds=seconds, resolver=resolver)
    if url.secure:  # the first step shakes hands, and only with whom has a certificate for the host
        wire = (tls or ssl.create_default_context()).wrap_socket(wire, server_hostname=url.host, do_handshake_on_connect=False)
    client = _Connected(url.host, url.port)
    client.sock = wire
    with closing(wire), deadline(wire, seconds) as late:
        try:
            client.request("POST", url.path, body, {"Host": url.authority, "Connection": "close", **headers})
            answer = client.getresponse()
            found = Reply(answer.status, answer.getheader("Retry-After"), answer.read(MOST_BYTES))
        except ssl.SSLCertVerificationError as error:
            raise Unreachable(f"{url.authority} cannot prove who it is: {error.verify_message}") from None
        except (OSError, HTTPException, ValueError) as error:
            slow = late.is_set() or isinstance(error, TimeoutError)
            raise Unreachable(f"{url.authority}: {f'no answer within {seconds:g} seconds' if slow else _said(error)}") from None
        if late.is_set():  # an answer that is cut within its headers looks like one that ended there
            raise Unreachable(f"{url.authority}: no answer within {seconds:g} seconds")
        return found


class _Connected(HTTPConnection):
    """Speaks over the socket that it is given, and never opens another."""

    def connect(self) -> None:
        raise Unreachable(f"{self.host} hung up")


def _said(error: Exception | None) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
