"""One client's connection: finds requests in its bytes and answers them in order.

- One exchange at a time. What arrives behind it waits in a bounded buffer, then reading pauses.
- `deadline` is a field that the plane's sweep compares with the clock; no timer belongs to a connection.
- A connection that must close while the client still sends is drained for a moment first, since a close with
  unread bytes is a reset, and a reset can take the answer away that the client has not read yet.
- A FIN in mid-request is a client that leaves, or one that only stopped sending; nobody can tell. An answer that is
  about to come is still sent; after LEAVING seconds the request is aborted.
"""

import asyncio
import time
from collections.abc import Callable
from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Final, cast

from proxy.http1.arrival import Arrival
from proxy.wire.refusal import Refusal

if TYPE_CHECKING:
    from proxy.http1.exchange import Exchange
    from proxy.http1.plane import HttpPlane
    from proxy.http1.tunnel import Tunnel

LEAVING: Final = 0.5
"""Seconds from a client's FIN in mid-request to its abort. With the sweep's period it stays below one."""

LINGER: Final = 2.0
"""Seconds for which a client's unread bytes are drained after our last answer."""

FRESH: Final = 1.0
"""Seconds that a connection without a request yet has, once draining, to send one."""


class Wait(Enum):
    """What a connection's deadline is for."""

    NOTHING = "nothing"
    FIRST_HEAD = "first-head"
    HEAD = "head"
    KEEP_ALIVE = "keep-alive"
    BODY = "body"
    FIRST_BYTE = "first-byte"
    IDLE = "idle"
    LINGER = "linger"


# Why reading from a client is paused; it goes on when no reason is left.
_PIPELINED: Final = 1
_PROVIDER: Final = 2


class ClientConnection(asyncio.Protocol):
    """The client's side of exchanges, one after another."""

    def __init__(self, plane: "HttpPlane", arrival: Arrival) -> None:
        self.plane = plane
        self.arrival = arrival
        self.transport: asyncio.Transport
        self.exchange: Exchange | Tunnel | None = None
        self.deadline = inf
        self.gone_by = inf
        self.wait = Wait.NOTHING
        self.writable = True
        self.served = 0
        self._take: Callable[[bytes], None] = self._read
        self._buffer = b""
        self._holds = 0
        self._unsent = 0
        self._serving = False
        self._over = False
        self._fin = False

    def expect(self, wait: Wait, deadline: float) -> None:
        """Set what is waited for, until when (monotonic seconds)."""
        self.wait = wait
        self.deadline = deadline

    @property
    def paused(self) -> bool:
        """Whether reading is paused, so that neither FIN nor RST would be noticed."""
        return self._holds != 0

    @property
    def idle(self) -> bool:
        """Between two requests, with nothing of the next."""
        return self.exchange is None and not self._buffer

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.plane.opened(self)
        self.expect(Wait.FIRST_HEAD, time.monotonic() + self.plane.timeouts.head)

    def data_received(self, data: bytes) -> None:
        self._take(data)

    def eof_received(self) -> bool:
        self._fin = True
        return self.exchange is not None and self.exchange.client_half_closed()

    def hung_up(self) -> None:
        """A FIN or RST was seen while reading was paused."""
        self._fin = True
        if self.exchange is None or not self.exchange.client_half_closed():
            self.transport.abort()

    def leaving(self) -> bool:
        """The client sends no more: go on for a moment; whether our direction can stay open alone."""
        if self.gone_by == inf:
            self.gone_by = time.monotonic() + LEAVING
        return self.transport.can_write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        exchange, self.exchange = self.exchange, None
        self._stop_reading()
        if exchange is not None:
            exchange.client_left()
        self.plane.lost(self)

    def pause_writing(self) -> None:
        self.writable = False
        self._unsent = self.transport.get_write_buffer_size()
        if self.exchange is not None:
            self.exchange.client_paused()

    def resume_writing(self) -> None:
        self.writable = True
        if self.exchange is not None:
            self.exchange.client_resumed()
        else:
            self._next()

    # What an exchange does with it

    def feed_exchange(self, take: Callable[[bytes], None]) -> None:
        """Hand what arrives to the exchange: a body, or a tunnel's bytes."""
        self._take = take

    def keep(self, data: bytes) -> None:
        """Bytes behind the request that is being answered wait their turn; too many stop the reading."""
        self._take = self.keep
        self._buffer += data
        limits = self.plane.limits
        if len(self._buffer) > limits.head or self._buffer.count(b"\r\n\r\n") >= limits.pipelined:
            self._hold(_PIPELINED)

    def kept(self) -> bytes:
        """Take what waited, for a tunnel that begins."""
        data, self._buffer = self._buffer, b""
        self._unhold(_PIPELINED)
        return data

    def hold_for_provider(self) -> None:
        """Stop reading: the provider does not take what was sent, or is not there yet."""
        self._hold(_PROVIDER)

    def unhold_for_provider(self) -> None:
        """The provider takes bytes again."""
        self._unhold(_PROVIDER)

    def _hold(self, reason: int) -> None:
        if not self._holds and not self.transport.is_closing():
            self.transport.pause_reading()
        self._holds |= reason

    def _unhold(self, reason: int) -> None:
        if self._holds & reason:
            self._holds &= ~reason
            if not self._holds and not self.transport.is_closing():
                self.transport.resume_reading()

    def progressed(self) -> bool:
        """Whether the client took bytes since this was last asked, or since it stopped taking them."""
        before, self._unsent = self._unsent, self.transport.get_write_buffer_size()
        return self._unsent < before

    def finished(self, keep: bool, linger: bool) -> None:
        """The exchange is over and its answer written.

        keep: the connection stays for another. linger: if not, the client may be sending still.
        """
        self.exchange = None
        self.served += 1
        if not keep:
            self._leave(linger or self._buffer != b"")
            return
        self._take = self._read
        self.expect(Wait.KEEP_ALIVE, time.monotonic() + self.plane.timeouts.keep_alive)
        if self._buffer:
            if not self._serving:
                self._next()
        elif self._fin:
            self.transport.close()

    def _leave(self, linger: bool) -> None:
        held = self._holds
        self._stop_reading()
        linger = linger and not self._fin and not self.transport.is_closing()
        if linger and held:
            self.transport.resume_reading()
        if not linger:
            self.transport.close()
        elif self.transport.can_write_eof():
            self.transport.write_eof()
        self._await_end(time.monotonic())

    def _await_end(self, now: float) -> None:
        """Wait for the client to take what was written and to close; `overdue` goes on as long as it takes bytes."""
        self._unsent = self.transport.get_write_buffer_size()
        self.expect(Wait.LINGER, now + (self.plane.timeouts.idle if self._unsent else LINGER))

    def cut(self) -> None:
        """Abort: the client sees a message that was not finished."""
        self.exchange = None
        self._stop_reading()
        self.transport.abort()

    def _stop_reading(self) -> None:
        self._take = _discard
        self._buffer = b""
        self._holds = 0
        self._over = True

    # Heads

    def _read(self, data: bytes) -> None:
        if self.exchange is not None:
            self.keep(data)
            return
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        self._serving = True
        while self._serve(data) and self.exchange is None and self._buffer and self.writable:
            data, self._buffer = self._buffer, b""
        self._serving = False
        if self._buffer and not self.writable:
            self._hold(_PIPELINED)

    def _next(self) -> None:
        """Go on with what waited."""
        data, self._buffer = self._buffer, b""
        self._unhold(_PIPELINED)
        if data:
            self._read(data)

    def _serve(self, data: bytes) -> bool:
        """Begin the exchange whose head starts data, keeping what comes behind; False if there is none yet."""
        if data.startswith(b"\r\n"):
            data = data[2:]  # RFC 9112 section 2.2: one empty line before a request
        end = data.find(b"\r\n\r\n") + 4
        if end == 3:
            self._incomplete(data)
            return False
        if end > self.plane.limits.head:
            self._refuse(_too_large(data, self.plane.limits.target))
            return False
        self.expect(Wait.NOTHING, inf)
        if end == len(data):
            self.plane.begin(self, data, b"")
        else:
            self.plane.begin(self, data[:end], data[end:])
        return not self._over

    def _incomplete(self, data: bytes) -> None:
        limits = self.plane.limits
        if not data:
            return
        if len(data) > limits.head:
            self._refuse(_too_large(data, limits.target))
        elif not b"A" <= data[:1] <= b"Z" or data.count(b"\n") != data.count(b"\r\n") or b"\0" in data:
            # It can become no head that is accepted; waiting for the rest would only cost time.
            self._refuse(Refusal(400, "head-malformed"))
        else:
            if self.wait is not Wait.HEAD:
                self.expect(Wait.HEAD, time.monotonic() + self.plane.timeouts.head)
            self._buffer = data

    def _refuse(self, refusal: Refusal) -> None:
        self._buffer = b""
        self.plane.refuse(self, refusal)

    # Deadlines, asked by the sweep

    def overdue(self, now: float) -> None:
        """A deadline has passed."""
        if now >= self.gone_by:
            self.transport.abort()
        elif self.exchange is not None:
            self.exchange.overdue(now, self.wait)
        elif self.wait is Wait.LINGER:
            if self.progressed():
                self._await_end(now)
            else:
                self.transport.abort()
        elif self.wait is Wait.HEAD:
            self._refuse(Refusal(408, "head-too-slow"))
        else:
            self.transport.close()
            self._await_end(now)

    def drain(self, now: float) -> None:
        """No further request is wanted after the one in hand."""
        if not self.idle:
            return
        if self.served or self._over:
            self.transport.close()
        else:
            self.expect(Wait.FIRST_HEAD, min(self.deadline, now + FRESH))


def _discard(data: bytes) -> None:
    """Bytes that nobody will read."""


def _too_large(data: bytes, target_limit: int) -> Refusal:
    """What was too large: the target, or the head as a whole."""
    line_end = data.find(b"\r\n")
    line = data if line_end < 0 else data[:line_end]
    return Refusal(414, "target-too-long") if len(line) > target_limit else Refusal(431, "head-too-large")
