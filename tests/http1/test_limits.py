"""Every limit of the policy file, just within and just past, and how a pipeline is bounded."""

import asyncio
import socket
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from proxy.http1.arrival import Arrival
from proxy.http1.demands import Demand
from tests.http1.scenes import UPGRADE, eventually, metric, nothing_left, open_at, told
from tests.http1.staging import (
    BRITAIN,
    PATIENCE,
    Conversation,
    Script,
    answering,
    policy_text,
    request,
    saying,
    staged,
)


def padded(size: int) -> bytes:
    """A request whose head has this many bytes."""
    bare = len(request(headers="X-Pad: "))
    return request(headers="X-Pad: " + "x" * (size - bare))


@pytest.mark.parametrize("size", [1023, 1024])
async def test_a_head_of_just_the_limit_passes(size: int) -> None:
    async with staged({"cn": answering(b"x")}, more="limits: {head: 1KiB}") as stage:
        client = await stage.client()
        for _ in range(2):
            data = padded(size)
            assert len(data) == size
            await client.send(data)
            assert (await client.response()).body == b"x"
        await told(stage, 2)


@pytest.mark.parametrize("whole", [True, False])
async def test_a_head_past_the_limit_is_a_431(whole: bool) -> None:
    async with staged({"cn": answering(b"x")}, more="limits: {head: 1KiB}") as stage:
        client = await stage.client()
        await client.send(padded(1025) if whole else padded(2000)[:1025])
        response = await client.response()
        assert (response.status, response.reason, response.header("connection")) == (431, "head-too-large", "close")
        assert await client.closed()
        (record,) = await told(stage)
        assert (record["status"], record["reason"]) == (431, "head-too-large")
        assert stage.providers["cn"].conversations == []


async def test_a_head_is_measured_alone_not_with_what_comes_behind_it() -> None:
    async with staged({"cn": answering(b"x")}, more="limits: {head: 1KiB}") as stage:
        client = await stage.client()
        await client.send(padded(1000) * 5)
        for _ in range(5):
            assert (await client.response()).body == b"x"


async def test_the_number_of_fields_is_bounded() -> None:
    async with staged({"cn": answering(b"x")}, more="limits: {headers: 10}") as stage:
        # Host and X-Forwarded-For are two of them.
        within = request(headers="\r\n".join(f"X-{i}: y" for i in range(8)))
        past = request(headers="\r\n".join(f"X-{i}: y" for i in range(9)))
        assert (await stage.ask(within)).body == b"x"
        response = await stage.ask(past)
        assert (response.status, response.reason) == (431, "too-many-fields")
        (_, record) = await told(stage, 2)
        assert record["reason"] == "too-many-fields"
        assert len(stage.providers["cn"].heads) == 1


async def test_the_targets_size_is_bounded() -> None:
    async with staged({"cn": answering(b"x")}, more="limits: {target: 1KiB, head: 8KiB}") as stage:
        assert (await stage.ask(request("/" + "a" * 1023))).body == b"x"
        response = await stage.ask(request("/" + "a" * 1024))
        assert (response.status, response.reason) == (414, "target-too-long")
        # Also where it alone is more than a head may be, whether the line ends or not.
        for data in (request("/" + "a" * 9000), b"GET /" + b"a" * 9000):
            response = await stage.ask(data)
            assert (response.status, response.reason) == (414, "target-too-long")
        await told(stage, 4)


async def keep_uploads(conversation: Conversation) -> None:
    """Answers 201 to bodies of eight bytes, by length or in one or eight chunks."""
    while True:
        head = await conversation.read_head()
        if b"chunked" in head:
            while size := int(await conversation.reader.readuntil(b"\r\n"), 16):
                await conversation.read(size + 2)
            await conversation.read(2)
        else:
            await conversation.read(8)
        await conversation.say(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")


async def test_a_body_of_just_the_limit_passes() -> None:
    async with staged({"cn": keep_uploads}, more="limits: {body: 8}") as stage:
        client = await stage.client()
        await client.send(request(method="PUT", body=b"12345678"))
        assert (await client.response()).status == 201
        chunked = request(method="PUT", headers="Transfer-Encoding: chunked")
        for body in (b"8\r\n12345678\r\n0\r\n\r\n", b"1\r\nx\r\n" * 8 + b"0\r\n\r\n"):
            await client.send(chunked + body)
            assert (await client.response()).status == 201
        await told(stage, 3)


@pytest.mark.parametrize("expects", [False, True])
async def test_a_body_past_the_limit_by_its_length_is_a_413_before_anything_else(expects: bool) -> None:
    async with staged({"cn": keep_uploads}, more="limits: {body: 8}") as stage:
        client = await stage.client()
        headers = "Expect: 100-continue\r\nContent-Length: 9" if expects else "Content-Length: 9"
        await client.send(request(method="PUT", headers=headers))
        response = await client.head()
        assert (response.status, response.header("connection")) == (413, "close")
        (record,) = await told(stage)
        assert (record["reason"], record["provider"], record["to_provider"]) == ("body-too-large", None, 0)
        assert stage.providers["cn"].conversations == []


async def test_a_413_reaches_a_client_that_is_still_sending() -> None:
    async with staged({"cn": keep_uploads}, more="limits: {body: 8}") as stage:
        client = await stage.client()
        size = 4 << 20
        await client.send(request(method="PUT", headers=f"Content-Length: {size}"))
        await client.send(bytes(size))
        assert (await client.response()).reason == "body-too-large"
        assert await client.closed()


@pytest.mark.parametrize("body", [b"9\r\n123456789\r\n0\r\n\r\n", b"1\r\nx\r\n" * 9, b"5\r\n12345\r\n5\r\n1234"])
@pytest.mark.parametrize("expects", [False, True])
async def test_a_body_past_the_limit_in_chunks_is_a_413_and_never_whole_at_the_provider(
    body: bytes, expects: bool
) -> None:
    async def script(conversation: Conversation) -> None:
        head = await conversation.read_head()
        if b"Expect" in head:
            await conversation.say(b"HTTP/1.1 100 Continue\r\n\r\n")
        await conversation.wait_end()

    async with staged({"cn": script}, more="limits: {body: 8}") as stage:
        client = await stage.client()
        headers = "Transfer-Encoding: chunked" + ("\r\nExpect: 100-continue" if expects else "")
        await client.send(request(method="PUT", headers=headers))
        if expects:
            assert (await client.head()).status == 100
        else:
            await eventually(lambda: any(stage.providers["cn"].heads))
        await client.send(body)
        response = await client.response()
        assert (response.status, response.reason) == (413, "body-too-large")
        conversation = stage.providers["cn"].conversations[0]
        async with asyncio.timeout(PATIENCE):
            await conversation.ended.wait()
        assert not conversation.received.partition(b"\r\n\r\n")[2].endswith(b"0\r\n\r\n")
        (record,) = await told(stage)
        assert (record["status"], record["reason"], record["provider"]) == (413, "body-too-large", "cn")
        client.close()
        await nothing_left(stage)


async def test_a_chunked_body_past_the_limit_that_came_with_its_head_reaches_nobody() -> None:
    async with staged({"cn": keep_uploads}, more="limits: {body: 8}") as stage:
        headers = "Transfer-Encoding: chunked"
        response = await stage.ask(request(method="PUT", headers=headers) + b"9\r\n123456789\r\n0\r\n\r\n")
        assert (response.status, response.reason) == (413, "body-too-large")
        await told(stage)
        assert stage.providers["cn"].conversations == []


# Connections of a provider


def gated(gate: asyncio.Event) -> Script:
    """Answers requests once the gate is open."""

    async def script(conversation: Conversation) -> None:
        while True:
            await conversation.read_head()
            await gate.wait()
            await conversation.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    return script


async def test_a_providers_connections_are_bounded() -> None:
    gate = asyncio.Event()
    async with staged({"cn": gated(gate)}, provider=", limits: {connections: 2, queue: none}") as stage:
        provider = stage.providers["cn"]
        busy = [await stage.client() for _ in range(2)]
        for client in busy:
            await client.send(request())
        await eventually(lambda: len(provider.conversations) == 2)
        refused = await stage.client()
        await refused.send(request())
        response = await refused.response()
        assert (response.status, response.reason) == (503, "provider-full")
        assert response.header("retry-after") is not None
        assert metric(stage, "domicile_attempts_total", provider="cn", result="full") == 1
        gate.set()
        for client in busy:
            assert (await client.response()).body == b"ok"
        # Full is not down: the next is served, on a connection that is kept.
        await refused.send(request())
        assert (await refused.response()).body == b"ok"
        assert (len(provider.conversations), open_at(stage, "cn")) == (2, 2)
        records = await told(stage, 4)
        assert sorted(str(record["reason"]) for record in records) == ["None", "None", "None", "provider-full"]


async def test_a_full_provider_gives_way_to_the_next_permitted_one() -> None:
    gate = asyncio.Event()
    route = "routes: [{prefer: [{provider: one}, {provider: two}]}]"
    scripts = {"one": gated(gate), "two": answering(b"two"), "cn": answering(b"telecom")}
    async with staged(scripts, provider=", limits: {connections: 1}", more=route) as stage:
        first = await stage.client()
        await first.send(request(xff=BRITAIN))
        await eventually(lambda: len(stage.providers["one"].conversations) == 1)
        assert (await stage.ask(request(xff=BRITAIN))).body == b"two"
        gate.set()
        assert (await first.response()).body == b"ok"
        (record, _) = await told(stage, 2)
        assert (record["provider"], record["attempts"]) == ("two", 1)
        assert stage.providers["cn"].conversations == []


async def test_a_tunnel_counts_as_a_connection_for_as_long_as_it_lasts() -> None:
    script = saying(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    async with staged({"cn": script}, provider=", limits: {connections: 1, queue: none}") as stage:
        client = await stage.client()
        await client.send(request(headers=UPGRADE))
        assert (await client.head()).status == 101
        assert (await stage.ask(request())).reason == "provider-full"
        client.close()
        await eventually(lambda: open_at(stage, "cn") == 0)
        client = await stage.client()
        await client.send(request(headers=UPGRADE))
        assert (await client.head()).status == 101


# Pipelines


class FakeTransport(asyncio.Transport):
    """A client's connection without a network: what is written, and whether reading is paused."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__({"socket": sock})
        self.written = b""
        self.reading = True
        self.closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    abort = close


@pytest.fixture
def wire() -> Iterator[FakeTransport]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield FakeTransport(ours)


@pytest.mark.parametrize("bound", [1, 3, 8])
async def test_reading_pauses_when_so_many_requests_wait_and_goes_on_when_they_are_served(
    wire: FakeTransport, bound: int
) -> None:
    gate = asyncio.Event()
    arrived = asyncio.Semaphore(0)

    async def script(conversation: Conversation) -> None:
        while True:
            target = (await conversation.read_head()).split(b" ")[1]
            arrived.release()
            await gate.wait()
            await conversation.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(target), target))

    async with staged({"cn": script}, more=f"limits: {{pipelined: {bound}}}") as stage:
        listener = stage.plane.line.policy.listeners[0]
        connection = stage.plane.connection(Arrival(listener, ip_address("127.0.0.1")))
        connection.connection_made(wire)
        sent = 0
        # One is in hand; then reading goes on for exactly as many as may wait.
        for _ in range(bound + 1):
            assert wire.reading
            connection.data_received(request(f"/{sent}"))
            sent += 1
        assert not wire.reading
        async with asyncio.timeout(PATIENCE):
            await arrived.acquire()
        assert stage.providers["cn"].heads[0].count(b"GET ") == 1
        gate.set()
        while sent < 100:
            await eventually(lambda: wire.reading)
            connection.data_received(request(f"/{sent}"))
            sent += 1
        await eventually(lambda: wire.written.count(b"HTTP/1.1 200 OK") == 100)
        bodies = [part.partition(b"\r\n\r\n")[2] for part in wire.written.split(b"HTTP/1.1 200 OK")[1:]]
        assert bodies == [b"/%d" % i for i in range(100)]
        assert wire.reading
        connection.connection_lost(None)
        await told(stage, 100)


async def test_a_body_behind_a_request_does_not_pause_for_ever(wire: FakeTransport) -> None:
    gate = asyncio.Event()

    async def script(conversation: Conversation) -> None:
        await conversation.read_head()
        await gate.wait()
        await conversation.say(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await conversation.read_head()
        await conversation.read(100_000)
        await conversation.say(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
        await conversation.wait_end()

    async with staged({"cn": script}, more="limits: {pipelined: 2}") as stage:
        listener = stage.plane.line.policy.listeners[0]
        connection = stage.plane.connection(Arrival(listener, ip_address("127.0.0.1")))
        connection.connection_made(wire)
        connection.data_received(request())
        # Many ends of heads by their looks, in what is one body.
        body = b"\r\n\r\n" * 25_000
        data = request(method="PUT", headers="Content-Length: 100000") + body
        connection.data_received(data[:500])
        assert not wire.reading
        gate.set()
        for at in range(500, len(data), 4096):
            await eventually(lambda: wire.reading)
            connection.data_received(data[at : at + 4096])
        await eventually(lambda: b"201 Created" in wire.written)
        assert wire.reading
        connection.connection_lost(None)


async def test_what_waits_behind_an_upgrade_does_not_pause_its_tunnel(wire: FakeTransport) -> None:
    gate = asyncio.Event()

    async def script(conversation: Conversation) -> None:
        await conversation.read_head()
        await gate.wait()
        await conversation.say(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        while data := await conversation.read_some():
            await conversation.say(data)

    async with staged({"cn": script}) as stage:
        listener = stage.plane.line.policy.listeners[0]
        connection = stage.plane.connection(Arrival(listener, ip_address("127.0.0.1")))
        connection.connection_made(wire)
        connection.data_received(request(headers=UPGRADE))
        connection.data_received(b"\r\n\r\n" * 50)
        assert not wire.reading
        gate.set()
        await eventually(lambda: wire.reading)
        connection.data_received(b"the rest")
        await eventually(lambda: wire.written.endswith(b"\r\n\r\n" * 50 + b"the rest"))
        connection.connection_lost(None)


@pytest.mark.parametrize("ends", ["refused", "broken"])
async def test_a_connection_is_read_on_after_an_upload_that_failed(ends: str) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.read_head()

    async with staged({"cn": script, "own": answering(b"x")}) as stage:
        if ends == "refused":
            with socket.socket() as unused:
                unused.bind(("127.0.0.1", 0))
                nobody = unused.getsockname()[1]
            ports = {"cn": nobody, "own": stage.providers["own"].port}
            stage.plane.swap(stage.line(policy_text(ports), stage.plane.line))
        client = await stage.client()
        await client.send(request(method="PUT", body=b"small"))
        assert (await client.response()).status == 502
        await client.send(request(xff=BRITAIN))
        assert (await client.response()).body == b"x"


async def test_all_of_a_flood_of_pipelined_requests_is_answered_in_order() -> None:
    async def script(conversation: Conversation) -> None:
        while True:
            target = (await conversation.read_head()).split(b" ")[1]
            await conversation.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(target), target))

    async with staged({"cn": script}, more="limits: {pipelined: 2}") as stage:
        client = await stage.client()
        sending = asyncio.ensure_future(client.send(b"".join(request(f"/{i}") for i in range(1000))))
        assert [(await client.response()).body for _ in range(1000)] == [b"/%d" % i for i in range(1000)]
        await sending
        await told(stage, 1000)


async def test_a_connection_is_counted_once_whatever_its_certificate_does_to_us(
    wire: FakeTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted down alone, it would make room for one more than the policy's limit."""

    def broken(certificate: bytes | None, now: float) -> bool:
        raise ValueError("a certificate that nobody can read")

    class Resumed:
        session_reused = True

        def getpeercert(self, binary_form: bool) -> bytes:
            return b"certificate"

    async with staged({"cn": answering()}) as stage:
        demand = Demand("required", resumes=broken)
        arrival = Arrival(stage.plane.line.policy.listeners[0], ip_address("127.0.0.1"), demand=demand)
        connection = stage.plane.connection(arrival)
        monkeypatch.setattr(wire, "get_extra_info", lambda name: Resumed())
        with pytest.raises(ValueError, match="nobody can read"):
            connection.connection_made(wire)
        connection.connection_lost(None)
        assert metric(stage, "domicile_connections") == 0
