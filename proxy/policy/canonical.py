"""One canonical form for hosts and paths: live traffic, policy files and `explain` all read them here.

A host is lower case, without port and without the root's trailing dot; an address literal is written one
way only. A path keeps its percent-encoding except that unreserved characters are decoded and hex digits
are upper case (RFC 3986 section 6.2.2). Whatever two programs could read as two different things has no
canonical form, and the caller refuses it.
"""

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address

_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*")
# A last label that a C library could read as a number makes the name an address: 2130706433, 0177.1, 0x7f.1.
_NUMBERISH = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_QUAD = re.compile(r"(?:0|[1-9][0-9]{0,2})(?:\.(?:0|[1-9][0-9]{0,2})){3}")

_PLAIN_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9_~!$&'()*+,=:@.-]+)*+/?")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})?")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
# Encoded NUL, slash and backslash; a literal backslash; path parameters; an escape of an escape.
_TWO_READINGS = re.compile(r"%00|%2F|%5C|\\|;|%3B|%25[0-9A-Fa-f]{2}|//|(?:^|/)\.{1,2}(?:/|\Z)")


def canonical_host(host: str) -> str | None:
    """The one form of a host without its port, brackets kept off IPv6 literals; None if it has none."""
    if host.startswith("["):
        return _canonical_ipv6(host[1:-1]) if host.endswith("]") else None
    lowered = host.lower().removesuffix(".")
    if _NUMBERISH.fullmatch(lowered):
        # inet_aton would read more than the dotted quad, and each reading is another address.
        return lowered if _QUAD.fullmatch(host) and _is_ipv4(host) else None
    return lowered if _NAME.fullmatch(lowered) else None


def canonical_path(path: str) -> str | None:
    """The one form of a path without its query; None if two programs could read it differently."""
    if _PLAIN_PATH.fullmatch(path):
        return path
    if not path.startswith("/") and path != "*":
        return None
    broken = False

    def unescape(match: re.Match[str]) -> str:
        nonlocal broken
        digits = match[1]
        if digits is None:
            broken = True
            return "%"
        character = chr(int(digits, 16))
        return character if character in _UNRESERVED else f"%{digits.upper()}"

    canonical = _ESCAPE.sub(unescape, path)
    return None if broken or _TWO_READINGS.search(canonical) else canonical


def _is_ipv4(text: str) -> bool:
    try:
        IPv4Address(text)
    except AddressValueError:
        return False
    return True


def _canonical_ipv6(text: str) -> str | None:
    try:
        address = IPv6Address(text)
    except AddressValueError:
        return None
    # A mapped address is an IPv4 address by another name, and a zone id means nothing beyond this machine.
    return None if address.ipv4_mapped is not None or address.scope_id is not None else str(address)
