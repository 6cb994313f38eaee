"""The PROXY header: what a proxy in front says of its client, before the client's first byte.

Rules of this reader (HAProxy's proxy-protocol.txt, versions 1 and 2):
- It is the first thing on a connection, whole, and nothing behind it is looked at: `length` bytes are the header's.
- Version 1 is read to the letter: one space between words, plain decimal ports, no byte more than LONGEST_LINE.
- In version 2 every length must agree with what encloses it; a checksum that is there must be right.
- LOCAL, UNKNOWN, UNSPEC and Unix sockets name no address: the connection's own peer is all there is. What else a
  LOCAL header holds is passed over unread, as the specification demands.
- A datagram protocol is taken: the client may have come to the proxy by QUIC.
- What is wrong is said as soon as the bytes that show it are there.
"""

import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from proxy.policy.facts import Address

LIMIT: Final = 4096
"""The most bytes that a header may take, the fixed part included. HAProxy's largest take some hundreds."""

LONGEST_LINE: Final = 107
"""The most bytes of a version 1 header, its CRLF included."""

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"

ALPN: Final = 0x01
AUTHORITY: Final = 0x02
CRC32C: Final = 0x03
NOOP: Final = 0x04
UNIQUE_ID: Final = 0x05
SSL: Final = 0x20
NETNS: Final = 0x30

_WORD: Final = b"PROXY "
_SHORTEST_LINE: Final = len(b"PROXY UNKNOWN\r\n")
_FIXED: Final = 16
_LONGEST_ID: Final = 128
_ONCE: Final = frozenset({ALPN, AUTHORITY, CRC32C, UNIQUE_ID, SSL, NETNS})

# Source, destination and ports of each family and protocol.
_IPV4: Final = 12
_IPV6: Final = 36
_BLOCKS: Final = {0x00: 0, 0x11: _IPV4, 0x12: _IPV4, 0x21: _IPV6, 0x22: _IPV6, 0x31: 216, 0x32: 216}

_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*+)?")
_LINE = re.compile(
    rb"PROXY (?:TCP4 ([0-9.]{7,15}) ([0-9.]{7,15})|TCP6 ([0-9A-Fa-f:.]{2,45}) ([0-9A-Fa-f:.]{2,45}))"
    rb" (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})"
)

Fields = tuple[tuple[int, bytes], ...]
"""Type and value of each field, in order."""


@dataclass(frozen=True, slots=True)
class Tls:
    """What a version 2 header says of the client's TLS. client: its flags. verify: 0 for a verified certificate."""

    client: int
    verify: int
    fields: Fields = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Header:
    """A whole header.

    length: its bytes. source: the client's address and port as the header has them, destination: where it
    connected to; both None where the connection's own peer stands. local: made by the proxy for itself. fields: the
    TLVs of version 2; tls: its SSL field, read.
    """

    length: int
    version: int
    source: tuple[Address, int] | None = field(default=None, repr=False)
    destination: tuple[Address, int] | None = field(default=None, repr=False)
    local: bool = False
    fields: Fields = field(default=(), repr=False)
    tls: Tls | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Absent:
    """No header begins like this: these bytes are something else."""


@dataclass(frozen=True, slots=True)
class Incomplete:
    """So far good. needed: how many bytes, from the first on, there must be before reading again can help."""

    needed: int


@dataclass(frozen=True, slots=True)
class Malformed:
    """Begins like a header and is none: the sender's fault. cause is from a fixed list and quotes nothing."""

    cause: str


class _MalformedError(Exception):
    """Why version 2 is not kept to; never leaves this module."""


def read_proxy_header(data: bytes) -> Header | Absent | Incomplete | Malformed:
    """The header at the start of `data`, all bytes that were received so far.

    Total: no input raises. An Incomplete's `needed` is more than len(data) and at most LIMIT.
    """
    if data.startswith(_WORD):
        return _read_line(data)
    if _WORD.startswith(data):
        return Incomplete(len(_WORD))
    if data.startswith(SIGNATURE[: len(data)]):
        return _read_binary(data) if len(data) >= len(SIGNATURE) else Incomplete(_FIXED)
    return Absent()


def _read_line(data: bytes) -> Header | Incomplete | Malformed:
    end = data.find(b"\r", 0, LONGEST_LINE)
    if b"\n" in data[: LONGEST_LINE if end < 0 else end]:
        return Malformed("a line feed alone")
    if end < 0:
        if len(data) >= LONGEST_LINE:
            return Malformed("the line is too long")
        return Incomplete(max(_SHORTEST_LINE, len(data) + 1))
    if end + 2 > LONGEST_LINE:
        return Malformed("the line is too long")
    if end + 2 < _SHORTEST_LINE:
        return Malformed("not a line of version 1")
    if len(data) < end + 2:
        return Incomplete(end + 2)
    if data[end + 1 : end + 2] != b"\n":
        return Malformed("a carriage return alone")
    line, length = data[:end], end + 2
    if _UNKNOWN.fullmatch(line):
        return Header(length, 1)
    match = _LINE.fullmatch(line)
    if match is None:
        return Malformed("not a line of version 1")
    ports = int(match[5]), int(match[6])
    if max(ports) > 0xFFFF:
        return Malformed("a port out of bounds")
    try:
        source, destination = _addresses(match)
    except ValueError:
        return Malformed("not an address")
    return Header(length, 1, (source, ports[0]), (destination, ports[1]))


def _addresses(match: re.Match[bytes]) -> tuple[Address, Address]:
    if match[1] is not None:
        return IPv4Address(match[1].decode("ascii")), IPv4Address(match[2].decode("ascii"))
    return IPv6Address(match[3].decode("ascii")), IPv6Address(match[4].decode("ascii"))


def _read_binary(data: bytes) -> Header | Incomplete | Malformed:
    if len(data) > 12:
        if data[12] >> 4 != 2:
            return Malformed("an unknown version")
        if data[12] & 0xF > 1:
            return Malformed("an unknown command")
    if len(data) < _FIXED:
        return Incomplete(_FIXED)
    local = data[12] & 0xF == 0
    block = 0 if local else _BLOCKS.get(data[13])
    if block is None:
        return Malformed("an unknown family or protocol")
    rest = int.from_bytes(data[14:16], "big")
    length = _FIXED + rest
    if length > LIMIT:
        return Malformed("the header is too large")
    if rest < block:
        return Malformed("lengths disagree")
    if len(data) < length:
        return Incomplete(length)
    if local:
        return Header(length, 2, local=True)
    try:
        return _whole(data[:length], block)
    except _MalformedError as malformed:
        return Malformed(str(malformed))


def _whole(header: bytes, block: int) -> Header:
    content = header[_FIXED : _FIXED + block]
    source: tuple[Address, int] | None = None
    destination: tuple[Address, int] | None = None
    if block in (_IPV4, _IPV6):
        size = (block - 4) // 2
        # An int would make a small IPv6 address an IPv4 one: bytes do not.
        kind = IPv4Address if block == _IPV4 else IPv6Address
        ports = content[2 * size :]
        source = kind(content[:size]), int.from_bytes(ports[:2], "big")
        destination = kind(content[size : 2 * size]), int.from_bytes(ports[2:], "big")
    fields = _fields(header, _FIXED + block)
    seen: set[int] = set()
    tls: Tls | None = None
    for kind_of_field, value, position in fields:
        if kind_of_field in _ONCE and kind_of_field in seen:
            raise _MalformedError("a field is repeated")
        seen.add(kind_of_field)
        if kind_of_field == CRC32C:
            _check(header, position, value)
        elif kind_of_field == UNIQUE_ID and len(value) > _LONGEST_ID:
            raise _MalformedError("the unique id is too long")
        elif kind_of_field == SSL:
            tls = _tls(value)
    return Header(
        len(header), 2, source, destination, fields=tuple((kind, value) for kind, value, _ in fields), tls=tls
    )


def _fields(data: bytes, position: int) -> list[tuple[int, bytes, int]]:
    """Type, value and the value's place, of each TLV from `position` to the end of `data`."""
    found = []
    while position < len(data):
        start = position + 3
        if start > len(data):
            raise _MalformedError("lengths disagree")
        end = start + int.from_bytes(data[position + 1 : start], "big")
        if end > len(data):
            raise _MalformedError("lengths disagree")
        found.append((data[position], data[start:end], start))
        position = end
    return found


def _tls(value: bytes) -> Tls:
    if len(value) < 5:
        raise _MalformedError("lengths disagree")
    fields = tuple((kind, content) for kind, content, _ in _fields(value, 5))
    return Tls(value[0], int.from_bytes(value[1:5], "big"), fields)


def _check(header: bytes, position: int, value: bytes) -> None:
    if len(value) != 4:
        raise _MalformedError("lengths disagree")
    if crc32c(header[:position] + bytes(4) + header[position + 4 :]) != int.from_bytes(value, "big"):
        raise _MalformedError("the checksum is wrong")


def _table() -> tuple[int, ...]:
    entries = []
    for entry in range(256):
        for _ in range(8):
            entry = entry >> 1 ^ (0x82F63B78 if entry & 1 else 0)
        entries.append(entry)
    return tuple(entries)


_CRC = _table()


def crc32c(data: bytes) -> int:
    """The checksum of RFC 9260 appendix A (Castagnoli, reflected)."""
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _CRC[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


def proxy_line(source: tuple[Address, int] | None, destination: tuple[Address, int] | None) -> bytes:
    """A version 1 header; UNKNOWN where an address is not known. Addresses of two families are written as IPv6."""
    if source is None or destination is None:
        return b"PROXY UNKNOWN\r\n"
    one, other = _alike(source[0], destination[0])
    kind = "TCP4" if isinstance(one, IPv4Address) else "TCP6"
    return f"PROXY {kind} {one} {other} {source[1]} {destination[1]}\r\n".encode("ascii")


def proxy_header(
    source: tuple[Address, int] | None,
    destination: tuple[Address, int] | None,
    fields: Fields = (),
    *,
    local: bool = False,
    checksum: bool = True,
) -> bytes:
    """A version 2 header for a TCP connection; UNSPEC where an address is not known, LOCAL for the proxy's own.

    fields: TLVs, no CRC32C among them. Raises ValueError for what takes more than LIMIT bytes.
    """
    content, family = b"", 0
    if source is not None and destination is not None and not local:
        one, other = _alike(source[0], destination[0])
        family = 0x11 if isinstance(one, IPv4Address) else 0x21
        content = one.packed + other.packed + source[1].to_bytes(2, "big") + destination[1].to_bytes(2, "big")
    for kind, value in fields:
        content += bytes([kind]) + len(value).to_bytes(2, "big") + value
    if checksum:
        content += bytes([CRC32C, 0, 4, 0, 0, 0, 0])
    if _FIXED + len(content) > LIMIT:
        raise ValueError("the header is too large")
    header = SIGNATURE + bytes([0x20 if local else 0x21, family]) + len(content).to_bytes(2, "big") + content
    return header[:-4] + crc32c(header).to_bytes(4, "big") if checksum else header


def _alike(one: Address, other: Address) -> tuple[Address, Address]:
    if isinstance(one, IPv4Address) and isinstance(other, IPv4Address):
        return one, other
    return _six(one), _six(other)


def _six(address: Address) -> IPv6Address:
    return IPv6Address(0xFFFF << 32 | int(address)) if isinstance(address, IPv4Address) else address
