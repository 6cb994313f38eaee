"""A link that can fail: a TCP proxy between Domicile and a provider, whose faults are switched while it runs.

async with Link(provider.port).running() as link:
    ... dial 127.0.0.1:link.port ...
    link.fault = Fault(latency=0.2)                          # from now on, also for connections that live
    link.script.append(Fault(at=At("to_client", 17, "reset")))  # for the next connection, and for it alone
    link.refuse(); link.listen()                             # nobody there, and back at the same port
    link.swallow(); link.listen()                            # SYNs vanish, and are answered again
    link.reset(); link.end()                                 # everything that is connected

- A byte that was lost is gone; one that is held up (`rate=0`) is only late.
- What is lost takes the end of its direction with it: the other side is not told, as when a cable is cut.
- A reset is an RST to both sides, an end is a FIN to both.
"""

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

Way = Literal["to_provider", "to_client"]
BOTH: frozenset[Way] = frozenset(("to_provider", "to_client"))

GARBAGE = bytes(range(255, 0, -1)) + b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class At:
    """Happens once on a connection, when `offset` bytes have passed this way; at 0, when the next would."""

    way: Way
    offset: int
    then: Literal["reset", "end", "garbage"]


@dataclass(frozen=True, slots=True)
class Fault:
    """latency: seconds that each piece waits. rate: bytes a second, either way; 0 stops them. lost: the ways in which
    nothing arrives. at: something that happens at a byte."""

    latency: float = 0.0
    rate: float | None = None
    lost: frozenset[Way] = frozenset()
    at: At | None = None


SOUND = Fault()


class Link:
    """port: where it listens. fault: what befalls whoever has no fault of a script. accepted: connections so far.
    passed: bytes that the last one has carried, each way."""

    def __init__(self, target: int, host: str = "127.0.0.1") -> None:
        self._target = (host, target)
        self._fault = SOUND
        self._changed = asyncio.Event()
        self.script: deque[Fault] = deque()
        self.accepted = 0
        self.passed: dict[Way, int] = {}
        self.port = 0
        self._listener: socket.socket | None = None
        self._accepting = False
        self._fillers: list[socket.socket] = []
        self._crossings: set[_Crossing] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Link"]:
        self.listen()
        try:
            yield self
        finally:
            self.refuse()
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for crossing in self._crossings:  # Those that had not begun.
                crossing.close()

    @property
    def fault(self) -> Fault:
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        self._fault = fault
        self._changed.set()
        self._changed = asyncio.Event()

    @property
    def living(self) -> int:
        """Connections that neither side has left."""
        return len(self._crossings)

    def listen(self) -> None:
        """Take connections, as at first."""
        if self._listener is None:
            self._listener = sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", self.port))
            sock.setblocking(False)
            self.port = sock.getsockname()[1]
        self._listener.listen(1024)
        if not self._accepting:
            self._accepting = True
            asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    def refuse(self) -> None:
        """Listen no longer; what is connected stays."""
        self._stop_accepting()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self._close_fillers()

    def swallow(self) -> None:
        """Answer no SYN: the kernel drops them while the listener's queue is full."""
        self._stop_accepting()
        assert self._listener is not None
        self._listener.listen(0)
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(self._listener.getsockname())
            self._fillers.append(filler)

    def reset(self) -> None:
        """RST to both sides of everything that is connected."""
        for crossing in list(self._crossings):
            crossing.reset()

    def end(self) -> None:
        """A FIN to both sides of everything that is connected."""
        for crossing in list(self._crossings):
            crossing.end()

    def _stop_accepting(self) -> None:
        if self._accepting and self._listener is not None:
            self._accepting = False
            asyncio.get_running_loop().remove_reader(self._listener)

    def _close_fillers(self) -> None:
        for filler in self._fillers:
            filler.close()
        self._fillers.clear()

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, peer = listener.accept()
        except OSError:
            return
        if peer in [filler.getsockname() for filler in self._fillers]:
            client.close()
            return
        self.accepted += 1
        self.passed = {"to_provider": 0, "to_client": 0}
        provider = socket.socket()
        provider.setblocking(False)
        crossing = _Crossing(self, client, provider, self.script.popleft() if self.script else None)
        self._crossings.add(crossing)
        task = asyncio.get_running_loop().create_task(self._carry(crossing))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, crossing: "_Crossing") -> None:
        try:
            await crossing.carry(self._target)
        finally:
            self._crossings.discard(crossing)


class _Crossing:
    """One connection over a link: two sockets, and what befalls it."""

    def __init__(self, link: Link, client: socket.socket, provider: socket.socket, own: Fault | None) -> None:
        self._link = link
        self._client = client
        self._provider = provider
        self._own = own
        self._over = asyncio.Event()
        self._passed = link.passed
        client.setblocking(False)
        for sock in (client, provider):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def _fault(self) -> Fault:
        return self._link.fault if self._own is None else self._own

    async def carry(self, target: tuple[str, int]) -> None:
        """All of its life."""
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_connect(self._provider, target)
            both = asyncio.gather(self._way("to_provider"), self._way("to_client"))
            over = loop.create_task(self._over.wait())
            try:
                await asyncio.wait((both, over), return_when=asyncio.FIRST_COMPLETED)
            finally:
                both.cancel()
                over.cancel()
                await asyncio.gather(both, over, return_exceptions=True)
        except OSError:
            self.reset()
        finally:
            self.close()

    def close(self) -> None:
        self._client.close()
        self._provider.close()

    async def _way(self, way: Way) -> None:
        source, sink = (self._client, self._provider) if way == "to_provider" else (self._provider, self._client)
        try:
            await self._pump(way, source, sink)
        except OSError:
            if way in self._fault.lost:
                await self._over.wait()
            self.reset()

    async def _pump(self, way: Way, source: socket.socket, sink: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        count, struck = self._passed, False
        while True:
            await self._let_through()
            data = await loop.sock_recv(source, self._most())
            await self._let_through()
            fault = self._fault
            if way in fault.lost:
                if not data:
                    await self._over.wait()
                    return
                continue
            if fault.latency:
                await asyncio.sleep(fault.latency)
            if not data:
                sink.shutdown(socket.SHUT_WR)
                return
            at = fault.at
            if at is not None and at.way == way and not struck and count[way] + len(data) >= at.offset:
                struck = True
                before = max(0, at.offset - count[way])
                await loop.sock_sendall(sink, data[:before])
                if at.then == "reset":
                    self.reset()
                    return
                if at.then == "end":
                    self.end()
                    return
                await loop.sock_sendall(sink, GARBAGE)
                data = data[before:]
                count[way] += before
            await loop.sock_sendall(sink, data)
            count[way] += len(data)
            if fault.rate:
                await asyncio.sleep(len(data) / fault.rate)

    async def _let_through(self) -> None:
        while self._fault.rate == 0:
            await self._link._changed.wait()

    def _most(self) -> int:
        rate = self._fault.rate
        return 65536 if not rate else max(1, int(rate / 20))

    def reset(self) -> None:
        for sock in (self._client, self._provider):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._over.set()

    def end(self) -> None:
        self._over.set()
