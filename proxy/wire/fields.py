"""Field lines of an HTTP/1 head (RFC 9110 section 5, RFC 9112 section 5), read strictly.

A head block ends with an empty line. Every line ends in CRLF; no bare CR, LF or NUL, no folding, no white
space before the colon. Whatever matches `FIELD_LINES` has none of these.
"""

import re

TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
FIELD_LINE = TOKEN + rb"++:[^\x00-\x08\x0a-\x1f\x7f]*+\r\n"
FIELD_LINES = rb"(?:" + FIELD_LINE + rb")*+"

_TOKEN_LIST = re.compile(rb"[ \t]*(?:" + TOKEN + rb"++[ \t]*)?(?:,[ \t]*(?:" + TOKEN + rb"++[ \t]*)?)*+")

# Fields that end at this hop (RFC 9110 section 7.6.1), and those that only ever meant a hop.
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"http2-settings",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)


def token_list(value: bytes) -> frozenset[bytes] | None:
    """The lower-cased members of a comma-separated list of tokens; None if it is not such a list."""
    if _TOKEN_LIST.fullmatch(value) is None:
        return None
    return frozenset(member for part in value.lower().split(b",") if (member := part.strip(b" \t")))


def content_length(value: bytes) -> int | None:
    """The length that a single Content-Length value states; None if it is not plain digits."""
    # 18 digits stay below 2**63, so no reader downstream can overflow.
    return int(value) if value.isdigit() and len(value) <= 18 else None


def split_lines(block: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """(lower-cased name, stripped value, whole line) of each line in a validated run of field lines."""
    lines = []
    for line in block.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        lines.append((name.lower(), value.strip(b" \t"), line))
    return lines
