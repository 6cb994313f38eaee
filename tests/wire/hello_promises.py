"""What read_hello promises, whatever the bytes: held by the tests, and by the fuzzer of fuzz/hello.py."""

import ssl
import sys
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from proxy.wire.hello import LIMIT, Hello, Incomplete, NotHello, host_name, read_hello

REASONS = frozenset(
    {
        "not a TLS handshake record",
        "not a TLS record version",
        "record length out of bounds",
        "not a ClientHello",
        "more than a ClientHello in its record",
        "ClientHello too large",
        "lengths disagree",
        "a vector's length is out of bounds",
        "an extension is repeated",
        "a server name of an unknown type",
        "several server names",
    }
)

Found = Hello | Incomplete | NotHello


def keep(data: bytes, cuts: Iterable[int]) -> None:
    """Every promise, for `data` and for what was there when reading was cut at each of `cuts`."""
    found = read_hello(data)
    _in_bounds(data, found)
    beginnings = [(data[:cut], read_hello(data[:cut])) for cut in sorted({*cuts, len(data)}) if cut <= len(data)]
    for beginning, earlier in beginnings:
        _in_bounds(beginning, earlier)
        if not isinstance(earlier, Incomplete):
            assert found == earlier, "what was said of the beginning stands"
    for (_, earlier), (more, later) in pairwise(beginnings):
        if isinstance(earlier, Incomplete) and isinstance(later, Incomplete):
            assert earlier.needed <= later.needed, "what is needed never becomes less"
        if isinstance(earlier, Incomplete) and isinstance(later, Hello):
            assert len(more) >= earlier.needed, "nothing is read before what was needed is there"
    end = _by_the_hints(data, found)
    if isinstance(found, Hello):
        _whole(data, end, found)


def _in_bounds(data: bytes, found: Found) -> None:
    if isinstance(found, Incomplete):
        assert len(data) < found.needed <= LIMIT
    elif isinstance(found, NotHello):
        assert found.reason in REASONS
    elif found.server_name is not None:
        assert host_name(found.server_name.encode("ascii")) == found.server_name


def _by_the_hints(data: bytes, found: Found) -> int:
    """Whoever waits for as much as was asked for, each time, reads the same. How far that reading got."""
    have, reads = 0, 0
    while isinstance(step := read_hello(data[:have]), Incomplete) and step.needed <= len(data):
        have, reads = step.needed, reads + 1
    # What was refused already may be waited on a little longer; what is whole is not.
    assert step == found or (isinstance(step, Incomplete) and not isinstance(found, Hello))
    # A record brings at least a byte of the message, its header and its content are waited for apart.
    assert reads <= 1 + have // 3
    return have


def _whole(data: bytes, end: int, found: Hello) -> None:
    assert isinstance(read_hello(data[: end - 1]), Incomplete), "the end that was waited for is the end"
    assert read_hello(data[:end]) == read_hello(data[:end] + b"\x17\x03\x03\0\1x") == found, "what follows is not seen"
    message = message_of(data[:end])
    for size in (len(message), len(message) // 2 + 1, max(1, len(message) // 40)):
        again = in_records(message, size)
        if len(again) <= LIMIT:
            assert read_hello(again) == found, "records may be cut anywhere"
    assert read_hello(in_records(hello_of(found))) == found, "what was understood, written anew, is read back"
    for name in names_for_openssl(data[:end]):
        assert (None if name is None else host_name(name.encode("ascii"))) == found.server_name, "OpenSSL agrees"


def message_of(records: bytes) -> bytes:
    """The handshake message that is in whole records."""
    message = b""
    while records:
        end = 5 + int.from_bytes(records[3:5], "big")
        message, records = message + records[5:end], records[end:]
    return message


def in_records(message: bytes, size: int = LIMIT) -> bytes:
    pieces = [message[place : place + size] for place in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + vector(2, piece) for piece in pieces)


def vector(size: int, content: bytes) -> bytes:
    return len(content).to_bytes(size, "big") + content


def hello_of(hello: Hello) -> bytes:
    """A message that asks for just this."""
    extensions = b"\0\x2b" + vector(2, vector(1, b"".join(each.to_bytes(2, "big") for each in hello.versions)))
    if hello.server_name is not None:
        extensions += b"\0\0" + vector(2, vector(2, b"\0" + vector(2, hello.server_name.encode("ascii"))))
    if hello.alpn:
        extensions += b"\0\x10" + vector(2, vector(2, b"".join(vector(1, each) for each in hello.alpn)))
    if hello.ech:
        extensions += b"\xfe\x0d" + vector(2, b"")
    return with_extensions(extensions)


def with_extensions(block: bytes) -> bytes:
    """A message with these extensions, whatever they are."""
    return b"\1" + vector(3, b"\3\3" + bytes(32) + b"\0" + b"\0\2\x13\1" + b"\1\0" + vector(2, block))


_heard: list[str | None] = []
_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
_server.sni_callback = lambda connection, name, context: _heard.append(name)


def names_for_openssl(data: bytes) -> list[str | None]:
    """The name that OpenSSL reads, one at most: none where it refuses before it looks at names."""
    _heard.clear()
    incoming = ssl.MemoryBIO()
    incoming.write(data)
    connection = _server.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True)
    # A name that is not ASCII never reaches the callback; Python says so there.
    hook, sys.unraisablehook = sys.unraisablehook, _pass_over
    try:
        connection.do_handshake()
    except ssl.SSLError:
        pass
    finally:
        sys.unraisablehook = hook
    return list(_heard)


def _pass_over(_: Any) -> None:
    """Says nothing."""
