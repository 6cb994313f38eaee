"""What a provider may say in a head, and what then goes to the client."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.wire.refusal import Refusal
from proxy.wire.response_head import Ends, ResponseHead, read_response_head
from tests.wire.heads import answered, head

OK = b"HTTP/1.1 200 OK"
GARBAGE = "provider-head-malformed"
FRAMING = "provider-framing-ambiguous"

CHUNKED = b"Transfer-Encoding: chunked"

REFUSED = [
    # Content-Length with Transfer-Encoding; two lengths; what is no length
    (head(OK, b"Content-Length: 5", CHUNKED), FRAMING),
    (head(OK, CHUNKED, b"Content-Length: 5"), FRAMING),
    (head(OK, CHUNKED, b"X: y", b"content-length: 0"), FRAMING),
    (head(OK, b"Content-Length: 5", b"Content-Length: 5"), FRAMING),
    (head(OK, b"Content-Length: 5", b"Content-Length: 6"), FRAMING),
    (head(b"HTTP/1.1 304 Not Modified", CHUNKED, b"Content-Length: 5"), FRAMING),
    *[
        (head(OK, b"Content-Length: " + value), FRAMING)
        for value in (
            b"",
            b"5, 5",
            b"5,6",
            b"+5",
            b"-1",
            b"0x5",
            b"1_0",
            b"5 5",
            b"5;",
            b"1" * 19,
            b"\xb2",
            b"5.0",
            b'"5"',
            b"a",
        )
    ],
    # codings other than one `chunked`
    *[
        (head(OK, b"Transfer-Encoding: " + value), FRAMING)
        for value in (
            *(
                b"",
                b"gzip",
                b"identity",
                b"gzip, chunked",
                b"chunked, gzip",
                b"chunked, chunked",
                b"chunked,",
                b'"chunked"',
            ),
            *(b"chunked;q=1", b"xchunked", b"chunked x", b"\xa0chunked", b",chunked"),
        )
    ],
    (head(OK, CHUNKED, CHUNKED), FRAMING),
    (head(b"HTTP/1.0 200 OK", CHUNKED), FRAMING),
    # an interim response with content
    (head(b"HTTP/1.1 100 Continue", b"Content-Length: 5"), FRAMING),
    (head(b"HTTP/1.1 103 Early Hints", CHUNKED), FRAMING),
    (head(b"HTTP/1.1 101 Switching", b"Connection: upgrade", b"Upgrade: x", b"Content-Length: 1"), FRAMING),
    # a 101 that does not say what it switches to
    (head(b"HTTP/1.1 101 Switching Protocols"), GARBAGE),
    (head(b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket"), GARBAGE),
    (head(b"HTTP/1.1 101 Switching Protocols", b"Connection: upgrade"), GARBAGE),
    (head(b"HTTP/1.1 101 Switching Protocols", b"Connection: upgraded", b"Upgrade: websocket"), GARBAGE),
    # NUL, CR, LF, obs-fold, white space before the colon, illegal names
    *[
        (head(OK, line), GARBAGE)
        for line in (
            *(
                b"X: \x00",
                b"X: a\rb",
                b"X: a\nb",
                b"X: a\r\n b",
                b"X : a",
                b" X: a",
                b"X",
                b": x",
                b"X\x00: a",
                b"X(: a",
                b"X:\x7f",
            ),
            *(
                b"Content-Length : 5",
                b" Content-Length: 5",
                b"Transfer-Encoding\t: chunked",
                b"X: \rTransfer-Encoding: chunked",
            ),
            *(b"X:\r\n Transfer-Encoding: chunked", b"X: \x1b[31m", b"X: \x08", b"\xffX: a", b"X\xa0: a", b"X Y: z"),
            *(b"Connection: a b", b"Connection: close;", b'Connection: "close"'),
        )
    ],
    *[
        (data, GARBAGE)
        for data in (
            *(
                b"",
                b"\r\n",
                b"\r\n\r\n",
                b"HTTP/1.1 200 OK\n\n",
                b"HTTP/1.1 200 OK\r\n\n",
                b"HTTP/1.1 200 OK\nX: y\r\n\r\n",
            ),
            *(
                b"HTTP/1.1 200 OK\r\n",
                b"HTTP/1.1 200 OK",
                b"\r\n" + head(OK),
                b" " + head(OK),
                head(OK) + b"x",
                head(OK) * 2,
            ),
            *(b"HTTP/1.1 200 OK\rX: y\r\n\r\n", b"HTTP/1.1 200 O\x00K\r\n\r\n", b"HTTP/1.1 200 OK\r\r\n\r\n"),
            *(head(b"GET / HTTP/1.1"), b"0\r\n\r\n", b"<html>\r\n\r\n", b"SSH-2.0-x\r\n\r\n", b"\x15\x03\x01\r\n\r\n"),
        )
    ],
    *[
        (head(line, b"Content-Length: 0"), GARBAGE)
        for line in (
            *(
                b"HTTP/1.1",
                b"HTTP/1.1 ",
                b"HTTP/1.1 20",
                b"HTTP/1.1 2000 OK",
                b"HTTP/1.1 099 x",
                b"HTTP/1.1 600 x",
                b"HTTP/1.1 000 x",
            ),
            *(
                b"HTTP/1.1 -20 x",
                b"HTTP/1.1 +20 x",
                b"HTTP/1.1 2 0 x",
                b"HTTP/1.1 0x2 x",
                b"HTTP/1.1 200OK",
                b"HTTP/1.1  200 OK",
            ),
            *(
                b"HTTP/1.1\t200 OK",
                b"HTTP/1.1 200\tOK",
                b"HTTP/0.9 200 OK",
                b"HTTP/1.2 200 OK",
                b"HTTP/2 200 OK",
                b"HTTP/2.0 200 OK",
            ),
            *(
                b"http/1.1 200 OK",
                b"HTTP/1.1.1 200 OK",
                b"HTTP/01.1 200 OK",
                b"ICY 200 OK",
                b"HTTP/1.1 200 \x7f",
                b"HTTP/1.1 200 \x1b",
            ),
            *(
                b"HTTP/1.1 \xb2\xb2\xb2 x",
                b"HTTP/1.1 999 x",
                b"HTTP/1,1 200 OK",
                b"HTTP /1.1 200 OK",
                b"RTSP/1.0 200 OK",
            ),
        )
    ],
]


@pytest.mark.parametrize(("data", "cause"), REFUSED, ids=range(len(REFUSED)))
@pytest.mark.parametrize("to_head_request", [False, True])
def test_refused(data: bytes, cause: str, to_head_request: bool) -> None:
    reading = read_response_head(data, to_head_request)
    assert isinstance(reading, Refusal), data
    assert (reading.status, reading.cause) == (502, cause)


LENGTH, CHUNKS, CLOSE, NO_BODY = Ends.LENGTH, Ends.CHUNKS, Ends.CLOSE, Ends.NO_BODY

# (head, how it ends, length, whether the connection stays); then the same to a HEAD
ENDS = [
    (head(OK), (CLOSE, None, False), (NO_BODY, None, True)),
    (head(OK, b"Content-Length: 0"), (LENGTH, 0, True), (NO_BODY, 0, True)),
    (head(OK, b"content-length:\t5 "), (LENGTH, 5, True), (NO_BODY, 5, True)),
    (head(OK, b"Content-Length: 999999999999999999"), (LENGTH, 10**18 - 1, True), (NO_BODY, 10**18 - 1, True)),
    (head(OK, CHUNKED), (CHUNKS, None, True), (NO_BODY, None, True)),
    (head(OK, b"TRANSFER-ENCODING: Chunked"), (CHUNKS, None, True), (NO_BODY, None, True)),
    (head(OK, b"Content-Length: 5", b"Connection: close"), (LENGTH, 5, False), (NO_BODY, 5, False)),
    (head(OK, b"Content-Length: 5", b"Connection: x, Close"), (LENGTH, 5, False), (NO_BODY, 5, False)),
    (head(OK, b"Content-Length: 5", b"Connection: keep-alive"), (LENGTH, 5, True), (NO_BODY, 5, True)),
    (head(OK, b"Content-Length: 5", b"Proxy-Connection: close"), (LENGTH, 5, True), (NO_BODY, 5, True)),
    (head(OK, CHUNKED, b"Connection: close"), (CHUNKS, None, False), (NO_BODY, None, False)),
    (head(OK, b"Connection: keep-alive"), (CLOSE, None, False), (NO_BODY, None, True)),
    (head(b"HTTP/1.0 200 OK"), (CLOSE, None, False), (NO_BODY, None, False)),
    (head(b"HTTP/1.0 200 OK", b"Content-Length: 5"), (LENGTH, 5, False), (NO_BODY, 5, False)),
    (head(b"HTTP/1.0 200 OK", b"Content-Length: 5", b"Connection: Keep-Alive"), (LENGTH, 5, True), (NO_BODY, 5, True)),
    (head(b"HTTP/1.1 206 Partial Content", b"Content-Length: 5"), (LENGTH, 5, True), (NO_BODY, 5, True)),
    (head(b"HTTP/1.1 205 Reset Content"), (CLOSE, None, False), (NO_BODY, None, True)),
    (head(b"HTTP/1.1 500 x", CHUNKED), (CHUNKS, None, True), (NO_BODY, None, True)),
    (head(b"HTTP/1.1 599 x", b"Content-Length: 1"), (LENGTH, 1, True), (NO_BODY, 1, True)),
    # statuses without content; where it is claimed all the same, the connection is not reused
    (head(b"HTTP/1.1 304 Not Modified"), (NO_BODY, None, True), (NO_BODY, None, True)),
    (head(b"HTTP/1.1 304 Not Modified", b"Content-Length: 5"), (NO_BODY, 5, True), (NO_BODY, 5, True)),
    (head(b"HTTP/1.1 304 Not Modified", CHUNKED), (NO_BODY, None, True), (NO_BODY, None, True)),
    (head(b"HTTP/1.1 204 No Content"), (NO_BODY, None, True), (NO_BODY, None, True)),
    (head(b"HTTP/1.1 204 No Content", b"Content-Length: 0"), (NO_BODY, None, True), (NO_BODY, None, True)),
    (head(b"HTTP/1.1 204 No Content", b"Content-Length: 5"), (NO_BODY, None, False), (NO_BODY, None, False)),
    (head(b"HTTP/1.1 204 No Content", CHUNKED), (NO_BODY, None, False), (NO_BODY, None, False)),
    (head(b"HTTP/1.1 100 Continue"), (NO_BODY, None, True), (NO_BODY, None, True)),
    (head(b"HTTP/1.1 100 Continue", b"Content-Length: 0"), (NO_BODY, None, True), (NO_BODY, None, True)),
    (head(b"HTTP/1.1 103 Early Hints", b"Link: </a>"), (NO_BODY, None, True), (NO_BODY, None, True)),
    (head(b"HTTP/1.1 199 x"), (NO_BODY, None, True), (NO_BODY, None, True)),
]


@pytest.mark.parametrize(("data", "to_get", "to_head"), ENDS, ids=range(len(ENDS)))
def test_how_a_body_ends(
    data: bytes, to_get: tuple[Ends, int | None, bool], to_head: tuple[Ends, int | None, bool]
) -> None:
    for to_head_request, expected in ((False, to_get), (True, to_head)):
        reading = answered(data, to_head_request)
        assert (reading.ends, reading.length, reading.keep_alive) == expected


BLOCKS = [
    (head(OK), head(OK)),
    (head(b"HTTP/1.0 200 OK", b"A: b"), head(OK, b"A: b")),
    (head(b"HTTP/1.1 200"), head(b"HTTP/1.1 200 ")),
    (head(b"HTTP/1.1 200 "), head(b"HTTP/1.1 200 ")),
    (head(b"HTTP/1.1 200 \tall  good \xe4"), head(b"HTTP/1.1 200 \tall  good \xe4")),
    (head(OK, b"A: b", b"a:  c\t", b"B:"), head(OK, b"A: b", b"a:  c\t", b"B:")),
    # framing is written anew
    (head(OK, b"Content-Length: 5", b"A: b"), head(OK, b"A: b")),
    (head(OK, b"A: b", CHUNKED), head(OK, b"A: b")),
    (head(OK, CHUNKED), head(OK)),
    # fields of this hop, and the way past the proxy
    *[
        (head(OK, b"A: b", line, b"C: d"), head(OK, b"A: b", b"C: d"))
        for line in (
            *(
                b"Connection: close",
                b"KEEP-ALIVE: timeout=5, max=9",
                b"Proxy-Connection: x",
                b"Proxy-Authenticate: Basic",
                b"TE: x",
            ),
            *(
                b"Trailer: C",
                b"Upgrade: h2c",
                b"HTTP2-Settings: x",
                b"Proxy-Authorization: x",
                b'Alt-Svc: h3=":443"',
                b"alt-svc:x",
            ),
            *(b"Connection:", b"Connection: ,", b"Alt-Svc: clear", b"Upgrade:\t"),
        )
    ],
    (head(OK, b'Alt-Svc: h3=":443"', b"Connection: close", b"Content-Length: 5", b"Keep-Alive: 1"), head(OK)),
    # what Connection lists
    (head(OK, b"A: b", b"Connection: a, c", b"C: d", b"E: f", b"c:"), head(OK, b"E: f")),
    (head(OK, b"Connection: Close, X-Hop", b"X-HOP: 1", b"Close: 1"), head(OK, b"Close: 1")),
    (head(OK, b"Connection: content-length", b"Content-Length: 5"), head(OK)),
    (head(OK, b"Connection: a", b"Connection: b", b"A: 1", b"B: 2"), head(OK)),
    # names that only look like it
    *[
        (head(OK, line), head(OK, line))
        for line in (
            b"X-Connection: close",
            b"Connections: a",
            b"Content_Length: 5",
            b"X: Connection: close",
            b"Connectio: n",
            b"A: b:\t",
        )
    ],
]


@pytest.mark.parametrize(("data", "expected"), BLOCKS, ids=range(len(BLOCKS)))
def test_what_goes_to_the_client(data: bytes, expected: bytes) -> None:
    assert answered(data).block + b"\r\n" == expected


# A 101 that does not say what it switches to is refused above.
UPGRADES = [
    ((b"Connection: upgrade", b"Upgrade: websocket"), b"websocket"),
    ((b"Connection: Upgrade, x", b"Upgrade: a", b"Upgrade: b"), b"a, b"),
]


@pytest.mark.parametrize(("fields", "upgrade"), UPGRADES, ids=range(len(UPGRADES)))
def test_what_is_switched_to(fields: tuple[bytes, ...], upgrade: bytes | None) -> None:
    reading = answered(head(b"HTTP/1.1 101 Switching Protocols", *fields, b"Sec-WebSocket-Accept: x"))
    assert reading.upgrade == upgrade
    assert reading.block == b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\n"


LINES = st.sampled_from(
    [
        *(
            b"Content-Length: 5",
            b"content-length:0",
            b"Transfer-Encoding: chunked",
            b"Connection: close",
            b"Connection: x-a, y",
        ),
        *(
            b"X-A: 1",
            b"Y: 2",
            b"Set-Cookie: a=b",
            b"set-cookie: c=d",
            b"Alt-Svc: clear",
            b"Upgrade: h2c",
            b"Keep-Alive: timeout=5",
        ),
        *(b"X-B:", b"Z:\t\xff", b"Trailer: X", b"X-Connection: close"),
    ]
)


@settings(deadline=None)
@given(st.lists(LINES, max_size=8), st.sampled_from([200, 204, 304, 100, 500]), st.booleans())
def test_end_to_end_lines_stay_in_order_and_nothing_else_does(lines: list[bytes], status: int, to_head: bool) -> None:
    reading = read_response_head(head(b"HTTP/1.1 %d x" % status, *lines), to_head)
    if not isinstance(reading, ResponseHead):
        return
    dropped = {
        b"content-length",
        b"transfer-encoding",
        b"connection",
        b"alt-svc",
        b"upgrade",
        b"keep-alive",
        b"trailer",
    }
    if b"Connection: x-a, y" in lines:
        dropped |= {b"x-a", b"y"}
    kept = [line for line in lines if line.partition(b":")[0].lower() not in dropped]
    assert reading.block.split(b"\r\n") == [b"HTTP/1.1 %d x" % status, *kept, b""]
