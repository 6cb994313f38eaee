"""The request head that goes to a provider, made from the one that came in.

- Lines that go on are the client's own bytes; a line that must not go on is left out whole.
- What we vouch for is ours: a client's own word under those names, or under their twins, goes on only if a
  trusted proxy sent it, and twins never do. Twins are names that CGI-like readers cannot tell apart, since they
  make an underscore of whatever is neither letter nor digit.
- Framing, Host, hop-by-hop fields and those that we vouch for are written anew, so `Connection` cannot take
  them away.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address

from proxy.policy.facts import Address
from proxy.wire.fields import HOP_BY_HOP
from proxy.wire.request_head import RequestHead
from proxy.wire.target import read_authority

VIA = b"1.1 domicile"
"""How we name ourselves in Via (RFC 9110 section 7.6.3)."""

_HOP = re.compile(
    rb"([0-9]{1,3}(?:\.[0-9]{1,3}){3})(?::[0-9]+)?|\[([0-9A-Fa-f:.]+)\](?::[0-9]+)?|([0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)"
)

_REWRITTEN = HOP_BY_HOP | {b"host", b"content-length", b"expect"}
_APPENDED = frozenset({b"x-forwarded-for", b"forwarded", b"via"})
# Who the client is, in the words of other proxies and CDNs; and other targets than the one that was decided on,
# which IIS, Symfony and others take for it.
_VOUCHED = _APPENDED | {
    b"cf-connecting-ip",
    b"client-cert",
    b"client-cert-chain",
    b"client-ip",
    b"fastly-client-ip",
    b"proxy",
    b"ssl-client-cert",
    b"true-client-ip",
    b"x-client-cert",
    b"x-client-ip",
    b"x-cluster-client-ip",
    b"x-original-url",
    b"x-real-ip",
    b"x-request-id",
    b"x-rewrite-url",
    b"x-ssl-client-cert",
}
_VOUCHED_PREFIX = b"x-forwarded-"
# Written by the caller; and a field that CGI readers take for a setting of their own.
_NEVER_PASSED = frozenset({b"x-request-id", b"proxy"})

_TWIN = bytes.maketrans(b"!#$%&'*+.^_`|~", b"-" * 14)
# A quoted string left open would swallow the element that we append.
_CLOSED = re.compile(rb'[^"]*+(?:"(?:[^"\\]|\\.)*+"[^"]*+)*+', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Sender:
    """The hop that a request came over. peer: its address, None on a Unix socket. trusted: a trusted proxy.

    cdn_header: the lower-cased name of the field that holds the client's address when a CDN wrote it; by_cdn: whether
    a CDN did.
    """

    peer: Address | None
    tls: bool
    trusted: bool
    cdn_header: bytes | None = None
    by_cdn: bool = False


def end_to_end(
    head: RequestHead, sender: Sender, withheld: frozenset[bytes], cookies: frozenset[bytes] = frozenset()
) -> bytes:
    """The lines that every provider is sent alike, each ending in CRLF: the client's, then ours.

    withheld: lower-cased names of fields that must not be forwarded (a credential that was consumed), in
    whichever spelling. cookies: names of cookies that must not.
    """
    withheld = frozenset(name.translate(_TWIN) for name in withheld)
    lines: list[bytes] = []
    chains: dict[bytes, list[bytes]] = {}
    host = head.authority.wire
    for name, value, line in head.lines:
        dashed = name.translate(_TWIN)
        if dashed in _REWRITTEN or dashed in withheld:
            continue
        if dashed == sender.cdn_header:
            if name == dashed and sender.by_cdn and name not in head.connection:
                lines.append(line)
            continue
        if dashed in _VOUCHED or dashed.startswith(_VOUCHED_PREFIX):
            if dashed != name or not sender.trusted or name in _NEVER_PASSED:
                continue
            if name in _APPENDED:
                if value and _CLOSED.fullmatch(value):
                    chains.setdefault(name, []).append(value)
                continue
            if name == b"x-forwarded-proto":
                continue
            if name == b"x-forwarded-host":
                host = _said_once(head, name, _host) or host
                continue
        if name in head.connection:
            continue
        if name == b"cookie" and cookies:
            line = _without_cookies(line, cookies)
        if line:
            lines.append(line)
    peer = b"unknown" if sender.peer is None else str(sender.peer).encode("ascii")
    lines.append(b"X-Forwarded-For: " + b", ".join([*chains.get(b"x-forwarded-for", ()), peer]))
    lines.append(b"X-Forwarded-Proto: " + scheme(head, sender))
    lines.append(b"X-Forwarded-Host: " + host)
    # A proxy that writes one of the two chains has told the other one too: providers read either.
    told = chains.get(b"forwarded") or _restated(chains.get(b"x-forwarded-for", ()))
    lines.append(b"Forwarded: " + b", ".join([*told, _forwarded(head, sender)]))
    lines.append(b"Via: " + b", ".join([*chains.get(b"via", ()), VIA if head.version else b"1.0 domicile"]))
    return b"\r\n".join((*lines, b""))


def scheme(head: RequestHead, sender: Sender) -> bytes:
    """How the client came to us, or to the trusted proxy before us: `https` or `http`."""
    told = _said_once(head, b"x-forwarded-proto", _scheme) if sender.trusted else None
    return told or (b"https" if sender.tls else b"http")


def for_provider(head: RequestHead, lines: bytes, host: bytes | None, fixed: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """The head for one provider but for the request id's line and the empty line, which the caller adds.

    lines: from `end_to_end`. host: the provider's own Host, None to preserve the client's. fixed: the
    provider's own fields; a client's field of the same name (or its twin) is left out.
    """
    if fixed:
        replaced = {name.lower().translate(_TWIN) for name, _ in fixed}
        kept = [
            line
            for line in lines.split(b"\r\n")[:-1]
            if line.partition(b":")[0].lower().translate(_TWIN) not in replaced
        ]
        lines = b"\r\n".join((*kept, *(b"%b: %b" % field for field in fixed), b""))
    return b"%b %b HTTP/1.1\r\nHost: %b\r\n%b%b" % (
        head.method.encode("ascii"),
        head.target,
        host or head.authority.wire,
        lines,
        _framing(head),
    )


def kept_request_id(head: RequestHead, sender: Sender) -> bytes | None:
    """The X-Request-Id that a trusted proxy sent, if it sent one that is fit to be logged."""
    if not sender.trusted:
        return None
    values = [value for name, value, _ in head.lines if name == b"x-request-id"]
    if len(values) != 1 or not 0 < len(values[0]) <= 128 or not values[0].isascii():
        return None
    return values[0] if values[0].decode("ascii").isprintable() else None


def _framing(head: RequestHead) -> bytes:
    if head.upgrade is not None:
        return b"Connection: upgrade\r\nUpgrade: %b\r\n" % head.upgrade
    expect = b"Expect: 100-continue\r\n" if head.expects_continue else b""
    if head.length is None:
        return expect + b"Transfer-Encoding: chunked\r\n"
    if head.length or any(name == b"content-length" for name, _, _ in head.lines):
        return expect + b"Content-Length: %d\r\n" % head.length
    return expect


def _without_cookies(line: bytes, names: frozenset[bytes]) -> bytes:
    """A Cookie line without the cookies of these names, else byte for byte as it was; empty when none is left."""
    field, colon, value = line.partition(b":")
    pairs = value.split(b";")
    kept = [pair for pair in pairs if pair.partition(b"=")[0].strip(b" \t") not in names]
    if len(kept) == len(pairs):
        return line
    rest = b";".join(kept).strip(b" \t")
    return b"%b%b %b" % (field, colon, rest) if rest else b""


def _said_once(head: RequestHead, wanted: bytes, read: Callable[[bytes], bytes | None]) -> bytes | None:
    """What a trusted proxy said, if it said one thing, and one that can be read."""
    said = {read(value) for name, value, _ in head.lines if name == wanted}
    return said.pop() if len(said) == 1 else None


def _scheme(value: bytes) -> bytes | None:
    scheme = value.lower()
    return scheme if scheme in (b"http", b"https") else None


def _host(value: bytes) -> bytes | None:
    authority = read_authority(value)
    return None if authority is None else authority.wire


def _restated(chain: Iterable[bytes]) -> list[bytes]:
    """The hops of X-Forwarded-For as elements of Forwarded; what is no address is `unknown` (RFC 7239 section 6)."""
    elements = []
    for hop in b",".join(chain).split(b","):
        match = _HOP.fullmatch(hop.strip(b" \t"))
        if match is None:
            elements.append(b"for=unknown")
        elif match[1] is not None:
            elements.append(b"for=" + match[1])
        else:
            elements.append(b'for="[%b]"' % (match[2] or match[3]))
    return elements if elements != [b"for=unknown"] else []


def _forwarded(head: RequestHead, sender: Sender) -> bytes:
    """Our element of Forwarded (RFC 7239 section 4): for, host and proto of the hop to us."""
    if sender.peer is None:
        node = "unknown"
    elif isinstance(sender.peer, IPv6Address):
        node = f'"[{sender.peer}]"'
    else:
        node = str(sender.peer)
    host = head.authority.wire.decode("ascii")
    quoted = f'"{host}"' if ":" in host else host
    return f"for={node};host={quoted};proto={'https' if sender.tls else 'http'}".encode("ascii")
