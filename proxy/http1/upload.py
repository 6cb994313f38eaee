"""A request's body on its way: read by one framing, written in another of the same kind.

What comes before a provider is there to take it waits, and meanwhile the client is not read. What may have to be sent
to another provider is kept besides, from its first byte on, until it is more than the policy keeps.
"""

import asyncio
from typing import TYPE_CHECKING, Final

from proxy.http1.problems import BODY_MALFORMED, BODY_TOO_LARGE, Problem
from proxy.http1.provider import ProviderConnection
from proxy.http1.reading import PROVIDER
from proxy.wire.body import LAST_CHUNK, ChunkedBody, FramingError, LengthBody, Piece, chunk

if TYPE_CHECKING:
    from proxy.http1.client import ClientConnection
    from proxy.http1.exchange import Exchange

SLICE: Final = 64 * 1024
"""Bytes of a chunked body that are looked through in one turn of the loop: 9 ms if every chunk is a byte."""

SMALL_SLICE: Final = 4 * 1024
"""The same where the chunks are small, and before that is known: several such bodies may come at once."""


class Unacceptable(Exception):
    """The body is not what was announced, or more than is taken."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.reason)
        self.problem = problem


class RequestBody:
    """One request's body, without I/O. length: in bytes, None for chunks. limit: of its payload, None for none.

    received: bytes of payload so far. chunked: whether it has to be looked through, which takes time.
    """

    __slots__ = ("_body", "_limit", "chunked", "received")

    def __init__(self, length: int | None, limit: int | None) -> None:
        self._body: LengthBody | ChunkedBody = ChunkedBody() if length is None else LengthBody(length)
        self.chunked = length is None
        self._limit = limit
        self.received = 0

    @property
    def done(self) -> bool:
        """Whether all of it has come."""
        return self._body.done

    @property
    def rest(self) -> bytes:
        """What came behind it."""
        return bytes(self._body.rest)

    def feed(self, data: Piece) -> Piece:
        """Take what the client sent; return what the provider is to be sent. Raises Unacceptable."""
        try:
            payload = self._body.feed(data)
        except FramingError:
            raise Unacceptable(BODY_MALFORMED) from None
        self.received += len(payload)
        if self._limit is not None and self.received > self._limit:
            raise Unacceptable(BODY_TOO_LARGE)
        if not self.chunked:
            return payload
        framed = chunk(payload) if payload else b""
        return framed + LAST_CHUNK if self._body.done else framed


class Upload:
    """Takes what a client sends of one request's body to the provider, once there is one.

    kept: all of it so far as a provider is sent it; None where that is not kept, or was too much.
    """

    __slots__ = ("_client", "_exchange", "_held", "_most", "_slice", "_to", "body", "kept")

    def __init__(self, exchange: "Exchange", client: "ClientConnection", body: RequestBody, most: int) -> None:
        """most: how many bytes of it are kept."""
        self._exchange = exchange
        self._client = client
        self._to: asyncio.Transport | None = None
        self._held = b""
        self._most = most
        self._slice = SMALL_SLICE
        self.kept: bytes | None = b"" if most else None
        self.body = body

    def begin(self) -> None:
        """Take up the body: what waits behind the head is its beginning."""
        self._client.feed_exchange(self.from_client)
        came = self._client.kept()
        if came:
            self.from_client(came)

    def from_client(self, data: bytes) -> None:
        """Bytes of the body, and perhaps of what comes behind it."""
        body = self.body
        if body.chunked and len(data) > self._slice:
            data = self._client.first_of(data, self._slice)
        before = body.received
        try:
            framed = body.feed(data)
        except Unacceptable as unacceptable:
            self._exchange.fail(unacceptable.problem)
            return
        self._slice = SLICE if 4 * (body.received - before) > 3 * len(data) else SMALL_SLICE
        if body.done:
            self._client.keep(body.rest)
        if self.kept is not None:
            self._keep(framed)
        if self._to is None:
            self._held += framed
            self.hold()
            return
        if framed:
            self._to.write(framed)
        self._exchange.sent(body.received)

    def _keep(self, framed: Piece) -> None:
        kept = self.kept
        if kept is None or len(kept) + len(framed) > self._most:
            self.kept = None
        else:
            self.kept = kept + framed if kept else bytes(framed)

    def hold(self) -> None:
        """Read no more of it: there is nobody to take it."""
        self._client.reading.hold(PROVIDER)

    def connect(self, provider: ProviderConnection, head: bytes) -> bytes:
        """From now on a provider takes it. Returns the head that it is sent with all that waited."""
        self._to = provider.transport
        start, self._held = head + self._held, b""
        return start

    def rewind(self) -> None:
        """The provider is gone. The next is sent what was kept; there must be something that was."""
        assert self.kept is not None
        self._to = None
        self._held = self.kept
        self.hold()
