"""One check on real sockets: what the provider hears of it, what comes of it, and what it leaves behind: nothing."""

import asyncio
import contextlib
import time
from ipaddress import ip_address

import pytest

from proxy.policy.decision import probe_permits
from proxy.policy.health import HealthCheck
from proxy.policy.settings import ProviderTls, Secret
from proxy.providers.failure import DialMisuse
from proxy.providers.fleet import Fleet
from proxy.providers.probing import probe
from tests.providers.peers import a_law, a_place, alerting, black_hole, listening, names, refusing_port, server_context

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nready"
HOST = "storage.example"


@pytest.fixture(scope="session")
def issued(authority):
    return authority.issue(names=[HOST])


class Provider:
    """Answers whatever comes with `answer`; heard: what each connection sent."""

    def __init__(self, answer=OK):
        self.answer = answer
        self.heard = []
        self.left = asyncio.Event()

    def __call__(self):
        provider, mine = self, bytearray()

        class Serving(asyncio.Protocol):
            def connection_made(self, transport):
                self.transport = transport
                provider.heard.append(mine)

            def data_received(self, data):
                mine.extend(data)
                if mine.endswith(b"\r\n\r\n") and provider.answer is not None:
                    self.transport.write(provider.answer)

            def connection_lost(self, exc):
                provider.left.set()

        return Serving()

    @contextlib.asynccontextmanager
    async def running(self, context=None):
        loop = asyncio.get_running_loop()
        server = await loop.create_server(self, "127.0.0.1", 0, ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            if self.heard:
                await asyncio.wait_for(self.left.wait(), 10)
            await server.wait_closed()


def opened(provider, resolver=None):
    """The run-time state of a provider's only endpoint, and the permit to check it."""
    policy = a_law(provider)
    (permit,) = probe_permits(policy)
    state = Fleet.open(policy, resolver or names()).states[provider.name]
    return (*state.endpoints, *state.passing)[0], permit


def checked(host, port, check, **settings):
    return opened(a_place(host, port, health=check, **settings), names(storage_example=["127.0.0.1"]))


async def checks(host, port, check=None, **settings):
    check = check or HealthCheck()
    place, permit = checked(host, port, check, **settings)
    found = await probe(place, permit, check)
    assert place.state.open == 0
    return found


async def test_a_get_and_nothing_else():
    async with Provider().running() as provider:
        found = await checks(
            "127.0.0.1",
            provider.port,
            HealthCheck(path="/health", body="ready"),
            headers=(("X-Api-Key", Secret("abc")),),
        )
        await asyncio.wait_for(provider.left.wait(), 10)
    assert found.result.good
    assert found.address == ip_address("127.0.0.1")
    assert 0.0 < found.rtt < 5.0
    assert "127.0.0.1" not in repr(found)
    assert provider.heard == [
        b"GET /health HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: domicile-check\r\nX-Api-Key: abc\r\n"
        b"Connection: close\r\n\r\n" % provider.port
    ]


async def test_over_tls_as_traffic_and_the_certificate_is_remembered(issued, authority):
    async with Provider().running(server_context(issued)) as provider:
        check = HealthCheck()
        tls = ProviderTls(ca=authority.certificate)
        place, permit = checked(HOST, provider.port, check, scheme="https", dial=["127.0.0.0/8"], tls=tls)
        found = await probe(place, permit, check)
        assert found.result.good
        assert place.certificate_expires > time.time()


@pytest.mark.parametrize(
    ("answer", "check", "cause"),
    [
        (b"HTTP/1.1 500 No\r\n\r\n", HealthCheck(), "unexpected status"),
        (OK, HealthCheck(body="elsewhere"), "expected text missing"),
        (b"SSH-2.0-x\r\n", HealthCheck(), "no HTTP answer"),
        (None, HealthCheck(timeout=0.1), "too slow"),
        (b"HTTP/1.1 200 OK\r\n", HealthCheck(timeout=0.1), "too slow"),
        (OK[:-1], HealthCheck(body="ready", timeout=0.1), "too slow"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 70_000, HealthCheck(body="ready"), "answer too large"),
    ],
)
async def test_a_bad_answer_has_its_cause(answer, check, cause):
    async with Provider(answer).running() as provider:
        found = await checks("127.0.0.1", provider.port, check)
    assert found.result.cause == cause
    assert found.address == ip_address("127.0.0.1")


async def test_who_hangs_up_and_who_is_not_there():
    async with listening(hang_up=True) as provider:
        assert (await checks("127.0.0.1", provider.port)).result.cause in ("closed early", "connection reset")
    with refusing_port() as port:
        found = await checks("127.0.0.1", port)
    assert (found.result.cause, found.address, found.rtt) == ("connection refused", None, None)


@pytest.mark.parametrize("kind", ["http", "tcp"])
async def test_silence_is_within_the_checks_time(kind):
    with black_hole() as port:
        assert (await checks("127.0.0.1", port, HealthCheck(kind, timeout=0.1))).result.cause == "too slow"


async def test_a_redirect_is_not_followed():
    async with listening() as elsewhere:
        assert (await checks("127.0.0.1", elsewhere.port, HealthCheck("tcp"))).result.good, "it can be reached"
        await asyncio.wait_for(elsewhere.came.wait(), 10)
        moved = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/\r\nContent-Length: 0\r\n\r\n" % elsewhere.port
        async with Provider(moved).running() as provider:
            assert (await checks("127.0.0.1", provider.port)).result.cause == "unexpected status"
            statuses = frozenset({302})
            assert (await checks("127.0.0.1", provider.port, HealthCheck(statuses=statuses))).result.good
        assert elsewhere.accepted == 1


async def test_no_more_than_a_connection():
    async with listening() as provider:
        found = await checks("127.0.0.1", provider.port, HealthCheck("tcp"), scheme="tcp")
        assert found.result.good
        assert found.address == ip_address("127.0.0.1")
        await asyncio.wait_for(provider.left.wait(), 10)
        assert provider.received == b""


@pytest.mark.parametrize("kind", ["tcp", "tls"])
async def test_a_provider_that_is_told_its_clients_is_told_that_there_is_none(kind, issued, authority):
    context = server_context(issued)
    tls = ProviderTls(ca=authority.certificate)
    dial = ["127.0.0.0/8"]
    async with listening(context=context) as provider:
        if kind == "tls":
            found = await checks(HOST, provider.port, HealthCheck("tls"), scheme="tls", tls=tls, dial=dial)
            assert found.result.good, "without a header its TLS is good"
    async with listening() as provider:
        more = {"scheme": kind, "send_proxy": "v2", "dial": dial}
        await checks(HOST, provider.port, HealthCheck(kind, timeout=0.3), **more)
        await asyncio.wait_for(provider.heard.wait(), 10)
        assert provider.received.startswith(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0")


@pytest.mark.parametrize("scheme", ["https", "tls"])
async def test_no_more_than_a_handshake(scheme, issued, authority):
    tls = ProviderTls(ca=authority.certificate)
    more = {"scheme": scheme, "tls": tls, "dial": ["127.0.0.0/8"]}
    async with Provider().running(server_context(issued)) as provider:
        assert (await checks(HOST, provider.port, HealthCheck("tls"), **more)).result.good
        await asyncio.wait_for(provider.left.wait(), 10)
        assert provider.heard == [b""]
    async with alerting(server_context(authority.issue(names=["other.example"]))) as port:
        assert (await checks(HOST, port, HealthCheck("tls"), **more)).result.cause == "certificate for another name"


async def test_no_pooled_connection_is_taken_and_no_cap_counts_it():
    async with Provider().running() as provider:
        check = HealthCheck()
        place, permit = checked("127.0.0.1", provider.port, check, connections=1)
        idle = object()
        place.state.open = 1
        place.give(idle, 0.0)
        assert (await probe(place, permit, check)).result.good
        assert place.state.open == 1
        assert place.discard(idle), "it is still there"
        assert len(provider.heard) == 1, "and the check came on a connection of its own"


async def test_our_own_want_of_descriptors_says_nothing(monkeypatch):
    async with Provider().running() as provider:
        place, permit = checked("127.0.0.1", provider.port, HealthCheck())
        monkeypatch.setattr("proxy.providers.connect.for_providers", lambda: 0)
        assert await probe(place, permit, HealthCheck()) is None
        assert provider.heard == []


async def test_a_permit_for_another_provider_opens_nothing():
    async with listening() as provider:
        place, permit = checked("127.0.0.1", provider.port, HealthCheck("tcp"))
        other, _ = checked("127.0.0.1", provider.port, HealthCheck("tcp"), name="other")
        assert (await probe(place, permit, HealthCheck("tcp"))).result.good, "it can be reached"
        await asyncio.wait_for(provider.left.wait(), 10)
        with pytest.raises(DialMisuse):
            await probe(other, permit, HealthCheck("tcp"))
        assert provider.accepted == 1


async def test_cancelled_at_every_step_it_leaves_no_socket(issued, authority):
    tls = ProviderTls(ca=authority.certificate)
    async with Provider().running(server_context(issued)) as provider:
        check = HealthCheck()
        place, permit = checked(HOST, provider.port, check, scheme="https", dial=["127.0.0.0/8"], tls=tls)
        for steps in range(30):
            task = asyncio.create_task(probe(place, permit, check))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        assert (await probe(place, permit, check)).result.good
