"""Addresses of the outside world: what a URL may look like, and which addresses a message may go to.

Only one spelling of an address is read, so that what is checked is what is connected to: no user, no fragment, no
backslash, ASCII only, an IPv4 address as four decimal numbers. The address behind a name is checked again when it is resolved.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

PORTS = {"https": 443, "http": 80, "smtp": 587, "smtps": 465}
HOST = r"([A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*|\[[0-9A-Fa-f:.]{2,45}\])"
PORT = r"(:[1-9][0-9]{0,4})?"
PATH = r"(/[!$-;=?-\[\]-_a-z|~]*)?"
_URL = re.compile(rf"(?P<scheme>[a-z]+)://(?P<host>{HOST})(?P<port>{PORT})(?P<path>{PATH})", re.ASCII)
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*", re.ASCII)
_EMBEDDING = (("64:ff9b::/96", 0), ("2002::/16", 80), ("::/96", 0))
"""Networks whose addresses contain an IPv4 address, and how many bits stand behind it: NAT64, 6to4, the compatible form."""
_PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
_METADATA = ("168.63.129.16", "fd00:ec2::254")
"""Where clouds answer their machines, outside of the link-local range."""
_UNICAST, _SPECIAL = IPv6Network("2000::/3"), IPv6Network("2001::/23")


@dataclass(frozen=True)
class Url:
    """A checked URL: the host in lower case, an IPv6 address without its brackets; the path begins with / and has the query."""

    scheme: str
    host: str
    port: int
    path: str = "/"

    @property
    def secure(self) -> bool:
        """Whether the connection begins encrypted."""
        return self.scheme in ("https", "smtps")

    @property
    def authority(self) -> str:
        """Host and, where it is not the usual one, port, as a header says it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


def parse_url(text: str, schemes: tuple[str, ...]) -> Url:
    """Return a URL with one of some schemes, or raise ValueError with what is wrong.

    >>> parse_url("https://Mail.example.com/hooks?x=1", ("https",))
    Url(scheme='https', host='mail.example.com', port=443, path='/hooks?x=1')
    >>> parse_url("https://2130706433/", ("https",))
    Traceback (most recent call last):
    ValueError: '2130706433' is a number and no name; an address is written as four decimal numbers
    """
    match = _URL.fullmatch(text)
    if match is None or match["scheme"] not in schemes:
        raise ValueError(f"expected {' or '.join(f'{s}://' for s in schemes)} with a host and a path, nothing else")
    port = int(match["port"][1:]) if match["port"] else PORTS[match["scheme"]]
    if port > 65535:
        raise ValueError(f"there is no port {port}")
    found = Url(match["scheme"], match["host"].lower().strip("[]"), port, match["path"] or "/")
    _literal(found.host)
    return found


def why_not(url: Url, private: bool) -> str | None:
    """Return why nothing is sent to a URL as it is written, None when it may be tried.

    Args:
        url: The URL; what its name resolves to is another question, see `why_refused`.
        private: Private and loopback addresses are accepted, and only with them unencrypted http.
    """
    if url.scheme == "http" and not private:
        return "messages are sent encrypted, to https:// only"
    literal = _literal(url.host)
    return None if literal is None else why_refused(literal, private)


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    """Return the address that a host is written as, None when it is a name."""
    if ":" in host:
        try:
            return IPv6Address(host)
        except ValueError:
            raise ValueError(f"{host!r} is no address") from None
    if not _NUMBER.fullmatch(host.rpartition(".")[2]):
        return None
    try:
        return IPv4Address(host)
    except ValueError:
        raise ValueError(f"{host!r} is a number and no name; an address is written as four decimal numbers") from None


def why_refused(address: str | IPv4Address | IPv6Address, private: bool = False) -> str | None:
    """Return why nothing is sent to an address, None when it may be.

    Public addresses may be, and with ``private`` those of a private network and the loopback. Link-local addresses (those of
    cloud metadata), multicast and reserved ones never; an IPv4 address within an IPv6 one counts as itself.

    >>> why_refused("93.184.215.14"), why_refused("::ffff:10.0.0.1")
    (None, '::ffff:a00:1 is a private address')
    """
    found = ip_address(str(address))
    inner = _inner(found)
    if str(inner) in _METADATA:
        return f"{found} is the address of a cloud's metadata"
    if inner.is_loopback or any(inner in ip_network(network) for network in _PRIVATE):
        return None if private else f"{found} is a {'loopback' if inner.is_loopback else 'private'} address"
    special = isinstance(inner, IPv6Address) and (inner not in _UNICAST or inner in _SPECIAL)
    return f"{found} is no public address" if special or inner.is_multicast or not inner.is_global else None


def _inner(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(address, IPv4Address) or address.is_loopback or address.is_unspecified:
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    for network, behind in _EMBEDDING:
        if address in IPv6Network(network):
            return IPv4Address((int(address) >> behind) & 0xFFFFFFFF)
    return address


def without_password(url: str) -> str:
    """Return a URL that may be shown.

    >>> without_password("postgresql://ann:secret@db.example.com:5432/shop?sslmode=require")
    'postgresql://ann@db.example.com:5432/shop'
    """
    parts = urlsplit(url)
    user = f"{parts.username}@" if parts.username else ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{user}{parts.hostname or ''}{port}{parts.path}"
