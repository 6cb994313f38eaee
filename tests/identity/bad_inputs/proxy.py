"""PROXY headers that are not to be believed: from a trusted proxy, and from whoever else says what one says."""

from collections.abc import Callable
from ipaddress import ip_address

from proxy.wire.proxy_header import AUTHORITY, CRC32C, SIGNATURE, SSL, UNIQUE_ID, proxy_header, proxy_line
from tests.identity.bad_inputs.table import Row, Table, rows
from tests.identity.house import PROXY, STRANGER

REQUEST = b"GET / HTTP/1.1\r\nHost: storage.example\r\n\r\n"
# In mainland China, by the registries: the one home whose provider a forged header would want to reach, or to miss.
CLIENT = ip_address("114.114.114.114"), 51000
EDGE = ip_address("192.0.2.1"), 443
LINE = proxy_line(CLIENT, EDGE)
SOUND = proxy_header(CLIENT, EDGE)
BLOCK = SOUND[16:28]

LOCATION = "  sources: [{location: {}}]\n"
LISTENERS = (
    '  - {name: behind, bind: "127.0.0.1:0", proxy_protocol: required}\n'
    '  - {name: mixed, bind: "127.0.0.1:0", proxy_protocol: optional}'
)


def binary(command: int = 0x21, family: int = 0x11, content: bytes = BLOCK, length: int | None = None) -> bytes:
    size = len(content) if length is None else length
    return SIGNATURE + bytes([command, family]) + size.to_bytes(2, "big") + content


def tlv(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + len(value).to_bytes(2, "big") + value


MALFORMED: dict[str, bytes] = {
    "no header": b"",
    "a hello": b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
    "an empty line first": b"\r\n" + LINE,
    "lower case": LINE.lower(),
    "two spaces": LINE.replace(b" ", b"  ", 1),
    "a tab": LINE.replace(b" ", b"\t", 1),
    "a space at the end": LINE.replace(b"\r\n", b" \r\n"),
    "a line feed alone": LINE.replace(b"\r\n", b"\n"),
    "a carriage return alone": LINE.replace(b"\r\n", b"\r"),
    "another protocol": LINE.replace(b"TCP4", b"UDP4"),
    "another family": LINE.replace(b"TCP4", b"TCP6"),
    "a leading zero": LINE.replace(b"114.114.114.114", b"114.114.114.014"),
    "a number for an address": LINE.replace(b"114.114.114.114", b"1920103026"),
    "three parts": LINE.replace(b"114.114.114.114", b"114.114.114"),
    "a name": LINE.replace(b"114.114.114.114", b"a.example"),
    "a scope": b"PROXY TCP6 fe80::1%eth0 2001:db8::1 1 2\r\n",
    "a port too high": LINE.replace(b"51000", b"65536"),
    "a port with a zero": LINE.replace(b"51000", b"051000"),
    "a signed port": LINE.replace(b"51000", b"+51000"),
    "no ports": b"PROXY TCP4 114.114.114.114 192.0.2.1\r\n",
    "a word more": LINE.replace(b"\r\n", b" 1\r\n"),
    "a line too long": b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
    "version 1 in binary": binary(command=0x11),
    "version 3": binary(command=0x31),
    "an unknown command": binary(command=0x22),
    "an unknown family": binary(family=0x41),
    "an unknown protocol": binary(family=0x13),
    "addresses cut short": binary(content=BLOCK[:11]),
    "addresses of another family": binary(family=0x21),
    "more than is read": binary(length=0xFFFF),
    "a field cut in its length": binary(content=BLOCK + b"\2\0"),
    "a field longer than the header": binary(content=BLOCK + b"\2\0\x09a"),
    "a field twice": binary(content=BLOCK + tlv(AUTHORITY, b"a") * 2),
    "an id too long": binary(content=BLOCK + tlv(UNIQUE_ID, bytes(129))),
    "a TLS field too short": binary(content=BLOCK + tlv(SSL, bytes(4))),
    "a TLS field that disagrees": binary(content=BLOCK + tlv(SSL, bytes(5) + b"\x22\0\x09a")),
    "a wrong checksum": SOUND[:-1] + bytes([SOUND[-1] ^ 1]),
    "an address changed under the checksum": SOUND[:16] + b"\x08\x08\x08\x08" + SOUND[20:],
    "a checksum of three bytes": binary(content=BLOCK + tlv(CRC32C, bytes(3))),
    "a second header": LINE.replace(b"\r\n", b"\r\n" + LINE, 1),
}


def sent(header: bytes) -> Callable[[], bytes]:
    return lambda: header + REQUEST


# What is behind a good header is the client's: there a second one is a malformed request.
ROWS = rows(0, {name: sent(header) for name, header in MALFORMED.items()}) | {
    "a second header": Row(sent(MALFORMED["a second header"]), 400)
}
# Where it may be left out, what is no header is the request itself.
MIXED = {
    name: Row(row.data, 400 if name in ("an empty line first", "lower case", "a tab", "a second header") else 0)
    for name, row in ROWS.items()
    if name not in ("no header", "a hello")
} | {"a hello": Row(sent(MALFORMED["a hello"]), 400)}

TABLES = [
    Table("PROXY headers", LOCATION, sent(SOUND), ROWS, more=LISTENERS, listener="behind", source=PROXY),
    Table(
        "PROXY headers that may be left out",
        LOCATION,
        sent(LINE),
        MIXED,
        more=LISTENERS,
        listener="mixed",
        source=PROXY,
    ),
    # A stranger's header is not one, however sound.
    Table(
        "PROXY headers of strangers",
        LOCATION,
        sent(b""),
        rows(400, {"a line": sent(LINE), "a binary one": sent(SOUND), "a local one": sent(binary(0x20, 0, b""))}),
        more=LISTENERS,
        listener="mixed",
        source=STRANGER,
    ),
    Table(
        "PROXY headers where none is due",
        LOCATION,
        sent(b""),
        rows(400, {"a line": sent(LINE), "a binary one": sent(SOUND), "a local one": sent(binary(0x20, 0, b""))}),
        source=PROXY,
    ),
]
