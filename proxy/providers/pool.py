"""Idle connections to providers, kept by what they may be used for.

The pool decides and never acts: whatever is to be closed is returned to the caller, who closes it. It reads no
clock: `now` is monotonic seconds. For one key the newest is taken first, so that the others age and go.
"""

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from proxy.policy.settings import Endpoint


class Pooled(Protocol):
    """What a connection tells the pool."""

    def usable(self) -> bool:
        """Whether it can carry a request now: open, nothing pending, no FIN seen. Once False, for ever False."""
        ...

    def close(self) -> None:
        """For whoever takes it out of the pool, and has no use for it."""
        ...


C = TypeVar("C", bound=Pooled)


class PoolKey:
    """What a connection may be used for; two requests share connections only if all of it is equal.

    credential: which client certificate and fixed headers the provider knows us by, never their values.
    server_name: the name that the certificate was verified for, None on plaintext.
    """

    __slots__ = ("_hash", "credential", "endpoint", "provider", "server_name", "zone")

    def __init__(self, zone: str, provider: str, credential: str, server_name: str | None, endpoint: Endpoint) -> None:
        self.zone = zone
        self.provider = provider
        self.credential = credential
        self.server_name = server_name
        self.endpoint = endpoint
        # Kept because a dict asks at every request, and a dataclass's own hash takes longer than the rest of `take`.
        self._hash = hash((zone, provider, credential, server_name, endpoint))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, PoolKey)
            and self.zone == other.zone
            and self.provider == other.provider
            and self.credential == other.credential
            and self.server_name == other.server_name
            and self.endpoint == other.endpoint
        )

    def __repr__(self) -> str:
        return f"PoolKey({self.zone!r}, {self.provider!r}, {self.server_name!r}, {self.endpoint!r})"


class Pool(Generic[C]):
    """At most `per_key` idle connections a key, none for longer than `idle` seconds."""

    __slots__ = ("_idle", "_per_key", "_shelves")

    def __init__(self, idle: float, per_key: int) -> None:
        self._idle = idle
        self._per_key = per_key
        self._shelves: dict[PoolKey, list[tuple[float, C]]] = {}  # oldest first

    def __len__(self) -> int:
        return sum(map(len, self._shelves.values()))

    def take(self, key: PoolKey, now: float) -> tuple[C | None, Sequence[C]]:
        """The newest usable connection, no longer in the pool, or None; and those to close."""
        shelf = self._shelves.get(key)
        if not shelf:
            return None, ()
        since, connection = shelf.pop()
        if now - since < self._idle and connection.usable():
            return connection, ()
        return self._search(shelf, [connection], now)

    def _search(self, shelf: list[tuple[float, C]], closings: list[C], now: float) -> tuple[C | None, Sequence[C]]:
        while shelf:
            since, connection = shelf.pop()
            if now - since < self._idle and connection.usable():
                return connection, closings
            closings.append(connection)
        return None, closings

    def give(self, key: PoolKey, connection: C, now: float) -> Sequence[C]:
        """Puts a connection back whose exchange is over; returns those to close (the oldest, when full).

        Whether it is usable is asked when it is taken: only then does the answer count.
        """
        if self._per_key == 0:
            return (connection,)
        shelf = self._shelves.get(key)
        if shelf is None:
            shelf = self._shelves[key] = []
        shelf.append((now, connection))
        if len(shelf) > self._per_key:
            return (shelf.pop(0)[1],)
        return ()

    def discard(self, key: PoolKey, connection: C) -> bool:
        """Forgets a connection that broke while idle; whether it was here. The caller closes it."""
        shelf = self._shelves.get(key, [])
        for place, (_, idle) in enumerate(shelf):
            if idle is connection:
                del shelf[place]
                return True
        return False

    def expire(self, now: float) -> Sequence[C]:
        """Removes and returns those idle too long, and those no longer usable."""
        closings: list[C] = []
        for key, shelf in list(self._shelves.items()):
            kept = [entry for entry in shelf if now - entry[0] < self._idle and entry[1].usable()]
            if len(kept) < len(shelf):
                keep = {id(connection) for _, connection in kept}
                closings += [connection for _, connection in shelf if id(connection) not in keep]
                shelf[:] = kept
            if not shelf:
                del self._shelves[key]
        return closings

    def evict(self) -> Sequence[C]:
        """Removes and returns the one that has been idle for longest, if there is any."""
        shelves = [shelf for shelf in self._shelves.values() if shelf]
        if not shelves:
            return ()
        return (min(shelves, key=lambda shelf: shelf[0][0]).pop(0)[1],)

    def drop(self, provider: str) -> Sequence[C]:
        """Removes and returns all connections to a provider."""
        keys = [key for key in self._shelves if key.provider == provider]
        return [connection for key in keys for _, connection in self._shelves.pop(key)]
