"""The client behind the trusted proxies, and every header that must not be believed."""

from ipaddress import IPv4Network, IPv6Network, ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.identity.client_address import LARGEST_FORWARDED, LONGEST_CHAIN, MOST_PARTS, client_address, is_trusted
from proxy.identity.networks import Networks
from proxy.policy.facts import Address

TRUSTED = Networks([IPv4Network("10.0.0.0/8"), IPv6Network("fd00::/8")])
NOBODY = Networks([])


def found(peer: str | None, *lines: str, trusted: Networks = TRUSTED) -> str | None:
    """lines: `x: value` for X-Forwarded-For, `f: value` for Forwarded."""
    names = {"x": b"x-forwarded-for", "f": b"forwarded"}
    fields = [(b"host", b"a.example")]
    for line in lines:
        kind, _, value = line.partition(": ")
        fields.append((names[kind.rstrip(":")], value.encode("latin-1")))
    client = client_address(None if peer is None else ip_address(peer), tuple(fields), trusted)
    return None if client is None else str(client)


CASES: list[tuple[str | None, list[str], str | None]] = [
    # an untrusted peer is the client, whatever it says
    ("203.0.113.9", [], "203.0.113.9"),
    ("203.0.113.9", ["x: 1.2.3.4"], "203.0.113.9"),
    ("203.0.113.9", ["f: for=1.2.3.4"], "203.0.113.9"),
    ("203.0.113.9", ["x: garbage"], "203.0.113.9"),
    ("::ffff:203.0.113.9", ["x: 1.2.3.4"], "203.0.113.9"),
    ("2001:db8::9", ["x: 1.2.3.4"], "2001:db8::9"),
    (None, [], None),
    (None, ["x: 1.2.3.4"], None),
    # from the right, to the first that is not trusted
    ("10.0.0.1", ["x: 1.2.3.4"], "1.2.3.4"),
    ("::ffff:10.0.0.1", ["x: 1.2.3.4"], "1.2.3.4"),
    ("fd00::1", ["x: 1.2.3.4"], "1.2.3.4"),
    ("10.0.0.1", ["x: 6.6.6.6, 1.2.3.4"], "1.2.3.4"),
    ("10.0.0.1", ["x: 6.6.6.6, 1.2.3.4, 10.0.0.2,fd00::3"], "1.2.3.4"),
    ("10.0.0.1", ["x: 6.6.6.6", "x: 1.2.3.4", "x: 10.0.0.2"], "1.2.3.4"),
    ("10.0.0.1", ["x: 1.2.3.4, 10.0.0.2", "x: 10.0.0.3"], "1.2.3.4"),
    ("10.0.0.1", ["x: garbage, 1.2.3.4"], "1.2.3.4"),
    ("10.0.0.1", ["x: , 1.2.3.4"], "1.2.3.4"),
    ("10.0.0.1", ["x: ::ffff:1.2.3.4"], "1.2.3.4"),
    ("10.0.0.1", ["x: 1.2.3.4, ::ffff:10.0.0.2"], "1.2.3.4"),
    ("10.0.0.1", ["x: 2001:db8::5"], "2001:db8::5"),
    ("10.0.0.1", ["x: [2001:db8::5]"], "2001:db8::5"),
    ("10.0.0.1", ["x: [2001:db8::5]:443"], "2001:db8::5"),
    ("10.0.0.1", ["x: 1.2.3.4:5678"], "1.2.3.4"),
    ("10.0.0.1", ["x: \t1.2.3.4 "], "1.2.3.4"),
    # all trusted: the leftmost; a proxy that forwards for nobody is its own client
    ("10.0.0.1", ["x: 10.0.0.3, 10.0.0.2"], "10.0.0.3"),
    ("10.0.0.1", ["f: for=10.0.0.3, for=10.0.0.2"], "10.0.0.3"),
    ("10.0.0.1", [], "10.0.0.1"),
    ("::ffff:10.0.0.1", [], "10.0.0.1"),
    # a hop that is no address: nobody knows, and never the peer
    ("10.0.0.1", ["x: "], None),
    ("10.0.0.1", ["x: garbage"], None),
    ("10.0.0.1", ["x: unknown"], None),
    ("10.0.0.1", ["x: _hidden"], None),
    ("10.0.0.1", ["x: 1.2.3.4, garbage"], None),
    ("10.0.0.1", ["x: 1.2.3.4,"], None),
    ("10.0.0.1", ["x: 1.2.3.4,,10.0.0.2"], None),
    ("10.0.0.1", ["x: 1.2.3.4", "x: "], None),
    ("10.0.0.1", ["x: 1.2.3.4 5.6.7.8"], None),
    ("10.0.0.1", ["x: 1.2.3.04"], None),
    ("10.0.0.1", ["x: 0x01020304"], None),
    ("10.0.0.1", ["x: 16909060"], None),
    ("10.0.0.1", ["x: fe80::1%eth0"], None),
    ("10.0.0.1", ["x: 1.2.3.4:"], None),
    ("10.0.0.1", ["x: 1.2.3.4:port"], None),
    ("10.0.0.1", ["x: 1.2.3.4:123456"], None),
    ("10.0.0.1", ["x: [1.2.3.4]"], None),
    ("10.0.0.1", ["x: [2001:db8::5"], None),
    ("10.0.0.1", ["x: [2001:db8::5]443"], None),
    ("10.0.0.1", ["x: [2001:db8::5]:"], None),
    ("10.0.0.1", ['x: "1.2.3.4"'], None),
    ("10.0.0.1", ["x: 1.2.3.4\x00"], None),
    ("10.0.0.1", ["x: 1.2.3.4;x"], None),
    # Forwarded
    ("10.0.0.1", ["f: for=1.2.3.4"], "1.2.3.4"),
    ("10.0.0.1", ["f: For=1.2.3.4;proto=https;by=10.0.0.1"], "1.2.3.4"),
    ("10.0.0.1", ["f: proto=https;FOR=1.2.3.4"], "1.2.3.4"),
    ("10.0.0.1", ['f: for="1.2.3.4"'], "1.2.3.4"),
    ("10.0.0.1", ['f: for="1.2.3.4:8080"'], "1.2.3.4"),
    ("10.0.0.1", ['f: for="1.2.3.4:_obf"'], "1.2.3.4"),
    ("10.0.0.1", ['f: for="[2001:db8:cafe::17]:4711"'], "2001:db8:cafe::17"),
    ("10.0.0.1", ['f: for="[2001:db8:cafe::17]"'], "2001:db8:cafe::17"),
    ("10.0.0.1", ['f: for="[::ffff:1.2.3.4]"'], "1.2.3.4"),
    ("10.0.0.1", [r'f: for="1\.2.3.4"'], "1.2.3.4"),
    ("10.0.0.1", ["f: for=6.6.6.6, for=1.2.3.4 , for=10.0.0.2"], "1.2.3.4"),
    ("10.0.0.1", ["f: for=6.6.6.6", "f: for=1.2.3.4", 'f: for="[fd00::7]:1"'], "1.2.3.4"),
    ("10.0.0.1", ['f: for=_x;host="a, for=6.6.6.6", for=1.2.3.4'], "1.2.3.4"),
    ("10.0.0.1", ["f: for=unknown, for=1.2.3.4"], "1.2.3.4"),
    ("10.0.0.1", ["f: for=1.2.3.4;"], "1.2.3.4"),
    ("10.0.0.1", ["f: ;for=1.2.3.4"], "1.2.3.4"),
    ("10.0.0.1", ["f: , for=1.2.3.4"], "1.2.3.4"),
    ("10.0.0.1", ["f: "], None),
    ("10.0.0.1", ["f: for=unknown"], None),
    ("10.0.0.1", ["f: for=_hidden"], None),
    ("10.0.0.1", ['f: for="_hidden:_port"'], None),
    ("10.0.0.1", ["f: for=1.2.3.4, for=unknown"], None),
    ("10.0.0.1", ["f: for=1.2.3.4, for=_SEVKISEK"], None),
    ("10.0.0.1", ["f: for=1.2.3.4, proto=https"], None),
    ("10.0.0.1", ["f: for=1.2.3.4,"], None),
    ("10.0.0.1", ["f: for=1.2.3.4;for=1.2.3.4"], None),
    ("10.0.0.1", ["f: for=1.2.3.4;For=6.6.6.6"], None),
    ("10.0.0.1", ["f: for=1.2.3.4:80"], None),
    ("10.0.0.1", ["f: for=[2001:db8::1]"], None),
    ("10.0.0.1", ['f: for="2001:db8::1"'], None),
    ("10.0.0.1", ['f: for="[1.2.3.4]"'], None),
    ("10.0.0.1", ['f: for="1.2.3.4:123456"'], None),
    ("10.0.0.1", ['f: for="[fe80::1%eth0]"'], None),
    ("10.0.0.1", ['f: for="1.2.3.4'], None),
    ("10.0.0.1", ['f: for="1.2.3.4"x'], None),
    ("10.0.0.1", ["f: for = 1.2.3.4"], None),
    ("10.0.0.1", ["f: for=1.2.3.4 proto=https"], None),
    ("10.0.0.1", ["f: for=1.2.3.4\x00"], None),
    ("10.0.0.1", ["f: 1.2.3.4"], None),
    ("10.0.0.1", ["f: for="], None),
    ("10.0.0.1", ['f: for=""'], None),
    # a stranger's open quote cannot swallow what a proxy appended
    ("10.0.0.1", ['f: for=6.6.6.6;x=", for=1.2.3.4'], None),
    ("10.0.0.1", ['f: for=6.6.6.6;x="', "f: for=1.2.3.4"], None),
    ("10.0.0.1", ['f: for=6.6.6.6;x=", for="[2001:db8::1]:4"'], None),
    ("10.0.0.1", ['f: for=6.6.6.6;x="\\", for="[2001:db8::1]"'], None),
    # both: they agree, or nobody knows
    ("10.0.0.1", ["x: 1.2.3.4", "f: for=1.2.3.4"], "1.2.3.4"),
    ("10.0.0.1", ["x: 6.6.6.6, 1.2.3.4", 'f: for="1.2.3.4:1", for=10.0.0.9'], "1.2.3.4"),
    ("10.0.0.1", ["x: 1.2.3.4", "f: for=6.6.6.6"], None),
    ("10.0.0.1", ["f: for=6.6.6.6", "x: 1.2.3.4"], None),
    ("10.0.0.1", ["x: 1.2.3.4", "f: for=unknown"], None),
    ("10.0.0.1", ["x: unknown", "f: for=1.2.3.4"], None),
    ("10.0.0.1", ["x: 1.2.3.4", "f: "], None),
    ("10.0.0.1", ["x: ", "f: for=1.2.3.4"], None),
]  # fmt: skip


@pytest.mark.parametrize(("peer", "lines", "client"), CASES)
def test_found(peer: str | None, lines: list[str], client: str | None) -> None:
    assert found(peer, *lines) == client


def test_nobody_is_trusted_by_default() -> None:
    for peer in ("10.0.0.1", "127.0.0.1", "::1"):
        assert found(peer, "x: 1.2.3.4", "f: for=1.2.3.4", trusted=NOBODY) == peer
    assert found(None, "x: 1.2.3.4", trusted=NOBODY) is None


def test_a_unix_socket_is_believed_as_loopback_is() -> None:
    loopback = Networks([IPv4Network("127.0.0.0/8")])
    assert is_trusted(None, loopback)
    assert not is_trusted(None, TRUSTED)
    assert found(None, "x: 1.2.3.4", trusted=loopback) == "1.2.3.4"
    assert found(None, "x: garbage", trusted=loopback) is None
    assert found(None, trusted=loopback) is None
    assert found(None, trusted=TRUSTED) is None


def test_chains_are_bounded() -> None:
    for kind, hop in (("x", "10.0.0.2"), ("f", "for=10.0.0.2")):
        first = hop.replace("10.0.0.2", "1.2.3.4")
        longest = ", ".join([first] + [hop] * LONGEST_CHAIN)
        assert found("10.0.0.1", f"{kind}: {longest}") == "1.2.3.4"
        assert found("10.0.0.1", f"{kind}: {longest}, {hop}") is None
        all_trusted = ", ".join([hop] * LONGEST_CHAIN)
        assert found("10.0.0.1", f"{kind}: {all_trusted}") == "10.0.0.2"
        assert found("10.0.0.1", f"{kind}: {all_trusted}, {hop}") is None
    strangers = ", ".join(["6.6.6.6"] * 3000)
    assert found("10.0.0.1", f"x: {strangers}, 1.2.3.4") == "1.2.3.4"
    for separator in (",", ";"):
        assert found("10.0.0.1", f"f: {separator * (MOST_PARTS - 1)}for=1.2.3.4") == "1.2.3.4"
        assert found("10.0.0.1", f"f: {separator * MOST_PARTS}for=1.2.3.4") is None
    padding = "x" * (LARGEST_FORWARDED - len("a=;for=1.2.3.4"))
    assert found("10.0.0.1", f"f: a={padding};for=1.2.3.4") == "1.2.3.4"
    assert found("10.0.0.1", f"f: a={padding}x;for=1.2.3.4") is None


def _as_node(address: Address) -> str:
    return f'"[{address}]"' if address.version == 6 else str(address)


_junk = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
_untrusted = st.ip_addresses().filter(lambda address: address not in TRUSTED)
_trusted = st.ip_addresses(v=4, network="10.0.0.0/8") | st.ip_addresses(v=6, network="fd00::/8")


@given(st.lists(_junk, max_size=4), _untrusted, st.lists(_trusted, max_size=4))
@settings(max_examples=200)
def test_what_strangers_write_never_chooses_the_client(junk: list[str], client: Address, hops: list[Address]) -> None:
    """Behind honest proxies the client is found whatever it sent; Forwarded may become unreadable, never a lie."""
    expected = str(client.ipv4_mapped or client if client.version == 6 else client)
    chain = [*junk, *map(str, [client, *hops])]
    assert found("10.0.0.1", "x: " + ",".join(chain)) == expected
    nodes = [f"for={_as_node(address)}" for address in (client, *hops)]
    assert found("10.0.0.1", "f: " + ", ".join([*junk, *nodes])) in (expected, None)
    assert found("10.0.0.1", *(f"f: {text}" for text in junk), "f: " + ", ".join(nodes)) in (expected, None)
    assert found("10.0.0.1", "f: " + ", ".join(nodes)) == expected


@given(st.binary(max_size=60), st.sampled_from([b"x-forwarded-for", b"forwarded"]))
@settings(max_examples=300)
def test_any_bytes_get_an_answer(value: bytes, name: bytes) -> None:
    client_address(ip_address("10.0.0.1"), ((name, value),), TRUSTED)
    assert client_address(ip_address("203.0.113.9"), ((name, value),), TRUSTED) == ip_address("203.0.113.9")
