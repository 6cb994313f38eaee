"""The ClientHello: the first message of a TLS connection, read without answering it.

Rules of this reader (RFC 8446 4.1.2 and 5.1, RFC 5246 7.4.1.2, RFC 6066 3):
- The message may be cut into records, and records into segments, anywhere.
- Every length must agree with what encloses it, every vector with its bounds; an extension comes once.
- The record that ends the message holds nothing after it. Later records (early data) are not looked at.
- What is wrong is said as soon as the bytes that show it are there, so that noise is not waited on.
- With an encrypted ClientHello the outer name is the name: browsers send that extension to everybody.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct

LIMIT = 16 * 1024
"""The most bytes, record headers included, that a ClientHello may take. Post-quantum ones take 2 KiB."""

_HANDSHAKE = 22
_CLIENT_HELLO = 1
_RECORD_HEADER = 5
_MESSAGE_HEADER = 4

_SERVER_NAME = 0
_ALPN = 16
_SUPPORTED_VERSIONS = 43
_ENCRYPTED_CLIENT_HELLO = 0xFE0D

_NAME = re.compile(rb"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(rb"[0-9]+|0x[0-9a-f]*")
_LONGEST_NAME = 253

_EXTENSION = Struct(">HH")
_VERSION = Struct(">H")


@dataclass(frozen=True, slots=True)
class Hello:
    """What a client asks for.

    server_name: lower case, no trailing dot; None where there is none, or it is an address or no host name.
    alpn: protocols in the client's order. ech: whether the encrypted_client_hello extension is there.
    versions: the TLS versions offered, as numbers (0x0304 is TLS 1.3), in the client's order, GREASE included.
    """

    server_name: str | None
    alpn: tuple[bytes, ...]
    ech: bool
    versions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Incomplete:
    """So far good. needed: how many bytes, from the first on, there must be before reading again can help."""

    needed: int


@dataclass(frozen=True, slots=True)
class NotHello:
    """The client's fault. reason is from a fixed list and quotes nothing that was sent."""

    reason: str


class _MalformedError(Exception):
    """A length, a bound or a repetition that the RFCs forbid; never leaves this module."""


def read_hello(data: bytes) -> Hello | Incomplete | NotHello:
    """The ClientHello at the start of `data`, all bytes that the client has sent so far.

    Total: no input raises. An Incomplete's `needed` is more than len(data) and at most LIMIT.
    """
    message = bytearray()
    whole: int | None = None
    position = 0
    while True:
        here = len(data) - position
        if here >= 1 and data[position] != _HANDSHAKE:
            return NotHello("not a TLS handshake record")
        if here >= 2 and data[position + 1] != 3:
            return NotHello("not a TLS record version")
        if here < _RECORD_HEADER:
            missing = (whole or _MESSAGE_HEADER) - len(message)
            return Incomplete(position + _RECORD_HEADER + missing)
        length = int.from_bytes(data[position + 3 : position + 5], "big")
        if not 1 <= length <= LIMIT:
            return NotHello("record length out of bounds")
        start, end = position + _RECORD_HEADER, position + _RECORD_HEADER + length
        if end > LIMIT:
            return NotHello("ClientHello too large")
        promised = len(message) + length
        message += data[start:end]
        if message and message[0] != _CLIENT_HELLO:
            return NotHello("not a ClientHello")
        if len(message) >= _MESSAGE_HEADER:
            whole = _MESSAGE_HEADER + int.from_bytes(message[1:4], "big")
            if promised > whole:
                return NotHello("more than a ClientHello in its record")
        missing = (whole or _MESSAGE_HEADER) - promised
        needed = end + (_RECORD_HEADER + missing if missing > 0 else 0)
        if needed > LIMIT:
            return NotHello("ClientHello too large")
        if end > len(data):
            return Incomplete(needed)
        if len(message) == whole:
            break
        position = end
    try:
        return _client_hello(_Vector(bytes(message[_MESSAGE_HEADER:])))
    except _MalformedError as malformed:
        return NotHello(str(malformed))


class _Vector:
    """Bytes that are taken from the front; taking more than there are is malformed."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def __bool__(self) -> bool:
        return self._position < len(self._data)

    def take(self, size: int) -> bytes:
        end = self._position + size
        if end > len(self._data):
            raise _MalformedError("lengths disagree")
        taken = self._data[self._position : end]
        self._position = end
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int, least: int, most: int, step: int = 1) -> "_Vector":
        """A vector whose length field is `size` bytes and lies between `least` and `most`."""
        length = self.number(size)
        if not least <= length <= most or length % step:
            raise _MalformedError("a vector's length is out of bounds")
        return _Vector(self.take(length))

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._position)


def _client_hello(body: _Vector) -> Hello:
    legacy_version = body.number(2)
    body.take(32)
    body.vector(1, 0, 32)
    body.vector(2, 2, 0xFFFE, step=2)
    body.vector(1, 1, 0xFF)
    server_name: str | None = None
    alpn: tuple[bytes, ...] = ()
    versions: tuple[int, ...] = (legacy_version,)
    seen: set[int] = set()
    if body:  # TLS 1.2 lets the whole block be left out
        for kind, content in _extensions(body.vector(2, 0, 0xFFFF).rest()):
            if kind in seen:
                raise _MalformedError("an extension is repeated")
            seen.add(kind)
            if kind == _SERVER_NAME:
                server_name = _server_name(_Vector(content))
            elif kind == _ALPN:
                alpn = _protocols(_Vector(content))
            elif kind == _SUPPORTED_VERSIONS:
                versions = _versions(_Vector(content))
        if body:
            raise _MalformedError("lengths disagree")
    return Hello(server_name, alpn, _ENCRYPTED_CLIENT_HELLO in seen, versions)


def _extensions(block: bytes) -> Iterator[tuple[int, bytes]]:
    """Each extension's type and content. A dozen come with every hello, so they are taken without a vector each."""
    position, size = 0, len(block)
    while position < size:
        start = position + _EXTENSION.size
        if start > size:
            raise _MalformedError("lengths disagree")
        kind, length = _EXTENSION.unpack_from(block, position)
        position = start + length
        if position > size:
            raise _MalformedError("lengths disagree")
        yield kind, block[start:position]


def _ended(content: _Vector) -> None:
    if content:
        raise _MalformedError("lengths disagree")


def _server_name(content: _Vector) -> str | None:
    names = content.vector(2, 1, 0xFFFF)
    _ended(content)
    # RFC 6066: one name of a type, and host_name (0) is the only type there ever was.
    if names.number(1) != 0:
        raise _MalformedError("a server name of an unknown type")
    name = names.vector(2, 1, 0xFFFF).rest()
    if names:
        raise _MalformedError("several server names")
    return host_name(name)


def host_name(name: bytes) -> str | None:
    """The name in lower case without its trailing dot; None for an address literal and for what is no host name."""
    name = name.lower().removesuffix(b".")
    if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
        return None
    # A last label that is a number makes the whole an IPv4 address to some reader or other (2130706433, 0177.1).
    if _NUMBER.fullmatch(name.rpartition(b".")[2]):
        return None
    return name.decode("ascii")


def _protocols(content: _Vector) -> tuple[bytes, ...]:
    listed = content.vector(2, 2, 0xFFFF)
    _ended(content)
    protocols = []
    while listed:
        protocols.append(listed.vector(1, 1, 0xFF).rest())
    return tuple(protocols)


def _versions(content: _Vector) -> tuple[int, ...]:
    listed = content.vector(1, 2, 0xFE, step=2).rest()
    _ended(content)
    return tuple(number for (number,) in _VERSION.iter_unpack(listed))
