"""Where bodies end: by length, by chunks, by close; however their bytes are cut."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.wire.body import (
    EXTENSIONS_LIMIT,
    LAST_CHUNK,
    SIZE_LINE_LIMIT,
    TRAILER_LIMIT,
    Body,
    ChunkedBody,
    FramingError,
    LengthBody,
    UntilCloseBody,
    chunk,
)

WHOLE = [
    (b"0\r\n\r\n", b""),
    (b"000\r\n\r\n", b""),
    (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    (b"05\r\nhello\r\n0\r\n\r\n", b"hello"),
    (b"000000000000005\r\nhello\r\n0\r\n\r\n", b"hello"),
    (b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2),
    (b"1\r\n\r\r\n1\r\n\n\r\n2\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n"),
    (b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n"),
    # extensions, dropped
    (b"5;a\r\nhello\r\n0\r\n\r\n", b"hello"),
    (b"5;a=b;c\r\nhello\r\n0;x\r\n\r\n", b"hello"),
    (b'5;a="b;\\"\\\\ \t\xff"\r\nhello\r\n0\r\n\r\n', b"hello"),
    (b'5;a=""\r\nhello\r\n0\r\n\r\n', b"hello"),
    # trailers, dropped
    (b"5\r\nhello\r\n0\r\nX: y\r\n\r\n", b"hello"),
    (b"0\r\nX:\r\nx-checksum:\t\xff \r\n\r\n", b""),
    (b"0\r\nX-Content-Length: 5\r\nTransfer_Encoding: x\r\n\r\n", b""),
]


def read(body: Body, data: bytes, cuts: list[int]) -> tuple[bytes, bool, bytes] | str:
    """(payload, done, rest) of data fed in pieces, or the error. What comes after the end is the rest's."""
    payload, rest = b"", b""
    ends = [*sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    start = 0
    try:
        for end in ends:
            piece = data[start:end]
            start = end
            if body.done:
                rest += piece
            else:
                payload += body.feed(piece)
                rest += body.rest
    except FramingError:
        return "error"
    return payload, body.done, rest


@pytest.mark.parametrize(("data", "payload"), WHOLE, ids=range(len(WHOLE)))
@pytest.mark.parametrize("rest", [b"", b"GET / HTTP/1.1\r\n", b"\r\n", b"0\r\n\r\n", b"\x00"])
def test_chunks_are_read(data: bytes, payload: bytes, rest: bytes) -> None:
    assert read(ChunkedBody(), data + rest, []) == (payload, True, rest)
    assert read(ChunkedBody(), data + rest, list(range(len(data)))) == (payload, True, rest)


@pytest.mark.parametrize("data", [data for data, _ in WHOLE], ids=range(len(WHOLE)))
def test_chunks_that_end_early_are_not_whole(data: bytes) -> None:
    for end in range(len(data)):
        body = ChunkedBody()
        body.feed(data[:end])
        assert not body.done
        assert not body.finish()
    body = ChunkedBody()
    body.feed(data)
    assert body.finish()


BROKEN = [
    # bare LF, bare CR
    *(
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello\r\n0\n\r\n",
        b"5\r\nhello\r\n0\r\n\n",
        b"0\n\n",
        b"0\n\r\n",
    ),
    *(
        b"0\r\n\n",
        b"5\r\rhello\r\n0\r\n\r\n",
        b"5\rhello\r\n",
        b"5\r\nhello\r\r\n0\r\n\r\n",
        b"5\r\nhello\rX0\r\n\r\n",
        b"0\r\r\n",
    ),
    *(
        b"0\r\n\rX\n",
        b"0\r\n\r\rX\r\n\r\n",
        b"\n0\r\n\r\n",
        b"\r\n0\r\n\r\n",
        b"\r0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"0\r\nX: y\n\r\n",
    ),
    *(b"0\r\nX: y\n\n", b"0\r\nX: y\r\n\n", b"0\r\nX: y\rZ: z\r\n\r\n", b"0\r\nX: y\r\r\n\r\n"),
    # extensions: CR, LF, NUL, controls, none, blanks, unclosed
    *(
        b"5;a\nhello\r\n0\r\n\r\n",
        b"5;a\n\r\nhello\r\n",
        b"5;\n\r\nhello\r\n",
        b"5;a\rb\r\nhello\r\n",
        b"5;a\x00\r\nhello\r\n",
    ),
    *(
        b"5;\r\nhello\r\n",
        b"5;;a\r\nhello\r\n",
        b"5;a;\r\nhello\r\n",
        b"5;a=\r\nhello\r\n",
        b"5;=b\r\nhello\r\n",
        b"5 ;a\r\nhello\r\n",
        b"5; a\r\nhello\r\n",
    ),
    *(
        b"5;a =b\r\nhello\r\n",
        b"5;a= b\r\nhello\r\n",
        b"5;a b\r\nhello\r\n",
        b'5;a="b\r\nhello\r\n',
        b'5;a="b"c\r\nhello\r\n',
    ),
    *(
        b'5;a="\r\n"\r\nhello\r\n',
        b'5;a="\n"\r\nhello\r\n',
        b'5;a="\\\r\n"\r\nhello\r\n',
        b'5;a="\x00"\r\nhello\r\n',
        b'5;"a"\r\nhello\r\n',
    ),
    *(
        b"5;a\x7f\r\nhello\r\n",
        b"5,a\r\nhello\r\n",
        b"5;a,b\r\nhello\r\n",
        b"5;\xff\r\nhello\r\n",
        b"0;\n\r\n\r\n",
        b"0;a\n\r\n",
    ),
    # sizes: prefixes, signs, blanks, other digits, none, overflow
    *(
        b"0x5\r\nhello\r\n",
        b"0X5\r\nhello\r\n",
        b"x5\r\nhello\r\n",
        b"+5\r\nhello\r\n",
        b"-5\r\nhello\r\n",
        b"-0\r\n\r\n",
        b"+0\r\n\r\n",
    ),
    *(
        b" 5\r\nhello\r\n",
        b"5 \r\nhello\r\n",
        b"\t5\r\nhello\r\n",
        b"5\t\r\nhello\r\n",
        b"5_0\r\n",
        b"0_0\r\n\r\n",
        b"5h\r\nhello\r\n",
    ),
    *(
        b"5.\r\nhello\r\n",
        b"\r\n\r\n",
        b";a\r\n\r\n",
        b"g\r\n",
        b"\xb2\r\n",
        b"\xef\xbc\x95\r\nhello\r\n",
        b"5,5\r\nhello\r\n",
        b'"5"\r\n',
    ),
    *(
        b"5\x00\r\nhello\r\n",
        b"5\x0b\r\nhello\r\n",
        b"5\x0c\r\nhello\r\n",
        b"\x005\r\nhello\r\n",
        b"0 \r\n\r\n",
        b"0\t\r\n\r\n",
        b"1 1\r\n",
    ),
    *(
        b"1000000000000000\r\n",
        b"ffffffffffffffff\r\n",
        b"10000000000000005\r\nhello\r\n",
        b"0000000000000005\r\nhello\r\n",
        b"0" * 16,
    ),
    # data that is longer, or shorter, than its size
    *(
        b"5\r\nhello!\r\n0\r\n\r\n",
        b"4\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello",
        b"6\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhelloXX0\r\n\r\n",
    ),
    *(b"3\r\nabcX\n0\r\n\r\n", b"0\r\nXX", b"0\r\n0\r\n\r\n", b"0\r\nX\r\n\r\n"),
    # trailers that are no fields
    *(
        b"0\r\nX\r\n\r\n",
        b"0\r\n: y\r\n\r\n",
        b"0\r\n X: y\r\n\r\n",
        b"0\r\nX : y\r\n\r\n",
        b"0\r\nX: y\r\n z\r\n\r\n",
        b"0\r\nX: \x00\r\n\r\n",
    ),
    *(
        b"0\r\nX\x00: y\r\n\r\n",
        b"0\r\nGET / HTTP/1.1\r\n\r\n",
        b"0\r\nX(: y\r\n\r\n",
        b"0\r\n\tX: y\r\n\r\n",
        b"0\r\nX: \x7f\r\n\r\n",
    ),
    # trailers that carry framing, routing or credentials
    *[
        b"0\r\nX: y\r\n" + name + b": 5\r\n\r\n"
        for name in (
            *(
                b"Content-Length",
                b"TRANSFER-ENCODING",
                b"Host",
                b"Connection",
                b"Authorization",
                b"cookie",
                b"Expect",
                b"TE",
            ),
            *(b"Upgrade", b"Trailer", b"Keep-Alive", b"Proxy-Authorization", b"Proxy-Connection", b"Forwarded"),
            *(b"X-Forwarded-For", b"x-forwarded-host"),
        )
    ],
]


def never_done(body: ChunkedBody, data: bytes, step: int) -> None:
    with pytest.raises(FramingError):  # noqa: PT012
        for start in range(0, len(data), step):
            body.feed(data[start : start + step])
            assert not body.done
        body.feed(b"X" * 20000)


@pytest.mark.parametrize("data", BROKEN, ids=range(len(BROKEN)))
def test_broken_chunks_never_end(data: bytes) -> None:
    never_done(ChunkedBody(), data, len(data))
    never_done(ChunkedBody(), data, 1)


@pytest.mark.parametrize("first", sorted(set(range(256)) - set(b"0123456789abcdefABCDEF")))
def test_the_first_byte_that_is_no_size_is_refused_at_once(first: int) -> None:
    with pytest.raises(FramingError):
        ChunkedBody().feed(bytes([first]))


@pytest.mark.parametrize(
    "data", [b"5 ", b"0x", b"5\n", b"5\rX", b"5;a\n", b"5;\x00", b"1" * 16, b"5\r\nhelloX", b"5\r\nhello\rX"]
)
def test_what_cannot_become_a_chunk_is_refused_before_its_line_ends(data: bytes) -> None:
    with pytest.raises(FramingError):
        ChunkedBody().feed(data)


def sized(extension: int) -> bytes:
    return b"1;" + b"a" * (extension - 1) + b"\r\nx\r\n"


def test_a_size_line_has_a_limit() -> None:
    longest = SIZE_LINE_LIMIT - len(b"1\r\n")
    for step in (1, 10**6):
        body = ChunkedBody()
        assert read(body, sized(longest) + LAST_CHUNK, list(range(0, 2000, step))) == (b"x", True, b"")
        never_done(ChunkedBody(), sized(longest + 1), step)
        never_done(ChunkedBody(), b"1;" + b"a" * SIZE_LINE_LIMIT, step)


def test_all_extensions_of_a_body_have_a_limit_together() -> None:
    body = ChunkedBody()
    fits = EXTENSIONS_LIMIT // 100
    assert body.feed(sized(100) * fits) == b"x" * fits
    with pytest.raises(FramingError):
        body.feed(sized(100))


def test_trailers_have_a_limit_together() -> None:
    line = b"X: " + b"y" * 95 + b"\r\n"
    fits = TRAILER_LIMIT // len(line)
    for cuts in ([], list(range(9000))):
        assert read(ChunkedBody(), b"0\r\n" + line * fits + b"\r\n", cuts) == (b"", True, b"")
        assert read(ChunkedBody(), b"0\r\n" + line * (fits + 1) + b"\r\n", cuts) == "error"
        assert read(ChunkedBody(), b"0\r\nX: " + b"y" * TRAILER_LIMIT, cuts) == "error"


PIECES = st.sampled_from(
    [
        *(
            b"5\r\nhello\r\n",
            b"1;a=b\r\nx\r\n",
            b"2\r\n\r\n\r\n",
            b"0\r\n",
            b"\r\n",
            b"X: y\r\n",
            b"Host: a\r\n",
            b"5\r\n",
            b"hello",
        ),
        *(
            b"\r",
            b"\n",
            b"\x00",
            b"0",
            b"5",
            b"A",
            b";",
            b"=",
            b'"',
            b"\\",
            b" ",
            b"x",
            b":",
            b"0x5\r\n",
            b"-1\r\n",
            b"GET / ",
        ),
        *(
            b"0\r\n\r\n",
            b"0\r\nA: b\r\n\r\n",
            b"3\r\nabc",
            b"10\r\n",
            b"y" * 16,
            b"1" * 15 + b"\r\n",
            b"1" * 16,
            b"5;\n\r\n",
        ),
    ]
)
STREAMS = st.lists(PIECES, max_size=12).map(b"".join) | st.binary(max_size=40)
CUTS = st.lists(st.integers(0, 300), max_size=12)


@settings(deadline=None)
@given(STREAMS, CUTS)
def test_cuts_do_not_change_what_chunks_say(data: bytes, cuts: list[int]) -> None:
    whole = read(ChunkedBody(), data, [])
    bytewise = read(ChunkedBody(), data, list(range(len(data))))
    assert read(ChunkedBody(), data, cuts) == whole == bytewise


@settings(deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=50), max_size=8), st.binary(max_size=20), CUTS)
def test_what_we_write_we_read(payloads: list[bytes], rest: bytes, cuts: list[int]) -> None:
    data = b"".join(map(chunk, payloads)) + LAST_CHUNK
    assert read(ChunkedBody(), data + rest, cuts) == (b"".join(payloads), True, rest)


@settings(deadline=None)
@given(st.integers(0, 60), st.binary(max_size=80), CUTS)
def test_a_length_says_where_a_body_ends(length: int, data: bytes, cuts: list[int]) -> None:
    body = LengthBody(length)
    done = len(data) >= length
    assert read(body, data, cuts) == (data[:length], done, data[length:] if done else b"")
    assert body.finish() is done


def test_a_length_of_none_is_done_at_once() -> None:
    body = LengthBody(0)
    assert body.done
    assert body.finish()


@settings(deadline=None)
@given(st.binary(max_size=80), CUTS)
def test_a_body_until_close_is_everything(data: bytes, cuts: list[int]) -> None:
    body = UntilCloseBody()
    assert read(body, data, cuts) == (data, False, b"")
    assert body.finish()
    assert body.done
