"""Bytes both ways: exact, ended, reset, bounded; moved in the kernel, and copied where that is not to be had."""

import asyncio
import os
import random

import pytest

from proxy.tcp import vessels
from tests.tcp.staging import (
    GERMANY,
    PROMISE,
    Conversation,
    Peer,
    Stage,
    echo,
    eventually,
    saying,
    staged,
    swallow,
    wait,
)

WAYS = pytest.mark.parametrize("splices", [True, False], ids=["splicing", "copying"])

LARGE = 8 * 1024 * 1024


@WAYS
async def test_small_things_go_both_ways(splices: bool) -> None:
    async with staged({"own": echo}, splices=splices) as stage:
        client = await stage.client()
        for word in (b"one", b"two", b"x" * 5000):
            await client.send(word)
            assert await client.exactly(len(word)) == word
        client.end()
        assert await client.rest() == b""
        (record,) = await stage.records(1)
        assert (record["reason"], record["to_provider"], record["to_client"]) == (None, 5006, 5006)
        assert (record["method"], record["status"], record["host"]) == (None, 0, None)
        assert stage.counted("domicile_passed_connections_total", outcome="completed", provider="own") == 1
        assert stage.counted("domicile_bytes_total", direction="to_provider", provider="own") == 5006
        await stage.nothing_left()


@WAYS
@pytest.mark.parametrize("seed", range(4))
async def test_every_byte_arrives_in_order_whatever_the_pieces(splices: bool, seed: int) -> None:
    chance = random.Random(seed)
    async with staged({"own": echo}, splices=splices) as stage:
        client = await stage.client()
        sent = chance.randbytes(LARGE // 2)

        async def send() -> None:
            at = 0
            while at < len(sent):
                size = chance.choice((1, 7, 1460, 16383, 16384, 16385, 65536, 500_000))
                await client.send(sent[at : at + size])
                at += size
                if chance.random() < 0.02:
                    await asyncio.sleep(0.01)
            client.end()

        sending = asyncio.create_task(send())
        received = bytearray()
        while data := await client.some(chance.choice((100, 9000, 262144))):
            received += data
            if chance.random() < 0.005:
                await asyncio.sleep(0.005)
        await sending
        assert received == sent
        (record,) = await stage.records(1)
        assert (record["reason"], record["to_provider"], record["to_client"]) == (None, len(sent), len(sent))


@WAYS
async def test_the_client_ends_and_still_gets_its_answer(splices: bool) -> None:
    async def counting(conversation: Conversation) -> None:
        await conversation.send(b"%d" % len(await conversation.rest()))
        conversation.end()

    async with staged({"own": counting}, splices=splices) as stage:
        client = await stage.client()
        await client.send(bytes(LARGE))
        client.end()
        assert await client.rest() == b"%d" % LARGE
        await stage.nothing_left()


@WAYS
async def test_the_provider_ends_and_still_hears_the_client(splices: bool) -> None:
    async with staged({"own": saying(b"welcome")}, splices=splices) as stage:
        client = await stage.client()
        assert await client.rest() == b"welcome"
        await client.send(bytes(LARGE))
        client.end()
        conversation = await stage.conversation("own")
        await conversation.over.wait()
        assert len(conversation.received) == LARGE
        (record,) = await stage.records(1)
        assert record["reason"] is None
        await stage.nothing_left()


async def test_a_greeting_comes_before_the_client_says_anything() -> None:
    async with staged({"own": saying(b"220 ready")}) as stage:
        client = await stage.client()
        assert await client.exactly(9) == b"220 ready"


@WAYS
async def test_a_reset_of_the_client_is_one_for_the_provider(splices: bool) -> None:
    async with staged({"own": wait}, splices=splices) as stage:
        client = await stage.client()
        await client.send(b"hello")
        conversation = await stage.conversation("own")
        assert await conversation.exactly(5) == b"hello"
        client.reset()
        assert await conversation.was_reset()
        (record,) = await stage.records(1)
        assert record["reason"] == "client-left"
        await stage.nothing_left()


@WAYS
async def test_a_reset_of_the_provider_is_one_for_the_client_behind_what_came_before(splices: bool) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.exactly(1)
        await conversation.send(b"last words")
        await conversation.exactly(1)
        conversation.reset()

    async with staged({"own": script}, splices=splices) as stage:
        client = await stage.client()
        await client.send(b"1")
        assert await client.exactly(10) == b"last words"
        await client.send(b"2")
        assert await client.was_reset()
        (record,) = await stage.records(1)
        assert record["reason"] == "reset"
        await stage.nothing_left()


@WAYS
async def test_a_reset_behind_a_half_close_is_seen(splices: bool) -> None:
    async with staged({"own": wait}, splices=splices) as stage:
        client = await stage.client()
        await client.send(b"question")
        client.end()
        conversation = await stage.conversation("own")
        assert await conversation.rest() == b"question"
        client.reset()
        await stage.nothing_left()
        await stage.records(1)


async def filled(stage: Stage, client: Peer) -> int:
    """Send until nothing more is taken; how much was."""
    loop, sent = asyncio.get_running_loop(), 0
    piece = bytes(262144)
    while True:
        try:
            async with asyncio.timeout(0.5):
                await loop.sock_sendall(client.sock, piece)
        except TimeoutError:
            return sent
        sent += len(piece)


def pipes() -> int:
    """Ends of pipes that this process holds."""
    found = 0
    for number in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{number}").startswith("pipe:")
        except FileNotFoundError:
            continue
    return found


@WAYS
async def test_a_slow_provider_bounds_what_is_held_and_nothing_spins(splices: bool) -> None:
    async with staged({"own": wait}, splices=splices, receive=65536) as stage:
        client = await stage.client()
        sent = await filled(stage, client)
        # The buffers of four sockets, and what the relay holds: a pipe, or a rest of its buffer.
        assert sent < 24 * 1024 * 1024
        turns = stage.plane.readiness.turns
        await asyncio.sleep(0.5)
        assert stage.plane.readiness.turns - turns <= 2
        (passage,) = stage.plane._passages
        held = passage._carried.to_provider.held
        assert 0 < held <= (vessels.LARGE if splices else vessels.BUFFER)
        client.reset()
        await stage.nothing_left()


@WAYS
async def test_who_leaves_while_their_reading_is_paused_is_noticed(splices: bool) -> None:
    async with staged({"own": wait}, splices=splices, receive=65536) as stage:
        client = await stage.client()
        await filled(stage, client)
        conversation = await stage.conversation("own")
        client.reset()
        await stage.nothing_left(within=1.0)
        assert await conversation.was_reset()
        assert [record["reason"] for record in await stage.records(1)] == ["client-left"]


async def test_a_provider_that_leaves_while_the_client_does_not_read_is_noticed() -> None:
    async def script(conversation: Conversation) -> None:
        try:
            async with asyncio.timeout(0.5):
                await asyncio.get_running_loop().sock_sendall(conversation.sock, bytes(64 * 1024 * 1024))
        except TimeoutError:
            conversation.reset()

    async with staged({"own": script}) as stage:
        await stage.client(receive=65536)
        conversation = await stage.conversation("own")
        await conversation.over.wait()
        await stage.nothing_left(within=PROMISE)
        assert [record["reason"] for record in await stage.records(1)] == ["reset"]


async def test_a_pipe_is_held_only_while_bytes_are_in_flight() -> None:
    async with staged({"own": echo}) as stage:
        before = pipes()
        clients = [await stage.client() for _ in range(50)]
        for client in clients:
            sending = asyncio.create_task(client.send(bytes(200_000)))
            await client.exactly(200_000)
            await sending
        # All are open, and idle: one pipe has served them all, one way after the other.
        assert 0 < pipes() - before <= 4
        assert stage.plane.open_connections == 50


async def test_one_fast_stream_does_not_hold_up_the_others() -> None:
    async with staged({"own": swallow, "eu": echo}) as stage:
        bulk = await stage.client()
        sending = asyncio.create_task(bulk.send(bytes(256 * 1024 * 1024)))
        other = await stage.client(source=GERMANY)
        for _ in range(20):
            await other.send(b"ping")
            async with asyncio.timeout(PROMISE):
                assert await other.exactly(4) == b"ping"
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def test_who_reads_at_last_gets_everything() -> None:
    async with staged({"own": saying(os.urandom(1) * LARGE)}) as stage:
        client = await stage.client(receive=65536)
        await eventually(lambda: stage.plane._passages and any(p._carried for p in stage.plane._passages))
        await asyncio.sleep(0.3)
        assert len(await client.rest()) == LARGE
        client.end()
        await stage.nothing_left()
