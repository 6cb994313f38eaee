"""One request head, read strictly (RFC 9112 sections 3, 5 and 6).

Two judges must both accept: the grammar here, and llhttp. llhttp alone takes what must be refused (two
Hosts, `#`, a coding before chunked, HTTP/0.9 with fields), and a reader that only we have could be wrong
alone. What a head means is then taken from one reading, so there is no second one to smuggle through.
"""

import re
from dataclasses import dataclass

import httptools

from proxy.wire.fields import FIELD_LINES, TOKEN, content_length, split_lines, token_list
from proxy.wire.refusal import Refusal
from proxy.wire.target import TARGET, Authority, read_authority, split_absolute

_HEAD = re.compile(rb"(" + TOKEN + rb"{1,32}+) (" + TARGET + rb") HTTP/1\.([01])\r\n(" + FIELD_LINES + rb")\r\n")
_OTHER_VERSION = re.compile(rb"[!-~]+ [!-~]+ (?:HTTP|RTSP|ICE)/[0-9]+(?:\.[0-9]+)?\r\n")

# What llhttp knows, but for CONNECT, TRACE and PRI; a method that it does not know has no second judge.
METHODS = frozenset(
    b"DELETE GET HEAD POST PUT OPTIONS COPY LOCK MKCOL MOVE PROPFIND PROPPATCH SEARCH UNLOCK BIND REBIND UNBIND ACL "
    b"REPORT MKACTIVITY CHECKOUT MERGE M-SEARCH NOTIFY SUBSCRIBE UNSUBSCRIBE PATCH PURGE MKCALENDAR LINK UNLINK".split()
)

# What says more of a message or its connection than that it has no body and another may follow.
_FRAMING = re.compile(
    rb"\r\n(?:Content-Length|Transfer-Encoding|Connection(?!: keep-alive\r\n)|Upgrade|Expect):", re.IGNORECASE
)
_HOST = re.compile(rb"\r\nHost:([^\r]*)", re.IGNORECASE)

# Encoded NUL, LF and CR: what one reader takes for a character of a name ends a string or a line for another.
_BREAKS_PATH = re.compile(rb"[^?]*%0[0AaDd]")
_CODING = re.compile(TOKEN + rb"++")
# RFC 9110 section 7.8
_PROTOCOL = re.compile(TOKEN + rb"++(?:/" + TOKEN + rb"++)?")
# What would open a channel that nobody here reads.
_NEVER_GRANTED = frozenset({b"h2", b"h2c", b"http", b"tls"})

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PROPFIND", "SEARCH", "REPORT"})
"""Methods that may be sent a second time (RFC 9110 section 9.2.2, and the safe ones of WebDAV)."""

_SLASH = ord("/")

_TWO_HOSTS = Refusal(400, "host-repeated")
_BAD_LENGTH = Refusal(400, "length-malformed")
_BAD_LINE = Refusal(400, "head-malformed")
_BAD_TARGET = Refusal(400, "target-malformed")


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """Bounds of one head: fields, how many; target, bytes. (Its size is bounded where it is gathered.)"""

    fields: int
    target: int


@dataclass(frozen=True, slots=True)
class RequestHead:
    """What a request head says.

    target: as it goes out, in origin form or `*`. path: its part before the query. version: the minor
    one. lines: (lower-cased name, value, whole line) in order, framing and hop-by-hop fields included.
    connection: what `Connection` lists. length: of the body; None where it is chunked.
    upgrade: the value of `Upgrade`, where one was asked for that can be granted.
    """

    method: str
    target: bytes
    path: str
    version: int
    authority: Authority
    lines: tuple[tuple[bytes, bytes, bytes], ...]
    connection: frozenset[bytes]
    length: int | None
    keep_alive: bool
    expects_continue: bool
    upgrade: bytes | None

    @property
    def has_body(self) -> bool:
        """Whether content follows the head."""
        return self.length != 0


class _Judge:
    """llhttp's view needs no callbacks: it accepts or it raises."""


def read_request_head(head: bytes, limits: HeadLimits) -> RequestHead | Refusal:
    """Read one whole head, from the request line to its empty line."""
    match = _HEAD.fullmatch(head)
    if match is None:
        return _why_malformed(head)
    method, target, minor, block = match.groups()
    if method in (b"CONNECT", b"TRACE"):
        return Refusal(405, "method-refused")
    if method not in METHODS:
        return Refusal(501, "method-unknown")
    if len(target) > limits.target:
        return Refusal(414, "target-too-long")
    if block.count(b"\n") > limits.fields:
        return Refusal(431, "too-many-fields")
    return _meaning(head, method, target, int(minor), split_lines(block))


def plain(head: bytes, limits: HeadLimits) -> tuple[bytes, bytes] | None:
    """Method and Host value of a whole head, in a quarter of the time, if it is like most; None if it has to be read.

    What is like most has no body, keeps the connection and asks for no upgrade: `read_request_head` says so too, or
    refuses it for its method, target or Host, and never for where it ends.
    """
    match = _HEAD.fullmatch(head)
    if match is None or _FRAMING.search(head) is not None:
        return None
    method, target, minor, block = match.groups()
    hosts = _HOST.findall(head)
    if minor != b"1" or len(hosts) != 1 or target[0] != _SLASH or len(target) > limits.target:
        return None
    return None if block.count(b"\n") > limits.fields else (method, hosts[0])


def _meaning(
    head: bytes, method: bytes, target: bytes, version: int, lines: list[tuple[bytes, bytes, bytes]]
) -> RequestHead | Refusal:
    host = length = coding = expect = upgrade = None
    connection: frozenset[bytes] = frozenset()
    for name, value, _ in lines:
        if name == b"host":
            if host is not None:
                return _TWO_HOSTS
            host = value
        elif name == b"content-length":
            if length is not None or (length := content_length(value)) is None:
                return _BAD_LENGTH
        elif name == b"transfer-encoding":
            if coding is not None:
                return Refusal(400, "coding-repeated")
            coding = value
        elif name == b"connection":
            options = token_list(value)
            if options is None:
                return _BAD_LINE
            connection |= options
        elif name == b"expect":
            if expect is not None or value.lower() != b"100-continue":
                return Refusal(417, "expectation-unknown")
            expect = value
        elif name == b"upgrade":
            upgrade = value if upgrade is None else upgrade + b", " + value
    if coding is not None:
        refused = _coding_refused(coding, version, length)
        if refused is not None:
            return refused
    if host is None:
        return Refusal(400, "host-missing")
    where = _where(method, target, host)
    if isinstance(where, Refusal):
        return where
    authority, origin = where
    try:
        httptools.HttpRequestParser(_Judge()).feed_data(head)
    except httptools.HttpParserUpgrade:
        pass  # llhttp stops behind the head, and only the head was given
    except httptools.HttpParserError:
        return _BAD_LINE
    body = None if coding is not None else length or 0
    may_upgrade = b"upgrade" in connection and version == 1 and body == 0
    return RequestHead(
        method=method.decode("ascii"),
        target=origin,
        path=origin.partition(b"?")[0].decode("ascii"),
        version=version,
        authority=authority,
        lines=tuple(lines),
        connection=connection,
        length=body,
        keep_alive=b"close" not in connection and (version == 1 or b"keep-alive" in connection),
        expects_continue=expect is not None and version == 1 and body != 0,
        upgrade=_grantable(upgrade) if upgrade is not None and may_upgrade else None,
    )


def _coding_refused(coding: bytes, version: int, length: int | None) -> Refusal | None:
    if length is not None:
        return Refusal(400, "length-with-coding")
    if version == 0:
        return Refusal(400, "coding-in-http-1.0")
    if coding.lower() == b"chunked":
        return None
    codings = [name.strip(b" \t") for name in coding.lower().split(b",")]
    if all(map(_CODING.fullmatch, codings)) and b"chunked" not in codings[:-1]:
        return Refusal(501, "coding-unknown")
    return Refusal(400, "coding-malformed")


def _where(method: bytes, target: bytes, host: bytes) -> tuple[Authority, bytes] | Refusal:
    """The authority that a request names and the target as it goes out."""
    authority = read_authority(host)
    if authority is None:
        return Refusal(400, "host-malformed")
    if not target.startswith(b"/"):
        if target == b"*":
            return (authority, target) if method == b"OPTIONS" else _BAD_TARGET
        absolute = split_absolute(target)
        if absolute is None:
            return _BAD_TARGET
        if read_authority(absolute[0]) != authority:
            return Refusal(400, "target-disagrees-with-host")
        target = absolute[1]
        if not target.startswith(b"/"):
            # RFC 9112 section 3.2.4: OPTIONS of an authority as a whole
            target = b"/" + target if target or method != b"OPTIONS" else b"*"
    if b"%0" in target and _BREAKS_PATH.match(target):
        return _BAD_TARGET
    return authority, target


def _grantable(upgrade: bytes) -> bytes | None:
    """The protocols that are passed on, in order; None if no such is left."""
    protocols = [protocol.strip(b" \t") for protocol in upgrade.split(b",")]
    kept = [
        protocol
        for protocol in protocols
        if _PROTOCOL.fullmatch(protocol) and protocol.partition(b"/")[0].lower() not in _NEVER_GRANTED
    ]
    return b", ".join(kept) or None


def _why_malformed(head: bytes) -> Refusal:
    line = _OTHER_VERSION.match(head)
    if line is not None and not line[0].endswith((b" HTTP/1.1\r\n", b" HTTP/1.0\r\n")):
        return Refusal(505, "version-refused")
    return _BAD_LINE
