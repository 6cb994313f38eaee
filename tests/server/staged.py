"""An accept stage over a data plane that greets, echoes and counts."""

import asyncio
import contextlib
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection
from ipaddress import ip_network
from pathlib import Path
from typing import Literal, cast

import pytest

from proxy.http1.arrival import Arrival
from proxy.identity.networks import Networks
from proxy.policy.settings import Bind, Certificate, Listener, TcpBind
from proxy.server import greetings
from proxy.server.accept import AcceptStage
from proxy.server.certificates import open_certificates
from proxy.server.door import Door, Opening
from proxy.server.listening import Key, Prepared, Sockets, share
from proxy.tcp.arrival import Arrival as Passing
from proxy.telemetry.cells import Cell

LOCAL = TcpBind("127.0.0.1", 0)
PATIENCE = 20.0

A_FEW = 12
"""Early looks. Without a rest between them there are hundreds, one for each turn of the loop."""


class Looks:
    """How often the stage looked at what clients have said so far.

    due: with as much as it had waited for. early: with less, for not everything heeds SO_RCVLOWAT: Unix sockets never,
    and the kernel not while it is short of memory for TCP (tcp_stream_is_readable).
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, reader: str) -> None:
        """reader: the name of the function that it is looked with."""
        self.due = self.early = 0
        awaited: list[tuple[bytes, int]] = []
        original = getattr(greetings, reader)

        def look(data: bytes) -> object:
            if any(data.startswith(before) and len(data) < needed for before, needed in awaited):
                self.early += 1
            else:
                self.due += 1
            found = original(data)
            if hasattr(found, "needed"):
                awaited.append((bytes(data), found.needed))
            return found

        monkeypatch.setattr(greetings, reader, look)


class Echo(asyncio.Protocol):
    """Says on one line what it knows of its arrival, then echoes."""

    def __init__(self, staged: "Staged", arrival: Arrival) -> None:
        self._live = staged.live[arrival.listener.name]
        self._staged = staged
        self.arrival = arrival

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are of no asyncio class
        self._live.count += 1
        self._staged.met.append(self)
        a = self.arrival
        transport.write(f"{a.listener.name} {a.peer} {a.tls} {a.sni} {a.certificate} {a.ech}\n".encode())

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._live.count -= 1


ProxyHeader = Literal["none", "optional", "required"]


def listener(
    name: str = "edge",
    *certificates: Certificate,
    binds: tuple[Bind, ...] = (LOCAL,),
    proxy_protocol: ProxyHeader = "none",
) -> Listener:
    return Listener(name, binds, "http", certificates, "1.2", proxy_protocol)


class Staged:
    def __init__(self) -> None:
        self.live: defaultdict[str, Cell] = defaultdict(Cell)
        self.met: list[Echo] = []
        self.writers: list[asyncio.StreamWriter] = []
        loop = asyncio.get_running_loop()
        self.taken: list[tuple[Passing, socket.socket]] = []
        self.stage = AcceptStage(loop, lambda arrival: Echo(self, arrival), self.live.__getitem__, self.take)
        self.sockets = Sockets(1)

    def take(self, arrival: Passing, sock: socket.socket) -> None:
        """What the TCP plane would be given."""
        self.taken.append((arrival, sock))

    def load(self, *listeners: Listener, head: float = PATIENCE, most: int = 1000, trusted: str = "") -> None:
        """Put these listeners in force, as a reload does. trusted: the network whose PROXY headers are believed."""
        networks = Networks([ip_network(trusted)] if trusted else [])
        prepared = self.sockets.prepare(listeners)
        certificates, _ = open_certificates(listeners)
        openings = [Opening(each, certificates.get(each.name), head, most, networks) for each in listeners]
        given = lent(prepared, self.stage.keys())
        self.sockets.commit(prepared)
        self.stage.commit(openings, given)

    def door(self, name: str = "edge") -> Door:
        return next(door for door in self.stage.doors() if door.opening.listener.name == name)

    def address(self, name: str = "edge", ordinal: int = 0) -> tuple[str, int]:
        host, _, port = self.sockets.addresses()[name][ordinal].rpartition(":")
        return host.strip("[]"), int(port)

    async def connect(self, name: str = "edge", ordinal: int = 0) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*self.address(name, ordinal))
        self.writers.append(writer)
        return reader, writer


@contextlib.asynccontextmanager
async def staged() -> AsyncIterator[Staged]:
    """A stage without listeners yet; closed with all that it let in."""
    stage = Staged()
    try:
        yield stage
    finally:
        stage.stage.close()
        stage.sockets.close()
        for echo in stage.met:
            echo.transport.abort()
        for _, sock in stage.taken:
            sock.close()
        for writer in stage.writers:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        await until(lambda: stage.stage.pending() == 0 and not any(cell.count for cell in stage.live.values()))
        await asyncio.sleep(0)  # closing a transport takes a turn of its own


def lent(prepared: Prepared, known: Collection[Key]) -> dict[Key, list[socket.socket]]:
    """The sockets that a single worker is lent, but for those it has: descriptors of its own."""
    found: dict[Key, list[socket.socket]] = {}
    for key, bounds in share(prepared.plan, 0, 1).items():
        if key not in known:
            found[key] = [bound.sock.dup() for bound in bounds]
            for sock in found[key]:
                sock.setblocking(False)
    return found


async def until(holds: Callable[[], bool]) -> None:
    """Let the loop run until something holds."""
    async with asyncio.timeout(PATIENCE):
        while not holds():
            await asyncio.sleep(0.002)


def socket_path(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(path))
    client.setblocking(False)
    return client
