"""One active check of one endpoint: connect as traffic does, ask, judge, and note who answered and how soon.

Nothing of any client is sent: the permit is a ProbePermit, the connection is made for the check and goes with it, and
what it carries is `checks.request`. Redirects are not followed.
"""

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Final

from proxy.policy.decision import ProbePermit
from proxy.policy.facts import Address
from proxy.policy.health import HealthCheck
from proxy.providers.checks import Answer, Result, greeting, request, undialled
from proxy.providers.dial import dial, open_socket
from proxy.providers.endpoint import EndpointState
from proxy.providers.failure import DialFailure
from proxy.providers.guard import unmapped

# `struct tcp_info` of linux/tcp.h: its size up to and with tcpi_min_rtt, the shortest round trip in microseconds that
# the kernel saw on this connection, the handshake's among them.
_TCP_INFO: Final = 152
_MIN_RTT: Final = struct.Struct("@I")
_MIN_RTT_AT: Final = 148

_PARTING: Final = 0.5
"""Seconds that a good check's connection has to end in order."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What one check came to. address: that answered; rtt: the connection's shortest round trip, in seconds."""

    result: Result
    address: Address | None = field(default=None, repr=False)
    rtt: float | None = None


async def probe(place: EndpointState[Any], permit: ProbePermit, check: HealthCheck) -> Probe | None:
    """Check an endpoint once, within the check's time; None where it failed by our own doing, which says nothing.

    Raises DialMisuse.
    """
    checking = _Checking(place, permit, check)
    try:
        async with asyncio.timeout(check.timeout):
            await checking.run()
    except TimeoutError:
        checking.overdue()
    except DialFailure as failure:
        undone = undialled(failure)
        return None if undone is None else Probe(undone)
    return Probe(checking.result, checking.address, checking.rtt)


class _Checking(asyncio.Protocol):
    """address, rtt: once it is connected."""

    def __init__(self, place: EndpointState[Any], permit: ProbePermit, check: HealthCheck) -> None:
        self._place = place
        self._permit = permit
        self._check = check
        loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = loop.create_future()
        self._ended: asyncio.Future[None] = loop.create_future()
        self._answer: Answer | None = None
        self.address: Address | None = None
        self.rtt: float | None = None

    async def run(self) -> None:
        """Check it, and leave no socket behind, however this ends."""
        place, permit = self._place, self._permit
        provider, endpoint, resolver = place.state.definition, place.endpoint, place.state.resolver
        if self._check.kind == "tcp":
            sock = await open_socket(permit, provider, endpoint, resolver, place.admission)
            with sock, contextlib.suppress(OSError):  # that it was connected is all that counts
                self._note(sock, sock.getpeername())
                sock.send(greeting(provider, endpoint))
            self._answer = Answer(self._check)
            return
        transport, _ = await dial(
            permit,
            provider,
            endpoint,
            lambda: self,
            context=place.state.contexts.get(endpoint.scheme),
            resolver=resolver,
            first=greeting(provider, endpoint),
            admission=place.admission,
        )
        try:
            place.shown(transport)
            self._note(transport.get_extra_info("socket"), transport.get_extra_info("peername"))
            self._look()
            transport.write(request(self._check, provider, endpoint))
            await self._over
            if self.result.good:
                # A handshake's last words may still be under way: to the provider it is to look whole.
                transport.close()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_PARTING):
                        await self._ended
        finally:
            # The connection ends with the check, whatever the provider still has to say.
            transport.abort()

    @property
    def result(self) -> Result:
        """What it came to, when it is over."""
        answer = self._answer
        return Result("too slow") if answer is None or answer.result is None else answer.result

    def overdue(self) -> None:
        """Its time is over."""
        if self._answer is not None:
            self._answer.overdue()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._answer = Answer(self._check)

    def data_received(self, data: bytes) -> None:
        if self._answer is not None:
            self._answer.received(data)
            self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended.done():
            self._ended.set_result(None)
        if self._answer is not None:
            self._answer.closed()
            self._look()

    def _look(self) -> None:
        if self._answer is not None and self._answer.result is not None and not self._over.done():
            self._over.set_result(None)

    def _note(self, sock: socket.socket, peer: tuple[Any, ...]) -> None:
        self.address = unmapped(ip_address(peer[0]))
        told = b""
        with contextlib.suppress(OSError):
            told = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO)
        if len(told) == _TCP_INFO:  # a kernel older than 4.6 knows less
            (shortest,) = _MIN_RTT.unpack_from(told, _MIN_RTT_AT)
            # All ones until there was a round trip.
            self.rtt = shortest / 1e6 if 0 < shortest < 0xFFFFFFFF else None
