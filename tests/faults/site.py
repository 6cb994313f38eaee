"""A provider that behaves, keeps every byte that it was sent, and can tell a check from traffic.

It speaks HTTP at `port` and echoes at `raw_port`. By path:
/            its name
/bytes/N     N bytes
/end/N       N bytes, of which only the end says that they are all
/wait        its name, once `go` is set
CHECK        204: what health checks ask for, and nobody else

A client's bytes get to it through Domicile alone; the same class stands in for a provider that is not permitted.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

CHECK = "/-/check"


@dataclass(eq=False)
class Visit:
    """One connection. received: all bytes of it. requests: those that came whole, as `GET /`. raw: at the echo."""

    raw: bool
    received: bytearray = field(default_factory=bytearray)
    requests: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    reset: bool = False

    @property
    def only_checked(self) -> bool:
        """Whether it carried checks and nothing else: nobody's data, nobody's address."""
        if self.raw:
            return not self.received
        heads = bytes(self.received).split(b"\r\n\r\n")
        whole = heads.pop() == b"" and bool(heads)
        return whole and all(
            head.startswith(f"GET {CHECK} ".encode()) and b"X-Forwarded-For" not in head for head in heads
        )


class Site:
    def __init__(self, name: str) -> None:
        self.name = name
        self.port = 0
        self.raw_port = 0
        self.go = asyncio.Event()
        self.healthy = True
        self.visits: list[Visit] = []
        self._writers: set[asyncio.StreamWriter] = set()

    @asynccontextmanager
    async def running(
        self, tls: ssl.SSLContext | None = None, bound: Callable[[], socket.socket] = lambda: stream("127.0.0.1")
    ) -> AsyncIterator["Site"]:
        """tls: spoken at both ports. bound: makes the socket of each."""
        speaks = (self._http, self._raw)
        servers = [await asyncio.start_server(each, sock=bound(), backlog=1024, ssl=tls) for each in speaks]
        self.port, self.raw_port = (server.sockets[0].getsockname()[1] for server in servers)
        try:
            yield self
        finally:
            for server in servers:
                server.close()
            self.go.set()
            for writer in list(self._writers):
                writer.transport.abort()
            for server in servers:
                await server.wait_closed()
            await asyncio.gather(*(visit.ended.wait() for visit in self.visits))

    @property
    def heard(self) -> list[bytes]:
        """All that it was sent, a connection each, but for checks."""
        return [bytes(visit.received) for visit in self.visits if not visit.only_checked]

    @property
    def told(self) -> bool:
        """Whether nobody is at its HTTP port who has said nothing yet: a check is told apart by what it asks for."""
        return all(visit.raw or visit.received or visit.ended.is_set() for visit in self.visits)

    @property
    def requests(self) -> list[str]:
        """The requests that came whole, but for checks."""
        return [each for visit in self.visits for each in visit.requests if each != f"GET {CHECK}"]

    @property
    def checks(self) -> int:
        return sum(each == f"GET {CHECK}" for visit in self.visits for each in visit.requests)

    async def forget(self) -> None:
        """Once nobody is connected but who is here to check: nobody ever was."""
        await asyncio.gather(*(visit.ended.wait() for visit in self.visits if not visit.only_checked))
        self.visits = [visit for visit in self.visits if not visit.ended.is_set()]

    async def _http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._visit(Visit(False), reader, writer)

    async def _raw(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._visit(Visit(True), reader, writer)

    async def _visit(self, visit: Visit, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits.append(visit)
        self._writers.add(writer)
        try:
            await (self._echo if visit.raw else self._serve)(visit, reader, writer)
        except asyncio.IncompleteReadError as cut:
            visit.received += cut.partial
        except (ConnectionError, ssl.SSLError):
            visit.reset = True
        except (ValueError, asyncio.LimitOverrunError):
            pass  # Garbage came, and there is no answer to that.
        finally:
            visit.ended.set()
            self._writers.discard(writer)
            writer.close()

    async def _echo(self, visit: Visit, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            visit.received += data
            writer.write(data)
            await writer.drain()

    async def _serve(self, visit: Visit, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            visit.received += head
            method, target, _ = head.decode("latin-1").split(" ", 2)
            body = await _body(head.lower(), visit, reader)
            visit.requests.append(f"{method} {target}")
            visit.bodies.append(body)
            await self._answer(method, target, writer)
            if target.startswith("/end/"):
                return

    async def _answer(self, method: str, target: str, writer: asyncio.StreamWriter) -> None:
        if target == CHECK:
            writer.write(b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n" % (b"200 OK" if self.healthy else b"503 Ill"))
            return
        if target.startswith("/end/"):
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * int(target[5:]))
            return
        if target == "/wait":
            await self.go.wait()
        size = int(target.rpartition("/")[2]) if target.startswith("/bytes/") else None
        content = self.name.encode() if size is None else b"x" * min(size, 65536)
        total = len(content) if size is None else size
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        while total > 0 and method != "HEAD":
            writer.write(content[:total])
            total -= len(content)
            await writer.drain()


def stream(address: str) -> socket.socket:
    """A bound socket. asyncio sends at once, without waiting for an ACK, where the socket says that it is TCP's."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.bind((address, 0))
    return sock


async def _body(head: bytes, visit: Visit, reader: asyncio.StreamReader) -> bytes:
    """The rest of a request, as its head frames it."""
    if b"\r\ntransfer-encoding: chunked" in head:
        body = b""
        while True:
            line = await reader.readuntil(b"\r\n")
            data = await reader.readexactly(int(line, 16) + 2)
            visit.received += line + data
            body += data[:-2]
            if len(data) == 2:
                return body
    _, found, rest = head.partition(b"\r\ncontent-length:")
    left, body = int(rest.partition(b"\r\n")[0]) if found else 0, b""
    while len(body) < left:
        data = await reader.read(left - len(body))
        if not data:
            raise ConnectionResetError("ended in a body")
        visit.received += data
        body += data
    return body
