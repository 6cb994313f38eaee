"""A request's body on its way: read by one framing, written in another of the same kind. Sans-I/O."""

from proxy.wire.body import LAST_CHUNK, ChunkedBody, LengthBody, Piece, chunk

SLICE = 64 * 1024
"""Bytes of a chunked body that are looked through in one turn of the loop: 9 ms if every chunk is a byte."""


class TooLarge(Exception):
    """The client sent more than the policy's `limits.body`."""


class Upload:
    """One request's body. length: in bytes, None for chunks. limit: of its payload, None for none.

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
        """Take what the client sent; return what the provider is to be sent. Raises FramingError, TooLarge."""
        payload = self._body.feed(data)
        self.received += len(payload)
        if self._limit is not None and self.received > self._limit:
            raise TooLarge
        if not self.chunked:
            return payload
        framed = chunk(payload) if payload else b""
        return framed + LAST_CHUNK if self._body.done else framed
