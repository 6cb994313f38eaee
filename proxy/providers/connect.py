"""The one function that opens provider sockets: `connect`, driven by callbacks.

1. Without a permit that covers the provider there is no socket. A test holds that nothing else in the tree opens one.
2. A name that is not known yet is resolved off the loop. What the guard does not admit is never sent a packet.
3. Addresses are raced as RFC 8305 has it: the families in turns, the next one after a quarter of a second or as soon as
   one fails. The first that connects wins, the others are closed. Its peer is judged again.

It costs no task, future or timer where the name is known and one address is to be had; and where that address answers
at once, as one on this machine does, nothing is even waited for. How long all of it may take is the caller's to keep.
"""

import asyncio
import errno
import os
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from ipaddress import ip_address
from itertools import chain, zip_longest
from typing import Final

from proxy.policy.decision import Permit, ProbePermit
from proxy.policy.facts import Address
from proxy.policy.settings import Endpoint, Provider
from proxy.providers.descriptors import for_providers
from proxy.providers.failure import Cause, DialFailure, DialMisuse, Kind, connect_cause
from proxy.providers.guard import Admission, Answered, admits
from proxy.providers.resolve import NameUnresolved, Resolver

NEXT: Final = 0.25
"""Seconds that one address has before the next is tried beside it (RFC 8305 section 5)."""

_STREAM = socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC

KEEP_ALIVE: Final = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
"""A peer that vanished without a FIN is noticed after 60 + 3 * 10 seconds, also on a quiet tunnel."""

Connected = Callable[[socket.socket], None]
Failed = Callable[[DialFailure], None]


def connect(
    permit: Permit | ProbePermit,
    provider: Provider,
    endpoint: Endpoint,
    resolver: Resolver,
    connected: Connected,
    failed: Failed,
    admission: Admission | None = None,
) -> "Connecting":
    """Begin to connect to a permitted provider's endpoint. Calls one of the two once, perhaps before it returns.

    `connected`: a non-blocking socket whose peer is admitted, which is the caller's from then on. `failed`: why not.
    admission: this endpoint's, where it is kept.
    Raises DialMisuse for this program's own mistakes.
    """
    if not permit.covers(provider):
        raise DialMisuse(f"provider {provider.name}: no permit")
    if endpoint not in provider.endpoints:
        raise DialMisuse(f"provider {provider.name}: {endpoint.host}: not its endpoint")
    admission = admission or Admission()
    checks = isinstance(permit, ProbePermit)
    connecting = Connecting(provider, endpoint, connected, failed, admission, checks=checks)
    answers = resolver.known(endpoint.host)
    if answers is None:
        connecting.resolve(resolver)
    else:
        connecting.race(answers)
    return connecting


class Connecting:
    """A connection that is being made. After `stop`, and after one of its two calls, nothing of it is left."""

    # fmt: off
    __slots__ = (
        "_admission", "_checks", "_connected", "_endpoint", "_failed", "_failure", "_lookup", "_loop", "_next",
        "_provider", "_racing", "_timer",
    )
    # fmt: on

    def __init__(
        self,
        provider: Provider,
        endpoint: Endpoint,
        connected: Connected,
        failed: Failed,
        admission: Admission,
        *,
        checks: bool,
    ) -> None:
        self._admission = admission
        self._checks = checks
        self._provider = provider
        self._endpoint = endpoint
        self._connected = connected
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._lookup: asyncio.Task[None] | None = None
        self._next: deque[Address] = deque()
        self._racing: dict[socket.socket, str] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._failure: DialFailure | None = None

    def stop(self) -> None:
        """Give up; nobody is called."""
        if self._lookup is not None:
            self._lookup.cancel()
            self._lookup = None
        self._next.clear()
        self._rest()
        for sock in self._racing:
            self._loop.remove_writer(sock)
            sock.close()
        self._racing.clear()

    def time_out(self) -> None:
        """Fail, because the time that the caller gave it is over."""
        unnamed = self._lookup is not None
        self.stop()
        if unnamed:
            self._admission.answers["failed"] += 1
        self._failed(self._why("name" if unnamed else "timeout", "too slow"))

    # The name

    def resolve(self, resolver: Resolver) -> None:
        """Ask for the addresses first."""
        self._lookup = self._loop.create_task(self._resolve(resolver))

    async def _resolve(self, resolver: Resolver) -> None:
        try:
            answers = await resolver.resolve(self._endpoint.host)
        except NameUnresolved:
            self._lookup = None
            self._admission.answers["failed"] += 1
            self._failed(self._why("name", "name not found"))
            return
        self._lookup = None
        allowed = self._admission.of(self._provider, self._endpoint, answers)
        heard: Answered = "fresh" if resolver.fresh(self._endpoint.host) else "remembered"
        self._admission.answers[heard if len(allowed) == len(answers) else "outside"] += 1
        self.race(answers)

    # The race

    def race(self, answers: Sequence[Address]) -> None:
        """Connect to those of the addresses that are admitted."""
        allowed = self._admission.of(self._provider, self._endpoint, answers)
        if not allowed or (self._admission.closed and not self._checks):
            self._failed(self._why("outside", "address not allowed"))
            return
        self._next.extend(allowed if len(allowed) == 1 else in_turns(allowed))
        self._go_on()

    def _go_on(self) -> None:
        """Try the next address; fail where none is left and none is being tried."""
        while self._next:
            if self._try(self._next.popleft()):
                if self._next:
                    self._timer = self._loop.call_later(NEXT, self._slow)
                return
        if not self._racing:
            assert self._failure is not None
            self._failed(self._failure)

    def _slow(self) -> None:
        self._timer = None
        self._go_on()

    def _try(self, address: Address) -> bool:
        """Whether nothing else has to be tried for now."""
        try:
            sock = self._open(address)
        except OSError as broken:
            self._failure = self._why(*connect_cause(broken))
            return False
        text = _text(address)
        error = sock.connect_ex((text, self._endpoint.port))
        if error != errno.EINPROGRESS:
            return self._judge(sock, text, error)
        if _is_connected(sock):
            return self._judge(sock, text, 0)
        self._racing[sock] = text
        self._loop.add_writer(sock, self._writable, sock)
        return True

    def _open(self, address: Address) -> socket.socket:
        sock = _socket(socket.AF_INET if address.version == 4 else socket.AF_INET6)
        try:
            if sock.fileno() >= for_providers():
                raise OSError(errno.EMFILE, "what is left is kept free")
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in KEEP_ALIVE:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
        except OSError:
            sock.close()
            raise
        return sock

    def _writable(self, sock: socket.socket) -> None:
        self._loop.remove_writer(sock)
        if not self._judge(sock, self._racing.pop(sock), sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
            self._rest()
            self._go_on()

    def _judge(self, sock: socket.socket, text: str, error: int) -> bool:
        """Whether this one has won; it is handed over then. text: the address that it was to connect to."""
        try:
            if error:
                raise OSError(error, os.strerror(error))
            peer = sock.getpeername()
            if sock.getsockname() == peer:
                # Nobody listens, and the kernel chose that very port for our side: TCP met itself.
                raise ConnectionRefusedError(errno.ECONNREFUSED, "connected to itself")
        except OSError as broken:
            self._lose(sock, *connect_cause(broken))
            return False
        if peer[0] != text and not admits(self._provider, self._endpoint, ip_address(peer[0])):
            self._lose(sock, "outside", "address not allowed")
            return False
        self.stop()
        self._connected(sock)
        return True

    def _lose(self, sock: socket.socket, kind: Kind, cause: Cause) -> None:
        sock.close()
        self._failure = self._why(kind, cause)

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _why(self, kind: Kind, cause: Cause) -> DialFailure:
        return DialFailure(kind, self._provider.name, self._endpoint.host, cause)


_text = lru_cache(maxsize=4096)(str)  # of addresses that were admitted: which are few, and dialled again and again


def _is_connected(sock: socket.socket) -> bool:
    """Whether the other end has answered already. To look costs a tenth of what being told costs."""
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def _socket(family: socket.AddressFamily) -> socket.socket:
    return socket.socket(family, _STREAM, socket.IPPROTO_TCP)


def in_turns(addresses: Sequence[Address]) -> Iterator[Address]:
    """The two families in turns, the first address's first, each in its own order (RFC 8305 section 4)."""
    first = addresses[0].version
    same = [address for address in addresses if address.version == first]
    other = [address for address in addresses if address.version != first]
    return (address for address in chain.from_iterable(zip_longest(same, other)) if address is not None)
