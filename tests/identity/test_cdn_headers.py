"""A CDN's header with its client's address: believed of the CDN, and dropped of everybody else."""

from ipaddress import IPv4Network, IPv6Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.identity.client_address import CdnHeader, Client, find_client
from proxy.identity.networks import Networks
from proxy.policy.subject import ClientHeader
from proxy.wire.request_head import HeadLimits, RequestHead, read_request_head
from proxy.wire.request_writer import Sender, end_to_end

CDN = CdnHeader(ClientHeader("cf-connecting-ip", (IPv4Network("198.41.128.0/17"), IPv6Network("2400:cb00::/32"))))
# The operator's load balancer; and, in some rows, the CDN too.
TRUSTED = Networks([IPv4Network("10.0.0.0/8")])
BOTH = Networks([IPv4Network("10.0.0.0/8"), IPv4Network("198.41.128.0/17")])
NOBODY = Networks(())


def found(peer: str | None, *lines: str, trusted: Networks = TRUSTED, cdn: CdnHeader = CDN) -> tuple[str | None, bool]:
    """lines: `c: value` for the CDN's header, `x: value` for X-Forwarded-For, `f: value` for Forwarded."""
    names = {"c": b"cf-connecting-ip", "x": b"x-forwarded-for", "f": b"forwarded", "t": b"cf_connecting_ip"}
    fields = tuple((names[line[0]], line[3:].encode("latin-1")) for line in lines)
    client = find_client(None if peer is None else ip_address(peer), fields, trusted, cdn)
    return (None if client.address is None else str(client.address)), client.by_cdn


CASES: list[tuple[str, list[str], tuple[str | None, bool]]] = [
    # from the CDN itself
    ("198.41.128.9", ["c: 114.114.114.114"], ("114.114.114.114", True)),
    ("::ffff:198.41.128.9", ["c: 114.114.114.114"], ("114.114.114.114", True)),
    ("2400:cb00::9", ["c: 2001:da8::1"], ("2001:da8::1", True)),
    ("198.41.128.9", ["c: ::ffff:114.114.114.114"], ("114.114.114.114", True)),
    ("198.41.128.9", ["c: 114.114.114.114", "x: 8.8.8.8"], ("114.114.114.114", True)),
    ("198.41.128.9", ["c: 10.0.0.9"], ("10.0.0.9", True)),
    # the CDN, and nothing that can be read: nobody knows
    ("198.41.128.9", [], (None, True)),
    ("198.41.128.9", ["x: 8.8.8.8"], (None, True)),
    ("198.41.128.9", ["t: 8.8.8.8"], (None, True)),
    ("198.41.128.9", ["c: "], (None, True)),
    ("198.41.128.9", ["c: unknown"], (None, True)),
    ("198.41.128.9", ["c: 8.8.8.8, 114.114.114.114"], (None, True)),
    ("198.41.128.9", ["c: 8.8.8.8", "c: 114.114.114.114"], (None, True)),
    ("198.41.128.9", ["c: 8.8.8.8", "c: 8.8.8.8"], (None, True)),
    ("198.41.128.9", ["c: 8.8.8.8:80"], (None, True)),
    ("198.41.128.9", ["c: [2001:da8::1]"], (None, True)),
    ("198.41.128.9", ["c: 8.8.8.08"], (None, True)),
    ("198.41.128.9", ["c: 0x08080808"], (None, True)),
    ("198.41.128.9", ['c: "8.8.8.8"'], (None, True)),
    # from anybody else: the address of the connection
    ("203.0.113.9", ["c: 114.114.114.114"], ("203.0.113.9", False)),
    ("203.0.113.9", ["c: 114.114.114.114", "x: 198.41.128.9"], ("203.0.113.9", False)),
    ("10.0.0.1", ["c: 114.114.114.114"], ("10.0.0.1", False)),
    # through the operator's own proxy: the CDN connected to that
    ("10.0.0.1", ["c: 114.114.114.114", "x: 198.41.128.9"], ("114.114.114.114", True)),
    ("10.0.0.1", ["c: 114.114.114.114", "x: 8.8.8.8, 198.41.128.9, 10.0.0.2"], ("114.114.114.114", True)),
    ("10.0.0.1", ["c: 114.114.114.114", "f: for=198.41.128.9"], ("114.114.114.114", True)),
    ("10.0.0.1", ["x: 198.41.128.9"], (None, True)),
    # a stranger who came past the CDN to that proxy, and says what the CDN says
    ("10.0.0.1", ["c: 114.114.114.114", "x: 203.0.113.9"], ("203.0.113.9", False)),
    ("10.0.0.1", ["c: 114.114.114.114", "x: 198.41.128.9, 203.0.113.9"], ("203.0.113.9", False)),
    ("10.0.0.1", ["c: 114.114.114.114", "x: 198.41.128.9", "f: for=203.0.113.9"], (None, False)),
    ("10.0.0.1", ["c: 114.114.114.114", "x: garbage"], (None, False)),
]


@pytest.mark.parametrize(("peer", "lines", "expected"), CASES)
def test_whose_word_it_is(peer: str, lines: list[str], expected: tuple[str | None, bool]) -> None:
    assert found(peer, *lines) == expected


@pytest.mark.parametrize(("peer", "lines", "expected"), CASES[:19])
def test_a_cdn_that_is_a_trusted_proxy_too_is_asked_first(
    peer: str, lines: list[str], expected: tuple[str | None, bool]
) -> None:
    assert found(peer, *lines, trusted=BOTH) == expected


def test_the_walk_ends_at_the_cdn_though_it_is_trusted() -> None:
    lines = "c: 114.114.114.114", "x: 8.8.8.8, 198.41.128.9, 10.0.0.2"
    assert found("10.0.0.1", *lines, trusted=BOTH) == ("114.114.114.114", True)
    assert find_client(ip_address("10.0.0.1"), ((b"x-forwarded-for", b"8.8.8.8, 198.41.128.9"),), BOTH, None) == Client(
        ip_address("8.8.8.8")
    )


def test_a_socket_of_this_machine_is_a_cdn_if_its_loopback_is() -> None:
    here = CdnHeader(ClientHeader("x-real-ip", (IPv4Network("127.0.0.0/8"),)))
    fields = ((b"x-real-ip", b"114.114.114.114"),)
    assert find_client(None, fields, NOBODY, here) == Client(ip_address("114.114.114.114"), by_cdn=True)
    assert find_client(None, fields, NOBODY, CDN) == Client(None)


@given(st.ip_addresses(), st.binary(max_size=40))
def test_nobody_but_the_cdn_moves_the_client(peer: object, value: bytes) -> None:
    address = ip_address(str(peer))
    client = find_client(address, ((b"cf-connecting-ip", value),), NOBODY, CDN)
    if address not in CDN.networks:
        assert client == find_client(address, (), NOBODY, None)


def head(*lines: bytes) -> RequestHead:
    read = read_request_head(
        b"\r\n".join((b"GET / HTTP/1.1", b"Host: a.example", *lines, b"", b"")), HeadLimits(100, 8192)
    )
    assert isinstance(read, RequestHead)
    return read


def sent(sender: Sender, *lines: bytes) -> list[bytes]:
    written = end_to_end(head(*lines), sender, frozenset()).split(b"\r\n")
    return [line for line in written if b"ip" in line.partition(b":")[0].lower()]


LINES = (b"CF-Connecting-IP: 8.8.8.8", b"CF_Connecting_IP: 1.1.1.1", b"Cf-Connecting.Ip: 2.2.2.2")


@pytest.mark.parametrize("trusted", [True, False])
def test_the_field_goes_on_when_the_cdn_wrote_it_and_its_twins_never(trusted: bool) -> None:
    peer = ip_address("198.41.128.9")
    assert sent(Sender(peer, True, trusted, CDN.name, by_cdn=True), *LINES) == [LINES[0]]
    assert sent(Sender(peer, True, trusted, CDN.name), *LINES) == []


def test_a_name_of_ones_own_is_held_to_the_same() -> None:
    peer, lines = ip_address("203.0.113.9"), (b"X-Edge-Ip: 8.8.8.8", b"X_Edge_Ip: 8.8.8.8")
    assert sent(Sender(peer, True, True), *lines) == list(lines), "while nobody vouches for it, it is anybody's"
    assert sent(Sender(peer, True, True, b"x-edge-ip"), *lines) == []
    assert sent(Sender(peer, True, False, b"x-edge-ip", by_cdn=True), *lines) == [lines[0]]
