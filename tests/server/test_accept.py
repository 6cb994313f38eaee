"""The accept stage over real sockets: plain listeners of every kind, caps, reloads, the end."""

import asyncio
import os
import resource
import socket
from pathlib import Path

import pytest

from proxy.policy.settings import TcpBind, UnixBind
from proxy.providers import descriptors
from proxy.server import accept
from proxy.server.binding import BindError
from proxy.server.farewell import OVERLOAD
from tests.server.staged import LOCAL, Staged, listener, socket_path, staged, until


async def greeted(stage: Staged, name: str = "edge", ordinal: int = 0) -> str:
    reader, writer = await stage.connect(name, ordinal)
    line = await reader.readline()
    writer.write(b"again\n")
    assert await reader.readline() == b"again\n"
    writer.close()
    await writer.wait_closed()
    return line.decode().strip()


async def test_ipv4_and_ipv6_and_several_binds() -> None:
    async with staged() as stage:
        stage.load(listener(binds=(LOCAL, TcpBind("::1", 0), TcpBind("127.0.0.2", 0))))
        assert len(stage.sockets.addresses()["edge"]) == 3
        assert await greeted(stage) == "edge 127.0.0.1 False None None False"
        assert await greeted(stage, ordinal=1) == "edge ::1 False None None False"
        assert await greeted(stage, ordinal=2) == "edge 127.0.0.1 False None None False"


async def test_a_unix_socket_has_no_peer(tmp_path: Path) -> None:
    path = tmp_path / "edge.sock"
    async with staged() as stage:
        stage.load(listener(binds=(UnixBind(path),)))
        assert stage.sockets.addresses() == {"edge": [f"unix:{path}"]}
        reader, writer = await asyncio.open_unix_connection(sock=socket_path(path))
        assert await reader.readline() == b"edge None False None None False\n"
        writer.close()
    assert not path.exists()


async def test_nothing_is_delayed_for_company() -> None:
    async with staged() as stage:
        stage.load(listener())
        _, writer = await stage.connect()
        await until(lambda: len(stage.met) == 1)
        taken = stage.met[0].transport.get_extra_info("socket")
        assert taken.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        writer.close()


async def test_a_burst_is_taken_whole_and_counted_once() -> None:
    async with staged() as stage:
        stage.load(listener(), most=200)
        clients = await asyncio.gather(*(stage.connect() for _ in range(200)))
        for reader, _ in clients:
            assert await reader.readline() == b"edge 127.0.0.1 False None None False\n"
        await until(lambda: stage.door().pending == 0)
        assert stage.live["edge"].count == 200
        assert stage.door().counts.turned_away == 0
        for _, writer in clients:
            writer.close()


async def test_a_full_listener_says_503_without_reading_and_others_serve_on() -> None:
    async with staged() as stage:
        stage.load(listener(), listener("other"), most=2)
        held = [await stage.connect() for _ in range(2)]
        for reader, _ in held:
            await reader.readline()
        for _ in range(3):
            reader, writer = await stage.connect()
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await reader.read() == OVERLOAD
            writer.close()
        assert stage.door().counts.turned_away == 3
        assert (await greeted(stage, "other")).startswith("other")
        held[0][1].close()
        await until(lambda: stage.live["edge"].count == 1)
        assert (await greeted(stage)).startswith("edge")
        held[1][1].close()


async def test_who_is_turned_away_lingers_in_bounded_number() -> None:
    async with staged() as stage:
        stage.load(listener(), most=0)
        before = len(os.listdir("/proc/self/fd"))
        clients = [await stage.connect() for _ in range(150)]
        await until(lambda: stage.door().counts.turned_away == 150)
        assert len(os.listdir("/proc/self/fd")) - before <= 150 + 64 + 1
        for reader, writer in clients:
            assert await reader.read() == OVERLOAD
            writer.close()


def test_the_answer_is_whole() -> None:
    head, _, body = OVERLOAD.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nRetry-After: 1" in head
    assert b"\r\nConnection: close" in head
    assert f"\r\nContent-Length: {len(body)}\r\n".encode() in head


async def test_a_reload_keeps_sockets_that_stay_and_connections_of_those_that_go() -> None:
    async with staged() as stage:
        stage.load(listener("stays"), listener("goes"))
        stays, goes = stage.address("stays"), stage.address("goes")
        reader, writer = await stage.connect("goes")
        await reader.readline()
        stage.load(listener("stays"), listener("comes"))
        assert stage.address("stays") == stays
        assert set(stage.sockets.addresses()) == {"stays", "comes"}
        assert (await greeted(stage, "comes")).startswith("comes")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*goes)
        writer.write(b"still here\n")
        assert await reader.readline() == b"still here\n"
        writer.close()


async def test_a_bind_may_move_to_another_listener() -> None:
    async with staged() as stage:
        stage.load(listener("old"))
        port = stage.address("old")[1]
        stage.stage.close()
        stage.sockets.close()
    fixed = (TcpBind("127.0.0.1", port),)
    async with staged() as stage:
        stage.load(listener("old", binds=fixed))
        assert (await greeted(stage, "old")).startswith("old")
        stage.load(listener("new", binds=fixed))
        assert (await greeted(stage, "new")).startswith("new")
        assert set(stage.sockets.addresses()) == {"new"}


async def test_who_is_queued_when_a_bind_goes_is_served() -> None:
    async with staged() as stage:
        stage.load(listener(), listener("other"))
        address = stage.address()
        clients = [socket.create_connection(address) for _ in range(100)]  # the loop does not run meanwhile
        stage.load(listener("other"))
        for client in clients:
            client.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=client)
            assert await reader.readline() == b"edge 127.0.0.1 False None None False\n"
            writer.close()


async def test_who_is_queued_at_the_end_is_served() -> None:
    async with staged() as stage:
        stage.load(listener())
        address = stage.address()
        clients = [socket.create_connection(address) for _ in range(100)]
        stage.sockets.close()
        stage.stage.stop()
        for client in clients:
            client.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=client)
            assert await reader.readline() == b"edge 127.0.0.1 False None None False\n"
            writer.close()
        assert stage.stage.pending() == 0
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*address)


async def test_a_bind_that_fails_opens_nothing_and_changes_nothing() -> None:
    async with staged() as stage:
        stage.load(listener())
        taken = TcpBind("127.0.0.1", stage.address()[1])
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(BindError, match=r"listener new: cannot bind .*: address already in use"):
            stage.load(listener(), listener("new", binds=(LOCAL, taken)))
        with pytest.raises(BindError, match=r"listener two: cannot bind 127.0.0.1:1: listener one has it"):
            stage.load(
                listener("one", binds=(TcpBind("127.0.0.1", 1),)), listener("two", binds=(TcpBind("127.0.0.1", 1),))
            )
        assert len(os.listdir("/proc/self/fd")) == before
        assert (await greeted(stage)).startswith("edge")


async def test_clients_that_leave_while_queued_are_nothing() -> None:
    async with staged() as stage:
        stage.load(listener())
        for _ in range(20):
            client = socket.create_connection(stage.address())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()  # a reset
        assert (await greeted(stage)).startswith("edge")
        await until(lambda: stage.live["edge"].count == 0 and stage.door().pending == 0)


@pytest.mark.parametrize("meanwhile", [False, True])
async def test_with_few_descriptors_left_accepting_pauses_and_nobody_is_turned_away(
    monkeypatch: pytest.MonkeyPatch, meanwhile: bool
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(accept, "PAUSE", 0.01)
    used = max(map(int, os.listdir("/proc/self/fd")))
    few = (used + 120, limits[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, limits if meanwhile else few)
    try:
        async with staged() as stage:
            stage.load(listener())
            resource.setrlimit(resource.RLIMIT_NOFILE, few)
            # Both ends of every connection are ours, so these fill the room but for what is kept free.
            clients = []
            while not stage.stage.pauses:
                clients.append(await stage.connect())
                await asyncio.sleep(0)
            kept = descriptors.kept_free(used + 120)
            assert max(map(int, os.listdir("/proc/self/fd"))) < used + 120 - kept + 3
            waiting, writer = await stage.connect()
            for _ in range(5):
                await asyncio.sleep(0.01)
            assert len(stage.met) < len(clients) + 1, "the last one waits in the kernel's queue"
            for _, other in clients[:20]:
                other.close()
            assert await waiting.readline() == b"edge 127.0.0.1 False None None False\n"
            writer.close()
            for _, other in clients[20:]:
                other.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


async def test_out_of_descriptors_accepting_neither_spins_nor_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(accept, "PAUSE", 0.05)
    monkeypatch.setattr(descriptors, "kept_free", lambda limit: 0)
    async with staged() as stage:
        stage.load(listener())
        client = socket.create_connection(stage.address())
        fillers = [os.open("/dev/null", os.O_RDONLY)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (fillers[0] + 1, limits[1]))
        try:
            await until(lambda: stage.stage.pauses == 1)
            for _ in range(10):
                await asyncio.sleep(0.01)
            assert stage.stage.pauses == 1
            assert not stage.met
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            os.close(fillers[0])
        await until(lambda: len(stage.met) == 1)
        client.close()
