"""One connection to a provider: sends what an exchange gives it, reads one response at a time.

- It serves one exchange after another; between them it is idle in its pool, and whatever arrives then ends it.
- A response's end is found by our own framer. Bytes behind it are dropped and the connection with them.
- Of an end of stream only an orderly one (FIN, or close_notify under TLS) completes a body that ends by close.
"""

import asyncio
import select
from collections.abc import Callable
from typing import Final, Protocol, cast

from proxy.wire.body import LARGE, Body, ChunkedBody, FramingError, LengthBody, Piece, UntilCloseBody
from proxy.wire.refusal import Refusal
from proxy.wire.response_head import Ends, ResponseHead, read_response_head

INTERIM_LIMIT: Final = 16
"""How many 1xx heads one response may have before it counts as garbage."""

HIGH_WATER: Final = 256 * 1024
"""Bytes that may wait to be written to a peer before the other side is not read any more.

One read is at most 256,000 bytes, so that a peer that takes them at once never stops the other.
"""

CLOSED: Final = "provider-closed"
"""The cause where it ended, in whichever way, what it has not finished."""

_PENDING: Final = select.POLLIN | select.POLLRDHUP | select.POLLHUP | select.POLLERR


class Owner(Protocol):
    """Whoever uses the connection now."""

    def provider_broke(self, cause: str) -> None:
        """The provider broke the protocol or the connection. Nothing further comes."""

    def provider_paused(self) -> None:
        """The provider takes no more for now."""

    def provider_resumed(self) -> None:
        """The provider takes bytes again."""


class Receiver(Owner, Protocol):
    """What an exchange is told about its response."""

    def interim(self, head: ResponseHead) -> None:
        """A 1xx other than 101."""

    def upgraded(self, head: ResponseHead, rest: bytes) -> None:
        """A 101, and the bytes behind it."""

    def response(self, head: ResponseHead, payload: Piece, done: bool) -> None:
        """A final head and the content that came with it; done: that is all of it."""

    def more(self, payload: Piece, done: bool) -> None:
        """Further content."""


class TunnelEnd(Owner, Protocol):
    """What a tunnel is told."""

    def tunnelled(self, data: bytes) -> None:
        """Bytes for the client."""

    def provider_half_closed(self) -> bool:
        """The provider will send no more; whether its connection stays open for the other way."""


class ResponseHeads:
    """Response heads by their bytes: a busy resource answers with the same head again and again."""

    _SIZE: Final = 1024
    _LARGEST: Final = 2048

    def __init__(self) -> None:
        self._table: dict[tuple[bytes, bool], ResponseHead] = {}

    def read(self, head: bytes, to_head_request: bool) -> ResponseHead | Refusal:
        """The reading of a whole head."""
        key = (head, to_head_request)
        known = self._table.get(key)
        if known is not None:
            return known
        reading = read_response_head(head, to_head_request)
        if isinstance(reading, ResponseHead) and len(head) <= self._LARGEST:
            if len(self._table) >= self._SIZE:
                del self._table[next(iter(self._table))]
            self._table[key] = reading
        return reading


class ProviderConnection(asyncio.Protocol):
    """The provider's side of exchanges, one after another.

    closed: called once, when the connection is gone. serves: how many exchanges it has begun. heard: whether
    any byte of a response to the one in hand has come. writable: whether it takes bytes now.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        heads: ResponseHeads,
        head_limit: int,
        closed: "Callable[[ProviderConnection], None]",
    ) -> None:
        self._heads = heads
        self._head_limit = head_limit
        self._closed = closed
        self._owner: Owner | None = None
        self._receiver: Receiver | None = None
        self._tunnel: TunnelEnd | None = None
        self._take: Callable[[bytes], None] = self._unexpected
        self._partial = b""
        self._body: Body | None = None
        self._to_head_request = False
        self._interims = 0
        self._reusable = False
        self._gone = False
        self._paused = False
        self._loop = loop
        self._poll = select.poll()
        self.transport: asyncio.Transport
        self.serves = 0
        self.heard = False
        self.writable = True

    # What an exchange does with it

    def begin(self, receiver: Receiver, to_head_request: bool, data: bytes) -> None:
        """Take up an exchange and send the beginning of its request."""
        self._owner = self._receiver = receiver
        self._to_head_request = to_head_request
        self._interims = 0
        self._reusable = False
        self._take = self._head
        self.heard = False
        self.serves += 1
        self.transport.write(data)

    @property
    def stale(self) -> bool:
        """Whether it served before and nothing of this response has come: if it ends, it may have ended before."""
        return self.serves > 1 and not self.heard

    def hand_over(self, receiver: Receiver) -> None:
        """Tell another of the response from now on."""
        self._owner = self._receiver = receiver

    def release(self) -> bool:
        """Let go of the exchange, which is over; whether the connection can serve another."""
        self._disown()
        self._body = None
        if self._paused:
            self.resume()
        # Unsent is what it answered without having read: it may take that for a request of its own.
        return self._reusable and not self._gone and not self.transport.get_write_buffer_size()

    def tunnel(self, end: TunnelEnd) -> None:
        """From now on bytes go on as they come."""
        self._owner = self._tunnel = end
        self._receiver = None
        self._take = end.tunnelled

    def pause(self) -> None:
        """Read no more for now."""
        self._paused = True
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        self._paused = False
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def abort(self) -> None:
        """Close at once, sending nothing further; the provider sees an aborted request."""
        self._disown()
        self.transport.abort()

    def close(self, within: float = 0.0) -> None:
        """Close in order: what was written is still sent, if the provider takes it within so many seconds."""
        self._disown()
        self.transport.close()
        if within and self.transport.get_write_buffer_size():
            self._loop.call_later(within, self.transport.abort)

    def _disown(self) -> None:
        self._owner = self._receiver = self._tunnel = None
        self._take = self._unexpected

    def usable(self) -> bool:
        """Whether it can carry a request now: open, nothing pending, no FIN seen."""
        return not self._gone and not self.transport.is_closing() and not self._poll.poll(0)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(HIGH_WATER)
        self._poll.register(transport.get_extra_info("socket").fileno(), _PENDING)

    def data_received(self, data: bytes) -> None:
        self._take(data)

    def eof_received(self) -> bool:
        if self._tunnel is not None:
            return self._tunnel.provider_half_closed()
        if self._receiver is not None:
            if isinstance(self._body, UntilCloseBody):
                self._body.finish()
                self._receiver.more(b"", True)
            else:
                # At once: closing would first wait for the provider to take what was written.
                self._broke(CLOSED)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = True
        owner = self._owner
        self._disown()
        self._closed(self)
        if owner is not None:
            owner.provider_broke(CLOSED)

    def pause_writing(self) -> None:
        self.writable = False
        if self._owner is not None:
            self._owner.provider_paused()

    def resume_writing(self) -> None:
        self.writable = True
        if self._owner is not None:
            self._owner.provider_resumed()

    # Where bytes go, by what is due

    def _unexpected(self, data: bytes) -> None:
        self._reusable = False
        self.transport.abort()

    def _head(self, data: bytes) -> None:
        self.heard = True
        if self._partial:
            data = self._partial + data
            self._partial = b""
        while True:
            end = data.find(b"\r\n\r\n") + 4
            if end == 3:
                if len(data) > self._head_limit:
                    self._broke("provider-head-too-large")
                elif (
                    not data.startswith(b"HTTP/1."[: len(data)])
                    or data.count(b"\n") != data.count(b"\r\n")
                    or b"\0" in data
                ):
                    # It can become no head that is accepted; waiting for the rest would only cost time.
                    self._broke("provider-head-malformed")
                else:
                    self._partial = data
                return
            if end > self._head_limit:
                self._broke("provider-head-too-large")
                return
            head = self._heads.read(data if end == len(data) else data[:end], self._to_head_request)
            if isinstance(head, Refusal):
                self._broke(head.cause)
                return
            if head.status >= 200:
                self._final(head, data, end)
                return
            rest = data[end:]
            if self._receiver is None or not self._passes(self._receiver, head, rest):
                return
            data = rest
            if not data:
                return

    def _passes(self, receiver: Receiver, head: ResponseHead, rest: bytes) -> bool:
        """Hand on an interim head; whether another head is due."""
        if head.status == 101:
            receiver.upgraded(head, rest)
            return False
        self._interims += 1
        if self._interims > INTERIM_LIMIT:
            self._broke("provider-interim-endless")
            return False
        receiver.interim(head)
        return True

    def _final(self, head: ResponseHead, data: bytes, end: int) -> None:
        """A final head, which ends at `end` in data."""
        receiver, behind = self._receiver, len(data) - end
        if receiver is None:
            return
        self._reusable = head.keep_alive
        if head.ends is Ends.NO_BODY:
            if behind:
                self._reusable = False
            self._take = self._unexpected
            receiver.response(head, b"", True)
            return
        body: Body
        if head.ends is Ends.LENGTH:
            body = LengthBody(head.length or 0)
        else:
            body = ChunkedBody() if head.ends is Ends.CHUNKS else UntilCloseBody()
        self._body = body
        self._take = self._content
        payload: Piece | None = b""
        if behind:
            payload = self._feed(data[end:] if behind < LARGE else memoryview(data)[end:])
        if payload is not None:
            receiver.response(head, payload, body.done)

    def _content(self, data: bytes) -> None:
        payload = self._feed(data)
        receiver, body = self._receiver, self._body
        if payload is not None and receiver is not None and body is not None:
            receiver.more(payload, body.done)

    def _feed(self, data: Piece) -> Piece | None:
        """The payload in data; None if the provider broke its framing, which the exchange is then told."""
        body = self._body
        if body is None:
            return None
        try:
            payload = body.feed(data)
        except FramingError:
            self._broke("provider-framing-broken")
            return None
        if body.done:
            self._take = self._unexpected
            if body.rest:
                self._reusable = False
        return payload

    def _broke(self, cause: str) -> None:
        owner = self._owner
        self.abort()
        if owner is not None:
            owner.provider_broke(cause)
