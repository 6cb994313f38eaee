"""Faults, and what holds under each: the status, a bound on time, one record, one metric.

And in every row: a provider that is not permitted, though it can be reached, is sent no byte and no connection.
"""

import asyncio
import base64
import os
import resource
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest
import time_machine

from proxy.providers.names import Answer
from proxy.providers.resolve import RETRY, STALE, Resolver
from tests.authority import Authority, Issued, make_authority, self_signed
from tests.http1.scenes import (
    SWITCHED,
    UPGRADE,
    black_hole,
    eventually,
    metric,
    not_before,
    nothing_left,
    open_at,
    reset_by_provider,
    told,
)
from tests.http1.staging import (
    BRITAIN,
    PATIENCE,
    Conversation,
    ScriptedProvider,
    Stage,
    answering,
    policy_text,
    request,
    saying,
    staged,
)
from tests.providers.peers import bring_back

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def a_port_of_nobody() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


@asynccontextmanager
async def untouched(stage: Stage) -> AsyncIterator[None]:
    """What happens within reaches `own` with nothing, though `own` can be reached, before and after."""
    own = stage.providers["own"]
    assert (await stage.ask(request(xff=BRITAIN))).body == b"elsewhere"
    before = own.heads
    yield
    assert own.heads == before
    assert (await stage.ask(request(xff=BRITAIN))).body == b"elsewhere"


def put(stage: Stage, cn: str, more: str = "") -> None:
    """The same policy, with the telecom's endpoint and settings in other words."""
    ports = {name: provider.port for name, provider in stage.providers.items()}
    before = f'endpoints: ["http://127.0.0.1:{ports["cn"]}"]'
    text = policy_text(ports, more=more)
    assert text.count(before) == 1
    stage.plane.swap(stage.line(text.replace(before, cn)))


# Nobody there


async def test_a_provider_that_refuses_is_a_502_and_then_down() -> None:
    async with staged({"cn": answering(), "own": answering(b"elsewhere")}) as stage:
        put(stage, f'endpoints: ["http://127.0.0.1:{a_port_of_nobody()}"]')
        async with untouched(stage):
            async with asyncio.timeout(PATIENCE):
                response = await stage.ask(request())
                assert (response.status, response.reason) == (502, "provider-refused")
                response = await stage.ask(request())
            assert (response.status, response.reason) == (503, "unavailable")
            assert response.header("retry-after") is not None
        records = await told(stage, 4)
        assert [record["reason"] for record in records] == [None, "provider-refused", "unavailable", None]
        assert metric(stage, "domicile_requests_total", provider="cn", status="5xx") == 1
        assert metric(stage, "domicile_requests_total", provider="none", status="5xx") == 1
        assert metric(stage, "domicile_attempts_total", provider="cn", result="refused") == 1
        assert metric(stage, "domicile_denials_total", reason="unavailable") == 1


async def test_when_all_that_is_permitted_is_down_nothing_else_is_tried() -> None:
    async with staged({"cn": answering(), "own": answering(b"elsewhere")}) as stage:
        ports = ", ".join(f'"http://127.0.0.1:{a_port_of_nobody()}"' for _ in range(3))
        put(stage, f"endpoints: [{ports}]")
        async with untouched(stage):
            response = await stage.ask(request())
            assert (response.status, response.reason) == (502, "provider-refused")
            for _ in range(20):
                assert (await stage.ask(request())).reason == "unavailable"
        assert metric(stage, "domicile_attempts_total", provider="cn", result="refused") == 3
        (_, record, *_) = await told(stage, 23)
        assert record["attempts"] == 3


async def test_an_endpoint_that_is_down_gives_way_to_the_next_of_its_provider() -> None:
    async with staged({"cn": answering(b"there"), "own": answering(b"elsewhere")}) as stage:
        put(
            stage,
            f'endpoints: ["http://127.0.0.1:{a_port_of_nobody()}", "http://127.0.0.1:{stage.providers["cn"].port}"]',
        )
        async with untouched(stage):
            for _ in range(6):
                client = await stage.client()
                await client.send(request(method="POST", headers="Content-Length: 0"))
                assert (await client.response()).body == b"there"
        assert metric(stage, "domicile_attempts_total", provider="cn", result="refused") == 1


# Slow


async def test_a_slow_provider_is_a_504_and_others_are_served_meanwhile() -> None:
    async with staged({"cn": saying(), "own": answering(b"elsewhere")}, more="timeouts: {first_byte: 1s}") as stage:
        with not_before(1.0):
            clients = [await stage.client() for _ in range(50)]
            for client in clients:
                await client.send(request())
            await eventually(lambda: open_at(stage, "cn") == 50)
            other = await stage.client()
            answers = asyncio.gather(*(client.response() for client in clients))
            served = 0
            while not answers.done():
                await other.send(request(xff=BRITAIN))
                assert (await other.response()).body == b"elsewhere"
                served += 1
            assert {(response.status, response.reason) for response in await answers} == {(504, "provider-too-slow")}
        assert served > 10
        await told(stage, 50 + served)
        await eventually(lambda: open_at(stage, "cn") == 0)


async def test_a_black_hole_is_a_504_and_others_are_served_meanwhile() -> None:
    async with black_hole() as hole, staged({"cn": answering(), "own": answering(b"elsewhere")}) as stage:
        put(stage, f'endpoints: ["http://127.0.0.1:{hole.port}"]', more="timeouts: {connect: 1s}")
        async with untouched(stage):
            pass
        clients = [await stage.client() for _ in range(20)]
        for client in clients:
            await client.send(request())
        await eventually(lambda: open_at(stage, "cn") == 20)
        answers = asyncio.gather(*(client.response() for client in clients))
        other, served = await stage.client(), 0
        while not answers.done():
            await other.send(request(xff=BRITAIN))
            assert (await other.response()).body == b"elsewhere"
            served += 1
        assert {(response.status, response.reason) for response in await answers} == {(504, "provider-connect-timeout")}
        assert served > 10
        assert open_at(stage, "cn") == 0
        await told(stage, 22 + served)


# Half-open


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("by_reset", [False, True])
async def test_an_idle_connection_that_the_provider_closed_is_noticed_before_anything_is_sent(
    method: str, by_reset: bool
) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.read_head()
        await conversation.say(OK)
        if by_reset:
            reset_by_provider(conversation)

    async with staged({"cn": script, "own": answering(b"elsewhere")}) as stage:
        async with untouched(stage):
            client = await stage.client()
            for _ in range(20):
                # As soon as the answer is there, so that the end of the connection comes at any moment.
                await client.send(request(method=method, headers="Content-Length: 0" if method == "POST" else ""))
                response = await client.response()
                if response.status != 200:
                    # Closed in the very moment of sending; what is not idempotent is not sent again.
                    assert (method, response.status) == ("POST", 502)
        records = await told(stage, 22)
        assert max(int(str(record["attempts"])) for record in records) <= 2
        sent = sum(head.count(b"HTTP/1.1\r\n") for head in stage.providers["cn"].heads)
        assert sent <= 20


async def test_an_idle_connection_over_which_something_came_is_not_used_again() -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.read_head()
        await conversation.say(OK)
        await conversation.say(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
        await conversation.wait_end()

    async with staged({"cn": script}) as stage:
        client = await stage.client()
        for served in range(1, 10):
            await client.send(request())
            assert (await client.response()).body == b"ok"
            async with asyncio.timeout(PATIENCE):
                await stage.providers["cn"].conversations[served - 1].ended.wait()
        await told(stage, 9)


# Certificates


class TlsProvider(ScriptedProvider):
    """A scripted provider that shows a certificate."""

    def __init__(self, issued: Issued) -> None:
        super().__init__(answering(b"secure"))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(issued.certificate, issued.key)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.context)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            for conversation in self.conversations:
                conversation.writer.transport.abort()


def shown(authority: Authority, other: Authority, fault: str) -> Issued:
    names = ["storage.test"]
    match fault:
        case "expired":
            return authority.issue(names, expired=True)
        case "not yet valid":
            return authority.issue(names, early=True)
        case "another name":
            return authority.issue(["other.test"])
        case "no name":
            return authority.issue(common_name="storage.test")
        case "another authority":
            return other.issue(names)
        case "self-signed":
            return self_signed(authority.directory, names)
        case "a client's":
            return authority.issue(names, client=True)
    return authority.issue(names)


FAULTS = [
    "expired",
    "not yet valid",
    "another name",
    "no name",
    "another authority",
    "self-signed",
    "a client's",
    "pin",
]


@pytest.mark.parametrize("fault", ["none", *FAULTS])
async def test_a_certificate_fault_is_a_502_that_nothing_overrides(fault: str, tmp_path: Path) -> None:
    authority, other = make_authority(tmp_path), make_authority(tmp_path, "other")
    provider = TlsProvider(shown(authority, other, fault))
    async with staged({"cn": answering(), "own": answering(b"elsewhere")}) as stage, provider.running():
        pin = ""
        if fault == "pin":
            pin = f', pins: ["sha256/{base64.b64encode(bytes(32)).decode()}"]'
        put(
            stage,
            f'endpoints: ["https://127.0.0.1:{provider.port}"], '
            f"tls: {{ca: {authority.certificate}, server_name: storage.test{pin}}}",
        )
        async with untouched(stage):
            response = await stage.ask(request(method="PUT", body=b"secret"))
            if fault == "none":
                # It is reached, so the others are refused for their fault.
                assert (response.status, response.body) == (200, b"secure")
            else:
                assert (response.status, response.reason) == (502, "provider-tls")
                assert b"certificate" not in response.body
                assert all(not conversation.received for conversation in provider.conversations)
                assert metric(stage, "domicile_attempts_total", provider="cn", result="tls") == 1
                assert (await stage.ask(request())).reason == "unavailable"
        await told(stage, 3 if fault == "none" else 4)


async def test_a_provider_that_speaks_plain_text_under_https_is_a_502(tmp_path: Path) -> None:
    authority = make_authority(tmp_path)

    async def script(conversation: Conversation) -> None:
        await conversation.say(OK)
        await conversation.wait_end()

    async with staged({"cn": script, "own": answering(b"elsewhere")}) as stage:
        port = stage.providers["cn"].port
        put(
            stage,
            f'endpoints: ["https://127.0.0.1:{port}"], tls: {{ca: {authority.certificate}, server_name: storage.test}}',
        )
        async with untouched(stage):
            response = await stage.ask(request())
            assert (response.status, response.reason) == (502, "provider-tls")
        assert b"storage.example" not in stage.providers["cn"].heads[0]
        await told(stage, 3)


# Names


TTL = 30.0


class Names:
    """A name service of one name, and the clock of whoever asks it."""

    def __init__(self) -> None:
        self.answer: list[str] = ["127.0.0.1"]
        self.asked = 0
        self.now = 1000.0

    async def lookup(self, name: str) -> Answer:
        self.asked += 1
        assert name == "storage.test"
        if not self.answer:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return Answer([ip_address(address) for address in self.answer], TTL)

    def resolver(self) -> Resolver:
        return Resolver(self.lookup, lambda: self.now)


def named(stage: Stage, names: Names, dial: str = "127.0.0.0/8") -> None:
    stage.resolver = names.resolver()
    port = stage.providers["cn"].port
    put(stage, f'endpoints: ["http://storage.test:{port}"], plaintext: true, dial: [{dial}]')


def forget(stage: Stage) -> None:
    """As if nothing had ever been wrong, and nothing were pooled."""
    for place in stage.plane.line.fleet.states["cn"].endpoints:
        bring_back(place)
    for idle in stage.plane.line.fleet.states["cn"].pool.drop("cn"):
        idle.close()


async def test_a_name_service_that_fails_is_a_503_until_it_answers() -> None:
    names = Names()
    async with staged({"cn": answering(b"named"), "own": answering(b"elsewhere")}) as stage:
        names.answer = []
        named(stage, names)
        async with untouched(stage):
            response = await stage.ask(request())
            assert (response.status, response.reason) == (503, "provider-name")
            assert response.header("retry-after") is not None
            assert (await stage.ask(request())).reason == "unavailable"
            assert stage.providers["cn"].conversations == []
            names.answer = ["127.0.0.1"]
            names.now += RETRY
            forget(stage)
            assert (await stage.ask(request())).body == b"named"
        assert metric(stage, "domicile_attempts_total", provider="cn", result="name") == 1
        await told(stage, 5)


async def test_while_a_name_service_fails_the_last_answer_serves_until_it_is_stale() -> None:
    names = Names()
    async with staged({"cn": answering(b"named"), "own": answering(b"elsewhere")}) as stage:
        named(stage, names)
        async with untouched(stage):
            assert (await stage.ask(request())).body == b"named"
            names.answer = []
            names.now += TTL
            forget(stage)
            assert (await stage.ask(request())).body == b"named"
            names.now = 1000.0 + TTL + STALE - 1
            forget(stage)
            assert (await stage.ask(request())).body == b"named"
            names.now = 1000.0 + TTL + STALE
            forget(stage)
            response = await stage.ask(request())
            assert (response.status, response.reason) == (503, "provider-name")
        await told(stage, 6)


@pytest.mark.parametrize("answer", [["127.0.0.1"], ["169.254.169.254", "127.0.0.1"]])
async def test_an_address_that_the_provider_may_not_be_dialled_at_gets_nothing(answer: list[str]) -> None:
    names = Names()
    async with staged({"cn": answering(b"named"), "own": answering(b"elsewhere")}) as stage:
        named(stage, names)
        assert (await stage.ask(request())).body == b"named"
        heads = stage.providers["cn"].heads
        names.answer = answer
        named(stage, names, dial="203.0.113.0/24")
        async with untouched(stage):
            response = await stage.ask(request())
            assert (response.status, response.reason) == (502, "provider-address-refused")
        assert stage.providers["cn"].heads == heads
        assert metric(stage, "domicile_attempts_total", provider="cn", result="outside") == 1


# This machine


@pytest.mark.parametrize("full", ["disk", "pipe"])
async def test_a_log_that_cannot_be_written_never_holds_up_a_request(full: str, tmp_path: Path) -> None:
    path, reader = Path("/dev/full"), None
    if full == "pipe":
        path = tmp_path / "log"
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        async with staged({"cn": answering(b"x")}, log=f"log: {{path: {path}}}\n") as stage:
            client = await stage.client()
            for _ in range(500):
                await client.send(request())
                assert (await client.response()).body == b"x"
            if full == "disk":
                await eventually(lambda: stage.plane.log.problem is not None)
                await client.send(request())
                assert (await client.response()).body == b"x"
            assert metric(stage, "domicile_requests_total") == (501 if full == "disk" else 500)
        assert (stage.plane.log.dropped > 0) == (full == "disk" or (reader is not None and _is_full(reader, 500)))
    finally:
        if reader is not None:
            os.close(reader)


def _is_full(reader: int, lines: int) -> bool:
    """Whether the pipe could not take so many lines."""
    data = b""
    while True:
        try:
            piece = os.read(reader, 1 << 20)
        except BlockingIOError:
            break
        if not piece:
            break
        data += piece
    return data.count(b"\n") < lines


async def test_without_a_descriptor_for_a_provider_the_answer_is_503_and_nobody_is_marked_down() -> None:
    async with staged({"cn": answering(b"x"), "own": answering(b"elsewhere")}) as stage:
        client = await stage.client()
        await client.send(request()[:10])
        await eventually(lambda: stage.plane.open_connections == 1)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        try:
            await client.send(request()[10:])
            response = await client.response()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert (response.status, response.reason) == (503, "overload")
        await client.send(request())
        assert (await client.response()).body == b"x"
        (record, _) = await told(stage, 2)
        assert record["reason"] == "overload"
        assert metric(stage, "domicile_attempts_total", provider="cn", result="local") == 1


@pytest.mark.parametrize("hours", [-24, 24])
async def test_a_clock_that_jumps_ends_nothing_and_delays_nothing(hours: int) -> None:
    gate = asyncio.Event()

    async def script(conversation: Conversation) -> None:
        while True:
            head = await conversation.read_head()
            if b"websocket" in head:
                await conversation.say(SWITCHED)
                while data := await conversation.read_some():
                    await conversation.say(data)
            if b"/silent" in head:
                await conversation.wait_end()
            if b"/gated" in head:
                await gate.wait()
            await conversation.say(OK)

    more = "timeouts: {head: 3s, keep_alive: 60s, first_byte: 3s, idle: 60s}"
    async with staged({"cn": script, "own": answering(b"elsewhere")}, more=more) as stage:
        async with untouched(stage):
            kept, tunnelled, gated, silent, begun = [await stage.client() for _ in range(5)]
            await kept.send(request())
            assert (await kept.response()).body == b"ok"
            await tunnelled.send(request(headers=UPGRADE))
            assert (await tunnelled.head()).status == 101
            started = time.monotonic()
            await gated.send(request("/gated"))
            await silent.send(request("/silent"))
            await begun.send(request()[:10])
            await eventually(lambda: open_at(stage, "cn") == 3)
            with time_machine.travel(time.time() + hours * 3600, tick=True):
                # More than one sweep.
                await asyncio.sleep(0.6)
                await tunnelled.send(b"ping")
                assert await tunnelled.reader.readexactly(4) == b"ping"
                await kept.send(request("/again"))
                assert (await kept.response()).body == b"ok"
                gate.set()
                assert (await gated.response()).body == b"ok"
                # What is due comes when it is due.
                assert (await silent.response()).status == 504
                assert (await begun.response()).status == 408
                assert time.monotonic() - started >= 2.9
        for client in (kept, tunnelled, gated, silent, begun):
            client.close()
        await eventually(lambda: stage.plane.open_connections <= 2)
        await told(stage, 8)


async def test_a_provider_that_is_switched_off_under_load_costs_nobody_elses_request() -> None:
    async with staged({"cn": answering(b"x"), "own": answering(b"elsewhere")}) as stage:
        clients = [await stage.client() for _ in range(10)]
        stop = asyncio.Event()

        async def ask(number: int) -> tuple[int, set[int]]:
            asked, statuses = 0, set()
            while not stop.is_set():
                await clients[number].send(request(xff=BRITAIN if number % 2 else "1.2.4.8"))
                statuses.add((await clients[number].response()).status)
                asked += 1
            return asked, statuses

        asking = [asyncio.ensure_future(ask(number)) for number in range(10)]
        await eventually(lambda: metric(stage, "domicile_requests_total", provider="cn", status="2xx") > 50)
        put(stage, f'endpoints: ["http://127.0.0.1:{a_port_of_nobody()}"]')
        own = metric(stage, "domicile_requests_total", provider="own", status="2xx")
        await eventually(lambda: metric(stage, "domicile_requests_total", provider="own", status="2xx") > own + 50)
        await eventually(lambda: metric(stage, "domicile_denials_total", reason="unavailable") > 10)
        stop.set()
        results = await asyncio.gather(*asking)
        for number, (_, statuses) in enumerate(results):
            assert statuses == ({200} if number % 2 else {200, 503} | (statuses & {502}))
        await told(stage, sum(asked for asked, _ in results))
        assert all(b"1.2.4.8" not in head for head in stage.providers["own"].heads)
        for client in clients:
            client.close()
        await eventually(lambda: stage.plane.open_connections == 0)


async def test_all_faults_over_nothing_is_left() -> None:
    async with staged({"cn": saying(), "own": answering(b"elsewhere")}, more="timeouts: {first_byte: 300ms}") as stage:
        for _ in range(3):
            assert (await stage.ask(request())).status == 504
        for client in stage.clients:
            client.close()
        await nothing_left(stage)
