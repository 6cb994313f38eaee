"""What several of these tests look at: counters, bounded waits, sockets that misbehave, and what must not be left."""

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from tests.http1.staging import PATIENCE, Client, Conversation, Stage

PROMISE = 2.0
"""Seconds in which something promised within one must be seen: the machine that tests may be busy."""

UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def metric(stage: Stage, name: str, **labels: str) -> float:
    """The sum of a family's samples of this name that carry these labels."""
    return sum(
        sample.value
        for family in stage.metrics.families()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


async def eventually(holds: Callable[[], bool], within: float = PATIENCE) -> None:
    """Wait until it holds; fails when that takes longer."""
    async with asyncio.timeout(within):
        while not holds():
            await asyncio.sleep(0.01)


async def told(stage: Stage, count: int = 1) -> list[dict[str, object]]:
    """All records: exactly so many, each counted once by a request metric."""
    records = await stage.records(count)
    assert len(records) == count
    assert metric(stage, "domicile_requests_total") == count
    return records


@contextmanager
def not_before(seconds: float) -> Iterator[None]:
    """What it spans takes at least so long, and not for ever."""
    started = time.monotonic()
    yield
    # The loop's timers count whole milliseconds.
    assert time.monotonic() - started >= seconds - 0.01


@contextmanager
def unforeseen() -> Iterator[list[dict[str, Any]]]:
    """What the loop's exception handler is told."""
    loop, told = asyncio.get_running_loop(), list[dict[str, Any]]()
    loop.set_exception_handler(lambda _, context: told.append(context))
    try:
        yield told
    finally:
        loop.set_exception_handler(None)


def open_at(stage: Stage, name: str) -> int:
    """Connections that are open to a provider, as the proxy counts them."""
    return stage.plane.line.fleet.states[name].open


def own_tasks() -> list[str]:
    """The proxy's tasks that are not done."""
    coroutines = [task.get_coro() for task in asyncio.all_tasks()]
    return [c.__qualname__ for c in coroutines if "/proxy/" in c.cr_code.co_filename]


async def nothing_left(stage: Stage, within: float = PROMISE) -> None:
    """No client connection, no provider connection, no task of the proxy."""
    await eventually(lambda: stage.plane.open_connections == 0, within)
    await eventually(lambda: all(state.open == 0 for state in stage.plane.line.fleet.states.values()), within)
    await eventually(lambda: not own_tasks(), within)
    assert metric(stage, "domicile_connections") == 0


async def thin_client(stage: Stage, receive: int = 4096) -> Client:
    """A client whose kernel takes little that it has not read."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", stage.port))
    client = Client(*await asyncio.open_connection(sock=sock, limit=1024))
    stage.clients.append(client)
    return client


def half_close(client: Client) -> None:
    """A FIN; the other way stays open."""
    client.writer.write_eof()


def reset(client: Client) -> None:
    """An RST, whatever was read."""
    client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.writer.transport.abort()


def reset_by_provider(conversation: Conversation) -> None:
    """An RST from the provider."""
    sock = conversation.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conversation.writer.transport.abort()


class BlackHole:
    """A listener whose queue is full: the kernel drops further SYNs, and who dials waits."""

    def __init__(self, listener: socket.socket, fillers: list[socket.socket]) -> None:
        self.port: int = listener.getsockname()[1]
        self._listener = listener
        self._fillers = fillers
        self.accepted: list[socket.socket] = []

    def open(self) -> None:
        """Take in who waits, so that the next SYN is answered."""
        self._listener.listen(64)
        for filler in self._fillers:
            filler.close()

    async def serve(self, body: bytes) -> None:
        """Answer the first who says something."""
        loop = asyncio.get_running_loop()
        self._listener.setblocking(False)
        while True:
            sock, _ = await loop.sock_accept(self._listener)
            self.accepted.append(sock)
            sock.setblocking(False)
            if await loop.sock_recv(sock, 65536):
                await loop.sock_sendall(sock, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
                return


@asynccontextmanager
async def black_hole(port: int = 0) -> AsyncIterator[BlackHole]:
    """A port of loopback where nobody is refused and nobody gets in. port: 0 for any."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(0)
    fillers = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
        fillers.append(filler)
    hole = BlackHole(listener, fillers)
    try:
        yield hole
    finally:
        for sock in (*fillers, *hole.accepted, listener):
            sock.close()


async def more_than_is_taken(stage: Stage, conversation: Conversation) -> None:
    """Answer the stage's one client with more than may wait for it, so that the rest waits in the proxy, whole."""
    (client,) = stage.plane._connections
    await conversation.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while client.transport.get_write_buffer_size() < 200_000:
        await conversation.say(b"4e20\r\n" + b"x" * 20_000 + b"\r\n")
        await asyncio.sleep(0.01)
    await conversation.say(b"186a0\r\n" + b"x" * 100_000 + b"\r\n0\r\n\r\n")


async def answered_and_not_taken(stage: Stage) -> None:
    """Until `more_than_is_taken` has said it all."""
    await eventually(lambda: [each.served for each in stage.plane._connections] == [1])
    (client,) = stage.plane._connections
    assert not client.writable, "the answer was taken too early to say anything"
