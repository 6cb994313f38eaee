"""Bytes both ways between two sockets.

- An end travels when all before it has been passed on; the other way stays open.
- A reset travels as a reset, at once, and so does everything that we cut ourselves: an end would say that all was sent.
"""

import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Final

from proxy.tcp.readiness import ENDING, READ, WRITE, Readiness
from proxy.tcp.vessels import Vessels
from proxy.tcp.way import End, Way

# SO_LINGER on, for no time: closing resets.
_AT_ONCE: Final = struct.pack("ii", 1, 0)

_READS: Final = READ | ENDING


class Relay:
    """Two connected, non-blocking sockets, which it owns. `over_by(end)` is called once, when both are closed.

    last: when a byte was moved last (the loop's seconds). over: whether it has ended.
    """

    __slots__ = (
        "_over_by",
        "client",
        "last",
        "over",
        "provider",
        "readiness",
        "time",
        "to_client",
        "to_provider",
        "vessels",
    )

    def __init__(
        self,
        readiness: Readiness,
        vessels: Vessels,
        time: Callable[[], float],
        client: socket.socket,
        provider: socket.socket,
        over_by: Callable[[End], None],
    ) -> None:
        self.readiness = readiness
        self.vessels = vessels
        self.time = time
        self.client = client
        self.provider = provider
        self._over_by = over_by
        self.over = False
        self.last = time()
        self.to_provider = Way(self, client, provider, "client-left", "reset")
        self.to_client = Way(self, provider, client, "reset", "client-left")

    @property
    def moved(self) -> tuple[int, int]:
        """Bytes that the provider, and that the client has taken."""
        return self.to_provider.moved, self.to_client.moved

    @property
    def first(self) -> float:
        """When the client took the first byte of the provider's; infinity before."""
        return self.to_client.first

    def begin(self, *, watched: bool) -> None:
        """Move bytes from now on. watched: whether the client's socket is entered in `readiness` already."""
        if watched:
            # An end may have been announced already, to somebody else.
            self.to_provider.expect_end()
            self.readiness.hand(self.client.fileno(), self.client_ready)
        self.readiness.watch(self.provider.fileno(), self.provider_ready)
        # What the client has sent is mostly there; looking before it is watched saves being told.
        self.to_provider.pump()
        if not watched and not self.over:
            self.readiness.watch(self.client.fileno(), self.client_ready)

    def client_ready(self, events: int) -> None:
        """Something has changed at the client's socket."""
        if events & WRITE:
            self.to_client.writable()
        if events & _READS and not self.over:
            self.to_provider.readable(events)

    def provider_ready(self, events: int) -> None:
        """Something has changed at the provider's socket."""
        if events & WRITE:
            self.to_provider.writable()
        if events & _READS and not self.over:
            self.to_client.readable(events)

    def both_ended(self) -> bool:
        """Whether the other way has ended too; then the sockets are closed, which ends both sides."""
        if self.to_provider.ended and self.to_client.ended:
            self.end("completed")
            return True
        return False

    def end(self, end: End) -> None:
        """It ends by itself."""
        over_by = self._over_by
        if self._close(reset=end != "completed"):
            over_by(end)

    def cut(self) -> None:
        """Reset both sides. Nobody is called."""
        self._close(reset=True)

    def _close(self, *, reset: bool) -> bool:
        if self.over:
            return False
        self.over = True
        self._over_by = _nobody
        for way in (self.to_provider, self.to_client):
            way.let_go()
        for sock in (self.client, self.provider):
            self.readiness.forget(sock.fileno())
            close(sock, reset=reset)
        return True


def _nobody(end: End) -> None:
    """Whom a relay calls that is over."""


def close(sock: socket.socket, *, reset: bool) -> None:
    """Close a socket; with a reset, whatever is on its way."""
    if reset:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    sock.close()
