"""Clients and providers that are slow on purpose: each costs a bounded amount of memory, and ends at its deadline."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.faults.link import Fault
from tests.faults.staging import IDLE, Passed, Stage, resident, staged, until, within
from tests.http1.staging import Client, request

EACH = 1 << 20
"""Bytes of memory that one slow connection may cost: the marks of both sides, what the kernel hands over at once, and
what an allocator keeps. What it could have cost is many times as much."""


async def _thin(stage: Stage, listener: str = "edge") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection whose kernel takes little that is not read."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", stage.proxy.port(listener)))
    reader, writer = await asyncio.open_connection(sock=sock, limit=1024)
    stage.writers.append(writer)
    return reader, writer


async def test_clients_that_do_not_read_cost_little_and_are_cut(tmp_path: Path) -> None:
    async with staged(tmp_path, more="timeouts: {head: 10s, first_byte: 10s, idle: 2s}") as stage:
        (worker,) = stage.proxy.workers()
        before = resident(worker)
        for _ in range(30):
            client = Client(*await _thin(stage))
            stage.asked += 1
            await client.send(request("/bytes/50000000"))
            assert (await client.head()).status == 200
        assert resident(worker) - before < 30 * EACH
        with within(4.0):
            await until(lambda: len(stage.proxy.records()) == 32)
        assert resident(worker) - before < 30 * EACH
        await until(lambda: stage.at_providers(worker) == 0)
        records = (await stage.accounted())[2:]
        assert {each["reason"] for each in records} == {"idle"}
        assert all(each["to_client"] < 8_000_000 for each in records)


BODY = b"x" * 20_000_000


async def pour(send: Callable[[bytes], Awaitable[None]]) -> None:
    """A piece at a time: twenty copies of all of it would hold up the test itself, until its clients are too slow."""
    for at in range(0, len(BODY), 1 << 18):
        await send(BODY[at : at + (1 << 18)])


async def test_providers_that_do_not_read_stop_their_clients_and_are_given_up(tmp_path: Path) -> None:
    more = "timeouts: {connect: 10s, first_byte: 2s, idle: 2s, body_idle: 2s}"
    async with staged(tmp_path, more=more) as stage:
        (worker,) = stage.proxy.workers()
        for link in stage.every_link:
            link.fault = Fault(rate=0)
        before = resident(worker)

        async def upload() -> int:
            client = await stage.client()
            stage.asked += 1
            await client.send(request("/up", method="PUT", headers=f"Content-Length: {len(BODY)}"))
            sending = asyncio.create_task(pour(client.send))
            try:
                return (await client.response()).status
            except (ConnectionError, asyncio.IncompleteReadError):
                return 0
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
                client.abort()

        async def passing() -> None:
            connection: Passed = await stage.connection()
            sending = asyncio.create_task(pour(connection.send))
            assert await connection.rest() == (b"", False)
            await asyncio.gather(sending, return_exceptions=True)
            connection.writer.close()

        with within(4.0):
            uploads = [asyncio.create_task(upload()) for _ in range(10)]
            passings = [asyncio.create_task(passing()) for _ in range(10)]
            most, ended = before, asyncio.gather(*uploads, *passings)
            while not ended.done():  # On a busy machine the first end before the last have come.
                most = max(most, resident(worker))
                await asyncio.sleep(0.01)
            statuses = (await ended)[:10]
        assert most - before < 20 * EACH
        # A client that is still sending may be told, or find the connection reset under its body.
        assert set(statuses) <= {504, 0}
        records = (await stage.accounted())[2:]
        assert {each["reason"] for each in records} == {"provider-too-slow", "idle"}
        assert all(each["provider"] for each in records)
        assert not any("PUT /up" in site.requests for site in stage.sites.values())


SLOW = [
    (b"GET / HTTP/1.1\r\nHost: storage.ex", "head-too-slow"),
    (request("/up", method="POST", headers="Content-Length: 100") + b"half", "body-too-slow"),
    (request("/up", method="POST", headers="Transfer-Encoding: chunked") + b"5\r\nha", "body-too-slow"),
]


async def test_what_comes_too_slowly_is_a_408(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        clients = [(await stage.client(), start, reason) for start, reason in SLOW * 10]
        with within(2.0):
            for client, start, _ in clients:
                stage.asked += 1
                await client.send(start)
            for client, _, reason in clients:
                response = await client.response()
                assert (response.status, response.reason) == (408, reason)
                assert await client.closed()
        await stage.told(*(reason for _, _, reason in clients))
        assert "POST /up" not in stage.sites["first"].requests


async def test_a_passed_connection_that_says_nothing_ends(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        silent = [await stage.connection() for _ in range(10)]
        busy = await stage.connection()
        ended = asyncio.gather(*(each.rest() for each in silent))
        with within(IDLE):
            while not ended.done():
                await busy.send(b"tick")
                assert await busy.exactly(4) == b"tick"
                await asyncio.sleep(0.05)
            await ended
        busy.writer.write_eof()
        assert await busy.rest() == (b"", True)
        await stage.told(*["idle"] * 10, None)
