"""Names of endpoints to addresses, remembered for as long as the answer says.

- An address literal and `localhost` need no look-up (RFC 6761 section 6.3 for the second).
- An answer is used for its time to live, within SHORTEST and LONGEST, then asked for again. While that takes longer
  than PATIENCE, or fails, the last good answer stands in, until STALE seconds after its time; then there is no answer.
- However many ask for one name, the name service is asked once at a time.
- A name service that fails is left alone for RETRY seconds while an old answer stands in.

What comes out is not yet allowed: the dial guard judges every address, remembered or new.
"""

import asyncio
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address

from proxy.policy.facts import Address
from proxy.providers.guard import LOCALHOST, literal
from proxy.providers.names import Answer, Lookup, NameService

SHORTEST = 5.0
LONGEST = 3600.0
STALE = 600.0
PATIENCE = 1.0
RETRY = 5.0

_LOOPBACK: tuple[Address, ...] = (IPv4Address("127.0.0.1"), IPv6Address("::1"))


class NameUnresolved(Exception):
    """The name service's fault: no answer, and none remembered that is fresh enough. Its text is the name."""


class _Entry:
    """What is known of one name. until: when its time is over; ask_after: it serves unasked until then."""

    __slots__ = ("addresses", "ask_after", "pending", "until")

    def __init__(self) -> None:
        self.addresses: tuple[Address, ...] = ()
        self.until = 0.0
        self.ask_after = 0.0
        self.pending: asyncio.Task[None] | None = None

    def good(self, now: float) -> bool:
        """Whether there is an answer that may serve."""
        return bool(self.addresses) and now < self.until + STALE


class Resolver:
    """Remembers one answer a name, process-long. Only names of endpoints are asked for, which bounds the table."""

    def __init__(self, lookup: Lookup | None = None, clock: Callable[[], float] | None = None) -> None:
        """lookup: by default the system's name service. clock: monotonic seconds, by default the running loop's."""
        self._service = NameService()
        self._lookup = lookup or self._service.lookup
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
        if entry is None:
            return None
        now = self._now()
        return entry.addresses if now < entry.ask_after and entry.good(now) else None

    def fresh(self, host: str) -> bool:
        """Whether what is known of a name is within its time; else it stands in for a newer answer."""
        entry = self._entries.get(host)
        return entry is not None and self._now() < entry.until

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
        patience = PATIENCE if entry.good(now) else None
        await asyncio.wait((entry.pending,), timeout=patience)
        if entry.good(self._now()):
            return entry.addresses
        raise NameUnresolved(host)

    async def close(self) -> None:
        """Gives up the look-ups under way."""
        pending = [entry.pending for entry in self._entries.values() if entry.pending is not None]
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        await self._service.close()

    def _forget(self, now: float) -> None:
        """Keeps only what can still answer: so reloads do not let the table grow."""
        self._entries = {
            name: entry for name, entry in self._entries.items() if entry.pending is not None or entry.good(now)
        }

    async def _ask(self, host: str, entry: _Entry) -> None:
        try:
            answer = await self._lookup(host)
        except (OSError, UnicodeError):
            answer = Answer((), 0.0)
        finally:
            entry.pending = None
        now = self._now()
        if answer.addresses:
            entry.addresses = tuple(dict.fromkeys(answer.addresses))
            entry.until = entry.ask_after = now + min(max(answer.ttl, SHORTEST), LONGEST)
        else:
            entry.ask_after = now + RETRY

    def _now(self) -> float:
        return asyncio.get_running_loop().time() if self._clock is None else self._clock()
