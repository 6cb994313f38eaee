"""Address literals and networks, against the standard library's reading."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.identity.addresses import parse_address, unmapped
from proxy.identity.networks import Networks
from proxy.policy.facts import Address
from proxy.policy.rules import Network

READ = {
    b"1.2.3.4": IPv4Address("1.2.3.4"),
    b"0.0.0.0": IPv4Address(0),
    b"255.255.255.255": IPv4Address(2**32 - 1),
    b"::": IPv6Address(0),
    b"::1": IPv6Address(1),
    b"2001:DB8::1": IPv6Address("2001:db8::1"),
    b"1:2:3:4:5:6:7::": IPv6Address("1:2:3:4:5:6:7:0"),
    b"1:2:3:4:5:6:7:8": IPv6Address("1:2:3:4:5:6:7:8"),
    b"::ffff:1.2.3.4": IPv6Address("::ffff:102:304"),
    b"0001:2::": IPv6Address("1:2::"),
    b"ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255": IPv6Address(2**128 - 1),
}

NOT_READ = [
    b"", b" ", b"1.2.3", b"1.2.3.4.5", b"1.2.3.", b".1.2.3", b"1..2.3", b"1.2.3.256", b"1.2.3.04", b"01.2.3.4",
    b"0177.1", b"2130706433", b"0x7f.0.0.1", b"0x7f000001", b"127.1", b"1.2.3.4 ", b" 1.2.3.4", b"1.2.3.4\n",
    b"1.2.3.4\x00", b"1.2.3.-4", b"+1.2.3.4", b"1.2.3.4/32", b"1.2.3.4:80", b"a.b.c.d", b"\xb9.2.3.4",
    b"\xd9\xa1.2.3.4", b":", b":::", b"1::2::3", b"1:2:3:4:5:6:7", b"1:2:3:4:5:6:7:8:9", b"1::2:3:4:5:6:7:8",
    b"12345::", b"g::", b"[::1]", b"fe80::1%eth0", b"fe80::1%1", b"::1%", b"::1.2.3", b"::1.2.3.04", b"::1.2.3.4:5",
    b"::1/128", b":1", b"1:", b"::ffff:1.2.3.4%0", b"1.2.3.4::", b"localhost", b"unknown", b"_hidden", b"0" * 100,
    b"0000:0000:0000:0000:0000:0000:255.255.255.2555",
]  # fmt: skip


@pytest.mark.parametrize("text", READ)
def test_read(text: bytes) -> None:
    assert parse_address(text) == READ[text]


@pytest.mark.parametrize("text", NOT_READ)
def test_not_read(text: bytes) -> None:
    assert parse_address(text) is None


@given(st.ip_addresses())
def test_every_address_is_read_back(address: Address) -> None:
    assert parse_address(str(address).encode()) == address
    assert parse_address(address.exploded.encode()) == address


@given(st.text("0123456789abcfF:.%x[] /", max_size=24) | st.binary(max_size=24).map(lambda raw: raw.decode("latin-1")))
@settings(max_examples=500)
@example("1.2.3.4")
def test_reads_what_the_standard_library_reads(text: str) -> None:
    try:
        expected: Address | None = ip_address(text)
    except ValueError:
        expected = None
    if isinstance(expected, IPv6Address) and expected.scope_id is not None:
        expected = None
    assert parse_address(text.encode("utf-8")) == expected


@given(st.integers(0, 2**32 - 1))
def test_mapped_addresses_are_unmapped(value: int) -> None:
    assert unmapped(IPv6Address(0xFFFF << 32 | value)) == IPv4Address(value)
    for other in (IPv4Address(value), IPv6Address(value), IPv6Address(0x2002 << 112 | value << 80)):
        assert unmapped(other) is other


def _network4(value: int, prefix: int) -> IPv4Network:
    return IPv4Network((value << 24, prefix), strict=False)


def _network6(value: int, prefix: int) -> IPv6Network:
    return IPv6Network((value << 120, prefix), strict=False)


_top, _prefix, _low = st.integers(0, 7), st.integers(5, 12), st.integers(0, 1)
_networks = st.builds(_network4, _top, _prefix) | st.builds(_network6, _top, _prefix)
_addresses = st.builds(lambda top, low: IPv4Address(top << 20 | low), st.integers(0, 127), _low) | st.builds(
    lambda top, low: IPv6Address(top << 116 | low), st.integers(0, 127), _low
)


@given(st.lists(_networks, max_size=6), st.lists(_addresses, min_size=1, max_size=20))
@settings(max_examples=200)
def test_membership_is_that_of_each_network(networks: list[Network], addresses: list[Address]) -> None:
    held = Networks(networks)
    assert bool(held) is bool(networks)
    for address in addresses:
        assert (address in held) is any(address in network for network in networks)


def test_the_edges_of_networks() -> None:
    held = Networks([IPv4Network("10.0.0.0/8"), IPv4Network("192.0.2.7/32"), IPv6Network("2001:db8::/32")])
    for inside in ("10.0.0.0", "10.255.255.255", "192.0.2.7", "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"):
        assert ip_address(inside) in held
    for outside in ("9.255.255.255", "11.0.0.0", "192.0.2.6", "192.0.2.8", "2001:db7::", "2001:db9::", "::10.0.0.1"):
        assert ip_address(outside) not in held
    everything = Networks([IPv4Network("0.0.0.0/0")])
    assert IPv4Address(2**32 - 1) in everything
    assert IPv6Address(0) not in everything


def test_mapped_networks_and_addresses_count_as_ipv4() -> None:
    held = Networks([IPv6Network("::ffff:10.0.0.0/104")])
    assert IPv4Address("10.1.2.3") in held
    assert IPv6Address("::ffff:10.1.2.3") in held
    assert IPv4Address("11.1.2.3") not in held
    assert IPv6Address("::ffff:10.1.2.3") in Networks([IPv4Network("10.0.0.0/8")])
