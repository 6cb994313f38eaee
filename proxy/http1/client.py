"""One client's connection: finds requests in its bytes and answers them in order.

- One exchange at a time. What arrives behind it waits in a bounded buffer, then reading pauses.
- `deadline` is a field that the plane's sweep compares with the clock; no timer belongs to a connection.
- A connection that must close while the client still sends is drained for a moment first, since a close with
  unread bytes is a reset, and a reset can take the answer away that the client has not read yet.
- A FIN in mid-request is a client that leaves, or one that only stopped sending; nobody can tell. An answer that is
  about to come is still sent; after LEAVING seconds the request is aborted.
"""

import asyncio
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Final, cast

from proxy.http1.arrival import Arrival
from proxy.http1.inbox import Inbox
from proxy.http1.occupant import Occupant, Wait
from proxy.http1.provider import HIGH_WATER
from proxy.http1.reading import PIPELINED, PROVIDER, SLICED, Reading
from proxy.http1.uptake import Uptake
from proxy.wire.refusal import Refusal

if TYPE_CHECKING:
    from proxy.http1.plane import HttpPlane

LEAVING: Final = 0.4
"""Seconds from a client's FIN in mid-request to its abort. With two periods of the sweep it stays below one."""

LINGER: Final = 2.0
"""Seconds for which a client's unread bytes are drained after it took our last answer."""

LAST_CALL: Final = 1.0
"""Seconds that a connection without a request has, once draining, to send one more.

Closed at once, one that is in use would lose the request that is on its way.
"""

AT_ONCE: Final = 64
"""Requests of one connection that are answered in one turn of the loop."""

# SO_LINGER on, for no time.
_AT_ONCE: Final = struct.pack("ii", 1, 0)


class ClientConnection(asyncio.Protocol):
    """The client's side of exchanges, one after another."""

    def __init__(self, plane: "HttpPlane", arrival: Arrival) -> None:
        self.plane = plane
        self.arrival = arrival
        self.transport: asyncio.Transport
        self.reading: Reading
        self.uptake: Uptake
        self.exchange: Occupant | None = None
        self.deadline = inf
        self.gone_by = inf
        self.wait = Wait.NOTHING
        self.writable = True
        self.served = 0
        self._take: Callable[[bytes], None] = self._read
        self._inbox = Inbox()
        self._stalls_at = inf
        self._serving = False
        self._over = False
        self._fin = False
        self._retired = False

    def expect(self, wait: Wait, deadline: float) -> None:
        """Set what is waited for, until when (monotonic seconds)."""
        self.wait = wait
        self.deadline = deadline

    @property
    def last(self) -> bool:
        """Whether no further request is wanted behind the one in hand."""
        return self._retired or self.plane.draining

    @property
    def idle(self) -> bool:
        """Between two requests, with nothing of the next."""
        return self.exchange is None and not self._inbox.waiting

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(HIGH_WATER)
        self.reading = Reading(self.transport)
        self.uptake = Uptake(self.transport)
        self.plane.opened(self)
        believed = not self.arrival.demand.asks or self._meet_client(transport.get_extra_info("ssl_object"))
        self.expect(Wait.FIRST_HEAD, time.monotonic() + self.plane.timeouts.head)
        if not believed:
            self.cut()

    def _meet_client(self, tls: ssl.SSLObject) -> bool:
        """Take in the certificate that was shown; whether it may still be believed."""
        shown = tls.getpeercert(binary_form=True)
        self.arrival = replace(self.arrival, client_certificate=shown)
        # The handshake looked at it just now, or a session remembers that an earlier one did.
        return not tls.session_reused or self.arrival.demand.resumes(shown, time.time())

    def data_received(self, data: bytes) -> None:
        self._take(data)

    def eof_received(self) -> bool:
        self._fin = True
        return self.exchange is not None and self.exchange.client_half_closed()

    def hung_up(self, reset: bool) -> None:
        """The end of what the client sends was seen while reading is paused. reset: the client is gone."""
        if reset:
            self.transport.abort()
        elif self.exchange is None or self.exchange.client_may_be_leaving():
            self.leaving()

    def leaving(self) -> bool:
        """The client sends no more: go on for a moment; whether our direction can stay open alone."""
        if self.gone_by == inf:
            self.gone_by = time.monotonic() + LEAVING
        return self.transport.can_write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        exchange, self.exchange = self.exchange, None
        self._stop_reading()
        try:
            if exchange is not None:
                exchange.client_left()
        finally:
            self.plane.lost(self)

    def pause_writing(self) -> None:
        self.writable = False
        self.uptake.watch()
        if self.exchange is not None:
            self.exchange.client_paused()

    def resume_writing(self) -> None:
        self.writable = True
        self.uptake.unwatch()
        if self.exchange is not None:
            self.exchange.client_resumed()
        elif not self._over:
            self._serve_waiting()

    # What an exchange does with it

    def feed_exchange(self, take: Callable[[bytes], None]) -> None:
        """Hand what arrives to the exchange: a body, or a tunnel's bytes."""
        self._take = take

    def first_of(self, data: bytes, size: int) -> bytes:
        """The first `size` bytes of what came; the rest comes again in the next turn of the loop."""
        self.reading.hold(SLICED)
        self.plane.loop.call_soon(self._take_rest, data[size:])
        return data[:size]

    def _take_rest(self, data: bytes) -> None:
        self.reading.unhold(SLICED)
        self._take(data)

    def keep(self, data: bytes) -> None:
        """Bytes behind the request that is being answered wait their turn; too many stop the reading."""
        self._take = self.keep
        self._inbox.put(data)
        self._bound()

    def kept(self) -> bytes:
        """Take what waits: it belongs to the request in hand."""
        data = self._inbox.take()
        self.reading.unhold(PIPELINED)
        return data

    def _bound(self) -> None:
        """Read on only while few enough requests wait."""
        if self._inbox.full(self.plane.limits):
            self.reading.hold(PIPELINED)
        elif self.reading.held:
            self.reading.unhold(PIPELINED)

    def finished(self, keep: bool, linger: bool) -> None:
        """The exchange is over and its answer written.

        keep: the connection stays for another. linger: if not, the client may be sending still.
        """
        self.exchange = None
        self.served += 1
        if not keep:
            self._leave(linger or self._inbox.waiting != 0)
            return
        self.reading.unhold(PROVIDER)
        self._take = self._read
        now = time.monotonic()
        self.expect(Wait.KEEP_ALIVE, now + self.plane.timeouts.keep_alive)
        if self._inbox.waiting:
            if not self._serving:
                self._serve_waiting()
        elif self._fin:
            self.transport.close()
        elif self.last:
            self.drain(now)

    def _leave(self, linger: bool) -> None:
        linger = linger and not self._fin and not self.transport.is_closing()
        if linger:
            self.reading.resume()
        self._stop_reading()
        if linger and self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            # Under TLS a close tells the client at once, and takes what still comes until it is answered.
            self.transport.close()
        self._await_end(time.monotonic())

    def _await_end(self, now: float) -> None:
        """Wait for the client to take what was written, and to close."""
        self.uptake.watch()
        self._stalls_at = now + self.plane.timeouts.idle
        self._linger(now)

    def _linger(self, now: float) -> None:
        """Look again after LINGER, or sooner when the client will have taken nothing for too long."""
        stalls_at = self._stalls_at if self.transport.get_write_buffer_size() else inf
        self.expect(Wait.LINGER, min(now + LINGER, stalls_at))

    def _lingered(self, now: float) -> None:
        """End it once there is nothing left for the client to take, or it takes nothing."""
        if self.uptake.progressed():
            self._stalls_at = now + self.plane.timeouts.idle
        elif now >= self._stalls_at or not self.transport.get_write_buffer_size():
            self.transport.abort()
            return
        self._linger(now)

    def cut(self) -> None:
        """Abort: the client sees a message that was not finished."""
        self.exchange = None
        self._stop_reading()
        self.reset()

    def reset(self) -> None:
        """Close with a reset: a FIN would be the orderly end of what HTTP/1.0 ends by close."""
        if not self.transport.is_closing():
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self.transport.abort()

    def _stop_reading(self) -> None:
        self._take = _discard
        self._inbox.clear()
        self.reading.forget()
        self._over = True

    # Heads

    def _read(self, data: bytes) -> None:
        if self.exchange is None and self.writable:
            self._inbox.put(data)
            self._serve_waiting()
        else:
            self.keep(data)

    def _serve_waiting(self) -> None:
        """Serve what waits, one request after another, until one takes its time or the client takes no more.

        What is answered at once is answered in turns, so that one client's pipeline holds up no other.
        """
        inbox = self._inbox
        self._take = self._read
        self._serving = True
        left = AT_ONCE
        while inbox.waiting and self.exchange is None and self.writable and left and self._serve():
            left -= 1
        self._serving = False
        if not left and inbox.waiting:
            self.plane.loop.call_soon(self._serve_on)
        if inbox.waiting or self.reading.held:
            self._bound()

    def _serve_on(self) -> None:
        """In another turn of the loop, unless something else has begun meanwhile."""
        if self.exchange is None and self.writable and not self._over:
            try:
                self._serve_waiting()
            except Exception as error:
                self.plane.failed(self, error)

    def _serve(self) -> bool:
        """Begin the exchange whose head comes next; False if there is none yet, or never will be."""
        head = self._inbox.next_head(self.plane.limits)
        if isinstance(head, bytes):
            self.expect(Wait.NOTHING, inf)
            self.plane.begin(self, head)
            return not self._over
        if head is not None:
            self.plane.refuse(self, head)
        elif self._inbox.waiting and self.wait is not Wait.HEAD:
            self.expect(Wait.HEAD, time.monotonic() + self.plane.timeouts.head)
        return False

    # Deadlines, asked by the sweep

    def overdue(self, now: float) -> None:
        """A deadline has passed."""
        if now >= self.gone_by:
            self.transport.abort()
        elif self.exchange is not None:
            self.exchange.overdue(now, self.wait)
        elif self.wait is Wait.LINGER:
            self._lingered(now)
        elif self.wait is Wait.HEAD:
            self.plane.refuse(self, Refusal(408, "head-too-slow"))
        elif not self.writable and not self._fin and self.uptake.progressed():
            # It takes its last answer, slowly; what it asked meanwhile waits for that.
            self.deadline = now + self.plane.timeouts.idle
        elif self._fin or not self.writable or not self._bytes_came():
            self._stop_reading()
            self.transport.close()
            self._await_end(now)

    def _bytes_came(self) -> bool:
        """Whether a request is here that the loop has not read yet: closing now would be a reset in its face."""
        came = select.poll()
        came.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(came.poll(0))

    def retire(self, now: float) -> None:
        """End this connection as draining would: another handshake is due before further requests."""
        self._retired = True
        self.drain(now)

    def drain(self, now: float) -> None:
        """No further request is wanted after the one in hand."""
        if self.idle and not self._over:
            self.deadline = min(self.deadline, now + LAST_CALL)


def _discard(data: bytes) -> None:
    """Bytes that nobody will read."""
