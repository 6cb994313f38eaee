"""One request and its response, over real sockets."""

import asyncio
import gc
from typing import Any

import pytest

from proxy.http1.attempts import Attempts
from proxy.http1.exchange import Exchange
from proxy.http1.tally import Tally
from proxy.http1.upload import Upload
from tests.http1.staging import (
    BRITAIN,
    MAINLAND,
    Conversation,
    answering,
    closing,
    request,
    saying,
    staged,
)


async def test_each_home_reaches_its_own_provider_and_no_other() -> None:
    async with staged({"cn": answering(b"telecom"), "own": answering(b"cloud")}) as stage:
        assert (await stage.ask(request(xff=MAINLAND))).body == b"telecom"
        assert len(stage.providers["own"].conversations) == 0
        assert (await stage.ask(request(xff=BRITAIN))).body == b"cloud"
        assert len(stage.providers["cn"].conversations) == 1


async def test_a_connection_is_kept_on_both_sides() -> None:
    async with staged({"cn": answering(b"x")}) as stage:
        client = await stage.client()
        for _ in range(5):
            await client.send(request())
            assert (await client.response()).body == b"x"
        assert len(stage.providers["cn"].conversations) == 1
        await stage.records(5)


@pytest.mark.parametrize(
    "asked", [{}, {"method": "POST", "body": b"x"}, {"xff": BRITAIN}], ids=["get", "post", "denied"]
)
async def test_what_was_made_for_a_request_goes_with_it(asked: dict[str, Any]) -> None:
    """What waits for the collector instead makes it stop the loop, for milliseconds each time."""
    async with staged({"cn": answering()}) as stage:
        client = await stage.client()
        gc.disable()
        try:
            for _ in range(3):
                await client.send(request(**asked))
                await client.response()
            await stage.records(3)
            left = [each for each in gc.get_objects() if isinstance(each, Exchange | Attempts | Upload | Tally)]
            assert not left
        finally:
            gc.enable()


async def test_pipelined_requests_are_answered_in_order() -> None:
    async def script(conversation: Conversation) -> None:
        while True:
            head = await conversation.read_head()
            target = head.split(b" ")[1]
            await conversation.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(target), target))

    async with staged({"cn": script}) as stage:
        client = await stage.client()
        await client.send(b"".join(request(f"/{i}") for i in range(200)))
        assert [(await client.response()).body for _ in range(200)] == [b"/%d" % i for i in range(200)]


async def test_denials_and_answers_interleave_in_a_pipeline() -> None:
    async with staged({"cn": answering(b"x")}) as stage:
        client = await stage.client()
        await client.send(b"".join(request(xff=MAINLAND if i % 2 else None) for i in range(40)))
        statuses = [(await client.response()).status for _ in range(40)]
        assert statuses == [200 if i % 2 else 451 for i in range(40)]


async def test_a_pipeline_of_thousands_of_denials_needs_no_depth() -> None:
    async with staged({"cn": answering(b"x")}) as stage:
        client = await stage.client()
        sending = asyncio.ensure_future(client.send(request(xff=None) * 14_000))
        for _ in range(14_000):
            assert (await client.response()).status == 451
        await sending


@pytest.mark.parametrize(
    ("reply", "body", "framing"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello", "content-length"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nT: t\r\n\r\n",
            b"hello",
            "chunks",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"", "content-length"),
    ],
)
async def test_a_body_arrives_however_it_is_cut(reply: bytes, body: bytes, framing: str) -> None:
    async def script(conversation: Conversation) -> None:
        at = 0
        while True:
            await conversation.read_head()
            at += 1
            await conversation.say(reply[:at])
            await asyncio.sleep(0)
            await conversation.say(reply[at:])

    async with staged({"cn": script}) as stage:
        client = await stage.client()
        for _ in range(len(reply)):
            await client.send(request())
            response = await client.response()
            assert response.body == body
            assert response.header("t") is None
        assert len(stage.providers["cn"].conversations) == 1


async def test_a_body_that_ends_by_close_is_whole_after_a_fin() -> None:
    async with staged({"cn": closing(b"HTTP/1.1 200 OK\r\n\r\n", b"hello ", b"world")}) as stage:
        response = await stage.ask(request())
        assert response.body == b"hello world"
        assert response.header("transfer-encoding") == "chunked"
        response = await stage.ask(request(version="1.0"))
        assert response.body == b"hello world"
        assert response.header("connection") == "close"


async def test_an_upload_streams_by_length_and_in_chunks() -> None:
    seen: list[bytes] = []

    async def script(conversation: Conversation) -> None:
        while True:
            head = await conversation.read_head()
            if b"Content-Length: 1000000" in head:
                seen.append(await conversation.read(1_000_000))
            else:
                assert b"Transfer-Encoding: chunked" in head
                body = b""
                while size := int(await conversation.reader.readuntil(b"\r\n"), 16):
                    body += await conversation.read(size)
                    await conversation.read(2)
                await conversation.read(2)
                seen.append(body)
            await conversation.say(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    async with staged({"cn": script}) as stage:
        client = await stage.client()
        body = bytes(range(250)) * 4000
        await client.send(request("/up", method="PUT", body=body))
        assert (await client.response()).status == 201
        chunks = b"".join(b"%x\r\n%b\r\n" % (997, body[i : i + 997]) for i in range(0, 997_000, 997))
        await client.send(request("/up", method="PUT", headers="Transfer-Encoding: chunked") + chunks + b"0\r\n\r\n")
        assert (await client.response()).status == 201
        assert seen == [body, body[:997_000]]
        (first, second) = await stage.records(2)
        assert (first["to_provider"], second["to_provider"]) == (1_000_000, 997_000)


async def test_head_204_and_304_have_no_body_and_keep_the_connection() -> None:
    replies = iter(
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\nETag: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        ]
    )

    async def script(conversation: Conversation) -> None:
        while True:
            await conversation.read_head()
            await conversation.say(next(replies))

    async with staged({"cn": script}) as stage:
        client = await stage.client()
        await client.send(request(method="HEAD"))
        assert (await client.response("HEAD")).header("content-length") == "1234"
        await client.send(request(method="HEAD"))
        assert (await client.response("HEAD")).status == 200
        for status in (204, 304):
            await client.send(request())
            assert (await client.response()).status == status
        await client.send(request())
        assert (await client.response()).body == b"ok"
        assert len(stage.providers["cn"].conversations) == 1


async def test_interim_responses_pass_and_100_only_when_expected() -> None:
    async def script(conversation: Conversation) -> None:
        while True:
            head = await conversation.read_head()
            await conversation.say(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
            await conversation.say(b"HTTP/1.1 100 Continue\r\n\r\n")
            if b"Expect: 100-continue" in head:
                assert await conversation.read(4) == b"body"
            await conversation.say(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with staged({"cn": script}) as stage:
        client = await stage.client()
        await client.send(request())
        assert (await client.response()).status == 103
        assert (await client.response()).status == 200
        client = await stage.client()
        await client.send(request(method="PUT", headers="Expect: 100-continue\r\nContent-Length: 4"))
        assert (await client.response()).status == 103
        assert (await client.response()).status == 100
        await client.send(b"body")
        assert (await client.response()).status == 200
        client = await stage.client()
        await client.send(request(version="1.0"))
        assert (await client.response()).status == 200


async def test_a_denied_expectation_gets_no_100() -> None:
    async with staged({"cn": answering()}) as stage:
        client = await stage.client()
        await client.send(request(method="PUT", xff=None, headers="Expect: 100-continue\r\nContent-Length: 4"))
        response = await client.response()
        assert (response.status, response.header("connection")) == (451, "close")
        assert stage.providers["cn"].conversations == []


async def test_an_unrequested_101_is_a_502() -> None:
    script = saying(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    async with staged({"cn": script}) as stage:
        assert (await stage.ask(request())).status == 502


async def test_a_tunnel_is_byte_exact_both_ways_and_bytes_behind_the_request_wait_for_101() -> None:
    early = asyncio.Event()

    async def script(conversation: Conversation) -> None:
        await conversation.read_head()
        assert len(conversation.received.partition(b"\r\n\r\n")[2]) == 0
        early.set()
        await conversation.say(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirst"
        )
        while data := await conversation.read_some():
            await conversation.say(data.upper())

    async with staged({"cn": script}) as stage:
        client = await stage.client()
        await client.send(request(headers="Connection: Upgrade\r\nUpgrade: websocket") + b"early")
        assert (await client.head()).status == 101
        assert await client.reader.readexactly(10) == b"firstEARLY"
        await client.send(b"x" * 1_000_000)
        assert await client.reader.readexactly(1_000_000) == b"X" * 1_000_000
        client.writer.write_eof()
        assert await client.closed()
        (record,) = await stage.records(1)
        assert (record["status"], record["to_provider"], record["to_client"]) == (101, 1_000_005, 1_000_010)


async def test_a_refused_upgrade_never_becomes_a_tunnel() -> None:
    async with staged({"cn": answering(b"no")}) as stage:
        client = await stage.client()
        await client.send(request(headers="Connection: Upgrade\r\nUpgrade: websocket") + request("/next"))
        assert (await client.response()).body == b"no"
        assert (await client.response()).body == b"no"
        assert b"GET /next HTTP/1.1" in stage.providers["cn"].heads[0]


async def test_events_pass_unbuffered() -> None:
    tick = asyncio.Event()

    async def script(conversation: Conversation) -> None:
        await conversation.read_head()
        await conversation.say(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for i in range(3):
            await tick.wait()
            tick.clear()
            await conversation.say(b"9\r\ndata: %d\n\n\r\n" % i)
        await conversation.say(b"0\r\n\r\n")
        await conversation.wait_end()

    async with staged({"cn": script}) as stage:
        client = await stage.client()
        await client.send(request())
        assert (await client.head()).status == 200
        for i in range(3):
            tick.set()
            assert await client.reader.readexactly(14) == b"9\r\ndata: %d\n\n\r\n" % i
        assert await client.reader.readexactly(5) == b"0\r\n\r\n"


async def test_an_http_1_0_client_gets_what_it_can_read() -> None:
    script = saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    async with staged({"cn": script}) as stage:
        client = await stage.client()
        await client.send(request(version="1.0", headers="Connection: keep-alive"))
        response = await client.response()
        assert (response.body, response.header("connection")) == (b"hello", "close")
        assert response.header("transfer-encoding") is None


async def test_an_http_1_0_client_can_keep_its_connection() -> None:
    async with staged({"cn": answering(b"x")}) as stage:
        client = await stage.client()
        for _ in range(2):
            await client.send(request(version="1.0", headers="Connection: keep-alive"))
            assert (await client.response()).header("connection") == "keep-alive"
        await client.send(request(version="1.0"))
        assert (await client.response()).header("connection") == "close"
        assert await client.closed()


async def test_a_client_that_only_stopped_sending_gets_its_answer() -> None:
    async with staged({"cn": answering(b"x")}) as stage:
        client = await stage.client()
        await client.send(request())
        client.writer.write_eof()
        assert (await client.response()).body == b"x"
        assert await client.closed()


async def test_an_early_final_response_closes_both_connections() -> None:
    async with staged({"cn": saying(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")}) as stage:
        client = await stage.client()
        await client.send(request(method="PUT", headers="Content-Length: 1000000") + b"some")
        response = await client.response()
        assert (response.status, response.header("connection")) == (401, "close")
        await stage.providers["cn"].conversations[0].ended.wait()
        assert await client.closed()


async def test_no_answer_of_ours_names_an_address() -> None:
    async with staged({"cn": closing()}) as stage:
        response = await stage.ask(request())
        assert response.status == 502
        assert response.header("content-type") == "application/problem+json"
        assert b"127.0.0.1" not in response.raw_head + response.body
