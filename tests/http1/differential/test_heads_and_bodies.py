"""What we accept, h11 and llhttp accept too, and see the same in it: method, target, fields, content and end.

Where readers differ we are the stricter. Known differences in what we accept, each with a predicate below:

| message | reader | sees | why it does no harm |
| --- | --- | --- | --- |
| content, and an upgrade asked for | httptools | no content | the request goes on without the upgrade |
"""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.wire.request_head import RequestHead
from tests.http1.differential.readers import (
    Disagreement,
    Message,
    h11_request,
    h11_response,
    llhttp_request,
    our_request,
    our_response,
)

CANARY = b"GET /canary HTTP/1.1\r\nHost: canary.example\r\n\r\n"

BASES = [
    b"GET /a?b=c HTTP/1.1\r\nHost: a.example\r\nX-A: b\r\nConnection: close, x\r\n\r\n",
    b"POST /p HTTP/1.1\r\nHost: a.example:80\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\nhello world",
    b"POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
    b"OPTIONS * HTTP/1.0\r\nHost: [::1]\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n",
]

BYTES = [bytes([byte]) for byte in b'\x00\t\n\r\x0b !"#%,-/05:;@A_ax\x7f\x80\xff']


def compare(data: bytes) -> bool:
    """Whether we accept a request. If so, the others must see what we see."""
    reading = our_request(data)
    if reading is None:
        return False
    head, ours = reading
    raw = ours.start[1] if isinstance(ours.start, tuple) else b""
    if not raw.startswith((b"/", b"*")):
        origin = raw.partition(b"://")[2].lstrip(
            b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._-:[]"
        )
        assert head.target in (origin, b"/" + origin, b"*")
    else:
        assert head.target == raw
    others = [h11_request(data)]
    if upgrade_with_content(head):
        assert head.upgrade is None
    else:
        others.append(llhttp_request(data, ours.consumed))
    for theirs in others:
        if theirs != ours:
            raise Disagreement(f"{data!r}: {theirs} against {ours}")
    return True


def upgrade_with_content(head: RequestHead) -> bool:
    return head.has_body and b"upgrade" in head.connection and any(name == b"upgrade" for name, _, _ in head.lines)


def test_httptools_still_differs_where_it_is_said_to() -> None:
    data = b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello"
    reading = our_request(data)
    assert reading is not None
    assert upgrade_with_content(reading[0])
    with pytest.raises(Disagreement, match="before we do"):
        llhttp_request(data, reading[1].consumed)


@pytest.mark.parametrize("data", BASES, ids=range(len(BASES)))
def test_the_bases_are_accepted(data: bytes) -> None:
    assert compare(data)
    assert compare(data + CANARY)


@pytest.mark.parametrize("data", BASES, ids=range(len(BASES)))
def test_every_byte_replaced_inserted_and_removed(data: bytes) -> None:
    accepted = 0
    data += CANARY
    for at in range(len(data) - len(CANARY)):
        accepted += compare(data[:at] + data[at + 1 :])
        for byte in BYTES:
            accepted += compare(data[:at] + byte + data[at:])
            accepted += compare(data[:at] + byte + data[at + 1 :])
    assert accepted > 100


def test_every_line_repeated_moved_and_removed() -> None:
    accepted = 0
    for data in BASES:
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        for count in range(len(lines) + 2):
            for chosen in itertools.product(lines, repeat=min(count, 4)):
                accepted += compare(b"\r\n".join((first, *chosen, b"", body)) + CANARY)
    assert accepted > 50


LINES = st.sampled_from(
    [
        *(b"Host: a", b"Content-Length: 5", b"Content-Length: 0", b"content-length:5", b"Transfer-Encoding: chunked"),
        *(
            b"transfer-encoding:chunked",
            b"Transfer-Encoding: gzip, chunked",
            b"Transfer-Encoding: identity",
            b"Content-Length: 005",
        ),
        *(
            b"Connection: close",
            b"Connection: upgrade",
            b"Connection: keep-alive, Upgrade",
            b"Upgrade: websocket",
            b"Upgrade: h2c",
        ),
        *(
            b"Expect: 100-continue",
            b"TE: trailers",
            b"X: y",
            b"X:",
            b"X:\ty\t",
            b"X: \xff",
            b"X_Y: z",
            b"Trailer: X",
            b"!: ~",
        ),
        *(b"X: Content-Length: 5", b"Content-Length: 5,5", b"Content-Length : 5", b" X: y", b"Proxy-Connection: close"),
    ]
)
FIRST_LINES = st.builds(
    lambda method, target, version: b"%b %b HTTP/%b" % (method, target, version),
    st.sampled_from(
        [b"GET", b"POST", b"HEAD", b"PUT", b"OPTIONS", b"DELETE", b"M-SEARCH", b"PURGE", b"get", b"CONNECT"]
    ),
    st.sampled_from(
        [b"/", b"*", b"/a?b#c", b"http://a/", b"http://a", b"//", b"/%00", b"/{|}", b"HTTPS://A/?x", b"/a b", b"/\xff"]
    ),
    st.sampled_from([b"1.1", b"1.1", b"1.0", b"2.0"]),
)
BODIES = st.sampled_from(
    [
        b"",
        b"hello",
        b"0\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"5;a\r\nhello\r\n0\r\nX: y\r\n\r\n",
        b"1\r\nhello\r\n0\r\n\r\n",
    ]
)
MESSAGES = st.builds(
    lambda first, lines, body: b"\r\n".join((first, b"Host: a", *lines, b"", body)),
    FIRST_LINES,
    st.lists(LINES, max_size=5),
    BODIES,
)
EDITS = st.lists(
    st.tuples(st.integers(0, 300), st.integers(0, 2), st.sampled_from(BYTES) | st.binary(min_size=1, max_size=3)),
    max_size=3,
)


def edited(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for place, removed, inserted in edits:
        at = place % (len(data) + 1)
        data = data[:at] + inserted + data[at + removed :]
    return data


@settings(max_examples=400, deadline=None)
@given(MESSAGES, EDITS)
def test_messages_at_random(data: bytes, edits: list[tuple[int, int, bytes]]) -> None:
    compare(edited(data, edits) + CANARY)


@settings(max_examples=300, deadline=None)
@given(MESSAGES)
def test_well_formed_messages_at_random(data: bytes) -> None:
    compare(data + CANARY)


CHUNKS = st.lists(
    st.sampled_from(
        [
            *(
                b"5\r\nhello\r\n",
                b"1;a=b\r\nx\r\n",
                b'1;a="\\"\xff"\r\n\n\r\n',
                b"0\r\n",
                b"\r\n",
                b"X: y\r\n",
                b"Host: a\r\n",
                b"5\r\n",
            ),
            *(
                b"hello",
                b"\r",
                b"\n",
                b"\x00",
                b"0",
                b"A",
                b";",
                b"=",
                b'"',
                b" ",
                b"x",
                b":",
                b"0x5\r\n",
                b"0\r\n\r\n",
            ),
            *(
                b"2\r\n\r\n\r\n",
                b"00a\r\n0123456789\r\n",
                b"0;x\r\n",
                b"X:\t\xff\r\n",
                b"GET / HTTP/1.1\r\n",
                b"1" * 15 + b"\r\n",
            ),
        ]
    ),
    max_size=10,
).map(b"".join)


@settings(max_examples=400, deadline=None)
@given(CHUNKS, EDITS)
def test_chunks_at_random(chunks: bytes, edits: list[tuple[int, int, bytes]]) -> None:
    compare(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + edited(chunks, edits) + CANARY)


def test_every_byte_of_chunks_replaced_inserted_and_removed() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b'5;a="b";c\r\nhello\r\nA\r\n0123456789\r\n000\r\nX: y\r\nY:\r\n\r\n'
    accepted = 0
    for at in range(len(chunks)):
        accepted += compare(head + chunks[:at] + chunks[at + 1 :] + CANARY)
        for byte in map(bytes, zip(range(256), strict=True)):
            accepted += compare(head + chunks[:at] + byte + chunks[at:] + CANARY)
            accepted += compare(head + chunks[:at] + byte + chunks[at + 1 :] + CANARY)
    assert accepted > 1000


RESPONSE_LINES = st.sampled_from(
    [
        *(
            b"Content-Length: 5",
            b"Content-Length: 0",
            b"Transfer-Encoding: chunked",
            b"Transfer-Encoding: gzip",
            b"Connection: close",
        ),
        *(
            b"Connection: keep-alive",
            b"X: y",
            b"Set-Cookie: a=b",
            b"X: \xff",
            b"X:",
            b"Trailer: X",
            b"Content-Length: 5,5",
        ),
    ]
)
RESPONSES = st.builds(
    lambda version, status, phrase, lines, body: b"\r\n".join(
        (b"HTTP/1.%b %d%b" % (version, status, phrase), *lines, b"", body)
    ),
    st.sampled_from([b"1", b"1", b"0"]),
    st.sampled_from([200, 204, 206, 304, 404, 500, 100, 103, 599]),
    st.sampled_from([b" OK", b"", b" ", b" \xe4\t "]),
    st.lists(RESPONSE_LINES, max_size=4),
    BODIES,
)


@settings(max_examples=400, deadline=None)
@given(RESPONSES, EDITS, st.booleans())
def test_responses_at_random(data: bytes, edits: list[tuple[int, int, bytes]], to_head: bool) -> None:
    compare_response(edited(data, edits), to_head)
    compare_response(data, to_head)


def compare_response(data: bytes, to_head: bool) -> None:
    reading = our_response(data, to_head)
    if reading is None or reading[0].status == 101:
        return
    head, ours = reading
    theirs = h11_response(data, to_head)
    # h11 reports fields of this hop too; what we pass on must be among its fields, in its order.
    remaining = iter(theirs.fields)
    assert all(field in remaining for field in head_fields(ours)), (ours, theirs)
    assert (theirs.start, theirs.body, theirs.consumed) == (ours.start, ours.body, ours.consumed), (head, theirs)


def head_fields(message: Message) -> list[tuple[bytes, bytes]]:
    return message.fields
