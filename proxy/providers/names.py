"""The system's name service, asked beside everything else that the loop does: c-ares, which threads no look-up.

It reads what an operator expects to be read, as the C library does and again when it changes: /etc/hosts first, then
the servers, search domains and options of /etc/resolv.conf. A and AAAA are asked for together, the answer's order is
RFC 6724's, a truncated one is asked for again over TCP. Other sources of nsswitch.conf (mDNS, LDAP) are not asked.
"""

import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

import aiodns

from proxy.policy.facts import Address

TIMEOUT: Final = 1.0
TRIES: Final = 3
"""Each server is asked so often, and waited for so long the first time, twice as long the next."""

_FAMILIES: Final = frozenset({socket.AF_INET, socket.AF_INET6})


@dataclass(frozen=True, slots=True)
class Answer:
    """A name's addresses, best first. ttl: for how many seconds it holds, aliases on the way included."""

    addresses: Sequence[Address]
    ttl: float


Lookup = Callable[[str], Awaitable[Answer]]
"""Asks for a name's addresses; raises OSError or UnicodeError, or returns none, when there are none."""


class NameService:
    """options: where it differs from what the system says, as `pycares.Channel` has them. Opened when first asked."""

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._channel: aiodns.DNSResolver | None = None

    async def lookup(self, name: str) -> Answer:
        """A name's addresses. Raises OSError."""
        if self._channel is None:
            self._channel = aiodns.DNSResolver(timeout=TIMEOUT, tries=TRIES, **self._options)
        try:
            found = await self._channel.getaddrinfo(name, family=socket.AF_UNSPEC, type=socket.SOCK_STREAM)
        except aiodns.error.DNSError as error:
            raise OSError(*error.args) from None
        nodes = [node for node in found.nodes if node.family in _FAMILIES]
        ttls = [node.ttl for node in nodes]
        ttls += [alias.ttl for alias in found.cnames]
        return Answer([ip_address(_text(node.addr[0])) for node in nodes], float(min(ttls, default=0)))

    async def close(self) -> None:
        """Give up what is being asked."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()


def _text(address: bytes | str) -> str:
    return address.decode("ascii") if isinstance(address, bytes) else address
