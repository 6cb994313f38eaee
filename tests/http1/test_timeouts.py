"""Every timeout of the policy file, just within and just past.

Within: pauses well below a timeout, more of them than it lasts. Past: the outcome comes, not before its time.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from proxy.http1.client import LINGER
from proxy.http1.plane import PERIOD
from tests.http1.scenes import (
    PROMISE,
    SWITCHED,
    UPGRADE,
    answered_and_not_taken,
    black_hole,
    eventually,
    half_close,
    metric,
    more_than_is_taken,
    not_before,
    nothing_left,
    open_at,
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

PAUSE = 0.2
SHORT = "700ms"
LONG_SECONDS = 0.7
PAUSES = 4
"""PAUSES * PAUSE is more than LONG_SECONDS, and one PAUSE is far less."""


def timeouts(**values: str) -> str:
    return "timeouts: {" + ", ".join(f"{name}: {value}" for name, value in values.items()) + "}"


async def test_a_head_may_come_in_pieces_within_its_time() -> None:
    async with staged({"cn": answering()}, more=timeouts(head="5s")) as stage:
        client = await stage.client()
        data = request()
        for i in range(0, len(data), 20):
            await client.send(data[i : i + 20])
            await asyncio.sleep(0.02)
        assert (await client.response()).status == 200
        await told(stage)


@pytest.mark.parametrize("start", [b"G", request()[:-1]])
async def test_a_head_that_is_too_slow_is_a_408(start: bytes) -> None:
    async with staged({"cn": answering()}, more=timeouts(head="300ms")) as stage:
        client = await stage.client()
        with not_before(0.3):
            await client.send(start)
            response = await client.response()
        assert (response.status, response.reason, response.header("connection")) == (408, "head-too-slow", "close")
        assert await client.closed()
        (record,) = await told(stage)
        assert (record["status"], record["reason"], record["provider"]) == (408, "head-too-slow", None)
        assert metric(stage, "domicile_requests_total", status="4xx", provider="none") == 1
        assert stage.providers["cn"].conversations == []


async def test_bytes_that_trickle_do_not_lengthen_a_heads_time() -> None:
    async with staged({"cn": answering()}, more=timeouts(head=SHORT)) as stage:
        client = await stage.client()
        await client.send(b"GET / HTTP/1.1\r\n")

        async def trickle() -> None:
            for i in range(10_000):
                client.writer.write(b"X-%d: y\r\n" % i)
                await asyncio.sleep(0.05)

        trickling = asyncio.ensure_future(trickle())
        assert (await client.response()).status == 408
        trickling.cancel()
        await told(stage)


async def test_a_connection_that_says_nothing_is_closed_in_silence() -> None:
    async with staged({"cn": answering()}, more=timeouts(head="300ms")) as stage:
        client = await stage.client()
        with not_before(0.3):
            assert await client.closed()
        await nothing_left(stage)
        assert metric(stage, "domicile_requests_total") == 0


async def test_a_kept_connection_serves_within_keep_alive_and_is_closed_in_silence_after() -> None:
    async with staged({"cn": answering(b"x")}, more=timeouts(keep_alive=SHORT)) as stage:
        client = await stage.client()
        for _ in range(PAUSES):
            await client.send(request())
            assert (await client.response()).body == b"x"
            await asyncio.sleep(PAUSE)
        await client.send(request())
        assert (await client.response()).body == b"x"
        assert await client.closed()
        await told(stage, PAUSES + 1)
        await eventually(lambda: stage.plane.open_connections == 0)


async def test_the_head_of_a_second_request_has_the_heads_time() -> None:
    async with staged({"cn": answering(b"x")}, more=timeouts(head="300ms", keep_alive="60s")) as stage:
        client = await stage.client()
        await client.send(request() + request()[:10])
        assert (await client.response()).status == 200
        assert (await client.response()).status == 408
        await told(stage, 2)


async def read_to_end_of_upload(conversation: Conversation) -> None:
    await conversation.read_head()
    await conversation.read(PAUSES)
    await conversation.say(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
    await conversation.wait_end()


async def test_a_body_may_pause_for_less_than_body_idle() -> None:
    more = timeouts(body_idle=SHORT, first_byte=SHORT)
    async with staged({"cn": read_to_end_of_upload}, more=more) as stage:
        client = await stage.client()
        await client.send(request(method="PUT", headers=f"Content-Length: {PAUSES}"))
        for _ in range(PAUSES):
            await asyncio.sleep(PAUSE)
            await client.send(b"x")
        assert (await client.response()).status == 201
        await told(stage)


@pytest.mark.parametrize(
    ("framing", "start"),
    [("Content-Length: 100", b""), ("Transfer-Encoding: chunked", b"4\r\nsome\r\n")],
)
async def test_a_body_that_stops_for_body_idle_is_a_408(framing: str, start: bytes) -> None:
    async with staged({"cn": saying()}, more=timeouts(body_idle="300ms")) as stage:
        client = await stage.client()
        with not_before(0.3):
            await client.send(request(method="PUT", headers=framing) + start)
            response = await client.response()
        assert (response.status, response.reason) == (408, "body-too-slow")
        assert await client.closed()
        async with asyncio.timeout(PATIENCE):
            await stage.providers["cn"].conversations[0].ended.wait()
        (record,) = await told(stage)
        assert (record["status"], record["reason"], record["provider"]) == (408, "body-too-slow", "cn")
        assert metric(stage, "domicile_requests_total", status="4xx", provider="cn") == 1
        client.close()
        await nothing_left(stage)


async def test_a_provider_that_does_not_take_the_body_is_a_504_not_a_408() -> None:
    release = asyncio.Event()

    async def script(conversation: Conversation) -> None:
        await conversation.read_head()
        await release.wait()

    async with staged({"cn": script}, more=timeouts(body_idle=SHORT)) as stage:
        client = await stage.client()
        size = 256 << 20
        await client.send(request(method="PUT", headers=f"Content-Length: {size}"))

        async def upload() -> None:
            piece = bytes(1 << 20)
            for _ in range(size // len(piece)):
                await client.send(piece)

        uploading = asyncio.ensure_future(upload())
        response = await client.response()
        assert (response.status, response.reason) == (504, "provider-too-slow")
        uploading.cancel()
        await asyncio.gather(uploading, return_exceptions=True)
        client.abort()
        (record,) = await told(stage)
        assert record["reason"] == "provider-too-slow"
        release.set()
        await nothing_left(stage)


async def test_a_client_that_waits_for_100_is_the_providers_to_answer_in_time() -> None:
    async with staged({"cn": saying()}, more=timeouts(body_idle="60s", first_byte="300ms")) as stage:
        client = await stage.client()
        await client.send(request(method="PUT", headers="Expect: 100-continue\r\nContent-Length: 4"))
        response = await client.response()
        assert (response.status, response.reason) == (504, "provider-too-slow")
        assert await client.closed()
        await told(stage)


async def test_a_provider_that_cannot_be_reached_in_time_is_a_504() -> None:
    async with black_hole() as hole, staged({"cn": answering(), "own": answering()}) as stage:
        ports = {"cn": hole.port, "own": stage.providers["own"].port}
        stage.plane.swap(stage.line(policy_text(ports, more=timeouts(connect="300ms")), stage.plane.line))
        client = await stage.client()
        with not_before(0.3):
            await client.send(request())
            response = await client.response()
        assert (response.status, response.reason) == (504, "provider-connect-timeout")
        (record,) = await told(stage)
        assert (record["provider"], record["attempts"], record["reason"]) == ("cn", 1, "provider-connect-timeout")
        assert metric(stage, "domicile_attempts_total", provider="cn", result="timeout") == 1
        assert stage.providers["own"].conversations == []
        # The endpoint is marked down: who comes next is not held up.
        assert (await stage.ask(request())).reason == "unavailable"
        assert open_at(stage, "cn") == 0


async def test_a_provider_that_is_reached_within_the_connect_time_serves() -> None:
    async with black_hole() as hole, staged({"cn": answering()}) as stage:
        stage.plane.swap(stage.line(policy_text({"cn": hole.port}, more=timeouts(connect="15s")), stage.plane.line))
        client = await stage.client()
        await client.send(request())
        await eventually(lambda: open_at(stage, "cn") == 1)
        hole.open()
        serving = asyncio.ensure_future(hole.serve(b"late"))
        assert (await client.response()).body == b"late"
        await serving
        await told(stage)


def after_pauses(first: bytes, *pieces: bytes) -> Script:
    async def script(conversation: Conversation) -> None:
        await conversation.read_head()
        await conversation.say(first)
        for piece in pieces:
            await asyncio.sleep(PAUSE)
            await conversation.say(piece)
        await conversation.wait_end()

    return script


async def test_a_first_byte_within_its_time_and_interims_in_between() -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.read_head()
        await asyncio.sleep(PAUSE)
        await conversation.say(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await conversation.wait_end()

    async with staged({"cn": script}, more=timeouts(first_byte=SHORT)) as stage:
        assert (await stage.ask(request())).status == 200
        await told(stage)


@pytest.mark.parametrize("own", [False, True])
async def test_a_first_byte_past_its_time_is_a_504(own: bool) -> None:
    options = {"provider": ", timeouts: {first_byte: 300ms}"} if own else {"more": timeouts(first_byte="300ms")}
    async with staged({"cn": saying()}, **options) as stage:
        client = await stage.client()
        with not_before(0.3):
            await client.send(request())
            response = await client.response()
        assert (response.status, response.reason) == (504, "provider-too-slow")
        async with asyncio.timeout(PATIENCE):
            await stage.providers["cn"].conversations[0].ended.wait()
        (record,) = await told(stage)
        assert (record["status"], record["reason"], record["provider"]) == (504, "provider-too-slow", "cn")
        assert metric(stage, "domicile_requests_total", status="5xx", provider="cn") == 1
        assert metric(stage, "domicile_attempts_total", provider="cn", result="timeout") == 1
        await eventually(lambda: open_at(stage, "cn") == 0)


async def test_the_first_byte_is_not_waited_for_while_the_body_still_comes() -> None:
    async with staged({"cn": read_to_end_of_upload}, more=timeouts(body_idle="60s", first_byte=SHORT)) as stage:
        client = await stage.client()
        await client.send(request(method="PUT", headers=f"Content-Length: {PAUSES}"))
        for _ in range(PAUSES):
            await asyncio.sleep(PAUSE)
            await client.send(b"x")
        assert (await client.response()).status == 201


async def test_a_providers_own_time_may_be_longer_than_everybodys() -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.read_head()
        await asyncio.sleep(PAUSE * 4)
        await conversation.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
        await asyncio.sleep(PAUSE * 4)
        await conversation.say(b"ok")
        await conversation.wait_end()

    more = timeouts(first_byte="250ms", idle="250ms")
    async with staged({"cn": script}, provider=", timeouts: {first_byte: 30s, idle: 30s}", more=more) as stage:
        assert (await stage.ask(request())).body == b"ok"


async def test_a_response_may_pause_for_less_than_idle() -> None:
    pieces = [b"1\r\nx\r\n"] * PAUSES
    script = after_pauses(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *pieces, b"0\r\n\r\n")
    async with staged({"cn": script}, more=timeouts(idle=SHORT)) as stage:
        assert (await stage.ask(request())).body == b"x" * PAUSES
        await told(stage)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("framing", [b"Content-Length: 100", b"Transfer-Encoding: chunked", b"X: until-close"])
async def test_a_response_that_stops_for_idle_is_cut(framing: bytes, own: bool) -> None:
    options = {"provider": ", timeouts: {idle: 300ms}"} if own else {"more": timeouts(idle="300ms")}
    async with staged(
        {"cn": saying(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n", b"4\r\nsome\r\n")}, **options
    ) as stage:
        client = await stage.client()
        with not_before(0.3):
            await client.send(request())
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await client.response()
        async with asyncio.timeout(PATIENCE):
            await stage.providers["cn"].conversations[0].ended.wait()
        (record,) = await told(stage)
        assert (record["status"], record["reason"]) == (200, "idle")
        assert metric(stage, "domicile_requests_total", status="2xx", provider="cn") == 1
        await nothing_left(stage)


async def endless(conversation: Conversation) -> None:
    await conversation.read_head()
    await conversation.say(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")
    while True:
        await conversation.say(bytes(65536))


async def test_a_client_that_stops_reading_is_cut_after_idle() -> None:
    async with staged({"cn": endless}, more=timeouts(idle=SHORT)) as stage:
        client = await thin_client(stage)
        with not_before(LONG_SECONDS):
            await client.send(request())
            (record,) = await told(stage)
        assert (record["status"], record["reason"]) == (200, "idle")
        async with asyncio.timeout(PATIENCE):
            await stage.providers["cn"].conversations[0].ended.wait()
        await nothing_left(stage)


async def test_a_client_that_reads_slowly_is_not_cut() -> None:
    async with staged({"cn": endless}, more=timeouts(idle=SHORT)) as stage:
        client = await thin_client(stage)
        await client.send(request())
        await client.head()
        await eventually(lambda: not any(connection.writable for connection in stage.plane._connections))
        for _ in range(PAUSES * 3):
            await client.reader.readexactly(8192)
            await asyncio.sleep(PAUSE / 2)
        assert stage.plane.open_connections == 1
        assert open_at(stage, "cn") == 1


@pytest.mark.parametrize("then", ["asks-more", "ends"])
async def test_a_client_that_never_takes_its_last_answer_is_cut_whatever_it_sends(then: str) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.read_head()
        await more_than_is_taken(stage, conversation)

    async with staged({"cn": script}, more=timeouts(idle=SHORT, keep_alive=SHORT)) as stage:
        client = await thin_client(stage)
        await client.send(request())
        await answered_and_not_taken(stage)
        if then == "ends":
            half_close(client)
        else:
            client.writer.write(request() * 10_000)
        await nothing_left(stage, within=3 * LONG_SECONDS + PROMISE)


async def test_a_client_that_takes_its_last_answer_slowly_is_served_what_it_asked_meanwhile() -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.read_head()
        await more_than_is_taken(stage, conversation)
        await conversation.read_head()
        await conversation.say(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with staged({"cn": script}, more=timeouts(idle="2s", keep_alive=SHORT)) as stage:
        client = await thin_client(stage)
        await client.send(request())
        await answered_and_not_taken(stage)
        await client.send(request())
        for _ in range(PAUSES):
            await asyncio.sleep(PAUSE)
            await client.reader.read(65536)
        taken = b""
        async with asyncio.timeout(PATIENCE):
            while not taken.endswith(b"\r\n0\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"):
                piece = await client.reader.read(65536)
                assert piece
                taken = taken[-100:] + piece


# After a last answer


@asynccontextmanager
async def lingering(idle: str) -> AsyncIterator[tuple[Stage, Client]]:
    """A client whose last answer waits to be taken, whole: it began while the client still owed a part of its body."""

    async def script(conversation: Conversation) -> None:
        await conversation.read_head()
        await more_than_is_taken(stage, conversation)

    async with staged({"cn": script}, more=timeouts(idle=idle)) as stage:
        client = await thin_client(stage)
        await client.send(request(method="POST", headers="Content-Length: 9"))
        await answered_and_not_taken(stage)
        yield stage, client


async def take_all(client: Client, pause: float = 0.0) -> None:
    """All of the answer, with a pause after each 64 KiB."""
    taken = b""
    async with asyncio.timeout(PATIENCE):
        while not taken.endswith(b"\r\n0\r\n\r\n"):
            piece = await client.reader.read(65536)
            assert piece
            taken += piece
            if len(taken) > 65536:
                taken = taken[-100:]
                await asyncio.sleep(pause)


async def test_who_has_taken_a_last_answer_and_stays_is_not_waited_for() -> None:
    async with lingering(idle="60s") as (stage, client):
        await take_all(client)
        with not_before(LINGER - PERIOD):
            assert await client.reader.read() == b""
            await nothing_left(stage, within=2 * LINGER + PROMISE)


async def test_who_takes_a_last_answer_slowly_gets_it_all() -> None:
    async with lingering(idle=SHORT) as (stage, client):
        with not_before(LINGER + LONG_SECONDS):
            await take_all(client, PAUSE / 2)
        await nothing_left(stage, within=2 * LINGER + PROMISE)


async def test_who_takes_nothing_of_a_last_answer_is_cut_after_idle_and_not_before() -> None:
    async with lingering(idle="3s") as (stage, _):
        with not_before(3.0 - PERIOD):
            await nothing_left(stage, within=6.0 + PROMISE)


# Tunnels


async def echo(conversation: Conversation) -> None:
    await conversation.read_head()
    await conversation.say(SWITCHED)
    while data := await conversation.read_some():
        await conversation.say(data)


async def test_a_tunnel_in_use_stays_and_an_idle_one_ends() -> None:
    async with staged({"cn": echo}, more=timeouts(idle=SHORT, first_byte=SHORT)) as stage:
        client = await stage.client()
        await client.send(request(headers=UPGRADE))
        assert (await client.head()).status == 101
        for _ in range(PAUSES):
            await asyncio.sleep(PAUSE)
            await client.send(b"x")
            assert await client.reader.readexactly(1) == b"x"
        with not_before(LONG_SECONDS / 2):
            assert await client.rest() == b""
        (record,) = await told(stage)
        assert (record["status"], record["reason"], record["to_client"]) == (101, "idle", PAUSES)
        assert metric(stage, "domicile_requests_total", status="1xx", provider="cn") == 1
        await nothing_left(stage)


@pytest.mark.parametrize("talks", ["client", "provider"])
async def test_a_tunnel_stays_when_only_one_side_talks(talks: str) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.read_head()
        await conversation.say(SWITCHED)
        if talks == "provider":
            for _ in range(PAUSES):
                await asyncio.sleep(PAUSE)
                await conversation.say(b"x")
        await conversation.wait_end()

    async with staged({"cn": script}, more=timeouts(idle=SHORT)) as stage:
        client = await stage.client()
        await client.send(request(headers=UPGRADE))
        assert (await client.head()).status == 101
        if talks == "client":
            for _ in range(PAUSES):
                await asyncio.sleep(PAUSE)
                await client.send(b"x")
            half_close(client)
            assert await client.closed()
            (record,) = await told(stage)
            assert (record["reason"], record["to_provider"]) == (None, PAUSES)
        else:
            assert await client.reader.readexactly(PAUSES) == b"x" * PAUSES


async def test_a_tunnel_whose_client_takes_nothing_ends_after_idle() -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.read_head()
        await conversation.say(SWITCHED)
        while True:
            await conversation.say(bytes(65536))

    async with staged({"cn": script}, more=timeouts(idle=SHORT)) as stage:
        client = await thin_client(stage)
        await client.send(request(headers=UPGRADE))
        (record,) = await told(stage)
        assert (record["status"], record["reason"]) == (101, "idle")
        await nothing_left(stage)


async def test_a_tunnel_whose_provider_takes_nothing_ends_after_idle() -> None:
    release = asyncio.Event()

    async def script(conversation: Conversation) -> None:
        await conversation.read_head()
        await conversation.say(SWITCHED)
        await release.wait()

    async with staged({"cn": script}, more=timeouts(idle=SHORT)) as stage:
        client = await stage.client()
        await client.send(request(headers=UPGRADE))
        await client.head()

        async def flood() -> None:
            while True:
                await client.send(bytes(1 << 20))

        flooding = asyncio.ensure_future(flood())
        (record,) = await told(stage)
        assert (record["status"], record["reason"]) == (101, "idle")
        await asyncio.gather(flooding, return_exceptions=True)
        release.set()
        await nothing_left(stage)


async def test_idle_connections_to_a_provider_are_closed_after_its_idle_time() -> None:
    async with staged({"cn": answering(b"x")}, provider=", timeouts: {idle: 400ms}") as stage:
        assert (await stage.ask(request())).body == b"x"
        assert open_at(stage, "cn") == 1
        with not_before(0.2):
            async with asyncio.timeout(PATIENCE):
                await stage.providers["cn"].conversations[0].ended.wait()
        assert (await stage.ask(request())).body == b"x"
        assert len(stage.providers["cn"].conversations) == 2


async def test_draining_waits_for_as_long_as_the_policy_says() -> None:
    async with staged({"cn": saying()}, more=timeouts(drain="400ms")) as stage:
        client = await stage.client()
        await client.send(request())
        async with asyncio.timeout(PATIENCE):
            await stage.providers["cn"].met.wait()
        with not_before(0.4):
            await stage.plane.drain(stage.plane.timeouts.drain)
        assert await client.rest() == b""
        (record,) = await told(stage)
        assert record["status"] == 0
        await nothing_left(stage)
