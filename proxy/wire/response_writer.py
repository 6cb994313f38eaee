"""The response head that goes to a client: the provider's lines, and framing of our own making."""

from dataclasses import replace

from proxy.wire.body import LARGE, LAST_CHUNK, Piece
from proxy.wire.response_head import Ends, ResponseHead

CLOSE = b"Connection: close\r\n"
KEEP = b"Connection: keep-alive\r\n"


def final_head(head: ResponseHead, version: int, keep: bool, extra: bytes = b"") -> tuple[bytes, bool, bool]:
    """A final head, whole; whether its body goes out in chunks; and whether the connection can stay.

    version: the minor one of the request. keep: whether the connection would stay if its framing allows. extra: a
    field line of our own without CRLF, or several with it between them, or nothing.
    A body without a stated length goes to HTTP/1.1 in chunks, so that a cut shows; HTTP/1.0 has only the close.
    """
    ends = head.ends
    chunked = False
    if head.length is not None:
        framing = b"Content-Length: %d\r\n" % head.length
    elif ends is Ends.NO_BODY:
        framing = b""
    elif version:
        chunked = True
        framing = b"Transfer-Encoding: chunked\r\n"
    else:
        framing = b""
        keep = False
    if extra:
        framing = b"%b%b\r\n" % (framing, extra)
    if not keep:
        return b"%b%b%b\r\n" % (head.block, framing, CLOSE), chunked, False
    return b"%b%b%b\r\n" % (head.block, framing, b"" if version else KEEP), chunked, True


def without_cookie(head: ResponseHead, name: bytes) -> ResponseHead:
    """The head without fields that set a cookie of this name, which is not the provider's to set; empty: of none."""
    if not name or name not in head.block:
        return head
    first, *lines = head.block.split(b"\r\n")[:-1]
    kept = [line for line in lines if not _sets(line, name)]
    return head if len(kept) == len(lines) else replace(head, block=b"\r\n".join((first, *kept, b"")))


def _sets(line: bytes, name: bytes) -> bool:
    field, _, value = line.partition(b":")
    return field.lower() == b"set-cookie" and value.partition(b";")[0].partition(b"=")[0].strip(b" \t") == name


def switched_head(head: ResponseHead) -> bytes:
    """A 101, whole. `head.upgrade` names what is switched to."""
    return b"%bConnection: upgrade\r\nUpgrade: %b\r\n\r\n" % (head.block, head.upgrade or b"")


def framed(start: bytes, payload: Piece, chunked: bool, done: bool) -> tuple[Piece, ...]:
    """What to write for a piece of a body: start, then payload, in a chunk if chunked; done: with the last chunk.

    One piece where copying is cheaper than another write, several where it is not.
    """
    end = b""
    if chunked:
        if payload:
            start += b"%x\r\n" % len(payload)
            end = b"\r\n"
        if done:
            end += LAST_CHUNK
    if len(payload) < LARGE:
        piece = b"".join((start, payload, end))
        return (piece,) if piece else ()
    if end:
        return (start, payload, end)
    return (start, payload) if start else (payload,)
