"""Names by a real name server on loopback: its answers, its failures, its silence; and what may be dialled of them."""

import asyncio
import contextlib

import pytest

from proxy.policy.settings import ProviderTls
from proxy.providers import connect as connecting
from proxy.providers import names
from proxy.providers.contexts import provider_context
from proxy.providers.dial import dial
from proxy.providers.failure import DialFailure
from proxy.providers.guard import Admission
from proxy.providers.names import NameService
from proxy.providers.resolve import SHORTEST, STALE, Resolver
from tests.providers.name_server import AAAA, NXDOMAIN, SERVFAIL, A, Answers, NameServer
from tests.providers.peers import Caller, a_place, black_hole, hang_up, listening, permit_for, server_context

NAME = "storage.example"


@pytest.fixture
async def server():
    async with NameServer().running() as server:
        yield server


@contextlib.asynccontextmanager
async def asking(server):
    """A name service that asks this server alone, and no file."""
    service = NameService(
        servers=["127.0.0.1"], udp_port=server.port, tcp_port=server.port, lookups="b", domains=[], ndots=1
    )
    try:
        yield service
    finally:
        await service.close()


async def looked_up(server, name=NAME):
    async with asking(server) as service:
        answer = await service.lookup(name)
        return {str(address) for address in answer.addresses}, answer.ttl


async def test_both_families_are_asked_for_and_the_shortest_time_holds(server):
    server.records[NAME] = Answers([("127.0.0.2", 30), ("127.0.0.3", 20), ("::1", 60)])
    assert await looked_up(server) == ({"127.0.0.2", "127.0.0.3", "::1"}, 20.0)
    assert sorted(server.asked) == [(NAME, A), (NAME, AAAA)]


async def test_an_alias_on_the_way_has_its_time_too(server):
    server.records[NAME] = Answers(alias=("edge.example", 7))
    server.records["edge.example"] = Answers([("127.0.0.2", 30)])
    assert await looked_up(server) == ({"127.0.0.2"}, 7.0)


async def test_an_answer_that_does_not_fit_is_asked_for_over_tcp(server):
    many = {f"127.0.1.{number}" for number in range(1, 101)}
    server.records[NAME] = Answers([(address, 30) for address in sorted(many)], truncated=True)
    assert await looked_up(server) == (many, 30.0)
    assert server.over_tcp


@pytest.mark.parametrize("failure", [SERVFAIL, NXDOMAIN])
async def test_a_failure_is_an_error(server, failure, monkeypatch):
    monkeypatch.setattr(names, "TRIES", 1)
    server.records[NAME] = Answers(failure=failure)
    with pytest.raises(OSError):
        await looked_up(server)
    assert server.asked


async def test_a_name_without_addresses_is_an_error_or_none(server):
    server.records[NAME] = Answers()
    with contextlib.suppress(OSError):
        assert await looked_up(server) == (set(), 0.0)


async def test_silence_is_an_error_within_the_time_of_all_tries(server, monkeypatch):
    monkeypatch.setattr(names, "TIMEOUT", 0.05)
    monkeypatch.setattr(names, "TRIES", 2)
    server.records[NAME] = Answers(silent=True)
    with pytest.raises(OSError):
        await looked_up(server)
    assert len([kind for _, kind in server.asked if kind == A]) == 2


async def test_closed_while_it_asks_it_leaves_nobody_waiting(server):
    server.records[NAME] = Answers(silent=True)
    async with asking(server) as service:
        asked = asyncio.create_task(service.lookup(NAME))
        await asyncio.wait_for(server.heard.wait(), 10)
        await service.close()
        with pytest.raises((OSError, asyncio.CancelledError)):
            await asked


# What may be dialled of an answer


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Dialling:
    """A provider at a name, with what is kept for its endpoint."""

    def __init__(self, service, port, **settings):
        self.clock = Clock()
        self.resolver = Resolver(service.lookup, self.clock)
        self.place = a_place(NAME, port, **settings)
        self.admission = Admission()

    async def reach(self):
        """The address that a connection has come to."""
        transport, caller = await dial(
            permit_for(self.place),
            self.place,
            self.place.endpoints[0],
            Caller,
            context=provider_context(self.place),
            resolver=self.resolver,
            admission=self.admission,
        )
        peer = transport.get_extra_info("peername")[0]
        await hang_up(transport, caller)
        return peer

    def counted(self):
        return {result: times for result, times in self.admission.answers.items() if times}


@contextlib.asynccontextmanager
async def dialling(server, port, **settings):
    async with asking(server) as service:
        dialling = Dialling(service, port, **settings)
        try:
            yield dialling
        finally:
            await dialling.resolver.close()


async def test_all_addresses_within_dial_are_raced_and_none_outside_hears_of_it(server, monkeypatch):
    monkeypatch.setattr(connecting, "NEXT", 0.02)
    with black_hole("127.0.0.2") as port:
        async with listening("127.0.0.77", port) as forbidden, listening("127.0.0.3", port) as good:
            async with dialling(server, port, dial=["127.0.0.77/32"]) as there:
                server.records[NAME] = Answers([("127.0.0.77", 30)])
                assert await there.reach() == "127.0.0.77", "it can be reached"
            await asyncio.wait_for(forbidden.left.wait(), 10)
            came = forbidden.accepted
            async with dialling(server, port, dial=["127.0.0.2/31"]) as there:
                server.records[NAME] = Answers([("127.0.0.77", 30), ("127.0.0.2", 30), ("127.0.0.3", 30)])
                assert await there.reach() == "127.0.0.3"
                assert there.counted() == {"outside": 1}
            async with dialling(server, port, dial=["127.0.0.2/31"]) as there:
                server.records[NAME] = Answers([("127.0.0.77", 30)])
                with pytest.raises(DialFailure) as caught:
                    await there.reach()
                assert (caught.value.kind, there.counted()) == ("outside", {"outside": 1})
            assert good.accepted == 1
            assert forbidden.accepted == came


async def test_an_answer_serves_for_its_time_then_stands_in_until_it_is_stale(server, monkeypatch):
    monkeypatch.setattr(names, "TRIES", 1)
    async with (
        listening("127.0.0.2") as first,
        listening("127.0.0.3", first.port),
        dialling(server, first.port, dial=["127.0.0.0/8"]) as there,
    ):
        # c-ares itself remembers what has a time, by a clock that is not ours; so these have none.
        server.records[NAME] = Answers([("127.0.0.2", 0)])
        assert await there.reach() == "127.0.0.2"
        asked = len(server.asked)
        server.records[NAME] = Answers([("127.0.0.3", 0)])
        there.clock.now += SHORTEST - 0.001
        assert await there.reach() == "127.0.0.2"
        assert len(server.asked) == asked
        there.clock.now += 0.001
        assert await there.reach() == "127.0.0.3"
        assert there.counted() == {"fresh": 2}
        server.records[NAME] = Answers(failure=SERVFAIL)
        there.clock.now += SHORTEST
        assert await there.reach() == "127.0.0.3"
        assert there.counted() == {"fresh": 2, "remembered": 1}
        there.clock.now += STALE
        with pytest.raises(DialFailure) as caught:
            await there.reach()
        assert (caught.value.kind, caught.value.cause) == ("name", "name not found")
        assert there.counted() == {"fresh": 2, "remembered": 1, "failed": 1}


async def test_an_old_answer_is_judged_like_a_new_one(server):
    """A definition that a reload has narrowed is not got around by what was remembered."""
    async with listening("127.0.0.2") as provider, asking(server) as service:
        server.records[NAME] = Answers([("127.0.0.2", 3600)])
        wide = Dialling(service, provider.port, dial=["127.0.0.0/8"])
        assert await wide.reach() == "127.0.0.2"
        narrow = Dialling(service, provider.port, dial=["127.0.0.3/32"])
        narrow.resolver = wide.resolver
        with pytest.raises(DialFailure, match="outside: address not allowed"):
            await narrow.reach()
        assert provider.accepted == 1
        await wide.resolver.close()


async def test_a_silent_name_server_is_within_the_connect_time(server):
    async with dialling(server, 1, connect=0.2) as there:
        server.records[NAME] = Answers(silent=True)
        with pytest.raises(DialFailure) as caught:
            await there.reach()
        assert (caught.value.kind, caught.value.cause) == ("name", "too slow")
        assert there.counted() == {"failed": 1}


async def test_the_name_that_is_verified_is_the_policys_and_no_alias(server, authority):
    """Who can forge an answer can lead a name elsewhere, and is shown up by the certificate."""
    issued = authority.issue(names=["edge.example"])
    async with listening("127.0.0.2", context=server_context(issued)) as provider, asking(server) as service:
        server.records[NAME] = Answers(alias=("edge.example", 30))
        server.records["edge.example"] = Answers([("127.0.0.2", 30)])
        tls = ProviderTls(ca=authority.certificate)
        there = Dialling(service, provider.port, scheme="https", dial=["127.0.0.0/8"], tls=tls)
        with pytest.raises(DialFailure, match="certificate for another name"):
            await there.reach()
        assert provider.received == b""
        await there.resolver.close()


async def test_a_service_that_was_closed_opens_anew(server):
    server.records[NAME] = Answers([("127.0.0.2", 30)])
    async with asking(server) as service:
        await service.lookup(NAME)
        await service.close()
        assert [str(each) for each in (await service.lookup(NAME)).addresses] == ["127.0.0.2"]
