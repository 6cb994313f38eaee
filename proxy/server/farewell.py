"""The last words to clients that are turned away before anything of theirs was read."""

import contextlib
import json
import socket
from asyncio import AbstractEventLoop
from collections import deque

LINGER = 1.0
"""Seconds until a socket is closed whose client was told something: closing over unread bytes resets the
connection, and a reset takes the words along."""

MOST = 64
"""How many linger at once; past it they are closed without waiting."""

_BODY = json.dumps(
    {"type": "about:blank", "title": "Service Unavailable", "status": 503, "reason": "overload"}
).encode()

OVERLOAD = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n"
    b"Content-Length: %d\r\nRetry-After: 1\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n%s"
    % (len(_BODY), _BODY)
)

DECODE_ERROR = b"\x15\x03\x01\x00\x02\x02\x32"
"""A fatal TLS alert, for what begins as TLS and is no ClientHello."""

INTERNAL_ERROR = b"\x15\x03\x03\x00\x02\x02\x50"
"""A fatal TLS alert, for whom there is no room."""


class Farewells:
    """Sockets that were told why, and are closed a moment later."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._lingering: deque[socket.socket] = deque()

    def say(self, sock: socket.socket, words: bytes) -> None:
        """Send what fits at once, end our side, and close in LINGER seconds. Reads nothing."""
        try:
            sock.send(words)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            sock.close()
            return
        if len(self._lingering) >= MOST:
            self._lingering.popleft().close()
        self._lingering.append(sock)
        self._loop.call_later(LINGER, self._close, sock)

    def _close(self, sock: socket.socket) -> None:
        with contextlib.suppress(ValueError):
            self._lingering.remove(sock)
        sock.close()

    def close(self) -> None:
        """Close all that linger."""
        while self._lingering:
            self._lingering.popleft().close()
