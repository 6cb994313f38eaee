"""Connecting by callbacks: at once, raced, stopped; never without a permit, never past what is kept free."""

import asyncio
import resource
import socket
from ipaddress import ip_address
from itertools import pairwise

import hypothesis.strategies as st
import pytest
from hypothesis import given

from proxy.policy.settings import Endpoint
from proxy.providers import connect as module
from proxy.providers import descriptors
from proxy.providers.connect import connect, in_turns
from proxy.providers.failure import DialMisuse
from proxy.providers.fleet import Fleet
from proxy.providers.guard import Admission
from proxy.providers.names import Answer
from proxy.providers.resolve import Resolver
from tests.providers.peers import a_law, a_place, black_hole, listening, names, permit_for, refusing_port

LOOPBACK = ["127.0.0.0/8", "::1/128"]


class Outcome:
    """What a connection was told, as it was told."""

    def __init__(self):
        self.told = []
        self.there = asyncio.Event()

    def connected(self, sock):
        self.told.append(sock)
        self.there.set()

    def failed(self, failure):
        self.told.append(failure)
        self.there.set()

    async def only(self):
        async with asyncio.timeout(20):
            await self.there.wait()
        await asyncio.sleep(0)
        (one,) = self.told
        return one


def begin(place, resolver=None, outcome=None):
    outcome = outcome or Outcome()
    connecting = connect(
        permit_for(place), place, place.endpoints[0], resolver or names(), outcome.connected, outcome.failed
    )
    return connecting, outcome


async def known(**answers):
    """A resolver that has these answers already."""
    resolver = names(**answers)
    for name in answers:
        await resolver.resolve(name.replace("_", "."))
    return resolver


async def test_who_is_near_is_connected_before_it_returns():
    async with listening() as provider:
        _, outcome = begin(a_place("127.0.0.1", provider.port))
        (sock,) = outcome.told
        assert sock.getpeername() == ("127.0.0.1", provider.port)
        assert sock.getblocking() is False
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        sock.close()
        await provider.came.wait()


async def test_it_takes_no_task_future_or_timer(monkeypatch):
    async with listening() as provider:
        resolver = await known(storage_example=["127.0.0.1"])
        loop = asyncio.get_running_loop()
        before = len(asyncio.all_tasks())

        class Bare:
            """A loop that has nothing but what may be used."""

            time = loop.time

        monkeypatch.setattr(module.asyncio, "get_running_loop", Bare)
        _, outcome = begin(a_place("storage.example", provider.port, dial=LOOPBACK), resolver)
        monkeypatch.undo()
        assert len(asyncio.all_tasks()) == before
        outcome.told[0].close()
        await provider.came.wait()


async def test_a_name_that_is_not_known_is_asked_for():
    async with listening() as provider:
        place = a_place("storage.example", provider.port, dial=LOOPBACK)
        _, outcome = begin(place, names(storage_example=["127.0.0.1"]))
        assert outcome.told == []
        (await outcome.only()).close()
        await provider.came.wait()


async def test_the_other_family_is_next():
    with socket.socket(socket.AF_INET6) as bound:
        bound.bind(("::1", 0))
        port = bound.getsockname()[1]
        async with listening("127.0.0.1", port) as provider:
            place = a_place("storage.example", port, dial=LOOPBACK)
            _, outcome = begin(place, await known(storage_example=["::1", "127.0.0.1"]))
            (await outcome.only()).close()
            await provider.came.wait()


async def test_who_is_slow_is_raced_and_loses():
    with black_hole("127.0.0.2") as port:
        async with listening("127.0.0.3", port) as provider:
            place = a_place("storage.example", port, dial=LOOPBACK)
            connecting, outcome = begin(place, await known(storage_example=["127.0.0.2", "127.0.0.3"]))
            loop = asyncio.get_running_loop()
            started = loop.time()
            sock = await outcome.only()
            assert module.NEXT - 0.05 <= loop.time() - started < module.NEXT + 2.0
            assert sock.getpeername()[0] == "127.0.0.3"
            assert (connecting._racing, connecting._timer) == ({}, None)
            sock.close()
            await provider.came.wait()


async def test_a_failure_does_not_wait_for_its_turn():
    with refusing_port("127.0.0.2") as port:
        async with listening("127.0.0.3", port) as provider:
            place = a_place("storage.example", port, dial=LOOPBACK)
            loop = asyncio.get_running_loop()
            started = loop.time()
            _, outcome = begin(place, await known(storage_example=["127.0.0.2", "127.0.0.3"]))
            (await outcome.only()).close()
            assert loop.time() - started < module.NEXT
            await provider.came.wait()


async def test_all_fail_and_it_is_said_once():
    with refusing_port("127.0.0.2") as port:
        place = a_place("storage.example", port, dial=LOOPBACK)
        _, outcome = begin(place, await known(storage_example=["127.0.0.2", "127.0.0.3", "127.0.0.4"]))
        assert (await outcome.only()).kind == "refused"


async def test_what_is_not_admitted_is_not_tried():
    async with listening("127.0.0.2") as provider:
        place = a_place("storage.example", provider.port, dial=["127.0.0.9/32"])
        _, outcome = begin(place, await known(storage_example=["127.0.0.2"]))
        assert (await outcome.only()).kind == "outside"
        assert provider.accepted == 0


@pytest.mark.parametrize("when", ["resolving", "connecting"])
async def test_stopped_it_calls_nobody(when):
    with black_hole("127.0.0.2") as port:
        place = a_place("storage.example", port, dial=LOOPBACK)
        resolver = names(storage_example=["127.0.0.2"])
        if when == "connecting":
            await resolver.resolve("storage.example")
        connecting, outcome = begin(place, resolver)
        connecting.stop()
        await asyncio.sleep(0.05)
        assert outcome.told == []
        await resolver.close()


async def test_timed_out_it_says_so():
    with black_hole() as port:
        connecting, outcome = begin(a_place("127.0.0.1", port))
        connecting.time_out()
        assert (await outcome.only()).kind == "timeout"


async def test_timed_out_for_want_of_an_address_it_says_that_and_counts_it():
    async def never(name):
        await asyncio.get_running_loop().create_future()

    resolver, outcome, place = Resolver(never), Outcome(), a_place("storage.example", 1)
    admission = Admission()
    connecting = connect(
        permit_for(place), place, place.endpoints[0], resolver, outcome.connected, outcome.failed, admission
    )
    await asyncio.sleep(0)
    connecting.time_out()
    failure = await outcome.only()
    assert (failure.kind, failure.cause) == ("name", "too slow")
    assert admission.answers["failed"] == 1
    await resolver.close()


async def test_what_is_kept_free_is_left(monkeypatch):
    async with listening() as provider:
        place = a_place("127.0.0.1", provider.port)
        monkeypatch.setattr(module, "for_providers", lambda: 0)
        _, outcome = begin(place)
        failure = await outcome.only()
        assert (failure.kind, failure.cause) == ("local", "out of descriptors, ports or memory")
        assert provider.accepted == 0


def test_clients_stop_before_providers_and_both_before_the_limit():
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert descriptors.for_clients() < descriptors.for_providers() < limit
    assert [descriptors.kept_free(each) for each in (20, 256, 1024, 65536)] == [10, 16, 64, 256]


async def test_no_permit_no_socket():
    async with listening() as provider:
        place, other = a_place("127.0.0.1", provider.port), a_place("127.0.0.1", provider.port, name="other")
        outcome = Outcome()
        for permit, endpoint, what in (
            (permit_for(other), place.endpoints[0], "no permit"),
            (permit_for(place), Endpoint("http", "127.0.0.1", 1), "not its endpoint"),
        ):
            with pytest.raises(DialMisuse, match=what):
                connect(permit, place, endpoint, names(), outcome.connected, outcome.failed)
        assert (provider.accepted, outcome.told) == (0, [])


ADDRESSES = st.lists(st.ip_addresses(), min_size=1, max_size=12)


@given(ADDRESSES)
def test_the_families_take_turns(addresses):
    ordered = list(in_turns(addresses))
    assert sorted(map(str, ordered)) == sorted(map(str, addresses))
    assert ordered[0] == addresses[0]
    for version in (4, 6):
        assert [a for a in ordered if a.version == version] == [a for a in addresses if a.version == version]
    # While both have some left, no two of one family follow each other.
    shorter = min(sum(a.version == v for a in addresses) for v in (4, 6))
    turns = [a.version for a in ordered[: 2 * shorter]]
    assert all(one != other for one, other in pairwise(turns))


# What the resolver knows


async def test_literals_and_localhost_are_known():
    resolver = names()
    assert resolver.known("192.0.2.1") == (ip_address("192.0.2.1"),)
    assert resolver.known("localhost") == (ip_address("127.0.0.1"), ip_address("::1"))
    assert resolver.known("storage.example") is None


async def test_an_answer_is_known_while_it_is_fresh():
    now = 0.0

    async def lookup(name):
        return Answer([ip_address("192.0.2.1")], 30.0)

    resolver = Resolver(lookup, lambda: now)
    await resolver.resolve("storage.example")
    now = 29.0
    assert resolver.known("storage.example") == (ip_address("192.0.2.1"),)
    now = 30.0
    assert resolver.known("storage.example") is None


# The fleet's raw form


def endpoint_of(place):
    return Fleet.open(a_law(place), names()).states["storage"].passing[0]


async def test_reaching_counts_and_marks():
    async with listening() as provider:
        place = a_place("127.0.0.1", provider.port, scheme="tcp", connections=1)
        endpoint, permit, outcome = endpoint_of(place), permit_for(place), Outcome()
        endpoint.reach(permit, outcome.connected, outcome.failed)
        sock = await outcome.only()
        assert endpoint.state.open == 1
        full = Outcome()
        endpoint.reach(permit, full.connected, full.failed)
        assert (await full.only()).kind == "full"
        assert (endpoint.state.open, endpoint.health.steady) == (1, True)
        sock.close()
        endpoint.state.closed()
        assert endpoint.state.open == 0
        await provider.came.wait()


async def test_a_socket_that_connects_after_evidence_held_the_endpoint_is_closed():
    async with listening() as provider:
        place = a_place("127.0.0.1", provider.port, scheme="tcp")
        endpoint, outcome = endpoint_of(place), Outcome()
        endpoint.health.hold(True)
        endpoint.reach(permit_for(place), outcome.connected, outcome.failed)
        failure = await outcome.only()
        assert (failure.kind, endpoint.state.open, endpoint.health.trips) == ("outside", 0, 0)
        await provider.came.wait()


async def test_reaching_nobody_marks_down():
    with refusing_port() as port:
        place = a_place("127.0.0.1", port, scheme="tls")
        endpoint, outcome = endpoint_of(place), Outcome()
        endpoint.reach(permit_for(place), outcome.connected, outcome.failed)
        assert (await outcome.only()).kind == "refused"
        assert endpoint.state.open == 0
        assert endpoint.health.word(asyncio.get_running_loop().time()) == "open"


async def test_reaching_an_endpoint_of_http_is_a_mistake():
    place = a_place("127.0.0.1", 1)
    endpoint = Fleet.open(a_law(place), names()).states["storage"].endpoints[0]
    outcome = Outcome()
    with pytest.raises(DialMisuse):
        endpoint.reach(permit_for(place), outcome.connected, outcome.failed)
    assert (endpoint.state.open, outcome.told) == (0, [])
