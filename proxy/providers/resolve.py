"""Names of endpoints to addresses, without blocking the loop.

- An address literal and `localhost` need no look-up (RFC 6761 section 6.3 for the second).
- An answer is used for FRESH seconds, then asked for again. While that takes longer than PATIENCE, or fails, the
  last good answer stands in, until it is STALE seconds old; after that there is no answer.
- However many ask for one name, the name service is asked once at a time.
- A name service that fails is left alone for RETRY seconds while an old answer stands in.

What comes out is not yet allowed: the dial guard judges every address, remembered or new.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from proxy.policy.facts import Address
from proxy.providers.guard import LOCALHOST, literal

FRESH = 30.0
STALE = 600.0
PATIENCE = 1.0
RETRY = 5.0

_LOOPBACK: tuple[Address, ...] = (IPv4Address("127.0.0.1"), IPv6Address("::1"))

Lookup = Callable[[str], Awaitable[Sequence[Address]]]
"""Asks for a name's addresses, best first; raises OSError or UnicodeError, or returns none, when there are none."""


class NameUnresolved(Exception):
    """The name service's fault: no answer, and none remembered that is fresh enough. Its text is the name."""


class _Entry:
    """What is known of one name. good: when it was last answered; ask_after: the answer serves unasked until then."""

    __slots__ = ("addresses", "ask_after", "good", "pending")

    def __init__(self) -> None:
        self.addresses: tuple[Address, ...] = ()
        self.good = 0.0
        self.ask_after = 0.0
        self.pending: asyncio.Task[None] | None = None


class Resolver:
    """Remembers one answer a name, process-long. Only names of endpoints are asked for, which bounds the table."""

    def __init__(self, lookup: Lookup | None = None, clock: Callable[[], float] | None = None) -> None:
        """lookup: by default the system's resolver. clock: monotonic seconds, by default the running loop's."""
        self._lookup = lookup or system_lookup
        self._clock = clock
        self._entries: dict[str, _Entry] = {}

    def known(self, host: str) -> Sequence[Address] | None:
        """The addresses of an endpoint's host where nobody has to be asked; None where somebody has."""
        if host == LOCALHOST:
            return _LOOPBACK
        written = literal(host)
        if written is not None:
            return (written,)
        entry = self._entries.get(host)
        if entry is None or not entry.addresses:
            return None
        now = self._now()
        return entry.addresses if now < entry.ask_after and now < entry.good + STALE else None

    async def resolve(self, host: str) -> Sequence[Address]:
        """The addresses of an endpoint's host, best first, at least one. Raises NameUnresolved."""
        known = self.known(host)
        if known is not None:
            return known
        now = self._now()
        entry = self._entries.get(host)
        if entry is None:
            self._forget(now)
            entry = self._entries[host] = _Entry()
        if entry.pending is None:
            entry.pending = asyncio.get_running_loop().create_task(self._ask(host, entry))
        # Waited for, never awaited: one asker that gives up must not take the answer from the others.
        patience = PATIENCE if entry.addresses and now < entry.good + STALE else None
        await asyncio.wait((entry.pending,), timeout=patience)
        if entry.addresses and self._now() < entry.good + STALE:
            return entry.addresses
        raise NameUnresolved(host)

    async def close(self) -> None:
        """Gives up the look-ups under way."""
        pending = [entry.pending for entry in self._entries.values() if entry.pending is not None]
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    def _forget(self, now: float) -> None:
        """Keeps only what can still answer: so reloads do not let the table grow."""
        self._entries = {
            name: entry
            for name, entry in self._entries.items()
            if entry.pending is not None or (entry.addresses and now < entry.good + STALE)
        }

    async def _ask(self, host: str, entry: _Entry) -> None:
        try:
            addresses = tuple(dict.fromkeys(await self._lookup(host)))
        except (OSError, UnicodeError):
            addresses = ()
        finally:
            entry.pending = None
        now = self._now()
        if addresses:
            entry.addresses, entry.good, entry.ask_after = addresses, now, now + FRESH
        else:
            entry.ask_after = now + RETRY

    def _now(self) -> float:
        return asyncio.get_running_loop().time() if self._clock is None else self._clock()


async def system_lookup(name: str) -> Sequence[Address]:
    """Asks the system's resolver, in a thread of the loop. Its order is RFC 6724's."""
    answers = await asyncio.get_running_loop().getaddrinfo(
        name, None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
    )
    return [ip_address(sockaddr[0]) for family, _, _, _, sockaddr in answers if family in _FAMILIES]


_FAMILIES = frozenset({socket.AF_INET, socket.AF_INET6})
