"""Addresses that a message must never reach, however they are spelled."""

from __future__ import annotations

import pytest

from predseg.language.urls import Url, parse_url, why_not, why_refused

PUBLIC = ["93.184.215.14", "8.8.8.8", "172.32.0.1", "172.15.255.255", "192.167.1.1", "11.0.0.1", "2001:4860:4860::8888", "2606:4700::1111"]
PRIVATE = ["127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "::1", "fc00::1", "fd12:3456::1"]
PRIVATE += ["::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::", "2002:c0a8:101::1"]
NEVER = [
    "0.0.0.0",
    "0.1.2.3",
    "169.254.169.254",
    "100.64.0.1",
    "100.100.100.200",
    "192.0.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
]
NEVER += ["224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "168.63.129.16", "::", "fe80::1", "fec0::1", "ff02::1", "2001:db8::1", "100::1"]
NEVER += [
    "2001:0:1::1",
    "fd00:ec2::254",
    "5f00::1",
    "64:ff9b:1::1",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::",
    "::ffff:0.0.0.0",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_may_be_written_to(address: str) -> None:
    assert why_refused(address) is None and why_refused(address, private=True) is None


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_only_when_the_channel_says_so(address: str) -> None:
    assert why_refused(address) and why_refused(address, private=True) is None


@pytest.mark.parametrize("address", NEVER)
def test_special_addresses_never(address: str) -> None:
    assert why_refused(address) and why_refused(address, private=True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://",
        "https:///x",
        "//example.com/x",
        "http://example.com",
        "gopher://example.com/",
        "file:///etc/passwd",
        "https:example.com",
        "HTTPS://example.com/",
        "https://example.com@127.0.0.1/",
        "https://user:pw@example.com/",
        "https://example.com#@127.0.0.1/",
        "https://example.com/#x",
        "https://example.com\\@127.0.0.1/",
        "https://example.com/a b",
        " https://example.com/",
        "https://example.com/\n",
        "https://example.com/x\r\nHost: internal",
        "https://exa\tmple.com/",
        "https://example.com\x00.internal/",
        "https://example..com/",
        "https://.example.com/",
        "https://example.com./",
        "https://ⓛocalhost/",
        "https://１２７.0.0.1/",
        "https://127。0。0。1/",
        "https://bücher.example/",
        "https://example.com:0/",
        "https://example.com:65536/",
        "https://example.com:443:80/",
        "https://example.com:４４３/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.1/",
        "https://0177.0.0.1/",
        "https://017700000001/",
        "https://127.1/",
        "https://127.0.1/",
        "https://0/",
        "https://1.2.3.4.5/",
        "https://256.256.256.256/",
        "https://127.0.0.01/",
        "https://127.0.0.0x1/",
        "https://[::1/",
        "https://[fe80::1%eth0]/",
        "https://[::ffff:127.0.0.1.1]/",
        "https://[v1.fe80]/",
        "https://%31%32%37.0.0.1/",
        "https://a" + "b" * 64 + ".example.com/",
    ],
)
def test_no_url_but_the_plain_spelling_is_read(text: str) -> None:
    with pytest.raises(ValueError):
        parse_url(text, ("https",))


def test_a_url_is_read_once() -> None:
    assert parse_url("https://hooks.example.com", ("https",)) == Url("https", "hooks.example.com", 443, "/")
    found = parse_url("https://[2001:DB8::1]:8443/a?b=c%20d&e=~f", ("https",))
    assert found == Url("https", "2001:db8::1", 8443, "/a?b=c%20d&e=~f")
    assert found.authority == "[2001:db8::1]:8443" and str(found) == "https://[2001:db8::1]:8443/a?b=c%20d&e=~f" and found.secure
    assert why_not(found, private=False) == "2001:db8::1 is no public address"
    assert why_not(parse_url("https://localhost/", ("https",)), private=False) is None, "a name is looked at when it is resolved"
    assert "encrypted" in str(why_not(parse_url("http://example.com/", ("http",)), private=False))
    assert why_not(parse_url("http://127.0.0.1/", ("http",)), private=True) is None
