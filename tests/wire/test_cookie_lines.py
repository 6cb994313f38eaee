"""Cookies that are taken out of a request, and out of an answer; all else stays byte for byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.refusal import Refusal
from proxy.wire.request_head import HeadLimits, read_request_head
from proxy.wire.request_writer import Sender, end_to_end
from proxy.wire.response_head import ResponseHead, read_response_head
from proxy.wire.response_writer import final_head, without_cookie

HOME = frozenset({b"__Host-home"})


def sent(*lines: bytes) -> list[bytes]:
    """The Cookie lines that a provider is sent."""
    head = read_request_head(b"\r\n".join((b"GET / HTTP/1.1", b"Host: a", *lines, b"", b"")), HeadLimits(100, 8192))
    assert not isinstance(head, Refusal)
    written = end_to_end(head, Sender(None, False, False), frozenset(), HOME)
    return [line for line in written.split(b"\r\n") if line.lower().startswith(b"cookie")]


@pytest.mark.parametrize(
    ("line", "left"),
    [
        (b"Cookie: a=b", [b"Cookie: a=b"]),
        (b"cookie:a=b;c=d;  e", [b"cookie:a=b;c=d;  e"]),
        (b"Cookie: __Host-home=x", []),
        (b"Cookie: __Host-home", []),
        (b"Cookie: __Host-home = x ", []),
        (b"Cookie: __Host-home=x; a=b", [b"Cookie: a=b"]),
        (b"Cookie: a=b; __Host-home=x", [b"Cookie: a=b"]),
        (b"Cookie: a=b; __Host-home=x; c=d", [b"Cookie: a=b; c=d"]),
        (b'Cookie: a=b;__Host-home=x;c="d e"', [b'Cookie: a=b;c="d e"']),
        (b"Cookie: __Host-home=x; __Host-home=y; a=__Host-home", [b"Cookie: a=__Host-home"]),
        (b"Cookie: __host-home=x; __Host-home2=x", [b"Cookie: __host-home=x; __Host-home2=x"]),
    ],
)
def test_a_cookie_is_taken_out(line: bytes, left: list[bytes]) -> None:
    assert sent(line) == left
    assert sent(b"X: y", line, b"Cookie: z=1") == [*left, b"Cookie: z=1"]


PAIRS = st.lists(
    st.binary(max_size=6).map(lambda it: b"".join(b"%c" % (0x21 + byte % 0x5E) for byte in it)), max_size=5
)


@given(PAIRS)
def test_others_are_untouched(pairs: list[bytes]) -> None:
    value = b"; ".join(pairs)
    if b"__Host-home" not in value:
        line = b"Cookie: " + value.strip()
        assert sent(line) == [line]


def answer(*lines: bytes) -> ResponseHead:
    head = read_response_head(b"\r\n".join((b"HTTP/1.1 200 OK", *lines, b"Content-Length: 2", b"", b"")), False)
    assert isinstance(head, ResponseHead)
    return head


def test_a_provider_sets_all_cookies_but_one() -> None:
    kept = (
        b"Set-Cookie: a=b; Path=/",
        b"X-Set-Cookie: __Host-home=x",
        b"set-cookie: x=__Host-home",
        b"Set-Cookie: __Host-home2=x",
    )
    gone = (
        b"Set-Cookie: __Host-home=x",
        b"SET-COOKIE:__Host-home = x; Path=/",
        b"set-cookie: __Host-home; a",
        b"Set-Cookie:\t__Host-home=",
    )
    head = answer(*(line for pair in zip(kept, gone, strict=True) for line in pair))
    assert without_cookie(head, b"__Host-home").block == answer(*kept).block
    assert without_cookie(answer(*kept), b"__Host-home") == answer(*kept)


def test_a_line_of_our_own_goes_out_once() -> None:
    head = answer(b"X: y")
    plain, chunked, keep = final_head(head, 1, True)
    ours, *rest = final_head(head, 1, True, b"Set-Cookie: a=b\r\nCache-Control: x")
    assert rest == [chunked, keep]
    assert ours == plain.removesuffix(b"\r\n") + b"Set-Cookie: a=b\r\nCache-Control: x\r\n\r\n"
    closing = final_head(head, 1, False, b"Set-Cookie: a=b")[0]
    assert closing.endswith(b"Set-Cookie: a=b\r\nConnection: close\r\n\r\n")
