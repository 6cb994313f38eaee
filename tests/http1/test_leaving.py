"""Somebody leaves, at every stage: the other side is told within a second, and nothing is left behind."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.http1.scenes import (
    PROMISE,
    SWITCHED,
    UPGRADE,
    black_hole,
    eventually,
    half_close,
    metric,
    nothing_left,
    open_at,
    reset,
    reset_by_provider,
    thin_client,
    told,
)
from tests.http1.staging import (
    PATIENCE,
    Client,
    Conversation,
    Script,
    Stage,
    answering,
    policy_text,
    request,
    saying,
    staged,
)

OK = b"HTTP/1.1 200 OK\r\n"
HUGE = 99_999_999_999


def close(client: Client) -> None:
    """What a program that ends does."""
    client.close()


LEAVES = [half_close, close, reset]


async def met(stage: Stage) -> Conversation:
    """The first conversation at the provider, once a head has come there."""
    provider = stage.providers["cn"]
    await eventually(lambda: any(b"\r\n\r\n" in head for head in provider.heads))
    return provider.conversations[0]


async def fill(stage: Stage, client: Client) -> bytes:
    """Send until the proxy does not read any more, and so little behind that that the client's kernel could send it.

    Only so does the proxy's kernel have the FIN that may come next: one that waits behind a closed window has not
    been sent at all, and nobody can know of it.
    """
    await met(stage)
    await eventually(lambda: not any(connection.reading.held for connection in stage.plane._connections))
    client.writer.transport.set_write_buffer_limits(0)
    sent = b""
    while not any(connection.reading.held for connection in stage.plane._connections):
        piece = bytes(range(256)) * 64
        sent += piece
        await client.send(piece)
        # A turn of the loop for the proxy, so that it notices before much is behind.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    # Something that it has not read.
    await client.send(b"unread")
    return sent + b"unread"


async def stuck(stage: Stage) -> None:
    """Until the proxy has stopped reading from its client."""
    await eventually(lambda: any(connection.reading.held for connection in stage.plane._connections))


def deaf(release: asyncio.Event) -> Script:
    """Reads the head and nothing more, and does not notice any end, until it is released."""

    async def script(conversation: Conversation) -> None:
        await conversation.read_head()
        await release.wait()

    return script


# The client leaves


@pytest.mark.parametrize("leave", LEAVES)
async def test_before_its_head_is_whole(leave: Callable[[Client], None]) -> None:
    async with staged({"cn": answering()}) as stage:
        for start in (b"", b"GET / HT", request()[:-2]):
            client = await stage.client()
            await client.send(start)
            await eventually(lambda: stage.plane.open_connections == 1)
            leave(client)
            await nothing_left(stage)
        assert metric(stage, "domicile_requests_total") == 0
        assert stage.providers["cn"].conversations == []


@pytest.mark.parametrize("leave", LEAVES)
async def test_between_two_requests(leave: Callable[[Client], None]) -> None:
    async with staged({"cn": answering(b"x")}) as stage:
        client = await stage.client()
        await client.send(request())
        await client.response()
        leave(client)
        await eventually(lambda: stage.plane.open_connections == 0, PROMISE)
        assert open_at(stage, "cn") == 1
        await told(stage)


@pytest.mark.parametrize("method", ["GET", "PUT"])
@pytest.mark.parametrize("leave", LEAVES)
async def test_while_a_provider_is_dialled(leave: Callable[[Client], None], method: str) -> None:
    async with black_hole() as hole, staged({"cn": answering()}) as stage:
        stage.plane.swap(stage.line(policy_text({"cn": hole.port}, more="timeouts: {connect: 60s}"), stage.plane.line))
        client = await stage.client()
        await client.send(request(method=method, body=b"body" if method == "PUT" else None))
        await eventually(lambda: open_at(stage, "cn") == 1)
        leave(client)
        await nothing_left(stage)
        (record,) = await told(stage)
        assert (record["status"], record["reason"], record["to_provider"]) == (0, "client-left", 0)
        assert metric(stage, "domicile_requests_total", status="none") == 1


@pytest.mark.parametrize("leave", LEAVES)
@pytest.mark.parametrize("start", [b"", b"some"])
async def test_in_mid_upload(leave: Callable[[Client], None], start: bytes) -> None:
    async with staged({"cn": saying()}) as stage:
        client = await stage.client()
        await client.send(request(method="PUT", headers="Content-Length: 100") + start)
        conversation = await met(stage)
        leave(client)
        async with asyncio.timeout(PROMISE):
            await conversation.ended.wait()
        (record,) = await told(stage)
        assert (record["status"], record["reason"], record["provider"]) == (0, "client-left", "cn")
        assert record["to_provider"] == len(start)
        assert metric(stage, "domicile_requests_total", status="none", provider="cn") == 1
        await nothing_left(stage)


@pytest.mark.parametrize("leave", LEAVES)
async def test_in_mid_upload_while_the_provider_does_not_read(leave: Callable[[Client], None]) -> None:
    release = asyncio.Event()
    async with staged({"cn": deaf(release)}) as stage:
        client = await stage.client()
        await client.send(request(method="PUT", headers=f"Content-Length: {HUGE}"))
        await fill(stage, client)
        leave(client)
        await nothing_left(stage)
        (record,) = await told(stage)
        assert (record["status"], record["reason"], record["provider"]) == (0, "client-left", "cn")
        release.set()


@pytest.mark.parametrize("leave", LEAVES)
async def test_while_the_first_byte_is_waited_for(leave: Callable[[Client], None]) -> None:
    async with staged({"cn": saying()}) as stage:
        client = await stage.client()
        await client.send(request())
        conversation = await met(stage)
        leave(client)
        async with asyncio.timeout(PROMISE):
            await conversation.ended.wait()
        (record,) = await told(stage)
        assert (record["status"], record["reason"], record["provider"]) == (0, "client-left", "cn")
        await nothing_left(stage)


@pytest.mark.parametrize("leave", LEAVES)
async def test_while_a_pipeline_has_stopped_the_reading(leave: Callable[[Client], None]) -> None:
    async with staged({"cn": saying()}, more="limits: {pipelined: 2}") as stage:
        client = await stage.client()
        await client.send(request() * 10)
        conversation = await met(stage)
        await stuck(stage)
        leave(client)
        async with asyncio.timeout(PROMISE):
            await conversation.ended.wait()
        (record,) = await told(stage)
        assert (record["status"], record["reason"]) == (0, "client-left")
        assert len(stage.providers["cn"].conversations) == 1
        await nothing_left(stage)


@pytest.mark.parametrize("leave", LEAVES)
async def test_in_a_long_poll_between_two_events(leave: Callable[[Client], None]) -> None:
    script = saying(OK + b"Content-Type: text/event-stream\r\n\r\n", b"data: 1\n\n")
    async with staged({"cn": script}) as stage:
        client = await stage.client()
        await client.send(request())
        await client.head()
        await client.reader.readuntil(b"\n\n")
        leave(client)
        async with asyncio.timeout(PROMISE):
            await stage.providers["cn"].conversations[0].ended.wait()
        (record,) = await told(stage)
        assert (record["status"], record["reason"], record["to_client"]) == (200, "client-left", 9)
        await nothing_left(stage)


@pytest.mark.parametrize("leave", LEAVES)
async def test_in_mid_download_with_its_window_full(leave: Callable[[Client], None]) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.read_head()
        await conversation.say(OK + b"Content-Length: %d\r\n\r\n" % HUGE)
        while True:
            await conversation.say(bytes(65536))

    async with staged({"cn": script}) as stage:
        client = await thin_client(stage)
        await client.send(request())
        await eventually(lambda: any(not connection.writable for connection in stage.plane._connections))
        leave(client)
        async with asyncio.timeout(PROMISE):
            await stage.providers["cn"].conversations[0].ended.wait()
        (record,) = await told(stage)
        assert (record["status"], record["reason"]) == (200, "client-left")
        assert metric(stage, "domicile_requests_total", status="2xx", provider="cn") == 1
        await nothing_left(stage)


@pytest.mark.parametrize("leave", LEAVES)
async def test_from_a_tunnel(leave: Callable[[Client], None]) -> None:
    async with staged({"cn": saying(SWITCHED)}) as stage:
        client = await stage.client()
        await client.send(request(headers=UPGRADE))
        await client.head()
        await client.send(b"last words")
        await eventually(lambda: b"last words" in stage.providers["cn"].heads[0])
        leave(client)
        async with asyncio.timeout(PROMISE):
            await stage.providers["cn"].conversations[0].ended.wait()
        (record,) = await told(stage)
        assert (record["status"], record["to_provider"]) == (101, 10)
        await nothing_left(stage)


async def test_from_a_tunnel_by_reset_while_the_provider_does_not_read() -> None:
    release = asyncio.Event()

    async def script(conversation: Conversation) -> None:
        await conversation.read_head()
        await conversation.say(SWITCHED)
        await release.wait()

    async with staged({"cn": script}) as stage:
        client = await stage.client()
        await client.send(request(headers=UPGRADE))
        await client.head()
        await fill(stage, client)
        reset(client)
        await nothing_left(stage)
        await told(stage)
        release.set()


async def test_what_a_tunnels_client_sent_before_its_fin_arrives_whole_at_a_slow_provider() -> None:
    release = asyncio.Event()
    received = bytearray()

    async def script(conversation: Conversation) -> None:
        await conversation.read_head()
        await conversation.say(SWITCHED)
        await release.wait()
        while data := await conversation.reader.read(1 << 20):
            received.extend(data)
        await conversation.say(b"%d" % len(received))

    async with staged({"cn": script}) as stage:
        client = await stage.client()
        await client.send(request(headers=UPGRADE))
        await client.head()
        sent = await fill(stage, client)
        half_close(client)
        # Long enough for the sweep to have looked at the paused connection more than once.
        await asyncio.sleep(0.6)
        release.set()
        assert await client.rest() == b"%d" % len(sent)
        assert received == sent
        (record,) = await told(stage)
        assert (record["reason"], record["to_provider"]) == (None, len(sent))


async def test_an_upload_that_is_whole_before_the_fin_gets_its_answer() -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.read_head()
        await conversation.read(100)
        await conversation.say(OK + b"Content-Length: 2\r\n\r\nok")
        await conversation.wait_end()

    async with staged({"cn": script}) as stage:
        client = await stage.client()
        await client.send(request(method="PUT", body=b"x" * 100))
        half_close(client)
        assert (await client.response()).body == b"ok"
        assert await client.closed()
        await told(stage)


# The provider leaves


async def fin(conversation: Conversation) -> None:
    conversation.writer.close()


async def rst(conversation: Conversation) -> None:
    reset_by_provider(conversation)


async def end_of_sending(conversation: Conversation) -> None:
    """A FIN from one that still reads, or does as if."""
    conversation.writer.write_eof()
    await conversation.wait_end()


Go = Callable[[Conversation], Awaitable[None]]
GOES: list[Go] = [fin, rst, end_of_sending]


def then(go: Go, *pieces: bytes) -> Script:
    """Reads a head, says these, and goes once all has been sent."""

    async def script(conversation: Conversation) -> None:
        await conversation.read_head()
        for piece in pieces:
            await conversation.say(piece)
            await asyncio.sleep(0.05)
        await go(conversation)

    return script


@pytest.mark.parametrize("go", GOES)
@pytest.mark.parametrize("pieces", [(), (b"HTTP/1.1 20",), (OK,), (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",)])
async def test_a_provider_that_leaves_before_its_head_is_a_502(go: Go, pieces: tuple[bytes, ...]) -> None:
    async with staged({"cn": then(go, *pieces)}) as stage:
        client = await stage.client()
        await client.send(request())
        async with asyncio.timeout(PROMISE):
            response = await client.response()
            if response.status == 103:
                response = await client.response()
        assert (response.status, response.reason) == (502, "provider-closed")
        (record,) = await told(stage)
        assert (record["status"], record["reason"], record["provider"]) == (502, "provider-closed", "cn")
        assert metric(stage, "domicile_attempts_total", provider="cn", result="broken") == 1
        assert metric(stage, "domicile_requests_total", status="5xx", provider="cn") == 1
        await eventually(lambda: open_at(stage, "cn") == 0, PROMISE)


async def test_a_provider_that_closes_as_soon_as_it_is_reached_is_a_502() -> None:
    async def script(conversation: Conversation) -> None:
        await rst(conversation)

    async with staged({"cn": script}) as stage:
        async with asyncio.timeout(PROMISE):
            assert (await stage.ask(request())).status == 502
        await told(stage)
        await eventually(lambda: open_at(stage, "cn") == 0, PROMISE)


@pytest.mark.parametrize("go", GOES)
async def test_a_provider_that_leaves_in_mid_upload_is_a_502(go: Go) -> None:
    async with staged({"cn": then(go)}) as stage:
        client = await stage.client()
        await client.send(request(method="PUT", headers="Content-Length: 100") + b"some")
        async with asyncio.timeout(PROMISE):
            response = await client.response()
        assert (response.status, response.header("connection")) == (502, "close")
        await told(stage)
        client.close()
        await nothing_left(stage)


@pytest.mark.parametrize("go", ["rst", "end of sending"])
async def test_a_provider_that_leaves_without_having_read_the_upload_is_a_502(go: str) -> None:
    leave, over = asyncio.Event(), asyncio.Event()

    async def script(conversation: Conversation) -> None:
        await conversation.read_head()
        await leave.wait()
        if go == "rst":
            reset_by_provider(conversation)
        else:
            conversation.writer.write_eof()
            await over.wait()

    async with staged({"cn": script}) as stage:
        client = await stage.client()
        await client.send(request(method="PUT", headers=f"Content-Length: {HUGE}"))
        await fill(stage, client)
        leave.set()
        async with asyncio.timeout(PROMISE):
            response = await client.response()
        assert (response.status, response.reason) == (502, "provider-closed")
        client.abort()
        await told(stage)
        await nothing_left(stage)
        over.set()


@pytest.mark.parametrize("go", GOES)
@pytest.mark.parametrize(
    "framing", [b"Content-Length: 100\r\n\r\nsome", b"Transfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n"]
)
async def test_a_provider_that_leaves_in_mid_answer_cuts_the_client(go: Go, framing: bytes) -> None:
    async with staged({"cn": then(go, OK + framing)}) as stage:
        client = await stage.client()
        await client.send(request())
        async with asyncio.timeout(PROMISE):
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await client.response()
        (record,) = await told(stage)
        assert (record["status"], record["reason"], record["to_client"]) == (200, "provider-closed", 4)
        await nothing_left(stage)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_reset_does_not_complete_a_body_that_ends_by_close(version: str) -> None:
    async with staged({"cn": then(rst, OK + b"\r\nsome")}) as stage:
        client = await stage.client()
        await client.send(request(version=version))
        await client.head()
        async with asyncio.timeout(PROMISE):
            with pytest.raises(ConnectionError):
                await client.reader.read()
        (record,) = await told(stage)
        assert (record["status"], record["reason"]) == (200, "provider-closed")
        await nothing_left(stage)


@pytest.mark.parametrize("go", GOES)
async def test_a_provider_that_leaves_a_tunnel_ends_it(go: Go) -> None:
    async with staged({"cn": then(go, SWITCHED, b"last words")}) as stage:
        client = await stage.client()
        await client.send(request(headers=UPGRADE))
        await client.head()
        async with asyncio.timeout(PROMISE):
            assert await client.reader.readexactly(10) == b"last words"
            assert await client.rest() == b""
        client.close()
        (record,) = await told(stage)
        assert (record["status"], record["to_client"]) == (101, 10)
        await nothing_left(stage)


@pytest.mark.parametrize("go", [fin, rst])
async def test_a_provider_that_leaves_while_idle_is_noticed_by_nobody(go: Go) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.read_head()
        await conversation.say(OK + b"Content-Length: 2\r\n\r\nok")
        await go(conversation)

    async with staged({"cn": script}) as stage:
        client = await stage.client()
        for served in range(1, 6):
            await client.send(request(method="POST", body=b"once"))
            assert (await client.response()).body == b"ok"
            await eventually(lambda: open_at(stage, "cn") == 0, PROMISE)
            assert len(stage.providers["cn"].conversations) == served
        for record in await told(stage, 5):
            assert (record["status"], record["attempts"]) == (200, 1)


async def test_both_leave_at_once_and_nothing_is_left() -> None:
    gate = asyncio.Event()

    async def script(conversation: Conversation) -> None:
        await conversation.read_head()
        await gate.wait()
        await rst(conversation)

    async with staged({"cn": script}) as stage:
        clients = [await stage.client() for _ in range(20)]
        for client in clients:
            await client.send(request())
        async with asyncio.timeout(PATIENCE):
            await eventually(lambda: open_at(stage, "cn") == 20)
        gate.set()
        for client in clients:
            reset(client)
        await nothing_left(stage)
        for record in await told(stage, 20):
            assert record["status"] in (0, 502)
