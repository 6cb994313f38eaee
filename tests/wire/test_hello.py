"""The ClientHello reader: real hellos, every split of them, what must be refused, and noise."""

import ssl
import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.wire.hello import LIMIT, Hello, Incomplete, NotHello, host_name, read_hello
from tests.wire.hello_promises import keep, vector, with_extensions


def real_hello(
    name: str | None = "edge.example",
    maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    alpn: tuple[str, ...] = ("h2", "http/1.1"),
) -> bytes:
    """What OpenSSL sends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = maximum
    if alpn:
        context.set_alpn_protocols(list(alpn))
    out = ssl.MemoryBIO()
    connection = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return out.read()


def extension(kind: int, content: bytes) -> bytes:
    return struct.pack("!H", kind) + vector(2, content)


def sni(name: bytes) -> bytes:
    return extension(0, vector(2, b"\0" + vector(2, name)))


def body(
    extensions: bytes | None = b"",
    version: int = 0x0303,
    session: bytes = b"s" * 32,
    ciphers: bytes = b"\x13\x01",
    compression: bytes = b"\0",
) -> bytes:
    block = b"" if extensions is None else vector(2, extensions)
    return (
        struct.pack("!H", version)
        + b"r" * 32
        + vector(1, session)
        + vector(2, ciphers)
        + vector(1, compression)
        + block
    )


def records(message: bytes, cut: int = LIMIT) -> bytes:
    pieces = [message[i : i + cut] for i in range(0, len(message), cut)]
    return b"".join(b"\x16\x03\x01" + vector(2, piece) for piece in pieces)


def wire(content: bytes, cut: int = LIMIT) -> bytes:
    return records(b"\x01" + vector(3, content), cut)


REAL = {
    "tls 1.3": (real_hello(), Hello("edge.example", (b"h2", b"http/1.1"), False, (0x0304, 0x0303))),
    "tls 1.2": (
        real_hello(maximum=ssl.TLSVersion.TLSv1_2),
        Hello("edge.example", (b"h2", b"http/1.1"), False, (0x0303,)),
    ),
    "no name": (real_hello(name=None, alpn=()), Hello(None, (), False, (0x0304, 0x0303))),
    "no name, tls 1.2": (
        real_hello(name=None, alpn=(), maximum=ssl.TLSVersion.TLSv1_2),
        Hello(None, (), False, (0x0303,)),
    ),
}


@pytest.mark.parametrize(("data", "expected"), REAL.values(), ids=REAL)
def test_reads_real_hellos(data: bytes, expected: Hello) -> None:
    assert read_hello(data) == expected


@pytest.mark.parametrize(("data", "expected"), REAL.values(), ids=REAL)
def test_every_prefix_asks_for_more_and_never_for_more_than_comes(data: bytes, expected: Hello) -> None:
    for size in range(len(data)):
        found = read_hello(data[:size])
        assert isinstance(found, Incomplete), size
        assert size < found.needed <= len(data)
    assert read_hello(data + b"\x17\x03\x03\x00\x01x") == expected, "early data follows"


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 5, 7, 50, 100])
def test_a_message_in_many_records(cut: int) -> None:
    data = wire(body(sni(b"edge.example")), cut)
    for size in range(len(data)):
        found = read_hello(data[:size])
        assert isinstance(found, Incomplete), size
        assert size < found.needed <= len(data)
    assert read_hello(data) == Hello("edge.example", (), False, (0x0303,))


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_records_cut_anywhere_read_the_same(data: st.DataObject) -> None:
    message = REAL["tls 1.3"][0][5:]
    cuts = sorted(data.draw(st.sets(st.integers(1, len(message) - 1), max_size=12)))
    pieces = [message[a:b] for a, b in zip([0, *cuts], [*cuts, len(message)], strict=True)]
    assert read_hello(b"".join(map(records, pieces))) == REAL["tls 1.3"][1]


def test_following_the_hint_takes_few_reads() -> None:
    data = REAL["tls 1.3"][0]
    have, reads = 0, 0
    while isinstance(found := read_hello(data[:have]), Incomplete):
        have, reads = found.needed, reads + 1
    assert reads == 2, "the two headers, then the rest"


@pytest.mark.parametrize(
    ("extensions", "expected"),
    [
        (None, Hello(None, (), False, (0x0303,))),
        (b"", Hello(None, (), False, (0x0303,))),
        (extension(0xFE0D, b"x" * 200) + sni(b"outer.example"), Hello("outer.example", (), True, (0x0303,))),
        (extension(43, vector(1, b"\x7a\x7a\x03\x04")), Hello(None, (), False, (0x7A7A, 0x0304))),
        (extension(16, vector(2, vector(1, b"http/1.1"))), Hello(None, (b"http/1.1",), False, (0x0303,))),
        (extension(0x1A1A, b"") + extension(0x2A2A, b"\0"), Hello(None, (), False, (0x0303,))),
    ],
)
def test_extensions(extensions: bytes | None, expected: Hello) -> None:
    assert read_hello(wire(body(extensions))) == expected


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        (b"Edge.EXAMPLE", "edge.example"),
        (b"edge.example.", "edge.example"),
        (b"xn--fiqs8s", "xn--fiqs8s"),
        (b"a_b.example", "a_b.example"),
        (b"1.example", "1.example"),
        (b"edge.example..", None),
        (b".edge.example", None),
        (b"edge..example", None),
        (b".", None),
        (b"192.0.2.1", None),
        (b"2130706433", None),
        (b"0177.1", None),
        (b"0x7f.0x1", None),
        (b"2001:db8::1", None),
        (b"[2001:db8::1]", None),
        (b"edge.example:443", None),
        (b"edge.example\0", None),
        (b"edge example", None),
        (b"-edge.example", None),
        (b"edge-.example", None),
        (b"*.example", None),
        ("bücher.example".encode(), None),
        (b"edge.example\n", None),
        (b"a" * 63 + b".example", "a" * 63 + ".example"),
        (b"a" * 64 + b".example", None),
        (b"a." * 126 + b"a", "a." * 126 + "a"),
        (b"a." * 127 + b"a", None),
    ],
)
def test_server_names(sent: bytes, name: str | None) -> None:
    found = read_hello(wire(body(sni(sent))))
    assert isinstance(found, Hello)
    assert found.server_name == name
    assert host_name(sent) == name


WRONG = {
    "plain http": b"GET / HTTP/1.1\r\n",
    "one byte of http": b"G",
    "sslv2": b"\x80\x2e\x01\x03\x01",
    "an alert": b"\x15\x03\x01\x00\x02\x01\x00",
    "record version": b"\x16\x02",
    "empty record": b"\x16\x03\x01\x00\x00",
    "record too long": b"\x16\x03\x01\x40\x01",
    "server hello": b"\x16\x03\x01\x00\x05\x02",
    "message too long": b"\x16\x03\x01\x00\x05\x01\x00\x40\x00",
    "message of 16 MiB": b"\x16\x03\x01\x00\x05\x01\xff\xff\xff",
    "second record is not handshake": wire(body(), 40)[:45] + b"\x17",
    "second message in the record": records(b"\x01" + vector(3, body()) + b"\x01"),
    "duplicate extension": wire(body(sni(b"a.example") + sni(b"b.example"))),
    "duplicate unknown extension": wire(body(extension(9999, b"") * 2)),
    "bytes after the extensions": wire(body() + b"\0"),
    "extensions longer than the message": wire(body(None) + b"\x00\x05\x00"),
    "half an extension": wire(body(b"\x00")),
    "extension longer than the block": wire(body(b"\x00\x00\x00\x09\x00")),
    "long session": wire(body(session=b"s" * 33)),
    "no cipher": wire(body(ciphers=b"")),
    "odd ciphers": wire(body(ciphers=b"\x13\x01\x13")),
    "no compression": wire(body(compression=b"")),
    "cut": wire(body()[:20]),
    "empty": wire(b""),
    "empty server name extension": wire(body(extension(0, b""))),
    "empty server name list": wire(body(extension(0, b"\0\0"))),
    "empty server name": wire(body(sni(b""))),
    "two server names": wire(body(extension(0, vector(2, (b"\0" + vector(2, b"a.example")) * 2)))),
    "unknown name type": wire(body(extension(0, vector(2, b"\1" + vector(2, b"a.example"))))),
    "bytes after the names": wire(body(extension(0, vector(2, b"\0" + vector(2, b"a.example")) + b"\0"))),
    "empty alpn": wire(body(extension(16, b"\0\0"))),
    "empty protocol": wire(body(extension(16, vector(2, b"\0\0")))),
    "bytes after alpn": wire(body(extension(16, vector(2, vector(1, b"h2")) + b"\0"))),
    "odd versions": wire(body(extension(43, vector(1, b"\x03\x04\x03")))),
    "no versions": wire(body(extension(43, vector(1, b"")))),
    "bytes after versions": wire(body(extension(43, vector(1, b"\x03\x04") + b"\0"))),
}


@pytest.mark.parametrize("data", WRONG.values(), ids=WRONG)
def test_refused(data: bytes) -> None:
    assert isinstance(read_hello(data), NotHello)


@pytest.mark.parametrize("padding", [15_000, LIMIT - 9 - len(body()) - 4])
def test_a_large_hello_within_the_limit(padding: int) -> None:
    data = wire(body(extension(21, b"\0" * padding)))
    assert len(data) <= LIMIT
    assert read_hello(data) == Hello(None, (), False, (0x0303,))


def test_a_hello_past_the_limit_is_refused_as_soon_as_its_length_is_known() -> None:
    data = wire(body(extension(21, b"\0" * (LIMIT - 9 - len(body()) - 3))))
    assert len(data) == LIMIT + 1
    assert isinstance(read_hello(data), NotHello)
    assert isinstance(read_hello(data[:9]), NotHello)


def test_a_hello_in_too_many_records_is_refused() -> None:
    data = wire(body(extension(21, b"\0" * 3000)), 1)
    assert len(data) > LIMIT
    assert isinstance(read_hello(data), NotHello)


def test_reasons_quote_nothing() -> None:
    for data in (*WRONG.values(), wire(body(sni(b"private.example") * 2))):
        found = read_hello(data)
        assert isinstance(found, NotHello)
        assert "private" not in found.reason


cuts = st.sets(st.integers(0, 700), max_size=12)


@given(st.binary(max_size=400), cuts)
@settings(deadline=None)
@example(b"\x16\x03\x01", set())
def test_noise_is_judged(data: bytes, cuts: set[int]) -> None:
    for prefix in (b"", b"\x16\x03\x01", b"\x16\x03\x01\x00\x30\x01\x00\x00\x2c"):
        keep(prefix + data, cuts)
    keep(records(with_extensions(data)), cuts)


blocks = st.lists(
    st.one_of(
        st.binary(max_size=40).map(sni),
        st.lists(st.binary(min_size=1, max_size=9), max_size=4).map(
            lambda each: extension(16, vector(2, b"".join(vector(1, one) for one in each)))
        ),
        st.lists(st.binary(min_size=2, max_size=2), max_size=4).map(
            lambda each: extension(43, vector(1, b"".join(each)))
        ),
        st.tuples(st.sampled_from([0, 16, 43, 0xFE0D, 0x1A1A]), st.binary(max_size=20)).map(
            lambda each: extension(*each)
        ),
    ),
    max_size=5,
).map(b"".join)


@given(blocks, cuts)
@settings(max_examples=300, deadline=None)
def test_extensions_of_every_kind_are_judged(block: bytes, cuts: set[int]) -> None:
    keep(records(with_extensions(block)), cuts)


@given(st.data(), cuts)
@settings(max_examples=300, deadline=None)
def test_changed_anywhere_every_promise_is_kept(data: st.DataObject, cuts: set[int]) -> None:
    hello = bytearray(data.draw(st.sampled_from([entry[0] for entry in REAL.values()])))
    for position, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(hello) - 1), st.integers(0, 255)), max_size=6)
    ):
        hello[position] = value
    start = data.draw(st.integers(0, len(hello)))
    gone = data.draw(st.integers(0, 20))
    del hello[start : start + gone]
    keep(bytes(hello), cuts)
