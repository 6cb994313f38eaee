"""Heads, written short."""

from proxy.wire.request_head import HeadLimits, RequestHead, read_request_head
from proxy.wire.response_head import ResponseHead, read_response_head

LIMITS = HeadLimits(fields=100, target=8192)

HOST = b"Host: storage.example"


def head(first_line: bytes, *fields: bytes) -> bytes:
    """A head of these lines, each ended by CRLF, and the empty line."""
    return b"\r\n".join((first_line, *fields, b"", b""))


def get(*fields: bytes, target: bytes = b"/") -> bytes:
    """A GET to storage.example with further fields."""
    return head(b"GET " + target + b" HTTP/1.1", HOST, *fields)


def post(*fields: bytes, target: bytes = b"/") -> bytes:
    """A POST to storage.example with further fields."""
    return head(b"POST " + target + b" HTTP/1.1", HOST, *fields)


def accepted(data: bytes) -> RequestHead:
    """The reading of a request head that must be accepted."""
    reading = read_request_head(data, LIMITS)
    assert isinstance(reading, RequestHead), (reading, data)
    return reading


def answered(data: bytes, to_head_request: bool = False) -> ResponseHead:
    """The reading of a response head that must be accepted."""
    reading = read_response_head(data, to_head_request)
    assert isinstance(reading, ResponseHead), (reading, data)
    return reading
