"""One response head from a provider, read strictly, and made ready for the client.

As for requests, the grammar here and llhttp must both accept. Any doubt is a 502: a provider that cannot
say where its message ends is not asked again on this connection.
"""

import re
from dataclasses import dataclass
from enum import Enum

import httptools

from proxy.wire.fields import FIELD_LINES, HOP_BY_HOP, content_length, token_list
from proxy.wire.refusal import Refusal

_HEAD = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: ([\t -~\x80-\xff]*+))?\r\n(" + FIELD_LINES + rb")\r\n")
# Alt-Svc would send clients past the proxy, to wherever the provider likes.
_DROPPED = HOP_BY_HOP | {b"alt-svc", b"content-length"}
# From one line's LF to the next line's, so that cutting it out leaves whole lines.
_DROPPED_LINE = re.compile(rb"\n(" + b"|".join(sorted(_DROPPED)) + rb"):([^\r]*+)\r", re.IGNORECASE)

_OPTIONS = HOP_BY_HOP | {b"close"}

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
    status, version = int(digits), int(minor)
    length = coding = upgrade = None
    connection: frozenset[bytes] = frozenset()
    fields = b"HTTP/1.1 %b %b\r\n%b" % (digits, phrase or b"", block)
    for name, value in _DROPPED_LINE.findall(fields):
        name, value = name.lower(), value.strip(b" \t")
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
    try:
        httptools.HttpResponseParser(_Judge()).feed_data(head)
    except httptools.HttpParserUpgrade:
        pass  # llhttp stops behind the head, and only the head was given
    except httptools.HttpParserError:
        return _GARBAGE
    keep_alive = b"close" not in connection and (version == 1 or b"keep-alive" in connection)
    if to_head_request or status < 200 or status in (204, 304):
        ends = Ends.NO_BODY
        if status < 200 or status == 204:
            # RFC 9110 section 8.6 and RFC 9112 section 6.1: neither may be there, so content may follow after all.
            if length or coding is not None:
                if status < 200:
                    return _FRAMING
                keep_alive = False
            length = None
    elif coding is not None:
        ends = Ends.CHUNKS
    else:
        ends = Ends.CLOSE if length is None else Ends.LENGTH
    return ResponseHead(
        status=status,
        block=_without(connection, _DROPPED_LINE.sub(b"", fields)),
        ends=ends,
        length=length,
        keep_alive=keep_alive and ends is not Ends.CLOSE,
        upgrade=upgrade if b"upgrade" in connection else None,
    )


def _without(connection: frozenset[bytes], block: bytes) -> bytes:
    """The block without the fields that `Connection` lists; its options have no fields of their names."""
    listed = connection - _OPTIONS
    if not listed:
        return block
    first, *lines = block.split(b"\r\n")[:-1]
    return b"\r\n".join((first, *(line for line in lines if line.partition(b":")[0].lower() not in listed), b""))


def grants(granted: bytes | None, asked: bytes) -> bool:
    """Whether what the provider switches to was asked for (RFC 9110 section 7.8)."""
    offers = {offer.strip(b" \t").lower() for offer in asked.split(b",")}
    return granted is not None and all(choice.strip(b" \t").lower() in offers for choice in granted.split(b","))
