"""The head that goes to a client: the provider's lines, one framing, and a word on the connection where one is due."""

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.wire.response_head import Ends
from proxy.wire.response_writer import final_head, switched_head
from tests.wire.heads import answered, head

LENGTH = b"Content-Length: 5"
CHUNKED = b"Transfer-Encoding: chunked"
CLOSE = b"Connection: close"
KEEP = b"Connection: keep-alive"

# (status, framing by the provider, a HEAD was asked, minor version, keep), (framing to the client, chunked, keep)
HEADS = [
    ((200, [LENGTH], False, 1, True), ([LENGTH], False, True)),
    ((200, [LENGTH], False, 1, False), ([LENGTH, CLOSE], False, False)),
    ((200, [LENGTH], False, 0, True), ([LENGTH, KEEP], False, True)),
    ((200, [LENGTH], False, 0, False), ([LENGTH, CLOSE], False, False)),
    ((200, [CHUNKED], False, 1, True), ([CHUNKED], True, True)),
    ((200, [CHUNKED], False, 1, False), ([CHUNKED, CLOSE], True, False)),
    ((200, [CHUNKED], False, 0, True), ([CLOSE], False, False)),
    # until close: a cut must show
    ((200, [], False, 1, True), ([CHUNKED], True, True)),
    ((200, [], False, 0, True), ([CLOSE], False, False)),
    # no content
    ((200, [LENGTH], True, 1, True), ([LENGTH], False, True)),
    ((200, [CHUNKED], True, 1, True), ([], False, True)),
    ((200, [], True, 0, True), ([KEEP], False, True)),
    ((304, [LENGTH], False, 1, True), ([LENGTH], False, True)),
    ((304, [], False, 1, True), ([], False, True)),
    ((204, [b"Content-Length: 0"], False, 1, True), ([], False, True)),
    ((204, [LENGTH], False, 1, True), ([], False, True)),
    ((204, [CHUNKED], False, 1, False), ([CLOSE], False, False)),
]


@pytest.mark.parametrize(("given_", "expected"), HEADS, ids=range(len(HEADS)))
def test_framing_is_our_own(
    given_: tuple[int, list[bytes], bool, int, bool], expected: tuple[list[bytes], bool, bool]
) -> None:
    status, framing, to_head, version, keep = given_
    reading = answered(head(b"HTTP/1.1 %d x" % status, b"A: b", *framing, CLOSE), to_head)
    start, chunked, stays = final_head(reading, version, keep)
    assert start == head(b"HTTP/1.1 %d x" % status, b"A: b", *expected[0])
    assert (chunked, stays) == expected[1:]


def test_a_switch() -> None:
    reading = answered(
        head(b"HTTP/1.1 101 x", b"Connection: upgrade", b"Upgrade: WebSocket", b"Sec-WebSocket-Accept: y")
    )
    assert switched_head(reading) == head(
        b"HTTP/1.1 101 x", b"Sec-WebSocket-Accept: y", b"Connection: upgrade", b"Upgrade: WebSocket"
    )


@settings(deadline=None)
@given(
    st.sampled_from([200, 201, 204, 206, 304, 404, 500]),
    st.lists(
        st.sampled_from([b"A: b", b"Set-Cookie: c", b"X: \xff", b"Connection: x, close", b"X: y", b"Alt-Svc: z"]),
        max_size=4,
    ),
    st.sampled_from([[], [LENGTH], [CHUNKED], [b"Content-Length: 0"]]),
    st.booleans(),
    st.booleans(),
)
def test_a_client_sees_where_it_ends(
    status: int, fields: list[bytes], framing: list[bytes], to_head: bool, keep: bool
) -> None:
    reading = answered(head(b"HTTP/1.1 %d x" % status, *fields, *framing), to_head)
    start, chunked, stays = final_head(reading, 1, keep)
    content = b"" if reading.ends is Ends.NO_BODY else b"hello"[: reading.length]
    sent = start + (b"5\r\nhello\r\n0\r\n\r\n" if chunked else content)
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="HEAD" if to_head else "GET", target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(sent)
    seen, ended = b"", False
    while not ended:
        event = client.next_event()
        assert event not in (h11.NEED_DATA, h11.PAUSED)
        if isinstance(event, h11.Data):
            seen += event.data
        ended = isinstance(event, h11.EndOfMessage)
    assert seen == content
    assert client.trailing_data == (b"", False)
    assert (client.their_state is h11.MUST_CLOSE) is not stays
