"""A plaintext client, a provider behind TLS: Domicile wraps, verifies, and tells an end from a cut."""

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.authority import Authority, Issued, make_authority
from tests.tcp.staging import PROMISE, Stage, eventually, staged

LARGE = 4 * 1024 * 1024

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """A TLS provider. handshakes: how many came through."""

    def __init__(self) -> None:
        self.port = 0
        self.handshakes = 0
        self.received = bytearray()
        self.ended = asyncio.Event()


@asynccontextmanager
async def serving(
    issued: Issued, talk: Talk, maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> AsyncIterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    context.maximum_version = maximum
    made = Server()
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.handshakes += 1
        writers.append(writer)
        try:
            await talk(reader, writer)
        except ConnectionError:
            pass
        finally:
            made.ended.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def wrapping(authority: Authority, port: int, tls: str = "server_name: storage.example") -> AsyncIterator[Stage]:
    provider = f", tls: {{ca: {authority.certificate}, {tls}}}"
    async with staged({}, real={"own": port}, scheme="tls", provider=provider) as stage:
        yield stage


VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda v: v.name)


@VERSIONS
async def test_everything_arrives_both_ways(authority: Authority, version: ssl.TLSVersion) -> None:
    async with (
        serving(authority.issue(["storage.example"]), echo, version) as server,
        wrapping(authority, server.port) as stage,
    ):
        client = await stage.client()
        sent = os.urandom(LARGE)
        sending = asyncio.create_task(client.send(sent))
        assert await client.exactly(len(sent)) == sent
        await sending
        client.end()
        assert await client.rest() == b""
        (record,) = await stage.records(1)
        assert (record["reason"], record["to_provider"], record["to_client"]) == (None, LARGE, LARGE)
        await stage.nothing_left()


@VERSIONS
async def test_close_notify_is_an_end(authority: Authority, version: ssl.TLSVersion) -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes(LARGE))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with (
        serving(authority.issue(["storage.example"]), once, version) as server,
        wrapping(authority, server.port) as stage,
    ):
        client = await stage.client()
        assert len(await client.rest()) == LARGE
        client.close()
        assert [record["reason"] for record in await stage.records(1)] == [None]
        await stage.nothing_left()


@VERSIONS
async def test_a_cut_is_a_reset(authority: Authority, version: ssl.TLSVersion) -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"half of it")
        await writer.drain()
        await reader.read(1)
        # A FIN of TCP, and no close_notify before it.
        with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as sock:
            sock.shutdown(socket.SHUT_WR)
        await reader.read()

    async with (
        serving(authority.issue(["storage.example"]), cut, version) as server,
        wrapping(authority, server.port) as stage,
    ):
        client = await stage.client()
        assert await client.exactly(10) == b"half of it"
        await client.send(b".")
        assert await client.was_reset()
        assert [record["reason"] for record in await stage.records(1)] == ["reset"]
        await stage.nothing_left()


async def test_a_client_that_ends_still_gets_its_answer(authority: Authority) -> None:
    async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(5)
        for _ in range(3):
            await asyncio.sleep(0.2)
            writer.write(b"part ")
            await writer.drain()
        assert await reader.read() == b""

    async with (
        serving(authority.issue(["storage.example"]), slowly) as server,
        wrapping(authority, server.port) as stage,
    ):
        client = await stage.client()
        await client.send(b"hello")
        client.end()
        assert await client.rest() == b"part part part "
        await server.ended.wait()
        await stage.nothing_left()


async def test_a_client_that_resets_takes_the_provider_along(authority: Authority) -> None:
    async with serving(authority.issue(["storage.example"]), echo) as server, wrapping(authority, server.port) as stage:
        client = await stage.client()
        await client.send(b"hello")
        assert await client.exactly(5) == b"hello"
        client.reset()
        await stage.nothing_left(within=PROMISE)
        assert [record["reason"] for record in await stage.records(1)] == ["client-left"]
        await server.ended.wait()


@pytest.mark.parametrize(
    ("names", "tls", "result"),
    [
        (["other.example"], "server_name: storage.example", "tls"),
        (
            ["storage.example"],
            "server_name: storage.example, pins: [sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=]",
            "tls",
        ),
        (["storage.example"], 'server_name: storage.example, min_version: "1.3"', "answered"),
    ],
    ids=["name", "pin", "good"],
)
async def test_nothing_is_sent_to_whom_is_not_verified(
    authority: Authority, names: list[str], tls: str, result: str
) -> None:
    async with serving(authority.issue(names), echo) as server, wrapping(authority, server.port, tls) as stage:
        client = await stage.client()
        await client.send(b"secret")
        if result == "answered":
            assert await client.exactly(6) == b"secret"
        else:
            await client.was_reset()
            assert [record["reason"] for record in await stage.records(1)] == ["unreachable"]
        assert stage.counted("domicile_attempts_total", result=result) == 1


async def test_a_slow_provider_bounds_what_is_held(authority: Authority) -> None:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.Event().wait()

    async with (
        serving(authority.issue(["storage.example"]), never) as server,
        wrapping(authority, server.port) as stage,
    ):
        client = await stage.client()
        loop, sent = asyncio.get_running_loop(), 0
        try:
            while True:
                async with asyncio.timeout(0.5):
                    await loop.sock_sendall(client.sock, bytes(262144))
                sent += 262144
        except TimeoutError:
            pass
        assert sent < 24 * LARGE // 4
        turns = stage.plane.readiness.turns
        await asyncio.sleep(0.3)
        assert stage.plane.readiness.turns - turns <= 2
        client.reset()
        await stage.nothing_left(within=PROMISE)


async def test_a_slow_client_stops_the_provider(authority: Authority) -> None:
    wrote = 0

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal wrote
        for _ in range(64):
            writer.write(bytes(262144))
            await writer.drain()
            wrote += 262144
        writer.close()
        await writer.wait_closed()

    async with serving(authority.issue(["storage.example"]), pour) as server, wrapping(authority, server.port) as stage:
        client = await stage.client(receive=65536)
        await asyncio.sleep(0.5)
        assert wrote < 64 * 262144
        assert len(await client.rest()) == 64 * 262144


async def test_idle_and_withdrawal_end_it(authority: Authority) -> None:
    async with serving(authority.issue(["storage.example"]), echo) as server, wrapping(authority, server.port) as stage:
        client = await stage.client()
        await client.send(b"hello")
        await client.exactly(5)
        text = (stage.folder / "policy.yaml").read_text()
        stage.swap(text.replace("rules:\n", "rules:\n  - {name: nobody, when: {}, forbid: any}\n"))
        assert await client.was_reset()
        assert [record["reason"] for record in await stage.records(1)] == ["withdrawn"]
        await stage.nothing_left()
        await eventually(server.ended.is_set)


async def test_the_clients_own_tls_is_not_wrapped_again(authority: Authority, tmp_path: Path) -> None:
    async with serving(authority.issue(["storage.example"]), echo) as server, wrapping(authority, server.port) as stage:
        trust = ssl.create_default_context(cafile=str(authority.certificate))
        reader, writer = await asyncio.open_connection(
            *stage.address("pass"), ssl=trust, server_hostname="storage.example"
        )
        writer.write(b"mine")
        assert await reader.readexactly(4) == b"mine"
        writer.close()
        await writer.wait_closed()


async def test_who_waits_for_a_place_under_the_cap_is_wrapped_in_its_turn(authority: Authority) -> None:
    issued = authority.issue(["storage.example"])
    async with serving(issued, echo) as server:
        provider = f", tls: {{ca: {authority.certificate}, server_name: storage.example}}, limits: {{connections: 1}}"
        async with staged({}, real={"own": server.port}, scheme="tls", provider=provider) as stage:
            first = await stage.client()
            await first.send(b"first")
            assert await first.exactly(5) == b"first"
            state = stage.plane.line.fleet.states["own"]
            queue = state.waiting
            assert queue is not None
            second, leaving = await stage.client(), await stage.client()
            await second.send(b"second")
            await eventually(lambda: len(queue) == 2)
            first.reset()
            assert await second.exactly(6) == b"second"
            assert (server.handshakes, state.open, len(queue)) == (2, 1, 1)
            # Its turn comes, and it is ended before anything is begun: the place is free again.
            last = next(each for each in stage.plane._passages if each._carried is None)
            attempts = last._attempts
            assert attempts is not None
            (place,) = state.passing
            assert place.leave(attempts)
            state.open += 1
            attempts.served(place, None)
            assert attempts._task is not None
            last.cut("drained")
            assert await leaving.was_reset()
            assert state.open == 1
            second.reset()
            await stage.nothing_left()


async def test_who_waits_while_an_authority_is_replaced_goes_by_the_new(authority: Authority, tmp_path: Path) -> None:
    trusted = tmp_path / "authority.pem"
    trusted.write_bytes(authority.certificate.read_bytes())
    async with serving(authority.issue(["storage.example"]), echo) as server:
        cap = "limits: {connections: 1, queue: {longest: 60s}}"
        provider = f", tls: {{ca: {trusted}, server_name: storage.example}}, {cap}"
        async with staged({}, real={"own": server.port}, scheme="tls", provider=provider) as stage:
            first = await stage.client()
            await first.send(b"first")
            assert await first.exactly(5) == b"first"
            queue = stage.plane.line.fleet.states["own"].waiting
            waits = await stage.client()
            await waits.send(b"waits")
            await eventually(lambda: len(queue or ()) == 1)
            trusted.write_bytes(make_authority(tmp_path, "other").certificate.read_bytes())
            stage.swap((stage.folder / "policy.yaml").read_text())
            assert await waits.was_reset() or not waits.received
            assert server.handshakes == 1
            first.reset()
            await stage.nothing_left()
