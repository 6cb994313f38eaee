"""Memory of idle connections: ten thousand that have had their answer and are kept, passed on and over HTTP.

All of them have to stay open, and one more has to be served meanwhile. What is counted is what the proxy's processes
have resident, before and with them; the kernel's memory of sockets, alike for all, is not in it. A proxy starts anew
for this. Where a process may not have two descriptors for each, there are fewer, and the table says how many.
"""

import resource
import select
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.certificates import make_certificates
from benchmarks.cores import Cores
from benchmarks.load import LoadFailed
from benchmarks.passing.measure import passing_provider
from benchmarks.passing.proxies import PASSING_PROXIES, PassingLane
from benchmarks.passing.work import request
from benchmarks.processor import family, resident
from benchmarks.provider import Ports, provider
from benchmarks.proxies import PROXIES
from benchmarks.proxies.lane import Lane
from benchmarks.work import HEADERS, HOST
from tests.peers.process import Peer, free_port

WANTED: Final = 10_000

_FIRST: Final = 100
"""Connections that come and go before anything is counted: what is made once is made."""

_OTHERS: Final = 600
"""Descriptors of a process that are not for these connections; a proxy may keep some free."""

_SOME: Final = 40
"""Connections that a proxy may have beside the idle ones."""

_PATIENCE: Final = 10.0

_HTTP_PROXIES: Final = ("Domicile", "nginx", "HAProxy")


@dataclass(frozen=True, slots=True)
class Held:
    """What a proxy has resident, in bytes, before and with so many idle connections. kind: of the connections."""

    kind: str
    proxy: str
    connections: int
    before: int
    holding: int

    @property
    def each(self) -> float:
        """Bytes a connection."""
        return (self.holding - self.before) / self.connections


@dataclass(frozen=True, slots=True)
class _Talk:
    """One exchange: what is asked, and how an answer ends."""

    asks: bytes
    ends: bytes


_PASSED: Final = _Talk(request(12), b"x" * 12)
_HTTP: Final = _Talk(
    b"GET /12 HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in HEADERS).encode() + b"\r\n",
    b"hello, world",
)


@dataclass(slots=True)
class Idle:
    """What was measured, and what failed, by kind and proxy."""

    rows: list[Held] = field(default_factory=list)
    failures: dict[tuple[str, str], str] = field(default_factory=dict)


def measure_idle(
    names: Sequence[str], cores: Cores, folder: Path, say: Callable[[str], None], wanted: int = WANTED
) -> Idle:
    """What the named proxies take."""
    limit = _more_descriptors()
    idle = Idle()
    with passing_provider(folder / "passing-provider", cores.load) as passing_origin:
        count = min(wanted, (limit - _OTHERS) // 2)
        for name in (name for name in PASSING_PROXIES if name in names):
            place = folder / "passed" / name
            lane = PassingLane(free_port(), passing_origin, place, cores.proxy, count + _SOME)
            with PASSING_PROXIES[name](lane) as peer:
                _measure("passed on", name, peer, _Client(lane.listen, _PASSED), count, idle, say)
    certificates = make_certificates(folder / "certificates", HOST)
    with provider(folder / "provider", certificates, cores.load) as origin:
        count = min(wanted, limit - _OTHERS)
        for name in (name for name in _HTTP_PROXIES if name in names):
            ports, place = Ports(free_port(), free_port()), folder / "http" / name
            with PROXIES[name](Lane(ports, origin, certificates, place, cores.proxy, count + _SOME)) as peer:
                _measure("HTTP keep-alive", name, peer, _Client(ports.plain, _HTTP), count, idle, say)
    return idle


def _more_descriptors() -> int:
    """As many as this process, and all that it starts, may have."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    enough = 2 * WANTED + _OTHERS
    if hard == resource.RLIM_INFINITY or hard >= enough:
        resource.setrlimit(resource.RLIMIT_NOFILE, (enough, hard))
        return enough
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (enough, enough))
    except ValueError:  # not ours to raise
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return hard
    return enough


@dataclass(frozen=True, slots=True)
class _Client:
    """Makes connections that have had an exchange."""

    port: int
    talk: _Talk

    def connect(self) -> socket.socket:
        """One that was answered."""
        try:
            connection = socket.create_connection(("127.0.0.1", self.port), _PATIENCE)
            connection.sendall(self.talk.asks)
            answer = b""
            while not answer.endswith(self.talk.ends):
                piece = connection.recv(4096)
                if not piece:
                    raise LoadFailed(f"a connection ended after {answer!r}")
                answer += piece
        except OSError as error:
            raise LoadFailed(f"a connection was not served: {error}") from error
        return connection


def _measure(
    kind: str, name: str, peer: Peer, client: _Client, count: int, idle: Idle, say: Callable[[str], None]
) -> None:
    try:
        held = _hold(kind, name, peer, client, count)
    except LoadFailed as failure:
        idle.failures[kind, name] = str(failure)
        say(f"{kind}: {name}: {failure}")
        return
    idle.rows.append(held)
    say(f"{kind}: {name} holds {count} idle connections, {held.each:.0f} bytes each")


def _hold(kind: str, name: str, peer: Peer, client: _Client, count: int) -> Held:
    with ExitStack() as stack:
        for connection in [client.connect() for _ in range(_FIRST)]:
            connection.close()
        pids = family(peer.pid)
        before = resident(pids)
        connections = [stack.enter_context(client.connect()) for _ in range(count)]
        holding = resident(pids)
        stack.enter_context(client.connect())
        if gone := ended(connections):
            raise LoadFailed(f"{gone} of {count} idle connections ended")
    return Held(kind, name, count, before, holding)


def ended(connections: Sequence[socket.socket]) -> int:
    """How many idle connections have something to tell, which can only be their end."""
    with select.epoll() as epoll:
        for connection in connections:
            epoll.register(connection.fileno(), select.EPOLLIN)
        return len(epoll.poll(0, len(connections)))
