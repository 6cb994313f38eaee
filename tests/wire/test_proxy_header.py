"""PROXY headers of both versions: what is read, what is refused, and never a byte too far."""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from proxy.policy.facts import Address
from proxy.wire.proxy_header import (
    ALPN,
    AUTHORITY,
    CRC32C,
    LIMIT,
    LONGEST_LINE,
    NOOP,
    SIGNATURE,
    SSL,
    UNIQUE_ID,
    Absent,
    Fields,
    Header,
    Incomplete,
    Malformed,
    crc32c,
    proxy_header,
    proxy_line,
    read_proxy_header,
)
from tests.wire.header_promises import keep, with_fields

HERE = ip_address("192.0.2.1"), 51000
THERE = ip_address("198.51.100.2"), 443
HERE6 = ip_address("2001:db8::1"), 51000
THERE6 = ip_address("2001:db8::2"), 443
BEHIND = b"GET / HTTP/1.1\r\n"


def binary(command: int = 0x21, family: int = 0x11, content: bytes | None = None, length: int | None = None) -> bytes:
    """A version 2 header by its parts; without content, the IPv4 one of HERE and THERE."""
    if content is None:
        content = HERE[0].packed + THERE[0].packed + bytes([0xC7, 0x38, 0x01, 0xBB])
    size = len(content) if length is None else length
    return SIGNATURE + bytes([command, family]) + size.to_bytes(2, "big") + content


BLOCK = binary()[16:]


def tlv(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + len(value).to_bytes(2, "big") + value


LINES = {
    b"PROXY TCP4 192.0.2.1 198.51.100.2 51000 443\r\n": (HERE, THERE),
    b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n": (
        (ip_address("255.255.255.255"), 65535),
        (ip_address("255.255.255.255"), 65535),
    ),
    b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n": ((ip_address("0.0.0.0"), 0), (ip_address("0.0.0.0"), 0)),
    b"PROXY TCP6 2001:db8::1 2001:DB8::2 51000 443\r\n": (HERE6, THERE6),
    b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n": ((ip_address("::ffff:192.0.2.1"), 1), (ip_address("::1"), 2)),
    b"PROXY TCP6 %b %b 65535 65535\r\n" % ((b"ffff:" * 7 + b"ffff",) * 2): (
        (ip_address("ffff:" * 7 + "ffff"), 65535),
        (ip_address("ffff:" * 7 + "ffff"), 65535),
    ),
    b"PROXY UNKNOWN\r\n": None,
    b"PROXY UNKNOWN \r\n": None,
    b"PROXY UNKNOWN ffff::1 what ever\0 it is\r\n": None,
    b"PROXY UNKNOWN %b %b 65535 65535\r\n" % ((b"ffff:" * 7 + b"ffff",) * 2): None,
}


@pytest.mark.parametrize("line", LINES)
def test_lines(line: bytes) -> None:
    source, destination = LINES[line] or (None, None)
    assert read_proxy_header(line + BEHIND) == Header(len(line), 1, source, destination)


def test_the_longest_line_is_the_longest() -> None:
    # The specification's own count: it is an UNKNOWN with two full IPv6 addresses.
    assert max(map(len, LINES)) == LONGEST_LINE


BINARIES = {
    "TCP over IPv4": (binary(), HERE, THERE, False),
    "UDP over IPv4": (binary(family=0x12), HERE, THERE, False),
    "TCP over IPv6": (
        binary(family=0x21, content=HERE6[0].packed + THERE6[0].packed + BLOCK[-4:]),
        HERE6,
        THERE6,
        False,
    ),
    "UDP over IPv6": (
        binary(family=0x22, content=HERE6[0].packed + THERE6[0].packed + BLOCK[-4:]),
        HERE6,
        THERE6,
        False,
    ),
    "a Unix stream": (binary(family=0x31, content=bytes(216)), None, None, False),
    "a Unix datagram": (binary(family=0x32, content=b"/x" * 108), None, None, False),
    "unspecified": (binary(family=0x00, content=b""), None, None, False),
    "local": (binary(command=0x20, family=0x00, content=b""), None, None, True),
    "local with addresses": (binary(command=0x20), None, None, True),
    "local of any family": (binary(command=0x20, family=0xFF, content=b"\1\2"), None, None, True),
    "local with what reads as a wrong checksum": (
        binary(command=0x20, family=0x00, content=tlv(CRC32C, b"\1\2\3\4")),
        None,
        None,
        True,
    ),
    "a loopback of IPv6, and not 0.0.0.1": (
        binary(family=0x21, content=IPv6Address("::1").packed * 2 + bytes(4)),
        (IPv6Address("::1"), 0),
        (IPv6Address("::1"), 0),
        False,
    ),
}


@pytest.mark.parametrize("name", BINARIES)
def test_binaries(name: str) -> None:
    header, source, destination, local = BINARIES[name]
    assert read_proxy_header(header + BEHIND) == Header(len(header), 2, source, destination, local)


MALFORMED = {
    # version 1
    b"PROXY \r\n": "not a line of version 1",
    b"PROXY UNKNOWNS\r\n": "not a line of version 1",
    b"PROXY  TCP4 192.0.2.1 198.51.100.2 51000 443\r\n": "not a line of version 1",
    b"PROXY tcp4 192.0.2.1 198.51.100.2 51000 443\r\n": "not a line of version 1",
    b"PROXY TCP4\t192.0.2.1 198.51.100.2 51000 443\r\n": "not a line of version 1",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 51000 443 \r\n": "not a line of version 1",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 51000\r\n": "not a line of version 1",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 51000 443 1\r\n": "not a line of version 1",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 051000 443\r\n": "not a line of version 1",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 +1 443\r\n": "not a line of version 1",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 -1 443\r\n": "not a line of version 1",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 0x1 443\r\n": "not a line of version 1",
    b"PROXY TCP4 2001:db8::1 2001:db8::2 51000 443\r\n": "not a line of version 1",
    b"PROXY TCP6 2001:db8::1%eth0 2001:db8::2 51000 443\r\n": "not a line of version 1",
    b"PROXY TCP6 [2001:db8::1] 2001:db8::2 51000 443\r\n": "not a line of version 1",
    b"PROXY UDP4 192.0.2.1 198.51.100.2 51000 443\r\n": "not a line of version 1",
    b"PROXY UNIX /a /b\r\n": "not a line of version 1",
    b"PROXY TCP4 192.0.2.1, 198.51.100.2 51000 443\r\n": "not a line of version 1",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 99999 443\r\n": "a port out of bounds",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 51000 65536\r\n": "a port out of bounds",
    b"PROXY TCP4 192.0.2.01 198.51.100.2 51000 443\r\n": "not an address",
    b"PROXY TCP4 192.0.2.256 198.51.100.2 51000 443\r\n": "not an address",
    b"PROXY TCP4 192.0.2.1.5 198.51.100.2 51000 443\r\n": "not an address",
    b"PROXY TCP4 3221225985 198.51.100.2 51000 443\r\n": "not an address",
    b"PROXY TCP4 192.0.2.1 1234567 51000 443\r\n": "not an address",
    b"PROXY TCP6 192.0.2.1 192.0.2.2 51000 443\r\n": "not an address",
    b"PROXY TCP6 2001:db8:::1 2001:db8::2 51000 443\r\n": "not an address",
    b"PROXY TCP6 2001:db8::1 ::ffff:192.0.2.01 51000 443\r\n": "not an address",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 51000 443\nGET / HTTP/1.1\r\n": "a line feed alone",
    b"PROXY UNKNOWN\nGET / HTTP/1.1\r\n": "a line feed alone",
    b"PROXY UNKNOWN\rGET / HTTP/1.1\r\n": "a carriage return alone",
    b"PROXY UNKNOWN\r\r\n": "a carriage return alone",
    b"PROXY / HTTP/1.1\r\n": "not a line of version 1",
    b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n": "the line is too long",
    b"PROXY UNKNOWN " + b"x" * 93: "the line is too long",
    # version 2
    binary(command=0x11): "an unknown version",
    binary(command=0x31): "an unknown version",
    binary(command=0x01): "an unknown version",
    binary(command=0x22): "an unknown command",
    binary(command=0x2F): "an unknown command",
    binary(family=0x01): "an unknown family or protocol",
    binary(family=0x10): "an unknown family or protocol",
    binary(family=0x13): "an unknown family or protocol",
    binary(family=0x41): "an unknown family or protocol",
    binary(family=0xFF): "an unknown family or protocol",
    binary(length=11): "lengths disagree",
    binary(content=b""): "lengths disagree",
    binary(family=0x21): "lengths disagree",
    binary(family=0x31): "lengths disagree",
    binary(length=LIMIT - 16 + 1): "the header is too large",
    binary(length=0xFFFF): "the header is too large",
    binary(command=0x20, length=0xFFFF): "the header is too large",
    binary(content=BLOCK + b"\4"): "lengths disagree",
    binary(content=BLOCK + b"\4\0"): "lengths disagree",
    binary(content=BLOCK + b"\4\0\1"): "lengths disagree",
    binary(content=BLOCK + tlv(NOOP, b"") + b"\4\xff\xffxx"): "lengths disagree",
    binary(content=BLOCK + tlv(CRC32C, b"")): "lengths disagree",
    binary(content=BLOCK + tlv(CRC32C, bytes(3))): "lengths disagree",
    binary(content=BLOCK + tlv(CRC32C, bytes(5))): "lengths disagree",
    binary(content=BLOCK + tlv(CRC32C, bytes(4))): "the checksum is wrong",
    binary(content=BLOCK + tlv(SSL, bytes(4))): "lengths disagree",
    binary(content=BLOCK + tlv(SSL, bytes(5) + b"\x21")): "lengths disagree",
    binary(content=BLOCK + tlv(SSL, bytes(5) + b"\x21\0\x09TLSv1.3")): "lengths disagree",
    binary(content=BLOCK + tlv(UNIQUE_ID, bytes(129))): "the unique id is too long",
    binary(content=BLOCK + tlv(AUTHORITY, b"a") * 2): "a field is repeated",
    binary(content=BLOCK + tlv(SSL, bytes(5)) * 2): "a field is repeated",
}


@pytest.mark.parametrize("data", MALFORMED)
def test_malformed(data: bytes) -> None:
    assert read_proxy_header(data) == Malformed(MALFORMED[data])


def test_a_second_checksum_is_refused_though_the_first_is_right() -> None:
    whole = proxy_header(HERE, THERE, checksum=False)
    content = whole[16:] + tlv(CRC32C, bytes(4)) + tlv(CRC32C, bytes(4))
    head = SIGNATURE + b"\x21\x11" + len(content).to_bytes(2, "big")
    right = crc32c(head + content).to_bytes(4, "big")
    content = whole[16:] + tlv(CRC32C, right) + tlv(CRC32C, bytes(4))
    assert read_proxy_header(head + content) == Malformed("a field is repeated")


ABSENT = [
    b"G",
    b"GET / HTTP/1.1\r\n",
    b"PUT / HTTP/1.1\r\n",
    b"PROPFIND / HTTP/1.1\r\n",
    b"PROXYING",
    b"proxy UNKNOWN\r\n",
    b" PROXY UNKNOWN\r\n",
    b"\r\nPROXY UNKNOWN\r\n",
    b"\r\nGET / HTTP/1.1\r\n",
    b"\r\n\r\nGET",
    b"\x16\x03\x01\x02\0\1",
    b"\0",
    b"\n",
    b"PROXY\tUNKNOWN",
    SIGNATURE[:-1] + b"\r",
]


@pytest.mark.parametrize("data", ABSENT)
def test_absent(data: bytes) -> None:
    assert read_proxy_header(data) == Absent()


def test_the_checksum_is_the_one_of_the_rfc() -> None:
    # RFC 3720 appendix B.4, and the usual check value.
    assert crc32c(b"") == 0
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


def test_fields_are_kept_as_they_are() -> None:
    tls = b"\7" + bytes(4) + tlv(0x21, b"TLSv1.3") + tlv(0x22, b"someone")
    fields: Fields = ((ALPN, b"http/1.1"), (AUTHORITY, b"a.example"), (UNIQUE_ID, bytes(128)), (SSL, tls), (0xEA, b""))
    header = proxy_header(HERE, THERE, fields)
    found = read_proxy_header(header + BEHIND)
    assert isinstance(found, Header)
    assert found.fields[:-1] == fields
    assert found.fields[-1][0] == CRC32C
    assert found.tls is not None
    assert (found.tls.client, found.tls.verify) == (7, 0)
    assert found.tls.fields == ((0x21, b"TLSv1.3"), (0x22, b"someone"))
    for secret in ("192.0.2.1", "someone", "a.example", "TLSv1.3"):
        assert secret not in repr(found)


def test_padding_may_be_repeated() -> None:
    header = proxy_header(HERE, THERE, ((NOOP, b""), (NOOP, bytes(9))), checksum=False)
    assert read_proxy_header(header) == Header(len(header), 2, HERE, THERE, fields=((NOOP, b""), (NOOP, bytes(9))))


def test_the_largest_is_read_and_one_more_is_not_written() -> None:
    room = LIMIT - 16 - 12 - 7 - 3
    header = proxy_header(HERE, THERE, ((NOOP, bytes(room)),))
    assert len(header) == LIMIT
    assert isinstance(read_proxy_header(header), Header)
    with pytest.raises(ValueError, match="too large"):
        proxy_header(HERE, THERE, ((NOOP, bytes(room + 1)),))


def test_what_is_not_known_is_written_as_that() -> None:
    assert proxy_line(None, THERE) == b"PROXY UNKNOWN\r\n"
    assert read_proxy_header(proxy_header(None, None, checksum=False)) == Header(16, 2)
    assert read_proxy_header(proxy_header(HERE, THERE, local=True, checksum=False)) == Header(16, 2, local=True)


places = st.tuples(st.ip_addresses(), st.integers(0, 0xFFFF))
own_fields = st.lists(
    st.tuples(st.sampled_from([ALPN, AUTHORITY, UNIQUE_ID, 0xE0, 0xEF]), st.binary(max_size=60)),
    max_size=4,
    unique_by=lambda each: each[0],
)


def as_written(one: Address, other: Address) -> tuple[Address, Address]:
    def six(address: Address) -> Address:
        return IPv6Address(f"::ffff:{address}") if isinstance(address, IPv4Address) else address

    return (one, other) if one.version == other.version == 4 else (six(one), six(other))


@given(source=places, destination=places, fields=own_fields, checksum=st.booleans())
@settings(max_examples=100)
def test_what_is_written_is_read_whatever_follows(
    source: tuple[Address, int],
    destination: tuple[Address, int],
    fields: list[tuple[int, bytes]],
    checksum: bool,
) -> None:
    one, other = as_written(source[0], destination[0])
    ends = (one, source[1]), (other, destination[1])
    line = proxy_line(source, destination)
    assert read_proxy_header(line + BEHIND) == Header(len(line), 1, *ends)
    header = proxy_header(source, destination, tuple(fields), checksum=checksum)
    found = read_proxy_header(header + BEHIND)
    assert isinstance(found, Header)
    assert (found.length, found.source, found.destination) == (len(header), *ends)
    assert found.fields[: len(fields)] == tuple(fields)


def samples() -> Iterator[bytes]:
    yield from LINES
    yield from (header for header, *_ in BINARIES.values())
    yield proxy_header(HERE, THERE, ((AUTHORITY, b"a.example"), (SSL, bytes(5) + tlv(0x21, b"TLSv1.2"))))
    yield proxy_header(HERE6, THERE6, ((UNIQUE_ID, bytes(128)),))


SAMPLES = list(samples())

cuts = st.sets(st.integers(0, 300), max_size=12)


@pytest.mark.parametrize("header", SAMPLES, ids=range(len(SAMPLES)))
def test_cut_anywhere_it_waits_for_no_more_than_there_will_be(header: bytes) -> None:
    for end in range(len(header)):
        found = read_proxy_header(header[:end])
        assert isinstance(found, Incomplete), end
        assert end < found.needed <= LIMIT
        # What is waited for comes: with no more than the header the wait has an end.
        assert found.needed <= len(header), end


@given(
    header=st.sampled_from(SAMPLES),
    place=st.integers(0, 300),
    put=st.binary(max_size=3),
    taken=st.integers(0, 3),
    cuts=cuts,
)
@settings(max_examples=400)
def test_changed_anywhere_every_promise_is_kept(
    header: bytes, place: int, put: bytes, taken: int, cuts: set[int]
) -> None:
    keep(header[:place] + put + header[place + taken :], cuts)


@given(
    header=st.sampled_from([each for each in SAMPLES if b"\3\0\4" in each]),
    place=st.integers(0, 400),
    bit=st.integers(0, 7),
)
@settings(max_examples=200)
def test_a_changed_bit_of_a_checked_header_is_never_believed(header: bytes, place: int, bit: int) -> None:
    place %= len(header)
    # A checksum that is no longer called one is not looked for: nobody has to send it.
    assume(header[place : place + 3] != b"\3\0\4")
    changed = header[:place] + bytes([header[place] ^ 1 << bit]) + header[place + 1 :]
    found = read_proxy_header(changed)
    # LOCAL alone has no checksum that is looked at; nothing of it is believed.
    assert not isinstance(found, Header) or found.source is None


@given(st.binary(max_size=200), cuts)
@settings(max_examples=200)
def test_noise_is_judged(noise: bytes, cuts: set[int]) -> None:
    for data in (noise, SIGNATURE + noise, SIGNATURE + b"\x21" + noise, b"PROXY " + noise, with_fields(noise)):
        keep(data, cuts)


@given(
    st.lists(st.tuples(st.sampled_from([ALPN, AUTHORITY, NOOP, UNIQUE_ID, SSL, 0xE0]), st.binary(max_size=20))), cuts
)
@settings(max_examples=200)
def test_fields_of_every_kind_are_judged(fields: list[tuple[int, bytes]], cuts: set[int]) -> None:
    keep(with_fields(b"".join(tlv(*field) for field in fields)), cuts)
