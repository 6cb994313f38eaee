"""Whoever takes slowly slows down who sends, and nobody's bytes pile up in between.

The side that offers without end is lazy: it makes what it sends as it is taken. What is measured is this process,
which is the proxy and the idle ends; its growth is bounded by what may wait for each connection, and not by what is
on offer.
"""

import asyncio
import gc
import hashlib
import os
import socket
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.http1.scenes import (
    SWITCHED,
    UPGRADE,
    answered_and_not_taken,
    black_hole,
    eventually,
    more_than_is_taken,
    nothing_left,
    thin_client,
    told,
)
from tests.http1.staging import BRITAIN, Conversation, Stage, answering, policy_text, request, staged

MIB = 1 << 20
PER_CONNECTION = 768 * 1024
"""What may wait for one client at most: a full high-water mark, one read on top of it, and framing."""

PATIENT = "timeouts: {idle: 600s, body_idle: 600s, first_byte: 600s}"

BLOCK = 65536


def block(number: int) -> bytes:
    """A piece of a body that says where it belongs."""
    return struct.pack(">Q", number) * (BLOCK // 8)


LAZY = """
import asyncio, struct

def block(number):
    return struct.pack(">Q", number) * 8192

async def serve(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\\r\\n\\r\\n")
            blocks = int(head.split(b" ")[1][1:])
            writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % (blocks * 65536))
            for number in range(blocks):
                writer.write(block(number))
                await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()

async def main():
    import socket
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    sock.bind(("127.0.0.1", 0))
    server = await asyncio.start_server(serve, sock=sock, backlog=512)
    print(sock.getsockname()[1], flush=True)
    await server.serve_forever()

import uvloop
uvloop.run(main())
"""


@asynccontextmanager
async def lazy_provider() -> AsyncIterator[int]:
    """The port of a provider in another process that answers `GET /N` with N blocks."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", LAZY, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield int(await process.stdout.readline())
    finally:
        process.kill()
        await process.wait()


def resident() -> int:
    """Bytes of memory that this process has now."""
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def waiting(stage: Stage) -> list[int]:
    """Bytes that wait in this process for each client."""
    return [connection.transport.get_write_buffer_size() for connection in stage.plane._connections]


async def nobody_reads(stage: Stage, count: int) -> None:
    """Until so many clients have made the proxy wait."""
    await eventually(lambda: sum(not connection.writable for connection in stage.plane._connections) == count, 60)


async def nobody_is_read(stage: Stage, count: int) -> None:
    """Until the proxy has stopped reading from so many clients."""
    await eventually(lambda: sum(connection.reading.held != 0 for connection in stage.plane._connections) == count, 60)


def plain_socket(stage: Stage, receive: int | None = None) -> socket.socket:
    """A client that holds nothing itself. receive: what its kernel takes that it has not read."""
    sock = socket.socket()
    if receive is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    sock.connect(("127.0.0.1", stage.port))
    sock.setblocking(False)
    return sock


async def test_two_hundred_slow_readers_cost_no_more_than_what_may_wait_for_each() -> None:
    readers, blocks = 200, 100 * MIB // BLOCK
    async with lazy_provider() as port, staged({"cn": answering(), "own": answering(b"quick")}) as stage:
        ports = {"cn": port, "own": stage.providers["own"].port}
        stage.plane.swap(stage.line(policy_text(ports, more=PATIENT), stage.plane.line))
        before = resident()
        clients = []
        for number in range(readers):
            clients.append(plain_socket(stage, None if number < 2 else 65536))
            clients[-1].sendall(request(f"/{blocks}"))
            await asyncio.sleep(0)
        await nobody_reads(stage, readers)
        grown = resident() - before
        assert max(waiting(stage)) < PER_CONNECTION
        assert grown < 200 * MIB
        # Nobody else is held up.
        assert (await stage.ask(request(xff="81.2.69.142"))).body == b"quick"
        expected = hashlib.sha256(b"".join(block(number) for number in range(blocks))).digest()
        loop = asyncio.get_running_loop()
        for client in clients[:2]:
            head, seen, total = b"", hashlib.sha256(), 0
            while b"\r\n\r\n" not in head:
                head += await loop.sock_recv(client, 1024)
            rest = head.partition(b"\r\n\r\n")[2]
            while True:
                seen.update(rest)
                total += len(rest)
                if total == blocks * BLOCK:
                    break
                rest = await loop.sock_recv(client, MIB)
                assert rest, "cut"
            assert seen.digest() == expected
        assert resident() - before < 200 * MIB
        for client in clients:
            client.close()
        await eventually(lambda: stage.plane.open_connections <= 1, 30)


async def test_a_provider_that_does_not_read_stops_fast_uploaders() -> None:
    uploaders, release = 50, asyncio.Event()

    async def script(conversation: Conversation) -> None:
        await conversation.reader.readuntil(b"\r\n\r\n")
        await release.wait()

    async with staged({"cn": script}, more=PATIENT) as stage:
        before, piece = resident(), bytes(MIB)
        loop = asyncio.get_running_loop()
        clients = [plain_socket(stage) for _ in range(uploaders)]
        sent = 0

        async def upload(client: socket.socket) -> None:
            nonlocal sent
            view = memoryview(piece)
            await loop.sock_sendall(client, request(method="PUT", headers=f"Content-Length: {1 << 40}"))
            while True:
                await loop.sock_sendall(client, view[:65536])
                sent += 65536

        uploading = [asyncio.ensure_future(upload(client)) for client in clients]
        await eventually(lambda: sum(map(bool, stage.providers["cn"].conversations)) == uploaders)
        last = -1
        while last != sent:
            # Paused for good, not only for a moment: nothing moves from one look to the next.
            await nobody_is_read(stage, uploaders)
            last = sent
            await asyncio.sleep(0.3)
        assert resident() - before < uploaders * 2 * MIB
        # The kernel's buffers took their share: some megabytes for each of the two connections.
        assert sent < uploaders * 64 * MIB
        for task in uploading:
            task.cancel()
        await asyncio.gather(*uploading, return_exceptions=True)
        for client in clients:
            client.close()
        release.set()


async def test_an_upload_to_a_slow_provider_arrives_whole() -> None:
    blocks = 32 * MIB // BLOCK
    seen = hashlib.sha256()

    async def script(conversation: Conversation) -> None:
        await conversation.reader.readuntil(b"\r\n\r\n")
        for number in range(blocks):
            if number % 100 == 0:
                await asyncio.sleep(0.05)
            seen.update(await conversation.reader.readexactly(BLOCK))
        await conversation.say(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
        await conversation.wait_end()

    async with staged({"cn": script}, more=PATIENT) as stage:
        client = await stage.client()
        await client.send(request(method="PUT", headers=f"Content-Length: {blocks * BLOCK}"))
        whole = hashlib.sha256()
        for number in range(blocks):
            whole.update(block(number))
            await client.send(block(number))
        assert (await client.response()).status == 201
        assert seen.digest() == whole.digest()
        (record,) = await told(stage)
        assert record["to_provider"] == blocks * BLOCK


async def test_a_body_waits_bounded_while_its_provider_is_dialled() -> None:
    async with black_hole() as hole, staged({"cn": answering()}) as stage:
        text = policy_text({"cn": hole.port}, more="timeouts: {connect: 600s}")
        stage.plane.swap(stage.line(text, stage.plane.line))
        client, loop, piece = plain_socket(stage), asyncio.get_running_loop(), bytes(65536)
        before = resident()

        async def flood() -> None:
            await loop.sock_sendall(client, request(method="PUT", headers=f"Content-Length: {1 << 40}"))
            while True:
                await loop.sock_sendall(client, piece)

        flooding = asyncio.ensure_future(flood())
        await nobody_is_read(stage, 1)
        await asyncio.sleep(0.3)
        assert resident() - before < 10 * MIB
        flooding.cancel()
        await asyncio.gather(flooding, return_exceptions=True)
        client.close()


async def test_tunnels_are_held_up_both_ways_and_lose_nothing() -> None:
    tunnels, release = 20, asyncio.Event()
    blocks = 12 * MIB // BLOCK
    received: list[bytes] = []

    async def script(conversation: Conversation) -> None:
        await conversation.reader.readuntil(b"\r\n\r\n")
        conversation.writer.write(SWITCHED)

        async def send() -> None:
            for number in range(blocks):
                await conversation.say(block(number))
            conversation.writer.write_eof()

        sending = asyncio.ensure_future(send())
        await release.wait()
        seen = hashlib.sha256()
        while data := await conversation.reader.read(MIB):
            seen.update(data)
        received.append(seen.digest())
        await sending

    async with staged({"cn": script}, more=PATIENT) as stage:
        before = resident()
        clients = [await thin_client(stage) for _ in range(tunnels)]
        for client in clients:
            await client.send(request(headers=UPGRADE))
            await client.reader.readuntil(b"\r\n\r\n")

        async def send(number: int) -> None:
            for place in range(blocks):
                await clients[number].send(block(place))
            clients[number].writer.write_eof()

        sending = [asyncio.ensure_future(send(number)) for number in range(tunnels)]
        await nobody_reads(stage, tunnels)
        await nobody_is_read(stage, tunnels)
        assert max(waiting(stage)) < PER_CONNECTION
        assert resident() - before < tunnels * 4 * PER_CONNECTION
        release.set()
        whole = hashlib.sha256(b"".join(block(number) for number in range(blocks))).digest()
        for client in clients:
            seen = hashlib.sha256()
            while data := await client.reader.read(MIB):
                seen.update(data)
            assert seen.digest() == whole
        await asyncio.gather(*sending)
        await eventually(lambda: len(received) == tunnels)
        assert set(received) == {whole}
        for record in await told(stage, tunnels):
            assert (record["to_client"], record["to_provider"], record["reason"]) == (blocks * BLOCK,) * 2 + (None,)
        await nothing_left(stage)


async def test_a_client_that_pipelines_and_does_not_read_is_not_served_without_bound() -> None:
    served = 0
    body = bytes(range(250)) * 400

    async def script(conversation: Conversation) -> None:
        nonlocal served
        while True:
            await conversation.reader.readuntil(b"\r\n\r\n")
            served += 1
            await conversation.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    async with staged({"cn": script}, more=PATIENT) as stage:
        client = await thin_client(stage)
        before, total = resident(), 1000
        sending = asyncio.ensure_future(client.send(request() * total))
        await nobody_reads(stage, 1)
        await nobody_is_read(stage, 1)
        at = served
        await asyncio.sleep(0.3)
        assert served == at < 200
        assert max(waiting(stage)) < PER_CONNECTION
        assert resident() - before < 20 * MIB
        for _ in range(total):
            assert (await client.response()).body == body
        await sending
        assert served == total
        await told(stage, total)


async def test_a_client_that_pipelines_denials_and_does_not_read_is_not_answered_without_bound() -> None:
    async with staged({"cn": answering()}, more=PATIENT) as stage:
        client = await thin_client(stage)
        before, total = resident(), 40_000
        sending = asyncio.ensure_future(client.send(request(xff=None) * total))
        await nobody_reads(stage, 1)
        await nobody_is_read(stage, 1)
        assert max(waiting(stage)) < PER_CONNECTION
        assert resident() - before < 20 * MIB
        for _ in range(total):
            assert (await client.head()).status == 451
            await client.reader.readuntil(b"}")
        await sending
        await told(stage, total)


async def test_the_rest_of_a_refused_body_is_no_request_however_late_its_answer_is_taken() -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.read_head()
        await more_than_is_taken(stage, conversation)
        await conversation.wait_end()

    async with staged({"cn": script, "own": answering()}) as stage:
        client = await thin_client(stage)
        await client.send(request(method="POST", headers="Content-Length: 1000"))
        await answered_and_not_taken(stage)
        assert (await client.response()).header("connection") == "close"
        # As a proxy in front would: it sends on what a stranger wrote, and is believed.
        await client.send(request("/smuggled", method="POST", xff=BRITAIN, body=b"hi"))
        client.close()
        await nothing_left(stage)
        await told(stage)
        assert stage.providers["own"].heads == []
