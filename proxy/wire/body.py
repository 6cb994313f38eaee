"""Where a message's body ends: by length, by chunks or by close (RFC 9112 sections 6 and 7).

    body.feed(data) -> payload     the part of data that is content, framing removed
    body.done                      the body is complete; body.rest holds what came after it
    body.finish() -> bool          at end of stream: was the body complete?

Chunks are read strictly: CRLF only, plain hex sizes, short extensions, no trailer that is not a field or that
could change what its message is. Extensions and trailers are dropped: only the payload goes on, in framing of
our own making.
"""

import re

from proxy.wire.fields import FIELD_LINE, HOP_BY_HOP, TOKEN

_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+"'
_EXTENSION = rb";" + TOKEN + rb"++(?:=(?:" + TOKEN + rb"++|" + _QUOTED + rb"))?"
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:" + _EXTENSION + rb")*+\r\n")
_TRAILER = re.compile(FIELD_LINE)

# Framing, routing and credentials that come behind the content (RFC 9110 section 6.5.1).
_NEVER_TRAILERS = HOP_BY_HOP | {
    *(b"authorization", b"content-length", b"cookie", b"expect", b"forwarded", b"host"),
    *(b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"),
}

SIZE_LINE_LIMIT = 1024
"""Bytes of one chunk's size line, extensions included."""

EXTENSIONS_LIMIT = 16384
"""Bytes of all extensions of one body: nobody reads them, and no limit of a body counts them."""

TRAILER_LIMIT = 8192
"""Bytes of a trailer section, all of which is dropped."""


Piece = bytes | memoryview
"""Bytes of a stream; a view where a copy would cost more than it is worth."""


LARGE = 8192
"""Bytes from which passing a view and writing twice costs less than copying."""


class FramingError(Exception):
    """The sender broke its own framing: the message is over and its connection with it."""


class LengthBody:
    """A body of a stated number of bytes."""

    __slots__ = ("done", "remaining", "rest")

    def __init__(self, length: int) -> None:
        self.remaining = length
        self.done = length == 0
        self.rest: Piece = b""

    def feed(self, data: Piece) -> Piece:
        """Take data; return the payload in it."""
        size = len(data)
        if size < self.remaining:
            self.remaining -= size
            return data
        self.done = True
        if size == self.remaining:
            self.remaining = 0
            return data
        payload, self.rest = data[: self.remaining], data[self.remaining :]
        self.remaining = 0
        return payload

    def finish(self) -> bool:
        """Whether the body was whole when the stream ended."""
        return self.done


class UntilCloseBody:
    """A response's body that ends with its connection; whole only if the end was orderly."""

    __slots__ = ("done", "rest")

    def __init__(self) -> None:
        self.done = False
        self.rest: Piece = b""

    def feed(self, data: Piece) -> Piece:
        """Take data; all of it is payload."""
        return data

    def finish(self) -> bool:
        """The end of the stream is the end of the body."""
        self.done = True
        return True


class ChunkedBody:
    """A body in chunks. Raises FramingError at the first byte that cannot be part of one, or at its line's end."""

    __slots__ = ("_extensions", "_partial", "_remaining", "_state", "_trailers", "done", "rest")

    _SIZE, _DATA, _DATA_END, _TRAILER = range(4)

    def __init__(self) -> None:
        self.done = False
        self.rest: Piece = b""
        self._partial = b""
        self._remaining = 0
        self._extensions = EXTENSIONS_LIMIT
        self._trailers = TRAILER_LIMIT
        self._state = self._SIZE

    def feed(self, data: Piece) -> Piece:
        """Take data; return the payload in it, the chunks' contents joined."""
        if isinstance(data, memoryview):
            data = bytes(data)
        if self._partial:
            data = self._partial + data
            self._partial = b""
        payload: list[bytes] = []
        at, size = 0, len(data)
        while at < size:
            if self._state == self._DATA:
                end = min(at + self._remaining, size)
                payload.append(data[at:end])
                self._remaining -= end - at
                at = end
                if self._remaining == 0:
                    self._state = self._DATA_END
            elif self._state == self._DATA_END:
                if not b"\r\n".startswith(data[at : at + 2]):
                    raise FramingError("chunk longer than its size")
                if size - at < 2:
                    break
                at += 2
                self._state = self._SIZE
            elif self._state == self._SIZE:
                line_end = self._size_line(data, at)
                if line_end < 0:
                    break
                at = line_end
                end = at + self._remaining
                if self._state == self._DATA and data[end : end + 2] == b"\r\n":
                    payload.append(data[at:end])  # a whole chunk at once: there may be thousands in one read
                    at = end + 2
                    self._state = self._SIZE
            else:
                line_end = self._trailer(data, at)
                if line_end < 0:
                    break
                at = line_end
                if self.done:
                    break
        if at < size:
            if self.done:
                self.rest = data[at:]
            else:
                self._partial = data[at:]
        return payload[0] if len(payload) == 1 else b"".join(payload)

    def finish(self) -> bool:
        """Whether the last chunk and the trailers had come when the stream ended."""
        return self.done

    def _size_line(self, data: bytes, at: int) -> int:
        """Read a size line at `at`; return where it ends, or -1 if it is not whole yet."""
        match = _SIZE_LINE.match(data, at, at + SIZE_LINE_LIMIT)
        if match is None:
            window = data[at : at + SIZE_LINE_LIMIT]
            newline = window.find(b"\n")
            if newline >= 0 or len(window) == SIZE_LINE_LIMIT or not _may_become_size_line(window):
                raise FramingError("bad chunk size line")
            return -1
        self._remaining = int(match[1], 16)
        self._state = self._DATA if self._remaining else self._TRAILER
        end = match.end()
        extensions = end - match.end(1) - 2
        if extensions:
            self._extensions -= extensions
            if self._extensions < 0:
                raise FramingError("chunk extensions too large")
        return end

    def _trailer(self, data: bytes, at: int) -> int:
        """Read a trailer, or the end of them, at `at`; return where it ends, or -1 if it is not whole yet."""
        end = data.find(b"\n", at, at + self._trailers) + 1
        if end == 0:
            if len(data) - at >= self._trailers:
                raise FramingError("trailers too large")
            return -1
        if data[at:end] == b"\r\n":
            self.done = True
            return end
        if _TRAILER.fullmatch(data, at, end) is None:
            raise FramingError("bad trailer")
        if data[at : data.index(b":", at)].lower() in _NEVER_TRAILERS:
            raise FramingError("trailer that belongs into a head")
        self._trailers -= end - at
        return end


Body = LengthBody | ChunkedBody | UntilCloseBody

LAST_CHUNK = b"0\r\n\r\n"

_SIZE_LINE_START = re.compile(rb"[0-9A-Fa-f]{1,15}(?:;[\t -~\x80-\xff]*+)?\r?")


def chunk(payload: Piece) -> bytes:
    """One chunk that carries payload, which must not be empty (an empty chunk ends a body)."""
    return b"".join((b"%x\r\n" % len(payload), payload, b"\r\n"))


def _may_become_size_line(window: bytes) -> bool:
    return _SIZE_LINE_START.fullmatch(window) is not None
