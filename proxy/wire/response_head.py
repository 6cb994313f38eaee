"""One response head from a provider, read strictly, and made ready for the client.

As for requests, the grammar here and llhttp must both accept. Any doubt is a 502: a provider that cannot
say where its message ends is not asked again on this connection.
"""

import re
from dataclasses import dataclass
from enum import Enum

import httptools

from proxy.wire.fields import FIELD_LINES, HOP_BY_HOP, content_length, split_lines, token_list
from proxy.wire.refusal import Refusal

_HEAD = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: ([\t -~\x80-\xff]*+))?\r\n(" + FIELD_LINES + rb")\r\n")
_INTERESTING = re.compile(
    rb"(?:^|\n)(?:connection|content-length|transfer-encoding|upgrade|keep-alive|alt-svc|te|trailer|"
    rb"proxy-connection|proxy-authenticate|http2-settings)[:]",
    re.IGNORECASE,
)
# Alt-Svc would send clients past the proxy, to wherever the provider likes.
_DROPPED = HOP_BY_HOP | {b"alt-svc", b"content-length"}

_GARBAGE = Refusal(502, "provider-head-malformed")
_FRAMING = Refusal(502, "provider-framing-ambiguous")


class Ends(Enum):
    """How a response's body ends."""

    NO_BODY = "no-body"
    LENGTH = "length"
    CHUNKS = "chunks"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """What a response head says.

    block: status line and end-to-end fields as they go to the client, each ending in CRLF, without any
    framing field and without the empty line. length: what Content-Length says, also where no body
    follows (HEAD, 304). keep_alive: whether the provider leaves its connection open.
    """

    status: int
    block: bytes
    ends: Ends
    length: int | None
    keep_alive: bool
    upgrade: bytes | None


class _Judge:
    """llhttp's view needs no callbacks: it accepts or it raises."""


def read_response_head(head: bytes, to_head_request: bool) -> ResponseHead | Refusal:
    """Read one whole head; to_head_request: whether it answers a HEAD."""
    match = _HEAD.fullmatch(head)
    if match is None:
        return _GARBAGE
    minor, digits, phrase, block = match.groups()
    try:
        httptools.HttpResponseParser(_Judge()).feed_data(head)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        return _GARBAGE
    status, version = int(digits), int(minor)
    start = b"HTTP/1.1 %b %b\r\n" % (digits, phrase or b"")
    if _INTERESTING.search(block) is None:
        no_body = _has_no_body(status, to_head_request)
        ends = Ends.NO_BODY if no_body else Ends.CLOSE
        return ResponseHead(status, start + block, ends, None, version == 1 and no_body, None)
    return _meaning(status, version, start, block, to_head_request)


def _meaning(status: int, version: int, start: bytes, block: bytes, to_head_request: bool) -> ResponseHead | Refusal:
    length = coding = upgrade = None
    connection: frozenset[bytes] = frozenset()
    lines = split_lines(block)
    for name, value, _ in lines:
        if name == b"content-length":
            if length is not None or (length := content_length(value)) is None:
                return _FRAMING
        elif name == b"transfer-encoding":
            if coding is not None or version == 0 or value.lower() != b"chunked":
                return _FRAMING
            coding = value
        elif name == b"connection":
            options = token_list(value)
            if options is None:
                return _GARBAGE
            connection |= options
        elif name == b"upgrade":
            upgrade = value if upgrade is None else upgrade + b", " + value
    if coding is not None and length is not None:
        return _FRAMING
    if _has_no_body(status, to_head_request):
        ends = Ends.NO_BODY
        if status < 200 or status == 204:
            length = None  # RFC 9110 section 8.6: it must not be there
    elif coding is not None:
        ends = Ends.CHUNKS
    else:
        ends = Ends.CLOSE if length is None else Ends.LENGTH
    kept = [line for name, _, line in lines if name not in _DROPPED and name not in connection]
    return ResponseHead(
        status=status,
        block=b"\r\n".join((start + kept[0], *kept[1:], b"")) if kept else start,
        ends=ends,
        length=length,
        keep_alive=ends is not Ends.CLOSE
        and b"close" not in connection
        and (version == 1 or b"keep-alive" in connection),
        upgrade=upgrade if b"upgrade" in connection else None,
    )


def _has_no_body(status: int, to_head_request: bool) -> bool:
    return to_head_request or status < 200 or status in (204, 304)


def _stays_open(version: int, connection: frozenset[bytes]) -> bool:
    return b"close" not in connection and (version == 1 or b"keep-alive" in connection)
