"""The dial on plain sockets: reaching, order, time, cancellation, what a caller's protocol sees, misuse."""

import asyncio
import dataclasses
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from proxy.policy.decision import probe_permits
from proxy.policy.health import HealthCheck
from proxy.policy.settings import Endpoint, ProviderTimeouts
from proxy.providers import connect as connect_module
from proxy.providers.contexts import provider_context
from proxy.providers.dial import dial
from proxy.providers.failure import CAUSES, DialFailure, DialMisuse
from proxy.providers.guard import Admission
from proxy.providers.resolve import Resolver
from tests.providers.peers import (
    Caller,
    Eager,
    a_law,
    a_place,
    black_hole,
    hang_up,
    listening,
    names,
    permit_for,
    reach,
    refusing_port,
)


async def test_connects_and_hands_over_a_live_protocol():
    async with listening() as provider:
        transport, caller = await reach(a_place("127.0.0.1", provider.port))
        assert caller.events == ["made"]
        assert transport.get_protocol() is caller
        transport.write(b"hello")
        await provider.heard.wait()
        provider.transport.write(b"welcome")
        await caller.arrived.wait()
        assert (bytes(provider.received), bytes(caller.received)) == (b"hello", b"welcome")
        await hang_up(transport, caller)


async def test_bytes_that_come_before_the_caller_asks_are_kept():
    """As a database's greeting: it comes while the connection is still being handed over."""
    async with listening(greeting=b"220 ready") as provider:
        transport, caller = await reach(a_place("127.0.0.1", provider.port))
        await caller.arrived.wait()
        assert bytes(caller.received) == b"220 ready"
        assert caller.events[0] == "made"
        await hang_up(transport, caller)


class Closing(Admission):
    """Evidence speaks against it once its socket is connected."""

    looks = 0

    @property
    def closed(self):
        self.looks += 1
        return self.looks > 1

    @closed.setter
    def closed(self, held):
        pass


async def test_a_header_that_says_who_the_client_is_does_not_go_where_evidence_speaks_against_meanwhile():
    async with listening() as provider:
        place = a_place("127.0.0.1", provider.port)
        for admission in (Admission(), Closing()):
            provider.came.clear()
            dialling = dial(
                permit_for(place),
                place,
                place.endpoints[0],
                Caller,
                context=None,
                resolver=names(),
                first=b"PROXY",
                admission=admission,
            )
            if type(admission) is Closing:
                with pytest.raises(DialFailure) as caught:
                    await dialling
                assert caught.value.kind == "outside"
            else:
                await hang_up(*await dialling)
            await provider.came.wait()
            await provider.left.wait()
            provider.left.clear()
        assert provider.received == b"PROXY"


async def test_a_buffered_protocol_can_be_handed_over():
    class Buffered(asyncio.BufferedProtocol):
        def __init__(self):
            self.room = bytearray(4)
            self.received = bytearray()
            self.all = asyncio.Event()
            self.ended = asyncio.Event()

        def get_buffer(self, sizehint):
            return self.room

        def buffer_updated(self, nbytes):
            self.received += self.room[:nbytes]
            if len(self.received) == 9:
                self.all.set()

        def connection_lost(self, exc):
            self.ended.set()

    async with listening(greeting=b"220 ready") as provider:
        transport, caller = await reach(a_place("127.0.0.1", provider.port), factory=Buffered)
        await caller.all.wait()
        assert bytes(caller.received) == b"220 ready"
        await hang_up(transport, caller)


async def test_socket_options():
    async with listening() as provider:
        transport, caller = await reach(a_place("127.0.0.1", provider.port))
        sock = transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
        await hang_up(transport, caller)


async def test_ipv6():
    async with listening("::1") as provider:
        transport, caller = await reach(a_place("::1", provider.port))
        await hang_up(transport, caller)
        assert provider.accepted == 1


async def test_the_addresses_of_a_name_are_tried_in_order():
    async with listening("127.0.0.3") as provider:
        place = a_place("storage.example", provider.port, dial=["127.0.0.0/8"])
        resolver = names(storage_example=["127.0.0.2", "127.0.0.3"])
        transport, caller = await reach(place, resolver)
        assert transport.get_extra_info("peername")[0] == "127.0.0.3"
        await hang_up(transport, caller)


async def test_a_silent_address_leaves_time_for_the_next():
    with black_hole("127.0.0.2") as port:
        async with listening("127.0.0.3", port) as provider:
            place = a_place("storage.example", port, dial=["127.0.0.0/8"], connect=0.4)
            transport, caller = await reach(place, names(storage_example=["127.0.0.2", "127.0.0.3"]))
            await hang_up(transport, caller)
            assert provider.accepted == 1


async def failing(place, resolver=None, factory=Caller):
    with pytest.raises(DialFailure) as caught:
        await reach(place, resolver, factory)
    failure = caught.value
    assert failure.cause in CAUSES
    assert str(failure) == f"provider storage: {place.endpoints[0].host}: {failure.kind}: {failure.cause}"
    assert failure.__cause__ is None
    return failure.kind, failure.cause


async def test_nobody_listens():
    with refusing_port() as port:
        assert await failing(a_place("127.0.0.1", port)) == ("refused", "connection refused")


async def test_no_way_there():
    # The kernel answers at once: a stream to everybody there is not.
    place = a_place("broadcast.example", 9, dial=["255.255.255.255/32"])
    assert (await failing(place, names(broadcast_example=["255.255.255.255"])))[0] == "refused"


async def test_nobody_answers():
    with black_hole() as port:
        assert await failing(a_place("127.0.0.1", port, connect=0.2)) == ("timeout", "too slow")


async def test_a_name_service_that_never_answers_is_within_the_connect_time():
    async def never(name):
        await asyncio.get_running_loop().create_future()

    resolver = Resolver(never)
    assert await failing(a_place("storage.example", 1, connect=0.1), resolver) == ("name", "too slow")
    await resolver.close()


async def test_a_name_that_is_not_found():
    assert await failing(a_place("nowhere.example", 1), names()) == ("name", "name not found")


async def test_a_port_that_meets_itself_is_nobody(monkeypatch):
    """Connecting from a port to the same port succeeds though nobody listens (simultaneous open)."""
    ports = []
    for _ in range(2):
        with refusing_port() as port:
            ports.append(port)

    def bound(family):
        sock = socket.socket(family)
        sock.bind(("127.0.0.1", ports.pop()))  # as the kernel does when it chooses that one of the ephemeral ports
        sock.setblocking(False)
        return sock

    port = ports[-1]
    with bound(socket.AF_INET) as sock:
        sock.setblocking(True)
        sock.connect(("127.0.0.1", port))
        assert sock.getsockname() == sock.getpeername()
    port = ports[-1]
    monkeypatch.setattr(connect_module, "_socket", bound)
    assert await failing(a_place("127.0.0.1", port)) == ("refused", "connection refused")


async def test_a_dial_does_not_wait_behind_a_slow_name_service():
    """No thread of the loop is needed once the address is known: with all of them busy it still connects."""
    busy = threading.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    stuck = loop.run_in_executor(None, busy.wait)
    async with listening() as provider:
        transport, caller = await reach(a_place("127.0.0.1", provider.port))
        await hang_up(transport, caller)
    busy.set()
    await stuck


async def test_cancelled_while_connecting():
    with black_hole() as port:
        dialling = asyncio.create_task(reach(a_place("127.0.0.1", port, connect=30)))
        for _ in range(20):
            await asyncio.sleep(0)
        dialling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialling


async def test_cancelled_at_every_step():
    """At whatever step of the loop the caller gives up, a socket is either handed over or closed."""
    async with listening() as provider:
        place = a_place("storage.example", provider.port, dial=["127.0.0.0/8"])
        for steps in range(24):
            dialling = asyncio.create_task(reach(place, names(storage_example=["127.0.0.1"])))
            for _ in range(steps):
                await asyncio.sleep(0)
            dialling.cancel()
            try:
                transport, caller = await dialling
            except asyncio.CancelledError:
                continue
            await hang_up(transport, caller)


async def test_a_factory_that_fails_leaves_nothing():
    def factory():
        raise ZeroDivisionError

    async with listening() as provider:
        with pytest.raises(ZeroDivisionError):
            await reach(a_place("127.0.0.1", provider.port), factory=factory)
        await provider.left.wait()


async def test_no_permit_no_socket():
    async with listening() as provider:
        place = a_place("127.0.0.1", provider.port)
        other = dataclasses.replace(place, name="other")
        resolver = names()

        async def attempt(permit):
            return await dial(permit, place, place.endpoints[0], Eager, context=None, resolver=resolver)

        transport, caller = await attempt(permit_for(other, place))
        await provider.heard.wait()
        await hang_up(transport, caller)
        for permit in (permit_for(other), permit_for(dataclasses.replace(place, zone="elsewhere"))):
            with pytest.raises(DialMisuse, match="no permit"):
                await attempt(permit)
        assert provider.accepted == 1


async def test_a_permit_for_checks_opens_a_socket_to_its_own_provider_alone():
    async with listening() as provider:
        place = a_place("127.0.0.1", provider.port, health=HealthCheck(kind="tcp"))
        (permit,) = probe_permits(a_law(place))

        async def attempt(target):
            return await dial(permit, target, target.endpoints[0], Eager, context=None, resolver=names())

        transport, caller = await attempt(place)
        await provider.heard.wait()
        await hang_up(transport, caller)
        for changes in ({"name": "other"}, {"zone": "elsewhere"}):
            with pytest.raises(DialMisuse, match="no permit"):
                await attempt(dataclasses.replace(place, **changes))
        assert provider.accepted == 1


async def test_an_equal_definition_of_a_later_policy_is_the_same_provider():
    async with listening() as provider:
        place = a_place("127.0.0.1", provider.port)
        again = dataclasses.replace(place)
        assert again is not place
        transport, caller = await dial(
            permit_for(again), place, place.endpoints[0], Caller, context=None, resolver=names()
        )
        await hang_up(transport, caller)


async def test_misuse():
    place = a_place("127.0.0.1", 1)
    secure = a_place("127.0.0.1", 1, scheme="https")
    context = provider_context(secure)
    blind = provider_context(secure)
    blind.check_hostname = False
    cases = [
        (place, Endpoint("http", "127.0.0.1", 2), None, "not its endpoint"),
        (place, place.endpoints[0], context, "disagree"),
        (secure, secure.endpoints[0], None, "disagree"),
        (secure, secure.endpoints[0], blind, "does not verify"),
    ]
    for provider, endpoint, given, what in cases:
        with pytest.raises(DialMisuse, match=what):
            await dial(permit_for(provider), provider, endpoint, Caller, context=given, resolver=names())


@pytest.mark.parametrize("scheme", ["tcp", "http"])
async def test_schemes_without_tls_of_ours(scheme):
    async with listening() as provider:
        transport, caller = await reach(a_place("127.0.0.1", provider.port, scheme=scheme))
        await hang_up(transport, caller)


async def test_timeouts_are_the_providers_own():
    with black_hole() as port:
        place = a_place("127.0.0.1", port, timeouts=ProviderTimeouts(0.05, 30, 60))
        assert await failing(place) == ("timeout", "too slow")
