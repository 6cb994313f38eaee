"""Which addresses may be dialled: as a table, and against a listener that is shown to be reachable first."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.providers.failure import DialFailure
from proxy.providers.guard import admits, literal
from tests.providers.peers import Eager, a_place, hang_up, listening, names, reach

FORBIDDEN = [
    "0.0.0.0",
    "0.1.2.3",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.0.1",
    "169.254.169.254",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "224.0.0.1",
    "239.255.255.250",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "febf::1",
    "fe80::1%lo",
    "2001:db8::1%lo",
    "ff02::1",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd20:ce::254",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0.0.0.0",
    "::ffff:224.0.0.1",
    "::ffff:255.255.255.255",
    "::127.0.0.1",
    "::ffff:0:127.0.0.1",
    "64:ff9b::169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b:1::a9fe:a9fe",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
]

ALLOWED = [
    "203.0.113.7",
    "8.8.8.8",
    "10.0.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "100.100.100.201",
    "128.0.0.1",
    "126.255.255.255",
    "169.253.255.255",
    "169.255.0.0",
    "223.255.255.255",
    "240.0.0.1",
    "2001:db8::1",
    "fd00::1",
    "fec0::1",
    "fe7f::1",
    "fd00:ec3::254",
    "::ffff:203.0.113.7",
    "64:ff9b::203.0.113.7",
    "2002:cb00:7107::1",
]


def judged(place, address):
    return admits(place, place.endpoints[0], ip_address(address))


@pytest.mark.parametrize("address", FORBIDDEN)
def test_a_name_never_means(address):
    assert not judged(a_place("storage.example", 443), address)


@pytest.mark.parametrize("address", ALLOWED)
def test_a_name_may_mean(address):
    assert judged(a_place("storage.example", 443), address)


@pytest.mark.parametrize("address", [each for each in FORBIDDEN if "%" not in each])
def test_an_address_that_the_policy_writes_is_dialled_there_and_nowhere_else(address):
    place = a_place(address, 443)
    assert judged(place, address)
    assert not judged(place, "203.0.113.7")


@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f.1", "127.1", "0177.0.0.1", "127.0.0.1.", "localhost.", "LOCALHOST"]
)
def test_other_spellings_of_loopback_are_names(host):
    """The system's resolver understands them; the guard then judges what they became."""
    assert literal(host) is None
    assert not judged(a_place(host, 443), "127.0.0.1")


@pytest.mark.parametrize(
    ("address", "allowed"),
    [("127.0.0.1", True), ("::1", True), ("127.9.9.9", True), ("203.0.113.7", False), ("169.254.169.254", False)],
)
def test_localhost_is_loopback_and_nothing_else(address, allowed):
    assert judged(a_place("localhost", 443), address) is allowed


@pytest.mark.parametrize(
    ("dial", "address", "allowed"),
    [
        (["203.0.113.0/24"], "203.0.113.255", True),
        (["203.0.113.0/24"], "203.0.114.0", False),
        (["203.0.113.0/24"], "::ffff:203.0.113.9", True),
        (["203.0.113.0/24"], "2001:db8::1", False),
        (["203.0.113.0/24", "2001:db8::/32"], "2001:db8::1", True),
        (["2001:db8::/32"], "2001:db9::1", False),
        (["::/0"], "203.0.113.9", False),
        (["::/0"], "::ffff:203.0.113.9", False),
        (["0.0.0.0/0"], "169.254.169.254", True),
        (["127.0.0.0/8"], "127.0.0.1", True),
        (["fe80::/10"], "fe80::1%lo", False),
    ],
)
@pytest.mark.parametrize("host", ["storage.example"])
def test_dial_networks_are_the_whole_truth(host, dial, address, allowed):
    assert judged(a_place(host, 443, dial=dial), address) is allowed


def test_dial_networks_also_bind_literals_and_localhost():
    assert not judged(a_place("127.0.0.1", 443, dial=["203.0.113.0/24"]), "127.0.0.1")
    assert not judged(a_place("localhost", 443, dial=["203.0.113.0/24"]), "127.0.0.1")
    assert not judged(a_place("localhost", 443, dial=["203.0.113.0/24"]), "203.0.113.1")


def test_plaintext_leaves_the_machine_only_when_the_policy_says_so():
    for plaintext in (True, False):
        open_place = a_place("storage.example", 80, scheme="http", plaintext=plaintext)
        assert judged(open_place, "203.0.113.7") is plaintext
        assert judged(a_place("storage.example", 443, scheme="https", plaintext=plaintext), "203.0.113.7")
    assert judged(a_place("127.0.0.1", 80, scheme="http", plaintext=False), "127.0.0.1")


addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


@given(st.ip_addresses(v=4))
def test_a_mapped_address_is_judged_as_the_address_it_reaches(address):
    mapped = IPv6Address(f"::ffff:{address}")
    for place in (a_place("storage.example", 1), a_place("storage.example", 1, dial=["128.0.0.0/1"])):
        assert judged(place, mapped) == judged(place, address)


@given(addresses, st.integers(0, 32))
def test_nothing_outside_dial(address, bits):
    network = ip_network((IPv4Address("203.0.113.7"), bits), strict=False)
    reached = address.ipv4_mapped or address if address.version == 6 else address
    assert judged(a_place("storage.example", 1, dial=[network]), address) == (reached in network)


async def refused_outside(place, resolver):
    with pytest.raises(DialFailure) as caught:
        await reach(place, resolver, Eager)
    assert (caught.value.kind, caught.value.cause) == ("outside", "address not allowed")
    for address in ("127.0.0", "169.254", "::1"):
        assert address not in str(caught.value)
        assert address not in repr(caught.value)


async def test_no_packet_goes_outside_the_dial_networks():
    async with listening("127.0.0.7") as provider:
        resolver = names(storage_example=["127.0.0.7"])
        transport, caller = await reach(a_place("storage.example", provider.port, dial=["127.0.0.7/32"]), resolver)
        await provider.came.wait()
        await hang_up(transport, caller)
        assert provider.accepted == 1

        await refused_outside(a_place("storage.example", provider.port, dial=["127.0.0.8/32"]), resolver)
        await refused_outside(a_place("storage.example", provider.port), resolver)
        # Were a SYN on its way, this later connection would be behind it in the queue.
        transport, caller = await reach(a_place("127.0.0.7", provider.port))
        await hang_up(transport, caller)
        assert provider.accepted == 2


async def test_of_a_mixed_answer_only_the_inside_is_tried():
    async with listening("127.0.0.7") as forbidden, listening("127.0.0.8", forbidden.port) as allowed:
        resolver = names(storage_example=["127.0.0.7", "::ffff:127.0.0.7", "127.0.0.8"])
        place = a_place("storage.example", allowed.port, dial=["127.0.0.8/32"])
        transport, caller = await reach(place, resolver)
        assert transport.get_extra_info("peername")[0] == "127.0.0.8"
        await hang_up(transport, caller)
        assert (forbidden.accepted, allowed.accepted) == (0, 1)


async def test_a_mapped_address_is_dialled_as_what_it_is():
    async with listening("127.0.0.7") as provider:
        place = a_place("storage.example", provider.port, dial=["127.0.0.7/32"])
        transport, caller = await reach(place, names(storage_example=["::ffff:127.0.0.7"]))
        assert transport.get_extra_info("peername")[0] == "127.0.0.7"
        await hang_up(transport, caller)


async def test_localhost_needs_no_name_service():
    async with listening("127.0.0.1") as provider:
        transport, caller = await reach(a_place("localhost", provider.port), names())
        await hang_up(transport, caller)
        assert provider.accepted == 1


@pytest.mark.parametrize("answer", [["127.0.0.1"], ["::1"], ["169.254.169.254"], ["0.0.0.0"], ["::ffff:127.0.0.1"]])
async def test_a_name_service_cannot_point_at_this_machine(answer):
    async with listening("127.0.0.1") as provider:
        transport, caller = await reach(a_place("127.0.0.1", provider.port))
        await hang_up(transport, caller)
        await refused_outside(a_place("storage.example", provider.port), names(storage_example=answer))
        assert provider.accepted == 1


@pytest.mark.parametrize(("host", "dial"), [("0.0.0.0", []), ("storage.example", ["0.0.0.0/32"])])
async def test_the_peer_is_judged_again_once_connected(host, dial):
    """The kernel connects 0.0.0.0 to 127.0.0.1: allowed before, not allowed after, and nothing was sent."""
    async with listening("127.0.0.1") as provider:
        await refused_outside(a_place(host, provider.port, dial=dial), names(storage_example=["0.0.0.0"]))
        await provider.left.wait()
        assert provider.accepted == 1
        assert provider.received == b""
