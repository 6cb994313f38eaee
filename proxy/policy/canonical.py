"""One canonical form for hosts and paths: live traffic, policy files and `explain` all read them here.

A host is lower case, without port and without the root's trailing dot; an address literal is written one
way only. In a path every character that may stand there as itself does (RFC 3986 section 3.3: a client that
writes `%40` for `@` names the same thing to every server), every other is percent-encoded in upper case, and
Unicode is in form C. Whatever two programs could read as two different things has no canonical form, and the
caller refuses it.
"""

import re
import unicodedata
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from urllib.parse import quote, unquote_to_bytes

_NAME = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*"
)
# A last label that a C library could read as a number makes the name an address: 2130706433, 0177.1, 0x7f.1.
_NUMBERISH = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_QUAD = re.compile(r"(?:0|[1-9][0-9]{0,2})(?:\.(?:0|[1-9][0-9]{0,2})){3}")

# The star stays encoded: in a policy file it is the pattern's.
_OWN = "/!$&'()+,=:@"
_PLAIN_PATH = re.compile(r"(?=/)(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9_~!$&'()+,=:@.-]+)*+/?")
# What is no path; a percent sign that escapes nothing; encoded controls and slashes.
_NO_READING = re.compile(r"[^!-~]|[?#]|%(?![0-9A-Fa-f]{2})|%[01]|%7F|%2F", re.IGNORECASE)
# Of what was decoded: backslashes, path parameters, an escape of an escape, empty and dot segments.
_TWO_READINGS = re.compile(r"\\|;|%[0-9A-Fa-f]{2}|//|/\.{1,2}(?:/|\Z)")
# More marks on one letter than text has (UAX 15, D4): sorting them takes the square of their number.
_MANY_MARKS = b"\1" * 31


def canonical_host(host: str) -> str | None:
    """The one form of a host without its port, brackets kept off IPv6 literals; None if it has none."""
    if not host.isascii():  # some letters are ASCII ones once they are lower case
        return None
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
    if path == "*":
        return path
    if not path.startswith("/") or _NO_READING.search(path):
        return None
    try:
        # Overlong forms and other charsets are what one server decodes and the next does not.
        text = unquote_to_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        return None
    if not text.isascii():
        if _MANY_MARKS in bytes(map(bool, map(unicodedata.combining, text))):
            return None
        text = unicodedata.normalize("NFC", text)
    # Looked at last: some characters become a plain `;` in form C.
    return None if _TWO_READINGS.search(text) else quote(text, safe=_OWN)


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
