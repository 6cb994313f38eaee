"""The end of a client's side that comes before the client's own: what it was told last must not be lost.

Closing a socket over unread bytes is a reset, and a reset takes along what was not read yet. So our side is ended, what
the client still sends is read and dropped, and the socket closed when the client has ended too, or has had its time.
"""

import socket
from collections.abc import Callable
from typing import Final

from proxy.tcp.readiness import Readiness
from proxy.tcp.vessels import Vessels

LINGER: Final = 1.0
"""Seconds that a client has."""

ACCESS_DENIED: Final = b"\x15\x03\x03\x00\x02\x02\x31"
INTERNAL_ERROR: Final = b"\x15\x03\x03\x00\x02\x02\x50"
"""Fatal TLS alerts (RFC 8446 section 6.2)."""

_MOST: Final = 16
"""Reads in one go; a client that sends more than that is reset."""


class Parting:
    """Takes over a client's socket in `readiness`; `over()` is called once, and closes it."""

    __slots__ = ("_client", "_over", "_readiness", "_vessels")

    def __init__(self, readiness: Readiness, vessels: Vessels, client: socket.socket, over: Callable[[], None]) -> None:
        self._readiness = readiness
        self._vessels = vessels
        self._client = client
        self._over = over

    def begin(self, words: bytes, *, watched: bool) -> None:
        """Say the last words, and end our side. watched: whether the socket is entered in `readiness`."""
        descriptor = self._client.fileno()
        try:
            if words:
                self._client.send(words)
            self._client.shutdown(socket.SHUT_WR)
        except OSError:
            self._over()
            return
        if watched:
            self._readiness.hand(descriptor, self._read)
            self._read(0)
        else:
            self._readiness.watch(descriptor, self._read)

    def _read(self, events: int) -> None:
        try:
            for _ in range(_MOST):
                if not self._client.recv_into(self._vessels.buffer):
                    break
        except BlockingIOError:
            return
        except OSError:
            pass
        self._over()
