"""Draining: no further requests, what is in flight finishes, what does not is cut, and nothing is left."""

import asyncio

import pytest

from tests.http1.scenes import (
    SWITCHED,
    UPGRADE,
    black_hole,
    eventually,
    half_close,
    metric,
    not_before,
    nothing_left,
    open_at,
    told,
)
from tests.http1.staging import (
    PATIENCE,
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


async def drained(stage: Stage, grace: float = PATIENCE) -> None:
    """Drain to the end, well before the grace is over."""
    async with asyncio.timeout(grace / 2):
        await stage.plane.drain(grace)
    await nothing_left(stage)


def gated(gate: asyncio.Event, first: bytes, *more: bytes) -> Script:
    """Says the first piece at once, and the others at the gate; serves one request after another."""

    async def script(conversation: Conversation) -> None:
        while True:
            await conversation.read_head()
            await conversation.say(first)
            await gate.wait()
            for piece in more:
                await conversation.say(piece)

    return script


async def test_a_plane_that_does_nothing_is_drained_at_once() -> None:
    async with staged({"cn": answering()}) as stage:
        await drained(stage)


async def test_kept_connections_end_on_both_sides() -> None:
    async with staged({"cn": answering(b"x")}) as stage:
        clients = [await stage.client() for _ in range(5)]
        for client in clients:
            await client.send(request())
            assert (await client.response()).header("connection") is None
        assert open_at(stage, "cn") >= 1
        await drained(stage)
        for client in clients:
            assert await client.closed()
        async with asyncio.timeout(PATIENCE):
            for conversation in stage.providers["cn"].conversations:
                await conversation.ended.wait()
        await told(stage, 5)


async def test_what_waits_for_its_answer_gets_it_and_is_told_of_the_close() -> None:
    gate = asyncio.Event()
    async with staged({"cn": gated(gate, b"", OK + b"Content-Length: 2\r\n\r\nok")}) as stage:
        client = await stage.client()
        await client.send(request())
        await eventually(lambda: any(stage.providers["cn"].heads))
        draining = asyncio.ensure_future(drained(stage))
        await eventually(lambda: stage.plane.draining)
        gate.set()
        response = await client.response()
        assert (response.body, response.header("connection")) == (b"ok", "close")
        assert await client.closed()
        await draining
        (record,) = await told(stage)
        assert (record["status"], record["reason"]) == (200, None)


async def test_an_answer_that_began_before_finishes_and_does_not_hold_the_drain_by_its_keep_alive() -> None:
    gate = asyncio.Event()
    async with staged({"cn": gated(gate, OK + b"Content-Length: 4\r\n\r\nok", b"ay")}) as stage:
        client = await stage.client()
        await client.send(request())
        assert (await client.head()).header("connection") is None
        draining = asyncio.ensure_future(drained(stage))
        await eventually(lambda: stage.plane.draining)
        gate.set()
        assert await client.reader.readexactly(4) == b"okay"
        assert await client.closed()
        await draining
        await told(stage)


async def test_an_upload_that_began_before_finishes() -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.read_head()
        await conversation.read(8)
        await conversation.say(OK + b"Content-Length: 2\r\n\r\nok")
        await conversation.wait_end()

    async with staged({"cn": script}) as stage:
        client = await stage.client()
        await client.send(request(method="PUT", headers="Content-Length: 8") + b"1234")
        await eventually(lambda: any(stage.providers["cn"].heads))
        draining = asyncio.ensure_future(drained(stage))
        await eventually(lambda: stage.plane.draining)
        await client.send(b"5678")
        response = await client.response()
        assert (response.body, response.header("connection")) == (b"ok", "close")
        await draining


async def test_of_a_pipeline_the_request_in_hand_is_answered_and_the_next_that_came_is_the_last() -> None:
    gate = asyncio.Event()
    async with staged({"cn": gated(gate, OK + b"Content-Length: 4\r\n\r\nok", b"ay")}) as stage:
        client = await stage.client()
        await client.send(request() * 3)
        # Its head has said that the connection stays, so one more answer is due.
        assert (await client.head()).header("connection") is None
        draining = asyncio.ensure_future(drained(stage))
        await eventually(lambda: stage.plane.draining)
        gate.set()
        assert await client.reader.readexactly(4) == b"okay"
        response = await client.response()
        assert (response.body, response.header("connection")) == (b"okay", "close")
        assert await client.closed()
        client.close()
        await draining
        await told(stage, 2)


async def test_a_connection_without_a_request_yet_may_still_send_one() -> None:
    async with staged({"cn": answering(b"x")}) as stage:
        silent, client = await stage.client(), await stage.client()
        await eventually(lambda: stage.plane.open_connections == 2)
        draining = asyncio.ensure_future(drained(stage))
        await eventually(lambda: stage.plane.draining)
        await client.send(request())
        response = await client.response()
        assert (response.body, response.header("connection")) == (b"x", "close")
        assert await silent.closed()
        await draining
        await told(stage)


async def test_a_connection_that_comes_while_draining_is_served_once() -> None:
    gate = asyncio.Event()
    async with staged({"cn": gated(gate, b"", OK + b"Content-Length: 2\r\n\r\nok")}) as stage:
        first = await stage.client()
        await first.send(request())
        await eventually(lambda: any(stage.providers["cn"].heads))
        draining = asyncio.ensure_future(drained(stage))
        await eventually(lambda: stage.plane.draining)
        # Accepted by the kernel before the listener closed, for example.
        late = await stage.client()
        await late.send(request())
        await eventually(lambda: len(stage.providers["cn"].conversations) == 2)
        gate.set()
        for client in (first, late):
            assert (await client.response()).header("connection") == "close"
            assert await client.closed()
        await draining


async def test_a_head_that_had_begun_may_become_whole() -> None:
    async with staged({"cn": answering(b"x")}) as stage:
        client = await stage.client()
        await client.send(request()[:20])
        await eventually(lambda: stage.plane.open_connections == 1)
        draining = asyncio.ensure_future(drained(stage))
        await eventually(lambda: stage.plane.draining)
        await client.send(request()[20:])
        response = await client.response()
        assert (response.body, response.header("connection")) == (b"x", "close")
        await draining


async def test_denials_while_draining_close_too() -> None:
    async with staged({"cn": answering(b"x")}) as stage:
        client = await stage.client()
        await client.send(request(xff=None)[:20])
        await eventually(lambda: stage.plane.open_connections == 1)
        draining = asyncio.ensure_future(drained(stage))
        await eventually(lambda: stage.plane.draining)
        await client.send(request(xff=None)[20:])
        response = await client.response()
        assert (response.status, response.header("connection")) == (451, "close")
        client.close()
        await draining


async def test_an_answer_that_a_client_is_still_to_read_is_not_taken_away() -> None:
    async with staged({"cn": answering()}, more="limits: {body: 8}") as stage:
        client = await stage.client()
        await client.send(request(method="PUT", headers="Content-Length: 1000000") + bytes(1000))
        async with asyncio.timeout(PATIENCE):
            await stage.records(1)
        draining = asyncio.ensure_future(drained(stage))
        await eventually(lambda: stage.plane.draining)
        # It goes on sending for a moment, as clients do; a reset would make it lose the answer.
        await client.send(bytes(200_000))
        assert (await client.response()).status == 413
        client.close()
        await draining


@pytest.mark.parametrize(
    ("script", "headers", "status"),
    [
        (saying(), "", 0),
        (saying(OK + b"Content-Length: 100\r\n\r\nsome"), "", 200),
        (saying(SWITCHED), "\r\n" + UPGRADE, 101),
    ],
)
async def test_what_is_in_flight_past_the_grace_is_cut(script: Script, headers: str, status: int) -> None:
    async with staged({"cn": script}) as stage:
        client = await stage.client()
        await client.send(request(headers=headers.strip()))
        await eventually(lambda: any(stage.providers["cn"].heads))
        if status:
            await client.head()
        with not_before(0.3):
            await stage.plane.drain(0.3)
        await nothing_left(stage)
        async with asyncio.timeout(PATIENCE):
            await client.rest()
            await stage.providers["cn"].conversations[0].ended.wait()
        (record,) = await told(stage)
        assert record["status"] == status
        assert metric(stage, "domicile_connections") == 0


async def test_a_dial_past_the_grace_is_given_up() -> None:
    async with black_hole() as hole, staged({"cn": answering()}) as stage:
        stage.plane.swap(stage.line(policy_text({"cn": hole.port}, more="timeouts: {connect: 60s}"), stage.plane.line))
        client = await stage.client()
        await client.send(request())
        await eventually(lambda: open_at(stage, "cn") == 1)
        await stage.plane.drain(0.1)
        await nothing_left(stage)
        await told(stage)


async def test_a_tunnel_may_end_by_itself_within_the_grace() -> None:
    async with staged({"cn": saying(SWITCHED)}) as stage:
        client = await stage.client()
        await client.send(request(headers=UPGRADE))
        await client.head()
        draining = asyncio.ensure_future(drained(stage))
        await eventually(lambda: stage.plane.draining)
        half_close(client)
        assert await client.closed()
        await draining
        (record,) = await told(stage)
        assert (record["status"], record["reason"]) == (101, None)


async def test_many_at_once_all_finish() -> None:
    async with staged({"cn": answering(b"x")}) as stage:
        stop = asyncio.Event()
        served = 0

        async def ask() -> None:
            nonlocal served
            while not stop.is_set():
                client = await stage.client()
                for _ in range(5):
                    await client.send(request())
                    response = await client.response()
                    assert response.body == b"x"
                    served += 1
                    if response.header("connection") == "close":
                        client.close()
                        break
                else:
                    client.close()

        asking = [asyncio.ensure_future(ask()) for _ in range(8)]
        await eventually(lambda: served > 100)
        # All the while that keep-alive ends, new requests come.
        asyncio.get_running_loop().call_later(0.5, stop.set)
        results, _ = await asyncio.gather(asyncio.gather(*asking, return_exceptions=True), stage.plane.drain(PATIENCE))
        assert results == [None] * 8
        await nothing_left(stage)
        for record in await told(stage, served):
            assert record["status"] == 200
